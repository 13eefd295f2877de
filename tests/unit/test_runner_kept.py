"""Records that are kept with the book: what goes in, what is refused, and pages that are drawn from one."""

import json
import shlex
import shutil
import subprocess
import sys

import pytest

from effnotes.core.digests import json_digest
from effnotes.reporting.claims import CLAIM_MIME
from effnotes.reporting.kept import RecordError, read_record
from effnotes.runner.kept import keep
from effnotes.runner.plan import plan_chapter
from effnotes.runner.project import Project
from effnotes.runner.records import RecordStore, StoredRun
from effnotes.runner.stage import stage_book

CHAPTER = """\
# %% [markdown]
# # Kept

# %%
from typing import Literal

import pandas as pd
from IPython.display import display

from effnotes.reporting import claims, tables

# %% tags=["parameters"]
seeds: list[int] = [1, 2]  # seeds
dataset: Literal["numbers", "letters"] = "numbers"  # what is read
data_root: str | None = None  # folder of the data
note: str = ""  # any text

# %%
display(claims.measure("sum.grows", [1.0, 1.1, 0.9]))

# %%
frame = pd.DataFrame({"seed": seeds, "half": [seed / 3 for seed in seeds], "where": [f"in {data_root}" for _ in seeds]})
display(tables.keep_table("halves", frame), tables.keep_table("names", pd.DataFrame({"name": ["a", None]})))
"""

REPORT = """\
# %% [markdown]
# # Report

# %%
from IPython.display import HTML

from effnotes.reporting import claims
from effnotes.reporting.kept import read_record

# %% tags=["parameters"]
record: str = "data/records/measuring/mine.json"  # the kept record

# %%
kept = read_record(record)
print("sum of halves", round(kept.table("halves")["half"].sum(), 3))

# %%
HTML("".join(claims.card_html(payload) for payload in kept.claims.values()) + kept.provenance_html())
"""


@pytest.fixture(scope="module")
def kept_once(tmp_path_factory, make_book):
    """A book with a chapter that measures a claim, keeps two tables and can read data of the user's, and with a record of it."""
    folder = tmp_path_factory.mktemp("kept")
    data = folder / "private folder" / "numbers"
    data.mkdir(parents=True)
    (data / "one.txt").write_text("1")
    book = make_book(folder / "checkout")
    book.add("measuring", CHAPTER)
    book.register(chapter="measuring")
    made = keep_mine(book, "-p", f"data_root={data}", "-p", "note='it is: so'")
    assert made.returncode == 0, made.stdout
    assert "kept: data/records/measuring/mine.json" in made.stdout
    return book, data


@pytest.fixture
def measuring(kept_once, tmp_path):
    """A copy of that book to be changed, without a record."""
    book = kept_once[0].copy(tmp_path / "checkout")
    shutil.rmtree(book.root / "data")
    shutil.rmtree(book.root / "_build")
    return book


@pytest.fixture
def recorded(kept_once, tmp_path):
    """A copy of that book to be changed, with its record."""
    return kept_once[0].copy(tmp_path / "checkout")


@pytest.fixture
def data(kept_once):
    return kept_once[1]


def keep_mine(book, *more: str):
    return book.effnotes("run", "measuring", "-p", "seeds=[1, 2, 3]", *more, "--profile", "full", "--keep-as", "mine")


def keep_again(book, **overrides):
    """Keep the recorded run under the same name as if it had been made with other values, without running it."""
    project = Project.find(book.root)
    (record,) = (json.loads(path.read_text()) for path in book.records("measuring"))
    plan = plan_chapter(project, "measuring", "full", overrides)
    keep(project, plan, record, "mine")
    return json.loads(kept_text(book, "mine"))


def kept_text(book, name: str) -> str:
    return (book.root / "data" / "records" / "measuring" / f"{name}.json").read_text()


def words(text: str) -> str:
    return " ".join(text.split())


