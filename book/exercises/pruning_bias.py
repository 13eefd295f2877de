# %% [markdown]
# At hand are labels and logits of one seed, as the chapter's quick profile trains it: `dense`, `moderate` (90% sparse) and `sparse` (97%), each with `test_logits` and `val_logits`; `task` (labels, groups, rates) of the test images, `own` (train, train_groups, val, val_groups) of the others.
# `result.averages` holds the accuracy of all seeds of the full profile.

# %% tags=["setup"]
from types import SimpleNamespace

import numpy as np
import pandas as pd
from scipy.special import expit
from scipy.stats import ttest_1samp

from effnotes.datasets import make_faces
from effnotes.metrics import bias as metrics
from effnotes.reporting.kept import read_record
from effnotes.studies.bias import generator_rates
from effnotes.studies.bias.effects import change

kept = np.load("data/exercises/pruning_bias/logits.npz")
names, skewed = kept["names"].tolist(), kept["skewed"].tolist()  # attributes, and those that bias can be amplified of
own = SimpleNamespace(**{name: kept[name] for name in ("train", "train_groups", "val", "val_groups")})
task = SimpleNamespace(**{name: kept[name] for name in ("labels", "groups", "rates")}, protected=int(kept["protected"]))
dense, moderate, sparse = (
    SimpleNamespace(test_logits=kept[f"{which}_test"].astype(float), val_logits=kept[f"{which}_val"].astype(float))
    for which in ("dense", "moderate", "sparse")
)
moderate_sparsity = float(kept["moderate_sparsity"])
of_seeds = read_record("data/records/pruning_bias/full.json").table("models")
result = SimpleNamespace(averages=of_seeds.melt(["seed", "sparsity"], var_name="metric", value_name="mean_common"))


def mean_bias(predictions: np.ndarray) -> float:
    """Bias amplification on the test images, averaged over the attributes in `skewed`."""
    amplified = metrics.bias_amplification(predictions, task.labels, task.protected, rates=task.rates).values
    return float(pd.Series(amplified, names)[skewed].mean())


# %% tags=["checks"]
from typing import Any

from effnotes.reporting.exercises import check

answer: Any

# %% [markdown] exercise="exercise-identity"
# Both amplifications, the miss rates of round and of other faces, and the arrays, each of shape (faces, 2): `Round` and `Big_Nose`.

# %% tags=["stub"]
answer = {
    "by the definition": ...,
    "by the identity": ...,
    "miss rates": (..., ...),  # of round faces, of others
    "labels": ...,
    "predictions": ...,
}


# %% tags=["check"]
@check
def exercise_identity(answer: Any) -> None:
    labels, predictions = np.asarray(answer["labels"]).astype(int), np.asarray(answer["predictions"]).astype(int)
    assert abs(answer["by the definition"] - (27 / 36 - 30 / 50)) < 2e-3, "the definition compares two shares of round faces"
    assert abs(answer["by the identity"] - answer["by the definition"]) < 2e-3, "both equations must give the same"
    missed = "a miss rate is the share, of the faces of a group that have a big nose, for which it is not predicted"
    assert np.allclose(answer["miss rates"], (3 / 30, 11 / 20), atol=2e-3), missed
    assert labels.shape == predictions.shape == (len(labels), 2), "the arrays have two columns each, and a row for each face"
    has, says, is_round = labels[:, 1] == 1, predictions[:, 1] == 1, labels[:, 0] == 1
    counted = [(group & which).sum() for group in (is_round, ~is_round) for which in (has, says)]
    assert counted == [30, 27, 20, 9], "the arrays do not have the counts of the text"
    assert not (says & ~has).any(), "nobody without a big nose is predicted to have one"
    assert (is_round & ~has).any() and (~is_round & ~has).any(), "faces without a big nose are missing in a group"
    found = metrics.bias_amplification(predictions, labels, 0, rates=metrics.conditional_rates(labels, 0)).values[1]
    assert abs(found - answer["by the definition"]) < 2e-3, "the library finds another amplification in the arrays"


