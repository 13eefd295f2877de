"""The fourteen defects found by running the original generator (IST-DASLab/behemoth at 4bf6d13), each with what ours does."""

import itertools
import json
import re
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from effnotes.datasets.worlds import Facts, World, export_world, import_world, make_task, read_litgpt_jsonl, to_litgpt_jsonl
from effnotes.datasets.worlds.__main__ import main
from effnotes.datasets.worlds.forms import FORMS
from effnotes.datasets.worlds.sentences import prompts_of

NESTED = World(120, 2, 16, n_nested=4, repeats=2)
QUESTIONS = World(60, 3, 8, qa_frac=0.25, repeats=4)


def test_defect_01_n_is_unambiguous_and_the_folder_has_one_name(tmp_path: Path) -> None:
    assert main(["create", "-s", "60", "-r", "2", "-o", "8", "-n", "3", "--output-dir", str(tmp_path)]) == 0
    assert (tmp_path / "metadata" / "relationship_graph.txt").is_file()
    for flag in ("-n", "--n", "--num-ft-overrides"):
        assert main(["edit", "-g", str(tmp_path), flag, "2", "--suffix", flag.strip("-")]) == 0
        rows = read_litgpt_jsonl(
            tmp_path / f"ft_remap_so_n2_r0_{flag.strip('-')}" / "finetuning_data" / "val.jsonl", import_world(tmp_path)
        )
        assert len(rows) > 2
    # Folders that name it as the original's README does can be read, too.
    (tmp_path / "metadata").rename(tmp_path / "viscera")
    assert import_world(tmp_path).n_subjects == 60


@pytest.mark.parametrize("edge", ["sno", "ono"])
def test_defect_02_nested_facts_can_be_edited_and_compare_nested_with_nested(edge: str) -> None:
    task = make_task(NESTED, "remap", 2, edge=edge)
    new = task.train["edited"].facts
    assert set(new.kind) == {{"sno": 1, "ono": 2}[edge]}
    assert new.object.max() < 4
    assert not set(new.object) & set(task.old.object)
    same = task.test["with_same_value"].facts
    assert set(same.object) <= set(task.old.object)
    nested = NESTED.graph.nested
    expected = nested[same.relation, same.subject if edge == "ono" else NESTED.graph.objects[same.subject, same.relation]]
    assert np.array_equal(same.object, expected)


def test_defect_03_a_binarised_world_takes_more_than_two_edits() -> None:
    world = World(100, 2, 8, correlation=1.0, binarize=True)
    task = make_task(world, "remap", 10)
    assert len(task.train["edited"]) == 10
    assert np.array_equal(task.train["edited"].facts.object, 1 - task.old.object)
    assert set(task.old.object) == {0, 1}


@pytest.mark.parametrize(
    "kind", ["remap", "remap_same", "suppress", "refusal", "question_refusal", "new_question", "unlearn_subject"]
)
def test_defect_04_a_world_with_questions_can_be_edited_in_every_way(kind: str, tmp_path: Path) -> None:
    task = make_task(QUESTIONS, kind, 2)
    paths = to_litgpt_jsonl(task, tmp_path, repeats=3)
    rows = [json.loads(line) for line in paths["train"].read_text().splitlines()]
    assert len(rows) == sum(len(group) * (3 if name in ("edited", "forget") else 1) for name, group in task.train.items())


def test_defect_05_questions_survive_reloading_and_unseen_subjects_are_told_apart(tmp_path: Path) -> None:
    export_world(QUESTIONS, tmp_path)
    again = import_world(tmp_path)
    assert np.array_equal(again.graph.asked, QUESTIONS.graph.asked)
    export_world(again, tmp_path / "again")
    meanings = QUESTIONS.words.meanings
    for name, asked in (("default", True), ("default_new", False)):
        text = (tmp_path / "questions" / f"{name}.txt").read_text()
        assert (tmp_path / "again" / "questions" / f"{name}.txt").read_text() == text
        subjects = {meanings[int(found),][1] for found in re.findall(r"SS (\d+)", text)}
        assert subjects == set(np.flatnonzero(QUESTIONS.graph.asked == asked).tolist())
        assert len(text.splitlines()) == 30 * 3


