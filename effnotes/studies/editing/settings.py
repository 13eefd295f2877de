"""What is edited and how: models that know a world, kinds of edits, draws, methods, and what is compared. Nothing here loads torch.

Each class goes to JSON and back by `effnotes.core.settings`, but `Comparison`, which is no job.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

from pydantic import Field

from effnotes.core.errors import DataError
from effnotes.core.files import user_path
from effnotes.core.settings import settings
from effnotes.datasets.worlds.draws import NestedClass, make_draws
from effnotes.datasets.worlds.graph import Facts
from effnotes.datasets.worlds.named import read_facts
from effnotes.datasets.worlds.tasks import Task, TaskKind
from effnotes.datasets.worlds.world import World
from effnotes.models.store import models_folder
from effnotes.studies.protocol import Split
from effnotes.training.recipes import PretrainingRecipe

if TYPE_CHECKING:
    from effnotes.finetuning import EditRecipe

StopRule: TypeAlias = Literal["budget", "first_success"]
Blocks: TypeAlias = Literal["all", "linears", "attention", "mlp"]
Rate: TypeAlias = Annotated[float, Field(gt=0)]
Rates: TypeAlias = Annotated[tuple[Rate, ...], Field(min_length=1)]


# Rows of a test group that are asked for at each checkpoint; a group of more is sampled, once for all methods.
MOST_ASKED = 256


@settings
class Setting:
    """One kind of edit under one set of conditions; two methods are compared within a setting.

    The fields but `name` and `checkpoints` are those of `effnotes.datasets.worlds.make_task`.

    Raises:
        ValueError: The checkpoints do not rise from 1 on.
    """

    name: str
    kind: TaskKind = "remap"
    n: int = 1
    relation: int = 0
    retain_coverage: float = 0.1
    nested_class: NestedClass = "any"
    checkpoints: tuple[int, ...] = (10, 20, 40, 80)  # steps after which an edit is looked at; the last is the budget

    def __post_init__(self) -> None:
        if not self.checkpoints or sorted({0, *self.checkpoints}) != [0, *self.checkpoints]:
            raise ValueError(f"checkpoints={self.checkpoints}: must be numbers of steps from 1 on, each larger than the one before")


@settings
class DrawPlan:
    """Which edits are drawn in each setting and world: some to choose learning rates on, others to report."""

    tune: int = Field(ge=1)
    test: int = Field(ge=1)
    seed: int = Field(ge=0)

    def tasks(self, world: World, setting: Setting, split: Split) -> tuple[Task, ...]:
        """Draw the edits of one split; no edited subject is in both splits."""
        kept = {name: getattr(setting, name) for name in ("relation", "retain_coverage", "nested_class")}
        drawn = make_draws(world, setting.kind, setting.n, n_tune=self.tune, n_test=self.test, seed=self.seed, **kept)
        return drawn.tune if split == "tune" else drawn.test


@settings
class Method:
    """What of a model is trained: the weights of some blocks, as they are or by a low-rank change.

    Raises:
        ValueError: All weights are to be trained by a low-rank change.
    """

    blocks: Blocks = "linears"
    rank: int | None = Field(default=None, ge=1)  # of LoRA; None for full rank

    def __post_init__(self) -> None:
        if self.blocks == "all" and self.rank is not None:
            raise ValueError("blocks='all' takes every parameter, at full rank; LoRA needs 'linears'")

    @property
    def name(self) -> str:
        """Such as "full mlp" or "LoRA 4 linears"."""
        return f"{'full' if self.rank is None else f'LoRA {self.rank}'} {self.blocks}"

    def recipe(self, learning_rate: float, checkpoints: tuple[int, ...]) -> EditRecipe:
        """Return the recipe that trains so."""
        from effnotes.finetuning import EditRecipe

        kind: Literal["full", "lora"] = "full" if self.rank is None else "lora"
        return EditRecipe(kind, self.blocks, rank=self.rank, learning_rate=learning_rate, checkpoints=checkpoints)


# Full-rank fine-tuning of all linear layers, which other methods are compared with.
REFERENCE = Method()


@settings
class Base:
    """A model that knows a world: pretrained on it, or read from a folder.

    Raises:
        ValueError: As for `World` and `pretrain`.
        DataError: As for `read_facts` and `load_language_model`; or the model has another vocabulary than the world.
    """

    settings: dict[str, Any]  # of the world, as for `World.from_settings`; with `facts`, those that facts leave open
    model: str = "neox-64x2"  # a name in `LANGUAGE_MODELS`
    recipe: PretrainingRecipe = PretrainingRecipe()  # how it is pretrained
    seed: int = 0  # of the initial weights and the order of training
    facts: str = ""  # CSV file with the world's facts; empty draws them
    checkpoint: str = ""  # folder of a model that has learnt the world; empty pretrains one
    device: Literal["cpu", "cuda"] = "cpu"  # where it is trained and edited
    forgets: tuple[Setting, DrawPlan] | None = None  # its first draw to report is left out of the training text: gold of unlearning
    models: str = ""  # folder that trained models are kept in, as `sealed` fills it in
    digests: tuple[str, ...] = ()  # of the contents of its files, likewise

    @functools.cached_property
    def world(self) -> World:
        """The world that the model knows."""
        return read_facts(self.facts, **self.settings).world if self.facts else World.from_settings(self.settings)

    @property
    def left_out(self) -> Facts | None:
        """Facts that the model never sees."""
        if self.forgets is None:
            return None
        setting, draws = self.forgets
        return draws.tasks(self.world, setting, "test")[0].forgotten

    @property
    def world_seed(self) -> int:
        """What the rows of a table call its world."""
        return int(self.settings.get("seed", 0))

    def sealed(self) -> Base:
        """Return it as a job holds it: with the contents of its files, which decide what it is, and the folder of models.

        Raises:
            DataError: A file is missing.
        """
        files = [user_path(self.facts)] if self.facts else []
        if files and not files[0].is_file():
            raise DataError(f"{files[0]} cannot be found; give the path of a CSV file as facts")
        if self.checkpoint:
            from effnotes.models.folders import checkpoint_files

            files += checkpoint_files(self.checkpoint)
        digests = tuple(hashlib.sha256(file.read_bytes()).hexdigest() for file in files)
        return dataclasses.replace(self, models=models_folder(), digests=digests)


@settings
class Comparison:
    """Methods that are compared in one setting, on the same edits of the same models.

    Raises:
        ValueError: The reference is not among the methods, a grid is empty or has a rate that is not above 0, there are no bases or
            no rules.
    """

    setting: Setting
    bases: Annotated[tuple[Base, ...], Field(min_length=1)]
    draws: DrawPlan
    grids: dict[Method, Rates]  # learning rates to begin with, all of the same number for a fair choice
    rules: tuple[StopRule, ...] = Field(default=("budget",), min_length=1)
    at_reference_rate: bool = False  # report all methods also at the rate that was chosen for the reference, by the first rule
    truncations: tuple[int, ...] = ()  # of the changes of full rank, of all methods but "full all", on the draws to report
    tuned_on: int | None = Field(default=None, ge=1)  # bases, of the first, that rates are chosen on; None for all

    def __post_init__(self) -> None:
        if REFERENCE not in self.grids:
            raise ValueError(f"{REFERENCE.name!r} is not among the methods, but the others are compared with it")

    @property
    def keys(self) -> dict[tuple[str, str], Method]:
        """Methods by what the protocol chooses a rate for: the setting's name and the method's."""
        return {(self.setting.name, method.name): method for method in self.grids}


def check_apart(drawn: Iterable[tuple[Base, Setting, DrawPlan]]) -> None:
    """Refuse what one table could not tell apart: its rows name the setting, the seed of the world and the number of the draw.

    Raises:
        ValueError: Different bases have worlds of the same seed in a setting, or settings or draws differ under one name.
    """
    seen: dict[tuple[str, int], tuple[Base, Setting, DrawPlan]] = {}
    for base, setting, draws in drawn:
        if seen.setdefault((setting.name, base.world_seed), (base, setting, draws)) != (base, setting, draws):
            what = f"setting {setting.name!r}, world {base.world_seed}: different bases, settings or draws cannot be told apart"
            raise ValueError(f"{what}; give each base a world of another seed, and each setting a name of its own")
