"""Facts from a table as a world: read by name, refused by file and line, edited only to objects that the relation has."""

import csv
from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch

from effnotes.core.errors import DataError
from effnotes.datasets.worlds import Facts, Group, NamedWorld, World, export_world, import_world, make_draws, make_task, read_facts
from effnotes.datasets.worlds.sentences import text_of
from effnotes.datasets.worlds.tasks import TaskKind
from effnotes.finetuning import EditRecipe, edit, evaluate_edit
from effnotes.finetuning.editing.scores import _truth_ratios, object_probabilities
from effnotes.metrics.editing import truth_ratio
from effnotes.models.language import build_language_model
from effnotes.training.pretraining import pretrain
from effnotes.training.recipes import PretrainingRecipe

FIXTURES = Path(__file__).parents[1] / "fixtures"
TABLE = FIXTURES / "facts.csv"
BROKEN = FIXTURES / "facts"
NAMED = read_facts(TABLE)


def stated(path: Path = TABLE) -> dict[tuple[str, str], str]:
    """Read the table without the reader under test."""
    with path.open(encoding="utf-8") as file:
        return {(row["subject"], row["relation"]): row["object"] for row in csv.DictReader(file)}


def with_objects(objects: np.ndarray, **settings) -> World:
    """A world with the given facts, (S, R)."""
    drawn = World(*objects.shape, int(objects.max()) + 1, **settings)
    return replace(drawn, given_graph=replace(drawn.graph, objects=objects))


# --- reading --------------------------------------------------------------------------------------------------------------


def test_every_fact_of_the_table_is_in_the_world() -> None:
    table = stated()
    assert len(table) == 72
    assert len(NAMED.subjects) == 24
    assert NAMED.relations == ("lives in", "works as", "speaks")
    assert [len(names) for names in NAMED.objects] == [6, 4, 5]
    assert (NAMED.world.n_subjects, NAMED.world.n_relations, NAMED.world.n_objects) == (24, 3, 6)
    found = {(NAMED.subjects[s], NAMED.relations[r]): NAMED.objects[r][o] for _, s, r, o in NAMED.world.facts().rows()}
    assert found == table
    assert NAMED.world.in_use.sum(axis=1).tolist() == [6, 4, 5]


def test_facts_are_written_by_name() -> None:
    world = NAMED.world
    assert NAMED.describe(world.facts().take(slice(2))) == ["Abrel Tuno | lives in | Norrick", "Abrel Tuno | works as | baker"]
    assert NAMED.describe(world.facts()) == [f"{s} | {r} | {o}" for (s, r), o in stated().items()]
    lives = world.facts().take(slice(0, 6, 3))
    assert NAMED.describe(lives, np.array([1, 1])) == [
        "Abrel Tuno | lives in | Norrick → Sable Bay",
        "Bixa Morle | lives in | Sable Bay",
    ]
    assert NAMED.describe(Facts.none()) == []


def test_what_has_no_name_is_not_written() -> None:
    facts = NAMED.world.facts()
    with pytest.raises(ValueError, match=r"object 4: 'works as' has 4 objects, numbered 0 to 3"):
        NAMED.describe(facts.take(slice(1, 2)), np.array([4]))
    with pytest.raises(ValueError, match="object -1"):
        NAMED.describe(facts.take(slice(1)), np.array([-1]))
    with pytest.raises(ValueError, match=r"subject=24; in this world it must be from 0 to 23"):
        NAMED.describe(Facts.of(0, np.array([24]), 0, 0))
    with pytest.raises(ValueError, match=r"new has shape \(2,\), but there are 3 facts"):
        NAMED.describe(facts.take(slice(3)), np.array([0, 1]))


