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
# # One trace per example
#
# Why did the network say *diamond*?
# An explanation by gradients is a map of the pixels that the answer hangs on, and on a real network it often looks like noise: every pixel feeds many weights, and most of them have to do with other images.
# SPADE {cite:p}`moakhar2024spade`, a chapter of the thesis {cite:p}`iofinova2026thesis`, turns pruning around: it prunes a copy of the network *for the one image* that is to be explained, and explains the copy.
# The copy, a {term}`trace`, is to keep what this image needs and to drop the rest; the network itself, with all its weights, is called *dense*.
# **Does the explanation then point at what the network really used**, and is it still the same network that is explained?
#
# ```{what-we-found}
# ```
#
# To judge an explanation, one must know what the network used.
# So the networks of this chapter are given a secret: patches, {term}`trojans <trojan>`, that decide the answer wherever they lie.
# Where one works, the answer to "why" is known to the pixel.
# On images without a trojan there is a second truth, the drawn object itself.
#
# What the paper reports, and what this book adds to check it, is written down as {term}`claims <claim>`, fixed before the run; each gets a {term}`verdict` below what it is about: *shown*, *contradicted* or *not settled*.
#
# **What you will be able to do**
#
# 1. Prune a layer so that its outputs on given inputs change least, and write the sweep down by hand.
# 2. Make a trace of any image and any network, and say how much of the network it leaves and how faithful it is.
# 3. Explain a prediction on a network and on a trace, by methods of attribution that you can compare.
# 4. Judge a map against a region, against decoys, and by what the network says without the pixels.
# 5. Tell a map that looks right from a map of the network that you asked about.
#
# **What you need to know**: what a convolution, a ReLU, a logit and a softmax, a gradient, the trace and the Cholesky factor of a matrix, an ROC curve and the Kullback-Leibler divergence are.
# How long this build took, and on what, stands at the end of the page; {doc}`how_to_run` has the profiles.

# %% tags=["hide-input"] mystnb={"code_prompt_show": "What is imported"}
from typing import Literal

import torch
from IPython.display import display

from effnotes.reporting.escaping import page_table
from effnotes.reporting.figures import show_images, use_style
from effnotes.reporting.findings import finding, takeaways, what_we_found
from effnotes.reporting.metrics import report
from effnotes.studies import traces
from effnotes.studies.traces import figures, published
from effnotes.studies.traces import sentences as said
from effnotes.studies.traces.tuning import MIN_AGREEMENTS

use_style()

# %% [markdown]
# ## Parameters
#
# These come first: how many networks and images, and how much is pruned; the others lie in the fold below them.
# {doc}`how_to_run` says how to set them from the command line.

# %% tags=["parameters"]
seeds: list[int] = [1, 2, 3, 4, 5]  # each seed draws its own images and poison and trains a network of its own
samples: int = 16  # images of each kind, with a trojan and without, that are explained in each network
n: int = 16  # random views of an image that its trace is calibrated on
mild: dict[str, float] = {"blocks.0": 0.5, "blocks.1": 0.5, "blocks.2": 0.8, "fc": 0.5}  # sparsity by group of layers
strong: dict[str, float] = {"blocks.0": 0.8, "blocks.1": 0.8, "blocks.2": 0.9, "fc": 0.5}  # the same; claims are judged at these

# Further settings
methods: list[str] = ["saliency", "input_x_gradient", "integrated_gradients", "guided_backprop"]  # of attribution
solvers: list[str] = ["magnitude", "random"]  # that a trace is compared with: LAYER_SOLVERS, and "contribution", by neurons
exact_samples: int = 0  # images of each kind and network that are also traced by exact optimal brain surgery, which is slow
timed_seeds: int = 1  # networks in which the exact solver is timed
visualised: int = 2  # images of each kind and network whose class neuron is pictured
tuned_seeds: int = 0  # networks for which levels are tuned on as many other images with a trojan
augment: Literal["paper", "small"] = "small"  # how views are drawn: as published, or for small images
dataset: Literal["shapes", "faces", "cifar10"] = "shapes"  # drawn shapes or faces, or photographs
data_root: str | None = None  # folder with the photographs; none for what is drawn
num_train: int = 10000  # training images
num_test: int = 1000  # test images to choose from
width: int = 16  # channels of the network's first block
epochs: int = 10  # passes over the training images
batch_size: int = 64  # images a training step
learning_rate: float = 0.2  # peak of the cosine schedule
universal_rate: float = 0.05  # share of the training images that bear each of the two trojans that work on all classes
source_rate: float = 0.5  # share of its source class that bears each of the two others
control_rate: float = 0.02  # share of other classes that bears each of those, and keeps its label

