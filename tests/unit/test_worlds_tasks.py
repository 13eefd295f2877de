"""Edits of worlds: what is edited, that nothing asked is ever trained on, and the draws to tune and to report on."""

import hashlib
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from effnotes.datasets.worlds import FORMS, Facts, Group, Task, World, make_draws, make_task
from effnotes.datasets.worlds.draws import Draws

IID = World(768, 4, 32)
NESTED = World(192, 3, 16, n_nested=4)
CORRELATED = World(600, 3, 16, correlation=0.6)
BINARISED = World(300, 3, 16, correlation=1.0, binarize=True)
QUESTIONS = World(300, 3, 16, qa_frac=0.2, withheld_frac=0.5)

CASES = {
    "remap": (IID, "remap", 4, {}),
    "remap in relation 2": (IID, "remap", 1, {"relation": 2}),
    "remap without retain rows": (IID, "remap", 4, {"retain_coverage": 0.0}),
    "remap, half retained": (IID, "remap", 4, {"retain_coverage": 0.5}),
    "remap_same": (IID, "remap_same", 4, {}),
    "remap_subject": (IID, "remap_subject", 2, {}),
    "suppress": (IID, "suppress", 8, {}),
    "refusal": (IID, "refusal", 8, {}),
    "unlearn_subject": (IID, "unlearn_subject", 13, {}),
    "nested": (NESTED, "remap", 3, {}),
    "nested, class changed": (NESTED, "remap", 3, {"nested_class": "changed"}),
    "nested, class unchanged": (NESTED, "remap_same", 3, {"nested_class": "unchanged"}),
    "nested, sno": (NESTED, "remap", 2, {"edge": "sno"}),
    "nested, sno, same": (NESTED, "remap_same", 2, {"edge": "sno"}),
    "nested, ono": (NESTED, "remap", 2, {"edge": "ono"}),
    "nested, ono, same": (NESTED, "remap_same", 2, {"edge": "ono"}),
    "nested, ono, refusal": (NESTED, "refusal", 2, {"edge": "ono"}),
    "nested, subject": (NESTED, "remap_subject", 2, {}),
    "nested, unlearn": (NESTED, "unlearn_subject", 5, {}),
    "correlated": (CORRELATED, "remap", 3, {}),
    "correlated, relation 1": (CORRELATED, "remap", 3, {"relation": 1}),
    "correlated, suppress": (CORRELATED, "suppress", 9, {}),
    "binarised": (BINARISED, "remap", 5, {}),
    "binarised, same": (BINARISED, "remap_same", 5, {}),
    "questions": (QUESTIONS, "remap", 3, {}),
    "question_refusal": (QUESTIONS, "question_refusal", 6, {}),
    "new_question": (QUESTIONS, "new_question", 8, {}),
}


def made(name: str, seed: int = 0) -> Task:
    world, kind, n, options = CASES[name]
    return make_task(world, kind, n, seed=seed, **options)


def ids(task: Task, group: Group | Facts) -> set[int]:
    return set(task.world.fact_ids(group.facts if isinstance(group, Group) else group).tolist())


def retained(task: Task) -> list[Group]:
    return [group for name, group in task.train.items() if name not in ("edited", "forget")]


def truth(world: World, facts: Facts) -> np.ndarray:
    return world.facts().object[world.fact_ids(facts)]


# --- no row that is asked is trained on -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("seed", range(5))
def test_no_held_out_fact_or_subject_is_trained_on(name: str, seed: int) -> None:
    task = made(name, seed)
    trained = Facts.join(Facts.none(), *(group.facts for group in retained(task)))
    asked = Facts.join(*(group.facts for group in task.test.values()))
    assert not ids(task, trained) & ids(task, asked)
    assert not ids(task, trained) & ids(task, task.old)
    # Facts between objects are about objects, all others about subjects.
    for of_objects in (True, False):
        about = {
            which: set(
                zip(facts.relation[rows].tolist() if of_objects else [0] * rows.sum(), facts.subject[rows].tolist(), strict=True)
            )
            for which, facts in (("trained", trained), ("asked", asked))
            for rows in [(facts.kind == 2) == of_objects]
        }
        assert not about["trained"] & about["asked"]
    held_out = [group for name, group in task.test.items() if name in ("with_same_value", "with_same_rel", "reg_data")]
    groups = [ids(task, group) for group in (*retained(task), *held_out)]
    assert sum(map(len, groups)) == len(set().union(*groups))


