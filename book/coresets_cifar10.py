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
# # The same on photographs
#
# {doc}`The page on coresets <coresets>` prunes drawn glyphs, of which everything is known and which nobody wants to classify.
# CCS and ELFS were published on photographs, so it has to be asked whether the answers are the same there.
# This page shows one run on CIFAR-10 {cite:p}`krizhevsky2009cifar`, with far fewer images, a far smaller network and far fewer steps than were published.
#
# The photographs do not come with the book, so the run is not repeated when the book is built: all that follows is drawn from its *kept record*.
# Some labels are made wrong and some birds light and dark exchanged, as in the glyphs; how ambiguous a photograph is nobody knows.
# The pool without labels consists of photographs as well, and its encoder, principal components of pixels, is a poor one for them.

# %% tags=["hide-input"]
import matplotlib.pyplot as plt
import pandas as pd
from IPython.display import HTML

from effnotes.metrics.coverage import published_cutoff
from effnotes.reporting.claims import card_html, what_was_found
from effnotes.reporting.escaping import page_table
from effnotes.reporting.figures import PALETTE, legend_below, plot_by_level, use_style
from effnotes.reporting.findings import finding, takeaways
from effnotes.reporting.kept import read_record
from effnotes.studies.coresets import effects as said

# %% tags=["parameters"]
record: str = "data/records/coresets/cifar10.json"  # the kept record that the page is drawn from
drawn: str = "data/records/coresets/full.json"  # the kept record of the drawn glyphs, to compare with

# %% tags=["hide-input"]
use_style()
kept, other = read_record(record), read_record(drawn)
arms, pools, heads = (kept.table(name) for name in ("arms", "pools", "heads"))
rates, sweep_rate, high = kept.parameters["rates"], kept.parameters["sweep_rate"], max(kept.parameters["rates"])

# %% [markdown]
# ## What was found

# %% tags=["remove-input"]
takeaways(*(sentence for sentence, _ in what_was_found(kept.claims, said.FOUND)))

# %% [markdown]
# ## Who is kept, and who is covered?

# %% mystnb={"figure": {"caption": "Left: test accuracy on photographs against the share of training images pruned, CCS with the paper's cutoff. Right: accuracy on all, on the minority, and share of wrong labels in the coreset, against CCS's cutoff. Dots are seeds.", "name": "fig-cifar10-coresets"}, "image": {"alt": "Two line charts with one dot a seed: accuracy against the pruning rate for CCS, random and hardest, and accuracies and wrong labels against the cutoff."}} tags=["hide-input"]
fig, (left, right) = plt.subplots(1, 2, figsize=(7.4, 3.8))
main = arms[(arms["method"] != "CCS") | (arms["cutoff"] == arms["rate"].map(published_cutoff))]
for colour, method in zip(PALETTE, ("CCS", "random", "aum"), strict=False):
    of_method = main[(main["method"].isin([method, "full"])) & main["rate"].isin([0.0, *rates])]
    plot_by_level(of_method, "rate", "accuracy", ax=left, colour=colour, label=said.NAMES.get(method, method))
left.set(xlabel="share pruned", ylabel="test accuracy", ylim=(0, None))
swept = arms[(arms["rate"] == sweep_rate) & (arms["method"] == "CCS") & arms["cutoff"].isin(kept.parameters["cutoffs"])]
for colour, (column, name) in zip(
    PALETTE[3:], {"accuracy": "all", "minority": "minority", "wrong label": "wrong labels"}.items(), strict=False
):
    plot_by_level(swept, "cutoff", column, ax=right, colour=colour, label=name)
right.set(xlabel="cutoff", ylabel=f"share, {sweep_rate:.0%} pruned", ylim=(0, None))
_ = legend_below(fig, columns=3)

# %% tags=["remove-input"]
finding(f"{said.of_rate(arms, high)} {said.of_cutoffs(swept, sweep_rate)}", figure="fig-cifar10-coresets")

# %% [markdown]
# ## Without labels
#
# An encoder that does not tell the classes apart gives clusters that are no classes, and all that follows inherits it.

# %% tags=["hide-input"]
pools.groupby("method")[["accuracy", "labels", "least_class"]].mean().reset_index().pipe(page_table).format(
    {"accuracy": "{:.3f}", "labels": "{:.0f}", "least_class": "{:.2f}"}
).set_caption(
    "Means over draws of the pool: accuracy, labels used to choose and to train, and the rarest class's multiple of an even share."
)

# %% tags=["remove-input"]
finding(said.of_heads(heads))

# %% [markdown]
# ## The claims on both
#
# The claims, their margins and the rule are those of the glyphs; the scoreboard counts the glyphs only.

# %% tags=["hide-input"]
rows = [
    (
        name,
        f"{claim['verdict']}, {claim['estimate']:+.3f}",
        f"{other.claims[name]['verdict']}, {other.claims[name]['estimate']:+.3f}",
    )
    for name, claim in kept.claims.items()
]
beside = pd.DataFrame(rows, columns=["claim", "photographs", "glyphs and digits"])
beside.pipe(page_table).set_caption("Verdict and mean effect of each claim in both kept records.")

# %% tags=["remove-input"]
differ = [name for name, claim in kept.claims.items() if claim["verdict"] != other.claims[name]["verdict"]]
finding(f"Of {len(rows)} claims {len(rows) - len(differ)} have the same verdict on both; others: {', '.join(differ) or 'none'}.")

# %% tags=["hide-output", "remove-input"]
HTML("".join(card_html(claim) for claim in kept.claims.values()))

# %% [markdown]
# ## How to make it again

# %% tags=["remove-input"]
print("$ " + kept.command)

# %% tags=["remove-input"]
HTML(kept.provenance_html())
