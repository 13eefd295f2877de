# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Bias in pruned vision models
#
# A network can lose nine tenths of its weights and still be right as often as before.
# Is it still the same network?
# Two models with the same accuracy can be wrong about different people, be sure of different things, and lean on different cues.
#
# ```{what-we-found}
# ```
#
# This chapter removes more and more weights from an image classifier and watches three things beside its accuracy: how *uncertain* its outputs become, how strongly its predictions *hang together*, and how much it *amplifies the bias* that is in its data.
# Then it asks who suffers, what the dense model could have told us beforehand, what can be done, and whether it holds elsewhere.
# It follows {cite:t}`iofinova2023bias`, a part of the thesis {cite:p}`iofinova2026thesis`.
#
# What the paper reports is written down as {term}`claims <claim>`, each with a {term}`margin`, and each gets a {term}`verdict` below the figure that it is about: *shown* if the 95% interval of the measured effect lies beyond the margin on the claimed side, *contradicted* if it lies on the other side, *not settled* otherwise.
# Two levels carry the verdicts: a *moderate* sparsity, where nothing should change, and a *high* one, which a rule finds by accuracy alone.
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
# **What you need to know**: what a convolutional network, a logit, log-odds and Bayes' rule, a cross-entropy, a correlation, $R^2$ and a p-value are.

# %% tags=["hide-input"] mystnb={"code_prompt_show": "What is imported"}
from typing import Literal

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from IPython.display import display

from effnotes.metrics import bias as metrics
from effnotes.reporting.escaping import page_table
from effnotes.reporting.figures import show_images, use_style
from effnotes.reporting.findings import finding, takeaways, what_we_found
from effnotes.reporting.metrics import report
from effnotes.studies import bias
from effnotes.studies.bias import figures, sentences

use_style()

# %% [markdown]
# ## Parameters
#
# Five settings come first, the others lie in the fold below them; {doc}`how_to_run` says how to set them from the command line.

# %% tags=["parameters"]
seeds: list[int] = [1, 2, 3, 4, 5]  # each seed draws its own faces and initial weights; one model for each seed and sparsity
sparsities: list[float] = [0.0, 0.9, 0.97]  # shares of the prunable weights that are removed; 0 is the dense model
dataset: Literal["faces", "cifar10s", "celeba", "awa2", "waterbirds", "iwildcam"] = "faces"  # drawn faces, or photographs
data_root: str = ""  # folder with the photographs; empty for faces
num_train: int | None = 3000  # training images, of photographs at most so many; null: 6000 faces, or all photographs

# Further settings
moderate_sparsity: float = 0.9  # where "no loss" is claimed; one of the sparsities
knee_drop: float = 0.03  # fall of validation accuracy beyond which a sparsity counts as high; growth is claimed at the first such
protected: str | None = None  # name of the protected attribute; null: Round, grey, Male, water or the place
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

# %% tags=["check", "hide-input"] mystnb={"code_prompt_show": "How the parameters are checked"}
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
# ## Try it on your own
#
# Have you pruned a model of your own?
# One call compares it with its dense parent, group by group; `loader` yields images and labels, and `protected` names one of the attributes.
# Here two small networks stand in for yours, trained in seconds.

# %% tags=["hide-input"] mystnb={"code_prompt_show": "The two networks and the loader that stand in for yours"}
from torch.utils.data import DataLoader, TensorDataset

from effnotes.datasets import ATTRIBUTES, Nuisances, make_faces, render_faces
from effnotes.models import build_model
from effnotes.pruning import gradual_magnitude, prunable_parameters
from effnotes.training import Recipe, normalize, train

faces, unseen = make_faces(1000, seed=901), make_faces(1000, seed=902)
recipe = Recipe(epochs=6, batch_size=50, learning_rate=0.2)
dense, pruned = (build_model("resnet8", num_outputs=12, image_size=32, seed=901) for _ in range(2))
for network, pruning in ((dense, None), (pruned, gradual_magnitude(0.9, start=1, end=4))):
    train(network, faces.images, faces.labels, recipe=recipe, pruning=pruning, seed=901)
loader = DataLoader(TensorDataset(normalize(unseen.images), unseen.labels), batch_size=500)

# %%
from effnotes.metrics.bias import bias_audit

audit = bias_audit(dense, pruned, loader, protected="Round", train_labels=faces.labels, names=faces.attribute_names)
print(audit)

# %% [markdown]
# Your own photographs take one command, here with CelebA; more at {ref}`the end of the chapter <bias-more>`.
#
# ```console
# $ effnotes run pruning_bias -p dataset=celeba -p data_root=~/celeba -p num_train=20000 --profile full
# ```
#
# ## The data: faces of nobody
#
# Photographs of people come with labels that people guessed, and with correlations that nobody set.
# To see what pruning does, it helps to know the truth, so the faces here are *drawn*.
# Each has twelve binary attributes.
# The first, `Round`, is the {term}`protected attribute`: the model should not let it decide about the others, but it is easy to see, and most other attributes are more frequent on one side of it.
#
# `Round` stands in for attributes such as sex or age in a data set like CelebA {cite:p}`liu2015celeba`.
# It has no demographic meaning, and nothing on this page is a statement about people.