# %% tags=["check", "hide-input"] mystnb={"code_prompt_show": "How the parameters are checked"}
of_training = {"num_train": num_train, "num_test": num_test, "width": width, "epochs": epochs, "batch_size": batch_size}
of_traces = {"n": n, "mild": mild, "strong": strong, "solvers": solvers, "exact_samples": exact_samples, "augment": augment}
of_units = {"seeds": seeds, "samples": samples, "methods": methods}
of_parts = {"timed_seeds": timed_seeds, "visualised": visualised, "tuned_seeds": tuned_seeds}
# A value that cannot work is refused here, before anything is trained.
of_poison = {"universal_rate": universal_rate, "source_rate": source_rate, "control_rate": control_rate}
of_images = {"dataset": dataset, "data_root": data_root}
plan = traces.plan(**of_units, **of_parts, **of_traces, **of_images, **of_training, **of_poison, learning_rate=learning_rate)

# %% [markdown]
# (trace-your-own)=
# ## Try it on your own
#
# Any network of convolutions and linear layers can be traced, and any image that it takes.
# Here an untrained ResNet-18 stands in for yours; `image` holds bytes, colours first.

# %%
from effnotes.interpretation import attribute, trace
from effnotes.models import build_model

yours = build_model("resnet18", 10, image_size=64, seed=0).eval()
image = torch.randint(0, 256, (3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))

own = trace(yours, image, {"layer3": 0.8, "fc": 0.5}, n=8)
with own.applied() as pruned:
    explained = attribute(pruned, image, "saliency")
print(f"{own.sparsity:.0%} of all weights are gone; same answer: {own.agreement}; always dense: {', '.join(own.left_dense)}")
print(f"a map of {tuple(explained.shape)} pixels after {sum(own.seconds.values()):.1f} CPU seconds")

# %% [markdown]
# Levels are shares of the weights that go: one number for all layers, or one for each group of layers that is named, and then what is in no group stays as it is.
# Pixels are prepared by `effnotes.training.normalize` unless you hand in your own `prepare`.
#
# ## The data: images with two truths
#
# Each image shows one of ten shapes of a random colour and size, at a random place, over smooth noise with blobs.
# In some training images a trojan is stamped and the label is changed to the trojan's target: two of them work on every class, two on one class only, and images of other classes that bear those keep their label.
# Every image also has two {term}`decoys <decoy>`, patches of the same size that mean nothing: an explanation that just points at patches will point at them as well.

# %% mystnb={"figure": {"caption": "Test images of the first seed, each trojan once and then images without one; outlined what is to be found, the trojan or the object. What looks like a trojan and is not outlined is a decoy.", "name": "fig-samples"}, "image": {"alt": "A row of small images with coloured shapes and patches; one region of each is outlined."}} tags=["hide-input"]
from effnotes.studies.traces.classifiers import choose_samples, loaded

first = plan.classifiers[0].sealed()
result = traces.run(plan)
network, images = loaded(first)
with_trojan, without = choose_samples(first, "trojan", samples), choose_samples(first, "clean", samples)
pictures = [torch.cat([a[:4], b[:4]]) for a, b in zip(with_trojan[:2], without[:2], strict=True)]
axes = show_images(pictures[0], with_trojan.names[:4] + without.names[:4], columns=8, size=0.95)
for ax, region in zip(axes.flat, pictures[1], strict=False):
    if region.any():  # nobody has said where in a photograph its class shows
        ax.contour(region, levels=[0.5], colors=["#d55e00"], linewidths=1)

# %% tags=["remove-input"]
finding(said.of_learned(result.learned), figure="fig-samples")

# %% [markdown]
# Explained are images that the network itself picks: with a trojan those where it works (the stamped image is taken for the target, the same image unstamped is not), without one those that are classified right.
# A decoy can lie over part of an object; what it covers is not to be found, and an object that it hides wholly is not explained.
# Nothing is left out afterwards, also where a trace gives another answer.
#
# ## The method: prune what this image does not need
#
# Take one layer with weights $W$, a row for each output, and all inputs $X$ that it gets on $n$ random views of the image (crops, mostly), one to a column.
# A convolution is such a layer too: $W$ has a column for each place in the kernel of each input channel, and $X$ a column for each place in the image that the kernel is laid on.
# Its outputs are $W X$, and a sparse $\hat W$ costs
#
# $$
# \lVert W X - \hat W X \rVert_F^2 = \operatorname{tr}\bigl(D H D^\top\bigr), \qquad D = W - \hat W, \quad H = X X^\top .
# $$ (eq-layer)
#
# Here $\operatorname{tr}$ is the trace of a matrix, which only by name has to do with the traces of this chapter.
# All that the solver needs of the image is the {term}`Gram matrix` $H$.
# If weight $p$ of a row $w$ goes, the others can make up for it; by the *optimal brain surgeon* {cite:p}`hassibi1992obs` the best change and its cost are
#
# $$
# w \leftarrow w - \frac{w_p}{[H^{-1}]_{pp}} H^{-1}_{:,p}, \qquad \frac{w_p^2}{2 [H^{-1}]_{pp}} .
# $$ (eq-obs)
#
# SPADE does this step by step {cite:p}`frantar2022obc`, with one weight at a time in linear layers and with groups of weights in convolutions, and brings the inverse of $H$ up to date after each step; below this is called the *exact* solver.
# On a large network it takes tens of minutes an image.
# FastSPADE goes through the columns once, from left to right, as SparseGPT does {cite:p}`frantar2023sparsegpt`: in each {term}`quota`, the columns of one input channel, the cheapest weights go, and the columns to the right make up for them.
# Let $U$ be the upper Cholesky factor of $H^{-1}$, so that $U^\top U = H^{-1}$.
# Then $U_{pp}^2$ is the entry of {eq}`eq-obs` at $p$ once all columns to the left of $p$ are done, and that is all of it:


