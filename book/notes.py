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
# # Notes on related work
#
# The thesis {cite:p}`iofinova2026thesis` asks what making networks cheaper does to what makes them trustworthy, and its neighbours in the same institute ask parts of it elsewhere: of prompts, of private training, of data with many owners.
# This page has a note of one screen on each of their systems: why it stands here, its formula, a run that is as small as it can be without lying, and what it has to do with this book.
# Read the headings, and then the one that touches your own work.
#
# ```{what-we-found}
# ```
#
# **What you will be able to do**
#
# 1. Measure whether a model keeps instructions apart from data, before and after pruning.
# 2. Compute a certified radius, a private training's noise and a PAC-Bayes bound, and say what each promises.
# 3. Say which way to learn from many owners' data suits a case, and what it costs in messages.
# 4. Name for each of these methods the mistake that is easiest to make.
#
# **What you need to know**: what a logit, a gradient, a singular value and a prior are; each note says the rest.
# The digits are scikit-learn's, eight by eight pixels; everything else is drawn from a seed, and each seed is a unit of the claims.
#
# | What it is about | Notes |
# |---|---|
# | What compression removes, and where it comes by itself | {ref}`SEP <note-sep>`, {ref}`low rank <note-rank>` |
# | What a guarantee costs | {ref}`1-Lipschitz layers <note-lipschitz>`, {ref}`sample size <note-samples>`, {ref}`BSR <note-bsr>`, {ref}`PAC-Bayes <note-bound>` |
# | Data that stay with their owners | {ref}`QuAFL <note-quafl>`, {ref}`PeFLL <note-pefll>`, {ref}`XCLP <note-xclp>`, {ref}`mixtures <note-mdm>` |
# | Answers that shift, branch or run backwards | {ref}`LIMES <note-limes>`, {ref}`several modes <note-modes>`, {ref}`band structure <note-bands>` |

# %% tags=["hide-input"] mystnb={"code_prompt_show": "What is imported"}
from IPython.display import display

from effnotes.reporting.figures import use_style
from effnotes.reporting.findings import finding, takeaways, what_we_found
from effnotes.reporting.metrics import report
from effnotes.reporting.tables import keep_table
from effnotes.studies import notes
from effnotes.studies.notes.experiment import judged, means, of_owners, recall_by_owner
from effnotes.studies.notes.figures import draw

use_style()

# %% [markdown]
# ## Parameters
#
# All notes share their seeds but the first, which is the longest.

# %% tags=["parameters"]
seeds: list[int] = [1, 2, 3, 4, 5]  # each draws its data and initial weights anew
sep_seeds: list[int] = [1, 2]  # the same, of the note on SEP
steps: dict[str, int] = {
    "sep": 700,
    "collapse": 4000,
    "lipschitz": 200,
    "activations": 500,
    "samples": 200,
    "pefll": 300,
    "modes": 250,
    "bands": 1000,
}  # of training, in each note that trains

# %% tags=["check", "hide-input"] mystnb={"code_prompt_show": "How the parameters are checked"}
# A value that cannot work is refused here, before anything is trained.
plan = notes.plan(seeds=seeds, sep_seeds=sep_seeds, steps=steps)

# %% tags=["hide-input"] mystnb={"code_prompt_show": "How the notes are run"}
result = notes.run(plan)
claims = notes.measure(result)


def tell(note: str, *names: str, by: str = "", value: str = "") -> None:
    """Say what a note found, below its figure, and show its claims."""
    said = [judged(claims[name].to_json()) for name in names]
    display(finding(" ".join(said + ([means(result[note], by, value)] if by else [])), figure=f"fig-note-{note}"))
    display(*(claims[name] for name in names))


# %% [markdown]
# ## What compression removes, and where it comes by itself

