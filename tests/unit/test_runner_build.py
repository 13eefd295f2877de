"""Chapters are run by real commands in real kernels; what is finished survives whatever happens to them."""

import errno
import hashlib
import io
import json
import os
import subprocess
import tempfile
import time
from pathlib import Path

import nbformat
import pytest
from rich.console import Console

from effnotes.reporting.kept import jobs_text
from effnotes.runner.build import Results, build_book
from effnotes.runner.errors import BuildError, UsageError
from effnotes.runner.install import install_cell
from effnotes.runner.keys import RECORD_FORMAT
from effnotes.runner.plan import plan_chapter
from effnotes.runner.progress import Reporter
from effnotes.runner.project import Project
from effnotes.runner.records import RecordStore
from effnotes.runner.stage import provenance


def only_record(book, chapter: str) -> dict:
    (path,) = book.records(chapter)
    return json.loads(path.read_text())


def test_a_run_leaves_a_record_and_is_not_repeated(book):
    first = book.effnotes("run", "addition", "-p", "first=40", "-p", "label='sum # [1]'", "--out", "out")
    assert first.returncode == 0, first.stdout
    record = only_record(book, "addition")
    assert record["status"] == "finished"
    assert {item["name"]: item["value"] for item in record["parameters"]} == {
        "first": 40,
        "second": 2.0,
        "pause_s": 0.0,
        "label": "sum # [1]",
        "weights": [0.5, 0.5],
    }
    assert record["environment"]["device"].startswith("CPU: ")
    assert record["peak_memory_bytes"] > 10 * 2**20
    assert record["duration_s"] > 0
    notebook = nbformat.read(book.root / "out" / "addition.ipynb", as_version=4)
    assert any("total 42.0 sum # [1]" in output.get("text", "") for cell in notebook.cells for output in cell.get("outputs", []))
    assert notebook.cells[0].source == install_cell(Project.find(book.root)).source  # it runs elsewhere, too
    assert json.loads((book.root / "out" / "record.json").read_text()) == record
    before = book.records("addition")[0].stat().st_mtime_ns
    again = book.effnotes("run", "addition", "-p", "first=40", "-p", "label='sum # [1]'")
    assert "recorded already" in again.stdout
    assert book.records("addition")[0].stat().st_mtime_ns == before


def test_records_and_notebooks_name_no_path_of_the_machine(book):
    book.edit("addition", 'print(f"total', 'import os\nprint(os.getcwd(), os.path.expanduser("~/x"))\nprint(f"total')
    notebook, record = book.execute("addition")
    assert record["status"] == "finished"
    text = json.dumps([notebook, record])
    assert str(book.root) not in text
    assert str(Path.home()) + "/" not in text


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("run", "addition", "-p", "frist=1"), "Did you mean 'first'? It has: first, second"),
        (("run", "adition"), "Did you mean 'addition'? Chapters: addition, multiplication"),
        (("run", "addition", "-p", "first=one"), "declared as int; given was 'one'"),
        (("run", "addition", "-p", "first=[1"), "no valid YAML"),
        (("run", "addition", "-p", "first=!!python/name:os.system"), "no valid YAML"),
        (("run", "addition", "-p", "first"), "no assignment"),
        (("run", "addition", "-p", "first=!!int x"), "no valid YAML"),
        (("run", "addition", "-p", "weights=&a [*a]"), "no valid YAML"),
        (("run", "addition", "--profile", "quik"), "Did you mean 'quick'?"),
        (("run", "addition", "--out", "book/index.md"), "--out names a file"),
        (("run", "addition", "--keep"), "--keep is for the profile 'full'"),
        (("build", "-p", "first=1"), "names no chapter"),
        (("build", "-p", "adition.first=1"), "Did you mean 'addition'?"),
        (("build", "--only", "addition", "-p", "multiplication.seeds=[1]"), "which --only leaves out"),
        (("build", "--workers", "0"), "Invalid value"),
        (("params", "nothing"), "there is no chapter 'nothing'"),
        (("run", "addition", "--scheduler"), "No such option"),
    ],
)
def test_what_cannot_be_done_is_refused_with_status_2_before_anything_runs(book, arguments, said):
    result = book.in_process(*arguments)
    assert result.returncode == 2, result.stdout
    assert said in result.stdout
    assert "Traceback" not in result.stdout
    assert not (book.root / "_build").exists()


