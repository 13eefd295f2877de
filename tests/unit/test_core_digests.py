"""What a job and a chapter depend on: what may change without running anything again, and what may not."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from effnotes.core import digests
from effnotes.core.digests import Closure, code_closure, function_closure
from effnotes.runner.project import Project

CHECKOUT = Path(__file__).parents[2]

PACKAGE = {
    "__init__.py": '"""A house."""\n',
    "base.py": '"""Base."""\n\n\ndef one():\n    """One."""\n    return 1  # one\n\n\n'
    'class Two:\n    """Two."""\n\n    value: int = 2\n    """A value."""\n',
    "middle.py": "import json\n\nimport numpy as np\n\nfrom house.base import one\n",
    "figure.py": "import pandas\n",
    "lazy/__init__.py": "from house.lazy_helper import exports\n"
    "_HOMES = {'house.lazy.left': 'left', 'house.lazy.right': 'right'}\n",
    "lazy_helper.py": "exports = None\n",
    "lazy/left.py": "from house import middle\nleft = 1\n",
    "lazy/right.py": "from . import far\nright = 1\n",
    "lazy/far.py": "far = 1\n",
    "late.py": "import importlib\n\n\ndef load():\n    return importlib.import_module('house.figure')\n",
}


@pytest.fixture
def house(tmp_path: Path) -> Path:
    """A small package on the disk."""
    for name, text in PACKAGE.items():
        path = tmp_path / "house" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path / "house"


def closure(house: Path, code: str) -> Closure:
    return code_closure([code], {"house": house})


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


@pytest.mark.parametrize(
    ("code", "modules"),
    [
        ("import house.middle", {"house", "house.base", "house.middle"}),
        ("def late():\n    from house import middle", {"house", "house.base", "house.middle"}),
        (
            "from house.lazy import left",
            {"house", "house.base", "house.middle", "house.lazy", "house.lazy.left", "house.lazy_helper"},
        ),
        ("from house.lazy import right", {"house", "house.lazy", "house.lazy.right", "house.lazy.far", "house.lazy_helper"}),
        ("from house.lazy import far", {"house", "house.lazy", "house.lazy.far", "house.lazy_helper"}),
        ("from house.lazy.far import far", {"house", "house.lazy", "house.lazy.far", "house.lazy_helper"}),
        ("from house import late", {"house", "house.late", "house.figure"}),
        ("%time from house import base", {"house", "house.base"}),
        ("%matplotlib inline\n!ls\nfrom house import base", {"house", "house.base"}),
        ("import numpy\nhouse = 1", set()),
        ("this is no Python", set()),
    ],
)
def test_the_closure_holds_what_is_imported_and_the_packages_that_it_lies_in(house, code, modules):
    assert set(closure(house, code).modules) == modules


@pytest.mark.parametrize("code", ["import house.lazy", "from house import lazy", "from house.lazy import *"])
def test_a_lazy_package_that_is_imported_as_a_whole_brings_all_homes(house, code):
    assert {"house.lazy.left", "house.lazy.right", "house.lazy.far"} <= set(closure(house, code).modules)


def test_packages_are_those_that_the_code_and_its_closure_import(house):
    found = closure(house, "import scipy.stats\nfrom house import middle")
    assert found.imported == {"numpy", "scipy"}
    assert set(found.versions) == {"numpy", "scipy"}
    assert found.versions["numpy"].count(".") >= 1


@pytest.mark.parametrize(
    ("file", "old", "new", "changes"),
    [
        ("base.py", '"""Base."""', '"""Another base."""', False),
        ("base.py", '    """One."""\n', "", False),
        ("base.py", '    """Two."""\n', '    """Two and more."""\n', False),
        ("base.py", '    """A value."""\n', "", False),
        ("base.py", "# one", "# the first", False),
        ("base.py", "\n\n\ndef", "\n\n\n\ndef", False),
        ("figure.py", "pandas", "seaborn", False),
        ("lazy/left.py", "1", "2", False),
        ("base.py", "return 1", "return 1.0", True),
        ("base.py", "value: int = 2", "value: int = 3", True),
        ("middle.py", "import json\n", "", True),
        ("__init__.py", '"""A house."""', "x = 1", True),
    ],
)
def test_only_code_that_is_imported_changes_the_digest(house, file, old, new, changes):
    before = closure(house, "from house import middle").digest
    edit(house / file, old, new)
    assert (closure(house, "from house import middle").digest != before) == changes


def test_a_function_depends_on_its_own_module_wherever_that_lies(house, monkeypatch):
    monkeypatch.syspath_prepend(house.parent)
    (house.parent / "own.py").write_text("from house.lazy import right\n\ndef job():\n    return 1\n")
    import own

    def found() -> Closure:
        return function_closure(own.job, {"house": house})

    before = found()
    assert {"own", "house.lazy.far"} <= set(before.modules)
    edit(house.parent / "own.py", "job():\n", 'job():\n    """A job."""\n')
    assert found().digest == before.digest
    edit(house.parent / "own.py", "return 1", "return 2")
    changed = found().digest
    assert changed != before.digest
    edit(house / "lazy" / "far.py", "1", "2")
    assert found().digest != changed


# --- this checkout ---


def chapter_digest(name: str, package: Path) -> str:
    code = Project.find(CHECKOUT).chapter(name).code
    return code_closure([source for source, _ in code], {"effnotes": package}).digest


@pytest.fixture(scope="module")
def copied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    copy = tmp_path_factory.mktemp("library") / "effnotes"
    shutil.copytree(CHECKOUT / "effnotes", copy, ignore=shutil.ignore_patterns("__pycache__"))
    return copy


@pytest.fixture
def library(copied: Path) -> Iterator[Path]:
    """A copy of the library that a test may change; one for all, for reading it takes a second."""
    before = {path: path.read_bytes() for path in copied.rglob("*.py")}
    yield copied
    for path in copied.rglob("*.py"):
        if path not in before:
            path.unlink()
        elif path.read_bytes() != before[path]:
            path.write_bytes(before[path])


def test_a_change_to_the_bias_metrics_runs_the_chapter_on_bias_and_not_that_on_editing(library):
    bias, editing = (chapter_digest(name, library) for name in ("pruning_bias", "model_editing"))
    path = library / "metrics" / "bias" / "calibration.py"
    text = path.read_text()
    path.write_text('"""Other words."""\n' + text.split('"""', 2)[2] + "\n# A remark.\n")
    assert (chapter_digest("pruning_bias", library), chapter_digest("model_editing", library)) == (bias, editing)
    path.write_text(text + "\n\nLIMIT = 1\n")
    assert chapter_digest("pruning_bias", library) != bias
    assert chapter_digest("model_editing", library) == editing