def test_how_the_table_is_written_does_not_matter(tmp_path: Path) -> None:
    rows = [
        [relation, f" {value}  ", "a note, of no use", subject.replace(" ", "  ")]
        for (subject, relation), value in stated().items()
    ]
    path = tmp_path / "facts.csv"
    with path.open("w", encoding="utf-8-sig", newline="") as file:
        writer = csv.writer(file, lineterminator="\r\n")
        writer.writerow(["relation", " object", "source", "subject "])
        for row in rows:
            writer.writerow(row)
            file.write("\r\n , , , \r\n")
    same = read_facts(path)
    assert (same.subjects, same.relations, same.objects) == (NAMED.subjects, NAMED.relations, NAMED.objects)
    assert np.array_equal(same.world.graph.objects, NAMED.world.graph.objects)


def test_an_accent_stored_in_two_ways_is_one_name(tmp_path: Path) -> None:
    path = tmp_path / "facts.csv"
    text = TABLE.read_text(encoding="utf-8")
    assert text.count("\u00c8dane") == 3
    path.write_text(text.replace("\u00c8dane", "E\u0300dane", 1), encoding="utf-8")
    assert read_facts(path).subjects == NAMED.subjects


@pytest.mark.parametrize("unseen", ["\u200b", "\u00ad", "\ufeff", "\u202c", "\x00"])
def test_names_with_letters_that_cannot_be_seen_are_one_name(tmp_path: Path, unseen: str) -> None:
    path = tmp_path / "facts.csv"
    text = TABLE.read_text(encoding="utf-8")
    for name in ("Norrick", "Abrel", "lives in"):
        text = text.replace(name, f"{name[:3]}{unseen}{name[3:]}", 2)
    path.write_text(text, encoding="utf-8")
    same = read_facts(path)
    assert (same.subjects, same.relations, same.objects) == (NAMED.subjects, NAMED.relations, NAMED.objects)
    path.write_text(text.replace("Norrick", unseen, 1), encoding="utf-8")
    with pytest.raises(DataError, match=r"line \d+: object is empty"):
        read_facts(path)


def test_settings_say_how_the_facts_are_written() -> None:
    world = read_facts(TABLE, repeats=3, templates={"sro": 1.0}, qa_frac=0.5, qa_subject_frac=0.25, seed=5).world
    assert np.array_equal(world.graph.objects, NAMED.world.graph.objects)
    assert world.n_sentences == 72 * 3 + 36 * 3
    assert world.graph.asked.sum() == 6
    assert np.array_equal(world.graph.asked, World(24, 3, 6, qa_frac=0.5, qa_subject_frac=0.25, seed=5).graph.asked)
    text = "".join(text_of(block, world.words) for block in world.sentences())
    assert text != "".join(text_of(block, world.words) for block in replace(world, seed=6).sentences())
    said = {(s, r): o for block in world.sentences() for _, s, r, o in block.facts.rows()}
    assert {(NAMED.subjects[s], NAMED.relations[r]): NAMED.objects[r][o] for (s, r), o in said.items()} == stated()
    assert world.settings()["n_subjects"] == 24


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        (
            {"n_objects": 9},
            ValueError,
            r"n_objects=9 says how facts are drawn, but these are given. What can be set is: templates,",
        ),
        ({"correlation": 0.5}, ValueError, r"correlation=0.5 says how facts are drawn"),
        ({"repeat": 9}, ValueError, r"repeat=9 is no setting. Did you mean 'repeats'\?"),
        ({"repeats": 0}, DataError, r"facts.csv: repeats=0: must be at least 1"),
        ({"qa_frac": 1.0, "qa_subject_frac": 0.01}, DataError, r"qa_subject_frac=0.01 of n_subjects=24 is no subject"),
    ],
)
def test_other_settings_are_refused(settings: dict, error: type[ValueError], message: str) -> None:
    with pytest.raises(error, match=message):
        read_facts(TABLE, **settings)


def test_the_world_goes_to_files_and_back_by_its_numbers(tmp_path: Path) -> None:
    world = read_facts(TABLE, repeats=2).world
    export_world(world, tmp_path)
    back = import_world(tmp_path)
    assert np.array_equal(back.graph.objects, world.graph.objects)
    assert np.array_equal(back.in_use, world.in_use)
    assert back.settings() == world.settings()


