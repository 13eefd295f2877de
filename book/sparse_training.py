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
# # Training sparse networks
#
# The pruned networks whose bias {doc}`chapter 1 <pruning_bias>` measures had to come from somewhere, and this page is about where they come from.
# It follows Peste's thesis {cite:p}`peste2023thesis`, which asks of sparse networks what this book asks of cheap ones: which dense network does a sparse one agree with, what does it learn by heart, what do its features serve, and how predictable is the damage of compression?
# Its systems are AC/DC {cite:p}`peste2021acdc`, which trains a sparse and a dense network in one run, a study of how sparse networks transfer {cite:p}`iofinova2022transfer`, and CrAM {cite:p}`peste2023cram`, which trains a dense network that can be pruned in one step.
#
# ```{what-we-found}
# ```
#
# **What you will be able to do**
#
# 1. Train a sparse network and its dense twin in one run, and say what that cost.
# 2. Tell whether two networks agree more than two that were trained by themselves.
# 3. Say of a sparse network how it transfers, and why that depends on how it is tuned.
# 4. Write CrAM's step down, and prune what it trains without training again.
#
# **What you need to know**: {term}`magnitude pruning`, {term}`masks <mask>`, batch normalisation, SGD with momentum.

# %% tags=["hide-input"] mystnb={"code_prompt_show": "What is imported"}
from typing import Any

import torch
from IPython.display import display

from effnotes.reporting.claims import what_was_found
from effnotes.reporting.escaping import page_table
from effnotes.reporting.figures import show_images, use_style
from effnotes.reporting.findings import finding, takeaways, what_we_found
from effnotes.reporting.metrics import report
from effnotes.studies import sparse_training
from effnotes.studies.sparse_training import figures
from effnotes.studies.sparse_training import sentences as said

use_style()

# %% [markdown]
# ## Parameters

# %% tags=["parameters"]
seeds: list[int] = [1, 2, 3, 4, 5]  # each is a unit: images, initial weights and order of its own
methods: list[str] = ["acdc", "transfer", "cram"]  # systems that are run; what another one would show is left out
sparsity: float = 0.9  # share of weights that AC/DC, gradual pruning, CrAM with one level and the ticket leave out
levels: list[float] = [0.5, 0.9, 0.95]  # one-shot sparsities of dense networks, the one above among them

# Further settings
multi: list[float] = [0.5, 0.7, 0.9, 0.95]  # sparsities that CrAM-Multi draws from
patterns: list[str] = ["2:4", "4:8"]  # patterns that CrAM-N:M draws from; the width is to be a multiple of their groups
rho: float = 0.05  # length of CrAM's ascent step, in gradients
epochs: int = 18  # of AC/DC and the networks beside it; CrAM has half of them, as its steps take two passes
learning_rate: float = 0.1  # peak of the cosine schedule
width: int = 16  # channels of the first block of the ResNet-8
num_train: int = 640  # training images of a seed
num_test: int = 1000  # test images of a seed
corrupted: float = 0.1  # share of wrong labels where learning by heart is measured, over twice the epochs
memory_sparsity: float = 0.95  # of AC/DC there
task_train: int = 240  # training images of each downstream task
task_test: int = 500  # its test images
task_epochs: int = 8  # of full fine-tuning
task_rate: float = 0.05  # its learning rate
published: str = "data/transfer/published.csv"  # published means of transfer

# %% tags=["check", "hide-input"] mystnb={"code_prompt_show": "How the parameters are checked"}
of_runs: dict[str, Any] = {"seeds": seeds, "methods": methods, "epochs": epochs, "learning_rate": learning_rate, "width": width}
of_pruning: dict[str, Any] = {"sparsity": sparsity, "levels": levels, "multi": multi, "patterns": patterns, "rho": rho}
of_data: dict[str, Any] = {"num_train": num_train, "num_test": num_test, "corrupted": corrupted, "memory_sparsity": memory_sparsity}
of_tasks: dict[str, Any] = {"task_train": task_train, "task_test": task_test, "task_epochs": task_epochs, "task_rate": task_rate}
# A value that cannot work is refused here, before anything is trained.
plan = sparse_training.plan(**of_runs, **of_pruning, **of_data, **of_tasks, published=published)

