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
# # Editing what a model knows
#
# A language model has learnt a fact that is wrong, or one that it should not tell.
# Training it again from the start is expensive, so one *edits* it: a few steps of {term}`fine-tuning` on the fact, and it answers as it should.
# What else has changed?
# Perhaps it now gives the new answer for people whom nobody asked about, or it has lost something that nobody thought of testing.
# And does it help to change less of the model: only its attention or its MLPs, or only by a change of {term}`low rank <LoRA>`?
# The thesis {cite:p}`iofinova2026thesis` and its paper {cite:p}`iofinova2026behemoth` report that restricting the rank frequently makes an edit better, and not only cheaper.
#
# This chapter asks **when low rank is enough**.
# It builds worlds of made-up facts, trains small language models until they know them by heart, edits them in many ways, and asks for everything that the edit should have changed and everything that it should have left alone.
#
# What the sources say is written down as {term}`claims <claim>`, each with a {term}`margin`, and each gets a {term}`verdict`: *shown* if the 95% interval of the measured effect lies beyond the margin on the claimed side, *contradicted* if it lies on the other side, *not settled* otherwise.
#
# **What you will be able to do**
#
# 1. Build a world in which every fact and every dependency between facts is known, and train a model on it.
# 2. Edit a model at full rank, by LoRA on some blocks, or in closed form, and see exactly which weights changed.
# 3. Measure whether an edit succeeded, what it kept, how far it moved the model and what followed from it, and say what a single accuracy hides.
# 4. Choose learning rates without fooling yourself, and show what happens to a conclusion when one does not.
# 5. Make a model forget, and compare it with one that never knew.
# 6. Edit a model that knows your own facts.
#
# **Time** on two cores: `smoke` under a minute, `quick` under four minutes (two once its models are trained), `full` under an hour.
#
# **What you need to know**: what a transformer, its attention and its MLPs are, cross-entropy, Adam, a rank and a singular value.

# %% tags=["hide-input"]
from typing import Any, Literal

from IPython.display import display

from effnotes.reporting.escaping import page_table
from effnotes.studies import editing

# %% [markdown]
# ## Parameters
#
# Everything that a reader may want to change is declared here; {doc}`how_to_run` says how to set it from the command line.

# %% tags=["parameters"]
worlds: list[int] = [1, 2, 3]  # seeds; each draws its own facts and edits, and a model is trained on each
world: str = "data/worlds/small.yaml"  # what the facts are like; see data/worlds
facts: str = ""  # CSV file of your own facts (subject, relation, object), in place of drawn ones
edits: str = ""  # CSV file of those of your facts that are to change, with their new objects
checkpoint: str = ""  # folder of a model that knows the world (config.json, model.safetensors), in place of training one
structured_worlds: list[int] = [1, 2]  # seeds of the worlds whose facts hang together
structured: str = "data/worlds/structured.yaml"  # what those are like; with correlated and nested facts
model: Literal["neox-32x1", "neox-32x2", "neox-64x2", "neox-128x4", "pythia-31m", "llama-64x2"] = "neox-64x2"  # width x blocks
pretraining: dict[str, Any] = {}  # fields of effnotes.training.PretrainingRecipe that differ from its defaults
device: Literal["cpu", "cuda"] = "cpu"  # where models are trained and edited
ranks: list[int] = [4]  # of LoRA
blocks: list[Literal["all", "linears", "attention", "mlp"]] = ["linears", "attention", "mlp"]  # all: full rank only, every weight
full_rates: list[float] = [3e-5, 1e-4, 3e-4]  # learning rates to choose from, at full rank
lora_rates: list[float] = [3e-4, 1e-3, 3e-3]  # learning rates to choose from, of LoRA
extensions: int = 1  # how often a list of rates is extended where the best one is its end
steps: list[int] = [10, 20, 40, 80]  # steps after which an edit is looked at; the last is the budget
tune_draws: int = 1  # edits of each world to choose learning rates on
test_draws: int = 1  # edits of each world to report
draw_seed: int = 11  # of the edits
coverage: float = 0.1  # share of the subjects whose facts are trained on to retain them
side_worlds: int = 2  # worlds, of the first, that the further settings are tried in
side_ranks: list[int] = [4]  # ranks of LoRA in the further settings
counts: list[int] = [1]  # facts that are edited at once, in the further settings
coverages: list[float] = [0.0]  # shares of subjects retained, in the further settings
suppressed: list[int] = [8]  # facts of a relation that are rewritten to one object
suppress_steps: list[int] = [20, 40, 80]  # steps of that
structured_draws: int = 2  # edits to report in each structured world
closed_forms: list[Literal["rome", "memit", "alphaedit"]] = ["rome"]  # edits without training rows
truncations: list[int] = [1, 2, 4]  # ranks that changes of full rank are cut down to afterwards
unlearn: list[str] = ["npo"]  # losses of unlearning; see effnotes.studies.editing.unlearning.UNLEARNING
unlearn_full_rates: list[float] = [3e-4, 1e-3, 3e-3]  # learning rates to choose from, of unlearning at full rank
unlearn_lora_rates: list[float] = [3e-3, 1e-2, 3e-2]  # learning rates to choose from, of unlearning by LoRA
unlearn_share: float = 0.05  # share of the subjects that is forgotten
unlearn_steps: int = 60  # steps of unlearning
unlearn_worlds: int = 1  # worlds, of the first, that it is tried in
gold_models: Literal[1, 2] = 1  # models of each of them that never see what is forgotten; 2 to compare them with one another

# %% tags=["check", "hide-input"]
plan = editing.plan(
    worlds=worlds, world=world, facts=facts, edits=edits, checkpoint=checkpoint, structured_worlds=structured_worlds, structured=structured,
    model=model, pretraining=pretraining, device=device, ranks=ranks, blocks=blocks, full_rates=full_rates, lora_rates=lora_rates,
    extensions=extensions, steps=steps, tune_draws=tune_draws, test_draws=test_draws, draw_seed=draw_seed, coverage=coverage,
    side_worlds=side_worlds, side_ranks=side_ranks, counts=counts, coverages=coverages, suppressed=suppressed,
    suppress_steps=suppress_steps, structured_draws=structured_draws, closed_forms=closed_forms, truncations=truncations,
    unlearn=unlearn, unlearn_full_rates=unlearn_full_rates, unlearn_lora_rates=unlearn_lora_rates, unlearn_share=unlearn_share,
    unlearn_steps=unlearn_steps, unlearn_worlds=unlearn_worlds, gold_models=gold_models,
)  # fmt: skip