# --- what is refused ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nowhere", r"nowhere.csv: this file is missing"),
        ("empty", r"line 1: no column 'subject', 'relation', 'object'; the header is ''"),
        ("no_facts", r"there is no fact in this file, only a header"),
        (
            "no_object_column",
            r"line 1: no column 'object'; the header is 'subject,relation,value', and must name subject, relation, o",
        ),
        ("semicolons", r"line 1: no column .*the header is 'subject;relation;object', and must name .*with commas between"),
        ("column_twice", r"line 1: the header 'subject,relation,object,object' has 'object' twice; keep one"),
        ("too_few_cells", r"line 4: 2 cells, but the header has 3"),
        ("latin_1", r"this is no UTF-8 text \(.*\); save it as UTF-8"),
        ("empty_cell", r"line 5: object is empty; a fact needs all of subject, relation, object"),
        ("same_fact_twice", r"line 11: 'Abrel \| speaks' is given again, as it is in line 3; .*: keep one of the lines"),
        ("contradiction", r"line 7: 'Abrel \| lives in' is 'Quellby', but 'Varn' in line 2; .*: keep one of the lines"),
        (
            "missing_facts",
            r"line 2: 'Abrel' lacks .*; 4 facts are missing, 'Abrel \| speaks', 'Ello \| lives in', 'Fenk \| lives in' and 1 more; "
            r"each of 7 subjects needs an object of each of 2 relations",
        ),
        ("three_subjects", r"3 subjects \(Abrel, Bixa, Cado\) are too few .*at least 4 are needed"),
        ("one_object", r"line 3: 'speaks' is 'Tavic' for every subject, .*a relation needs at least 2 objects"),
    ],
)
def test_a_broken_table_is_refused_by_name_line_and_what_is_allowed(name: str, message: str) -> None:
    path = BROKEN / f"{name}.csv"
    with pytest.raises(DataError, match=message) as caught:
        read_facts(path)
    assert str(caught.value).startswith(str(path))


def test_every_broken_table_is_tested() -> None:
    source = Path(__file__).read_text()
    assert all(f'"{path.stem}",' in source for path in BROKEN.glob("*.csv"))


def test_more_than_a_world_can_hold_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "facts.csv"
    rows = [f"s{s},r{r},o{(s + r) % 2}\n" for s in range(4) for r in range(1000)]
    path.write_text("subject,relation,object\n" + "".join(rows))
    with pytest.raises(DataError, match=r"facts.csv: n_relations=1000: must be at most 999"):
        read_facts(path)


# --- edits change facts to objects that occur -----------------------------------------------------------------------------

GAPS = with_objects(np.array([[1, 0, 2], [3, 4, 0], [1, 0, 2], [3, 0, 5], [5, 4, 2], [1, 4, 0], [5, 0, 5], [3, 4, 2]] * 8))
"""Of six objects, relation 0 has 1, 3 and 5, relation 1 has 0 and 4, and relation 2 has 0, 2 and 5."""


@pytest.mark.parametrize(("world", "name"), [(GAPS, "gaps"), (NAMED.world, "named")], ids=["gaps", "named"])
@pytest.mark.parametrize("kind", [kind for kind in get_args(TaskKind) if kind != "question_refusal"])
def test_no_row_of_an_edit_has_an_object_that_no_sentence_has(world: World, name: str, kind: str) -> None:
    occurs = {(r, o) for _, _, r, o in world.facts().rows()}
    changed_to = set()
    for seed in range(40):
        for relation in range(3):
            if kind == "suppress" and (relation, 0) not in occurs:
                continue
            task = make_task(world, kind, 1, relation=relation, seed=seed)
            for group in (*task.train.values(), *task.test.values()):
                assert {(r, o) for _, _, r, o in group.facts.rows()} <= occurs
            if kind.startswith("remap"):
                new = task.train["edited"].facts
                assert (new.object != task.old.object).all()
                changed_to |= {(r, o) for _, _, r, o in new.rows()}
    # And all that occur are changed to: none of them is lost.
    assert changed_to == (occurs if kind.startswith("remap") else set())


