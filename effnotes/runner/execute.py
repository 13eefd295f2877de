"""Run one chapter in a kernel of its own and return the executed notebook with its record.

`execute_chapter` takes text and a plain dictionary and returns bytes and a plain dictionary, so that it runs alike in a process on
this machine and on a worker of a cluster that shares no file system with it.
"""

import itertools
import json
import logging
import os
import platform
import re
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any, TypedDict

import psutil

from effnotes.core.processes import PROGRESS_VARIABLE, THREAD_VARIABLES, granted_cores
from effnotes.reporting.claims import CLAIM_MIME
from effnotes.reporting.tables import TABLE_MIME
from effnotes.runner import kernel, keys
from effnotes.runner.parameters import check_reached
from effnotes.runner.project import INJECTED, Chapter
from effnotes.runner.scrub import private_paths, scrub, scrub_output
from effnotes.runner.watch import Report, Watch

_KERNEL_SPEC = {"name": "python3", "display_name": "Python 3", "language": "python"}
_ANSI = re.compile(r"\x1b\[[0-9;]*m")
_LONGEST_SOCKET_BASE = 60  # characters; a socket's whole address may have about a hundred


class RunRequest(TypedDict):
    """All that a run needs; plain data."""

    chapter: str
    source: str  # of the chapter, py:percent
    key: str
    key_parts: dict[str, str]
    profile: str
    parameters: list[dict[str, Any]]  # name, annotation, default, value, help
    packages: list[str]  # distributions whose versions the record states
    claims: list[dict[str, Any]]  # the chapter's entries of the claim register
    library: str  # digest of the code that the chapter depends on, which a worker elsewhere must share
    commit: dict[str, Any] | None
    patience_s: float  # how long nothing may happen in a cell
    cell_timeout_s: int | None  # how long a cell may run whatever happens; None: without limit
    threads: int
    directory: str | None  # working directory of the kernel; None: one of its own
    cache_dir: str | None  # where the chapter keeps finished parts, to resume after a kill


class LibraryMismatchError(RuntimeError):
    """The code that the chapter depends on is not what the build was planned with."""


class IdleCellError(RuntimeError):
    """Nothing has happened in a cell for longer than the patience of the run."""


def execute_chapter(
    task: RunRequest, progress: Report | None = None, gpu: str | None = None, abandoned: Callable[[], bool] | None = None
) -> tuple[bytes, dict[str, Any]]:
    """Execute a chapter and return the notebook, as bytes of an ``.ipynb`` file, and its record.

    An error in a cell is no exception here: the record then has the status ``failed`` and says which cell, line and error. Where a
    cell tagged ``check`` raised a `ValueError`, the chapter has refused its parameters, and the status is ``refused``.

    Args:
        task: the plan of the run.
        progress: told how far the run is, now and then.
        gpu: index of the GPU that this run may use, where there are several.
        abandoned: asked now and then whether nobody waits for the result any more; the kernel is stopped then.

    Raises:
        RuntimeError: other values than the task's reached the kernel.
        LibraryMismatchError: the code that the chapter depends on differs here from what the task was planned with, or was changed
            during the run.
    """
    chapter = Chapter(task["chapter"], "", task["source"])
    # On the machine that planned the run the files are the same, and reading them would hold up a refusal.
    if task["directory"] is None and keys.chapter_closure(chapter).digest != task["library"]:
        other = "this worker has another version of effnotes or of Python than the build was planned with"
        raise LibraryMismatchError(f"{other}; install the same checkout on every worker and start them again")
    from nbformat import writes

    notebook = chapter.notebook()
    notebook.metadata["kernelspec"] = dict(_KERNEL_SPEC)
    started, clock = datetime.now(UTC), time.monotonic()
    # For sockets and scratch files, with a path short enough for a socket's address.
    base = "/tmp" if len(tempfile.gettempdir()) > _LONGEST_SOCKET_BASE else None
    with tempfile.TemporaryDirectory(prefix="effnotes-", dir=base, ignore_cleanup_errors=True) as folder:
        private = Path(folder)
        watch = Watch(private / "jobs.jsonl", task["patience_s"], progress, abandoned)
        executed, error = _run_notebook(notebook, task, private, watch, gpu)
    code = [cell for cell in executed.cells if cell.cell_type == "code"]
    own = _own(executed)
    if error is None:
        declaring = [cell.source for cell in code if {"parameters", INJECTED}.intersection(cell.metadata.get("tags", []))]
        check_reached(declaring, task["parameters"])
    failed = own[error["cell"] - 1].metadata.get("tags", []) if error and error["cell"] else []
    refused = error is not None and "check" in failed and error["name"] == watch.told.get("refusal")
    if not refused and keys.chapter_closure(chapter).digest != task["library"]:
        raise LibraryMismatchError("the source of effnotes was changed during the run; run the chapter again")
    tables, repeated = _tables(own, chapter)
    error = error or repeated
    timed = [(index, cell.metadata.get("papermill", {})) for index, cell in enumerate(executed.cells) if cell.cell_type == "code"]
    record: dict[str, Any] = {
        "format": keys.RECORD_FORMAT,
        **{field: dict(task)[field] for field in ("chapter", "key", "key_parts", "profile", "parameters", "commit")},
        "status": "refused" if refused else "failed" if error else "finished",
        "seeds": _seeds(task["parameters"]),
        "environment": _environment(task, watch.told.get("device")),
        "started": started.isoformat(timespec="seconds"),
        "duration_s": round(time.monotonic() - clock, 1),
        "peak_memory_bytes": watch.peak_bytes,
        "jobs": watch.jobs(),
        "cells": [{"index": index, "duration_s": noted.get("duration")} for index, noted in timed],
        "claims": _shown(own, CLAIM_MIME),
        "tables": tables,
        "error": error,
    }
    for item in (executed, *executed.cells):
        item.metadata.pop("papermill", None)
        item.metadata.pop("execution", None)
    # A refusal is kept nowhere, and tells whoever gave a path that very path.
    replacements = [] if refused else private_paths(task["directory"], task["cache_dir"], task["parameters"])
    for cell in code:
        cell.outputs = [scrub_output(output, replacements) for output in cell.outputs]
        if INJECTED in cell.metadata.get("tags", []):
            cell.source = scrub(cell.source, replacements)
    return writes(executed).encode(), scrub(record, replacements)


