import functools
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
import zipfile
from pathlib import Path

import nbformat
import numpy as np
import psutil
import pytest
from nbclient import NotebookClient

from effnotes.core.jobs import JobError, WorkerPool, _check_result, _read_result, run_jobs
from effnotes.core.processes import PROGRESS_VARIABLE

JOBS = textwrap.dedent(
    """
    import os, time
    from pathlib import Path

    from typing import Any

    import numpy as np

    from effnotes.core.processes import tell_part
    from effnotes.core.settings import settings

    @settings
    class Job:
        x: Any = 0
        folder: str = ""
        seconds: float = 0.0

    def square(job):
        return {"square": job.x * job.x, "pid": os.getpid()}

    def tells(job):
        tell_part(1, 4)
        return {"told": 1}

    def rich(job):
        generator = np.random.default_rng(job.x)
        return {
            "weights": generator.random((3, 4)).astype(np.float32), "name": "ä", "count": 3, "nan": float("nan"),
            "scores": [1.5, float("nan"), None, {"a": [1]}], "flags": np.array([True, False]),
            "third": 1 / 3, "empty": np.zeros((0, 2)),
        }

    def threads(_job):
        import torch
        small = torch.tensor([1e-40]) * 1
        return {
            "torch": torch.get_num_threads(), "denormal": float(small), "environment": os.environ["OMP_NUM_THREADS"],
            "main": str(getattr(__import__("__main__"), "__file__", "none")),
        }

    def load(_job):
        import torch
        from torch.utils.data import DataLoader, TensorDataset
        loader = DataLoader(TensorDataset(torch.arange(6)), batch_size=2, num_workers=1)
        return {"loaded": [value for (batch,) in loader for value in batch.tolist()]}

    def leave_mark(job):
        (Path(job.folder) / f"mark-{job.x}-{time.time_ns()}").touch()
        time.sleep(job.seconds)
        return {"number": job.x}

    def fail_second(job):
        if job.x == 1:
            raise ZeroDivisionError("the second fails")
        return leave_mark(job)

    def die(_job):
        os._exit(7)

    def return_badly(_job):
        return {"a": (1, 2)}

    class Holder:
        @staticmethod
        def method():
            return {}
    """
)


