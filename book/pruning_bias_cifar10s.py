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
# # The same questions on photographs
#
# {doc}`The chapter <pruning_bias>` asks what pruning does to a model's doubt and to its bias, on faces that were drawn.
# Drawn faces have a great virtue, that everything about them is known, and a great weakness, that nobody wants to classify them.
# Are the answers the same for real images?
#
# This page shows one run of that chapter on CIFAR-10S: small photographs with a bias that was planted in them.
# The run takes long and needs data that do not come with the book, so it is not repeated when the book is built.
# Its numbers are kept in a small file, the *kept record*, and all that follows is drawn from it: figures, verdicts, and the account of what made them.
# A build refuses a kept record as soon as the chapter's claims or parameters are no longer those of the run.
#
# **What you need to know**: the measures of {doc}`the chapter <pruning_bias>`; the {doc}`glossary` has a line on each.

# %% tags=["hide-input"]
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from IPython.display import HTML, Markdown

from effnotes.reporting.claims import card_html
from effnotes.reporting.escaping import myst_text, page_table
from effnotes.reporting.figures import PALETTE, label_levels, use_style
from effnotes.reporting.findings import finding, takeaways
from effnotes.reporting.kept import read_record
from effnotes.studies import bias
from effnotes.studies.bias import figures, sentences

# %% tags=["parameters"]
record: str = "data/records/pruning_bias/cifar10s.json"  # the kept record that the page is drawn from
drawn: str = "data/records/pruning_bias/full.json"  # the kept record of the drawn faces, to compare with

# %% tags=["hide-input"]
use_style()
kept = read_record(record)
found = bias.Findings.of_record(kept)
models, levels, weights_left = found.models, found.sparsities, found.weights_left
say = sentences.Sentences(found, kept.claims, "classes")


def spaced(count: int) -> str:
    return f"{count:,}".replace(",", "\u202f")


def answer(*names: str) -> HTML:
    """How claims came out, in one line."""
    return HTML(kept.verdicts_html(*(f"bias.{name}" for name in names)))


# %% [markdown]
# ## What was found

# %% tags=["remove-input"]
takeaways(*(sentence for sentence, _ in say.found_at_a_glance()))

# %% [markdown]
# ## The data: objects in colour and in grey
#
# CIFAR-10 {cite:p}`krizhevsky2009cifar` has 60,000 photographs of 32 by 32 pixels, each of one of ten kinds of object: airplanes, birds, cats, ships and so on.
# {cite:t}`wang2020fairness` made a test of bias of it, CIFAR-10S.
# In training, 95% of the images of five classes (airplane, bird, deer, frog, ship) are turned grey, and 95% of the images of the other five stay in colour.
# Every test image comes twice, once in colour and once in grey.
#
# The {term}`protected attribute` is *grey*.
# The ten classes are the attributes: a network has ten outputs, one for each class, and each says yes or no.
# Colour says nothing about what an object is, so a model has no good reason to let it decide; but in training it is a helpful hint, and a model may take it.
#
# In the test images each class is half grey and half in colour.
# So {term}`bias amplification` has a simple reading here: of the images of which the model says that they show the class, it is the share that look as most training images of the class did, minus one half.
# It is 0 for a model that ignores colour, and one half, its ceiling, for a model that, say, finds ships in grey images only.
#
# ## The run

# %% tags=["remove-input"]
Markdown(
    f"The record holds {len(models)} networks: {len(levels)} sparsities for each of {models['seed'].nunique()} seeds. "
    f"That nothing is lost is judged at {100 * found.moderate:g}% sparsity, and that something grows at {100 * found.high:g}%, "
    f"where {spaced(weights_left[levels.index(found.high)])} of {spaced(weights_left[0])} prunable weights are left."
)

# %% tags=["hide-input"]
costs = models.groupby("sparsity").median(numeric_only=True)
pd.DataFrame(
    {
        "asked-for sparsity": [f"{100 * level:g}%" for level in costs.index],
        "counted sparsity": [f"{100 * level:.1f}%" for level in costs["effective_sparsity"]],
        "weights left": [spaced(count) for count in weights_left],
        "file, one bit a weight and the rest (KiB)": costs["sparse_kib"],
        "fastest batch (ms)": costs["latency_ms"],
        "training (s)": costs["training_s"],
    }
).pipe(page_table).format(precision=1).set_caption("The networks of the record and what they cost: medians over seeds.")

# %% [markdown]
# The table at the end of this page says on which machine, when, and from which sources the record was made.
# Its duration counts what that one run computed: networks that an earlier run had finished are taken from a cache.

