"""Worlds beside the original's: held against what IST-DASLab/behemoth wrote and read at commit 51e4c8e.

The record is `tests/fixtures/worlds/behemoth.json`; `behemoth.py` beside it says how it was made, and makes it anew from a working
copy of the original. Nothing of the original's code is needed here.
"""

import json
import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from effnotes.core.errors import DataError
from effnotes.datasets.worlds import World, export_world, import_world, read_litgpt_jsonl
from effnotes.datasets.worlds.__main__ import main
from effnotes.datasets.worlds.forms import FORMS

FIXTURE = Path(__file__).parents[1] / "fixtures" / "worlds"
RECORDER = runpy.run_path(str(FIXTURE / "behemoth.py"))
RECORD = json.loads((FIXTURE / "behemoth.json").read_text())
WORLDS: dict[str, dict[str, Any]] = RECORD["worlds"]
SHARED = [name for name, kept in WORLDS.items() if "ours" in kept]

FORM_OF_EDIT = {"qa": "new_question", "refusal": "refusal", "qarefusal": "question_refusal"}


def rebuilt(files: dict[str, Any], root: Path) -> Path:
    """Write the files of a world as the original did."""
    n_relations, columns = files["n_relations"], files["graph"]
    cells = [[None if cell == "-" else int(cell) for cell in column or "-" * len(columns[0])] for column in columns]
    facts = [f"{at // n_relations} {at % n_relations} {' '.join(map(str, row))}" for at, row in enumerate(zip(*cells, strict=True))]
    words = {
        name: [[first + at] if second < 0 else [first + at // low, second + at % low] for at in range(n)]
        for name, (first, second, low, n) in files["remappings"].items()
    }
    special, starts = {}, files["special"]
    for first, names in (("W0", range(11)), ("WQ1", range(1, 5)), ("W11", range(11, 1000))):
        letters = first.rstrip("0123456789")
        special |= {f"{letters}{name}": f"{starts[first] + at:04d}" for at, name in enumerate(names)}
    assert RECORDER["digest"](list(special)) == files["special_names"]
    assert max(map(int, special.values())) == files["special_last"]

    metadata = root / "metadata"
    metadata.mkdir(parents=True)
    (metadata / "relationship_graph.txt").write_text("\n".join(facts) + "\n")
    for name, content in (("args", files["args"]), ("metadata", files["metadata"]), ("remappings_map", words)):
        (metadata / f"{name}.json").write_text(json.dumps(content))
    (metadata / "other_special_tokens.json").write_text(json.dumps(special))
    if files["asked"]:
        (metadata / "subjects_with_questions.txt").write_text("\n".join(files["asked"]))
    return root


def test_the_record_says_what_it_is_a_record_of() -> None:
    assert RECORD["source"] == "https://github.com/IST-DASLab/behemoth"
    assert RECORD["commit"] == RECORDER["COMMIT"]
    assert {name: kept["options"] for name, kept in WORLDS.items()} == RECORDER["CONFIGURATIONS"] | {
        name: options for name, (_, options) in RECORDER["GIVEN"].items()
    }
    assert len(WORLDS) >= 14


@pytest.mark.parametrize("name", WORLDS)
def test_a_world_of_the_original_is_written_again_as_the_original_wrote_it(name: str, tmp_path: Path) -> None:
    files, wrote = WORLDS[name]["files"], WORLDS[name]["wrote"]
    world = import_world(rebuilt(files, tmp_path / "theirs"))
    assert (world.n_relations, world.n_objects, world.repeats) == (
        files["n_relations"],
        files["args"]["objects"],
        files["args"]["repeats"],
    )
    export_world(world, tmp_path / "again", shards=files["args"]["shards"])
    again = RECORDER["about"](tmp_path / "again")
    # Which second object a sentence states, and which filler stands in it, is random.
    random = {"said"} if name == "dissent" else {"words"} if "nonsense" in name else set()
    for part in ("text", "validations"):
        assert {key: value for key, value in again[part].items() if key not in random} == {
            key: value for key, value in wrote[part].items() if key not in random
        }, part
        (least, *_, most), (first, *_, last) = wrote["text"]["words"], again[part]["words"]
        assert least <= first <= last <= most
    # The original puts all questions into the file for subjects that are never asked about.
    assert {**again["questions"], "files": 0} == {**wrote["questions"], "files": 0}
    assert again["tokenised"] == wrote["tokenised"]
    counts = json.loads((tmp_path / "again" / "metadata" / "metadata.json").read_text())
    assert (counts["graph_size"], counts["vocab_size"]) == (files["metadata"]["graph_size"], files["metadata"]["vocab_size"])


def ours(name: str, folder: Path) -> World:
    options = RECORDER["options_of_ours"](WORLDS[name]["options"])
    assert main(["create", "-x", "--output-dir", str(folder), *options]) == 0
    return import_world(folder)


@pytest.mark.parametrize("name", SHARED)
def test_an_export_holds_all_that_the_originals_next_script_looks_up(name: str, tmp_path: Path) -> None:
    ours(name, tmp_path)
    for file, keys in RECORD["reads"].items():
        held = json.loads((tmp_path / "metadata" / file).read_text())
        assert {key for key in keys if "nested" not in key or "nested" in name} <= set(held), file
    assert {"W0", "W10", "WQ4"} <= set(RECORD["reads"]["other_special_tokens.json"])
    for edit, made in WORLDS[name]["ours"].items():
        assert made["error"] == WORLDS[name]["edits"][edit]["error"], edit


@pytest.mark.parametrize("name", WORLDS)
def test_edits_that_the_original_makes_of_its_own_worlds_are_read(name: str, tmp_path: Path) -> None:
    check_edits(import_world(rebuilt(WORLDS[name]["files"], tmp_path / "theirs")), WORLDS[name]["edits"], tmp_path)


@pytest.mark.parametrize("name", SHARED)
def test_edits_that_the_original_makes_of_our_exports_are_read(name: str, tmp_path: Path) -> None:
    check_edits(ours(name, tmp_path / "ours"), WORLDS[name]["ours"], tmp_path)


def check_edits(world: World, edits: dict[str, Any], folder: Path) -> None:
    known = world.facts()
    n_read = 0
    for edit, made in edits.items():
        lines = {group: rows[1] for group, rows in made["trained"].items() if len(rows) > 1} | made.get("asked", {})
        rows = [dict(zip(("instruction", "output"), line.split("\t"), strict=True)) for line in lines.values()]
        (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        read = read_litgpt_jsonl(folder / "rows.jsonl", world)
        own = known.object[world.fact_ids(read.facts)]
        for at, group in enumerate(lines):
            form = "question" if group.startswith("{k}_qa") else FORM_OF_EDIT.get(edit, "sro")
            assert FORMS[read.form[at]] == form, (edit, group)
            if form == "question" or group.startswith("same_subject_second_rel_converted"):
                continue  # edited facts and others
            stated = int(read.facts.object[at])
            if group.startswith("censored"):
                assert stated == 0
            elif group.startswith("edited") and "refusal" not in form:
                assert stated != own[at], (edit, group)
            else:
                assert stated == own[at], (edit, group)
        n_read += len(rows)
    assert n_read > 15


# --- what stands beside it ------------------------------------------------------------------------------------------------


def test_a_tokeniser_is_loaded_from_an_export(tmp_path: Path) -> None:
    from transformers import PreTrainedTokenizerFast

    world = World(20, 2, 8, repeats=1)
    export_world(world, tmp_path, text=False, validation=False)
    loaded, own = PreTrainedTokenizerFast.from_pretrained(tmp_path / "metadata"), world.hf_tokenizer()
    assert (loaded.bos_token_id, loaded.eos_token_id, loaded.pad_token_id) == (0, 0, 1)
    assert loaded(" SS 0008 0044 0045 RR 0028.")["input_ids"] == own(" SS 0008 0044 0045 RR 0028.")["input_ids"]


def test_a_world_without_questions_leaves_none_of_an_earlier_one(tmp_path: Path) -> None:
    export_world(World(20, 2, 8, qa_frac=0.5), tmp_path, text=False, validation=False)
    export_world(World(20, 2, 8), tmp_path, text=False, validation=False)
    assert not import_world(tmp_path).graph.asked.any()


def test_prompts_of_each_form_have_a_file_of_their_own(tmp_path: Path) -> None:
    world = World(20, 2, 8, templates={"sro": 0.5, "nonsense_sro": 0.5, "nonsense_rso": 0.0})
    export_world(world, tmp_path, text=False)
    files = {path.stem: path.read_text() for path in (tmp_path / "validations").iterdir()}
    assert set(files) == {"sro", "nonsense_sro", "rso"}
    assert len(set(files.values())) == 3


@pytest.mark.parametrize(
    ("changes", "settings"),
    [
        ({"binarize_first_correlated": True}, {"binarize": False, "correlation": None}),
        ({"correlated_pair": True, "minority_position_entity_frac": 0.5}, {"minority_frac": 0.0, "correlation": 1.0}),
        ({"phrase_creator": "simplerepeats", "inversion_frac": 0.4}, {"templates": {"repeats": 1.0}}),
        ({"graph_path": "x", "subjects": 100_000, "relationships": 0}, {"n_subjects": 60, "n_relations": 3}),
    ],
)
def test_what_the_original_passes_over_is_passed_over(changes: dict, settings: dict, tmp_path: Path) -> None:
    files = WORLDS["plain"]["files"]
    found = import_world(rebuilt(files | {"args": files["args"] | changes}, tmp_path)).settings()
    assert {name: found[name] for name in settings} == settings


def test_a_list_of_arguments_is_no_mapping_of_them(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"args\.json: "):
        import_world(rebuilt(WORLDS["plain"]["files"] | {"args": [1, 2]}, tmp_path))


def test_markers_and_words_of_the_new_question_are_numbered_as_the_original_does(tmp_path: Path) -> None:
    for name in ("plain", "repeats", "given_repeats"):
        files = WORLDS[name]["files"]
        grammar = import_world(rebuilt(files, tmp_path / name)).words.grammar
        first = files["metadata"]["vocab_size"] - 1
        assert [grammar[word] for word in ("FTWQ1", "FTWQ2", "FTWQ3")] == [first, first + 1, first + 2]
        markers = [grammar[word] for word in ("WS", "WR", "WO")]
        assert markers == list(np.arange(3) + (first + 3 if name == "plain" else first + 1))
