"""Many edits of many models, in single-threaded processes side by side, and the whole protocol of a comparison made of them.

`run_edits` gives a tidy table, a row for each edit and checkpoint; `run_protocol` tunes each method on its own draws and reports on
others. What is compared in such tables is in `effnotes.studies.editing.statistics`.
"""

import dataclasses
import math
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from torch import Tensor

from effnotes.core.jobs import JobResult
from effnotes.core.settings import settings, to_json
from effnotes.finetuning.editing.closed_form import ClosedFormRecipe
from effnotes.finetuning.editing.edit import AnyRecipe, edit
from effnotes.finetuning.editing.scores import Evaluator
from effnotes.finetuning.tune import apply_difference, truncate_difference
from effnotes.metrics.editing import stable_rank
from effnotes.studies.editing.bases import loaded, pretrain_missing
from effnotes.studies.editing.rates import METHOD, choose_rates
from effnotes.studies.editing.settings import MOST_ASKED, REFERENCE, Base, Comparison, DrawPlan, Method, Rate, Setting, check_apart
from effnotes.studies.protocol import Grids, Split, Workers, extend, report, run_table


@settings
class EditRun:
    """Edits of one method in one setting, drawn for one base: one for each draw of a split and each learning rate.

    Raises:
        ValueError: The setting forgets subjects, or there are learning rates for a closed form or none for fine-tuning.
    """

    base: Base
    setting: Setting
    draws: DrawPlan
    split: Split
    method: Method | ClosedFormRecipe
    learning_rates: tuple[Rate, ...] = ()  # none for a closed form
    truncations: tuple[int, ...] = ()  # ranks to which the change of each matrix is cut down, to ask again
    draw: int | None = None  # the only one of the split that is edited; None for all

    def __post_init__(self) -> None:
        if self.setting.kind == "unlearn_subject":  # the loss of fine-tuning would teach again what is to be forgotten
            raise ValueError(f"setting {self.setting.name!r} is of the kind 'unlearn_subject', which `compare_unlearning` runs")
        if isinstance(self.method, Method) != bool(self.learning_rates):
            raise ValueError(f"learning_rates={self.learning_rates}: fine-tuning needs some, and a closed form has none")


def run_edits(runs: Sequence[EditRun], *, workers: Workers = None) -> pd.DataFrame:
    """Make many edits side by side, of bases that are pretrained first where they have not been.

    Args:
        runs: What to do.
        workers: As for `run_jobs`.

    Returns:
        A row for each edit and checkpoint (a closed form has the step 1), sorted as the runs are: world (its seed), setting, split,
        draw, method (its name), blocks, rank (NaN for full rank and closed forms), learning_rate (NaN for closed forms), step,
        loss, edited_exact (as in `Edit.history`), the scores of `EditScores` by name, n_trainable, optimizer_bytes, cpu_s (of the
        whole edit up to the last checkpoint, without the scores; in each of its rows). In the row of the last step also change_norm
        (Frobenius, of all that changed), stable_rank (mean over the changed matrices), stable_rank_attention and stable_rank_mlp,
        and for each truncation to rank k, truncated_k_edit_success, truncated_k_retention and truncated_k_H.

    Raises:
        ValueError: Bases of one setting have worlds of the same seed, or different settings the same name.
        JobError: A training or an edit failed.
    """
    check_apart((run.base, run.setting, run.draws) for run in runs)
    pretrain_missing((run.base for run in runs), workers=workers)
    jobs = []
    for run in runs:
        base = run.base.sealed()  # once, as it reads files
        draws = range(getattr(run.draws, run.split)) if run.draw is None else [run.draw]
        jobs += [dataclasses.replace(run, base=base, draw=draw) for draw in draws]

    def names(job: EditRun) -> dict[str, Any]:
        return {"world": job.base.world_seed, "setting": job.setting.name, "split": job.split, "draw": job.draw}

    return run_table(make_edits, jobs, names=names, order=lambda job: to_json(job.base), workers=workers)


