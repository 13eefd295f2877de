"""What a run of the chapter on bias found, in sentences that are computed from it and true whatever it gave.

Numbers without an interval are means over seeds; intervals and verdicts are those of the claims.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy.stats import norm

from effnotes.metrics import bias as metrics
from effnotes.reporting.claims import format_number, interval_text
from effnotes.studies.bias.findings import Findings

if TYPE_CHECKING:  # a page that is drawn from a record trains nothing
    from effnotes.metrics.bias import BiasAudit
    from effnotes.studies.bias.effects import Knee
    from effnotes.studies.bias.further import Further
    from effnotes.studies.bias.results import Result

_BIAS = "bias_amplification"
_CASES = {"dense uncertainty": "where the dense model was in doubt", "sparse uncertainty": "where the pruned model itself is"}
_FURTHER = {
    "single-label-more-biased": "one label alone less all together",
    "post-training-alike": "pruned after training less pruned from random weights",
    "planted-grows": "square on the subtle attribute, pruned less dense",
    "planted-subtle": "dense, square on the subtle attribute less that on the easy one",
    "second-network-grows": "second network, pruned less dense",
}


def share(value: float) -> str:
    """Write a share in percent, with three significant digits."""
    return f"{format_number(100 * value)}%" if np.isfinite(value) else "not defined"


def level(sparsity: float) -> str:
    """Name a level."""
    return f"{100 * sparsity:g}% sparsity"


def listed(parts: Iterable[str]) -> str:
    """Join parts of a sentence: a, b and c."""
    *first, last = [*parts] or ["none"]
    return f"{', '.join(first)} and {last}" if first else last


def of_evidence(separability: Mapping[str, float]) -> str:
    """Say how far the evidence alone tells the hardest and the easiest attribute, with the best threshold at equal rates.

    For normal evidence with means d apart that is right for a share Φ(d / 2).

    Args:
        separability: d of each attribute.
    """
    ends = (min(separability, key=separability.__getitem__), max(separability, key=separability.__getitem__))
    said = [f"{share(float(norm.cdf(separability[name] / 2)))} of faces for {name} (d = {separability[name]:g})" for name in ends]
    return f"Were both cases equally frequent, the evidence alone would be right for {listed(said)}."


def of_data(rates: pd.Series, skewed: Sequence[str]) -> str:
    """Say how frequent the attributes are.

    Args:
        rates: share of the training images that have each attribute, by name.
        skewed: those that enter averages of bias amplification.
    """
    return (
        f"Of {len(rates)} attributes {rates.idxmax()} is the most frequent, in {share(rates.max())} of the training images,"
        f" and {rates.idxmin()} the rarest, in {share(rates.min())}; {len(skewed)} are skewed enough to measure their bias."
    )


def of_knee(knee: Knee, drop: float) -> str:
    """Say where high sparsity begins by the rule."""
    levels = zip(knee.fall.index.tolist(), knee.fall.tolist(), strict=True)
    falls = listed(f"{format_number(100 * fall)} at {100 * at:g}%" for at, fall in levels if at > 0)
    said = f"Validation accuracy falls by so many points: {falls}."
    if not knee.passed:
        return f"{said} No level has lost more than {format_number(100 * drop)}: claims on high sparsity are not judged."
    return f"{said} High sparsity is {100 * knee.level:g}%, the lowest with a fall of more than {format_number(100 * drop)}."


def of_excess(result: Result) -> str:
    """Say how far dense and pruned networks lie from the best possible classifier in bias amplification."""
    if not result.floors or not result.plan.skewed:
        return "The best possible classifier is not known for these data, or no bias is measured."
    ideal = result.ideal_bias.groupby("seed")["value"].mean()
    means = result.skewed_bias.groupby(["sparsity", "seed"])["value"].mean()
    above = {at: means[at] - ideal for at in (0.0, result.high)}
    said = [
        f"{name} networks lie {format_number(each.mean())} above (seeds {format_number(each.min())} to {format_number(each.max())})"
        for name, each in zip(("dense", f"{100 * result.high:g}% sparse"), above.values(), strict=True)
    ]
    return f"The best possible classifier has {format_number(ideal.mean())} on average; {listed(said)}."


def of_changes(result: Result) -> str:
    """Compare the decisions that pruning changed with those that differ by chance."""
    at_high = result.changed[result.changed["sparsity"] == result.high].mean()
    chance = result.changed_across_seeds.iloc[0]
    said = (
        f"At {level(result.high)} {share(at_high['rate'])} of decisions differ from the dense twin's; the twin was unsure of"
        f" {share(at_high['dense_uncertain'])} of them, and of {share(at_high['base_dense_uncertain'])} of all"
    )
    if not np.isfinite(chance["rate"]):
        return f"{said}. With one seed there is no noise floor."
    which = "more" if chance["dense_uncertain"] > at_high["dense_uncertain"] else "less"
    start = f"{said}. Two dense models of different seeds differ in {share(chance['rate'])}, and one of them was unsure of"
    return f"{start} {share(chance['dense_uncertain'])} of these: doubt marks chance changes {which} often than those of pruning."


def of_gallery(result: Result) -> str:
    """Say how many decisions most dense and most pruned networks take differently, and in which direction they go."""
    before, after = result.shared_decisions()
    modal = metrics.modal_exemplars(before, after)
    seeds = f"{len(before)} seeds" if len(before) > 1 else "one seed"
    said = f"Over {seeds}, most networks change {int(modal.sum())} of {modal.size} decisions"
    if not modal.any():
        return f"{said}, so the largest differences are shown."
    to_no = before.mean(0)[modal] > 0.5
    return f"{said}; {share(float(to_no.mean()))} of them go from yes to no."


def of_criteria(quality: pd.DataFrame) -> str:
    """Compare the dense criterion with its simplest rival, the bias that the dense model has.

    Args:
        quality: of `metrics.evaluate_criteria`.
    """
    found = quality.set_index("criterion")["spearman"]
    own, rival = found["uncertainty_times_phi"], found[_BIAS]
    if not np.isfinite([own, rival]).all():
        return "How it compares with the bias that the dense model already has is not defined in this run."
    how = "better than" if own > rival else "worse than" if own < rival else "as well as"
    return (
        f"The product u |φ| ranks the attributes by growth of bias with a correlation of {format_number(own)}, {how} the bias that"
        f" the dense model already has, {format_number(rival)}."
    )


def of_f1(result: Result) -> str:
    """Say how macro-F1 goes from dense to high sparsity for each range of training images of exclusive classes."""
    means = result.f1.groupby(["images", "sparsity"], sort=False)["f1"].mean().unstack()
    ends = zip(means.index, means[0.0], means[result.high], strict=True)
    parts = (f"from {format_number(dense)} to {format_number(pruned)} for {images} images" for images, dense, pruned in ends)
    return f"From dense to {level(result.high)} macro-F1 goes {listed(parts)}."


def of_audit(audit: BiasAudit) -> str:
    """Name the attribute whose bias changed most, with its interval over images."""
    changes = audit.changes().dropna()
    accuracy = audit.summary.set_index(["decision", "metric"]).loc[("raw", "accuracy"), "difference"]
    said = f"Mean accuracy changes by {format_number(100 * accuracy)} points"
    if changes.empty:
        return f"{said}; bias amplification is not defined in both models for any attribute."
    worst = changes.iloc[0]
    bounds = interval_text((worst["low"], worst["high"]))
    return f"{said}; the bias of {changes.index[0]} changes most, by {format_number(worst['difference'])} {bounds} over images."


def measured_text(payload: Mapping[str, Any] | None, scale: float = 1.0, unit: str = "") -> str:
    """Say a measurement's effect with its interval and verdict, or that there is none; arguments as of `Sentences.measured`."""
    if payload is None or payload["estimate"] is None:
        return "not measured"
    estimate = scale * payload["estimate"]
    if payload["interval"] is None:
        return f"{format_number(estimate)}{unit}, without an interval"
    low, high = (scale * bound for bound in payload["interval"])
    why = f": {payload['unsettled']}" if payload.get("unsettled") else ""
    return f"{format_number(estimate, spread=high - low)}{unit} {interval_text((low, high))}, {payload['verdict']}{why}"