# %% [markdown]
# ## The data: glyphs with a style
#
# A network that trains in seconds needs small images: ten classes of drawn {term}`glyphs <glyph>`, grey, with noise, and a share of the training images blended with a second class.
# So that bias can be measured, a style hangs together with the class: of every other class most images are dark on bright, of the others few.

# %% mystnb={"figure": {"caption": "One test image of each class, and above it its style.", "name": "fig-glyphs"}, "image": {"alt": "Ten small grey images of shapes such as a disc, a ring and a star, some bright on dark and some dark on bright."}} tags=["hide-input"]
from effnotes.studies.sparse_training.training import DARK, glyphs

drawn = glyphs(seeds[0], num_train, num_test, 0.0)
test, names = drawn.data.splits["test"], list(DARK)
first = [int((test.labels == number).nonzero()[0]) for number in range(len(names))]
titles = [f"{name}\n{'dark' if drawn.minority['test'][at] else 'bright'}" for name, at in zip(names, first, strict=True)]
_ = show_images(test.images[first], titles, columns=5)

# %% tags=["remove-input"]
share = drawn.minority["train"].float().mean()
finding(f"{len(names)} classes; {share:.0%} of the training images are dark on bright.", figure="fig-glyphs")

# %% [markdown]
# ## AC/DC: two networks from one run
#
# Let $m$ be the mask of the weights that stay, and $\operatorname{TopK}$ the one that keeps the largest over all layers.
# After a dense warm-up AC/DC alternates: *compress* sets $m = \operatorname{TopK}(|w|)$ and $w \leftarrow m \odot w$ and trains what is left; *decompress* sets $m = 1$, so that pruned weights come back, at zero and with their momentum at zero.
# The last phase is sparse, and gives the sparse network; the same run finished densely from that point on gives a dense one.
# The core of it is this.


# %%
def phase(weight: torch.Tensor, keep: float, steps: int, gradient: Any, rate: float = 0.1) -> torch.Tensor:
    """Compress to a share of weights, or to all for a dense phase, and train on."""
    count = max(1, round(keep * len(weight)))
    mask = torch.zeros_like(weight).index_fill(0, weight.abs().topk(count).indices, 1.0)
    for _ in range(steps):
        weight = mask * (weight - rate * gradient(weight))
    return weight


target = torch.tensor([0.1, 3.0, -2.0, 0.5])
weight = torch.tensor([1.0, 0.1, -0.2, 0.0])
for keep in (0.5, 1.0, 0.5):
    weight = phase(weight, keep, 8, lambda now: now - target)
    print(f"{keep:.0%} of the weights:", [round(float(each), 2) for each in weight])

# %% [markdown]
# The first mask keeps a weight that is no use; after a dense phase the next one keeps those that are.
# In the library the schedule is `AlternatingSchedule`, the hook `CourseHook`, and the dense finish a `fork` of the run.
#
# ### What it gives, and what it costs
#
# A sparse epoch needs fewer operations, layer by layer as many as weights are left.
# The *cost* is their share of a dense run's, which sparse kernels could reach and dense ones do not.

# %% tags=["hide-input"]
result = sparse_training.run(plan)
decimals: Any = dict.fromkeys(("sparsity", "accuracy", "worst class", "bias", "cost"), "{:.3f}")
said.costs_table(result.outcomes, result.course, epochs).pipe(page_table).format(decimals | {"emptied": "{:.0f}"}).set_caption(
    "Networks as they come out of training, means over seeds: sparsity, test accuracy, that of the worst class, bias amplification,"
    " the cost of the run in dense runs of this page's length, and the most layers that lost all weights. Both networks of AC/DC"
    " share one run, and the dense one adds its last phase."
)

# %% tags=["hide-input"] mystnb={"code_prompt_show": "How the claims are measured"}
claims = {each.claim.id: each for each in sparse_training.measure(result)}
payloads = {name: each.to_json() for name, each in claims.items()}


def cards(*names: str) -> None:
    display(*(claims[f"sparse.{name}"] for name in names))


# %% mystnb={"figure": {"caption": "Left: test accuracy by training, the frozen mask being AC/DC's first one; dots are seeds, bars means. Right: the share of weights on which AC/DC's mask differs from that of the compression before.", "name": "fig-acdc"}, "image": {"alt": "A bar chart of test accuracy for dense, AC/DC finished densely, AC/DC, gradual pruning and a frozen mask, and a line chart of mask changes that falls with the compressions."}} tags=["hide-input"]
_ = figures.plot_acdc(result.outcomes, result.course) if "acdc" in methods else print(said.LEFT_OUT)