def overridden(parameters: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the values that differ from their defaults, also where only the type does, as 1.0 from 1."""
    return {item["name"]: item["value"] for item in parameters if json.dumps(item["value"]) != json.dumps(item["default"])}


def _run_notebook(
    notebook: Any, task: RunRequest, private: Path, watch: Watch, gpu: str | None
) -> tuple[Any, dict[str, Any] | None]:
    """Execute `notebook` with papermill; return it with its outputs, and the error if there was one."""
    import nbformat
    import papermill
    from nbclient.exceptions import CellTimeoutError
    from traitlets.config import Config

    total, done = sum(cell.cell_type == "code" for cell in notebook.cells), itertools.count(1)
    register = private / "claims.yaml"
    register.write_text(json.dumps(task["claims"]), encoding="utf-8")  # JSON is YAML
    kernel_environment = {
        **dict.fromkeys(THREAD_VARIABLES, str(task["threads"])),
        "EFFNOTES_CLAIMS": str(register),
        PROGRESS_VARIABLE: str(private / "jobs.jsonl"),
        # A reader's own start-up files must not change what a chapter shows.
        "IPYTHONDIR": str(private / "ipython"),
        "PYTHONHASHSEED": "0",
        "MPLBACKEND": "module://matplotlib_inline.backend_inline",
        # tqdm warns where a notebook has no widgets; pages have none.
        "PYTHONWARNINGS": ",".join(filter(None, (os.environ.get("PYTHONWARNINGS"), "ignore:IProgress not found"))),
    }
    given = {"EFFNOTES_CACHE_DIR": task["cache_dir"], "CUDA_VISIBLE_DEVICES": gpu}
    kernel_environment |= {name: value for name, value in given.items() if value is not None}
    output_path, kernel_log = private / "executed.ipynb", private / "kernel.log"
    # What goes wrong is in the record; the same told by the libraries' loggers would only tear the progress bars.
    logging.getLogger("papermill").setLevel(logging.CRITICAL + 1)
    exception: Exception | None = None
    try:
        papermill.execute_notebook(
            notebook,
            output_path,
            parameters=overridden(task["parameters"]),
            kernel_name="python3",
            language="python",
            progress_bar=False,
            execution_timeout=task["cell_timeout_s"],
            # On a busy machine a kernel may take long to start, and to hand over what it has shown.
            start_timeout=max(60, int(task["patience_s"])),
            iopub_timeout=max(60, int(task["patience_s"])),
            stdout_file=watch,
            stderr_file=watch,
            resources={"metadata": {"path": task["directory"] or str(private)}},
            kernel_manager_class=_kernel_manager_class(kernel_environment, kernel_log, watch),
            # Parallel kernels on the IPC transport need an address each, or they share a socket.
            config=Config({"KernelManager": {"transport": "ipc", "ip": str(private / "kernel")}}),
            on_cell_executed=lambda **_: watch.cell(min(next(done), total), total),
        )
    except Exception as error:  # of a cell, or a kernel that died or did not start
        if isinstance(error, OSError) and not isinstance(error, CellTimeoutError):
            raise  # a full disk is the build's to report, not a fault of the chapter
        exception = error
    finally:
        watch.stop()
    executed = nbformat.read(output_path, as_version=4) if output_path.is_file() else notebook
    if exception is None:
        return executed, None
    # papermill puts a banner above the failed cell, which is for people who read the notebook alone.
    executed.cells = [cell for cell in executed.cells if "papermill-error-cell-tag" not in cell.metadata.get("tags", [])]
    if watch.idle:
        idle = "no job was finished, nothing was printed, and no processor time was used. To wait longer, give --patience MINUTES"
        exception = IdleCellError(f"nothing has happened for {task['patience_s'] / 60:g} minutes: {idle}")
    return executed, _describe_error(
        executed, Chapter("", "", task["source"]), exception, "" if watch.idle else _last_line(kernel_log)
    )


def _describe_error(executed: Any, chapter: Chapter, exception: Exception, last_words: str) -> dict[str, Any]:
    """Say in plain data which cell failed, on which line of the chapter's source, and why.

    Args:
        executed: the notebook with what papermill noted about each cell.
        chapter: its source.
        exception: what ended the execution.
        last_words: the last line that the kernel's process wrote itself.
    """
    own = _own(executed)
    begun = [number for number, cell in enumerate(own, start=1) if cell.metadata.get("papermill", {}).get("start_time")]
    failed = own[begun[-1] - 1] if begun else None
    output = next((item for item in (failed.outputs if failed else ()) if item.output_type == "error"), None)
    if isinstance(exception, TimeoutError):  # the cell was interrupted, and says no more than that
        name, message = type(exception).__name__, "the cell took longer than `cell_timeout_s` of its profile allows"
    elif output is not None:
        name, message = str(output.ename), str(output.evalue)
    else:
        name, message = type(exception).__name__, str(exception).strip() + (f" ({last_words})" if last_words else "")
    said = {"name": name, "message": _ANSI.sub("", message)}
    if failed is None:
        return {**said, "cell": None, "line": None, "source": None}
    traceback = _ANSI.sub("", "\n".join(output.traceback if output is not None else ()))
    # A chained exception starts in another cell's function: only the frames of the failed cell count.
    frames = rf"Cell In\[{failed.execution_count}\], line (\d+)", r"File <[^>]*>:(\d+)"
    match = next(filter(None, (re.search(frame, traceback) for frame in frames)), None)
    offset = int(match.group(1)) if match else 1
    lines = failed.source.splitlines()
    shown = lines[offset - 1].strip() if 0 < offset <= len(lines) else None
    start = chapter.first_line(begun[-1])
    return {**said, "cell": begun[-1], "line": start and start + offset - 1, "source": shown, "cells": len(own)}


def _own(notebook: Any) -> list[Any]:
    """Return the code cells of the chapter, without that of the values that override defaults."""
    return [cell for cell in notebook.cells if cell.cell_type == "code" and INJECTED not in cell.metadata.get("tags", [])]


def _last_line(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").split("\n") if log.is_file() else []
    return next((line.strip() for line in reversed(lines) if line.strip()), "")


def _kernel_manager_class(added: dict[str, str], log: Path, watch: Watch) -> type:
    """Return a kernel manager that starts this very interpreter, with `added` to its environment, whatever kernels there are."""
    from jupyter_client.kernelspec import KernelSpec
    from jupyter_client.manager import AsyncKernelManager

    class SlotKernelManager(AsyncKernelManager):
        """A kernel of the interpreter that runs the book, in the environment of its slot."""

        @property
        def kernel_spec(self) -> KernelSpec:
            start = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
            return KernelSpec(argv=[*start, f"--IPKernelApp.extra_extensions={kernel.__name__}"], **_KERNEL_SPEC)

        async def _async_launch_kernel(self, kernel_cmd: list[str], **kw: Any) -> None:
            with log.open("w", encoding="utf-8") as output:
                await super()._async_launch_kernel(
                    kernel_cmd, **kw | {"env": kw["env"] | added, "stdout": output, "stderr": output}
                )
            started: Any = self.provisioner
            watch.start(started.pid)

    return SlotKernelManager


def _shown(cells: Iterable[Any], kind: str) -> list[Any]:
    """Return what the outputs of a MIME type hold."""
    return [output["data"][kind] for cell in cells for output in cell.outputs if kind in output.get("data", {})]


def _environment(task: RunRequest, device: str | None) -> dict[str, Any]:
    """Return what a run had: Python, platform, device, cores, memory, threads and versions; nothing in it names the machine."""
    return {
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "device": device,
        "cores": granted_cores(),
        "memory_bytes": psutil.virtual_memory().total,
        "threads": task["threads"],
        "packages": {name: metadata.version(name) for name in task["packages"]},
    }


def _tables(own: list[Any], chapter: Chapter) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """Return the tables that the chapter's `own` code cells keep, by name, and the error where a name is used a second time."""
    tables: dict[str, Any] = {}
    for number, cell in enumerate(own, start=1):
        for payload in _shown([cell], TABLE_MIME):
            name = payload["name"]
            if name in tables:
                message = f"the table '{name}' is kept a second time; keep a table once, under a name of its own"
                place = {"cell": number, "cells": len(own), "line": chapter.first_line(number), "source": None}
                return tables, {"name": "TableError", "message": message, **place}
            tables[name] = {"columns": payload["columns"], "data": payload["data"]}
    return tables, None


def _seeds(parameters: list[dict[str, Any]]) -> list[int]:
    """Return the values of the parameters called ``seed`` or ``seeds``."""
    values = [item["value"] for item in parameters if item["name"].lower() in {"seed", "seeds"} and item["value"] is not None]
    return [seed for value in values for seed in (value if isinstance(value, list) else [value])]