# %% [markdown]
# (note-sep)=
# ### SEP: instructions and data
#
# An assistant that reads a stranger's mail must not do what the mail says.
# The measure of Zverev and others {cite:p}`zverev2025sep` asks how well a model keeps the two apart; here it meets pruning.
#
# A probe is an instruction that leaves a witness in the output. With $w_i$ the witness of item $i$, and each item asked with the probe in the instruction and in the data,
#
# $$
# \mathrm{SEP} = \frac{\sum_i 1[w_i \notin \mathrm{out}^{\mathrm{data}}_i,\; w_i \in \mathrm{out}^{\mathrm{instr}}_i]}{\sum_i 1[w_i \in \mathrm{out}^{\mathrm{instr}}_i]} .
# $$ (eq-sep)
#
# Two small transformers answer questions about six digits, the blocks of the prompt in any order; both see a tag before each block, and one also gets a learned vector for the role of every token.
# Some training prompts have a probe among the data, to be ignored.
# Then the smallest weights go, and the model is tuned on prompts that try nothing.

# %% mystnb={"figure": {"caption": "SEP of the two models before and after pruning and benign tuning; bars are means, dots seeds.", "name": "fig-note-sep"}, "image": {"alt": "Bars of SEP for the model with tags and for that with tags and roles, each before and after pruning, with dots for seeds."}} tags=["hide-input"]
_ = draw("sep", result["sep"])

# %% tags=["remove-input"]
tell("sep", "pruning-removes-separation", by="arm", value="accuracy")

# %% [markdown]
# *The trap.* A model that executes nothing has no SEP, so utility belongs beside it; and blocks at fixed places make the toy trivial.
#
# *What it has to do with this book.* Accuracy on the task hardly tells what was lost: this is chapter 1's warning, {doc}`pruning_bias`, for a property that nobody had in the test set.
# The assistant of {doc}`personalization` reads untrusted mail.
# Of large models the paper's repository reports that stronger ones are not better separated: SEP 0.225 with GPT-4 and 0.653 with GPT-3.5 {cite:p}`zverev2025sep`.

# %% [markdown]
# (note-rank)=
# ### Neural collapse against low rank
#
# Low rank is chapter 4's way to edit and chapter 3's to tune; here nobody asks for it, and it comes.
# Of two papers of one group the first proves that for two classes deep networks end in *collapse*, all classes in orthogonal directions {cite:p}`sukenik2023collapse`; the second that with more classes and layers this is not the optimum, as lower rank is cheaper {cite:p}`sukenik2024rank`.
#
# The features $H$ are free, and weight decay is on all:
#
# $$
# \tfrac{1}{2N}\lVert W_L\,\sigma(\dots\sigma(W_1 H)) - Y\rVert^2 + \tfrac{\lambda}{2}\Bigl(\lVert H\rVert^2 + \sum_l \lVert W_l\rVert^2\Bigr) .
# $$ (eq-features)
#
# With one example a class, collapse costs
#
# $$
# \min_q\; \tfrac12(1-q^{L+1})^2 + \tfrac{L+1}{2}\lambda K q^2 .
# $$ (eq-collapse)
#
# Gradient descent from random starts, one example a class.

# %% mystnb={"figure": {"caption": "Singular values of the features before the last ReLU, as shares of the largest; lines are means, dots seeds.", "name": "fig-note-collapse"}, "image": {"alt": "Lines of singular values in falling order for three settings of classes and layers, with dots for seeds."}} tags=["hide-input"]
_ = draw("collapse", result["collapse"])

# %% tags=["remove-input"]
tell("collapse", "collapse-not-optimal", "low-rank-by-itself", "collapse-of-two-classes", by="setting", value="rank")

# %% [markdown]
# *The trap.* Short training looks like collapse, and a rank depends on its threshold: look at the spectrum.
#
# *What it has to do with this book.* Weight decay compresses unasked, so what {doc}`model_editing` finds of low rank need not be the doing of LoRA.

# %% [markdown]
# ## What a guarantee costs

