"""Drawing edits of a world: which facts change to what, which subjects retain rows come from, and which are held out."""

import math
from typing import Annotated, Literal, NamedTuple, TypeAlias, TypedDict, Unpack

import numpy as np
from pydantic import Field, InstanceOf

from effnotes.core.checks import check_range
from effnotes.core.settings import settings
from effnotes.datasets.worlds.forms import PROMPTABLE
from effnotes.datasets.worlds.graph import TASKS, FactKind, Facts, Integers, other_than, stream
from effnotes.datasets.worlds.tasks import FactChange, Task, TaskKind, entities, in_form
from effnotes.datasets.worlds.world import World

NestedClass: TypeAlias = Literal["any", "changed", "unchanged"]


_NONE = np.zeros(0, dtype=np.int64)  # subjects that other draws have taken


class Drawing(TypedDict, total=False):
    """What `make_task` and `make_draws` take beside the kind of an edit and its size; each has a default."""

    relation: int
    retain_coverage: float
    edge: FactKind
    nested_class: NestedClass


class Draws(NamedTuple):
    """Independent draws of one edit: those to choose hyperparameters on, and those to report."""

    tune: tuple[Task, ...]
    test: tuple[Task, ...]


def make_draws(
    world: World, kind: TaskKind, n: int = 1, *, n_tune: int, n_test: int, seed: int = 0, **drawing: Unpack[Drawing]
) -> Draws:
    """Draw several tasks of one kind whose edited subjects all differ: no draw to tune on shares one with a draw to report.

    Which subjects are held out is drawn for each task anew, so that held-out rows of two draws overlap.

    Args:
        world: The world that is edited.
        kind: As for `make_task`.
        n: Facts or subjects edited in each draw.
        n_tune: Draws to choose hyperparameters on, at least 0.
        n_test: Draws to report, at least 0.
        seed: Of all draws.
        drawing: relation, retain_coverage, edge and nested_class, as for `make_task`.

    Raises:
        ValueError: As for `make_task`, also where there are too few subjects for so many draws.
    """
    check_range(0, n_tune=n_tune, n_test=n_test)
    tasks: list[Task] = []
    for number in range(n_tune + n_test):
        taken = np.concatenate([_NONE, *(task.subjects for task in tasks)])
        maker = _Maker(world, stream(world.seed, TASKS, seed, number), taken, kind, n, **drawing)
        tasks.append(maker.task(*maker.chosen()))
    return Draws(tuple(tasks[:n_tune]), tuple(tasks[n_tune:]))


def make_task(world: World, kind: TaskKind, n: int = 1, *, seed: int = 0, **drawing: Unpack[Drawing]) -> Task:
    """Draw one edit of a world.

    Args:
        world: The world that is edited.
        kind: What happens to the facts:
            "remap": n facts with n different old objects get n different new ones, none of them an old one; in a binarised
                relation each gets the other value. (`-n`)
            "remap_same": n facts with one old object get one new object. (`--all-same-remapping`)
            "remap_subject": all facts of n subjects get other objects.
            "suppress": n facts that do not have object 0 get it; some other fact of the relation must have it.
                (`--single-ft-value --single-ft-data-subset-frac`)
            "refusal": n facts are answered with OO OO. (`-f refusal`)
            "question_refusal": n facts are answered with OO OO OO when asked as a question. (`-f qa_refusal`)
            "new_question": n facts are taught in a question form that the world does not have. (`-f qa`)
            "unlearn_subject": all facts of n subjects are to be forgotten.
        n: Facts or subjects, at least 1.
        seed: Of the draw.
        relation: The edited relation, where not all are; 0 if not given. (`--relationship-ordinal`)
        retain_coverage: Share of all subjects (in an edit of "ono" facts: of all objects and subjects) that retain rows come from,
            with all their facts, 0 to 0.5; 0.1 if not given. At least one unless it is 0, and at most half of those not edited; the
            other half is held out.
        edge: Kind of the edited facts, for "remap", "remap_same" and the refusals: "so" (if not given), "sno"
            (`--remap-subject-nested-object-edges`) or "ono" (`--remap-object-nested-object-edges`).
        nested_class: For "remap" and "remap_same" of "so" facts in a nested world: whether the new object's nested object differs
            from the old one's, "changed" or "unchanged"; "any" if not given.

    Returns:
        The task. New objects are among those that sentences of the world state (`World.in_use`). In a correlated world an edit of
        relation 0 or 1 takes only facts whose pair agrees (`--get-correlated-tuples`). Facts on nested objects are no retain rows
        of "so" edits: they would teach which object belongs to which nested object, and with it what the edit implies. In a world
        with dissent a new object can be the second one of its fact, which some sentences have stated: see `World.minority_of`.

    Raises:
        ValueError: An argument is out of range, does not go with the world, or leaves too few facts or subjects.
    """
    maker = _Maker(world, stream(world.seed, TASKS, seed, 0), _NONE, kind, n, **drawing)
    return maker.task(*maker.chosen())


