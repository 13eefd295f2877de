"""Worlds of made-up facts: their graph, their words and sentences, their training text, and settings in files."""

import hashlib
import itertools
import json
import subprocess
import sys
import tracemalloc
from collections import Counter
from dataclasses import replace
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
import yaml
from scipy import stats

from effnotes.core.errors import DataError
from effnotes.datasets.worlds import FORMS, Facts, World, load_world, plot_world
from effnotes.datasets.worlds.corpus import Permutation
from effnotes.datasets.worlds.draws import subset_size
from effnotes.datasets.worlds.forms import STATEMENTS
from effnotes.datasets.worlds.sentences import prompts_of, text_of
from effnotes.datasets.worlds.words import EOS, OO, PAD
from effnotes.reporting.figures import PALETTE

ROOT = Path(__file__).parents[2]
BROKEN = ROOT / "tests" / "fixtures" / "worlds"
SHIPPED = sorted((ROOT / "data" / "worlds").glob("*.yaml"))

IID = World(60, 3, 8, repeats=5)
NESTED = World(60, 2, 8, n_nested=4, repeats=3, ono_upweight=5)
DISSENT = World(400, 2, 8, minority_frac=0.25, minority_p=0.3, repeats=50)
QUESTIONS = World(60, 2, 8, qa_frac=0.4, qa_subject_frac=0.5, repeats=10)
ZIPF = World(200, 2, 8, zipf=1.0, repeats=20)
WITHHELD = World(60, 2, 8, withheld_frac=0.5, templates={"sro": 0.5, "rso": 0.3, "osr": 0.2}, repeats=20)
TOGETHER = World(60, 3, 8, n_nested=4, shuffle=False, repeats=4)
MIXED = World(60, 2, 8, templates=dict.fromkeys(STATEMENTS, 1 / 7), qa_frac=0.2, tokens_per_subject=2, repeats=5)
EVERY = {
    "iid": IID,
    "nested": NESTED,
    "dissent": DISSENT,
    "questions": QUESTIONS,
    "zipf": ZIPF,
    "withheld": WITHHELD,
    "together": TOGETHER,
    "mixed": MIXED,
}


def text(world: World, **options) -> str:
    return "".join(text_of(block, world.words) for block in world.sentences(**options))


def digest(data: str | bytes) -> str:
    return hashlib.sha256(data.encode() if isinstance(data, str) else data).hexdigest()[:16]


def said(world: World, **options) -> Facts:
    return Facts.join(*(block.facts for block in world.sentences(**options)))


def p_value(counts: np.ndarray) -> float:
    """Of a chi-square test that all outcomes are equally likely."""
    return float(stats.chisquare(counts).pvalue)


# --- the graph ------------------------------------------------------------------------------------------------------------


def test_objects_are_uniform_and_independent() -> None:
    objects = World(40_000, 2, 5).graph.objects
    assert p_value(np.bincount(objects[:, 0])) > 1e-3
    assert stats.chi2_contingency(np.histogram2d(*objects.T, bins=5)[0]).pvalue > 1e-3


def test_a_correlated_pair_agrees_as_often_as_asked_and_otherwise_takes_any_other_object() -> None:
    objects = World(40_000, 3, 5, correlation=0.6).graph.objects
    agree = objects[:, 0] == objects[:, 1]
    assert stats.binomtest(int(agree.sum()), len(agree), 0.6).pvalue > 1e-3
    assert p_value(np.bincount((objects[~agree, 1] - objects[~agree, 0]) % 5)[1:]) > 1e-3
    assert stats.chi2_contingency(np.histogram2d(objects[:, 0], objects[:, 2], bins=5)[0]).pvalue > 1e-3
    assert (World(100, 2, 5, correlation=1.0).graph.objects.std(axis=1) == 0).all()


def test_a_binarised_relation_has_two_objects() -> None:
    objects = World(2000, 3, 8, correlation=0.9, binarize=True).graph.objects
    assert set(objects[:, 0]) == {0, 1}
    assert set(objects[:, 2]) == set(range(8))


def test_nested_objects_are_shared_evenly_and_entailed() -> None:
    nested = NESTED.graph.nested
    assert all(np.bincount(classes).tolist() == [2, 2, 2, 2] for classes in nested)
    by_object = {(r, o): m for _, o, r, m in NESTED.facts("ono").rows()}
    objects = {(s, r): o for _, s, r, o in NESTED.facts("so").rows()}
    inherited = NESTED.facts("sno").rows()
    assert len(inherited) == 120
    assert all(m == by_object[r, objects[s, r]] for _, s, r, m in inherited)


