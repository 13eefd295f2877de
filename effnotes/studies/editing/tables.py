"""Tables of the chapter on editing: the same from a run and from its kept record.

Three tables hold all that is drawn, each averaged over the edits of a world, so that they stay small:

- `ends`: one row for each rule, method and world, where a rule is how an edit ended and which learning rate it had: "budget",
  "first_success", or "reference_rate" (the budget, at the rate that was chosen for the reference).
- `course`: one row for each split, method, learning rate and step, averaged over worlds too.
- `settings`: one row for each setting, method and world, at the budget.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from effnotes.datasets.worlds.graph import Facts
from effnotes.datasets.worlds.named import NamedWorld
from effnotes.datasets.worlds.tasks import Task
from effnotes.datasets.worlds.world import World

METHOD_COLUMNS = ["method", "blocks", "rank"]

# Scores that retention is the mean of, and the facts that they speak of.
GROUPS = {"kept_same_value": "same old object", "kept_same_relation": "same relation"}
GROUPS |= {"kept_same_subject": "same subject", "kept_other": "all others"}

# Scores that are followed from look to look.
COURSE = ("edit_success", "retention", "retention_of_successes", "exact_H", "edit_probability", "kept_probability", "H")

# What a record keeps of `ends` and of `settings`, a few numbers for each of thousands of rows, beside what tells the rows apart.
_ENDED = ["learning_rate", "edit_success", "paraphrase_success", "retention", "retention_of_successes", "H", "exact_H", *GROUPS]
_IN_SETTINGS = ["edit_success", "H"]
_SIDE_EFFECTS = ["edit_success", "kept_same_subject", "spread", "unseen_kept", "pair_kept", "nested_of_old_kept"]
_SIDE_EFFECTS += ["nested_of_new_kept", "consequence_followed", "consequence_kept", "consequence_other"]

# Columns of `compare_unlearning` that are shown, and how they are called on a page.
UNLEARNED = {"learning_rate": "rate", "edge": "on an edge", "forget_accuracy": "forgotten facts still right"}
UNLEARNED |= {"kept_other": "others kept", "ks_statistic": "D from gold", "forget_quality_log10_p": "log10 p"}
UNLEARNED |= {name: name for name in ("utility", "relearned", "balance")}


def average_by_world(edits: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
    """Average edits over the draws of each world.

    Args:
        edits: One row for each edit, as `run_edits` returns them.
        by: Columns beside the method's name, blocks and rank and the world that rows are told apart by.

    Returns:
        A row for each group and world, with the means of all scores; no column draw, step or loss.
    """
    keys = [*by, *METHOD_COLUMNS, "world"]
    scores = [name for name in edits.select_dtypes("number") if name not in {*keys, "draw", "step", "loss", "edited_exact"}]
    return edits.groupby(keys, dropna=False, sort=False)[scores].mean().reset_index()


def tables_to_keep(ends: pd.DataFrame, settings: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Cut the large tables down to what a page of the kept record draws.

    Returns:
        `ends` and `settings` with few scores; `changes`, what is known of the changes of full rank, at the budget; and
        `side_effects`, what rewriting a relation spreads to, and an edit where facts hang together.
    """
    at_full_rank = ends[(ends["rule"] == "budget") & ends["rank"].isna()]
    cut = [name for name in map(str, ends) if name == "stable_rank" or (name.startswith("truncated_") and name.endswith("_H"))]
    known = [name for name in _SIDE_EFFECTS if name in settings]
    beside = settings[settings[[name for name in ("spread", "consequence_followed") if name in settings]].notna().any(axis=1)]
    return {
        "ends": ends[["rule", *METHOD_COLUMNS, "world", *_ENDED]],
        "changes": at_full_rank[["rule", *METHOD_COLUMNS, "world", "H", *cut]].reset_index(drop=True),
        "settings": settings[["setting", *METHOD_COLUMNS, "world", *_IN_SETTINGS]],
        "side_effects": beside[["setting", *METHOD_COLUMNS, "world", *known]].reset_index(drop=True),
    }


def course_table(rows: pd.DataFrame) -> pd.DataFrame:
    """Average edits of one setting over worlds and draws, for each split, method, learning rate and step.

    Args:
        rows: As `run_edits` returns them.

    Returns:
        Columns split, method, blocks, rank, learning_rate, step, those of `COURSE` and of `GROUPS`.
    """
    keys = ["split", *METHOD_COLUMNS, "learning_rate", "step"]
    return rows.groupby(keys, dropna=False, sort=False)[[*COURSE, *GROUPS]].mean().reset_index()


# What the facts of each group of a task are.
MEANINGS = {
    "edited": "the edited facts, with their new objects",
    "paraphrase": "the same in a form that is not trained",
    "with_same_value": "other subjects, same relation, same old object",
    "with_same_rel": "other subjects, same relation, another object",
    "same_edges_diff_rel": "the edited subjects' other facts",
    "reg_data": "other subjects, other relations",
    "withheld": "in a form that the world never wrote for them",
}


