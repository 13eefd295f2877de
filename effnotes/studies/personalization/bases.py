"""The language model that all methods start from: read from a folder, or a small one that is pretrained."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from effnotes.core.digests import function_closure, json_digest
from effnotes.core.errors import DataError
from effnotes.core.files import user_path
from effnotes.core.jobs import JobResult
from effnotes.core.settings import from_json, settings, to_json
from effnotes.models.store import models_folder
from effnotes.training.mail_base import MailBaseRecipe

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_LEAST_CONTEXT = 320  # tokens: a mail of 160 and an order with one earlier mail


class Loaded(NamedTuple):
    """A base, and what makes tokens for it."""

    model: PreTrainedModel
    tokenizer: Any  # as transformers gives it


@settings
class MailBase:
    """A model to start from: the one in a folder, or one that is pretrained on made-up mails."""

    checkpoint: str = ""  # folder of a model with its tokenizer; empty pretrains one
    recipe: MailBaseRecipe = MailBaseRecipe()
    seed: int = 0  # of pretraining
    models: str = ""  # folder that trained models are kept in, as `sealed` fills it in
    digests: tuple[str, ...] = ()  # of the files of the folder, likewise

    def sealed(self) -> MailBase:
        """Return it as a job holds it: with the contents of its files, which decide what it is, and the folder of models."""
        files = self.files() if self.checkpoint else []
        digests = tuple(hashlib.sha256(file.read_bytes()).hexdigest() for file in files)
        return dataclasses.replace(self, models=models_folder(), digests=digests)

    def files(self) -> list[Path]:
        """Return the files of the checkpoint that decide what the model writes.

        Raises:
            DataError: The folder holds no model in safetensors or no tokenizer, or the model's context is too short for a mail.
        """
        from effnotes.models.folders import checkpoint_files

        folder = user_path(self.checkpoint)
        files = checkpoint_files(folder)
        tokenizer = [file for name in ("tokenizer.json", "tokenizer.model") if (file := folder / name).is_file()]
        if not tokenizer:
            raise DataError(f"{folder}: there is no tokenizer (tokenizer.json); copy it from where the model came from")
        most = json.loads(files[0].read_text(encoding="utf-8")).get("max_position_embeddings", _LEAST_CONTEXT)
        if most < _LEAST_CONTEXT:
            raise DataError(f"{folder}: the model reads {most} tokens, but an order and its mail take up to {_LEAST_CONTEXT}")
        template = [file for name in ("tokenizer_config.json", "chat_template.jinja") if (file := folder / name).is_file()]
        return [*files, *tokenizer, *template]


def prepare_base(base: MailBase) -> JobResult:
    """Pretrain a base, or read it; for `run_jobs`. The row holds parameters and types (of tokens)."""
    model, tokenizer = loaded(base)
    return {"rows": [{"parameters": int(model.num_parameters()), "types": len(tokenizer)}]}


def loaded(base: MailBase) -> Loaded:
    """Return a base and its tokenizer; the last one stays in memory."""
    return _loaded(to_json(base))


@functools.lru_cache(maxsize=1)
def _loaded(text: str) -> Loaded:
    from transformers import AutoTokenizer

    from effnotes.models.language import load_language_model, save_language_model
    from effnotes.training.mail_base import pretrain_mail_base

    base = from_json(MailBase, text)
    folder = user_path(base.checkpoint)
    if not base.checkpoint:
        code = function_closure(pretrain_mail_base)
        key = json_digest([to_json(base.recipe), base.seed, code.digest, code.versions])
        folder = Path(base.models or models_folder()) / f"mail-base-{key}"
        if not folder.exists():
            model, tokenizer, _ = pretrain_mail_base(base.recipe, seed=base.seed)
            save_language_model(model, folder, tokenizer)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*they are taken in float32", RuntimeWarning)  # kept so on purpose
        model = load_language_model(folder)
    return Loaded(model, AutoTokenizer.from_pretrained(folder, local_files_only=True))
