"""Runs on a scheduler whose workers share no directory with the build: killed, late, cut off, of another version, GPUs and TLS."""

import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pandas as pd
import psutil
import pytest

import effnotes

Client = pytest.importorskip("distributed", reason="needs the extra 'cluster'").Client
pytestmark = pytest.mark.slow  # starts schedulers and workers, and kills them

PAGE = Path(__file__).parents[2] / "book" / "how_to_run.md"


class Machines:
    """A scheduler and workers on the loopback interface, each in its own process with its own local directory."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.processes = folder, []
        self.environment = {**os.environ, "DASK_DISTRIBUTED__WORKER__MEMORY__TERMINATE": "False"}

    def start(self, name: str, started: str, *arguments: str, **variables: str) -> tuple[subprocess.Popen, str]:
        """Start `dask` with these arguments; wait for what it says when it has started, and return that."""
        directory = self.folder / name
        directory.mkdir()
        with (directory / "log").open("w") as output:
            options = {"stdout": output, "stderr": output, "cwd": directory, "env": self.environment | variables}
            process = subprocess.Popen([sys.executable, "-m", "dask", *arguments, "--no-dashboard"], **options)
        self.processes.append(process)
        deadline = time.monotonic() + 180
        while not (found := re.search(started, (directory / "log").read_text())):
            assert time.monotonic() < deadline, (directory / "log").read_text()
            time.sleep(0.2)
        return process, found[1]

    def scheduler(self, *options: str) -> str:
        return self.start("scheduler", r"Scheduler at:\s+(\S+)", "scheduler", "--host", "127.0.0.1", "--port", "0", *options)[1]

    def worker(self, name: str, address: str, *options: str, **variables: str) -> subprocess.Popen:
        options = ("--no-nanny", "--name", name, "--local-directory", str(self.folder / name / "local"), *options)
        options += () if "--listen-address" in options else ("--host", "127.0.0.1")
        options += () if "--nthreads" in options else ("--nthreads", "1")
        return self.start(name, "(Registered to)", "worker", address, *options, **variables)[0]

    def stop(self) -> None:
        for process in self.processes:
            process.kill()
            process.wait()


@pytest.fixture
def machines(tmp_path) -> Iterator[Machines]:
    machines = Machines(tmp_path / "machines")
    machines.folder.mkdir()
    try:
        yield machines
    finally:
        machines.stop()


@pytest.fixture
def cluster(machines) -> tuple[str, list[subprocess.Popen]]:
    """A scheduler's address and its two workers."""
    address = machines.scheduler()
    return address, [machines.worker(name, address) for name in ("one", "two")]


