# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Bias in pruned vision models
#
# A network can lose nine tenths of its weights and still be right as often as before.
# Is it still the same network?
# Two models with the same accuracy can be wrong about different people, be sure of different things, and lean on different cues.
# This chapter removes more and more weights from an image classifier and watches three things beside its accuracy: how *uncertain* its outputs become, how strongly its predictions *hang together*, and how much it *amplifies the bias* that is in its data.
# It follows {cite:t}`iofinova2023bias`, a part of the thesis {cite:p}`iofinova2026thesis`.
#
# **What you will be able to do**
#
# 1. Train a sparse network by gradual magnitude pruning, and say how sparse it really is, how large and how fast.
# 2. Measure uncertainty, interdependence and bias amplification, and say when each of them is not defined.
# 3. Tell "no difference was found" from "there is no difference that matters".
# 4. Judge the published claims on data whose attributes you control.
#
# **Time** on two cores: `smoke` half a minute, `quick` three minutes, `full` about twenty minutes.
#
# **What you need to know**: what a convolutional network, a logit and a cross-entropy are.

# %% tags=["hide-input"]
from typing import Literal

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from IPython.display import display
from scipy.stats import spearmanr

from effnotes import claims, figures, metrics
from effnotes.datasets import ATTRIBUTES, Nuisances, render_faces, skewed_attributes
from effnotes.pruning import gradual_magnitude
from effnotes.pruning.sweep import FaceExperiment, sweep_sparsities

# %% [markdown]
# ## Parameters
#
# Everything that a reader may want to change is declared here; {doc}`how_to_run` says how to set it from the command line.

# %% tags=["parameters"]
seeds: list[int] = [1, 2, 3]  # each seed draws its own faces and initial weights; one model is trained per seed and sparsity
sparsities: list[float] = [0.0, 0.8, 0.9, 0.95, 0.985]  # shares of the prunable weights that are removed; 0 is the dense model
moderate_sparsity: float = 0.9  # where "no loss" is claimed; one of the sparsities
high_sparsity: float = 0.985  # where uncertainty, correlation and bias are claimed to grow; one of the sparsities
num_train: int = 6000  # training faces
num_val: int = 3000  # validation faces
num_test: int = 4000  # test faces
label_noise: float = 0.0  # share of labels that are flipped, in [0, 0.5)
image_size: int = 32  # height and width of a face in pixels, 32 to 64
model: Literal["resnet8", "resnet18", "resnet50", "mobilenet_v2"] = "resnet8"  # the narrow ResNet, or one of torchvision
epochs: int = 12  # passes over the training faces, for dense and sparse models alike
batch_size: int = 64  # faces a training step
learning_rate: float = 0.2  # peak of the cosine schedule
prune_start: int = 1  # epoch of the first pruning step
prune_end: int = 7  # pruning steps come before this epoch; the rest is for recovery

# %% tags=["hide-input"]
figures.use_style()
for name, level in {"moderate_sparsity": moderate_sparsity, "high_sparsity": high_sparsity}.items():
    if level not in sparsities or level == 0:
        raise ValueError(f"{name}={level} must be one of the sparsities {sparsities} and not the dense model's 0")
experiment = FaceExperiment(
    num_train=num_train,
    num_val=num_val,
    num_test=num_test,
    label_noise=label_noise,
    image_size=image_size,
    model=model,
    epochs=epochs,
    batch_size=batch_size,
    learning_rate=learning_rate,
    prune_start=prune_start,
    prune_end=prune_end,
)

# %% [markdown]
# ## The data: faces of nobody
#
# Photographs of people come with labels that people guessed, and with correlations that nobody set.
# To see what pruning does, it helps to know the truth, so the faces here are *drawn*.
# Each has twelve binary attributes.
# The first, `Round`, is the **protected attribute**: the model should not let it decide about the others, but it is easy to see, and most other attributes are more frequent on one side of it.
#
# `Round` stands in for attributes such as sex or age in a data set like CelebA {cite:p}`liu2015celeba`.
# It has no demographic meaning, and nothing on this page is a statement about people.

