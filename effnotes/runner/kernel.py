"""An IPython extension by which a kernel tells its runner, after each cell, what it computes with and whether it refused.

A kernel's own report of an error names its class alone, and only the kernel knows what that class derives from.
"""

from typing import Any

from effnotes.core.processes import device, tell


def load_ipython_extension(shell: Any) -> None:
    """Look at the outcome of each cell that `shell` runs; IPython calls this."""
    shell.events.register("post_run_cell", _tell_of_cell)


def _tell_of_cell(result: Any) -> None:
    error = result.error_in_exec
    refusal = type(error).__name__ if isinstance(error, ValueError) else None
    tell({"cell": {"device": device(), "refusal": refusal}})
