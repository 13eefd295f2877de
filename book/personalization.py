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
# # A writing assistant of your own
#
# A language model on your own machine is to write your mails as you would, and all that it has to learn from are a few that you have sent.
# The thesis {cite:p}`iofinova2026thesis` and its paper on Panza {cite:p}`nicolicioiu2026panza` report that this works: by {term}`fine-tuning` a stock model, of which only few numbers are trained, on fewer than 100 mails, with nothing leaving the machine.
# This chapter asks **how little is enough**: how few trained numbers, how few mails, and whether earlier mails in the prompt do the same without any training.
#
# ```{what-we-found}
# ```
#
# Nobody's mails are shown here.
# They are written by made-up {term}`personas <persona>` with habits of style, so that what a mail should say and how its writer says it are both known, and can be counted.
# Your own mailbox can take their place, and then stays where it is.
#
# **What you will be able to do**
#
# 1. Make pairs of an order and a mail out of a mailbox, and split them so that nothing of the test is learnt.
# 2. Tune a model by LoRA, by sparse entries and by both, RoSA, with equally many trained numbers, and write RoSA's layer down by hand.
# 3. Put retrieved mails into a prompt, and tune a model that knows what to do with them.
# 4. Measure style, content and facts apart, and say what BLEU sees of each.
# 5. Measure what a tuned model gives away of the mails that it has learnt.
#
# **What you need to know**: what a transformer, a token and cross-entropy are, Adam, the rank of a matrix, and the cosine of two vectors.
# How long this build took, and on what, stands at the end of the page; {doc}`how_to_run` has the profiles.

# %% tags=["hide-input"] mystnb={"code_prompt_show": "What is imported"}
from typing import Any

import torch
from IPython.display import display

from effnotes.reporting.escaping import page_table
from effnotes.reporting.figures import use_style
from effnotes.reporting.findings import finding, takeaways, what_we_found
from effnotes.reporting.metrics import report
from effnotes.studies import personalization
from effnotes.studies.personalization import figures
from effnotes.studies.personalization import sentences as said
from effnotes.studies.personalization.published import published, told

use_style()

# %% [markdown]
# ## Parameters
#
# These come first: whose mails, how many of them, and which model; the others lie in the fold below them.
# {doc}`how_to_run` says how to set them from the command line.

# %% tags=["parameters"]
personas: list[int] = [1, 2, 3, 4, 5]  # seeds; each is a made-up writer with a model of its own
mails: int = 150  # mails of each to train on
under: int = 75  # the fewer than 100 that are to be enough
few: int = 5  # so few that showing them may be better than tuning on them
checkpoint: str = "data/bases/mail-llama-128x3"  # folder of the model to start from, with its tokenizer; "" pretrains a small one
mailbox: str = ""  # private: your own mails in place of the personas', as an mbox file, a Maildir, or a folder of .eml files
address: str = ""  # private: the address that you send from

# Further settings
redacted: bool = False  # whether addresses, numbers and links in your own mails are replaced by tokens first
val: int = 20  # mails of each that rates and steps are chosen on
test: int = 20  # mails of each that are reported
facts: int = 12  # facts that are asked for, each of which one mail tells that is searched and not trained on
canaries: int = 4  # mails to train on that hold one secret code
rank: int = 8  # of LoRA, which sets how many numbers the others may train
rosa_rank: int = 4  # of RoSA's low-rank part
context: int = 2  # mails that retrieval puts into a prompt
batch_size: int = 8  # mails a training step
full_rates: list[float] = [1e-3]  # learning rates to choose from, of full tuning; [] leaves out what a large base has no time for
lora_rates: list[float] = [3e-3]  # the same, of LoRA
sparse_rates: list[float] = [3e-3]  # the same, of sparse tuning
rosa_rates: list[float] = [3e-3]  # the same, of RoSA
mask_rules: list[str] = []  # other rules for the places of RoSA's entries: magnitude, grad_abs, random
extensions: int = 0  # how often a list of rates is extended where the best one is its end
steps: list[int] = [8, 16, 24]  # steps after which losses are taken; the number of steps is chosen from them
tune_personas: list[int] = [901]  # other writers, whom rates and steps are chosen on
pretraining: dict[str, Any] = {}  # of MailBaseRecipe, for a model that is pretrained here

