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
# # Editing what a model knows
#
# A language model has learnt a fact that is wrong, or one that it should not tell.
# Instead of training it anew, one *edits* it: a few steps of {term}`fine-tuning` on the fact, and it answers as it should.
# What else has changed, and does it help to change less of the model, by a change of {term}`low rank <LoRA>` or in some of its blocks only?
# The thesis {cite:p}`iofinova2026thesis` and its paper {cite:p}`iofinova2026behemoth` report that restricting the rank frequently makes an edit better, and not only cheaper.
# This chapter asks **when low rank is enough**, in worlds of made-up facts, where everything that an edit should change and everything that it should leave alone can be listed.
#
# ```{what-we-found}
# ```
#
# **What you will be able to do**
#
# 1. Build a world in which every fact and every dependency between facts is known, and train a model on it.
# 2. Edit a model at full rank, by LoRA or in closed form, your own facts too, and write LoRA down by hand.
# 3. Say what an edit achieved and what it broke, and what a single accuracy hides.
# 4. Choose learning rates without fooling yourself, and compute a verdict from the effects of worlds by hand.
# 5. Make a model forget, and compare it with one that never knew.
#
# **What you need to know**: what a transformer, its attention and its MLPs are, cross-entropy, Adam, a rank and a singular value.
# How long this build took, and on what, stands at the end of the page; {doc}`how_to_run` has the profiles.

# %% tags=["hide-input"]
from typing import Any, Literal

from IPython.display import display

from effnotes.reporting.escaping import page_table
from effnotes.reporting.findings import finding, takeaways, what_we_found
from effnotes.reporting.metrics import report
from effnotes.studies import editing
from effnotes.studies.editing import sentences as said

# %% [markdown]
# ## Parameters
#
# These come first: which worlds, what they are like, which model, which ranks, and facts of your own with the edits that you want; the others lie in the fold below them.
# {doc}`how_to_run` says how to set them from the command line.

# %% tags=["parameters"]
worlds: list[int] = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]  # seeds; each has its own facts, edits and models
world: str = "data/worlds/small.yaml"  # what the facts are like; see data/worlds
model: Literal["neox-32x1", "neox-32x2", "neox-64x2", "neox-128x4", "pythia-31m", "llama-64x2"] = "neox-32x2"  # width x blocks
ranks: list[int] = [4]  # of LoRA
facts: str = ""  # CSV file of your own facts (subject, relation, object), in place of drawn ones
edits: str = ""  # CSV file of those of your facts that are to change, with their new objects

# Further settings
checkpoint: str = ""  # folder of a model that knows the world (config.json, model.safetensors), in place of training one
structured: str = "data/worlds/structured.yaml"  # what the worlds are like whose facts hang together, with the same seeds
pretraining: dict[str, Any] = {"batch_size": 64, "learning_rate": 0.01, "recall": 0.99, "probability": 0.95}  # of PretrainingRecipe
device: Literal["cpu", "cuda"] = "cpu"  # where models are trained and edited
blocks: list[Literal["all", "linears", "attention", "mlp"]] = ["linears", "attention", "mlp"]  # all: full rank only, every weight
full_rates: list[float] = [1e-3, 3e-3, 1e-2]  # learning rates to choose from, at full rank
lora_rates: list[float] = [3e-3, 1e-2, 3e-2]  # learning rates to choose from, of LoRA
extensions: int = 1  # how often a list of rates is extended where the best one is its end
steps: list[int] = [10, 30]  # steps after which an edit is looked at; the last is the budget
tune_worlds: int = 2  # worlds, of the first, that learning rates are chosen in
tune_draws: int = 2  # edits of each of them to choose learning rates on
test_draws: int = 1  # edits of each world to report, in each setting
structured_draws: int = 1  # the same, of the worlds whose facts hang together
draw_seed: int = 11  # of the edits
counts: list[int] = [4, 1]  # facts that are edited at once: first in the main setting, then in others
coverages: list[float] = [0.25]  # shares of the subjects whose facts are trained on to retain them, likewise
suppressed: list[int] = [8]  # facts of a relation that are rewritten to one object
closed_forms: list[Literal["rome", "memit", "alphaedit"]] = ["rome"]  # edits without training rows
truncations: list[int] = [1, 2, 4]  # ranks that changes of full rank are cut down to afterwards
unlearn: list[str] = ["npo"]  # losses of unlearning; see effnotes.studies.editing.unlearning.UNLEARNING
unlearn_full_rates: list[float] = [1e-3, 3e-3]  # learning rates to choose from, of unlearning at full rank
unlearn_lora_rates: list[float] = [1e-2, 3e-2]  # learning rates to choose from, of unlearning by LoRA
unlearn_share: float = 0.05  # share of the subjects that is forgotten
unlearn_steps: int = 40  # steps of unlearning
demo_worlds: int = 1  # worlds, of the first, in which facts are forgotten, and edited in closed form
gold_models: Literal[1, 2] = 1  # models of each of them that never see what is forgotten; 2 to compare them with one another

# %% tags=["check", "hide-input"]
plan = editing.plan(
    worlds=worlds, world=world, model=model, ranks=ranks, facts=facts, edits=edits, checkpoint=checkpoint, structured=structured,
    pretraining=pretraining, device=device, blocks=blocks, full_rates=full_rates, lora_rates=lora_rates, extensions=extensions,
    steps=steps, tune_worlds=tune_worlds, tune_draws=tune_draws, test_draws=test_draws, structured_draws=structured_draws,
    draw_seed=draw_seed, counts=counts, coverages=coverages, suppressed=suppressed, closed_forms=closed_forms,
    truncations=truncations, unlearn=unlearn, unlearn_full_rates=unlearn_full_rates, unlearn_lora_rates=unlearn_lora_rates,
    unlearn_share=unlearn_share, unlearn_steps=unlearn_steps, demo_worlds=demo_worlds, gold_models=gold_models,
)  # fmt: skip

