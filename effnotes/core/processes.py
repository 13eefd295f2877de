"""What processes need that are started side by side: their share of the cores, what they run on, an end when their parent ends."""

import contextlib
import json
import multiprocessing
import os
import platform
import sys
import threading
from collections.abc import Mapping
from multiprocessing import connection
from pathlib import Path
from typing import Any

THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
"""Environment variables that say how many threads a process computes with; libraries read them once, at their import."""

PROGRESS_VARIABLE = "EFFNOTES_PROGRESS"
"""Environment variable that names a file to which a process tells who watches it what happens, a JSON object a line; see `tell`.

`effnotes.core.jobs.run_jobs` tells ``{"jobs": n}`` when a call begins, and for each job ``{"reused": made}`` or
``{"computed": made}``, where ``made`` says when, in how many seconds and on what machine the result was computed."""


PARTS_VARIABLE = "EFFNOTES_PROGRESS_OF_PARTS"
"""Environment variable that names the same file to a process that runs jobs, which tells only how far its present one is."""


def available_cores() -> int:
    """Return the number of cores that this process may use: `OMP_NUM_THREADS` where it is set, else what the system grants."""
    configured = os.environ.get("OMP_NUM_THREADS", "")
    return int(configured) if configured.isdigit() and int(configured) else granted_cores()


def granted_cores() -> int:
    """Return the number of cores that the system grants this process."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def tell(event: Mapping[str, Any], variable: str = PROGRESS_VARIABLE) -> None:
    """Tell who watches this process, if anybody does, what happened; the environment variable names the file."""
    if path := os.environ.get(variable):
        with contextlib.suppress(OSError), Path(path).open("a", encoding="utf-8") as file:
            file.write(json.dumps(event) + "\n")


def tell_part(done: int, planned: int) -> None:
    """Tell who watches the jobs, if anybody does, how many parts of this process's job are done, of so many planned."""
    tell({"part": {"by": os.getpid(), "share": min(1.0, done / planned)}}, PARTS_VARIABLE)


def tell_parts_only() -> None:
    """Let this process, which runs jobs, tell nothing but how far its present one is."""
    if path := os.environ.pop(PROGRESS_VARIABLE, None):
        os.environ[PARTS_VARIABLE] = path


def device() -> str:
    """Return the GPU or processor that this process computes with, such as ``CPU: Intel Xeon``; nothing names the machine."""
    # Only who has imported torch can have used a GPU, and only then is its import free.
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        return f"GPU: {torch.cuda.get_device_name()}"
    information = Path("/proc/cpuinfo")
    lines = information.read_text(encoding="utf-8").splitlines() if information.is_file() else []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return f"CPU: {next(names, platform.processor() or platform.machine())}"


def exit_with_parent() -> None:
    """Make this child process exit as soon as its parent does, however the parent ends; without effect in no child."""
    threading.Thread(target=_wait_for_parent, daemon=True).start()


def _wait_for_parent() -> None:
    # A worker that waits on a queue holds the queue's other end open itself, so it would never see the queue close.
    parent = multiprocessing.parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os._exit(1)