def test_the_record_of_the_full_profile_is_kept_and_refused_once_the_parameters_have_changed(measuring):
    made = measuring.effnotes("run", "measuring", "--profile", "full", "--keep")
    assert made.returncode == 0, made.stdout
    kept = json.loads(kept_text(measuring, "full"))
    assert kept["command"] == "effnotes run measuring --profile full --keep"
    assert kept["seeds"] == [1, 2]
    assert kept["overrides"] == {}
    assert kept["data"] == {}
    assert "cells" not in kept
    assert measuring.in_process("claims").returncode == 0
    # Records of the full profile from before there were others lack some fields, and still count.
    lacking = ("tables", "overrides", "data", "jobs")
    path = measuring.root / "data" / "records" / "measuring" / "full.json"
    path.write_text(json.dumps({field: value for field, value in kept.items() if field not in lacking}))
    assert measuring.in_process("claims").returncode == 0
    assert read_record(path).claims["sum.grows"]["verdict"] == "shown"
    assert '<th scope="row">Computed</th><td>not known</td>' in read_record(path).provenance_html()
    measuring.write_profiles("{measuring: {seeds: [1, 2, 3]}}")
    refused = measuring.in_process("build")
    assert refused.returncode == 2
    assert (
        "data/records/measuring/full.json was made with other parameters of 'measuring'."
        " Make it again with 'effnotes run measuring --profile full --keep'"
    ) in words(refused.stdout)


def test_a_named_record_holds_numbers_and_the_command_but_no_path(kept_once):
    measuring, data = kept_once
    text = kept_text(measuring, "mine")
    assert str(data.parent) not in text
    kept = json.loads(text)
    assert kept["command"] == (
        "effnotes run measuring -p seeds='[1, 2, 3]' -p data_root=DATA_ROOT -p note='\"it is: so\"' --profile full --keep-as mine"
    )
    assert shlex.split(kept["command"])[4] == "seeds=[1, 2, 3]"
    assert kept["overrides"] == {"seeds": [1, 2, 3], "data_root": "DATA_ROOT", "note": "it is: so"}
    values = {item["name"]: item["value"] for item in kept["parameters"]}
    assert values == {"seeds": [1, 2, 3], "dataset": "numbers", "data_root": "DATA_ROOT", "note": "it is: so"}
    assert kept["profile"] == "full"
    assert kept["environment"]["cores"] >= 1
    assert kept["environment"]["memory_bytes"] > 2**20
    assert {"python", "device", "packages", "threads"} <= set(kept["environment"])
    assert [claim["id"] for claim in kept["claims"]] == ["sum.grows"]
    assert kept["tables"]["halves"]["data"][:2] == [[1, 2, 3], [0.333333, 0.666667, 1.0]]
    assert "\n    [ 0.333333, 0.666667, 1.0 ],\n" in text
    assert read_record(measuring.root / "data" / "records" / "measuring" / "mine.json").table("names")["name"].isna().sum() == 1


def test_the_card_of_a_claim_shows_the_kept_record_beside(recorded):
    (path,) = recorded.records("measuring")
    run = StoredRun(json.loads(path.read_text()), path.parent)
    (claim,) = run.record["claims"]
    kept = {"measuring": run.record | {"claims": [claim | {"estimate": 7.5, "verdict": "contradicted"}]}}
    stage = stage_book(Project.find(recorded.root), {"measuring": run}, kept, "full", {})
    cells = json.loads((stage / "book" / "measuring.ipynb").read_text())["cells"]
    (card,) = (output["data"] for cell in cells for output in cell.get("outputs", []) if CLAIM_MIME in output.get("data", {}))
    shown = "".join(card["text/html"])
    assert "contradicted; 7.5" in shown
    assert shown.startswith('<div class="effnotes-claim effnotes-claim--shown"')


def test_the_digest_of_the_data_follows_their_content_and_not_their_time(recorded, tmp_path):
    def digest(name: str, content: str) -> str:
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        (folder / "one.txt").write_text(content)
        return keep_again(recorded, data_root=str(folder))["data"]["data_root"]

    first = digest("numbers", "1")
    assert digest("copy", "1") == first
    assert digest("numbers", "2") != first


def test_a_choice_that_is_also_the_name_of_a_folder_is_no_path(recorded):
    (recorded.root / "letters").mkdir()
    assert keep_again(recorded, dataset="letters")["overrides"]["dataset"] == "letters"


def test_a_kept_record_is_computed_anew_unless_told_otherwise(recorded):
    arguments = ("-p", "seeds=[1, 2, 3]", "-p", "data_root=", "--profile", "full")
    assert "measuring: running" in recorded.effnotes("run", "measuring", *arguments).stdout
    reused = recorded.effnotes("run", "measuring", *arguments, "--keep-as", "mine", "--reuse")
    assert "recorded already" in reused.stdout
    assert "measuring: running" in recorded.effnotes("run", "measuring", *arguments, "--keep-as", "mine").stdout
    assert json.loads(kept_text(recorded, "mine"))["jobs"]["computed"] == 0


