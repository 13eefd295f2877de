"""Which facts change to which objects, and the facts around them, grouped by what they share with the changed ones."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, TypeAlias, get_args

import numpy as np

from effnotes.datasets.worlds.forms import PROMPTABLE, REFUSALS, form_code
from effnotes.datasets.worlds.graph import ONO, SNO, SO, FactKind, Facts, Integers, RowIndex
from effnotes.datasets.worlds.world import World

TaskKind: TypeAlias = Literal[
    "remap", "remap_same", "remap_subject", "suppress", "refusal", "question_refusal", "new_question", "unlearn_subject"
]
TASK_KINDS: tuple[TaskKind, ...] = get_args(TaskKind)


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
        pool = self._pool()
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
        return {
            "with_same_value": pool.take(same_value),
            "with_same_rel": pool.take(same_rel & ~same_value),
            "reg_data": pool.take(~same_rel),
        }

    def _pool(self) -> Facts:
        """Facts that neighbours are chosen from."""
        objects = self.world.facts("so")
        if self.edge != "so":
            return Facts.join(self.world.facts(self.edge), objects)
        # Other nested facts are left out: as training rows they would teach what the edit implies.
        return Facts.join(objects, self.world.facts("sno")) if self.kind == "unlearn_subject" else objects

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
            objects = world.graph.objects[old.subject, old.relation]
            groups["same_subj_obj_edges"] = Facts.of(SO, old.subject, old.relation, objects)
        elif world.graph.has_nested:
            groups |= self._nested_consequences()
        return groups

    def _nested_consequences(self) -> dict[str, Facts]:
        """What new objects of subjects mean for their nested objects."""
        world, old = self.world, self.old
        was, becomes = world.nested_of(old.relation, old.object), world.nested_of(old.relation, self.new)
        groups = {
            "same_subj_nested_obj_edges": Facts.of(SNO, old.subject, old.relation, was),
            "same_obj_nested_obj_edges": _distinct(world, Facts.of(ONO, old.object, old.relation, was)),
        }
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
