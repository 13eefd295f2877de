"""A chapter in another folder: with the installed package alone it finds what it reads, without a checkout."""

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from effnotes.runner.project import Project

PROJECT = Project.find(Path(__file__))
N_CLAIMS = len(json.loads((PROJECT.root / "data/records/model_editing/full.json").read_text())["claims"])

RUN = """
import json, sys
import effnotes
assert effnotes.__file__.startswith(sys.argv[1]), effnotes.__file__
for name, cells in json.load(sys.stdin).items():
    namespace = {}
    for source in cells:
        exec(compile(source, name, "exec"), namespace)
    print("ran", name)
"""

READING = """\
# %% [markdown]
# # Reading

# %%
import effnotes
from effnotes.reporting.kept import read_record

print(effnotes.__file__)
print(len(read_record("data/records/model_editing/full.json").claims), "claims")
"""


@pytest.fixture(scope="module")
def package(tmp_path_factory) -> Path:
    """A folder with what the wheel installs, and nothing of the checkout."""
    folder = tmp_path_factory.mktemp("installed")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder / "dist")]
    subprocess.run(command, cwd=PROJECT.root, check=True, capture_output=True)
    (wheel,) = (folder / "dist").glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert not [name for name in names if "share/jupyter" in name], "whoever uses the library keeps the settings of JupyterLab"
    zipfile.ZipFile(wheel).extractall(folder / "package")
    return folder / "package"


@pytest.mark.slow
def test_a_downloaded_notebook_runs_in_an_empty_folder_with_the_wheel_alone(book, package, tmp_path, monkeypatch):
    book.add("reading", READING)
    done = book.effnotes("build")
    assert done.returncode == 0, done.stdout
    pages = book.root / "_build" / "html"
    assert "What this notebook needs" not in (pages / "book" / "reading.html").read_text(), "the page does not show the first cell"
    written = book.effnotes("run", "reading", "--out", "out")
    assert written.returncode == 0, written.stdout
    empty = tmp_path / "empty"
    empty.mkdir()
    monkeypatch.setenv("PYTHONPATH", str(package))
    for path in (pages / "_sources" / "book" / "reading.ipynb", book.root / "out" / "reading.ipynb"):
        notebook = nbformat.read(path, as_version=4)
        NotebookClient(notebook, timeout=60, resources={"metadata": {"path": str(empty)}}).execute()
        first, reading = (cell for cell in notebook.cells if cell.cell_type == "code")
        assert "What this notebook needs: effnotes" in first.source
        assert first.outputs == []
        assert reading.outputs[0].text.splitlines() == [str(package / "effnotes" / "__init__.py"), f"{N_CLAIMS} claims"]
    assert not list(empty.iterdir())


@pytest.mark.slow
def test_pages_run_in_an_empty_folder_with_the_wheel_alone(package, tmp_path):
    """Chapters up to the cell that checks their parameters, which reads their data; pages that are drawn from a record wholly."""
    empty = tmp_path / "empty"
    empty.mkdir()
    pages = {}
    for page in PROJECT.chapters.values():
        checks = [number for number, (_, tags) in enumerate(page.code) if "check" in tags]
        if checks or page.name in ("model_editing_full", "personalization_smollm2"):
            pages[page.name] = [source for source, _ in page.code[: checks[-1] + 1 if checks else None]]
    assert len(pages) == 10
    environment = os.environ | {"PYTHONPATH": str(package), "MPLBACKEND": "agg"}
    done = subprocess.run(
        [sys.executable, "-c", RUN, str(package)],
        cwd=empty,
        input=json.dumps(pages),
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert [line for line in done.stdout.splitlines() if line.startswith("ran ")] == [f"ran {name}" for name in pages]
    assert not [path for path in empty.rglob("*") if path.is_file()]