def test_a_new_loader_and_the_runner_run_no_chapter(library):
    before = {name: chapter_digest(name, library) for name in Project.find(CHECKOUT).chapters}
    (library / "datasets" / "another.py").write_text("def load_another():\n    return 1\n")
    (library / "runner" / "progress.py").write_text("changed = True\n")
    assert {name: chapter_digest(name, library) for name in before} == before


@pytest.mark.parametrize(
    ("edited", "trains_again"),
    [
        ("pruning/schedules.py", True),  # imported through others
        ("core/jobs.py", True),
        ("metrics/editing.py", False),
        ("reporting/figures.py", False),
        ("runner/cli.py", False),
    ],
)
def test_a_training_runs_again_for_what_it_imports_and_for_no_figure(library, edited, trains_again):
    from effnotes.studies.bias.sweep import train_classifiers

    before = function_closure(train_classifiers, {"effnotes": library}).digest
    with (library / edited).open("a") as source:
        source.write("\n# A remark.\n")
    assert function_closure(train_classifiers, {"effnotes": library}).digest == before
    with (library / edited).open("a") as source:
        source.write("\nCHANGED = True\n")
    assert (function_closure(train_classifiers, {"effnotes": library}).digest != before) == trains_again


def test_what_has_been_read_is_not_read_again(library):
    chapter_digest("pruning_bias", library)
    before = digests._parse.cache_info().misses
    chapter_digest("pruning_bias", library)
    assert digests._parse.cache_info().misses == before