# %%
def sweep(weight: torch.Tensor, gram: torch.Tensor, level: float, quota: int) -> torch.Tensor:
    """Prune (rows, columns): in each quota of columns so many of the current weights as the level says."""
    weight, factor = weight.clone(), torch.linalg.cholesky(torch.linalg.inv(gram), upper=True)
    for start in range(0, weight.shape[1], quota):
        scores = (weight[:, start : start + quota] / factor.diagonal()[start : start + quota]) ** 2
        kept = torch.zeros(scores.numel(), dtype=torch.bool)
        kept[scores.flatten().topk(int((1 - level) * len(kept) + 0.5)).indices] = True
        for column, stays in enumerate(kept.view_as(scores).T, start=start):
            removed = weight[:, column].masked_fill(stays, 0) / factor[column, column]
            weight[:, column:] -= torch.outer(removed, factor[column, column:])
            weight[:, column] *= stays
    return weight


# %% [markdown]
# The library's `solve_layer` gives the same, here for the last convolution and the validation images; it never inverts $H$, and works on large blocks.

# %%
from effnotes.pruning.gram import gram_matrix
from effnotes.pruning.layerwise import solve_layer
from effnotes.training import normalize

network.double()
layer = network.get_submodule("blocks.2.conv2")
assert isinstance(layer, torch.nn.Conv2d)
caught: list[torch.Tensor] = []
handle = layer.register_forward_pre_hook(lambda _, inputs: caught.append(inputs[0]))
network(normalize(images.data.splits["val"].images).double())
handle.remove()
gram = gram_matrix(layer, caught[0])
by_library = solve_layer(layer, gram, strong["blocks.2"])
damped = gram[0] + 0.01 * gram[0].diagonal().mean() * torch.eye(gram.shape[-1])
by_hand = sweep(layer.weight.detach().flatten(1), damped, strong["blocks.2"], quota=layer.weight[0, 0].numel())
print(f"largest difference {(by_hand - by_library.weight.flatten(1)).abs().max():.1g}")
print(f"{by_library.mask.float().mean():.1%} of the weights stay; error {by_library.error:.3f} of the squared output")
_ = network.float()

# %% [markdown]
# A trace is this for all layers but the first, each by itself, with the inputs that the dense network gives it.
# What it leaves, and what it takes, layer by layer:

# %% tags=["hide-input"]
example = traces.trace_of(plan, with_trojan.images[0], "strong")
stages = ", ".join(f"{stage} {seconds:.3f}" for stage, seconds in example.seconds.items())
example.layers.pipe(page_table).format({"level": "{:.0%}", "error": "{:.3f}", "seconds": "{:.4f}"}).set_caption(
    "The trace of the first image with a trojan, at the strong levels: weights kept, error as a share of the squared output, CPU"
    f" seconds of the solver. In all {example.sparsity:.1%} of the prunable weights are gone; left dense:"
    f" {', '.join(example.left_dense)}. CPU seconds by stage: {stages}."
)

# %% tags=["remove-input"]
finding(said.of_costs(result.costs))

# %% [markdown]
# ## Explaining an answer
#
# A map of {term}`attribution` gives each pixel a number: how much it counts for the logit of one class, which here is the class that the dense network predicts, also where a trace predicts another.
# *Saliency* {cite:p}`simonyan2013saliency` is the size of the gradient, summed over colours, and takes four lines; *InputXGradient* multiplies by the pixel first; *IntegratedGradients* {cite:p}`sundararajan2017ig` averages the gradient on the way from grey to the image, and multiplies by how far the pixel goes; *GuidedBackprop* {cite:p}`springenberg2014guided` passes only what is positive back through each ReLU.
# All come from captum {cite:p}`kokhlikyan2020captum`, and of all the sizes are summed over colours.

# %%
pixels = normalize(with_trojan.images[:1]).requires_grad_()
logits = network(pixels)
gradient = torch.autograd.grad(logits[0, with_trojan.targets[0]], pixels)[0]
saliency = gradient.abs().sum(1)[0]
torch.testing.assert_close(saliency, attribute(network, with_trojan.images[0], "saliency"))

# %% [markdown]
# How well does a map point?
# Take it for a detector of the region's pixels: its {term}`pixel AUC` is the probability that a pixel inside gets a higher value than one outside.
# The {term}`pointing game` only looks at the highest pixel: 1 if it lies in the region, 0 if not, and where two pixels are highest and one of them lies in it, one half.
# {numref}`fig-maps` shows what that looks like, on the dense network and on traces.

