"""Folders that language models are kept in: which files a model is read from, what else a folder may hold, and what that means.

What is no whole model in safetensors is told from one before a weight is read.
"""

import json
from collections.abc import Sequence
from pathlib import Path

import safetensors

from effnotes.core.errors import DataError
from effnotes.core.files import user_path

_INDEX = "model.safetensors.index.json"


def checkpoint_files(folder: str | Path) -> list[Path]:
    """Return the files that a model is read from: `config.json`, and the weights as one file, or an index and its parts.

    Raises:
        DataError: One is missing, is a pointer of Git LFS, or is the index and none; the message says what is there instead.
    """
    folder = user_path(folder)
    files = [folder / "config.json", folder / "model.safetensors"]
    if not files[1].is_file() and (folder / _INDEX).is_file():
        _check_no_pointer(folder / _INDEX)
        try:
            parts = sorted(set(json.loads((folder / _INDEX).read_text(encoding="utf-8"))["weight_map"].values()))
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            raise DataError(f"{folder / _INDEX}: this is no index of safetensors ({type(error).__name__}: {error})") from error
        if strange := [part for part in parts if not isinstance(part, str) or Path(part).name != part]:
            raise DataError(f"{folder / _INDEX}: {strange[0]!r} is not the name of a file beside it")
        files[1:] = [folder / name for name in (_INDEX, *parts)]
    lacking = [file.name for file in files if not file.is_file()]
    if lacking == ["config.json"]:
        raise DataError(f"{folder}: config.json is missing, while the weights are there; copy it too")
    if lacking and len(files) > 2:
        raise DataError(f"{folder}: {lacking[-1]} is missing, which {_INDEX} lists; copy all {len(files) - 2} parts")
    # transformers would load the adapter's base in place of a whole model beside it.
    if lacking or (folder / "adapter_config.json").exists():
        raise DataError(f"{folder}: {_what_is_there(folder, lacking)}")
    for file in files:
        _check_no_pointer(file)
    return files


_PICKLED = "which is pickled and could run any code: load it where you trust it, and write safetensors with save_pretrained"
_OTHER = "a format that is not read: load it with transformers, and write it with save_pretrained"
# What a folder may hold in place of a model, and what helps; the first that is there counts.
_INSTEAD = {
    "adapter_config.json": "which belongs to an adapter, while this reads whole models: load base and adapter with peft, merge "
    "them (merge_and_unload) and write another folder with save_pretrained; or move it away, where a whole model lies beside it",
    "model-*-of-*.safetensors": f"a part of a model, but not the list of its parts: copy {_INDEX} too",
    "*.safetensors": "which is not the name that is looked for: rename it to model.safetensors if it is the whole model",
    **dict.fromkeys(("*.bin", "*.pt", "*.pth", "*.ckpt"), _PICKLED),
    "*.gguf": "which `python -m effnotes.models.gguf FILE FOLDER` turns into a folder that is read",
    **dict.fromkeys(("*.h5", "*.msgpack"), _OTHER),
    **dict.fromkeys(("*/config.json", "snapshots/*/config.json"), "whose folder may be the one that is meant: name that"),
}


def _what_is_there(folder: Path, lacking: list[str]) -> str:
    if not folder.is_dir():
        what = "this is a file; name the folder that it lies in" if folder.is_file() else "there is no such folder"
        return f"{what}. Models are read from folders on this machine, and nothing is downloaded"
    missing = f"{lacking[0]} is missing; " if lacking else ""
    for pattern, remedy in _INSTEAD.items():
        if found := sorted(folder.glob(pattern)):
            return f"{missing}there is {found[0].relative_to(folder)}, {remedy}"
    return f"{missing}needed is a folder that save_pretrained wrote, with safetensors"


def _check_no_pointer(file: Path) -> None:
    with file.open("rb") as opened:
        if opened.read(24).startswith(b"version https://git-lfs"):
            raise DataError(f"{file}: this is the pointer of Git LFS to a file, not the file; run `git lfs pull` in its clone")


def stored_weights(files: Sequence[Path]) -> dict[str, tuple[str, list[int]]]:
    """Type and shape of each weight in a checkpoint's files, as the headers say."""
    found: dict[str, tuple[str, list[int]]] = {}
    for file in (file for file in files if file.suffix == ".safetensors"):
        try:
            with safetensors.safe_open(file, framework="pt") as opened:
                every = {name: opened.get_slice(name) for name in opened.keys() if name.endswith("weight")}  # noqa: SIM118 - no mapping
                found |= {name: (part.get_dtype(), part.get_shape()) for name, part in every.items()}
        except (safetensors.SafetensorError, OSError) as error:
            raise DataError(f"{file}: this is no readable model ({error}); torn, or none of safetensors: copy it again") from error
    quantised = [name for name, (kind, _) in found.items() if kind not in ("F64", "F32", "F16", "BF16")]
    if quantised:
        raise DataError(f"{files[0].parent}: the model is quantised ({quantised[0]}); take the one that it was made from")
    return found