# %% tags=["check", "hide-input"] mystnb={"code_prompt_show": "How the parameters are checked"}
of_mails = {"mails": mails, "under": under, "few": few, "val": val, "test": test, "facts": facts, "canaries": canaries}
of_writers = {"personas": personas, "tune_personas": tune_personas, "mailbox": mailbox, "address": address, "redacted": redacted}
of_methods = {"rank": rank, "rosa_rank": rosa_rank, "context": context, "batch_size": batch_size, "steps": steps}
of_rates = {"full_rates": full_rates, "lora_rates": lora_rates, "sparse_rates": sparse_rates, "rosa_rates": rosa_rates}
of_base = {"checkpoint": checkpoint, "pretraining": pretraining, "extensions": extensions, "mask_rules": mask_rules}
# A value that cannot work is refused here, before anything is trained.
plan = personalization.plan(**of_writers, **of_mails, **of_methods, **of_rates, **of_base)

# %% [markdown]
# (write-as-you)=
# ## Try it on your own
#
# Name a mailbox and the address that you send from, and the whole chapter runs on your own mails.
#
# ```console
# $ effnotes run personalization -p mailbox=~/Sent.mbox -p address=you@example.org -p redacted=true
# ```
#
# Nothing then quotes a mail: what is kept lies in the folder that the environment variable `EFFNOTES_PRIVATE` names (`~/.local/share/effnotes/private` without it), which only you may enter and which must not lie in a git repository.
# Nobody knows what your mails should say, so the orders are taken from their own words, style is judged by a classifier of authorship and by habits that are found in the mails, and what needs facts, codes or other writers is left out.
# The base of this chapter knows nothing but made-up mails; name a checkpoint of an instruction-tuned model for mails that make sense (`-p checkpoint=...`).
# On a large one `-p full_rates='[]'` saves time and memory: full and sparse tuning, few mails, RAFT and the quantised base are then left out.
# {doc}`personalization_smollm2` shows such a run.
#
# ## The data: mails whose style is known
#
# A persona has a greeting, a sign-off, a name, an opener, a closer and a P.S., of words or of random syllables, each used in a share of the mails; a register, a length, a case and an emoji.
# None of its strings was in the pretraining of the base.
# All mails go through a real mailbox, with replies, forwards and HTML among them, and are read back out of it; each then gets the order that could have asked for it, which Panza calls *data playback*.

# %%
from effnotes.studies.personalization.writers import Writer, material

own = material(Writer(mails=60, val=10, test=10, facts=10, seed=902))
print(f"messages left out, by reason: {own.counts}")
print(f"order: {own.test[0].instruction}\n\n{own.test[0].mail.text}")

# %% [markdown]
# *Style* is the mean over the habits of how often a text has them, in the share of the true mails, and at most 1.
# *Content* is the share of the words of the order that must be in the mail.
# A *fact* is a word that only one earlier mail tells, which is searched and not trained on.
#
# ## The method: train few numbers
#
# A linear layer computes $y = x W^\top$.
# {term}`LoRA` {cite:p}`hu2022lora` freezes $W$ and adds $\tfrac{\alpha}{r} B A$ of rank $r$; sparse tuning adds a matrix $S$ that is zero outside a fixed {term}`mask`; {term}`RoSA` {cite:p}`nikdan2024rosa` adds both:
#
# $$
# y = x (W + S)^\top + \tfrac{\alpha}{r}\, x A^\top B^\top .
# $$ (eq-rosa)
#
# The mask is chosen from the data: after a few steps of LoRA alone, the places of the largest squared gradients are taken, matrix by matrix; then LoRA is thrown away, and both parts start from nothing.


# %%
def rosa(
    x: torch.Tensor,
    weight: torch.Tensor,
    entries: torch.Tensor,
    places: torch.Tensor,
    low: tuple[torch.Tensor, torch.Tensor],
    scale: float,
) -> torch.Tensor:
    """Compute one layer of RoSA: entries at places of the weight, read row by row, and low = (A, B)."""
    sparse = torch.zeros(weight.numel()).index_put((places.long(),), entries).view_as(weight)
    a, b = low
    return x @ (weight + sparse).T + scale * (x @ a.T) @ b.T


# %% [markdown]
# In a layer of `peft`, in which the library trains, the same parts give the same outputs.

# %%
from effnotes.finetuning.rosa import with_adapters
from effnotes.models.language import build_language_model