# %% mystnb={"figure": {"caption": "Twelve training faces of the first seed, each with the attributes that it has.", "name": "fig-faces"}, "image": {"alt": "Grid of twelve small drawn faces, round and narrow, with different hair, noses, hats and glasses; above each a list of its attributes."}} tags=["hide-input"]
splits = {seed: experiment.faces(seed) for seed in seeds}
train = splits[seeds[0]].train
names = list(train.attribute_names)


def attributes_of(index: int) -> str:
    present = [name for name, value in zip(names, train.labels[index], strict=True) if value]
    return "\n".join(", ".join(present[start : start + 2]) for start in (0, 2, 4)).strip() or "none"


_ = figures.show_images(train.images[:12], [attributes_of(index) for index in range(12)], columns=6, size=1.2)
# %% [markdown]
# An attribute is drawn from a number, the *evidence* $z_k$, which is normally distributed around $+d_k/2$ where the attribute is present and around $-d_k/2$ where it is absent.
# Where $d_k$ is large, the two cases look different; where it is small, they overlap, and no model can always be right.
# {numref}`fig-evidence` shows what the evidence moves.

# %% mystnb={"figure": {"caption": "One attribute a row, its evidence rising from left to right while all else stays the same. The class boundary is in the middle.", "name": "fig-evidence"}, "image": {"alt": "Four rows of seven faces. From left to right the mouth turns into a smile, the nose widens, the cheeks turn red, and the head becomes round."}} tags=["hide-input"]
shown = ["Smile", "Big_Nose", "Rosy", "Round"]
strengths = torch.linspace(-3, 3, 7)
evidence = torch.full((len(shown), len(strengths), len(names)), -1.6)
for row, name in enumerate(shown):
    evidence[row, :, names.index(name)] = strengths
faces = render_faces(evidence.flatten(0, 1), Nuisances.typical(evidence[..., 0].numel()), image_size=image_size)
titles = [f"{name} {strength:+.0f}" for name in shown for strength in strengths.tolist()]
_ = figures.show_images(faces, titles, columns=len(strengths))
# %% [markdown]
# The generator's rates say how strongly each attribute is tied to `Round`.
# Bias can be amplified only where there is a bias to begin with: attributes whose rates in the two groups differ by less than a tenth of the smaller one are left out of every average of bias amplification below.
# That set is fixed here, from the true rates, before any model is trained.

# %% tags=["hide-input"]
skewed = [names[index] for index in skewed_attributes()]
rates = np.array([[attribute.rate_if_not for attribute in ATTRIBUTES], [attribute.rate_if_round for attribute in ATTRIBUTES]])
test = splits[seeds[0]].test
pd.DataFrame(
    {
        "rate if not round": rates[0],
        "rate if round": rates[1],
        "separability d": [attribute.separability for attribute in ATTRIBUTES],
        "positives in test": test.labels.sum(0).numpy(),
        "bias amplification averaged": ["yes" if name in skewed else "no" for name in names],
    },
    index=pd.Index(names, name="attribute"),
).style.format(precision=2).set_caption("Attributes of the drawn faces. Rates are shares of faces that have the attribute.")

# %% [markdown]
# ## The method: prune while training
#
# **Magnitude pruning** removes the weights that are nearest to zero {cite:p}`han2015learning`.
# All layers are compared at once (*global*), and what is removed stays removed.
# A *mask* says which weights are kept; the **sparsity** is the share of zeros among the prunable weights, which here are those of all convolutions and of the last linear layer.
# Biases and normalisation are never pruned.
#
# **Gradual** magnitude pruning (GMP) removes them bit by bit while the network trains {cite:p}`zhu2017prune`.
# With $t$ the time since the first step as a share of the pruning period, the sparsity follows
#
# $$
# s(t) = s_f - (s_f - s_i)\,(1 - t)^3 , \qquad s_i = 0.05 ,
# $$ (eq-cubic)
#
# so most weights go early, while the network can still recover.
# Training starts from random weights (GMP-RI), and the dense model is trained by the very same recipe with no pruning.
# If the two recipes differed, we could not tell what pruning did from what the recipe did.