# %% mystnb={"figure": {"caption": "Training images of the first seed, each with attributes that it has.", "name": "fig-faces"}, "image": {"alt": "Grid of small images, and above each a list of its attributes."}} tags=["hide-input"]
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

# %% tags=["remove-input"]
finding(sentences.of_data(pd.Series(first.train.numpy().mean(0), names), plan.skewed), figure="fig-faces")

# %% [markdown]
# An attribute is drawn from a number, the {term}`evidence` $z_k$, which is normally distributed, with variance 1, around $+d_k/2$ where the attribute is present and around $-d_k/2$ where it is absent.
# Where $d_k$ is large, the two cases look different; where it is small, they overlap, and no model can always be right.

# %% mystnb={"figure": {"caption": "One attribute of drawn faces a row, its evidence rising from left to right while all else stays the same. The middle picture says nothing about the class.", "name": "fig-evidence"}, "image": {"alt": "Rows of faces. From left to right the mouth turns into a smile, the nose widens, the cheeks turn red, and the head becomes round, with longer hair and orange shoulders."}} tags=["hide-input"]
drawn = [attribute.name for attribute in ATTRIBUTES]
varied = ["Smile", "Big_Nose", "Rosy", "Round"]
strengths = torch.linspace(-3, 3, 7)
evidence = torch.full((len(varied), len(strengths), len(drawn)), -1.6)
for row, name in enumerate(varied):
    evidence[row, :, drawn.index(name)] = strengths
pictures = render_faces(evidence.flatten(0, 1), Nuisances.typical(evidence[..., 0].numel()))
titles = [f"{name} {strength:g}" for name in varied for strength in strengths.tolist()]
_ = show_images(pictures, titles, columns=len(strengths))

# %% tags=["remove-input"]
finding(sentences.of_evidence({each.name: each.separability for each in ATTRIBUTES}), figure="fig-evidence")

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
#
# *Gradual* magnitude pruning ({term}`GMP`) removes them bit by bit while the network trains {cite:p}`zhu2017prune`.
# With $t$ the time since the first step as a share of the pruning period, the sparsity follows
#
# $$
# s(t) = s_f - (s_f - s_i)\,(1 - t)^3 , \qquad s_i = 0.05 ,
# $$ (eq-cubic)
#
# so most weights go early, while the network can still recover; the last step goes to $s_f$ itself.
# This is all of it:


# %%
def level_at(epoch: int, start: int, end: int, final: float, initial: float = 0.05) -> float:
    """Sparsity of the step before an epoch."""
    return final if epoch == end - 1 else final - (final - initial) * (1 - (epoch - start) / (end - start)) ** 3


def prune(weights: dict[str, torch.Tensor], masks: dict[str, torch.Tensor], level: float) -> dict[str, torch.Tensor]:
    """Keep the largest of the weights that are left, over all layers together."""
    magnitudes = torch.cat([(weights[name].abs() * masks[name]).flatten() for name in weights])
    order = magnitudes.argsort(descending=True, stable=True)
    kept = torch.zeros(len(order), dtype=torch.bool)
    kept[order[: int((1 - level) * len(order) + 0.5)]] = True
    parts = kept.split([weight.numel() for weight in weights.values()])
    return {name: part.view_as(weights[name]) for name, part in zip(weights, parts, strict=True)}


# %% [markdown]
# The library gives the same masks, step by step, for a network with its initial weights:

# %%
network = build_model("resnet8", num_outputs=12, image_size=32, seed=seeds[0])
weights, highest = prunable_parameters(network), plan.sparsities[-1]
ours = theirs = {name: torch.ones_like(weight, dtype=torch.bool) for name, weight in weights.items()}
pruning = gradual_magnitude(highest, start=1, end=5)
for epoch in pruning.levels:
    ours, theirs = prune(weights, ours, level_at(epoch, 1, 5, highest)), pruning.update(epoch, network, theirs)
    assert all(torch.equal(ours[name], theirs[name]) for name in weights)
    print(
        f"before epoch {epoch}: {1 - sum(mask.sum() for mask in ours.values()) / sum(map(torch.numel, ours.values())):.1%} removed"
    )

# %% [markdown]
# With the library, training a sparse network takes three lines; `faces` and `recipe` are those of the audit above.

# %%
network = build_model("resnet8", num_outputs=12, image_size=32, seed=seeds[0])
pruning = gradual_magnitude(moderate_sparsity, start=1, end=4)
train(network, faces.images, faces.labels, recipe=recipe, pruning=pruning, seed=seeds[0])[["epoch", "loss", "sparsity"]]

# %% [markdown]
# Training starts from random weights (GMP-RI, in figures `gmp`), and the dense model is trained by the very same recipe with no pruning.
# If the two recipes differed, we could not tell what pruning did from what the recipe did.
# The network is a small ResNet {cite:p}`he2016resnet`; it gives one logit for each attribute and is trained with binary cross-entropy and stochastic gradient descent.
#
# The next cell is the experiment: one model for each seed and sparsity, several trained side by side.
# A seed draws its own faces, initial weights and order of batches, and all sparsities of a seed share them.
# So each sparse model has a dense twin, and the differences of different seeds are independent.

# %%
result = bias.run(plan)