def test_defect_06_suppressing_everything_is_refused_and_all_but_that_keeps_its_test_groups(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    world = World(60, 2, 8, repeats=1)
    able = int((world.graph.objects[:, 0] != 0).sum())
    with pytest.raises(ValueError, match=f"n=60: only {able} facts of relation 0 can be edited by suppress"):
        make_task(world, "suppress", 60)
    everybody = World(60, 2, 8, given_graph=None, seed=3)
    task = make_task(everybody, "suppress", 40)
    assert len(task.train["reg_data"])
    assert len(task.test["reg_data"])
    assert len(task.test["implicitly_remapped_edges"])
    export_world(world, tmp_path, text=False, validation=False)
    assert main(["edit", "-g", str(tmp_path), "--single-ft-value", "--single-ft-data-subset-frac", "1.0"]) == 2
    assert "n=60: only" in capsys.readouterr().err


def test_defect_07_only_pairs_that_agree_are_edited_in_a_correlated_world() -> None:
    world = World(300, 3, 8, correlation=0.5)
    agree = world.graph.objects[:, 0] == world.graph.objects[:, 1]
    assert 0.3 < agree.mean() < 0.7
    for relation, seed in itertools.product((0, 1), range(10)):
        task = make_task(world, "remap", 4, relation=relation, seed=seed)
        assert agree[task.old.subject].all()
        assert np.array_equal(task.test["same_subject_second_rel"].facts.object, task.old.object)
        converted = task.test["same_subject_second_rel_converted"].facts
        assert np.array_equal(converted.object, task.train["edited"].facts.object)
        assert set(converted.relation) == {1 - relation}


def test_defect_08_mismatches_are_uniform_over_all_other_objects_and_checks_always_run(tmp_path: Path) -> None:
    objects = World(200_000, 2, 6, correlation=0.5).graph.objects[:, :2]
    table = np.zeros((6, 6), dtype=np.int64)
    np.add.at(table, tuple(objects[objects[:, 0] != objects[:, 1]].T), 1)
    assert (np.diag(table) == 0).all()
    for first in range(6):
        assert stats.chisquare(np.delete(table[first], first)).pvalue > 1e-3
    command = [
        "create",
        "-s",
        "60",
        "-o",
        "8",
        "--correlated-pair",
        "--correlation-strength",
        "0.1",
        "--output-dir",
        str(tmp_path / "w"),
    ]
    assert main(command) == 2
    assert not (tmp_path / "w").exists()


def test_defect_09_without_shuffling_biographies_stay_together(tmp_path: Path) -> None:
    assert main(["create", "-s", "40", "-r", "4", "-o", "8", "-n", "3", "--no-shuffle", "--output-dir", str(tmp_path)]) == 0
    subjects = re.findall(r"SS (\d+)", (tmp_path / "data" / "full_text_0.txt").read_text())
    assert len(subjects) == 40 * 4 * 3
    assert all(len(set(subjects[start : start + 4])) == 1 for start in range(0, len(subjects), 4))
    assert subjects != sorted(subjects)


def test_defect_10_the_inverted_share_of_nonsense_is_what_is_not_sro() -> None:
    world = World.from_settings({"s": 400, "r": 2, "o": 8, "c": "nonsense", "i": 0.2, "n": 10})
    form = np.concatenate([block.form for block in world.sentences()])
    inverted = int((form == FORMS.index("nonsense_rso")).sum())
    assert stats.binomtest(inverted, len(form), 0.2).pvalue > 1e-3


@pytest.mark.parametrize("shards", [1, 7])
def test_defect_11_tokens_are_counted_exactly_and_no_sentence_is_dropped(shards: int, tmp_path: Path) -> None:
    world = World(37, 3, 8, repeats=3, templates={"repeats": 1.0})
    export_world(world, tmp_path, shards=shards)
    text = "".join((tmp_path / "data" / f"full_text_{shard}.txt").read_text() for shard in range(shards))
    counts = json.loads((tmp_path / "metadata" / "metadata.json").read_text())
    assert text.count("<|endoftext|>") == 37 * 3 * 3
    assert len(world.hf_tokenizer()(text)["input_ids"]) == counts["total_num_tokens"]
    assert counts["n_tokens"] == world.vocab_size
    # From there the original numbers the words that its list lacks, so that they are those that ours has for the same purpose.
    assert counts["vocab_size"] - 1 == world.words.grammar["FTWQ1"]
    assert counts["graph_size"] == 111


def test_defect_12_impossible_counts_are_explained_and_a_trailing_slash_changes_nothing(tmp_path: Path) -> None:
    world = World(40, 2, 20, repeats=1)
    most = int(np.bincount(world.graph.objects[:, 0]).max())
    with pytest.raises(
        ValueError, match=f"no object of relation 0 is shared by so many facts.*the most common one is shared by {most}"
    ):
        make_task(world, "remap_same", most + 1)
    assert len(make_task(world, "remap_same", most).train["edited"]) == most
    export_world(world, tmp_path / "w")
    assert main(["edit", "-g", f"{tmp_path}/w/", "-n", "1", "--increment-suffix"]) == 0
    assert main(["edit", "-g", f"{tmp_path}/w", "-n", "1", "--increment-suffix"]) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["w"]
    assert {"ft_remap_so_n1_r0_1", "ft_remap_so_n1_r0_2"} <= {path.name for path in (tmp_path / "w").iterdir()}


@pytest.mark.parametrize("n", [1, 4])
def test_defect_13_no_held_out_fact_is_a_training_row(n: int) -> None:
    world = World(900, 5, 20)  # the world in which 10 of 22 and 41 of 86 leaked
    for seed in range(10):
        task = make_task(world, "remap", n, retain_coverage=0.5, seed=seed)
        train = {name: set(world.fact_ids(group.facts).tolist()) for name, group in task.train.items()}
        test = {name: set(world.fact_ids(group.facts).tolist()) for name, group in task.test.items()}
        assert len(test["with_same_value"]) > 5
        for trained, asked in itertools.product(train, test):
            assert not train[trained] & test[asked] or (trained == "edited" and asked in ("edited", "paraphrase"))


def test_defect_14_the_nested_object_that_an_edit_implies_is_asked_for() -> None:
    task = make_task(NESTED, "remap", 4, nested_class="changed")
    new = task.train["edited"].facts
    implied = task.test["sno_new"].facts
    assert implied.rows() == Facts.of(1, new.subject, new.relation, NESTED.graph.nested[new.relation, new.object]).rows()
    was = task.test["same_subj_nested_obj_edges"].facts
    assert np.array_equal(was.subject, implied.subject)
    assert (was.object != implied.object).all()
    unchanged = make_task(NESTED, "remap", 2, nested_class="unchanged")
    assert "sno_new" not in unchanged.test
    prompts = [prompt for prompt, _ in prompts_of(task.encode("test", "sno_new"), NESTED.words)]
    assert prompts == [prompt for prompt, _ in prompts_of(task.encode("test", "same_subj_nested_obj_edges"), NESTED.words)]