# %% mystnb={"figure": {"caption": "The cubic schedule: sparsity in each epoch, for every final sparsity of this run.", "name": "fig-schedule"}, "image": {"alt": "Step curves that rise steeply in the first epochs of pruning and flatten towards their final sparsity, one curve for each final sparsity."}} tags=["hide-input"]
fig, ax = plt.subplots(figsize=(6.4, 2.8))
for target in [level for level in sorted(sparsities) if level > 0]:
    levels = gradual_magnitude(target, start=prune_start, end=prune_end).levels
    ax.step([0, *levels, epochs], 100 * np.array([0, *levels.values(), target]), where="post", label=f"{100 * target:g}%")
ax.set(xlabel="epoch", ylabel="sparsity (% of prunable weights)", ylim=(0, 100))
_ = ax.legend(title="final sparsity", loc="lower right", ncols=2)
# %% [markdown]
# The next cell is the experiment: one model for each seed and sparsity, several trained side by side.
# A seed draws its own faces, initial weights and order of batches, and all sparsities of a seed share them.
# So each sparse model has a dense twin, and the differences of different seeds are independent.

# %%
runs = sweep_sparsities(experiment, sparsities=sparsities, seeds=seeds)

# %% [markdown]
# What did we get for the weights that we gave up?
# The networks stay dense in memory and in arithmetic: PyTorch multiplies by zeros as fast as by anything else.
# Zeros save space once they are stored as zeros, and time only with software or hardware that skips them.

# %% tags=["hide-input"]
costs = pd.DataFrame([vars(run) for run in runs]).groupby("sparsity").median(numeric_only=True)
pd.DataFrame(
    {
        "counted sparsity (%)": 100 * costs["effective_sparsity"],
        "weights left": costs["remaining_weights"],
        "file, zeros written (KiB)": costs["dense_bytes"] / 1024,
        "file, zeros as bits (KiB)": costs["sparse_bytes"] / 1024,
        "fastest of 15 batches of 100 faces (ms)": costs["latency_ms"],
        "training (s)": costs["training_s"],
    }
).rename_axis("asked-for sparsity").rename(index=lambda level: f"{100 * level:g}%").style.format(
    precision=1, thousands="\u202f"
).format("{:.0f}", subset=["weights left"]).set_caption("What a sparse model costs: medians over seeds, one thread.")

# %% [markdown]
# ## Accuracy: where is the knee?
#
# First the usual question.
# An attribute that nine faces in ten lack is predicted with 90% accuracy by always saying no, so {numref}`fig-accuracy` also shows what that *majority* answer scores, and the area under the ROC curve, which it cannot inflate.

# %% tags=["hide-input"]
table = pd.concat(
    metrics.attribute_metrics(
        run.test_logits,
        splits[run.seed].test.labels,
        train_labels=splits[run.seed].train.labels,
        protected="Round",
        rates=rates,
        names=names,
    ).assign(seed=run.seed, sparsity=run.sparsity)
    for run in runs
)
averages = metrics.summarise(table)
averages_of_skewed = metrics.summarise(table, skewed)
weights_left = costs["remaining_weights"].astype(int).to_list()


def plot(metric: str, source: pd.DataFrame = averages, **style):
    ax = figures.plot_by_level(source[source["metric"] == metric], "sparsity", "mean", **style)
    return figures.label_levels(ax, sorted(sparsities), weights_left)