# %% [markdown]
# What each claim is judged by was fixed before the run, and one line measures the claims; the cards stand below the figures that they are about.

# %% tags=["hide-input"] mystnb={"code_prompt_show": "How the claims are measured"}
effects = bias.main_effects(result) | bias.repair_effects(result)
cautions = bias.main_cautions(result) | bias.repair_cautions(result)
claims = {each.claim.id: each for each in bias.measure(effects, plan.without, cautions)}
say = sentences.Sentences(result.findings, {name: each.to_json() for name, each in claims.items()})


def cards(*names: str) -> None:
    display(*(claims[f"bias.{name}"] for name in names))


# %% [markdown]
# What did we get for the weights that we gave up?
# The networks stay dense in memory and in arithmetic: PyTorch multiplies by zeros as fast as by anything else.
# Zeros save space once they are stored as zeros, in a file that marks each weight with one bit, and time only with software or hardware that skips them.

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

# %% tags=["remove-input"]
finding(say.costs())

# %% [markdown]
# ## Accuracy: where is the knee?
#
# First the usual question.
# An attribute that nine faces in ten lack is predicted with 90% accuracy by always saying no, so {numref}`fig-accuracy` also shows what that *majority* answer scores.
# And because the faces are drawn, we know what the best possible classifier would score: the *Bayes classifier*, which is told the evidence and the group and computes the probability of each attribute by Bayes' rule.
# Percentages of networks of different size cannot be compared, so the numbers of weights stand under the axis too.

# %% mystnb={"figure": {"caption": "Accuracy on test images, mean over the attributes; dots are seeds. Left: dashed, of always giving the more frequent answer; dotted, of the best possible classifier. Right: each sparse model minus its dense twin; the band is the margin within which the claim calls them equal.", "name": "fig-accuracy"}, "image": {"alt": "Two panels against sparsity with one dot a seed. Left, a line of accuracy, a dotted line of the best possible accuracy and a dashed line of the majority answer. Right, the change from the dense twin in points, with a shaded band around zero."}} tags=["hide-input"]
_, axes = plt.subplots(1, 2, figsize=(7.4, 3.3))
figures.accuracy(result.findings, result.floors, ax=axes[0])
figures.accuracy_change(result.findings, say.margin("accuracy-flat"), ax=axes[1]).set_ylabel("change (points)")
for ax in axes:
    ax.tick_params(axis="x", labelsize=8.5)

# %% tags=["remove-input"]
finding(say.accuracy(), figure="fig-accuracy")

# %% tags=["remove-input"]
cards("accuracy-flat")

# %% [markdown]
# Where does "high sparsity" begin?
# The verdicts below need one level for it, and a level chosen by looking at bias would choose the verdict.
# So a rule chooses it, by accuracy on validation images alone: the lowest sparsity at which accuracy, averaged over attributes and seeds, has fallen by more than `knee_drop`, three points unless changed.
# Where none has, the claims on high sparsity are not judged.

# %% tags=["remove-input"]
finding(sentences.of_knee(result.knee, knee_drop))

# %% [markdown]
# ## Uncertainty: when does the model stop being sure?
#
# A prediction counts as {term}`uncertain <uncertainty>` when its probability lies strictly between 0.1 and 0.9; that is the threshold in the official code of {cite:t}`iofinova2023bias`.
# The *expected calibration error* ({term}`ECE`) sorts predictions into bins of probability and averages the gap between the mean probability and the share of positives in a bin: a model that is unsure and right to be so has a low one.
# The {term}`rare-value ratio` compares how often the model gives the rarer answer with how often it is true; below 1, rare values are under-predicted.

# %% mystnb={"figure": {"caption": "Uncertain predictions, calibration error and rare-value ratio against sparsity; means over attributes. Dots are seeds; dotted, the best possible classifier; dashed in the right panel, the right amount.", "name": "fig-uncertainty"}, "image": {"alt": "Three panels against sparsity, each a line with one dot a seed: the share of uncertain predictions, the calibration error, and the rare-value ratio with a dashed line at one."}} tags=["hide-input"]
figures.uncertainty(result.findings, result.floors)

# %% tags=["remove-input"]
finding(say.uncertainty(), figure="fig-uncertainty")

# %% tags=["remove-input"]
cards("uncertainty-grows", "rare-value-underpredicted")

# %% [markdown]
# ## Interdependence: do the predictions hang together?
#
# A model that cannot see an attribute may guess it from others, above all from the protected one.
# {term}`Interdependence <interdependence>` is the share of variance, $R^2$, that a linear regression of one yes-or-no prediction on all the others explains, averaged over attributes {cite:p}`iofinova2023bias`.
# Labels are correlated themselves, so only what exceeds their own $R^2$ is the model's doing; and more regressors explain more by chance alone, so $R^2$ is adjusted for their number.

# %% mystnb={"figure": {"caption": "Interdependence of predictions (solid) and of the true labels (dashed) against sparsity; adjusted R\u00b2, mean over attributes.", "name": "fig-interdependence"}, "image": {"alt": "A solid line of the predictions' adjusted R squared against sparsity, with one dot a seed, beside a dashed line of the labels' own."}} tags=["hide-input"]
figures.interdependence(result.findings)

# %% tags=["remove-input"]
finding(say.interdependence(), figure="fig-interdependence")