# %% tags=["remove-input"]
Markdown(f"Training all networks of the record took {models['training_s'].sum() / 60:.0f} minutes of one core.")

# %% [markdown]
#
# ## Accuracy: what does the usual measure see?
#
# One class in ten is true of an image, so always saying no is right nine times in ten.
# {numref}`fig-cifar10s-accuracy` shows the networks and, dashed, that *majority* answer.

# %% mystnb={"figure": {"caption": "Accuracy on test photographs, mean over the ten classes. The line is the mean over seeds, dots are seeds; dashed, the accuracy of always giving the more frequent answer.", "name": "fig-cifar10s-accuracy"}, "image": {"alt": "A line of accuracy against sparsity with one dot a seed, and a dashed line for the majority answer."}} tags=["hide-input"]
_ = figures.accuracy(found, {}).set_ylabel("accuracy, mean over classes")

# %% tags=["remove-input"]
finding(say.ends(), figure="fig-cifar10s-accuracy")

# %% [markdown]
# By how much does a {term}`sparse model` differ from the {term}`dense model` of the same seed?

# %% mystnb={"figure": {"caption": "Accuracy of each sparse model minus that of its dense twin. The band is the margin within which the claim calls them equal.", "name": "fig-cifar10s-accuracy-change"}, "image": {"alt": "A line of the change in accuracy against sparsity with one dot a seed, and a shaded band around zero."}} tags=["hide-input"]
_ = figures.accuracy_change(found, say.margin("accuracy-flat"))

# %% tags=["remove-input"]
finding(say.accuracy(), figure="fig-cifar10s-accuracy-change")

# %% tags=["remove-input"]
answer("accuracy-flat")

# %% [markdown]
# ## Uncertainty: when do the models stop being sure?
#
# {numref}`fig-cifar10s-uncertainty` has three signs of doubt: how many predictions are {term}`uncertain <uncertainty>`, with a probability between 0.1 and 0.9; how far probabilities are from frequencies, as the {term}`ECE`; and how often the model says yes, for each time that yes is true, as the {term}`rare-value ratio`.

# %% mystnb={"figure": {"caption": "Uncertain predictions, calibration error and rare-value ratio against sparsity; means over classes. Dots are seeds; dashed, the right amount.", "name": "fig-cifar10s-uncertainty"}, "image": {"alt": "Three panels against sparsity, each a line with one dot a seed: the share of uncertain predictions, the calibration error, and the rare-value ratio with a dashed line at one."}} tags=["hide-input"]
figures.uncertainty(found, {})

# %% tags=["remove-input"]
finding(say.uncertainty(), figure="fig-cifar10s-uncertainty")

# %% tags=["remove-input"]
answer("uncertainty-grows", "rare-value-underpredicted")

# %% [markdown]
# ## Interdependence: do the predictions hang together?
#
# An object belongs to one class only, so the ten labels exclude one another, and each of them follows from the other nine.
# The labels' own {term}`interdependence`, dashed in {numref}`fig-cifar10s-interdependence`, is therefore as high as it can be.
# A model whose outputs are not made to exclude one another need not come near it, and what pruning may do to the predictions' own is a question on its own.

# %% mystnb={"figure": {"caption": "Interdependence of predictions (solid) and of the true labels (dashed) against sparsity; adjusted R\u00b2, mean over classes. Dots are seeds.", "name": "fig-cifar10s-interdependence"}, "image": {"alt": "A solid line of the predictions' adjusted R squared against sparsity with one dot a seed, and a dashed, level line of the labels' own."}} tags=["hide-input"]
figures.interdependence(found)

# %% tags=["remove-input"]
finding(say.interdependence(), figure="fig-cifar10s-interdependence")

# %% tags=["remove-input"]
answer("interdependence-grows")

# %% [markdown]
# ## Bias amplification: does colour decide?
#
# Above the dashed line of {numref}`fig-cifar10s-ba`, a class is found too often in images of the kind that it mostly had in training.
# At the dotted line, the ceiling, it is found in images of that kind only.

# %% mystnb={"figure": {"caption": "Bias amplification against sparsity: each class (thin, mean over seeds) and their mean (thick, one dot a seed); the outermost are named. At the dashed line, colour does not decide; dotted, the ceiling of one half.", "name": "fig-cifar10s-ba"}, "image": {"alt": "Thin lines, one for each of the ten classes, and a thick mean line with one dot a seed, of bias amplification against sparsity, with a dashed line at zero and a dotted one at one half. Names stand at the right ends."}} tags=["hide-input"]
figures.bias_amplification(found, {}, label="mean of the classes", ceiling=0.5)