@pytest.fixture(scope="module")
def jobs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("modules")
    (folder / "parallel_jobs.py").write_text(JOBS, encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        import parallel_jobs

        yield parallel_jobs
        del sys.modules["parallel_jobs"]


@pytest.fixture(scope="module")
def pool(jobs):
    """One worker for all tests to which it does not matter who worked before: starting one takes seconds."""
    with WorkerPool(1) as pool:
        yield pool


@pytest.fixture(autouse=True)
def no_cache(monkeypatch):
    monkeypatch.delenv("EFFNOTES_CACHE_DIR", raising=False)


def marks(folder):
    return sorted(path.name.split("-")[1] for path in folder.glob("mark-*"))


def equal(first, second):
    np.testing.assert_equal(first, second)
    assert list(first) == list(second)
    assert [type(value) for value in first.values()] == [type(value) for value in second.values()]
    assert all(value.dtype == second[key].dtype for key, value in first.items() if isinstance(value, np.ndarray))


def test_results_come_in_the_order_of_the_jobs_from_several_processes(jobs):
    results = run_jobs(jobs.square, [jobs.Job(x) for x in range(7)], workers=2)
    assert [result["square"] for result in results] == [x * x for x in range(7)]
    pids = {result["pid"] for result in results}
    assert os.getpid() not in pids
    assert len(pids) <= 2
    assert not any(psutil.pid_exists(pid) for pid in pids)


def test_no_jobs_start_no_process(jobs):
    before = psutil.Process().children()
    assert run_jobs(jobs.square, []) == []
    assert psutil.Process().children() == before


def test_a_worker_has_one_thread_and_not_the_main_module_of_the_caller(jobs, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    (result,) = run_jobs(jobs.threads, [jobs.Job()], workers=1)
    assert result == {"torch": 1, "denormal": 0.0, "environment": "1", "main": "none"}
    assert os.environ["OMP_NUM_THREADS"] == "2"


# --- failures ---


def test_a_job_may_load_its_data_in_processes_of_its_own(jobs, pool):
    assert run_jobs(jobs.load, [jobs.Job()], workers=pool) == [{"loaded": [0, 1, 2, 3, 4, 5]}]


def test_a_pool_keeps_its_workers_between_calls_starts_anew_what_has_died_and_ends_all_when_it_closes(jobs):
    with WorkerPool(1) as pool:
        with pytest.raises(JobError, match=r'"x":3.*exit code 7'):
            run_jobs(jobs.die, [jobs.Job(3)], workers=pool)
        first, second = (run_jobs(jobs.square, [jobs.Job(x)], workers=pool)[0]["pid"] for x in (1, 2))
        assert first == second != os.getpid()
        assert psutil.pid_exists(first)
    assert not psutil.pid_exists(first)


@pytest.mark.slow
@pytest.mark.parametrize("before", ["", "import weakref; weakref.finalize(weakref.WeakSet(), int); "])
def test_a_pool_that_nobody_closes_does_not_keep_the_interpreter_from_ending(jobs, before):
    code = (
        # Somebody who finalizes something before multiprocessing is imported has his exit functions run after its own.
        f"{before}import sys; sys.path.insert(0, {str(Path(jobs.__file__).parent)!r}); import parallel_jobs\n"
        "from effnotes.core.jobs import WorkerPool, run_jobs; pool = WorkerPool(1)\n"
        "print(run_jobs(parallel_jobs.square, [parallel_jobs.Job(1)], workers=pool)[0]['pid'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert not psutil.pid_exists(int(done.stdout))


def test_a_failing_job_is_named_and_stops_the_others(jobs, tmp_path):
    started = psutil.Process().children()
    with pytest.raises(JobError, match=r'(?s)"x":1.*ZeroDivisionError: the second fails'):
        run_jobs(jobs.fail_second, [jobs.Job(n, str(tmp_path), 60.0 * n) for n in range(6)], workers=2)
    # Jobs of a minute would still be there.
    assert len(marks(tmp_path)) <= 3
    assert {child.pid for child in psutil.Process().children()} <= {child.pid for child in started} | _resource_tracker()


def _resource_tracker():
    from multiprocessing import resource_tracker

    return {resource_tracker._resource_tracker._pid}


BAD = {"tuple": {"a": (1, 2)}, "scalar": {"a": np.float32(1)}, "objects": {"a": np.array([None])}, "none": None, "key": {1: 2}}


@pytest.mark.parametrize("kind", BAD)
def test_a_result_that_the_cache_would_change_is_refused(kind):
    with pytest.raises(TypeError, match="the job returned"):
        _check_result(BAD[kind])


def test_a_refused_result_fails_its_job(jobs):
    with pytest.raises(JobError, match="the job returned 'a' as tuple"):
        run_jobs(jobs.return_badly, [jobs.Job()], workers=1)


@pytest.mark.parametrize("x", [(1, 2), float("nan"), object(), {1: 2}])
def test_a_job_that_json_cannot_hold_is_refused(jobs, x):
    with pytest.raises(ValueError, match=r"way through JSON|serialize unknown type"):
        run_jobs(jobs.square, [jobs.Job(x)])


@pytest.mark.parametrize(("given", "shown"), [({"x": 1}, r"\{'x': 1\}"), (object(), "<object object at .*>")])
def test_a_job_is_settings(jobs, given, shown):
    with pytest.raises(ValueError, match=f"^job {shown}: must be settings"):
        run_jobs(jobs.square, [given])


def test_functions_and_numbers_that_cannot_work_are_refused(jobs):
    with pytest.raises(ValueError, match="top level of a module"):
        run_jobs(lambda: {}, [jobs.Job()])
    with pytest.raises(ValueError, match="top level of a module"):
        run_jobs(jobs.Holder.method, [jobs.Job()])
    with pytest.raises(ValueError, match="top level of a module"):
        run_jobs(functools.partial(jobs.square), [jobs.Job()])
    with pytest.raises(ValueError, match="workers=0"):
        run_jobs(jobs.square, [jobs.Job(1)], workers=0)


def test_an_interruption_leaves_no_worker(jobs, tmp_path):
    def interrupt(*_):
        raise KeyboardInterrupt

    before = {child.pid for child in psutil.Process().children()}
    previous = signal.signal(signal.SIGALRM, interrupt)
    signal.alarm(2)
    try:
        with pytest.raises(KeyboardInterrupt):
            run_jobs(jobs.leave_mark, [jobs.Job(n, str(tmp_path), 60.0) for n in range(2)], workers=2)
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, previous)
    assert {child.pid for child in psutil.Process().children()} <= before | _resource_tracker()


# --- cache ---


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """A folder in which results are kept."""
    monkeypatch.setenv("EFFNOTES_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_kept_results_are_the_results(jobs, pool, cache):
    fresh = run_jobs(jobs.rich, [jobs.Job(1), jobs.Job(2)], workers=pool)
    kept = run_jobs(jobs.rich, [jobs.Job(2), jobs.Job(1)], workers=pool)
    equal(fresh[0], kept[1])
    equal(fresh[1], kept[0])
    assert not np.array_equal(fresh[0]["weights"], fresh[1]["weights"])
    assert len(list(cache.iterdir())) == 2


def test_only_what_is_missing_torn_or_changed_is_run(jobs, pool, tmp_path, cache):
    todo = [jobs.Job(n, str(tmp_path)) for n in range(3)]
    run_jobs(jobs.leave_mark, todo[:2], workers=pool)
    run_jobs(jobs.leave_mark, todo, workers=pool)
    assert marks(tmp_path) == ["0", "1", "2"]

    files = sorted(cache.iterdir())
    files[0].write_bytes(files[0].read_bytes()[:100])
    flipped = bytearray(files[1].read_bytes())
    flipped[60] ^= 1
    files[1].write_bytes(flipped)
    files[2].write_bytes(b"")
    results = run_jobs(jobs.leave_mark, todo, workers=pool)
    assert [result["number"] for result in results] == [0, 1, 2]
    assert len(marks(tmp_path)) == 6

    source = Path(jobs.__file__)
    text = source.read_text(encoding="utf-8")
    try:
        source.write_text(text + '\n# a remark\n"""And words."""\n', encoding="utf-8")
        run_jobs(jobs.leave_mark, todo, workers=pool)
        assert len(marks(tmp_path)) == 6
        source.write_text(text + "\nchanged = True\n", encoding="utf-8")
        run_jobs(jobs.leave_mark, todo[:1], workers=pool)
        assert len(marks(tmp_path)) == 7
    finally:
        source.write_text(text, encoding="utf-8")


@pytest.mark.parametrize(
    "header",
    [b"[" * 100_000, b"{" , b"[]", b'{"order": ["x"], "values": {}, "made": {}}', b'{"order": [[]], "values": {}, "made": {}}'],
    ids=["deep", "cut", "list", "lacks", "unhashable"],
)  # fmt: skip
def test_a_forged_result_is_none(tmp_path, header):
    np.savez(tmp_path / "x.npz", header=np.frombuffer(header, np.uint8))
    assert _read_result(tmp_path / "x.npz") is None


def test_an_array_larger_than_its_file_is_none(tmp_path):
    header = {"descr": "|u1", "fortran_order": False, "shape": (10**15,)}
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive, archive.open("header.npy", "w") as file:
        np.lib.format.write_array_header_1_0(file, header)
    assert _read_result(tmp_path / "x.npz") is None


def test_a_flipped_bit_in_an_array_is_noticed(jobs, pool, cache):
    (fresh,) = run_jobs(jobs.rich, [jobs.Job(1)], workers=pool)
    (path,) = cache.iterdir()
    content = bytearray(path.read_bytes())
    content[content.index(fresh["weights"].tobytes())] ^= 1
    path.write_bytes(content)
    equal(run_jobs(jobs.rich, [jobs.Job(1)], workers=pool)[0], fresh)


def test_who_watches_is_told_what_is_computed_and_what_is_reused(jobs, pool, tmp_path, cache, monkeypatch):
    told = tmp_path / "told.jsonl"
    monkeypatch.setenv(PROGRESS_VARIABLE, str(told))
    for todo in ([1], [1, 2, 3]):
        run_jobs(jobs.square, [jobs.Job(x) for x in todo], workers=pool)
    events = [json.loads(line) for line in told.read_text().splitlines()]
    assert [next(iter(event)) for event in events] == ["jobs", "computed", "jobs", "reused", "computed", "computed"]
    assert events[2] == {"jobs": 3}
    assert events[3]["reused"] == events[1]["computed"]
    assert {"at", "seconds", "machine"} == set(events[1]["computed"])
    assert events[1]["computed"]["machine"].startswith(("CPU: ", "GPU: "))


def test_who_watches_is_told_how_far_a_job_is_before_it_is_done(jobs, tmp_path, monkeypatch):
    told = tmp_path / "told.jsonl"
    monkeypatch.setenv(PROGRESS_VARIABLE, str(told))
    run_jobs(jobs.tells, [jobs.Job(1)], workers=1)  # in a process of its own, which finds the variable at its start
    events = [json.loads(line) for line in told.read_text().splitlines()]
    assert [next(iter(event)) for event in events] == ["jobs", "part", "computed"]
    assert events[1]["part"]["share"] == 0.25
    assert events[1]["part"]["by"] != os.getpid()


def test_a_kept_result_needs_no_process(jobs, pool, cache, monkeypatch):
    run_jobs(jobs.square, [jobs.Job(3)], workers=pool)
    monkeypatch.setattr("effnotes.core.jobs._start_worker", lambda _: pytest.fail("a process was started"))
    assert run_jobs(jobs.square, [jobs.Job(3)])[0]["square"] == 9


# --- ends of the parent ---


@pytest.mark.slow
def test_workers_end_with_a_killed_parent_and_finished_jobs_are_kept(jobs, tmp_path, cache):
    script = textwrap.dedent(
        f"""
        from effnotes.core.jobs import run_jobs
        import parallel_jobs
        todo = [parallel_jobs.Job(n, {str(tmp_path)!r}, 120.0 * n) for n in range(3)]
        run_jobs(parallel_jobs.leave_mark, todo, workers=2)
        """
    )
    # Unguarded on purpose: workers must not run the script again.
    (tmp_path / "script.py").write_text(script, encoding="utf-8")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(Path(jobs.__file__).parent), os.environ.get("PYTHONPATH", "")])}
    parent = subprocess.Popen([sys.executable, str(tmp_path / "script.py")], env=environment)
    try:
        deadline = time.monotonic() + 60
        while len(marks(tmp_path)) < 3 and time.monotonic() < deadline:
            time.sleep(0.05)
        children = psutil.Process(parent.pid).children(recursive=True)
        assert len(children) >= 2
        os.kill(parent.pid, signal.SIGKILL)
        parent.wait()
        _, alive = psutil.wait_procs(children, timeout=20)
        assert not alive
    finally:
        parent.kill()
    assert [path.suffix for path in cache.iterdir()] == [".npz"]


def test_works_in_a_notebook(jobs, tmp_path):
    source = f"""
import sys
sys.path.insert(0, {str(Path(jobs.__file__).parent)!r})
import parallel_jobs
from effnotes.core.jobs import run_jobs
def here():
    return {{}}
print([result["square"] for result in run_jobs(parallel_jobs.square, [parallel_jobs.Job(2), parallel_jobs.Job(3)], workers=2)])
try:
    run_jobs(here, [parallel_jobs.Job()])
except ValueError as error:
    print(error)
"""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source)])
    NotebookClient(notebook, timeout=100, kernel_name="python3").execute()
    text = "".join(output.get("text", "") for output in notebook.cells[0].outputs)
    assert "[4, 9]" in text
    assert "not of a notebook" in text