def test_new_objects_of_whole_subjects_are_uniform_over_the_others_that_occur() -> None:
    from scipy import stats

    counts: dict[tuple[int, int, int], int] = {}
    for seed in range(400):
        task = make_task(GAPS, "remap_subject", 2, seed=seed)
        new = task.train["edited"].facts
        for (_, _, r, old), other in zip(task.old.rows(), new.object.tolist(), strict=True):
            counts[r, old, other] = counts.get((r, old, other), 0) + 1
    for r, old in {key[:2] for key in counts}:
        drawn = [n for key, n in counts.items() if key[:2] == (r, old)]
        assert len(drawn) == GAPS.in_use[r].sum() - 1
        if len(drawn) > 1:
            assert stats.chisquare(drawn).pvalue > 1e-3


def test_only_objects_that_occur_count_for_how_many_can_be_remapped_at_once() -> None:
    assert len(make_task(GAPS, "remap", 1, relation=1).old) == 1
    with pytest.raises(ValueError, match=r"n=2: at most 1 facts of relation 1 can be remapped at once, because 2 of its 2 values"):
        make_task(GAPS, "remap", 2, relation=1)


def test_a_relation_cannot_be_suppressed_to_what_nobody_has() -> None:
    with pytest.raises(ValueError, match=r"no sentence states in relation 0; take a relation that has it: 1, 2"):
        make_task(GAPS, "suppress", 1)


@pytest.mark.parametrize("kind", ["remap", "remap_same", "remap_subject"])
def test_a_relation_with_one_object_cannot_be_remapped(kind: str) -> None:
    world = with_objects(np.array([[2, 0], [2, 1]] * 8))
    with pytest.raises(ValueError, match="needs a second value to change to, but relation 0 has one"):
        make_task(world, kind, 1)


def test_second_objects_occur_too() -> None:
    world = World(40, 2, 60, minority_frac=0.5)
    said = {(r, o) for block in replace(world, minority_p=0.5).sentences() for _, _, r, o in block.facts.rows()}
    assert said == set(zip(*(axis.tolist() for axis in np.nonzero(world.in_use)), strict=True))
    assert len(said) < 120


def test_nothing_is_said_about_objects_that_nobody_has() -> None:
    world = World(4, 2, 16, n_nested=4, repeats=3)
    held = set(zip(np.tile([0, 1], 4).tolist(), world.graph.objects.reshape(-1).tolist(), strict=True))
    facts = world.facts("ono")
    assert {(r, o) for _, o, r, _ in facts.rows()} == held
    assert 2 < len(held) == len(facts) < 32
    assert np.array_equal(world.fact_ids(world.facts()), np.arange(16 + len(held)))
    said = {(r, o) for block in world.sentences() for kind, o, r, _ in block.facts.rows() if kind == "ono"}
    assert said == held
    (r, o), *_ = zip(*(axis.tolist() for axis in np.nonzero(~world.in_use)), strict=True)
    nobodys = Facts.of(2, np.array([o]), r, world.graph.nested[r, o])
    for refuses in (world.fact_ids, world.check_facts, lambda facts: world.encode(facts, "sro")):
        with pytest.raises(ValueError, match=rf"fact 0 is about object {o} of relation {r}, which nobody has"):
            refuses(nobodys)


def test_edits_of_objects_take_those_that_somebody_has() -> None:
    world = World(12, 2, 24, n_nested=4, correlation=1.0, binarize=True)
    for seed in range(10):
        task = make_task(world, "remap", 1, edge="ono", seed=seed, relation=1)
        groups = [task.old, *(group.facts for group in (*task.train.values(), *task.test.values()))]
        assert {(r, o) for facts in groups for kind, o, r, _ in facts.rows() if kind == "ono"} <= {(0, 0), (0, 1), (1, 0), (1, 1)}
        # Nested objects that only nobody's objects have are in no sentence, so that no fact changes to them.
        assert set(task.train["edited"].facts.object.tolist()) <= set(world.facts("ono").object.tolist())