# %% tags=["remove-input"]
cards("interdependence-grows")

# %% [markdown]
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
# On the first seed's test images that is, beside the library's own:

# %%
task, network = plan.tasks[seeds[0]], result.at(result.high)[seeds[0]]
predicted, true = network.test_logits > 0, task.labels  # shape (images, attributes)
favoured = task.rates[1] > task.rates[0]  # is the attribute more frequent in group 1 in training?
in_group = task.groups[:, None] == favoured
with np.errstate(invalid="ignore"):  # a model that never says yes
    ours = (predicted & in_group).sum(0) / predicted.sum(0) - (true & in_group).sum(0) / true.sum(0)
library = metrics.bias_amplification(predicted, true, task.protected, rates=task.rates)
defined = np.isfinite(library.values)
assert np.allclose(ours[defined], library.values[defined])
pd.DataFrame({"bias amplification": library.values, "or why there is none": library.reasons}, names).round(4)

# %% [markdown]
# With $r_g$ the number of predicted over the number of true positives in group $g$, and $H$ the other group,
#
# $$
# \mathrm{BA}_k = \frac{S(1-S)\,(r_G - r_H)}{S\,r_G + (1-S)\,r_H} ,
# $$ (eq-ba-identity)
#
# so a model that predicts the same multiple of the true number in both groups has none, however far that multiple is from one.
# Bias amplification is about *how many* are predicted, not *which*; {numref}`fig-errors` looks at the errors.

# %% mystnb={"figure": {"caption": "Bias amplification against sparsity: each skewed attribute (thin, mean over seeds) and their mean (thick, one dot a seed). Above the dashed line the model exaggerates; dotted, the mean of the best possible classifier.", "name": "fig-ba"}, "image": {"alt": "Thin lines, one for each attribute, and a thick mean line of bias amplification against sparsity, with a dashed line at zero. Names stand at the right ends."}} tags=["hide-input"]
figures.bias_amplification(result.findings, result.floors, label="mean of the skewed attributes")

# %% tags=["remove-input"]
finding(say.bias(), figure="fig-ba")

# %% [markdown]
# Even the best possible classifier has some: faces whose evidence says nothing are better guessed by their group.
# That much comes with the highest possible accuracy, and it is known in closed form: by Bayes' rule the log-odds of attribute $k$ are $\operatorname{logit} P(y_k = 1 \mid \text{group}) + d_k z_k$.
# Nobody who wants that accuracy can avoid it; a classifier that gives up a little accuracy can have less, as an exercise shows.

# %% mystnb={"figure": {"caption": "Bias amplification of each skewed attribute, mean over seeds: of the best possible classifier (bar; drawn faces only), of the dense networks and of those at the high sparsity. The line between the last two is what pruning changed.", "name": "fig-excess"}, "image": {"alt": "One row an attribute: a short bar for the best possible classifier, a light dot for the dense networks, and a dark dot for the pruned networks."}} tags=["hide-input"]
figures.excess(result)

# %% tags=["remove-input"]
finding(sentences.of_excess(result), figure="fig-excess")

# %% [markdown]
# How much the average grows depends on where one looks.
# {numref}`fig-growth` shows every level; the verdict on growth is the one at the high sparsity.

# %% mystnb={"figure": {"caption": "Growth of bias amplification over the dense twins, mean over the skewed attributes, with 95% intervals over seeds. The band is the margin of the claim to either side.", "name": "fig-growth"}, "image": {"alt": "One dot with a vertical interval for each sparsity, beside a shaded band around zero."}} tags=["hide-input"]
figures.growth(result.findings, say.margin("ba-grows"))

# %% tags=["remove-input"]
finding(say.growth(), figure="fig-growth")

# %% tags=["remove-input"]
cards("ba-flat", "ba-grows")

# %% [markdown]
# ## Who suffers?
#
# The attributes do not move together.
# One may be strongly tied to the protected attribute and yet be easy to see; where the evidence is weak, a model that has run out of weights may lean on the protected attribute instead.
# Does bias grow where uncertainty, and where interdependence, grow?

# %% mystnb={"figure": {"caption": "Growth of bias amplification at the high sparsity against growth of uncertainty (left) and of interdependence (right). One point an attribute, mean over seeds.", "name": "fig-link"}, "image": {"alt": "Two scatter plots of named points, one an attribute: growth of bias amplification against growth of uncertainty, and against growth of interdependence."}} tags=["hide-input"]
scores = ("uncertainty", "interdependence")
at_high = {metric: result.mean_growth(result.high, metric, "bias_amplification") for metric in scores}
figures.named_points({f"growth of {metric}": points for metric, points in at_high.items()})

# %% tags=["remove-input"]
finding(say.link(at_high), figure="fig-link")

# %% tags=["remove-input"]
cards("ba-follows-uncertainty", "ba-follows-interdependence")

# %% [markdown]
# The permutation test shuffles the attributes and asks how often a correlation as high as this one comes up; the interval runs over *attributes*, because that these same ones line up with every new seed would prove nothing about others.
# Neither proves a cause: how hard an attribute is to see drives both axes, and part of the second link is arithmetic, because the protected attribute is among the regressors.
#
# Equal shares can hide unequal errors.
# The miss rate (FNR) is the share of faces with an attribute of which the model says that they lack it, and the false-alarm rate (FPR) the share of faces without it that are said to have it.

