"""Whatever ends, hangs or is killed, a process, a kernel or the command itself: what is finished stays, and no orphan goes on."""

import io
import json
import os
import signal
import time
from pathlib import Path

import psutil
import pytest
from rich.console import Console

from effnotes.runner.build import run_plans
from effnotes.runner.plan import plan_chapter
from effnotes.runner.progress import Reporter
from effnotes.runner.project import Project

ORPHAN_DEADLINE_S = 60.0


def wait_until(condition, timeout_s: float = 60.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.1)


def processes_in(directory: Path) -> list[str]:
    """Command lines of the processes that work in `directory`: the command itself, its slots and its kernels."""
    found = []
    for process in psutil.process_iter(["cwd", "cmdline", "status"]):
        if process.info["cwd"] == str(directory) and process.info["status"] != psutil.STATUS_ZOMBIE:
            found.append(" ".join(process.info["cmdline"] or []))
    return found


def kernels_in(directory: Path) -> list[str]:
    return [line for line in processes_in(directory) if "ipykernel_launcher" in line]


def only_record(book, chapter: str) -> dict:
    (path,) = book.records(chapter)
    return json.loads(path.read_text())


def test_a_profile_may_limit_the_time_of_a_cell(book):
    book.write_profiles("{}\n  cell_timeout_s: 2")
    _, record = book.execute("addition", pause_s=60.0)
    assert record["status"] == "failed"
    assert (record["error"]["name"], record["error"]["cell"]) == ("CellTimeoutError", 2)
    assert "`cell_timeout_s` of its profile" in record["error"]["message"]


def test_a_cell_in_which_nothing_happens_is_ended(book):
    result = book.effnotes("run", "addition", "-p", "pause_s=100", "--patience", "0.03")
    assert result.returncode == 1
    assert "addition failed in cell 2 of 3" in result.stdout
    assert "nothing has happened for 0.03 minutes" in result.stdout
    assert "To wait longer, give --patience MINUTES" in result.stdout
    wait_until(lambda: not kernels_in(book.root), ORPHAN_DEADLINE_S)


def test_a_cell_that_prints_may_take_longer_than_the_patience(book):
    step = "print('.', flush=True)\n    time.sleep(0.2)"
    book.edit("addition", "time.sleep(pause_s)", f"end = time.monotonic() + 7\nwhile time.monotonic() < end:\n    {step}")
    _, record = book.execute("addition", patience_s=5.0)
    assert record["status"] == "finished", record["error"]


def test_a_kernel_that_dies_fails_its_chapter(book):
    book.edit("multiplication", "product = 1\n", "import os\nos._exit(3)\n")
    _, record = book.execute("multiplication")
    assert record["status"] == "failed"
    assert (record["error"]["cell"], record["error"]["name"]) == (2, "DeadKernelError")


@pytest.mark.slow
@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_killed_slot_fails_its_chapter_alone(book, workers):
    book.edit("multiplication", "product = 1\n", "import os, signal\nos.kill(os.getppid(), signal.SIGKILL)\nproduct = 1\n")
    result = book.effnotes("build", "--workers", workers, "-p", "addition.pause_s=3")
    assert result.returncode == 1, result.stdout
    assert "multiplication gave no record: the process that ran it was killed" in result.stdout
    assert only_record(book, "addition")["status"] == "finished"
    assert book.records("multiplication") == []


@pytest.mark.slow
def test_kill_9_of_the_whole_group_loses_nothing_finished_and_leaves_no_orphan(book):
    build = book.start("build", "--workers", "2", "-p", "multiplication.divide_by=2", "-p", "addition.pause_s=120")
    wait_until(lambda: book.records("multiplication") and kernels_in(book.root))
    os.killpg(build.pid, signal.SIGKILL)
    build.wait()
    wait_until(lambda: not processes_in(book.root), ORPHAN_DEADLINE_S)
    assert only_record(book, "multiplication")["status"] == "finished"
    assert book.records("addition") == []
    again = book.effnotes("run", "multiplication", "-p", "divide_by=2")
    assert again.returncode == 0
    assert "multiplication: recorded already" in again.stdout
    resumed = book.effnotes("build", "-p", "multiplication.divide_by=2")
    assert resumed.returncode == 0, resumed.stdout
    assert (book.root / "_build" / "html" / "index.html").is_file()


@pytest.mark.slow
def test_kill_9_of_the_command_alone_leaves_no_orphan(book):
    build = book.start("run", "addition", "-p", "pause_s=120")
    wait_until(lambda: kernels_in(book.root))
    os.kill(build.pid, signal.SIGKILL)
    build.wait()
    wait_until(lambda: not processes_in(book.root), ORPHAN_DEADLINE_S)
    assert book.records("addition") == []


@pytest.mark.slow
def test_ctrl_c_loses_nothing_finished_and_leaves_no_orphan(book):
    build = book.start("build", "--workers", "2", "-p", "addition.pause_s=120")
    wait_until(lambda: book.records("multiplication") and kernels_in(book.root))
    os.killpg(build.pid, signal.SIGINT)
    output, _ = build.communicate(timeout=30)
    assert build.returncode == 130, output
    assert "interrupted" in output
    assert "Traceback" not in output
    wait_until(lambda: not processes_in(book.root), ORPHAN_DEADLINE_S)
    assert only_record(book, "multiplication")["status"] == "finished"


@pytest.mark.slow
def test_two_builds_at_once_share_one_run(book):
    builds = [book.start("build", "-p", "addition.pause_s=4") for _ in range(2)]
    outputs = [build.communicate(timeout=120)[0] for build in builds]
    assert [build.returncode for build in builds] == [0, 0], outputs
    assert sum("waiting for it" in output for output in outputs) == 1
    assert sum("addition: running" in output for output in outputs) == 1
    assert sum("addition: recorded already" in output for output in outputs) == 1
    assert len(book.records("addition")) == 1


@pytest.mark.slow
def test_a_rendering_that_was_killed_does_not_hide_a_warning(book):
    assert book.effnotes("build").returncode == 0
    index = book.root / "book" / "index.md"
    index.write_text(index.read_text() + "\n```{nothing}\n```\n")
    build = book.start("build")
    pickled = book.root / "_build" / "site" / "_build" / ".doctrees" / "environment.pickle"
    before = pickled.stat().st_mtime_ns
    wait_until(lambda: pickled.is_file() and pickled.stat().st_mtime_ns > before)
    os.kill(build.pid, signal.SIGKILL)
    build.wait()
    wait_until(lambda: not [line for line in processes_in(book.root) if "jupyter_book" in line], 10)
    again = book.effnotes("build")
    assert again.returncode == 1
    assert "nothing" in again.stdout


def test_a_slot_gets_its_share_of_threads(built_once):
    assert only_record(built_once, "addition")["environment"]["threads"] == 2
    assert "threads 2" in (built_once.records("addition")[0].parent / "notebook.ipynb").read_text()


def test_a_page_without_claims_takes_no_cores_from_a_chapter(book, monkeypatch):
    given = []
    monkeypatch.setattr("effnotes.runner.build.run_chapters", lambda take, **_: given.extend(iter(take, None)) or (_ for _ in ()))
    monkeypatch.setenv("OMP_NUM_THREADS", "4")
    book.register()
    project = Project.find(book.root)
    plans = [plan_chapter(project, name, "smoke", {}) for name in project.chapters]
    with Reporter(Console(file=io.StringIO())) as reporter:
        run_plans(project, plans, reporter)
    assert {request["chapter"]: request["threads"] for request in given} == {"addition": 4, "multiplication": 4}
