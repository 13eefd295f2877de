"""What a run of the chapter on editing found, in sentences: made from its tables and claims, and true whatever they hold.

The tables are those of `effnotes.studies.editing.tables`, of a run or of a kept record. A number that worlds differ in has its 95%
interval over worlds behind it, or says that one world gives none.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import pandas as pd

from effnotes.datasets.worlds.world import World
from effnotes.reporting.claims import cluster_interval, format_number, interval_text
from effnotes.studies.editing.settings import REFERENCE
from effnotes.studies.editing.statistics import compare, frontier, paired_differences
from effnotes.studies.editing.tables import GROUPS

# What was measured for a claim, as `Measurement.to_json` gives it and a kept record holds it.
Payload: TypeAlias = Mapping[str, Any]

_SAME = 1e-6  # width below which an interval is none

# Of each claim: what its effect is, and what is said where it is shown, where it is contradicted, and where it is not settled, that
# behind "whether".
_FOUND = {
    "low-rank-as-good": (
        "difference in H",
        "Low rank edits as well as full rank, given the same number of steps",
        "Low rank edits worse than full rank, given the same number of steps",
        "low rank edits as well as full rank, given the same number of steps,",
    ),
    "one-rate-misleads": (
        "H at its own rate minus H at full rank's",
        "At full rank's best learning rate, low rank looks worse than it is",
        "At full rank's best learning rate, low rank looks hardly worse than at its own",
        "low rank looks worse at full rank's best learning rate than at its own",
    ),
    "low-rank-often": (
        "won minus lost, per setting",
        "Over the settings, low rank is more often as good as full rank than worse",
        "Over the settings, low rank is more often worse than full rank than as good",
        "low rank is more often as good as full rank than worse, over the settings,",
    ),
    "neighbours-damaged": (
        "difference in the share kept",
        "Facts that share the edited fact's old object are lost more often than unrelated ones",
        "Facts that share the edited fact's old object are lost hardly more often than unrelated ones",
        "facts that share the edited fact's old object are lost more often than unrelated ones",
    ),
    "entailed-facts-stay": (
        "share that follows minus one half",
        "Most facts that follow from an edited one do not change with it",
        "Most facts that follow from an edited one change with it",
        "most facts that follow from an edited one stay as they were",
    ),
}


def counted(number: int, noun: str) -> str:
    """Write a number of things, such as "1 world" or "12 worlds"."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def judged(claim: Payload) -> str:
    """Say what was found for a claim of this chapter: in words by its verdict, then the estimate, its interval and the units.

    Args:
        claim: Of one of the claims that the top of the page names.
    """
    effect, shown, contradicted, question = _FOUND[claim["id"].partition(".")[2]]
    said = {"shown": shown, "contradicted": contradicted}.get(claim["verdict"], f"Whether {question} is not settled")
    if claim["estimate"] is None:
        return f"{said}: this run has nothing to measure it on."
    n, bounds = len(claim["effects"]), claim["interval"]
    estimate = format_number(claim["estimate"], spread=bounds[1] - bounds[0] if bounds else 0.0)
    interval = f"95% interval {interval_text(bounds)}" if bounds else "no interval"
    units = counted(n, claim["unit_of_analysis"].rpartition("within ")[2])
    why = f": {claim['unsettled']}" if claim.get("unsettled") else ""  # kept records of old do not say
    return f"{said} ({effect} {estimate}, {interval}, {units}{why})."


def what_was_found(claims: Mapping[str, Payload]) -> list[tuple[str, str]]:
    """Give the sentences for the top of the page, each with the id of its claim.

    Args:
        claims: By id.
    """
    return [(judged(claims[name]), name) for name in (f"editing.{short}" for short in _FOUND) if name in claims]


def mean_text(by_world: Iterable[float], limits: tuple[float, float] | None = (0.0, 1.0)) -> str:
    """Write the mean over worlds, with its interval where there are several.

    Args:
        by_world: A value a world; those that are NaN are left out.
        limits: Least and greatest possible value; None where there are none.
    """
    values = [[float(value)] for value in by_world if not np.isnan(value)]
    if not values:
        return "nothing (no world has such facts)"
    return _with_interval(*(cluster_interval(values, limits=limits) if len(values) > 1 else (values[0][0], np.nan, np.nan)))