# %% [markdown]
# (note-lipschitz)=
# ### 1-Lipschitz layers compared
#
# Robustness that is proved, not tried, costs time and memory in every layer, and Prach and others compare kinds of layers by just that {cite:p}`prach2024layers`.
# Which certifies most depends on the budget, as in each chapter of this book.
#
# If the network stretches no distance, no change of the input below
#
# $$
# r(x) = \bigl(f_y(x) - \max_{c\ne y} f_c(x)\bigr)/\sqrt2
# $$ (eq-radius)
#
# changes a right answer. AOL rescales columns, $W\operatorname{diag}(\sum_j|W^\top W|_{ij})^{-1/2}$; Cayley and Björck make $W$ orthogonal. The N-activation {cite:p}`prach2023nactivations` has slopes 1, −1, 1, and can fit functions of one variable that sorting pairs (MaxMin) cannot:

# %%
import torch

from effnotes.models.lipschitz import AOL, NActivation

n = NActivation(1)
n.thresholds.data = torch.tensor([[-1.0], [1.0]])
print([round(n(torch.tensor([[x]])).item(), 1) for x in (-3.0, -1.0, 0.0, 1.0, 3.0)])
weight = torch.randn(64, 64, generator=torch.Generator().manual_seed(0))
print(f"largest singular value {torch.linalg.matrix_norm(AOL()(weight * (weight.abs() > 1)), ord=2):.2f} after pruning, rescaled")
print(means(result["lipschitz"], "layer", "norm after pruning"))

# %% mystnb={"figure": {"caption": "Share of test digits with a certified radius above that on the axis; lines are means, dots seeds.", "name": "fig-note-lipschitz"}, "image": {"alt": "Falling lines of certified robust accuracy against radius for five kinds of layers, with dots for seeds."}} tags=["hide-input"]
_ = draw("lipschitz", result["lipschitz"])

# %% tags=["remove-input"]
tell("lipschitz", "orthogonal-certifies-more", "n-activation-fits-more", by="layer", value="CPU ms a step")

# %% [markdown]
# *The trap.* A power iteration that has not converged certifies what is false: the certificates here use each layer's exact norm.
#
# *What it has to do with this book.* Certified robustness has a price in time for each step, said above; and pruning an orthogonal layer breaks its norm, while AOL's holds for whatever weights are left, if it is rescaled after the pruning.

# %% [markdown]
# (note-samples)=
# ### Robust classification needs more data
#
# Cheap training sets are accurate enough; are they robust enough?
# Prach and Lampert show distributions on which robust learning needs a number of samples that is exponential in the dimension, where accurate learning is easy {cite:p}`prach2025robust`.
#
# The slope is fitted to $\text{share} = a + b \log_2 n$, once for accuracy and once for the share with $r(x) > 0.5$ of {eq}`eq-radius`.
#
# Cayley networks learn for equally many steps from few digits and from many.

# %% mystnb={"figure": {"caption": "Accuracy and certified robust accuracy against the number of training digits (log scale); lines are means, dots seeds.", "name": "fig-note-samples"}, "image": {"alt": "Two rising lines, of accuracy and of certified robust accuracy, against the number of training digits, with dots for seeds."}} tags=["hide-input"]
_ = draw("samples", result["samples"].query("of in ('accuracy', 'certified')"))

# %% tags=["remove-input"]
tell("samples", "robust-needs-more-data", by="of", value="share")

# %% [markdown]
# *The trap.* Certified accuracy is of the method, not of the data: what no certificate reaches may still be robust.
#
# *What it has to do with this book.* Who picks a small training set by accuracy, as coresets do, does not see what robustness pays.
# Trailing principal components alone still classify many digits, as the paper reports of CIFAR-10 {cite:p}`prach2025robust`, and all of that accuracy is fragile.