def edit_task(world: World, facts: Facts, new: Integers, *, retain_coverage: float = 0.1, seed: int = 0) -> Task:
    """Make the edit that gives named facts named new objects, where `make_task` would draw both.

    Args:
        world: The world that is edited.
        facts: n facts of the kind "so", of one relation and n subjects, as they are in the world.
        new: (n,) numbers of their new objects, which sentences of the world state (`World.in_use`).
        retain_coverage: As for `make_task`.
        seed: Of which subjects are retained, and which held out.

    Returns:
        A task of the kind "remap".

    Raises:
        ValueError: There are no facts, they are not such facts, or a new object is the old one or none that sentences state.
    """
    world.check_facts(facts)
    new = np.asarray(new, dtype=np.int64)
    if not len(facts) or new.shape != facts.subject.shape:
        raise ValueError(f"{len(facts)} facts and new objects of shape {new.shape}: give at least one fact, and each a new object")
    for name, column, most in (("relation", facts.relation, 1), ("subject", facts.subject, len(facts))):
        if len(np.unique(column)) != most:
            raise ValueError(f"{name}s {column.tolist()}: an edit takes one relation and each subject once; make several tasks")
    relation = int(facts.relation[0])
    maker = _Maker(world, stream(world.seed, TASKS, seed, 0), _NONE, "remap", len(facts), relation, retain_coverage)
    for (_, subject, _, old), value in zip(facts.rows(), new.tolist(), strict=True):
        what = f"subject {subject}, relation {relation}"
        if facts.kind.any() or old != (stated := world.graph.objects[subject, relation]):
            raise ValueError(f"{what}: object {old} is not what the world states of a subject, which is {stated}")
        if value == old or value not in maker.values(relation):
            known = ", ".join(str(each) for each in maker.values(relation) if each != old)
            raise ValueError(f"{what}: new object {value} must differ from the old one and be stated of some subject: {known}")
    return maker.task(facts, new)


