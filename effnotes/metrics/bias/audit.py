"""One call for the question of chapter 1: does this pruned model treat a group worse than the dense one does?"""

# Keeps the signatures that help() prints readable.
from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from effnotes.core.files import new_folder, written_whole
from effnotes.core.processes import available_cores
from effnotes.metrics.bias import arrays
from effnotes.metrics.bias.alignment import by_name
from effnotes.metrics.bias.amplification import corpus_bias_amplification, directional_bias_amplification
from effnotes.metrics.bias.attribute_table import decision_metrics, score_metrics, summarise, tidy
from effnotes.metrics.bias.calibration import calibrated_thresholds, uncertain
from effnotes.metrics.bias.criteria import criteria_of
from effnotes.metrics.bias.exclusive import log_odds
from effnotes.metrics.bias.exemplars import exemplar_table
from effnotes.metrics.bias.per_attribute import BoolArray, FloatArray, PerAttribute, ratio
from effnotes.metrics.bias.resampling import WITH_INTERVALS, change_bounds
from effnotes.metrics.bias.task import AttributeTask

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.figure import Figure
    from torch import nn

MODELS = ("dense", "pruned")

_PANELS = (
    ("bias_amplification", "bias amplification"),
    ("uncertainty", "uncertain predictions\n(share of samples)"),
    ("false_negative_rate_gap", "gap between groups in\nfalse negative rate"),
)
_BOUNDS = ["low", "high"]


