"""The mails of an archive that bear on an instruction, to be shown to a model that serves or learns."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from functools import cached_property
from os import PathLike
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from effnotes.core.checks import check_choice, check_range
from effnotes.core.errors import DataError
from effnotes.core.files import user_path
from effnotes.datasets.text.mail import Mail
from effnotes.datasets.text.splits import similarity_vectorizer

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

Encoder: TypeAlias = "Callable[[Sequence[str]], Tensor]"  # n texts -> vectors (n, d)
PANZA_COSINE = 1 - 0.8 / 2**0.5  # .434: Panza's least score is .2 = 1 - d / sqrt(2), and d = 2 - 2 cos for unit vectors

_WORD = r"\w+"  # single digits too: hours and rooms are what one looks for


class Index:
    """Mails to be searched by what they say. It lives in memory alone.

    Args:
        mails: Mails of different ids. Index none of a test, and of a thread only what the user wrote.
        method: `"bm25"`: Robertson & Zaragoza (2009) in Lucene's form, k1 1.2 and b .75, by bm25s; `"tfidf"`: the cosine of TF-IDF
            vectors of words, by scikit-learn; or an encoder: the cosine of its vectors.

    Raises:
        ValueError: No mails, two of one id, or another method.
    """

    def __init__(self, mails: Iterable[Mail], method: str | Encoder = "bm25") -> None:
        self.mails, self.method = tuple(mails), method
        ids = {mail.id for mail in self.mails}
        if not ids or len(ids) < len(self.mails):
            raise ValueError(f"mails: {len(self.mails)} with {len(ids)} different ids; an index needs one or more, each once")
        self.scores = _scorer([mail.text for mail in self.mails], method)  # query -> the score of each mail (n,)

    def search(
        self, query: str, k: int, *, exclude: str | Mail | Iterable[str | Mail] = (), before: datetime | None = None
    ) -> list[tuple[Mail, float]]:
        """Return the at most k mails of highest score above 0, best first; of equal ones, the earlier in the index first.

        Args:
            query: The instruction.
            k: At least 0, and more than there are mails if you like.
            exclude: Ids of mails to leave out. A mail here leaves out itself, its near duplicates (a cosine of at least .9, as
                `group_mails` has it), and what contains it or is contained in it.
            before: Only mails sent earlier, with an offset from UTC. Mails without a date are then left out: they may be later.
        """
        check_range(0, whole=True, k=k)
        scores = self.scores(query)
        allowed = scores > 0
        for each in (exclude,) if isinstance(exclude, str | Mail) else exclude:
            allowed &= [mail.id != (each.id if isinstance(each, Mail) else each) for mail in self.mails]
            if isinstance(each, Mail):
                allowed &= ~self._resembles(each.text)
        if before is not None:
            if before.tzinfo is None:
                raise ValueError(f"before={before}: must have an offset from UTC, as the dates of mails have")
            allowed &= [mail.date is not None and mail.date < before for mail in self.mails]
        places = np.flatnonzero(allowed)
        best = places[np.argsort(-scores[places], kind="stable")[:k]]
        return [(self.mails[place], float(scores[place])) for place in best]

    def threshold(self, queries: Sequence[str], percentile: float = 95) -> float:
        """Return a score that tells what was found from what happens to share a word.

        For an encoder it is `PANZA_COSINE`. Other scores have no scale: it is the percentile of those of all pairs of a query and a
        mail, few of which belong together.
        """
        check_range(0, 100, percentile=percentile)
        if not queries:
            raise ValueError("queries: none given; a threshold needs some, such as the instructions to train on")
        return PANZA_COSINE if callable(self.method) else float(np.percentile([self.scores(each) for each in queries], percentile))

    @cached_property
    def _likeness(self) -> Callable[[str], NDArray[np.floating]]:
        return _cosines(similarity_vectorizer(), (mail.text for mail in self.mails))

    def _resembles(self, text: str) -> NDArray[np.bool_]:
        return (self._likeness(text) >= 0.9 - 1e-6) | [text in mail.text or mail.text in text for mail in self.mails]


def _cosines(vectorizer: Any, texts: Iterable[str]) -> Callable[[str], NDArray[np.floating]]:
    """Fit a vectorizer of scikit-learn to texts; what it returns takes a query and gives its cosine with each (n,)."""
    columns = vectorizer.fit_transform(texts).T.tocsr()
    return lambda query: np.asarray((vectorizer.transform([query]) @ columns).toarray()[0])


def _scorer(texts: list[str], method: str | Encoder) -> Callable[[str], NDArray[np.floating]]:
    if callable(method):
        from torch.nn.functional import normalize

        encode, vectors = method, normalize(method(texts).detach().float())
        return lambda query: np.asarray((vectors @ normalize(encode([query]).detach().float())[0]).cpu())
    check_choice(("bm25", "tfidf"), method=method)
    if method == "tfidf":
        from sklearn.feature_extraction.text import TfidfVectorizer

        return _cosines(TfidfVectorizer(token_pattern=_WORD), texts)
    import bm25s

    index = bm25s.BM25(k1=1.2, b=0.75)
    index.index([re.findall(_WORD, text.lower()) for text in texts], show_progress=False)
    # By ids: a query without words is an error of get_scores.
    return lambda query: np.asarray(index.get_scores_from_ids(index.get_tokens_ids(re.findall(_WORD, query.lower()))))


def sentence_encoder(folder: str | PathLike[str], *, batch: int = 32) -> Encoder:
    """Return the encoder in a folder of transformers' form: the mean of the last states over a text's tokens, up to the context.

    Raises:
        DataError: The folder holds no tokenizer and model with weights as safetensors.
    """
    from transformers import AutoModel, AutoTokenizer

    check_range(1, whole=True, batch=batch)
    try:
        tokenizer = AutoTokenizer.from_pretrained(user_path(folder), local_files_only=True)
        model = AutoModel.from_pretrained(user_path(folder), local_files_only=True, use_safetensors=True).eval()
    except (OSError, ValueError) as error:
        raise DataError(f"{folder}: holds no tokenizer and model of transformers with weights as safetensors") from error
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    return encoder_of(model, tokenizer, batch=batch)


def encoder_of(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, *, batch: int = 32) -> Encoder:
    """Return what gives the mean of a model's last states over a text's tokens, up to the context; of no tokens it is 0.

    Args:
        model: Without a head, such as `base_model` of one that has it, in evaluation mode.
        tokenizer: One that pads.
        batch: Texts at a time.
    """
    import torch

    longest = min(tokenizer.model_max_length, model.config.max_position_embeddings)

    @torch.inference_mode()
    def encode(texts: Sequence[str]) -> Tensor:
        means = []
        for start in range(0, len(texts), batch):
            given = list(texts[start : start + batch])
            how: Any = {"padding": True, "padding_side": "right", "truncation": True, "max_length": longest}
            inputs = tokenizer(given, **how, return_tensors="pt").to(model.device)
            mask = inputs["attention_mask"][..., None]
            states = model(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"]).last_hidden_state
            means.append(states.masked_fill(mask == 0, 0).sum(1) / mask.sum(1).clamp_min(1))
        return torch.cat(means)

    return encode


def with_context(
    index: Index,
    mails: Sequence[Mail],
    instructions: Sequence[str],
    *,
    k: int = 3,
    p_context: float = 0.55,
    threshold: float | None = None,
    seed: int = 0,
) -> list[tuple[str, ...]]:
    """Return what each mail is to be learnt with, best first: RAFT as Panza meant it (Nicolicioiu et al., PMLR 328:104-130, 2026).

    With probability `p_context` these are the texts of at most k mails that score the threshold or more, or else none. The query is
    the mail's instruction, as when the model serves. The mail itself and its near duplicates are never among them: Panza's code of
    2025 shows the model the very mail that it is to write. Unlike Zhang et al. (2024), no distractors are added.

    Args:
        index: It may hold more than the mails to train on.
        mails: Mails to train on.
        instructions: One for each.
        k: At least 1.
        p_context: In [0, 1].
        threshold: None takes the index's `threshold` for these instructions.
        seed: Decides which mails get a context.
    """
    check_range(1, whole=True, k=k)
    check_range(0, 1, p_context=p_context)
    if len(mails) != len(instructions):
        raise ValueError(f"{len(mails)} mails and {len(instructions)} instructions: must be as many")
    least = index.threshold(instructions) if threshold is None else threshold
    drawn = np.random.default_rng(seed).random(len(mails)) < p_context
    ks = np.where(drawn, k, 0)
    found = (index.search(each, int(n), exclude=mail) for mail, each, n in zip(mails, instructions, ks, strict=True))
    return [tuple(mail.text for mail, score in each if score >= least) for each in found]