# %% mystnb={"figure": {"caption": "Accuracy and area under the ROC curve on test faces, means over the twelve attributes. Lines are means over seeds, dots are seeds; the dashed line always answers with the more frequent value.", "name": "fig-accuracy"}, "image": {"alt": "Two lines against sparsity, accuracy and area under the ROC curve, with one dot a seed, above a dashed horizontal line of the majority answer."}} tags=["hide-input"]
fig, ax = plt.subplots()
plot("accuracy", ax=ax, label="accuracy")
plot("roc_auc", ax=ax, label="area under the ROC curve", colour=figures.PALETTE[1])
plot("majority_accuracy", ax=ax, label="accuracy of the majority answer", colour="#555555", linestyle="--")
ax.set_ylabel("mean over attributes")
_ = ax.legend(loc="center left")
# %% [markdown]
# The curve stays nearly level and then falls off a *knee*.
# Our network is small: what is left of it at 90% sparsity is about eight thousand weights, where the published ResNet-18 at 90% still has over a million.
# Percentages of networks of different size cannot be compared, so the numbers of weights stand under the axis too.
# The highest sparsity of the `quick` profile, 98.5%, was chosen beyond the knee: on a seed that this page does not use, it was the first of a series at which validation accuracy had fallen by more than three points.
#
# ## Uncertainty: when does the model stop being sure?
#
# A prediction counts as **uncertain** when its probability lies strictly between 0.1 and 0.9 {cite:p}`iofinova2023bias`.
# Two neighbours of that measure belong beside it.
# The *calibration error* (ECE) is the average gap between what the model says and what is true {cite:p}`guo2017calibration`: a model may be unsure and right to be so.
# The *rare-value ratio* compares how often the model gives the rarer answer with how often it is true; below 1, rare values are under-predicted.

# %% mystnb={"figure": {"caption": "Uncertain predictions, calibration error and rare-value ratio against sparsity; means over attributes.", "name": "fig-uncertainty"}, "image": {"alt": "Three panels against sparsity, each a line with one dot a seed: share of uncertain predictions, expected calibration error, and rare-value ratio with a dashed line at one."}} tags=["hide-input"]
fig, axes = plt.subplots(1, 3, figsize=(7.4, 2.9))
for ax, (metric, title) in zip(
    axes,
    {
        "uncertainty": "uncertain predictions (share)",
        "expected_calibration_error": "expected calibration error",
        "rare_value_ratio": "rare-value ratio",
    }.items(),
    strict=True,
):
    plot(metric, ax=ax)
    ax.set_title(title, fontsize=9.5)
    ax.set_xticks(ax.get_xticks(), [f"{100 * level:g}" for level in sorted(sparsities)], fontsize=8.5)
    ax.set_xlabel("sparsity (%)")
_ = axes[2].axhline(1, color="#555555", linestyle="--", linewidth=1)
# %% [markdown]
# ## Interdependence: do the predictions hang together?
#
# How well can the prediction for one attribute be guessed from the predictions for all the others?
# **Interdependence** is the share of variance, $R^2$, that a linear regression explains, averaged over attributes {cite:p}`iofinova2023bias`.
# Labels are correlated themselves, so only what exceeds their own $R^2$ is the model's doing.
# We use the adjusted $R^2$, because more regressors explain more by chance alone.

# %% mystnb={"figure": {"caption": "Interdependence of predictions (solid) and of the true labels (dashed) against sparsity; adjusted R², mean over attributes.", "name": "fig-interdependence"}, "image": {"alt": "A solid line of the predictions' adjusted R squared against sparsity, with one dot a seed, and a dashed, nearly level line of the labels' own."}} tags=["hide-input"]
fig, ax = plt.subplots()
plot("interdependence", ax=ax, label="predictions")
plot("label_interdependence", ax=ax, label="true labels", colour="#555555", linestyle="--")
ax.set_ylabel("adjusted R²")
_ = ax.legend()
# %% [markdown]
# ## Bias amplification: does the model exaggerate?
#
# Take an attribute $k$ that is more frequent in one group, $G$, of the protected attribute.
# Of all faces that *have* it, a share $S$ belongs to $G$.
# Of all faces of which the model *says* that they have it, another share does.
# **Bias amplification** is the difference:
#
# $$
# \mathrm{BA}_k \;=\; \frac{\sum_{i \in G} \hat y_{ik}}{\sum_i \hat y_{ik}} \;-\; \frac{\sum_{i \in G} y_{ik}}{\sum_i y_{ik}} .
# $$ (eq-ba)
#
# Above zero the model exaggerates the imbalance of its data, below zero it softens it.
# It is not defined for the protected attribute itself, for too few positives, for attributes without a skew, and for a model that never says yes; the library then returns a reason in place of a number.
# With $r_g$ the number of predicted over the number of true positives in group $g$, and $H$ the other group,
#
# $$
# \mathrm{BA}_k = \frac{S(1-S)\,(r_G - r_H)}{S\,r_G + (1-S)\,r_H} ,
# $$ (eq-ba-identity)
#
# so a model that misses the same share in both groups has none, however much it misses.
# Bias amplification is about *how many* are predicted, not *which*; {numref}`fig-errors` will look at the errors.