# %% [markdown]
# (note-bsr)=
# ### BSR: noise that is taken back
#
# Private training adds noise to each step, and the price is accuracy.
# The banded square root of Kalinin and Lampert {cite:p}`kalinin2024bsr` gives some of it back at hardly any compute, by noise of which later steps take back a part.
#
# SGD with momentum $\beta$ sums gradients $X$ by a matrix $A$; with $A = BC$ one releases $A(X + C^{-1}Z)$, at an expected error of $\lVert B\rVert_F \operatorname{sens}(C)/\sqrt n$. BSR takes for $C$ the first $p$ coefficients of $\sqrt A$:
#
# $$
# c_j = \sum_{i=0}^{j} \alpha^{j-i} r_{j-i}\, r_i \beta^i, \qquad r_i = \tbinom{2i}{i}/4^i .
# $$ (eq-bsr)
#
# First that this is a root, and what the band buys in theory (first DP-SGD); then softmax regression on digits, at the same $\epsilon = 1$, order of batches and clipping.

# %%
import numpy as np

from effnotes.training.private import banded_root, expected_error, sensitivity, workload

of_sgd = workload(200, beta=0.9)
root = banded_root(200, 200, beta=0.9)
print(f"largest error of C C = A: {np.abs(np.convolve(root, root)[:200] - of_sgd).max():.0e}")
columns = {band: banded_root(200, band, beta=0.9) for band in (1, 4, 20)}
print({band: round(expected_error(of_sgd, each, sensitivity(each, 10, 20)), 1) for band, each in columns.items()})

# %% mystnb={"figure": {"caption": "Accuracy of private softmax regression by the band of the noise, at the same privacy; bars are means, dots seeds.", "name": "fig-note-bsr"}, "image": {"alt": "Bars of accuracy for DP-SGD and for bands of two widths, with dots for seeds."}} tags=["hide-input"]
_ = draw("bsr", result["bsr"])

# %% tags=["remove-input"]
tell("bsr", "correlated-noise-helps", by="noise", value="accuracy")

# %% [markdown]
# *The trap.* The guarantee needs batches in the same order in every epoch: shuffling breaks the sensitivity, and amplification by sampling must not be added on top.
#
# *What it has to do with this book.* Same privacy, more use, and the knob is memory: a band of $p$ keeps $p - 1$ past noises.
# The secrets of {doc}`personalization` leak from training without any noise.

# %% [markdown]
# (note-bound)=
# ### PAC-Bayes bounds for learning to learn
#
# Few examples a person make any promise about a personal model weak.
# Zakerinia and others bound the risk on new tasks of an *algorithm* that was learnt on many {cite:p}`zakerinia2024meta`.
#
# With $n$ tasks of $m$ samples, and probability $1-\delta$,
#
# $$
# \text{risk} \le \widehat{\text{risk}} + \sqrt{\frac{\overline{\mathrm{KL}} + (\mathrm{KL}_h + \log\frac{8nm}{\delta} + 1)/n}{2m}} + \sqrt{\frac{\mathrm{KL}_h + \log\frac{2\sqrt n}{\delta}}{2n}} .
# $$ (eq-meta)
#
# Linear classifiers around a common direction; all posteriors are Gaussian, and all risks exact.

# %% mystnb={"figure": {"caption": "Bound of meta-learning, bound of each task by itself, and risk on new tasks, against the number of tasks (log scale); lines are means, dots seeds.", "name": "fig-note-bound"}, "image": {"alt": "Three lines against the number of tasks: a falling bound of meta-learning, a flat bound of single tasks, and a low flat risk."}} tags=["hide-input"]
_ = draw("bound", result["bound"])

# %% tags=["remove-input"]
tell("bound", "meta-bound-tighter", by="of", value="risk")

# %% [markdown]
# *The trap.* With few tasks the bound is above 1 and says nothing; for a network whose whole norm is in $\mathrm{KL}_h$ it does so always.
#
# *What it has to do with this book.* A promise to a newcomer is paid for by those who came before: {doc}`personalization` tunes each person's model alone, where no such bound can be had.