name = "model.layers.0.mlp.up_proj"
wrapped = with_adapters(build_language_model("llama-64x2", 300, seed=0), [name], rank=4, scale=2.0, density=0.05, seed=0)
layer: Any = wrapped.get_submodule(f"base_model.model.{name}")
torch.nn.init.normal_(layer.supertuning_values["default"])
torch.nn.init.normal_(layer.supertuning_lora_B["default"].weight)
x = torch.randn(3, 64, generator=torch.Generator().manual_seed(0))
low = (layer.supertuning_lora_A["default"].weight, layer.supertuning_lora_B["default"].weight)
by_hand = rosa(x, layer.base_layer.weight, layer.supertuning_values["default"], layer.supertuning_indices["default"], low, 2.0)
print(f"largest difference {(by_hand - layer(x)).abs().max():.1g}")

# %% [markdown]
# LoRA of rank 8 against RoSA of rank 8 would be no fair fight, as RoSA would train more.
# In an $m \times n$ matrix LoRA trains $r(m+n)$ numbers and a sparse change of density $d$ trains $dmn$, so an equal budget fixes the density for each rank:

# %%
from effnotes.finetuning.rosa import equal_budget, n_trained
from effnotes.models.language import block_linears

small = build_language_model("llama-64x2", 300, seed=0)
shapes = [linear.weight.shape for linear in block_linears(small).values()]
print({r: equal_budget(small, n_trained(shapes, 8, 0), [r])[r] for r in (0, 2, 4, 8)})

# %% [markdown]
# ## Which rates, and how many steps
#
# One learning rate for all methods would decide the comparison.
# Each method has its own, and its own number of steps, by the loss on validation mails of personas that are not reported.

# %% tags=["hide-input"]
result = personalization.run(plan)
said.rates_table(result.rates).pipe(page_table).format(
    {"learning rate": "{:g}", "steps": "{:.0f}", "validation loss": "{:.3f}"}
).set_caption("The chosen learning rates and steps, the validation loss there (nats a token), and how many rates were tried.")

# %% tags=["remove-input"]
finding(said.of_rates(result.rates))

# %% tags=["hide-input"] mystnb={"code_prompt_show": "How the claims are measured"}
claims = {each.claim.id: each for each in personalization.measure(result)}
payloads = {name: each.to_json() for name, each in claims.items()}


def cards(*names: str) -> None:
    display(*(claims[f"personal.{name}"] for name in names))


# %% [markdown]
# ## Full, LoRA, sparse or RoSA?
#
# First one order, the mail that its persona really sent, and what three systems write to it: the base, the base with two retrieved mails in its prompt, and the base tuned by LoRA.

# %% tags=["hide-input"]
print(said.one_mail(result.examples))

# %% [markdown]
# {numref}`fig-assistants` has the four ways to tune on all mails beside the base.
# Mails are written greedily, to orders of mails that were not learnt.

# %% mystnb={"figure": {"caption": "Style, content and loss on held-out mails (log scale) of the base and of the four ways to tune it, on all mails and without mails in the prompt; dots are personas, bars their means.", "name": "fig-assistants"}, "image": {"alt": "Three bar charts side by side, for style, content and loss, with a bar for each of base, full, LoRA, sparse and RoSA and dots for personas."}} tags=["hide-input"]
_ = figures.plot_methods(result.systems)

# %% tags=["remove-input"]
finding(f"{said.of_methods(result.systems)} {said.of_budget(result.systems)}", figure="fig-assistants")

# %% tags=["remove-input"]
cards("peft-as-good", "rosa-beats-lora", "rosa-beats-sparse")

# %% tags=["hide-input"] mystnb={"code_prompt_show": "All systems"}
shares: Any = dict.fromkeys(("style", "content", "facts", "BLEU", "ROUGE-L", "MAUVE", "judge"), "{:.2f}")
said.methods_table(result.systems).pipe(page_table).format(shares | {"loss": "{:.3f}"}, na_rep="–").set_caption(
    "Means over personas: style, content, facts told right, loss in nats a token, BLEU as Panza computes it, ROUGE-L, MAUVE of this build,"
    " and the share that the judge of authorship takes for the persona's."
)

# %% [markdown]
# Of a persona all habits are known.
# Of your own mails nobody has written them down, so the most common first word, sign-off and last line are found in the mails to train on, and counted in what is written and in the held-out mails.
# These are numbers alone, of personas and of your mails alike.

