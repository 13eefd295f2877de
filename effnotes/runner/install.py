"""The cell that notebooks begin with which leave the book: it installs the library where it is not there already."""

from pathlib import Path
from typing import Any

import effnotes
from effnotes.runner.project import Project

# A plain process rather than the magic %pip, which a worksheet written as a script could not have.
_CELL = """\
# What this notebook needs: effnotes, the library of the book. Where it is there already, nothing is done.
import subprocess
import sys

try:
    from effnotes import __version__ as found
except ModuleNotFoundError:
    found = "none"
if found != "{version}":
    {remedy}"""

_FROM_REPOSITORY = """\
subprocess.run([sys.executable, "-m", "pip", "install", "effnotes @ git+{url}@{branch}"], check=True)
    sys.modules.pop("effnotes", None)  # another version, which was imported above"""

_BY_HAND = """\
remedy = f"It is on no package index; install it with: {sys.executable} -m pip install PATH/TO/THE/CHECKOUT"
    raise ModuleNotFoundError(f"effnotes {version} is needed, found: {found}. {remedy}")"""


def install_cell(project: Project) -> Any:
    """Return a code cell that installs the library from the book's repository where this version is not importable.

    While the repository has no address, the cell says in an error how to install the library from a checkout.

    Raises:
        UsageError: the address of the repository cannot be used.
    """
    from nbformat.v4 import new_code_cell

    if project.repository is None:
        remedy = _BY_HAND.replace("{version}", effnotes.__version__)
    else:
        url, branch = project.repository
        remedy = _FROM_REPOSITORY.format(url=url, branch=branch)
    return new_code_cell(_CELL.format(version=effnotes.__version__, remedy=remedy), id="install")


def leaving_notebook(project: Project, path: Path) -> bytes:
    """Return the recorded notebook at `path` with that cell in front, so that it runs outside the checkout."""
    import nbformat

    notebook = nbformat.read(path, as_version=4)
    notebook.cells.insert(0, install_cell(project))
    return str(nbformat.writes(notebook)).encode()
