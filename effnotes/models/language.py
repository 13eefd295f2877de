"""Small language models in Hugging Face's format, built from a seed for the words of a world.

transformers is imported where it is needed: what only asks for a name or a shape does not wait for it.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import warnings
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import torch
from pydantic import Field
from torch import Tensor, nn

from effnotes.core.checks import check_choice, check_range
from effnotes.core.digests import tensors_digest
from effnotes.core.errors import DataError
from effnotes.core.files import user_path
from effnotes.core.settings import settings
from effnotes.models.folders import checkpoint_files, stored_weights
from effnotes.models.weights import check_finite, check_own, layer_weight

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

Family: TypeAlias = Literal["gpt_neox", "llama"]
Blocks: TypeAlias = Literal["linears", "attention", "mlp"]

# transformers imports torchao where it is installed, and PyTorch writes to stderr of what that registers.
logging.getLogger("torch.utils._pytree").setLevel(logging.ERROR)

# What the linear layers of a block belong to is told by words in their names.
_KINDS: dict[str, tuple[str, ...]] = {"attention": ("attn", "attention")}
_KINDS["mlp"] = ("mlp", "feed_forward", "feedforward", "ffn", "fc1", "fc2", "expert")


@settings
class LanguageModelShape:
    """Size and family of a causal language model with untied embedding and head.

    "gpt_neox" is Pythia's architecture (Biderman et al., ICML 2023): parallel residual, LayerNorm, biases, GELU, rotary positions
    on a quarter of each head. "llama" has RMSNorm, no biases, a gated MLP and rotary positions on all of each head.

    Raises:
        ValueError: A number is out of range, or the width cannot be shared evenly by the heads.
    """

    width: int = Field(ge=1)  # of the residual stream
    layers: int = Field(ge=1)
    heads: int = Field(ge=1)
    mlp_width: int | None = Field(None, ge=1)  # hidden units of an MLP; None takes four times the width
    family: Family = "gpt_neox"
    context: int = Field(32, ge=1)  # most tokens in a row

    def __post_init__(self) -> None:
        if self.width % self.heads or (self.width // self.heads) % 2:
            raise ValueError(f"width={self.width}, heads={self.heads}: each head needs an even share; take a multiple of 2 heads")


LANGUAGE_MODELS: Mapping[str, LanguageModelShape] = {
    "neox-32x1": LanguageModelShape(width=32, layers=1, heads=2),
    "neox-32x2": LanguageModelShape(width=32, layers=2, heads=2),
    "neox-64x2": LanguageModelShape(width=64, layers=2, heads=2),
    "neox-128x4": LanguageModelShape(width=128, layers=4, heads=4),
    "pythia-31m": LanguageModelShape(width=256, layers=6, heads=8, context=1024),
    "llama-64x2": LanguageModelShape(width=64, layers=2, heads=2, mlp_width=172, family="llama"),
    "llama-128x3": LanguageModelShape(width=128, layers=3, heads=4, mlp_width=352, family="llama", context=512),
}
"""Shapes by name: family, width and layers. "pythia-31m" has Pythia-31M's; with a world's few words it has 7 million parameters."""


def language_model_shape(shape: LanguageModelShape | str) -> LanguageModelShape:
    """Return a shape, or that of a name in `LANGUAGE_MODELS`.

    Raises:
        ValueError: There is none of that name.
    """
    if isinstance(shape, LanguageModelShape):
        return shape
    check_choice(list(LANGUAGE_MODELS), model=shape)
    return LANGUAGE_MODELS[shape]


def build_language_model(shape: LanguageModelShape | str, vocab_size: int, *, seed: int) -> PreTrainedModel:
    """Build an untrained causal language model whose weights depend on `seed` only.

    Args:
        shape: Its size, or a name in `LANGUAGE_MODELS`.
        vocab_size: Number of tokens V, at least 2; token 0 ends a text, and token 1 pads.
        seed: Of the initialisation. The global random state is left as it was.

    Returns:
        A model in evaluation mode, float32 on the CPU, that maps token numbers (n, L) to `.logits` (n, L, V). Dropout is 0.

    Raises:
        ValueError: The name is unknown, or `vocab_size` is too small.
    """
    shape = language_model_shape(shape)
    check_range(2, vocab_size=vocab_size)
    from transformers import AutoConfig, AutoModelForCausalLM

    size = {"vocab_size": vocab_size, "max_position_embeddings": shape.context, "num_attention_heads": shape.heads}
    size |= {"hidden_size": shape.width, "intermediate_size": shape.mlp_width or 4 * shape.width, "num_hidden_layers": shape.layers}
    special = {"bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 1}
    config = AutoConfig.for_model(shape.family, tie_word_embeddings=False, use_cache=False, **size, **special)
    with torch.random.fork_rng(devices=[]):
        # Seeds the CPU generator only; torch.manual_seed would reseed every GPU as well.
        torch.default_generator.manual_seed(seed)
        model: PreTrainedModel = AutoModelForCausalLM.from_config(config)
    model.eval()
    return model


def logits_at(model: nn.Module, tokens: Tensor, row: Tensor, column: Tensor) -> tuple[Tensor, Tensor]:
    """Return the hidden states (p, d) that a model's head reads at p places, and the logits (p, V) there.

    Logits are wanted at few places, and the head takes most of the time of a small model: it is applied to those only. What a model
    does to logits behind its head, such as to cap them, is done.

    Args:
        model: A causal language model of transformers, or one that peft has wrapped.
        tokens: (n, L) int64.
        row: (p,) rows of the places.
        column: (p,) their columns.
    """
    caught: list[Tensor] = []

    def only(_head: nn.Module, inputs: tuple[Tensor, ...]) -> Tensor:
        caught.append(inputs[0][row, column])
        return caught[0]

    head: nn.Module = model.get_output_embeddings()  # type: ignore[operator]
    with head.register_forward_pre_hook(only):
        logits: Tensor = model(input_ids=tokens).logits
    return caught[0], logits


def residual_stream(model: nn.Module, tokens: Tensor, layer: int) -> Tensor:
    """Return (n, L, d): the residual stream behind a block, counted from 0; gradients flow."""
    stream: Tensor | tuple[Tensor, ...] = _caught(model, tokens, block(model, layer))[1]
    return stream if isinstance(stream, Tensor) else stream[0]


def mlp_units(model: nn.Module, tokens: Tensor, layer: int) -> Tensor:
    """Return (n, L, h): the hidden units of a block's MLP, which its output matrix is applied to; gradients flow.

    Raises:
        ValueError: As for `mlp_output`.
    """
    inputs: tuple[Tensor, ...] = _caught(model, tokens, mlp_output(model, layer)[1])[0]
    return inputs[0].reshape(*tokens.shape, -1)  # some families join rows and places


def _caught(model: nn.Module, tokens: Tensor, part: nn.Module) -> tuple[Any, Any]:
    """What goes into a part of a model and what comes out, for all but the head is run, adapters included."""
    caught = []
    causal: Any = model.get_base_model() if hasattr(model, "get_base_model") else model  # type: ignore[operator]
    with part.register_forward_hook(lambda _part, inputs, output: caught.append((inputs, output))):
        causal.base_model(input_ids=tokens)
    return caught[0]


def _blocks(model: nn.Module) -> tuple[str, nn.ModuleList]:
    """Name and list of a model's blocks: the first list of as many modules as its configuration says."""
    wanted = getattr(getattr(model, "config", None), "num_hidden_layers", None)
    for name, module in model.named_modules():
        if isinstance(module, nn.ModuleList) and len(module) == wanted:
            return name, module
    raise ValueError(f"{type(model).__name__} is not known here; needed: a language model of transformers with a list of blocks")