# %% [markdown]
# ## Data that stay with their owners

# %% [markdown]
# (note-quafl)=
# ### QuAFL: nobody waits
#
# Federated learning is efficient if nobody waits and messages are short; is it then fair to the slow?
# QuAFL {cite:p}`zakerinia2024quafl` averages what clients have at hand, quantised.
#
# The server takes $X \leftarrow \bigl[X + \sum_i Q(X_i)\bigr]/(s+1)$ from $s$ clients, and each takes $X_i \leftarrow [Q(X) + sX_i]/(s+1)$. $Q$ sends whole numbers modulo $q$, decoded near the receiver's own model $y$: exact up to rounding while $|x-y| < \sigma q/2$.
#
# Clients with skewed labels, half of them much slower.
# That a message takes time in proportion to its bits, and a step an exponential time, is assumed.

# %% mystnb={"figure": {"caption": "Accuracy of the averaged model against simulated time, by method; lines are means, dots seeds.", "name": "fig-note-quafl"}, "image": {"alt": "Rising lines of accuracy against simulated time for FedAvg and for QuAFL with four message sizes, with dots for seeds."}} tags=["hide-input"]
_ = draw("quafl", result["quafl"])

# %% tags=["remove-input"]
tell("quafl", "quafl-sooner", by="method", value="accuracy")

# %% mystnb={"figure": {"caption": "Recall at the end, over digits as slow and as fast clients hold them; bars are means, dots seeds.", "name": "fig-note-owners"}, "image": {"alt": "Pairs of bars of recall for FedAvg and for QuAFL with four message sizes, one bar for the digits of slow clients and one for those of fast clients."}} tags=["hide-input"]
owners = recall_by_owner(result["quafl"])
_ = draw("owners", owners)

# %% tags=["remove-input"]
finding(of_owners(owners), figure="fig-note-owners")

# %% [markdown]
# *The trap.* The result hangs on the model of time; and too few bits wrap around, which no average shows until models drift apart.
#
# *What it has to do with this book.* Bits here are what sparsity is in chapter 1: cheap until, at some level, they are not.

# %% [markdown]
# (note-pefll)=
# ### PeFLL: a network that writes models
#
# Chapter 3 tunes on a person's mails; PeFLL {cite:p}`scott2024pefll` does not tune at all: a network reads the examples and writes the model.
#
# $v = \operatorname{mean} E(x, y)$ over a client's examples, and $\theta = h(v)$. A client trains from $\theta$ to $\theta'$ and returns $\theta - \theta'$; the server passes $\langle\theta-\theta', \theta\rangle$ back through $h$ and $E$.
#
# Clients see digits turned by a multiple of a right angle, some inverted; new ones come with few examples or with many.

# %% mystnb={"figure": {"caption": "Accuracy on clients that were not in the training, against their number of examples (log scale); lines are means, dots seeds.", "name": "fig-note-pefll"}, "image": {"alt": "Lines of accuracy against the number of a new client's examples for PeFLL, for models of its own examples and for one model for all."}} tags=["hide-input"]
_ = draw("pefll", result["pefll"])

# %% tags=["remove-input"]
tell("pefll", "written-models-for-few", by="method", value="accuracy")

# %% [markdown]
# *The trap.* Clients that differ in which classes they hold prove nothing: a mask of absent classes may do as well, so here they differ in what they see.
#
# *What it has to do with this book.* The question of {doc}`personalization`, how little is enough, at no tuning; and with enough examples a model of one's own catches up.
# The embedding sees labels, and so tells the server something of them.

# %% [markdown]
# (note-xclp)=
# ### XCLP: labels across clients
#
# Labels are dear, and so is privacy: XCLP {cite:p}`scott2023xclp` spreads a few labels over a graph of all clients' points, without showing anybody a point.
#
# $F = (I - \alpha S)^{-1}Y$ with $S = D^{-1/2}WD^{-1/2}$ on nearest neighbours; cosines come from $b$ random bits, $\cos(\pi\,\mathrm{hamming}/b)$, which can be compared secretly.
#
# Few labels on the digits of many clients; scikit-learn's label spreading does the spreading.

