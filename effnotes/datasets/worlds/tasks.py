"""Tasks: which facts change to what, rows to train on and rows to ask for, with nothing that is asked among what is trained on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, TypeAlias
from zlib import crc32

import numpy as np
import pandas as pd

from effnotes.core.checks import check_choice, check_range
from effnotes.datasets.worlds.forms import PROMPTABLE, REFUSALS, form_code
from effnotes.datasets.worlds.graph import ONO, ROWS, SNO, SO, FactKind, Facts, Integers, RowIndex, stream
from effnotes.datasets.worlds.sentences import Sentences, write_facts
from effnotes.datasets.worlds.world import World

TaskKind: TypeAlias = Literal[
    "remap", "remap_same", "remap_subject", "suppress", "refusal", "question_refusal", "new_question", "unlearn_subject"
]

EDITED = ("edited", "forget")
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

    def take(self, rows: RowIndex) -> Group:
        """Return the rows at the given positions, or where a mask is true."""
        return Group(self.facts.take(rows), self.form[rows])


def entities(world: World, facts: Facts, edge: FactKind) -> Integers:
    """Number what facts are about, as far as an edit of such facts has to keep it apart: -1 for what it need not.

    An edit of "ono" facts keeps objects apart, r O + o, and behind them subjects, R O + s.
    """
    if edge == "ono":
        n_objects = world.n_relations * world.n_objects
        return np.where(facts.kind == ONO, facts.relation * world.n_objects + facts.subject, n_objects + facts.subject)
    return np.where(facts.kind == ONO, -1, facts.subject)


@dataclass(frozen=True, eq=False)
class FactChange:
    """Facts that change, and what follows from the world for the facts around them.

    Attributes:
        kind: What kind of edit.
        edge: Kind of the changed facts.
        relation: The relation that they all have; None where whole subjects are edited.
        old: n facts as they are in the world.
        new: (n,) int64, the objects that they get; the old ones where the answer changes and not the fact.
        world: The world that is edited.
    """

    kind: TaskKind
    edge: FactKind
    relation: int | None
    old: Facts
    new: Integers
    world: World = field(repr=False)

    @property
    def group(self) -> Group:
        """The changed facts in the form that they are trained on and asked in."""
        own = self.kind in (*REFUSALS, "new_question")
        return in_form(self.old.saying(self.new), form_code(self.kind) if own else self.plain_form)

    @property
    def plain_form(self) -> int:
        """The form of all other rows: the commonest of the world's templates that a prompt can be made of."""
        shares = {name: share for name, share in self.world.templates.items() if name in PROMPTABLE}
        return form_code(max(shares, key=lambda name: shares[name]))

    @property
    def _changes_objects(self) -> bool:
        return self.kind.startswith("remap") or self.kind == "suppress"

    # --- facts of others ------------------------------------------------------------------------------------------------------

    def touched(self) -> Integers:
        """Sorted numbers (as of `entities`) of all that must be neither retained nor held out."""
        edited = np.unique(entities(self.world, self.old, self.edge))
        if self.edge != "ono":
            return edited
        return np.union1d(edited, entities(self.world, self.implied()["same_subj_nested_obj_edges"], self.edge))

    def neighbours(self, of: Integers, *, training: bool) -> dict[str, Facts]:
        """Return the facts of the given subjects (and objects) by how much they share with the edited ones."""
        # Other nested facts are left out: as training rows they would teach what the edit implies.
        kinds: tuple[FactKind, ...] = ("so", "sno") if self.kind == "unlearn_subject" else ("so",)
        pool = Facts.join(*(self.world.facts(kind) for kind in (kinds if self.edge == "so" else (self.edge, "so"))))
        pool = pool.take(np.isin(entities(self.world, pool, self.edge), of))
        if self.kind == "unlearn_subject":
            return {"reg_data": pool}
        relations, values = (_keys(self.world, facts) for facts in (pool, self.old))
        same_rel = np.isin(relations[0], values[0])
        same_value = np.isin(relations[1], values[1])
        if self.kind == "suppress":
            # Rows on the suppressed relation would say the contrary of the edit; those with object 0 cannot tell.
            groups = {"reg_data": pool.take(~same_rel)}
            return groups if training else groups | {"implicitly_remapped_edges": pool.take(same_rel & (pool.object != 0))}
        rows = {"with_same_value": same_value, "with_same_rel": same_rel & ~same_value, "reg_data": ~same_rel}
        return {name: pool.take(mask) for name, mask in rows.items()}

    # --- facts that the edit touches without naming them ----------------------------------------------------------------------

    def implied(self, others: Facts | None = None) -> dict[str, Facts]:
        """Return the other facts about what is edited, by what the edit means for them.

        Args:
            others: Facts that edits before or after this one change: their objects are no longer, or not for long, the old ones.
        """
        if self.kind == "unlearn_subject":
            return {}
        if self.edge == "ono":
            return self._implied_by_classes()
        world, old = self.world, self.old
        about = world.facts(self.edge)
        changed = world.fact_ids(old if others is None else Facts.join(old, others))
        about = about.take(np.isin(about.subject, old.subject) & ~np.isin(world.fact_ids(about), changed))
        groups: dict[str, Facts] = {}
        if world.correlation is not None and self.relation in (0, 1) and self.edge == "so":
            partner = 1 - self.relation
            groups["same_subject_second_rel"] = Facts.of(SO, old.subject, partner, world.graph.objects[old.subject, partner])
            if self._changes_objects:
                moved = Facts.of(SO, old.subject, partner, self.new)
                groups["same_subject_second_rel_converted"] = moved.take(world.in_use[partner, self.new])
            about = about.take(about.relation != partner)
        groups["same_edges_diff_rel"] = about
        if self.edge == "sno":
            own = world.graph.objects[old.subject, old.relation]
            groups["same_subj_obj_edges"] = Facts.of(SO, old.subject, old.relation, own)
        elif world.graph.has_nested:
            # What new objects of subjects mean for their nested objects.
            was, becomes = (world.graph.nested[old.relation, value] for value in (old.object, self.new))
            groups["same_subj_nested_obj_edges"] = Facts.of(SNO, old.subject, old.relation, was)
            groups["same_obj_nested_obj_edges"] = _distinct(world, Facts.of(ONO, old.object, old.relation, was))
            if self._changes_objects:
                groups["sno_new"] = Facts.of(SNO, old.subject, old.relation, becomes).take(was != becomes)
                groups["remapped_obj_nested_obj_edges"] = _distinct(world, Facts.of(ONO, self.new, old.relation, becomes))
        return groups

    def _implied_by_classes(self) -> dict[str, Facts]:
        """What a new nested object of an object means for the subjects that have that object."""
        world = self.world
        becomes = np.full((world.n_relations, world.n_objects), -1)
        becomes[self.old.relation, self.old.subject] = self.new
        nested = world.facts("sno")
        implied = becomes[nested.relation, world.graph.objects[nested.subject, nested.relation]]
        touched = nested.take(implied >= 0)
        groups = {"same_subj_nested_obj_edges": touched}
        if self._changes_objects:
            groups["sno_new"] = touched.saying(implied[implied >= 0])
        return groups

    def paraphrases(self) -> dict[str, Group]:
        """Return the edited facts in the forms that the edit does not use."""
        if self.kind in REFUSALS:
            return {}
        world = self.world
        facts, used = self.old.saying(self.new), self.group.form[0]
        promptable = [name for name, share in world.templates.items() if name in PROMPTABLE and share > 0]
        parts = [in_form(facts, form_code(name)) for name in promptable if form_code(name) != used]
        if world.qa_frac:
            asked = (facts.kind == SO) & world.graph.asked[np.where(facts.kind == SO, facts.subject, 0)]
            parts.append(in_form(facts.take(asked), form_code("question")))
        if not parts:
            return {}
        every = Group(Facts.join(*(part.facts for part in parts)), np.concatenate([part.form for part in parts]))
        withheld = world.withheld[world.fact_ids(every.facts)]
        # A last entry stands for "nothing withheld", which the index -1 points to.
        codes = np.array([*(form_code(name) for name in world.templates), -1])
        return {"paraphrase": every, "withheld": every.take(codes[withheld] == every.form)}


