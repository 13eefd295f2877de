"""What worlds cost: sentences a second as tokens and as text, and the drawing of an edit."""

import itertools

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from effnotes.datasets.worlds import World, make_task
from effnotes.datasets.worlds.sentences import text_of

BLOCKS = 8  # of 65,536 sentences
WORLDS = {
    "default": World(),
    "nested": World(n_nested=40),
    "dissent": World(minority_frac=0.2),
    "questions": World(qa_frac=0.2),
    "zipf": World(zipf=1.0),
    "withheld": World(withheld_frac=0.3),
    "repeats": World(templates={"repeats": 1.0}),
    "nonsense": World(templates={"nonsense_sro": 1.0}),
    "together": World(shuffle=False),
}


def written(world: World, as_text: bool) -> int:
    n = 0
    for block in itertools.islice(world.sentences(), BLOCKS):
        n += len(block)
        if as_text:
            text_of(block, world.words)
    return n


@pytest.mark.parametrize("as_text", [False, True], ids=["tokens", "text"])
@pytest.mark.parametrize("name", WORLDS)
def test_sentences(benchmark: BenchmarkFixture, name: str, as_text: bool) -> None:
    world = WORLDS[name]
    next(world.sentences())  # facts and words are drawn once
    n = benchmark.pedantic(written, args=(world, as_text), rounds=3)
    benchmark.extra_info["sentences a second"] = round(n / benchmark.stats.stats.min)
    print(f"{n / benchmark.stats.stats.min:,.0f} sentences a second")
    assert n > 500_000


def test_graph_of_the_default_world(benchmark: BenchmarkFixture) -> None:
    assert benchmark.pedantic(lambda: World().graph, rounds=3).objects.size == 600_000


@pytest.mark.parametrize("world", [World(768, 4, 32), World()], ids=["main", "default"])
def test_an_edit(benchmark: BenchmarkFixture, world: World) -> None:
    task = benchmark.pedantic(make_task, args=(world, "remap", 4), rounds=3)
    assert len(task.train["edited"]) == 4
