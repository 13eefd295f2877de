"""Worksheets and slides: what is asked for is there, runs by itself and gives nothing away; what cannot be is refused at once."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from effnotes.runner.exercises import read_worksheet
from effnotes.runner.install import install_cell
from effnotes.runner.project import Project

CHAPTER = """\
# %% [markdown]
# # Halving
#
# What is half of it? {cite:t}`nobody2020half` asks.
#
# ```{what-we-found}
# ```
#
# $$
# h = x / 2
# $$ (eq-half)

# %% tags=["parameters"]
number: float = 8.0  # what is halved

# %% mystnb={"figure": {"caption": "A line that falls.", "name": "fig-line"}, "image": {"alt": "A line <falling>."}}
import matplotlib.pyplot as plt

from effnotes.reporting.findings import finding, what_we_found

_ = plt.plot([number, number / 2])

# %%
finding("It falls to a_half.", figure="fig-line")

# %%
what_we_found(("A half is less.", ""))

# %% [markdown]
# ```{exercise-start} 5 minutes, easy
# :label: exercise-half
# ```
# Halve `whole` by {eq}`eq-half`, see {numref}`fig-line`.
# ```{exercise-end}
# ```

# %% [markdown]
# ```{solution-start} exercise-half
# :class: dropdown
# ```
# Divide by two {cite:p}`nobody2020half`.

# %%
number / 2

# %% [markdown]
# ```{solution-end}
# ```
"""

WORKSHEET = """\
# %% [markdown]
# At hand is `whole`.

# %% tags=["setup"]
from pathlib import Path

whole = float(Path("data/exercises/halving/whole.txt").read_text())

# %% tags=["checks"]
from effnotes.reporting.exercises import check

# %% [markdown] exercise="exercise-half"
# The half.

# %% tags=["stub"]
answer = ...

# %% tags=["check"]
@check
def exercise_half(answer):
    assert answer == whole / 2, "halve it once"

# %% [markdown] tags=["marking"]
# One point.

# %% tags=["answer"]
answer = whole * 0.5

# %% tags=["wrong"]
answer = whole