def _with_interval(mean: float, low: float, high: float) -> str:
    if not _SAME < high - low < np.inf:
        return format_number(round(mean, 3))
    return f"{format_number(mean, spread=high - low)} {interval_text((low, high))}"


def _lone(table: pd.DataFrame) -> str:
    """What follows a sentence whose numbers stand alone, of a table with a row for each world or the number of worlds."""
    n = table["worlds"].max() if "worlds" in table else table["world"].nunique()
    return " One world gives no interval." if n == 1 else ""


def _of(ends: pd.DataFrame, rule: str = "budget") -> pd.DataFrame:
    return ends[ends["rule"] == rule]


def _full(table: pd.DataFrame) -> pd.DataFrame:
    return table[table["method"] == REFERENCE.name]


def _low_rank(table: pd.DataFrame) -> pd.DataFrame:
    """Rows of LoRA on all linear layers."""
    return table[(table["blocks"] == "linears") & table["rank"].notna()]


def worlds(independent: World, structured: World) -> str:
    """Say how large the two kinds of world are."""
    said = [
        f"{what} world has {world.n_subjects} subjects, {world.n_relations} relations of {world.n_objects} objects and"
        f" {len(world.facts())} facts"
        for what, world in (("An independent", independent), ("a structured", structured))
    ]
    return f"{'; '.join(said)}, nested ones included."


def models(table: pd.DataFrame) -> str:
    """Say how well the models know their worlds, and how full they are; the table of models that is kept."""
    whole = table[~table["world"].str.contains("left out")]
    known, load = float(np.nanmin(whole.filter(like="known, "))), float(whole["load (bits a parameter)"].max())
    return (
        f"Of the {counted(len(whole), 'model')} that read all of their world, the least sure answers {known:.1%} of its facts, in"
        f" the form that it knows worst, and the fullest holds {format_number(load)} bits a parameter."
    )


def one_edit(groups: pd.DataFrame) -> str:
    """Say what one edit did, of the table of groups of `evaluate_edit`."""
    edited, kept = groups.set_index("group").loc["edited"], groups.dropna(subset="kept")
    lost = int((kept["known"] * (1 - kept["kept"])).round().sum())
    said = f"The edited model gives the new object with probability {edited['probability']:.2f}, and has lost"
    return f"{said} {lost} of the {int(kept['known'].sum())} other facts that it was asked and the base knew."


def rates(chosen: pd.DataFrame) -> str:
    """Say how many chosen learning rates are an end of their list, of a table as `choose_rates` gives it."""
    edges = chosen[chosen["edge"] != ""]
    if edges.empty:
        return f"Of {len(chosen)} chosen learning rates, none is still an end of a list of several."
    low_rank = int(edges["method"].str.startswith("LoRA").sum())
    said = f"Of {len(chosen)} chosen learning rates, {len(edges)} are still an end of their list ({low_rank} of them LoRA's):"
    return f"{said} such a method may do better than it is shown."


def costs(table: pd.DataFrame) -> str:
    """Say what LoRA saves, of a table with columns method, n_trainable and cpu_s."""
    row = table.set_index("method")
    full, low = row.loc[REFERENCE.name], row[row.index.str.fullmatch(r"LoRA \d+ linears")].iloc[-1]
    said = f"{low.name} trains {low['n_trainable'] / full['n_trainable']:.0%} of the numbers of {REFERENCE.name}, and an edit takes"
    return f"{said} {low['cpu_s'] / full['cpu_s']:.2f} times its processor time."


def peaks(course: pd.DataFrame) -> str:
    """Say at which learning rates full rank and LoRA on all linears are best on the tuning edits."""
    tuned = course[(course["split"] == "tune") & (course["step"] == course["step"].max()) & (course["blocks"] == "linears")]
    best = tuned.loc[tuned.groupby("method", sort=False)["H"].idxmax()].set_index("method")
    said = [f"{name} at {row['learning_rate']:g} (H {row['H']:.2f})" for name, row in best.iterrows()]
    return f"On the tuning edits, H is highest for {', for '.join(said)}."