@pytest.mark.parametrize("name", CASES)
def test_all_rows_but_the_edited_and_implied_ones_state_what_is_so(name: str) -> None:
    task = made(name)
    changed = {"edited", "paraphrase", "withheld", "sno_new", "same_subject_second_rel_converted"}
    for group_name, group in (*task.train.items(), *task.test.items()):
        is_true = group.facts.object == truth(task.world, group.facts)
        if group_name not in changed:
            assert is_true.all(), group_name
        elif task.kind.startswith("remap") or task.kind == "suppress":
            assert not is_true.any(), group_name


def test_a_task_refuses_rows_that_leak() -> None:
    task = made("remap")
    with pytest.raises(ValueError, match=r"facts are retain rows and test rows"):
        replace(task, train=dict(task.train) | {"with_same_rel": task.test["with_same_rel"]})
    facts = task.test["reg_data"].facts.take(slice(1))
    other = Facts.of(0, facts.subject, (facts.relation + 1) % 4, 0)
    test = {"edited": task.test["edited"], "reg_data": task.test["reg_data"].take(slice(1))}
    with pytest.raises(ValueError, match=r"1 subjects have retain rows and test rows, such as number"):
        replace(task, test=test, train={"edited": task.train["edited"], "reg_data": Group(other, np.zeros(1, dtype=np.int64))})
    with pytest.raises(ValueError, match=r"groups without rows have to be left out: reg_data"):
        replace(task, test=dict(task.test) | {"reg_data": task.test["reg_data"].take(slice(0))})


# --- what is edited -------------------------------------------------------------------------------------------------------


def test_remap_takes_different_old_and_new_objects() -> None:
    for seed in range(20):
        task = make_task(IID, "remap", 16, seed=seed)
        old, new = task.old.object, task.train["edited"].facts.object
        assert len({*old.tolist(), *new.tolist()}) == 32
        assert (task.old.relation == 0).all()


def test_remap_same_moves_one_object_to_one() -> None:
    task = made("remap_same")
    assert len(set(task.old.object)) == len(set(task.train["edited"].facts.object)) == 1
    assert len(set(task.old.subject)) == 4


def test_remap_subject_changes_all_facts_of_a_subject() -> None:
    task = made("remap_subject")
    assert task.relation is None
    assert len(task.old) == 8
    assert len(task.subjects) == 2
    assert "reg_data" not in task.train


def test_neighbours_are_told_apart_by_relation_and_old_object() -> None:
    task = made("remap")
    old = set(task.old.object.tolist())
    for groups in (task.train, task.test):
        assert set(groups["with_same_value"].facts.object.tolist()) <= old
        assert not set(groups["with_same_rel"].facts.object.tolist()) & old
        assert set(groups["with_same_rel"].facts.relation.tolist()) == {0}
        assert set(groups["reg_data"].facts.relation.tolist()) == {1, 2, 3}
    assert ids(task, task.test["same_edges_diff_rel"]) == {s * 4 + r for s in task.old.subject.tolist() for r in (1, 2, 3)}


@pytest.mark.parametrize("coverage", [0.0, 1e-4, 0.05, 0.1, 0.5])
def test_retain_rows_come_from_as_many_whole_subjects_as_asked(coverage: float) -> None:
    task = make_task(IID, "remap", 1, retain_coverage=coverage)
    subjects = np.concatenate([np.zeros(0), *(group.facts.subject for group in retained(task))])
    kept, rows = np.unique(subjects, return_counts=True)
    assert len(kept) == {0.0: 0, 1e-4: 1, 0.05: 38, 0.1: 77, 0.5: 383}[coverage]
    assert (rows == 4).all()


