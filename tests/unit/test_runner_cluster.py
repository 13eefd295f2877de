"""The same function runs on a scheduler with workers that share no directory with the build, one of which is killed."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import psutil
import pytest

import effnotes

pytest.importorskip("distributed", reason="needs the extra 'cluster'")
pytestmark = pytest.mark.slow  # starts schedulers and workers, and kills them


def start(directory: Path, *arguments: str, **variables: str) -> tuple[subprocess.Popen, Path]:
    directory.mkdir()
    log = directory / "log"
    environment = {**os.environ, "DASK_DISTRIBUTED__WORKER__MEMORY__TERMINATE": "False", **variables}
    with log.open("w") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "dask", *arguments], stdout=output, stderr=output, cwd=directory, env=environment
        )
    return process, log


def wait_for(pattern: str, log: Path, timeout_s: float = 60.0) -> str:
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        match = re.search(pattern, log.read_text())
        if match:
            return match.group(1)
        time.sleep(0.2)
    raise AssertionError(f"{pattern!r} never appeared in:\n{log.read_text()}")


@pytest.fixture
def cluster(tmp_path):
    """A scheduler and two workers on the loopback interface, each in its own process with its own local directory."""
    processes = []
    try:
        scheduler, log = start(
            tmp_path / "scheduler", "scheduler", "--host", "127.0.0.1", "--port", "0", "--dashboard-address", ":0", "--no-dashboard"
        )
        processes.append(scheduler)
        address = wait_for(r"Scheduler at:\s+(tcp://127\.0\.0\.1:\d+)", log)
        workers = []
        for name in ("one", "two"):
            directory = tmp_path / f"worker-{name}"
            worker, worker_log = start(
                directory,
                *("worker", address, "--host", "127.0.0.1", "--no-nanny", "--no-dashboard", "--nthreads", "1"),
                *("--name", name, "--local-directory", str(directory / "local")),
            )
            processes.append(worker)
            workers.append(worker)
            wait_for(r"(Registered to)", worker_log)
        yield address, workers
    finally:
        for process in processes:
            process.kill()
            process.wait()


def test_all_results_arrive_though_a_worker_is_killed(book, cluster):
    address, workers = cluster
    for number in range(4):
        book.add(f"chapter_{number}", book.chapters["addition"].replace("pause_s: float = 0.0", "pause_s: float = 1.0"))
    build = book.start("build", "--scheduler", address)
    deadline = time.monotonic() + 60
    while not book.records("addition") and not book.records("multiplication"):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    os.kill(workers[0].pid, signal.SIGKILL)
    output, _ = build.communicate(timeout=180)
    assert build.returncode == 0, output
    for name in book.chapters:
        (path,) = book.records(name)
        record = json.loads(path.read_text())
        assert record["status"] == "finished", name
    assert (book.root / "_build" / "html" / "index.html").is_file()


def test_every_point_of_a_sweep_arrives_though_a_worker_is_killed(book, cluster):
    address, workers = cluster
    options = ("--grid", "first=1:12:1", "-p", "pause_s=0.5", "--name", "demo", "--scheduler", address)
    sweep = book.start("sweep", "addition", *options)
    table = book.root / "_build" / "sweeps" / "demo" / "table.parquet"
    deadline = time.monotonic() + 60
    while not table.is_file():
        assert time.monotonic() < deadline
        time.sleep(0.1)
    os.kill(workers[0].pid, signal.SIGKILL)
    output, _ = sweep.communicate(timeout=180)
    assert sweep.returncode == 0, output
    rows = pd.read_parquet(table)
    assert rows["status"].tolist() == ["ok"] * 12
    assert rows["parameter.first"].tolist() == list(range(1, 13))
    assert len(book.records("addition")) == 12


def test_a_worker_of_another_version_is_refused_before_anything_runs(book, cluster, tmp_path):
    address, _ = cluster
    shutil.copytree(Path(effnotes.__file__).parent, tmp_path / "other" / "effnotes")
    with (tmp_path / "other" / "effnotes" / "reporting" / "metrics.py").open("a") as module:
        module.write("\nNEWER = 1\n")
    options = ("worker", address, "--host", "127.0.0.1", "--no-nanny", "--no-dashboard", "--nthreads", "1")
    worker, log = start(tmp_path / "worker-other", *options, PYTHONPATH=str(tmp_path / "other"))
    try:
        wait_for(r"(Registered to)", log)
        book.edit("addition", "import time\n", "import time\n\nfrom effnotes.reporting.metrics import report\n")
        refused = book.effnotes("sweep", "addition", "--grid", "first=1,2", "--scheduler", address)
    finally:
        worker.kill()
        worker.wait()
    assert refused.returncode == 2, refused.stdout
    assert "1 of 3 workers have another version" in refused.stdout
    assert book.records("addition") == []


def test_a_refusal_comes_back_from_a_worker(book, cluster):
    address, _ = cluster
    book.edit(
        "addition",
        "# %%\nimport time\n",
        '# %% tags=["check"]\nimport time\n\nif first < 0:\n    raise ValueError("less than 0")\n',
    )
    result = book.effnotes("build", "--scheduler", address, "-p", "addition.first=-2")
    assert result.returncode == 2, result.stdout
    assert "effnotes: addition refuses these parameters: less than 0\n" in result.stdout
    assert book.records("addition") == []
    assert len(book.records("multiplication")) == 1


def test_a_kernel_of_a_worker_ends_when_its_build_is_killed(book, cluster):
    address, _ = cluster

    def kernels() -> list[psutil.Process]:
        found = [process for process in psutil.process_iter(["cmdline"]) if "ipykernel_launcher" in str(process.info["cmdline"])]
        return [process for process in found if any("dask" in str(parent.cmdline()) for parent in process.parents())]

    build = book.start("build", "--only", "addition", "--scheduler", address, "-p", "addition.pause_s=300")
    deadline = time.monotonic() + 60
    while not kernels():
        assert time.monotonic() < deadline
        time.sleep(0.2)
    os.killpg(build.pid, signal.SIGKILL)
    build.wait()
    deadline = time.monotonic() + 60
    while kernels():
        assert time.monotonic() < deadline, "the kernel goes on"
        time.sleep(0.5)


def test_an_address_where_no_scheduler_answers_is_refused(book):
    result = book.in_process("build", "--scheduler", "tcp://127.0.0.1:9")
    assert result.returncode == 2
    assert "no scheduler answers" in result.stdout
    assert book.records("addition") == []
