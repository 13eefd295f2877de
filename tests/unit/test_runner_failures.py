"""What counts as finished, what a failure says, and what is left when a run ends in an odd way."""

import errno
import fcntl
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import Mock

import pytest
import zmq
from nbformat.v4 import new_output
from rich.console import Console

from effnotes.core.files import errors_name, written_whole
from effnotes.reporting.claims import CLAIM_MIME
from effnotes.runner import kernel, outputs, scratch
from effnotes.runner.build import run_plans
from effnotes.runner.errors import UsageError, describe_os_error, with_disk_remedy
from effnotes.runner.keys import RECORD_FORMAT
from effnotes.runner.outcomes import outcomes
from effnotes.runner.progress import Reporter
from effnotes.runner.project import Project
from effnotes.runner.records import RecordStore
from effnotes.runner.schedule import describe_failure
from effnotes.runner.scratch import scratch_folder, sweep
from effnotes.runner.watch import Watch


def run_cell(book, code: str, tags: str = "", **options) -> tuple:
    """Run a chapter of three cells, of which the second, from line 8, is given."""
    book.add("odd", f"# %% [markdown]\n# # Odd\n\n# %%\nprint('first')\n\n# %% {tags}\n{code}\n\n# %%\nprint('last')\n")
    return book.execute("odd", **options)


def test_runs_in_threads_of_one_process_do_not_mix(book):
    """As of a Dask worker with two threads."""
    with ThreadPoolExecutor(2) as threads:
        made = list(threads.map(lambda first: book.execute("addition", first=first), (3, 5)))
    for first, (notebook, record) in zip((3, 5), made, strict=True):
        assert record["status"] == "finished"
        assert f"total {first + 2.0} None" in notebook.cells[-1].outputs[0]["text"]


@pytest.mark.parametrize(
    ("code", "name", "said", "line"),
    [
        ("import sys\nsys.exit()", "SystemExit", "(a cell may not end the notebook: ", 9),
        ("x = 1\nquit()", "SystemExit", "(a cell may not end the notebook: ", 9),
        ("def leave():\n    raise SystemExit('done')\n\nleave()", "SystemExit", "done (a cell may not end", 11),
        ("# %%capture\n1 / 0", "ZeroDivisionError", "division by zero", 8),
        ("class A:\n    def _repr_html_(self):\n        raise KeyError('row')\nA()", "KeyError", "'row'", 10),
        ("import os\nos._exit(0)", "DeadKernelError", "its kernel left with exit status 0, without an error", 8),
        ("x = 1\n# %%time nothing", "UsageError", "Line magic function `%%time` not found", 9),
        ("x = 1\n# %load_ext nosuch", "ModuleNotFoundError", "No module named 'nosuch'", 9),
        ("raise ExceptionGroup('two', [ValueError('a'), KeyError('b')])", "ExceptionGroup", "; ValueError: a; KeyError: 'b'", 8),
        ("x = 'f\\ud800'\nraise OSError(x)", "OSError", "f\\ud800", 9),
        ("raise ValueError('a\\x1b[2Kb' + 'x' * 20_000)", "ValueError", "a\\x1b[2Kbxxx", 8),
    ],
    ids=[
        "exit of sys", "exit of IPython", "exit in a function", "captured", "display", "exit of the process",
        "magic", "extension", "group", "surrogate", "control characters",
    ],
)  # fmt: skip
def test_a_cell_that_does_not_run_to_its_end_fails_the_run_and_says_why(book, code, name, said, line):
    notebook, record = run_cell(book, code)
    error = record["error"]
    assert (record["status"], error["name"], error["cell"], error["cells"]) == ("failed", name, 2, 3)
    assert said in error["message"]
    assert error["line"] == line
    assert len(error["message"]) < outputs.LONGEST_TEXT + 100
    assert notebook.cells[-1].outputs == []


def test_a_cell_that_may_raise_fails_the_run_like_any_other(book):
    notebook, record = run_cell(book, "1 / 0", 'tags=["raises-exception"]')
    assert (record["status"], record["error"]["cell"], record["error"]["name"]) == ("failed", 2, "ZeroDivisionError")
    assert notebook.cells[-1].outputs == []


