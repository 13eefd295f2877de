"""What happens in a kernel is seen, told, and the only thing that keeps its run going."""

import io
import json
import multiprocessing
import subprocess
import sys
import threading
import time

import pytest
from rich.console import Console

from effnotes.runner import progress, watch
from effnotes.runner.progress import Reporter
from effnotes.runner.schedule import _listening
from effnotes.runner.watch import Progress, Watch

MADE = {"at": "2026-11-26T01:02:03+00:00", "seconds": 2.0, "machine": "CPU: one"}

WAITS = "import time; time.sleep(60)"
COMPUTES = "while True: sum(range(100_000))"
CHILD_COMPUTES = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {COMPUTES!r}])"


def tell(path, *events: dict) -> None:
    with path.open("a") as file:
        file.writelines(json.dumps(event) + "\n" for event in events)


def test_a_process_is_ended_when_nothing_happens_and_only_then(tmp_path):
    codes = {"waits": WAITS, "computes": COMPUTES, "its child computes": CHILD_COMPUTES, "finishes jobs": WAITS, "prints": WAITS}
    processes = {name: subprocess.Popen([sys.executable, "-c", code]) for name, code in codes.items()}
    watches = {name: Watch(tmp_path / name, 2.5) for name in codes}
    try:
        for name, process in processes.items():
            watches[name].start(process.pid)
        end = time.monotonic() + 6
        while time.monotonic() < end:
            tell(tmp_path / "finishes jobs", {"computed": MADE})
            watches["prints"].write(".")
            time.sleep(0.1)
        assert {name for name, process in processes.items() if process.poll() is not None} == {"waits"}
        assert {name for name, each in watches.items() if each.idle} == {"waits"}
        assert watches["computes"].peak_bytes > 2**20
    finally:
        for name, process in processes.items():
            watches[name].stop()
            for child in watch.psutil.Process(process.pid).children() if process.poll() is None else ():
                child.kill()
            process.kill()
            process.wait()


