"""Pretraining of a small language model on the mails of ever new made-up persons, until it takes a style from its context.

    python -m effnotes.training.mail_base data/bases/mail-llama-128x3

writes the kept base anew: weights, tokeniser and a record. It was made by this command; see the card in its folder.
"""

from __future__ import annotations

import dataclasses
import json
import math
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from effnotes.core.digests import function_closure
from effnotes.core.files import user_path
from effnotes.core.settings import settings
from effnotes.datasets.text.grammar import PLAIN, content, draw_request, pick, says
from effnotes.datasets.text.personas import (
    HABITS,
    WrittenMail,
    detect,
    draw_persona,
    is_held_out,
    style,
    write_facts,
    write_mail,
    write_mails,
)
from effnotes.models.language import LanguageModelShape, build_language_model, logits_at, save_language_model, weights_digest
from effnotes.models.prompts import Prompt, encode, write
from effnotes.models.rows import Rows
from effnotes.training.loop import Loop
from effnotes.training.recipes import PretrainingRecipe

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

SPECIALS = ("<|end|>", "<|pad|>", "<|user|>", "<|assistant|>")
"""Token 0 ends a text and token 1 pads, as `build_language_model` has it."""
_TEMPLATE = (
    "{% for message in messages %}<|{{ message.role }}|>{{ message.content }}"
    "{% if message.role == 'assistant' %}<|end|>{% endif %}{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


@settings
class MailBaseRecipe:
    """How a base is pretrained: AdamW, cosine after a warm-up, every batch drawn anew.

    Raises:
        ValueError: A field is out of range.
    """

    shape: LanguageModelShape | str = "llama-128x3"
    vocab_size: int = Field(768, ge=300)
    tokenizer_mails: int = Field(2000, ge=1)  # that the tokeniser is trained on
    steps: int = Field(3500, ge=5, multiple_of=5)  # a batch each; five are drawn at once
    repeat_steps: int = Field(900, ge=0, multiple_of=5)  # of them, first, on random tokens that repeat
    p_random: float = Field(0.6, ge=0, le=1)  # share of strings in the mails that are random syllables
    batch_size: int = Field(16, ge=1)
    learning_rate: float = Field(3e-3, gt=0)
    part_steps: int = Field(50, ge=5, multiple_of=5)  # between two checkpoints


DEFAULT = MailBaseRecipe()
FACT_WEIGHT = 5.0
"""Of the tokens of a value that is asked for, in the loss."""
_TOGETHER = 5  # batches that are drawn at once
# Embeddings begin 25 times larger than transformers has them: at .02 the model had not begun to copy when this one did.
_EMBEDDING_SCALE = 25.0


class Batch(NamedTuple):
    """Rows, and the weight (n, L) of each token in the loss: 0 outside the answers."""

    rows: Rows
    weight: Tensor


def train_tokenizer(vocab_size: int, n: int, seed: int = 0) -> PreTrainedTokenizerFast:
    """Train byte-level BPE with single digits on n mails of different persons, with a chat template of the four specials."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    rng = np.random.default_rng(seed)
    texts = [f"{pair.prompt.text}\n{pair.mail.text}" for pair in (_draw_pair(rng, i % 3, 0.3) for i in range(n))]
    bpe = Tokenizer(models.BPE())
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), byte_level])
    bpe.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=vocab_size, special_tokens=[*SPECIALS], initial_alphabet=alphabet, show_progress=False)
    bpe.train_from_iterator(texts, trainer)
    made = PreTrainedTokenizerFast(tokenizer_object=bpe, eos_token=SPECIALS[0], pad_token=SPECIALS[1], padding_side="left")
    made.add_special_tokens({"additional_special_tokens": [*SPECIALS[2:]]})
    made.chat_template = _TEMPLATE
    return made


class _Pair(NamedTuple):
    prompt: Prompt
    mail: WrittenMail


def _draw_pair(rng: np.random.Generator, k: int, p_random: float) -> _Pair:
    """One mail of a new person, with k others of hers as context.

    A third of the mails are about facts. With a context most of them answer a question, and in seven of ten cases a mail that
    states the fact is there; of the other mails in a context four in ten state facts as well.
    """
    person = draw_persona(rng, held_out=False, p_random=p_random)
    assert not any(map(is_held_out, person.strings))
    seed = int(rng.integers(2**31))
    facts = write_facts(person, k + 1, seed)
    context = [
        fact.stated if rng.random() < 0.4 else write_mail(person, draw_request(rng, pick(rng, PLAIN)), rng) for fact in facts[1:]
    ]
    kind = rng.random()
    if kind < 0.04:
        mail = write_mail(person, draw_request(rng, "locker"), rng)
    elif kind < 0.37:
        asked = rng.random() < (0.7 if k else 0.1)
        mail = facts[0].asked if asked else facts[0].stated
        if asked and k and rng.random() < 0.7:
            context[int(rng.integers(k))] = facts[0].stated
    else:
        mail = write_mail(person, draw_request(rng, pick(rng, PLAIN)), rng)
    instruction = pick(rng, mail.instructions[:-1])
    return _Pair(Prompt(instruction, tuple(each.text for each in context)), mail)


def draw_batches(tokenizer: PreTrainedTokenizerFast, rng: np.random.Generator, n: int, size: int, p_random: float) -> list[Batch]:
    """Draw n batches of new mails by new persons, all with the same number of context mails, 0, 1 or 2; the shortest rows first.

    Rows of a batch are about as long as one another, which saves a fifth of the time.
    """
    k = int(rng.choice(3, p=(0.2, 0.5, 0.3)))
    pairs = [_draw_pair(rng, k, p_random) for _ in range(n * size)]
    rows, kept = encode(tokenizer, [pair.prompt for pair in pairs], [pair.mail.text for pair in pairs])
    requests = [pairs[number].mail.request for number in kept]
    batches = []
    for which in rows.length.argsort().tensor_split(n):
        batch = rows.take(which).narrowed(int(rows.length[which].max()))
        weight = batch.is_answer.float()
        for row, request in enumerate(requests[int(number)] for number in which):
            if request.asked:
                ids = torch.tensor([*tokenizer.encode(f" {request.value}"), *tokenizer.encode(f" {request.value.lower()}")])
                weight[row, batch.is_answer[row] & torch.isin(batch.tokens[row], ids)] = FACT_WEIGHT
        batches.append(Batch(batch, weight))
    return batches


def draw_repeats(rng: np.random.Generator, n: int, size: int, vocab_size: int, *, width: int = 96) -> list[Batch]:
    """Draw n batches of rows of random tokens that repeat with a period of 6 to 24, which is the same in a batch.

    The answers are all tokens from the second of the second period on. Only copying from earlier in the row tells them, which is
    what a style in the context asks for and mails alone teach slowly (induction heads; Olsson et al., 2022, arXiv 2209.11895).
    """
    batches = []
    for period in rng.integers(6, 25, n).tolist():
        once = rng.integers(len(SPECIALS), vocab_size, (size, period))
        tokens = np.tile(once, -(-width // period))[:, :width]
        whole = np.full(size, width)
        rows = Rows.of(Rows(*map(torch.from_numpy, (tokens, whole, np.full(size, period + 1), whole - period - 1))))
        batches.append(Batch(rows, rows.is_answer.float()))
    return batches


def response_loss(model: nn.Module, batch: Batch) -> Tensor:
    """Return the weighted mean loss over the tokens of all answers, in nats."""
    counted = batch.weight[:, 1:] > 0
    weight = batch.weight[:, 1:][counted]
    logits = logits_at(model, batch.rows.tokens, *counted.nonzero(as_tuple=True))[1]
    return (F.cross_entropy(logits.float(), batch.rows.tokens[:, 1:][counted], reduction="none") * weight).sum() / weight.sum()


def pretrain_mail_base(
    recipe: MailBaseRecipe = DEFAULT, *, seed: int = 0, checkpoint: Path | None = None
) -> tuple[PreTrainedModel, PreTrainedTokenizerFast, list[dict[str, float]]]:
    """Train a base and its tokeniser; return both and a row of the history for each part, with its mean loss.

    Args:
        recipe: How.
        seed: Of the weights, the tokeniser's mails and all batches.
        checkpoint: File from which an interrupted run goes on.

    Raises:
        DivergedError: The loss became infinite or NaN.
    """
    tokenizer = train_tokenizer(recipe.vocab_size, recipe.tokenizer_mails, seed)
    model = build_language_model(recipe.shape, len(tokenizer), seed=seed)
    with torch.no_grad():
        next(model.get_input_embeddings().parameters()).mul_(_EMBEDDING_SCALE)
    schedule = PretrainingRecipe(learning_rate=recipe.learning_rate)

    def batches(part: int) -> Iterator[Batch]:
        first = part * recipe.part_steps
        rng = np.random.default_rng([seed, part])
        for step in range(first, min(first + recipe.part_steps, recipe.steps), _TOGETHER):
            if step < recipe.repeat_steps:
                yield from draw_repeats(rng, _TOGETHER, recipe.batch_size, len(tokenizer))
                continue
            drawn = draw_batches(tokenizer, rng, _TOGETHER, recipe.batch_size, recipe.p_random)
            yield from (drawn[int(i)] for i in rng.permutation(_TOGETHER))

    loop = Loop(
        model,
        torch.optim.AdamW(model.parameters(), betas=(0.9, 0.95), weight_decay=0.01, fused=True),
        batches,
        response_loss,
        parts=math.ceil(recipe.steps / recipe.part_steps),
        rate=lambda _part, step: schedule.learning_rate_at(step, recipe.steps),
        clip=1.0,
        checkpoint=checkpoint,
        run={"recipe": dataclasses.asdict(recipe), "seed": seed},
    )
    loop.fit()
    return model, tokenizer, loop.history


def judge_mail_base(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, *, seeds: Sequence[int] = range(900, 912), n: int = 20
) -> dict[str, float]:
    """Let a base write mails of held-out persons; return style, content, and facts told right, means over the persons.

    Args:
        model: The base.
        tokenizer: Its tokeniser.
        seeds: Of the persons; those that a study reports are others.
        n: Mails of each, and facts.
    """
    rows = []
    for seed in seeds:
        person = draw_persona(seed)
        mails, archive, facts = write_mails(person, n, seed), write_mails(person, 2 * n, seed + 1), write_facts(person, n, seed)
        gold = [mail.text for mail in mails]
        row: dict[str, float] = {}
        for k in (0, 1, 2):
            context = [tuple(mail.text for mail in archive[2 * i : 2 * i + k]) for i in range(n)]
            prompts = [Prompt(mail.instructions[0], shown) for mail, shown in zip(mails, context, strict=True)]
            texts = write(model, tokenizer, prompts)
            row[f"style, {k} mails"] = style(texts, person, gold)
            row[f"content, {k} mails"] = float(np.mean([content(t, mail.request) for t, mail in zip(texts, mails, strict=True)]))
            row |= {f"{habit}, {k} mails": share for habit, share in zip(HABITS, detect(texts, person).mean(axis=0), strict=True)}
            shown = [(fact.stated.text, *others[1:])[:k] for fact, others in zip(facts, context, strict=True)]
            texts = write(model, tokenizer, [Prompt(f.asked.instructions[0], c) for f, c in zip(facts, shown, strict=True)])
            told = [says(text, fact.asked.request.value) for text, fact in zip(texts, facts, strict=True)]
            row[f"fact, {k} mails"] = float(np.mean(told))
        rows.append(row)
    return {name: round(float(np.mean([row[name] for row in rows])), 4) for name in rows[0]}


def keep_mail_base(folder: str | Path, recipe: MailBaseRecipe = DEFAULT, *, seed: int = 0) -> dict[str, Any]:
    """Pretrain a base and write it in bfloat16, with its tokeniser and `record.json`, into a folder; return the record.

    A run that was interrupted goes on from the checkpoint beside the folder.

    Raises:
        FileExistsError: There is such a folder already.
    """
    folder = user_path(folder)
    if folder.exists():
        raise FileExistsError(f"{folder}: there is something already; name another folder")
    checkpoint = folder.with_name(f"{folder.name}.state.safetensors")
    code = function_closure(keep_mail_base).digest
    model, tokenizer, history = pretrain_mail_base(recipe, seed=seed, checkpoint=checkpoint)
    model.bfloat16()
    save_language_model(model, folder, tokenizer)
    model.float()  # judged as it is read again
    record = {
        "recipe": dataclasses.asdict(recipe),
        "seed": seed,
        "code": code,
        "cpu_s": round(sum(row["cpu_seconds"] for row in history)),
        "losses": [round(row["loss"], 4) for row in history],
        "weights": weights_digest(model),
        "held-out persons": judge_mail_base(model, tokenizer),
    }
    (folder / "record.json").write_text(json.dumps(record, indent=1) + "\n")
    checkpoint.unlink()
    return record


if __name__ == "__main__":
    print(json.dumps(keep_mail_base(sys.argv[1]), indent=1))
