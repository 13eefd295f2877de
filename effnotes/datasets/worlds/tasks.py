"""Tasks: an edit as rows to train on and rows to ask for, with nothing that is asked among what is trained on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal
from zlib import crc32

import numpy as np
import pandas as pd

from effnotes.core.checks import check_range
from effnotes.core.errors import nearest
from effnotes.datasets.worlds.changes import FactChange, Group, TaskKind, entities, in_form
from effnotes.datasets.worlds.graph import ROWS, FactKind, Facts, Integers, stream
from effnotes.datasets.worlds.sentences import Sentences, write_facts
from effnotes.datasets.worlds.world import World

EDITED = ("edited", "forget")
"""Training groups of the edit itself; all others are retain rows."""


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
        retain = [group.facts for name, group in self.train.items() if name not in EDITED]
        if not retain:
            return
        retained = Facts.join(*retain)
        asked = Facts.join(*(group.facts for group in self.test.values()), self.old)
        shared = np.intersect1d(self.world.fact_ids(retained), self.world.fact_ids(asked))
        if len(shared):
            raise ValueError(f"{len(shared)} facts are retain rows and test rows; a test row must be new to the edited model")
        kept, tested = (np.unique(entities(self.world, facts, self.edge)) for facts in (retained, asked))
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
        return np.unique(entities(self.world, self.old, self.edge))

    def sizes(self) -> pd.DataFrame:
        """Return the number of rows in each group: columns split ("train" or "test"), group, rows."""
        splits = (("train", self.train), ("test", self.test))
        return pd.DataFrame(
            [(split, name, len(group)) for split, groups in splits for name, group in groups.items()],
            columns=["split", "group", "rows"],
        )

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
        if group not in groups:
            raise ValueError(
                f"there is no group {group!r} in {split}.{nearest(group, groups)} The groups are: {', '.join(groups)}."
            )
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
            yield replace(
                self,
                old=edit.old,
                train=dict(self.train) | {"edited": edited.take(row)},
                test={name: group for name, group in test.items() if len(group)},
            )
