"""What a kernel ran on, told by the kernel itself at the end of a run."""

import os
import platform
from collections.abc import Iterable
from importlib import metadata

import psutil

from effnotes.core.processes import device, granted_cores

MIME_TYPE = "application/vnd.effnotes.environment+json"


def display_environment(packages: Iterable[str]) -> None:
    """Show Python, platform, device, cores, memory, threads and versions as an output of the notebook, for the runner to take out.

    Nothing in it names the machine.
    """
    from IPython.display import display

    environment = {
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "device": device(),
        "cores": granted_cores(),
        "memory_bytes": psutil.virtual_memory().total,
        "threads": int(os.environ.get("OMP_NUM_THREADS") or os.cpu_count() or 1),
        "packages": {name: metadata.version(name) for name in packages},
    }
    display({MIME_TYPE: environment}, raw=True)
