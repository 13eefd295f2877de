"""Pretraining of a small language model on a world until it knows the world's facts, kept under a key of all that decides it.

On a CUDA device the sentences are made there from tables of integers (`effnotes.datasets.worlds.device`), so that training does
not wait for text from the host, unless the world is written in a form with something random in it: "repeats" or "nonsense". The
batches are the same to the bit either way.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
import shutil
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from effnotes.core.digests import json_digest, tensors_digest
from effnotes.core.errors import DataError
from effnotes.core.files import user_path
from effnotes.core.processes import tell_part
from effnotes.datasets.worlds.device import DeviceCorpus, DeviceSentences, can_be_written
from effnotes.datasets.worlds.forms import PROMPTABLE
from effnotes.datasets.worlds.graph import Facts
from effnotes.datasets.worlds.words import PAD
from effnotes.datasets.worlds.world import World
from effnotes.models import language
from effnotes.models.answers import answer
from effnotes.training.hardware import resolve_precision
from effnotes.training.loop import Loop
from effnotes.training.recipes import PretrainingRecipe

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_FORMAT = "effnotes-world-model-3"
_STATE = "state.safetensors"
_REPORT = "report.json"


DEFAULT = PretrainingRecipe()


class Pretrained(NamedTuple):
    """A model that has learnt a world, and how well.

    Attributes:
        model: In evaluation mode.
        recall: A row for each kind of fact and template that it is asked in: kind, template, asked (facts), recall (share answered
            exactly right), probability (mean of the right answers), enough (whether the recipe's thresholds are met).
        steps: Steps of training, those of extensions included.
        extensions: How many there were.
        cpu_s: Processor time of this process in training, in seconds, over all the sittings.
        folder: Where it is kept, in Hugging Face's format; None for nowhere.
        from_cache: Whether the model was read and not trained.
    """

    model: PreTrainedModel
    recall: pd.DataFrame
    steps: int
    extensions: int
    cpu_s: float
    folder: Path | None
    from_cache: bool = False

    @property
    def knows(self) -> bool:
        """Whether all that was asked for is known well enough, and something was: of some facts no prompt can be made.

        If not, count only what the model knew when an edit is judged.
        """
        return bool(len(self.recall)) and bool(self.recall["enough"].all())


def pretrain(
    world: World,
    shape: language.LanguageModelShape | str,
    recipe: PretrainingRecipe = DEFAULT,
    *,
    seed: int = 0,
    left_out: Facts | None = None,
    device: str | torch.device = "cpu",
    cache: str | Path | None = None,
    progress: Callable[[int, int], None] = tell_part,
) -> Pretrained:
    """Train a model on a world until it knows its facts, or read it from the cache.

    The loss is that of the next token at every place of a sentence, its first excepted.

    Args:
        world: What is to be learnt.
        shape: The model, or a name in `LANGUAGE_MODELS`.
        recipe: How it is trained.
        seed: Of the initial weights and the order within the corpus. Those of the world are its own.
        left_out: Facts that the training text leaves out, such as `Task.forgotten`: gives the gold standard of unlearning them.
        device: Where it is trained; the result is on the same.
        cache: Folder for models by key. A finished model is read, and asked again for what it knows; an interrupted run goes on
            from its last checkpoint, with the same result as if it had not been (to the bit on a CPU). None keeps nothing.
        progress: Called now and then with how many parts of the training are done, and planned, such as `print`; tells the
            runner if not given.

    Returns:
        The model and how well it knows the world. One that knows too little after the last extension is returned as well, with a
        warning.

    Raises:
        ValueError: A name is unknown, or a sentence is longer than the model's context.
        DivergedError: The loss became infinite or NaN.
    """
    run = _Run(world, language.language_model_shape(shape), recipe, seed, left_out, torch.device(device), progress)
    folder = None if cache is None else user_path(cache) / run.key
    if folder is not None and (folder / "model" / _REPORT).is_file():
        found = _read(run, folder)
        if found is not None:
            return found
    return run.train(folder)


def recall_table(
    model: PreTrainedModel, world: World, recipe: PretrainingRecipe = DEFAULT, *, left_out: Facts | None = None
) -> pd.DataFrame:
    """Ask a model for the facts of a world in each template that a prompt can be made of; columns as in `Pretrained.recall`.

    Facts are not asked for in a template that the world withheld from them, nor those that some sentences dissent from, nor those
    in `left_out`.
    """
    facts = world.facts()
    ids = np.arange(len(facts))
    usable = world.minority_of(facts) < 0
    if left_out is not None:
        usable[world.fact_ids(left_out)] = False
    rng = np.random.default_rng(0)
    most = max((share for name, share in world.templates.items() if name in PROMPTABLE), default=0)
    rows = []
    for position, (name, share) in enumerate(world.templates.items()):
        if share == 0 or name not in PROMPTABLE:
            continue
        for kind, label in enumerate(("so", "sno", "ono")):
            asked = ids[usable & (facts.kind == kind) & (world.withheld != position)]
            if not len(asked):
                continue
            if len(asked) > recipe.most_asked:
                asked = np.sort(rng.choice(asked, size=recipe.most_asked, replace=False))
            answers = answer(model, world.encode(facts.take(asked), name))
            recall, probability = float(answers.exact.mean()), float(answers.probability.mean())
            needed = recipe.recall if share == most else recipe.recall_elsewhere
            rows.append((label, name, len(asked), recall, probability, recall >= needed and probability >= recipe.probability))
    return pd.DataFrame(rows, columns=["kind", "template", "asked", "recall", "probability", "enough"])


def sentence_loss(logits: Tensor, tokens: Tensor) -> Tensor:
    """Return the mean loss of the next token over all places of sentences but padding: a scalar, in nats.

    Args:
        logits: (b, L, V) from tokens (b, L).
        tokens: (b, L) int64, padded behind.
    """
    return F.cross_entropy(logits[:, :-1].reshape(-1, logits.shape[-1]).float(), tokens[:, 1:].reshape(-1), ignore_index=PAD)


@dataclass(frozen=True, eq=False)
class _Run:
    world: World
    shape: language.LanguageModelShape
    recipe: PretrainingRecipe
    seed: int
    left_out: Facts | None
    device: torch.device
    progress: Callable[[int, int], None] = tell_part

    @cached_property
    def n_sentences(self) -> int:
        return self.world.corpus(self.left_out).n_sentences

    @property
    def parts(self) -> int:
        """Parts of the corpus, between which there are checkpoints."""
        return max(1, round(self.n_sentences / (self.recipe.batch_size * self.recipe.checkpoint_steps)))

    @cached_property
    def described(self) -> dict[str, Any]:
        """All that decides the result; not versions, because what a kept model knows is measured when it is read."""
        words, graph = self.world.words, self.world.graph
        tables = {name: getattr(graph, name) for name in ("objects", "minority", "nested", "asked")}
        tables |= {f"words of {name}": getattr(words, name) for name in ("subjects", "relations", "objects", "nested")}
        return {
            "format": _FORMAT,
            "world": self.world.settings(),
            "template order": list(self.world.templates),  # which the drawing of forms goes by
            "facts and words": tensors_digest({n: torch.from_numpy(np.ascontiguousarray(t)) for n, t in tables.items()}),
            "grammar": words.grammar,
            "left out": [] if self.left_out is None else np.unique(self.world.fact_ids(self.left_out)).tolist(),
            "shape": dataclasses.asdict(self.shape),
            "recipe": dataclasses.asdict(self.recipe),
            "seed": self.seed,
            "device": self.device.type,
        }

    @property
    def key(self) -> str:
        """SHA-256 over that."""
        return json_digest(self.described)[:24]

    @property
    def total_steps(self) -> int:
        """Steps of all passes, roughly: the parts of a corpus differ by a sentence or a biography."""
        return self.recipe.passes * self.parts * max(1, math.ceil(self.n_sentences / self.parts / self.recipe.batch_size))

    def train(self, folder: Path | None) -> Pretrained:
        model = language.build_language_model(self.shape, self.world.vocab_size, seed=self.seed)
        nn.Module.to(model, self.device)
        recipe = self.recipe
        loop = Loop(
            model,
            torch.optim.AdamW(model.parameters(), betas=recipe.betas, weight_decay=recipe.weight_decay, fused=True),
            self._batches,
            lambda network, tokens: sentence_loss(network(input_ids=tokens).logits, tokens),
            parts=recipe.passes * self.parts,
            rate=self._rate,
            precision=resolve_precision(recipe.precision, self.device),
            clip=recipe.clip,
            progress=self.progress,
            checkpoint=None if folder is None else folder / _STATE,
            run=self.described,
        )
        loop.fit()
        while not (recall := self.recall(model))["enough"].all() and len(loop.history) < loop.parts + recipe.most_extensions:
            loop.fit(len(loop.history) + 1)
        if not recall["enough"].all():
            known = "; ".join(f"{row.kind} in {row.template} {row.recall:.2%}" for row in recall.itertuples())
            lacking = f"after {loop.step} steps the model knows too little of its world ({known})"
            remedy = "judge edits by what it knew, or train longer (passes, most_extensions) or a larger model"
            warnings.warn(f"{lacking}: {remedy}", RuntimeWarning, stacklevel=3)
        cpu_s = sum(row["cpu_seconds"] for row in loop.history)
        effort: dict[str, Any] = {"steps": loop.step, "extensions": len(loop.history) - loop.parts, "cpu_s": cpu_s}
        if folder is not None:
            self._keep(model, recall, effort, folder)
        return Pretrained(model, recall, **effort, folder=None if folder is None else folder / "model")

    def recall(self, model: PreTrainedModel) -> pd.DataFrame:
        return recall_table(model, self.world, self.recipe, left_out=self.left_out)

    def _keep(self, model: PreTrainedModel, recall: pd.DataFrame, effort: dict[str, Any], folder: Path) -> None:
        target = folder / "model"
        shutil.rmtree(target, ignore_errors=True)
        language.save_language_model(model, target, self.world.hf_tokenizer())
        report = {"effort": effort, "recall": recall.to_dict("records"), "digest": language.weights_digest(model)}
        temporary = target / f"{_REPORT}.{os.getpid()}.tmp"
        temporary.write_text(json.dumps(report, indent=1) + "\n")
        temporary.replace(target / _REPORT)  # last: without it no model counts as finished
        (folder / _STATE).unlink(missing_ok=True)

    @cached_property
    def _on_device(self) -> DeviceCorpus | None:
        """The corpus as the device makes it; None where the host has to write it."""
        return DeviceCorpus(self.world.corpus(self.left_out), self.device) if _makes_sentences(self.device, self.world) else None

    def _rate(self, part: int, step: int) -> float:
        planned = part < self.recipe.passes * self.parts
        return self.recipe.learning_rate_at(min(step, self.total_steps - 1) if planned else self.total_steps, self.total_steps)

    def _batches(self, part: int) -> Iterator[Tensor]:
        """Give the batches of a part of the corpus or, behind all its passes, of an extension."""
        extension = part - self.recipe.passes * self.parts
        sentences = self._shard(part % self.parts) if extension < 0 else self._extension(extension)
        width = sentences.width if isinstance(sentences, DeviceSentences) else sentences.shape[1]
        if width > self.shape.context:
            raise ValueError(f"a sentence has {width} tokens, but the model's context is {self.shape.context}; enlarge it")
        order = torch.from_numpy(np.random.default_rng([self.seed, part]).permutation(len(sentences))).to(self.device)
        batches = order.tensor_split(math.ceil(len(order) / self.recipe.batch_size))
        if isinstance(sentences, DeviceSentences):
            return map(sentences.tokens, batches)
        tokens = torch.from_numpy(sentences).to(self.device)
        return (tokens[rows].long() for rows in batches)

    def _shard(self, shard: int) -> NDArray[np.int32] | DeviceSentences:
        if self._on_device is not None:
            return self._on_device.shard(shard, self.parts)
        blocks = [block.tokens for block in self.world.sentences(shard=shard, of=self.parts, left_out=self.left_out)]
        width = max(block.shape[1] for block in blocks)
        return np.concatenate([np.pad(block, ((0, 0), (0, width - block.shape[1])), constant_values=PAD) for block in blocks])

    def _extension(self, number: int) -> NDArray[np.int32] | DeviceSentences:
        n = self.recipe.extension_steps * self.recipe.batch_size
        seed = int(np.random.SeedSequence([self.seed, number]).generate_state(1)[0])
        if self._on_device is not None:
            return self._on_device.sample(n, seed)
        return self.world.sample_sentences(n, seed=seed, left_out=self.left_out).tokens


def _makes_sentences(device: torch.device, world: World) -> bool:
    # Other devices than these may lack 64-bit floats, which decide the templates.
    return device.type == "cuda" and can_be_written(world)


def _read(run: _Run, folder: Path) -> Pretrained | None:
    """Read a finished model and ask it again; None, with a warning, where it does not know what its report says."""
    try:
        report: dict[str, Any] = json.loads((folder / "model" / _REPORT).read_text())
        model = language.load_language_model(folder / "model")
        if report["digest"] != language.weights_digest(model):
            raise ValueError("the weights are not those of its report")
        nn.Module.to(model, run.device)
        recall = run.recall(model)
        before = pd.DataFrame(report["recall"])
        if list(before["asked"]) != list(recall["asked"]) or (before["recall"] - recall["recall"]).abs().max() > 0.005:
            raise ValueError("it no longer answers as its report says")
        return Pretrained(model, recall, **report["effort"], folder=folder / "model", from_cache=True)
    except (DataError, ValueError, KeyError, TypeError, OSError) as error:
        warnings.warn(f"{folder}: the kept model cannot be used ({error}); it is trained anew", RuntimeWarning, stacklevel=4)
        return None