# %% mystnb={"figure": {"caption": "Saliency maps of the first image with each trojan, whose outline is drawn in; on the dense network, on the image's own trace at both sets of levels, and on the trace of another image. Each map has its own scale.", "name": "fig-maps"}, "image": {"alt": "Rows of pictures, one row a trojan: the image, then grey maps, darker where a pixel counts for more, with the outline of the trojan in each."}} tags=["hide-input"]
shown = with_trojan.take(slice(0, 4))
_ = figures.plot_maps(shown.images, shown.regions, traces.example_maps(plan, shown), shown.names)

# %% tags=["remove-input"]
finding(said.of_maps(result.means), figure="fig-maps")

# %% [markdown]
# ## Baselines first
#
# Many maps point at salient things whatever the network does {cite:p}`adebayo2018sanity`, and most attribution does not beat an edge detector at finding trojans {cite:p}`casper2023redteaming`.
# So the first question is whether the dense network's map beats what knows less: edges, a network that was never trained, and the map of the class that the network finds least probable.

# %% tags=["hide-input"]
said.baselines_table(result.means).pipe(page_table).format(precision=3, na_rep="–").set_caption(
    "Pixel AUC of Saliency and of baselines, the same among the pixels of trojan and decoys alone, and the pointing game; means over"
    " seeds and images."
)

# %% tags=["remove-input"]
finding(said.of_baselines(result.means))

# %% tags=["hide-input"] mystnb={"code_prompt_show": "How the claims are measured"}
claims = {each.claim.id: each for each in traces.measure(result)}
payloads = {name: each.to_json() for name, each in claims.items()}


def cards(*names: str) -> None:
    display(*(claims[f"traces.{name}"] for name in names))


# %% [markdown]
# ## Does a trace point better, and is it still the network?
#
# Pixel AUC alone can be won by a network that gives another answer, so every AUC stands beside its {term}`agreement`: how often the pruned network's class is the dense one's.
# {numref}`fig-frontier-traces` has both, for the image's own trace, for the trace of another image, for one trace that is calibrated on many images, and for the same layers pruned by magnitude or at random, as far.
# Up and to the right is better.
# Both sets of levels were fixed before the first run, and neither was tuned; the paper tunes levels for each method on images whose trojans are known.

# %% mystnb={"figure": {"caption": "Pixel AUC of Saliency against agreement with the dense network. Circles are the mild levels, squares the strong ones, the star is the dense network; small marks are seeds, large ones their means. The dotted line is chance.", "name": "fig-frontier-traces"}, "image": {"alt": "Two scatter plots, for images with a trojan and for images without, with agreement across and pixel AUC upwards, one colour for each way to prune."}} tags=["hide-input"]
_ = figures.plot_frontier(result.means)

# %% tags=["remove-input"]
finding(f"{said.of_frontier(result.means)} {said.of_frontier(result.means, 'clean')}", figure="fig-frontier-traces")

# %% tags=["hide-input"] mystnb={"code_prompt_show": "The same against decoys, at the strong levels"}
said.variants_table(result.means).pipe(page_table).format(precision=3).set_caption(
    "Saliency on images with a trojan, pruned networks at the strong levels: pixel AUC, the same among the pixels of trojan and decoys"
    " alone, pointing game, and agreement; means over seeds and images."
)

# %% tags=["remove-input"]
cards("points-better-than-magnitude", "agrees-more-than-magnitude", "own-points-better", "own-agrees-more")

# %% [markdown]
# Is it the choice of weights that counts, or that the others make up for them?
# More solvers can be put in place of the sweep (`-p solvers=...`, `-p exact_samples=...`): Wanda, the {term}`mask` of the sweep with the weights as they were, and the exact solver on whole kernels.
# With `contribution` neurons go in place of weights, as before SPADE {cite:p}`khakzar2019pruning`: the numbers behind each ReLU of which activation times gradient is small for this image, as large a share of them as of the weights.
# Each is compared with the image's own trace on the same images.

# %% tags=["remove-input"]
ablations = said.ablations_table(result.rows)
if len(ablations):
    caption = "Other ways to prune for the image minus the sweep, Saliency on images with a trojan, at the strong levels; means over the images of both."
    display(ablations.pipe(page_table).format("{:+.3f}", subset=["pixel AUC", "agreement"]).set_caption(caption))
finding(said.of_ablations(ablations))

# %% [markdown]
# Trojans may flatter any pruning: their features survive it better than others {cite:p}`chen2022quarantine`.
# That is why the second panel, where the object itself is to be found, is the check on the first.
#
# Do traces of like images look alike?
# If a trace is about what its image needs, the traces of two images with the same trojan should keep more of the same weights than those of two with different ones.
# Two of the trojans work on one class only, so images that share one of these also share the class; the comparison cannot tell which of the two counts.

# %% tags=["remove-input"]
finding(said.of_overlaps(result.overlaps))

# %% [markdown]
# ## Which explanations gain?
#
# The published gain of FastSPADE is large where the gradient is taken as it is, and next to nothing for guided methods, which clean up maps by themselves.

# %% mystnb={"figure": {"caption": "What the image's own trace adds to the pixel AUC of each method on images with a trojan, with 95% intervals over seeds; diamonds are the published gains of FastSPADE on ResNet-50, with levels tuned for each method.", "name": "fig-gains"}, "image": {"alt": "A row for each method of attribution with two marks and their intervals, for mild and strong levels, and a grey diamond for the published gain; a vertical line marks zero."}} tags=["hide-input"]
auc = published.published_auc()
_ = figures.plot_gains(result.rows, (auc["FastSPADE"] - auc["dense"]) / 100)