# %% mystnb={"figure": {"caption": "Gap between the two groups in miss rate (FNR) and false-alarm rate (FPR), absolute, mean over the skewed attributes.", "name": "fig-errors"}, "image": {"alt": "Two lines against sparsity with one dot a seed: the gap between groups in the miss rate and in the false-alarm rate."}} tags=["hide-input"]
figures.errors(result.findings)

# %% tags=["remove-input"]
finding(say.errors(), figure="fig-errors")

# %% [markdown]
# ### What the dense model knows beforehand
#
# {cite:t}`iofinova2023bias` report that criteria computed on the dense model alone say which attributes will suffer.
# Two suggest themselves: how often the dense model is *uncertain* about attribute $k$, $u_k$, and how strongly the attribute is *tied* to the protected one in the training labels, $|\varphi_k|$, the absolute correlation of two binary variables.
# Our reading of the idea is their product,
#
# $$
# c_k = u_k \, |\varphi_k| ,
# $$ (eq-criterion)
#
# because an attribute that is easy to see needs no crutch, and an uncorrelated one offers none.
# The paper's thresholds were not at hand, so the rule that flags an attribute, $u_k$ above 1.25 times the median and $|\varphi_k| > 0.1$, is this book's own.
# The criteria are measured on validation images, the growth of bias on test images.

# %% mystnb={"figure": {"caption": "Growth of bias amplification at the high sparsity against the dense criterion, one point an attribute, mean over seeds.", "name": "fig-criterion"}, "image": {"alt": "Scatter plot of named points, one an attribute: growth of bias amplification up, uncertainty times correlation of the dense model along."}} tags=["hide-input"]
points = result.criteria.set_index("attribute")[["uncertainty_times_phi", "growth"]]
figures.named_points({"u |φ| of the dense model (validation images)": points}, size=(6.4, 3.6))

# %% tags=["remove-input"]
quality = metrics.evaluate_criteria(result.criteria, result.criteria["growth"])
finding(f"{say.criterion()} {sentences.of_criteria(quality)}", figure="fig-criterion")

# %% tags=["hide-input"]
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

# %% tags=["remove-input"]
cards("dense-criteria-predict")

# %% [markdown]
# ### Which decisions change?
#
# A pruned and a dense model of the same accuracy differ in single decisions.
# {cite:t}`hooker2019forget` call the images on which they differ {term}`compression-identified exemplars <compression-identified exemplar>` (CIE).
# Here a *changed decision* is one attribute of one image on which a sparse model and its dense twin disagree.
# Another seed alone changes decisions too, and whatever moves a model moves its doubtful decisions first.
# So {numref}`fig-changes` compares a sparse model with its dense *twin* and with dense models of *other seeds*, and draws beside them the noise floor: what two dense models of different seeds give on the same images.

# %% mystnb={"figure": {"caption": "Changed decisions, of sparse models against their dense twins (blue, dots are seeds) and against dense models of other seeds (orange); dashed, two dense models of different seeds. Left: their share. Middle: share of them of which the dense model was uncertain; dotted, the share among all decisions. Right: share of them that went from yes to no; dotted, one half.", "name": "fig-changes"}, "image": {"alt": "Three panels against sparsity, each with two lines and a dashed noise floor: the share of changed decisions, the share of them that were uncertain before, with a dotted base rate, and the share of them that turned from yes to no."}} tags=["hide-input"]
figures.changes(result)

# %% tags=["remove-input"]
finding(sentences.of_changes(result), figure="fig-changes")

# %% tags=["remove-input"]
cards("changes-were-uncertain", "changes-turn-negative")

# %% [markdown]
# {numref}`fig-gallery` shows changed decisions by majority over seeds, the {term}`modal exemplars <compression-identified exemplar>`, on images that all seeds share, those first on which the seeds agree most.

# %% mystnb={"figure": {"caption": "Decisions that most dense networks and most of those at the high sparsity make differently: the attribute, whether it is truly there, and the mean probability that either gives it. A star marks uncertain dense networks.", "name": "fig-gallery"}, "image": {"alt": "Rows of small images. Above each stand the name of an attribute, whether the image truly has it, and two probabilities, the mean of the dense and that of the pruned networks."}} tags=["hide-input"]
figures.gallery(result)

# %% tags=["remove-input"]
finding(sentences.of_gallery(result), figure="fig-gallery")

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

# %% mystnb={"figure": {"caption": "Bias amplification at the high sparsity after each repair, mean over the skewed attributes; dots are seeds, the bar is their mean. Dashed, the dense networks with calibrated thresholds.", "name": "fig-repairs"}, "image": {"alt": "A row for each repair, from no override through overrides on random images, by the pruned model's own doubt and by the dense model's doubt, by dense prediction and by human label; in each row bias amplification with raw and with calibrated thresholds."}} tags=["hide-input"]
figures.repairs(result)

# %% tags=["remove-input"]
finding(bias.override_sentence(result.by_repair), figure="fig-repairs")

# %% tags=["hide-input"]
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

# %% tags=["remove-input"]
finding(say.calibration())