def test_a_cell_that_would_be_skipped_is_refused_before_anything_runs(book):
    with pytest.raises(UsageError, match=r"book/odd\.py: cell 2 is tagged 'skip-execution' and would never run"):
        run_cell(book, "x = 1", 'tags=["skip-execution"]')
    result = book.in_process("run", "odd")
    assert (result.returncode, book.records("odd")) == (2, [])


def test_a_kernel_drops_nothing_though_its_reader_comes_after_it_and_is_slow(tmp_path):
    context, number = zmq.Context(), 5000
    with context, context.socket(zmq.XPUB) as shown, context.socket(zmq.SUB) as reader:
        shown.bind(f"ipc://{tmp_path}/iopub")
        thread = SimpleNamespace(socket=shown, schedule=lambda function: function())
        shell = SimpleNamespace(events=Mock(), kernel=SimpleNamespace(session=Mock(), iopub_thread=thread))
        kernel.load_ipython_extension(shell)
        reader.subscribe(b"")
        reader.connect(f"ipc://{tmp_path}/iopub")
        shown.recv()  # that somebody reads

        def show() -> None:
            for each in range(number):
                shown.send(str(each).encode())

        showing = threading.Thread(target=show)
        showing.start()
        showing.join(timeout=0.5)
        read: list[int] = []
        while len(read) < number and reader.poll(2000):
            read.append(int(reader.recv()))
        showing.join()
    assert read == list(range(number))


@pytest.mark.slow
def test_what_is_shown_faster_than_it_is_read_is_all_there(book, monkeypatch):
    def write_slowly(self, text):
        self._happened = time.monotonic()
        time.sleep(0.002)

    monkeypatch.setattr(Watch, "write", write_slowly)
    # More than the queues of both sides hold, for longer than papermill waits by default and than nothing may happen.
    notebook, record = run_cell(book, "for i in range(3000):\n    display(i)", patience_s=3.0)
    assert record["status"] == "finished", record["error"]
    assert [output.data["text/plain"] for output in notebook.cells[2].outputs] == [str(i) for i in range(3000)]


def test_very_large_outputs_are_cut_with_a_note_and_claims_never_are(monkeypatch):
    monkeypatch.setattr(outputs, "MOST_PRINTED", 10)
    monkeypatch.setattr(outputs, "MOST_SHOWN", 10)
    shown = [
        new_output("stream", text="123456"),
        new_output("stream", text="7890123", name="stderr"),
        new_output("stream", text="456"),
        new_output("display_data", data={"image/png": "12345678"}),
        new_output("display_data", data={"image/png": "123"}),
        new_output("display_data", data={CLAIM_MIME: {"id": "a much longer claim"}}),
    ]
    outputs.limit_outputs(shown)
    left = [output for output in shown if not outputs.is_empty(output)]
    assert [output.get("text", output.get("data")) for output in left] == [
        "123456",
        "7890",
        {"image/png": "12345678"},
        {CLAIM_MIME: {"id": "a much longer claim"}},
        "[effnotes has cut 9 characters of this cell's output]\n",
    ]
    few = [new_output("stream", text="1\n"), new_output("error", ename="E", evalue="e", traceback=[])]
    before = json.dumps(few)
    outputs.limit_outputs(few)
    assert json.dumps(few) == before
    assert not any(map(outputs.is_empty, few))


def test_texts_are_cut_with_a_note_and_made_printable():
    assert outputs.printable("\x1b[31mred\x1b[0m\r\nb\x07\ud800é\tc") == "red\nb\\x07\\ud800é\tc"
    assert outputs.shortened("abcdef", 4) == "abcd … (2 more characters were cut)"
    assert outputs.shortened("abcd", 4) == "abcd"


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    """A temporary directory of its own, with a name that is short enough."""
    with tempfile.TemporaryDirectory(prefix="t", dir="/tmp") as folder:
        monkeypatch.setattr(tempfile, "tempdir", folder)
        yield Path(folder)


