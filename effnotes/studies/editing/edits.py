"""Experiments with edits: many models that each know a world, and many edits of each, in single-threaded processes side by side.

A `Base` says which model of which world, a `Setting` which edit is made of it, a `Method` what is trained. `pretrain_bases` and
`run_edits` do the work by `effnotes.core.jobs.run_jobs`, so that what is finished is kept, and give tidy tables: a row for each
edit and checkpoint. What is chosen and compared from such tables is in `effnotes.studies.editing.choice`.
"""

from __future__ import annotations

import atexit
import dataclasses
import functools
import hashlib
import json
import os
import shutil
import tempfile
import time
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias, cast

import numpy as np
import pandas as pd
from torch import Tensor, nn

from effnotes.core.errors import DataError
from effnotes.core.jobs import JobResult, WorkerPool, run_jobs
from effnotes.datasets.worlds import Facts, Task, World, make_draws, read_facts
from effnotes.datasets.worlds.changes import TaskKind
from effnotes.datasets.worlds.draws import NestedClass
from effnotes.finetuning.editing.closed_form import ClosedFormRecipe
from effnotes.finetuning.editing.edit import EditRecipe, edit
from effnotes.finetuning.editing.scores import Evaluator
from effnotes.finetuning.tune import apply_difference, truncate_difference
from effnotes.metrics.editing import stable_rank
from effnotes.models.language import load_language_model, n_parameters
from effnotes.training.pretraining import Pretrained, PretrainingRecipe, pretrain, recall_table

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Split: TypeAlias = Literal["tune", "test"]
Workers: TypeAlias = int | WorkerPool | None

MOST_ASKED = 256
"""Rows of a test group that are asked for at each checkpoint; a group of more is sampled, once for all methods."""


@dataclass(frozen=True)
class Setting:
    """One kind of edit under one set of conditions; two methods are compared within a setting.

    The fields but `name` and `checkpoints` are those of `effnotes.datasets.worlds.make_task`.
    """

    name: str
    kind: TaskKind = "remap"
    n: int = 1
    relation: int = 0
    retain_coverage: float = 0.1
    nested_class: NestedClass = "any"
    checkpoints: tuple[int, ...] = (10, 20, 40, 80)  # steps after which an edit is looked at; the last is the budget

    def to_json(self) -> dict[str, Any]:
        """Return the fields as plain values."""
        return dataclasses.asdict(self) | {"checkpoints": list(self.checkpoints)}

    @classmethod
    def from_json(cls, plain: Mapping[str, Any]) -> Setting:
        """Undo `to_json`."""
        return cls(**dict(plain) | {"checkpoints": tuple(plain["checkpoints"])})


@dataclass(frozen=True)
class DrawPlan:
    """Which edits are drawn in each setting and world: some to choose learning rates on, others to report.

    Raises:
        ValueError: A number is out of range.
    """

    tune: int
    test: int
    seed: int

    def __post_init__(self) -> None:
        for name, lowest in (("tune", 1), ("test", 1), ("seed", 0)):
            if getattr(self, name) < lowest:
                raise ValueError(f"{name}={getattr(self, name)}: must be at least {lowest}")

    def tasks(self, world: World, setting: Setting, split: Split) -> tuple[Task, ...]:
        """Draw the edits of one split; no edited subject is in both splits."""
        drawn = make_draws(
            world,
            setting.kind,
            setting.n,
            n_tune=self.tune,
            n_test=self.test,
            relation=setting.relation,
            retain_coverage=setting.retain_coverage,
            nested_class=setting.nested_class,
            seed=self.seed,
        )
        return drawn.tune if split == "tune" else drawn.test

    def count(self, split: Split) -> int:
        """Number of edits in a split."""
        return self.tune if split == "tune" else self.test