def test_a_pair_moves_along_only_to_what_its_partner_has() -> None:
    objects = np.array([[0, 0], [1, 1], [0, 2], [1, 0], [2, 1], [2, 1], [3, 0], [3, 2]] * 6)
    world = with_objects(objects, correlation=0.6)
    moved = []
    for seed in range(30):
        task = make_task(world, "remap", 1, seed=seed)
        can = task.train["edited"].facts.object[0] < 3
        assert ("same_subject_second_rel_converted" in task.test) == can
        moved.append(can)
    assert 0 < sum(moved) < 30


# --- scores ---------------------------------------------------------------------------------------------------------------


def test_truth_ratios_leave_out_objects_that_do_not_occur() -> None:
    table, truth = np.array([[0.5, 0.1, 0.3, 0.05], [0.2, 0.6, 0.0, 0.1]]), np.array([0, 1])
    possible = np.array([[True, True, True, False], [True, True, False, False]])
    assert truth_ratio(table, truth, possible) == pytest.approx([0.2 / 0.7, 0.2 / 0.8])
    assert possible[0, 0]
    assert truth_ratio(table, truth, np.ones((2, 4))) == pytest.approx(truth_ratio(table, truth))
    assert np.isnan(truth_ratio(table[:1], truth[:1], [[True, False, False, False]])).all()
    with pytest.raises(ValueError, match="truth is not among the possible objects in 1 of 2 rows"):
        truth_ratio(table, np.array([0, 3]), possible)
    with pytest.raises(ValueError, match=r"possible has shape \(1, 4\): it must be that of probabilities, \(2, 4\)"):
        truth_ratio(table, truth, possible[:1])


def test_unlearning_is_scored_by_the_objects_that_occur() -> None:
    model = build_language_model("neox-32x1", NAMED.world.vocab_size, seed=0)
    facts = NAMED.world.facts()
    table = object_probabilities(model, NAMED.world, facts, "sro")
    expected = []
    for row, (_, _, r, o) in zip(table, facts.rows(), strict=True):
        wrong = np.mean([row[other] for other in range(len(NAMED.objects[r])) if other != o])
        expected.append(wrong / (wrong + row[o]))
    found = _truth_ratios(model, NAMED.world, Group(facts, np.zeros(len(facts), dtype=np.int64)), 512)
    assert found == pytest.approx(expected, rel=1e-9)
    assert found != pytest.approx(truth_ratio(table, facts.object), rel=1e-4)


# --- from a table to an edited model --------------------------------------------------------------------------------------


def test_a_model_learns_the_table_and_one_of_its_facts_is_edited(tmp_path: Path) -> None:
    named: NamedWorld = read_facts(TABLE, repeats=60)
    recipe = PretrainingRecipe(batch_size=16, passes=3, most_extensions=1)
    found = pretrain(named.world, "neox-32x2", recipe, cache=tmp_path)
    assert found.recall["recall"].min() > 0.95
    assert pretrain(named.world, "neox-32x2", recipe, cache=tmp_path).from_cache
    draws = make_draws(named.world, "remap", 1, relation=1, n_tune=1, n_test=2)
    task = draws.test[0]
    (line,) = named.describe(task.old, task.train["edited"].facts.object)
    before, _, after = line.partition(" → ")
    assert stated()[tuple(before.split(" | ")[:2])] == before.split(" | ")[2] != after  # type: ignore[index]
    assert after in named.objects[1]
    edited = edit(found.model, task, EditRecipe(learning_rate=1e-3))
    scores = evaluate_edit(found.model, edited.model, task).scores
    assert scores["edit_success"] == 1
    assert scores["retention"] > 0.5


def test_other_facts_of_the_same_shape_have_another_key() -> None:
    from effnotes.models.language import language_model_shape
    from effnotes.training.pretraining import _Run

    world = NAMED.world
    objects = world.graph.objects.copy()
    objects[0, 0] = (objects[0, 0] + 1) % 6
    other = replace(world, given_graph=replace(world.graph, objects=objects))
    assert other.settings() == world.settings()
    shape, recipe = language_model_shape("neox-32x2"), PretrainingRecipe()
    keys = [_Run(each, shape, recipe, 0, None, torch.device("cpu")).key for each in (world, replace(world), other)]
    assert keys[0] == keys[1] != keys[2]