# %% tags=["remove-input"]
finding(say.bias(), figure="fig-cifar10s-ba")

# %% [markdown]
# How much of that is pruning's doing?
# {numref}`fig-cifar10s-growth` takes the bias amplification of each dense twin away.
# Within the band a sparse model is about as biased as a dense one; above it, the growth is substantial.

# %% mystnb={"figure": {"caption": "Growth of bias amplification over the dense twins, mean over seeds and classes with its 95% interval. The band is the margin of the claims; the marked levels are those at which they are judged.", "name": "fig-cifar10s-growth"}, "image": {"alt": "Points with error bars of the growth of bias amplification at each sparsity, a shaded band around zero, and two vertical lines at the moderate and the high sparsity."}} tags=["hide-input"]
figures.growth(found, say.margin("ba-grows"), mark=True)

# %% tags=["remove-input"]
finding(say.growth(), figure="fig-cifar10s-growth")

# %% tags=["remove-input"]
answer("ba-flat", "ba-grows")

# %% [markdown]
# A class whose dense model leans on colour already is closer to the ceiling and has less room to grow.
# That works against every criterion of growth below: the harder a class, the more the *dense* model leans on colour, and the less is left for pruning to add.
#
# Does bias grow in those classes in which doubt, or the dependence on the other outputs, grows?

# %% mystnb={"figure": {"caption": "Growth of bias amplification at the high sparsity against growth of uncertainty (left) and of interdependence (right). One point a class, mean over seeds.", "name": "fig-cifar10s-link"}, "image": {"alt": "Two scatter plots with ten named points each: growth of bias amplification against growth of uncertainty, and against growth of interdependence."}} tags=["hide-input"]
bias_growth = found.by_attribute("bias_amplification").loc[[0.0, found.high]].diff().iloc[-1]
panels = {}
for metric in ("uncertainty", "interdependence"):
    grown = found.by_attribute(metric).loc[[0.0, found.high]].diff().iloc[-1]
    panels[f"growth of {metric}"] = pd.DataFrame({metric: grown, "bias_amplification": bias_growth})
figures.named_points(panels)

# %% tags=["remove-input"]
finding(say.link({name.removeprefix("growth of "): points for name, points in panels.items()}), figure="fig-cifar10s-link")

# %% tags=["remove-input"]
answer("ba-follows-uncertainty", "ba-follows-interdependence")

# %% [markdown]
# ## Exemplars: on which photographs do pruned models change their mind?
#
# A *changed decision* is one class of one image on which a sparse model and a dense one disagree; {cite:t}`hooker2019forget` call such images {term}`compression-identified exemplars <compression-identified exemplar>`.
# Two dense models of different seeds disagree as well; that noise floor is the dashed line on the left of {numref}`fig-cifar10s-exemplars`.
# On the right: was the dense twin unsure of the changed decisions already, more than of all decisions, and did they go from yes to no?

# %% mystnb={"figure": {"caption": "Left: share of decisions that a sparse and a dense model of different seeds take differently; dashed, two dense models. Right: share of the changed decisions of which the dense twin was uncertain, beside that share of all decisions, and share of them that went from yes to no; dotted, one half.", "name": "fig-cifar10s-exemplars"}, "image": {"alt": "Two panels against sparsity. Left, the share of changed decisions with a dashed line for the noise floor. Right, three lines: changed decisions that were uncertain before, all decisions that were, and changed decisions that went from yes to no, with a dotted line at one half."}} tags=["hide-input"]
fig, axes = plt.subplots(1, 2, figsize=(7.4, 3.4))
exemplars = found.exemplars
positions = np.arange(len(exemplars))
axes[0].plot(positions, exemplars["rate"], "o-")
axes[0].plot(positions, exemplars["noise_floor"], linestyle="--", **figures.LINE)
axes[0].set(ylabel="changed decisions (share of all)", ylim=(0, None))
axes[1].plot(positions, exemplars["dense_uncertain"], "o-", label="changed: uncertain before")
axes[1].plot(positions, exemplars["base_dense_uncertain"], "s--", color="#555555", label="all: uncertain before")
axes[1].plot(positions, exemplars["positive_to_negative"], "^-", color=PALETTE[1], label="changed: from yes to no")
axes[1].axhline(0.5, linestyle=":", **figures.LINE)
axes[1].set(ylabel="share", ylim=(0, 1))
for ax in axes:
    figures.name_by_percent(ax, exemplars["sparsity"].to_list())