# %% [markdown]
# ## The data: worlds of made-up facts
#
# How can one find out everything that an edit changed?
# Nobody knows in detail what a model knows about the real world, so nobody can list the facts that an edit should have left alone, or those that should have followed from it.
# In a made-up world both lists are complete.
#
# A world has subjects, relations and objects, and each subject has exactly one object of each relation.
# {numref}`fig-world` shows a corner of the two kinds of world of this chapter.
# In the first, all facts are independent, so nothing follows from anything.
# In the second, the *structured* one, the objects of two relations mostly agree ({term}`correlated facts`), and each object belongs to a *nested* object: who works at a firm works in the town of the firm, and that {term}`entailed fact` is written out in the training text as well.
# Follow a solid line from a subject to find what it is trained to say, and a dotted one to find what should change along with it.

# %% mystnb={"figure": {"caption": "A corner of each kind of world: subjects on the left, their objects, and nested objects on the right. Solid lines are facts, dotted ones facts that two others entail.", "name": "fig-world"}, "image": {"alt": "Two diagrams of labelled boxes joined by coloured lines. In the first, three subjects point to objects of two relations. In the second, objects point on to nested objects, and arcs join objects of the first two relations that agree."}} tags=["hide-input"]
import matplotlib.pyplot as plt

from effnotes.datasets.worlds import plot_world
from effnotes.reporting.figures import use_style

use_style()
_, (left, right) = plt.subplots(1, 2, figsize=(7.4, 4.2), width_ratios=[1, 1.6])
plot_world(plan.main.bases[0].world, n_subjects=3, n_relations=2, ax=left).set_title("independent", loc="left")
_ = plot_world(plan.ripple.bases[0].world, n_subjects=3, n_relations=2, ax=right).set_title("structured", loc="left")

# %% [markdown]
# Facts are told in sentences of a language that has nothing but numbers, so that no word carries a meaning that we did not put there.
# `SS`, `RR` and `OO` announce a subject, a relation and an object, each of which is the number that follows; the other numbers are grammar.
# A fact is written in several forms: most often subject, relation, object (`sro` in the table), and sometimes the relation first (`rso`).
# A *prompt* is a sentence up to `OO`, and the answer is what comes after it.

# %% tags=["hide-input"]
import pandas as pd

first, named = plan.main.bases[0].world, plan.named
few = first.facts("so").take(slice(0, 3))
tokenizer = first.hf_tokenizer()
sentences = {form: [tokenizer.decode(row) for row in first.encode(few, form).tokens] for form in first.templates}
shown_facts = named.describe(few) if named else [f"subject {s}, relation {r}, object {o}" for _, s, r, o in few.rows()]
pd.DataFrame({"fact": shown_facts} | sentences).pipe(page_table).set_caption(
    "The first facts of the first world, and how they are written in each form."
)

# %% [markdown]
# ## The model: small, and sure of its world
#
# An edit can only be judged by what the model knew before it, so we need models that know nearly everything that there is to know.
# They have the architecture of Pythia {cite:p}`biderman2023pythia`, as the library transformers implements it, at a tiny size.
# Each reads every fact more than a hundred times, and for longer if it still knows too few.
# The next cell trains one model on each world.

# %%
import torch

from effnotes.core.jobs import WorkerPool
from effnotes.studies.editing import figures, tables

torch.set_num_threads(1)  # a second thread only waits for matrices as small as these
pool = WorkerPool()
models = editing.pretrain(plan, workers=pool)

# %% tags=["hide-input"]
names = {"kind": "world", "world": "seed", "bits_per_parameter": "load (bits a parameter)", "cpu_s": "processor time (s)"}
knowledge = models.drop(columns="knows").rename(columns=names)
knowledge.pipe(page_table).format(precision=3, thousands="\u202f").format("{:.0f}", subset=["processor time (s)"]).set_caption(
    "The models before any edit: what they know, as the share of facts answered exactly right in each form (the least of all kinds"
    " of facts), and how full they are. Some lack a few subjects: they are for the comparison in the section on forgetting."
)

# %% tags=["remove-input"]
unsure = (~models["knows"]).sum()
print(
    f"{unsure} of {len(models)} models know less of their world than asked for; retention counts what they knew."
    if unsure
    else "All models know their world as well as asked for."
)

# %% [markdown]
# In the table, first look whether the columns *known* are near 1: what is missing there, no edit can be blamed for.
#
# The {term}`load` is what there is to know, $S R \log_2 O$ bits for $S$ subjects, $R$ relations and $O$ objects, over the number of parameters.
# Language models can hold about two bits in a parameter {cite:p}`allenzhu2025capacity`, so these models are nearly empty.
# The world of the paper's code would fill a Pythia of 31 million parameters, less its large vocabulary, to about 0.7 bits a parameter.
# Keep that in mind: in a full model every edit may have to overwrite something, and what this page finds may not carry over.
#
# ## The method: train everything, or little
#
# What exactly is one edit, and what can be varied in it?
# An edit is a *task*: facts to change, *rows* (sentences) to train on, and rows to ask.
# The subjects are split three ways: those of the edited facts; those whose facts, with their old answers, stand among the training rows so that the model keeps what it knows (the {term}`retain rows`); and those that are only asked about.
# Of the last no fact at all is trained on, and of the edited subject only the edited one, so what the model keeps there it keeps without being reminded.

# %% tags=["hide-input"]
main = plan.main.setting
task = plan.main.draws.tasks(first, main, "tune")[0]
sizes = task.sizes().pivot(index="group", columns="split", values="rows").reindex(columns=["train", "test"])
meaning = {
    "edited": "the edited facts, with their new objects",
    "paraphrase": "the same in a form that is not trained",
    "with_same_value": "other subjects, same relation, same old object",
    "with_same_rel": "other subjects, same relation, another object",
    "same_edges_diff_rel": "the edited subject's other facts",
    "reg_data": "other subjects, other relations",
    "withheld": "in a form that the world never wrote for them",
}
pd.DataFrame({"group": sizes.index, "rows to train on": sizes["train"], "rows to ask": sizes["test"]}).assign(
    meaning=sizes.index.map(meaning)
).pipe(page_table).format(na_rep="–", precision=0).set_caption(
    f"One task ({main.name}, by share of the subjects): its groups, and how many rows of each are trained on and asked."
)