def test_suppression_spreads_are_asked_of_unseen_subjects() -> None:
    task = made("suppress")
    assert (task.old.object != 0).all()
    assert (task.train["edited"].facts.object == 0).all()
    assert set(task.train) == {"edited", "reg_data"}
    unseen = task.test["implicitly_remapped_edges"].facts
    assert not set(unseen.subject) & set(task.old.subject)
    assert (unseen.object != 0).all()
    assert set(unseen.relation) == {0}


def test_refusals_answer_with_markers() -> None:
    task = made("refusal")
    edited = task.encode("train", "edited")
    rows = np.arange(len(edited))[:, None]
    assert (edited.tokens[rows, edited.answer[:, None] + np.arange(2)] == 5).all()
    assert np.array_equal(edited.tokens[:, :9], IID.encode(task.old, "sro").tokens[:, :9])
    assert {FORMS[form] for form in made("question_refusal").train["edited"].form} == {"question_refusal"}


def test_a_new_question_form_is_asked_of_unseen_subjects() -> None:
    task = made("new_question")
    form = FORMS.index("new_question")
    assert (task.train["edited"].form == form).all()
    assert (task.test["new_question"].form == form).all()
    assert not set(task.test["new_question"].facts.subject) & set(task.old.subject)


def test_paraphrases_are_in_other_forms_and_withheld_ones_were_never_written() -> None:
    task = made("questions")
    paraphrases = task.test["paraphrase"]
    assert FORMS.index("sro") not in paraphrases.form
    rso = paraphrases.form == FORMS.index("rso")
    assert np.array_equal(paraphrases.facts.subject[rso], task.old.subject)
    assert QUESTIONS.graph.asked[paraphrases.facts.subject[~rso]].all()
    seen = 0
    for seed in range(10):
        withheld = made("questions", seed).test.get("withheld")
        if withheld is not None:
            names = list(QUESTIONS.templates)
            codes = [FORMS.index(names[which]) for which in QUESTIONS.withheld[QUESTIONS.fact_ids(withheld.facts)]]
            assert codes == withheld.form.tolist()
            seen += len(withheld)
    assert seen > 0


def test_unlearned_subjects_are_split_to_relearn_and_to_ask() -> None:
    task = made("unlearn_subject")
    assert len(task.train["forget"]) == 13 * 4
    halves = [set(task.test[name].facts.subject.tolist()) for name in ("forget_relearn", "forget_other_half")]
    assert halves[0].isdisjoint(halves[1])
    assert halves[0] | halves[1] == set(task.subjects.tolist())
    gold = Facts.join(*(block.facts for block in replace(IID, repeats=1).sentences(left_out=task.forgotten)))
    assert not np.isin(gold.subject, task.subjects).any()
    assert len(gold) == (768 - 13) * 4
    assert len(made("nested, unlearn").train["forget"]) == 5 * 3 * 2


def test_edits_in_sequence_come_one_by_one_with_those_before() -> None:
    task = made("remap")
    steps = list(task.sequence())
    assert [len(step.train["edited"]) for step in steps] == [1, 1, 1, 1]
    assert [len(step.test["edited_before"]) if "edited_before" in step.test else 0 for step in steps] == [0, 1, 2, 3]
    assert Facts.join(*(step.old for step in steps)).rows() == task.old.rows()
    assert steps[2].test["paraphrase"].facts.rows() == steps[2].train["edited"].facts.rows()
    with pytest.raises(ValueError, match=r"only tasks that edit single facts"):
        next(made("unlearn_subject").sequence())