# %% [markdown] tags=["marking"]
# Two points for the definition, two for the identity, one for each miss rate, two for the arrays.
# Without faces that have no big nose the rates of both groups are one, and the library gives no number: ask why before you help.

# %% tags=["answer"]
counts = {(1, 1, 1): 27, (1, 1, 0): 3, (0, 1, 1): 9, (0, 1, 0): 11, (1, 0, 0): 70, (0, 0, 0): 180}
rows = np.repeat(list(counts), list(counts.values()), axis=0)  # columns: round, has a big nose, predicted
answer = {
    "by the definition": 27 / 36 - 30 / 50,
    "by the identity": 0.6 * 0.4 * (0.9 - 0.45) / (0.6 * 0.9 + 0.4 * 0.45),
    "miss rates": (3 / 30, 11 / 20),
    "labels": rows[:, :2],
    "predictions": rows[:, [0, 2]],
}

# %% tags=["wrong"]
# The difference of the hit rates, which is part of the identity alone.
answer = {"by the definition": 27 / 30 - 9 / 20, "by the identity": 27 / 30 - 9 / 20, "miss rates": (0.1, 0.55)}
answer |= {"labels": np.ones((50, 2)), "predictions": np.ones((50, 2))}

# %% tags=["wrong"]
# Hit rates in place of miss rates.
answer = {"by the definition": 0.15, "by the identity": 0.15, "miss rates": (0.9, 0.45)}
answer |= {"labels": rows[:, :2], "predictions": rows[:, [0, 2]]}

# %% [markdown] exercise="exercise-equivalence"
# The p-value and the 95% interval with the first two seeds and with all, in shares of one, and for each margin whether the difference is settled to lie within it, with two seeds and with all.

# %% tags=["stub"]
answer = {
    "p": (..., ...),  # with two seeds, with all
    "interval of two": (..., ...),  # low, high
    "interval of all": (..., ...),
    "within one point": (..., ...),  # True or False: with two seeds, with all
    "within half a point": (..., ...),
}


# %% tags=["check"]
@check
def exercise_equivalence(answer: Any) -> None:
    changes = change(result.averages, "accuracy", moderate_sparsity)
    tests = [ttest_1samp(changes[:count], 0) for count in (2, len(changes))]
    ends = [tuple(test.confidence_interval(0.95)) for test in tests]
    assert np.allclose(answer["p"], [test.pvalue for test in tests], atol=2e-3), "a p-value is off; it is a t-test against zero"
    for name, right in zip(("two", "all"), ends, strict=True):
        assert np.allclose(answer[f"interval of {name}"], right, atol=2e-4), f"the interval of {name} is off; it is by Student's t"
    for name, margin in (("one point", 0.01), ("half a point", 0.005)):
        within = [low > -margin and high < margin for low, high in ends]
        said = [bool(each) for each in answer[f"within {name}"]]
        assert said == within, f"within {name}: an interval settles that, and a p-value does not"


# %% [markdown] tags=["marking"]
# Half of the points for the four numbers, half for the four verdicts.
# Full marks need the sentence that a large p-value can come from few data; ask for it where it is missing.

# %% tags=["answer"]
differences = change(result.averages, "accuracy", moderate_sparsity)
few, many = (ttest_1samp(differences[:count], 0) for count in (2, len(differences)))
intervals = [tuple(test.confidence_interval(0.95)) for test in (few, many)]
answer = {"p": (few.pvalue, many.pvalue), "interval of two": intervals[0], "interval of all": intervals[1]}
for margin_name, size in (("within one point", 0.01), ("within half a point", 0.005)):
    answer[margin_name] = tuple(max(map(abs, interval)) < size for interval in intervals)

# %% tags=["wrong"]
# The colleague's own logic: no difference where p is above 0.05.
answer = {"p": (few.pvalue, many.pvalue)}
answer |= {"interval of two": intervals[0], "interval of all": intervals[1]}
answer |= {"within one point": (few.pvalue > 0.05, many.pvalue > 0.05)}
answer |= {"within half a point": (few.pvalue > 0.05, many.pvalue > 0.05)}