def test_dissent_is_about_other_objects_and_as_frequent_as_asked() -> None:
    graph = DISSENT.graph
    disputed = graph.minority >= 0
    assert disputed.sum() == 200
    assert (graph.minority[disputed] != graph.objects[disputed]).all()
    facts = said(DISSENT)
    second = DISSENT.minority_of(facts)
    dissents = facts.object[second >= 0] == second[second >= 0]
    assert stats.binomtest(int(dissents.sum()), len(dissents), 0.3).pvalue > 1e-3
    agreed = second < 0
    assert (facts.object[agreed] == graph.objects[facts.subject, facts.relation][agreed]).all()


def test_a_setting_leaves_what_others_draw_as_it_was() -> None:
    assert np.array_equal(IID.graph.objects, replace(IID, minority_frac=0.5, qa_frac=0.5).graph.objects)
    assert np.array_equal(IID.graph.objects, replace(IID, n_nested=4).graph.objects)
    assert not np.array_equal(IID.graph.objects, replace(IID, seed=1).graph.objects)


# --- words and sentences --------------------------------------------------------------------------------------------------


def test_tokens_of_all_kinds_of_words_are_apart() -> None:
    words = World(1500, 3, 12, n_nested=4, templates={"nonsense_sro": 1.0}).words
    tables = (words.subjects, words.relations, words.objects, words.subject_nested_relations, words.object_nested_relations)
    used = [set(table[table >= 0].tolist()) for table in (*tables, words.nested)]
    used += [set(range(8)), set(words.grammar.values())]
    assert sum(map(len, used)) == len(set.union(*used)) == words.n_tokens
    assert len({tuple(pair) for pair in words.subjects.tolist()}) == 1500


@pytest.mark.parametrize(
    ("world", "vocabulary"),
    [(World(768, 4, 32), 928), (World(2500, 1, 2), 8 + 100 + 1 + 2 + 20), (World(100_000, 1, 2), 8 + 1100 + 1 + 2 + 20)],
)
def test_vocabulary_sizes(world: World, vocabulary: int) -> None:
    assert world.vocab_size == vocabulary


def test_sentences_of_a_known_fact() -> None:
    words = IID.words
    s, r, o = (int(table[0]) for table in (words.subjects[7], words.relations[1], words.objects[1, 3]))
    w = words.grammar
    fact = Facts.of(0, np.array([7]), 1, 3)
    expected = {
        "sro": [0, 3, s, w["W0"], w["W1"], 4, r, w["W2"], 5, o, 2],
        "rso": [0, w["W9"], 4, r, w["W7"], 3, s, w["W5"], 5, o, 2],
        "sor": [0, 3, s, w["W0"], 5, o, w["W3"], w["W4"], 4, r, 2],
        "osr": [0, 5, o, w["W5"], 3, s, w["W8"], 4, r, 2],
        "question": [0, 6, w["WQ1"], 4, r, w["WQ2"], 3, s, w["WQ3"], w["WQ4"], 7, 5, o, 2],
        "refusal": [0, 3, s, w["W0"], w["W1"], 4, r, w["W2"], 5, 5, 5, 2],
        "question_refusal": [0, 6, w["WQ1"], 4, r, w["WQ2"], 3, s, w["WQ3"], w["WQ4"], 7, 5, 5, 5, 2],
    }
    for form, tokens in expected.items():
        sentence = IID.encode(fact, form)
        assert sentence.tokens.tolist() == [tokens], form
        answer = slice(int(sentence.answer[0]), int(sentence.answer[0] + sentence.answer_length[0]))
        refusals = {"refusal": [OO] * 2, "question_refusal": [OO] * 3}
        assert sentence.tokens[0, answer].tolist() == refusals.get(form, [o])
    assert IID.encode(fact, "sro").answer.tolist() == [9]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", ["so", "sno", "ono"])