# %% mystnb={"figure": {"caption": "Bias amplification against sparsity: each skewed attribute (thin, mean over seeds) and their mean (thick, one dot a seed). Above the dashed line the model exaggerates.", "name": "fig-ba"}, "image": {"alt": "Nine thin lines, one for each attribute, and a thick mean line of bias amplification against sparsity, with a dashed line at zero. The attributes that are hard to see are named at the right end."}} tags=["hide-input"]
fig, ax = plt.subplots(figsize=(6.4, 4.2))
per_attribute = table[(table["metric"] == "bias_amplification") & table["attribute"].isin(skewed)]
by_level = per_attribute.pivot_table(index="sparsity", columns="attribute", values="value", observed=True)
ax.plot(np.arange(len(by_level)), by_level.to_numpy(), color="#999999", linewidth=1)
plot("bias_amplification", averages_of_skewed, ax=ax, label="mean of the skewed attributes")
ends = by_level.iloc[-1].sort_values()
heights = ends.to_numpy().copy()
for position in range(1, len(heights)):  # names must not lie on top of one another
    heights[position] = max(heights[position], heights[position - 1] + 0.04 * (ends.max() - ends.min()))
for name, height in zip(ends.index, heights, strict=True):
    ax.annotate(
        name,
        xy=(len(by_level) - 1, ends[name]),
        xytext=(len(by_level) - 0.85, height),
        va="center",
        fontsize=8,
        arrowprops={"arrowstyle": "-", "color": "#999999", "linewidth": 0.6},
    )
ax.axhline(0, color="#555555", linestyle="--", linewidth=1)
ax.set_ylabel("bias amplification (difference of shares)")
_ = ax.legend(loc="upper left")
# %% [markdown]
# The attributes do not move together.
# `Light_Hair` is strongly tied to `Round` and easy to see; attributes that are tied to it *and* hard to see are where a model that has run out of weights falls back on the protected attribute.
# {numref}`fig-link` asks whether that is a rule: does bias grow where uncertainty, and where interdependence, grow?

# %% mystnb={"figure": {"caption": "Growth of bias amplification at the high sparsity against growth of uncertainty (left) and of interdependence (right). One point an attribute, mean over seeds.", "name": "fig-link"}, "image": {"alt": "Two scatter plots with nine named points each: growth of bias amplification against growth of uncertainty, and against growth of interdependence."}} tags=["hide-input"]
wide = table[table["attribute"].isin(skewed)].pivot(index=["seed", "attribute"], columns=["metric", "sparsity"], values="value")
growth = wide.xs(high_sparsity, axis=1, level="sparsity") - wide.xs(0.0, axis=1, level="sparsity")
mean_growth = growth.groupby("attribute").mean()
fig, axes = plt.subplots(1, 2, figsize=(7.4, 3.4), sharey=True)
for ax, metric in zip(axes, ["uncertainty", "interdependence"], strict=True):
    ax.plot(mean_growth[metric], mean_growth["bias_amplification"], "o")
    for name, point in mean_growth[[metric, "bias_amplification"]].iterrows():
        ax.annotate(str(name), point, xytext=(4, 3), textcoords="offset points", fontsize=8)
    ax.set_xlabel(f"growth of {metric}")
    ax.margins(x=0.18)