def n_layers(model: nn.Module) -> int:
    """Return the number of blocks."""
    return len(_blocks(model)[1])


def check_layers(model: nn.Module, layers: Iterable[int]) -> list[int]:
    """Return layer numbers sorted, each once.

    Raises:
        ValueError: There are none, or the model has no such layer.
    """
    chosen = sorted(set(layers))
    if not chosen:
        raise ValueError("layers is empty; name at least one, or take None for all")
    last = n_layers(model) - 1
    if chosen[0] < 0 or chosen[-1] > last:
        raise ValueError(f"layers={chosen}: this model's layers are numbered 0 to {last}")
    return chosen


def block(model: nn.Module, layer: int) -> nn.Module:
    """Return one block: the module that maps the residual stream to the next.

    Raises:
        ValueError: There is no such layer.
    """
    return _blocks(model)[1][check_layers(model, [layer])[0]]


def block_linears(model: nn.Module, blocks: Blocks = "linears", layers: Iterable[int] | None = None) -> dict[str, Any]:
    """Return the linear layers of a model's blocks by full name, in the model's order; never its embedding or head.

    What belongs to attention or to the MLP is told by the layers' names, and is the same in every block or refused. Where a family
    has `Conv1D` in place of `nn.Linear` (GPT-2), these count; their weights are (in, out).

    Args:
        model: A causal language model of transformers.
        blocks: "attention", "mlp", or "linears" for both.
        layers: Numbers of the blocks, from 0; None takes all.

    Raises:
        ValueError: There is no such layer, `blocks` is unknown, adapters are in the way, or the linear layers cannot be told apart:
            one has another name, a block has none of either, or blocks differ. (Experts that share one tensor are none.) Or a
            weight is computed from other parameters, such as by `torch.nn.utils.prune`.
    """
    check_choice(("linears", *_KINDS), blocks=blocks)
    prefix, every = _blocks(model)
    kinds = [_linear_kinds(each) for each in every]
    for number, of_block in enumerate(kinds):
        if of_block != kinds[0]:
            raise ValueError(f"block {number} has the linear layers {[*of_block]}, block 0 {[*kinds[0]]}: must be the same in all")
    if lacking := [kind for kind in _KINDS if kind not in kinds[0].values()]:
        raise ValueError(f"the blocks have the linear layers {[*kinds[0]]}, but none of them of their {lacking[0]}")
    found = {
        f"{prefix}.{number}.{name}": every[number].get_submodule(name)
        for number in (range(len(every)) if layers is None else check_layers(model, layers))
        for name, kind in kinds[number].items()
        if blocks in ("linears", kind)
    }
    for name, module in found.items():
        layer_weight(module, name, changing=True)
    return found


