"""People rate mails without knowing who or what wrote them, as in Panza's studies (Nicolicioiu et al., PMLR 328:104-130, 2026)."""

from collections.abc import Mapping, Sequence
from os import PathLike

import pandas as pd
from scipy.stats import binomtest

from effnotes.core.errors import DataError
from effnotes.core.files import user_path


def write_study(
    study: str | PathLike[str], key: str | PathLike[str], prompts: Sequence[str], mails: Mapping[str, Sequence[str]], seed: int
) -> None:
    """Write the mails of all systems in an order drawn from the seed, and into another file whose they are.

    Args:
        study: CSV for the raters: id (the place in the order), prompt, email, and empty rating. It quotes mails: keep it with them.
        key: CSV that they must not see: id, system, and item, the position of the prompt.
        prompts: What the mails were asked for by.
        mails: By system, for each prompt one.
    """
    counts = {system: len(each) for system, each in mails.items()}
    if not prompts or set(counts.values()) != {len(prompts)}:
        raise ValueError(f"{len(prompts)} prompts, and mails by system {counts}: each system needs one mail for each prompt")
    rows = [(system, item, prompts[item], mail) for system, each in mails.items() for item, mail in enumerate(each)]
    table = pd.DataFrame(rows, columns=["system", "item", "prompt", "email"]).sample(frac=1, random_state=seed)
    table = table.assign(id=range(1, len(table) + 1), rating="")
    # With a mark of the encoding, without which spreadsheets take UTF-8 for another.
    table[["id", "prompt", "email", "rating"]].to_csv(user_path(study), index=False, encoding="utf-8-sig")
    table[["id", "system", "item"]].to_csv(user_path(key), index=False, encoding="utf-8-sig")


def read_study(study: str | PathLike[str], key: str | PathLike[str]) -> pd.DataFrame:
    """Return a filled-in study with its key, columns id, system, item and rating; DataError if they differ or a rating lacks."""
    rated, held = (pd.read_csv(user_path(path), encoding="utf-8-sig") for path in (study, key))
    if missing := {"id", "rating"} - set(rated) | {"id", "system", "item"} - set(held):
        raise DataError(f"{study}, {key}: no column {', '.join(sorted(missing))}; they must be those of one study, comma-separated")
    if sorted(rated["id"]) != sorted(held["id"]):
        raise DataError(f"{study}, {key}: their ids differ; they must be those of one study, with every row once")
    ratings = pd.to_numeric(rated["rating"], errors="coerce")
    if bad := rated["id"][ratings.isna()].tolist():
        raise DataError(f"{study}: {len(bad)} ratings are missing or no numbers, the first at id {bad[0]}; fill them in")
    return held.merge(rated.assign(rating=ratings)[["id", "rating"]], on="id").sort_values("id", ignore_index=True)


def score_study(rated: pd.DataFrame, least: float) -> pd.DataFrame:
    """Return a row a system: n, rating (the mean), accepted, share, lo and hi (Wilson's 95%), p (exact binomial, against a half).

    Accepted are ratings of at least `least`: 3 for mails to be sent as they are, of 1 to 3; 1 for credible ones, of 0 and 1.
    """
    rows = {}
    for system, ratings in rated.groupby("system")["rating"]:
        test = binomtest(int((ratings >= least).sum()), len(ratings))
        lo, hi = test.proportion_ci(method="wilson")
        rows[system] = (len(ratings), ratings.mean(), test.k, test.statistic, lo, hi, test.pvalue)
    columns = ["n", "rating", "accepted", "share", "lo", "hi", "p"]
    return pd.DataFrame.from_dict(rows, orient="index", columns=columns)


def agreement(one: pd.DataFrame, other: pd.DataFrame) -> float:
    """Return Cohen's kappa of two raters' `read_study`: 1 if they agree, 0 as by chance, NaN if all ratings are the same."""
    from sklearn.metrics import cohen_kappa_score

    if one["id"].tolist() != other["id"].tolist():
        raise ValueError(f"one rater has {len(one)} mails and the other {len(other)}, or others: both must rate the same study")
    return float(cohen_kappa_score(one["rating"], other["rating"]))
