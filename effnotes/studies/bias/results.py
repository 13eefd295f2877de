"""The main experiment of the chapter on bias: trained networks, and what is measured of them."""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from effnotes.datasets.iwildcam import FREQUENCY_NAMES, frequency_groups
from effnotes.metrics import bias as metrics
from effnotes.metrics.bias.attribute_table import attribute_metrics, summarise
from effnotes.metrics.bias.calibration import calibrated_thresholds
from effnotes.metrics.bias.criteria import attribute_criteria
from effnotes.reporting import claims
from effnotes.reporting.tables import KeptTable, keep_table
from effnotes.studies.bias import effects
from effnotes.studies.bias.experiment import trainings
from effnotes.studies.bias.findings import Findings
from effnotes.studies.bias.planning import Plan, task_of
from effnotes.studies.bias.sweep import SparseRun, run_trainings

_BIAS = "bias_amplification"
_OF_MODELS = ["accuracy", "majority_accuracy", "roc_auc", "uncertainty", "expected_calibration_error", "rare_value_ratio"]
_OF_MODELS += ["interdependence", "label_interdependence"]
_OF_SKEWED = ["false_negative_rate_gap", "false_positive_rate_gap", "bias_amplification"]
_OF_COSTS = ["remaining_weights", "effective_sparsity", "training_s", "latency_ms"]
_OF_ATTRIBUTES = ["bias_amplification", "uncertainty", "interdependence", "accuracy", "false_negative_rate_gap"]
_REPAIR = ["calibrated", "override", "selection", "metric"]


