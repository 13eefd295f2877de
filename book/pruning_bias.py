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
# Then it asks what the dense model could have told us beforehand, which decisions change, what can be done, and whether it holds elsewhere.
# It follows {cite:t}`iofinova2023bias`, a part of the thesis {cite:p}`iofinova2026thesis`.
#
# What the paper reports is written down as {term}`claims <claim>`, each with a {term}`margin`, and each gets a {term}`verdict`: *shown* if the 95% interval of the measured effect lies beyond the margin on the claimed side, *contradicted* if it lies on the other side, *not settled* otherwise.
# Two levels carry the verdicts: a *moderate* sparsity, 90%, where nothing should change, and a *high* one, which a rule finds below.
#
# **What you will be able to do**
#
# 1. Train a sparse network by gradual magnitude pruning, and say how sparse it really is, how large and how fast.
# 2. Measure uncertainty, interdependence and bias amplification, and say when each of them is not defined.
# 3. Find the decisions that pruning changed, and tell them from those that change by chance.
# 4. Repair a pruned model with thresholds and overrides, and check each repair against a control.
# 5. Tell "no difference was found" from "there is no difference that matters".
# 6. Audit a pruned model of your own.
#
# **Time** on two cores: `smoke` under a minute, `quick` under four minutes, `full` under half an hour.
#
# **What you need to know**: what a convolutional network, a logit, log-odds and Bayes' rule, a cross-entropy, a correlation, $R^2$ and a p-value are.

# %% tags=["hide-input"]
from typing import Literal

import numpy as np
import pandas as pd
from IPython.display import display

from effnotes.reporting.escaping import page_table
from effnotes.studies import bias

# %% [markdown]
# ## Parameters
#
# Everything that a reader may want to change is declared here; {doc}`how_to_run` says how to set it from the command line.

# %% tags=["parameters"]
seeds: list[int] = [1, 2, 3, 4, 5]  # each seed draws its own faces and initial weights; one model for each seed and sparsity
sparsities: list[float] = [0.0, 0.9, 0.97]  # shares of the prunable weights that are removed; 0 is the dense model
moderate_sparsity: float = 0.9  # where "no loss" is claimed; one of the sparsities
knee_drop: float = 0.03  # fall of validation accuracy beyond which a sparsity counts as high; growth is claimed at the first such
dataset: Literal["faces", "cifar10s", "celeba", "awa2", "waterbirds", "iwildcam"] = "faces"  # drawn faces, or photographs
data_root: str = ""  # folder with the photographs; empty for faces
protected: str | None = None  # name of the protected attribute; null: Round, grey, Male, water or the place
num_train: int | None = 3000  # training images, of photographs at most so many; null: 6000 faces, or all photographs
num_val: int | None = 1000  # validation images, of photographs at most so many; null: 3000 faces, or all photographs
num_test: int | None = 3000  # test images, of photographs at most so many; null: 4000 faces, or all photographs
num_shared: int = 400  # further test faces that are the same for all seeds, to compare decisions; unused for photographs
label_noise: float = 0.0  # share of labels of faces that are flipped, in [0, 0.5)
image_size: int = 32  # height and width in pixels; 32 to 64 for resnet8
stream: bool = False  # celeba: decode photographs as they are needed, cropped and mirrored as published
model: Literal["resnet8", "resnet18", "resnet50", "mobilenet_v2"] = "resnet8"  # the narrow ResNet, or one of torchvision
epochs: int = 7  # passes over the training images, for dense and sparse models alike
batch_size: int = 64  # images a training step
learning_rate: float = 0.2  # peak of the cosine schedule
momentum: float = 0.9  # of stochastic gradient descent, in [0, 1)
weight_decay: float = 1e-4  # L2 penalty on all parameters
warmup_epochs: float = 1.0  # linear rise of the learning rate
prune_start: int = 1  # epoch of the first pruning step
prune_end: int = 4  # pruning steps come before this epoch; the rest is for recovery
precision: Literal["auto", "float32", "bfloat16"] = "auto"  # of activations in training; auto: bfloat16 where the hardware has it
follow_ups: bool | None = None  # train the models of "Does it hold elsewhere?"; null: for faces, not for photographs
other_methods: list[str] = ["gmp_post"]  # pruning methods to compare with gmp; see effnotes.pruning.PRUNING_METHODS
parent_epochs: int = 2  # dense epochs among all, for methods that prune a trained model
tuning_rate: float = 0.003  # learning rate of Adam after them
num_single: int = 1  # attributes that get models of their own: those most at risk by the dense model
num_planted: int | None = 800  # training images with a planted feature; null: as many as num_train
second_model: Literal["resnet8", "resnet18", "resnet50", "mobilenet_v2"] = "resnet8"  # network of the second architecture
second_width: int | None = 8  # its channels in the first block, for resnet8; null: 16

# %% tags=["check", "hide-input"]
of_data = {"dataset": dataset, "data_root": data_root, "stream": stream, "image_size": image_size, "label_noise": label_noise}
of_size = {"num_train": num_train, "num_val": num_val, "num_test": num_test, "num_shared": num_shared}
of_training = {"model": model, "epochs": epochs, "batch_size": batch_size, "learning_rate": learning_rate, "momentum": momentum}
of_recipe = {"weight_decay": weight_decay, "warmup_epochs": warmup_epochs, "precision": precision}
of_pruning = {"prune_start": prune_start, "prune_end": prune_end, "parent_epochs": parent_epochs, "tuning_rate": tuning_rate}
of_levels = {"seeds": seeds, "sparsities": sparsities, "moderate_sparsity": moderate_sparsity, "knee_drop": knee_drop}
of_further = {"follow_ups": follow_ups, "other_methods": other_methods, "num_single": num_single, "num_planted": num_planted}
of_second = {"protected": protected, "second_model": second_model, "second_width": second_width}
# A value that cannot work is refused here, before anything is trained.
plan = bias.plan(**of_levels, **of_further, **of_second, **of_data, **of_size, **of_training, **of_recipe, **of_pruning)

# %% [markdown]
# ## The data: faces of nobody
#
# Photographs of people come with labels that people guessed, and with correlations that nobody set.
# To see what pruning does, it helps to know the truth, so the faces here are *drawn*.
# Each has twelve binary attributes.
# The first, `Round`, is the {term}`protected attribute`: the model should not let it decide about the others, but it is easy to see, and most other attributes are more frequent on one side of it.
#
# `Round` stands in for attributes such as sex or age in a data set like CelebA {cite:p}`liu2015celeba`.
# It has no demographic meaning, and nothing on this page is a statement about people.

# %% mystnb={"figure": {"caption": "Twelve training images of the first seed, each with attributes that it has.", "name": "fig-faces"}, "image": {"alt": "Grid of twelve small drawn faces, round and narrow, with different hair, noses, brows and cheeks; above each a list of its attributes."}} tags=["hide-input"]
from effnotes.metrics import bias as metrics
from effnotes.reporting.claims import format_number
from effnotes.reporting.figures import PALETTE, show_images, use_style

use_style()
first, names = plan.labels[seeds[0]], plan.names


def attributes_of(row: np.ndarray) -> str:
    present = [name for name, value in zip(names, row, strict=True) if value]
    return "\n".join(", ".join(present[start : start + 2]) for start in (0, 2, 4)).strip() or "none"