# %% tags=["hide-input"] mystnb={"code_prompt_show": "Habits found in the mails"}
said.habits_table(result.habits).pipe(page_table).format(precision=2).set_caption(
    "Shares of mails with each habit, means over personas: of the real held-out ones, and as each method on all mails writes them without"
    " mails in the prompt. Of length it is the largest difference between the shares of mails of at most so many words, 0 for the same."
)

# %% tags=["remove-input"]
finding(said.of_habits(result.habits))

# %% tags=["hide-input"] mystnb={"code_prompt_show": "What tuning costs"}
memory: Any = dict.fromkeys(("adapter", "training", "base"), "{:,.0f}")
said.costs_table(result.systems).pipe(page_table).format(
    memory | {"numbers trained": "{:,.0f}", "CPU seconds": "{:.1f}"}, na_rep="–"
).set_caption(
    "What tuning on all mails costs, means over personas: numbers trained; KiB of what is kept beside the base, of gradients and Adam's"
    " moments in training, and of the base's linear layers; CPU seconds."
)

# %% [markdown]
# ### Why both?
#
# RoSA's premise is that what full tuning does to a matrix is neither of low rank nor sparse, but nearly a sum of both.
# So the difference that full tuning made to each matrix is cut to LoRA's budget in three ways: to its largest singular values, to its largest entries, and to a sum of both, which alternating projections find {cite:p}`zhou2011godec`.

# %%
from effnotes.finetuning.decomposition import decompose

low = torch.outer(torch.arange(8.0), torch.ones(8))
spikes = torch.zeros(8, 8).index_put((torch.tensor([1, 5]), torch.tensor([2, 6])), torch.tensor([9.0, -9.0]))
for rank_, density in ((2, 0.0), (0, 0.5), (1, 0.04)):
    print(
        f"rank {rank_}, density {density}: {decompose({'W': low + spikes}, rank_, density).error[-1]:.2f} of the norm is left out"
    )

# %% mystnb={"figure": {"caption": "Style and held-out loss with the whole difference that full tuning made, and with it cut to as many numbers as LoRA trains; dots are personas, bars their means.", "name": "fig-cuts"}, "image": {"alt": "Two bar charts, for style and loss, with a bar for the whole difference and for its low-rank, combined and sparse cuts, and dots for personas."}} tags=["hide-input"]
_ = figures.plot_cuts(result.cuts, result.systems) if len(result.cuts) else print("no full tuning: nothing to cut")

# %% tags=["remove-input"]
finding(said.of_cuts(result.cuts), figure="fig-cuts" if len(result.cuts) else "")

# %% [markdown]
# And does it matter where the entries are?
# The published rule takes the largest squared gradients; others take the largest weights, or draw lots (`-p mask_rules='[magnitude, random]'`; the profile *full* tries them).

# %% tags=["remove-input"]
finding(said.of_masks(result.systems))

# %% [markdown]
# ### As published
#
# RoSA's paper compares at three budgets on tasks that are no mails.

# %% mystnb={"figure": {"caption": "As published: accuracy after one epoch of LLaMA-2-7B against trained numbers, for RoSA, LoRA and sparse tuning; the dotted line is full tuning.", "name": "fig-rosa-published"}, "image": {"alt": "Three scatter plots, for GSM8k, ViGGO and SQL, of accuracy at three budgets, with a mark for each method and a dotted line for full tuning."}} tags=["hide-input"]
_ = figures.plot_published(published("rosa"))

# %% tags=["remove-input"]
finding(said.of_published(), figure="fig-rosa-published")

# %% tags=["hide-input"] mystnb={"code_prompt_show": "Panza's tables"}
told(published("panza")).pipe(page_table).set_caption("Panza's results by method, which nobody has transcribed here.")

# %% [markdown]
# ### On a quantised base
#
# If the frozen weights are rounded to four bits {cite:p}`dettmers2023qlora`, they take an eighth of the memory.
# They are rounded once, and adapters are tuned on what is left.

# %% tags=["remove-input"]
finding(said.of_quantised(result.systems))

# %% tags=["remove-input"]
cards("quantised-as-good")

# %% [markdown]
# ## How many mails?

# %% mystnb={"figure": {"caption": "Style and content by LoRA against the number of mails, from the untuned base on; the dotted line is the claim's bound, dots are personas.", "name": "fig-mails"}, "image": {"alt": "A line chart of style and content against the number of training mails, with a dotted vertical line at the bound of the claim."}} tags=["hide-input"]
_ = figures.plot_numbers(result.systems)

