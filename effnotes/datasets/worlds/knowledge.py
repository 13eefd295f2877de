"""What is so in a world, and the words for it: the facts and the vocabulary that follow from its settings or are given."""

import math
from dataclasses import field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import InstanceOf

from effnotes.core.checks import check_choice
from effnotes.core.settings import settings
from effnotes.datasets.worlds.graph import FACT_KINDS, ONO, SNO, SO, FactKind, Facts, Graph, Integers, draw_graph, draw_withheld
from effnotes.datasets.worlds.settings import WorldSettings
from effnotes.datasets.worlds.words import Words, check_vocabulary


@settings
class Knowledge(WorldSettings):
    """The facts of a world and the words for them; each is derived when it is first asked for."""

    given_graph: InstanceOf[Graph] | None = field(default=None, repr=False, kw_only=True)
    given_words: InstanceOf[Words] | None = field(default=None, repr=False, kw_only=True)

    # A world is the same as itself alone: what is derived from it is kept with it.
    __eq__ = object.__eq__
    __hash__ = object.__hash__

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.given_words is None:
            check_vocabulary(self)
        graph = self.given_graph
        if graph is None:
            return
        shape = (self.n_subjects, self.n_relations)
        if graph.objects.shape != shape:
            raise ValueError(f"given_graph has facts of shape {graph.objects.shape}, but n_subjects and n_relations are {shape}")
        most = int(max(graph.objects.max(), graph.minority.max()))
        n = self.n_objects
        if most >= n:
            raise ValueError(f"given_graph has an object {most}, but n_objects={n} numbers them 0 to {n - 1}")
        nested = (self.n_relations, n if self.n_nested else 0)
        if graph.nested.shape != nested or graph.nested.max(initial=-1) >= self.n_nested:
            given = f"nested objects of shape {graph.nested.shape} up to {graph.nested.max(initial=-1)}"
            needed = f"n_objects={n} and n_nested={self.n_nested} their shape must be {nested}, and all below n_nested"
            raise ValueError(f"given_graph has {given}, but with {needed}")
        if self.qa_frac > 0 and not graph.asked.any():
            raise ValueError(f"qa_frac={self.qa_frac} asks for questions, but given_graph names no subject to ask about; set 0")

    @cached_property
    def graph(self) -> Graph:
        """The facts as tables."""
        return draw_graph(self) if self.given_graph is None else self.given_graph

    @cached_property
    def words(self) -> Words:
        """The token numbers of all words."""
        return Words.allocate(self) if self.given_words is None else self.given_words

    @cached_property
    def withheld(self) -> Integers:
        """(number of facts,) int64: position in `templates` of the one that a fact is never written in, -1 for none."""
        return draw_withheld(self, len(self.facts()))

    @cached_property
    def graph_dissents(self) -> bool:
        """Whether some facts have a second object."""
        return bool((self.graph.minority >= 0).any())

    @cached_property
    def in_use(self) -> NDArray[np.bool_]:
        """(R, O) bool: objects that sentences state, as the own or the second object of a subject.

        The words of all others are in the vocabulary and in no sentence: a relation of given facts can have fewer than O objects,
        and in a small world not all are drawn. What nobody has is not said to have a nested object either.
        """
        graph = self.graph
        used = np.zeros((self.n_relations, self.n_objects), dtype=bool)
        used[np.arange(self.n_relations), graph.objects] = True
        subjects, relations = np.nonzero(graph.minority >= 0)
        used[relations, graph.minority[subjects, relations]] = True
        return used

    @property
    def vocab_size(self) -> int:
        """Number of tokens, reserved ones included."""
        return self.words.n_tokens

    @property
    def n_bits(self) -> float:
        """What there is to know about subjects and their own objects if all were independent: S R log2 O, in bits.

        Where relations have fewer objects in use than O it is more than there is.

        Divided by a model's parameters it is the load, to be compared with the two bits a parameter that models of language can
        store (Allen-Zhu & Li, Physics of Language Models 3.3).
        """
        return self.n_subjects * self.n_relations * math.log2(self.n_objects)

    def facts(self, kind: FactKind | None = None) -> Facts:
        """Return all facts of one kind, or of all, numbered as `fact_ids` numbers them.

        Args:
            kind: "so" (S R facts, subject by subject), "sno" (the same order) or "ono" (a fact for each object that somebody has,
                relation by relation). The latter two are empty in a world without nested objects.

        Raises:
            ValueError: There is no such kind.
        """
        if kind is None:
            return Facts.join(*(self.facts(each) for each in FACT_KINDS)) if self.graph.has_nested else self.facts("so")
        check_choice(FACT_KINDS, kind=kind)
        r = np.arange(self.n_relations)
        if kind != "so" and not self.graph.has_nested:
            return Facts.none()
        if kind == "ono":
            relations, objects = np.nonzero(self.in_use)
            return Facts.of(ONO, objects, relations, self.graph.nested[relations, objects])
        subjects, relations = np.repeat(np.arange(self.n_subjects), self.n_relations), np.tile(r, self.n_subjects)
        objects = self.graph.objects.reshape(-1)
        if kind == "so":
            return Facts.of(SO, subjects, relations, objects)
        return Facts.of(SNO, subjects, relations, self.graph.nested[relations, objects])

    def fact_ids(self, facts: Facts) -> Integers:
        """Return (n,) int64: the number of each fact among all facts of the world, whatever object it states.

        Raises:
            ValueError: A fact is about an object that nobody has.
        """
        per_kind = self.n_subjects * self.n_relations
        numbers = facts.kind * per_kind + facts.subject * self.n_relations + facts.relation
        rows = np.flatnonzero(facts.kind == ONO)
        r, o = facts.relation[rows], facts.subject[rows]
        for at in np.flatnonzero(~self.in_use[r, o]):
            raise ValueError(f"fact {rows[at]} is about object {o[at]} of relation {r[at]}, which nobody has")
        numbers[rows] = 2 * per_kind + self._ono_numbers[r, o]
        return numbers

    @cached_property
    def _ono_numbers(self) -> Integers:
        """(R, O) int64: number of the fact about an object among those about objects that somebody has."""
        return np.cumsum(self.in_use).reshape(self.in_use.shape) - 1

    def check_facts(self, facts: Facts) -> None:
        """Raise ValueError where a fact has a number that the world does not have, or is about an object that nobody has."""
        ends: dict[str, Any] = {
            "kind": len(FACT_KINDS) if self.graph.has_nested else 1,
            "relation": self.n_relations,
            "subject": np.where(facts.kind == ONO, self.n_objects, self.n_subjects),
            "object": np.where(facts.kind == SO, self.n_objects, self.n_nested),
        }
        for name, end in ends.items():
            column = getattr(facts, name)
            for at in np.flatnonzero((column < 0) | (column >= end)):
                most = np.broadcast_to(end, column.shape)[at] - 1
                raise ValueError(f"fact {at} has {name}={column[at]}; in this world it must be from 0 to {most}")
        self.fact_ids(facts)

    def minority_of(self, facts: Facts) -> Integers:
        """Return (n,) int64: the second object of each fact, -1 where there is none."""
        is_so = facts.kind == SO
        return np.where(is_so, self.graph.minority[np.where(is_so, facts.subject, 0), facts.relation], -1)