shown = plan.experiment.images("train", range(12), seeds[0])
_ = show_images(shown, [attributes_of(row) for row in first.train[:12].numpy()], columns=6, size=1.2)
if plan.without:
    print(
        f"{dataset}: bias amplification and all that rests on it, errors by group and interdependence are not measured with these"
        f" data, because {plan.without}; figures and claims say so where they stand.\nAccuracy, uncertainty and calibration are"
        " those of the most probable class of each image, among images from the cameras of training.\nWhere the page speaks of"
        " attributes, each class is one, against the rest, and a decision for it is a probability above one half."
    )

# %% [markdown]
# An attribute is drawn from a number, the {term}`evidence` $z_k$, which is normally distributed, with variance 1, around $+d_k/2$ where the attribute is present and around $-d_k/2$ where it is absent.
# Where $d_k$ is large, the two cases look different; where it is small, they overlap, and no model can always be right.
# {numref}`fig-evidence` shows what the evidence moves.

# %% mystnb={"figure": {"caption": "One attribute a row, its evidence rising from left to right while all else stays the same. The middle picture says nothing about the class.", "name": "fig-evidence"}, "image": {"alt": "Four rows of seven faces. From left to right the mouth turns into a smile, the nose widens, the cheeks turn red, and the head becomes round, with longer hair and orange shoulders."}} tags=["hide-input"]
import torch

from effnotes.datasets import ATTRIBUTES, Nuisances, render_faces

drawn = [attribute.name for attribute in ATTRIBUTES]
varied = ["Smile", "Big_Nose", "Rosy", "Round"]
strengths = torch.linspace(-3, 3, 7)
evidence = torch.full((len(varied), len(strengths), len(drawn)), -1.6)
for row, name in enumerate(varied):
    evidence[row, :, drawn.index(name)] = strengths
pictures = render_faces(evidence.flatten(0, 1), Nuisances.typical(evidence[..., 0].numel()))
titles = [f"{name} {format_number(strength)}" for name in varied for strength in strengths.tolist()]
_ = show_images(pictures, titles, columns=len(strengths))

# %% [markdown]
# The rates say how strongly each attribute is tied to the protected one; those of the faces are the generator's own, others are counted in the training labels.
# Bias can be amplified only where there is a bias to begin with: attributes whose rates in the two groups differ by less than a tenth of the smaller one, or that hardly occur in a group of the test images, are left out of every average of bias amplification below.
# That set is fixed here, before any model is trained.

# %% tags=["hide-input"]
separability = {each.name: f"{each.separability:.1f}" for each in ATTRIBUTES} if dataset == "faces" else {}
share = f"{first.train_groups.float().mean():.0%} of the training images of the first seed"
grouped = "all images are in group 0" if plan.without else f"in group 1, where the protected attribute is present, are {share}"
rates = np.where(np.arange(len(names)) == first.protected, np.nan, plan.tasks[seeds[0]].rates)
pd.DataFrame(
    {
        "attribute": names,
        "rate in group 0": rates[0],
        "rate in group 1": rates[1],
        "separability d": [separability.get(name, "–") for name in names],
        "test positives, first seed": first.test.sum(0).numpy(),
        "bias amplification averaged": ["yes" if name in plan.skewed else "no" for name in names],
    }
).pipe(page_table).format(precision=2, na_rep="–").set_caption(
    f"The attributes. Rates are shares of images that have the attribute; {grouped}."
)

# %% [markdown]
# ## The method: prune while training
#
# {term}`Magnitude pruning <magnitude pruning>` removes the weights that are nearest to zero {cite:p}`han2015learning`.
# All layers are compared at once (*global*), and what is removed stays removed.
# A {term}`mask` says which weights are kept; the {term}`sparsity` is the share of zeros among the prunable weights, which here are those of all convolutions and of the last linear layer.
# Biases and normalisation are never pruned.
#
# *Gradual* magnitude pruning ({term}`GMP`) removes them bit by bit while the network trains {cite:p}`zhu2017prune`.
# With $t$ the time since the first step as a share of the pruning period, the sparsity follows
#
# $$
# s(t) = s_f - (s_f - s_i)\,(1 - t)^3 , \qquad s_i = 0.05 ,
# $$ (eq-cubic)
#
# so most weights go early, while the network can still recover; the last step goes to $s_f$ itself.
# Training starts from random weights (GMP-RI, in figures `gmp`), and the dense model is trained by the very same recipe with no pruning.
# If the two recipes differed, we could not tell what pruning did from what the recipe did.
#
# The network is a small ResNet of three blocks with about eighty thousand prunable weights {cite:p}`he2016resnet`; it gives one logit for each attribute and is trained with binary cross-entropy and stochastic gradient descent.
#
# For one network that is three lines:
#
# ```python
# network = build_model("resnet8", num_outputs=12, image_size=32, seed=1)
# plan = gradual_magnitude(0.9, start=1, end=5)
# result = fit(network, faces.train.images, faces.train.labels, recipe=experiment.recipe, pruning=plan, seed=1)
# ```
#
# with `build_model` from `effnotes.models`, `gradual_magnitude` from `effnotes.pruning`, and `fit` standing for `effnotes.training.train`.

# %% mystnb={"figure": {"caption": "The cubic schedule: sparsity in each epoch, for every final sparsity of this run.", "name": "fig-schedule"}, "image": {"alt": "Step curves that rise steeply in the first epochs of pruning and flatten towards their final sparsity, one curve for each final sparsity."}} tags=["hide-input"]
import matplotlib.pyplot as plt
import seaborn as sns

from effnotes.studies.bias import figures

_, ax = plt.subplots(figsize=(6.4, 2.8))
for target in plan.sparsities[1:]:
    steps = plan.experiment.schedule(target).levels(target)
    levels = 100 * np.array([0, *steps.values(), target])
    sns.lineplot(x=[0, *steps, epochs], y=levels, drawstyle="steps-post", label=f"{100 * target:g}%", ax=ax)
ax.set(xlabel="epoch", ylabel="sparsity (% of prunable weights)", ylim=(0, 100))
_ = ax.legend(title="final sparsity", loc="lower right", ncols=2)

# %% [markdown]
# The next cell is the experiment: one model for each seed and sparsity, several trained side by side.
# A seed draws its own faces, initial weights and order of batches, and all sparsities of a seed share them.
# So each sparse model has a dense twin, and the differences of different seeds are independent.

# %%
result = bias.run(plan)

# %% [markdown]
# What did we get for the weights that we gave up?
# The networks stay dense in memory and in arithmetic: PyTorch multiplies by zeros as fast as by anything else.
# Zeros save space once they are stored as zeros, and time only with software or hardware that skips them.

# %% tags=["hide-input"]
from effnotes.training import resolve_precision

activations = resolve_precision(precision, torch.device("cuda" if torch.cuda.is_available() else "cpu"))
costs = result.costs
pd.DataFrame(
    {
        "asked-for sparsity": [f"{100 * level:g}%" for level in costs.index],
        "counted sparsity": [f"{100 * level:.1f}%" for level in costs["effective_sparsity"]],
        "weights left": costs["remaining_weights"].map("{:,.0f}".format).str.replace(",", "\u202f"),
        "file, zeros written (KiB)": costs["dense_bytes"] / 1024,
        "file, one mark bit a weight and the non-zero weights (KiB)": costs["sparse_bytes"] / 1024,
        "fastest of 15 batches of 100 faces (ms)": costs["latency_ms"],
        "training (s)": costs["training_s"],
    }
).pipe(page_table).format(precision=1).set_caption(
    f"What a sparse model costs: medians over seeds. Training computed activations in {str(activations).removeprefix('torch.')}."
)