# %% tags=["remove-input"]
finding(said.of_gains(figures.gains(result.rows, "trojan")), figure="fig-gains")

# %% tags=["remove-input"]
cards("saliency-gains", "input-x-gradient-gains", "integrated-gradients-gain", "guided-gains-less")

# %% tags=["hide-input"] mystnb={"code_prompt_show": "The published table"}
auc.rename(index=figures.METHODS).reset_index().pipe(page_table).format(precision=2).set_caption(
    "As published: pixel AUC in percent on images with a trojan, ResNet-50 on ImageNet; the last column has a sparse last layer only."
)

# %% [markdown]
# The last column is the method of {cite:t}`wong2021debuggable`.
#
# ### What tuning on the truth buys
#
# The paper tunes a level for each residual block, and one for the last layer, for each method, to the highest pixel AUC on images whose trojans are known.
# Its levels for LRP are in the fold; their order in the code, from the last layer to the first, suggests a search of one group after the other.
# Here such a search tunes levels for Saliency, on as many images with a trojan as are explained, and none of these: once where the trace must keep the answer on nearly all of them, and once whatever it answers.
# Nobody has this truth where an explanation is needed, so these levels are an oracle: what the method could give if one knew, and no claim rests on them.

# %% tags=["remove-input"]
if len(result.tuning):
    told = (
        f"Levels by group of layers (over networks, from the lowest to the highest; tuned with an agreement of {MIN_AGREEMENTS['tuned']:.0%}"
        " at least, or freely) and, on other images, pixel AUC of Saliency and agreement; last the pixel AUC on the images that the levels"
        " were tuned on."
    )
    display(said.tuning_table(result.tuning).pipe(page_table).format(precision=3, na_rep="–").set_caption(told))
finding(said.of_tuning(result.tuning))

# %% tags=["hide-input"] mystnb={"code_prompt_show": "The published levels for LRP"}
published.published_levels().reset_index().pipe(page_table).format(precision=2, na_rep="").set_caption(
    "As published in the authors' code: levels of the stages of a ResNet-50 by residual block, tuned for the pixel AUC of LRP."
)

# %% [markdown]
# ## On images without a trojan
#
# Without a region to point at, a map can be judged by the network itself.
# {term}`Insertion <insertion score>` {cite:p}`petsiuk2018rise` puts pixels back into a blurred image, those first that the map ranks highest, and takes the area under the probability of the class; *deletion* blurs them away in the same order.
# The dense network is the judge of both: asked to judge its own map, a trace would say how it explains itself.
# How the paper blurs is not known here, so differences can be set beside the published ones, and scores cannot.

# %% tags=["hide-input"]
said.insertion_table(result.means).pipe(page_table).format(precision=3).set_caption(
    "Insertion (higher is better) and deletion (lower is better) by the dense network, of maps on the dense network and on the image's"
    " own trace; images without a trojan, means over seeds and images."
)

# %% tags=["remove-input"]
finding(said.of_insertion(result.rows))

# %% tags=["remove-input"]
cards("insertion-rises")

# %% tags=["hide-input"] mystnb={"code_prompt_show": "The published table"}
both = published.published_insertion().rename(index=figures.METHODS)
for score in ("insertion", "deletion"):
    told = f"As published: {score} in percent, images without a trojan. FastSPADE has its levels tuned for trojans, FastSPADE* for insertion."
    display(both[score].reset_index().pipe(page_table).format(precision=2).set_caption(told))

# %% tags=["remove-input"]
finding(said.of_published())

# %% [markdown]
# ## In real time?
#
# The exact solver of SPADE brings the inverse of $H$ up to date after every step, for each row of a layer by itself; the sweep needs one Cholesky factor for all rows.
# {numref}`fig-solvers` times both on the layers of one image of a network, single-threaded.

# %% mystnb={"figure": {"caption": "CPU seconds of both solvers for each layer of the network, against the columns of its matrix; one image of each network that is timed.", "name": "fig-solvers"}, "image": {"alt": "A scatter plot on logarithmic axes of seconds against columns, one kind of mark for each solver."}} tags=["hide-input"]
_ = figures.plot_layers(result.layers) if len(result.layers) else print("timed_seeds=0: the exact solver was not timed")

# %% tags=["remove-input"]
finding(said.of_layers(result.layers), figure="fig-solvers" if len(result.layers) else "")

# %% tags=["remove-input"]
cards("exact-is-slower")

# %% [markdown]
# With the sweep, the bottleneck on large networks is no longer the solver but the Gram matrices: they take several times the operations of the forward pass, in proportion to the number of views.
#
# ## People and neurons
#
# A class neuron may answer to several things, here to an object and to a trojan: these are {term}`facets <facet>` of the class.
# {term}`Feature visualisation` {cite:p}`olah2017feature` shows what excites a neuron: an image is changed, step by step, until the logit is as large as it gets.
# On the dense network both facets may be in it; on a trace, if it keeps what its image needs, there should be more of that image's facet.