def test_outside_a_checkout_the_command_says_so(book, tmp_path):
    result = book.effnotes("params", cwd=tmp_path)  # a process of its own: here the exit status is that of the command
    assert result.returncode == 2
    assert "not inside a checkout" in result.stdout


@pytest.mark.parametrize(
    ("profiles", "said"),
    [
        ("{adition: {first: 1}}", "Did you mean 'addition'?"),
        ("{addition: {frist: 1}}", "Did you mean 'first'?"),
        ("{addition: {first: x}}", "declared as int"),
        ("[addition]", "book/profiles.yaml, 'quick': chapters=['addition']: must be a mapping"),
        ("{addition: 5}", "chapters.addition=5: must be a mapping"),
        ("{}\n  cell_timeout: 5", "there is no setting 'cell_timeout'. Did you mean 'cell_timeout_s'?"),
        ("{}\n  cell_timeout_s: 0", "book/profiles.yaml, 'quick': cell_timeout_s=0: must be at least 1"),
        ("{}\n  cell_timeout_s: true", "cell_timeout_s=True: must be a whole number"),
    ],
)
def test_a_wrong_profile_is_refused(book, profiles, said):
    book.write_profiles(profiles)
    result = book.in_process("build")
    assert result.returncode == 2
    assert said in result.stdout


def test_what_fails_or_is_refused_is_named_there_and_on_its_page_and_the_others_are_recorded_and_rendered(checking):
    checking.add("third", "# %% [markdown]\n# # Third\n\n# %%\nprint('total', 3.0)\n")
    checking.edit("multiplication", "quotient = (", "raise RuntimeError('<b>bold</b> & `code`')\nquotient = (")
    result = checking.effnotes("build", "-p", "addition.first=-2")
    assert result.returncode == 1, result.stdout
    line = checking.chapters["multiplication"].splitlines().index("quotient = (")
    assert f"multiplication failed in cell 3 of 3 (book/multiplication.py, line {line})" in result.stdout
    assert "RuntimeError: <b>bold</b> & `code`" in result.stdout
    assert "\naddition refuses these parameters: first=-2: must be at least 0\n" in result.stdout
    assert only_record(checking, "third")["status"] == "finished"
    assert checking.records("addition") == []
    failed = checking.records("multiplication")[0].parent
    assert json.loads((failed / "record.json").read_text())["error"]["name"] == "RuntimeError"
    notebook = nbformat.read(failed / "notebook.ipynb", as_version=4)
    assert any(output.output_type == "error" for cell in notebook.cells for output in cell.get("outputs", []))
    pages = {name: (checking.root / "_build" / "html" / "book" / f"{name}.html").read_text() for name in checking.chapters}
    assert "total 3.0" in pages["third"]
    assert "This page could not be made" in pages["multiplication"]
    assert "The run of this page failed in cell 3 of 3." in pages["multiplication"]
    assert "RuntimeError: &lt;b&gt;bold&lt;/b&gt; &amp; `code`" in pages["multiplication"]
    assert "<b>bold" not in pages["multiplication"]
    assert "The parameters of this run were refused." in pages["addition"]
    assert "first=-2: must be at least 0" in pages["addition"]
    again = checking.effnotes("run", "multiplication")
    assert again.returncode == 1
    assert "multiplication: running" in again.stdout


def test_refusals_alone_are_no_failure():
    with pytest.raises(UsageError, match="refused"):
        Results(refusals=["refused"]).raise_problems()
    with pytest.raises(BuildError, match="failed\nrefused"):
        Results(refusals=["refused"], failures=["failed"]).raise_problems()
    Results().raise_problems()


