"""Models from GGUF: a file as llama.cpp has it becomes a folder with the same weights, tokens and chat template."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer

from effnotes.core.errors import DataError
from effnotes.models.gguf import keep_gguf
from effnotes.models.language import LanguageModelShape, build_language_model, load_language_model
from effnotes.training.mail_base import train_tokenizer

NAMES = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "model.layers.0.input_layernorm": "blk.0.attn_norm",
    "model.layers.0.post_attention_layernorm": "blk.0.ffn_norm",
    **{f"model.layers.0.self_attn.{name}_proj": f"blk.0.attn_{name}" for name in "qkv"},
    "model.layers.0.self_attn.o_proj": "blk.0.attn_output",
    **{f"model.layers.0.mlp.{name}_proj": f"blk.0.ffn_{name}" for name in ("gate", "up", "down")},
}


def four_bits(weight: torch.Tensor) -> tuple[np.ndarray, torch.Tensor]:
    """A weight in blocks of 32 as Q4_1 has them, scale, least and nibbles, and the numbers that they stand for."""
    blocks = weight.reshape(-1, 32).numpy()
    least = blocks.min(axis=1, keepdims=True).astype(np.float16)
    scale = ((blocks.max(axis=1, keepdims=True) - least) / 15).astype(np.float16)
    codes = ((blocks - least) / scale).round().clip(0, 15).astype(np.uint8)
    packed = np.concatenate([scale.view(np.uint8), least.view(np.uint8), codes[:, :16] | codes[:, 16:] << 4], axis=1)
    meant = codes * scale.astype(np.float32) + least.astype(np.float32)
    return packed.reshape(len(weight), -1), torch.from_numpy(meant).view_as(weight)


@pytest.fixture
def written(tmp_path: Path) -> tuple[Path, dict[str, torch.Tensor], Any]:
    """A file, and the weights and the tokeniser that it must give."""
    gguf = pytest.importorskip("gguf", reason="needs the extra 'gguf'")
    tokenizer = train_tokenizer(400, 20)
    shape = LanguageModelShape(width=64, layers=1, heads=2, mlp_width=96, family="llama", context=512)
    weights = build_language_model(shape, len(tokenizer), seed=0).state_dict()
    file = tmp_path / "small.Q4_1.gguf"
    out = gguf.GGUFWriter(file, "llama")
    out.add_context_length(512)
    out.add_embedding_length(64)
    out.add_block_count(1)
    out.add_feed_forward_length(96)
    out.add_head_count(2)
    out.add_head_count_kv(2)
    out.add_layer_norm_rms_eps(1e-6)
    out.add_rope_dimension_count(32)
    out.add_rope_freq_base(10_000.0)
    out.add_vocab_size(len(tokenizer))
    tokens, special = tokenizer.convert_ids_to_tokens(range(len(tokenizer))), set(tokenizer.all_special_ids)
    out.add_tokenizer_model("gpt2")
    out.add_token_list(tokens)
    out.add_token_types([3 if number in special else 1 for number in range(len(tokens))])
    out.add_token_merges([" ".join(pair) for pair in json.loads(tokenizer.backend_tokenizer.to_str())["model"]["merges"]])
    out.add_bos_token_id(tokenizer.eos_token_id)
    out.add_eos_token_id(tokenizer.eos_token_id)
    out.add_pad_token_id(tokenizer.pad_token_id)
    out.add_chat_template(tokenizer.chat_template)
    for name, weight in weights.items():
        short = name.removesuffix(".weight")
        if short.endswith(("q_proj", "k_proj")):  # llama.cpp has the two halves of each head's rotation in turns
            weight = weight.reshape(2, 2, 16, 64).swapaxes(1, 2).reshape(64, 64)
        if short.endswith("mlp.up_proj"):
            packed, weights[name] = four_bits(weight)
            out.add_tensor(f"{NAMES[short]}.weight", packed, raw_dtype=gguf.GGMLQuantizationType.Q4_1)
        else:
            out.add_tensor(f"{NAMES[short]}.weight", weight.numpy())
    out.write_header_to_file()
    out.write_kv_data_to_file()
    out.write_tensors_to_file()
    out.close()
    return file, weights, tokenizer


def test_the_folder_has_the_weights_tokens_and_template_of_the_file(
    written: tuple[Path, dict[str, torch.Tensor], Any], tmp_path: Path
) -> None:
    """Four bits are unpacked to what they stand for; queries and keys are back in the order of transformers."""
    file, weights, tokenizer = written
    keep_gguf(file, tmp_path / "folder")
    found = load_language_model(tmp_path / "folder").state_dict()
    assert found.keys() == weights.keys()
    for name, weight in weights.items():
        torch.testing.assert_close(found[name], weight, rtol=0, atol=1e-7, msg=name)
    read = AutoTokenizer.from_pretrained(tmp_path / "folder", local_files_only=True)
    text = "Hullo Emil,\n\nthe garden moves to Friday at 13:15. Bipo leda!"
    assert read.encode(text, add_special_tokens=False) == tokenizer.encode(text, add_special_tokens=False)
    chat = [{"role": "user", "content": text}]
    assert read.apply_chat_template(chat, tokenize=False) == tokenizer.apply_chat_template(chat, tokenize=False)
    with pytest.raises(FileExistsError, match="already"):
        keep_gguf(file, tmp_path / "folder")


def test_what_is_no_model_is_refused(tmp_path: Path) -> None:
    """One error that names the file, and no folder."""
    (tmp_path / "torn.gguf").write_bytes(b"GGUF" + bytes(8))
    for name, says in (("nowhere.gguf", "no such file"), ("torn.gguf", r"torn\.gguf: no model is read")):
        with pytest.raises(DataError, match=says):
            keep_gguf(tmp_path / name, tmp_path / "folder")
    assert not (tmp_path / "folder").exists()
