"""A small book of its own for each test of the runner: real files, real commands, real processes."""

import contextlib
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import pytest
from filelock import FileLock
from nbformat import NotebookNode
from PIL import Image, ImageDraw
from typer.testing import CliRunner

from effnotes.runner.build import make_request
from effnotes.runner.cli import app
from effnotes.runner.execute import execute_chapter
from effnotes.runner.plan import plan_chapter
from effnotes.runner.project import Project

if "PYTEST_XDIST_WORKER" in os.environ:
    # Tests side by side: a second thread in each would only wait for the other process. Set before the first import of torch.
    os.environ.setdefault("OMP_NUM_THREADS", "1")

CHECKOUT = Path(__file__).parents[1]


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the files that look at the smoke build last, but for one, which makes it: beside it another process would only wait."""
    asked = {"smoke_build", "site"}
    looking = list(dict.fromkeys(item.path for item in items if asked.intersection(getattr(item, "fixturenames", ()))))
    items.sort(key=lambda item: item.path in looking[1:])


ADDITION = """\
# %% [markdown]
# # Addition
#
# Two numbers are added.

# %% tags=["parameters"]
first: int = 1  # the first number
second: float = 2.0  # the second number
pause_s: float = 0.0  # time that the first cell takes, in seconds
label: str | None = None  # a name for the sum
weights: list[float] = [0.5, 0.5]  # one weight a number

# %%
import time

time.sleep(pause_s)
total = first + second

# %%
print(f"total {total} {label}")
"""

MULTIPLICATION = """\
# %% [markdown]
# # Multiplication

# %% tags=["parameters"]
seeds: list[int] = [1, 2]  # numbers that are multiplied
divide_by: int = 1  # what the product is divided by

# %%
product = 1
for seed in seeds:
    product *= seed

# %%
quotient = (
    product
    / divide_by
)
print("quotient", quotient)
"""


class Book:
    """A checkout of a small book, and the command line run on it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.chapters = {}
        if root.exists():
            return
        (root / "book").mkdir(parents=True)
        for name in ("_config.yml", "book/references.bib"):
            source = CHECKOUT / name
            (root / name).write_text(source.read_text() if source.is_file() else "")
        if (CHECKOUT / "book" / "_static").is_dir():
            shutil.copytree(CHECKOUT / "book" / "_static", root / "book" / "_static")
        (root / "book" / "index.md").write_text("# A small book\n\nFor tests.\n")
        (root / "book" / "claims.yaml").write_text("[]\n")
        self.write_profiles("{}")
        self.add("addition", ADDITION)
        self.add("multiplication", MULTIPLICATION)

    def copy(self, root: Path) -> "Book":
        """Return a book of its own with all that was made of this one."""
        shutil.copytree(self.root, root)
        other = Book(root)
        other.chapters = dict(self.chapters)
        return other

    def add(self, name: str, source: str) -> None:
        (self.root / "book" / f"{name}.py").write_text(source)
        self.chapters[name] = source
        listed = "".join(f"  - file: book/{chapter}\n" for chapter in self.chapters)
        (self.root / "_toc.yml").write_text(f"format: jb-book\nroot: book/index\nchapters:\n{listed}")

    def edit(self, name: str, old: str, new: str) -> None:
        source = self.chapters[name]
        assert old in source
        self.add(name, source.replace(old, new))

    def write_profiles(self, chapters: str) -> None:
        text = "".join(f"{name}:\n  chapters: {chapters}\n" for name in ("smoke", "quick", "full", "paper"))
        (self.root / "book" / "profiles.yaml").write_text(text)

    def register(self, **changes: object) -> None:
        """Register one claim, `sum.grows` of the chapter on addition, with some of its fields changed."""
        entry = {
            "id": "sum.grows",
            "chapter": "addition",
            "statement": "The sum grows.",
            "source": {"key": "nobody2020sum", "kind": "text", "where": "abstract"},
            "published": "2",
            "effect": "a difference",
            "unit": "one",
            "range": None,
            "unit_of_analysis": "seed",
            "direction": "increase",
            "margin": 0.0,
            "interval": "t",
        }
        if not (entry | changes)["margin"]:
            entry["worth_seeing"] = 0.1
        (self.root / "book" / "claims.yaml").write_text(json.dumps([entry | changes]))

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "effnotes.runner.cli", *arguments]

    def start(self, *arguments: str, **options) -> subprocess.Popen:
        """Start the command as from a terminal: a shell has what runs in the background ignore Ctrl-C, and that is inherited."""
        settings = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True, "cwd": self.root}
        settings["preexec_fn"] = lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)
        return subprocess.Popen(self.command(*arguments), **{**settings, "start_new_session": True, **options})

    def effnotes(self, *arguments: str, **options) -> subprocess.CompletedProcess:
        """Run the command to its end; stdout and stderr come back joined."""
        return subprocess.run(
            self.command(*arguments),
            **{
                "stdout": subprocess.PIPE,
                "stderr": subprocess.STDOUT,
                "text": True,
                "cwd": self.root,
                "timeout": 120,
                "check": False,
                **options,
            },
        )

    def in_process(self, *arguments: str) -> subprocess.CompletedProcess:
        """Run the command in this process, for what is refused or computes nothing."""
        with contextlib.chdir(self.root):
            result = CliRunner().invoke(app, arguments, env={"COLUMNS": "200"})
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return subprocess.CompletedProcess(arguments, result.exit_code, result.output)

    def execute(self, chapter: str, patience_s: float = 60.0, **values: object) -> tuple[NotebookNode, dict[str, Any]]:
        """Run a chapter in a kernel that this process starts; return the notebook and the record of the run."""
        project = Project.find(self.root)
        plan = plan_chapter(project, chapter, "quick", values)
        content, record = execute_chapter(make_request(project, plan, None, 1, False, patience_s))
        return nbformat.reads(content.decode(), as_version=4), record

    def records(self, chapter: str) -> list[Path]:
        return sorted((self.root / "_build" / "runs" / chapter).glob("*/record.json"))