@dataclass(frozen=True)
class Method:
    """What of a model is trained: the weights of some blocks, as they are or by a low-rank change.

    Raises:
        ValueError: As for `EditRecipe`.
    """

    blocks: Literal["all", "linears", "attention", "mlp"] = "linears"
    rank: int | None = None  # of LoRA; None for full rank

    def __post_init__(self) -> None:
        self.recipe(1e-3, (1,))  # refuses what does not go together

    @property
    def name(self) -> str:
        """Such as "full mlp" or "LoRA 4 linears"."""
        return f"{'full' if self.rank is None else f'LoRA {self.rank}'} {self.blocks}"

    def recipe(self, learning_rate: float, checkpoints: tuple[int, ...]) -> EditRecipe:
        """Return the recipe that trains so."""
        return EditRecipe(
            method="full" if self.rank is None else "lora",
            blocks=self.blocks,
            rank=self.rank,
            learning_rate=learning_rate,
            checkpoints=checkpoints,
        )


REFERENCE = Method()
"""Full-rank fine-tuning of all linear layers, which other methods are compared with."""


@dataclass(frozen=True)
class Base:
    """A model that knows a world: pretrained on it, or read from a folder.

    Raises:
        ValueError: As for `World` and `pretrain`.
        DataError: As for `read_facts` and `load_language_model`; or the model has another vocabulary than the world.
    """

    settings: Mapping[str, Any]  # of the world, as for `World.from_settings`; with `facts`, those that facts leave open
    model: str = "neox-64x2"  # a name in `LANGUAGE_MODELS`
    recipe: PretrainingRecipe = field(default_factory=PretrainingRecipe)
    seed: int = 0  # of the initial weights and the order of training
    facts: str = ""  # CSV file with the world's facts; empty draws them
    checkpoint: str = ""  # folder of a model that has learnt the world; empty pretrains one
    device: Literal["cpu", "cuda"] = "cpu"  # where it is trained and edited
    forgets: tuple[Setting, DrawPlan] | None = None  # its first draw to report is left out of the training text: gold of unlearning

    @functools.cached_property
    def world(self) -> World:
        """The world that the model knows."""
        if self.facts:
            return read_facts(self.facts, **self.settings).world
        return World.from_settings(self.settings)

    @property
    def left_out(self) -> Facts | None:
        """Facts that the model never sees."""
        if self.forgets is None:
            return None
        setting, draws = self.forgets
        return draws.tasks(self.world, setting, "test")[0].forgotten

    def to_json(self) -> dict[str, Any]:
        """Return all that decides what the model is, as plain values; files by path and content.

        Raises:
            DataError: A file is missing.
        """
        plain = {each.name: getattr(self, each.name) for each in dataclasses.fields(self)}
        plain["settings"] = dict(self.settings)
        plain["recipe"] = dataclasses.asdict(self.recipe) | {"betas": list(self.recipe.betas)}
        if self.forgets is not None:
            setting, draws = self.forgets
            plain["forgets"] = [setting.to_json(), dataclasses.asdict(draws)]
        files = [Path(self.facts)] if self.facts else []
        if self.checkpoint:
            files += [Path(self.checkpoint) / name for name in ("config.json", "model.safetensors")]
        missing = [str(file) for file in files if not file.is_file()]
        if missing:
            raise DataError(
                f"{' and '.join(missing)} cannot be found; give the path of a CSV file as facts, and as checkpoint that of "
                "a folder that save_pretrained wrote, with safetensors"
            )
        return plain | {"digests": [hashlib.sha256(file.read_bytes()).hexdigest() for file in files]}

    @classmethod
    def from_json(cls, plain: Mapping[str, Any]) -> Base:
        """Undo `to_json`."""
        values = {key: value for key, value in plain.items() if key != "digests"}
        values["recipe"] = PretrainingRecipe(**values["recipe"] | {"betas": tuple(values["recipe"]["betas"])})
        if values["forgets"] is not None:
            setting, draws = values["forgets"]
            values["forgets"] = (Setting.from_json(setting), DrawPlan(**draws))
        return cls(**values)

    def check(self) -> None:
        """Refuse what cannot work before anything is trained.

        Raises:
            DataError: The folder of the checkpoint holds no readable model, or one with another vocabulary than the world.
        """
        if self.checkpoint:
            _read_checkpoint(self)


def _read_checkpoint(base: Base) -> PreTrainedModel:
    model = load_language_model(base.checkpoint)
    size = int(model.get_output_embeddings().weight.shape[0])
    if size != base.world.vocab_size:
        raise DataError(
            f"{base.checkpoint}: its model has {size} tokens, but the world has {base.world.vocab_size}; name the world (or the "
            "facts) that it was trained on"
        )
    nn.Module.to(model, base.device)
    return model