# %% tags=["remove-input"]
finding(said.of_numbers(result.systems), figure="fig-mails")

# %% tags=["remove-input"]
cards("under-100", "rag-wins-with-few")

# %% [markdown]
# ## Or show the mails instead?
#
# Retrieval-augmented generation ({term}`RAG`) puts the mails that fit an order best into the prompt.
# The query is the order, as there is nothing else yet; {term}`BM25` {cite:p}`robertson2009bm25` weighs common words by how rare they are.

# %%
from effnotes.datasets.text import Index
from effnotes.models.prompts import Prompt

index = Index([each.mail for each in own.train] + own.stated)
order = own.facts[0].instructions[0]
best = index.search(order, k=2)
print(Prompt(order, tuple(mail.text for mail, _ in best)).text)

# %% [markdown]
# A model that was tuned without mails in its prompt has never seen them there.
# {term}`RAFT` {cite:p}`zhang2024raft` tunes with them, here as Panza does {cite:p}`nicolicioiu2026panza`: a bit more than half of the training mails are drawn, and get up to two mails that fit well enough, and never themselves.

# %%
from effnotes.datasets.text import with_context

orders = [each.instruction for each in own.train]
contexts = with_context(index, [each.mail for each in own.train], orders, k=2, seed=0)
print(f"{sum(map(bool, contexts))} of {len(contexts)} mails are learnt with a context")

# %% mystnb={"figure": {"caption": "Style, and facts told right, of the base, of LoRA and of LoRA tuned with RAFT, with no mails in the prompt and with retrieved ones; means over personas.", "name": "fig-raft"}, "image": {"alt": "Two tables of coloured cells: rows base, LoRA and LoRA with RAFT, columns without context and with retrieved mails."}} tags=["hide-input"]
_ = figures.plot_served(result.systems)

# %% tags=["remove-input"]
finding(said.of_served(result.systems), figure="fig-raft")

# %% tags=["remove-input"]
cards("tuning-beats-rag", "raft-mends", "rag-adds-facts")

# %% [markdown]
# ## Is it the person's own?

# %% mystnb={"figure": {"caption": "Style of each persona's LoRA model (rows) on the mails of each persona (columns).", "name": "fig-crosses"}, "image": {"alt": "A square table of coloured cells with a row for the model of each persona and a column for the persona whose mails it was asked for."}} tags=["hide-input"]
_ = figures.plot_crosses(result.crosses) if len(result.crosses) else print("one writer: nothing to compare")

# %% tags=["remove-input"]
finding(said.of_crosses(result.crosses), figure="fig-crosses" if len(result.crosses) else "")

# %% tags=["remove-input"]
cards("own-model-best", "judge-fooled")

# %% [markdown]
# ## What does BLEU see?
#
# Panza scores mails by BLEU, ROUGE and MAUVE.
# Before BLEU is computed, case and punctuation are deleted, and with them a part of the style.

# %% tags=["remove-input"]
finding(said.of_metrics(result.systems))

# %% [markdown]
# MAUVE {cite:p}`pillutla2021mauve` compares no mail with its real one, but all written mails with all real ones: as points, here the mean last states of the untuned base over a mail, which are put into clusters.
# It wants far more texts than there are here: of so few it is biased and coarse, so it ranks at best, and what other real mails of the same person get is the mark to compare with.

# %% tags=["remove-input"]
finding(said.of_mauve(result.systems, plan.writers[0].test))

# %% tags=["remove-input"]
cards("bleu-follows-content")

# %% [markdown]
# ## What does the model give away?
#
# A few of the training mails hold a code of four digits, a {term}`canary`.
# Its {term}`exposure` {cite:p}`carlini2019secret` is $\log_2 10{,}000$ minus $\log_2$ of its rank among all codes by the model's probability: 13.3 bits if no other code is as probable, about 1 for a code that was never seen.
# The claim compares full tuning with LoRA where both have learnt equally much: at the checkpoint of full tuning whose validation loss is nearest to that of LoRA at its end.

# %% mystnb={"figure": {"caption": "Exposure of the code against validation loss at each checkpoint; lines are means over personas, dots personas, the dotted line is the most there can be.", "name": "fig-exposure"}, "image": {"alt": "A line chart of exposure in bits against validation loss, a colour for each of full, LoRA, sparse and RoSA."}} tags=["hide-input"]
_ = figures.plot_exposure(result.course)