# %% tags=["remove-input"]
cards("calibration-lowers-ba", "override-beats-random")

# %% [markdown]
# Read the rows against their controls, not against zero: replacing random decisions lowers bias as well where the dense model's are the better ones.
# And whoever runs the dense model on every image has saved nothing by pruning: the override by its prediction is a diagnosis, not a product.
#
# ## Does it hold elsewhere?
#
# Four further experiments ask how far the findings reach.
#
# - **One label at a time.**
#   Is a model that learns one attribute only less biased than one that learns all, or more?
#   For the attributes most at risk by {eq}`eq-criterion`, one dense model each, by the same recipe.
# - **Another way to prune.**
#   GMP-PT (`gmp_post`) prunes a *trained* network; its training and the training with masks take as many epochs together as the other models get.
# - **A bias that we plant.**
#   A yellow square in the corner of 95% of the training images with an attribute, and of 5% of those without it; in the test images it is on half of each {cite:p}`iofinova2023bias`.
#   Whatever a model takes from it is bias with a known truth, measured by {eq}`eq-ba` with the images that carry the square as $G$.
#   It is planted on the subtlest attribute, of which the dense model is most often uncertain, and, as a control, on the easiest.
# - **Another network.**
#   By default one with half the channels, pruned until as many weights are left as in the first network at the high sparsity, which need not lie beyond its own knee.

# %% tags=["hide-input"]
further = bias.follow_up(result)
remedy = "set follow_ups to true, with at least two attributes whose bias can be measured"
print(further or f"not part of this run: {plan.without or remedy}")
of_further = bias.measure(bias.further_effects(result, further), plan.without, bias.further_cautions(result, further))
claims |= {each.claim.id: each for each in of_further}
say = sentences.Sentences(result.findings, {name: each.to_json() for name, each in claims.items()})

# %% mystnb={"figure": {"caption": "Bias amplification in the further experiments; dots are seeds (for several attributes their mean), bars the means. Above: one label against all, ways to prune, with the number of attributes for which it is defined, and a second network with as many weights left. Below, on a scale of its own: towards a planted square.", "name": "fig-follow-ups"}, "image": {"alt": "Horizontal bars with one dot a seed, a row for each kind of network; the planted square in a panel below."}} tags=["hide-input"]
figures.follow_ups(further)

# %% tags=["remove-input"]
finding(say.further(further), figure="fig-follow-ups")

# %% tags=["remove-input"]
cards("single-label-more-biased", "post-training-alike", "planted-grows", "planted-subtle", "second-network-grows")

# %% [markdown]
# Two cautions: the recipe was chosen for networks that are pruned from random weights, and the attributes that are learned alone are the ones most at risk, not a sample of all.
#
# ## The verdicts together

# %% tags=["remove-input"]
finding(say.verdicts())

# %% tags=["hide-input"]
rows = [(claim.claim.statement, sentences.measured_text(claim.to_json())) for claim in claims.values()]
pd.DataFrame(rows, columns=["claim", "effect, 95% interval and verdict"]).pipe(page_table).set_caption(
    "All claims of this chapter, as this run judges them; each effect's unit stands on its card."
)

# %% tags=["remove-cell"]
what_we_found(*say.found_at_a_glance())