class Prepared(NamedTuple):
    """How well the model of a base knows its world."""

    recall: pd.DataFrame  # as `Pretrained.recall`
    knows: bool
    n_parameters: int
    bits_per_parameter: float
    steps: int  # of pretraining; 0 for a model from a folder
    cpu_s: float


def models_folder() -> str:
    """Return the folder that pretrained models are kept in: in `EFFNOTES_CACHE_DIR`, else one that this process removes."""
    cache = os.environ.get("EFFNOTES_CACHE_DIR")
    return str(Path(cache).resolve() / "models") if cache else _temporary_folder()


@functools.cache
def _temporary_folder() -> str:
    folder = tempfile.mkdtemp(prefix="effnotes-models-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def pretrain_bases(bases: Sequence[Base], *, workers: Workers = None) -> list[Prepared]:
    """Pretrain the models of several bases side by side, or read them where they are kept.

    Args:
        bases: What to train.
        workers: As for `run_jobs`.

    Returns:
        What is known of each, in the order of the bases.

    Raises:
        JobError: A training failed.
    """
    folder = models_folder()
    # Longest first, so that no long one is left for the end.
    order = sorted(range(len(bases)), key=lambda index: -bases[index].world.n_sentences)
    jobs = [{"base": bases[index].to_json(), "models": folder} for index in order]
    results = run_jobs(prepare_base, jobs, workers=workers)
    prepared: dict[int, Prepared] = {}
    for index, result in zip(order, results, strict=True):
        recall = pd.DataFrame(cast(list[dict[str, Any]], result["recall"]))
        numbers = {name: result[name] for name in ("knows", "n_parameters", "bits_per_parameter", "steps", "cpu_s")}
        prepared[index] = Prepared(recall=recall, **numbers | {"knows": bool(numbers["knows"])})  # type: ignore[arg-type]
    _pretrained.update((_text(job["base"]), folder) for job in jobs)
    return [prepared[index] for index in range(len(bases))]


_pretrained: set[tuple[str, str]] = set()
"""Bases that this process has pretrained or found, as JSON, and the folder of their models."""


def _text(base: Any) -> str:
    # In the order as it is: that of a world's templates decides which sentences are drawn.
    return json.dumps(base)


def pretrain_missing(bases: Iterable[Base], *, workers: Workers = None) -> None:
    """Pretrain what no call of this process has pretrained yet; or several workers would train the same model at a time.

    Raises:
        JobError: A training failed.
    """
    missing = {_text(base.to_json()): base for base in bases if not base.checkpoint}
    pretrain_bases([base for text, base in missing.items() if (text, models_folder()) not in _pretrained], workers=workers)


def prepare_base(*, base: dict[str, Any], models: str) -> JobResult:
    """Pretrain one model; for `run_jobs`, see `pretrain_bases`."""
    own = Base.from_json(base)
    if own.checkpoint:
        model = _read_checkpoint(own)
        recall, steps, cpu_s = recall_table(model, own.world, own.recipe, left_out=own.left_out), 0, 0.0
    else:
        found = _pretrained_model(own, models)
        model, recall, steps, cpu_s = found.model, found.recall, found.steps, found.cpu_s
    size = n_parameters(model)
    return {
        "recall": recall.to_dict("records"),
        "knows": int(recall["enough"].all()),
        "n_parameters": size,
        "bits_per_parameter": own.world.n_bits / size,
        "steps": steps,
        "cpu_s": cpu_s,
    }


def load_base(base: Base, models: str | None = None) -> PreTrainedModel:
    """Return the model of a base, pretraining it where it is not kept."""
    if base.checkpoint:
        return _read_checkpoint(base)
    return _pretrained_model(base, models_folder() if models is None else models).model


def _pretrained_model(base: Base, models: str) -> Pretrained:
    world, left_out = base.world, base.left_out
    with warnings.catch_warnings():
        # `Prepared.knows` says so, and what an edit keeps is counted among what the model knew.
        warnings.filterwarnings("ignore", "after .* steps the model knows too little", RuntimeWarning)
        return pretrain(world, base.model, base.recipe, seed=base.seed, left_out=left_out, device=base.device, cache=models)


@functools.lru_cache(maxsize=8)  # reading a model takes longer than an edit
def _loaded(base: str, models: str) -> tuple[World, PreTrainedModel]:
    own = Base.from_json(json.loads(base))
    return own.world, load_base(own, models)


def loaded(base: Mapping[str, Any], models: str) -> tuple[World, PreTrainedModel]:
    """Return world and model of a base given as JSON; the last ones stay in memory, as jobs of one world follow one another."""
    return _loaded(_text(base), models)


@dataclass(frozen=True)
class EditRun:
    """Edits of one method in one setting, drawn for one base: one for each draw of a split and each learning rate.

    Raises:
        ValueError: The setting forgets subjects, there are learning rates for a closed form or none for fine-tuning, or as for
            `EditRecipe`.
    """

    base: Base
    setting: Setting
    draws: DrawPlan
    split: Split
    method: Method | ClosedFormRecipe
    learning_rates: tuple[float, ...] = ()  # none for a closed form
    truncations: tuple[int, ...] = ()  # ranks to which the change of each matrix is cut down, to ask again

    def __post_init__(self) -> None:
        check_kind(self.setting)
        if isinstance(self.method, Method) != bool(self.learning_rates):
            raise ValueError(f"learning_rates={self.learning_rates}: fine-tuning needs some, and a closed form has none")
        if isinstance(self.method, Method):
            for rate in self.learning_rates:
                self.method.recipe(rate, self.setting.checkpoints)


def check_kind(setting: Setting) -> None:
    """Refuse a setting that forgets subjects, which the loss of fine-tuning would teach.

    Raises:
        ValueError: It does.
    """
    if setting.kind == "unlearn_subject":
        raise ValueError(
            f"setting {setting.name!r} is of the kind 'unlearn_subject', which `effnotes.studies.editing.unlearning` runs: fine-"
            "tuning would teach again what is to be forgotten"
        )


def check_apart(drawn: Iterable[tuple[Base, Setting, DrawPlan]]) -> None:
    """Refuse what one table could not tell apart: its rows name the setting, the seed of the world and the number of the draw.

    Raises:
        ValueError: Different bases have worlds of the same seed in a setting, or settings or draws differ under one name.
    """
    seen: dict[tuple[str, int], tuple[Base, Setting, DrawPlan]] = {}
    for base, setting, draws in drawn:
        world = int(base.settings.get("seed", 0))
        if seen.setdefault((setting.name, world), (base, setting, draws)) != (base, setting, draws):
            raise ValueError(
                f"setting {setting.name!r}, world {world}: different bases, settings or draws, whose edits cannot be told apart; "
                "give each base a world of another seed, and each setting a name of its own"
            )


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
    jobs, owners = [], []
    for number, run in enumerate(runs):
        base = run.base.to_json()  # once, as it reads files
        for draw in range(run.draws.count(run.split)):
            job = {
                "base": base,
                "setting": run.setting.to_json(),
                "draws": dataclasses.asdict(run.draws),
                "split": run.split,
                "draw": draw,
                "method": _method_json(run.method),
                "learning_rates": list(run.learning_rates),
                "truncations": list(run.truncations),
                "models": models_folder(),
            }
            jobs.append(job)
            owners.append(number)
    pretrain_missing((run.base for run in runs), workers=workers)
    # A worker keeps the models of the last bases.
    order = sorted(range(len(jobs)), key=lambda index: _text(jobs[index]["base"]))
    results = run_jobs(make_edits, [jobs[index] for index in order], workers=workers)
    rows: dict[int, list[dict[str, Any]]] = {}
    for index, result in zip(order, results, strict=True):
        run = runs[owners[index]]
        same = {
            "world": run.base.settings.get("seed", 0),
            "setting": run.setting.name,
            "split": run.split,
            "draw": jobs[index]["draw"],
        }
        rows[index] = [same | row for row in result["rows"]]  # type: ignore[union-attr, operator]
    return pd.DataFrame([row for index in range(len(jobs)) for row in rows[index]])


def make_edits(
    *,
    base: dict[str, Any],
    setting: dict[str, Any],
    draws: dict[str, int],
    split: Split,
    draw: int,
    method: dict[str, Any],
    learning_rates: list[float],
    truncations: list[int],
    models: str,
) -> JobResult:
    """Make the edits of one method and one draw; for `run_jobs`, see `run_edits`."""
    world, model = loaded(base, models)
    own = Setting.from_json(setting)
    task = DrawPlan(**draws).tasks(world, own, split)[draw]
    evaluate = Evaluator(model, task, most_asked=MOST_ASKED)
    # The same for all methods and rates, which are compared on one edit, and of its own in each world, as worlds are independent.
    seed = int(np.random.SeedSequence([world.seed, draws["seed"], split == "test", draw]).generate_state(1)[0])
    rows: list[dict[str, Any]] = []
    if "closed_form" in method:
        recipe = _closed_form(method["closed_form"])
        names = {
            "method": f"{recipe.method} at the {recipe.site}",
            "blocks": "mlp",
            "rank": float("nan"),
            "learning_rate": float("nan"),
        }
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # of a fact for which no change is enough: its success says so
            rows += [names | row for row in _edited(model, task, recipe, seed, evaluate, truncations)]
    else:
        chosen = Method(**method)
        for rate in learning_rates:
            rank = float("nan") if chosen.rank is None else float(chosen.rank)
            names = {"method": chosen.name, "blocks": chosen.blocks, "rank": rank, "learning_rate": rate}
            recipe_of_rate = chosen.recipe(rate, own.checkpoints)
            rows += [names | row for row in _edited(model, task, recipe_of_rate, seed, evaluate, truncations)]
    return {"rows": rows}


def _edited(
    model: PreTrainedModel,
    task: Task,
    recipe: EditRecipe | ClosedFormRecipe,
    seed: int,
    evaluate: Evaluator,
    truncations: Sequence[int],
) -> list[dict[str, Any]]:
    """Edit once; give the rows of the checkpoints, the start left out."""
    observing = 0.0

    def observe(edited: nn.Module) -> dict[str, float]:
        nonlocal observing
        started = time.process_time()
        scores = evaluate(edited).scores
        observing += time.process_time() - started
        return scores

    made = edit(model, task, recipe, seed=seed, observe=observe)
    history = made.history[made.history["step"] > 0].to_dict("records")
    cost = {"n_trainable": made.n_trainable, "optimizer_bytes": made.optimizer_bytes, "cpu_s": made.cpu_s - observing}
    rows: list[dict[str, Any]] = [{str(name): value for name, value in row.items()} | cost for row in history]
    rows[-1] |= change_of(made.difference)
    for rank in truncations:
        scores = evaluate(apply_difference(model, truncate_difference(made.difference, rank))).scores
        rows[-1] |= {f"truncated_{rank}_{name}": scores[name] for name in ("edit_success", "retention", "H")}
    return rows


def change_of(difference: Mapping[str, Tensor]) -> dict[str, float]:
    """Return the size and the shape of a change of weights: its Frobenius norm, and mean stable ranks of its matrices.

    Args:
        difference: Changes by name of the parameter; of vectors and of embeddings only the norm counts.

    Returns:
        change_norm, stable_rank, stable_rank_attention, stable_rank_mlp; NaN where no such matrix changed.
    """
    squares = sum(float((change.double() ** 2).sum()) for change in difference.values())
    ranks = {
        name: stable_rank(change.cpu()) for name, change in difference.items() if change.ndim == 2 and ".layers." in f".{name}"
    }

    def mean(of: str) -> float:
        values = [rank for name, rank in ranks.items() if of in name and not np.isnan(rank)]
        return float(np.mean(values)) if values else float("nan")

    return {
        "change_norm": squares**0.5,
        "stable_rank": mean(""),
        "stable_rank_attention": mean("att"),
        "stable_rank_mlp": mean("mlp"),
    }


def _closed_form(plain: Mapping[str, Any]) -> ClosedFormRecipe:
    return ClosedFormRecipe(**dict(plain) | {"layers": None if plain["layers"] is None else tuple(plain["layers"])})


def _method_json(method: Method | ClosedFormRecipe) -> dict[str, Any]:
    if isinstance(method, Method):
        return dataclasses.asdict(method)
    plain = dataclasses.asdict(method)
    return {"closed_form": plain | {"layers": None if method.layers is None else list(method.layers)}}
