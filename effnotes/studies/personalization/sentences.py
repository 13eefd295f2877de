"""What a run of the chapter on personalisation found, in sentences from its tables and claims, true whatever they hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import pandas as pd

from effnotes.reporting.claims import verdict_sentence
from effnotes.studies.personalization.figures import SERVED, on_all_mails, served
from effnotes.studies.personalization.published import published
from effnotes.studies.personalization.tuning import NAMES

# What was measured for a claim, as `Measurement.to_json` gives it and a kept record holds it.
Payload: TypeAlias = Mapping[str, Any]

# Of each claim that the top of the page names: what is said where it is shown, where it is contradicted, and behind "Whether" where
# it is not settled.
_FOUND = {
    "tuning-beats-rag": (
        "Tuned on a person's mails, a model has more of the person's style than the base with earlier mails in its prompt",
        "Tuned on a person's mails, a model has no more of the person's style than the base with earlier mails in its prompt",
        "tuning gives a model more of a person's style than earlier mails in the prompt do",
    ),
    "peft-as-good": (
        "RoSA, which trains few numbers, has as much of the style as full fine-tuning",
        "RoSA, which trains few numbers, has less of the style than full fine-tuning",
        "RoSA has as much of the style as full fine-tuning",
    ),
    "rosa-beats-lora": (
        "With as many trained numbers, RoSA has a lower loss on held-out mails than LoRA",
        "With as many trained numbers, RoSA has a higher loss on held-out mails than LoRA",
        "RoSA has a lower loss than LoRA with as many trained numbers",
    ),
    "under-100": (
        "Fewer than 100 mails give as much style as twice as many",
        "Fewer than 100 mails give less style than twice as many",
        "fewer than 100 mails give as much style as twice as many",
    ),
    "raft-mends": (
        "A tuned model that is shown mails for the first time when it writes loses style, and tuning with mails shown mends that",
        "Retrieved mails cost a tuned model so little style that tuning with mails shown has hardly anything to mend",
        "tuning with retrieved mails mends what they cost a tuned model in style",
    ),
    "lora-leaks-less": (
        "Full fine-tuning gives a secret away more readily than LoRA that has learnt as much",
        "Full fine-tuning does not give a secret away more readily than LoRA that has learnt as much",
        "LoRA gives a secret away less readily than full fine-tuning that has learnt as much",
    ),
}
QUESTIONS = {name: question for name, (_, _, question) in _FOUND.items()}
"""Of each of these claims what is to be shown, in words that follow "that" or "whether"."""

_SHORT = ("tuning-beats-rag", "under-100", "lora-leaks-less")


def judged(claim: Payload) -> str:
    """Say what was found for a claim, as `verdict_sentence` does."""
    return verdict_sentence(claim, *_FOUND[claim["id"].partition(".")[2]])


def what_was_found(claims: Mapping[str, Payload]) -> list[tuple[str, str]]:
    """Give the sentences for the top of the page, each with its claim."""
    return [(judged(claims[name]), name) for name in (f"personal.{short}" for short in _FOUND) if name in claims]


def to_take_away(claims: Mapping[str, Payload]) -> list[str]:
    """Say what to take away: three claims, and how to read them."""
    last = "What writes like a person can pretend to be that person: tune on mails of your own alone."
    return [*(judged(claims[f"personal.{name}"]) for name in _SHORT), last]


def _mean(systems: pd.DataFrame, score: str) -> pd.Series[float]:
    shown = on_all_mails(systems)
    return shown[shown["serve"] == "none"].groupby("name", sort=False)[score].mean()


def rates_table(rates: pd.DataFrame) -> pd.DataFrame:
    """Give the chosen learning rates and steps, with the validation loss there and the number of rates that were tried."""
    table = rates.assign(validation_loss=-rates["score"])[["method", "learning_rate", "step", "validation_loss", "tried"]]
    return table.rename(columns={"learning_rate": "learning rate", "step": "steps", "validation_loss": "validation loss"})


def of_rates(rates: pd.DataFrame) -> str:
    """Say whether learning rates were found within their grids, where there was a choice."""
    if (rates["tried"] == 1).all():
        return (
            f"Each of {len(rates)} methods has a number of steps of its own, at the one learning rate that this run tries for it."
        )
    edges = rates.loc[rates["edge"] != "", "method"].tolist()
    said = f"Each of {len(rates)} methods has a learning rate and a number of steps of its own"
    return f"{said}; the best rate is the last that was tried for {', '.join(edges)}." if edges else f"{said}, within its grid."


def one_mail(
    examples: pd.DataFrame, systems: Sequence[tuple[str, str]] = (("none", "none"), ("none", "RAG"), ("lora", "none"))
) -> str:
    """Give an order, the real mail, and what some systems write.

    Args:
        examples: As `Result.examples`; of a reader's mails it is empty, and none is quoted. The first persona's are shown.
        systems: What is trained, as in `NAMES`, and how it is served.
    """
    if examples.empty:
        return "No mail of a reader is shown."
    shown = on_all_mails(examples)
    shown = shown[shown["persona"] == shown["persona"].iloc[0]]
    parts = [("order", shown["instruction"].iloc[0]), ("the real mail", shown["real"].iloc[0])]
    for kind, serve in systems:
        (text,) = shown.loc[(shown["kind"] == kind) & (shown["serve"] == serve), "written"]
        parts.append((f"{NAMES[kind]}, {SERVED[serve]}", text))
    return "\n\n".join(f"[{title}]\n{text}" for title, text in parts)


def methods_table(systems: pd.DataFrame) -> pd.DataFrame:
    """Give means over personas of each system: a row for each method and way to serve."""
    names = {"test_loss": "loss", "bleu": "BLEU", "rouge": "ROUGE-L", "mauve": "MAUVE", "accepted": "judge"}
    names = {score: name for score, name in names.items() if score in systems}  # a record may be older than MAUVE
    means = systems.groupby(["method", "serve"], sort=False)[["style", "content", "facts", *names]].mean().rename(columns=names)
    return means.reset_index().rename(columns={"serve": "context"})


def costs_table(systems: pd.DataFrame) -> pd.DataFrame:
    """Give means over personas of what tuning on all mails costs: a row for each method, memory in KiB."""
    tuned = systems[(systems["kind"] != "none") & (systems["serve"] == "none") & (systems["mails"] == systems["mails"].max())]
    names = {"trainable": "numbers trained", "adapter_bytes": "adapter", "training_bytes": "training", "base_bytes": "base"}
    means = tuned.groupby("method", sort=False)[[*names, "cpu_s"]].mean()
    means[[*names][1:]] /= 1024
    table: pd.DataFrame = means.rename(columns=names | {"cpu_s": "CPU seconds"}).reset_index()
    return table


def leaks_table(systems: pd.DataFrame) -> pd.DataFrame:
    """Give means over personas of what a model gives away of the mails that it was tuned on, by method on all of them."""
    shown = on_all_mails(systems)
    told = shown.pivot_table(index="name", columns="serve", values="told", dropna=False, sort=False)
    columns = {"none": "code told", "RAG": "code told with retrieval"}
    rest = {"membership": "membership AUC", "copied": "longest copy", "copied_real": "of real mails"}
    alone = shown[shown["serve"] == "none"].groupby("name", sort=False)[[*rest]].mean()
    table = told.reindex(columns=[*columns]).rename(columns=columns).join(alone.rename(columns=rest))
    return table.reindex([name for name in NAMES.values() if name in table.index]).rename_axis("method").reset_index()


_LEAKING = {"full": "full tuning", "LoRA": "LoRA"}


def of_leaks(systems: pd.DataFrame) -> str:
    """Say what can be got out of a tuned model: the code by asking, membership by the loss, and sentences."""
    table = leaks_table(systems).set_index("method")
    lora, methods = table.loc["LoRA"], {name: text for name, text in _LEAKING.items() if name in table.index}
    aucs = " and ".join(f"{table['membership AUC'][name]:.2f} after {text}" for name, text in methods.items())
    said = (
        f"Whether a mail was trained on is told from its loss with an AUC of {aucs} (1/2 is chance); a mail by LoRA shares"
        f" {lora['longest copy']:.1f} words in a row with a training mail, and a real held-out one {lora['of real mails']:.1f}"
    )
    if table["code told"].isna().all():
        return f"{said}."
    told = " and ".join(f"{text} tells it in {table['code told'][name]:.0%} of the answers" for name, text in methods.items())
    shown = table["code told with retrieval"]["base"]
    return (
        f"{said}. Asked for the mail with the code, {told}; the untuned base, shown the mails that retrieval finds, in {shown:.0%}."
    )


def of_cuts(cuts: pd.DataFrame) -> str:
    """Say what each form keeps of full tuning's difference at LoRA's budget."""
    if cuts.empty:
        return "Without full tuning there is no difference to cut."
    means = cuts.groupby("form")[["left", "style", "test_loss"]].mean()
    forms = {"low rank": "low rank alone", "sparse": "the largest entries alone", "both": "both together"}
    parts = []
    for form, text in forms.items():
        left, kept, loss = means.loc[form]
        parts.append(f"{text} {kept:.2f} (loss {loss:.2f}, {left:.0%} of the norm left out)")
    return f"Cut to as many numbers as LoRA trains, the difference that full tuning made keeps this style: {'; '.join(parts)}."


def of_masks(systems: pd.DataFrame) -> str:
    """Say what the rule of RoSA's mask does to the loss, and how far its mask is that of the largest weights."""
    rosa = systems[(systems["kind"] == "rosa") & ~systems["nf4"] & (systems["serve"] == "none")]
    losses = rosa.groupby("mask_rule", sort=False)["test_loss"].mean()
    words = {"grad_sq": "squared gradients", "grad_abs": "gradients", "magnitude": "the largest weights", "random": "chance"}
    listed = ", ".join(f"{loss:.3f} by {words[str(rule)]}" for rule, loss in losses.items())
    own = rosa[rosa["mask_rule"] == "grad_sq"]
    overlap = f"{own['overlap'].mean():.3f} of the places of either are common with the largest weights', by chance"
    return f"Loss by how the mask is chosen: {listed}. Of squared gradients' mask {overlap} {own['chance'].mean():.3f}."