def test_a_full_disk_hides_no_failure(tmp_path, monkeypatch):
    def stage_on_full_disk(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    (tmp_path / "_toc.yml").write_text("root: book/index\n")
    (tmp_path / "_config.yml").write_text("title: A book\n")
    (tmp_path / "book").mkdir()
    (tmp_path / "book" / "index.md").write_text("# A book\n")
    monkeypatch.setattr("effnotes.runner.build.run_plans", lambda *_: Results(failures=["addition failed"]))
    monkeypatch.setattr("effnotes.runner.build.stage_book", stage_on_full_disk)
    with pytest.raises(BuildError, match=r"addition failed\n.*No space left"):
        build_book(Project(tmp_path, tmp_path / "_build"), [], Reporter(Console(file=io.StringIO())), "smoke")


def test_the_line_of_a_statement_over_several_lines_is_one_of_its_lines(book):
    _, record = book.execute("multiplication", divide_by=0)
    lines = book.chapters["multiplication"].splitlines()
    # Which of them is named depends on the version of Python.
    assert record["error"]["line"] in range(lines.index("quotient = (") + 1, lines.index(")") + 2)
    assert (record["error"]["name"], record["error"]["message"]) == ("ZeroDivisionError", "division by zero")


def test_the_line_of_an_error_is_that_of_the_failing_cell(book):
    failing = "def check(number):\n    raise ValueError(number)\n\n\n# %%\nprint('once')\n\n# %%\nprint('once')\ncheck(7)\n\n# %%\n"
    book.edit("addition", "total = first", f"{failing}total = first")
    _, record = book.execute("addition")
    line = book.chapters["addition"].splitlines().index("check(7)") + 1
    error = record["error"]
    assert (error["cell"], error["cells"], error["line"]) == (4, 6, line)
    assert (error["source"], error["name"], error["message"]) == ("check(7)", "ValueError", "7")


CHECKS = """\
# %% tags=["check", "hide-input"]
if first < 0:
    raise ValueError(f"first={first}: must be at least 0")
if first == 7:
    import json

    json.loads("7 and more")  # its error is a class of its own, which a ValueError is behind
if first == 8:
    raise KeyError("no such number")

# %%
import time

if first == 9:
    raise ValueError("an accident")
"""


@pytest.fixture
def checking(book):
    """The small book, in which the chapter on addition checks its parameters."""
    book.edit("addition", "# %%\nimport time\n", CHECKS)
    return book


def test_a_check_that_raises_a_value_error_refuses_the_request(checking):
    result = checking.effnotes("run", "addition", "-p", "first=-2", "--out", "out")
    assert result.returncode == 2, result.stdout
    assert result.stdout == (
        "addition: running\naddition: refused\neffnotes: addition refuses these parameters: first=-2: must be at least 0\n"
    )
    left = [path.name for path in (checking.root / "_build").rglob("*") if path.is_file()]
    assert [name for name in left if not name.endswith(".lock")] == []
    assert not (checking.root / "out").exists()
    _, derived = checking.execute("addition", first=7)
    assert derived["status"] == "refused"
    assert derived["error"]["message"] == "Extra data: line 1 column 3 (char 2)"


@pytest.mark.parametrize(("first", "cell"), [(8, 2), (9, 3)], ids=["another error", "another cell"])
def test_other_errors_than_a_refusal_are_failures(checking, first, cell):
    notebook, record = checking.execute("addition", first=first)
    assert record["status"] == "failed"
    assert (record["error"]["cell"], record["error"]["cells"]) == (cell, 4)
    assert "effnotes.refusal" not in json.dumps(notebook)


def test_a_refusal_names_the_path_that_was_given_and_a_mended_file_is_run(checking, tmp_path):
    numbers = tmp_path / "numbers.txt"
    refusing = (
        "import pathlib\n\nif not pathlib.Path(label).is_file():\n    raise ValueError(f'{label}: no such file')\nif first < 0:"
    )
    checking.edit("addition", "if first < 0:", refusing)
    _, refused = checking.execute("addition", label=str(numbers))
    assert refused["status"] == "refused"
    assert refused["error"]["message"] == f"{numbers}: no such file"
    numbers.write_text("1\n")
    notebook, mended = checking.execute("addition", label=str(numbers))
    assert mended["status"] == "finished"
    assert [cell.metadata.tags for cell in notebook.cells if "check" in cell.metadata.get("tags", [])] == [["check", "hide-input"]]


@pytest.fixture
def small_disk(tmp_path: Path):
    """A file system of its own, 160 KiB large."""
    directory = tmp_path / "small"
    directory.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=160k", "tmpfs", directory], capture_output=True, text=True, check=False
    )
    if made.returncode:
        pytest.skip(f"needs the right to mount a small file system: {made.stderr.strip()}")
    yield directory
    subprocess.run(["umount", directory], check=True)