def written_table(world: World, facts: Facts, named: NamedWorld | None = None) -> pd.DataFrame:
    """Write facts as a model reads them, with what the words stand for: columns fact, form, prompt, answer, one row for each form.

    Args:
        world: The world.
        facts: Of the kind "so".
        named: Their names, where they have some.
    """
    tokenizer, rows = world.hf_tokenizer(), []

    def text(tokens: NDArray[np.integer[Any]]) -> str:
        return str(tokenizer.decode(tokens))

    for _, subject, relation, value in facts.rows():
        parts = {"SS": f"subject {subject}", "RR": f"relation {relation}", "OO": f"object {value}"}
        fact = Facts.of(0, np.array([subject]), relation, value)
        if named is not None:
            parts = {"SS": named.subjects[subject], "RR": named.relations[relation], "OO": named.objects[relation][value]}
        words = [text(word[word >= 0]) for (word,) in world.words.of_facts(fact)]
        for form in world.templates:
            written = world.encode(fact, form)
            start, end = int(written.answer[0]), int(written.answer[0] + written.answer_length[0])
            prompt = text(written.tokens[0, 1:start])
            for (marker, name), word in zip(parts.items(), words, strict=True):
                prompt = prompt.replace(f"{marker} {word}", f"{marker} {word} ({name})")
            rows.append((" | ".join(parts.values()), form, prompt, f"{text(written.tokens[0, start:end])} ({parts['OO']})"))
    return pd.DataFrame(rows, columns=["fact", "form", "prompt", "answer"])


def task_table(task: Task) -> pd.DataFrame:
    """Say of each group of a task how many rows are trained on and asked, and what they are."""
    sizes = task.sizes().pivot(index="group", columns="split", values="rows").reindex(columns=["train", "test"])
    shown = pd.DataFrame({"group": sizes.index, "rows to train on": sizes["train"], "rows to ask": sizes["test"]})
    return shown.assign(meaning=sizes.index.map(MEANINGS))


def own_table(own: pd.DataFrame, named: NamedWorld) -> pd.DataFrame:
    """Give a reader's edits by name, a row for each edit and method, averaged over models; see `own_edits`."""
    rows = []
    for _, group in own.groupby(["subject", "relation", "method"], sort=False):
        first, n = group.iloc[0], len(group)
        objects = named.objects[first["relation"]]
        counts = Counter(objects[number] for number in group["answered"]).most_common()
        answered = ", ".join(name if n == 1 else f"{name} in {times} of {n} models" for name, times in counts)
        what = {"fact": f"{named.subjects[first['subject']]} | {named.relations[first['relation']]}", "was": objects[first["old"]]}
        what |= {"to become": objects[first["new"]], "method": first["method"], "answered": answered}
        kept = {f"kept: {name}": group[column].mean() for column, name in GROUPS.items()}
        rows.append(what | {"probability of the new": group["probability"].mean()} | kept)
    return pd.DataFrame(rows)


def rates_table(rates: pd.DataFrame, order: Sequence[str]) -> pd.DataFrame:
    """Give the rates that were chosen in one setting, a row for each method; a table as `choose_rates` gives it."""
    chosen = rates.pivot(index="method", columns="rule", values=["learning_rate", "tried", "edge"]).reindex(list(order))
    columns = {f"rate, {rule.replace('_', ' ')}": chosen["learning_rate", rule].astype(float) for rule in rates["rule"].unique()}
    edges = [" ".join(dict.fromkeys(filter(None, row))) for row in chosen["edge"].to_numpy()]
    tried = chosen["tried"].to_numpy().max(axis=1)
    return pd.DataFrame({"method": list(order), **columns, "rates tried": tried, "still an end": edges})


def costs_table(costs: pd.DataFrame, parameters: int) -> pd.DataFrame:
    """Give the costs of an edit the names that a page shows; columns method, n_trainable, optimizer_bytes and cpu_s."""
    trained = {"numbers trained": costs["n_trainable"], "share of all (%)": 100 * costs["n_trainable"] / parameters}
    used = {"gradients and moments (KiB)": costs["optimizer_bytes"] / 1024, "processor time (ms)": 1000 * costs["cpu_s"]}
    return pd.DataFrame({"method": costs["method"], **trained, **used})


def scores_table(ends: pd.DataFrame, order: Sequence[str]) -> pd.DataFrame:
    """Average the scores of the methods over worlds, after the last step, under the names that a page shows."""
    shown = {"H": "H", "edit_success": "edit success", "retention": "retention", "paraphrase_success": "in another form"}
    shown |= {"drift": "drift (nats)"}
    own = ends[ends["rule"] == "budget"]
    means = own.groupby("method")[[name for name in shown if name in own]].mean().reindex(list(order))
    return means.rename(columns=shown).reset_index()


def unlearning_table(unlearned: pd.DataFrame) -> pd.DataFrame:
    """Average over worlds what `compare_unlearning` gave: columns objective, method and those of `UNLEARNED`.

    Columns have the names that a page shows.
    """
    named = unlearned.assign(edge=unlearned["edge"].fillna(""))
    how = {column: "first" if column == "edge" else "mean" for column in UNLEARNED}
    return named.groupby(["objective", "method"], sort=False).agg(how).rename(columns=UNLEARNED).reset_index()


def differences_table(compared: pd.DataFrame) -> pd.DataFrame:
    """Give columns of `compare` the names that a page shows."""
    shown = compared[["setting", "method", "worlds", "edits", "mean", "low", "high", "wins", "outcome"]]
    return shown.rename(columns={"mean": "difference in H", "low": "from", "high": "to", "wins": "edits won"})


def closed_table(edits: pd.DataFrame, more: Sequence[str] = ()) -> pd.DataFrame:
    """Return means by method of what closed forms and fine-tuning are compared by, under the names that a page shows."""
    shown = {"edit_success": "edit success", "paraphrase_success": "in another form", **GROUPS, "H": "H"}
    means = edits.groupby("method", sort=False)[[*shown, *more]].mean()
    return means.rename(columns=shown | {"cpu_s": "processor time (s)"}).reset_index()