def of_quantised(systems: pd.DataFrame) -> str:
    """Say what a base of four bits costs in loss and saves in memory."""
    shown = systems[(systems["mails"] == systems["mails"].max()) & ~systems["raft"] & (systems["mask_rule"] == "grad_sq")]
    shown = shown[(shown["serve"] == "none") & shown["kind"].isin(["lora", "rosa"])]
    if not shown["nf4"].any():
        return "This run has no base of four bits."
    loss = shown.groupby(["kind", "nf4"])["test_loss"].mean()
    size = shown.groupby("nf4")["base_bytes"].mean()
    listed = " and ".join(f"{NAMES[kind]} from {loss[kind, False]:.3f} to {loss[kind, True]:.3f}" for kind in ("lora", "rosa"))
    return f"In four bits the linear layers take {size[True] / size[False]:.1%} of their memory, and the loss goes by {listed}."


def of_methods(systems: pd.DataFrame) -> str:
    """Say how the methods on all mails compare in style and loss."""
    style, loss = _mean(systems, "style"), _mean(systems, "test_loss")
    listed = ", ".join(f"{name} {style[name]:.2f}" for name in NAMES.values() if name in style)
    best = str(loss.idxmin())
    lowest = f"the lowest loss on held-out mails is that of {best}, {loss[best]:.3f} nats a token"
    full_marks = style.drop("base").min() > 0.98
    rest = " Style is at its upper end for all of them, so only the loss can tell them apart." if full_marks else ""
    return f"Style, without mails in the prompt: {listed}; {lowest}.{rest}"


