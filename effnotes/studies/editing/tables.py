"""Tables of the chapter on editing: the same from a run and from its kept record.

Three tables hold all that is drawn, each averaged over the edits of a world, so that they stay small:

- `ends`: one row for each rule, method and world, where a rule is how an edit ended and which learning rate it had: "budget",
  "first_success", or "reference_rate" (the budget, at the rate that was chosen for the reference).
- `course`: one row for each split, method, learning rate and step, averaged over worlds too.
- `settings`: one row for each setting, method and world, at the budget.
"""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

METHOD_COLUMNS = ["method", "blocks", "rank"]

# Scores that retention is the mean of, and the facts that they speak of.
GROUPS = {
    "kept_same_value": "same old object",
    "kept_same_relation": "same relation",
    "kept_same_subject": "same subject",
    "kept_other": "all others",
}

# Scores that are followed from look to look.
COURSE = ("edit_success", "retention", "retention_of_successes", "exact_H", "edit_probability", "kept_probability", "H")

# Columns of `compare_unlearning` that are shown, and how they are called on a page.
UNLEARNED = {
    "learning_rate": "rate",
    "edge": "on an edge",
    "forget_accuracy": "forgotten facts still right",
    "kept_other": "others kept",
    "ks_statistic": "D from gold",
    "forget_quality_log10_p": "log10 p",
    "utility": "utility",
    "relearned": "relearned",
    "balance": "balance",
}


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


def course_table(rows: pd.DataFrame) -> pd.DataFrame:
    """Average edits of one setting over worlds and draws, for each split, method, learning rate and step.

    Args:
        rows: As `run_edits` returns them.

    Returns:
        Columns split, method, blocks, rank, learning_rate, step, those of `COURSE` and of `GROUPS`.
    """
    keys = ["split", *METHOD_COLUMNS, "learning_rate", "step"]
    return rows.groupby(keys, dropna=False, sort=False)[[*COURSE, *GROUPS]].mean().reset_index()


def unlearning_table(unlearned: pd.DataFrame) -> pd.DataFrame:
    """Average over worlds what `compare_unlearning` gave: columns objective, method and those of `UNLEARNED`.

    Columns have the names that a page shows.
    """
    named = unlearned.assign(edge=unlearned["edge"].fillna(""))
    means = named.groupby(["objective", "method"], sort=False).agg(
        {column: "first" if column == "edge" else "mean" for column in UNLEARNED}
    )
    return means.rename(columns=UNLEARNED).reset_index()


def differences_table(compared: pd.DataFrame) -> pd.DataFrame:
    """Give columns of `compare` the names that a page shows."""
    shown = compared[["setting", "method", "worlds", "edits", "mean", "low", "high", "wins", "outcome"]]
    return shown.rename(columns={"mean": "difference in H", "low": "from", "high": "to", "wins": "edits won"})


def closed_table(edits: pd.DataFrame, more: Sequence[str] = ()) -> pd.DataFrame:
    """Return means by method of what closed forms and fine-tuning are compared by, under the names that a page shows."""
    shown = {"edit_success": "edit success", "paraphrase_success": "in another form", **GROUPS, "H": "H"}
    means = edits.groupby("method", sort=False)[[*shown, *more]].mean()
    return means.rename(columns=shown | {"cpu_s": "processor time (s)"}).reset_index()