# %% tags=["wrong"]
# Two standard errors to either side, which is too narrow with few seeds.
answer = {"p": (few.pvalue, many.pvalue)}
for which, chosen in (("two", differences[:2]), ("all", differences)):
    half = 2 * np.std(chosen, ddof=1) / len(chosen) ** 0.5
    answer[f"interval of {which}"] = (np.mean(chosen) - half, np.mean(chosen) + half)
answer |= {"within one point": (True, True), "within half a point": (True, True)}

# %% [markdown] exercise="exercise-floor"
# The mean bias amplification and the mean accuracy of both classifiers on at least 10,000 faces, with `rates=generator_rates()`, and which of the two amplifies less: "told" or "not told".

# %% tags=["stub"]
answer = {
    "bias amplification": {"told": ..., "not told": ...},  # means over attributes, without undefined ones
    "accuracy": {"told": ..., "not told": ...},
    "amplifies less": ...,
}


# %% tags=["check"]
@check
def exercise_floor(answer: Any) -> None:
    drawn = make_faces(20000, seed=11)
    for which in ("told", "not told"):
        guesses = metrics.hard_predictions(drawn.posterior_logits(group_aware=which == "told"))
        amplified = np.nanmean(metrics.bias_amplification(guesses, drawn.labels, 0, rates=generator_rates()).values)
        right = metrics.accuracy(guesses, drawn.labels).values.mean()
        assert abs(answer["bias amplification"][which] - amplified) < 6e-3, f"{which}: another bias amplification is expected"
        assert abs(answer["accuracy"][which] - right) < 4e-3, f"{which}: another accuracy is expected"
    assert answer["accuracy"]["told"] > answer["accuracy"]["not told"], "a classifier that knows more is right more often"
    smaller = min(answer["bias amplification"], key=answer["bias amplification"].get)
    assert answer["amplifies less"] == smaller, "that does not follow from your numbers"


# %% [markdown] tags=["marking"]
# The point is the reason, not the numbers: a threshold that is the same for both groups misses equally in both, and its false alarms fall where negatives are many.
# Give half of the points for it.

# %% tags=["answer"]
some_faces = make_faces(20000, seed=5)
answer = {"bias amplification": {}, "accuracy": {}, "amplifies less": "not told"}
for told in ("told", "not told"):
    said_yes = metrics.hard_predictions(some_faces.posterior_logits(group_aware=told == "told"))
    of_each = metrics.bias_amplification(said_yes, some_faces.labels, 0, rates=generator_rates()).values
    answer["bias amplification"][told] = np.nanmean(of_each)
    answer["accuracy"][told] = metrics.accuracy(said_yes, some_faces.labels).values.mean()

# %% tags=["wrong"]
# The two taken for one another: "who knows the group can avoid the bias".
answer = {"bias amplification": {}, "accuracy": {}, "amplifies less": "told"}
for told in ("told", "not told"):
    said_yes = metrics.hard_predictions(some_faces.posterior_logits(group_aware=told != "told"))
    of_each = metrics.bias_amplification(said_yes, some_faces.labels, 0, rates=generator_rates()).values
    answer["bias amplification"][told] = np.nanmean(of_each)
    answer["accuracy"][told] = metrics.accuracy(said_yes, some_faces.labels).values.mean()

# %% tags=["wrong"]
# Sizes in place of signed values.
answer = {"bias amplification": {}, "accuracy": {}, "amplifies less": "told"}
for told in ("told", "not told"):
    said_yes = metrics.hard_predictions(some_faces.posterior_logits(group_aware=told == "told"))
    of_each = metrics.bias_amplification(said_yes, some_faces.labels, 0, rates=generator_rates()).values
    answer["bias amplification"][told] = np.nanmean(np.abs(of_each))
    answer["accuracy"][told] = metrics.accuracy(said_yes, some_faces.labels).values.mean()

# %% [markdown] exercise="exercise-group-thresholds"
# The mean bias amplification over the attributes in `skewed`, with one calibrated threshold for each attribute and with one for each attribute and group, and what the second needs when the model is used: "labels", "groups" or "training".

# %% tags=["stub"]
answer = {"one threshold": ..., "by group": ..., "needs": ...}