_ = axes[0].set_ylabel("growth of bias amplification")
# %% [markdown]
# Equal shares can hide unequal errors.
# The miss rate (FNR) is the share of faces with an attribute of which the model says that they lack it, and the false-alarm rate (FPR) the reverse; {numref}`fig-errors` shows how far the two groups lie apart in each.

# %% mystnb={"figure": {"caption": "Gap between the two groups in miss rate (FNR) and false-alarm rate (FPR), absolute, mean over the skewed attributes.", "name": "fig-errors"}, "image": {"alt": "Two lines against sparsity with one dot a seed: the gap between groups in the false negative rate and in the false positive rate."}} tags=["hide-input"]
fig, ax = plt.subplots()
plot("false_negative_rate_gap", averages_of_skewed, ax=ax, label="miss rate (FNR)")
plot("false_positive_rate_gap", averages_of_skewed, ax=ax, label="false-alarm rate (FPR)", colour=figures.PALETTE[1])
ax.set_ylabel("absolute gap between groups")
_ = ax.legend()

# %% [markdown]
# ## The claims, judged
#
# Each claim was registered with its effect, its direction and its margin before the run, and the verdict follows from the 95% interval alone.
# Where a claim says that *nothing* changes, a large p-value would be no evidence: the interval must lie within the margin, which is an {term}`equivalence test`.
# One effect is one seed's difference between a sparse model and its dense twin, or one attribute's within a seed.
# What this small scale cannot show is printed as not settled.


# %%
def change(metric: str, sparsity: float, source: pd.DataFrame = averages) -> list[float]:
    """Difference from the dense model, one number a seed."""
    means = source[source["metric"] == metric].pivot(index="seed", columns="sparsity", values="mean")
    return (means[sparsity] - means[0.0]).tolist()


def attribute_changes(sparsity: float) -> list[list[float]]:
    """Differences in bias amplification from the dense model, a list of attributes for each seed."""
    amplification = wide["bias_amplification"]
    differences = (amplification[sparsity] - amplification[0.0]).dropna()
    return [group.tolist() for _, group in differences.groupby("seed")]


def link(metric: str) -> list[float]:
    """Rank correlation, over attributes, of the growth of bias with that of `metric`, one number a seed."""
    defined = growth[["bias_amplification", metric]].dropna()
    return [float(spearmanr(group).statistic) for _, group in defined.groupby("seed") if len(group) > 2]


display(
    claims.measure("bias.accuracy-flat", change("accuracy", moderate_sparsity)),
    claims.measure("bias.ba-flat", attribute_changes(moderate_sparsity)),
    claims.measure("bias.uncertainty-grows", change("uncertainty", high_sparsity)),
    claims.measure("bias.interdependence-grows", change("interdependence", high_sparsity)),
    claims.measure("bias.ba-grows", attribute_changes(high_sparsity)),
    claims.measure("bias.ba-follows-uncertainty", link("uncertainty")),
    claims.measure("bias.ba-follows-interdependence", link("interdependence")),
)

# %% [markdown]
# Three things limit what these verdicts say.
# The network is about 140 times smaller than the published one, so "90%" leaves it far fewer weights.
# The attributes are the same nine for every seed: the intervals say what another seed would bring, not what another attribute would.
# And at the highest sparsities a model may predict so few positives that bias amplification turns round or is not defined; the curve need not rise for ever.
#
# ## Try it on your own
#
# On your own model, three lines measure everything on this page.
# `logits` and `labels` have the shape (images, attributes), and `protected` is the name of one attribute:
#
# ```python
# from effnotes import metrics
#
# table = metrics.attribute_metrics(logits, labels, train_labels=train_labels, protected="Male", names=names)
# metrics.summarise(table)
# ```
#
# To run this page with more seeds, or a wider range of sparsities, from the command line:
#
# ```console
# $ effnotes run pruning_bias -p seeds='[1, 2, 3, 4, 5]' -p sparsities='[0, 0.5, 0.9, 0.97, 0.985]' --out my_run
# $ effnotes run pruning_bias --profile full
# ```
#
# ## Exercises

