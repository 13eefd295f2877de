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
# # Editing: the full study
#
# {doc}`The chapter <model_editing>` edits a few models a few times, because it is run anew for each build.
# This page shows one larger run of it, with more worlds, ranks, learning rates and settings, and the same protocol.
# It is not repeated with each build: its numbers are kept in a small file, the *kept record*, and all that follows is drawn from it.
# A build refuses the record as soon as the chapter's claims or parameters are no longer those of the run.
#
# **What you need to know**: the measures of {doc}`the chapter <model_editing>`; the {doc}`glossary` has a line on each.

# %% tags=["hide-input"]
import pandas as pd
from IPython.display import HTML, Markdown

from effnotes.reporting.claims import card_html
from effnotes.reporting.escaping import page_table
from effnotes.reporting.figures import use_style
from effnotes.reporting.findings import finding, what_we_found
from effnotes.reporting.kept import read_record
from effnotes.studies.editing import figures, tables
from effnotes.studies.editing import sentences as said

# %% tags=["parameters"]
record: str = "data/records/model_editing/full.json"  # the kept record that the page is drawn from

# %% tags=["hide-input"]
use_style()
kept = read_record(record)
ends, changes, settings, side_effects = (
    kept.table(name).astype({"rank": float}) for name in ("ends", "changes", "settings", "side_effects")
)
course, rates = kept.table("course").astype({"rank": float}), kept.table("rates")
order = list(dict.fromkeys(ends["method"]))


def answer(*names: str) -> HTML:
    """How claims came out, in one line."""
    return HTML(kept.verdicts_html(*(f"editing.{name}" for name in names)))


# %% [markdown]
# ## What this run found

# %% tags=["remove-input"]
what_we_found(*said.what_was_found(kept.claims))

# %% [markdown]
# ## The models
#
# Did the models know their worlds before they were edited?

# %% tags=["hide-input"]
models = kept.table("models")
models.pipe(page_table).format(precision=3, thousands="\u202f", na_rep="–").set_caption(
    "The models before any edit: what they know, as the share of facts answered exactly right in each form, and how full they are."
)

# %% tags=["remove-input"]
finding(said.models(models))

# %% tags=["remove-input"]
Markdown(
    f"Training these models took {models['processor time (s)'].sum() / 60:.0f} minutes of one core in all, in this run or in an earlier"
    " one: models that were there already are taken from a cache, and the duration at the end of the page leaves those out."
)

# %% [markdown]
# ## Low rank against full rank
#
# Does a change of low rank edit as well as full rank, and does it help to train fewer blocks?
# {numref}`fig-full-differences` has both stop rules, {numref}`fig-full-groups` which kinds of facts pay for an edit, and {numref}`fig-full-steps` when.

# %% mystnb={"figure": {"caption": "Difference in H from full-rank fine-tuning of all linear layers, with 95% intervals over worlds, under both stop rules. Right of zero is better. The band is as wide as the margin of the claim to either side.", "name": "fig-full-differences"}, "image": {"alt": "A chart with one row for each method and two marks with horizontal intervals in each row, one for the fixed budget and one for stopping at first success, around a shaded band at zero."}} tags=["hide-input"]
_ = figures.plot_differences(ends, order)

# %% tags=["remove-input"]
finding(said.differences(ends), figure="fig-full-differences")

# %% tags=["remove-input"]
answer("low-rank-as-good", "low-rank-stopped-early", "mlp-only-improves", "attention-only-improves")

# %% mystnb={"figure": {"caption": "Share kept of what the base knew, in each group of facts, after the last step at the rates chosen for the budget; means over worlds.", "name": "fig-full-groups"}, "image": {"alt": "A table of coloured cells: one row for each method, and columns for facts with the same old object, of the same relation, of the same subject, and all others."}} tags=["hide-input"]
_ = figures.plot_groups(ends, order)

# %% tags=["remove-input"]
finding(said.groups(ends), figure="fig-full-groups")

# %% mystnb={"figure": {"caption": "Edit success, and retention of the facts nearest to the edit, after each look, at the rates chosen for the budget. All linear layers are trained.", "name": "fig-full-steps"}, "image": {"alt": "Three panels against the number of steps, with one line for full rank and one for each rank of LoRA: edit success, share kept of facts with the same old object, and of the subject's other facts."}} tags=["hide-input"]
_ = figures.plot_course(course, ends)