# %% tags=["remove-input"]
finding(said.of_acdc(result.outcomes, result.course), figure="fig-acdc" if "acdc" in methods else "")

# %% tags=["remove-input"]
cards("acdc-accurate", "acdc-beats-gradual", "decompression-helps", "churn-falls", "dense-finish")

# %% [markdown]
# Length decides here: the published runs took far more steps between two compressions.
# A mask that has had few steps between two compressions has learnt little that could change it.
#
# ### Which dense network does a sparse one agree with?
#
# An audit of a dense network says little about a sparse one that decides otherwise.
# The two networks of one AC/DC run share all steps but the last phase.

# %% tags=["remove-input"]
finding(said.of_pairs(result.pairs))

# %% tags=["remove-input"]
cards("pair-agrees")

# %% [markdown]
# ### What is learnt by heart?
#
# A perceptron without batch normalisation learns glyphs of which a share has wrong labels, twice as long and without shifts.

# %% mystnb={"figure": {"caption": "Share of the wrong labels that are predicted after each epoch, by a dense network and by AC/DC, whose sparse phases are shaded; lines are means, bands go from the least to the largest of the seeds.", "name": "fig-memory"}, "image": {"alt": "A line chart of the share of wrong labels that are predicted against epochs, for a dense network and for AC/DC, over shaded sparse phases."}} tags=["hide-input"]
_ = figures.plot_memory(result.memory) if "acdc" in methods else print(said.LEFT_OUT)

# %% tags=["remove-input"]
finding(said.of_memory(result.memory), figure="fig-memory" if "acdc" in methods else "")

# %% tags=["remove-input"]
cards("memorises-less")

# %% [markdown]
# ## How well do sparse networks transfer?
#
# A sparse network is taken to another task in two ways: *linear*, a new classifier on its frozen features, or *full*, all weights of its frozen mask.
# Over tasks $d$ the measure is the relative error increase
#
# $$
# r = \operatorname{mean}_d \frac{e_{\text{sparse},d} - e_{\text{dense},d}}{e_{\text{dense},d}} .
# $$ (eq-increase)
#
# ### As published
#
# ResNet-50 from ImageNet, means over twelve tasks {cite:p}`iofinova2022transfer`.

# %% mystnb={"figure": {"caption": "As published: relative error increase of sparse ResNet-50s against the dense one, mean over twelve tasks, by pruning method and sparsity; the axis is linear near zero and logarithmic beyond.", "name": "fig-transfer-published"}, "image": {"alt": "Two line charts, for linear and for full fine-tuning, of relative error increase against sparsity with a line for each pruning method."}} tags=["hide-input"]
_ = figures.plot_published(figures.published(published))

# %% tags=["remove-input"]
finding(said.of_published(figures.published(published)), figure="fig-transfer-published")

# %% [markdown]
# ### Here
#
# The networks above go to three tasks of ten classes: scanned digits, coloured shapes, and the parts of drawn faces.
# The *ticket* is a lottery ticket: the largest weights of the dense network, not trained again.

# %% mystnb={"figure": {"caption": "Relative error increase against the dense network of the same seed, by task and by sparse network; dots are seeds, bars means.", "name": "fig-transfer"}, "image": {"alt": "Two bar charts, for linear and for full fine-tuning, of relative error increase on digits, shapes and faces with a bar for each of AC/DC, gradual pruning and the ticket."}} tags=["hide-input"]
_ = figures.plot_transfer(result.transfer) if "transfer" in methods else print(said.LEFT_OUT)

# %% tags=["remove-input"]
finding(said.of_transfer(result.transfer), figure="fig-transfer" if "transfer" in methods else "")

# %% tags=["remove-input"]
cards("linear-as-good", "full-costs-more", "ranking-flips", "ticket-bad-linearly")

# %% [markdown]
# One difference matters for the ticket: here features are standardised before the classifier learns, which mends much of what pruning did to their scale, while the published classifier takes them as they are.