# %% [markdown]
# Compare the times: differences between levels are chance, because nothing skips the zeros.
# What shrinks is the file that marks each weight with one bit and stores only those that are not zero; for the dense model the marks come on top.

# %% [markdown]
# ## Accuracy: where is the knee?
#
# First the usual question.
# An attribute that nine faces in ten lack is predicted with 90% accuracy by always saying no, so {numref}`fig-accuracy` also shows what that *majority* answer scores.
# And because the faces are drawn, we know what the best possible classifier would score: the *Bayes classifier*, which is told the evidence and the group and computes the probability of each attribute by Bayes' rule.


# %% mystnb={"figure": {"caption": "Accuracy on test images, mean over the attributes; dots are seeds. Left: dashed, of always giving the more frequent answer; dotted, of the best possible classifier. Right: each sparse model minus its dense twin; the band is the margin of one point within which the claim calls them equal.", "name": "fig-accuracy"}, "image": {"alt": "Two panels against sparsity. Left, a line of accuracy with one dot a seed, just below a dotted line of the best possible accuracy and far above a dashed line of the majority answer. Right, the change from the dense twin in points, near a shaded band around zero first and falling at the highest sparsity."}} tags=["hide-input"]
_, axes = plt.subplots(1, 2, figsize=(7.4, 3.3))
figures.accuracy(result.findings, result.floors, ax=axes[0])
figures.accuracy_change(result.findings, ax=axes[1]).set_ylabel("change (points)")
for ax in axes:
    ax.tick_params(axis="x", labelsize=8.5)

# %% [markdown]
# The left panel says how good the networks are; the right one enlarges the question of the first claim: by how much does a sparse model differ from its dense twin, and is that within one point?
# As a rule the curve stays nearly level and then falls off a {term}`knee`.
# The default network is small: what is left of it at 90% sparsity is about eight thousand weights, where the published ResNet-18 at 90% still has over a million.
# Percentages of networks of different size cannot be compared, so the numbers of weights stand under the axis too.
#
# Where does "high sparsity" begin?
# The verdicts below need one level for it, and a level chosen by looking at bias would choose the verdict.
# So a rule chooses it, by accuracy on validation images alone: the lowest sparsity at which accuracy, averaged over attributes and seeds, has fallen by more than `knee_drop`, three points unless changed.
# Where none has, the claims on high sparsity are not judged.

# %% tags=["hide-input"]
knee = result.knee
falls = [f"{100 * points:.1f} points at {100 * level:g}%" for level, points in knee.fall.items() if level > 0]
print("fall of validation accuracy:", ", ".join(falls))
print(f"high sparsity: {100 * knee.level:g}%")
if not knee.passed:
    print(f"No level has fallen by {100 * knee_drop:g} points: the highest is shown, and claims on high sparsity are not judged.")
elif knee.level <= moderate_sparsity:
    print(
        "The knee lies at or before the moderate sparsity: 'no loss' and 'growth' are judged at the same level, or in reverse order."
    )

# %% [markdown]
# Where classes exclude one another, as the species in the camera traps of iWildCam do, a rare class hardly counts in the accuracy.
# So the next cell looks at the classes by how many images they have in training; those without any are left out.
# The $F_1$ of a class is the harmonic mean of its precision and its recall, and *macro*-$F_1$ the mean over classes, each counted alike.

# %% mystnb={"figure": {"caption": "Macro-F1 against sparsity, of the classes that have so many images in training; test images of the same cameras, dots are seeds.", "name": "fig-f1"}, "image": {"alt": "Lines of macro-F1 against sparsity with one dot a seed, a line for each range of how many training images a class has."}} tags=["hide-input"]
if plan.without:
    figures.f1(result)
else:
    print("only with classes that exclude one another (dataset=iwildcam): macro-F1 of frequent and of rare classes by sparsity")

# %% [markdown]
# ## Uncertainty: when does the model stop being sure?
#
# A prediction counts as {term}`uncertain <uncertainty>` when its probability lies strictly between 0.1 and 0.9; that is the threshold in the official code of {cite:t}`iofinova2023bias`.
# Two further measures stand beside it.
# The *expected calibration error* ({term}`ECE`) sorts predictions into bins of probability and averages the gap between the mean probability and the share of positives in a bin, weighted by the bins' sizes.
# A model that is unsure and right to be so has a low ECE.
# The {term}`rare-value ratio` compares how often the model gives the rarer answer with how often it is true; below 1, rare values are under-predicted.

# %% mystnb={"figure": {"caption": "Uncertain predictions, calibration error and rare-value ratio against sparsity; means over attributes. Dots are seeds; dotted, the best possible classifier; dashed in the right panel, the right amount.", "name": "fig-uncertainty"}, "image": {"alt": "Three panels against sparsity, each a line with one dot a seed: the share of uncertain predictions and the calibration error rise, and the rare-value ratio falls below a dashed line at one, mostly at the highest sparsity."}} tags=["hide-input"]
figures.uncertainty(result.findings, result.floors)

# %% [markdown]
# As long as accuracy is level, so are these, more or less; look how they go beyond the knee.
#
# ## Interdependence: do the predictions hang together?
#
# A model that cannot see an attribute may guess it from others, above all from the protected one.
# How well can the prediction for one attribute be guessed from the predictions for all the others?
# {term}`Interdependence <interdependence>` is the share of variance, $R^2$, that a linear regression of one yes-or-no prediction on all the others explains, averaged over attributes {cite:p}`iofinova2023bias`.
# Labels are correlated themselves, so only what exceeds their own $R^2$ is the model's doing.
# We use the adjusted $R^2$, because more regressors explain more by chance alone.

# %% mystnb={"figure": {"caption": "Interdependence of predictions (solid) and of the true labels (dashed) against sparsity; adjusted R², mean over attributes.", "name": "fig-interdependence"}, "image": {"alt": "A solid line of the predictions' adjusted R squared against sparsity, with one dot a seed, beside a dashed, level line of the labels' own."}} tags=["hide-input"]
figures.interdependence(result.findings)

# %% [markdown]
# Seeds differ here, so look at the dots before reading a trend into the line.
#
# ## Bias amplification: does the model exaggerate?
#
# Take an attribute $k$ that is more frequent in one group, $G$, of the protected attribute.
# Of all faces that *have* it, a share $S$ belongs to $G$.
# Of all faces of which the model *says* that they have it, another share does.
# {term}`Bias amplification <bias amplification>` is the difference:
#
# $$
# \mathrm{BA}_k \;=\; \frac{\sum_{i \in G} \hat y_{ik}}{\sum_i \hat y_{ik}} \;-\; \frac{\sum_{i \in G} y_{ik}}{\sum_i y_{ik}} .
# $$ (eq-ba)
#
# Here $y_{ik}$ is 1 if face $i$ has attribute $k$, $\hat y_{ik}$ is 1 if the model says so, and $G$ is the group in which the attribute is more frequent in training.
# If 80% of the faces with a big nose are round, and 89% of those that the model calls big-nosed are, the bias amplification is 0.09.
# Above zero the model exaggerates the imbalance of its data, below zero it softens it.
# It is not defined for the protected attribute itself, for too few positives, for attributes without a skew, and for a model that never says yes; the library then returns a reason in place of a number.
# With $r_g$ the number of predicted over the number of true positives in group $g$, and $H$ the other group,
#
# $$
# \mathrm{BA}_k = \frac{S(1-S)\,(r_G - r_H)}{S\,r_G + (1-S)\,r_H} ,
# $$ (eq-ba-identity)
#
# so a model that predicts the same multiple of the true number in both groups has none, however far that multiple is from one.
# Equal miss rates are not enough: false alarms count in $r_g$ as well.
# Bias amplification is about *how many* are predicted, not *which*; {numref}`fig-errors` will look at the errors.

