"""Run one chapter in a kernel of its own and return the executed notebook with its record.

`execute_chapter` takes text and a plain dictionary and returns bytes and a plain dictionary, so that it runs alike in a process on
this machine and on a worker of a cluster that shares no file system with it.
"""

import json
import logging
import os
import platform
import re
import signal
import sys
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any, TypedDict

import psutil

from effnotes.core.files import errors_name
from effnotes.core.processes import PROGRESS_VARIABLE, THREAD_VARIABLES, granted_cores
from effnotes.reporting.claims import CLAIM_MIME
from effnotes.reporting.findings import FINDING_MIME
from effnotes.reporting.metrics import METRIC_MIME
from effnotes.reporting.tables import TABLE_MIME
from effnotes.runner import kernel, keys
from effnotes.runner.errors import with_disk_remedy
from effnotes.runner.outputs import STYLE, is_empty, limit_outputs, printable
from effnotes.runner.parameters import check_reached
from effnotes.runner.project import INJECTED, Chapter
from effnotes.runner.scratch import scratch_folder
from effnotes.runner.scrub import private_paths, scrub, scrub_output
from effnotes.runner.watch import Report, Watch

_KERNEL_SPEC = {"name": "python3", "display_name": "Python 3", "language": "python"}
_NO_LIMIT_S = 10**9
_NOWHERE = {"cell": None, "line": None, "source": None}


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
    command: str  # that runs it again
    commit: dict[str, Any] | None
    patience_s: float  # how long nothing may happen in a cell
    cell_timeout_s: int | None  # how long a cell may run whatever happens; None: without limit
    threads: int
    directory: str | None  # working directory of the kernel; None: one of its own
    cache_dir: str | None  # where the chapter keeps finished parts, to resume after a kill


class LibraryMismatchError(RuntimeError):
    """The code that the chapter depends on is not what the build was planned with."""


def execute_chapter(
    task: RunRequest, progress: Report | None = None, gpu: str | None = None, abandoned: Callable[[], bool] | None = None
) -> tuple[bytes, dict[str, Any]]:
    """Execute a chapter and return the notebook, as bytes of an ``.ipynb`` file, and its record.

    The status of a record is ``finished`` where every code cell was run, in order, and none raised, `SystemExit` included. An error
    in a cell is no exception here: the record then has the status ``failed`` and says which cell, line and error. Where a cell
    tagged ``check`` raised a `ValueError`, the chapter has refused its parameters, and the status is ``refused``.

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
    with scratch_folder(task["directory"] or sys.prefix) as private:
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
    reported, repeated = _reported(own, chapter)
    error = error or repeated
    timed = [(index, cell.metadata.get("papermill", {})) for index, cell in enumerate(executed.cells) if cell.cell_type == "code"]
    record: dict[str, Any] = {
        "format": keys.RECORD_FORMAT,
        **{field: dict(task)[field] for field in ("chapter", "key", "key_parts", "profile", "parameters", "command", "commit")},
        "status": "refused" if refused else "failed" if error else "finished",
        "seeds": _seeds(task["parameters"]),
        "environment": _environment(task, watch.told.get("device")),
        "started": started.isoformat(timespec="seconds"),
        "duration_s": round(time.monotonic() - clock, 1),
        "peak_memory_bytes": watch.peak_bytes,
        "jobs": watch.jobs(),
        "cells": [{"index": index, "duration_s": noted.get("duration")} for index, noted in timed],
        "claims": _shown(own, CLAIM_MIME),
        **reported,
        "error": error,
    }
    for item in (executed, *executed.cells):
        item.metadata.pop("papermill", None)
        item.metadata.pop("execution", None)
    # A refusal is kept nowhere, and tells whoever gave a path that very path.
    replacements = [] if refused else private_paths(task["directory"], task["cache_dir"], task["parameters"])
    replacements = replacements and [(str(private), "<temporary directory>"), *replacements]
    for cell in code:
        cell.outputs = [scrub_output(output, replacements) for output in cell.outputs if not is_empty(output)]
        if INJECTED in cell.metadata.get("tags", []):
            cell.source = scrub(cell.source, replacements)
    # What UTF-8 cannot hold becomes an escape, which JSON reads as the same.
    return writes(executed).encode(errors="backslashreplace"), scrub(record, replacements)


def overridden(parameters: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the values that differ from their defaults, also where only the type does, as 1.0 from 1."""
    return {item["name"]: item["value"] for item in parameters if json.dumps(item["value"]) != json.dumps(item["default"])}


