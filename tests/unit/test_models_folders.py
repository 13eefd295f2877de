"""Folders of models: what is read, in which type, and what is told from a whole model before anything is computed."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.nn.utils import prune

from effnotes.core.errors import DataError
from effnotes.models.language import block_linears, build_language_model, load_language_model, save_language_model, weights_digest

MODEL = build_language_model("neox-32x2", 40, seed=0)
POINTER = f"version https://git-lfs.github.com/spec/v1\noid sha256:{64 * 'a'}\nsize 1234\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_language_model(MODEL, tmp_path / "model")
    return tmp_path / "model"


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    MODEL.save_pretrained(tmp_path / "model", max_shard_size="20KB")
    assert len(list((tmp_path / "model").glob("*.safetensors"))) > 2
    return tmp_path / "model"


def configure(folder: Path, **changes: object) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | changes))


def rewrite(folder: Path, change: Callable[[torch.Tensor], torch.Tensor], without: str = "") -> None:
    stored = load_file(folder / "model.safetensors").items()
    weights = {name: change(weight) for name, weight in stored if name != without}
    save_file(weights, folder / "model.safetensors", {"format": "pt"})


@pytest.mark.parametrize("named", ["float16", "float32"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64], ids=str)
def test_weights_of_another_type_are_read_in_float32_and_it_is_said(folder: Path, dtype: torch.dtype, named: str) -> None:
    rewrite(folder, lambda weight: weight.to(dtype))
    configure(folder, dtype=named)
    with pytest.warns(RuntimeWarning, match="weights are kept as .*taken in float32"):
        model = load_language_model(folder)
    assert {weight.dtype for weight in model.parameters()} == {torch.float32}
    expected = dict(MODEL.named_parameters())
    assert all(torch.equal(weight, expected[name].to(dtype).float()) for name, weight in model.named_parameters())


@pytest.mark.parametrize("field", ["dtype", "torch_dtype"])
def test_no_digit_is_lost_to_a_type_that_only_the_configuration_names(folder: Path, field: str) -> None:
    configure(folder, **{"dtype": "float16", field: "float16"})
    assert weights_digest(load_language_model(folder)) == weights_digest(MODEL)


def test_shards_are_read_and_a_part_that_fails_is_named(shards: Path) -> None:
    assert weights_digest(load_language_model(shards)) == weights_digest(MODEL)
    part = shards / "model-00002-of-00008.safetensors"
    whole = part.read_bytes()
    part.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"00002-of-00008\.safetensors: this is no readable model"):
        load_language_model(shards)
    part.unlink()
    with pytest.raises(DataError, match=r"00002-of-00008\.safetensors is missing, which .*index\.json lists"):
        load_language_model(shards)
    part.write_bytes(whole)
    (shards / "config.json").rename(shards / "kept.json")
    with pytest.raises(DataError, match=r"config\.json is missing, while the weights are there; copy it too"):
        load_language_model(shards)
    part.unlink()
    with pytest.raises(DataError, match=r"00002-of-00008\.safetensors is missing, which .*index\.json lists"):
        load_language_model(shards)
    (shards / "kept.json").rename(shards / "config.json")
    (shards / "model.safetensors.index.json").unlink()
    with pytest.raises(DataError, match=r"not the list of its parts: copy model\.safetensors\.index\.json too"):
        load_language_model(shards)


@pytest.mark.parametrize("name", ["config.json", "model-00003-of-00008.safetensors", "model.safetensors.index.json"])
def test_a_pointer_of_git_lfs_is_told_from_the_file(shards: Path, name: str) -> None:
    (shards / name).write_text(POINTER)
    with pytest.raises(DataError, match=rf"{name}: this is the pointer of Git LFS.*git lfs pull"):
        load_language_model(shards)


def adapter_beside(folder: Path) -> None:
    # transformers would load the base that it names, and say nothing.
    (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "base_model_name_or_path": "elsewhere"}))


def adapter_alone(folder: Path) -> None:
    adapter_beside(folder)
    (folder / "config.json").unlink()
    (folder / "model.safetensors").rename(folder / "adapter_model.safetensors")


def renamed(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / "model.safetensors").rename(folder / name)


def index(folder: Path, weights: object) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors.index.json").write_text(json.dumps(weights))


def one_below(folder: Path) -> None:
    shutil.copytree(folder, folder / "checkpoint-500")
    (folder / "config.json").unlink()
    (folder / "model.safetensors").unlink()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda folder: [file.unlink() for file in folder.iterdir()], "config.json is missing"),
        (adapter_alone, "config.json is missing; there is adapter_config.json.*merge_and_unload"),
        (adapter_beside, "there is adapter_config.json.*move it away"),
        (lambda folder: (folder / "config.json").unlink(), "config.json is missing, while the weights are there; copy it too"),
        (renamed("pytorch_model.bin"), "pytorch_model.bin, which is pickled and could run any code"),
        (renamed("model.pt"), "model.pt, which is pickled"),
        (renamed("model.fp16.safetensors"), "model.fp16.safetensors, which is not the name"),
        (renamed("model.Q4.gguf"), "model.Q4.gguf, which `python -m effnotes.models.gguf FILE FOLDER`"),
        (one_below, "checkpoint-500/config.json, whose folder may be the one"),
        (lambda folder: configure(folder, vocab_size=10**13), "other sizes than its config.json.*embed_out.weight .40, 32"),
        (lambda folder: configure(folder, hidden_size=64), "other sizes than its config.json"),
        (lambda folder: configure(folder, num_hidden_layers=10**9), "1000000000 blocks, but there are 15 weights in all"),
        (lambda folder: configure(folder, quantization_config={"quant_method": "gptq", "bits": 4}), "it is quantised"),
        (lambda folder: rewrite(folder, lambda weight: weight.to(torch.int8)), "is quantised"),
        (lambda folder: rewrite(folder, lambda weight: weight.log()), "NaN or infinite"),
        (lambda folder: rewrite(folder, torch.clone, "gpt_neox.final_layer_norm.bias"), r"missing keys.*final_layer_norm"),
        (lambda folder: (folder / "model.safetensors").write_bytes((2**62).to_bytes(8, "little") + bytes(99)), "no readable model"),
        (lambda folder: (folder / "model.safetensors").write_bytes(b""), "no readable model"),
        (lambda folder: (folder / "config.json").write_bytes(b"\xff\xfe{"), "no readable model"),
        (lambda folder: index(folder, {"weight_map": {"a": 1}}), "1 is not the name of a file beside it"),
        (lambda folder: index(folder, {"weight_map": {"a": "../b.safetensors"}}), "'../b.safetensors' is not the name of a file"),
        (lambda folder: index(folder, {"weight_map": {"a": None}}), "None is not the name of a file beside it"),
        (lambda folder: index(folder, []), "no index of safetensors"),
        (lambda folder: (folder / "model.safetensors").rename(folder / "model.safetensors.index.json"), "no index of safetensors"),
    ],
)
def test_what_is_no_whole_model_is_told_from_one(folder: Path, change: Callable[[Path], object], message: str) -> None:
    change(folder)
    with pytest.raises(DataError, match=message):
        load_language_model(folder)


@pytest.mark.parametrize(("name", "message"), [("nothing", "there is no such folder"), ("model/config.json", "this is a file")])
def test_what_is_no_folder_is_told_from_one(folder: Path, name: str, message: str) -> None:
    with pytest.raises(DataError, match=f"{message}.*nothing is downloaded"):
        load_language_model(folder.parent / name)


def test_a_model_that_nothing_would_read_again_is_not_written(tmp_path: Path) -> None:
    model = build_language_model("neox-32x2", 40, seed=0)
    prune.l1_unstructured(block_linears(model, "mlp")["gpt_neox.layers.0.mlp.dense_h_to_4h"], "weight", 0.5)
    with pytest.raises(ValueError, match=r"dense_h_to_4h\.weight is computed.*prune\.remove"):
        save_language_model(model, tmp_path / "kept")
    assert not list(tmp_path.iterdir())