# %% [markdown]
# Where a claim says that *nothing* changes, a large p-value would be no evidence: the interval must lie within the margin, which is an {term}`equivalence test`.
# The verdicts are about these networks and these drawn faces; {doc}`pruning_bias_cifar10s` has those on photographs with a planted bias, side by side with these.
# More things limit what they say:
#
# - The default network is far smaller than the published one, so the same percentage leaves it far fewer weights.
# - Intervals over seeds say what another seed would bring, not what another attribute, or other photographs, would.
# - The knee is no property of a percentage: it moves with the length of training, and the verdicts on growth move with it; {numref}`fig-growth` shows the other levels.
# - Verdicts at the high sparsity are conditional on the accuracy that was given up there.
# - At the highest sparsities a model may predict so few positives that bias amplification turns round or is not defined; the curve need not rise for ever.
#
# ### What was changed after seeing results
#
# | What | Why | What it gave before |
# |---|---|---|
# | High sparsity moved from a fixed 97% to 98.5%, then to a rule on validation accuracy | at 97% accuracy had fallen by one point only | growth of bias 0.008 [0.004, 0.012], *contradicted* (three seeds) |
# | `full` trains for 12 epochs, not 24 | to have the length of `quick` | growth of bias 0.011 [0.006, 0.015] and of interdependence 0.007 [0.004, 0.010], both *contradicted* (eight seeds) |
# | `quick` trains for 8 epochs on 4500 faces | time | growth of bias 0.039 [0.017, 0.061] and of interdependence 0.027 [-0.005, 0.058], neither settled (three seeds) |
# | Five seeds of less each in `quick`, and other levels; eight seeds that no run had shown in `full` | to settle more claims, by the spread of pilot seeds that are not reported | `full` with five seeds: 14 of 18 shown, 2 contradicted, 2 not settled |
# | Twelve such seeds in `full`, where it was eight | twelve were planned, and time had allowed for eight; decided after the eight were seen | 12 of 18 shown, 2 contradicted, 4 not settled |
# | Rank correlations over attributes, not seeds; doubt of changed decisions compared within each attribute; square on the attributes of most and least doubt; nothing judged before the knee | a review of a run | 11 of 18 shown, 6 not settled, 1 contradicted |
#
# In none of these runs did bias grow beyond the margin before accuracy fell.
# `effnotes run pruning_bias --profile full -p epochs=24 -p prune_end=14` trains as long as the run with 24 epochs.
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
#   Bias amplification can be zero while errors fall on one group, and it looks at two groups at a time, so harm to a group within a group goes unseen.
# - **A repair is a choice.**
#   Equal shares, equal error rates and calibrated probabilities cannot in general all be had at once when base rates differ {cite:p}`kleinberg2017tradeoffs`.
#   Which one matters is a question about the use, to be answered with those whom it concerns; so is whether the attribute should be predicted at all.
#
# (bias-more)=
# ## More for your own models and data
#
# **The library alone** is installed from a copy of the sources with `pip install .`; the measures then need nothing of the book.
#
# **Your model.**
# `audit_logits` compares stored logits, for models that cannot be run any more, and `read_outputs` reads the files that the paper's published code writes.
# `audit.changes(metric)` has the changes of each attribute, the largest first, with intervals over images, `audit.figure()` draws them, and `effnotes audit` does all this from files.
#
# **Your photographs.**
# CelebA, AwA2, Waterbirds and CIFAR-10 are read from a folder of yours; {doc}`how_to_run` says how it must look.
# The last of these commands is the published set-up of the joint models, at full size and for a GPU; how its recipe departs from the published code stands in the documentation of `effnotes.training.PUBLISHED_GMP_RI`:
#
# ```console
# $ effnotes run pruning_bias -p dataset=cifar10s -p data_root=~/cifar10 --profile full
# $ effnotes run pruning_bias -p dataset=celeba -p data_root=~/celeba -p protected=Young --profile full
# $ effnotes run pruning_bias --profile paper -p data_root=~/celeba
# ```
#
# **Other settings.**
# More seeds and other sparsities, labels with noise, a wider network in the last experiment:
#
# ```console
# $ effnotes run pruning_bias -p seeds='[1, 2, 3, 4, 5]' -p sparsities='[0, 0.5, 0.9, 0.97, 0.985]' --out my_run
# $ effnotes run pruning_bias -p label_noise=0.05
# $ effnotes run pruning_bias -p second_width=24
# ```
#
# **Classes that exclude one another**, such as the species in the camera traps of iWildCam, have nothing protected, and the page has no bias to measure.
# A rare class hardly counts in their accuracy, so the $F_1$ of a class, the harmonic mean of its precision and its recall, is averaged over the classes that have so many images in training (*macro*-$F_1$).

# %% mystnb={"figure": {"caption": "Macro-F1 against sparsity, of the classes that have so many images in training; test images of the same cameras, dots are seeds.", "name": "fig-f1"}, "image": {"alt": "Lines of macro-F1 against sparsity with one dot a seed, a line for each range of how many training images a class has."}} tags=["hide-input"]
if plan.without:
    figures.f1(result)
else:
    print("only with classes that exclude one another (dataset=iwildcam): macro-F1 of frequent and of rare classes by sparsity")

# %% tags=["remove-input"]
of_classes = sentences.of_f1(result) if plan.without else "The classes of this run do not exclude one another."
finding(of_classes, figure="fig-f1" if plan.without else "")

# %% [markdown]
# ## Exercises
#
# These names are at hand: `plan` holds the labels, tasks and attributes of the run, `result` its networks, and for the first seed:

# %%
seed = seeds[0]
own, task = plan.labels[seed], plan.tasks[seed]  # own.val, own.val_groups: validation labels and groups; task: the test images
dense, sparse, moderate = (result.at(level)[seed] for level in (0.0, result.high, moderate_sparsity))
print(f"{sparse.sparsity:.1%} sparse: logits of {sparse.val_logits.shape} in validation, {sparse.test_logits.shape} in the test")

# %% [markdown]
# ```{exercise-start} 15 minutes, easy
# :label: exercise-identity
# ```
# A model predicts `Big_Nose` for 27 of the 30 round faces that have it and wrongly for none, and for 9 of the 20 other faces that have it, again wrongly for none.
# Compute its bias amplification with equation {eq}`eq-ba` and with equation {eq}`eq-ba-identity`.
# Which miss rates belong to it?
# Then build arrays of labels and predictions with these counts, some faces without a big nose in both groups among them, and check your answer with `metrics.bias_amplification`; its argument `rates` comes from `metrics.conditional_rates(labels, 0)`, where column 0 is `Round`.
# ```{exercise-end}
# ```

# %% [markdown]
# ```{solution-start} exercise-identity
# :class: dropdown
# ```
# Of the faces that have a big nose, $S = 30/50 = 0.6$ are round; of the predicted ones, $27/36 = 0.75$ are.
# So $\mathrm{BA} = 0.15$.
# With $r_G = 0.9$ and $r_H = 0.45$, the identity gives $0.6 \cdot 0.4 \cdot 0.45 / (0.54 + 0.18) = 0.108 / 0.72 = 0.15$.
# The miss rates are 10% and 55%: the model under-predicts in both groups, but more in the smaller one.