def _run_notebook(
    notebook: Any, task: RunRequest, private: Path, watch: Watch, gpu: str | None
) -> tuple[Any, dict[str, Any] | None]:
    """Execute `notebook` with papermill; return it with its outputs, and the error if there was one."""
    import papermill
    from nbclient.exceptions import CellExecutionError, CellTimeoutError
    from papermill.engines import papermill_engines
    from traitlets.config import Config

    register = private / "claims.yaml"
    register.write_text(json.dumps(task["claims"]), encoding="utf-8")  # JSON is YAML
    kernel_environment = {
        **dict.fromkeys(THREAD_VARIABLES, str(task["threads"])),
        "EFFNOTES_CLAIMS": str(register),
        PROGRESS_VARIABLE: str(private / "jobs.jsonl"),
        # A reader's own start-up files must not change what a chapter shows.
        "IPYTHONDIR": str(private / "ipython"),
        # What a killed kernel leaves is swept with the rest.
        "TMPDIR": str(private),
        "PYTHONHASHSEED": "0",
        "MPLBACKEND": "module://matplotlib_inline.backend_inline",
        # tqdm warns where a notebook has no widgets; pages have none.
        "PYTHONWARNINGS": ",".join(filter(None, (os.environ.get("PYTHONWARNINGS"), "ignore:IProgress not found"))),
    }
    given = {"EFFNOTES_CACHE_DIR": task["cache_dir"], "CUDA_VISIBLE_DEVICES": gpu}
    kernel_environment |= {name: value for name, value in given.items() if value is not None}
    kernel_log = private / "kernel.log"
    # What goes wrong is in the record; the same told by the libraries' loggers would only tear the progress bars.
    logging.getLogger("papermill").setLevel(logging.CRITICAL + 1)
    papermill_engines.register("effnotes", _engine())
    # Parallel kernels on the IPC transport need an address each, or they share a socket.
    paths = {"transport": "ipc", "ip": str(private / "kernel"), "connection_file": str(private / "kernel.json")}
    total, ran = sum(cell.cell_type == "code" for cell in notebook.cells), 0
    raised, traceback = dict[str, Any](), list[str]()

    def settle(cell: Any, execute_reply: dict[str, Any], **_: Any) -> None:
        """Look at a cell that has run: neither nbclient nor papermill takes all of these for failures."""
        nonlocal ran
        ran += 1
        watch.cell(min(ran, total), total)
        reply = execute_reply["content"]
        shown = [output for output in cell.outputs if output.output_type == "error"]
        if shown or reply["status"] != "ok":
            report = shown[-1] if shown else reply
            raised["name"], raised["message"] = (printable(report.get(part, "")) for part in ("ename", "evalue"))
            traceback.extend(report.get("traceback", ()))
        limit_outputs(cell.outputs)
        if raised:
            raise CellExecutionError("", *raised.values())

    exception: Exception | None = None
    try:
        with errors_name(private):
            papermill.execute_notebook(
                notebook,
                None,  # before and after each cell it would write the whole notebook, which nobody reads before the end
                engine_name="effnotes",
                parameters=overridden(task["parameters"]),
                kernel_name="python3",
                language="python",
                progress_bar=False,
                execution_timeout=task["cell_timeout_s"],
                # On a busy machine a kernel may take long to start.
                start_timeout=max(60, int(task["patience_s"])),
                # To hand over what was shown may take longer than to compute it; the watch sees whether anything arrives.
                iopub_timeout=_NO_LIMIT_S,
                stdout_file=watch,
                resources={"metadata": {"path": task["directory"] or str(private)}},
                kernel_manager_class=_kernel_manager_class(kernel_environment, kernel_log, watch),
                config=Config({"KernelManager": paths}),
                on_cell_executed=settle,
            )
    except Exception as error:  # of a cell, or a kernel that died or did not start
        if isinstance(error, OSError) and not isinstance(error, CellTimeoutError):
            raise  # a full disk is the build's to report, not a fault of the chapter
        exception = error
    finally:
        watch.stop()
    executed = watch.manager.nb if watch.manager else notebook
    # papermill puts a banner above the failed cell, which is for people who read the notebook alone.
    executed.cells = [cell for cell in executed.cells if "papermill-error-cell-tag" not in cell.metadata.get("tags", [])]
    own = _own(executed)
    begun = [number for number, cell in enumerate(own, start=1) if cell.metadata.get("papermill", {}).get("start_time")]
    if watch.idle:
        idle = "no job was finished, nothing was printed, and no processor time was used. To wait longer, give --patience MINUTES"
        raised = {"name": "IdleCellError", "message": f"nothing has happened for {task['patience_s'] / 60:g} minutes: {idle}"}
    elif exception is not None and not raised:
        raised = {"name": type(exception).__name__, "message": _ended(exception, task, watch, kernel_log)}
    elif not raised and (
        left := [number for number, cell in enumerate(own, 1) if cell.source.strip() and not cell.execution_count]
    ):
        raised, begun = {"name": "CellNotRunError", "message": "the run ended without this cell"}, left[:1]
    elif raised.get("name") == "SystemExit":
        early = "a cell may not end the notebook: raise an error, or put what follows under an `if`"
        raised["message"] = f"{raised['message']} ({early})".lstrip()
    elif raised:
        raised["message"] += printable("".join(f"; {inner}" for inner in watch.told.get("inner", ())))
        raised["message"] = with_disk_remedy(raised["message"])
    place = _place(own, begun[-1], Chapter("", "", task["source"]), watch.told, traceback) if begun else _NOWHERE
    return executed, {**raised, **place} if raised else None