# %% mystnb={"figure": {"caption": "Bias amplification against sparsity: each skewed attribute (thin, mean over seeds) and their mean (thick, one dot a seed). Above the dashed line the model exaggerates; dotted, the mean of the best possible classifier.", "name": "fig-ba"}, "image": {"alt": "Thin lines, one for each attribute, and a thick mean line of bias amplification against sparsity, with a dashed line at zero. Every attribute is named at the right end; some rise steeply at the highest sparsity, others stay near zero."}} tags=["hide-input"]
figures.bias_amplification(result.findings, result.floors, label="mean of the skewed attributes")

# %% [markdown]
# Even the best possible classifier has some: faces whose evidence says nothing are better guessed by their group.
# That much comes with the highest possible accuracy, and it is known in closed form, because the generator's rates and the evidence are known: by Bayes' rule the log-odds of attribute $k$ are $\operatorname{logit} P(y_k = 1 \mid \text{group}) + d_k z_k$.
# Nobody who wants that accuracy can avoid it; a classifier that gives up a little accuracy can have less, as an exercise shows.
# {numref}`fig-excess` shows what the best possible classifier has, and how far from it the dense and the pruned networks lie.

# %% mystnb={"figure": {"caption": "Bias amplification of each skewed attribute, mean over seeds: of the best possible classifier (bar; drawn faces only), of the dense networks and of those at the high sparsity. The line between the last two is what pruning added.", "name": "fig-excess"}, "image": {"alt": "One row an attribute: a short bar for the bias amplification of the best possible classifier near zero, a light dot for the dense networks close to it, and a dark dot for the pruned networks, for most attributes far to the right."}} tags=["hide-input"]
high = result.high
ends = result.findings.by_attribute("bias_amplification").reindex([0.0, high]).T.sort_values(high)
heights = np.arange(len(ends))
_, ax = plt.subplots(figsize=(6.4, 0.8 + 0.32 * (len(ends) or 4)))
ax.hlines(heights, ends[0.0], ends[high], color="#999999", linewidth=1)
ax.plot(ends[0.0], heights, "o", color=PALETTE[4], label="dense")
ax.plot(ends[high], heights, "o", color=PALETTE[0], label=f"{100 * high:g}% sparse")
ideal = result.ideal_bias.groupby("attribute")["value"].mean().reindex(ends.index)
ax.plot(ideal, heights, "|", color="#000000", markersize=13, markeredgewidth=2, label="best possible")
ax.axvline(0, linestyle="--", **figures.LINE)
ax.set_yticks(heights, ends.index)
ax.set_xlabel("bias amplification (difference of shares)")
ax.legend(loc="lower right")
figures.explain(ax, not plan.skewed)

# %% tags=["hide-input"]
if result.floors:
    ideal = result.ideal_bias
    print(
        f"best possible classifier: {ideal.groupby('attribute')['value'].mean().mean():.4f}, mean over the skewed attributes;"
        " above it lie, with the range of the seeds,"
    )
    for level, by_seed in result.skewed_bias.groupby("sparsity"):
        excess = by_seed.groupby("seed")["value"].mean() - ideal.groupby("seed")["value"].mean()
        print(f"  {100 * level:5g}% sparse: {excess.mean():+.4f} ({excess.min():+.4f} to {excess.max():+.4f})")

# %% [markdown]
# The attributes do not move together.
# An attribute may be strongly tied to the protected one and yet be easy to see, as `Light_Hair` is in the drawn faces: it can be told from the image alone.
# Where the evidence is weak, a model that has run out of weights may lean on the protected attribute instead.
#
# How much the average grows depends on where one looks.
# {numref}`fig-growth` shows the growth at every sparsity with its interval, against the margin of 0.02 beyond which this book calls growth substantial.
# For the claim that bias grows substantially only the upper edge matters: it is shown at levels whose interval lies above it, contradicted at levels whose interval lies below it, and not settled at the others; the verdict further down is the one at the high sparsity.

# %% mystnb={"figure": {"caption": "Growth of bias amplification over the dense twins, mean over the skewed attributes, with 95% intervals over seeds. The band is the margin of 0.02 to either side.", "name": "fig-growth"}, "image": {"alt": "One dot with a vertical interval for each sparsity, beside a shaded band around zero; the dots are near zero at moderate sparsity and higher to the right."}} tags=["hide-input"]
figures.growth(result.findings)

# %% [markdown]
# {numref}`fig-link` asks which attributes suffer: does bias grow where uncertainty, and where interdependence, grow?

# %% mystnb={"figure": {"caption": "Growth of bias amplification at the high sparsity against growth of uncertainty (left) and of interdependence (right). One point an attribute, mean over seeds; the rank correlations are printed below.", "name": "fig-link"}, "image": {"alt": "Two scatter plots of named points, one an attribute: growth of bias amplification against growth of uncertainty, and against growth of interdependence; both clouds rise to the right."}} tags=["hide-input"]
scores = ("uncertainty", "interdependence")
at_high = {metric: result.mean_growth(result.high, metric, "bias_amplification") for metric in scores}
figures.named_points({f"growth of {metric}": points for metric, points in at_high.items()})

# %% [markdown]
# With so few attributes a pattern can be chance.
# A permutation test shuffles the attributes and asks how often a correlation as high as this one comes up.
# Even a small p-value is no proof of cause: how hard an attribute is to see drives both axes.
# And part of the second link is arithmetic, because `Round` is among the regressors: a model that leans on it raises both.
# The cards further down give an interval over *attributes*: that these same ones line up with every new seed would prove nothing about others.

# %% tags=["hide-input"]
for metric, growth in at_high.items():
    link = metrics.rank_association(growth[metric], growth["bias_amplification"])
    outcome = link["reason"] or f"rank correlation {link['spearman']:.2f}, p = {link['p_value']:.3f}"
    print(f"growth of bias with growth of {metric}, {link['attributes']} attributes: {outcome}")

# %% [markdown]
# Equal shares can hide unequal errors.
# The miss rate (FNR) is the share of faces with an attribute of which the model says that they lack it, and the false-alarm rate (FPR) the share of faces without it that are said to have it; {numref}`fig-errors` shows how far the two groups lie apart in each.

