"""What decides the chapter's verdicts: an effect for each image of each seed, from the table of judged maps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import pandas as pd

from effnotes.reporting import claims
from effnotes.studies.traces.names import PLAIN

if TYPE_CHECKING:
    from effnotes.studies.traces.experiment import Result

# One list of images' effects for each seed.
BySeed: TypeAlias = list[list[float]]


def differences(rows: pd.DataFrame, score: str, one: str, other: str, methods: Sequence[str], levels: str = "strong") -> pd.Series:
    """Return the score by one variant minus that by another one, mean over the methods, for each seed and image.

    Args:
        rows: As `Result.rows`, of one kind of image.
        score: A column, such as "auc".
        one: A variant.
        other: The one to subtract; "dense" has no levels.
        methods: Of attribution; those that the run has not are left out, and images for which the score is not defined.
        levels: Name of the set of levels of both.
    """
    of_methods = rows[rows["method"].isin(methods)]

    def means(variant: str) -> pd.Series:
        at = "" if variant == "dense" else levels
        chosen = of_methods[(of_methods["variant"] == variant) & (of_methods["levels"] == at)]
        return chosen.groupby(["seed", "sample"])[score].mean()

    return (means(one) - means(other)).dropna()


def by_image(table: pd.DataFrame, score: str, levels: str = "strong") -> pd.Series:
    """Return a score of each image's own trace, at the levels where the table has any, minus that of the dense network.

    Args:
        table: As `Result.facets` or `Result.pictures`.
        score: A column.
        levels: Name of the set of levels.
    """
    if table.empty:
        return pd.Series(dtype=float, index=pd.MultiIndex.from_arrays([[], []], names=["seed", "sample"]))
    at = table[table["levels"].isin(["", levels])] if "levels" in table else table
    wide = at.pivot(index=["seed", "kind", "sample"], columns="variant", values=score)
    return (wide["own"] - wide["dense"]).dropna()


def by_seed(values: pd.Series) -> BySeed:
    """Return one list of images' values for each seed."""
    return [group.tolist() for _, group in values.groupby(level="seed")]


def effects(result: Result) -> dict[str, BySeed | list[float]]:
    """Return what each claim is measured by, by the claim's name in the chapter, in the order of the page."""
    trojans, clean = (result.rows[result.rows["kind"] == kind] for kind in ("trojan", "clean"))
    gains = {method: differences(trojans, "auc", "own", "dense", [method]) for method in (*PLAIN, "guided_backprop")}
    plain = differences(trojans, "auc", "own", "dense", PLAIN)
    # A layer is one unit, in however many networks it was timed: its time hardly depends on the weights.
    solvers = result.layers.pivot_table(index="layer", columns="solver", values="seconds") if len(result.layers) else None
    return {
        "saliency-gains": by_seed(gains["saliency"]),
        "input-x-gradient-gains": by_seed(gains["input_x_gradient"]),
        "integrated-gradients-gain": by_seed(gains["integrated_gradients"]),
        "guided-gains-less": by_seed((plain - gains["guided_backprop"]).dropna()),
        "own-points-better": by_seed(differences(trojans, "auc", "own", "other", PLAIN)),
        "own-agrees-more": by_seed(differences(trojans, "agreement", "own", "other", PLAIN)),
        "points-better-than-magnitude": by_seed(differences(trojans, "auc", "own", "magnitude", PLAIN)),
        "agrees-more-than-magnitude": by_seed(differences(trojans, "agreement", "own", "magnitude", PLAIN)),
        "insertion-rises": by_seed(differences(clean, "insertion", "own", "dense", ["saliency"])),
        "facet-margin": by_seed(by_image(result.facets, "margin")),
        "visualisation-decides": by_seed(by_image(result.pictures, "score")),
        "exact-is-slower": [] if solvers is None else np.log10(solvers["exact_obs_kernel"] / solvers["sparsegpt"]).tolist(),
    }


def measure(result: Result) -> list[claims.Measurement]:
    """Measure the chapter's claims; to be displayed."""
    return [claims.measure(f"traces.{name}", found) for name, found in effects(result).items()]