def _ended(exception: Exception, task: RunRequest, watch: Watch, kernel_log: Path) -> str:
    """Say why a run ended of which the kernel has not told any error."""
    from nbclient.exceptions import CellTimeoutError, DeadKernelError

    if isinstance(exception, CellTimeoutError):
        return f"the cell took longer than {task['cell_timeout_s']} s, all that `cell_timeout_s` of its profile allows"
    lines = kernel_log.read_text(encoding="utf-8", errors="replace").split("\n") if kernel_log.is_file() else []
    last = printable(next((line.strip() for line in reversed(lines) if line.strip()), ""))
    said = printable(str(exception).strip())
    if isinstance(exception, DeadKernelError) and watch.process is not None:
        status = watch.process.poll()
        names = {each.value: each.name for each in signal.Signals}  # real-time signals have none
        how = f"left with exit status {status}"
        if status and status < 0:
            how = f"was killed by {names.get(-status, f'signal {-status}')}"
        said = f"its kernel {how}, without an error of Python{', most often for want of memory' if status == -9 else ''}"
    return said + (f" ({last})" if last else "")


def _place(own: list[Any], number: int, chapter: Chapter, told: dict[str, Any], traceback: list[str]) -> dict[str, Any]:
    """Say in plain data which cell failed, and on which line of the chapter's source.

    Args:
        own: the code cells of the chapter.
        number: of the cell, from 1.
        chapter: its source.
        told: what the kernel told after the last cell.
        traceback: of the error, as the notebook shows it; it names lines where the kernel told none.
    """
    cell = own[number - 1]
    found = re.search(rf"Cell In\[{cell.execution_count}\], line (\d+)", STYLE.sub("", "\n".join(traceback)))
    offset = told.get("line") if told.get("count") == cell.execution_count else None
    offset = offset or (int(found[1]) if found else 1)
    lines = cell.source.splitlines()
    shown = lines[offset - 1].strip() if 0 < offset <= len(lines) else None
    start = chapter.first_line(number)
    return {"cell": number, "line": start and start + offset - 1, "source": shown, "cells": len(own)}


