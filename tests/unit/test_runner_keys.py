"""What decides that a chapter is run again, and what commands cost that compute nothing."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from effnotes.runner import keys
from effnotes.runner.plan import plan_chapter
from effnotes.runner.project import Chapter, Project
from effnotes.runner.scrub import private_paths, scrub

CHECKOUT = Path(__file__).parents[2]

SOURCE = """\
# %% [markdown]
# # A chapter

# %% tags=["parameters"]
count: int = 1  # how many

# %% tags=["hide-input"]
import numpy as np

total = np.arange(count).sum()
"""


def key(source: str = SOURCE, values: dict | None = None, claims: list | None = None, directory: Path = CHECKOUT) -> str:
    return keys.record_key(Chapter("chapter", "book/chapter", source), claims or [], directory)(values or {"count": 1})[0]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("# # A chapter", "# # Another title"),
        ("# how many", "# how many there are"),
        ("count: int = 1", "count: int = 2"),  # the value that is used is in the key by itself
        ('tags=["hide-input"]', 'tags=["hide-output"]'),
        ('tags=["hide-input"]', 'tags=["check", "hide-input"]'),
        ('# %% tags=["hide-input"]', '# %% mystnb={"figure": {"caption": "A caption."}}'),
    ],
)
def test_prose_display_tags_help_and_overridden_defaults_are_not_in_the_key(old, new):
    assert old in SOURCE
    assert key(SOURCE.replace(old, new)) == key()


@pytest.mark.parametrize(
    ("old", "new"), [("sum()", "mean()"), ("import numpy", "import pandas"), ('tags=["hide-input"]', 'tags=["raises-exception"]')]
)
def test_code_and_tags_of_execution_are_in_the_key(old, new):
    assert old in SOURCE
    assert key(SOURCE.replace(old, new)) != key()


def test_all_code_that_the_kernel_gets_is_in_the_key():
    for addition in ("factor = {}\n\n", "#%%\nfactor = {}\n\n", "# %%%\nfactor = {}\n\n"):
        assert key(addition.format(2) + SOURCE) != key(addition.format(3) + SOURCE)
    assert key(SOURCE + "%time total = 1\n") != key(SOURCE + "%time total = 2\n")


def test_values_and_claims_are_in_the_key():
    assert key(values={"count": 2}) != key()
    assert key(claims=[{"id": "a.b", "margin": 0.1}]) != key(claims=[{"id": "a.b", "margin": 0.2}])


def test_a_directory_is_fingerprinted_by_what_is_in_it(tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    (data / "a.txt").write_text("1")

    def fingerprint() -> dict:
        return keys.data_fingerprints({"root": "data", "other": "text", "empty": ""}, tmp_path)

    first = fingerprint()
    assert set(first) == {"root"}
    os.utime(data / "a.txt", (1, 1))  # a copy with another time is the same data
    assert fingerprint() == first
    (data / "a.txt").write_text("2")
    changed = fingerprint()
    assert changed != first
    (data / "b.txt").write_text("")
    assert fingerprint() != changed


def test_a_path_starts_from_the_directory_and_not_from_where_the_command_is_typed(tmp_path, monkeypatch):
    for place, text in (("here", "1"), ("elsewhere", "2")):
        (tmp_path / place / "data").mkdir(parents=True)
        (tmp_path / place / "data" / "numbers.csv").write_text(text)
    monkeypatch.chdir(tmp_path / "elsewhere")
    found = {place: keys.data_fingerprints({"path": "data/numbers.csv"}, tmp_path / place) for place in ("here", "elsewhere")}
    monkeypatch.chdir(tmp_path / "here")
    assert found["here"] == keys.data_fingerprints({"path": "data/numbers.csv"}, tmp_path / "here")
    assert found["here"] != found["elsewhere"]
    shipped = keys.data_fingerprints({"path": "data/worlds/smoke.yaml"}, tmp_path / "nowhere")
    assert shipped == keys.data_fingerprints({"path": "data/worlds/smoke.yaml"}, CHECKOUT)


def test_data_behind_links_and_within_lists_are_fingerprinted(tmp_path):
    root, elsewhere = tmp_path / "checkout", tmp_path / "elsewhere"
    for folder in (root / "data", elsewhere / "deep"):
        folder.mkdir(parents=True)
    (elsewhere / "deep" / "a.txt").write_text("1")
    (root / "data" / "linked").symlink_to(elsewhere)
    (elsewhere / "round").symlink_to(elsewhere)
    (root / "data" / "checkout").symlink_to(root)

    def fingerprint() -> dict:
        values = {
            "one": "data",
            "several": ["x", str(elsewhere)],
            "named": {"k": {"deep": "data/linked/deep/a.txt"}},
            "none": ["x"],
        }
        return keys.data_fingerprints(values, root)

    first = fingerprint()
    assert set(first) == {"one", "several", "named"}
    assert fingerprint() == first
    (elsewhere / "deep" / "a.txt").write_text("2")
    changed = fingerprint()
    assert all(changed[name] != first[name] for name in first)
    (root / "data" / "linked").unlink()
    (root / "data" / "linked").symlink_to(elsewhere / "deep")
    assert fingerprint()["one"] != changed["one"]


def test_a_linked_folder_that_changes_runs_the_chapter_again_and_its_path_is_not_shown(book, tmp_path):
    secret = tmp_path / "secret place" / "images"
    secret.mkdir(parents=True)
    (secret / "a.txt").write_text("1")
    (book.root / "data").mkdir()
    (book.root / "data" / "linked").symlink_to(secret)
    book.edit("addition", "label: str | None = None", 'label: str | None = "data"')
    book.edit("addition", 'print(f"total', 'from pathlib import Path\n\nprint(Path("data/linked/a.txt").resolve())\nprint(f"total')
    notebook, _ = book.execute("addition")
    assert notebook.cells[-1].outputs[0].text.startswith("…/images/a.txt\ntotal")
    project = Project.find(book.root)
    before = plan_chapter(project, "addition", "quick", {}).key
    (secret / "a.txt").write_text("2")
    assert plan_chapter(project, "addition", "quick", {}).key != before


@pytest.mark.parametrize("value", ["{}", "~/{}", ["{}"], {"k": "{}"}, "../{}", "link"])
def test_paths_are_scrubbed_however_they_were_given(tmp_path, monkeypatch, value):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    base, place = tmp_path / "base", tmp_path / "home" / "private" / "numbers"
    base.mkdir()
    place.mkdir(parents=True)
    (base / "link").symlink_to(place)

    def filled(item):
        if isinstance(item, str):
            return item.format("private/numbers" if item[0] == "~" else "home/private/numbers" if item[0] == "." else place)
        return [filled(each) for each in item] if isinstance(item, list) else {key: filled(each) for key, each in item.items()}

    paths = private_paths(str(base), None, [{"value": filled(value)}, {"value": "attention"}, {"value": "."}, {"value": ""}])
    assert scrub(f"{place}/a.txt, {base}/attention", paths) == "…/numbers/a.txt, ./attention"


def test_a_path_is_scrubbed_that_ends_in_a_slash_or_a_sentence_and_that_of_a_link_too(tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "photos")
    paths = private_paths(str(tmp_path / "base"), None, [{"value": f"{tmp_path}/link/"}])
    assert scrub(f"Nothing is in {tmp_path}/link. See {tmp_path}/photos/a.png, {tmp_path}/link/b.png...", paths) == (
        "Nothing is in …/link. See …/photos/a.png, …/link/b.png..."
    )
    assert scrub("/a/b.png /a/b.", [("/a/b", "X")]) == "/a/b.png X."


def test_a_private_value_is_shown_by_its_digest(tmp_path):
    private = [{"value": "Mail/Sent", "help": "private: a mailbox"}, {"value": "ada@example.org", "help": "private: its owner"}]
    paths = private_paths(str(tmp_path), None, [*private, {"value": "shapes", "help": "what is drawn"}])
    shown = scrub({"error": "no mail of ada@example.org in Mail/Sent", "data": "shapes"}, paths)
    assert shown["error"].count("sha256:") == 2
    assert not any(parameter["value"] in shown["error"] for parameter in private)
    assert shown["data"] == "shapes"


def test_editing_what_a_chapter_imports_runs_it_again_and_words_or_other_code_do_not(book, tmp_path):
    copy = tmp_path / "library" / "effnotes"
    shutil.copytree(CHECKOUT / "effnotes", copy, ignore=shutil.ignore_patterns("__pycache__"))
    book.edit("addition", "import time\n", "import time\nfrom effnotes.core.errors import nearest\n")

    def run() -> str:
        return book.effnotes("run", "addition", env={**os.environ, "PYTHONPATH": str(copy.parent)}).stdout

    assert "addition: running" in run()
    errors = (copy / "core" / "errors.py").read_text()
    (copy / "core" / "errors.py").write_text('"""Other words."""\n' + errors.split('"""', 2)[2] + "\n# A remark.\n")
    with (copy / "core" / "jobs.py").open("a") as source:
        source.write("\nCHANGED = True\n")
    assert "recorded already" in run()
    with (copy / "core" / "errors.py").open("a") as source:
        source.write("\nCHANGED = True\n")
    assert "addition: running" in run()