# %% [markdown]
# ## CrAM: a dense network that can be pruned
#
# With $C$ the compression, CrAM minimises $\max_{\|\delta\| \le \rho} L(C(w + \delta))$: after a step up the gradient, the compressed network must still be good.
# To first order, and with the gradient passing straight through $C$, one step with the gradients of CrAM+ is
#
# $$
# w \leftarrow w - \eta \left[ \nabla L(w) + m \odot \nabla L\big(C(w + \rho \nabla L(w))\big) \right] ,
# $$ (eq-cram)
#
# where CrAM leaves the first gradient out.
# *Multi* draws a sparsity for each step, *N:M* a pattern.
# By hand, on two weights, and by the library:

# %%
from effnotes.pruning import compression_aware_gradients_, global_magnitude

layer = torch.nn.Linear(2, 1, bias=False)
with torch.no_grad():
    layer.weight.copy_(torch.tensor([[0.5, -0.4]]))
loss = lambda: ((layer.weight - torch.tensor([[1.0, -2.0]])) ** 2).sum()  # noqa: E731
loss().backward()
w, g = layer.weight[0].tolist(), layer.weight.grad[0].tolist()  # type: ignore[index]
up = [w[0] + 0.1 * g[0], w[1] + 0.1 * g[1]]  # the ascent step; the larger of the two stays
second = [2 * (up[0] - 1), 0.0] if abs(up[0]) > abs(up[1]) else [0.0, 2 * (up[1] + 2)]
compression_aware_gradients_(layer, loss, lambda net: global_magnitude(net, 0.5), rho=0.1)
print("by hand:", [round(a + b, 4) for a, b in zip(g, second, strict=True)], "library:", layer.weight.grad[0].tolist())  # type: ignore[index]

# %% [markdown]
# A pruned network computes with other means and variances than those its batch norms hold.
# *Recalibration* takes them anew from training images, without a gradient; here averaged over all batches, as a moving average over few batches would be off.

# %% mystnb={"figure": {"caption": "Test accuracy of dense networks pruned in one step, against sparsity, as pruned and with batch norms recalibrated; lines are means over seeds.", "name": "fig-one-shot"}, "image": {"alt": "Two line charts of accuracy against one-shot sparsity, without and with recalibrated batch norms, with a line for SGD, SGD twice as long, CrAM, CrAM+ Multi and CrAM+ Multi without ascent."}} tags=["hide-input"]
_ = figures.plot_one_shot(result.outcomes) if "cram" in methods else print(said.LEFT_OUT)

# %% tags=["remove-input"]
finding(said.of_one_shot(result.outcomes), figure="fig-one-shot" if "cram" in methods else "")

# %% tags=["remove-input"]
cards("one-shot", "dense-no-worse", "beats-sgd", "beats-equal-cost", "recalibration-matters", "ascent-matters")

# %% tags=["remove-input"]
finding(said.of_patterns(result.outcomes))

# %% tags=["remove-input"]
cards("patterns")

# %% [markdown]
# ## Is a compressible network a fairer one?
#
# One dense network that can be served at many sparsities can be audited once for each of them, before anybody prunes it.
# Whether it is also less biased is another question, asked here by chapter 1's {term}`bias amplification`: each class is read as an attribute, and the style is protected.

# %% mystnb={"figure": {"caption": "Bias amplification, mean over classes, and the accuracy of the worst class against sparsity; SGD and CrAM+ Multi pruned in one step and recalibrated, AC/DC and gradual pruning as trained; means over seeds.", "name": "fig-compressible-bias"}, "image": {"alt": "Two line charts against sparsity, of bias amplification and of the accuracy of the worst class, for SGD and CrAM+ Multi with single marks for AC/DC and gradual pruning."}} tags=["hide-input"]
_ = figures.plot_bias(result.outcomes)

# %% tags=["remove-input"]
finding(said.of_bias(result.outcomes), figure="fig-compressible-bias")

# %% tags=["remove-input"]
cards("fairer-when-pruned", "acdc-as-fair")