# %%
counts = {(1, 1, 1): 27, (1, 1, 0): 3, (0, 1, 1): 9, (0, 1, 0): 11, (1, 0, 0): 70, (0, 0, 0): 180}
rows = np.repeat(list(counts), list(counts.values()), axis=0)  # columns: round, has a big nose, predicted
truth, guessed = rows[:, :2], rows[:, [0, 2]]
amplification = metrics.bias_amplification(guessed, truth, 0, rates=metrics.conditional_rates(truth, 0))
print(f"bias amplification {amplification.values[1]:.4f}; for Round itself: {amplification.reasons[0]}")

# %% [markdown]
# ```{solution-end}
# ```

# %% [markdown]
# ```{exercise-start} 20 minutes, medium
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
# ```{exercise-start} 20 minutes, medium
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
# ```{exercise-start} 25 minutes, hard
# :label: exercise-group-thresholds
# ```
# Calibrated thresholds lower bias amplification but need not remove it.
# Calibrate one threshold for each attribute *and group* on the validation images of the first seed (`own.val`, `own.val_groups`, `sparse.val_logits`) with `metrics.calibrated_thresholds`, and apply them to the test images of the model at the high sparsity (`sparse.test_logits`, `task.groups`).
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
decided = {"one threshold": metrics.hard_predictions(sparse.test_logits, result.thresholds(sparse))}
decided["threshold by group"] = np.zeros_like(decided["one threshold"])
for group in np.unique(task.groups):
    of_val, of_test = own.val_groups.numpy() == group, task.groups == group
    cut = metrics.calibrated_thresholds(sparse.val_logits[of_val], own.val[of_val])
    decided["threshold by group"][of_test] = metrics.hard_predictions(sparse.test_logits[of_test], cut)
for name, guesses in decided.items():
    amplified = metrics.bias_amplification(guesses, task.labels, task.protected, rates=task.rates).values
    right = metrics.accuracy(guesses, task.labels).values.mean()
    print(f"{name}: bias amplification {pd.Series(amplified, names)[plan.skewed].mean():+.4f}, accuracy {right:.4f}")

# %% [markdown]
# ```{solution-end}
# ```

# %% [markdown]
# ```{exercise-start} 20 minutes, easy
# :label: exercise-doubt
# ```
# Somebody proposes to send all decisions of which the dense model is uncertain to a human.
# For thresholds of "uncertain" from very strict to very lax, print which share of decisions the human would see, and which share of the decisions that pruning to the high sparsity changes would be among them; `dense.test_logits` and `sparse.test_logits` are all that is needed.
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

differs = metrics.hard_predictions(dense.test_logits) != metrics.hard_predictions(sparse.test_logits)
for half_width in (0.05, 0.1, 0.2, 0.3, 0.4, 0.45, 0.49):
    doubtful = metrics.uncertain(expit(dense.test_logits), half_width=half_width)
    found = doubtful[differs].mean() if differs.any() else float("nan")
    print(f"within {half_width:.2f} of one half: {doubtful.mean():6.1%} of all decisions, {found:6.1%} of the changed ones")

# %% [markdown]
# ```{solution-end}
# ```

# %% [markdown]
# ```{exercise-start} 25 minutes, medium
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
# A fair summary names the loss of accuracy, the attribute whose bias changed most with its size and interval, and what the audit did not look at; the sentence below the figure is computed.
# This is one seed, one protected attribute and these test images; nothing is said about other groups or other pictures, and the intervals are over images, not over trainings.

# %% mystnb={"figure": {"caption": "An audit from stored logits: the network at the moderate sparsity against its dense twin, one seed.", "name": "fig-audit"}, "image": {"alt": "Panels of the audit, one row an attribute: bias amplification, uncertainty and error gaps of the dense and the pruned network side by side."}}
known = {"rates": task.rates, "train_labels": own.train, "train_groups": own.train_groups, "names": names}
audit = metrics.audit_logits(dense.test_logits, moderate.test_logits, task.labels, protected=task.protected, **known)
audit.figure()

# %% tags=["remove-input"]
finding(sentences.of_audit(audit), figure="fig-audit")

# %% [markdown]
# ```{solution-end}
# ```

# %% [markdown]
# ## Key takeaways

# %% tags=["remove-input"]
takeaways(*say.to_take_away())

# %% [markdown]
# ## Further reading
#
# {cite:t}`hooker2019forget` show on which examples compressed networks change their mind, and {cite:t}`hooker2020bias` what that means for groups.
# {cite:t}`zhao2017men` and {cite:t}`wang2021biasamp` define bias amplification differently, and say what each definition can see; the library has both.
# {cite:t}`peste2021acdc` train dense and sparse networks in turn, another method of the library (`-p other_methods='[acdc]'`).

# %% tags=["hide-cell"]
units = {"accuracy": "share of answers", "bias_amplification": "BA"}
levels = {"dense": 0.0, "high": result.findings.high}
means = {(level, name): say.mean(name, at) for level, at in levels.items() for name in units if name in result.findings.models}
reported = [report(f"{level}-{name.replace('_', '-')}", value, unit=units[name]) for (level, name), value in means.items()]
display(*result.keep(), *reported)