def _linear_kinds(one: nn.Module) -> dict[str, str]:
    """What each linear layer of a block belongs to, by name in the block."""
    kinds = {}
    for name, module in one.named_modules():
        if hasattr(module, "base_layer"):
            raise ValueError(f"{name} is {type(module).__name__}, not a plain linear layer; merge adapters first")
        if isinstance(module, nn.Linear) or type(module).__name__ == "Conv1D":
            found = [kind for kind, words in _KINDS.items() if any(word in name.lower() for word in words)]
            if not found:
                raise ValueError(f"the linear layer {name} is neither of attention nor of an MLP, as far as its name tells")
            kinds[name] = found[0]
    return kinds


def mlp_output(model: nn.Module, layer: int) -> tuple[str, nn.Linear]:
    """Return name and module of the linear layer by which a block's MLP writes into the residual stream: its last.

    Raises:
        ValueError: There is no such layer, or its last is no plain linear layer onto the residual stream.
    """
    name, module = list(block_linears(model, "mlp", [layer]).items())[-1]
    if not isinstance(module, nn.Linear) or module.out_features != model.config.hidden_size:  # type: ignore[union-attr]
        raise ValueError(f"{name} is {module}, not a plain linear layer onto the residual stream")
    return name, module


def weights_digest(model: nn.Module) -> str:
    """Return a SHA-256 over names, shapes, types and bytes of all parameters and buffers."""
    return tensors_digest(model.state_dict())


def save_language_model(model: PreTrainedModel, folder: str | Path, tokenizer: PreTrainedTokenizerFast | None = None) -> None:
    """Write a model, and its tokeniser, as a folder in Hugging Face's format: `config.json`, `model.safetensors`, `tokenizer.json`.

    The folder is written under another name and renamed, so that it is never half there.

    Raises:
        FileExistsError: There is such a folder already.
        ValueError: A weight is computed from other parameters, such as by `torch.nn.utils.prune`; nothing would read that again.
    """
    check_own(model)
    folder = user_path(folder)
    if folder.exists():
        raise FileExistsError(f"{folder}: there is something already; name another folder")
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = folder.with_name(f"{folder.name}.{os.getpid()}.tmp")
    try:
        with _quietly():
            model.save_pretrained(temporary)
        if tokenizer is not None:
            tokenizer.save_pretrained(temporary)
        temporary.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def load_language_model(folder: str | Path) -> PreTrainedModel:
    """Read a causal language model from a folder in Hugging Face's format. Only safetensors are read, nothing is unpickled.

    Returns:
        The model in evaluation mode, on the CPU and in float32; where weights are kept in another type, a `RuntimeWarning` says so.

    Raises:
        DataError: The folder or a file is missing or broken; a weight is missing, left over, of another shape, quantised, NaN or
            infinite.
    """
    folder = user_path(folder)
    stored = stored_weights(checkpoint_files(folder))
    from transformers import AutoConfig, AutoModelForCausalLM

    options: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    try:
        with _quietly():
            config = AutoConfig.from_pretrained(folder, **options)
            if hasattr(config, "quantization_config"):
                raise ValueError("it is quantised; take the model that it was made from")
            blocks = getattr(config.get_text_config(), "num_hidden_layers", 0)
            if blocks > len(stored):  # or each would be built first
                raise ValueError(f"config.json speaks of {blocks} blocks, but there are {len(stored)} weights in all")
            loader: Any = AutoModelForCausalLM
            options |= {"use_safetensors": True, "output_loading_info": True}
            # The type that config.json names may have fewer digits than the weights.
            model, report = loader.from_pretrained(folder, dtype=torch.float32, **options)
            check_finite(model)
    except Exception as error:  # what transformers raises for broken files has no common base
        if "ignore_mismatched_sizes" in str(error):  # its list of them went to the log
            shapes = ", ".join(f"{name} {shape}" for name, (_, shape) in list(stored.items())[:3])
            raise DataError(f"{folder}: the weights have other sizes than its config.json says; some of them: {shapes}") from error
        raise DataError(f"{folder}: this is no readable model ({type(error).__name__}: {str(error)[:400]})") from error
    wrong = [f"{kind.replace('_', ' ')}: {sorted(map(str, names))}" for kind, names in report.items() if names]
    if wrong:
        raise DataError(f"{folder}: the weights are not those of its config.json; {'; '.join(wrong)}")
    if others := {kind for kind, _ in stored.values()} - {"F32"}:
        what = f"{folder}: weights are kept as {', '.join(sorted(others))}; they are taken in float32"
        warnings.warn(what, RuntimeWarning, stacklevel=2)
    loaded: PreTrainedModel = model
    loaded.eval()
    return loaded


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    from transformers.utils import logging

    level, bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bar:
            logging.enable_progress_bar()