# %% mystnb={"figure": {"caption": "Gap between the two groups in miss rate (FNR) and false-alarm rate (FPR), absolute, mean over the skewed attributes.", "name": "fig-errors"}, "image": {"alt": "Two lines against sparsity with one dot a seed: the gap between groups in the miss rate, and, lower, in the false-alarm rate."}} tags=["hide-input"]
_, ax = plt.subplots()
figures.trend(result.findings, "false_negative_rate_gap", ax=ax, label="miss rate (FNR)")
figures.trend(result.findings, "false_positive_rate_gap", ax=ax, label="false-alarm rate (FPR)", colour=PALETTE[1])
ax.set_ylabel("absolute gap between groups")
ax.legend()
figures.explain(ax, not plan.skewed)

# %% [markdown]
# The gap in misses is not small even for dense networks: where an attribute is rare in a group, it is missed more often there.
#
# ## What the dense model knows beforehand
#
# Pruning takes time, and harm is better foreseen than found.
# {cite:t}`iofinova2023bias` report that criteria computed on the dense model alone say which attributes will suffer.
# Two suggest themselves: how often the dense model is *uncertain* about attribute $k$, $u_k$, and how strongly the attribute is *tied* to the protected one in the training labels, $|\varphi_k|$, the absolute correlation of two binary variables.
# Our reading of the idea is their product,
#
# $$
# c_k = u_k \, |\varphi_k| ,
# $$ (eq-criterion)
#
# because an attribute that is easy to see needs no crutch, and an uncorrelated one offers none.
# The paper's exact thresholds were not at hand, so the rule that flags an attribute, $u_k$ above 1.25 times the median and $|\varphi_k| > 0.1$, is this book's own.
# The criteria are measured on validation images, the growth of bias on test images.

# %% tags=["hide-input"]
quality = metrics.evaluate_criteria(result.criteria, result.criteria["growth"])
readable = {
    **{"uncertainty": "uncertainty u", "abs_phi": "correlation |φ|", "rarity": "rarity of the rarer value", "auc_gap": "1 - AUC"},
    **{"bias_amplification": "dense bias amplification", "uncertainty_times_phi": "u |φ|", "flagged": "flagged by the rule"},
}
columns = {"spearman": "rank correlation", "p_value": "p (permutation)"}
columns |= {f"leave_one_out_{end}": f"{end}est without one attribute" for end in ("low", "high")}
quality.assign(criterion=quality["criterion"].map(readable)).drop(columns=["reason", "attributes"]).rename(columns=columns).pipe(
    page_table
).format(precision=3, na_rep="–").set_caption(
    "How well each criterion of the dense model ranks the attributes by growth of bias amplification; means over seeds."
)

# %% tags=["hide-input"]
by_seed = result.criteria_by_seed
flagged = by_seed[by_seed["flagged"].astype(bool) & by_seed["attribute"].isin(plan.skewed)]
often = flagged["attribute"].value_counts(sort=False)
print("flagged by the rule:", ", ".join(f"{name} ({count} of {len(seeds)} seeds)" for name, count in often.items()) or "none")

# %% [markdown]
# Compare the product with its simplest rival, the bias that the dense model already has: where the two do equally well, the product explains more but foretells no better.

# %% mystnb={"figure": {"caption": "Growth of bias amplification at the high sparsity against the dense criterion, one point an attribute, mean over seeds.", "name": "fig-criterion"}, "image": {"alt": "Scatter plot of named points, one an attribute: growth of bias amplification up, uncertainty times correlation of the dense model along; the spread shows how well the criterion ranks the attributes."}} tags=["hide-input"]
points = result.criteria.set_index("attribute")[["uncertainty_times_phi", "growth"]]
figures.named_points({"u |φ| of the dense model (validation images)": points}, size=(6.4, 3.6))

# %% [markdown]
# ## Which decisions change?
#
# A pruned and a dense model of the same accuracy differ in single decisions.
# {cite:t}`hooker2019forget` call the images on which they differ {term}`compression-identified exemplars <compression-identified exemplar>` (CIE).
# Here a *changed decision* is one attribute of one image on which a sparse model and its dense twin disagree.
# Another seed alone changes decisions too.
# So {numref}`fig-changes` shows two comparisons, of a sparse model with its dense *twin* and with dense models of *other seeds*, and draws beside them the noise floor: what two dense models of different seeds give on the same images.


# %% mystnb={"figure": {"caption": "Changed decisions, of sparse models against their dense twins (blue, dots are seeds) and against dense models of other seeds (orange); dashed, two dense models of different seeds. Left: their share. Middle: share of them of which the dense model was uncertain; dotted, the share among all decisions. Right: share of them that went from yes to no; dotted, one half.", "name": "fig-changes"}, "image": {"alt": "Three panels against sparsity, each with two lines and a dashed noise floor: the share of changed decisions, the share of them that were uncertain before, with a dotted base rate far below, and the share of them that turned from yes to no."}} tags=["hide-input"]
figures.changes(result)

# %% [markdown]
# "Uncertain before" far above the dotted base rate means that the dense model could have named many of the candidates for change.
# So it could for changes by chance: whatever moves a model moves its doubtful decisions first; compare the lines with the dashed one.
# Where more decisions change than by chance, more of them are decisions of which the dense model was sure; compare the left panel with the middle one.
#
# Numbers hide what such an image looks like.
# {numref}`fig-gallery` shows changed decisions by majority over seeds, the {term}`modal exemplars <compression-identified exemplar>`, on images that all seeds share, those first on which the seeds agree most.

# %% mystnb={"figure": {"caption": "Decisions that most dense networks and most of those at the high sparsity make differently: the attribute, whether it is truly there, and the mean probability that either gives it. A star marks uncertain dense networks.", "name": "fig-gallery"}, "image": {"alt": "Two rows of small images. Above each stand the name of an attribute, whether the image truly has it, and two probabilities, the mean of the dense and that of the pruned networks."}} tags=["hide-input"]
figures.gallery(result)

# %% [markdown]
# ## Two repairs, and their controls
#
# **Calibrated thresholds.**
# A pruned model says yes too rarely where yes is rare.
# So give each attribute the threshold $\tau_k$ at which the model predicts as many positives as there are *on validation images*:
#
# $$
# \tau_k = \tfrac12 \left( \ell_{(m)} + \ell_{(m+1)} \right) ,
# $$ (eq-threshold)
#
# with $\ell_{(1)} \ge \ell_{(2)} \ge \dots$ the sorted validation logits of the attribute and $m$ its number of true positives there.
# A dense model may under-predict as well, so it gets thresholds of its own before the two are compared.
#
# **Overrides.**
# That acting on doubtful samples attenuates bias is reported by {cite:t}`iofinova2023bias`; which samples, and what is done with them, is this book's reading.
# Where the dense model was uncertain, $D_k = \{i : 0.1 < p^{\text{dense}}_{ik} < 0.9\}$, take its decision in place of the pruned model's, or ask a human, for whom the true label stands here.
# Any override of so many decisions would change something, so two controls replace *as many* decisions of each attribute: on random images, and where the *pruned* model is least certain, which needs no dense model at run time when a human answers.


# %% mystnb={"figure": {"caption": "Bias amplification at the high sparsity after each repair, mean over the skewed attributes; dots are seeds, the bar is their mean. Dashed, the dense networks with calibrated thresholds.", "name": "fig-repairs"}, "image": {"alt": "Seven rows, from no override through overrides on random images, by the pruned model's own doubt and by the dense model's doubt, by dense prediction and by human label; in each row the bias amplification with raw and with calibrated thresholds."}} tags=["hide-input"]
figures.repairs(result)

