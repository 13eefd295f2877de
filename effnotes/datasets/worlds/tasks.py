"""Edits of a world: which facts change, what a model is trained on to change them, and what is asked of it afterwards."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias, get_args

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from effnotes.datasets.files import nearest
from effnotes.datasets.worlds.graph import (
    FACT_KINDS,
    ONO,
    PROMPTABLE,
    SNO,
    SO,
    TASKS,
    FactKind,
    Facts,
    Integers,
    other_than,
    stream,
)
from effnotes.datasets.worlds.sentences import FORMS, REFUSALS, Sentences, form_code, write_facts

if TYPE_CHECKING:
    from effnotes.datasets.worlds.world import World

TaskKind: TypeAlias = Literal[
    "remap", "remap_same", "remap_subject", "suppress", "refusal", "question_refusal", "new_question", "unlearn_subject"
]
TASK_KINDS: tuple[TaskKind, ...] = get_args(TaskKind)

NestedClass: TypeAlias = Literal["any", "changed", "unchanged"]

_EDITED = ("edited", "forget")
"""Training groups of the edit itself; all others are retain rows."""


@dataclass(frozen=True, eq=False)
class Group:
    """Facts to be trained on or asked for, each in a form and with the object that is the right answer.

    Attributes:
        facts: n facts; `object` is the answer that counts as right (after a refusal: the fact that is withheld).
        form: (n,) int64, position in `FORMS`.
    """

    facts: Facts
    form: Integers

    def __len__(self) -> int:
        return len(self.facts)

    def take(self, rows: Integers | NDArray[np.bool_] | slice) -> Group:
        """Return the rows at the given positions, or where a mask is true."""
        return Group(self.facts.take(rows), self.form[rows])


@dataclass(frozen=True, eq=False)
class Task:
    """One edit: rows to train on and rows to test on, by group, after Behemoth (arXiv 2601.23153, `create_finetuning_data.py`).

    Subjects are split three ways: those edited, those that retain rows may come from, and those held out. So no held-out fact is
    ever a training row, nor is any other fact on its subject. In an edit of facts between objects and nested objects ("ono") the
    objects are split alike, and subjects that have an edited object are in none of the parts.

    Training groups, those without rows being left out:
        edited: the edited facts with their new objects ("forget" when a subject is unlearned: with their old ones).
        with_same_value: same relation and old object as an edited fact, another subject.
        with_same_rel: same relation, an object that no edited fact had.
        reg_data: other relations, other subjects.
    Test groups:
        edited, forget; with_same_value, with_same_rel, reg_data: as above, of held-out subjects, with their old objects.
        paraphrase: the edited facts in the world's other templates and, where the subject is asked about, as a question.
        withheld: those of them that the world never wrote in that template.
        same_edges_diff_rel: other facts of the edited subjects, old objects.
        same_subject_second_rel, same_subject_second_rel_converted: in a correlated world the paired relation of the edited
            subjects, with its old object, and as it would be if it had moved along.
        same_subj_nested_obj_edges, sno_new: the nested object of the edited subjects, old and as the edit implies; the latter only
            where they differ.
        same_obj_nested_obj_edges, remapped_obj_nested_obj_edges: nested objects of the old and of the new object, which do not
            change.
        same_subj_obj_edges: where subjects' nested objects are edited, their objects, which do not change.
        implicitly_remapped_edges: after a suppression, the suppressed relation of held-out subjects, old object: how far the
            edit spreads beyond its subjects shows in how few are still right.
        new_question: after that form was taught, the relation of held-out subjects asked in it.
        forget_relearn, forget_other_half: the forgotten facts by halves of the subjects, to relearn one and ask for the other.
        edited_before: in a sequence, what was edited before.

    Attributes:
        kind: What kind of edit.
        edge: Kind of the edited facts.
        relation: The edited relation; None where all are.
        old: The edited facts as they are in the world, in the order of `train["edited"]`.
        train: Training rows by group.
        test: Test rows by group.
        world: The world that is edited.

    Raises:
        ValueError: A retain row is a test row or is about a subject that is edited or held out, or a group is empty.
    """

    kind: TaskKind
    edge: FactKind
    relation: int | None
    old: Facts
    train: Mapping[str, Group]
    test: Mapping[str, Group]
    world: World = field(repr=False)

    def __post_init__(self) -> None:
        empty = [name for groups in (self.train, self.test) for name, group in groups.items() if not len(group)]
        if empty:
            raise ValueError(f"groups without rows have to be left out: {', '.join(empty)}")
        retain = [group.facts for name, group in self.train.items() if name not in _EDITED]
        if not retain:
            return
        retained = Facts.join(*retain)
        asked = Facts.join(*(group.facts for group in self.test.values()), self.old)
        shared = np.intersect1d(self.world.fact_ids(retained), self.world.fact_ids(asked))
        if len(shared):
            raise ValueError(f"{len(shared)} facts are retain rows and test rows; a test row must be new to the edited model")
        kept, tested = (np.unique(_entities(self.world, facts, self.edge)) for facts in (retained, asked))
        kept = kept[kept >= 0]
        both = np.intersect1d(kept, tested)
        if len(both):
            raise ValueError(f"{len(both)} subjects have retain rows and test rows, such as number {both[0]}; split by subject")

    @property
    def forgotten(self) -> Facts:
        """The facts that a model trained from scratch must not see, to be the gold standard of unlearning them."""
        return self.old

    @property
    def subjects(self) -> Integers:
        """Sorted numbers of the edited subjects (in an edit of "ono" facts: of the objects, r O + o)."""
        return np.unique(_entities(self.world, self.old, self.edge))

    def sizes(self) -> pd.DataFrame:
        """Return the number of rows in each group: columns split ("train" or "test"), group, rows."""
        splits = (("train", self.train), ("test", self.test))
        return pd.DataFrame(
            [(split, name, len(group)) for split, groups in splits for name, group in groups.items()],
            columns=["split", "group", "rows"],
        )

    def encode(self, split: Literal["train", "test"], group: str, *, seed: int = 0) -> Sentences:
        """Write the rows of one group.

        Args:
            split: "train" or "test".
            group: Name of the group.
            seed: As for `World.encode`.

        Raises:
            ValueError: There is no such group.
        """
        groups = self.train if split == "train" else self.test
        if group not in groups:
            raise ValueError(
                f"there is no group {group!r} in {split}.{nearest(group, groups)} The groups are: {', '.join(groups)}."
            )
        rng = stream(self.world.seed, TASKS, seed)
        return write_facts(self.world.words, groups[group].facts, groups[group].form, rng, validation=True)

    def sequence(self) -> Iterator[Task]:
        """Yield the edits one by one, in order, each with the task's retain rows, and with those before it as a test group.

        Raises:
            ValueError: The task unlearns whole subjects, which is no sequence of facts.
        """
        if "edited" not in self.train:
            raise ValueError(f"kind={self.kind!r}: only tasks that edit single facts can be taken one by one")
        edited, asked = self.train["edited"], self.test["edited"]
        ids = {name: self.world.fact_ids(group.facts) for name, group in self.test.items()}
        own = self.world.fact_ids(self.old)
        for step in range(len(edited)):
            test = dict(self.test) | {"edited": asked.take(slice(step, step + 1))}
            for name in ("paraphrase", "withheld"):
                if name in test:
                    test[name] = test[name].take(ids[name] == own[step])
            if step:
                test["edited_before"] = asked.take(slice(0, step))
            yield replace(
                self,
                old=self.old.take(slice(step, step + 1)),
                train=dict(self.train) | {"edited": edited.take(slice(step, step + 1))},
                test={name: group for name, group in test.items() if len(group)},
            )


class Draws(NamedTuple):
    """Independent draws of one edit: those to choose hyperparameters on, and those to report."""

    tune: tuple[Task, ...]
    test: tuple[Task, ...]


def make_draws(
    world: World,
    kind: TaskKind,
    n: int = 1,
    *,
    n_tune: int,
    n_test: int,
    relation: int = 0,
    retain_coverage: float = 0.1,
    edge: FactKind = "so",
    nested_class: NestedClass = "any",
    seed: int = 0,
) -> Draws:
    """Draw several tasks of one kind whose edited subjects all differ: no draw to tune on shares one with a draw to report.

    Which subjects are held out is drawn for each task anew, so that held-out rows of two draws overlap.

    Args:
        world: The world that is edited.
        kind: As for `make_task`, like the arguments not named here.
        n: Facts or subjects edited in each draw.
        n_tune: Draws to choose hyperparameters on, at least 0.
        n_test: Draws to report, at least 0.
        relation: As for `make_task`.
        retain_coverage: As for `make_task`.
        edge: As for `make_task`.
        nested_class: As for `make_task`.
        seed: Of all draws.

    Raises:
        ValueError: As for `make_task`, also where there are too few subjects for so many draws.
    """
    for name, value in (("n_tune", n_tune), ("n_test", n_test)):
        if value < 0:
            raise ValueError(f"{name}={value}: must be at least 0")
    tasks: list[Task] = []
    for number in range(n_tune + n_test):
        taken = np.concatenate([np.zeros(0, dtype=np.int64), *(task.subjects for task in tasks)])
        rng = stream(world.seed, TASKS, seed, number)
        tasks.append(_Maker(world, kind, n, relation, retain_coverage, edge, nested_class, rng, taken).task())
    return Draws(tuple(tasks[:n_tune]), tuple(tasks[n_tune:]))


def make_task(
    world: World,
    kind: TaskKind,
    n: int = 1,
    *,
    relation: int = 0,
    retain_coverage: float = 0.1,
    edge: FactKind = "so",
    nested_class: NestedClass = "any",
    seed: int = 0,
) -> Task:
    """Draw one edit of a world.

    Args:
        world: The world that is edited.
        kind: What happens to the facts:
            "remap": n facts with n different old objects get n different new ones, none of them an old one; in a binarised
                relation each gets the other value. (`-n`)
            "remap_same": n facts with one old object get one new object. (`--all-same-remapping`)
            "remap_subject": all facts of n subjects get other objects.
            "suppress": n facts that do not have object 0 get it. (`--single-ft-value --single-ft-data-subset-frac`)
            "refusal": n facts are answered with OO OO. (`-f refusal`)
            "question_refusal": n facts are answered with OO OO OO when asked as a question. (`-f qa_refusal`)
            "new_question": n facts are taught in a question form that the world does not have. (`-f qa`)
            "unlearn_subject": all facts of n subjects are to be forgotten.
        n: Facts or subjects, at least 1.
        relation: The edited relation, where not all are. (`--relationship-ordinal`)
        retain_coverage: Share of all subjects that retain rows come from, with all their facts, 0 to 0.5. At most as many as
            half of those not edited; the other half is held out.
        edge: Kind of the edited facts, for "remap", "remap_same" and the refusals: "so", "sno"
            (`--remap-subject-nested-object-edges`) or "ono" (`--remap-object-nested-object-edges`).
        nested_class: For "remap" and "remap_same" of "so" facts in a nested world: whether the new object's nested object differs
            from the old one's.
        seed: Of the draw.

    Returns:
        The task. In a correlated world an edit of relation 0 or 1 takes only facts whose pair agrees
        (`--get-correlated-tuples`). Facts on nested objects are no retain rows of "so" edits: they would teach which object
        belongs to which nested object, and with it what the edit implies.

    Raises:
        ValueError: An argument is out of range, does not go with the world, or leaves too few facts or subjects.
    """
    return make_draws(
        world,
        kind,
        n,
        n_tune=0,
        n_test=1,
        relation=relation,
        retain_coverage=retain_coverage,
        edge=edge,
        nested_class=nested_class,
        seed=seed,
    ).test[0]


def _entities(world: World, facts: Facts, edge: FactKind) -> Integers:
    """Number what facts are about, as far as an edit of such facts has to keep it apart: -1 for what it need not.

    An edit of "ono" facts keeps objects apart, r O + o, and behind them subjects, R O + s.
    """
    if edge == "ono":
        n_objects = world.n_relations * world.n_objects
        return np.where(facts.kind == ONO, facts.relation * world.n_objects + facts.subject, n_objects + facts.subject)
    return np.where(facts.kind == ONO, -1, facts.subject)


@dataclass(frozen=True)
class _Maker:
    """The steps of drawing one task."""

    world: World
    kind: TaskKind
    n: int
    relation: int
    retain_coverage: float
    edge: FactKind
    nested_class: NestedClass
    rng: np.random.Generator
    taken: Integers

    def __post_init__(self) -> None:
        world = self.world
        for name, value, allowed in (
            ("kind", self.kind, TASK_KINDS),
            ("edge", self.edge, FACT_KINDS),
            ("nested_class", self.nested_class, get_args(NestedClass)),
        ):
            if value not in allowed:
                raise ValueError(f"{name}={value!r}: allowed are {', '.join(allowed)}.{nearest(str(value), allowed)}")
        if self.n < 1:
            raise ValueError(f"n={self.n}: must be at least 1")
        if not 0 <= self.relation < world.n_relations:
            raise ValueError(f"relation={self.relation}: the world's relations are numbered 0 to {world.n_relations - 1}")
        if not 0 <= self.retain_coverage <= 0.5:
            raise ValueError(f"retain_coverage={self.retain_coverage}: must be from 0 to 0.5, as half of the subjects is held out")
        if self.edge != "so" and not world.graph.has_nested:
            raise ValueError(f"edge={self.edge!r} needs a world with nested objects; this one has n_nested=0")
        if self.edge != "so" and self.kind not in ("remap", "remap_same", "refusal"):
            raise ValueError(f"edge={self.edge!r} goes with the kinds remap, remap_same and refusal, not with {self.kind}")
        if self.nested_class != "any" and not (world.graph.has_nested and self.edge == "so" and self.kind.startswith("remap")):
            raise ValueError(f"nested_class={self.nested_class!r} is only for remapping so facts of a world with nested objects")
        if self.kind == "question_refusal" and not world.qa_frac:
            raise ValueError("kind='question_refusal' needs a world with questions; this one has qa_frac=0")
        if self.kind.startswith("remap") and self.n_values < 2:
            raise ValueError(f"kind={self.kind!r} needs a second value to change to, but relation {self.relation} has one")

    # --- what can be edited ---------------------------------------------------------------------------------------------------

    @property
    def n_values(self) -> int:
        """Number of values that the edited facts can have: only two where a relation is binarised."""
        if self.edge != "so":
            return self.world.n_nested
        return 2 if self.is_binary else self.world.n_objects

    @property
    def is_binary(self) -> bool:
        return self.world.binarize and self.relation == 0 and self.edge == "so" and self.kind != "remap_subject"

    @property
    def is_paired(self) -> bool:
        return self.world.correlation is not None and self.relation < 2 and self.edge == "so"

    @property
    def whole_subjects(self) -> bool:
        return self.kind in ("remap_subject", "unlearn_subject")

    @property
    def n_entities(self) -> int:
        objects = self.world.n_relations * self.world.n_objects if self.edge == "ono" else 0
        return objects + self.world.n_subjects

    def entities(self, facts: Facts) -> Integers:
        return _entities(self.world, facts, self.edge)

    def candidates(self) -> Facts:
        """Facts of the edited relation that may be edited, in random order."""
        facts = self.world.facts(self.edge)
        facts = facts.take((facts.relation == self.relation) & ~np.isin(self.entities(facts), self.taken))
        if self.is_paired:
            objects = self.world.graph.objects
            facts = facts.take(objects[facts.subject, 0] == objects[facts.subject, 1])
        if self.kind == "suppress":
            facts = facts.take(facts.object != 0)
        if self.kind == "question_refusal":
            facts = facts.take(self.world.graph.asked[facts.subject])
        return facts.take(self.rng.permutation(len(facts)))

    def chosen(self) -> tuple[Facts, Integers]:
        """The facts to edit, and their new objects."""
        if self.whole_subjects:
            return self._whole_subjects()
        facts = self.candidates()
        if self.kind == "remap" and not self.is_binary:
            return self._all_different(facts)
        if self.kind == "remap_same":
            return self._all_same(facts)
        if len(facts) < self.n:
            raise ValueError(f"n={self.n}: only {len(facts)} facts of relation {self.relation} can be edited by {self.kind}")
        facts = facts.take(slice(self.n))
        new = facts.object
        if self.kind == "remap":
            new = 1 - facts.object
        elif self.kind == "suppress":
            new = np.zeros(self.n, dtype=np.int64)
        return facts, new

    def _whole_subjects(self) -> tuple[Facts, Integers]:
        world = self.world
        free = np.setdiff1d(np.arange(world.n_subjects), self.taken)
        if len(free) < self.n:
            raise ValueError(f"n={self.n}: only {len(free)} subjects are left to edit")
        subjects = np.sort(self.rng.choice(free, size=self.n, replace=False))
        facts = Facts.join(world.facts("so"), world.facts("sno") if self.kind == "unlearn_subject" else Facts.none())
        facts = facts.take(np.isin(facts.subject, subjects))
        return facts, other_than(facts.object, world.n_objects, self.rng) if self.kind == "remap_subject" else facts.object

    def _all_different(self, facts: Facts) -> tuple[Facts, Integers]:
        # The first fact of each object, in the candidates' random order: the first of all may be any fact.
        _, first = np.unique(facts.object, return_index=True)
        facts = facts.take(np.sort(first))
        most = min(len(facts), self.n_values // 2)
        if self.n > most:
            raise ValueError(
                f"n={self.n}: at most {most} facts of relation {self.relation} can be remapped at once, because {len(facts)} of "
                f"its {self.n_values} values are taken by facts that can be edited, and old and new values must all differ; "
                "take more objects, or kind='remap_same'"
            )
        facts = facts.take(slice(self.n))
        free = np.setdiff1d(np.arange(self.n_values), facts.object)
        new: list[int] = []
        for old in facts.object.tolist():
            allowed = self._in_class(np.setdiff1d(free, new), old)
            if not len(allowed):
                raise ValueError(
                    f"n={self.n}: too few objects of relation {self.relation} have the wanted nested_class; take a smaller n"
                )
            new.append(int(self.rng.choice(allowed)))
        return facts, np.array(new)

    def _all_same(self, facts: Facts) -> tuple[Facts, Integers]:
        counts = np.bincount(facts.object, minlength=self.n_values)
        able = np.flatnonzero(counts >= self.n)
        if not len(able):
            raise ValueError(
                f"n={self.n}: no object of relation {self.relation} is shared by so many facts that can be edited; the most common "
                f"one is shared by {counts.max()}; take a smaller n, more subjects or fewer objects"
            )
        old = int(self.rng.choice(able))
        allowed = self._in_class(np.setdiff1d(np.arange(self.n_values), [old]), old)
        if not len(allowed):
            raise ValueError(f"nested_class={self.nested_class!r}: no other object of relation {self.relation} is in such a class")
        return facts.take(np.flatnonzero(facts.object == old)[: self.n]), np.full(self.n, int(self.rng.choice(allowed)))

    def _in_class(self, objects: Integers, old: int) -> Integers:
        if self.nested_class == "any":
            return objects
        classes = self.world.graph.nested[self.relation]
        wanted = (classes[objects] != classes[old]) == (self.nested_class == "changed")
        return objects[np.flatnonzero(wanted)]

    # --- what is trained on and asked -----------------------------------------------------------------------------------------

    def task(self) -> Task:
        old, new = self.chosen()
        edited = np.unique(self.entities(old))
        implied = self._implied(old, new)
        apart = edited if self.edge != "ono" else np.union1d(edited, self.entities(implied["same_subj_nested_obj_edges"]))
        others = self.rng.permutation(np.setdiff1d(np.arange(self.n_entities), apart))
        if len(others) < 2:
            raise ValueError(
                f"n={self.n}: no two of the {self.n_entities} subjects are left to retain and to hold out; n can be at most "
                f"{max(1, self.n_entities - 2)}"
            )
        retain = others[: min(len(others) // 2, round(self.retain_coverage * self.n_entities))]
        held_out = others[len(others) // 2 :]
        train_form, name = self._forms()
        plain = FORMS.index(self._template)

        facts = Group(old.saying(new), np.full(len(old), train_form))
        train = {name: facts}
        test = {name: facts}
        train |= {key: _in_form(rows, plain) for key, rows in self._neighbours(old, retain, training=True).items()}
        test |= {key: _in_form(rows, plain) for key, rows in self._neighbours(old, held_out, training=False).items()}
        test |= {key: _in_form(rows, plain) for key, rows in implied.items()}
        test |= self._paraphrases(old, new, train_form)
        if self.kind == "new_question":
            test["new_question"] = _in_form(self._neighbours(old, held_out, training=False)["with_same_rel"], train_form)
        if self.kind == "unlearn_subject" and self.n > 1:
            first = np.isin(old.subject, edited[: len(edited) // 2])
            test |= {"forget_relearn": facts.take(first), "forget_other_half": facts.take(~first)}
        return Task(
            kind=self.kind,
            edge=self.edge,
            relation=None if self.whole_subjects else self.relation,
            old=old,
            train={key: group for key, group in train.items() if len(group)},
            test={key: group for key, group in test.items() if len(group)},
            world=self.world,
        )

    @property
    def _template(self) -> str:
        """The form of plain rows: the commonest of the world's templates that a prompt can be made of."""
        shares = {name: share for name, share in self.world.templates.items() if name in PROMPTABLE}
        return max(shares, key=lambda name: shares[name]) if shares else "sro"

    def _forms(self) -> tuple[int, str]:
        """The form of the edited rows, and the name of their group."""
        own = self.kind in (*REFUSALS, "new_question")
        return form_code(self.kind if own else self._template), "forget" if self.kind == "unlearn_subject" else "edited"

    def _pool(self) -> Facts:
        """Facts that neighbours are chosen from."""
        objects = self.world.facts("so")
        if self.edge != "so":
            return Facts.join(self.world.facts(self.edge), objects)
        # Other nested facts are left out: as training rows they would teach what the edit implies.
        return Facts.join(objects, self.world.facts("sno")) if self.kind == "unlearn_subject" else objects

    def _neighbours(self, old: Facts, of: Integers, *, training: bool) -> dict[str, Facts]:
        """Facts of other subjects, by how much they share with the edited ones."""
        pool = self._pool()
        pool = pool.take(np.isin(self.entities(pool), of))
        if self.kind == "unlearn_subject":
            return {"reg_data": pool}
        relations, values = (_keys(self.world, facts) for facts in (pool, old))
        same_rel = np.isin(relations[0], values[0])
        same_value = np.isin(relations[1], values[1])
        if self.kind == "suppress":
            # Rows on the suppressed relation would say the contrary of the edit; those with object 0 cannot tell.
            groups = {"reg_data": pool.take(~same_rel)}
            return groups if training else groups | {"implicitly_remapped_edges": pool.take(same_rel & (pool.object != 0))}
        return {
            "with_same_value": pool.take(same_value),
            "with_same_rel": pool.take(same_rel & ~same_value),
            "reg_data": pool.take(~same_rel),
        }

    def _implied(self, old: Facts, new: Integers) -> dict[str, Facts]:
        """Facts that the edit touches without naming them."""
        world, graph = self.world, self.world.graph
        if self.kind == "unlearn_subject":
            return {}
        groups: dict[str, Facts] = {}
        if self.edge == "ono":
            return self._implied_by_classes(old, new)
        subjects = np.unique(old.subject)
        about = world.facts(self.edge)
        about = about.take(np.isin(about.subject, subjects) & ~np.isin(world.fact_ids(about), world.fact_ids(old)))
        if self.is_paired and not self.whole_subjects:
            partner = 1 - self.relation
            groups["same_subject_second_rel"] = about.take(about.relation == partner)
            if self.kind.startswith("remap") or self.kind == "suppress":
                groups["same_subject_second_rel_converted"] = Facts.of(SO, old.subject, partner, new)
            about = about.take(about.relation != partner)
        groups["same_edges_diff_rel"] = about
        if self.edge == "sno":
            groups["same_subj_obj_edges"] = Facts.of(SO, old.subject, old.relation, graph.objects[old.subject, old.relation])
        elif graph.has_nested:
            was, becomes = world.nested_of(old.relation, old.object), world.nested_of(old.relation, new)
            moved = was != becomes
            groups["same_subj_nested_obj_edges"] = Facts.of(SNO, old.subject, old.relation, was)
            groups["same_obj_nested_obj_edges"] = _distinct(world, Facts.of(ONO, old.object, old.relation, was))
            if self.kind.startswith("remap") or self.kind == "suppress":
                groups["sno_new"] = Facts.of(SNO, old.subject, old.relation, becomes).take(moved)
                groups["remapped_obj_nested_obj_edges"] = _distinct(world, Facts.of(ONO, new, old.relation, becomes))
        return groups

    def _implied_by_classes(self, old: Facts, new: Integers) -> dict[str, Facts]:
        """What a new nested object of an object means for the subjects that have that object."""
        becomes = np.full((self.world.n_relations, self.world.n_objects), -1)
        becomes[old.relation, old.subject] = new
        nested = self.world.facts("sno")
        implied = becomes[nested.relation, self.world.graph.objects[nested.subject, nested.relation]]
        touched = nested.take(implied >= 0)
        groups = {"same_subj_nested_obj_edges": touched}
        if self.kind.startswith("remap"):
            groups["sno_new"] = touched.saying(implied[implied >= 0])
        return groups

    def _paraphrases(self, old: Facts, new: Integers, train_form: int) -> dict[str, Group]:
        """The edited facts in the forms that the edit does not use."""
        if self.kind in REFUSALS:
            return {}
        world = self.world
        facts = old.saying(new)
        promptable = [name for name, share in world.templates.items() if name in PROMPTABLE and share > 0]
        parts = [_in_form(facts, form_code(name)) for name in promptable if form_code(name) != train_form]
        if world.qa_frac:
            asked = (facts.kind == SO) & world.graph.asked[np.where(facts.kind == SO, facts.subject, 0)]
            parts.append(_in_form(facts.take(asked), form_code("question")))
        if not parts:
            return {}
        every = Group(Facts.join(*(part.facts for part in parts)), np.concatenate([part.form for part in parts]))
        withheld = world.withheld[world.fact_ids(every.facts)]
        # A last entry stands for "nothing withheld", which the index -1 points to.
        codes = np.array([*(form_code(name) for name in world.templates), -1])
        return {"paraphrase": every, "withheld": every.take(codes[withheld] == every.form)}


def _in_form(facts: Facts, form: int) -> Group:
    return Group(facts, np.full(len(facts), form))


def _keys(world: World, facts: Facts) -> tuple[Integers, Integers]:
    """Number each fact's relation, and its relation and object."""
    relation = facts.kind * world.n_relations + facts.relation
    return relation, relation * (max(world.n_objects, world.n_nested) + 1) + facts.object


def _distinct(world: World, facts: Facts) -> Facts:
    _, first = np.unique(world.fact_ids(facts), return_index=True)
    return facts.take(np.sort(first))


def subset_size(world: World, share: float) -> int:
    """Return how many facts of a relation a share of them is, rounded up, as Behemoth counts `--single-ft-data-subset-frac`."""
    if not 0 < share <= 1:
        raise ValueError(f"share={share}: must be above 0 and at most 1")
    return math.ceil(share * world.n_subjects)