def test_any_form_of_any_fact_begins_with_eos_ends_with_a_stop_and_holds_its_words(form: str, kind: str) -> None:
    world = World(30, 2, 8, n_nested=4, templates={"nonsense_sro": 1.0}, tokens_per_subject=2)
    facts = world.facts(kind)
    sentences = world.encode(facts, form)
    rows = np.arange(len(facts))
    assert (sentences.tokens[:, 0] == EOS).all()
    assert (sentences.tokens[rows, sentences.length - 1] == 2).all()
    assert ((sentences.tokens != PAD).sum(axis=1) == sentences.length).all()
    for row, word in enumerate(world.words.of_facts(facts)[0].tolist()):
        assert set(word) - {-1} <= set(sentences.tokens[row].tolist())
    if "refusal" not in form:
        assert (sentences.tokens[rows, sentences.answer - 1] == OO).all()
        assert (sentences.tokens[rows, sentences.answer] == world.words.of_facts(facts)[2][:, 0]).all()


def test_text_can_be_read_back() -> None:
    sample = MIXED.sample_sentences(300, seed=4)
    tokens = [token for row, length in zip(sample.tokens.tolist(), sample.length, strict=True) for token in row[:length]]
    tokenizer = MIXED.hf_tokenizer()
    assert [EOS, *tokenizer(text_of(sample, MIXED.words))["input_ids"][:-1]] == tokens
    assert len(tokenizer) == MIXED.vocab_size
    for wrong in (" SS 12", " XX", " SS 9999"):
        with pytest.raises(Exception, match="WordLevel error"):
            tokenizer(wrong)


def test_prompts_of_questions_ask_for_the_marker_too() -> None:
    fact = Facts.of(0, np.array([0]), 0, 0)
    assert prompts_of(IID.encode(fact, "question"), IID.words)[0][0].endswith(" AA")
    assert prompts_of(IID.encode(fact, "question"), IID.words)[0][1].startswith(" OO ")
    assert prompts_of(IID.encode(fact, "sro"), IID.words)[0][0].endswith(" OO")


def test_repeats_have_1728_surface_forms_and_432_prompts() -> None:
    world = World(1, 1, 1, templates={"repeats": 1.0}, repeats=40_000)
    assert len(set(text(world).split("<|endoftext|>"))) - 1 == 1728
    facts = Facts.of(0, np.zeros(20_000, dtype=np.int64), 0, 0)
    asked = world.encode(facts, "repeats")
    assert len({prompt for prompt, _ in prompts_of(asked, world.words)}) == 432
    assert (asked.answer + asked.answer_length + 1 == asked.length).all()


def test_nonsense_has_one_to_five_fillers_and_two_in_prompts() -> None:
    world = World(1, 1, 1, templates={"nonsense_sro": 1.0}, repeats=5000)
    fillers = {f"{number:04d}" for name, number in world.words.grammar.items() if name.startswith("W") and name[1:].isdigit()}
    counts = Counter(
        len(list(run))
        for sentence in text(world).replace(".", " .").split("<|endoftext|>")
        for is_filler, run in itertools.groupby(sentence.split(), fillers.__contains__)
        if is_filler
    )
    assert set(counts) == {1, 2, 3, 4, 5}
    # Another filler follows with probability .4.
    assert stats.binomtest(counts.total() - counts[1], counts.total(), 0.4).pvalue > 1e-3
    lengths = world.encode(world.facts(), "nonsense_rso").length
    assert lengths.tolist() == [1 + 3 * (2 + 2) + 1]


def test_an_unknown_form_names_the_nearest_one() -> None:
    with pytest.raises(ValueError, match=r"form='questions': must be one of sro, .* Did you mean 'question'\?"):
        IID.encode(IID.facts(), "questions")
    with pytest.raises(ValueError, match=r"template='nonsense_sro': this world has no words for it"):
        IID.encode(IID.facts(), "nonsense_sro")
    with pytest.raises(ValueError, match=r"kind='os'.*so, sno, ono"):
        IID.facts("os")


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        (Facts.of(0, np.array([0, 60]), 0, 3), r"fact 1 has subject=60; in this world it must be from 0 to 59"),
        (Facts.of(0, np.array([-1]), 0, 3), r"fact 0 has subject=-1"),
        (Facts.of(0, np.array([1]), 2, 3), r"fact 0 has relation=2; in this world it must be from 0 to 1"),
        (Facts.of(0, np.array([1]), 0, -1), r"fact 0 has object=-1; in this world it must be from 0 to 7"),
        (Facts.of(1, np.array([1]), 0, 4), r"fact 0 has object=4; in this world it must be from 0 to 3"),
        (Facts.of(2, np.array([8]), 0, 3), r"fact 0 has subject=8; in this world it must be from 0 to 7"),
        (Facts.of(3, np.array([1]), 0, 3), r"fact 0 has kind=3; in this world it must be from 0 to 2"),
    ],
)
def test_facts_that_a_world_does_not_have_are_refused(facts: Facts, message: str) -> None:
    for use in (lambda: NESTED.encode(facts, "sro"), lambda: NESTED.sample_sentences(1, left_out=facts)):
        with pytest.raises(ValueError, match=message):
            use()


