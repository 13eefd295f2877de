"""What a kernel ran on, told by the kernel itself at the end of a run."""

import os
import platform
from collections.abc import Iterable
from importlib import metadata
from typing import Any

import psutil

from effnotes.core.processes import device, granted_cores

MIME_TYPE = "application/vnd.effnotes.environment+json"


def environment(packages: Iterable[str]) -> dict[str, Any]:
    """Return Python, platform, device, cores, memory, threads and the versions of `packages`; nothing that names the machine."""
    return {
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "device": device(),
        "cores": granted_cores(),
        "memory_bytes": psutil.virtual_memory().total,
        "threads": int(os.environ.get("OMP_NUM_THREADS") or os.cpu_count() or 1),
        "packages": {name: metadata.version(name) for name in packages},
    }


def display_environment(packages: Iterable[str]) -> None:
    """Show `environment` as an output of the running notebook, for the runner to take out again."""
    from IPython.display import display

    display({MIME_TYPE: environment(packages)}, raw=True)
