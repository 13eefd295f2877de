"""Models from GGUF, the files of llama.cpp, as folders that everything here reads.

python -m effnotes.models.gguf FILE FOLDER
"""

import sys
from pathlib import Path
from typing import Any

import torch

from effnotes.core.errors import DataError
from effnotes.core.files import user_path
from effnotes.models.language import save_language_model


def keep_gguf(file: str | Path, folder: str | Path) -> None:
    """Write the causal language model and the tokeniser of a GGUF file as a folder in Hugging Face's format.

    Weights of few bits become the float32 numbers that they stand for.

    Raises:
        DataError: There is no such file, or transformers reads no model and tokeniser from it.
        FileExistsError: There is such a folder already.
        ImportError: The package gguf is missing.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    file, folder = user_path(file), user_path(folder)
    if not file.is_file():
        raise DataError(f"{file}: there is no such file")
    if folder.exists():  # before minutes are spent on it
        raise FileExistsError(f"{folder}: there is something already; name another folder")
    source: dict[str, Any] = {"pretrained_model_name_or_path": file.parent, "gguf_file": file.name, "local_files_only": True}
    try:
        unpacked = GgufConfig(dequantize=True)
        model = AutoModelForCausalLM.from_pretrained(**source, dtype=torch.float32, quantization_config=unpacked)
        tokenizer: Any = AutoTokenizer.from_pretrained(**source)
    except ImportError as error:
        raise ImportError("reading GGUF needs another package; install it with: pip install 'effnotes[gguf]'") from error
    except Exception as error:  # what transformers raises for broken files has no common base
        raise DataError(f"{file}: no model is read from it ({type(error).__name__}: {str(error)[:400]})") from error
    save_language_model(model, folder, tokenizer)


if __name__ == "__main__":
    keep_gguf(*sys.argv[1:])