def make_edits(run: EditRun) -> JobResult:
    """Make the edits of one method and one draw; for `run_jobs`, see `run_edits`."""
    draw, method = run.draw or 0, run.method
    world, model = loaded(run.base)
    task = run.draws.tasks(world, run.setting, run.split)[draw]
    evaluate = Evaluator(model, task, most_asked=MOST_ASKED)
    # The same for all methods and rates, which are compared on one edit, and of its own in each world, as worlds are independent.
    seed = int(np.random.SeedSequence([world.seed, run.draws.seed, run.split == "test", draw]).generate_state(1)[0])
    recipes: list[tuple[float, AnyRecipe]]
    if isinstance(method, Method):
        named = {"method": method.name, "blocks": method.blocks, "rank": math.nan if method.rank is None else float(method.rank)}
        recipes = [(rate, method.recipe(rate, run.setting.checkpoints)) for rate in run.learning_rates]
    else:
        named = {"method": f"{method.method} at the {method.site}", "blocks": "mlp", "rank": math.nan}
        recipes = [(math.nan, method)]
    rows: list[dict[str, Any]] = []
    for rate, recipe in recipes:
        with warnings.catch_warnings():
            # A closed form says for which facts no change is enough: their success says so as well.
            warnings.filterwarnings("ignore", "for .* facts the search for a change", RuntimeWarning)
            made = edit(model, task, recipe, seed=seed, observe=lambda edited: evaluate(edited).scores)
        same = named | {"learning_rate": rate}
        cost = {"n_trainable": made.n_trainable, "optimizer_bytes": made.optimizer_bytes, "cpu_s": made.cpu_s}
        rows += [{**same, **row, **cost} for row in made.history.query("step > 0").to_dict("records")]  # type: ignore[dict-item]
        rows[-1] |= change_of(made.difference)
        for rank in run.truncations:
            scores = evaluate(apply_difference(model, truncate_difference(made.difference, rank))).scores
            rows[-1] |= {f"truncated_{rank}_{name}": scores[name] for name in ("edit_success", "retention", "H")}
    return {"rows": rows}


def change_of(difference: Mapping[str, Tensor]) -> dict[str, float]:
    """Return the size and the shape of a change of weights: its Frobenius norm, and mean stable ranks of its matrices.

    Args:
        difference: Changes by name of the parameter; of vectors and of embeddings only the norm counts.

    Returns:
        change_norm, stable_rank, stable_rank_attention, stable_rank_mlp; NaN where no such matrix changed.
    """
    squares = sum(float((change.double() ** 2).sum()) for change in difference.values())
    matrices = {name: change for name, change in difference.items() if change.ndim == 2 and ".layers." in f".{name}"}
    ranks = pd.Series({name: stable_rank(change.cpu()) for name, change in matrices.items()}, dtype=float)
    found = {"change_norm": squares**0.5}
    for column, part in (("stable_rank", ""), ("stable_rank_attention", "att"), ("stable_rank_mlp", "mlp")):
        values = [rank for name, rank in ranks.dropna().items() if part in str(name)]
        found[column] = float(np.mean(values)) if values else math.nan
    return found


def run_protocol(
    comparisons: Sequence[Comparison], *, extensions: int = 1, workers: Workers = None
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Choose learning rates on the tuning draws of each setting, then make the edits to report with them.

    A grid whose best rate is its lowest or highest is extended by one rate beyond, and the choice is made again.

    Args:
        comparisons: Settings, each with a name of its own.
        extensions: How often a grid can be extended at most, at least 0. A grid of a single rate has no edges.
        workers: As for `run_jobs`.

    Returns:
        All edits, as `run_edits` returns them, and the chosen rates, as `choose_rates` does for all settings and rules. A rate that
        is still on the edge of its grid has `edge` set.

    Raises:
        ValueError: Two comparisons have the same setting.
        JobError: An edit failed.
    """
    names = [comparison.setting.name for comparison in comparisons]
    if len(set(names)) < len(names):
        raise ValueError(f"settings {names}: each needs a name of its own")

    def run(grids: Grids, split: Split) -> pd.DataFrame:
        runs = [
            EditRun(base, each.setting, each.draws, split, method, grids[key], each.truncations if cut(method, split) else ())
            for each in comparisons
            for base in each.bases[: each.tuned_on if split == "tune" else None]
            for key, method in each.keys.items()
            if key in grids
        ]
        return run_edits(runs, workers=workers)

    def cut(method: Method, split: Split) -> bool:
        return split == "test" and method.rank is None and method.blocks != "all"

    def chosen(rows: pd.DataFrame) -> pd.DataFrame:
        parts = [choose_rates(rows[rows["setting"] == each.setting.name], rule) for each in comparisons for rule in each.rules]
        return pd.concat(parts, ignore_index=True)

    grids = {key: each.grids[method] for each in comparisons for key, method in each.keys.items()}
    rows, rates = extend(run, grids, chosen, by=METHOD, times=extensions)
    own = rates[rates["method"] == REFERENCE.name].set_index(["setting", "rule"])["learning_rate"]
    also = {key: [own[key[0], each.rules[0]]] for each in comparisons if each.at_reference_rate for key in each.keys}
    return pd.concat([rows, report(run, rates, by=METHOD, value="learning_rate", beside=also)], ignore_index=True), rates
