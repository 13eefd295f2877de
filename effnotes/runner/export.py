"""Write worksheets or slides of chapters to a folder that then stands by itself."""

import os
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, TypeAlias

from effnotes.core.files import new_folder
from effnotes.runner.errors import UsageError
from effnotes.runner.exercises import Worksheet, read_worksheet, worksheets
from effnotes.runner.install import install_cell
from effnotes.runner.project import Project
from effnotes.runner.slides import write_slides

Format: TypeAlias = Literal["ipynb", "py", "slides"]

_DATA = re.compile(r'"(data/[\w./-]+)"')  # a file or folder that a setup reads


def export_chapters(project: Project, names: Sequence[str], target: Path, *, teacher: bool, form: Format) -> list[Path]:
    """Write worksheets or slides of chapters to a folder, with all that they need; nothing is there before all is.

    Args:
        project: the checkout.
        names: of chapters; none means all that have a worksheet.
        target: the folder; missing or empty.
        teacher: whether worksheets hold answers and notes on marking.
        form: ``ipynb`` or ``py`` for worksheets, ``slides`` for slides.

    Returns:
        The worksheets or slides.

    Raises:
        DataError: the folder holds something.
        UsageError: there is no such chapter, it has no worksheet, or no finished run to show on slides.
    """
    target = new_folder(target).resolve()
    names = list(dict.fromkeys(names)) or worksheets(project)
    if not names:
        raise UsageError("no chapter has a worksheet; write one, book/exercises/CHAPTER.py.")
    sheets = [read_worksheet(project, name) for name in names]
    partial = target.with_name(f".{target.name}-{os.getpid()}")
    try:
        partial.mkdir(parents=True)
        if form == "slides":
            written = write_slides(project, sheets, partial)
        else:
            written = [_write(project, each, partial, teacher, form) for each in sheets]
        if target.is_dir():  # somebody may stand in it
            for path in partial.iterdir():
                path.replace(target / path.name)
        else:
            partial.replace(target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return [target / path.name for path in written]


def _write(project: Project, sheet: Worksheet, folder: Path, teacher: bool, form: Format) -> Path:
    import jupytext

    name = sheet.chapter.name
    path = folder / f"{name}.{form}"
    notebook = sheet.notebook(teacher)
    notebook.cells.insert(0, install_cell(project))
    path.write_text(jupytext.writes(notebook, fmt="py:percent" if form == "py" else form), encoding="utf-8")
    (folder / f"{name}_checks.py").write_text(sheet.check_module(), encoding="utf-8")
    for place in dict.fromkeys(_DATA.findall(sheet.setup)):
        source = project.root / place
        (folder / place).parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, folder / place, dirs_exist_ok=True)
        elif source.is_file():
            shutil.copy(source, folder / place)
        else:
            raise UsageError(f"book/exercises/{name}.py reads {place}, which is missing from the checkout.")
    return path
