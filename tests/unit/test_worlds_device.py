"""Sentences made on a device: the same tokens, to the bit, as those that NumPy writes."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from effnotes.datasets.worlds import Facts, World, make_task
from effnotes.datasets.worlds import corpus as corpus_module
from effnotes.datasets.worlds.corpus import Permutation
from effnotes.datasets.worlds.device import DeviceCorpus, SentenceWriter, Told, can_be_written
from effnotes.datasets.worlds.forms import FIXED_FORMS, form_code
from effnotes.datasets.worlds.sentences import write_facts

CPU = torch.device("cpu")
FOUR = {"sro": 0.4, "rso": 0.3, "sor": 0.2, "osr": 0.1}
PLAIN = World(40, 3, 8, repeats=6)
WORLDS = {
    "one template": replace(PLAIN, templates={"sro": 1.0}),
    "two templates": PLAIN,
    "four templates, one of them never": replace(PLAIN, templates={"repeats": 0.0, **FOUR}),
    "subjects of two tokens": replace(PLAIN, tokens_per_subject=2),
    "nested": World(40, 2, 12, n_nested=4, repeats=6, ono_upweight=2, qa_frac=0.02, templates={"sro": 0.7, "osr": 0.3}),
    "dissent in one template": replace(PLAIN, minority_frac=0.5, minority_p=0.3, templates={"sro": 1.0}),
    "dissent and questions": replace(PLAIN, minority_frac=0.5, minority_p=0.3, qa_frac=0.3, qa_subject_frac=0.4),
    "zipf and withheld": replace(PLAIN, zipf=1.0, withheld_frac=0.5, templates=FOUR, seed=3),
    "together": replace(PLAIN, shuffle=False, qa_frac=0.05, minority_frac=0.2),
    "together and nested": World(24, 2, 8, n_nested=2, repeats=5, shuffle=False),
    "together, of one relation": World(40, 1, 8, repeats=6, shuffle=False, qa_frac=0.2),
    "correlated, of many objects": World(40, 2, 1200, repeats=6, correlation=0.8, tokens_per_subject=2),
}


def rows_of(sentences) -> np.ndarray:
    return sentences.tokens(torch.arange(len(sentences))).numpy()


def joined(blocks) -> np.ndarray:
    """All rows, below each other, padded as the widest."""
    width = max(block.tokens.shape[1] for block in blocks)
    return np.concatenate([np.pad(b.tokens, ((0, 0), (0, width - b.tokens.shape[1])), constant_values=1) for b in blocks])


@pytest.fixture(params=WORLDS.values(), ids=WORLDS)
def world(request, monkeypatch) -> World:
    # Blocks of a few sentences, so that shards begin and end inside of them.
    monkeypatch.setattr(corpus_module, "_BLOCK_ROWS", 48)
    return request.param


def test_facts_are_written_as_on_the_host(world: World) -> None:
    writer = SentenceWriter(world.words, CPU)
    everything = world.facts()
    rng = np.random.default_rng(0)
    for form in FIXED_FORMS:
        facts = everything.take(rng.permutation(len(everything)))
        codes = np.full(len(facts), form_code(form))
        told = Told.of(facts, codes, CPU)
        assert np.array_equal(writer.write(told, writer.width(told)), write_facts(world.words, facts, codes, rng).tokens)
    facts = everything.take(rng.integers(len(everything), size=500))
    codes = np.array([form_code(form) for form in FIXED_FORMS])[rng.integers(len(FIXED_FORMS), size=500)]
    told = Told.of(facts, codes, CPU)
    tokens, expected = writer.write(told, writer.width(told)), write_facts(world.words, facts, codes, rng).tokens
    assert tokens.dtype == torch.int64
    assert np.array_equal(tokens, expected)
    wider = writer.write(told, expected.shape[1] + 20)
    assert np.array_equal(wider[:, : expected.shape[1]], expected)
    assert (wider[:, expected.shape[1] :] == 1).all()


def test_words_of_one_and_of_two_tokens_can_be_mixed() -> None:
    words = replace(PLAIN, tokens_per_subject=2, n_nested=4).words
    for table in (words.subjects, words.objects, words.nested):
        table[..., 1][np.random.default_rng(0).random(table.shape[:-1]) < 0.5] = -1
    facts = replace(PLAIN, n_nested=4).facts()
    codes = np.resize([form_code("sor"), form_code("question")], len(facts))
    told, writer = Told.of(facts, codes, CPU), SentenceWriter(words, CPU)
    expected = write_facts(words, facts, codes, np.random.default_rng(0))
    assert len(set(expected.length.tolist())) > 3
    assert np.array_equal(writer.write(told, writer.width(told)), expected.tokens)


def test_shards_are_those_of_the_host(world: World) -> None:
    left_out = make_task(world, "unlearn_subject", 3).forgotten
    for dropped in (None, left_out):
        corpus = DeviceCorpus(world.corpus(dropped), CPU)
        for shard, of in [(0, 1), *((shard, 7) for shard in range(7)), (50, 101)]:
            expected = joined(list(world.sentences(shard=shard, of=of, left_out=dropped)))
            sentences = corpus.shard(shard, of)
            assert (len(sentences), sentences.width) == expected.shape
            assert np.array_equal(rows_of(sentences), expected)


def test_blocks_of_the_usual_size_are_those_of_the_host() -> None:
    world = World(1000, 2, 8, repeats=50, minority_frac=0.3)
    corpus = DeviceCorpus(world.corpus(), CPU)
    for shard in range(3):
        blocks = list(world.sentences(shard=shard, of=3))
        assert np.array_equal(rows_of(corpus.shard(shard, 3)), joined(blocks))


def test_rows_are_padded_as_their_blocks_are(monkeypatch) -> None:
    monkeypatch.setattr(corpus_module, "_BLOCK_ROWS", 48)
    world = replace(PLAIN, qa_frac=0.02)
    corpus, n_padded = DeviceCorpus(world.corpus(), CPU), 0
    for shard in range(40):
        expected = joined(list(world.sentences(shard=shard, of=40)))
        assert np.array_equal(rows_of(corpus.shard(shard, 40)), expected)
        n_padded += bool((expected[:, -1] == 1).all())
    assert n_padded  # a question beside the shard was longer than all in it


def test_samples_are_those_of_the_host(world: World) -> None:
    left_out = make_task(world, "unlearn_subject", 3).forgotten
    for dropped, n, seed in ((None, 300, 0), (left_out, 300, 5), (None, 1, 1)):
        expected = world.sample_sentences(n, seed=seed, left_out=dropped).tokens
        assert np.array_equal(rows_of(DeviceCorpus(world.corpus(dropped), CPU).sample(n, seed)), expected)


def test_sentences_can_be_read_in_any_order() -> None:
    sentences = DeviceCorpus(PLAIN.corpus(), CPU).shard(1, 3)
    order = torch.from_numpy(np.random.default_rng(0).permutation(len(sentences)))
    assert np.array_equal(sentences.tokens(order), rows_of(sentences)[order])


@pytest.mark.parametrize("n", [1, 2, 5, 1000, 2**16, 2**31 + 11, 3 * 10**8])
def test_the_order_is_that_of_the_host(n: int) -> None:
    permutation = Permutation(n, np.random.default_rng(n))
    positions = np.unique(np.random.default_rng(0).integers(n, size=5000))
    assert np.array_equal(permutation(torch.from_numpy(positions)), permutation(positions))


def test_everything_is_where_it_was_asked_for(monkeypatch) -> None:
    # The device without data refuses tensors of another beside its own, as a GPU does; what needs values is not asked of it.
    meta = torch.device("meta")
    monkeypatch.setattr(SentenceWriter, "width", lambda writer, told: 20)
    for world in (
        replace(PLAIN, minority_frac=0.5, withheld_frac=0.5, qa_frac=0.2),
        World(24, 2, 8, n_nested=2, repeats=5, templates={"sro": 1.0}),
    ):
        sentences = DeviceCorpus(world.corpus(), meta).sample(50, 0)
        rows = sentences.tokens(torch.arange(8, device=meta))
        assert (rows.device, rows.dtype, rows.shape) == (meta, torch.int64, (8, 20))
        order = world.corpus().order
        assert order._mixed(torch.arange(8, device=meta)).device == meta


def test_forms_with_something_random_are_refused() -> None:
    random = replace(PLAIN, templates={"sro": 0.5, "repeats": 0.5})
    assert not can_be_written(random)
    assert can_be_written(replace(PLAIN, templates={"sro": 1.0, "nonsense_sro": 0.0}))
    with pytest.raises(ValueError, match="only forms without anything random"):
        DeviceCorpus(random.corpus(), CPU)


def test_nothing_is_written_of_nothing() -> None:
    told, writer = Told.of(Facts.none(), np.zeros(0, dtype=np.int64), CPU), SentenceWriter(PLAIN.words, CPU)
    assert writer.write(told, writer.width(told)).shape == (0, 1)