def of_budget(systems: pd.DataFrame) -> str:
    """Say how many numbers the methods train."""
    trained = _mean(systems, "trainable")
    few = trained.drop(["base", "full"], errors="ignore")
    whole = trained.get("full")
    share = f", {few.max() / whole:.0%} of the {whole:,.0f} in the linear layers" if whole else ""
    return f"{', '.join(few.index[:-1])} and {few.index[-1]} train {few.min():,.0f} to {few.max():,.0f} numbers{share}."


def of_numbers(systems: pd.DataFrame) -> str:
    """Say how style grows with the number of mails under LoRA."""
    chosen = systems[(systems["kind"] == "lora") & ~systems["raft"] & ~systems["nf4"] & (systems["serve"] == "none")]
    means = chosen.groupby("mails")["style"].mean()
    listed = ", ".join(f"{value:.2f} on {number}" for number, value in means.items())
    return f"Style by LoRA is {listed} mails; the untuned base has {_mean(systems, 'style')['base']:.2f}."


def of_served(systems: pd.DataFrame) -> str:
    """Say what mails in the prompt do to style and to facts, with and without RAFT."""
    style, facts = served(systems, "style").dropna(), served(systems, "facts")
    parts = [f"{name} {before:.2f} alone and {after:.2f} with them" for name, before, after in style.itertuples()]
    said = f"Retrieved mails in the prompt and style: {'; '.join(parts)}"
    if facts.loc["LoRA, RAFT"].isna().all():
        return f"{said}."
    alone, shown = facts.loc["LoRA, RAFT"]
    told = f"the model tuned with RAFT tells {shown:.0%} with retrieval and {alone:.0%} without"
    return f"{said}. Of facts that only an indexed mail tells, {told}."


def of_crosses(crosses: pd.DataFrame) -> str:
    """Say for how many personas no other's model writes their mails better than their own."""
    if crosses.empty:
        return "This run has one writer, whose model cannot be compared with those of others."
    table = crosses.pivot(index="persona", columns="other", values="style")
    styles = table.to_numpy()
    best = int((styles.diagonal() >= styles.max(axis=0)).sum())
    own = float(styles.diagonal().mean())
    others = float((styles.sum() - own * len(table)) / (table.size - len(table)))
    scores = f"style {own:.2f}, by others' models {others:.2f}"
    return f"Of {len(table)} personas {best} have their mails written best by their own model: {scores}."