# %% tags=["remove-input"]
finding(said.steps(course, ends), figure="fig-full-steps")

# %% [markdown]
# Does the comparison hang on the point that was picked?
# {numref}`fig-full-frontier` shows the trade between success and retention over all learning rates and looks, on the tuning edits.

# %% mystnb={"figure": {"caption": "Retention against edit success on the tuning edits: faint, every learning rate and look; joined, those that no other point of the method beats. All linear layers are trained.", "name": "fig-full-frontier"}, "image": {"alt": "A scatter of points of retention against edit success, one colour for full rank and for each rank of LoRA; lines join the best points of each."}} tags=["hide-input"]
_ = figures.plot_frontier(course)

# %% tags=["remove-input"]
finding(said.trade(course), figure="fig-full-frontier")

# %% [markdown]
# ## One learning rate for all
#
# What would one conclude from a single rate, that of full rank?
# {numref}`fig-full-ranks` has each method at its own rate and all at that one; {numref}`fig-full-rates` has the whole range that was tried.

# %% mystnb={"figure": {"caption": "H after the last step by rank and by trained blocks. Left, each method at the rate chosen for it; right, all at the rate chosen for full rank on all linear layers.", "name": "fig-full-ranks"}, "image": {"alt": "Two tables of coloured cells with H in each: rows are ranks from one to full, columns are attention, MLPs and all linear layers."}} tags=["hide-input"]
_ = figures.plot_ranks(ends)

# %% tags=["remove-input"]
finding(said.one_rate(ends), figure="fig-full-ranks")

# %% mystnb={"figure": {"caption": "Mean H on the tuning edits against the learning rate, after the last step. Each panel has one choice of blocks, each line a rank.", "name": "fig-full-rates"}, "image": {"alt": "Panels side by side, one for each choice of blocks, with lines of H against the learning rate on a logarithmic axis, one for full rank and one for each rank of LoRA."}} tags=["hide-input"]
_ = figures.plot_rates(course)

# %% tags=["remove-input"]
finding(said.peaks(course), figure="fig-full-rates")

# %% tags=["remove-input"]
answer("one-rate-misleads")

# %% tags=["remove-input"]
finding(said.rates(rates))

# %% [markdown]
# ## When is low rank enough?
#
# Does the comparison come out alike for more facts at once, and with fewer retain rows or more?
# {numref}`fig-full-settings` has the heights, with worlds as dots, and the table below it the differences, taken edit by edit.
# The claim below counts settings, which share worlds; its interval treats them as independent, and is too narrow.

# %% mystnb={"figure": {"caption": "H after the last step in each setting, full rank and LoRA on all linear layers, each at the rate chosen for it in that setting; dots are worlds, bars mark means. The percentage is the share of subjects that have retain rows.", "name": "fig-full-settings"}, "image": {"alt": "Groups of dots side by side, one group for each setting; within a group, one column of dots for full rank and one for each rank of LoRA, with a bar at the mean."}} tags=["hide-input"]
remaps = [name for name in dict.fromkeys(settings["setting"]) if "retained" in name]
_ = figures.plot_settings(settings, remaps)

# %% tags=["remove-input"]
against_full = kept.table("against_full")
finding(said.settings(against_full), figure="fig-full-settings")

# %% tags=["hide-input"]
tables.differences_table(against_full).pipe(page_table).format(precision=3, na_rep="–").set_caption(
    "LoRA minus full rank, setting by setting: mean difference in H with its 95% interval over worlds."
)

# %% tags=["remove-input"]
answer("low-rank-often")

# %% [markdown]
# ## Is the change itself of low rank?
#
# In {numref}`fig-full-truncation`, the rank from which a line is as high as its last point says how many directions of the change are enough.

# %% mystnb={"figure": {"caption": "Changes that full-rank edits make. Left, their mean stable rank by the blocks that were trained; dots are worlds. Right, H after each changed matrix was cut down to the given rank.", "name": "fig-full-truncation"}, "image": {"alt": "Left, columns of dots of the stable rank for each choice of blocks. Right, lines of H against the rank that is kept, one for each choice of blocks; the last point of each is the whole change."}} tags=["hide-input"]
_ = figures.plot_truncation(changes, kept.parameters["truncations"])

