"""What models are judged on: labels, groups and names of a test set, and what the training set says, read and checked once."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from effnotes.metrics.bias import arrays
from effnotes.metrics.bias.alignment import by_name
from effnotes.metrics.bias.amplification import conditional_rates
from effnotes.metrics.bias.per_attribute import BoolArray, FloatArray, ratio


@dataclass(frozen=True, eq=False)
class AttributeTask:
    """A test set of K binary attributes with a protected one, as `AttributeTask.of` reads it.

    Attributes:
        labels: of the test samples, bool, shape (n, K).
        groups: of the test samples, bool, shape (n,).
        column: index of the protected attribute; None where the groups stand beside the labels.
        rates: rates of positives by group in training, shape (2, K), in [0, 1]; NaN for an empty group.
        train_rate: rate of positives in training, shape (K,); which value of an attribute is rare, and what the majority is.
        train_share: share of group 1 in training, in [0, 1]; NaN where there are no samples to tell.
        names: K different ones.
        sample_names: n of them, where they are known.
    """

    labels: BoolArray
    groups: BoolArray
    column: int | None
    rates: FloatArray
    train_rate: FloatArray
    train_share: float
    names: list[Hashable]
    sample_names: list[Hashable] | None = None

    @property
    def protected(self) -> int | BoolArray:
        """The protected attribute as functions on arrays take it: the column's index, or the group of each test sample."""
        return self.groups if self.column is None else self.column

    @classmethod
    @by_name()
    def of(
        cls,
        labels: ArrayLike,
        *,
        protected: int | str | ArrayLike,
        train_labels: ArrayLike | None = None,
        train_groups: ArrayLike | None = None,
        rates: ArrayLike | None = None,
        names: Sequence[str] | None = None,
        sample_names: Sequence[Hashable] | None = None,
        classes: int | None = None,
    ) -> AttributeTask:
        """Read a task from arrays.

        Args:
            labels: of the test samples in {0, 1}, shape (n, K); or the integer class of each, shape (n,), which gives one attribute
                for each class.
            protected: the protected attribute: a column's index or name, or the group of each test sample in {0, 1}, shape (n,).
            train_labels: in {0, 1}, shape (m, K), or integers (m,). They say which value is rare, what the majority is, and with
                the groups in which of them an attribute is more frequent.
            train_groups: group of each training sample in {0, 1}, shape (m,), where `protected` is no column.
            rates: rates of positives by training group, shape (2, K), in [0, 1], in place of those of the training labels: a
                generator's true rates, which keep sampling noise out of the direction of a bias, or `conditional_rates(...)` where
                the labels are not at hand. The size of the training groups is then taken to be that among these samples.
            names: of the K attributes; None takes those of a frame's columns, or numbers them from 0.
            sample_names: of the test samples, for logits that come as a frame later; None takes those of a frame's rows.
            classes: number of classes, where `labels` has shape (n,).

        Raises:
            ValueError: neither training labels nor rates, or no training groups where they are needed; shapes that differ, values
                out of range, names that are not K different ones, an unknown protected attribute.
        """
        true = arrays.as_attributes(labels, classes, "labels")
        attributes = true.shape[1]
        known = arrays.as_names(names, attributes)
        if sample_names is not None and len(sample_names) != len(true):
            raise ValueError(f"sample_names must be {len(true)}, one per sample, not {len(sample_names)}")
        of_samples = None if sample_names is None else list(sample_names)
        q = None if rates is None else arrays.as_rates(rates, attributes)
        if np.ndim(protected) == 0 and np.ndim(labels) == 1:
            remedy = "pass the group of each sample, shape (n,), or a loader that yields (images, labels, group)"
            raise ValueError(f"protected={protected!r} names a class of a multi-class task, whose classes are no groups; {remedy}")
        if isinstance(protected, str) and protected not in known:
            raise ValueError(f"protected names no attribute: {protected!r}; there are {known}")
        groups, column = arrays.resolve_protected(known.index(protected) if isinstance(protected, str) else protected, true)
        share = float(groups.mean()) if len(groups) else np.nan
        if train_labels is None:
            if q is None:
                remedy = "pass train_labels=... (the audited labels, at the price of noise), or rates=conditional_rates(...)"
                raise ValueError(f"nothing tells which value of an attribute is rare, and in which group it is frequent: {remedy}")
            return cls(true, groups, column, q, share * q[1] + (1 - share) * q[0], share, known, of_samples)
        train = arrays.as_attributes(train_labels, attributes, "train_labels")
        if train.shape[1] != attributes:
            raise ValueError(f"train_labels must have {attributes} attributes as labels do, not {train.shape[1]}")
        member = None if column is None else train[:, column]
        if train_groups is not None:
            member = arrays.as_groups(train_groups, len(train))
        if member is not None:
            share = float(member.mean()) if len(member) else share
            q = conditional_rates(train, member) if q is None else q
        if q is None:
            needed = "train_groups=... are needed as well, or rates=conditional_rates(train_labels, train_groups)"
            raise ValueError(f"with groups beside the labels, {needed}")
        return cls(true, groups, column, q, ratio(train.sum(0), len(train)), share, known, of_samples)
