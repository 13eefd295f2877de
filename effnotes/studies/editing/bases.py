"""Models that each know a world: pretrained side by side, or read from folders, and kept in memory by workers that edit them."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd

from effnotes.core.errors import DataError
from effnotes.core.jobs import JobResult
from effnotes.core.settings import from_json, to_json
from effnotes.datasets.worlds.world import World
from effnotes.studies.editing.settings import Base
from effnotes.studies.protocol import Workers, run_table

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from effnotes.training.pretraining import Pretrained

# Sealed bases that this process has pretrained or found, as JSON.
_pretrained: set[str] = set()


def pretrain_bases(bases: Sequence[Base], *, workers: Workers = None) -> pd.DataFrame:
    """Pretrain the models of several bases side by side, or read them where they are kept.

    Args:
        bases: What to train.
        workers: As for `run_jobs`.

    Returns:
        What is known of each, a row for each in the order of the bases: world (its seed), facts (number), parameters,
        bits_per_parameter (what there is to know), steps (of pretraining; 0 for a model from a folder), cpu_s, knows (True where it
        knows as much as its recipe asks for), and for each template "known, TEMPLATE" (share of facts answered right, the least of
        all kinds of facts).

    Raises:
        JobError: A training failed.
    """
    jobs = [base.sealed() for base in bases]
    # Longest first, so that no long one is left for the end.
    longest, names = lambda job: -job.world.n_sentences, lambda job: {"world": job.world_seed}
    found = run_table(prepare_base, jobs, names=names, order=longest, workers=workers)
    _pretrained.update(map(to_json, jobs))
    return found


def pretrain_missing(bases: Iterable[Base], *, workers: Workers = None) -> None:
    """Pretrain what no call of this process has pretrained yet; or several workers would train the same model at a time.

    Raises:
        JobError: A training failed.
    """
    missing = {to_json(base.sealed()): base for base in bases if not base.checkpoint}
    pretrain_bases([base for text, base in missing.items() if text not in _pretrained], workers=workers)


def prepare_base(base: Base) -> JobResult:
    """Pretrain one model; for `run_jobs`, see `pretrain_bases`."""
    from effnotes.training.pretraining import recall_table

    if base.checkpoint:
        model = read_checkpoint(base)
        recall, steps, cpu_s = recall_table(model, base.world, base.recipe, left_out=base.left_out), 0, 0.0
    else:
        found = _pretrained_model(base)
        model, recall, steps, cpu_s = found.model, found.recall, found.steps, found.cpu_s
    size, world = int(model.num_parameters()), base.world
    row = {"facts": len(world.facts()), "parameters": size, "bits_per_parameter": world.n_bits / size, "steps": steps}
    known = {f"known, {name}": float(group["recall"].min()) for name, group in recall.groupby("template", sort=False)}
    return {"rows": [row | {"cpu_s": cpu_s, "knows": bool(recall["enough"].all())} | known]}


def load_base(base: Base) -> PreTrainedModel:
    """Return the model of a base, pretraining it where it is not kept."""
    return read_checkpoint(base) if base.checkpoint else _pretrained_model(base if base.models else base.sealed()).model


def loaded(base: Base) -> tuple[World, PreTrainedModel]:
    """Return world and model of a base; the last ones stay in memory, as jobs of one world follow one another."""
    return _loaded(to_json(base))


@functools.lru_cache(maxsize=8)  # reading a model takes longer than an edit
def _loaded(text: str) -> tuple[World, PreTrainedModel]:
    base = from_json(Base, text)
    return base.world, load_base(base)


def read_checkpoint(base: Base) -> PreTrainedModel:
    """Read the model of a base from its folder.

    Raises:
        DataError: The folder holds no readable model, or one with another vocabulary than the world, or too short a context.
    """
    from torch import nn

    from effnotes.models.language import load_language_model

    model = load_language_model(base.checkpoint)
    size = int(model.get_output_embeddings().weight.shape[0])
    if size != base.world.vocab_size:
        known = f"its model has {size} tokens, but the world has {base.world.vocab_size}"
        raise DataError(f"{base.checkpoint}: {known}; name the world (or the facts) that it was trained on")
    forms, facts = (form for form, share in base.world.templates.items() if share), base.world.facts()
    longest = max(base.world.encode(facts, form).tokens.shape[1] for form in forms)
    most = getattr(model.config, "max_position_embeddings", longest)
    if longest > most:
        raise DataError(f"{base.checkpoint}: its model reads {most} tokens at most, but the world has sentences of {longest}")
    nn.Module.to(model, base.device)
    return model


def _pretrained_model(base: Base) -> Pretrained:
    from effnotes.training.pretraining import pretrain

    with warnings.catch_warnings():
        # The column "knows" says so, and what an edit keeps is counted among what the model knew.
        warnings.filterwarnings("ignore", "after .* steps the model knows too little", RuntimeWarning)
        options: dict[str, Any] = {"left_out": base.left_out, "device": base.device, "cache": base.models}
        return pretrain(base.world, base.model, base.recipe, seed=base.seed, **options)