KILLED = """
import os, sys, tempfile
tempfile.tempdir = sys.argv[1]
from effnotes.runner.scratch import scratch_folder
with scratch_folder("checkout") as folder:
    (folder / "notebook.ipynb").write_text("private")
    os.kill(os.getpid(), 9)
"""


def test_what_killed_runs_leave_is_swept_and_what_runs_use_is_not(temporary):
    killed = [sys.executable, "-c", KILLED, str(temporary)]
    with scratch_folder("checkout") as used:
        (used / "in use").touch()
        assert [subprocess.run(killed, check=False).returncode for _ in range(2)] == [-signal.SIGKILL] * 2
        with scratch_folder("another checkout") as other:
            assert other.parent != used.parent
        sweep("checkout")
        assert [path.name for path in used.parent.iterdir()] == [used.name]
        assert (used / "in use").exists()
        with scratch_folder("checkout") as beside:
            assert beside.parent == used.parent
    assert list(temporary.iterdir()) == []


def test_the_address_of_a_socket_fits_whatever_the_folder_for_temporary_files_and_the_user(temporary, monkeypatch):
    for length in range(len(f"{temporary}/x"), 80):
        folder = temporary / ("x" * (length - len(f"{temporary}/")))
        folder.mkdir()
        monkeypatch.setattr(tempfile, "tempdir", str(folder))
        with scratch_folder("checkout") as private:
            assert len(f"{private}/kernel-1") - len(str(os.getuid())) + len(str(2**32)) <= 103
            assert (private.parents[1] == folder) == (length <= 50)


def test_a_folder_that_another_run_removed_meanwhile_is_made_again(temporary, monkeypatch):
    removed = []

    def lock_late(descriptor, how):
        if not removed:  # the last run of the checkout ended before the lock was got
            removed.extend(temporary.iterdir())
            removed[0].rmdir()
        flock(descriptor, how)

    flock = fcntl.flock
    monkeypatch.setattr(scratch.fcntl, "flock", lock_late)
    with scratch_folder("checkout") as folder:
        assert removed == [folder.parent]
        assert folder.is_dir()


def test_no_folder_of_somebody_else_is_used(temporary, monkeypatch):
    with scratch_folder("checkout") as folder:
        name = folder.parent.name
    (temporary / "theirs").mkdir()
    (temporary / name).symlink_to(temporary / "theirs")
    with pytest.raises(OSError, match=name), scratch_folder("checkout"):
        pass
    (temporary / name).unlink()
    (temporary / name).mkdir()
    somebody = os.stat_result([0, 0, 0, 0, os.getuid() + 1, 0, 0, 0, 0, 0])
    with monkeypatch.context() as patched:
        patched.setattr(os, "fstat", lambda descriptor: somebody)
        with pytest.raises(PermissionError, match=f"{name} belongs to another user; remove it, or set"):
            sweep("checkout")


def test_temporary_files_of_a_kernel_are_swept_with_the_rest(book, temporary):
    _, record = run_cell(book, "import tempfile\ntempfile.mkdtemp(prefix='own')\nprint(tempfile.gettempdir())")
    assert record["status"] == "finished", record["error"]
    assert list(temporary.iterdir()) == []


def test_a_command_sweeps_though_all_is_recorded(book, temporary):
    project = Project.find(book.root)
    with scratch_folder(str(project.root)) as folder:
        left = folder.parent
    (left / "abcd").mkdir(parents=True)
    run_plans(project, [], Reporter(Console(file=io.StringIO())))
    assert not left.exists()