@pytest.mark.parametrize("command", [("build",), ("claims",)])
def test_a_named_record_is_refused_once_claims_or_parameters_have_changed(recorded, command):
    keep_again(recorded, seeds=[1, 2, 3])
    again = "Make it again with 'effnotes run measuring -p seeds='[1, 2, 3]' --profile full --keep-as mine', or remove it."
    assert recorded.in_process("claims").returncode == 0
    recorded.register(chapter="measuring", margin=0.5)
    refused = recorded.in_process(*command)
    assert refused.returncode == 2
    assert f"data/records/measuring/mine.json was made with other claims of 'measuring'. {again}" in words(refused.stdout)
    recorded.register(chapter="measuring")
    recorded.edit("measuring", 'note: str = ""', 'note: str = "new"')
    refused = recorded.in_process(*command)
    assert refused.returncode == 2
    assert f"mine.json was made with other parameters of 'measuring'. {again}" in words(refused.stdout)
    recorded.edit("measuring", "seeds: list[int] = [1, 2]", "seeds: list[str] = ['1']")
    refused = recorded.in_process(*command)
    assert refused.returncode == 2
    assert "mine.json was made with other parameters of 'measuring': chapter 'measuring': parameter 'seeds'" in words(
        refused.stdout
    )


@pytest.mark.parametrize(
    "words",
    [
        {"statement": "The sum of two grows."},
        {"published": None},
        {"source": {"key": "nobody2020sum", "kind": "table", "where": "table 1"}},
        {"worth_seeing": 0.5},
    ],
)
def test_a_record_stands_while_only_words_of_its_claims_change(recorded, words):
    recorded.register(chapter="measuring", **words)
    assert recorded.in_process("claims").returncode == 0


def test_power_is_told_of_each_kept_record_and_of_the_latest_run_of_each_profile(recorded, data):
    own = {"seeds": [1, 2, 3], "data_root": str(data), "note": "it is: so"}
    recorded.write_profiles(json.dumps({"measuring": own}))
    told = recorded.in_process("power", "measuring")
    assert told.returncode == 0, told.stdout
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in told.stdout.splitlines() if "sum.grows" in line]
    numbers = ["3 seeds", "0.1", "0.326", "0.1", "10", "shown"]
    assert rows == [["sum.grows", "kept: mine", *numbers], ["sum.grows", "run: full", *numbers]]
    recorded.register(chapter="measuring", worth_seeing=0.5)
    assert "│ 0.5          │ 3 " in recorded.in_process("power", "measuring", "--profile", "full").stdout
    missing = recorded.in_process("power", "measuring", "--profile", "quick")
    assert missing.returncode == 2
    assert "there is no run of 'measuring' of the profile 'quick'" in words(missing.stdout)
    assert "Run it: effnotes run measuring --profile quick" in words(missing.stdout)
    (row,) = json.loads(recorded.in_process("claims", "--json").stdout)
    assert (round(row["smallest_effect"], 3), row["unsettled"], row["source"]["kind"]) == (0.326, None, "text")


def test_a_run_with_other_values_than_its_profiles_is_no_result_of_that_profile(recorded):
    """As the points of a sweep are."""
    (record,) = (json.loads(path.read_text()) for path in recorded.records("measuring"))
    (row,) = json.loads(recorded.in_process("claims", "--json").stdout)
    assert (row["estimate"], row["profile"]) == (None, None)
    told = recorded.in_process("power", "measuring").stdout
    assert "kept: mine" in told
    assert "run: full" not in told
    own = Project.find(recorded.root).values("measuring", "full", {})
    parts = record["key_parts"] | {"parameters": json_digest(own)}
    claim = {**record["claims"][0], "estimate": 7.0}
    RecordStore(recorded.root / "_build" / "runs").save(b"{}", {**record, "key": "ab", "key_parts": parts, "claims": [claim]})
    RecordStore(recorded.root / "_build" / "runs").save(b"{}", {**record, "key": "cd"})
    (row,) = json.loads(recorded.in_process("claims", "--json").stdout)
    assert (row["estimate"], row["profile"]) == (7.0, "full")


def test_power_does_not_import_torch(recorded):
    script = (
        "import sys\nfrom effnotes.runner.cli import main\nsys.argv = ['effnotes', 'power', 'measuring']\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code\n"
        "assert not {'torch', 'pandas', 'papermill'} & set(sys.modules), 'heavy import'\n"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=recorded.root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ("measuring",),
            "there is no run of 'measuring', neither finished with its own values in _build/runs nor kept. "
            "Run it: effnotes run measuring",
        ),
        (("addition",), "'addition' registers no claims in book/claims.yaml"),
        (("measurin",), "there is no chapter 'measurin'. Did you mean 'measuring'?"),
        (("measuring", "--profile", "fulll"), "there is no profile 'fulll'. Did you mean 'full'?"),
    ],
)
def test_power_is_refused_where_there_is_nothing_to_tell(measuring, arguments, said):
    refused = measuring.in_process("power", *arguments)
    assert refused.returncode == 2
    assert said in words(refused.stdout)