# %% tags=["remove-input"]
finding(said.truncation(changes, kept.parameters["truncations"]), figure="fig-full-truncation")

# %% [markdown]
# ## Rewriting a whole relation, and ripples
#
# What becomes of subjects that were never edited ({numref}`fig-full-spread`), and of facts that follow from the edited one ({numref}`fig-full-ripple`)?
# An edit that failed counts among those that were not followed.

# %% mystnb={"figure": {"caption": "After some facts of a relation were rewritten to one object: how held-out subjects answer on that relation.", "name": "fig-full-spread"}, "image": {"alt": "Horizontal stacked bars, one for each method and number of rewritten facts, with the shares of held-out subjects answered with the one object, with their old object, and in another way."}} tags=["hide-input"]
_ = figures.plot_spread(side_effects)

# %% tags=["remove-input"]
finding(said.spread(side_effects), figure="fig-full-spread")

# %% mystnb={"figure": {"caption": "After an edit in the structured worlds: how the entailed fact is answered, and what is kept of other facts.", "name": "fig-full-ripple"}, "image": {"alt": "Left, stacked bars for each method with the shares of entailed facts that follow the edit, stay as before, or are answered otherwise. Right, groups of bars for each method with the shares kept of other facts."}} tags=["hide-input"]
_ = figures.plot_ripple(side_effects)

# %% tags=["remove-input"]
finding(said.ripple(side_effects), figure="fig-full-ripple")

# %% tags=["remove-input"]
answer("suppression-spreads", "entailed-facts-stay", "linked-fact-suffers", "neighbours-damaged")

# %% [markdown]
# ## Closed forms
#
# What do edits that are computed instead of trained keep and lose?
# Each is run at two places, the last token of the subject, where the papers write, and the last token of the prompt.
# Their settings are the library's defaults, not tuned, while fine-tuning had its learning rates chosen; so the table is no ranking.

# %% tags=["hide-input"]
closed = kept.table("closed")
tuned = ends[(ends["rule"] == "budget") & (ends["blocks"] == "linears") & ends["world"].isin(closed["world"])]
beside = pd.concat([tuned, closed])
tables.closed_table(beside).pipe(page_table).format(precision=3, na_rep="–").set_caption(
    "Closed forms beside fine-tuning, on the same edits. Closed forms have no retain rows, and the library's defaults."
)

# %% tags=["remove-input"]
finding(said.closed_forms(beside))

# %% [markdown]
# ## Forgetting
#
# How near do losses of unlearning come to a {term}`gold model`?
# {doc}`The chapter <model_editing>` explains the columns.
# The losses: `grad_ascent` makes the old answers less likely without bound, `grad_diff` does so and trains on retain rows; `npo` {cite:p}`zhang2024npo` lets go once they are improbable, and `simnpo` {cite:p}`fan2024simnpo` does so without a reference model; `rmu` {cite:p}`li2024wmdp` moves hidden states; `refusal` teaches to refuse.
# Lists of learning rates for unlearning are not extended; *on an edge* marks a rate at the end of its list, where another one might have done better.

# %% tags=["hide-input"]
tables.unlearning_table(kept.table("unlearned")).pipe(page_table).format(precision=3, na_rep="–").format(
    "{:g}", subset=["rate"], na_rep="–"
).set_caption(
    "Unlearning: means over worlds. 'nothing' is the model before, 'second gold' another gold model held against the first, the best"
    " that can be had."
)

# %% tags=["remove-input"]
finding(said.forgetting(kept.table("unlearned")))

# %% [markdown]
# ## The verdicts

# %% tags=["remove-input"]
HTML("".join(card_html(claim) for claim in kept.claims.values()))

# %% [markdown]
# ## How to make it again

# %% tags=["remove-input"]
print("$ " + kept.command)

# %% [markdown]
# The run replaces the kept record, and the next build draws this page anew.
# It can be stopped at any time and goes on where it was.
#
# The record that this page shows was made like this:

# %% tags=["remove-input"]
HTML(kept.provenance_html())
