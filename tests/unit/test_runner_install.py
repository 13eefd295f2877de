"""The first cell of a notebook that leaves the book: nothing where the library is there, else it installs it, or says how."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import effnotes
from effnotes.runner.install import install_cell
from effnotes.runner.project import Project

CHECKOUT = Path(__file__).parents[2]
ADDRESS = "https://github.com/somebody/effnotes"


def with_address(book, address, branch="main"):
    """Name the repository of a book, as its readers do."""
    config = book.root / "_config.yml"
    config.write_text(
        config.read_text()
        .replace('repository_url: ""', f'repository_url: "{address}"')
        .replace("repository_branch: main", f"repository_branch: {branch}")
    )
    assert f'"{address}"' in config.read_text()
    return book


def ran(book, found, **environment):
    """Run the cell where `found` is the folder that the library is imported from."""
    cell = install_cell(Project.find(book.root)).source
    settings = os.environ | {"PYTHONPATH": str(found)} | environment
    return subprocess.run([sys.executable, "-c", cell], env=settings, cwd=found, capture_output=True, text=True, check=False)


@pytest.fixture
def older(tmp_path):
    """A folder with another version of the library."""
    (tmp_path / "older" / "effnotes").mkdir(parents=True)
    (tmp_path / "older" / "effnotes" / "__init__.py").write_text('__version__ = "0.0.1"\n')
    return tmp_path / "older"


@pytest.mark.parametrize("address", ["", ADDRESS])
def test_where_the_library_is_there_nothing_is_done(book, address):
    done = ran(with_address(book, address), CHECKOUT, PATH="", PIP_NO_INDEX="1")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_without_an_address_it_is_said_what_to_install_and_nothing_is_taken_from_an_index(book, older):
    done = ran(book, older)
    assert done.returncode == 1
    assert f"effnotes {effnotes.__version__} is needed, found: 0.0.1. It is on no package index" in done.stderr
    assert f"{sys.executable} -m pip install PATH/TO/THE/CHECKOUT" in done.stderr


@pytest.mark.slow
def test_with_an_address_the_library_is_installed_from_there(book, older, tmp_path):
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=CHECKOUT, capture_output=True, text=True, check=False).stdout.strip()
    if not head:
        pytest.skip("the checkout is no git repository, from which the library could be installed")
    git = {"GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": f"url.{CHECKOUT.as_uri()}.insteadOf", "GIT_CONFIG_VALUE_0": ADDRESS}
    # Build tools and packages are those of this environment; the last line turns the isolation of the build off.
    pip = {"PIP_TARGET": str(tmp_path / "new"), "PIP_NO_DEPS": "1", "PIP_NO_INDEX": "1", "PIP_NO_BUILD_ISOLATION": "0"}
    done = ran(with_address(book, ADDRESS, head), older, **git, **pip)
    assert done.returncode == 0, done.stderr
    code = "import effnotes; print(effnotes.__file__, effnotes.__version__)"
    settings = os.environ | {"PYTHONPATH": str(tmp_path / "new")}
    now = subprocess.run([sys.executable, "-c", code], env=settings, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert now.stdout.split() == [str(tmp_path / "new" / "effnotes" / "__init__.py"), effnotes.__version__]


@pytest.mark.parametrize(
    "address",
    ["http://github.com/a/b", "https://github.com/a/b.git", "https://codeberg.org/a/b", "github.com/a/b", "https://github.com/a"],
)
def test_an_address_that_cannot_be_used_is_refused_before_anything_runs(book, address):
    refused = with_address(book, address).in_process("build")
    assert refused.returncode == 2
    assert f"repository_url: '{address}' is not allowed; write https://github.com/OWNER/NAME" in refused.stdout
    assert not (book.root / "_build" / "runs").exists()


def test_buttons_lead_to_the_chapter_once_the_repository_has_an_address(built):
    """Binder opens the source, Colab the notebook beside the published pages; a page without a run has none."""
    from bs4 import BeautifulSoup

    def links(name):
        page = BeautifulSoup((built.root / "_build" / "html" / "book" / f"{name}.html").read_text(), "html.parser")
        return {link["href"] for link in page.find_all("a", href=True) if "binder" in link["href"] or "colab" in link["href"]}

    assert links("addition") == set()
    head = (CHECKOUT / "book" / "pruning_bias.py").read_text().partition("# %%")[0]  # it names the kernel
    built.add("subtraction", f"{head}# %% [markdown]\n# # Subtraction\n\n# %%\n3 - 1\n")
    with_address(built, ADDRESS, "trunk")
    done = built.effnotes("build", "--only", "multiplication")
    assert done.returncode == 0, done.stdout
    binder = "https://mybinder.org/v2/gh/somebody/effnotes/trunk?urlpath=lab/tree/book"
    colab = "https://colab.research.google.com/github/somebody/effnotes/blob/gh-pages/_sources/book"
    assert links("addition") == {f"{binder}/addition.py", f"{colab}/addition.ipynb"}
    assert (built.root / "_build" / "html" / "_sources" / "book" / "addition.ipynb").is_file()
    assert links("subtraction") == {f"{binder}/subtraction.py"}
    assert links("index") == set()