def test_a_value_that_a_named_record_overrides_may_change_in_the_profile(recorded):
    recorded.write_profiles("{measuring: {seeds: [4]}}")
    assert recorded.in_process("claims").returncode == 0


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"made_for": 3}', '{"made_for": {}, "overrides": 3}'])
def test_a_damaged_record_is_refused(measuring, content):
    path = measuring.root / "data" / "records" / "measuring" / "mine.json"
    path.parent.mkdir(parents=True)
    path.write_text(content)
    refused = measuring.in_process("claims")
    assert refused.returncode == 2
    assert "data/records/measuring/mine.json" in refused.stdout
    assert "Traceback" not in refused.stdout
    assert "--keep-as mine" in refused.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--keep-as", "Mine"), "a record's name is lower-case words joined by '-' or '_'"),
        (("--keep-as", "../mine"), "a record's name is lower-case words"),
        (("--keep-as", "quick"), "and not a profile's (smoke, quick, full, paper)"),
        (("--keep", "--keep-as", "mine"), "give one of them"),
        (("--keep", "--profile", "full", "-p", "seeds=[3]"), "A run with other values gets a name: --keep-as NAME."),
    ],
)
def test_what_cannot_be_kept_is_refused_before_anything_runs(measuring, arguments, said):
    refused = measuring.in_process("run", "measuring", *arguments)
    assert refused.returncode == 2, refused.stdout
    assert said in words(refused.stdout)
    assert not (measuring.root / "_build").exists()
    page = measuring.in_process("run", "addition", "--keep-as", "mine")
    assert page.returncode == 2
    assert "'addition' registers no claims" in page.stdout


def test_a_name_that_two_tables_have_fails_the_run_with_its_line(measuring):
    measuring.edit("measuring", 'tables.keep_table("names"', 'tables.keep_table("halves"')
    _, record = measuring.execute("measuring")
    error = record["error"]
    line = measuring.chapters["measuring"].splitlines().index("# %%", 20) + 2
    assert "the table 'halves' is kept a second time" in error["message"]
    assert (error["cell"], error["cells"], error["line"]) == (4, 4, line)


def test_a_page_is_drawn_from_a_named_record_and_again_from_a_new_one(recorded):
    measuring = recorded
    measuring.add("report", REPORT)
    built = measuring.effnotes("build")
    assert built.returncode == 0, built.stdout
    page = (measuring.root / "_build" / "html" / "book" / "report.html").read_text()
    assert "sum of halves 2.0" in page
    assert 'class="effnotes-claim effnotes-claim--shown"' in page
    assert "-p data_root=DATA_ROOT" in page
    chapter = (measuring.root / "_build" / "html" / "book" / "measuring.html").read_text()
    assert "<code>halves</code>, 2 rows, kept with the record of this run." in chapter
    assert "recorded already" in measuring.effnotes("run", "report").stdout
    (measured,) = json.loads(measuring.in_process("claims", "--json").stdout)
    assert measured["profile"] == "quick"  # the chapter's own run: the page measures nothing
    path = measuring.root / "data" / "records" / "measuring" / "mine.json"
    path.write_text(path.read_text().replace("0.333333, 0.666667, 1.0", "0.333333, 0.666667, 0.5"))
    again = measuring.effnotes("run", "report", "--out", "out")
    assert "report: running" in again.stdout
    assert "sum of halves 1.5" in (measuring.root / "out" / "report.ipynb").read_text()
    path.unlink()
    _, missing = measuring.execute("report")
    remedy = "A record is made by 'effnotes run measuring --profile full --keep-as mine'"
    assert f"there is no record here. {remedy}" in missing["error"]["message"]


@pytest.mark.parametrize(
    ("content", "said"),
    [(None, "there is no record here"), ("{", "cannot be read as JSON"), ("[]", "it lacks chapter"), ("{}", "it lacks chapter")],
)
def test_a_file_that_is_no_record_says_how_one_is_made(tmp_path, content, said):
    path = tmp_path / "pruning_bias" / "photographs.json"
    path.parent.mkdir()
    if content is not None:
        path.write_text(content)
    with pytest.raises(RecordError, match=said) as refusal:
        read_record(path)
    assert "'effnotes run pruning_bias --profile full --keep-as photographs'" in str(refusal.value)