# %% tags=["check"]
@check
def exercise_group_thresholds(answer: Any) -> None:
    cuts = metrics.calibrated_thresholds(sparse.val_logits, own.val)
    one = mean_bias(metrics.hard_predictions(sparse.test_logits, cuts))
    assert abs(answer["one threshold"] - one) < 1e-3, "one threshold: is it calibrated on all validation images?"
    decided = np.zeros_like(task.labels)
    for group in (False, True):
        chosen = own.val_groups == group
        cuts = metrics.calibrated_thresholds(sparse.val_logits[chosen], own.val[chosen])
        decided[task.groups == group] = metrics.hard_predictions(sparse.test_logits[task.groups == group], cuts)
    assert abs(answer["by group"] - mean_bias(decided)) < 1e-3, "by group: calibrate on validation images, apply to test images"
    assert answer["needs"] == "groups", "what must be known of a new image before the right threshold can be taken?"


# %% [markdown] tags=["marking"]
# A third each for the two numbers and for what it needs.
# A good answer adds that deciding by group is often not allowed, and that the rest is the difference between validation and test images.

# %% tags=["answer"]
single = metrics.hard_predictions(sparse.test_logits, metrics.calibrated_thresholds(sparse.val_logits, own.val))
by_group = np.zeros_like(task.labels)
for member in np.unique(task.groups):
    of_val, of_test = own.val_groups == member, task.groups == member
    threshold = metrics.calibrated_thresholds(sparse.val_logits[of_val], own.val[of_val])
    by_group[of_test] = metrics.hard_predictions(sparse.test_logits[of_test], threshold)
answer = {"one threshold": mean_bias(single), "by group": mean_bias(by_group), "needs": "groups"}

# %% tags=["wrong"]
# Calibrated on the test images that it is judged on.
by_group = np.zeros_like(task.labels)
for member in np.unique(task.groups):
    of_test = task.groups == member
    threshold = metrics.calibrated_thresholds(sparse.test_logits[of_test], task.labels[of_test])
    by_group[of_test] = metrics.hard_predictions(sparse.test_logits[of_test], threshold)
single = metrics.hard_predictions(sparse.test_logits, metrics.calibrated_thresholds(sparse.val_logits, own.val))
answer = {"one threshold": mean_bias(single), "by group": mean_bias(by_group), "needs": "groups"}

# %% tags=["wrong"]
# The threshold at one half in place of a calibrated one.
halfway = mean_bias(metrics.hard_predictions(sparse.test_logits))
answer = {"one threshold": halfway, "by group": 0.0, "needs": "labels"}

# %% [markdown] exercise="exercise-doubt"
# A function of the half width of "uncertain" that returns two shares: of all decisions, those that the human sees; of the changed decisions, those that are among them.


# %% tags=["stub"]
def bought(half_width: float) -> tuple[float, float]:
    return ..., ...


answer = bought


# %% tags=["check"]
@check
def exercise_doubt(answer: Any) -> None:
    differs = metrics.hard_predictions(dense.test_logits) != metrics.hard_predictions(sparse.test_logits)
    for half_width in (0.05, 0.2, 0.4, 0.49):
        doubtful = metrics.uncertain(expit(dense.test_logits), half_width=half_width)
        seen, found = answer(half_width)
        assert abs(seen - doubtful.mean()) < 1e-3, f"half width {half_width}: the share of all decisions is off"
        assert abs(found - doubtful[differs].mean()) < 1e-3, f"half width {half_width}: the share of the changed decisions is off"


# %% [markdown] tags=["marking"]
# The common slip is the share of uncertain decisions that change, in place of the share of changed ones that are uncertain: let the student say both in words.
# Full marks name the price: a good place depends on what a human's time costs.


# %% tags=["answer"]
changed = metrics.hard_predictions(dense.test_logits) != metrics.hard_predictions(sparse.test_logits)


def exchange(half_width: float) -> tuple[float, float]:
    unsure = metrics.uncertain(expit(dense.test_logits), half_width=half_width)
    return float(unsure.mean()), float(unsure[changed].mean())