# %% tags=["hide-cell"]
means = result.findings.overrides.set_index(["override", "selection", "calibrated"])
pd.DataFrame(
    [
        {"override": name, "thresholds": "calibrated" if calibrate else "raw", **means.loc[(*case, calibrate)]}
        for case, name in figures.CASES.items()
        for calibrate in (False, True)
    ],
    columns=["override", "thresholds", "bias_amplification", "accuracy", "share_overridden"],
).rename(columns=lambda name: name.replace("_", " ")).pipe(page_table).format(precision=3, na_rep="–").set_caption(
    "The repairs at the high sparsity, means over seeds: bias amplification of the skewed attributes, accuracy of all."
)

# %% tags=["hide-input"]
for kind in ("raw", "calibrated"):
    ratios = []
    for seed, network in result.at(result.high).items():
        decided = metrics.hard_predictions(network.test_logits, result.thresholds(network) if kind == "calibrated" else None)
        task = plan.tasks[seed]
        ratios.append(np.nanmean(metrics.rare_value_ratio(decided, task.labels, task.train_rate).values))
    start = "rare-value ratio at the high sparsity:" if kind == "raw" else ","
    print(f"{start} {np.mean(ratios):.3f} with {kind} thresholds", end="" if kind == "raw" else "\n")

# %% [markdown]
# Read the rows against their controls, not against zero.
# Overriding random decisions can lower bias as well, by diluting the pruned model's decisions with better ones; what the dense model's doubt is worth is the difference from that row.
# Where the pruned model's own doubt does as well with a human's label, no dense model needs to be kept.
# Look at accuracy too: the selection that lowers bias most need not be the one that mends most errors.
# And whoever runs the dense model on every image has saved nothing by pruning: the override by its prediction is a diagnosis, not a product.
#
# ## Does it hold elsewhere?
#
# Four further experiments ask how far the findings reach.
#
# - **One label at a time.**
#   {cite:t}`iofinova2023bias` train one model for all attributes.
#   Is a model that learns one attribute only less biased, or more?
#   For the attributes most at risk by {eq}`eq-criterion`, one dense model each, by the same recipe.
# - **Another way to prune.**
#   GMP-PT (`gmp_post`) prunes a *trained* network; here its training and the training with masks take as many epochs together as the other models get, and each seed has a parent of its own.
# - **A bias that we plant.**
#   A yellow square in the corner of 95% of the training images with an attribute, and of 5% of those without it; in the test images it is on half of each.
#   Whatever a model takes from it is bias with a known truth, measured by {eq}`eq-ba` with the images that carry the square as $G$.
#   It is planted on the subtlest attribute, of which the dense model is most often uncertain, and, as a control, on the easiest.
#   The published code plants at these rates on easy labels and at 65% and 35% on subtle ones; here both get the same, so that only the label differs, with its base rate.
# - **Another network.**
#   By default one with half the channels, pruned until as many weights are left as in the first network at the high sparsity.
#   That need not lie beyond its own knee, so its fall of validation accuracy is printed too.

# %% tags=["hide-input"]
further = bias.follow_up(result)
remedy = "set follow_ups to true, with at least two attributes whose bias can be measured"
print(further or f"not part of this run: {plan.without or remedy}")

# %% mystnb={"figure": {"caption": "Bias amplification in the further experiments; dots are seeds (for several attributes their mean), bars the means. From left: one label against all, dense; ways to prune, at the high sparsity, with the number of attributes for which it is defined; a second network with as many weights left; towards a planted square. Each panel has its own scale.", "name": "fig-follow-ups"}, "image": {"alt": "Four panels of bars with dots: models of one label beside the joint model, pruning methods beside each other, two networks dense and sparse, and a planted square on a subtle and an easy attribute dense and sparse."}} tags=["hide-input"]
figures.follow_ups(further)

# %% [markdown]
# A caution for the second panel: the recipe, with its learning rate and its length, was chosen for networks that are pruned from random weights.
# For the first: these attributes are the ones most at risk, not a sample of all.

# %% [markdown]
# ## The claims, judged
#
# Each claim's effect, direction and margin were fixed before the run shown here, and the verdict follows from the 95% interval alone.
# What was changed after earlier runs had been seen stands at the end of this section.
# Where a claim says that *nothing* changes, a large p-value would be no evidence: the interval must lie within the margin, which is an {term}`equivalence test`.
# One effect is one seed's difference between a sparse model and its dense twin, or one attribute's within a seed.
# What this small scale cannot show is printed as not settled.


# %%
display(*bias.measure(bias.main_effects(result), plan.without, bias.main_cautions(result)))

# %% [markdown]
# Repairs, changed decisions and what the dense model knows:

# %%
display(*bias.measure(bias.repair_effects(result), plan.without, bias.repair_cautions(result)))

# %% [markdown]
# And the further experiments:

# %%
display(*bias.measure(bias.further_effects(result, further), plan.without, bias.further_cautions(result, further)))

# %% [markdown]
# Which attributes entered the averages of bias amplification, for which models it was not defined, and what the average hides at the moderate sparsity:

# %% tags=["hide-input"]
amplified = result.averages_of_skewed.query("metric == 'bias_amplification'")
silent = amplified.groupby("sparsity")["no_predicted_positives"].sum()
print(f"in the averages of growth: {', '.join(sorted(result.common)) or 'none'}")
left_out = sorted(set(plan.skewed) - set(result.common))
print(f"left out, not defined in every seed at every level: {', '.join(left_out) or 'none'}")
if result.common:
    grown = result.mean_growth(moderate_sparsity, "bias_amplification")["bias_amplification"]
    print(f"at the moderate sparsity between {grown.min():+.4f} ({grown.idxmin()})", end=" ")
    print(f"and {grown.max():+.4f} ({grown.idxmax()})")
never = {f"{100 * level:g}%": int(count) for level, count in silent.items()}
print(f"models that never say yes, over seeds and attributes: {never if plan.skewed else 'not looked at'}")