def test_nobody_waits_for_a_process_that_is_abandoned(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", WAITS])
    watching = Watch(tmp_path / "jobs", 60.0, abandoned=lambda: True)
    watching.start(process.pid)
    assert process.wait(timeout=20) != 0
    watching.stop()
    assert not watching.idle


def test_jobs_are_counted_for_the_call_under_way_and_for_the_record(tmp_path, monkeypatch):
    now = 100.0
    monkeypatch.setattr(watch.time, "monotonic", lambda: now)
    watching = Watch(tmp_path / "jobs", 60.0)
    assert watching.progress() == Progress(0, 0, 0, 0, None)
    assert watching.jobs()["reused_from"] is None
    watching.cell(3, 45)
    tell(
        tmp_path / "jobs",
        {"jobs": 6},
        {"reused": MADE},
        {"reused": {**MADE, "at": "2026-11-25T01:02:03+00:00", "machine": "CPU: two"}},
    )
    watching._read_jobs()
    assert watching.progress() == Progress(3, 45, 2, 6, None)
    now += 10
    tell(tmp_path / "jobs", {"computed": MADE}, {"computed": MADE})
    with (tmp_path / "jobs").open("a") as file:
        file.write('{"compu')
    watching._read_jobs()
    assert watching.progress() == Progress(3, 45, 4, 6, 10.0)  # two in 10 s, two are left
    now += 4
    assert watching.progress().left_s == 6.0
    with (tmp_path / "jobs").open("a") as file:
        file.write(f'ted": {json.dumps(MADE)}}}\n')
    tell(tmp_path / "jobs", {"computed": MADE})
    watching._read_jobs()
    assert watching.progress() == Progress(3, 45, 0, 0, None)
    assert watching.jobs() == {
        "computed": 4,
        "computed_s": 8.0,
        "reused": 2,
        "reused_from": "2026-11-25T01:02:03+00:00",
        "reused_to": "2026-11-26T01:02:03+00:00",
        "reused_on": ["CPU: one", "CPU: two"],
    }


def test_a_plain_terminal_gets_a_line_a_minute(monkeypatch):
    now = 0.0
    monkeypatch.setattr(progress.time, "monotonic", lambda: now)
    written = io.StringIO()
    with Reporter(Console(file=written)) as reporter:
        reporter.start("chapter")
        for _ in range(12):
            now += 15
            reporter.advance("chapter", Progress(6, 45, 12, 96, 200.0))
        reporter.finish("chapter", "run in 180 s")
    lines = written.getvalue().splitlines()
    assert lines[0] == "chapter: running"
    assert lines[1] == "chapter: 6 of 45 cells, 12 of 96 jobs done, 84 left, about 3 min 20 s for them, 60 s"
    assert [line.rpartition(", ")[2] for line in lines[1:-1]] == ["60 s", "120 s", "180 s"]
    assert lines[-1] == "chapter: run in 180 s"


def test_how_far_the_jobs_under_way_are_is_told_while_no_job_is_done(tmp_path):
    watching = Watch(tmp_path / "jobs", 60.0)
    tell(tmp_path / "jobs", {"jobs": 3}, {"part": {"by": 1, "share": 0.25}}, {"part": {"by": 2, "share": 0.5}})
    watching._read_jobs()
    assert watching.progress() == Progress(0, 0, 0, 3, None, 0.38)
    tell(tmp_path / "jobs", {"part": {"by": 2, "share": 1.0}}, {"part": {"by": 1, "share": 0.3}})
    watching._read_jobs()
    assert watching.progress() == Progress(0, 0, 0, 3, None, 0.3)
    tell(tmp_path / "jobs", {"jobs": 3})
    watching._read_jobs()
    assert watching.progress() == Progress(0, 0, 0, 3, None)


@pytest.mark.parametrize(
    ("state", "shown"),
    [
        (Progress(6, 45, 12, 96, 200.0), "6 of 45 cells, 12 of 96 jobs done, 84 left, about 3 min 20 s for them"),
        (Progress(6, 45, 12, 96, None), "6 of 45 cells, 12 of 96 jobs done, 84 left"),
        (Progress(6, 45, 0, 3, None, 0.4), "6 of 45 cells, 0 of 3 jobs done, 3 left (those under way 40% done)"),
        (Progress(6, 45, 0, 0, None), "6 of 45 cells"),
    ],
)
def test_a_terminal_shows_cells_jobs_and_the_time_left(state, shown):
    written = io.StringIO()
    with Reporter(Console(file=written, force_terminal=True, width=160, no_color=True)) as reporter:
        reporter.start("chapter")
        reporter.advance("chapter", state)
    assert shown in written.getvalue()


@pytest.mark.parametrize("error", [BrokenPipeError, SystemExit])  # rich ends a program that writes into a broken pipe
def test_slots_never_wait_for_a_terminal_that_is_gone(error):
    told = []

    def tell_nobody(chapter, state):
        told.append(chapter)
        raise error

    with _listening(tell_nobody) as progress:
        for chapter in ("first", "second"):
            progress.send((chapter, Progress(0, 1, 0, 0, None)))
    assert told == ["first", "second"]


def _tell_forever(progress):
    while True:
        progress.send(("killed", Progress(0, 1, 0, 0, None)))


def test_a_slot_killed_while_it_tells_stops_neither_the_others_nor_the_build():
    told, enough = [], threading.Event()

    def note(chapter, state):
        told.append(chapter)
        if len(told) == 100:
            enough.set()

    with _listening(note) as progress:
        slots = [multiprocessing.get_context("spawn").Process(target=_tell_forever, args=(progress,)) for _ in range(3)]
        for slot in slots:
            slot.start()
        assert enough.wait(60)
        for slot in slots:
            slot.kill()
            slot.join()
        progress.send(("other", Progress(0, 1, 0, 0, None)))
    assert "killed" in told
    assert told[-1] == "other"