# %% mystnb={"figure": {"caption": "Accuracy on the unlabelled digits by how labels are spread; bars are means, dots seeds.", "name": "fig-note-xclp"}, "image": {"alt": "Bars of accuracy for propagation across clients, by three numbers of bits and within clients, and for a model of pooled labels."}} tags=["hide-input"]
_ = draw("xclp", result["xclp"])

# %% tags=["remove-input"]
tell("xclp", "labels-across-clients", "bits-are-enough", by="method", value="accuracy")

# %% [markdown]
# *The trap.* Centre the features first, or all random bits agree.
#
# *What it has to do with this book.* A dial from privacy and short messages to accuracy, and a cheap substitute for labels, of which the audits of {doc}`pruning_bias` need many.

# %% [markdown]
# (note-mdm)=
# ### Mixtures of Dirichlet-multinomials
#
# Before one claims fairness over clients, one must know how clients differ.
# Scott and Cahill {cite:p}`scott2024mdm` learn that from label counts, by sums alone, and simulate clients from it.
#
# Counts $c \sim \sum_k \phi_k \operatorname{DirMult}(\alpha_k)$; one round of expectation maximisation is
#
# $$
# \alpha \leftarrow \alpha\,\frac{\sum w\,[\psi(c+\alpha)-\psi(\alpha)]}{\sum w\,[\psi(n+\sum\alpha)-\psi(\sum\alpha)]}, \qquad \phi \leftarrow \operatorname{mean} w .
# $$ (eq-mdm)
#
# Clients of two kinds, fitted by one to three components, and scored on others.

# %% mystnb={"figure": {"caption": "Log-likelihood of clients that were not fitted against the number of components; the line is the mean, dots are seeds.", "name": "fig-note-mixtures"}, "image": {"alt": "A line of held-out log-likelihood against one, two and three components, with dots for seeds."}} tags=["hide-input"]
_ = draw("mixtures", result["mixtures"])

# %% tags=["remove-input"]
tell("mixtures", "mixture-simulates-better", by="components", value="BIC")

# %% [markdown]
# *The trap.* A class that no client of a component has drives its parameter to zero, and components have no order.
#
# *What it has to do with this book.* The made-up worlds and personas of this book are simulations too: what they do not vary, no claim here can see.

# %% [markdown]
# ## Answers that shift, branch or run backwards

# %% [markdown]
# (note-limes)=
# ### LIMES: a bias for each hour
#
# The cheapest adaptation there is: no weight moves but the biases.
# LIMES {cite:p}`tomaszewska2022limes` guesses the class prior of the coming hour, and its measure is the *worst* hour, as a fairness measure would be.
#
# If only priors shift, $p_t(y\mid x) \propto p(y\mid x)\,\pi_t(y)/\pi(y)$, so the logits at time $t$ are $f(x) + \log\pi_t$. $f$ is trained with the log prior of each batch added.
#
# Noisy digits whose priors go round with the hour: some days to learn, and another to test.

# %% mystnb={"figure": {"caption": "Accuracy by hour of the test day, by the prior that is added; lines are means, dots seeds.", "name": "fig-note-limes"}, "image": {"alt": "Four lines of accuracy against the hour of the day, by prior, with dots for seeds."}} tags=["hide-input"]
_ = draw("limes", result["limes"])

# %% tags=["remove-input"]
tell("limes", "worst-hour-better", "extrapolation-beats-last", by="method", value="accuracy")

# %% [markdown]
# *The trap.* The hour's own labels must not make its prior, and counts are smoothed.
#
# *What it has to do with this book.* A group's accuracy at no cost, as the group thresholds of {doc}`pruning_bias`, and with the same weakness: it has to know the group's base rate.