answer = exchange


# %% tags=["wrong"]
def other_way_round(half_width: float) -> tuple[float, float]:
    """Of the uncertain decisions, the share that changes."""
    unsure = metrics.uncertain(expit(dense.test_logits), half_width=half_width)
    return float(unsure.mean()), float(changed[unsure].mean())


answer = other_way_round


# %% tags=["wrong"]
def of_the_pruned(half_width: float) -> tuple[float, float]:
    """Doubt of the pruned model, which nobody has yet when the dense one is to be used."""
    unsure = metrics.uncertain(expit(sparse.test_logits), half_width=half_width)
    return float(unsure.mean()), float(unsure[changed].mean())


answer = of_the_pruned

# %% [markdown] exercise="exercise-audit"
# The change of the mean accuracy (as a share, pruned minus dense), the attribute whose bias amplification changes most, its change and 95% interval, and your two sentences.

# %% tags=["stub"]
answer = {
    "accuracy": ...,  # mean change
    "attribute": ...,
    "change": ...,  # of its bias amplification
    "interval": (..., ...),
    "sentences": ...,
}


# %% tags=["check"]
@check
def exercise_audit(answer: Any) -> None:
    known = {"rates": task.rates, "train_labels": own.train, "train_groups": own.train_groups, "names": names}
    audit = metrics.audit_logits(dense.test_logits, moderate.test_logits, task.labels, protected=task.protected, **known)
    worst = audit.changes().iloc[0]
    lost = audit.by_attribute("accuracy")["difference"].mean()
    assert abs(answer["accuracy"] - lost) < 1e-4, "the change of accuracy is off; it is a mean over attributes, pruned minus dense"
    assert answer["attribute"] == worst.name, "another attribute's bias changes more, up or down"
    assert abs(answer["change"] - worst["difference"]) < 1e-4, "the size of the change is off"
    assert np.allclose(answer["interval"], worst[["low", "high"]].astype(float), atol=1e-3), "the interval is off"
    named = str(answer["attribute"]).lower() in str(answer["sentences"]).lower()
    assert named, "the sentences do not name the attribute"
    assert len(str(answer["sentences"]).split()) >= 15, "the sentences are too short"


# %% [markdown] tags=["marking"]
# The check reads the numbers alone: read the sentences.
# They should name the loss of accuracy, the attribute with size and interval, and what was not looked at (one seed, one protected attribute, these images).

# %% tags=["answer"]
given = {"rates": task.rates, "train_labels": own.train, "train_groups": own.train_groups, "names": names}
audit = metrics.audit_logits(dense.test_logits, moderate.test_logits, task.labels, protected=task.protected, **given)
most = audit.changes().iloc[0]
answer = {
    "accuracy": audit.by_attribute("accuracy")["difference"].mean(),
    "attribute": most.name,
    "change": most["difference"],
    "interval": (most["low"], most["high"]),
    "sentences": f"Pruning hardly costs accuracy, but the bias of {most.name} moves by {most['difference']:+.3f} ({most['low']:+.3f} to "
    f"{most['high']:+.3f}). This is one seed and one protected attribute, and says nothing about other groups.",
}

# %% tags=["wrong"]
# The attribute whose accuracy changes most.
audit = metrics.audit_logits(dense.test_logits, moderate.test_logits, task.labels, protected=task.protected, **given)
most = audit.changes("accuracy").iloc[0]
answer = {"accuracy": audit.by_attribute("accuracy")["difference"].mean(), "attribute": most.name, "change": most["difference"]}
answer |= {"interval": (most["low"], most["high"]), "sentences": f"{most.name} is worse. " * 8}

# %% tags=["wrong"]
# The model at the high sparsity.
audit = metrics.audit_logits(dense.test_logits, sparse.test_logits, task.labels, protected=task.protected, **given)
most = audit.changes().iloc[0]
answer = {"accuracy": audit.by_attribute("accuracy")["difference"].mean(), "attribute": most.name, "change": most["difference"]}
answer |= {"interval": (most["low"], most["high"]), "sentences": f"{most.name} is worse. " * 8}