def wait_until(condition: Callable[[], Any], timeout_s: float = 300.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def other_code(folder: Path) -> Path:
    """Return a folder with a copy of the package in which one module is another."""
    shutil.copytree(Path(effnotes.__file__).parent, folder / "effnotes")
    with (folder / "effnotes" / "reporting" / "metrics.py").open("a") as module:
        module.write("\nNEWER = 1\n")
    return folder


def let_import_metrics(book) -> None:
    book.edit("addition", "import time\n", "import time\n\nfrom effnotes.reporting.metrics import report\n")


def swept(book, name: str = "demo") -> pd.DataFrame:
    return pd.read_parquet(book.root / "_build" / "sweeps" / name / "table.parquet")


def test_all_results_arrive_though_a_worker_is_killed(book, cluster):
    address, workers = cluster
    for number in range(4):
        book.add(f"chapter_{number}", book.chapters["addition"].replace("pause_s: float = 0.0", "pause_s: float = 1.0"))
    build = book.start("build", "--scheduler", address)
    wait_until(lambda: book.records("addition") or book.records("multiplication"))
    os.kill(workers[0].pid, signal.SIGKILL)
    output, _ = build.communicate(timeout=180)
    assert build.returncode == 0, output
    for name in book.chapters:
        (path,) = book.records(name)
        record = json.loads(path.read_text())
        assert record["status"] == "finished", name
    assert (book.root / "_build" / "html" / "index.html").is_file()


TALLYING = """
# %%
import os
import uuid
from pathlib import Path

Path(os.environ["TALLY"], f"{first} {os.environ['NAME']} {uuid.uuid4().hex}").touch()
"""


class Link:
    """TCP connections to a port, through another, that can be interrupted as by a pulled cable: nothing ends, nothing arrives."""

    def __init__(self, target: int) -> None:
        self.whole = threading.Event()
        self.whole.set()
        self._target, self._listening = target, socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            near, _ = self._listening.accept()
            self.whole.wait()
            far = socket.create_connection(("127.0.0.1", self._target))
            for ends in ((near, far), (far, near)):
                threading.Thread(target=self._carry, args=ends, daemon=True).start()

    def _carry(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(2**16):
                self.whole.wait()
                sink.sendall(data)
        with suppress(OSError):
            sink.shutdown(socket.SHUT_RDWR)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        return found.getsockname()[1]


def test_all_points_arrive_though_workers_die_and_come_late_and_the_network_is_cut(book, machines, tmp_path):
    book.add("addition", book.chapters["addition"] + TALLYING)
    tally = tmp_path / "tally"
    tally.mkdir()
    address = machines.scheduler()
    there, back = Link(int(address.rpartition(":")[2])), Link(port := free_port())
    own = ("--listen-address", f"tcp://127.0.0.1:{port}", "--contact-address", f"tcp://127.0.0.1:{back.port}")
    common = {"TALLY": str(tally), "OMP_NUM_THREADS": "1"}
    cut = machines.worker("cut", f"tcp://127.0.0.1:{there.port}", *own, "--nthreads", "2", **common, NAME="cut")
    killed = machines.worker("killed", address, "--nthreads", "2", **common, NAME="killed")
    options = ("--grid", "first=1:60:1", "-p", "pause_s=0.5", "--name", "demo", "--scheduler", address)
    sweep = book.start("sweep", "addition", *options, stdout=(tmp_path / "said").open("w"))
    wait_until(lambda: len(book.records("addition")) >= 8)
    killed.kill()
    machines.worker("late", address, "--nthreads", "2", **common, NAME="late")
    wait_until(lambda: len(book.records("addition")) >= 14)
    for link in (there, back):
        link.whole.clear()
    time.sleep(20)
    for link in (there, back):
        link.whole.set()
    assert sweep.wait(timeout=600) == 0, (tmp_path / "said").read_text()
    assert cut.poll() is None
    assert swept(book)["status"].tolist() == ["ok"] * 60
    assert swept(book)["parameter.first"].tolist() == list(range(1, 61))
    assert len(book.records("addition")) == 60
    done: dict[int, list[str]] = {number: [] for number in range(1, 61)}
    for path in tally.iterdir():
        number, worker, _ = path.name.split()
        done[int(number)].append(worker)
    assert {worker for workers in done.values() for worker in workers} == {"cut", "killed", "late"}
    for number, workers in done.items():  # what the killed one had not handed over is lost
        assert len(workers) == 1 or (len(workers) == 2 and "killed" in workers), (number, workers)


def test_a_worker_of_another_version_is_refused_before_anything_runs(book, cluster, machines, tmp_path):
    address, _ = cluster
    machines.worker("other", address, PYTHONPATH=str(other_code(tmp_path / "other")))
    let_import_metrics(book)
    refused = book.effnotes("sweep", "addition", "--grid", "first=1,2", "--scheduler", address)
    assert refused.returncode == 2, refused.stdout
    assert "1 of 3 workers have another version" in refused.stdout
    assert "other code of effnotes.reporting.metrics" in refused.stdout
    assert book.records("addition") == []
    assert not (book.root / "_build" / "sweeps").exists()


def test_a_late_worker_of_another_version_is_given_no_more_and_its_points_go_to_others(book, machines, tmp_path):
    let_import_metrics(book)
    address = machines.scheduler()
    good = machines.worker("good", address)
    options = ("sweep", "addition", "--grid", "first=1:16:1", "-p", "pause_s=0.5", "--name", "demo", "--scheduler", address)
    sweep = book.start(*options, stdout=(tmp_path / "said").open("w"))
    wait_until(lambda: book.records("addition"))
    machines.worker("other", address, PYTHONPATH=str(other_code(tmp_path / "other")))
    wait_until(lambda: "is given no more of addition: other code of effnotes.reporting.metrics" in (tmp_path / "said").read_text())
    refused_at = len(book.records("addition"))
    wait_until(lambda: len(book.records("addition")) > refused_at)
    good.kill()  # nobody is left who may run the others
    assert sweep.wait(timeout=300) == 1, (tmp_path / "said").read_text()
    rows = swept(book)
    lost = rows[rows["status"] == "failed"]
    assert 0 < len(lost) < 16
    assert lost["error"].str.contains("no worker of the cluster has .* other code of effnotes.reporting.metrics").all()
    assert len(book.records("addition")) == 16 - len(lost)


def test_points_are_failed_and_said_to_be_when_the_scheduler_is_lost(book, machines, tmp_path):
    address = machines.scheduler()
    machines.worker("one", address)
    options = ("--grid", "first=1:13:1", "-p", "pause_s=0.5", "--name", "demo", "--scheduler", address)  # more than are under way
    sweep = book.start("sweep", "addition", *options, stdout=(tmp_path / "said").open("w"))
    wait_until(lambda: book.records("addition"))
    machines.processes[0].kill()
    assert sweep.wait(timeout=300) == 1
    rows = swept(book)
    assert rows["status"].value_counts().to_dict() == {
        "ok": len(book.records("addition")),
        "failed": 13 - len(book.records("addition")),
    }
    assert rows[rows["status"] == "failed"]["error"].str.contains("the scheduler was lost").all()
    assert "Traceback" not in (tmp_path / "said").read_text()


def test_a_worker_with_other_data_is_refused_and_one_with_the_same_is_not(book, machines, tmp_path):
    homes = {name: tmp_path / name for name in ("mine", "theirs")}
    for name, home in homes.items():
        home.mkdir()
        (home / "numbers.csv").write_text(name)
    address = machines.scheduler()
    machines.worker("one", address, HOME=str(homes["theirs"]))
    options = ("sweep", "addition", "--grid", "first=1", "-p", "label=~/numbers.csv", "--scheduler", address)
    refused = book.effnotes(*options, env={**os.environ, "HOME": str(homes["mine"])})
    assert refused.returncode == 2, refused.stdout
    assert "other data, or none, at the path of label" in refused.stdout
    assert not (book.root / "_build" / "sweeps").exists()
    (homes["theirs"] / "numbers.csv").write_text("mine")
    done = book.effnotes(*options, env={**os.environ, "HOME": str(homes["mine"])})
    assert done.returncode == 0, done.stdout


def test_runs_that_ask_for_a_gpu_get_one_of_their_own_where_workers_offer_it(book, machines):
    book.edit("addition", "import time\n", 'import os\nimport time\n\nprint("sees", os.environ.get("CUDA_VISIBLE_DEVICES"))\n')
    address = machines.scheduler()
    machines.worker("without", address)
    options = ("sweep", "addition", "--grid", "first=1:4:1", "-p", "pause_s=1.0", "--scheduler", address)
    refused = book.effnotes(*options, "--gpus", "1")
    assert refused.returncode == 2, refused.stdout
    assert "has no worker that offers 1 GPU to a run; start one with 'dask worker" in refused.stdout
    machines.worker("with", address, "--nthreads", "2", "--resources", "GPU=2", CUDA_VISIBLE_DEVICES="7,9")
    done = book.effnotes(*options, "--gpus", "1")
    assert done.returncode == 0, done.stdout
    notebooks = [(path.parent / "notebook.ipynb").read_text() for path in book.records("addition")]
    assert {re.search(r"sees (\S+?)\\n", text)[1] for text in notebooks} == {"7", "9"}
    assert len(notebooks) == 4


@pytest.fixture
def certificates(tmp_path) -> dict[str, str]:
    """The variables of the page on running the book, with an authority and a certificate that are made by its commands."""
    if shutil.which("openssl") is None:
        pytest.skip("needs openssl")
    page = PAGE.read_text()
    for command in re.findall(r"^\$ (openssl .*)$", page, re.MULTILINE):
        subprocess.run(shlex.split(command), cwd=tmp_path, check=True, capture_output=True)
    named = dict(re.findall(r"(DASK_DISTRIBUTED__COMM__TLS__[A-Z_]+)=(\S+)", page))
    return {name: str(tmp_path / file) for name, file in named.items()}


def test_connections_may_be_encrypted_and_others_are_refused(book, machines, certificates):
    machines.environment |= certificates
    address = machines.scheduler("--protocol", "tls")
    assert address.startswith("tls://")
    assert len(certificates) == 7
    machines.worker("one", address)
    arguments = ("sweep", "addition", "--grid", "first=1,2", "--name", "demo", "--scheduler")
    plain = book.effnotes(*arguments, address.replace("tls", "tcp"))
    assert plain.returncode == 2
    assert "speaks TLS alone: give its address as tls://. Name their files in DASK_DISTRIBUTED" in plain.stdout
    without = book.effnotes(*arguments, address)
    assert without.returncode == 2
    assert "needs certificates. Name their files in" in without.stdout
    ca_file = {"DASK_DISTRIBUTED__COMM__TLS__CA_FILE": certificates["DASK_DISTRIBUTED__COMM__TLS__CLIENT__CERT"]}
    foreign = book.effnotes(*arguments, address, env={**os.environ, **certificates, **ca_file})
    assert foreign.returncode == 2
    assert "no scheduler answers" in foreign.stdout
    assert "a certificate of the same authority" in foreign.stdout
    assert not (book.root / "_build" / "sweeps").exists()
    done = book.effnotes(*arguments, address, env={**os.environ, **certificates})
    assert done.returncode == 0, done.stdout
    assert swept(book)["status"].tolist() == ["ok"] * 2


def test_the_script_of_a_slurm_job_starts_a_worker_that_offers_its_card(machines):
    """All of the recipe that needs no SLURM: what it would hand over is run by a shell."""
    pytest.importorskip("dask_jobqueue")
    (recipe,) = (code for code in re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL) if "SLURMCluster" in code)
    names: dict[str, Any] = {}
    exec(recipe.partition("print(")[0].replace("8786", "0"), names)
    with names["cluster"] as cluster:
        script = cluster.job_script()
        assert "#SBATCH --cpus-per-task=4\n" in script
        assert "#SBATCH --gres=gpu:1\n" in script
        (machines.folder / "job.sh").write_text(script)
        job = subprocess.Popen(["sh", machines.folder / "job.sh"], start_new_session=True, stderr=subprocess.DEVNULL)
        try:
            with Client(cluster.scheduler_address, set_as_default=False) as client:
                client.wait_for_workers(1, timeout=60)
                (worker,) = client.scheduler_info()["workers"].values()
        finally:
            os.killpg(job.pid, signal.SIGTERM)
            job.wait()
    assert (worker["nthreads"], worker["resources"]) == (1, {"GPU": 1.0})


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
    wait_until(kernels)
    os.killpg(build.pid, signal.SIGKILL)
    build.wait()
    wait_until(lambda: not kernels())


def test_gpus_are_for_clusters(book):
    refused = book.in_process("sweep", "addition", "--grid", "first=1", "--gpus", "1")
    assert refused.returncode == 2
    assert "--gpus is for --scheduler" in refused.stdout


def test_an_address_where_no_scheduler_answers_is_refused(book):
    result = book.in_process("build", "--scheduler", "tcp://127.0.0.1:9")
    assert result.returncode == 2
    assert "no scheduler answers" in result.stdout
    assert book.records("addition") == []