@pytest.mark.parametrize("name", ["nested, class changed", "nested, ono", "correlated", "questions", "nested, subject"])
def test_a_step_of_a_sequence_asks_for_what_that_edit_implies_and_no_other(name: str) -> None:
    task = made(name)
    groups = ("sno_new", "same_subject_second_rel_converted", "remapped_obj_nested_obj_edges", "paraphrase")
    seen: dict[str, list[tuple]] = {group: [] for group in groups}
    for step in task.sequence():
        fact = step.old.rows()[0]
        assert len(step.old) == len(step.train["edited"]) == 1
        for group in groups:
            if group in step.test:
                seen[group] += step.test[group].facts.rows()
        for group in ("sno_new", "same_subject_second_rel_converted", "same_edges_diff_rel"):
            if group in step.test and task.edge != "ono":
                assert set(step.test[group].facts.subject.tolist()) == {fact[1]}
        # What another step changes is not among the facts that should be as they were.
        others = step.test.get("same_edges_diff_rel")
        assert others is None or not ids(task, others) & ids(task, task.old)
    for group in groups:
        # Two edits may mean the same for one object.
        assert set(seen[group]) == (set(task.test[group].facts.rows()) if group in task.test else set()), group


def test_what_a_pair_was_and_would_be_stand_in_the_order_of_the_edits() -> None:
    task = made("correlated")
    for group in ("same_subject_second_rel", "same_subject_second_rel_converted"):
        assert np.array_equal(task.test[group].facts.subject, task.old.subject)


def test_no_edit_gives_a_binarised_relation_a_third_object() -> None:
    # Relation 1 always agrees with relation 0, so that it has no third object either, and old and new ones are used up by one fact.
    cases = (
        ("remap", 0, 2),
        ("remap_same", 0, 2),
        ("remap_subject", 0, 2),
        ("remap", 1, 1),
        ("remap_same", 1, 2),
        ("suppress", 0, 2),
    )
    for kind, relation, n in cases:
        for seed in range(5):
            task = make_task(BINARISED, kind, n, relation=relation, seed=seed)
            for group in (*task.train.values(), *task.test.values()):
                assert (group.facts.object[(group.facts.kind == 0) & (group.facts.relation < 2)] < 2).all()


def test_groups_and_copies_draw_markers_of_their_own() -> None:
    world = World(60, 2, 8, templates={"repeats": 1.0})
    task = make_task(world, "remap_same", 5)
    trained, asked = task.encode("train", "edited"), task.encode("test", "edited")
    assert trained.tokens.shape != asked.tokens.shape or not np.array_equal(trained.tokens, asked.tokens)
    copies = task.encode("train", "edited", copies=20)
    assert copies.facts.rows() == task.train["edited"].facts.rows() * 20
    assert (
        len({text for rows in [copies.take(copies.facts.subject == task.old.subject[0])] for text in map(tuple, rows.tokens)}) > 10
    )
    with pytest.raises(ValueError, match=r"copies=0: must be at least 1"):
        task.encode("train", "edited", copies=0)


def test_sizes_are_a_table() -> None:
    task = made("remap")
    table = task.sizes().set_index(["split", "group"])["rows"]
    assert table["train", "edited"] == 4
    assert table["test", "same_edges_diff_rel"] == 12
    assert len(table) == len(task.train) + len(task.test)


# --- draws ----------------------------------------------------------------------------------------------------------------


def test_no_two_draws_edit_one_subject() -> None:
    draws = make_draws(IID, "remap", 8, n_tune=3, n_test=6, seed=5)
    assert isinstance(draws, Draws)
    assert (len(draws.tune), len(draws.test)) == (3, 6)
    subjects = np.concatenate([task.subjects for task in (*draws.tune, *draws.test)])
    assert len(np.unique(subjects)) == len(subjects) == 9 * 8
    objects = make_draws(NESTED, "remap", 1, n_tune=3, n_test=3, edge="ono")
    assert len({int(task.subjects[0]) for task in (*objects.tune, *objects.test)}) == 6


def test_more_draws_leave_the_first_ones_as_they_were() -> None:
    few, many = (make_draws(IID, "remap", 2, n_tune=1, n_test=n, seed=5) for n in (1, 4))
    assert few.tune[0].old.rows() == many.tune[0].old.rows()
    assert few.test[0].old.rows() == many.test[0].old.rows()


DIGEST = "0b076a5cab93797f"