# %% [markdown]
# ## Try it on your own
#
# Write your facts into a table with the columns subject, relation and object, one object for each subject and relation, and those that are to change into a second one, with their new objects.
# The run trains a model on your facts, makes each of your edits by itself, at full rank and by LoRA, and shows how they came out in {ref}`your-edits`.
# A misspelt name is refused before anything is trained.
#
# ```console
# $ effnotes run model_editing -p facts=my_facts.csv -p edits=my_edits.csv -p worlds='[1, 2]' -p counts='[1]' -p suppressed='[]'
# ```
#
# Here two models are trained, and the drawn edits that learning rates are chosen on change one fact at a time, as a small table has too few for more.
#
# How to do this from Python, and with a model or a world of your own, stands {ref}`at the end <more-of-your-own>`.
#
# ## The data: worlds of made-up facts
#
# Nobody can list what a model knows about the real world, so nobody can list what an edit should have left alone.
# In a made-up world both lists are complete.
# A world has subjects, relations and objects, and each subject has exactly one object of each relation.
#
# {numref}`fig-world` shows a corner of the two kinds of world of this chapter.
# In the first, all facts are independent, so that nothing follows from anything.
# In the second, the *structured* one, the objects of two relations mostly agree ({term}`correlated facts`), and each object belongs to a *nested* object, as a firm belongs to a town: the {term}`entailed fact` that whoever works at the firm works in the town is written out in the training text as well.

# %% mystnb={"figure": {"caption": "A corner of each kind of world: subjects on the left, their objects, and nested objects on the right. Solid lines are facts, in the colour of their relation; dotted ones are facts that two others entail; a grey arc joins objects of a correlated pair that agree.", "name": "fig-world"}, "image": {"alt": "Two diagrams of labelled boxes joined by lines: subjects to objects, and in the second one objects to nested objects, with dotted lines from subjects to nested objects and arcs between objects."}} tags=["hide-input"]
import matplotlib.pyplot as plt

from effnotes.datasets.worlds import plot_world
from effnotes.reporting.figures import use_style

use_style()
world_of_main, world_of_ripple = plan.main.bases[0].world, plan.ripple.bases[0].world
_, (left, right) = plt.subplots(1, 2, figsize=(7.4, 4.4), width_ratios=[1, 1.6])
plot_world(world_of_main, n_subjects=3, n_relations=2, ax=left).set_title("independent", loc="left")
_ = plot_world(world_of_ripple, n_subjects=3, n_relations=2, ax=right).set_title("structured", loc="left")

# %% tags=["remove-input"]
finding(said.worlds(world_of_main, world_of_ripple), figure="fig-world")

# %% [markdown]
# Facts are told in sentences of a language that has nothing but numbers, so that no word carries a meaning that we did not put there.
# `SS`, `RR` and `OO` announce a subject, a relation and an object, each of which is the number that follows; the other numbers are grammar.
# A fact is written with its subject first (`sro`) or its relation first (`rso`).
# A *prompt* is a sentence up to `OO`, and the answer is what comes after it.

# %% tags=["hide-input"]
from effnotes.studies.editing import figures, tables

few = world_of_main.facts("so").take(slice(0, 2))
tables.written_table(world_of_main, few, plan.named).pipe(page_table).set_caption(
    "Two facts of the first world as models read them, with what each word stands for in brackets."
)

# %% [markdown]
# ## The model: small, and sure of its world
#
# An edit can only be judged by what the model knew before it, so models are trained until they know nearly everything there is to know.
# They have the architecture of Pythia {cite:p}`biderman2023pythia`, as the library transformers implements it, at a tiny size.

# %%
import torch

from effnotes.core.jobs import WorkerPool

torch.set_num_threads(1)  # a second thread only waits for matrices as small as these
pool = WorkerPool()
models = editing.pretrain(plan, workers=pool)

# %% tags=["hide-input"]
names = {"kind": "world", "world": "number", "bits_per_parameter": "load (bits a parameter)", "cpu_s": "processor time (s)"}
knowledge = models.drop(columns="knows").rename(columns=names)
knowledge.pipe(page_table).format(precision=3, thousands="\u202f").format("{:.0f}", subset=["processor time (s)"]).set_caption(
    "The models before any edit: share of facts answered exactly right in each form (the least of all kinds of facts), and how full"
    " they are. Those of which some facts are left out are for the section on forgetting."
)

# %% tags=["remove-input"]
finding(said.models(knowledge))

# %% [markdown]
# The {term}`load` is what there is to know, $S R \log_2 O$ bits for $S$ subjects, $R$ relations and $O$ objects, over the number of parameters.
# Language models can hold about two bits in a parameter {cite:p}`allenzhu2025capacity`, so these are nearly empty.
# In a full model every edit may have to overwrite something, and what this page finds may not carry over.
#
# ## One edit, seen closely
#
# An edit is a *task*: facts to change, *rows* (sentences) to train on, and rows to ask.
# The subjects are split three ways: those of the edited facts; those whose facts, with their old answers, stand among the training rows so that the model keeps what it knows (the {term}`retain rows`); and those that are only asked about.
# "10% retained" in the name of a setting means that a share of 10% of all subjects has retain rows.
# Of the edited subjects no other fact is trained on.

# %%
from effnotes.finetuning import EditRecipe, edit, evaluate_edit