@dataclass(frozen=True, eq=False)
class Result:
    """Networks of all seeds and levels; each measure is computed when it is first asked for, and then kept."""

    plan: Plan
    runs: list[SparseRun]  # seed by seed, sparsities rising

    @cached_property
    def costs(self) -> pd.DataFrame:
        """What a model costs, medians over seeds, by sparsity."""
        return pd.DataFrame([vars(run) for run in self.runs]).groupby("sparsity").median(numeric_only=True)

    @cached_property
    def table(self) -> pd.DataFrame:
        """All metrics of all models on their seed's test images."""
        return pd.concat(self._measured(run.test_logits, run.seed).assign(sparsity=run.sparsity) for run in self.runs)

    @cached_property
    def averages(self) -> pd.DataFrame:
        """The metrics of each model, averaged over all attributes; of exclusive classes those of the most probable one."""
        means = summarise(self.table)
        if self.plan.experiment.exclusive:
            own = {(run.seed, run.sparsity): metrics.class_metrics(run.test_logits, self.plan.tasks[run.seed]) for run in self.runs}
            columns = (means[name] for name in ("seed", "sparsity", "metric", "mean_common"))
            means["mean_common"] = [own[seed, level].get(metric, mean) for seed, level, metric, mean in zip(*columns, strict=True)]
        return means

    @cached_property
    def averages_of_skewed(self) -> pd.DataFrame:
        """The metrics of each model, averaged over the skewed attributes."""
        return summarise(self.table, self.plan.skewed)

    @cached_property
    def best(self) -> pd.DataFrame:
        """All metrics of the best possible classifier, by seed; empty where the truth behind the labels is not known."""
        if not self.plan.exactly_known:
            return pd.DataFrame(columns=["seed", *self.table.columns[:4]])
        seeds = self.plan.seeds
        posteriors = {seed: self.plan.experiment.faces(seed).test.posterior_logits().clip(-50, 50).numpy() for seed in seeds}
        return pd.concat(self._measured(posterior, seed) for seed, posterior in posteriors.items())

    @cached_property
    def floors(self) -> dict[str, float]:
        """What the best possible classifier has of each metric, mean over attributes and seeds; empty where it is not known."""
        if self.best.empty:
            return {}
        floors = summarise(self.best).groupby("metric")["mean_common"].mean().to_dict()
        of_skewed = summarise(self.best, self.plan.skewed).groupby("metric")["mean_common"].mean()
        return floors | {"bias_amplification": of_skewed["bias_amplification"]}

    @property
    def skewed_bias(self) -> pd.DataFrame:
        """Bias amplification of each network, by skewed attribute."""
        return self.table[(self.table["metric"] == _BIAS) & self.table["attribute"].isin(self.plan.skewed)]

    @property
    def ideal_bias(self) -> pd.DataFrame:
        """Bias amplification of the best possible classifier, by seed and skewed attribute."""
        return self.best[(self.best["metric"] == _BIAS) & self.best["attribute"].isin(self.plan.skewed)]

    @cached_property
    def knee(self) -> effects.Knee:
        """Where high sparsity begins."""
        rows = [(run.seed, run.sparsity, validation_accuracy(self.plan, run)) for run in self.runs]
        return effects.find_knee(pd.DataFrame(rows, columns=["seed", "sparsity", "accuracy"]), self.plan.knee_drop)

    @property
    def high(self) -> float:
        """The high sparsity."""
        return self.knee.level

    def shared_decisions(self) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Decisions of the dense networks and of those at the high sparsity on images that are the same for all, (seeds, m, K)."""
        of_levels = ([run.shared_logits for run in self.at(level).values()] for level in (0.0, self.high))
        dense, pruned = (np.stack([metrics.hard_predictions(logits) for logits in of_level]) for of_level in of_levels)
        return dense, pruned

    def at(self, sparsity: float) -> dict[int, SparseRun]:
        """Give the networks of one level by seed."""
        return {run.seed: run for run in self.runs if run.sparsity == sparsity}

    @cached_property
    def common(self) -> list[str]:
        """The skewed attributes whose bias amplification is defined in every seed at every level."""
        return effects.common_attributes(self.table, self.plan.skewed)

    def growth_to(self, sparsity: float, *names: str) -> pd.DataFrame:
        """Differences from the dense twin in some metrics, by seed and attribute, of the common attributes."""
        return effects.growth_to(self.table, self.common, sparsity, *names)

    def mean_growth(self, sparsity: float, *names: str) -> pd.DataFrame:
        """The same as mean over seeds, by attribute."""
        return self.growth_to(sparsity, *names).groupby("attribute").mean()

    @cached_property
    def f1(self) -> pd.DataFrame:
        """Macro-F1 of exclusive classes: a row for each network and range of how many training images a class has."""
        rows = []
        for run in self.runs:
            own = self.plan.labels[run.seed]
            found = metrics.macro_f1(run.test_logits, own.test, frequency_groups(own.train.argmax(1), len(self.plan.names)))
            rows += [(run.seed, run.sparsity, name, found.get(group)) for group, name in enumerate(FREQUENCY_NAMES)]
        return pd.DataFrame(rows, columns=["seed", "sparsity", "images", "f1"]).dropna()

    @cached_property
    def growth(self) -> pd.DataFrame:
        """Growth of bias amplification at each level, with the interval of the claim."""
        rows = []
        for level in self.plan.sparsities[1:]:
            found = claims.measure("bias.ba-grows", effects.by_seed(self.growth_to(level, _BIAS)[_BIAS]))
            low, high = found.interval or (np.nan, np.nan)
            estimate = np.nan if found.estimate is None else found.estimate
            rows.append({"sparsity": level, "estimate": estimate, "low": low, "high": high})
        return pd.DataFrame(rows)

    @cached_property
    def criteria_by_seed(self) -> pd.DataFrame:
        """What the dense model of each seed tells of each attribute, on validation images."""
        tasks = {seed: task_of(own, validation=True) for seed, own in self.plan.labels.items()}
        dense = self.at(0.0)
        return pd.concat(attribute_criteria(dense[seed].val_logits, task).assign(seed=seed) for seed, task in tasks.items())

    @cached_property
    def criteria(self) -> pd.DataFrame:
        """The criteria of the skewed attributes, means over seeds, beside the growth of their bias at the high sparsity."""
        means = self.criteria_by_seed.drop(columns=["reason", "seed"]).groupby("attribute", sort=False).mean()
        scores = means.loc[self.plan.skewed].reset_index()
        return scores.assign(growth=scores["attribute"].map(self.mean_growth(self.high, _BIAS)[_BIAS]))

    @cached_property
    def changed(self) -> pd.DataFrame:
        """Decisions on which each sparse model differs from its dense twin."""
        dense = self.at(0.0)
        return pd.DataFrame(
            {"seed": run.seed, "sparsity": run.sparsity, **effects.changed_decisions(dense[run.seed].test_logits, run.test_logits)}
            for run in self.runs
            if run.sparsity > 0
        )

    @cached_property
    def changed_across_seeds(self) -> pd.DataFrame:
        """Decisions on which models differ from dense models of other seeds, means by sparsity; 0 is the noise floor."""
        rows = [
            {"sparsity": run.sparsity, **effects.changed_decisions(dense.shared_logits, run.shared_logits)}
            for run in self.runs
            for dense in self.at(0.0).values()
            if dense.seed != run.seed
        ]
        table = pd.DataFrame(rows, columns=["sparsity", *self.changed.columns[2:]])
        return table.groupby("sparsity").mean().reindex(self.plan.sparsities)

    @cached_property
    def calibrated(self) -> pd.DataFrame:
        """Bias amplification with thresholds calibrated on validation images: a row for each seed and level."""
        values = {}
        for run in self.runs:
            predicted = metrics.hard_predictions(run.test_logits, self.thresholds(run))
            values[run.seed, run.sparsity] = bias_of(self.plan, predicted, run.seed)[self.plan.skewed]
        return pd.DataFrame(values).T

    def thresholds(self, run: SparseRun) -> NDArray[np.float64]:
        """Thresholds of a network, calibrated on its seed's validation images."""
        return calibrated_thresholds(run.val_logits, self.plan.labels[run.seed].val)

    @cached_property
    def repairs(self) -> pd.DataFrame:
        """Each repair of the networks at the high sparsity, by seed, attribute and metric."""
        tables: list[pd.DataFrame] = []
        for seed, task in self.plan.tasks.items():
            dense, sparse = self.at(0.0)[seed], self.at(self.high)[seed]
            validation = (dense.val_logits, sparse.val_logits, self.plan.labels[seed].val)
            study = metrics.override_study(dense.test_logits, sparse.test_logits, task, validation=validation, seed=seed)
            tables.append(study.assign(seed=seed))
        return pd.concat(tables)

    @cached_property
    def repaired(self) -> list[str]:
        """One set of attributes for all repairs: those whose bias amplification is defined after each of them in every seed."""
        return effects.always_defined(self.repaired_bias)

    @cached_property
    def repaired_bias(self) -> pd.DataFrame:
        """The repairs' bias amplification of the skewed attributes."""
        return self.repairs[(self.repairs["metric"] == _BIAS) & self.repairs["attribute"].isin(self.plan.skewed)]

    @cached_property
    def by_repair(self) -> pd.DataFrame:
        """Means over attributes of each repair and seed: a column for each metric."""
        wanted = self.repairs["attribute"].isin(self.repaired) | (self.repairs["metric"] != _BIAS)
        keys = [self.repairs[key] for key in (*_REPAIR, "seed")]
        return self.repairs["value"].where(wanted).groupby(keys).mean().unstack("metric")

    @cached_property
    def findings(self) -> Findings:
        """The tables of this run."""
        keys = ["seed", "sparsity"]
        by_model = self.averages.pivot(index=keys, columns="metric", values="mean_common")
        bias_by_model = self.averages_of_skewed.pivot(index=keys, columns="metric", values="mean_common")
        of_costs = pd.DataFrame([vars(run) for run in self.runs]).set_index(keys)
        models = of_costs[_OF_COSTS].assign(sparse_kib=of_costs["sparse_bytes"] / 1024)
        models = models.join(by_model[_OF_MODELS]).join(bias_by_model[_OF_SKEWED])
        models = models.assign(bias_amplification_calibrated=self.calibrated.loc[:, self.common].mean(axis=1))
        places = ["sparsity", "attribute"]
        by_attribute = self.table.pivot_table(index=places, columns="metric", values="value", observed=True, sort=False)
        calibrated = self.calibrated.groupby(level=1).mean().rename_axis(index="sparsity", columns="attribute")
        long = calibrated.melt(ignore_index=False).set_index("attribute", append=True)["value"]
        by_attribute = by_attribute.reindex(columns=_OF_ATTRIBUTES).assign(bias_amplification_calibrated=long)
        exemplars = self.changed.drop(columns=["seed", "rate"]).groupby("sparsity").mean()
        across = self.changed_across_seeds["rate"]
        return Findings(
            models=models.reset_index(),
            attributes=by_attribute.reset_index(),
            growth=self.growth,
            exemplars=exemplars.assign(rate=across, noise_floor=across.iloc[0]).reset_index(),
            criteria=self.criteria[["attribute", "uncertainty", "abs_phi", "uncertainty_times_phi", "growth"]],
            overrides=self.by_repair.groupby(_REPAIR[:-1]).mean().reset_index(),
            levels=pd.DataFrame([{"moderate": self.plan.moderate, "high": self.high}]),
        )

    def keep(self) -> list[KeptTable]:
        """Make the tables of this run ready to be kept with its record."""
        return self.findings.keep() + ([keep_table("f1", self.f1)] if self.plan.experiment.exclusive else [])

    def _measured(self, logits: NDArray[np.float32], seed: int) -> pd.DataFrame:
        return attribute_metrics(logits, self.plan.tasks[seed]).assign(seed=seed)


