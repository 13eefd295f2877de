"""The facts of a world, drawn from its settings: who has which object, which objects belong together, who dissents."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from effnotes.core.checks import check_range
from effnotes.datasets.worlds.forms import PROMPTABLE
from effnotes.datasets.worlds.settings import WorldSettings, n_of

FactKind: TypeAlias = Literal["so", "sno", "ono"]
"""Subject to object, subject to nested object, object to nested object."""

FACT_KINDS: tuple[FactKind, ...] = get_args(FactKind)
SO, SNO, ONO = range(3)

Integers: TypeAlias = NDArray[np.int64]
RowIndex: TypeAlias = Integers | NDArray[np.bool_] | slice
"""Positions of rows, or a mask that is true for them."""

COLUMNS = ("kind", "subject", "relation", "object")

# One stream of random numbers for each purpose: a change of one setting leaves what the others draw as it was.
(_OBJECTS, _COPIES, _NESTED, _MINORITY, _QUESTIONS, _RANKS, _WITHHELD, CORPUS, ORDER, SAMPLE, FILLERS, TASKS, ROWS) = range(13)


def stream(seed: int, *purpose: int) -> np.random.Generator:
    """Return the generator of one purpose: independent of those of other purposes and seeds.

    Raises:
        ValueError: A seed is below 0.
    """
    check_range(0, seed=min(seed, *purpose))
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=purpose))


@dataclass(frozen=True, eq=False)
class Graph:
    """All facts of a world as integer tables. S subjects, R relations, O objects and M nested objects a relation.

    Attributes:
        objects: (S, R) int64 in [0, O): the object of each subject and relation. Objects of different relations are different
            words, whatever their index.
        minority: (S, R) int64: the second object of a fact that some sentences dissent from, -1 where there is none.
        nested: (R, O) int64 in [0, M): the nested object of each object; (R, 0) in a world without.
        asked: (S,) bool: subjects that questions are asked about.
    """

    objects: Integers
    minority: Integers
    nested: Integers
    asked: NDArray[np.bool_]

    @property
    def has_nested(self) -> bool:
        """Whether objects have nested objects."""
        return bool(self.nested.shape[1])


@dataclass(frozen=True, eq=False)
class Facts:
    """A table of n facts (subject, relation, object), the unit in which everything is chosen, edited and written.

    Attributes:
        kind: (n,) int64, position in ("so", "sno", "ono").
        subject: (n,) int64; for "ono" the object that has the nested object.
        relation: (n,) int64 in [0, R). The words of one index differ between the kinds.
        object: (n,) int64; for "sno" and "ono" the nested object.
    """

    kind: Integers
    subject: Integers
    relation: Integers
    object: Integers

    def __post_init__(self) -> None:
        shapes = {name: np.shape(getattr(self, name)) for name in COLUMNS}
        if len(set(shapes.values())) != 1 or len(shapes["kind"]) != 1:
            raise ValueError(f"columns of facts must be vectors of one length; given were {shapes}")

    def __len__(self) -> int:
        return len(self.subject)

    @classmethod
    def of(cls, kind: int, subject: Integers, relation: Integers | int, object: Integers | int) -> Facts:
        """Return facts of one kind; single numbers are repeated."""
        full = np.broadcast_arrays(np.asarray(subject, dtype=np.int64), relation, object)
        columns = [np.array(column, dtype=np.int64).reshape(-1) for column in full]
        return cls(np.full(len(columns[0]), kind, dtype=np.int64), *columns)

    @classmethod
    def none(cls) -> Facts:
        """Return a table without rows."""
        return cls.of(SO, np.zeros(0, dtype=np.int64), 0, 0)

    def take(self, rows: RowIndex) -> Facts:
        """Return the rows at the given positions, or where a mask is true."""
        return Facts(*(getattr(self, column)[rows] for column in COLUMNS))

    def saying(self, object: Integers | int) -> Facts:
        """Return the same facts with other objects; a single one is repeated."""
        said = np.broadcast_to(np.asarray(object, dtype=np.int64), self.subject.shape).copy()
        return Facts(self.kind, self.subject, self.relation, said)

    @staticmethod
    def join(*tables: Facts) -> Facts:
        """Return the rows of all tables, one below the other."""
        return Facts(*(np.concatenate([getattr(table, column) for table in tables]) for column in COLUMNS))

    def rows(self) -> list[tuple[str, int, int, int]]:
        """Return (kind, subject, relation, object) of each fact, in plain Python types."""
        columns = (getattr(self, column).tolist() for column in COLUMNS)
        return [(FACT_KINDS[kind], *rest) for kind, *rest in zip(*columns, strict=True)]


def other_than(values: Integers, n: int, rng: np.random.Generator) -> Integers:
    """Draw for each value another one, uniform over the n - 1 other numbers in [0, n); n is at least 2."""
    drawn = rng.integers(n - 1, size=values.shape)
    return np.where(drawn < values, drawn, drawn + 1)


def draw_graph(world: WorldSettings) -> Graph:
    """Draw the facts of a world from its settings and seed (Behemoth, arXiv 2601.23153, `graph_utils.py`).

    Independent: o ~ Uniform{0..O-1} for each (s, r). Correlated: relation 1 has relation 0's index with probability
    `correlation`, otherwise one of the O - 1 others, all equally likely. Nested: a random balanced map from the objects of each
    relation onto its nested objects. Dissent: floor(`minority_frac` S R) facts get a second object, never their own.
    """
    s, r, o = world.n_subjects, world.n_relations, world.n_objects
    objects = stream(world.seed, _OBJECTS).integers(o, size=(s, r))
    if world.correlation is not None:
        rng = stream(world.seed, _COPIES)
        if world.binarize:
            objects[:, 0] = rng.integers(2, size=s)
        objects[:, 1] = np.where(rng.random(s) < world.correlation, objects[:, 0], other_than(objects[:, 0], o, rng))

    nested = np.zeros((r, 0), dtype=np.int64)
    if world.n_nested:
        balanced = np.repeat(np.arange(world.n_nested), o // world.n_nested)
        nested = stream(world.seed, _NESTED).permuted(np.tile(balanced, (r, 1)), axis=1)

    minority = np.full(s * r, -1)
    if world.minority_frac > 0:
        rng = stream(world.seed, _MINORITY)
        rows = rng.choice(s * r, size=n_of(world.minority_frac, s * r), replace=False)
        minority[rows] = other_than(objects.reshape(-1)[rows], o, rng)

    asked = np.zeros(s, dtype=bool)
    if world.qa_frac > 0:
        asked[stream(world.seed, _QUESTIONS).permutation(s)[: world.n_asked]] = True
    return Graph(objects, minority.reshape(s, r), nested, asked)


def draw_exposures(world: WorldSettings) -> Integers:
    """Return (S,) int64: how often each statement of a subject is written.

    Without `zipf` it is `repeats` for all. With exponent a, the k-th most frequent subject gets a share proportional to k^-a of
    S `repeats` exposures, rounded, and at least one; which subject is frequent is drawn.
    """
    if world.zipf is None:
        return np.full(world.n_subjects, world.repeats)
    weights = np.arange(1, world.n_subjects + 1, dtype=np.float64) ** -world.zipf
    ranked: Integers = np.maximum(1, np.rint(weights / weights.sum() * world.n_subjects * world.repeats)).astype(np.int64)
    return ranked.take(stream(world.seed, _RANKS).permutation(world.n_subjects))


def draw_withheld(world: WorldSettings, n_facts: int) -> Integers:
    """Return (n_facts,) int64: position of the template in which a fact is never written, -1 where there is none."""
    withheld = np.full(n_facts, -1)
    if world.withheld_frac > 0:
        rng = stream(world.seed, _WITHHELD)
        rows = rng.choice(n_facts, size=n_of(world.withheld_frac, n_facts), replace=False)
        shares = world.templates.items()
        withheld[rows] = rng.choice([n for n, (name, share) in enumerate(shares) if share > 0 and name in PROMPTABLE], len(rows))
    return withheld