# %% [markdown]
# With three seeds a 95% interval reaches 4.3 standard errors to either side, so a mean beyond the margin may still be *not settled*, and a single unusual seed can do that: look at the dots in the figures.
# The kept record on the {doc}`scoreboard` comes from more seeds.
#
# The verdicts are about these networks and these drawn faces.
# On photographs with a planted bias, several come out the other way: {doc}`pruning_bias_cifar10s` has them side by side with the reasons.
#
# Six more things limit what these verdicts say.
# The default network is about 140 times smaller than the published one, so "90%" leaves it far fewer weights; and "less than a tenth left" is judged at its boundary.
# The attributes are the same for every seed: intervals over seeds say what another seed would bring, not what another attribute would; those of the three rank correlations run over the attributes, of which there are few.
# Photographs are the same for every seed too, so an interval is about these images.
# The knee is no property of a percentage: it moves with the length of training, and the verdicts on growth move with it; {numref}`fig-growth` shows the other levels.
# Verdicts at the high sparsity are conditional on the accuracy that was given up there, three points or more by the rule.
# And at the highest sparsities a model may predict so few positives that bias amplification turns round or is not defined; the curve need not rise for ever.
#
# ```{admonition} What earlier runs gave, and what was changed after them
# :class: dropdown
# The high sparsity was first a fixed 97%, chosen before any run of this chapter.
# With three seeds, bias amplification grew there by 0.008 (95% interval 0.004 to 0.012), which *contradicts* the claim that it grows substantially; the growth of interdependence and the link of bias with uncertainty were not settled, and the other four claims of that time were shown.
# At 97% accuracy had fallen by about one point only, so the level was moved to 98.5%: on a seed that is not reported, the first of 90, 97, 98, 98.5 and 99% at which validation accuracy had fallen by more than three points.
#
# The `full` profile first trained for 24 epochs.
# With eight seeds, at 98.5%, bias amplification grew by 0.011 (0.006 to 0.015) and interdependence by 0.007 (0.004 to 0.010), and both claims of growth were *contradicted*; the other five were shown.
# The profile was then set to the 12 epochs that `quick` had, and with eight seeds all seven were shown.
#
# After that came the rule that finds the level, the figure with all levels, and the eleven further claims.
# With 12 epochs and three seeds, `quick` then gave growth of bias amplification of 0.039 (0.017 to 0.061) and of interdependence of 0.027 (-0.005 to 0.058), neither settled; of the eighteen claims 11 were shown, 6 not settled and 1 contradicted.
# It took too long, so `quick` now trains for 8 epochs on 4500 faces; `full` has kept 12 epochs and 6000 faces, and has five seeds.
# A review of that run then changed four things: the three rank correlations get an interval over attributes, where they had one over seeds; whether changed decisions were doubtful before is now compared within each attribute; the planted square goes on the attributes of most and least doubt, not of most and least risk; and nothing is judged where no level lies beyond the knee.
#
# In none of these runs did bias grow substantially before accuracy fell.
# Whether it does beyond depends on how far beyond, and on how many seeds look.
# This command trains as long as the run with 24 epochs, with five seeds in place of eight:
#
# `effnotes run pruning_bias --profile full -p epochs=24 -p prune_end=14`
# ```
#
# ## What not to conclude
#
# The drawn faces have no demographic meaning, and nothing here says how a model treats a group of people.
# With photographs of people more care is needed, and three cautions above all.
#
# - **Labels are opinions.**
#   In CelebA, *Attractive*, *Oval_Face* or *Big_Nose* are what annotators thought, and *Male* and *Young* force people into two boxes.
#   A model that reproduces such labels is measured against those opinions, not against the truth.
# - **One number is no certificate.**
#   Bias amplification compares shares of predictions.
#   It can be zero while errors fall on one group, and it looks at two groups at a time, so harm to a group within a group goes unseen.
# - **A repair is a choice.**
#   Equal shares, equal error rates and calibrated probabilities cannot in general all be had at once when base rates differ {cite:p}`kleinberg2017tradeoffs`.
#   Which one matters is a question about the use, to be answered with those whom it concerns; so is whether the attribute should be predicted at all.
#
# ## Try it on your own
#
# **Your model.**
# Have you pruned a model of your own?
# One call compares it with its dense parent, group by group, and shows a table and a figure; `loader` yields images and labels, and `protected` names one of the attributes:
#
# ```python
# from effnotes.metrics import bias_audit
#
# audit = bias_audit(dense, pruned, loader, protected="Male", train_labels=train_labels, names=names)
# audit.figure()
# ```
#
# `audit_logits` does the same from stored logits, for models that cannot be run any more, and `read_outputs` reads the files that the paper's published code writes.
#
# **Your photographs.**
# CelebA, AwA2, Waterbirds and CIFAR-10 are read from a folder of yours; {doc}`how_to_run` says how it must look.
# So is iWildCam, whose species exclude one another; nothing is protected there, so the page has no bias to measure, and says so.
# {doc}`pruning_bias_cifar10s` is the report of such a run.
# The last of these commands is the published set-up of the joint models, at full size and for a GPU; how its recipe departs from the published code stands in the documentation of `effnotes.training.PUBLISHED_GMP_RI`:
#
# ```console
# $ effnotes run pruning_bias -p dataset=cifar10s -p data_root=~/cifar10 --profile full
# $ effnotes run pruning_bias -p dataset=celeba -p data_root=~/celeba -p num_train=20000 -p protected=Young --profile full
# $ effnotes run pruning_bias --profile paper -p data_root=~/celeba
# ```
#
# **Other settings.**
# More seeds and other sparsities, labels with noise, a wider network in the last experiment, the larger profile:
#
# ```console
# $ effnotes run pruning_bias -p seeds='[1, 2, 3, 4, 5]' -p sparsities='[0, 0.5, 0.9, 0.97, 0.985]' --out my_run
# $ effnotes run pruning_bias -p label_noise=0.05
# $ effnotes run pruning_bias -p second_width=24
# $ effnotes run pruning_bias --profile full
# ```
#
# ## Exercises

# %% [markdown]
# ```{exercise-start}
# :label: exercise-identity
# ```
# A model predicts `Big_Nose` for 80 of the 100 round faces that have it and wrongly for none, and for 10 of the 25 other faces that have it, again wrongly for none.
# Compute its bias amplification with equation {eq}`eq-ba` and with equation {eq}`eq-ba-identity`.
# Which miss rates belong to it?
# Then build arrays of labels and predictions with these counts, some faces without a big nose in both groups among them, and check your answer with `metrics.bias_amplification`; its argument `rates` comes from `metrics.conditional_rates(labels, 0)`, where column 0 is `Round`.
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
# Suppose a colleague tests whether accuracy at the moderate sparsity differs from the dense model's, finds $p > 0.05$, and concludes that pruning is free.
# Use `change(result.averages, "accuracy", moderate_sparsity)` from `effnotes.studies.bias.effects` to show what is wrong with that: what do a t-test and its interval say with two seeds, and what with all of them, against margins of one point and of half a point?
# ```{exercise-end}
# ```

# %% [markdown]
# ```{solution-start} exercise-equivalence
# :class: dropdown
# ```
# By the colleague's logic, the fewer seeds, the better for pruning: a large p-value can come from no difference or from few data.
# Two seeds leave an interval several times as wide as all of them do, and the smaller the margin, the sooner that settles nothing.
# What speaks for nearly kept accuracy is an interval that lies within the margin, and the p-value does not say whether it does.
# Conversely, with many seeds a difference far too small to matter gets a small p-value, and the interval still lies within the margin.

# %%
from scipy.stats import ttest_1samp

from effnotes.studies.bias.effects import change

accuracy_changes = change(result.averages, "accuracy", moderate_sparsity)
for count in range(2, len(accuracy_changes) + 1):
    test = ttest_1samp(accuracy_changes[:count], 0)
    low, high = test.confidence_interval(0.95)
    print(f"{count} seeds: p = {test.pvalue:.3f}, 95% interval {100 * low:+.2f} to {100 * high:+.2f} points of accuracy")

# %% [markdown]
# ```{solution-end}
# ```

# %% [markdown]
# ```{exercise-start}
# :label: exercise-floor
# ```
# The dotted line in {numref}`fig-ba` belongs to a Bayes classifier that is told the group.
# What does the best classifier do that is *not* told it, and uses the overall rate of each attribute?
# Will its bias amplification be larger or smaller?
# Draw faces with `make_faces`, get both kinds of log-odds from `posterior_logits(group_aware=...)`, and check.
# ```{exercise-end}
# ```

