"""Facts of one's own as a world: a table of subjects, relations and objects by name, to be learnt and edited like any other."""

import itertools
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from effnotes.core.errors import DataError, nearest
from effnotes.core.files import user_path
from effnotes.datasets.files import clean_name, naming, read_csv
from effnotes.datasets.worlds.graph import SO, Facts, Integers
from effnotes.datasets.worlds.settings import SETTINGS
from effnotes.datasets.worlds.world import World

_Names: TypeAlias = tuple[str, ...]
_Pair: TypeAlias = tuple[str, str]  # subject and relation

_COLUMNS = ("subject", "relation", "object")
_FEWEST_SUBJECTS = 4  # one to edit, one to retain, and two to hold out
_SHOWN = 3  # missing facts that a message names
_KNOWN = 8  # names that a message offers

_FREE = ("templates", "qa_frac", "qa_subject_frac", "zipf", "withheld_frac", "repeats", "shuffle", "tokens_per_subject", "seed")
"""Settings that say how given facts are written; all others say how facts are drawn."""


@dataclass(frozen=True, eq=False)
class NamedWorld:
    """A world whose subjects, relations and objects have names. The names are for readers: models see the world's own words.

    Attributes:
        world: The world; number i of a kind is the i-th name. Of each relation it has as many objects as the relation with the most
            has names; those without a name are in no sentence, and no edit changes a fact to them.
        subjects: S names.
        relations: R names.
        objects: For each relation the names of its objects.
    """

    world: World
    subjects: _Names
    relations: _Names
    objects: tuple[_Names, ...]

    def describe(self, facts: Facts, new: Integers | None = None) -> list[str]:
        """Write facts by name, "Ada | lives in | Rome", and what they change to, "Ada | lives in | Rome → Oslo".

        Args:
            facts: n facts of the world, such as `Task.old`.
            new: (n,) numbers of their new objects, such as `Task.train["edited"].facts.object`; the old one for no change.

        Raises:
            ValueError: A fact or a new object has a number without a name, or `new` has another length.
        """
        self.world.check_facts(facts)
        new = facts.object if new is None else np.asarray(new)
        if new.shape != facts.object.shape:
            raise ValueError(f"new has shape {new.shape}, but there are {len(facts)} facts; give each its new object")
        lines = []
        for (_, s, r, old), other in zip(facts.rows(), new.tolist(), strict=True):
            line = f"{self.subjects[s]} | {self.relations[r]} | {self._object(r, old)}"
            lines.append(line if other == old else f"{line} → {self._object(r, other)}")
        return lines

    def _object(self, relation: int, number: int) -> str:
        names, of = self.objects[relation], self.relations[relation]
        if not 0 <= number < len(names):
            raise ValueError(f"object {number}: {of!r} has {len(names)} objects, numbered 0 to {len(names) - 1}")
        return names[number]


def read_facts(path: str | Path, **settings: Any) -> NamedWorld:
    """Read facts by name from a CSV file, as a world.

    The header names the columns subject, relation and object, in any order; further columns are not read. Blank lines are skipped,
    and spaces around a name or repeated in it are dropped, as are letters that cannot be seen (`clean_name`). Each subject has
    exactly one object of each relation. Names are numbered in the order in which they come.

    Args:
        path: The file, UTF-8, with commas between the cells.
        settings: Settings of `World` that say how facts are written: templates, qa_frac, qa_subject_frac, zipf, withheld_frac,
            repeats, shuffle, tokens_per_subject and seed. The seed draws no fact.

    Raises:
        ValueError: A setting is unknown, or says how facts are drawn.
        DataError: The file is missing or no such table, a cell is empty, a fact is there twice or missing, there are fewer than
            four subjects, a relation has one object only, so that no edit could change it, or the facts or settings are beyond
            what `World` allows. The message names the file, the line where there is one, and what is allowed.
    """
    for name in settings:
        if name not in _FREE:
            why = "says how facts are drawn, but these are given." if name in SETTINGS else f"is no setting.{nearest(name, _FREE)}"
            raise ValueError(f"{name}={settings[name]!r} {why} What can be set is: {', '.join(_FREE)}.")
    path = user_path(path)
    lines, stated = _read_stated(path)
    subjects = tuple(dict.fromkeys(subject for subject, _ in stated))
    relations = tuple(dict.fromkeys(relation for _, relation in stated))
    objects = tuple(tuple(dict.fromkeys(o for (_, r), o in stated.items() if r == relation)) for relation in relations)
    _check_complete(path, lines, subjects, relations, objects)
    numbers = [{name: number for number, name in enumerate(names)} for names in objects]
    graph = np.array([[numbers[r][stated[s, name]] for r, name in enumerate(relations)] for s in subjects], dtype=np.int64)
    with naming(path):
        # Drawn first, for whom questions are asked about; its facts are never looked at.
        drawn = World(len(subjects), len(relations), max(map(len, objects)), **settings)
        world = replace(drawn, given_graph=replace(drawn.graph, objects=graph))
    return NamedWorld(world, subjects, relations, objects)