@pytest.mark.parametrize("arguments", [("params",), ("params", "pruning_bias"), ("claims", "--json"), ("--help",)])
def test_commands_that_compute_nothing_do_not_import_torch(arguments):
    script = (
        "import sys\nfrom effnotes.runner.cli import main\n"
        f"sys.argv = ['effnotes', *{list(arguments)!r}]\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert end.code in (0, None), end.code\n"
        "assert not {'torch', 'numpy', 'pandas', 'papermill'} & set(sys.modules), 'heavy import'\n"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=CHECKOUT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_claims_as_json_are_one_object_a_claim(book):
    book.register()
    before = json.loads(book.in_process("claims", "--json").stdout)
    assert [(row["id"], row["verdict"], row["estimate"]) for row in before] == [("sum.grows", "not measured", None)]
    book.edit(
        "addition",
        'print(f"total',
        "from effnotes.reporting import claims\ndisplay(claims.measure('sum.grows', [1.0, 1.1, 0.9]))\nprint(f\"total",
    )
    assert book.effnotes("run", "addition").returncode == 0
    (row,) = json.loads(book.in_process("claims", "--json").stdout)
    assert {"id", "statement", "published", "estimate", "interval", "verdict"} <= set(row)
    assert (row["verdict"], row["profile"]) == ("shown", "quick")
    assert row["interval"][0] < row["estimate"] < row["interval"][1]


def test_a_register_that_breaks_the_rules_is_refused_before_anything_runs(book):
    (book.root / "book" / "claims.yaml").write_text("- {id: sum.grows, chapter: addition}\n")
    for command in (("build",), ("run", "addition"), ("claims",)):
        result = book.in_process(*command)
        assert result.returncode == 2, result.stdout
        assert "statement is missing" in result.stdout
    assert not (book.root / "_build").exists()