# %% [markdown]
# ## Try it on your own
#
# `train` takes any image classifier, and these lines make one that can be pruned:
#
# ```python
# from effnotes.pruning import CompressionAware, apply_masks_, global_magnitude
# from effnotes.training import train
#
# train(model, images, labels, recipe=recipe, seed=0, hooks=[CompressionAware([(global_magnitude, 0.9)], rho=0.05)])
# apply_masks_(model, global_magnitude(model, 0.9))
# ```
#
# ```console
# $ effnotes run sparse_training -p methods='[acdc, cram]' -p sparsity=0.95 -p epochs=100
# ```
#
# ## What was changed after seeing results
#
# Claims, margins, sparsities, length and learning rates were set on seeds 901 to 904, of which nothing is reported; the length of the ascent step is the published one for ImageNet.
# Nothing was changed after the reported seeds had been seen, but for the length of the short run that is shown here, which was cut later to save time.
#
# ## Exercises
#
# ```{exercise-start} 10 minutes, easy
# :label: exercise-acdc-cost
# ```
# Of 100 epochs 50 are dense, and a sparse network of 90% sparsity takes 0.15 of the dense operations.
# What does the run cost, in dense runs, and why is it 0.15 and not 0.1?
# ```{exercise-end}
# ```

# %% [markdown]
# ```{solution-start} exercise-acdc-cost
# :class: dropdown
# ```
# $0.5 + 0.5 \cdot 0.15 = 0.575$: early layers compute much with few weights, and keep more of them.

# %%
print(0.5 + 0.5 * 0.15)

# %% [markdown]
# ```{solution-end}
# ```

# %% [markdown]
# ```{exercise-start} 15 minutes, medium
# :label: exercise-ascent
# ```
# For $L(w) = (w_0 - 1)^2 + (w_1 + 2)^2$ at $w = (0.5, -0.4)$ and a mask of one weight, what are CrAM+'s gradients at $\rho = 0$, and which weight does the mask keep at $\rho = 0.1$?
# ```{exercise-end}
# ```

# %% [markdown]
# ```{solution-start} exercise-ascent
# :class: dropdown
# ```
# At $\rho = 0$ the first weight stays and its gradient counts twice: $(-2, 3.2)$.
# At $\rho = 0.1$ the ascent moves $w$ to $(0.4, -0.08)$, and the first weight still stays.

# %%
gradient = [2 * (0.5 - 1), 2 * (-0.4 + 2)]
print([2 * gradient[0], gradient[1]], [0.5 + 0.1 * gradient[0], -0.4 + 0.1 * gradient[1]])

# %% [markdown]
# ```{solution-end}
# ```

# %% [markdown]
# ```{exercise-start} 15 minutes, medium
# :label: exercise-epsilon
# ```
# All weights of a channel are zero, so its batch norm divides by $\sqrt{\varepsilon}$.
# By how much does it amplify what comes back after a decompression, for $\varepsilon = 10^{-5}$ and for $10^{-2}$?
# ```{exercise-end}
# ```

# %% [markdown]
# ```{solution-start} exercise-epsilon
# :class: dropdown
# ```
# By 316 and by 10: with the usual $\varepsilon$ the first dense steps after a compression blow up, and the networks of this page have the larger one.

# %%
print([round(epsilon**-0.5) for epsilon in (1e-5, 1e-2)])

# %% [markdown]
# ```{solution-end}
# ```

# %% [markdown]
# ## Key takeaways

# %% tags=["remove-input"]
at_top = what_was_found(payloads, said.FOUND)
last = "An accuracy of a sparse network says little without its cost, and nothing of another task."
takeaways(at_top[0][0], at_top[3][0], at_top[4][0], last)

# %% [markdown]
# ## Further reading
#
# {cite:t}`iofinova2023bias` measure the bias of networks that were pruned by such recipes, in {doc}`chapter 1 <pruning_bias>`.
# {cite:t}`zhu2017prune` are the gradual pruning that AC/DC is compared with.

# %% tags=["remove-cell"]
what_we_found(*at_top)

# %% tags=["hide-cell"]
trained = figures.as_trained(result.outcomes).groupby("model")["accuracy"].mean()
best = figures.one_shot(result.outcomes, recalibrated=True)
display(
    *result.keep(),
    report("dense-accuracy", trained["dense"], unit="share of images"),
    report("acdc-accuracy", trained.get("AC/DC"), unit="share of images"),
    report("pair-agreement", result.pairs["agreement"].max() if len(result.pairs) else None, unit="share of images, best pair"),
    report("one-shot-accuracy", best.loc[best["level"] == max(levels), "accuracy"].max(), unit="share of images, best seed"),
)