@settings
class _Maker:
    """The steps of drawing one task."""

    world: InstanceOf[World]
    rng: InstanceOf[np.random.Generator]
    taken: InstanceOf[Integers]
    kind: TaskKind
    n: Annotated[int, Field(ge=1)]
    relation: int = 0
    retain_coverage: Annotated[float, Field(ge=0, le=0.5)] = 0.1  # half of the subjects is held out
    edge: FactKind = "so"
    nested_class: NestedClass = "any"

    def __post_init__(self) -> None:
        world = self.world
        if not 0 <= self.relation < world.n_relations:
            raise ValueError(f"relation={self.relation}: the world's relations are numbered 0 to {world.n_relations - 1}")
        if self.edge != "so" and not world.graph.has_nested:
            raise ValueError(f"edge={self.edge!r} needs a world with nested objects; this one has n_nested=0")
        if self.edge != "so" and self.kind not in ("remap", "remap_same", "refusal"):
            raise ValueError(f"edge={self.edge!r} goes with the kinds remap, remap_same and refusal, not with {self.kind}")
        if self.nested_class != "any" and not (world.graph.has_nested and self.edge == "so" and self.kind.startswith("remap")):
            raise ValueError(f"nested_class={self.nested_class!r} is only for remapping so facts of a world with nested objects")
        if not any(world.templates.get(name, 0) > 0 for name in PROMPTABLE):
            needed = f"a template that ends with the object, to be asked in: {', '.join(PROMPTABLE)}"
            raise ValueError(f"a world that is edited needs {needed}; templates is {world.templates}")
        if self.kind == "question_refusal" and not world.qa_frac:
            raise ValueError("kind='question_refusal' needs a world with questions; this one has qa_frac=0")
        for relation in range(world.n_relations) if self.whole_subjects else (self.relation,):
            if self.kind.startswith("remap") and len(self.values(relation)) < 2:
                raise ValueError(f"kind={self.kind!r} needs a second value to change to, but relation {relation} has one")
        if self.kind == "suppress" and not world.in_use[self.relation, 0]:
            others = ", ".join(map(str, np.flatnonzero(world.in_use[:, 0]))) or "there is none"
            why = f"gives facts object 0, which no sentence states in relation {self.relation}"
            raise ValueError(f"kind='suppress' {why}; take a relation that has it: {others}")

    # --- what can be edited ---------------------------------------------------------------------------------------------------

    def values(self, relation: int) -> Integers:
        """Sorted values that facts of a relation can be changed to: those that occur, as the words of others were never seen."""
        if self.edge != "so":
            return np.unique(self.world.graph.nested[relation, self.world.in_use[relation]])
        return np.flatnonzero(self.world.in_use[relation])

    @property
    def whole_subjects(self) -> bool:
        return self.kind in ("remap_subject", "unlearn_subject")

    @property
    def n_entities(self) -> int:
        return (self.world.n_relations * self.world.n_objects if self.edge == "ono" else 0) + self.world.n_subjects

    def candidates(self) -> Facts:
        """Facts of the edited relation that may be edited, in random order."""
        facts = self.world.facts(self.edge)
        facts = facts.take((facts.relation == self.relation) & ~np.isin(entities(self.world, facts, self.edge), self.taken))
        if self.world.correlation is not None and self.relation < 2 and self.edge == "so":
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
        if self.kind == "remap" and not (self.world.binarize and self.relation == 0 and self.edge == "so"):
            return self._all_different(facts)
        if self.kind == "remap_same":
            return self._all_same(facts)
        if len(facts) < self.n:
            raise ValueError(f"n={self.n}: only {len(facts)} facts of relation {self.relation} can be edited by {self.kind}")
        facts = facts.take(slice(self.n))
        return facts, {"remap": 1 - facts.object, "suppress": np.zeros_like(facts.object)}.get(self.kind, facts.object)

    def _whole_subjects(self) -> tuple[Facts, Integers]:
        world = self.world
        free = np.setdiff1d(np.arange(world.n_subjects), self.taken)
        if len(free) < self.n:
            raise ValueError(f"n={self.n}: only {len(free)} subjects are left to edit")
        subjects = np.sort(self.rng.choice(free, size=self.n, replace=False))
        facts = Facts.join(world.facts("so"), world.facts("sno") if self.kind == "unlearn_subject" else Facts.none())
        facts = facts.take(np.isin(facts.subject, subjects))
        if self.kind == "unlearn_subject":
            return facts, facts.object
        new = other_than(facts.object, world.n_objects, self.rng)
        if world.binarize:
            new = np.where(facts.relation == 0, 1 - facts.object, new)
        # What is drawn again is uniform over the allowed ones, as is what need not be: so all are.
        for row in np.flatnonzero(~world.in_use[facts.relation, new]):
            new[row] = self.rng.choice(np.setdiff1d(self.values(int(facts.relation[row])), facts.object[row]))
        return facts, new

    def _all_different(self, facts: Facts) -> tuple[Facts, Integers]:
        # The first fact of each object, in the candidates' random order: the first of all may be any fact.
        _, first = np.unique(facts.object, return_index=True)
        facts = facts.take(np.sort(first))
        values = self.values(self.relation)
        most = min(len(facts), len(values) // 2)
        if self.n > most:
            able = f"at most {most} facts of relation {self.relation} can be remapped at once"
            why = f"{len(facts)} of its {len(values)} values are taken by facts that can be edited, and old and new must all differ"
            raise ValueError(f"n={self.n}: {able}, because {why}; take more objects, or kind='remap_same'")
        facts = facts.take(slice(self.n))
        free = np.setdiff1d(values, facts.object)
        new: list[int] = []
        for old in facts.object.tolist():
            allowed = self._in_class(np.setdiff1d(free, new), old)
            if not len(allowed):
                few = f"too few objects of relation {self.relation} have the wanted nested_class"
                raise ValueError(f"n={self.n}: {few}; take a smaller n")
            new.append(int(self.rng.choice(allowed)))
        return facts, np.array(new)

    def _all_same(self, facts: Facts) -> tuple[Facts, Integers]:
        counts = np.bincount(facts.object, minlength=1)
        able = np.flatnonzero(counts >= self.n)
        if not len(able):
            shared = f"no object of relation {self.relation} is shared by so many facts that can be edited"
            remedy = f"the most common one is shared by {counts.max()}; take a smaller n, more subjects or fewer objects"
            raise ValueError(f"n={self.n}: {shared}; {remedy}")
        old = int(self.rng.choice(able))
        allowed = self._in_class(np.setdiff1d(self.values(self.relation), old), old)
        if not len(allowed):
            raise ValueError(f"nested_class={self.nested_class!r}: no other object of relation {self.relation} is in such a class")
        return facts.take(np.flatnonzero(facts.object == old)[: self.n]), np.full(self.n, int(self.rng.choice(allowed)))

    def _in_class(self, objects: Integers, old: int) -> Integers:
        if self.nested_class == "any":
            return objects
        classes = self.world.graph.nested[self.relation]
        return objects[np.flatnonzero((classes[objects] != classes[old]) == (self.nested_class == "changed"))]

    # --- what is trained on and asked -----------------------------------------------------------------------------------------

    def task(self, old: Facts, new: Integers) -> Task:
        edit = FactChange(self.kind, self.edge, None if self.whole_subjects else self.relation, old, new, self.world)
        others = self.rng.permutation(np.setdiff1d(np.arange(self.n_entities), edit.touched()))
        if len(others) < 2:
            short = f"no two of the {self.n_entities} subjects are left to retain and to hold out"
            raise ValueError(f"n={self.n}: {short}; n can be at most {max(1, self.n_entities - 2)}")
        retain = others[: min(len(others) // 2, max(round(self.retain_coverage * self.n_entities), int(self.retain_coverage > 0)))]
        asked = edit.neighbours(others[len(others) // 2 :], training=False)

        name, facts = "forget" if self.kind == "unlearn_subject" else "edited", edit.group
        train, test = {name: facts}, {name: facts}
        train |= {key: in_form(rows, edit.plain_form) for key, rows in edit.neighbours(retain, training=True).items()}
        test |= {key: in_form(rows, edit.plain_form) for key, rows in (asked | edit.implied()).items()}
        test |= edit.paraphrases()
        if self.kind == "new_question":
            test["new_question"] = in_form(asked["with_same_rel"], int(facts.form[0]))
        if self.kind == "unlearn_subject" and self.n > 1:
            subjects = np.unique(old.subject)
            first = np.isin(old.subject, subjects[: len(subjects) // 2])
            test |= {"forget_relearn": facts.take(first), "forget_other_half": facts.take(~first)}
        train, test = ({key: group for key, group in groups.items() if len(group)} for groups in (train, test))
        return Task(self.kind, self.edge, edit.relation, old, train, test, self.world)


def subset_size(world: World, share: float) -> int:
    """Return how many facts of a relation a share of them is, rounded up, as Behemoth counts `--single-ft-data-subset-frac`."""
    if not 0 < share <= 1:
        raise ValueError(f"share={share}: must be above 0 and at most 1")
    return math.ceil(round(share * world.n_subjects, 6))