def test_a_graph_must_fit_the_settings() -> None:
    for options, message in (
        ({"n_objects": 4}, r"given_graph has an object 7, but n_objects=4 numbers them 0 to 3"),
        ({"n_nested": 4}, r"given_graph has nested objects of shape \(3, 0\) .* n_nested=4 their shape must be \(3, 8\)"),
        ({"qa_frac": 0.5}, r"qa_frac=0.5 asks for questions, but given_graph names no subject to ask about"),
        ({"n_subjects": 9}, r"given_graph has facts of shape \(60, 3\), but n_subjects and n_relations are \(9, 3\)"),
    ):
        with pytest.raises(ValueError, match=message):
            replace(IID, given_graph=IID.graph, **options)
    with pytest.raises(ValueError, match=r"up to 3, but with n_objects=8 and n_nested=2"):
        replace(NESTED, given_graph=NESTED.graph, n_nested=2)


# --- the training text ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 2, 3, 7, 64, 1000, 65_537])
def test_a_permutation_takes_each_position_to_another(n: int) -> None:
    permutation = Permutation(n, np.random.default_rng(n))
    assert np.array_equal(np.sort(permutation(np.arange(n))), np.arange(n))


def test_a_permutation_looks_random() -> None:
    n = 100_003
    image = Permutation(n, np.random.default_rng(0))(np.arange(n))
    for lag in (1, 2, 64, 1024):
        assert abs(np.corrcoef(image[lag:], image[:-lag])[0, 1]) < 4 / np.sqrt(n)
    # Where an image lies says nothing on where the position was.
    table = np.histogram2d(image, np.arange(n), bins=20)[0]
    assert stats.chi2_contingency(table).pvalue > 1e-3


@pytest.mark.parametrize("name", EVERY)
def test_each_fact_is_written_as_often_as_it_should(name: str) -> None:
    world = EVERY[name]
    blocks = list(world.sentences())
    assert sum(map(len, blocks)) == world.n_sentences
    facts, form = Facts.join(*(block.facts for block in blocks)), np.concatenate([block.form for block in blocks])
    is_question = form == FORMS.index("question")
    counts = np.bincount(world.fact_ids(facts)[~is_question], minlength=len(world.facts()))
    if world.zipf is None:
        weight = np.where(world.facts().kind == 2, world.ono_upweight, 1)
        assert np.array_equal(counts, world.repeats * weight)
    else:
        per_subject = np.sort(counts.reshape(world.n_subjects, -1)[:, 0])[::-1]
        assert abs(counts.sum() - world.repeats * len(counts)) <= len(counts)
        assert per_subject[0] / per_subject[9] == pytest.approx(10, rel=0.02)
        assert (counts >= 1).all()
    asked = np.unique(facts.subject[is_question])
    assert np.array_equal(asked, np.flatnonzero(world.graph.asked))
    assert is_question.sum() == world.qa_frac * world.n_subjects * world.n_relations * world.repeats


@pytest.mark.parametrize(("repeats", "qa_frac", "share"), [(1, 0.2, 0.5), (117, 0.25, 0.5), (5, 0.3, 0.29), (3, 1.5, 0.31)])
def test_no_question_is_lost_in_rounding(repeats: int, qa_frac: float, share: float) -> None:
    world = World(100, 4, 8, repeats=repeats, qa_frac=qa_frac, qa_subject_frac=share)
    assert world.graph.asked.sum() == world.n_asked == round(100 * share)
    blocks = list(world.sentences())
    form, facts = np.concatenate([block.form for block in blocks]), Facts.join(*(block.facts for block in blocks))
    questions = np.bincount(world.fact_ids(facts)[form == FORMS.index("question")], minlength=400)
    assert questions.sum() == round(400 * repeats * qa_frac)
    asked = questions.reshape(100, 4)[world.graph.asked]
    assert asked.max() - asked.min() <= 1