def in_form(facts: Facts, form: int) -> Group:
    """Return facts as a group, all in one form."""
    return Group(facts, np.full(len(facts), form))


def _keys(world: World, facts: Facts) -> tuple[Integers, Integers]:
    """Number each fact's relation, and its relation and object."""
    relation = facts.kind * world.n_relations + facts.relation
    return relation, relation * (max(world.n_objects, world.n_nested) + 1) + facts.object


def _distinct(world: World, facts: Facts) -> Facts:
    _, first = np.unique(world.fact_ids(facts), return_index=True)
    return facts.take(np.sort(first))


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
        paraphrase: the edited facts in the world's other templates and, where the subject is asked about, as a question; refusals
            have none.
        withheld: those of them that the world never wrote in that template.
        same_edges_diff_rel: other facts of the edited subjects, old objects.
        same_subject_second_rel, same_subject_second_rel_converted: in a correlated world the paired relation of the edited
            subjects, with its old object, and as it would be if it had moved along (where a binarised relation can).
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
        retained = Facts.join(Facts.none(), *(group.facts for name, group in self.train.items() if name not in EDITED))
        asked = Facts.join(*(group.facts for group in self.test.values()), self.old)
        shared = np.intersect1d(self.world.fact_ids(retained), self.world.fact_ids(asked))
        if len(shared):
            raise ValueError(f"{len(shared)} facts are retain rows and test rows; a test row must be new to the edited model")
        kept, tested = (np.unique(entities(self.world, facts, self.edge)) for facts in (retained, asked))
        both = np.intersect1d(kept[kept >= 0], tested)
        if len(both):
            raise ValueError(f"{len(both)} subjects have retain rows and test rows, such as number {both[0]}; split by subject")

    @property
    def forgotten(self) -> Facts:
        """The facts that a model trained from scratch must not see, to be the gold standard of unlearning them."""
        return self.old

    @property
    def subjects(self) -> Integers:
        """Sorted numbers of the edited subjects (in an edit of "ono" facts: of the objects, r O + o)."""
        return np.unique(entities(self.world, self.old, self.edge))

    def sizes(self) -> pd.DataFrame:
        """Return the number of rows in each group: columns split ("train" or "test"), group, rows."""
        splits = (("train", self.train), ("test", self.test))
        rows = [(split, name, len(group)) for split, groups in splits for name, group in groups.items()]
        return pd.DataFrame(rows, columns=["split", "group", "rows"])

    def encode(self, split: Literal["train", "test"], group: str, *, seed: int = 0, copies: int = 1) -> Sentences:
        """Write the rows of one group.

        Args:
            split: "train" or "test".
            group: Name of the group.
            seed: Draws markers and fillers, as for `World.encode`, for each group by itself.
            copies: Times that the rows are written, one whole group after the other, at least 1.

        Raises:
            ValueError: There is no such group, or `copies` is below 1.
        """
        check_range(1, copies=copies)
        groups = self.train if split == "train" else self.test
        check_choice(tuple(groups), **{f"{split} group": group})
        # Each group draws for itself, or all would begin with the same markers and fillers.
        rng = stream(self.world.seed, ROWS, seed, int(split == "test"), crc32(group.encode()))
        rows = groups[group].take(np.tile(np.arange(len(groups[group])), copies))
        return write_facts(self.world.words, rows.facts, rows.form, rng, validation=True)

    def sequence(self) -> Iterator[Task]:
        """Yield the edits one by one, in order, each with the task's retain rows, and with those before it as a test group.

        What is implied is asked for each edit alone: at its step those after it have not been made. Rows of held-out subjects are
        the task's in each step.

        Raises:
            ValueError: The task unlearns whole subjects, which is no sequence of facts.
        """
        if "edited" not in self.train:
            raise ValueError(f"kind={self.kind!r}: only tasks that edit single facts can be taken one by one")
        edited, asked = self.train["edited"], self.test["edited"]
        every = FactChange(self.kind, self.edge, self.relation, self.old, edited.facts.object, self.world)
        of_all = {*every.implied(), *every.paraphrases(), "edited"}
        unchanging = {name: group for name, group in self.test.items() if name not in of_all}
        for step in range(len(edited)):
            row = slice(step, step + 1)
            edit = replace(every, old=self.old.take(row), new=every.new[row])
            implied = edit.implied(others=self.old)
            test = unchanging | {"edited": asked.take(row)} | edit.paraphrases()
            test |= {name: in_form(facts, edit.plain_form) for name, facts in implied.items()}
            if step:
                test["edited_before"] = asked.take(slice(0, step))
            test = {name: group for name, group in test.items() if len(group)}
            yield replace(self, old=edit.old, train=dict(self.train) | {"edited": edited.take(row)}, test=test)