# %% [markdown]
# ```{solution-start} exercise-floor
# :class: dropdown
# ```
# Where the evidence is weak, the classifier that knows the group says yes more readily in the group where the attribute is frequent: Bayes' rule itself leans towards the group, and that amplifies.
# The one that does not know the group has one threshold on the evidence for both; it misses the same share of positives in either group, but its false alarms fall where negatives are many, in the group where the attribute is rare.
# So its bias amplification is smaller, here below zero, and its accuracy is a little lower: bias and accuracy pull in different directions even with perfect knowledge.

# %%
from effnotes.datasets import make_faces

some_faces = make_faces(20000, seed=11)
for told in (True, False):
    guesses = metrics.hard_predictions(some_faces.posterior_logits(group_aware=told))
    amplified = metrics.bias_amplification(guesses, some_faces.labels, 0, rates=bias.generator_rates()).values
    right = metrics.accuracy(guesses, some_faces.labels).values
    print(f"group {'told' if told else 'not told'}: bias amplification {np.nanmean(amplified):+.4f}, accuracy {right.mean():.4f}")

# %% [markdown]
# ```{solution-end}
# ```

# %% [markdown]
# ```{exercise-start}
# :label: exercise-group-thresholds
# ```
# Calibrated thresholds lower bias amplification but need not remove it.
# Calibrate one threshold for each attribute *and group* on the validation images of a seed, and apply them to the test images of a model at the high sparsity.
# What is left of bias amplification, and why?
# What does this repair need that the others do not?
# ```{exercise-end}
# ```

# %% [markdown]
# ```{solution-start} exercise-group-thresholds
# :class: dropdown
# ```
# Each group now gets as many positives as it truly has, up to the difference between validation and test images; with $r_G \approx r_H \approx 1$, equation {eq}`eq-ba-identity` leaves next to nothing.
# It is the most that thresholds can do rather than a remedy: the group of every image must be known when the model is used, and deciding by group is often the very thing that is not allowed.

# %%
seed = seeds[0]
own, task, network = plan.labels[seed], plan.tasks[seed], result.at(result.high)[seed]
decided = {"one threshold": metrics.hard_predictions(network.test_logits, result.thresholds(network))}
decided["threshold by group"] = np.zeros_like(decided["one threshold"])
for group in np.unique(task.groups):
    of_val, of_test = own.val_groups.numpy() == group, task.groups == group
    cut = metrics.calibrated_thresholds(network.val_logits[of_val], own.val[of_val])
    decided["threshold by group"][of_test] = metrics.hard_predictions(network.test_logits[of_test], cut)
for name, guesses in decided.items():
    amplified = metrics.bias_amplification(guesses, task.labels, task.protected, rates=task.rates).values
    right = metrics.accuracy(guesses, task.labels).values.mean()
    print(f"{name}: bias amplification {pd.Series(amplified, names)[plan.skewed].mean():+.4f}, accuracy {right:.4f}")

# %% [markdown]
# ```{solution-end}
# ```

# %% [markdown]
# ```{exercise-start}
# :label: exercise-doubt
# ```
# Somebody proposes to send all decisions of which the dense model is uncertain to a human.
# For thresholds of "uncertain" from very strict to very lax, print which share of decisions the human would see, and which share of the decisions that pruning to the high sparsity changes would be among them.
# What does the usual threshold, probabilities between 0.1 and 0.9, buy?
# ```{exercise-end}
# ```

# %% [markdown]
# ```{solution-start} exercise-doubt
# :class: dropdown
# ```
# A prediction is uncertain where its probability lies within a distance $h$ of one half; `metrics.uncertain(p, half_width=h)` marks them, and 0.4 is the usual threshold.
# Each line buys changed decisions with a human's time.
# At the usual threshold the human sees a small share of all decisions and a much larger share of the changed ones; the rest changed although the dense model was sure.
# Where a good place lies depends on what a human's time costs beside an error; the list only shows the rate of exchange.

# %%
from scipy.special import expit

dense, sparse = (result.at(level)[seeds[0]].test_logits for level in (0.0, result.high))
differs = metrics.hard_predictions(dense) != metrics.hard_predictions(sparse)
for half_width in (0.05, 0.1, 0.2, 0.3, 0.4, 0.45, 0.49):
    doubtful = metrics.uncertain(expit(dense), half_width=half_width)
    found = doubtful[differs].mean() if differs.any() else float("nan")
    print(f"within {half_width:.2f} of one half: {doubtful.mean():6.1%} of all decisions, {found:6.1%} of the changed ones")

# %% [markdown]
# ```{solution-end}
# ```

# %% [markdown]
# ```{exercise-start}
# :label: exercise-audit
# ```
# Pretend that the networks of this page are gone and only their logits are left.
# Use `metrics.audit_logits` on the test logits of the first seed, dense and at the moderate sparsity, and draw its figure.
# Write two sentences for somebody who must decide whether to use the pruned model.
# ```{exercise-end}
# ```

# %% [markdown]
# ```{solution-start} exercise-audit
# :class: dropdown
# ```
# The call takes the same arguments as `bias_audit` with logits in place of models and loader.
# A fair summary names the loss of accuracy, the attribute whose bias grew most with its size, and what the audit did not look at.
# For example: "Accuracy is within a point of the dense model's, and no attribute's bias amplification moved by more than the figure shows for the worst of them.
# This is one seed, one protected attribute and these test images; nothing is said about other groups or other pictures."

# %% mystnb={"figure": {"caption": "An audit from stored logits: the network at the moderate sparsity against its dense twin, one seed.", "name": "fig-audit"}, "image": {"alt": "Panels of the audit, one row an attribute: bias amplification, uncertainty and error gaps of the dense and the pruned network side by side."}}
seed = seeds[0]
task = plan.tasks[seed]
dense, sparse = (result.at(level)[seed].test_logits for level in (0.0, moderate_sparsity))
audit = metrics.audit_logits(
    dense,
    sparse,
    task.labels,
    protected=task.protected,
    rates=task.rates,
    train_labels=plan.labels[seed].train,
    train_groups=plan.labels[seed].train_groups,
    names=names,
)
audit.figure()

# %% [markdown]
# ```{solution-end}
# ```

# %% [markdown]
# ## Key takeaways
#
# - Accuracy hides much: where it falls by a few points, the share of uncertain predictions can multiply; look at uncertainty and bias beside it.
# - Bias amplification compares shares of predicted and of true positives; show errors by group beside it.
# - Where the image says too little, the most accurate answer is itself biased; where the truth is known, measure how far a model lies above that.
# - The dense model's doubt is a guide to what pruning will change; how good a guide, and what acting on it is worth, shows only beside a control.
# - A level of sparsity chosen by its bias chooses the verdict: fix it by a rule that does not look at bias, and show the other levels.
# - A finding is about a setting: the same claims, judged on photographs, give other verdicts.
# - "No difference" is a claim with a margin, and needs an equivalence test.
# - A sparsity is a share of the prunable weights; it is neither a size nor a speed.
#
# ## Further reading
#
# {cite:t}`hooker2019forget` show on which examples compressed networks change their mind, and {cite:t}`hooker2020bias` what that means for groups.
# {cite:t}`zhao2017men` and {cite:t}`wang2021biasamp` define bias amplification differently, and say what each definition can see; the library has both.
# {cite:t}`peste2021acdc` train dense and sparse networks in turn, another method of the library (`-p other_methods='[acdc]'`).

# %% tags=["hide-cell"]
display(*result.keep())