@pytest.mark.parametrize(("number", "fault"), [(errno.ENOSPC, "is full"), (errno.EROFS, "is read-only")])
def test_an_error_of_a_disk_names_the_file_the_disk_and_what_to_do(tmp_path, monkeypatch, number, fault):
    path = tmp_path / "it's here" / "record.json"

    def fail(_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match=r"record\.json") as caught, written_whole(path) as file:
        file.write(b"1")
    text = describe_os_error(caught.value)
    mounted = next(folder for folder in path.parents if folder.is_mount())
    assert text.startswith(f'{os.strerror(number)}: "{path}"; the disk {fault} (mounted at {mounted}): ')
    assert "--build-dir" in text
    assert "TMPDIR" in text
    assert list(path.parent.iterdir()) == []
    # As the text of an error from another process, with a traceback after it.
    inner = f"sums:halve failed: OSError: [Errno {number}] {os.strerror(number)}: '{tmp_path}/a.npz'\n\nTraceback"
    assert f"the disk {fault} (mounted at {mounted})" in with_disk_remedy(inner)


def test_other_errors_of_the_system_name_their_file_and_no_disk(tmp_path):
    with pytest.raises(OSError, match="denied") as caught, errors_name(tmp_path / "x"):
        raise PermissionError(errno.EACCES, "Permission denied", str(tmp_path / "y"))
    assert describe_os_error(caught.value) == f"Permission denied: '{tmp_path / 'y'}'"
    assert describe_os_error(shutil.Error([("a", "/b", "[Errno 13] Permission denied: '/b'")])) == "Permission denied: '/b'"
    assert describe_os_error(OSError("belongs to another user")) == "belongs to another user"
    assert with_disk_remedy("KeyError: 28") == "KeyError: 28"


def test_the_command_names_the_disk(book, monkeypatch):
    def run_on_full_disk(*_, **__):
        raise OSError(errno.EROFS, "Read-only file system", str(book.root))

    monkeypatch.setattr("effnotes.runner.cli.run_plans", run_on_full_disk)
    result = book.in_process("run", "addition")
    assert result.returncode == 1
    assert f"effnotes: Read-only file system: '{book.root}'; the disk is read-only (mounted at " in result.stdout


def test_a_terminal_that_does_not_know_every_letter_gets_the_message(book):
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    book.register(statement="Die Summe wächst.")
    result = book.effnotes("claims", env=environment)
    assert (result.returncode, "Die Summe w\\xe4chst." in result.stdout) == (0, True), result.stdout
    result = book.effnotes("run", b"addi\xfftion", env=environment)
    assert result.returncode == 2
    assert "effnotes: there is no chapter 'addi" in result.stdout


def test_the_latest_run_is_the_last_whatever_the_clock_says(tmp_path):
    store = RecordStore(tmp_path)
    for key, year in [("aa", "2026"), ("bb", "1970"), ("cc", "2001")]:
        store.save(b"{}", {"format": RECORD_FORMAT, "chapter": "c", "key": key, "status": "finished", "started": year})
        assert store.latest("c").record["key"] == key
    store.save(b"{}", {"format": RECORD_FORMAT, "chapter": "c", "key": "aa", "status": "finished", "started": "1999"})
    assert store.latest("c").record["key"] == "aa"


def test_a_record_may_hold_what_utf_8_cannot(tmp_path):
    store = RecordStore(tmp_path)
    store.save(b"{}", {"format": RECORD_FORMAT, "chapter": "c", "key": "aa", "status": "failed", "error": "f\udc80é"})
    assert store.load("c", "aa").record["error"] == "f\udc80é"


def test_a_line_that_a_full_disk_has_torn_stops_no_watch(tmp_path):
    watch = Watch(tmp_path / "jobs", 60.0)
    (tmp_path / "jobs").write_text('{"jo{"jobs": 4}\n{"jobs": 6}\n')
    watch.stop()
    assert watch.progress().of_jobs == 6


def test_a_run_that_a_cluster_has_given_up_is_a_failure_and_takes_no_other_along():
    lost, done = Future(), Future()
    lost.cancel()
    lost.set_running_or_notify_cancel()
    done.set_result((b"", {}))
    futures = {"lost": lost, "done": done}
    ended = dict(outcomes(futures.get, partial(next, iter(["lost", "done"]), None), lambda: 2))
    assert ended["done"] == (b"", {})
    assert "the scheduler was lost" in describe_failure(ended["lost"])