_ = fig.legend(*axes[1].get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=8.5)

# %% tags=["remove-input"]
finding(say.exemplars(), figure="fig-cifar10s-exemplars")

# %% tags=["remove-input"]
answer("changes-were-uncertain", "changes-turn-negative")

# %% [markdown]
# ## What can be done?
#
# Three things are tried, as in the chapter: to tell beforehand which classes to distrust, to calibrate, and to override.
#
# *Beforehand* means from the dense model alone.
# The criterion of {numref}`fig-cifar10s-criteria` is its uncertainty about a class, and that times the correlation $|\phi|$ of class and colour in training.
# By construction $|\phi|$ hardly differs between the classes of CIFAR-10S, so here the product can add little to the uncertainty.

# %% mystnb={"figure": {"caption": "Growth of bias amplification at the high sparsity against two criteria that need the dense model only. One point a class.", "name": "fig-cifar10s-criteria"}, "image": {"alt": "Two scatter plots with ten named points each: growth of bias amplification against the dense model's uncertainty, and against that times the correlation with colour."}} tags=["hide-input"]
criteria = found.criteria.set_index("attribute")
names = {"uncertainty": "uncertainty of the dense model", "uncertainty_times_phi": "uncertainty of the dense model × |φ|"}
figures.named_points({title: criteria[[criterion, "growth"]] for criterion, title in names.items()})

# %% tags=["remove-input"]
finding(say.criterion(), figure="fig-cifar10s-criteria")

# %% [markdown]
# To *calibrate* is to move the threshold of each output until, on validation images, the model says yes as often as yes is true.

# %% mystnb={"figure": {"caption": "Bias amplification at the threshold one half and at calibrated thresholds, mean over seeds and over the classes for which both are defined at every sparsity.", "name": "fig-cifar10s-calibration"}, "image": {"alt": "Two lines of bias amplification against sparsity, one at the usual threshold and one at calibrated thresholds, with a dashed line at zero."}} tags=["hide-input"]
fig, ax = plt.subplots()
kinds = {"bias_amplification": ("o-", "threshold one half"), "bias_amplification_calibrated": ("D-.", "calibrated thresholds")}
wide = found.attributes.pivot(index="attribute", columns="sparsity")[list(kinds)].dropna()
for kind, (style, label) in kinds.items():
    ax.plot(np.arange(len(levels)), wide[kind].mean(), style, label=label)
ax.axhline(0, linestyle="--", **figures.LINE)
ax.set_xticks(np.arange(len(levels)))
label_levels(ax, levels, weights_left).set_ylabel("bias amplification")
_ = ax.legend()

# %% tags=["remove-input"]
finding(say.calibration(), figure="fig-cifar10s-calibration")

# %% [markdown]
# To *override* is to replace a pruned model's decisions where the dense model was unsure: by the dense model's own, or by the true label, which stands for a person who looks.
# {numref}`fig-cifar10s-overrides` crosses overriding with calibration.
# Two controls replace as many decisions: at random, and where the pruned model itself is least sure.

# %% mystnb={"figure": {"caption": "Bias amplification (left) and accuracy (right) at the high sparsity, mean over classes and seeds: without and with override, at the usual and at calibrated thresholds. In brackets, where decisions are replaced.", "name": "fig-cifar10s-overrides"}, "image": {"alt": "Two dot plots with a row for each kind of override and two dots a row, for usual and calibrated thresholds: bias amplification on the left, accuracy on the right."}} tags=["hide-input"]
overrides = found.overrides.sort_values("override", key=lambda how: how != "none", kind="stable")
overrides["row"] = [
    "no override" if how == "none" else f"{'true label' if how == 'label' else how} ({where})"
    for how, where in zip(overrides["override"], overrides["selection"], strict=True)
]
rows = list(dict.fromkeys(overrides["row"]))[::-1]
fig, axes = plt.subplots(1, 2, figsize=(7.4, 3.4), sharey=True)
for ax, (metric, title) in zip(axes, {"bias_amplification": "bias amplification", "accuracy": "accuracy"}.items(), strict=True):
    for calibrated, marker, name in ((False, "o", "threshold one half"), (True, "D", "calibrated thresholds")):
        chosen = overrides[overrides["calibrated"] == calibrated]
        ax.plot(chosen[metric], chosen["row"].map(rows.index), marker, label=name)
    ax.set_xlabel(title)
axes[0].axvline(0, linestyle="--", **figures.LINE)
axes[0].set_yticks(np.arange(len(rows)), rows, fontsize=8.5)
_ = fig.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2, fontsize=8.5)

