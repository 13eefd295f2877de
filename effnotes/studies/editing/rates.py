"""When an edit ends, and which learning rates are chosen: what the jobs of the protocol rest on.

Learning rates are chosen for each method and setting by the mean score of the tuning draws and then frozen. What is made of the
edits afterwards, is in `effnotes.studies.editing.statistics`: edits need not be made again where that changes.
"""

from typing import get_args

import pandas as pd

from effnotes.core.checks import check_choice
from effnotes.studies.editing.settings import StopRule
from effnotes.studies.protocol import at_chosen, choose

# Columns that tell what a learning rate is chosen for.
METHOD = ("setting", "method")

# Columns that tell edits apart.
RUN = ["setting", "split", "world", "draw", "method", "blocks", "rank", "learning_rate"]


def stopped(rows: pd.DataFrame, rule: StopRule) -> pd.DataFrame:
    """Return the row of each edit at which a stop rule ends it.

    Args:
        rows: As `run_edits` returns them.
        rule: "budget" ends at the last checkpoint, "first_success" at the first where every edited fact is answered as trained
            (`edited_exact` is 1), or at the last where none is.

    Raises:
        ValueError: There is no such rule.
    """
    check_choice(get_args(StopRule), rule=rule)
    ordered = rows.sort_values("step", kind="stable")
    if rule == "first_success":
        exact = ordered["edited_exact"].eq(1)
        times = ordered.assign(times=exact).groupby(RUN, dropna=False, sort=False)["times"].cumsum()
        ordered = ordered[times <= exact]  # up to the first
    return ordered.groupby(RUN, dropna=False, sort=False).tail(1).sort_index()


def choose_rates(rows: pd.DataFrame, rule: StopRule) -> pd.DataFrame:
    """Choose the learning rate of each method and setting: that with the highest mean H over the tuning draws of all worlds.

    Ties go to the lower rate. H is graded, so that a rate at which edits fail is not taken for what it keeps.

    Args:
        rows: As `run_edits` returns them; only the split "tune" is looked at.
        rule: When an edit ends.

    Returns:
        A row for each setting and method: setting, method, rule, learning_rate, score (mean at that rate), tried (how many rates),
        edge ("low" or "high" where it is the lowest or highest of several, so that the grid is to be extended there, else "").

    Raises:
        ValueError: There are no tuning draws, or H of a method is NaN at all rates.
    """
    tuning = rows[(rows["split"] == "tune") & rows["learning_rate"].notna()]
    if tuning.empty:
        raise ValueError("there are no edits of the split 'tune'; learning rates are not chosen on the draws that are reported")
    chosen = choose(stopped(tuning, rule), by=METHOD, value="learning_rate", score="H")
    chosen.insert(2, "rule", rule)
    return chosen


def at_rates(rows: pd.DataFrame, rates: pd.DataFrame) -> pd.DataFrame:
    """Return the edits of the split "test" that have the chosen learning rates, each at the end that its rule sets.

    Args:
        rows: As `run_edits` returns them.
        rates: As `choose_rates` returns them, for one rule.

    Raises:
        ValueError: Several rules are mixed, or a chosen rate has not been run on the draws to report.
    """
    rules = rates["rule"].unique()
    if len(rules) != 1:
        raise ValueError(f"rates of the rules {', '.join(map(repr, rules)) or '(none)'}: give those of a single one")
    return at_chosen(stopped(rows[rows["split"] == "test"], rules[0]), rates, by=METHOD, value="learning_rate")
