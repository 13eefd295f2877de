"""A chapter in another folder: with the installed package alone it finds what it reads, without a checkout."""

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from effnotes.runner.project import Project

PROJECT = Project.find(Path(__file__))

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


@pytest.mark.slow
def test_pages_run_in_an_empty_folder_with_the_wheel_alone(tmp_path):
    """Chapters up to the cell that checks their parameters, which reads their data; pages that are drawn from a record wholly."""
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path / "dist")]
    subprocess.run(command, cwd=PROJECT.root, check=True, capture_output=True)
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    package, empty = tmp_path / "package", tmp_path / "empty"
    zipfile.ZipFile(wheel).extractall(package)
    empty.mkdir()
    pages = {}
    for page in PROJECT.chapters.values():
        checks = [number for number, (_, tags) in enumerate(page.code) if "check" in tags]
        if checks or page.name in ("model_editing_full", "personalization_smollm2"):
            pages[page.name] = [source for source, _ in page.code[: checks[-1] + 1 if checks else None]]
    assert len(pages) == 6
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
