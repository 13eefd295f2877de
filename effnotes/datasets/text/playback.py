"""Data playback: for each mail the instruction that could have asked for it, so that a model learns from instruction to mail."""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from typing import TYPE_CHECKING, Any

import numpy as np

from effnotes.core.checks import check_range
from effnotes.datasets.text.mail import Mail

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

TAG = "Instruction: "
_REQUEST = (
    "Below is an e-mail that I sent. Suppose that it does not exist yet and that you are to have it written. Give the order for it "
    "in one to three short sentences, in the imperative, with the people, dates, places and figures that the writer needs to know, "
    f'but in words of your own. Put "{TAG.strip()}" before the order and write nothing else.\n\nE-mail:\n'
)
_FEWEST, _MOST = 5, 80  # words of an instruction
_TRIES = 3

Backend = Callable[[Sequence[str], int], list[str]]
"""Writes an instruction for each of the mail texts, behind `TAG`; the number of the try, from 0, lets it write another one."""


@dataclass(frozen=True)
class Playback:
    """Instructions, and how many were refused."""

    instructions: dict[str, str] = field(repr=False)  # by the id of the mail; none for a mail whose tries were all refused
    rejected: dict[str, int]  # instructions refused, over all tries, by reason
    given_up: int  # mails without an instruction


def play_back(mails: Sequence[Mail], backend: Backend) -> Playback:
    """Have an instruction written for each mail (Nicolicioiu et al., CPAL 2026, PMLR 328:104-130), in at most 3 tries.

    An instruction is refused unless it stands behind the tag, which occurs once ("no tag"), has 5 to 80 words ("too short", "too
    long"), and has a `copy_rate` below .3 ("copied"): instructions that give the mail away inflate every score on it.

    Args:
        mails: Mails of different ids.
        backend: `Extractive()`, `Instruct(model, tokenizer)` or a function of its form.
    """
    instructions: dict[str, str] = {}
    rejected: Counter[str] = Counter()
    for attempt in range(_TRIES):
        left = [mail for mail in mails if mail.id not in instructions]
        if not left:
            break
        for mail, output in zip(left, backend([mail.text for mail in left], attempt), strict=True):
            instruction = " ".join(output.rpartition(TAG)[2].split())
            if fault := _fault(output, instruction, mail.text):
                rejected[fault] += 1
            else:
                instructions[mail.id] = instruction
    return Playback(instructions, dict(rejected), len(mails) - len(instructions))


def _fault(output: str, instruction: str, text: str) -> str | None:
    if output.count(TAG) != 1:
        return "no tag"
    n = len(instruction.split())
    if not _FEWEST <= n <= _MOST:
        return "too short" if n < _FEWEST else "too long"
    return "copied" if copy_rate(instruction, text) >= 0.3 else None


def copy_rate(instruction: str, text: str, n: int = 8) -> float:
    """Return the share of the instruction's n-grams of words that the text holds as well, in [0, 1].

    Upper case and punctuation do not count. An instruction of fewer than n words is one n-gram of that length; one without words
    has rate 0.
    """
    check_range(1, whole=True, n=n)
    asked, given = (re.findall(r"\w+", each.casefold()) for each in (instruction, text))
    size = min(n, len(asked))
    if size == 0:
        return 0.0
    held = set(zip(*(given[k:] for k in range(size)), strict=False))
    grams = list(zip(*(asked[k:] for k in range(size)), strict=False))
    return sum(gram in held for gram in grams) / len(grams)