def steps(course: pd.DataFrame, ends: pd.DataFrame) -> str:
    """Say how far full rank and the highest rank of LoRA are after the first look and after the last one."""
    own = course[course["split"] == "test"].merge(_of(ends)[["method", "learning_rate"]].drop_duplicates())
    low_rank = _low_rank(own)
    shown = pd.concat([_full(own), low_rank[low_rank["rank"] == low_rank["rank"].max()]]).sort_values("step", kind="stable")
    said = []
    for name, rows in shown.groupby("method", sort=False):
        first, last = rows.iloc[0], rows.iloc[-1]
        said.append(
            f"{name} has edited {first['edit_success']:.0%} of the facts after {first['step']:.0f} steps, and kept"
            f" {first['kept_same_value']:.0%} of those with the same old object; after {last['step']:.0f} it is"
            f" {last['edit_success']:.0%} and {last['kept_same_value']:.0%}"
        )
    return f"{'. '.join(said)}."


def differences(ends: pd.DataFrame) -> str:
    """Say how LoRA on all linears differs from full rank under both stop rules, and how all methods came out."""
    said = []
    for rule, words in (("budget", "With all steps"), ("first_success", "Stopped at first success")):
        found = compare(paired_differences(_of(ends, rule).assign(draw=0, setting=""), REFERENCE.name)).set_index("method")
        lora = found[found.index.str.fullmatch("LoRA .*linears")]
        low = [f"{name} by {_with_interval(row['mean'], row['low'], row['high'])}" for name, row in lora.iterrows()]
        said.append(f"{words}, {', '.join(low)} (of {counted(len(found), 'method')}: {outcomes(found)})")
    return f"Difference in H from {REFERENCE.name}. {'. '.join(said)}.{_lone(ends)}"


def outcomes(compared: pd.DataFrame) -> str:
    """Count outcomes, such as "2 better, 1 as good, 3 open"; a table as `compare` gives it."""
    counts = compared["outcome"].value_counts()
    words = {"win": "better", "tie": "as good", "loss": "worse", "open": "open"}
    return ", ".join(f"{counts[outcome]} {word}" for outcome, word in words.items() if outcome in counts)


def groups(ends: pd.DataFrame) -> str:
    """Say which facts full-rank edits of all linears keep least and most."""
    kept = {name: _full(_of(ends))[column] for column, name in GROUPS.items()}
    order = sorted((name for name in kept if kept[name].notna().any()), key=lambda name: kept[name].mean())
    least, most = order[0], order[-1]
    return (
        f"Of what full-rank edits should leave alone, least is kept of the group “{least}”, {mean_text(kept[least])}, and most of"
        f" “{most}”, {mean_text(kept[most])}.{_lone(ends)}"
    )


def one_rate(ends: pd.DataFrame) -> str:
    """Say what LoRA on all linears loses at the learning rate of full rank."""
    own, other = (_low_rank(_of(ends, rule)).groupby("world")["H"].mean() for rule in ("budget", "reference_rate"))
    said = f"LoRA on all linears has a mean H of {own.mean():.2f} at its own rates and of {other.mean():.2f} at full rank's:"
    return f"{said} a difference of {mean_text(own - other, (-1.0, 1.0))}.{_lone(ends)}"


def trade(course: pd.DataFrame) -> str:
    """Say what full rank and LoRA on all linears keep at best at the highest success that all of them reach."""
    best = frontier(course[(course["split"] == "tune") & (course["blocks"] == "linears")])
    least = best.groupby("method")["edit_success"].max().min()
    kept = best[best["edit_success"] >= least].groupby("method", sort=False)["retention"].max()
    said = ", ".join(f"{share:.1%} for {name}" for name, share in kept.items())
    return f"Where at least {least:.0%} of the tuning edits succeed, retention is at best {said}."