# %% tags=["remove-input"]
finding(said.of_exposure(result.course), figure="fig-exposure")

# %% tags=["remove-input"]
cards("lora-leaks-less")

# %% [markdown]
# Rank is one attack.
# Others need less: to ask for the mail that has the code, to look at which mails' loss has fallen {cite:p}`yeom2018privacy`, or to look for sentences that are copied.
# An assistant with retrieval need not have learnt a secret to tell it, as the mail itself may stand in its prompt.

# %% tags=["hide-input"] mystnb={"code_prompt_show": "What a model gives away"}
leaks: Any = dict.fromkeys(("code told", "code told with retrieval"), "{:.0%}") | {"membership AUC": "{:.2f}"}
said.leaks_table(result.systems).pipe(page_table).format(
    leaks | dict.fromkeys(("longest copy", "of real mails"), "{:.1f}"), na_rep="–"
).set_caption(
    "Means over personas: answers that tell the code when asked for its mail, without and with retrieved mails; area under the ROC curve"
    " for training against held-out mails by their loss; words in the longest run shared with a training mail, of written and of real mails."
)

# %% tags=["remove-input"]
finding(said.of_leaks(result.systems))

# %% [markdown]
# ## What not to conclude
#
# - **Made-up mails are easier than real ones.**
#   A persona's style is a handful of habits, and a mail says one thing; no number here is one for your mailbox.
# - **A score of style is not a person's judgement.**
#   Panza asked people; `effnotes.metrics.blinded` writes and scores such a study, and this chapter has none.
# - **The assistant can be turned against you.**
#   Whoever has a few of your mails can tune the same model to write as you: this is impersonation, and the fewer mails it takes, the easier it is.
#   Tune on your own mails only, and keep the adapters as you would the mails: they hold what was learnt from them, your correspondents' words among it.
# - **A low exposure is no safety.**
#   It is of one code, by one attack.
#
# ## What was changed after seeing results
#
# The claims, with their margins, were registered before any run.
# Which mails hold the code, that rates and steps are chosen by validation loss, and that a claim's number of mails is 75 were part of that.
# The personas that rates are chosen on (901, 902) are in no result.
# After that the base was pretrained anew, because a first one copied hardly any string of an unseen person (seeds 900 to 911); random tokens that repeat, before any mail, mended it.
# The one rate of each method in the profile *quick*, and the steps that losses are taken at, are those that had the lowest validation loss of persona 901 among three rates.
# Nothing was changed after the reported personas had been seen, but for the length of the short run: its steps were 10, 20 and 30, and its RoSA had a second mask, of the largest weights, and both were cut later to save time.
#
# ## Exercises
#
# These names are at hand: `own` with its mails, `index`, `small`, and `result`.
#
# ```{exercise-start} 10 minutes, easy
# :label: exercise-budget
# ```
# A layer has $m = n = 128$.
# Which density gives a sparse change as many numbers as LoRA of rank 8, and which goes with rank 4?
# ```{exercise-end}
# ```

# %% [markdown]
# ```{solution-start} exercise-budget
# :class: dropdown
# ```
# $8 \cdot 256 / 128^2 = 0.125$, and half of it: rank 4 has spent the other half.

# %%
print(8 * 256 / 128**2, (8 - 4) * 256 / 128**2, n_trained([torch.Size((128, 128))], 4, 0.0625))

# %% [markdown]
# ```{solution-end}
# ```

# %% [markdown]
# ```{exercise-start} 15 minutes, easy
# :label: exercise-bleu
# ```
# Write a test mail in small letters and with other punctuation.
# What do BLEU and the style of the persona say?
# ```{exercise-end}
# ```

# %% [markdown]
# ```{solution-start} exercise-bleu
# :class: dropdown
# ```
# BLEU does not notice; the habits do.

# %%
from effnotes.datasets.text import style
from effnotes.metrics.text import bleu_panza

real = [each.mail.text for each in own.test]
changed = [text.lower().replace(".", "!") for text in real]
assert own.persona is not None
print(f"BLEU {bleu_panza(changed, real).mean():.2f}, style {style(changed, own.persona, real):.2f}")

# %% [markdown]
# ```{solution-end}
# ```