# %% [markdown]
# (note-modes)=
# ### Outputs with several modes
#
# A single answer to a question with two is wrong twice.
# One paper locates tweets by mixtures {cite:p}`lutsai2024tweets`, another runs chaotic systems backwards by several candidates {cite:p}`jakubik2023against`.
#
# A mixture is trained by its likelihood, $-\log\sum_k w_k\,\mathcal N(y;\mu_k,\sigma_k^2)$; candidates by the best one alone, $\min_k(\hat y_k - y)^2$.
#
# Made-up words that each name one of two cities; and the logistic map, in which each state has two that lead to it.

# %% mystnb={"figure": {"caption": "Errors of the place and R\u00b2 one step back, with one and two outcomes, and R\u00b2 of as many random guesses; bars are means, dots seeds.", "name": "fig-note-modes"}, "image": {"alt": "Bars for median error, mean error, R\u00b2 of the model and R\u00b2 of guesses, each with one and with two outcomes."}} tags=["hide-input"]
_ = draw("modes", result["modes"])

# %% tags=["remove-input"]
tell("modes", "two-places-nearer", "backwards-by-two")

# %% [markdown]
# *The trap.* The best of several candidates flatters noise too, so random guesses stand beside it; and a median hides that the other city is far: read the mean.
#
# *What it has to do with this book.* The scores of {doc}`model_editing` judge one answer to each question; where several are right, such a score blames the model for the question.
# That words tell where one lives is what {doc}`personalization` means by leaks; these words are nobody's.

# %% [markdown]
# (note-bands)=
# ### Band structure by a surrogate
#
# The other way to save compute: learn the simulator.
# Henderson and others read the parameters of trilayer graphene off a measurement, through a network that stands in for the simulator {cite:p}`henderson2023graphene`.
#
# $\hat t = \arg\min_t \lVert g(t) - d\rVert^2$ by gradient descent from many starts, with $g$ the trained network, frozen.
#
# A chain with $E(k) = -2\sum_j t_j\cos jk$ and three hoppings; $d$ is its density of states.

# %% mystnb={"figure": {"caption": "Error of the hoppings of unseen chains, means over chains, by how they were found; bars are means, dots seeds.", "name": "fig-note-bands"}, "image": {"alt": "Bars of the error of hoppings for the inverted surrogate and for the nearest known chain, with dots for seeds."}} tags=["hide-input"]
_ = draw("bands", result["bands"])

# %% tags=["remove-input"]
tell("bands", "surrogate-inverts", by="by", value="gap of densities")

# %% [markdown]
# *The trap.* Different hoppings can have nearly the same density of states: some chains are not found by anybody, which is why the claim takes medians.
#
# *What it has to do with this book.* A cheap stand-in is trusted here because the true simulator checks it afterwards (the gap of densities above); a pruned model seldom meets its check.