@dataclass(frozen=True, eq=False)
class Sentences:
    """Sentences of the tables of a run and of what it measured; the same for a chapter that has run and for a kept record."""

    found: Findings
    claims: Mapping[str, Mapping[str, Any]]  # what was measured for each claim, by id, as `Measurement.to_json`
    kinds: str = "attributes"  # what bias is measured of: attributes or classes

    def measured(self, name: str, scale: float = 1.0, unit: str = "") -> str:
        """Say a claim's effect with its interval and verdict, or that there is none.

        Args:
            name: of the claim, without `bias.`.
            scale: factor to write the effect in another unit.
            unit: what is written behind the estimate.
        """
        return measured_text(self.claims.get(f"bias.{name}"), scale, unit)

    def margin(self, name: str) -> float:
        """Margin of a claim; NaN where the run did not measure it."""
        return float(self.claims.get(f"bias.{name}", {}).get("margin", np.nan))

    def mean(self, metric: str, sparsity: float) -> float:
        """Mean over seeds of a metric of the networks of a level."""
        models = self.found.models
        return float(models.loc[models["sparsity"] == sparsity, metric].mean())

    def ends_of(self, metric: str) -> tuple[float, float]:
        """Mean over seeds of a metric of the dense networks, and of those of the high sparsity."""
        return self.mean(metric, 0.0), self.mean(metric, self.found.high)

    def costs(self) -> str:
        """What the networks of the high sparsity cost beside the dense ones."""
        by_level = self.found.models.groupby("sparsity")
        left, size, times = (by_level[name].median() for name in ("remaining_weights", "sparse_kib", "latency_ms"))
        (dense, small), (of_dense, of_small) = ([each[at] for at in (0.0, self.found.high)] for each in (left, size))
        return (
            f"At {level(self.found.high)} {small:,.0f} of {dense:,.0f} prunable weights are left, and the file with marks shrinks"
            f" from {of_dense:.0f} to {of_small:.0f} KiB; the fastest batch takes {times.min():.1f} to {times.max():.1f} ms"
            " over the levels, with code that skips no zeros."
        )

    def verdicts(self) -> str:
        """How many claims came out how."""
        counts = pd.Series([claim["verdict"] for claim in self.claims.values()]).value_counts()
        parts = (f"{counts.get(verdict, 0)} {verdict}" for verdict in ("shown", "contradicted", "not settled"))
        return f"Of {len(self.claims)} claims, this run has {listed(parts)}."

    def accuracy(self) -> str:
        """Accuracy at the moderate and the high sparsity."""
        said = f"At {level(self.found.moderate)} accuracy differs from the dense twins'"
        return f"{said} by {self.measured('accuracy-flat', 100, ' points')}. {self.ends()}"

    def ends(self) -> str:
        """Accuracy of dense and of highly sparse networks."""
        dense, high = map(share, self.ends_of("accuracy"))
        majority = share(float(self.found.models["majority_accuracy"].mean()))
        return f"Accuracy goes from {dense} dense to {high} at {level(self.found.high)}; the majority answer scores {majority}."

    def uncertainty(self) -> str:
        """Doubt, calibration and rare values at the high sparsity."""
        high = self.found.high
        unsure, calibration = self.ends_of("uncertainty"), self.ends_of("expected_calibration_error")
        return (
            f"From dense to {level(high)} uncertain predictions go from {share(unsure[0])} to {share(unsure[1])} of all"
            f" (change {self.measured('uncertainty-grows', 100, ' points')}), the calibration error from"
            f" {format_number(calibration[0])} to {format_number(calibration[1])}, and the rare-value ratio changes by"
            f" {self.measured('rare-value-underpredicted')}."
        )

    def interdependence(self) -> str:
        """Interdependence of predictions, beside that of the labels."""
        high = self.found.high
        (dense, pruned), labels = self.ends_of("interdependence"), self.mean("label_interdependence", high)
        if not np.isfinite(dense):
            return "Interdependence is not measured with these data."
        said = f"The predictions' adjusted R² goes from {format_number(dense)} dense to {format_number(pruned)} at {level(high)}"
        return f"{said} (change {self.measured('interdependence-grows')}); that of the true labels is {format_number(labels)}."

    def bias(self) -> str:
        """Mean bias amplification, and the attributes with most and least of it."""
        high = self.found.high
        dense, pruned = self.ends_of(_BIAS)
        if not np.isfinite([dense, pruned]).all():
            return "Bias amplification is not measured in this run."
        by_name = self._at_high()
        ends = [f"{format_number(by_name.iloc[end])} for {by_name.index[end]}" for end in (0, -1)]
        return (
            f"Mean bias amplification goes from {format_number(dense)} dense to {format_number(pruned)} at {level(high)}, where it"
            f" lies between {listed(ends)}."
        )

    def _at_high(self) -> pd.Series:
        """Bias amplification at the high sparsity by attribute, rising; mean over seeds."""
        return self.found.by_attribute(_BIAS).T[self.found.high].dropna().sort_values()

    def growth(self) -> str:
        """At which levels bias has grown beyond the margin, at which it has not, and at which that is not settled."""
        table = self.found.growth.set_index("sparsity")
        if table[["low", "high"]].isna().all(axis=None) or "bias.ba-grows" not in self.claims:
            return "Growth of bias has no interval in this run, so no level is told from another."
        margin = self.margin("ba-grows")
        above, below = table["low"] > margin, table["high"] < margin
        kinds = {"beyond": above, "below": below, "around": ~above & ~below}
        parts = [f"{kind} it at {listed(f'{100 * at:g}%' for at in on.index[on])}" for kind, on in kinds.items() if on.any()]
        said = f"Against a margin of {format_number(margin)}, the interval of the growth lies {listed(parts)};"
        return f"{said} at {level(self.found.high)} bias grows by {self.measured('ba-grows')}."

    def link(self, panels: Mapping[str, pd.DataFrame]) -> str:
        """Say whether bias grows where uncertainty and interdependence grow.

        Args:
            panels: by `uncertainty` and `interdependence`, a frame of two columns by attribute: their growth, and that of bias.
        """
        parts = []
        for metric, points in panels.items():
            both = points.dropna()
            test = metrics.rank_association(both.iloc[:, 0], both.iloc[:, 1])
            if test["reason"]:
                parts.append(f"for {metric} no rank correlation is defined")
                continue
            said = f"growth of {metric} has a rank correlation of {self.measured(f'ba-follows-{metric}')}"
            parts.append(f"{said} (permutation test for a rise: p = {test['p_value']:.3f})")
        return f"With growth of bias, over {self.kinds}, {'; '.join(parts)}."

    def errors(self) -> str:
        """Gaps between the groups in both kinds of errors."""
        gaps = [self.ends_of(f"false_{of}_rate_gap") for of in ("negative", "positive")]
        if not np.isfinite(gaps).all():
            return "Errors by group are not measured in this run."
        misses, alarms = (f"from {format_number(100 * dense)} to {format_number(100 * pruned)}" for dense, pruned in gaps)
        return (
            f"From dense to {level(self.found.high)} the gap between the groups goes {misses} points in the miss rate and {alarms}"
            " points in the false-alarm rate."
        )

    def exemplars(self) -> str:
        """Changed decisions at the high sparsity, from the tables that are kept."""
        row: Mapping[Any, float] = self.found.exemplars.set_index("sparsity").T[self.found.high].to_dict()
        return (
            f"At {level(self.found.high)} {share(row['rate'])} of decisions differ from a dense model of another seed, where two"
            f" dense models differ in {share(row['noise_floor'])}. The twin was unsure of {share(row['dense_uncertain'])} of the"
            f" changed and of {share(row['base_dense_uncertain'])} of all decisions; {share(row['positive_to_negative'])} of the"
            " changed went from yes to no."
        )

    def criterion(self) -> str:
        """Whether the dense model's criterion ranks the attributes by growth of bias."""
        said = self.measured("dense-criteria-predict")
        return f"The rank correlation of the dense criterion u |φ| with growth of bias is {said}."

    def calibration(self) -> str:
        """Bias at both kinds of thresholds at the high sparsity."""
        raw, calibrated = (self.mean(name, self.found.high) for name in (_BIAS, f"{_BIAS}_calibrated"))
        if not np.isfinite([raw, calibrated]).all():
            return "What calibrated thresholds do to bias is not measured in this run."
        said = f"At {level(self.found.high)} mean bias amplification is {format_number(raw)} at the threshold one half and"
        return f"{said} {format_number(calibrated)} at calibrated ones (change {self.measured('calibration-lowers-ba')})."

    def overrides(self) -> str:
        """Each selection of decisions to override beside the same number of random ones, in bias and accuracy."""
        table = self.found.overrides
        chosen = table[~table["calibrated"].astype(bool) & (table["override"] == "dense")].set_index("selection")
        if chosen.empty or not np.isfinite(chosen[_BIAS]).all():
            return "What overrides do to bias is not measured in this run."
        rows: Mapping[Any, Mapping[Any, float]] = chosen[[_BIAS, "accuracy"]].to_dict("index")
        parts, random = [], rows["random"]
        for selection, where in _CASES.items():
            row = rows[selection]
            more = [row[name] > random[name] for name in random]
            how = f"{'more' if more[0] else 'less'} biased and {'more' if more[1] else 'less'} accurate than on random images"
            parts.append(f"{where}, {format_number(row[_BIAS])} at {share(row['accuracy'])} accuracy, {how}")
        return (
            f"Taking the dense model's decision on random images leaves a bias of {format_number(random[_BIAS])} at"
            f" {share(random['accuracy'])} accuracy; {'; '.join(parts)}. The dense model's doubt against chance:"
            f" {self.measured('override-beats-random')}."
        )

    def further(self, further: Further | None) -> str:
        """The effects of the further experiments."""
        if further is None:
            return "The further experiments are no part of this run."
        parts = "; ".join(f"{what}, {self.measured(name)}" for name, what in _FURTHER.items())
        return f"Differences in bias amplification: {parts}."

    def found_at_a_glance(self) -> list[tuple[str, str]]:
        """What the run found, for the top of a page: a sentence, and the id of the claim that it is about."""
        found = self.found
        moderate, high = level(found.moderate), level(found.high)
        ends = " to ".join(map(share, self.ends_of("accuracy")))
        by_name = self._at_high()
        most = f"; {by_name.index[-1]} has most, {format_number(by_name.iloc[-1])}" if len(by_name) else ""
        facts = {
            "accuracy-flat": f"At {moderate} accuracy differs from the dense twins' by {{}}.",
            "ba-flat": f"Bias amplification changes at {moderate} by {{}}.",
            "uncertainty-grows": f"At {high} accuracy goes from {ends}, and the share of uncertain predictions changes by {{}}.",
            "ba-grows": f"Bias amplification changes at {high} by {{}}, on average over {self.kinds}{most}.",
            "override-beats-random": "Overriding where the dense model was in doubt, not on random images, changes bias by {}.",
            "rare-value-underpredicted": f"At {high} the ratio of predicted to true rare values changes by {{}}.",
        }
        scales = {"accuracy-flat": (100.0, " points"), "uncertainty-grows": (100.0, " points")}
        said = {name: self.measured(name, *scales.get(name, (1.0, ""))) for name in facts}
        same = {"ba-flat"} if found.moderate == found.high else set()
        known = [name for name in facts if said[name] != "not measured" and name not in same]
        sentences = [(facts[name].format(said[name]), f"bias.{name}") for name in known]
        if len(known) < 3:  # nothing lies beyond the knee, or nothing is protected
            sentences += [(self.uncertainty(), ""), (self.accuracy(), "")]
        return sentences[:5]

    def to_take_away(self) -> list[str]:
        """What to take away, with the numbers of the run."""
        high = self.found.high
        dense, pruned = self.ends_of("accuracy")
        lost, unsure = format_number(100 * (dense - pruned)), " to ".join(map(share, self.ends_of("uncertainty")))
        return [
            f"Accuracy is one number of several: at {level(high)} it is {lost} points below the dense model's, while uncertain"
            f" predictions go from {unsure}. Report both.",
            f"{self.bias()} Show it one by one: a mean hides whom it is about.",
            f"{self.errors()} Equal shares do not mean equal errors.",
            f"{self.growth()} A level chosen by its bias would choose the verdict; fix it by a rule that does not look at bias.",
            f"{self.criterion()} A criterion is worth what it adds to the simplest rival.",
            f"A repair is worth what it gains over its control: doubt against chance, {self.measured('override-beats-random')}.",
        ]


def verdicts_beside(
    ours: Mapping[str, Mapping[str, Any]], others: Mapping[str, Mapping[str, Any]], names: tuple[str, str]
) -> pd.DataFrame:
    """Put how claims came out in two runs side by side, those first that differ.

    Args:
        ours: what the first run measured, by id; claims without an effect in it, and those that the other lacks, are left out.
        others: what the second run measured.
        names: of the two runs, for the columns.

    Returns:
        Columns `claim`, the two names, and `differ`, whether the verdicts do.
    """
    both = [(each, others[name]) for name, each in ours.items() if each["estimate"] is not None and name in others]
    rows = [(own["statement"], measured_text(own), measured_text(other), own["verdict"] != other["verdict"]) for own, other in both]
    table = pd.DataFrame(rows, columns=["claim", *names, "differ"])
    return table.sort_values("differ", ascending=False, kind="stable", ignore_index=True)


def of_difference(table: pd.DataFrame) -> str:
    """Say in how many claims two runs differ.

    Args:
        table: of `verdicts_beside`.
    """
    return f"Of {len(table)} claims that both runs measured, {int(table['differ'].sum())} have another verdict."