# %% [markdown]
# {term}`Fine-tuning <fine-tuning>` goes on with Adam, from a batch that is a quarter edited rows and three quarters retain rows, at a constant {term}`learning rate`, without weight decay.
# The loss is the cross-entropy of the answers only.
# Three things are varied.
#
# **Blocks.** All linear layers of the blocks (`linears`), or those of the attention, or those of the MLPs; `all` takes every parameter, embeddings and norms too.
#
# **Rank.** At {term}`full rank` each weight matrix $W$ of size $m \times n$ is free.
# {term}`LoRA` {cite:p}`hu2022lora` leaves $W$ as it is and learns a change of rank $r$,
#
# $$
# W' = W + \frac{\alpha}{r} B A , \qquad B \in \mathbb{R}^{m \times r},\ A \in \mathbb{R}^{r \times n} ,
# $$ (eq-lora)
#
# with $\alpha = 2r$ here, so that the scale $\alpha / r$ is the same for all ranks; $B$ begins at zero, so that nothing has changed before the first step.
# It has $r(m + n)$ numbers to train instead of $mn$.
#
# **Learning rate.** Each method gets its own, chosen on other edits than those that are reported.
#
# In what follows a *method* is a choice of blocks and rank, such as "LoRA 4 attention"; "full linears", full rank on all linear layers, is the one that all others are compared with.
#
# One edit takes three lines, and the base model stays as it was:

# %%
from effnotes.finetuning import EditRecipe, edit, evaluate_edit