def test_shares_are_of_decimal_numbers() -> None:
    # 0.29 of 100 is 28.999... and 0.07 of 100 is 7.000...1 in binary fractions.
    assert (World(100, 1, 8, minority_frac=0.29).graph.minority >= 0).sum() == 29
    assert (World(100, 1, 8, withheld_frac=0.29).withheld >= 0).sum() == 29
    assert subset_size(World(100, 1, 8), 0.07) == 7
    assert subset_size(World(100, 1, 8), 0.071) == 8


def test_forms_are_as_frequent_as_asked() -> None:
    world = World(500, 2, 8, templates={"sro": 0.6, "sor": 0.1, "rso": 0.3}, repeats=20)
    form = np.concatenate([block.form for block in world.sentences()])
    counts = np.array([(form == FORMS.index(name)).sum() for name in world.templates])
    assert stats.chisquare(counts, len(form) * np.array([0.6, 0.1, 0.3])).pvalue > 1e-3


def test_a_withheld_form_is_never_written() -> None:
    written = {
        pair for block in WITHHELD.sentences() for pair in zip(WITHHELD.fact_ids(block.facts), block.form.tolist(), strict=True)
    }
    codes = [FORMS.index(name) for name in WITHHELD.templates]
    kept_back = [(fact, codes[which]) for fact, which in enumerate(WITHHELD.withheld.tolist()) if which >= 0]
    assert len(kept_back) == 60
    # Nothing can be asked in the form "osr", so it would be no test to withhold it.
    assert {FORMS[form] for _, form in kept_back} == {"sro", "rso"}
    assert not written & set(kept_back)
    # Twenty times a fact that keeps nothing back: all three forms come up for nearly every one.
    assert len(written) > 0.95 * (3 * 120 - 60)


def test_biographies_stay_together_unless_shuffled() -> None:
    def runs(world: World) -> list[tuple[int, int]]:
        facts = said(world)
        about = facts.subject[facts.kind < 2].tolist()
        return [(subject, len(list(run))) for subject, run in itertools.groupby(about)]

    together, shuffled = runs(TOGETHER), runs(replace(TOGETHER, shuffle=True))
    assert all(length % 6 == 0 for _, length in together)
    assert np.mean([length for _, length in shuffled]) < 1.2
    first = said(TOGETHER)
    orders = {tuple(first.relation[start : start + 6]) for start in range(0, 60, 6) if (first.kind[start : start + 6] < 2).all()}
    assert len(orders) > 1


@pytest.mark.parametrize("name", ["nested", "together", "mixed"])
def test_shards_together_are_the_whole_text(name: str) -> None:
    world = EVERY[name]
    assert "".join(text(world, shard=shard, of=7) for shard in range(7)) == text(world)
    with pytest.raises(ValueError, match=r"shard=7 of=7: a shard is numbered from 0 to 6"):
        world.sentences(shard=7, of=7)


def test_facts_can_be_left_out() -> None:
    for world in (NESTED, TOGETHER, QUESTIONS):
        left_out = world.facts().take(np.flatnonzero(world.facts().subject == 3))
        remaining = said(world, left_out=left_out)
        assert not np.isin(world.fact_ids(remaining), world.fact_ids(left_out)).any()
        assert len(remaining) == world.corpus(left_out).n_sentences
        assert set(world.fact_ids(remaining)) == set(range(len(world.facts()))) - set(world.fact_ids(left_out))


def test_a_sample_is_drawn_in_proportion() -> None:
    counts = np.bincount(NESTED.fact_ids(NESTED.sample_sentences(60_000, seed=1).facts), minlength=len(NESTED.facts()))
    weight = np.where(NESTED.facts().kind == 2, 5.0, 1.0)
    assert stats.chisquare(counts, 60_000 * weight / weight.sum()).pvalue > 1e-3
    assert len(IID.sample_sentences(0)) == 0
    with pytest.raises(ValueError, match=r"n=-1"):
        IID.sample_sentences(-1)
    with pytest.raises(ValueError, match=r"seed=-1: must be at least 0"):
        IID.sample_sentences(1, seed=-1)
    with pytest.raises(ValueError, match=r"left_out names every fact"):
        IID.sample_sentences(1, left_out=IID.facts())
    assert not list(IID.sentences(left_out=IID.facts()))
    alone = TOGETHER.sample_sentences(500, seed=1).facts
    assert np.mean(alone.subject[1:] == alone.subject[:-1]) < 0.1