@pytest.mark.slow
def test_a_full_disk_leaves_no_torn_record_and_the_next_build_goes_on(book, small_disk):
    book.edit("addition", 'print(f"total', 'print("x" * 300_000)\nprint(f"total')
    arguments = ("run", "multiplication", "--build-dir", str(small_disk))
    assert book.effnotes(*arguments).returncode == 0
    result = book.effnotes("run", "addition", "--build-dir", str(small_disk))
    assert result.returncode == 1, result.stdout
    assert "the disk is full" in result.stdout
    assert list((small_disk / "runs" / "addition").glob("*/*")) == []
    again = book.effnotes(*arguments)
    assert "recorded already" in again.stdout
    subprocess.run(["mount", "-o", "remount,size=20m", small_disk], check=True)
    assert book.effnotes("run", "addition", "--build-dir", str(small_disk)).returncode == 0


@pytest.mark.parametrize("name", ["record.json", "notebook.ipynb"])
@pytest.mark.parametrize("damage", ["cut", "missing", "empty"])
def test_a_torn_record_is_never_taken_for_finished(tmp_path, name, damage):
    store = RecordStore(tmp_path)
    notebook = b'{"cells": []}'
    store.save(notebook, {"format": RECORD_FORMAT, "chapter": "c", "key": "ab", "status": "finished", "started": "2026"})
    assert store.load("c", "ab").finished
    path = tmp_path / "c" / "ab" / name
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(b"" if damage == "empty" else path.read_bytes()[:-4])
    assert store.load("c", "ab") is None
    assert store.latest("c") is None


def test_a_failed_record_is_replaced(tmp_path):
    store = RecordStore(tmp_path)
    for status in ("failed", "finished"):
        store.save(b"{}", {"format": RECORD_FORMAT, "chapter": "c", "key": "ab", "status": status, "started": "2026"})
    assert store.load("c", "ab").record["status"] == "finished"
    assert store.load("c", "ab").record["notebook_sha256"] == hashlib.sha256(b"{}").hexdigest()
    assert [path.name for path in (tmp_path / "c").iterdir()] == ["ab"]


def test_a_record_and_its_place_are_flushed_to_the_disk(tmp_path, monkeypatch):
    flushed = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: flushed.append(Path(f"/proc/self/fd/{descriptor}").readlink().name))
    RecordStore(tmp_path).save(b"{}", {"format": RECORD_FORMAT, "chapter": "c", "key": "ab", "status": "failed", "started": "2026"})
    assert [name.partition("-")[0] for name in flushed] == [".notebook.ipynb", ".record.json", "c"]


def test_editing_prose_runs_nothing_and_shows_the_new_prose(built):
    built.edit("addition", "Two numbers are added.", "A pair of numbers is added up.")
    built.edit("addition", "# the first number", "# the number that comes first")
    again = built.effnotes("build", "-p", "addition.first=41")
    assert again.returncode == 0, again.stdout
    assert "running" not in again.stdout
    page = (built.root / "_build" / "html" / "book" / "addition.html").read_text()
    assert "A pair of numbers is added up." in page
    assert "total 43.0" in page
    assert "What made this page" in page
    built.edit("addition", "first + second", "first + second + 0")
    after = built.effnotes("build", "--only", "addition")
    assert "addition: running" in after.stdout
    assert "multiplication" not in after.stdout
    assert "quotient 2.0" in (built.root / "_build" / "html" / "book" / "multiplication.html").read_text()