def run(plan: Plan) -> Result:
    """Train a network for each seed and sparsity, several side by side; what was trained before comes from the cache."""
    runs = run_trainings({"main": trainings(plan.experiment, sparsities=plan.sparsities, seeds=plan.seeds)})["main"]
    return Result(plan, [_against_rest(run) for run in runs] if plan.experiment.exclusive else runs)


def _against_rest(run: SparseRun) -> SparseRun:
    """Give the same network with the log-odds of each class against the rest in place of its logits, to be read as attributes."""
    logits = {name: getattr(run, name) for name in ("test_logits", "val_logits", "shared_logits")}
    return replace(run, **{name: metrics.log_odds(values).astype(np.float32) for name, values in logits.items()})


def validation_accuracy(plan: Plan, trained: SparseRun) -> float:
    """Accuracy of a network on its seed's validation images, mean over attributes; of exclusive classes, of the most probable."""
    own = plan.labels[trained.seed]
    if plan.experiment.exclusive:
        return float(metrics.class_metrics(trained.val_logits, task_of(own, validation=True))["accuracy"])
    return float(metrics.accuracy(metrics.hard_predictions(trained.val_logits), own.val).values.mean())


def bias_of(plan: Plan, predicted: NDArray[np.bool_], seed: int, attribute: str | None = None) -> pd.Series:
    """Bias amplification of all attributes, or of the one that a network learns, on its seed's test images, by name."""
    task = plan.tasks[seed]
    columns = slice(None) if attribute is None else [plan.names.index(attribute)]
    amplified = metrics.bias_amplification(predicted, task.labels[:, columns], task.groups, rates=task.rates[:, columns])
    return pd.Series(amplified.values, index=pd.Index(plan.names)[columns])