# %% [markdown]
# ```{exercise-start}
# :label: exercise-identity
# ```
# A model predicts `Big_Nose` for 80 of the 100 round faces that have it and wrongly for none, and for 10 of the 25 narrow faces that have it, again wrongly for none.
# Compute its bias amplification with equation {eq}`eq-ba` and with equation {eq}`eq-ba-identity`.
# Which miss rates belong to it?
# Then build arrays of labels and predictions with these counts and check your answer with `metrics.bias_amplification`.
# ```{exercise-end}
# ```

# %% [markdown]
# ```{solution-start} exercise-identity
# :class: dropdown
# ```
# Of the faces that have a big nose, $S = 100/125 = 0.8$ are round; of the predicted ones, $80/90 \approx 0.889$ are.
# So $\mathrm{BA} \approx 0.089$.
# With $r_G = 0.8$ and $r_H = 0.4$, the identity gives $0.8 \cdot 0.2 \cdot 0.4 / (0.64 + 0.08) = 0.064 / 0.72 \approx 0.089$.
# The miss rates are 20% and 60%: the model under-predicts in both groups, but more in the smaller one.

# %%
counts = {(1, 1, 1): 80, (1, 1, 0): 20, (0, 1, 1): 10, (0, 1, 0): 15, (1, 0, 0): 400, (0, 0, 0): 475}
rows = np.repeat(list(counts), list(counts.values()), axis=0)  # columns: round, has a big nose, predicted
true, predicted = rows[:, :2], rows[:, [0, 2]]
amplification = metrics.bias_amplification(predicted, true, 0, rates=metrics.conditional_rates(true, 0))
print(f"bias amplification {amplification.values[1]:.4f}; for Round itself: {amplification.reasons[0]}")

# %% [markdown]
# ```{solution-end}
# ```

# %% [markdown]
# ```{exercise-start}
# :label: exercise-equivalence
# ```
# A colleague tests whether accuracy at the moderate sparsity differs from the dense model's, finds $p > 0.05$, and concludes that pruning is free.
# Use the effects of this page's runs to show what is wrong with that: what does the same test say if only two of the seeds are used, and what does the interval say?
# ```{exercise-end}
# ```

# %% [markdown]
# ```{solution-start} exercise-equivalence
# :class: dropdown
# ```
# A large p-value can come from no difference or from few data, and with fewer seeds it grows while the interval widens.
# The interval says which it is: only one that lies within the margin shows equivalence.
# Conversely, with many seeds a difference far too small to matter gets a small p-value, and the interval still lies within the margin.

# %%
from scipy.stats import ttest_1samp

differences = change("accuracy", moderate_sparsity)
for count in range(2, len(differences) + 1):
    result = ttest_1samp(differences[:count], 0)
    low, high = result.confidence_interval(0.95)
    print(f"{count} seeds: p = {result.pvalue:.3f}, 95% interval {100 * low:+.2f} to {100 * high:+.2f} points of accuracy")

# %% [markdown]
# ```{solution-end}
# ```

# %% [markdown]
# ## Key takeaways
#
# - Accuracy hides much: around the knee, a small loss of accuracy comes with a large growth of uncertainty and of bias amplification.
# - Bias amplification compares shares of predicted and of true positives; show errors by group beside it.
# - Attributes that are tied to the protected one *and* hard to see are where bias grows.
# - "No difference" is a claim with a margin, and needs an equivalence test.
# - A sparsity is a share of the prunable weights; it is neither a size nor a speed.
#
# ## Further reading
#
# {cite:t}`hooker2020bias` show on which examples compressed networks change their mind.
# {cite:t}`zhao2017men` and {cite:t}`wang2021biasamp` define bias amplification differently, and say what each definition can see.