@pytest.fixture(scope="session")
def oracles():
    """Slow forms of the solvers of one layer, for their tests and their benchmark; tests are no package to import from."""
    spec = importlib.util.spec_from_file_location("layerwise_oracles", Path(__file__).with_name("layerwise_oracles.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def one_thread() -> Iterator[None]:
    """PyTorch on one thread: sums come in one order, and a second thread is not taken from the tests beside."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def make_book() -> type[Book]:
    """What makes a small book in a folder, for fixtures of other modules."""
    return Book


@pytest.fixture
def book(tmp_path: Path) -> Book:
    return Book(tmp_path / "checkout")


@pytest.fixture(scope="session")
def built_once(tmp_path_factory: pytest.TempPathFactory) -> Book:
    """A small book that was built, for tests that only look; the chapter on addition says how many threads it has."""
    book = Book(tmp_path_factory.mktemp("built") / "checkout")
    book.edit("addition", 'print(f"total', 'import os\nprint("threads", os.environ["OMP_NUM_THREADS"])\nprint(f"total')
    result = book.effnotes("build", "--workers", "2", "-p", "addition.first=41", env={**os.environ, "OMP_NUM_THREADS": "4"})
    assert result.returncode == 0, result.stdout
    return book


@pytest.fixture
def built(built_once: Book, tmp_path: Path) -> Book:
    """A copy of that book, to be changed."""
    return built_once.copy(tmp_path / "checkout")


WILD = {"empty": 60, "agouti": 40, "ocelot": 12, "tapir": 8, "puma": 4}
"""Training images of each class of `wild`."""


@pytest.fixture(scope="session")
def wild(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in the form of iWildCam 2.0, with shapes of a class's own number of corners in place of animals."""
    root = tmp_path_factory.mktemp("wild")
    (root / "train").mkdir()
    generator = np.random.default_rng(0)
    rows = [
        (split, f"{split}_{y}_{number}.jpg", y)
        for y, count in enumerate(WILD.values())
        for split, images in {"train": count, "val": 1, "test": 1, "id_val": 8, "id_test": 12}.items()
        for number in range(images)
    ]
    for _, file, y in rows:
        image = Image.new("RGB", (48, 32), tuple(generator.integers(20, 120, 3).tolist()))
        left, top = generator.integers(2, 12, 2).tolist()
        if y > 0:
            ImageDraw.Draw(image).regular_polygon((left + 12, top + 9, 9), n_sides=2 + y, fill="white")
        image.save(root / "train" / file)
    (root / "metadata.csv").write_text("".join(f"{split},{file},{y}\n" for split, file, y in [("split", "filename", "y"), *rows]))
    (root / "categories.csv").write_text("".join(f"{y},{name}\n" for y, name in [("y", "name"), *enumerate(WILD)]))
    return root


@pytest.fixture(scope="session")
def smoke_build(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The build directory of a real build of this checkout on the smoke profile, records and pages: one for all processes."""
    own = tmp_path_factory.getbasetemp()
    shared = own.parent if "PYTEST_XDIST_WORKER" in os.environ else own
    build_dir = shared / "smoke"
    with FileLock(shared / "smoke.lock"):
        if not (build_dir / "html" / "index.html").is_file():
            # Whoever else needs the build waits for it, so both cores are free for it.
            command = [sys.executable, "-m", "effnotes.runner.cli", "build", "--profile", "smoke", "--workers", "2"]
            command += ["--build-dir", str(build_dir)]
            result = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=False)
            assert result.returncode == 0, result.stdout + result.stderr
    return build_dir
