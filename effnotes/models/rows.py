"""Texts as rows of token ids, each with the place of an answer: what models read, answer and are trained on."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor


class RowsLike(Protocol):
    """Anything with the four fields of `Rows`, as tensors or arrays of whole numbers: the sentences of a world, for one."""

    @property
    def tokens(self) -> Any:
        """(n, L) token ids."""

    @property
    def length(self) -> Any:
        """(n,) tokens of each text."""

    @property
    def answer(self) -> Any:
        """(n,) column of each answer's first token."""

    @property
    def answer_length(self) -> Any:
        """(n,) tokens of each answer."""


@dataclass(frozen=True, eq=False)
class Rows:
    """n texts, padded behind to the longest of them.

    Padding is what lies behind `length`, and no token stands for it: any may be there, and each may also be part of a text. A
    causal model needs no mask for it, because no text looks at what is behind it.

    Attributes:
        tokens: (n, L) int64.
        length: (n,) int64; tokens of each text, without padding.
        answer: (n,) int64; column of the answer's first token, at least 1: `tokens[i, :answer[i]]` is the prompt.
        answer_length: (n,) int64; tokens of the answer, at least 1.
    """

    tokens: Tensor
    length: Tensor
    answer: Tensor
    answer_length: Tensor

    @classmethod
    def of(cls, *parts: RowsLike) -> Rows:
        """Join rows, one part behind the other, and pad them to the longest; nothing is shared with arrays that are given.

        Raises:
            ValueError: Fields of a part have different numbers of rows, or an answer is not within its text, behind a first token.
        """
        rows = [cls(*(_whole_numbers(getattr(part, field.name)) for field in dataclasses.fields(cls))) for part in parts]
        for each in rows:
            n, width = each.tokens.shape
            if not each.length.shape == each.answer.shape == each.answer_length.shape == (n,):
                raise ValueError(f"{n} rows of tokens: length, answer and answer_length must be of shape ({n},)")
            end = each.answer + each.answer_length
            if not ((each.answer > 0) & (each.answer_length > 0) & (end <= each.length) & (each.length <= width)).all():
                raise ValueError("an answer must have a token before it, one of its own, and end within its text; not all do")
        width = max((each.tokens.shape[1] for each in rows), default=1)
        padded = (dataclasses.replace(each, tokens=F.pad(each.tokens, (0, width - each.tokens.shape[1]))) for each in rows)
        return cls.joined(*padded)

    @classmethod
    def joined(cls, *parts: Rows) -> Rows:
        """Join rows of one width, one part behind the other."""
        return cls(*(torch.cat([getattr(part, field.name) for part in parts]) for field in dataclasses.fields(cls)))

    def __len__(self) -> int:
        return len(self.tokens)

    def take(self, which: Tensor | slice) -> Rows:
        """Return the rows at the given positions; the padding stays."""
        return Rows(self.tokens[which], self.length[which], self.answer[which], self.answer_length[which])

    def narrowed(self, width: int) -> Rows:
        """Return the rows with the first tokens alone, as many as the longest text has or more."""
        return dataclasses.replace(self, tokens=self.tokens[:, :width])

    def to(self, device: torch.device | str) -> Rows:
        """Return the rows on a device."""
        return Rows(self.tokens.to(device), self.length.to(device), self.answer.to(device), self.answer_length.to(device))

    @cached_property
    def is_text(self) -> Tensor:
        """(n, L) bool: whether a place holds a token of the text, and no padding."""
        return torch.arange(self.tokens.shape[1], device=self.tokens.device) < self.length[:, None]

    @cached_property
    def is_answer(self) -> Tensor:
        """(n, L) bool: whether a place holds a token of the answer."""
        columns = torch.arange(self.tokens.shape[1], device=self.tokens.device)
        return (columns >= self.answer[:, None]) & (columns < (self.answer + self.answer_length)[:, None])


def _whole_numbers(values: Any) -> Tensor:
    return values.long() if isinstance(values, Tensor) else torch.from_numpy(np.array(values, dtype=np.int64))