# %% [markdown]
# ```{exercise-start} 15 minutes, medium
# :label: exercise-leak
# ```
# For RAFT, search for the order of a training mail.
# Which mail comes first, and what would a model learn from it?
# ```{exercise-end}
# ```

# %% [markdown]
# ```{solution-start} exercise-leak
# :class: dropdown
# ```
# Often the mail itself: the model would learn to copy its prompt.
# `exclude` leaves it out, and what is nearly the same.

# %%
first = [index.search(each.instruction, 1)[0][0].id == each.mail.id for each in own.train]
print(f"{sum(first)} of {len(first)} orders find their own mail first")
mail = own.train[0].mail
print(mail.id in [found.id for found, _ in index.search(own.train[0].instruction, 5, exclude=mail)])

# %% [markdown]
# ```{solution-end}
# ```

# %% [markdown]
# ```{exercise-start} 15 minutes, medium
# :label: exercise-exposure
# ```
# What is the exposure of a code at rank 1, 100 and 10,000, and what is its mean if nothing was learnt?
# ```{exercise-end}
# ```

# %% [markdown]
# ```{solution-start} exercise-exposure
# :class: dropdown
# ```
# 13.3, 6.6 and 0 bits.
# If all ranks are equally likely the mean is $\log_2 e$, about 1.44 bits: half of all codes have less than one bit.

# %%
ranks = torch.arange(1, 10_001)
bits = torch.log2(torch.tensor(10_000.0)) - torch.log2(ranks)
print([round(float(bits[rank - 1]), 1) for rank in (1, 100, 10_000)], round(float(bits.mean()), 2))

# %% [markdown]
# ```{solution-end}
# ```

# %% [markdown]
# ```{exercise-start} 20 minutes, medium
# :label: exercise-split
# ```
# Why are mails split by thread and by near duplicates, and not one by one?
# Find the pair of a training and a test mail of `own` that are most alike.
# ```{exercise-end}
# ```

# %% [markdown]
# ```{solution-start} exercise-split
# :class: dropdown
# ```
# A reply quotes the mail that it answers, and one text sent to three people is one text.
# What is left is alike in style, which is what is to be learnt, and not in what it says.

# %%
from effnotes.metrics.text import longest_copy

print(max(longest_copy(each.mail.text, [other.mail.text for other in own.train]) for each in own.test), "words in a row")

# %% [markdown]
# ```{solution-end}
# ```

# %% [markdown]
# ```{exercise-start} 15 minutes, easy
# :label: exercise-unit
# ```
# The unit of all claims is the persona.
# Why not the mail, of which there are many more?
# Compute the 95% interval of *tuning beats RAG* from its effects by hand.
# ```{exercise-end}
# ```

# %% [markdown]
# ```{solution-start} exercise-unit
# :class: dropdown
# ```
# All mails of a persona come from one model with one learning rate: they share whatever went well or badly with it.
# More mails make each effect more exact, and only more personas say how it varies.

# %%
from scipy import stats

effect = torch.tensor(claims["personal.tuning-beats-rag"].effects, dtype=torch.float64)
if len(effect) > 1:
    half = stats.t.ppf(0.975, len(effect) - 1) * effect.std() / len(effect) ** 0.5
    print(f"{effect.mean():.3f} ± {half:.3f}")

# %% [markdown]
# ```{solution-end}
# ```

# %% [markdown]
# ## Key takeaways

# %% tags=["remove-input"]
takeaways(*said.to_take_away(payloads))

# %% [markdown]
# ## Further reading
#
# {cite:t}`salemi2024comparing` compare retrieval with tuning for personalisation, and find retrieval ahead.
# {cite:t}`wang2025leaner` measure what LoRA and full tuning learn by heart.

# %% tags=["remove-cell"]
what_we_found(*said.what_was_found(payloads))

# %% tags=["hide-cell"]
alone = result.systems[result.systems["serve"] == "none"]
of_method = alone.groupby("method")[["style", "test_loss"]].mean()
display(
    *result.keep(),
    report("best-style", of_method["style"].max(), unit="style score, best method"),
    report("best-loss", of_method["test_loss"].min(), unit="nats a token, best method"),
    report("base-loss", alone.loc[alone["kind"] == "none", "test_loss"].mean(), unit="nats a token"),
    report("tuning-time", alone.loc[alone["kind"] != "none", "cpu_s"].mean(), unit="CPU s a model"),
)
