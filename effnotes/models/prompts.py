"""Prompts of a writing assistant as one user turn, and what makes token ids of them for training and for writing.

The template is the tokeniser's own. The text of a prompt and the response are tokenised by themselves and their ids joined, in
training as in writing: no search for one text within another, no merge across a seam, and no special token out of a mail.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from effnotes.core.checks import check_range
from effnotes.models.modes import evaluating
from effnotes.models.rows import Rows

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

CONTEXT = "My earlier mails, for style and details:\n\n"
THREAD = "The conversation so far, oldest first:\n\n"
_CONTENT, _RESPONSE = "\ue000", "\ue001"  # private characters, in no template


@dataclass(frozen=True)
class Prompt:
    """One order to write a mail; parts that are empty are left out of its text.

    Attributes:
        instruction: What to write.
        context: Earlier mails that were found for it, the most relevant first.
        thread: Mails that it answers, the oldest first.
        preamble: What the assistant is, and for whom it writes.
    """

    instruction: str
    context: tuple[str, ...] = ()
    thread: tuple[str, ...] = ()
    preamble: str = ""

    @property
    def text(self) -> str:
        """The blocks of the user's turn, a blank line between them."""
        context = CONTEXT + "\n\n".join(f"E-MAIL CONTENT:\n{mail}\n\n---" for mail in self.context) if self.context else ""
        thread = THREAD + "\n\n---\n\n".join(self.thread) if self.thread else ""
        return "\n\n".join(filter(None, (self.preamble, context, thread, f"Instruction: {self.instruction}")))

    def shorter(self) -> Prompt | None:
        """Return the prompt without the least relevant mail of its context, or else the oldest of its thread; None without any."""
        if self.context:
            return replace(self, context=self.context[:-1])
        return replace(self, thread=self.thread[1:]) if self.thread else None


class _Turns(NamedTuple):
    before: list[int]  # the text of a prompt
    after: list[int]  # it, up to the response
    end: int  # the token that ends a response


def _turns(tokenizer: PreTrainedTokenizerBase) -> _Turns:
    if not tokenizer.chat_template:
        raise ValueError("the tokenizer has no chat template; take that of an instruction-tuned model, or set chat_template")
    user = {"role": "user", "content": _CONTENT}
    prefix = str(tokenizer.apply_chat_template([user], tokenize=False, add_generation_prompt=True))
    answer = {"role": "assistant", "content": _RESPONSE}
    whole = str(tokenizer.apply_chat_template([user, answer], tokenize=False))
    before, _, after = prefix.partition(_CONTENT)
    if not whole.startswith(prefix + _RESPONSE):
        raise ValueError("the chat template puts something between its generation prompt and a response; take another")
    tail = tokenizer.encode(whole.removeprefix(prefix + _RESPONSE), add_special_tokens=False)
    end = tail[0] if tail else tokenizer.eos_token_id
    if end is None or tokenizer.pad_token_id is None:
        raise ValueError("the tokenizer has no token that ends a turn, or none that pads; set eos_token and pad_token")
    # The template has the special tokens that it wants: with those of the tokenizer as well there would be two at the beginning.
    given, answered = (tokenizer.encode(part, add_special_tokens=False) for part in (before, after))
    return _Turns(given, answered, end)


def _plain(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    ids: list[int] = tokenizer.encode(text, add_special_tokens=False, split_special_tokens=True)
    return ids


def _fitted(tokenizer: PreTrainedTokenizerBase, turns: _Turns, prompt: Prompt | None, room: int) -> list[int] | None:
    """The ids up to the response, with as much of the context and the thread as there is room for; None where even none fits."""
    while prompt is not None:
        ids = turns.before + _plain(tokenizer, prompt.text) + turns.after
        if len(ids) <= room:
            return ids
        prompt = prompt.shorter()
    return None


class Encoded(NamedTuple):
    """Rows to train on, and the numbers (n,) of the pairs that they came from: those that were too long are left out."""

    rows: Rows
    kept: list[int]


def encode(
    tokenizer: PreTrainedTokenizerBase, prompts: Sequence[Prompt], responses: Sequence[str], max_length: int = 512
) -> Encoded:
    """Return prompts and responses as rows, padded behind; the answer of a row is the response and the token that ends it.

    Where a row is too long, its context is cut, then its thread, mail by mail, and never the response.

    Raises:
        ValueError: The numbers of prompts and responses differ, the tokenizer has no usable chat template, or all are too long.
    """
    turns, rows, kept = _turns(tokenizer), [], []
    for number, (prompt, response) in enumerate(zip(prompts, responses, strict=True)):
        answer = [*_plain(tokenizer, response), turns.end]
        ids = _fitted(tokenizer, turns, prompt, max_length - len(answer))
        if ids is not None:
            rows.append((ids, answer))
            kept.append(number)
    if not rows:
        raise ValueError(f"none of {len(prompts)} mails fits into max_length={max_length} tokens with its prompt; allow more")
    tokens = _padded([ids + answer for ids, answer in rows], tokenizer.pad_token_id, left=False)
    sizes = torch.tensor([(len(ids) + len(answer), len(ids), len(answer)) for ids, answer in rows])
    return Encoded(Rows(tokens, *sizes.unbind(dim=1)), kept)


def _padded(ids: Sequence[list[int]], pad: int, *, left: bool) -> Tensor:
    width = max(map(len, ids))
    fill = ([pad] * (width - len(each)) for each in ids)
    return torch.tensor([more + each if left else each + more for each, more in zip(ids, fill, strict=True)])


@torch.no_grad()
def write(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Iterable[Prompt],
    *,
    max_new_tokens: int = 160,
    batch_size: int = 64,
    temperature: float = 0.0,
    seed: int = 0,
) -> list[str]:
    """Return what a model writes to each prompt, without the tokens that end it.

    Prompts are padded before them and their padding is masked, so that each is read as if it were alone. What does not fit into
    the model's context beside `max_new_tokens` is cut as for training.

    Args:
        model: A causal language model of transformers, which is left in its mode.
        tokenizer: Its tokenizer.
        prompts: The orders.
        max_new_tokens: Most tokens of a response.
        batch_size: Prompts that are read at once.
        temperature: 0 takes the likeliest token; above it, tokens are sampled from all.
        seed: Of the samples. The global random state is left as it was.

    Raises:
        ValueError: The tokenizer has no usable chat template, or a prompt is too long even without context and thread.
    """
    check_range(0, temperature=temperature)
    turns, room = _turns(tokenizer), model.config.max_position_embeddings - max_new_tokens
    every = [_fitted(tokenizer, turns, prompt, room) for prompt in prompts]
    if None in every:
        raise ValueError(
            f"prompt {every.index(None)} is longer than the {room} tokens that the model's context leaves it; shorten it"
        )
    sampled = {"do_sample": True, "temperature": temperature, "top_k": 0, "top_p": 1.0} if temperature else {"do_sample": False}
    written: list[str] = []
    with evaluating(model), torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        for start in range(0, len(every), batch_size):
            batch = [ids for ids in every[start : start + batch_size] if ids is not None]
            tokens = _padded(batch, tokenizer.pad_token_id, left=True).to(model.device)
            mask = _padded([[1] * len(ids) for ids in batch], 0, left=True).to(model.device)
            made = model.generate(  # type: ignore[operator]
                tokens,
                attention_mask=mask,
                max_new_tokens=max_new_tokens,
                use_cache=True,
                eos_token_id=turns.end,
                pad_token_id=tokenizer.pad_token_id,
                **sampled,
            )
            written += tokenizer.batch_decode(made[:, tokens.shape[1] :], skip_special_tokens=True)
    return written