def test_a_text_that_means_no_data_is_no_data(book):
    def key(label: str) -> str:
        project = Project.find(book.root)
        return plan_chapter(project, "addition", "quick", {"label": label}).key

    before = key("."), key("~nobody")
    (book.root / "new.txt").write_text("")
    assert (key("."), key("~nobody")) == before


def test_data_claims_and_parameters_given_change_the_key_and_names_of_no_path_do_not(book):
    data = book.root / "numbers.csv"

    def run() -> str:
        return book.effnotes("run", "addition", "-p", "label=numbers.csv").stdout

    def key() -> str:
        project = Project.find(book.root)
        return plan_chapter(project, "addition", "quick", {"label": "numbers.csv"}).key

    data.write_text("1\n")
    first = key()
    assert "addition: running" in run()
    assert "recorded already" in run()
    data.write_text("2\n")
    second = key()
    assert second != first
    book.register(chapter="multiplication")
    assert key() == second
    book.register(chapter="addition")
    assert key() != second


def test_only_words_are_scrubbed_and_only_whole_paths(book):
    directory = tempfile.gettempdir()
    picture = f"AAAA{directory}/AAAA"
    shown = f"display({{'image/png': '{picture}'}}, raw=True)\nprint('{directory}/x', 'https://example.org{directory}/x')\n"
    book.edit("addition", 'print(f"total', f'{shown}print(f"total')
    notebook, _ = book.execute("addition")
    outputs = notebook.cells[-1].outputs
    assert outputs[0].data["image/png"] == picture
    assert f"<temporary directory>/x https://example.org{directory}/x" in outputs[1].text
    assert f"print('{directory}/x'" in notebook.cells[-1].source


def test_injected_values_are_shown_and_overridden_defaults_are_hidden(built_once):
    page = (built_once.root / "_build" / "html" / "book" / "addition.html").read_text()
    assert "total 43.0" in page
    code = page[page.index("<article") : page.index('id="what-made-this-page"')]
    assert "pause_s" in code  # used by the code
    assert "time that the first cell takes" not in code


@pytest.mark.slow
def test_a_page_that_warns_fails_the_build_until_it_is_mended(book):
    index = book.root / "book" / "index.md"
    good = index.read_text()
    index.write_text(good + "\nSee {ref}`nowhere`.\n")
    for _ in range(2):  # the second time the page is unchanged, and its warning still counts
        result = book.effnotes("build")
        assert result.returncode == 1
        assert "nowhere" in result.stdout
    index.write_text(good)
    assert book.effnotes("build").returncode == 0


def test_force_runs_again(book):
    assert book.effnotes("run", "multiplication").returncode == 0
    before = only_record(book, "multiplication")["started"]
    time.sleep(1.1)
    assert book.effnotes("run", "multiplication", "--force").returncode == 0
    assert only_record(book, "multiplication")["started"] > before


JOBS = """\
import sums
from effnotes.core.jobs import run_jobs

total = sum(result["half"] for result in run_jobs(sums.halve, [sums.Job(2), sums.Job(4)], workers=1))
"""


def test_a_record_says_what_was_computed_and_what_was_reused(book):
    (book.root / "sums.py").write_text(
        "from effnotes.core.settings import settings\n\n\n@settings\nclass Job:\n    number: int\n\n\n"
        "def halve(job):\n    return {'half': job.number / 2}\n"
    )
    book.edit("addition", "total = first", f"{JOBS}total += first")
    _, record = book.execute("addition")
    assert (record["jobs"]["computed"], record["jobs"]["reused"]) == (2, 0)
    assert jobs_text(record).startswith("2 jobs in this run, in ")
    _, again = book.execute("addition", first=2)
    jobs = again["jobs"]
    assert (jobs["computed"], jobs["reused"], jobs["computed_s"]) == (0, 2, 0.0)
    assert record["started"] <= jobs["reused_from"] <= jobs["reused_to"] <= again["started"]
    assert jobs["reused_on"] == [record["environment"]["device"]]
    assert "; 2 from the cache, made 20" in provenance(again).replace("\\", "")  # MyST has a backslash before each mark
    assert jobs_text({}) == "not known"
