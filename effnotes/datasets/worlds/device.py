"""The training text of a world as rows of tokens that are made on a device, from tables of integers that are moved there once.

A GPU reads sentences faster than NumPy writes them. So where the forms of a world have nothing random in them, the order of the
corpus, what its sentences say and their tokens are computed where they are read. Only draws come from the host, 8 or 16 bytes a
sentence, where a world has several templates or dissent; and where the statements about a subject stay together, what is said.
All is the same to the bit as `World.sentences`, `World.sample_sentences` and `write_facts` give it, padding included.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import zip_longest
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from effnotes.datasets.worlds.corpus import Corpus
from effnotes.datasets.worlds.forms import FIXED_FORMS, FORMS, QUESTION
from effnotes.datasets.worlds.graph import CORPUS, Facts, Integers, stream
from effnotes.datasets.worlds.sentences import pattern_row
from effnotes.datasets.worlds.settings import WorldSettings
from effnotes.datasets.worlds.words import ABSENT, PAD, Words


class Told(NamedTuple):
    """What n sentences say and in which form, columns as in `Facts` and `Sentences`: (n,) int64 each, on one device."""

    kind: Tensor
    subject: Tensor
    relation: Tensor
    object: Tensor
    form: Tensor

    @classmethod
    def of(cls, facts: Facts, form: Integers, device: torch.device) -> Told:
        """Move facts and forms to a device."""
        return cls(*(_moved(column, device) for column in (facts.kind, facts.subject, facts.relation, facts.object, form)))

    def take(self, rows: Tensor | slice) -> Told:
        """Return the rows at the given positions, or where a mask is true."""
        return Told(*(column[rows] for column in self))


class SentenceWriter:
    """Writes facts as `write_facts` does, on a device: it holds the words of a world and the patterns of the fixed forms there.

    Args:
        words: The words of the world.
        device: Where they are held, and what is written.
    """

    def __init__(self, words: Words, device: torch.device) -> None:
        self._words = _moved(words.table, device)  # (all words, 2)
        self._places_of = words.places
        rows = (pattern_row(words, form) for form in FORMS)
        self._patterns = _moved(np.array(list(zip_longest(*rows, fillvalue=ABSENT))).T, device)  # (forms, places)

    def width(self, told: Told) -> int:
        """Return the number of tokens in the longest of the sentences, at least 1; their forms are in `FIXED_FORMS`."""
        return int((self._places(told) != ABSENT).sum(dim=1).max()) if len(told.form) else 1

    def write(self, told: Told, width: int) -> Tensor:
        """Write each fact in its form.

        The host does not wait for the device here.

        Args:
            told: n facts of the world with forms in `FIXED_FORMS`.
            width: Tokens in a row, L; at least `width(told)`.

        Returns:
            (n, L) int64: EOS, the sentence, its full stop, then padding.
        """
        places = self._places(told)
        # A stable sort closes the gaps: places that the row leaves out go behind all others.
        tokens = places.gather(1, torch.argsort((places == ABSENT).to(torch.uint8), dim=1, stable=True)[:, :width])
        tokens = torch.where(tokens == ABSENT, PAD, tokens)
        return torch.nn.functional.pad(tokens, (0, width - tokens.shape[1]), value=PAD)

    def _places(self, told: Told) -> Tensor:
        """Return the sentences with gaps, ABSENT, where a word has one token only or the form is shorter than others: (n, P)."""
        places = self._patterns[told.form]
        said = torch.cat([self._words[row] for row in self._places_of(*told[:4])], dim=1)  # (n, 6), as `Words.of_facts`
        return torch.where(places < ABSENT, said.gather(1, (-2 - places).clamp(min=0)), places)


class DeviceSentences:
    """n sentences that are held as integers on a device, and written when they are read.

    Attributes:
        width: Tokens in a row, L: as many as in the longest sentence, or in one that `World.sentences` pads alike.
    """

    def __init__(self, writer: SentenceWriter, told: Told, width: int) -> None:
        self._writer, self._told, self.width = writer, told, width

    def __len__(self) -> int:
        return len(self._told.form)

    def tokens(self, rows: Tensor) -> Tensor:
        """Write the sentences at the given positions, (k,) int64 on the same device: (k, L) int64, padded behind."""
        return self._writer.write(self._told.take(rows), self.width)


class DeviceCorpus:
    """The training text of a world, made on a device.

    Args:
        corpus: The text.
        device: Where it is made; has to know 64-bit integers and floats.

    Raises:
        ValueError: The world is written in a form with something random in it.
    """

    def __init__(self, corpus: Corpus, device: torch.device) -> None:
        world = corpus.world
        if not can_be_written(world):
            allowed = f"only forms without anything random in them can be written on a device: {', '.join(FIXED_FORMS)}"
            raise ValueError(f"templates is {dict(world.templates)}, but {allowed}")
        self._corpus, self._device = corpus, device
        self._writer = SentenceWriter(world.words, device)
        # Sampled sentences stand alone, in whatever order the corpus is.
        self._alone = replace(corpus, together=False)
        facts = self._alone.facts
        codes, shares = self._alone.template_shares
        self._facts = Told.of(facts, np.zeros(len(facts), dtype=np.int64), device)
        self._ends = _moved(self._alone.ends, device)
        self._fact_of_item = _moved(self._alone.fact_of_item, device)
        self._codes, self._shares = _moved(codes, device), _moved(shares, device)
        self._withheld = _moved(world.withheld, device) if world.withheld_frac else None
        self._minority = _moved(world.minority_of(facts), device) if world.graph_dissents else None

    def shard(self, shard: int, of: int) -> DeviceSentences:
        """Return the sentences of a shard, as all blocks of `World.sentences` together hold them, rows as wide as the widest."""
        corpus = self._corpus
        if corpus.width > 1:
            plans = list(corpus.statements(shard, of))
            told = Told.of(Facts.join(*(plan.facts for plan in plans)), np.concatenate([plan.form for plan in plans]), self._device)
            inside = _moved(np.concatenate([plan.inside for plan in plans]), self._device)
            return DeviceSentences(self._writer, told.take(inside), self._writer.width(told))
        start, stop, size = self._alone.bounds(shard, of)
        first, behind = start // size * size, min(-(-stop // size) * size, self._alone.n_items)
        begins = range(first, behind, size)
        drawn = [self._chances(min(size, behind - at), stream(corpus.world.seed, CORPUS, at // size)) for at in begins]
        told = self._told(self._alone.order(torch.arange(first, behind, device=self._device)), torch.cat(drawn, dim=1))
        # One item is one sentence. Those beside the shard are told for their length alone: the host pads its blocks as a whole.
        return DeviceSentences(self._writer, told.take(slice(start - first, stop - first)), self._writer.width(told))

    def sample(self, n: int, seed: int) -> DeviceSentences:
        """Draw n sentences as `World.sample_sentences` does."""
        numbers, rng = self._alone.draw(n, seed)
        told = self._told(_moved(numbers, self._device), self._chances(n, rng))
        return DeviceSentences(self._writer, told, self._writer.width(told))

    def _chances(self, n: int, rng: np.random.Generator) -> Tensor:
        """Move what decides the sentences to the device: (2, n) float64 with dissent, (1, n) without, (0, n) if all is decided."""
        if len(self._codes) == 1 and self._minority is None:
            return torch.empty((0, n), dtype=torch.float64, device=self._device)
        template, dissent = self._alone.chances(n, rng)
        return _moved(np.stack([template] if dissent is None else [template, dissent]), self._device)

    def _told(self, numbers: Tensor, chances: Tensor) -> Told:
        """Say the items that stand at numbers below `n_items`, as `Corpus` does."""
        item = torch.searchsorted(self._ends, numbers, right=True)
        fact = self._fact_of_item[item]
        if len(self._codes) == 1:
            form = self._codes.expand(len(fact))
        else:
            rows = self._shares[0] if self._withheld is None else self._shares[self._withheld[fact] + 1]
            form = self._codes[(chances[0][:, None] >= rows).sum(dim=1).clamp(max=len(self._codes) - 1)]
        form = torch.where(item >= self._alone.first_question, QUESTION, form)
        kind, subject, relation, value, _ = self._facts.take(fact)
        if self._minority is not None:
            alternative = self._minority[fact]
            value = torch.where((chances[1] < self._corpus.world.minority_p) & (alternative >= 0), alternative, value)
        return Told(kind, subject, relation, value, form)


def can_be_written(world: WorldSettings) -> bool:
    """Return whether all forms that a world is written in have nothing random in them, so that `DeviceCorpus` can write it."""
    return all(name in FIXED_FORMS for name, share in world.templates.items() if share > 0)


def _moved(array: NDArray[Any], device: torch.device) -> Tensor:
    return torch.from_numpy(np.array(array)).to(device)