def read_edits(path: str | Path, named: NamedWorld) -> tuple[Facts, Integers]:
    """Read which facts of a named world are to change, from a CSV file as for `read_facts` whose objects are the new ones.

    Returns:
        The n facts as they are in the world, and (n,) their new objects, in the order of the file; see `edit_task`.

    Raises:
        DataError: The file is missing or no such table, names nobody and nothing that the facts name, names a fact twice, or gives
            one the object that it has. The message names the file, the line, and the nearest name that is known.
    """
    path = user_path(path)
    lines, stated = _read_stated(path)
    rows = []
    for (subject, relation), value in stated.items():
        where = f"{path}, line {lines[subject, relation]}"
        s = _number(subject, named.subjects, f"{where}: no fact is about the subject")
        r = _number(relation, named.relations, f"{where}: no fact has the relation")
        new = _number(value, named.objects[r], f"{where}: no subject '{relation}'")
        rows.append((s, r, old := int(named.world.graph.objects[s, r]), new))
        if new == old:
            raise DataError(f"{where}: '{subject} | {relation}' is {value!r} already; give the object that it is to change to")
    subjects, relations, old_objects, new_objects = np.array(rows).T
    return Facts.of(SO, subjects, relations, old_objects), new_objects


def _number(name: str, names: _Names, what: str) -> int:
    if name not in names:
        known = ", ".join(names[:_KNOWN]) + ", …" * (len(names) > _KNOWN)
        raise DataError(f"{what} {name!r}.{nearest(name, names)} Known are: {known}")
    return names.index(name)


def _read_stated(path: Path) -> tuple[dict[_Pair, int], dict[_Pair, str]]:
    """Read the line and the object of each (subject, relation), in the order of the file."""
    lines: dict[_Pair, int] = {}
    stated: dict[_Pair, str] = {}
    for line, row in read_csv(path, _COLUMNS):
        # Names that look the same are one name.
        names = {name: clean_name(row[name]) for name in _COLUMNS}
        if empty := [name for name, written in names.items() if not written]:
            raise DataError(f"{path}, line {line}: {' and '.join(empty)} is empty; a fact needs all of {', '.join(_COLUMNS)}")
        subject, relation, value = names.values()
        pair = (subject, relation)
        if pair in stated:
            said = "given again, as it is" if stated[pair] == value else f"{value!r}, but {stated[pair]!r}"
            said = f"'{subject} | {relation}' is {said} in line {lines[pair]}"
            raise DataError(f"{path}, line {line}: {said}; a subject has one object of a relation: keep one of the lines")
        lines[pair], stated[pair] = line, value
    if not stated:
        raise DataError(f"{path}: there is no fact in this file, only a header; each further line is one fact")
    return lines, stated


def _check_complete(path: Path, lines: dict[_Pair, int], subjects: _Names, relations: _Names, objects: tuple[_Names, ...]) -> None:
    missing = [pair for pair in itertools.product(subjects, relations) if pair not in lines]
    if missing:
        of = missing[0][0]
        # The lines are in the order of the file.
        first = next(line for (subject, _), line in lines.items() if subject == of)
        shown = ", ".join(f"'{subject} | {relation}'" for subject, relation in missing[:_SHOWN])
        more = f" and {len(missing) - _SHOWN} more" if len(missing) > _SHOWN else ""
        raise DataError(
            f"{path}, line {first}: {of!r} lacks relations that others have; {len(missing)} facts are missing, {shown}{more}; "
            f"each of {len(subjects)} subjects needs an object of each of {len(relations)} relations"
        )
    if len(subjects) < _FEWEST_SUBJECTS:
        few = f"{len(subjects)} subjects ({', '.join(subjects)}) are too few to edit one, retain one and hold out others"
        raise DataError(f"{path}: {few}; at least {_FEWEST_SUBJECTS} are needed")
    for relation, names in zip(relations, objects, strict=True):
        if len(names) < 2:
            first = next(line for (_, of), line in lines.items() if of == relation)
            same = f"{relation!r} is {names[0]!r} for every subject, so that there is nothing to change it to"
            raise DataError(f"{path}, line {first}: {same}; a relation needs at least 2 objects")
