"""Small language models in Hugging Face's format, built from a seed for the words of a world.

transformers is imported where it is needed: what only asks for a name or a shape does not wait for it.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import torch
from torch import nn

from effnotes.core.digests import tensors_digest
from effnotes.core.errors import DataError, nearest

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

Family: TypeAlias = Literal["gpt_neox", "llama"]
Blocks: TypeAlias = Literal["linears", "attention", "mlp"]

# Linear layers of a block, by what they belong to; the names are those of transformers.
_LINEARS: dict[str, dict[str, tuple[str, ...]]] = {
    "gpt_neox": {
        "attention": ("attention.query_key_value", "attention.dense"),
        "mlp": ("mlp.dense_h_to_4h", "mlp.dense_4h_to_h"),
    },
    "llama": {
        "attention": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj"),
        "mlp": ("mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"),
    },
}
_MLP_OUT = {"gpt_neox": "mlp.dense_4h_to_h", "llama": "mlp.down_proj"}
_INDEXED = re.compile(r"(?:^|\.)layers\.(\d+)\.(.+)$")


@dataclass(frozen=True)
class LanguageModelShape:
    """Size and family of a causal language model with untied embedding and head.

    "gpt_neox" is Pythia's architecture (Biderman et al., ICML 2023): parallel residual, LayerNorm, biases, GELU, rotary positions
    on a quarter of each head. "llama" has RMSNorm, no biases, a gated MLP and rotary positions on all of each head.

    Raises:
        ValueError: A number is out of range, or the width cannot be shared evenly by the heads.
    """

    width: int  # of the residual stream
    layers: int
    heads: int
    mlp_width: int | None = None  # hidden units of an MLP; None takes four times the width
    family: Family = "gpt_neox"
    context: int = 32  # most tokens in a row

    def __post_init__(self) -> None:
        if self.family not in _LINEARS:
            raise ValueError(f"family={self.family!r}: allowed are {', '.join(_LINEARS)}.{nearest(str(self.family), _LINEARS)}")
        for name in ("width", "layers", "heads", "mlp_width", "context"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name}={value}: must be at least 1")
        if self.width % self.heads or (self.width // self.heads) % 2:
            raise ValueError(f"width={self.width}, heads={self.heads}: each head needs an even share; take a multiple of 2 heads")

    @property
    def mlp_units(self) -> int:
        """Hidden units of an MLP."""
        return 4 * self.width if self.mlp_width is None else self.mlp_width


LANGUAGE_MODELS: Mapping[str, LanguageModelShape] = {
    "neox-32x1": LanguageModelShape(width=32, layers=1, heads=2),
    "neox-32x2": LanguageModelShape(width=32, layers=2, heads=2),
    "neox-64x2": LanguageModelShape(width=64, layers=2, heads=2),
    "neox-128x4": LanguageModelShape(width=128, layers=4, heads=4),
    "pythia-31m": LanguageModelShape(width=256, layers=6, heads=8, context=1024),
    "llama-64x2": LanguageModelShape(width=64, layers=2, heads=2, mlp_width=172, family="llama"),
}
"""Shapes by name: family, width and layers. "pythia-31m" has Pythia-31M's; with a world's few words it has 7 million parameters."""


def language_model_shape(name: str) -> LanguageModelShape:
    """Return a shape of `LANGUAGE_MODELS`.

    Raises:
        ValueError: There is none of that name.
    """
    if name not in LANGUAGE_MODELS:
        raise ValueError(
            f"there is no model {name!r}.{nearest(name, LANGUAGE_MODELS)} The models are: {', '.join(LANGUAGE_MODELS)}."
        )
    return LANGUAGE_MODELS[name]


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
    if isinstance(shape, str):
        shape = language_model_shape(shape)
    if vocab_size < 2:
        raise ValueError(f"vocab_size={vocab_size}: must be at least 2")
    from transformers import GPTNeoXConfig, GPTNeoXForCausalLM, LlamaConfig, LlamaForCausalLM

    common: dict[str, Any] = {
        "vocab_size": vocab_size,
        "hidden_size": shape.width,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "intermediate_size": shape.mlp_units,
        "max_position_embeddings": shape.context,
        "tie_word_embeddings": False,
        "use_cache": False,
        "attention_dropout": 0.0,
        "bos_token_id": 0,
        "eos_token_id": 0,
        "pad_token_id": 1,
    }
    with torch.random.fork_rng(devices=[]):
        # Seeds the CPU generator only; torch.manual_seed would reseed every GPU as well.
        torch.default_generator.manual_seed(seed)
        if shape.family == "llama":
            model: PreTrainedModel = LlamaForCausalLM(LlamaConfig(**common))
        else:
            model = GPTNeoXForCausalLM(GPTNeoXConfig(**common, hidden_dropout=0.0))
    model.eval()
    return model


def n_parameters(model: nn.Module) -> int:
    """Return the number of parameters, tied ones counted once."""
    return sum(parameter.numel() for parameter in model.parameters())


def _family(model: nn.Module) -> str:
    family = str(getattr(getattr(model, "config", None), "model_type", type(model).__name__))
    if family not in _LINEARS:
        raise ValueError(f"a model of type {family!r} is not known here; known are {', '.join(_LINEARS)}")
    return family


def trunk_and_head(model: nn.Module) -> tuple[nn.Module, nn.Module]:
    """Return what maps token numbers to `.last_hidden_state` (b, L, d) and what maps that to logits, adapters included.

    Logits are wanted at few places, and the head takes most of the time of a small model: apply it to those only.

    Args:
        model: A GPT-NeoX or Llama model of transformers, or one that peft has wrapped.

    Raises:
        ValueError: The model is of another family; others do more between the two.
    """
    _family(model)
    causal: Any = model.get_base_model() if hasattr(model, "get_base_model") else model  # type: ignore[operator]
    return causal.get_submodule(causal.base_model_prefix), causal.get_output_embeddings()


def n_layers(model: nn.Module) -> int:
    """Return the number of blocks of a GPT-NeoX or Llama model."""
    _family(model)
    return int(model.config.num_hidden_layers)  # type: ignore[union-attr, arg-type]


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


def block_linears(model: nn.Module, blocks: Blocks = "linears", layers: Iterable[int] | None = None) -> dict[str, nn.Linear]:
    """Return the linear layers of a model's blocks by full name, in the model's order; never its embedding or head.

    Args:
        model: A GPT-NeoX or Llama model of transformers.
        blocks: "attention", "mlp", or "linears" for both.
        layers: Numbers of the blocks, from 0; None takes all.

    Raises:
        ValueError: The model is of another family, there is no such layer, or `blocks` is unknown.
    """
    named = _LINEARS[_family(model)]
    kinds = {"attention": ("attention",), "mlp": ("mlp",), "linears": ("attention", "mlp")}
    if blocks not in kinds:
        raise ValueError(f"blocks={blocks!r}: allowed are {', '.join(kinds)}.{nearest(str(blocks), kinds)}")
    wanted = {name for kind in kinds[blocks] for name in named[kind]}
    chosen = range(n_layers(model)) if layers is None else check_layers(model, layers)
    found = {}
    for name, module in model.named_modules():
        match = _INDEXED.search(name)
        if match and int(match[1]) in chosen and match[2] in wanted:
            if not isinstance(module, nn.Linear):
                raise ValueError(f"{name} is {type(module).__name__}, not a plain linear layer; merge adapters first")
            found[name] = module
    if len(found) != len(wanted) * len(chosen):
        raise ValueError(f"expected {len(wanted)} linear layers in each of {len(chosen)} blocks, but found {len(found)} in all")
    return found


def mlp_output(model: nn.Module, layer: int) -> tuple[str, nn.Linear]:
    """Return name and module of the linear layer by which a block's MLP writes into the residual stream.

    Raises:
        ValueError: The model is of another family, or there is no such layer.
    """
    inner = _MLP_OUT[_family(model)]
    return next((name, module) for name, module in block_linears(model, "mlp", [layer]).items() if name.endswith(inner))


def block(model: nn.Module, layer: int) -> nn.Module:
    """Return one block: the module that maps the residual stream to the next.

    Raises:
        ValueError: The model is of another family, or there is no such layer.
    """
    check_layers(model, [layer])
    name = f"layers.{layer}"
    found: nn.Module = next(module for full, module in model.named_modules() if full == name or full.endswith(f".{name}"))
    return found


def weights_digest(model: nn.Module) -> str:
    """Return a SHA-256 over names, shapes, types and bytes of all parameters and buffers."""
    return tensors_digest(model.state_dict())


def save_language_model(model: PreTrainedModel, folder: str | Path, tokenizer: PreTrainedTokenizerFast | None = None) -> None:
    """Write a model, and its tokeniser, as a folder in Hugging Face's format: `config.json`, `model.safetensors`, `tokenizer.json`.

    The folder is written under another name and renamed, so that it is never half there.

    Raises:
        FileExistsError: There is such a folder already.
    """
    folder = Path(folder)
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
        The model in evaluation mode, on the CPU.

    Raises:
        DataError: The folder or a file is missing or broken, or a weight is missing, left over or of another shape.
    """
    folder = Path(folder)
    for needed in ("config.json", "model.safetensors"):
        if not (folder / needed).is_file():
            raise DataError(f"{folder}: {needed} is missing; needed is a folder that save_pretrained wrote, with safetensors")
    from transformers import AutoModelForCausalLM

    try:
        with _quietly():
            loader: Any = AutoModelForCausalLM
            model, report = loader.from_pretrained(
                folder,
                local_files_only=True,
                use_safetensors=True,
                trust_remote_code=False,
                output_loading_info=True,
            )
    except Exception as error:  # what transformers raises for broken files has no common base
        raise DataError(f"{folder}: this is no readable model ({type(error).__name__}: {error})") from error
    wrong = [f"{kind.replace('_', ' ')}: {sorted(map(str, names))}" for kind, names in report.items() if names]
    if wrong:
        raise DataError(f"{folder}: the weights are not those of its config.json; {'; '.join(wrong)}")
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