# %% tags=["wrong"]
answer = whole / 4
"""


def with_exercises(book):
    book.add("halving", CHAPTER)
    for name, text in {"book/exercises/halving.py": WORKSHEET, "data/exercises/halving/whole.txt": "8"}.items():
        (book.root / name).parent.mkdir(parents=True)
        (book.root / name).write_text(text)
    return book


@pytest.fixture
def teaching(book):
    return with_exercises(book)


@pytest.fixture(scope="module")
def slides(make_book, tmp_path_factory) -> Path:
    """The slides of a chapter that has run."""
    folder = tmp_path_factory.mktemp("teaching")
    book = with_exercises(make_book(folder / "checkout"))
    assert book.effnotes("run", "halving").returncode == 0
    made = book.in_process("export", "--format", "slides", "--to", str(folder / "slides"))
    assert made.returncode == 0, made.stdout
    return folder / "slides" / "halving.slides.html"


def printed(folder: Path, student: Path, teacher: Path) -> list[str]:
    """What the checks of a student's worksheet say, with the answers pasted from a teacher's."""
    notebook, answers = (nbformat.read(path, as_version=4) for path in (student, teacher))
    of_teacher = {tuple(cell.metadata.tags): cell.source for cell in answers.cells if cell.metadata.get("tags")}
    for cell in notebook.cells:
        if tags := cell.metadata.get("tags"):
            assert "..." in cell.source
            cell.source = of_teacher[tuple(tags)]
    NotebookClient(notebook, timeout=60, resources={"metadata": {"path": str(folder)}}).execute()
    checks = [cell for cell in notebook.cells if cell.source.startswith("checks.")]
    return ["".join(output.get("text", "?") for output in cell.outputs) for cell in checks]


def test_a_students_worksheet_runs_by_itself_with_a_teachers_answers(teaching, tmp_path):
    student, teacher = tmp_path / "student", tmp_path / "teacher"
    student.mkdir()  # empty, which is allowed
    assert teaching.in_process("export", "--to", str(student)).returncode == 0
    assert teaching.in_process("export", "halving", "--teacher", "--to", str(teacher)).returncode == 0
    shutil.rmtree(teaching.root)
    assert printed(student, student / "halving.ipynb", teacher / "halving.ipynb") == ["pass\n"]
    texts = [path.read_text() for path in student.rglob("*.*") if path.suffix in (".ipynb", ".py")]
    assert len(texts) == 2
    assert not re.search(r"Divide by two|0\.5|One point|wrong", "".join(texts))
    shown = "\n".join(cell.source for cell in nbformat.read(teacher / "halving.ipynb", as_version=4).cells)
    for part in (
        "(5 minutes, easy)",
        "by (eq-half), see the figure *fig-line*",
        "Divide by two.",
        "One point.",
        "h = x / 2 \\tag{eq-half}",
    ):
        assert part in shown
    assert "{cite" not in shown
    for kind in (student, teacher):
        first = nbformat.read(kind / "halving.ipynb", as_version=4).cells[0]
        assert first.source == install_cell(Project.find(Path(__file__))).source


def test_a_worksheet_as_a_script_says_that_there_is_no_answer_yet(teaching, tmp_path):
    out = tmp_path / "a" / "new folder"
    assert teaching.in_process("export", "--format", "py", "--to", str(out)).returncode == 0
    ran = subprocess.run([sys.executable, "halving.py"], cwd=out, capture_output=True, text=True, check=True)
    assert ran.stdout == "not yet: there is no answer, or a part of it is missing (...)\n"


@pytest.mark.parametrize(
    ("change", "arguments", "message"),
    [
        (("halving.py", "", ""), ["--to", "full"], r"full holds something, and nothing is written over; name a folder"),
        (("halving.py", "", ""), ["--to", "_toc.yml"], r"_toc\.yml is a file"),
        (("halving.py", "", ""), ["havling", "--to", "out"], r"no chapter 'havling'\. Did you mean 'halving'\?"),
        (("halving.py", "", ""), ["addition", "--to", "out"], r"'addition' has no worksheet .* Chapters that have one: halving\."),
        (("halving.py", "", ""), ["--format", "slides", "--to", "out"], r"there is none of halving .* First: effnotes run halving"),
        (("halving.py", " 5 minutes, easy", ""), ["--to", "out"], r"exercise-half does not say how long it takes .* write"),
        (("halving.py", "solution-start", "solution"), ["--to", "out"], r"exercise-half has no solution"),
        (("exercises/halving.py", '"marking"', '"other"'), ["--to", "out"], r"exercise-half needs one cell tagged 'marking'"),
        (
            ("exercises/halving.py", "whole.txt", "part.txt"),
            ["--to", "out"],
            r"reads data/exercises/halving/part\.txt, which is missing",
        ),
        (("exercises/halving.py", "exercise-half", "exercise-x"), ["--to", "out"], r"halving\.py has no exercise 'exercise-x'"),
    ],
)
def test_what_cannot_be_exported_is_refused(teaching, change, arguments, message):
    name, old, new = change
    source = teaching.root / "book" / name
    source.write_text(source.read_text().replace(old, new) if old else source.read_text())
    (teaching.root / "full").mkdir()
    (teaching.root / "full" / "mine.txt").write_text("kept")
    refused = teaching.in_process("export", *arguments)
    assert refused.returncode == 2
    assert re.search(message, refused.stdout), refused.stdout
    assert [path.name for path in (teaching.root / "full").iterdir()] == ["mine.txt"]
    assert not (teaching.root / "out").exists()
    assert not list(teaching.root.glob(".out-*"))


def test_the_folder_that_one_stands_in_is_filled_and_not_exchanged(teaching):
    (teaching.root / "mine").mkdir()
    made = teaching.effnotes("export", "--to", ".", cwd=teaching.root / "mine")
    assert made.stdout == "halving.ipynb\n"
    assert {path.name for path in (teaching.root / "mine").iterdir()} == {"halving.ipynb", "halving_checks.py", "data"}


def test_a_book_without_worksheets_says_how_to_write_one(book):
    refused = book.in_process("export", "--to", "out")
    assert (refused.returncode, refused.stdout) == (
        2,
        "effnotes: no chapter has a worksheet; write one, book/exercises/CHAPTER.py.\n",
    )


def test_slides_show_figures_findings_and_questions(slides):
    page = slides.read_text()
    sections = re.findall(r"<section\s*>(.*?)</section>", page.replace("<section ><section >", "<section >"), re.DOTALL)
    told = [re.sub(r"<style.*?</style>|<[^>]+>", "", each, flags=re.DOTALL).split() for each in sections]
    starts = [" ".join(words)[:60] for words in told]
    assert [start.split("¶")[0].strip() for start in starts[:2]] == ["Halving", "What we found"]
    assert "What is half of it?" in " ".join(told[0])
    assert " ".join(told[2]) == "It falls to a_half. A line that falls."
    assert 'alt="A line &lt;falling&gt;."' in sections[2]
    assert "A question (5 minutes, easy)" in starts[3]
    links = re.findall(r'<(?:script|link|img|iframe)[^>]*(?:src|href)="([^"]{0,200})', page)
    assert len(links) >= 5
    for link in links:
        assert link.startswith("data:image/png;base64,") or (slides.parent / link).is_file(), link


def test_slides_are_shown_without_a_server(slides):
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("there is no Chromium")
    problems: list[str] = []
    with pytest.importorskip("playwright.sync_api").sync_playwright() as playwright:
        page = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"]).new_page()
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("requestfailed", lambda request: problems.append(request.url))
        page.on("request", lambda request: None if request.url.startswith(("file:", "data:")) else problems.append(request.url))
        page.goto(slides.as_uri())
        page.wait_for_selector(".reveal.ready")
        assert page.evaluate("Reveal.getTotalSlides()") == 4
        page.wait_for_selector("section mjx-container", state="attached")  # the equation of the question
    assert not problems


@pytest.mark.slow
@pytest.mark.parametrize("chapter", [path.stem for path in sorted((Path(__file__).parents[2] / "book" / "exercises").glob("*.py"))])
def test_the_books_worksheets_run_anywhere(chapter, tmp_path):
    root = Path(__file__).parents[2]
    for kind in ("student", "teacher"):
        command = [sys.executable, "-m", "effnotes.runner.cli", "export", chapter, f"--{kind}", "--to", str(tmp_path / kind)]
        subprocess.run(command, cwd=root, check=True)
    said = printed(tmp_path / "student", tmp_path / "student" / f"{chapter}.ipynb", tmp_path / "teacher" / f"{chapter}.ipynb")
    assert said == ["pass\n"] * len(read_worksheet(Project.find(root), chapter).exercises)