# %% tags=["remove-input"]
finding(say.overrides(), figure="fig-cifar10s-overrides")

# %% tags=["remove-input"]
answer("dense-criteria-predict", "calibration-lowers-ba", "override-beats-random")

# %% [markdown]
# ## The claims, judged on photographs
#
# The same claims, margins and rule as in the chapter; the effects are those of this run.
# The {doc}`scoreboard` counts the drawn faces only.

# %% tags=["remove-input"]
judged = [
    kept.claims[f"bias.{name}"]
    for name in (
        *("accuracy-flat", "ba-flat", "uncertainty-grows", "interdependence-grows", "ba-grows"),
        *("ba-follows-uncertainty", "ba-follows-interdependence", "rare-value-underpredicted", "calibration-lowers-ba"),
        *("changes-were-uncertain", "changes-turn-negative", "dense-criteria-predict", "override-beats-random"),
    )
    if f"bias.{name}" in kept.claims
]
counts = {verdict: sum(claim["verdict"] == verdict for claim in judged) for verdict in ("shown", "contradicted", "not settled")}
Markdown(f"Of {len(judged)} claims, {', '.join(f'{count} are *{myst_text(verdict)}*' for verdict, count in counts.items())}.")

# %% tags=["remove-input"]
HTML("".join(card_html(claim) for claim in judged))

# %% [markdown]
# ## What differs from the drawn faces

# %% tags=["remove-input"]
beside = sentences.verdicts_beside(kept.claims, read_record(drawn).claims, ("these photographs", "drawn faces, kept record"))
finding(sentences.of_difference(beside))

# %% tags=["hide-input"]
beside.assign(differ=beside["differ"].map({True: "yes", False: "no"})).pipe(page_table).set_caption(
    "How the claims came out in both kept records: effect, 95% interval and verdict; those first whose verdicts differ."
)

# %% [markdown]
# Why they may differ:
#
# - **The truth is known in another way.**
#   How likely an attribute of a drawn face is can be computed, so the chapter can show the best possible classifier; of a photograph nobody knows it, and no figure here has that line.
#   In return, what a fair model should do is plain: colour should decide nothing.
# - **The bias is of another kind.**
#   A drawn face's attributes really are more frequent on one side of `Round`, and an undecided model does well to lean on it.
#   Here the hint is worthless in the test images, where both kinds are equally frequent: leaning on it gains nothing.
# - **There is a ceiling, and it is near.**
#   Bias amplification cannot exceed one half here, and dense networks may have much of that already, because a class is learned from few images of the other kind.
#   Growth then says as much about the room that was left as about pruning.
# - **Mean accuracy is a blunt measure.**
#   With nine answers in ten being no, a model that hardly finds its class any more is still right nearly as often as the majority answer; compare the two lines of {numref}`fig-cifar10s-accuracy` before reading a small fall as little.
#   The rule that finds the high sparsity looks at this accuracy, too.
# - **The attributes exclude one another.**
#   The ten classes are ten answers to one question, so their interdependence is there by construction, and the verdicts that rest on it say less.
# - **The photographs are the same for every seed.**
#   A seed draws which of them are for validation, which are turned grey, and the initial weights; for drawn faces it draws the faces too.
#   The intervals here say what another seed would bring, not what other photographs would.
# - **The classes are ten, and all skewed alike.**
#   So the correlation with the protected attribute cannot tell one class from another, and rank correlations over ten classes are coarse.
# - **A label may be wrong, and some test images nearly repeat a training image**; neither happens in drawn faces.
#
# Where the two disagree, neither is the mistake of the other: a verdict is about a setting.
# A claim that is shown on both has passed two tests that are very unlike.
#
# ## How to make it again
#
# Get CIFAR-10 in Python's format, unpack it, and put its folder in place of the word in capitals:

# %% tags=["remove-input"]
print("$ " + kept.command.replace(" -p", " \\\n    -p").replace(" --profile", " \\\n    --profile"))

# %% [markdown]
# `data/cifar10/CARD.md` describes the data and how their folder is laid out, and {doc}`how_to_run` says what else can be set.
# The run replaces the kept record, and the next build draws this page anew.
#
# To see this page for a run with other settings, keep that run under another name, and give the page its file:
#
# ```console
# $ effnotes run pruning_bias_cifar10s -p record=data/records/pruning_bias/mine.json --out mine/
# ```
#
# The record that this page shows was made like this:

# %% tags=["remove-input"]
HTML(kept.provenance_html())