base_model = editing.load_base(plan.main.bases[0])
task = plan.main.draws.tasks(world_of_main, plan.main.setting, "tune")[0]
recipe = EditRecipe(method="lora", rank=ranks[-1], learning_rate=lora_rates[len(lora_rates) // 2])

# %% tags=["hide-input"]
main = plan.main.setting
tables.task_table(task).pipe(page_table).format(na_rep="–", precision=0).set_caption(
    f"One task ({main.name}): its groups, and how many rows of each are trained on and asked."
)

# %% [markdown]
# {term}`Fine-tuning <fine-tuning>` goes on with Adam on batches of a quarter edited rows and three quarters retain rows, at a constant {term}`learning rate`; the loss is the cross-entropy of the answers only.
# At {term}`full rank` each weight matrix $W$ of size $m \times n$ is free.
# {term}`LoRA` {cite:p}`hu2022lora` leaves $W$ as it is and learns a change of rank $r$,
#
# $$
# W' = W + \frac{\alpha}{r} B A , \qquad B \in \mathbb{R}^{m \times r},\ A \in \mathbb{R}^{r \times n} ,
# $$ (eq-lora)
#
# with $\alpha = 2r$ here, so that the scale $\alpha / r$ is the same for all ranks; $B$ begins at zero.
# It has $r(m + n)$ numbers to train instead of $mn$.
# One edit takes three lines, and the base model stays as it was:

# %%
made = edit(base_model, task, recipe)
scores = evaluate_edit(base_model, made.model, task)
print(f"{made.n_trainable} numbers trained, {len(made.difference)} matrices changed, first right after step {made.first_success}")

# %% tags=["hide-input"]
if plan.named:
    print(*plan.named.describe(task.old, task.train["edited"].facts.object), sep="\n")
answers = scores.groups.drop(columns="expects")
answers.insert(1, "right answer", scores.groups["expects"].map({"new": "the new object", "old": "as before"}))
answers["group"] = [f"{tables.MEANINGS.get(name, name)}" for name in answers["group"]]
answers.pipe(page_table).format(precision=3, na_rep="–").set_caption(
    "What one edit did, group by group: facts asked, share right, mean probability of the right answer, facts that the base knew,"
    " what was kept of these, and mean drift, the Kullback-Leibler divergence from the base (nats)."
)

# %% tags=["remove-input"]
finding(said.one_edit(scores.groups))

# %% [markdown]
# What has the library done?
# While an edit is trained, the factors $A$ and $B$ can be looked at.
# The next cell keeps the last ones and adds {eq}`eq-lora` to the base by hand; both models give the same logits.

# %%
import copy

factors: dict[str, torch.Tensor] = {}


def remember(current: torch.nn.Module) -> dict[str, float]:
    factors.update((name, value.detach().clone()) for name, value in current.named_parameters() if "lora_" in name)
    return {}


made, by_hand = edit(base_model, task, recipe, observe=remember), copy.deepcopy(base_model)
for name in made.difference:  # each matrix W that was changed
    B, A = (factors[f"base_model.model.{name.removesuffix('weight')}lora_{which}.default.weight"] for which in "BA")
    by_hand.get_parameter(name).data += recipe.scale * B @ A  # the scale is α / r
prompt = torch.from_numpy(task.encode("test", "edited").tokens).long()
assert torch.allclose(by_hand(prompt).logits, made.model(prompt).logits, atol=1e-4)

# %% [markdown]
# An edit has three kinds of scores.
#
# - {term}`Edit success <edit success>` is the share of edited facts that are answered with the new object, exactly, over the whole vocabulary.
# - {term}`Retention <retention>` is what is kept of what the base knew, in each of four groups: facts that share the relation and the old object, others of the same relation, the edited subjects' other facts, and all others. The groups count alike, though the first may have few facts.
# - {term}`Drift <drift>` says how far the distribution of answers has moved from the base's, which shows damage before an answer flips.
#
# $H$ puts the first two into one number.
# It is graded: it takes the probability of the new objects where success asks for the exact answer, and the probability of what was known where retention counts exact answers.
# With $e$ for the mean probability of the new objects, $k_g$ for the mean probability of the right answers to what the base knew of group $g$, $G$ for the groups that have facts, and $p$ and $q$ for what the base and the edited model hold probable as the next token $v$,
#
# $$
# k = \frac{1}{|G|} \sum_{g \in G} k_g , \qquad
# H = \frac{2 \, e \, k}{e + k} , \qquad
# \text{drift} = \sum_v p(v) \log \frac{p(v)}{q(v)} ,
# $$ (eq-scores)
#
# the last averaged over the prompts that should have stayed as they were.
# $H$ is high only if an edit takes *and* harms little.
#
# ## The experiment
#
# How does one compare methods that want different learning rates and learn at different speeds?
# A *method* is a choice of blocks and rank, such as "LoRA 4 attention"; `linears` are all linear layers of the blocks, and `all` every parameter.
# All are compared with "full linears", full rank on all linear layers, and all keep to one protocol.
#
# 1. Each method's learning rate is chosen in each setting, by edits that are never reported. A list of rates whose best one is its end is extended there, a limited number of times (`extensions`).
# 2. Then the rate is frozen, and other edits are made, the same for all methods. What is compared are differences on the same edit.
# 3. There are two {term}`stop rules <stop rule>`. The *budget* gives every method all the steps. *First success* ends an edit at the first look at which all edited facts are answered as they should be; it has learning rates of its own. The budget gives retain rows time to repair what the edit tore; first success is where an impatient editor would stop.
# 4. The independent units are the worlds, because edits of one model resemble each other; intervals run over worlds.

# %%
result = editing.run(plan, workers=pool)
pool.close()

# %% tags=["hide-input"]
order, course = [method.name for method in plan.main.grids], result.course
chosen = tables.rates_table(result.rates[result.rates["setting"] == main.name], order)
chosen.pipe(page_table).format("{:g}", subset=[name for name in chosen.columns if str(name).startswith("rate,")]).format(
    precision=0, subset=["rates tried"]
).set_caption(
    f"Learning rates that were chosen for {main.name}, under each stop rule; which are still the lowest or highest tried."
)

# %% tags=["remove-input"]
finding(said.rates(result.rates))

# %% tags=["hide-input"]
edits_of_main = result.rows[result.rows["setting"] == main.name].groupby("method")
costs = edits_of_main[["n_trainable", "optimizer_bytes", "cpu_s"]].median().reindex(order).reset_index()
tables.costs_table(costs, models["parameters"][0]).pipe(page_table).format(precision=1, thousands="\u202f").set_caption(
    f"What an edit of {main.checkpoints[-1]} steps costs: medians over edits. Adam keeps two moments beside each gradient."
)

# %% tags=["remove-input"]
finding(said.costs(costs))

# %% [markdown]
# ## Does low rank do as well?
#
# {numref}`fig-differences` shows the difference in $H$ from full rank on all linear layers, on the same edits.
# An interval wholly to the right of zero is a win for the method, one wholly to the left a loss, one that stays in the band a tie; all else is open, which is not the same as "no difference".

# %% mystnb={"figure": {"caption": "Difference in H from full-rank fine-tuning of all linear layers on the same edits, with 95% intervals over worlds, under both stop rules. Right of zero is better. The band is as wide as the margin of the claim to either side.", "name": "fig-differences"}, "image": {"alt": "A chart with one row for each method and two marks with horizontal intervals in each row, one for each stop rule, around a shaded band at zero."}} tags=["hide-input"]
_ = figures.plot_differences(result.ends, order)

# %% tags=["remove-input"]
finding(said.differences(result.ends), figure="fig-differences")

# %% tags=["hide-input"]
from effnotes.studies.editing.settings import REFERENCE
from effnotes.studies.editing.statistics import compare, paired_differences

best = result.endings["budget"]
worlds_text = said.counted(best["world"].nunique(), "world")
tables.scores_table(result.ends, order).pipe(page_table).format(precision=3, na_rep="–").set_caption(
    f"All methods after the last step, {main.name}: means over {worlds_text}. “In another form” is the success in a form that was not trained."
)

# %% tags=["hide-input"]
compared = compare(paired_differences(best, REFERENCE.name))
tables.differences_table(compared).pipe(page_table).format(precision=3, na_rep="–").set_caption(
    f"Differences in H from {REFERENCE.name} after the last step, {main.name}, with 95% intervals over {worlds_text}."
)

# %% [markdown]
# Does it depend on when one stops?
# An edit is a race: the new fact is learnt, which can tear at everything nearby, and the retain rows repair what was torn.
# {numref}`fig-steps` follows it.

# %% mystnb={"figure": {"caption": "Edit success, and what is kept of the facts that share the old object and of the edited subjects' other facts, after each look, at the rates chosen for the budget; means over worlds and edits. All linear layers are trained.", "name": "fig-steps"}, "image": {"alt": "Three panels against the number of steps on a logarithmic axis, with one line for full rank and one for each rank of LoRA."}} tags=["hide-input"]
_ = figures.plot_course(course, result.ends)

# %% tags=["remove-input"]
finding(said.steps(course, result.ends), figure="fig-steps")

# %% [markdown]
# (your-edits)=
# ### Your own edits
#
# Facts of your own are edited one at a time, by full rank and by LoRA on all linear layers, at the learning rates that were chosen on drawn edits of the same facts.

# %% tags=["hide-input"]
if result.own is not None and plan.named is not None:
    display(
        tables.own_table(result.own, plan.named)
        .pipe(page_table)
        .format(precision=2, na_rep="–")
        .set_caption(
            "Your edits: the object before, the one asked for, the most probable one after the edit, the probability of the one asked"
            " for, and what was kept of other facts, in groups by their relation to the edited one. Means over models."
        )
    )

# %% tags=["remove-input"]
finding("This run names no edits of its own." if result.own is None else said.own_edits(result.own))

# %% [markdown]
# ## One rate for all: how a conclusion turns
#
# What would somebody conclude who tunes full rank and uses its {term}`learning rate` for all methods?
# {term}`LoRA` commonly wants larger rates: its $B$ begins at zero, and at first a step moves $B A$ by little.
# {numref}`fig-ranks` shows ranks and blocks side by side, once with each method's own rate, once with the rate that was chosen for full rank on all linears; nothing else differs between the two tables.

# %% mystnb={"figure": {"caption": "H after the last step by rank and by trained blocks; means over worlds and edits. Left, each method at the rate chosen for it; right, all at the rate chosen for full rank on all linear layers.", "name": "fig-ranks"}, "image": {"alt": "Two tables of coloured cells with H in each: rows are ranks from low to full, columns are attention, MLPs and all linear layers; darker is higher."}} tags=["hide-input"]
_ = figures.plot_ranks(result.ends)

# %% tags=["remove-input"]
finding(said.one_rate(result.ends), figure="fig-ranks")

# %% mystnb={"figure": {"caption": "Mean H on the tuning edits against the learning rate, after the last step. Each panel has one choice of blocks, each line a rank.", "name": "fig-rates"}, "image": {"alt": "Panels side by side, one for each choice of blocks, with lines of H against the learning rate on a logarithmic axis, one for full rank and one for each rank of LoRA."}} tags=["hide-input"]
_ = figures.plot_rates(course)

# %% tags=["remove-input"]
finding(said.peaks(course), figure="fig-rates")

# %% [markdown]
# Does the comparison hang on the point that was picked?
# {numref}`fig-frontier` shows the best retention that any learning rate and any look reaches at each success.
# These are the best of many points on the same edits that they were picked on, so the lines flatter all methods.

# %% mystnb={"figure": {"caption": "Retention against edit success on the tuning edits: faint, every learning rate and look; joined, those that no other point of the method beats. All linear layers are trained.", "name": "fig-frontier"}, "image": {"alt": "A scatter of points of retention against edit success, one colour for full rank and for each rank of LoRA; lines join those points of each that no other one beats."}} tags=["hide-input"]
_ = figures.plot_frontier(course)

# %% tags=["remove-input"]
finding(said.trade(course), figure="fig-frontier")

# %% [markdown]
# ## When does low rank fail?
#
# Now the conditions change: how many facts are edited at once, and how many subjects have retain rows.
# If low rank has less to spare, many facts at once should be hard for it; if it protects what it does not touch, it should gain most where few rows or none remind the model of the rest.

# %% mystnb={"figure": {"caption": "H after the last step in each setting, full rank and LoRA on all linear layers, each at the rate chosen for it in that setting; dots are worlds, bars mark means. The percentage is the share of subjects that have retain rows.", "name": "fig-settings"}, "image": {"alt": "Groups of dots side by side, one group for each setting, named by the number of facts and the share of subjects with retain rows; within a group, one column of dots for full rank and one for each rank of LoRA, with a bar at the mean."}} tags=["hide-input"]
_ = figures.plot_settings(result.settings, [each.setting.name for each in (plan.main, *plan.further)])

# %% tags=["remove-input"]
finding(said.settings(result.against_full), figure="fig-settings")

# %% tags=["hide-input"]
tables.differences_table(result.against_full).pipe(page_table).format(precision=3, na_rep="–").set_caption(
    "LoRA minus full rank, setting by setting, on the same edits: mean difference in H with its 95% interval over worlds. A win or a"
    " loss is an interval that leaves zero out, a tie one that holds zero and stays within the margin of the claim; all else is open."
)

# %% [markdown]
# ### Why low rank can suffice
#
# If the change that full rank makes is itself nearly of low rank, LoRA gives up little.
# The {term}`stable rank` of a matrix, $\sum_i \sigma_i^2 / \max_i \sigma_i^2$ of its singular values, is $1$ for an outer product and grows with the number of directions that matter.
# And one can cut: keep the largest singular values of the change of each matrix, and ask the model again ({numref}`fig-truncation`).
# A change that full rank has found need not be the one that training at low rank would find.

# %% mystnb={"figure": {"caption": "Changes that full-rank edits make. Left, their mean stable rank by the blocks that were trained; dots are worlds. Right, H after each changed matrix was cut down to the given rank; the last point is the whole change.", "name": "fig-truncation"}, "image": {"alt": "Left, columns of dots of the stable rank for each choice of blocks. Right, lines of H against the rank that is kept, one for each choice of blocks."}} tags=["hide-input"]
_ = figures.plot_truncation(result.ends, truncations)

# %% tags=["remove-input"]
finding(said.truncation(result.ends, truncations), figure="fig-truncation")

# %% [markdown]
# ## Side effects
#
# Which facts pay for an edit?
# {numref}`fig-groups` takes retention apart: compare the columns to see what edits damage whatever the method, and the rows to see who damages it most.
# The facts of the first column are few, so that a single lost one weighs a lot.

# %% mystnb={"figure": {"caption": "What is kept of what the base knew, in each group of facts, after the last step at the rates chosen for the budget; means over worlds and edits.", "name": "fig-groups"}, "image": {"alt": "A table of coloured cells: one row for each method, and columns for facts with the same old object, of the same relation, of the same subject, and all others; the darker a cell, the more is kept."}} tags=["hide-input"]
_ = figures.plot_groups(result.ends, order)

# %% tags=["remove-input"]
finding(said.groups(result.ends), figure="fig-groups")

# %% [markdown]
# **Rewriting a whole relation.**
# The official code of the paper has an edit that rewrites a part of a relation's facts to one and the same object, as an editor does who wants "unknown" for an answer.
# Does the model learn a few exceptions, or a new rule for subjects that were never edited?

# %% mystnb={"figure": {"caption": "After some facts of a relation were rewritten to one object: how held-out subjects answer on that relation. Means over worlds and edits.", "name": "fig-spread"}, "image": {"alt": "Horizontal stacked bars, one for each method and number of rewritten facts, with the shares of held-out subjects answered with the one object, with their old object, and in another way."}} tags=["hide-input"]
_ = figures.plot_spread(result.settings)

# %% tags=["remove-input"]
finding(said.spread(result.settings), figure="fig-spread")

# %% [markdown]
# **What follows from a fact.**
# If a subject's object changes, its nested object should change along with it: {cite:t}`cohen2024ripple`'s ripple effect.
# What the old and the new object are nested in should stay.
# For the relation that usually agrees with the edited one there is no right answer.
# An edit that failed counts among those that were not followed.

# %% mystnb={"figure": {"caption": "After an edit in the structured worlds, after the last step: how the entailed fact is answered (as the edit implies, as before, otherwise), and what is kept of other facts. Means over worlds and edits.", "name": "fig-ripple"}, "image": {"alt": "Left, stacked bars for each method with the shares of entailed facts that follow the edit, stay as before, or are answered otherwise. Right, groups of bars for each method with the shares kept of four kinds of other facts."}} tags=["hide-input"]
_ = figures.plot_ripple(result.settings)

# %% tags=["remove-input"]
finding(said.ripple(result.settings), figure="fig-ripple")

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
#
# Where should one write?
# {term}`Causal tracing <causal tracing>` {cite:p}`meng2022rome` asks the model where it looks a fact up: it spoils the subject's embedding with noise, puts one hidden state back as it was, and sees how much of the answer returns.
# A state that no attention carries on to the answer brings nothing back: the subject's behind the last block, for one.

# %% mystnb={"figure": {"caption": "Causal trace of facts of the first world: how much of the answer's probability returns when the hidden state behind one block, at one place of the prompt, is put back; means over facts.", "name": "fig-trace"}, "image": {"alt": "A table of coloured cells with places of the prompt as rows (subject, relation, last token) and blocks as columns; the darker a cell, the more of the probability returns."}} tags=["hide-input"]
from effnotes.interpretation import causal_trace

traced = causal_trace(base_model, world_of_main, world_of_main.facts("so").take(slice(0, 64)))
trace = traced.groupby(["place", "layer"], sort=False)["recovered"].mean().reset_index()
_ = figures.plot_trace(trace)

# %% tags=["remove-input"]
finding(said.trace(trace), figure="fig-trace")

# %% [markdown]
# The papers write at the last token of the subject, where the trace of large models is dark.
# Here each closed form is run at two places: at the last token of the subject, in the last block from which the answer can still be reached, and at the last token of the prompt, in the last block.

# %% tags=["hide-input"]
import pandas as pd

tuned = best[best["method"].isin([REFERENCE.name, f"LoRA {ranks[0]} linears"]) & best["world"].isin(worlds[:demo_worlds])]
beside = pd.concat([tuned, result.closed])
tables.closed_table(beside, ["cpu_s"]).pipe(page_table).format(precision=3, na_rep="–").set_caption(
    "Closed forms beside fine-tuning, on the same edits: success, share kept by group, and processor time of an edit. It is no ranking:"
    " fine-tuning has retain rows and chosen learning rates, closed forms have neither, and the library's defaults."
)

# %% tags=["remove-input"]
finding(said.closed_forms(beside))

# %% [markdown]
# ## Forgetting
#
# To {term}`unlearn <unlearning>` is to edit towards not knowing.
# A model that answers anything but the old object has not forgotten but hides.
# The standard is a {term}`gold model`, trained from the start without the facts, which guesses; in a made-up world we can afford one.
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
# - *D from gold* is the *forget quality* {cite:p}`maini2024tofu`. The *truth ratio* of a fact is $\bar p_\text{wrong} / (\bar p_\text{wrong} + p_\text{right})$ with the mean probability of the wrong objects: $0$ for a model that is sure of the fact, one half for one that knows nothing. $D$ is the largest distance between its distribution functions in the model and in the gold model, and *log10 p* belongs to the Kolmogorov-Smirnov test of it.
# - *utility* is the harmonic mean, over what should have stayed, of accuracy, probability of the right answer, and one minus the truth ratio.
# - *relearned* says how much of one half of the forgotten facts comes back when the other half is taught again.
# - *balance*, by which learning rates are chosen, is the harmonic mean of retention and of the share forgotten, where being right as often as a guess counts as all forgotten. Lists of rates are not extended here; *on an edge* marks a rate at the end of its list.

# %% tags=["hide-input"]
if result.unlearned is not None:
    display(
        tables.unlearning_table(result.unlearned)
        .pipe(page_table)
        .format(precision=3, na_rep="–")
        .format("{:g}", subset=["rate"], na_rep="–")
        .set_caption(
            f"Unlearning {plan.forgetting.n} of {world_of_main.n_subjects} subjects. 'nothing' is the model before, 'second gold'"
            f" another gold model held against the first. A guess is right in {1 / world_of_main.n_objects:.1%} of cases."
        )
    )

# %% tags=["remove-input"]
forgetting = None if result.unlearned is None else said.forgetting(result.unlearned)
finding(forgetting or "Nothing was unlearned in this run.")

# %% [markdown]
# ## The claims
#
# What the sources say is written down as {term}`claims <claim>`, each with a {term}`margin`, and each gets a {term}`verdict`: *shown* if the 95% interval of the measured effect lies beyond the margin on the claimed side, *contradicted* if it lies on the other side, *not settled* otherwise.
# They were registered before any of the reported models was edited.
# Where a claim speaks of low rank, ranks count alike, so that none is picked by its score.

# %%
cards = editing.measure(result)
display(*cards)

# %% [markdown]
# A verdict is a few lines.
# Here is that of `editing.low-rank-as-good`, from the effects of this run: worlds are drawn with replacement, the spread of their mean is widened for their small number, and the interval is held against the margin.

# %%
import numpy as np
from scipy import stats

from effnotes.studies.editing.effects import effects

card = next(card for card in cards if card.claim.id == "editing.low-rank-as-good")
means = np.array([np.mean(world) for world in effects(result)["low-rank-as-good"]])  # H of low rank minus H of full rank
n = len(means)
if card.interval_method == "bootstrap":  # a single world gives no interval, and worlds that agree exactly another one
    drawn = np.random.default_rng(0).multinomial(n, np.full(n, 1 / n), size=10_000) / n  # weights of the worlds in each resample
    spread = (drawn @ (means - means.mean())).std() * np.sqrt(n / (n - 1))
    low, high = means.mean() + np.array([-1, 1]) * stats.t.ppf(0.975, n - 1) * spread
    verdict = "shown" if low > -card.claim.margin else "contradicted" if high < -card.claim.margin else "not settled"
    assert np.allclose(card.interval, (low, high))
    assert verdict == card.verdict

# %% [markdown]
# How to read these verdicts:
#
# - The worlds are small, the models nearly empty, and all facts independent or linked in one way only. Which method wins may change with the load, with depth, and with facts that mean something.
# - The intervals run over worlds, but for `editing.low-rank-often`, which counts settings: one that is at least as good as full rank is worth $1$, one that is worse $-1$, one that is open $0$. The settings share worlds, while the interval treats them as independent; so it is too narrow.
# - {doc}`model_editing_full` shows the kept record of the larger run.
#
# ```{admonition} What could not be checked against the paper
# :class: warning
# Of the paper {cite:p}`iofinova2026behemoth` only the abstract was at hand, and its public code, which makes the data but neither trains nor edits nor evaluates.
# Its tables, learning rates, numbers of steps, ranks and sizes of worlds, and how it restricted blocks, were not; a claim has "no figure at hand" where a number would be needed to compare with.
# ```
#
# ## What was changed after seeing results
#
# | What | Why | What it gave before |
# | --- | --- | --- |
# | The claims were written down after a pilot on worlds that nothing reports. | A claim needs a direction and a margin. | Low rank looked better at a fixed budget and worse at first success. |
# | Many small worlds with several edits each, where a few larger ones had one to three. | Worlds are the independent units, and intervals over so few were wider than any effect. | In `quick`, with 3 worlds, none of 10 claims was settled; in `full`, with 5, one: that rewriting a relation spreads. |
# | $H$ from probabilities, where it was made of exact answers. | One edited fact is right or wrong, so that $H$ was zero or near one. | LoRA minus full rank 0.006 ± 0.017 over 5 worlds of `full`. |
# | Longer lists of learning rates, on worlds that nothing reports. | In `quick` LoRA's rate stuck at the end of its list. | LoRA minus full rank about −0.6 in `quick`. |
# | Rates chosen on two edits a world, where it was one; one number of rewritten facts in `quick`, where it was two; structured worlds read 130 times, where it was 110. | After one run of `quick` on the twelve worlds: rates hung on single edits, and models that knew too little cost long extensions. | Five of ten claims settled, $H$ of low rank minus full rank 0.004 [−0.018, 0.026]. |
# | Forty-four worlds in `full`, where it was 30; world 31 has too few free objects for the edits and is left out. | After the 30 were seen: by their spread, more worlds settle more. | 5 of 10 claims shown, 2 contradicted, 3 not settled. |
# | In `quick` 30 steps in place of 40, two structured edits a world in place of three, and one share of retained subjects in place of two. | Time: it took seven core-minutes. | In `quick` 5 shown, 1 contradicted, 4 not settled. |
# | In `quick` ten worlds in place of twelve, and one structured edit a world in place of two. | Time: it took almost six core-minutes. | Not kept. |
# | Defaults of the closed forms and of RMU from the papers. | Two of them had been set by their scores, on worlds that nothing reports. | Nothing that was reported. |
#
# (more-of-your-own)=
# ## More of your own
#
# **Your facts, from Python.** A model learns them while you watch how many parts of its training are done:
#
# ```python
# from effnotes.datasets.worlds import edit_task, read_edits, read_facts
# from effnotes.finetuning import EditRecipe, edit, evaluate_edit
# from effnotes.training.pretraining import pretrain
#
# mine = read_facts("my_facts.csv", repeats=150)
# base = pretrain(mine.world, "neox-64x2", progress=print).model
# facts, new = read_edits("my_edits.csv", mine)
# task = edit_task(mine.world, facts.take(slice(1)), new[:1])
# made = edit(base, task, EditRecipe(method="lora", rank=4, learning_rate=3e-3))
# print(mine.describe(task.old, new[:1]), evaluate_edit(base, made.model, task).scores)
# ```
#
# **Your model.** A folder in the format of Hugging Face with a GPT-NeoX or Llama model that has learnt the world which you name:
#
# ```console
# $ effnotes run model_editing -p world=data/worlds/main.yaml -p worlds='[1]' -p checkpoint=my_model/
# ```
#
# **Your world.** A YAML file as in `data/worlds/`; every setting is explained at `effnotes.datasets.worlds.World`, and a wrong one is refused before anything is trained.
#
# **The full scale.** The paper's world needs a large GPU; training goes on where it was stopped.
# A middle one takes minutes there:
#
# ```console
# $ effnotes run model_editing --profile paper
# $ effnotes run model_editing --profile paper -p world=data/worlds/middle.yaml -p coverages='[0.05]'
# ```
#
# ## Exercises
#
# ```{exercise-start} 15 minutes, easy
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
# If both ways were equally good, each of $n$ worlds would favour the first with probability one half, so that all favour the same one with probability $2 \cdot 2^{-n}$: a quarter for three worlds.
# It is below 0.05 from 6 worlds on.
# If all eight look equally good, Holm's correction {cite:p}`holm1979` multiplies each p-value by eight, as it does with the smallest; then 9 worlds are needed.

# %%
for number in (3, 5, 6, 8, 9):
    alone = 2 * 0.5**number
    print(f"{number} worlds: p = {alone:.4f} alone, {min(1, 8 * alone):.4f} among eight")

# %% [markdown]
# ```{solution-end}
# ```

# %% [markdown]
# ```{exercise-start} 20 minutes, medium
# :label: exercise-lora-size
# ```
# A GPT-NeoX block of width $d$ has weight matrices of $d \times 3d$ and $d \times d$ in its attention and of $d \times 4d$ and $4d \times d$ in its MLP.
# How many numbers does LoRA of rank $r$ train in a model of $L$ blocks?
# At which rank does it train as many as full rank, and is it then as expressive?
# Check your formula against `made.n_trainable` for `recipe.rank` and `base_model.config`.
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
shape = base_model.config
if shape.model_type == "gpt_neox" and shape.intermediate_size == 4 * shape.hidden_size:
    print(f"16 r d L = {16 * ranks[-1] * shape.hidden_size * shape.num_hidden_layers}, the library trains {made.n_trainable}")

# %% [markdown]
# ```{solution-end}
# ```

# %% [markdown]
# ```{exercise-start} 25 minutes, medium
# :label: exercise-stop
# ```
# `result.course` has the mean over all edits for each split, method, learning rate and step, and `result.ends` the rates that were chosen.
# Stop all methods not at the budget and not at first success but after a number of steps of your choice, with the rates that were chosen for the budget.
# Can you find a number of steps at which another method looks best, and what would you have to write in a paper?
# ```{exercise-end}
# ```

# %% [markdown]
# ```{solution-start} exercise-stop
# :class: dropdown
# ```
# Where the best method changes from look to look, a ranking without its stop rule means nothing: the rule must be fixed beforehand, and it helps to show the whole course.

# %%
rates_of = result.ends.loc[result.ends["rule"] == "budget", ["method", "learning_rate"]].drop_duplicates()
at_chosen = result.course[result.course["split"] == "test"].merge(rates_of)
by_step = at_chosen.pivot_table(index="method", columns="step", values="H")
print(by_step.round(3).to_string())
print(*(f"after {step} steps {name} looks best" for step, name in by_step.idxmax().items()), sep="\n")

# %% [markdown]
# ```{solution-end}
# ```

# %% [markdown]
# ```{exercise-start} 25 minutes, hard
# :label: exercise-retain
# ```
# Make the edit of `task` again without any retain rows: `edit_task` of `effnotes.datasets.worlds` takes the facts (`task.old`), their new objects (`task.train["edited"].facts.object`) and `retain_coverage=0`.
# Train it by `recipe`, and at full rank by `EditRecipe(learning_rate=full_rates[len(full_rates) // 2])`.
# Which facts suffer most, with retain rows and without?
# ```{exercise-end}
# ```

# %% [markdown]
# ```{solution-start} exercise-retain
# :class: dropdown
# ```
# Without retain rows nothing repairs what the first steps tear, and all rows of a batch are the new fact.
# Where facts of the same relation, or with the same old object, suffer most, the model has learnt "this relation, that object" rather than "this subject"; where the subject's other facts do, it is the other way round.
# The last column says whether the edit took: damage counts only beside that.

# %%
from effnotes.datasets.worlds import edit_task

bare = edit_task(world_of_main, task.old, task.train["edited"].facts.object, retain_coverage=0.0)
recipes = {"LoRA": recipe, "full rank": EditRecipe(learning_rate=full_rates[len(full_rates) // 2])}
torn = {
    (name, rows): evaluate_edit(base_model, edit(base_model, which, how).model, which).scores
    for name, how in recipes.items()
    for rows, which in (("with retain rows", task), ("without", bare))
}
print(pd.DataFrame(torn).T[[*tables.GROUPS, "edit_success"]].round(2).to_string())
for name, found in ((name, torn[name, "without"]) for name in recipes):
    worst = min((found.get(column, 1.0), group) for column, group in tables.GROUPS.items())
    print(f"{name} without retain rows: edit success {found['edit_success']:.0%}; least is kept of “{worst[1]}”, {worst[0]:.0%}")

# %% [markdown]
# ```{solution-end}
# ```

# %% [markdown]
# ```{exercise-start} 25 minutes, hard
# :label: exercise-difference
# ```
# `edit` returns the difference of the weights.
# Add two differences, of edits of two tasks, to the base (`effnotes.finetuning.apply_difference`); `make_draws(world_of_main, "remap", n_tune=0, n_test=2).test` of `effnotes.datasets.worlds` gives two tasks.
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
from effnotes.datasets.worlds import make_draws
from effnotes.finetuning import apply_difference

pair = make_draws(world_of_main, "remap", n_tune=0, n_test=2).test
singles = [edit(base_model, each, recipe) for each in pair]
added = apply_difference(apply_difference(base_model, singles[0].difference), singles[1].difference)
in_turn = edit(singles[0].model, pair[1], recipe).model
for name, edited_model in (("added", added), ("in turn", in_turn)):
    held = [evaluate_edit(base_model, edited_model, each).scores["edit_success"] for each in pair]
    print(f"{name}: first edit holds {held[0]:.0%}, second {held[1]:.0%}")

# %% [markdown]
# ```{solution-end}
# ```

# %% [markdown]
# ```{exercise-start} 15 minutes, medium
# :label: exercise-guess
# ```
# A colleague is proud: after unlearning, the model never gives the forgotten object, its accuracy there is exactly zero.
# A gold model that never saw the facts is right in $1/O$ of the cases, with `world_of_main.n_objects` for $O$.
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
    missed = (1 - 1 / world_of_main.n_objects) ** n_facts
    print(f"{n_facts} facts of {world_of_main.n_objects} objects: a guesser misses all with probability {missed:.3f}")

# %% [markdown]
# ```{solution-end}
# ```

# %% [markdown]
# ## Key takeaways

# %% tags=["remove-input"]
takeaways(
    f"Judge an edit by what it should have left alone as well. {said.groups(result.ends)}",
    f"Tune each method on edits of its own, and report others. {said.one_rate(result.ends)}",
    f"Say when you stop. {said.differences(result.ends)}",
    f"Try more than one setting. {said.settings(result.against_full)}",
    f"An edit is trained on a sentence, not on a belief: ask for what follows. {said.ripple(result.settings)}",
    f"To have forgotten is to guess like a model that never knew. {forgetting or 'This run did not try.'}",
)

# %% [markdown]
# ## Further reading
#
# {cite:t}`hu2022lora` introduce LoRA; {cite:t}`biderman2024lora` find that it learns less and forgets less.
# {cite:t}`meng2022rome` locate facts in the MLPs and write new ones there, {cite:t}`meng2023memit` many at once, and {cite:t}`fang2025alphaedit` in directions that other facts leave free.
# {cite:t}`cohen2024ripple` ask for what follows from an edit in real language models.
# {cite:t}`maini2024tofu` made the benchmark of forgetting whose measures this page uses, and {cite:t}`zhang2024npo` the loss.

# %% tags=["remove-cell"]
what_we_found(*said.what_was_found({card.claim.id: card.to_json() for card in cards}))

# %% tags=["hide-cell"]
from effnotes.reporting.tables import keep_table

closed = tables.average_by_world(result.closed, [])
to_keep = {"models": knowledge, "course": course} | tables.tables_to_keep(result.ends, result.settings)
to_keep |= {"against_full": result.against_full, "rates": result.rates, "costs": costs, "trace": trace, "closed": closed}
if result.unlearned is not None:
    to_keep["unlearned"] = result.unlearned[["objective", "method", "world", *tables.UNLEARNED, "gold_accuracy"]]
ended = result.ends[result.ends["rule"] == "budget"].groupby("method")[["edit_success", "retention", "H"]].mean()
display(
    *(keep_table(name, table) for name, table in to_keep.items()),
    report("full-edit-success", ended["edit_success"].get(REFERENCE.name), unit="share of edits"),
    report("full-retention", ended["retention"].get(REFERENCE.name), unit="share of facts"),
    report("full-h", ended["H"].get(REFERENCE.name), unit="H"),
    report("best-h", ended["H"].max(), unit="H, best method"),
    report("edit-time", costs["cpu_s"].median(), unit="CPU s an edit, median over methods"),
)