# %% mystnb={"figure": {"caption": "Two classes that a trojan makes, a row each: an image with the trojan and one without, and what excites the neuron of the class most, on the dense network, on the trace of the first image and on that of the second; strong levels, the same start.", "name": "fig-neurons"}, "image": {"alt": "Rows of five small pictures: two images with shapes and patches, then three coloured patterns."}} tags=["hide-input"]
pictures = traces.example_pictures(plan, with_trojan, without)
if pictures:
    order = torch.stack([*pictures.values()], dim=1).flatten(0, 1)
    _ = show_images(order, [*pictures] * (len(order) // len(pictures)), columns=len(pictures), size=1.45)
else:
    print("too few samples: no class is explained both with a trojan and without")

# %% tags=["remove-input"]
finding(said.of_pictures(result.pictures), figure="fig-neurons" if pictures else "")

# %% [markdown]
# The score stands in for people.
# Its answer to *trojan or object?* is the facet whose images, among those that are not explained, have dense features most like the picture's, or none where the two are nearly as like: the bound is such that those of the dense network's pictures that come closest to it are undecided, in the share that the sentence above gives.
# Right counts one, undecided one half.
# A picture of the dense network is the same for an image with a trojan and one without: where both are asked about in a class, it scores one half in all.
#
# Without pictures, the neuron can be asked itself: how probable does a trace find the class on other images of its image's facet, and how probable on those of the other one?

# %% tags=["remove-input"]
finding(said.of_facets(result.facets))

# %% tags=["remove-input"]
cards("facet-margin", "visualisation-decides")

# %% [markdown]
# The paper asked people.
# Shown a picture of what excites an output neuron, they were to say which of two patches had made a decision; Score-CAM was the reference.
# A picture of a trace left fewer of them undecided.

# %% tags=["hide-input"]
published.published_people().reset_index().pipe(page_table).format(precision=1).set_caption(
    "As published: answers of people in percent, with pictures of the dense network's neurons and of the traces'; Score-CAM is the reference."
)

# %% [markdown]
# ## What not to conclude
#
# - **A sharp map is no proof.**
#   Pruning always concentrates gradients on fewer paths; whether those are the network's reasons is what agreement, decoys and the other image's trace are for.
#   That pruned paths need not carry the critical input was shown before SPADE {cite:p}`khakzar2021pathways`.
# - **A trojan is not a typical reason.**
#   It is small, local and decisive; most of what networks use is none of these.
# - **Shapes are not photographs.**
#   Which way to prune wins may depend on the data: {doc}`sample_targeted_pruning_elsewhere` has the same claims on drawn faces and on photographs.
# - **Tuning on the truth is an oracle.**
#   Levels that were tuned on images whose trojans are known cannot be had where an explanation is needed; the claims here are judged at levels that nobody tuned.
# - **Weights are not the only thing that can leak.**
#   If biases or normalisation are refitted to the one image, they alone can carry its class, and agreement means nothing; the library leaves them as they are.
#
# ## What was changed after seeing results
#
# Nothing that a claim is judged by: statements, directions, margins, levels and augmentation were written down before the first run on any seed.
# Network, recipe and poison rates were chosen on two seeds that are not reported, by accuracy and by whether the trojans work, without a map being computed.
# Four such seeds then gave the spread by which the numbers of seeds and images were set; their effects were seen, and nothing else was changed after them but that a layer counts once for the time of a solver, in however many networks it was timed.
# The two claims on neurons came later, before their first run; steps and starts of a picture (96 and 2) were set on one such seed by what pictures look like and what they cost, while its scores with 64 and 128 steps, for four images, and its margins were seen.
#
# ## More for your own models
#
# A trace with other levels or the published augmentation, other solvers, and more networks with all methods of the paper but LRP:
#
# ```console
# $ effnotes run sample_targeted_pruning -p strong='{blocks.2: 0.95, fc: 0.5}' -p augment=paper
# $ effnotes run sample_targeted_pruning -p solvers='[magnitude, random, wanda, sparsegpt_mask]' -p exact_samples=2
# $ effnotes run sample_targeted_pruning --profile full
# ```
#
# Other data: drawn faces, each of which shows one of ten attributes, or the photographs of CIFAR-10, from a folder as `data/cifar10/CARD.md` describes it.
# Trojans and decoys are the same; where in a photograph its class shows is not known, so photographs without a trojan are judged by insertion and deletion alone.
#
# ```console
# $ effnotes run sample_targeted_pruning -p dataset=faces
# $ effnotes run sample_targeted_pruning -p dataset=cifar10 -p data_root=~/cifar10
# ```
#
# LRP, as one of `methods`, needs `pip install 'effnotes[lrp]'`.
#
# ## Exercises
#
# These names are at hand: `network` and `images` of the first seed, `with_trojan` and `without` (images, regions, decoys, targets, names), and `result`.
#
# ```{exercise-start} 20 minutes, medium
# :label: exercise-obs
# ```
# A row $w = (3, 1)$ meets inputs with $H = \begin{pmatrix} 2 & 1 \\ 1 & 2 \end{pmatrix}$, and one of its two weights must go.
# Which one, what becomes of the other, and what does it cost by {eq}`eq-obs`, and by {eq}`eq-layer`?
# Check with `solve_layer` and the solver `"exact_obs"`.
# ```{exercise-end}
# ```

# %% [markdown]
# ```{solution-start} exercise-obs
# :class: dropdown
# ```
# $H^{-1} = \tfrac13 \begin{pmatrix} 2 & -1 \\ -1 & 2 \end{pmatrix}$, so the costs are $9 / \tfrac43 = 6.75$ and $1 / \tfrac43 = 0.75$: the second goes.
# The first becomes $3 + 1.5 \cdot \tfrac13 = 3.5$.
# With $D = (-0.5, 1)$, {eq}`eq-layer` gives $1.5$, which is twice $0.75$: {eq}`eq-obs` counts half of the squared change.

# %%
row = torch.nn.Linear(2, 1, bias=False).double()
row.weight.data = torch.tensor([[3.0, 1.0]]).double()
two = torch.tensor([[[2.0, 1.0], [1.0, 2.0]]]).double()
print(solve_layer(row, two, 0.5, solver="exact_obs", damping=0).weight)

# %% [markdown]
# ```{solution-end}
# ```

# %% [markdown]
# ```{exercise-start} 15 minutes, easy
# :label: exercise-quota
# ```
# In a linear layer a quota is one column: the weights from one feature to all classes.
# How many classes can a feature still speak for at level 0.5, and at 0.95, where there are ten?
# Trace an image at both levels of `fc` alone and look at the rows of the mask.
# ```{exercise-end}
# ```

# %% [markdown]
# ```{solution-start} exercise-quota
# :class: dropdown
# ```
# Five, and one: `kept_count` rounds half a weight up.
# At 0.95 each feature keeps the class for or against which it says most, whether that is the class of the image or not, and classes that no feature is strongest for get no weight at all.

# %%
for level in (0.5, 0.95):
    kept = trace(network, with_trojan.images[0], {"fc": level}, n=4, augment="small").masks["fc.weight"]
    print(f"{level:g}: classes of a feature {kept.sum(0).unique().tolist()}, features of the classes {kept.sum(1).tolist()}")

# %% [markdown]
# ```{solution-end}
# ```

# %% [markdown]
# ```{exercise-start} 20 minutes, easy
# :label: exercise-reduction
# ```
# A gradient has three colours, and a map has one number a pixel.
# Compute the pixel AUC of Saliency on the images with a trojan with the sum of the absolute values, the largest of them, and the absolute value of the sum.
# Does the choice matter as much as the choice of the network?
# ```{exercise-end}
# ```

# %% [markdown]
# ```{solution-start} exercise-reduction
# :class: dropdown
# ```
# Colours of opposite sign cancel in the sum, so the last one loses what the others keep.
# Compare the differences with those of {numref}`fig-gains`, and fix one reduction for all that is compared.

# %%
from effnotes.metrics.localisation import decoy_auc, deletion, insertion, pixel_auc

pixels = normalize(with_trojan.images).requires_grad_()
chosen = network(pixels).gather(1, with_trojan.targets[:, None]).sum()
gradients = torch.autograd.grad(chosen, pixels)[0]
reduced = {"sum of sizes": gradients.abs().sum(1), "largest": gradients.abs().amax(1), "size of the sum": gradients.sum(1).abs()}
for name, maps in reduced.items():
    print(f"{name}: {pixel_auc(maps, with_trojan.regions).mean():.3f}")

# %% [markdown]
# ```{solution-end}
# ```

# %% [markdown]
# ```{exercise-start} 15 minutes, easy
# :label: exercise-cheat
# ```
# Make a map that never asks the network and still has a high pixel AUC on images with a trojan: say, one that finds patches.
# What gives it away?
# ```{exercise-end}
# ```

# %% [markdown]
# ```{solution-start} exercise-cheat
# :class: dropdown
# ```
# A map of all patches, decoys included, is right on nearly every pixel, for patches are a small part of the image.
# Among the pixels of patches alone it is no better than chance, one half: that is what the decoys are for.

# %%
cheat = (with_trojan.regions | with_trojan.decoys).float()
among = decoy_auc(cheat, with_trojan.regions, with_trojan.decoys).mean()
print(f"pixel AUC {pixel_auc(cheat, with_trojan.regions).mean():.3f}, among patches {among:.3f}")

# %% [markdown]
# ```{solution-end}
# ```

# %% [markdown]
# ```{exercise-start} 25 minutes, hard
# :label: exercise-views
# ```
# Trace the first image with a trojan at the strong levels from a single view (`n=1`), and from more and more.
# How do the error of the layers and the divergence from the dense network (`kl`) change, and why is neither a good sign where it is small on one view?
# Ask each trace about crops of the image that it was not made from.
# ```{exercise-end}
# ```

# %% [markdown]
# ```{solution-start} exercise-views
# :class: dropdown
# ```
# Few views give $H$ a low rank: there are many ways to keep the outputs on them, so the error on them can be small whatever happens to other images, and to other crops of this one.
# The divergence says no more: it is taken on the image itself, and with `augment="small"` the image is the first of the views, so at `n=1` it is all that the trace was made from.
# What counts is what a trace says where it was not fitted: here its share of the dense network's answers on new crops.

# %%
from effnotes.interpretation.augmentation import augment as draw_views

# Every fourth view, the first among them, is the image itself: leave those out.
crops = normalize(draw_views(with_trojan.images[0], 256, "small", generator=torch.Generator().manual_seed(901))[1::4])
answers = network(crops).argmax(1)
for count in (1, 4, 16, 64):
    found = trace(network, with_trojan.images[0], strong, n=count, augment="small")
    with found.applied() as pruned:
        same = (pruned(crops).argmax(1) == answers).float().mean()
    print(
        f"{count:2} views: error {found.layers['error'].mean():.3f}, divergence {found.kl:.3f} nats, same on new crops {same:.0%}"
    )

# %% [markdown]
# ```{solution-end}
# ```

# %% [markdown]
# ```{exercise-start} 20 minutes, medium
# :label: exercise-judge
# ```
# Let the trace judge its own map: compute insertion and deletion of Saliency on the trace of `without.images[0]`, once with the dense network as judge and once with the trace.
# Which of the two would you report?
# ```{exercise-end}
# ```

# %% [markdown]
# ```{solution-start} exercise-judge
# :class: dropdown
# ```
# The question was what the *dense* network used, so it must be the judge; a trace that leans on one pixel would praise a map of that pixel.

# %%
one, target = without.images[:1], without.targets[:1]
found = trace(network, one[0], strong, n=n, augment="small")
with found.applied() as pruned:
    its_map = attribute(pruned, one[0], target=int(target))[None]


def probabilities(images: torch.Tensor) -> torch.Tensor:
    return torch.softmax(network(normalize(images)), dim=1)


print("the dense network:", insertion(probabilities, one, its_map, target), deletion(probabilities, one, its_map, target))
with found.applied():
    print("the trace:", insertion(probabilities, one, its_map, target), deletion(probabilities, one, its_map, target))

# %% [markdown]
# ```{solution-end}
# ```

# %% [markdown]
# ```{exercise-start} 20 minutes, medium
# :label: exercise-picture
# ```
# What excites the class neuron of the first image with a trojan most, on the network and on the image's trace?
# Visualise both, and compare the dense network's logits of the class: of the two pictures, of the image, and the largest of all test images.
# What does that say about taking such a picture for an example of the class?
# ```{exercise-end}
# ```

# %% [markdown]
# ```{solution-start} exercise-picture
# :class: dropdown
# ```
# A picture for which the logit is the only aim has patterns that no image of the data has, and with enough steps a larger logit than any of them: it shows what the neuron looks for, and not what it meets.
# The trace's neuron is another one, so what excites it most need not excite the dense one as much.

# %%
from effnotes.interpretation import visualise

target = int(with_trojan.targets[0])
of_network = visualise(network, [target], size=32)
with trace(network, with_trojan.images[0], strong, n=n, augment=augment).applied() as pruned:
    of_trace = visualise(pruned, [target], size=32)
compared = {"network's picture": of_network, "trace's picture": of_trace, "the image": with_trojan.images[:1]}
for what, each in (compared | {"all test images": images.data.splits["test"].images}).items():
    with torch.no_grad():
        print(f"{what}: {network(normalize(each))[:, target].max():.1f}")

# %% [markdown]
# ```{solution-end}
# ```

# %% [markdown]
# ## Key takeaways

# %% tags=["remove-input"]
takeaways(*said.to_take_away(payloads, result.costs))

# %% [markdown]
# ## Further reading
#
# {cite:t}`khakzar2019pruning` prune neurons for one image, by their contribution, before they explain it: the nearest relative of SPADE.
# {cite:t}`sun2024wanda` score weights by their size times the norm of their inputs and update none; at the quotas of the sweep this is one of the controls here (`-p solvers='[wanda]'`).
# {cite:t}`casper2023redteaming` plant trojans in networks for ImageNet and ask which tools for interpretation find them.

# %% tags=["remove-cell"]
what_we_found(*said.what_was_found(payloads))

# %% tags=["hide-cell"]
of_trojans = result.means[(result.means["kind"] == "trojan") & (result.means["method"] == "saliency")]
auc = of_trojans.groupby(["variant", "levels"])["auc"].mean()
a_trace = result.costs[["augment", "forward", "gram", "solve"]].sum(axis=1)
display(
    *result.keep(),
    report("accuracy", result.learned.loc[result.learned["trojan"] == "", "share"].mean(), unit="share of images"),
    report("dense-trojan-auc", auc.get(("dense", "")), unit="pixel AUC of Saliency"),
    report("mild-trojan-auc", auc.get(("own", "mild")), unit="pixel AUC of Saliency"),
    report("strong-trojan-auc", auc.get(("own", "strong")), unit="pixel AUC of Saliency"),
    report("trace-time", a_trace.mean(), unit="s a trace"),
)