def test_the_default_world_streams_in_little_memory() -> None:
    world = World()
    assert world.n_sentences == 300_000_000
    assert world.n_bits == pytest.approx(5.19e6, rel=1e-3)
    next(world.sentences())
    tracemalloc.start()
    for block in itertools.islice(world.sentences(shard=1, of=1000), 3):
        text_of(block, world.words)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # A list of all sentences would be tens of gigabytes.
    assert peak < 200e6


# --- the same for a seed --------------------------------------------------------------------------------------------------

DIGESTS = {
    "iid": "66e20a47daac4110",
    "nested": "343bf6f9c1704647",
    "dissent": "8a7c357cc7fc3940",
    "questions": "c202dc514fdaf187",
    "zipf": "ddc806482b7dd4d2",
    "withheld": "047f09856a96ff79",
    "together": "4a8d1b5124441e0e",
    "mixed": "1734e5942393090a",
}


@pytest.mark.parametrize("name", EVERY)
def test_a_seed_gives_the_same_bytes(name: str) -> None:
    world = EVERY[name]
    assert text(replace(world)) == text(world) != text(replace(world, seed=1))
    assert world.sample_sentences(9, seed=2).tokens.tobytes() == world.sample_sentences(9, seed=2).tokens.tobytes()
    assert digest(text(world)) == DIGESTS[name]


# --- settings -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_the_shipped_worlds_load_and_the_card_lists_them(path: Path) -> None:
    world = load_world(path)
    assert len(world.sample_sentences(50)) == 50
    row = next(line for line in (path.parent / "CARD.md").read_text().splitlines() if line.startswith(f"| `{path.name}`"))
    n_facts = world.n_subjects * world.n_relations * (2 if world.n_nested else 1) + (
        world.n_relations * world.n_objects if world.n_nested else 0
    )
    assert f"| {n_facts:,} |" in row


def test_the_card_shows_a_sentence_of_the_main_world() -> None:
    world = load_world(ROOT / "data" / "worlds" / "main.yaml")
    sentence = text_of(world.encode(world.facts().take(slice(1)), "sro"), world.words)
    assert f"`{sentence}`" in (ROOT / "data" / "worlds" / "CARD.md").read_text()


@pytest.mark.parametrize("name", EVERY)
def test_settings_survive_a_file(name: str, tmp_path: Path) -> None:
    (tmp_path / "world.yaml").write_text(yaml.safe_dump(EVERY[name].settings(), sort_keys=False))
    assert load_world(tmp_path / "world.yaml").settings() == EVERY[name].settings()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("unknown_key", r"line 2: there is no setting 'n_relation'. Did you mean 'n_relations'\? The settings are: n_subjects,"),
        ("wrong_type", r"line 2: n_objects='8 words': must be a whole number"),
        ("fraction_for_a_count", r"line 2: repeats=2.5: must be a whole number"),
        ("out_of_range", r"line 3: minority_frac=1.5: must be at most 1"),
        ("nested_does_not_divide", r"line 3: n_nested=3 does not divide n_objects=8.*allowed are 0 \(none\), 1, 2, 4, 8"),
        ("dissent_and_nested", r"line 4: minority_frac=0.1 does not go with n_nested=4; set one of them to 0"),
        ("anti_correlated", r"line 4: correlation=0.4 is no more than chance, 0.5 .*allowed is above 0.5 up to 1, or none"),
        ("correlation_of_one_relation", r"line 4: correlation=0.9 needs n_relations of at least 2, a pair, not 1"),
        ("templates_do_not_sum", r"line 2: templates sum to 1.25; give a share to some of sro, .*summing to 1"),
        ("unknown_template", r"line 2: templates has no form 'ros'. Did you mean 'sro'\? Allowed: give a share to some of sro,"),
        ("key_twice", r"line 3: n_subjects is given twice, first in line 1; keep one"),
        ("two_names_of_one_key", r"line 2: 'subjects' and 'n_subjects' are two names of one setting, n_subjects; give one"),
        (
            "too_many_words",
            r"line 1: n_subjects=48, n_relations=100 and n_objects=900 need 90176 tokens.*at most 10000 are allowed",
        ),
        ("strength_without_pair", r"line 3: correlation_strength=0.8 needs correlated_pair: true; or set correlation: 0.8 alone"),
        ("no_mapping", r"a world is a mapping such as 'n_subjects: 768', one setting a line, but this file holds a list"),
        ("no_yaml", r"line 3: this is no YAML"),
        ("aliases", r"line 2: for a world values are written out, without aliases such as \*name"),
        ("nowhere", r"this file is missing"),
    ],
)
def test_a_broken_file_is_refused_by_name_line_and_what_is_allowed(name: str, message: str) -> None:
    path = BROKEN / f"{name}.yaml"
    with pytest.raises(DataError, match=message) as caught:
        load_world(path)
    assert str(caught.value).startswith(str(path))