# %% [markdown]
# (notes-on-your-own)=
# ## Try it on your own
#
# What you would use on a model of your own is in the library: the measure of SEP and the radius and bound of `effnotes.metrics.guarantees`, the layers of `effnotes.models.lipschitz`, and the noise of `effnotes.training.private`.
#
# ```python
# from effnotes.metrics.guarantees import sep_score
#
# score, utility = sep_score(witness_in_data, witness_in_instruction)  # one True or False for each probe
# ```
#
# All notes on more seeds:
#
# ```console
# $ effnotes run notes -p seeds='[21, 22, 23, 24, 25, 26]' -p sep_seeds='[21, 22]'
# ```
#
# ## What not to conclude
#
# - **Each run is the smallest that shows the point.**
#   No number measured here is one of the papers', whose own stand beside the claims where they are certain.
# - **The open problems are elsewhere.**
#   A survey of continual learning names model editing, personalisation and learning on the device among its applications {cite:p}`verwimp2024continual`; chapters 3 and 4 are about the first two, and no chapter about what the third adds: a model that goes on learning there for years.
#
# ## What was changed after seeing results
#
# Rates, steps, margins and settings of the runs were chosen on seeds 901 to 906, of which nothing is reported, and the claims were registered before any other seed was run.
# A first run of seeds 6 to 11 had one start of two classes end in zero features, and one of seed 5 diverge, as momentum threw them far out in the first steps.
# The rate of that note now rises over its first steps, which was tried on seeds 901 to 960; no direction, margin or seed was changed.
# With the old rate both claims on low rank had been shown, and with the new one neither is settled: fewer starts leave collapse.
# The least effect that the claim on rank can have is now 0, for no rank can be missing less than nothing; the interval of its verdict allows for that range.
#
# ## Exercises
#
# These names are at hand: `result`, `claims`, and what the notes imported.
#
# ```{exercise-start} 15 minutes, easy
# :label: exercise-dirichlet
# ```
# The mixture fits by sums over clients.
# A client with counts $c$ and one component with $\alpha = (1, 1)$: how probable are the counts (2, 0), (1, 1) and (0, 2)?
# ```{exercise-end}
# ```

# %% [markdown]
# ```{solution-start} exercise-dirichlet
# :class: dropdown
# ```
# A third each: with $\alpha = (1, 1)$ all shares are equally likely, and so are all counts.

# %%
from effnotes.studies.notes.owners import log_likelihood

counts = np.array([[2, 0], [1, 1], [0, 2]])
print(np.exp(log_likelihood(counts, np.ones((1, 2)), np.ones(1))).ravel().round(3))

# %% [markdown]
# ```{solution-end}
# ```

# %% [markdown]
# ```{exercise-start} 15 minutes, medium
# :label: exercise-meta
# ```
# The bound {eq}`eq-meta` has two roots.
# For an empirical risk of 0.1, divergences of 2 nats a task and 20 nats over algorithms, 40 samples a task and $\delta = 0.05$: from how many tasks on is it below one half, and what does it tend to?
# ```{exercise-end}
# ```

# %% [markdown]
# ```{solution-start} exercise-meta
# :class: dropdown
# ```
# The second root goes to 0 with many tasks, and of the first $\sqrt{2/80}$ stays: no number of tasks makes up for few samples in each.

# %%
from effnotes.metrics.guarantees import meta_bound

bounds = {n: meta_bound(0.1, 2.0, 20.0, n, 40) for n in range(1, 1000)}
print(min(n for n, each in bounds.items() if each < 0.5), round(0.1 + (2 / 80) ** 0.5, 3))

# %% [markdown]
# ```{solution-end}
# ```

# %% [markdown]
# ## Key takeaways

# %% tags=["remove-input"]
short = ("pruning-removes-separation", "correlated-noise-helps", "low-rank-by-itself")
takeaways(*(judged(claims[name].to_json()) for name in short))

# %% [markdown]
# ## Further reading
#
# The comparison of layers {cite:p}`prach2024layers` is the one to read for method: every claim in it is at a stated budget.

# %% tags=["remove-cell"]
top = (
    "pruning-removes-separation",
    "orthogonal-certifies-more",
    "correlated-noise-helps",
    "written-models-for-few",
    "worst-hour-better",
)
what_we_found(*((judged(claims[name].to_json()), f"notes.{name}") for name in top))

# %% tags=["hide-cell"]
layers = result["lipschitz"]
private = result["bsr"].groupby("noise", sort=False)["accuracy"].mean()
display(
    *(keep_table(name, table) for name, table in result.items()),
    report("certified-cayley", layers[layers["layer"] == "Cayley"]["share"].mean(), unit="share of digits, mean over the radii"),
    report("private-accuracy", private.iloc[-1], unit="accuracy, banded noise of one epoch"),
    report(
        "rank-left", result["collapse"].query("setting == '10 classes, 4 layers'")["rank"].mean(), unit="rank before the last ReLU"
    ),
)