def of_exposure(course: pd.DataFrame) -> str:
    """Say how exposed the code is at the end of training, by method."""
    shown = on_all_mails(course).dropna(subset="exposure")
    if shown.empty:
        return "There is no planted code in these mails, and so no exposure."
    last = shown[shown["step"] == shown.groupby(["persona", "name"])["step"].transform("max")]
    means = last.groupby("name")["exposure"].mean()
    before = shown.loc[shown["step"] == 0, "exposure"].mean()
    listed = ", ".join(f"{means[name]:.1f} after {name}" for name in NAMES.values() if name in means)
    return f"Of at most 13.3 bits the code has an exposure of {before:.1f} before training and {listed}."


def of_metrics(systems: pd.DataFrame) -> str:
    """Say how BLEU goes with content and style over all systems, means over personas first."""
    means = systems.groupby(["method", "serve"])[["bleu", "content", "style"]].mean()
    if means["content"].isna().all():
        return "Of a reader's own mails it is not known what they were to say, so BLEU is compared with nothing."
    found = means.rank().corr()["bleu"]
    if found.isna().any():
        return "BLEU, content or style is the same for all systems here, so none goes with another."
    both = f"{found['content']:.2f} with content and {found['style']:.2f} with style"
    return f"Over {len(means)} systems BLEU has a Spearman correlation of {both}."


def of_mauve(systems: pd.DataFrame, n: int) -> str:
    """Say how MAUVE ranks systems, and what real mails get; n is the number of mails a side."""
    means = systems.groupby(["method", "serve"], sort=False)[["mauve", "mauve_real"]].mean()
    found, real = means["mauve"], means["mauve_real"].mean()
    order = found.sort_values(ascending=False, kind="stable").reset_index()
    names = [f"{method} {SERVED[serve]}" for method, serve in zip(order["method"], order["serve"], strict=True)]
    return (
        f"In this build MAUVE, of {n} mails a side, is highest for {names[0]} ({found.max():.2f}) and lowest for"
        f" {names[-1]} ({found.min():.2f}). As many other real mails of the same persons have {real:.2f}, and"
        f" {int((found >= real).sum())} of {len(found)} systems have that or more."
    )


def habits_table(habits: pd.DataFrame) -> pd.DataFrame:
    """Give means over writers of the shares of mails with each habit: of the real ones, and as methods on all mails write them."""
    shown = on_all_mails(habits)
    shown = shown[shown["serve"] == "none"]
    table = shown.pivot_table(index="habit", columns="name", values="written", sort=False)
    table.insert(0, "real mails", shown.groupby("habit")["real"].mean())
    return table.reset_index()


def of_habits(habits: pd.DataFrame) -> str:
    """Say how often the base and LoRA have the habits that are found in the mails, and how long their mails are."""
    table = habits_table(habits).set_index("habit")
    real, lora, base = (table[name].to_dict() for name in ("real mails", "LoRA", "base"))
    words = {
        "greeting": "begin with the usual first word",
        "signoff": "have the usual sign-off",
        "name": "end with the usual last line",
    }
    parts = [
        f"{real[habit]:.0%} of the real mails {word}, {lora[habit]:.0%} by LoRA and {base[habit]:.0%} by the base"
        for habit, word in words.items()
    ]
    return (
        f"By what is found in the training mails alone, {'; '.join(parts)}. In length the largest difference between the shares of"
        f" mails of at most so many words is {lora['length']:.0%} by LoRA and {base['length']:.0%} by the base."
    )


def of_published() -> str:
    """Say what stands in RoSA's published table, where it contradicts a figure beside it, and what is missing of Panza's."""
    table, bars, panza = published("rosa"), published("rosa_bars"), published("panza")
    kind = table["method"].str.split().str[0]
    better = sum(
        table.loc[(kind == "RoSA") & (table["parameters"] == budget), task].max()
        > table.loc[(kind == "LoRA") & (table["parameters"] == budget), task].max()
        for budget in table.loc[kind == "LoRA", "parameters"]
        for task in ("gsm8k", "viggo", "sql")
    )
    full = table.loc[kind == "full", ["gsm8k", "viggo", "sql"]].iloc[0]
    pairs = ", ".join(f"{bars[task].iloc[0]:.1f} against {full[task]:.1f}" for task in full.index)
    missing = int(panza.isna().sum().sum())
    return (
        f"In {better} of 9 pairs of task and budget the best RoSA of the table is above LoRA after one epoch. For full tuning the"
        f" bars beside the table show other accuracies than the table ({pairs}). Of Panza's own tables {missing} cells are not"
        " transcribed."
    )