def test_a_seed_gives_the_same_edits() -> None:
    def written(seed: int) -> bytes:
        tasks = [made(name, seed) for name in CASES]
        return b"".join(
            task.encode(split, group).tokens.tobytes()
            for task in tasks
            for split, groups in (("train", task.train), ("test", task.test))
            for group in groups
        )

    assert written(0) == written(0) != written(1)
    assert hashlib.sha256(written(0)).hexdigest()[:16] == DIGEST


def test_edited_subjects_and_new_objects_are_uniform() -> None:
    tasks = [make_task(World(40, 2, 8), "remap", 1, seed=seed) for seed in range(600)]
    assert stats.chisquare(np.bincount([int(task.old.subject[0]) for task in tasks], minlength=40)).pvalue > 1e-3
    shift = [int(task.train["edited"].facts.object[0] - task.old.object[0]) % 8 for task in tasks]
    assert stats.chisquare(np.bincount(shift, minlength=8)[1:]).pvalue > 1e-3


# --- requests that cannot be met ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("world", "arguments", "options", "message"),
    [
        (IID, ("remaps",), {}, r"kind='remaps': must be one of 'remap', .*Did you mean 'remap"),
        (IID, ("remap", 0), {}, r"n=0: must be at least 1"),
        (IID, ("remap", 17), {}, r"n=17: at most 16 facts of relation 0 can be remapped at once"),
        (IID, ("remap", 1), {"relation": 4}, r"relation=4: the world's relations are numbered 0 to 3"),
        (IID, ("remap", 1), {"retain_coverage": 0.6}, r"retain_coverage=0.6: must be at most 0.5"),
        (IID, ("remap", 1), {"edge": "sno"}, r"edge='sno' needs a world with nested objects; this one has n_nested=0"),
        (IID, ("remap", 1), {"edge": "os"}, r"edge='os': must be one of 'so', 'sno', 'ono'"),
        (
            NESTED,
            ("suppress", 1),
            {"edge": "sno"},
            r"edge='sno' goes with the kinds remap, remap_same and refusal, not with suppress",
        ),
        (IID, ("remap", 1), {"nested_class": "changed"}, r"nested_class='changed' is only for remapping so facts"),
        (IID, ("question_refusal", 1), {}, r"kind='question_refusal' needs a world with questions"),
        (World(20, 1, 1), ("remap", 1), {}, r"kind='remap' needs a second value"),
        (
            World(20, 1, 4, templates={"sor": 0.5, "osr": 0.5}),
            ("remap", 1),
            {},
            r"needs a template that ends with the object, to be asked in: sro, rso, .*; templates is \{'sor': 0.5, 'osr': 0.5\}",
        ),
        (IID, ("unlearn_subject", 767), {}, r"n=767: no two of the 768 subjects are left"),
        (IID, ("unlearn_subject", 769), {}, r"n=769: only 768 subjects are left to edit"),
        (
            NESTED,
            ("remap_same", 1),
            {"nested_class": "other"},
            r"nested_class='other': must be one of 'any', 'changed', 'unchanged'",
        ),
        (
            World(20, 1, 4, n_nested=4),
            ("remap", 1),
            {"nested_class": "unchanged"},
            r"n=1: too few objects of relation 0 have the wanted",
        ),
        (
            World(20, 1, 4, n_nested=4),
            ("remap_same", 1),
            {"nested_class": "unchanged"},
            r"nested_class='unchanged': no other object",
        ),
    ],
)
def test_impossible_requests_are_refused(world: World, arguments: tuple, options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_task(world, *arguments, **options)


def test_too_many_draws_are_refused() -> None:
    with pytest.raises(ValueError, match=r"n=4: only 0 subjects are left to edit"):
        make_draws(World(12, 1, 8), "unlearn_subject", 4, n_tune=2, n_test=2)
    with pytest.raises(ValueError, match=r"n_tune=-1: must be at least 0"):
        make_draws(IID, "remap", n_tune=-1, n_test=1)


def test_an_unknown_group_names_those_there_are() -> None:
    with pytest.raises(ValueError, match=r"test group='edit': must be one of edited, .* Did you mean 'edited'\?"):
        made("remap").encode("test", "edit")
