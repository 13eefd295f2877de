"""What a kernel ran on, told by the kernel itself at the end of a run."""

import os
import platform
import sys
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path
from typing import Any

import psutil

from effnotes.core.processes import granted_cores

MIME_TYPE = "application/vnd.effnotes.environment+json"


def environment(packages: Iterable[str]) -> dict[str, Any]:
    """Return Python, platform, device, cores, memory, threads and the versions of `packages`; nothing that names the machine."""
    return {
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "device": _device(),
        "cores": granted_cores(),
        "memory_bytes": psutil.virtual_memory().total,
        "threads": int(os.environ.get("OMP_NUM_THREADS") or os.cpu_count() or 1),
        "packages": {name: metadata.version(name) for name in packages},
    }


def display_environment(packages: Iterable[str]) -> None:
    """Show `environment` as an output of the running notebook, for the runner to take out again."""
    from IPython.display import display

    display({MIME_TYPE: environment(packages)}, raw=True)


def _device() -> str:
    # Only a chapter that has used torch can have used a GPU, and only then is its import free.
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        return f"GPU: {torch.cuda.get_device_name()}"
    return f"CPU: {_processor()}"


def _processor() -> str:
    information = Path("/proc/cpuinfo")
    if information.is_file():
        for line in information.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