def test_a_file_of_thousands_of_brackets_is_refused_at_once(tmp_path: Path) -> None:
    (tmp_path / "world.yaml").write_text("n_subjects: " + "[" * 10_000 + "]" * 10_000)
    with pytest.raises(DataError, match=r"world\.yaml, line 1: for a world values are written out, .*at most 9 deep"):
        load_world(tmp_path / "world.yaml")


def test_every_broken_file_is_tested() -> None:
    source = Path(__file__).read_text()
    assert all(f'"{path.stem}",' in source for path in BROKEN.glob("*.yaml"))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"n_subjects": 0}, r"n_subjects=0: must be at least 1"),
        ({"n_subjects": True}, r"n_subjects=True: must be a whole number"),
        ({"zipf": float("nan")}, r"zipf=nan: must be finite"),
        ({"qa_frac": 0.1, "qa_subject_frac": 0.001, "n_subjects": 10}, r"qa_subject_frac=0.001 of n_subjects=10 is no subject"),
        ({"withheld_frac": 0.5, "templates": {"sro": 1.0}}, r"withheld_frac=0.5 needs two templates"),
        ({"withheld_frac": 0.5, "templates": {"sor": 0.5, "osr": 0.5}}, r"withheld_frac=0.5 needs a template that ends with"),
        ({"binarize": True}, r"binarize=True needs a correlated world"),
        ({"correlation": 0.9, "minority_frac": 0.1}, r"correlation=0.9 does not go with minority_frac=0.1"),
        ({"correlation": 0.1, "n_objects": 8}, r"correlation=0.1 is no more than chance, 0.125 with n_objects=8"),
        ({"correlation": 0.9, "n_objects": 1}, r"correlation=0.9 needs n_objects of at least 2"),
        ({"minority_frac": 0.9, "n_objects": 1}, r"minority_frac=0.9 needs n_objects of at least 2"),
        ({"templates": {"sro": 1.5, "rso": -0.5}}, r"templates.sro=1.5: must be at most 1"),
        ({"tokens_per_subject": 3}, r"tokens_per_subject=3: must be one of 1, 2"),
        ({"templates": {"sro": "all"}}, r"templates.sro='all': must be a number"),
        ({"templates": "sro"}, r"templates='sro': must be a mapping"),
        ({"tokens_per_subject": 1}, r"need 102434 tokens.*subjects of two tokens"),
        (
            {"correlated_pair": True, "correlation": 0.5},
            r"correlation and correlated_pair \(with correlation_strength\) say the same",
        ),
        ({"correlated_pair": "yes"}, r"correlated_pair='yes': must be true or false"),
        (
            {"phrase_creator": "nonsens"},
            r"phrase_creator='nonsens': must be one of 'inverted', 'simplerepeats', 'nonsense'. Did you mean 'nonsense'",
        ),
        ({"phrase_creator": "simplerepeats", "i": 0.5}, r"inversion_frac=0.5 does not go with phrase_creator=simplerepeats"),
        ({"i": 2}, r"inversion_frac=2: must be at most 1"),
        ({"c": "nonsense", "templates": {"sro": 1.0}}, r"templates and phrase_creator .* say the same"),
    ],
)
def test_wrong_settings_are_named(settings: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        World.from_settings(settings)


def test_command_line_names_are_known() -> None:
    world = World.from_settings(
        {
            "-s": 90,
            "relationships": 3,
            "--num-nested-objects": 4,
            "o": 8,
            "repeats": 7,
            "obj-nested-obj-edges-upweight": 3,
            "--correlated-pair": True,
            "correlation_strength": 0.7,
            "b": True,
            "q": 0.25,
            "e": 0.4,
            "i": 0.3,
        }
    )
    same = World(
        90, 3, 8, n_nested=4, repeats=7, ono_upweight=3, correlation=0.7, binarize=True, qa_frac=0.25, qa_subject_frac=0.4,
        templates={"sro": 0.7, "sor": 0.1, "osr": 0.1, "rso": 0.1},
    )  # fmt: skip
    shares = world.settings().pop("templates")
    assert shares == pytest.approx(same.settings().pop("templates"))
    assert world.settings() | {"templates": 0} == same.settings() | {"templates": 0}
    assert World.from_settings({"m": 0.1, "p": 0.2, "correlation_strength": None}).minority_p == 0.2
    assert World.from_settings({"c": "simplerepeats"}).templates == {"repeats": 1.0}


def test_worlds_and_edits_load_no_torch() -> None:
    code = """
import sys
from effnotes.datasets.worlds import World, export_world, make_draws, read_facts, to_litgpt_jsonl
from effnotes.studies.editing.settings import Base, DrawPlan, Setting
from effnotes.training.recipes import PretrainingRecipe
base = Base({"n_subjects": 20, "n_relations": 2, "n_objects": 8}, recipe=PretrainingRecipe(passes=2))
assert base.recipe.passes == 2
DrawPlan(1, 1, 0).tasks(base.world, Setting("one fact"), "test")
assert not {"torch", "transformers"} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True)


# --- the tokeniser and the picture ----------------------------------------------------------------------------------------


def test_the_tokeniser_numbers_words_as_they_are_written() -> None:
    described = json.loads(MIXED.tokenizer().to_str())
    vocabulary = described["model"]["vocab"]
    assert sorted(vocabulary.values()) == list(range(MIXED.vocab_size))
    assert vocabulary["0123"] == 123
    assert (vocabulary["<|endoftext|>"], vocabulary["<|padding|>"], vocabulary["."], vocabulary["OO"]) == (0, 1, 2, 5)
    assert [token["id"] for token in described["added_tokens"]] == [0, 1]


def lines_of(ax: plt.Axes, style: str) -> list:
    return [line for line in ax.lines if line.get_linestyle() == style]


def test_the_picture_shows_facts_and_what_they_entail() -> None:
    ax = plot_world(NESTED, n_subjects=3, n_relations=2)
    texts = {text.get_text() for text in ax.texts}
    boxes = sorted((text.get_text(), text.get_bbox_patch().get_edgecolor()) for text in ax.texts if text.get_bbox_patch())
    colours = [mpl.colors.to_rgba(colour) for colour in PALETTE]
    objects = {(r, int(NESTED.graph.objects[s, r])) for s in range(3) for r in range(2)}
    assert {"s0", "s1", "s2", "subjects", "objects", "nested objects"} <= texts
    assert [box for box in boxes if box[0].startswith("o")] == sorted((f"o{o}", colours[r]) for r, o in objects)
    nested = {(r, int(NESTED.graph.nested[r, o])) for r, o in objects}
    assert [box for box in boxes if box[0].startswith("n")] == sorted((f"n{m}", colours[r]) for r, m in nested)
    assert "s3" not in texts
    assert len(lines_of(ax, "-")) == 6 + len(objects)
    assert len(lines_of(ax, ":")) == 6 + 1  # that of the legend
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["relation 0", "relation 1", "entailed fact"]
    plt.close("all")


def test_the_picture_shows_dissent_and_correlation() -> None:
    world = World(5, 2, 8, minority_frac=1.0)
    _, axis = plt.subplots()
    ax = plot_world(world, n_subjects=12, ax=axis)
    assert ax is axis
    assert len(lines_of(ax, "-")) == len(lines_of(ax, "--")) == 10
    world = World(5, 2, 8, correlation=0.8, binarize=True)
    ax = plot_world(world, n_subjects=5)
    assert ax.get_legend().get_texts()[-1].get_text() == "objects that agree"
    assert len(ax.patches) == len({a for a, b in world.graph.objects.tolist() if a == b}) > 0
    for numbers in ({"n_subjects": 13}, {"n_relations": 0}):
        with pytest.raises(ValueError, match=next(iter(numbers))):
            plot_world(world, **numbers)
    plt.close("all")