@dataclass(frozen=True, eq=False, repr=False)
class BiasAudit:
    """What `bias_audit` and `audit_logits` found; it prints itself as a summary and shows itself as a page in a notebook.

    Attributes:
        table: tidy, one row per model, decision, attribute and metric. Columns: `model` ("dense", "pruned" or
            "difference", pruned minus dense), `decision` ("raw", at the thresholds given, or "calibrated"),
            `attribute`, `metric`, `value` (NaN where undefined) and `reason` (empty where defined; of a
            difference, that of the pruned model before that of the dense one). Metrics that no threshold
            enters stand under "raw" only.
        criteria: of `attribute_criteria`: what the dense model alone says on each attribute.
        samples: how many were audited.
        task: their labels and groups, and what is known of training.
        raw: raw decisions of the dense and of the pruned model, and of which each was uncertain, bool, shape (n, K).
        p: probabilities of the dense model, shape (n, K).
    """

    table: pd.DataFrame
    criteria: pd.DataFrame
    samples: int
    task: AttributeTask
    raw: tuple[tuple[BoolArray, BoolArray], ...]
    p: FloatArray

    @cached_property
    def exemplars(self) -> pd.DataFrame:
        """The decisions that pruning changed, per attribute, of `exemplar_table`."""
        return exemplar_table(self.raw[0][0], self.raw[1][0], self.p, names=self.task.names)

    @property
    def summary(self) -> pd.DataFrame:
        """Each metric averaged over the attributes for which it is defined in both models.

        Columns: `decision`, `metric`, `dense`, `pruned`, `difference`, `attributes` (how many are averaged)
        and, of the rest, `undefined_dense`, `undefined_pruned` and `no_predicted_positives` (in the pruned
        model: there the average is blind to an attribute that pruning lost). NaN where nothing is defined.
        """
        averages = summarise(self.table[self.table["model"] != "difference"]).set_index(["decision", "metric"])
        dense, pruned = (averages[averages["model"] == model] for model in MODELS)
        # Over attributes that are defined in these two models, under this decision: `mean_common` would also ask for the others.
        values = self.table.pivot(index=["decision", "metric", "attribute"], columns="model", values="value")
        both = values.dropna(subset=list(MODELS)).groupby(level=["decision", "metric"])
        means = both[[*MODELS]].mean().reindex(dense.index).rename_axis(columns=None)
        return means.assign(
            difference=means["pruned"] - means["dense"],
            attributes=both.size().reindex(dense.index, fill_value=0),
            undefined_dense=dense["undefined"],
            undefined_pruned=pruned["undefined"],
            no_predicted_positives=pruned["no_predicted_positives"],
        ).reset_index()

    def by_attribute(self, metric: str, *, decision: str = "raw") -> pd.DataFrame:
        """One metric side by side: index `attribute`, columns `dense`, `pruned`, `difference`.

        Args:
            metric: its name in `table`.
            decision: "raw" or "calibrated".

        Raises:
            ValueError: the table has no such metric or decision.
        """
        chosen = self.table[(self.table["metric"] == metric) & (self.table["decision"] == decision)]
        if chosen.empty:
            decisions, known = (sorted(self.table[column].unique()) for column in ("decision", "metric"))
            raise ValueError(f"the audit has no {metric!r} under {decision!r}; decisions: {decisions}, metrics: {known}")
        wide = chosen.pivot(index="attribute", columns="model", values="value").rename_axis(columns=None)
        return wide.loc[chosen["attribute"].unique(), [*MODELS, "difference"]]

    @cached_property
    def _bounds(self) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Bounds of the raw changes by metric and attribute, and by metric of their means over the attributes that are defined."""
        known = [self.by_attribute(metric)["difference"].notna() for metric in WITH_INTERVALS]
        bounds = change_bounds(self.task, self.raw, np.stack(known))
        index = pd.MultiIndex.from_product([WITH_INTERVALS, self.task.names], names=["metric", "attribute"])
        of_each, of_means = (values.reshape(2, -1).T for values in bounds)
        return pd.DataFrame(of_each, index, _BOUNDS), pd.DataFrame(of_means, pd.Index(WITH_INTERVALS, name="metric"), _BOUNDS)

    @property
    def intervals(self) -> pd.DataFrame:
        """95% intervals of the raw changes, by metric and attribute, in columns `low` and `high`; NaN where undefined.

        Of accuracy, bias_amplification, uncertainty and false_negative_rate_gap: percentiles of 999 resamples of samples, of more
        than 10,000 of as many random blocks. They tell what other samples would have given, not what training again would.
        """
        return self._bounds[0]

    @property
    def mean_intervals(self) -> pd.DataFrame:
        """The same, by metric, of the mean change over the attributes that are defined in both models."""
        return self._bounds[1]

    def changes(self, metric: str = "bias_amplification") -> pd.DataFrame:
        """One metric's raw changes, the largest first, up or down: as `by_attribute`, and the bounds `low` and `high`.

        Args:
            metric: one of those of `intervals`.

        Raises:
            ValueError: it has no intervals.
        """
        if metric not in WITH_INTERVALS:
            raise ValueError(f"metric={metric!r} has no intervals; choose one of {list(WITH_INTERVALS)}")
        wide = self.by_attribute(metric).join(self.intervals.loc[metric])
        return wide.sort_values("difference", key=np.abs, ascending=False, na_position="last")

    def write(self, folder: str | Path) -> list[Path]:
        """Write `figure.svg`, `figure.png` and `table.csv`, which is `table` and the bounds of the raw changes, to a new folder.

        Args:
            folder: missing or empty; nothing is overwritten.

        Returns:
            The paths of the three files.

        Raises:
            DataError: the folder holds something, or is a file.
        """
        place = new_folder(folder)
        bounds = self.intervals.reset_index().assign(model="difference", decision="raw")
        table = self.table.merge(bounds, how="left", on=["model", "decision", "metric", "attribute"])
        with written_whole(place / "table.csv") as file:
            table.to_csv(file, index=False)
        figure = self.figure()
        for ending in ("svg", "png"):
            with written_whole(place / f"figure.{ending}") as file:
                figure.savefig(file, format=ending, dpi=150, metadata={"Date": None} if ending == "svg" else None)
            figure.set_layout_engine("none")  # laid out once
        return [place / "figure.svg", place / "figure.png", place / "table.csv"]

    def figure(self) -> Figure:
        """Draw dense against pruned per attribute: bias amplification, uncertainty, gap in false negative rates.

        Attributes stand in the order of the change of their bias, up or down, the largest on top, those without a defined
        bias at the bottom; a missing dot is undefined, and `table` says why.
        """
        from matplotlib.figure import Figure

        from effnotes.reporting.palette import PALETTE

        order = self.by_attribute("bias_amplification")["difference"].abs().sort_values(na_position="first").index
        heights = np.arange(len(order))
        figure = Figure(figsize=(9.0, 1.4 + 0.24 * len(order)), layout="constrained")
        axes = figure.subplots(1, len(_PANELS), sharey=True)
        for ax, (metric, title) in zip(axes, _PANELS, strict=True):
            wide = self.by_attribute(metric).loc[order]
            ax.hlines(heights, wide["dense"], wide["pruned"], color="#bbbbbb", linewidth=1.5, zorder=1)
            ax.plot(wide["dense"], heights, "o", color=PALETTE[0], markersize=5, label="dense")
            ax.plot(wide["pruned"], heights, "D", color=PALETTE[1], markersize=5, label="pruned")
            ax.axvline(0, color="#444444", linewidth=0.8, zorder=0)
            ax.set_xlabel(title)
        axes[0].set_yticks(heights, [str(name) for name in order])
        axes[0].set_ylim(-0.7, len(order) - 0.3)
        figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper right", ncols=2)
        return figure

    @property
    def _facts(self) -> dict[str, str]:
        flagged = [str(name) for name in self.criteria.loc[self.criteria["flagged"], "attribute"]]
        changed = self.raw[0][0] != self.raw[1][0]
        return {
            "samples": f"{self.samples:,}",
            "attributes": f"{len(self.criteria):,}",
            "decisions that pruning changed": f"{changed.sum():,} ({changed.mean():.1%})",
            "attributes to watch, by the dense model alone": ", ".join(flagged) or "none",
        }

    @property
    def _leading(self) -> str:
        """The metric whose changes are listed: bias amplification, or accuracy where no groups are told apart."""
        return "bias_amplification" if self.by_attribute("bias_amplification").notna().any(axis=None) else "accuracy"

    @property
    def _listed(self) -> str:
        return f"change of {self._leading.replace('_', ' ')}, the largest first, with 95% intervals over samples"

    def __str__(self) -> str:
        means = self.summary[self.summary["decision"] == "raw"].set_index("metric").loc[[*WITH_INTERVALS]]
        formats = dict.fromkeys(MODELS, "{:.3f}".format) | dict.fromkeys(("difference", "low", "high"), "{:+.3f}".format)
        shown: dict[str, Any] = {"formatters": formats, "na_rep": "undefined"}
        lines = [f"{name}: {text}" for name, text in self._facts.items()]
        lines += ["", "means over the attributes that both models define, with 95% intervals over samples"]
        lines += [means.join(self.mean_intervals)[[*MODELS, "difference", "low", "high", "attributes"]].to_string(**shown)]
        return "\n".join(["Bias audit", *lines, "", self._listed, self.changes(self._leading).to_string(**shown)])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        table = pd.DataFrame(self._facts.items()).to_html(index=False, header=False)
        numbers: dict[str, Any] = {"float_format": "{:.4f}".format, "na_rep": "undefined"}
        averages, changes = self.summary.to_html(index=False, **numbers), self.changes(self._leading).to_html(**numbers)
        note = "<p>Averages over the attributes that are defined in both models:</p>"
        return f"<div><p><strong>Bias audit</strong></p>{table}<p>{self._listed.capitalize()}:</p>{changes}{note}{averages}</div>"


@by_name(dense=(), validation=())
def bias_audit(
    dense: nn.Module,
    pruned: nn.Module,
    loader: Iterable[Any],
    *,
    protected: int | str | ArrayLike | None = None,
    train_labels: ArrayLike | None = None,
    train_groups: ArrayLike | None = None,
    rates: ArrayLike | None = None,
    thresholds: ArrayLike | Mapping[str, ArrayLike] | None = None,
    validation: Iterable[Any] | None = None,
    names: Sequence[str] | None = None,
) -> BiasAudit:
    """Compare a pruned classifier with its dense parent: accuracy, confidence, and whom the errors fall on.

    Both models see each batch once, in evaluation and inference mode, on the device and in the floating-point
    type of their own parameters; afterwards their training flags are as before. The central measure is bias
    amplification,

        BA_k = Σ_{i∈G} ŷ_ik / Σ_i ŷ_ik - Σ_{i∈G} y_ik / Σ_i y_ik   (a share, in [-1, 1]),

    the share of predicted positives of attribute k in the group G where it is more frequent in training,
    minus the share of true positives there (`bias_amplification`).

    Multi-label classifiers give logits (n, K) for labels (n, K) in {0, 1}: p = σ(logit), and a decision is
    positive above the threshold. Multi-class classifiers give logits (n, C) for integer labels (n,): each
    class counts as one attribute, class against rest, with the log-odds log(p / (1 - p)) of its softmax
    probability as its logit. The decision is then the argmax (the first of tied classes), unless thresholds
    are given or calibrated: those are put on the log-odds class by class, so that a sample can be given
    several classes or none.

    Args:
        dense: maps images to logits, shape (n, K) or (n, C).
        pruned: likewise, for the same outputs.
        loader: yields (images, labels) or (images, labels, group), group in {0, 1} of shape (n,). It may
            shuffle.
        protected: the protected attribute of a multi-label task, a column's index or name; or the group of
            each sample in {0, 1}, shape (n,), in the order of the loader: a list of batches, or a `DataLoader`
            that neither shuffles nor has a sampler of its own; None where the loader yields the groups.
        train_labels: training labels, shape (m, K) in {0, 1} or, multi-class, (m,) integers. They say which
            value is rare, what the majority is, and with the training groups where an attribute is more
            frequent.
        train_groups: group of each training sample in {0, 1}, shape (m,), where `protected` is no column.
        rates: rates of positives by training group, shape (2, K), in [0, 1], in place of those of the
            training labels: a generator's true rates, or `conditional_rates(...)` where the labels themselves
            are not at hand. The size of the training groups is then taken to be that among these samples.
        thresholds: on the logits, one number or shape (K,), for both models; or a mapping with the keys
            "dense" and "pruned". None stands for 0, multi-class for the argmax.
        validation: a second loader, whose labels calibrate thresholds for each model
            (`calibrated_thresholds`); the audit then reports all decisions twice, raw and calibrated.
        names: of the K attributes or C classes; None takes those of a frame's columns, or numbers them from 0.

    Returns:
        A `BiasAudit`: `print` it for a summary, `write` it to a folder. It has `table`, `summary`,
        `changes(metric)`, `intervals`, `mean_intervals`, `exemplars`, `criteria`, `by_attribute(metric)` and `figure()`.
        Metrics per attribute, all shares in [0, 1] unless said: roc_auc, average_precision, uncertainty (0.1
        < p < 0.9), expected_calibration_error, positive_rate, label_interdependence; and for the decisions
        accuracy, majority_accuracy, balanced_accuracy, predicted_positive_rate, rare_value_ratio (1 is
        right), false_positive_rate, false_negative_rate, interdependence (adjusted R², at most 1),
        bias_amplification, directional_bias_amplification and corpus_bias_amplification (in [-1, 1]), and
        accuracy and both error rates again with _group_0, _group_1 and _gap. The function of each name
        documents it; undefined values are NaN with their reason.

    Raises:
        TypeError: a model returns no tensor, a batch is no tuple of two or three.
        ValueError: nothing says which group is protected or how training labels are distributed; shapes that
            differ; labels, groups or rates out of range; logits that are not finite; an empty loader; an array
            as `protected` beside a loader whose order is not known; frames whose names contradict one another;
            masked entries.

    Source:
        Iofinova, Peste & Alistarh, "Bias in Pruned Vision Models" (CVPR 2023, arXiv 2304.12622). Directional:
        Wang & Russakovsky (ICML 2021). Corpus: Zhao et al. (EMNLP 2017). Exemplars: Hooker et al. (2020,
        arXiv 2010.03058).
    """
    from effnotes.metrics.bias.paired_logits import check_order, paired_logits

    if protected is not None and np.ndim(protected) > 0:
        check_order(loader, np.shape(protected)[0])
    known: dict[str, Any] = {"train_labels": train_labels, "train_groups": train_groups, "rates": rates, "names": names}

    def check(attributes: int, multi_class: bool, grouped: bool) -> None:
        if protected is None and not grouped:
            raise ValueError("nothing says which samples belong to which group: pass protected=..., or let the loader yield groups")
        # A task of no samples, which refuses what cannot work as soon as the number of outputs is known.
        none = np.zeros(0, dtype=np.int64) if multi_class else np.zeros((0, attributes))
        group = np.zeros(0) if protected is None or np.ndim(protected) > 0 else protected
        AttributeTask.of(none, protected=group, classes=attributes, **known)
        _cuts(thresholds, attributes)

    first, second, labels, groups, found = paired_logits(dense, pruned, loader, check=check, names=names)
    # The groups of the validation samples play no part in the thresholds.
    calibration = None if validation is None else paired_logits(dense, pruned, validation, check=None, names=found)[:3]
    chosen = groups if protected is None else protected
    assert chosen is not None  # `check` has seen to it
    return audit_logits(first, second, labels, protected=chosen, thresholds=thresholds, validation=calibration, **known)


@by_name()
def audit_logits(
    dense_logits: ArrayLike,
    pruned_logits: ArrayLike,
    labels: ArrayLike,
    *,
    protected: int | str | ArrayLike,
    train_labels: ArrayLike | None = None,
    train_groups: ArrayLike | None = None,
    rates: ArrayLike | None = None,
    thresholds: ArrayLike | Mapping[str, ArrayLike] | None = None,
    validation: tuple[ArrayLike, ArrayLike, ArrayLike] | None = None,
    names: Sequence[str] | None = None,
) -> BiasAudit:
    """Audit stored logits, of models that need not run any more: as `bias_audit`, which documents the measures.

    Args:
        dense_logits: finite, shape (n, K), or (n, C) for a multi-class task.
        pruned_logits: of the same samples in the same order.
        labels: in {0, 1}, shape (n, K), or integers from 0 to C - 1, shape (n,).
        protected: a column's index or name (multi-label), or the group of each sample in {0, 1}, shape (n,).
        train_labels: as in `bias_audit`.
        train_groups: as in `bias_audit`.
        rates: as in `bias_audit`.
        thresholds: as in `bias_audit`.
        validation: dense logits, pruned logits and labels of validation samples, to calibrate thresholds on.
        names: of the K attributes or C classes; None takes those of a frame's columns, or numbers them from 0.

    Returns:
        A `BiasAudit`.

    Raises:
        ValueError: as in `bias_audit`.

    Source:
        As in `bias_audit`.
    """
    logits = {"dense": arrays.as_logits(dense_logits, "dense_logits"), "pruned": arrays.as_logits(pruned_logits, "pruned_logits")}
    outputs, multi_class = logits["dense"].shape[1], np.ndim(labels) == 1
    task = AttributeTask.of(
        labels, protected=protected, train_labels=train_labels, train_groups=train_groups, rates=rates, names=names, classes=outputs
    )
    cuts = _cuts(thresholds, outputs)
    if len(task.labels) == 0:
        raise ValueError("an audit needs at least one sample, but labels has none")
    for model in MODELS:
        arrays.check_same_shape(logits[model], task.labels, f"{model}_logits")
    scores = {model: log_odds(logits[model]) if multi_class else logits[model] for model in MODELS}
    decisions = {"raw": {model: _decide(logits[model], scores[model], cuts[model], multi_class) for model in MODELS}}
    if validation is not None:
        decisions["calibrated"] = _calibrated(scores, validation, multi_class)

    true, protected = task.labels, task.protected
    in_group = task.train_share * task.rates[1]
    shares = ratio(in_group, in_group + (1 - task.train_share) * task.rates[0])

    def measure(model: str) -> tuple[FloatArray, dict[str, dict[str, PerAttribute]]]:
        p, found = arrays.probabilities(scores[model]), {}
        for decision, predictions in decisions.items():
            predicted = predictions[model]
            found[decision] = decision_metrics(predicted, task) | {
                "directional_bias_amplification": directional_bias_amplification(predicted, true, protected, rates=task.rates),
                "corpus_bias_amplification": corpus_bias_amplification(predicted, protected, train_shares=shares),
            }
        return p, found | {"raw": score_metrics(scores[model], p, true) | found["raw"]}

    with ThreadPoolExecutor(available_cores()) as threads:  # NumPy sorts and counts without the interpreter's lock
        (p, of_dense), (p_pruned, of_pruned) = threads.map(measure, MODELS)
    tables = []
    for decision in decisions:
        dense, pruned = of_dense[decision], of_pruned[decision]
        difference = {metric: _difference(dense[metric], pruned[metric]) for metric in dense}
        for model, found in zip((*MODELS, "difference"), (dense, pruned, difference), strict=True):
            tables.append(tidy(found, task.names, model=model, decision=decision))
    raw = tuple((decisions["raw"][model], uncertain(each)) for model, each in zip(MODELS, (p, p_pruned), strict=True))
    criteria = criteria_of(of_dense["raw"], task)
    return BiasAudit(pd.concat(tables, ignore_index=True), criteria, len(true), task, raw, p)


def _cuts(thresholds: ArrayLike | Mapping[str, ArrayLike] | None, attributes: int) -> dict[str, FloatArray | None]:
    """Give the thresholds of each model, (K,); None for none given."""
    given = thresholds if isinstance(thresholds, Mapping) else dict.fromkeys(MODELS, thresholds)
    if set(given) != set(MODELS):
        raise ValueError(f"thresholds by model need the keys 'dense' and 'pruned', not {sorted(given)}")
    return {model: None if cut is None else arrays.as_thresholds(cut, attributes) for model, cut in given.items()}


def _difference(dense: PerAttribute, pruned: PerAttribute) -> PerAttribute:
    reasons = tuple(after or before for before, after in zip(dense.reasons, pruned.reasons, strict=True))
    return PerAttribute(pruned.values - dense.values, reasons)


def _decide(logits: FloatArray, scores: FloatArray, cut: FloatArray | None, multi_class: bool) -> BoolArray:
    if not multi_class or cut is not None:
        return arrays.hard_predictions(scores, cut)
    winner: BoolArray = logits.argmax(1)[:, None] == np.arange(logits.shape[1])
    return winner


def _calibrated(scores: dict[str, FloatArray], validation: Sequence[ArrayLike], multi_class: bool) -> dict[str, BoolArray]:
    *of_models, labels = validation
    if (np.ndim(labels) == 1) != multi_class:
        raise ValueError("the labels of the validation samples must be of the same kind as those that are audited: (n, K) or (n,)")
    decisions = {}
    for model, given in zip(MODELS, of_models, strict=True):
        logits = arrays.as_logits(given, f"the {model} logits of validation")
        if logits.shape[1] != scores[model].shape[1]:
            raise ValueError(f"the {model} logits of validation must have {scores[model].shape[1]} columns, not {logits.shape[1]}")
        own = log_odds(logits) if multi_class else logits
        true = arrays.as_attributes(labels, logits.shape[1], "validation labels")
        decisions[model] = arrays.hard_predictions(scores[model], calibrated_thresholds(own, true))
    return decisions