base_model = editing.load_base(plan.main.bases[0])
made = edit(base_model, task, EditRecipe(method="lora", rank=ranks[-1], learning_rate=lora_rates[len(lora_rates) // 2]))
scores = evaluate_edit(base_model, made.model, task)
print(f"{made.n_trainable} numbers trained, {len(made.difference)} matrices changed, first right after step {made.first_success}")

# %% tags=["hide-input"]
if named:
    print(*named.describe(task.old, task.train["edited"].facts.object), sep="\n")
answers = scores.groups.drop(columns="expects")
answers.insert(1, "right answer", scores.groups["expects"].map({"new": "the new object", "old": "as before"}))
answers.pipe(page_table).format(precision=3, na_rep="–").set_caption(
    "What one edit did, group by group: facts asked, share right, mean probability of the right answer, facts that the base knew,"
    " share kept of these, and mean drift, the Kullback-Leibler divergence from the base (nats)."
)

# %% [markdown]
# What the scores mean:
#
# - {term}`Edit success <edit success>` (ES) is the share of edited facts that are answered with the new object, exactly, over the whole vocabulary.
# - {term}`Retention <retention>` is the share kept of what the base knew, in each of four groups: facts that share the relation and the old object, others of the same relation, the edited subject's other facts, and all others. The groups count alike, though the first may have few facts.
# - $H$ is the harmonic mean of the two: it is high only if an edit succeeds *and* harms little, and zero if it fails.
# - {term}`Drift <drift>` says how far the distribution of answers has moved from the base's, which shows damage before an answer flips.
#
# As formulas, with $G$ for the groups that have facts, $\text{kept}_g$ for the share of the facts of group $g$ answered right by the base that the edited model still answers right, and $p$ and $q$ for what the base and the edited model hold probable as the next token $v$ at the place of the answer,
#
# $$
# R = \frac{1}{|G|} \sum_{g \in G} \text{kept}_g , \qquad
# H = \frac{2 \, \text{ES} \cdot R}{\text{ES} + R} , \qquad
# \text{drift} = \sum_v p(v) \log \frac{p(v)}{q(v)} ,
# $$ (eq-scores)
#
# the last averaged over the prompts that should have stayed as they were.
# A "point" of $H$ is 0.01.
# With a single edited fact ES is 0 or 1, and a failed edit has an $H$ of zero whatever it kept: a mean $H$ of 0.6 can be mild damage everywhere, or many failures.

# %% [markdown]
# ## The experiment
#
# How does one compare methods that want different learning rates and learn at different speeds?
# All that follows keeps to one protocol.
#
# 1. Each method's learning rate is chosen in each setting, by the mean $H$ of edits that are never reported, over all worlds. All methods begin with lists of the same length, and a list whose best rate is its end is extended there, a limited number of times (`extensions`).
# 2. Then the rate is frozen, and other edits are made, the same for all methods. What is compared are differences on the same edit.
# 3. Each edit is looked at after a few numbers of steps (`steps`), and there are two {term}`stop rules <stop rule>`. The main one, the *budget*, gives every method all the steps. The second, *first success*, ends an edit at the first look at which all edited facts are answered as they should be, or at the last look if that never happens. It has learning rates of its own.
# 4. The independent units are the worlds, because edits of one model resemble each other; intervals run over worlds.
#
# Why two stop rules?
# The budget asks what a method reaches with the same work.
# It also gives the retain rows time to repair what the edit tore.
# First success asks what the edit has cost at the moment when it is there, which is where an impatient editor would stop.
# A method can be good at one and bad at the other.

# %%
result = editing.run(plan, workers=pool)
pool.close()

# %% tags=["hide-input"]
order, of_main = [method.name for method in plan.main.grids], result.rates["setting"] == main.name
chosen = result.rates[of_main].pivot(index="method", columns="rule", values=["learning_rate", "tried", "edge"]).reindex(order)
edges = [" ".join(filter(None, pair)) for pair in chosen["edge"][["budget", "first_success"]].to_numpy()]
pd.DataFrame(
    {
        "method": order,
        "rate, budget": chosen["learning_rate", "budget"].astype(float),
        "rate, first success": chosen["learning_rate", "first_success"].astype(float),
        "rates tried": chosen["tried", "budget"].astype(int),
        "still on an edge": edges,
    }
).pipe(page_table).format({"rate, budget": "{:g}", "rate, first success": "{:g}"}).set_caption(
    f"Learning rates that were chosen for {main.name}, under each stop rule."
)

# %% tags=["remove-input"]
from effnotes.studies.editing.statistics import at_edges, compare, count_outcomes, paired_differences

print(at_edges(result.rates))

# %% [markdown]
# The sentence below the table matters: a rate at the end of its list may not be the best one, and a method that was stuck there is judged by less than it can do.
#
# And what does a method cost?
# While it trains, it needs a gradient and two moments of Adam for each number that it adjusts.
# LoRA saves that memory, but hardly any time, because forward and backward passes go through the whole model all the same.

# %% tags=["hide-input"]
edits = result.rows[result.rows["setting"] == main.name].groupby("method")
costs = edits[["n_trainable", "optimizer_bytes", "cpu_s"]].median().reindex(order).reset_index()
pd.DataFrame(
    {
        "method": costs["method"],
        "numbers trained": costs["n_trainable"],
        "share of all (%)": 100 * costs["n_trainable"] / models["parameters"][0],
        "gradients and moments (KiB)": costs["optimizer_bytes"] / 1024,
        "processor time (s)": costs["cpu_s"],
    }
).pipe(page_table).format(precision=1, thousands="\u202f").format("{:.2f}", subset=["processor time (s)"]).set_caption(
    f"What an edit of {steps[-1]} steps costs: medians over edits."
)

# %% [markdown]
# How much hangs on the learning rate?
# In {numref}`fig-rates`, look where each line has its peak, and what it would have cost to read all lines at one and the same rate.
# A sharp peak means that a method needs careful tuning; a line that still rises at its end has not been tuned far enough.

# %% mystnb={"figure": {"caption": "Mean H on the tuning edits against the learning rate, after the last step. Each panel has one choice of blocks, each line a rank.", "name": "fig-rates"}, "image": {"alt": "Panels side by side, one for each choice of blocks. In each, lines of H against the learning rate on a logarithmic axis, one for full rank and one for each rank of LoRA."}} tags=["hide-input"]
course = result.course
_ = figures.plot_rates(course)

# %% [markdown]
# ## One fact: does low rank do as well?
#
# This is the chapter's main question, for the plainest edit: is one fact changed as well with few numbers as with all?
# {numref}`fig-steps` follows the edits step by step.
# An edit is a race between two things: the new fact is learnt, which can tear at everything nearby, and the retain rows repair what was torn.
# Read the panels together: where the left one rises, look whether the other two dip, and whether they recover by the last step.
# If they do, where one stops decides what one sees.

# %% mystnb={"figure": {"caption": "Edit success, and retention of the facts that share the old object and of the edited subject's other facts, after each look, at the rates chosen for the budget; means over worlds and edits. All linear layers are trained.", "name": "fig-steps"}, "image": {"alt": "Three panels against the number of steps on a logarithmic axis, with one line for full rank and one for each rank of LoRA: edit success, share kept of facts with the same old object, and share kept of the subject's other facts."}} tags=["hide-input"]
_ = figures.plot_course(course, result.ends)

# %% [markdown]
# Now the comparison, method by method, each with the rates that were chosen for it.
# {numref}`fig-differences` shows the difference in $H$ from full rank on all linear layers, on the same edits.
# An interval wholly to the right of zero is a win for the method, one wholly to the left a loss, and one that stays in the band around zero a tie; a wide one leaves the matter open, which is not the same as "no difference".
# Read both stop rules: if they disagree, the answer to "is low rank as good?" is "that depends on when you stop".

# %% mystnb={"figure": {"caption": "Difference in H from full-rank fine-tuning of all linear layers on the same edits, with 95% intervals over worlds, under both stop rules. Right of zero is better; a wide interval may run out of the picture. The band is a tie, one point of H to either side.", "name": "fig-differences"}, "image": {"alt": "A chart with one row for each method and two marks with horizontal intervals in each row, one for the fixed budget and one for stopping at first success, around a shaded band at zero."}} tags=["hide-input"]
_ = figures.plot_differences(result.ends, order)

# %% tags=["hide-input"]
from effnotes.studies.editing.settings import REFERENCE

best = result.endings["budget"]
compared = compare(paired_differences(best, REFERENCE.name)).set_index("method").reindex(order)
absolute = best.groupby("method")[["H", "edit_success", "retention", "paraphrase_success", "drift"]].mean().reindex(order)
names = {"edit_success": "edit success", "paraphrase_success": "in another form", "drift": "drift (nats)", "wins": "edits won"}
names |= {"mean": "difference in H", "low": "from", "high": "to", "holm_p": "sign test over worlds, p (Holm)"}
absolute.join(compared[["mean", "low", "high", "wins", "holm_p", "outcome"]]).reset_index().rename(columns=names).pipe(
    page_table
).format(precision=3, na_rep="–").set_caption(
    f"All methods after the last step, {main.name}: means over {best['world'].nunique()} worlds with"
    f" {test_draws} edit{'s' if test_draws > 1 else ''} each, and differences from full linears with 95% intervals over worlds."
)

# %% [markdown]
# A sign test over few worlds cannot give a small p-value, however clear the picture: with three worlds the smallest possible one is 0.25.
#
# Which facts make the difference?
# {numref}`fig-groups` takes retention apart.
# Compare the columns first: a pale column is a kind of fact that edits damage, whatever the method.
# Then compare the rows: a method that is pale where others are dark pays for its success there.
# The facts of the first column are few, so a single lost one weighs a lot.

# %% mystnb={"figure": {"caption": "Share kept of what the base knew, in each group of facts, after the last step at the rates chosen for the budget; means over worlds and edits.", "name": "fig-groups"}, "image": {"alt": "A table of coloured cells: one row for each method, and columns for facts with the same old object, of the same relation, of the same subject, and all others; the darker a cell, the more is kept."}} tags=["hide-input"]
_ = figures.plot_groups(result.ends, order)

# %% [markdown]
# ## One rate for all: how a conclusion turns
#
# What would somebody conclude who tunes full rank and uses its {term}`learning rate` for all methods?
# {term}`LoRA` commonly wants larger rates: its $B$ begins at zero, and at first a step moves $B A$ by little.
# At a rate that is too small for it, a method may not even have learnt the new fact when its steps are over.
# {numref}`fig-ranks` shows ranks and blocks side by side, once with each method's own rate, once with the rate that was chosen for full rank on all linears.
# Between the two tables only the learning rates differ, so whatever changes is what the choice of the rate did; the cell of full rank on all linears is the same in both.

# %% mystnb={"figure": {"caption": "H after the last step by rank and by trained blocks; means over worlds and edits. Left, each method at the rate chosen for it; right, all at the rate chosen for full rank on all linear layers.", "name": "fig-ranks"}, "image": {"alt": "Two tables of coloured cells with H in each: rows are ranks from one to full, columns are attention, MLPs and all linear layers. The darker a cell, the higher its H."}} tags=["hide-input"]
_ = figures.plot_ranks(result.ends)

# %% [markdown]
# ## The whole trade: retention against success
#
# Does the comparison hang on the point that was picked?
# A verdict at one learning rate and one number of steps is one point of a curve.
# {numref}`fig-frontier` shows, on the tuning edits, for each method the best retention that any learning rate and any look reaches at each success.
# A method whose line lies above and to the right of another offers the better trade whatever one wants; where lines cross or lie on each other, the choice of the point decides.
# These are the best of many points on the same edits that they were picked on, so the lines flatter all methods, and most those with the most points.

# %% mystnb={"figure": {"caption": "Retention against edit success on the tuning edits: faint, every learning rate and look; joined, those that no other point of the method beats. All linear layers are trained.", "name": "fig-frontier"}, "image": {"alt": "A scatter of points of retention against edit success, one colour for full rank and for each rank of LoRA; lines join those points of each that no other one beats."}} tags=["hide-input"]
_ = figures.plot_frontier(course)

# %% [markdown]
# ## When is low rank enough?
#
# Now the conditions change: how many facts are edited at once, and how many subjects have retain rows.
# If low rank has less to spare, many facts at once should be hard for it; if it protects what it does not touch, it should gain most where few rows or none remind the model of the rest.
# {numref}`fig-settings` is where to look for a counter-example to either.
# Compare the bars within a setting; the dots say how much worlds differ.
# Settings differ in how hard they are, so heights say little from one setting to the next.
# All methods make the same edits, so the scatter of the dots is not yet the uncertainty of a difference: the table below has the differences, taken edit by edit, with their intervals.

# %% mystnb={"figure": {"caption": "H after the last step in each setting, full rank and LoRA on all linear layers, each at the rate chosen for it in that setting; dots are worlds, lines mark means.", "name": "fig-settings"}, "image": {"alt": "Groups of dots side by side, one group for each setting, named by the number of facts and the share of subjects retained; within a group, one column of dots for full rank and one for each rank of LoRA, with a bar at the mean."}} tags=["hide-input"]
_ = figures.plot_settings(result.settings, [each.setting.name for each in (plan.main, *plan.further)])

# %% tags=["hide-input"]
tables.differences_table(result.against_full).pipe(page_table).format(precision=3, na_rep="–").set_caption(
    "LoRA minus full rank, setting by setting: mean difference in H with its 95% interval over worlds. A win or a loss is an interval"
    " that leaves zero out, a tie one that holds zero and stays within one point of H, and all else is open."
)

# %% tags=["hide-input"]
count_outcomes(result.against_full).pipe(page_table).set_caption("How many settings each rank wins, ties, loses, and leaves open.")

# %% [markdown]
# ## Why could low rank suffice?
#
# If the change that full rank makes is itself nearly of low rank, LoRA gives up little.
# The {term}`stable rank` of a matrix, $\sum_i \sigma_i^2 / \max_i \sigma_i^2$ of its singular values, is 1 for an outer product and grows with the number of directions that matter.
# And one can simply cut: keep the largest singular values of the change of each matrix, put the model together again, and ask it again.
# {numref}`fig-truncation` shows both.
# On the left, a stable rank near 1 means that one direction carries most of the change.
# On the right, look for the rank from which a line is as high as its last point: that many directions of the change are enough.
# It need not be the rank that LoRA needs, since a change that full rank has found is not the one that training at low rank would find.

# %% mystnb={"figure": {"caption": "Changes that full-rank edits make. Left, their mean stable rank by the blocks that were trained; dots are worlds. Right, H after each changed matrix was cut down to the given rank; the last point is the whole change.", "name": "fig-truncation"}, "image": {"alt": "Left, columns of dots of the stable rank for each choice of blocks. Right, lines of H against the rank that is kept, one for each choice of blocks; the last point of each is the whole change."}} tags=["hide-input"]
_ = figures.plot_truncation(result.ends, truncations)

# %% [markdown]
# ## Rewriting a whole relation
#
# The official code of the paper has an edit that rewrites a part of a relation's facts to one and the same object.
# It is what an editor does who wants a model to stop telling something, say to answer "unknown" whoever is asked about.
# What becomes of the subjects that were never edited?
# Does the model learn a few exceptions, or a new rule?
# In {numref}`fig-spread`, the part of a bar that has the one object is the rule spreading, the part with the old object is what has stayed, and the rest is neither.
# Retention counts the other relations only here, because on this one the edit leaves open what would be right.

# %% mystnb={"figure": {"caption": "After some facts of a relation were rewritten to one object: how held-out subjects answer on that relation. Means over worlds and edits.", "name": "fig-spread"}, "image": {"alt": "Horizontal stacked bars, one for each method and number of rewritten facts, with the shares of held-out subjects answered with the one object, with their old object, and in another way."}} tags=["hide-input"]
_ = figures.plot_spread(result.settings)

# %% [markdown]
# ## What follows from a fact: ripples
#
# In the structured world an edit has consequences.
# If a subject's object changes, its nested object should change along with it: that is {cite:t}`cohen2024ripple`'s ripple effect.
# What the old and the new object are nested in should stay.
# And the relation that usually agrees with the edited one: should it move along, or stay?
# There is no right answer to that; {numref}`fig-ripple` shows what happens.
# On the left, look how much of each bar follows the edit; on the right, compare the correlated relation with the subject's other facts, which nothing ties to the edited one.
# Here one fact is edited at a time, and an edit that failed counts among those that were not followed; so read the bars together with the edit success, printed below them.

# %% mystnb={"figure": {"caption": "After an edit in the structured worlds, after the last step: how the entailed fact is answered (as the edit implies, as before, otherwise), and what is kept of other facts. Means over worlds and edits.", "name": "fig-ripple"}, "image": {"alt": "Left, stacked bars for each method with the shares of entailed facts that follow the edit, stay as before, or are answered otherwise. Right, groups of bars for each method: facts of the correlated relation kept, other facts on the subject kept, and nested objects of the old and the new object kept."}} tags=["hide-input"]
_ = figures.plot_ripple(result.settings)

# %% tags=["hide-input"]
rippled = result.at_budget[result.at_budget["setting"] == plan.ripple.setting.name]
of_ripple = rippled.groupby("method", sort=False).mean(numeric_only=True)
moved = of_ripple.get("pair_moved", pd.Series(float("nan"), of_ripple.index))
for name in of_ripple.index:
    print(
        f"{name}: edits that succeeded {of_ripple.loc[name, 'edit_success']:.0%}, correlated facts kept {of_ripple.loc[name, 'pair_kept']:.0%}"
        f" and moved along {moved[name]:.0%}"
    )

# %% [markdown]
# ## Editing in closed form
#
# Can an edit be computed instead of trained?
# {term}`ROME` {cite:p}`meng2022rome` and its relatives, MEMIT {cite:p}`meng2023memit` and AlphaEdit {cite:p}`fang2025alphaedit`, are such {term}`closed forms <closed form>`, and need no retain rows.
# They take the output matrix $W$ of an MLP for a memory: for a key $k$, the hidden units of the MLP at one place of the prompt, it returns the value $W k$.
# First a change $\delta$ of the value is sought that makes the new answer probable, by gradient descent on $\delta$ alone.
# Then it is written by one formula, for ROME
#
# $$
# W' = W + \frac{\delta \, (C^{-1} k)^\top}{k^\top C^{-1} k} , \qquad C = \mathbb{E}[\kappa \kappa^\top] ,
# $$ (eq-rome)
#
# where the mean runs over the keys $\kappa$ at all tokens of all sentences.
# So $W' k = W k + \delta$ exactly, by a change of rank one, and $C^{-1}$ turns that change away from the directions that other keys use.
# The papers estimate $C$ from an encyclopaedia; a made-up world is small enough to be written out.
#
# Where should one write?
# {term}`Causal tracing <causal tracing>` {cite:p}`meng2022rome` asks the model where it looks a fact up: it spoils the subject's embedding with noise, puts one hidden state back as it was, and sees how much of the answer returns.
# In {numref}`fig-trace`, a dark cell is a state that carries by itself what the noise destroyed.

# %% mystnb={"figure": {"caption": "Causal trace of facts of the first world: how much of the answer's probability returns when the hidden state behind one block, at one place of the prompt, is put back; means over facts.", "name": "fig-trace"}, "image": {"alt": "A table of coloured cells with places of the prompt as rows (subject, relation, last token) and blocks as columns; the darker a cell, the more of the probability returns."}} tags=["hide-input"]
from effnotes.interpretation import causal_trace
from effnotes.reporting.figures import plot_table

traced = causal_trace(base_model, first, first.facts("so").take(slice(0, 64)))
trace = traced.groupby(["place", "layer"], sort=False)["recovered"].mean().reset_index()
by_place = trace.pivot(index="place", columns="layer", values="recovered").reindex(trace["place"].unique())
_, ax = plt.subplots(figsize=(1.8 + 1.1 * by_place.shape[1], 1.9))
plot_table(by_place.rename(columns="block {}".format), ax=ax, low=0.0, high=1.0)
_ = ax.set_title("probability that returns", fontsize=10.5)

# %% [markdown]
# A state that no attention carries on to the answer brings nothing back: the subject's behind the last block, for one.
# The papers write at the last token of the subject, in the place of large models where the trace is dark.
# Here each closed form is run at two places: at the last token of the subject, in the last block from which the answer can still be reached, and at the last token of the prompt, in the last block.
# Where the trace is pale, do not expect much of an edit.

# %% tags=["hide-input"]
beside = pd.concat([best[best["method"].isin([REFERENCE.name, f"LoRA {ranks[0]} linears"])], result.closed])
tables.closed_table(beside, ["cpu_s"]).pipe(page_table).format(precision=3).set_caption(
    "Closed forms beside fine-tuning, on the same edits: success, share kept by group, and processor time of an edit. Closed forms"
    " have no retain rows, and their settings are the library's defaults."
)

# %% [markdown]
# The table is no ranking of methods.
# Fine-tuning had its learning rates chosen and has retain rows; the closed forms have neither, and their settings are the library's defaults, not tuned.
# `null_energy` of AlphaEdit, which says how much of the other keys may lie in the directions that it writes into, is set to what the published bound amounts to in such models, and not to the value that scores best here.
# What the table can show is the kind of damage: which groups an edit without reminders loses, and whether the place of writing decides between success and failure.
#
# ## Forgetting
#
# To {term}`unlearn <unlearning>` is to edit towards not knowing.
# What should a model answer then?
# Not anything but the old object: a model that avoids it has not forgotten but hides.
# The standard is a {term}`gold model`, trained from the start without the facts, which guesses.
# In a made-up world we can afford one, and where `gold_models` is 2 another one, to see how much two gold models differ.
#
# {term}`NPO` {cite:p}`zhang2024npo`, negative preference optimisation, minimises
#
# $$
# L = - \frac{2}{\beta} \, \mathbb{E} \log \sigma \Bigl( - \beta \log \frac{\pi(y \mid x)}{\pi_0(y \mid x)} \Bigr) + L_\text{retain} ,
# $$ (eq-npo)
#
# where $y$ is the old answer to a prompt $x$ of what is to be forgotten, $\pi$ the model and $\pi_0$ the model before, $\sigma$ the logistic function, $\beta = 0.5$, and $L_\text{retain}$ the cross-entropy of the retain rows.
# It pushes an old answer down until that is improbable, and then lets go; the retain rows hold the rest.
#
# How to read the table, besides what is still right and what is kept:
#
# - *D from gold* is the *forget quality* {cite:p}`maini2024tofu`. The *truth ratio* of a fact is $\bar p_\text{wrong} / (\bar p_\text{wrong} + p_\text{right})$ with the mean probability of the wrong objects: 0 for a model that is sure of the fact, one half for one that knows nothing. $D$ is the largest distance between its distribution functions in the model and in the gold model, 0 for no difference, and *log10 p* belongs to the Kolmogorov-Smirnov test of it.
# - *utility* is the harmonic mean, over what should have stayed, of accuracy, probability of the right answer, and one minus the truth ratio.
# - *relearned* says how much of one half of the forgotten facts comes back when the other half is taught again: what was only hidden may come back easily.
# - *balance*, by which learning rates are chosen, is the harmonic mean of retention and of the share forgotten, where being right as often as a guess counts as all forgotten.
# - *on an edge* marks a rate at the end of its list. Lists for unlearning are not extended, so a rate outside of it might have done better.

# %% tags=["hide-input"]
if result.unlearned is None:
    print("Nothing was unlearned in this run.")
else:
    shown = tables.unlearning_table(result.unlearned).pipe(page_table).format(precision=3, na_rep="–")
    caption = (
        f"Unlearning {plan.forgetting.n} of {first.n_subjects} subjects. 'nothing' is the model before, 'second gold' another gold model"
        f" held against the first, the best that can be had. A guess is right in {1 / first.n_objects:.1%} of cases."
    )
    display(shown.format("{:g}", subset=["rate"], na_rep="–").set_caption(caption))

# %% [markdown]
# First compare with the row "nothing", then with a guess, not with zero.
# A model that has forgotten as if it had never known has a small $D$, is right about as often as a guess, and relearns little; what it paid stands under *others kept* and *utility*.
#
# ## The claims
#
# Each claim was registered with its margin before any of these models was edited.
# Where a claim speaks of low rank, ranks count alike, so that none is picked by its score: for the main setting all ranks of the run, for the others those of `side_ranks`.

# %%
display(*editing.measure(result))

# %% [markdown]
# How to read these verdicts:
#
# - The worlds are small, the models nearly empty, and all facts independent or linked in one way only. Which method wins may change with the load, with depth, and with facts that mean something.
# - The intervals run over worlds, but for `editing.low-rank-often`: they say what another world of the same kind would give.
# - `editing.low-rank-often` counts settings: one that is at least as good as full rank is worth 1, one that is worse -1, one that is open 0. The settings share the same worlds, and those with one fact even the same edited facts, while the t interval over settings treats them as independent; so it is too narrow. The structured worlds are none of its settings.
# - `editing.linked-fact-suffers` and `editing.entailed-facts-stay` rest on one edited fact for each edit. An edit that failed counts as "not followed", and may leave the linked fact unharmed; the edit success is printed below {numref}`fig-ripple`.
# - "At least as good" means not more than one point of $H$ worse. A retention group may hold a handful of facts, so that one lost fact of a single edit can move $H$ by several points; the mean over edits is what counts.
# - With two or three worlds nearly everything must stay *not settled*. {doc}`model_editing_full` shows the kept record of the `full` profile: more worlds, more ranks, more settings, the same protocol.
#
# What was chosen, and from what: the lists of learning rates, how often each world is read, and the sizes of `quick` were chosen on worlds 901 to 903, which nothing reports.
# The claims were written down after a pilot on yet other worlds, in which low rank looked better at a fixed budget and worse at first success, and before any of the reported models was edited.
# Defaults of the closed forms and of RMU were set from the papers, after two of them had first been set by their scores on worlds that nothing reports.
#
# ```{admonition} What could not be checked against the paper
# :class: warning
# Of the paper {cite:p}`iofinova2026behemoth` only the abstract was at hand, and its public code, which makes the data.
# Not at hand were its tables and figures, the learning rates, the numbers of steps and the ranks that it tried, the size of its worlds, and how it restricted blocks.
# The code has no training, editing or evaluation.
# Where a choice had to be made, the page says so; a claim has "no figure at hand" where a number would be needed to compare with.
# A summary of the paper that circulates, written by a machine, says that MLPs and attention together did better than MLPs alone; since the thesis says that restricting blocks often helps, the direction is open, and both restrictions are tested.
# ```
#
# ## Try it on your own
#
# **Your facts.** A table with the columns subject, relation and object, one object for each subject and relation:
#
# ```console
# $ effnotes run model_editing -p facts=my_facts.csv
# ```
#
# From Python:
#
# ```python
# from effnotes.datasets.worlds import make_draws, read_facts
# from effnotes.finetuning import EditRecipe, edit, evaluate_edit
# from effnotes.training.pretraining import pretrain
#
# mine = read_facts("my_facts.csv", repeats=150)
# base = pretrain(mine.world, "neox-64x2").model
# task = make_draws(mine.world, "remap", n_tune=0, n_test=1).test[0]
# made = edit(base, task, EditRecipe(method="lora", rank=4, learning_rate=3e-3))
# print(mine.describe(task.old, task.train["edited"].facts.object), evaluate_edit(base, made.model, task).scores)
# ```
#
# **Your model.** A folder in the format of Hugging Face with a GPT-NeoX or Llama model that has learnt the world which you name, on a GPU or for longer than here:
#
# ```console
# $ effnotes run model_editing -p world=data/worlds/main.yaml -p worlds='[1]' -p checkpoint=my_model/
# ```
#
# **Your world.** A YAML file as in `data/worlds/`; every setting is explained at `effnotes.datasets.worlds.World`, and a wrong one is refused before anything is trained.
#
# **The full scale.** The paper's world, 300 million sentences, needs a large GPU and about an hour; training goes on where it was stopped.
# A middle one takes minutes there:
#
# ```console
# $ effnotes run model_editing --profile paper
# $ effnotes run model_editing --profile paper -p world=data/worlds/middle.yaml -p coverage=0.05
# ```
#
# ## Exercises
#
# ```{exercise-start}
# :label: exercise-sign
# ```
# A paper compares two ways of editing in three worlds and finds the first better in all three.
# What is the smallest p-value that an exact two-sided sign test over worlds can give?
# How many worlds are needed for 0.05, and how many if eight methods are compared with Holm's correction and all look equally good?
# ```{exercise-end}
# ```

# %% [markdown]
# ```{solution-start} exercise-sign
# :class: dropdown
# ```
# If both ways were equally good, each of $n$ worlds would favour the first with probability one half, so that all favour the same one with probability $2 \cdot 2^{-n}$.
# If all eight look equally good, Holm's correction {cite:p}`holm1979` multiplies each p-value by eight, as it does with the smallest.

# %%
for number in (3, 5, 6, 8, 9):
    alone = 2 * 0.5**number
    print(f"{number} worlds: p = {alone:.4f} alone, {min(1, 8 * alone):.4f} among eight")

# %% [markdown]
# ```{solution-end}
# ```

# %% [markdown]
# ```{exercise-start}
# :label: exercise-lora-size
# ```
# A GPT-NeoX block of width $d$ has weight matrices of $d \times 3d$ and $d \times d$ in its attention and of $d \times 4d$ and $4d \times d$ in its MLP.
# How many numbers does LoRA of rank $r$ train in a model of $L$ blocks?
# At which rank does it train as many as full rank, and is it then as expressive?
# Check your formula against the library.
# ```{exercise-end}
# ```

# %% [markdown]
# ```{solution-start} exercise-lora-size
# :class: dropdown
# ```
# A matrix of $m \times n$ takes $r(m + n)$ numbers, so a block takes $r(4d + 2d + 5d + 5d) = 16 r d$, where full rank takes $12 d^2$.
# They are equal at $r = \tfrac{3}{4} d$.
# There a matrix of $d \times d$ can change by rank $\tfrac{3}{4} d$ only, but it is described by $\tfrac{3}{2} d^2$ numbers: many of LoRA's numbers say the same thing twice, since $B A = (B M)(M^{-1} A)$ for every invertible $M$.

# %%
rank = ranks[-1]
one_step = EditRecipe(method="lora", rank=rank, checkpoints=(1,))
shape = base_model.config
by_library = edit(base_model, task, one_step).n_trainable
if shape.model_type == "gpt_neox" and shape.intermediate_size == 4 * shape.hidden_size:
    print(f"16 r d L = {16 * rank * shape.hidden_size * shape.num_hidden_layers}, the library trains {by_library}")

# %% [markdown]
# ```{solution-end}
# ```

# %% [markdown]
# ```{exercise-start}
# :label: exercise-stop
# ```
# Using the table `course` of this page, stop all methods not at the budget and not at first success but after a number of steps of your choice, with the rates that were chosen for the budget.
# Can you find a number of steps at which another method looks best?
# What would you have to write in a paper?
# ```{exercise-end}
# ```

# %% [markdown]
# ```{solution-start} exercise-stop
# :class: dropdown
# ```
# `course` has the mean over all edits for each method, rate and step.
# Where the best method changes from look to look, a ranking without its stop rule means nothing: the rule must be fixed beforehand, and it helps to show the whole course.

# %%
at_chosen = course[course["split"] == "test"].merge(best[["method", "learning_rate"]].drop_duplicates())
print(at_chosen.pivot_table(index="method", columns="step", values="H").reindex(order).round(3).to_string())

# %% [markdown]
# ```{solution-end}
# ```

# %% [markdown]
# ```{exercise-start}
# :label: exercise-retain
# ```
# Train without retain rows at all: draw a task with `retain_coverage=0` and make the same edit at full rank and by LoRA, with the learning rates that were chosen for the main setting.
# Which group of facts suffers most, and does the damage look like that of an edit with retain rows?
# ```{exercise-end}
# ```

# %% [markdown]
# ```{solution-start} exercise-retain
# :class: dropdown
# ```
# Two things happen at once: nothing repairs what the first steps tear, but the new fact is also learnt sooner, and once it is there the loss has nothing left to pull at.
# So the damage depends on what the first steps hold on to.
# If facts of the same relation, or with the same old object, suffer most, the model has learnt "this relation, that object" rather than "this subject"; if the subject's other facts do, it is the other way round.
# With retain rows the damage is what repair has left over; here it is what was done.

# %%
from effnotes.datasets.worlds import make_draws

(bare,) = make_draws(first, "remap", n_tune=0, n_test=1, retain_coverage=0.0, seed=draw_seed + 1).test
chosen_rate = best.groupby("method")["learning_rate"].first()
for method in (each for each in plan.main.grids if each.name in ("full linears", f"LoRA {ranks[-1]} linears")):
    torn = edit(base_model, bare, method.recipe(chosen_rate[method.name], tuple(steps)))
    kept = evaluate_edit(base_model, torn.model, bare).scores
    print(
        method.name,
        f"succeeded {kept['edit_success']:.0%}, kept",
        {name: round(kept[key], 2) for key, name in tables.GROUPS.items() if key in kept},
    )

# %% [markdown]
# ```{solution-end}
# ```

# %% [markdown]
# ```{exercise-start}
# :label: exercise-difference
# ```
# `edit` returns the difference of the weights.
# Add two differences, of two edits of different facts, to the base (`effnotes.finetuning.apply_difference`).
# Do both edits hold?
# Compare with editing one after the other.
# ```{exercise-end}
# ```

# %% [markdown]
# ```{solution-start} exercise-difference
# :class: dropdown
# ```
# Two small changes nearly add up if they use different directions; where they touch the same ones, they disturb each other.
# Editing one after the other lets the second see what the first did, but nothing keeps it from undoing it: its retain rows teach what the base knew.

# %%
from effnotes.finetuning import apply_difference

pair = make_draws(first, "remap", n_tune=0, n_test=2, retain_coverage=coverage, seed=draw_seed + 2).test
of_fact = REFERENCE.recipe(float(best.loc[best["method"] == REFERENCE.name, "learning_rate"].iloc[0]), tuple(steps))
singles = [edit(base_model, each, of_fact) for each in pair]
added = apply_difference(apply_difference(base_model, singles[0].difference), singles[1].difference)
in_turn = edit(singles[0].model, pair[1], of_fact).model
for name, edited_model in (("added", added), ("in turn", in_turn)):
    held = [evaluate_edit(base_model, edited_model, each).scores["edit_success"] for each in pair]
    print(f"{name}: first edit holds {held[0]:.0%}, second {held[1]:.0%}")

# %% [markdown]
# ```{solution-end}
# ```

# %% [markdown]
# ```{exercise-start}
# :label: exercise-guess
# ```
# A colleague is proud: after unlearning, the model never gives the forgotten object, its accuracy there is exactly zero.
# A gold model that never saw the facts is right in $1/O$ of the cases.
# Is zero better?
# How could somebody find out, from answers alone, which facts were removed?
# ```{exercise-end}
# ```

# %% [markdown]
# ```{solution-start} exercise-guess
# :class: dropdown
# ```
# Zero is worse: it is knowledge of what *not* to say.
# Ask often, and the object that never comes is the secret; with $n$ forgotten facts a model that guesses each misses all of them with probability $(1 - 1/O)^n$ only.

# %%
for n_facts in (10, 50, 100, 200):
    print(
        f"{n_facts} facts of {first.n_objects} objects: a guesser misses all with probability {(1 - 1 / first.n_objects) ** n_facts:.3f}"
    )

# %% [markdown]
# ```{solution-end}
# ```

# %% [markdown]
# ## Key takeaways
#
# - Judge an edit by what it should have left alone as well; a single accuracy of the edited facts says nothing about that.
# - The learning rate can decide who wins. Tune each method on edits of its own, with lists of the same length, and report others.
# - Where one stops can decide too. Say the stop rule, and show the course.
# - Say how many rows retain what the model knows: they repair what an edit tears, and a comparison with them need not hold without.
# - An edit is trained on a sentence, not on a belief: ask for what follows from it.
# - To have forgotten is to guess like a model that never knew; compare with one.
#
# ## Further reading
#
# {cite:t}`hu2022lora` introduce LoRA; {cite:t}`biderman2024lora` find that it learns less and forgets less.
# {cite:t}`meng2022rome` locate facts in the MLPs and write new ones there, {cite:t}`meng2023memit` many at once, and {cite:t}`fang2025alphaedit` in directions that other facts leave free.
# {cite:t}`cohen2024ripple` ask for what follows from an edit in real language models.
# {cite:t}`maini2024tofu` made the benchmark of forgetting whose measures this page uses, and {cite:t}`zhang2024npo` the loss.

# %% tags=["hide-cell"]
from effnotes.reporting.tables import keep_table

closed = tables.average_by_world(result.closed, [])
to_keep = {"models": knowledge, "ends": result.ends, "course": course, "settings": result.settings}
to_keep |= {"against_full": result.against_full, "rates": result.rates, "costs": costs, "trace": trace, "closed": closed}
if result.unlearned is not None:
    to_keep["unlearned"] = result.unlearned[["objective", "method", "world", *tables.UNLEARNED, "gold_accuracy"]]
display(*(keep_table(name, table) for name, table in to_keep.items()))
