"""The training text of a world: every fact as often as it should be, in one global random order, in constant memory.

A corpus is never held. Position i in it is sent through a keyed permutation of all positions (a Feistel network over the next
power of two, walked until it lands inside; Black & Rogaway, CT-RSA 2002), and the image says which item stands there. So each
item stands in the corpus exactly as often as its count says, any part can be written without what comes before it, and parts
can be written by different processes. What a part says is also given without writing it, as integers (`Corpus.statements`).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from effnotes.datasets.worlds.forms import QUESTION, form_code
from effnotes.datasets.worlds.graph import CORPUS, ORDER, SAMPLE, Facts, Integers, draw_exposures, stream
from effnotes.datasets.worlds.knowledge import Knowledge
from effnotes.datasets.worlds.sentences import Sentences, write_facts
from effnotes.datasets.worlds.words import Array

# Rows worked on at a time: the tables of a block stay small, and what one block draws depends on no other.
_BLOCK_ROWS = 2**16
_ROUNDS = 6
_MIX_FACTORS = (0xFF51AFD7ED558CCD, 0xC4CEB9FE1A85EC53)


class Permutation:
    """A keyed bijection of {0, ..., n - 1} that is computed and not stored, the same on arrays and on tensors of any device.

    Attributes:
        n: Numbers that are permuted.
    """

    def __init__(self, n: int, rng: np.random.Generator) -> None:
        bits = max(2, (n - 1).bit_length())
        self.n = n
        # Bits of the halves of a number at first; with each round they change places.
        self._low, self._high = bits // 2, bits - bits // 2
        self._keys: list[int] = rng.integers(2**64, size=_ROUNDS, dtype=np.uint64).view(np.int64).tolist()

    def __call__(self, positions: Array) -> Array:
        """Return the images of positions in [0, n), (k,) int64."""
        image = self._mixed(positions)
        outside = image >= self.n
        while outside.any():
            image[outside] = self._mixed(image[outside])
            outside = image >= self.n
        return image

    def _mixed(self, x: Array) -> Array:
        high, low = self._high, self._low
        left, right = x >> low, x & (2**low - 1)
        for key in self._keys:
            # The finalising steps of MurmurHash3, which spread every bit over the word. Tensors have no unsigned 64-bit arithmetic:
            # signed products wrap alike, and a shift to the right has to drop copies of the sign.
            mix = right ^ key
            for factor in _MIX_FACTORS:
                mix = mix * (factor - 2**64)
                mix = mix ^ ((mix >> 33) & (2**31 - 1))
            left, right = right, left ^ (mix & (2**high - 1))
            high, low = low, high
        image: Array = (left << low) | right
        return image


class Statements(NamedTuple):
    """What the sentences of a block say, before they are written."""

    facts: Facts  # n facts, one for each sentence, as the sentence states it
    form: Integers  # (n,) positions in `FORMS`
    inside: NDArray[np.bool_]  # (n,) whether the sentence is in the shard; others are in a block with its first or last
    rng: np.random.Generator  # draws what is random in some forms


@dataclass(frozen=True, eq=False)
class Corpus:
    """The training text of a world, without the facts in `left_out`.

    Its items are single sentences or, `together`, the biographies of subjects: all statements about one, in random order. Facts
    between objects and questions always stand alone.
    """

    world: Knowledge
    left_out: Facts | None = None
    together: bool = False

    @cached_property
    def facts(self) -> Facts:
        """All facts of the world, those left out included."""
        return self.world.facts()

    @cached_property
    def width(self) -> int:
        """Statements in the biography of a subject; 1 where each stands alone."""
        return self.world.n_relations * (2 if self.world.graph.has_nested else 1) if self.together else 1

    @cached_property
    def _dropped(self) -> NDArray[np.bool_]:
        dropped = np.zeros(len(self.facts), dtype=bool)
        if self.left_out is not None:
            dropped[self.world.fact_ids(self.left_out)] = True
        return dropped

    @cached_property
    def _members(self) -> list[Integers]:
        """Fact numbers of the items: (biographies, width), (single statements, 1), (questions, 1)."""
        world = self.world
        s, r = world.n_subjects, world.n_relations
        first = np.arange(s * r).reshape(s, r)
        about_subjects = np.concatenate([first, first + s * r], axis=1) if world.graph.has_nested else first
        between_objects = np.arange(about_subjects.size, len(self.facts))
        return [about_subjects.reshape(-1, self.width), between_objects[:, None], first[world.graph.asked].reshape(-1, 1)]

    @cached_property
    def ends(self) -> Integers:
        """Running total of how often each item stands in the corpus."""
        world = self.world
        exposures = draw_exposures(world)
        biographies, between, questions = self._members
        per_subject = len(biographies) // world.n_subjects
        counts = [np.repeat(exposures, per_subject), np.full(len(between), world.repeats * world.ono_upweight)]
        # `qa_frac` questions for each statement on average, with no fraction lost in rounding.
        asked = world.graph.asked
        exact = exposures[asked].repeat(world.n_relations) * (world.qa_frac / max(asked.mean(), 1 / len(asked)))
        counts.append(np.diff(np.rint(np.cumsum(exact)).astype(np.int64), prepend=0))
        items = zip(counts, (biographies, between, questions), strict=True)
        return np.cumsum(np.concatenate([np.where(self._dropped[m].all(axis=1), 0, c) for c, m in items]))

    @cached_property
    def fact_of_item(self) -> Integers:
        """Fact number of each item, where every item is a single sentence; questions are the last items."""
        return np.concatenate([members[:, 0] for members in self._members])

    @property
    def first_question(self) -> int:
        """The first item that is a question."""
        biographies, between, _ = self._members
        return len(biographies) + len(between)

    @cached_property
    def order(self) -> Permutation:
        """Which of all items, each counted as often as it stands in the corpus, stands at a position."""
        return Permutation(max(1, self.n_items), stream(self.world.seed, ORDER))

    @property
    def n_items(self) -> int:
        """Number of items in the corpus."""
        return int(self.ends[-1])

    @cached_property
    def n_sentences(self) -> int:
        """Number of sentences in the corpus."""
        kept = np.concatenate([(~self._dropped[members]).sum(axis=1) for members in self._members])
        return int((kept * np.diff(self.ends, prepend=0)).sum())

    @cached_property
    def template_shares(self) -> tuple[Integers, NDArray[np.float64]]:
        """Codes of the templates, and their running shares for facts that withhold none, or the t-th: (T + 1, T)."""
        shares = np.array(list(self.world.templates.values()), dtype=np.float64)
        rows = np.tile(shares, (len(shares) + 1, 1))
        rows[np.arange(1, len(rows)), np.arange(len(shares))] = 0.0
        rows = np.cumsum(rows, axis=1)
        ends = rows[:, -1:]
        return np.array([form_code(name) for name in self.world.templates]), rows / np.where(ends > 0, ends, 1.0)

    def blocks(self, shard: int = 0, of: int = 1) -> Iterator[Sentences]:
        """Yield the sentences of one shard of the corpus in order, some ten thousands at a time.

        Together the shards are the corpus: none is left out and none comes twice.
        """
        for facts, form, inside, rng in self.statements(shard, of):
            sentences = write_facts(self.world.words, facts, form, rng)
            yield sentences if inside.all() else sentences.take(inside)

    def statements(self, shard: int = 0, of: int = 1) -> Iterator[Statements]:
        """Yield what the sentences of `blocks` say, without writing them.

        Blocks are whole: what is random in a sentence, and how far it is padded, depends on the others of its block.
        """
        start, stop, size = self.bounds(shard, of)
        for block in range(start // size, -(-stop // size)):
            positions = np.arange(block * size, min((block + 1) * size, self.n_items))
            items = np.searchsorted(self.ends, self.order(positions), side="right")
            rng = stream(self.world.seed, CORPUS, block)
            facts, form, position = self._told(items, rng)
            yield Statements(facts, form, (position + block * size >= start) & (position + block * size < stop), rng)

    def bounds(self, shard: int, of: int) -> tuple[int, int, int]:
        """Return the first position of a shard, the one behind its last, and the positions in a block."""
        return self.n_items * shard // of, self.n_items * (shard + 1) // of, max(1, _BLOCK_ROWS // self.width)

    def sample(self, n: int, seed: int) -> Sentences:
        """Draw n sentences with replacement, each as likely as it is frequent in the corpus."""
        numbers, rng = self.draw(n, seed)
        facts, form, _ = self._told(np.searchsorted(self.ends, numbers, side="right"), rng)
        return write_facts(self.world.words, facts, form, rng)

    def draw(self, n: int, seed: int) -> tuple[Integers, np.random.Generator]:
        """Return (n,) numbers below `n_items`, to be sought in `ends`, and the generator that decides what is said of them."""
        rng = stream(self.world.seed, SAMPLE, seed)
        return rng.integers(self.n_items, size=n), rng

    def chances(self, n: int, rng: np.random.Generator) -> tuple[NDArray[np.float64], NDArray[np.float64] | None]:
        """Draw what decides the template of n sentences, and whether each dissents; None in a world where none does.

        Both are (n,) float64 in [0, 1).
        """
        return rng.random(n), rng.random(n) if self.world.graph_dissents else None

    def _told(self, items: Integers, rng: np.random.Generator) -> tuple[Facts, Integers, Integers]:
        """Say items: facts and forms of their sentences, and for each the position of its item among those given."""
        world = self.world
        if self.width == 1:
            fact, position = self.fact_of_item[items], np.arange(len(items))
        else:
            biographies, between, questions = self._members
            single = np.concatenate([between[:, 0], questions[:, 0]])
            is_single = items >= len(biographies)
            position = np.repeat(np.arange(len(items)), np.where(is_single, 1, self.width))
            whole = rng.permuted(biographies[items[~is_single]], axis=1)
            fact = np.empty(len(position), dtype=np.int64)
            fact[is_single[position]] = single[items[is_single] - len(biographies)]
            fact[~is_single[position]] = whole.reshape(-1)
        asks = (items >= self.first_question)[position]

        form = np.full(len(fact), QUESTION)
        chance, dissent = self.chances(len(fact), rng)
        codes, shares = self.template_shares
        if len(codes) == 1:
            form[~asks] = codes[0]
        else:
            rows = shares[world.withheld[fact] + 1] if world.withheld_frac else shares[0]
            # The last share is 1 but for rounding, which must not point past the end.
            form[~asks] = codes[np.minimum((chance[:, None] >= rows).sum(axis=1), len(codes) - 1)][~asks]

        said = self.facts.take(fact)
        if dissent is not None:
            alternative = world.minority_of(said)
            said = said.saying(np.where((dissent < world.minority_p) & (alternative >= 0), alternative, said.object))
        if self._dropped.any():
            kept = ~self._dropped[fact]
            said, form, position = said.take(kept), form[kept], position[kept]
        return said, form, position