class Extractive:
    """Instructions without a model: what is particular to a mail, within an imperative frame.

    The sentence whose words have the greatest mean TF-IDF over the mails is the mail's; the instruction names its words that fewer
    than half of the mails hold, in their order. Each further try takes fewer of them.
    """

    def __call__(self, texts: Sequence[str], attempt: int) -> list[str]:
        """Return an instruction for each text, behind the tag."""
        from sklearn.feature_extraction.text import TfidfVectorizer

        vectorizer = TfidfVectorizer(token_pattern=r"\w[\w@.:/-]*\w|\w", norm=None).fit(texts)
        weight = dict(zip(vectorizer.get_feature_names_out(), vectorizer.idf_, strict=True))
        # The weight of a word that half of the mails hold; of few mails, all words are particular.
        common = np.log((1 + len(texts)) / (1 + len(texts) / 2)) + 1 if len(texts) > 3 else 0.0
        words_of = vectorizer.build_tokenizer()

        def gist(text: str) -> str:
            found = list[tuple[float, list[str]]]()  # of each sentence the mean weight, and the particular words
            for words in map(words_of, re.split(r"(?<=[.!?])\s+|\n+", text.strip())):
                own = [word for word in words if weight.get(word.lower(), 0.0) > common]
                # A sentence of two words may be the rarest of all and say little.
                found.append((sum(weight[word.lower()] for word in own) / max(len(words), 5), own))
            own = max(found, key=itemgetter(0))[1]
            kept = sorted(np.argsort([-weight[word.lower()] for word in own], kind="stable")[: (12, 8, 5)[attempt]])
            return ", ".join(own[place] for place in kept)

        return [f"{TAG}Write a mail on: {gist(text)}." for text in texts]


class Instruct:
    """Instructions from a language model that follows requests: any causal model of transformers on this machine.

    Sampled as Panza samples them: temperature .7, the 50 likeliest tokens, nucleus .7. The chat template is the tokenizer's, if it
    has one. Mails longer than the model's context leaves room for are cut behind.

    Args:
        model: In the state that it is to be used in; its weights stay as they are.
        tokenizer: The model's, with a token for padding or for the end.
        seed: Of sampling; the global state of torch's generators stays as it is.
        batch: Mails at a time.
        max_new_tokens: Longest answer.

    Raises:
        ValueError: The tokenizer has no token to pad with, or the context is too short for the request and an answer.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        *,
        seed: int = 0,
        batch: int = 8,
        max_new_tokens: int = 160,
    ) -> None:
        check_range(1, whole=True, batch=batch, max_new_tokens=max_new_tokens)
        self.model, self.tokenizer, self.seed, self.batch, self.max_new_tokens = model, tokenizer, seed, batch, max_new_tokens
        self.pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
        if self.pad is None:
            raise ValueError("the tokenizer has neither a padding nor an end token; set tokenizer.pad_token")
        context = getattr(model.config, "max_position_embeddings", None) or sys.maxsize
        self.room = context - max_new_tokens  # tokens for the request with the mail
        if self.room - len(self._ids("")) < 32:
            needed = f"the request, a mail of 32 tokens and an answer of {max_new_tokens} do not fit in it"
            raise ValueError(f"the model's context has {context} tokens: {needed}; take another model or fewer max_new_tokens")

    def _ids(self, text: str) -> list[int]:
        request = _REQUEST + text
        if self.tokenizer.chat_template:
            turn = [{"role": "user", "content": request}]
            # As text first: the template writes the special tokens, and the tokenizer must not write them again.
            request = str(self.tokenizer.apply_chat_template(turn, tokenize=False, add_generation_prompt=True))
        else:
            request += "\n\n"
        ids: list[int] = self.tokenizer(request, add_special_tokens=not self.tokenizer.chat_template)["input_ids"]
        return ids

    def _fitting(self, text: str) -> list[int]:
        """Return the ids of the request with as much of the text as the context has room for."""
        while len(ids := self._ids(text)) > self.room:
            text = text[: self.room - len(ids)]  # a token is a character at least, so this never cuts too much at once
        return ids

    def __call__(self, texts: Sequence[str], attempt: int) -> list[str]:
        """Return what the model writes for each text."""
        import torch
        from torch.nn.utils.rnn import pad_sequence

        model: Any = self.model
        device, out = model.device, list[str]()
        options: dict[str, Any] = {"do_sample": True, "temperature": 0.7, "top_k": 50, "top_p": 0.7, "pad_token_id": self.pad}
        for start in range(0, len(texts), self.batch):
            rows = [torch.tensor(self._fitting(text), device=device) for text in texts[start : start + self.batch]]
            ids = pad_sequence(rows, batch_first=True, padding_value=self.pad, padding_side="left")
            attended = pad_sequence([torch.ones_like(row) for row in rows], batch_first=True, padding_side="left")
            with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []), torch.inference_mode():
                torch.manual_seed(self.seed + 1000 * attempt + start)
                made = model.generate(ids, attention_mask=attended, max_new_tokens=self.max_new_tokens, **options)
            out += self.tokenizer.batch_decode(made[:, ids.shape[1] :], skip_special_tokens=True)
        return out