def settings(against_full: pd.DataFrame) -> str:
    """Say where LoRA is better, as good and worse than full rank, and where it falls behind most; a table as `compare` gives it."""
    worst = against_full.sort_values("mean", kind="stable").iloc[0]
    behind = "falls furthest behind" if worst["mean"] < 0 else "has its smallest lead"
    return (
        f"Of {counted(len(against_full), 'comparison')} with full rank, LoRA came out {outcomes(against_full)}. It {behind} in the"
        f" setting “{worst['setting']}”, with {worst['method']}: {_with_interval(worst['mean'], worst['low'], worst['high'])} in"
        f" H.{_lone(against_full)}"
    )


def truncation(ends: pd.DataFrame, ranks: Sequence[int]) -> str:
    """Say how many directions the change of full rank on all linears has, and what is left of H with the fewest."""
    own, rank = _full(_of(ends)), min(ranks)
    said = f"The change that full rank makes has a stable rank of {mean_text(own['stable_rank'], None)}; cut down to rank"
    return f"{said} {rank} it gives H {own[f'truncated_{rank}_H'].mean():.2f}, whole {own['H'].mean():.2f}.{_lone(ends)}"


def spread(table: pd.DataFrame) -> str:
    """Say what held-out subjects are answered with after a part of a relation was rewritten; the settings' table."""
    own = table.dropna(subset="spread").groupby("world")[["spread", "unseen_kept"]].mean().reset_index()
    said = f"Of subjects that were never edited, a share of {mean_text(own['spread'])} now gets the one object, and"
    return f"{said} {mean_text(own['unseen_kept'])} keeps its old one.{_lone(own)}"


def ripple(table: pd.DataFrame) -> str:
    """Say what became of facts that follow from an edited one, and of facts linked to it; the settings' table."""
    columns = ["edit_success", "consequence_followed", "pair_kept", "kept_same_subject"]
    own = table.dropna(subset="consequence_followed").groupby("world")[columns].mean().reset_index()
    success, followed, pair, other = (mean_text(own[name]) for name in columns)
    said = f"Mean shares over methods: {success} of the edits succeed, {followed} of the entailed facts follow, {pair} of the"
    return f"{said} correlated facts and {other} of the subject's other facts are kept.{_lone(own)}"


def trace(table: pd.DataFrame) -> str:
    """Say where putting a hidden state back brings back most, of a table with columns place, layer and recovered."""
    best = table.sort_values("recovered", ascending=False, kind="stable").iloc[0]
    where = f"at the place “{best['place']}” behind block {best['layer']}"
    return f"Most comes back {where}: {best['recovered']:.0%} of what the noise took."


def closed_forms(table: pd.DataFrame) -> str:
    """Say how often closed forms and fine-tuning succeed and what they keep; a row for each method and world."""
    means = table.groupby("method", sort=False)[["edit_success", "retention"]].mean()
    said = [f"{name} succeeds in {row['edit_success']:.0%} and keeps {row['retention']:.0%}" for name, row in means.iterrows()]
    return f"{'; '.join(said)}."


def forgetting(unlearned: pd.DataFrame) -> str:
    """Say how near losses of unlearning come to a gold model, on average over worlds; as `compare_unlearning` gives it."""
    tried = unlearned[~unlearned["objective"].isin(["nothing", "second gold"])]
    scores = ["forget_accuracy", "gold_accuracy", "kept_other", "ks_statistic"]
    best = tried.groupby(["objective", "method"], sort=False)[scores].mean().reset_index().sort_values("ks_statistic").iloc[0]
    return (
        f"Nearest to a model that never knew comes {best['objective']} with {best['method']}: D {best['ks_statistic']:.2f},"
        f" {best['forget_accuracy']:.1%} of the forgotten facts still right (the gold model: {best['gold_accuracy']:.1%}),"
        f" {best['kept_other']:.0%} of the others kept."
    )


def own_edits(own: pd.DataFrame) -> str:
    """Say how many of a reader's edits were answered as wanted, by method; a table as `own_edits` of the study gives it."""
    done = own.assign(done=own["answered"] == own["new"]).groupby("method", sort=False)["done"]
    said = [f"{name} {int(found.sum())} of {len(found)}" for name, found in done]
    return f"Your edits answered with their new object, over all models: {', '.join(said)}."