def _own(notebook: Any) -> list[Any]:
    """Return the code cells of the chapter, without that of the values that override defaults."""
    return [cell for cell in notebook.cells if cell.cell_type == "code" and INJECTED not in cell.metadata.get("tags", [])]


def _engine() -> type:
    """Return a papermill engine that tells its `stdout_file`, a `Watch`, of all that a kernel shows, not prints alone."""
    from papermill.clientwrap import PapermillNotebookClient
    from papermill.engines import NBClientEngine

    class ToldClient(PapermillNotebookClient):  # type: ignore[misc]  # papermill has no types
        def process_message(self, *arguments: Any, **named: Any) -> Any:
            self.stdout_file.write("")
            return super().process_message(*arguments, **named)

    class ToldEngine(NBClientEngine):  # type: ignore[misc]
        @classmethod
        def execute_managed_notebook(cls, nb_man: Any, kernel_name: str, **options: Any) -> None:
            del options["input_path"]
            options["stdout_file"].manager = nb_man  # papermill hands over no notebook whose kernel has died
            limits = {"startup_timeout": options.pop("start_timeout"), "timeout": options.pop("execution_timeout")}
            ToldClient(nb_man, kernel_name=kernel_name, log=logging.getLogger("papermill"), **limits, **options).execute()

    return ToldEngine


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
            with log.open("w", encoding="utf-8") as out:
                await super()._async_launch_kernel(kernel_cmd, **kw | {"env": kw["env"] | added, "stdout": out, "stderr": out})
            started: Any = self.provisioner
            watch.process = started.process
            watch.start(started.pid)

    return SlotKernelManager


def _shown(cells: Iterable[Any], kind: str) -> list[Any]:
    """Return what the outputs of a MIME type hold."""
    return [output["data"][kind] for cell in cells for output in cell.outputs if kind in output.get("data", {})]


def _environment(task: RunRequest, device: str | None) -> dict[str, Any]:
    """Return what a run had: Python, platform, device, cores, memory, threads and versions; nothing in it names the machine."""
    packages = {name: metadata.version(name) for name in task["packages"]}
    found = {"python": platform.python_version(), "platform": f"{platform.system()} {platform.machine()}", "packages": packages}
    memory = psutil.virtual_memory().total
    return found | {"device": device, "cores": granted_cores(), "memory_bytes": memory, "threads": task["threads"]}


def _reported(own: list[Any], chapter: Chapter) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """Return what the chapter's `own` code cells report beside claims, and the error where something is reported a second time.

    Returns:
        ``tables`` and ``metrics`` by name, and ``found``, for the top of the page: sentences with the claim of each; the error or
        None.
    """
    tables, metrics, found = dict[str, Any](), dict[str, Any](), list[dict[str, str]]()
    reported = {"metrics": metrics, "tables": tables, "found": found}
    for number, cell in enumerate(own, start=1):
        place = {"cell": number, "cells": len(own), "line": chapter.first_line(number), "source": None}
        for kind, held, once in ((TABLE_MIME, tables, "table"), (METRIC_MIME, metrics, "metric")):
            for payload in _shown([cell], kind):
                if (name := payload["name"]) in held:
                    message = f"the {once} '{name}' is kept a second time; keep a {once} once, under a name of its own"
                    return reported, {"name": f"{once.title()}Error", "message": message, **place}
                held[name] = {field: value for field, value in payload.items() if field != "name"}
        for payload in _shown([cell], FINDING_MIME):
            if payload["place"] == "page":
                if found:
                    message = "what was found is said a second time; call what_we_found once, with all its sentences"
                    return reported, {"name": "FindingError", "message": message, **place}
                pairs = zip(payload["sentences"], payload["claims"], strict=True)
                found += [{"sentence": sentence, "claim": claim} for sentence, claim in pairs]
    return reported, None


def _seeds(parameters: list[dict[str, Any]]) -> list[int]:
    """Return the values of the parameters called ``seed`` or ``seeds``."""
    values = [item["value"] for item in parameters if item["name"].lower() in {"seed", "seeds"} and item["value"] is not None]
    return [seed for value in values for seed in (value if isinstance(value, list) else [value])]
