"""The job of the study: tune a base on a writer's mails in one way, and judge what it then writes, with and without retrieval."""

from __future__ import annotations

import contextlib
import functools
import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from effnotes.core.jobs import JobResult
from effnotes.core.settings import settings
from effnotes.datasets.text.grammar import CANARY, content, says
from effnotes.datasets.text.personas import WrittenMail, style
from effnotes.datasets.text.retrieval import Index, with_context
from effnotes.finetuning.quantisation import quantise_base
from effnotes.finetuning.rosa import equal_budget, n_trained
from effnotes.finetuning.tune import Pool, TuneRecipe, finetune
from effnotes.metrics.text import AuthorshipJudge, bleu_panza, exposure
from effnotes.models.answers import token_log_probabilities
from effnotes.models.language import block_linears
from effnotes.models.modes import evaluating
from effnotes.models.prompts import Prompt, encode, write
from effnotes.models.rows import Rows
from effnotes.studies.personalization.bases import MailBase, loaded
from effnotes.studies.personalization.private import no_network
from effnotes.studies.personalization.writers import Example, Material, Writer, material

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

Kind: TypeAlias = Literal["none", "full", "lora", "sparse", "rosa"]
_MOST_ASKED = 10  # mails of each other persona that a model writes
_JUDGED = 64  # mails of each side that the judge of authorship learns from


@settings
class Method:
    """One way to make a base a writer's: what is trained, on how many mails.

    Attributes:
        kind: As in `TuneRecipe`; "none" trains nothing.
        mails: That are trained on and searched.
        raft: Whether retrieved mails are in the prompts of training.
        nf4: Whether the base has weights of four bits.
    """

    kind: Kind
    mails: Annotated[int, Field(ge=1)]
    raft: bool = False
    nf4: bool = False

    @property
    def name(self) -> str:
        """Such as "lora, 75 mails"."""
        return f"{self.kind}{' with RAFT' * self.raft}{' on NF4' * self.nf4}, {self.mails} mails"


@settings
class Tuning:
    """A base tuned on a writer's mails in one way, and what is asked of it then."""

    base: MailBase
    writer: Writer
    method: Method
    learning_rate: float  # 0 where nothing is trained
    checkpoints: tuple[int, ...]  # steps after which losses are taken; training ends with the last
    rank: Annotated[int, Field(ge=2)]  # of LoRA, which sets the budget of the others
    rosa_rank: Annotated[int, Field(ge=1)]
    batch_size: Annotated[int, Field(ge=1)]
    context: Annotated[int, Field(ge=1)]  # mails that retrieval puts into a prompt
    serve: tuple[Literal["none", "RAG"], ...] = ()  # how mails are asked for; empty judges no mails
    others: tuple[Writer, ...] = ()  # whose mails it is asked for as well


def tune_and_judge(job: Tuning) -> JobResult:
    """Tune, write and judge; for `run_jobs`.

    Lists of rows. "course": step, val_loss (nats a token) and exposure (bits; NaN without a canary) at each checkpoint. "systems",
    one for each way to serve: serve, style, content and facts (shares), bleu, test_loss, accepted and accepted_real (shares that
    the judge of authorship takes for the writer's, of what is written and of the real mails), trainable, cpu_s. "crosses": other,
    style.
    "examples": serve, instruction, real and written, of a made-up person's first test mail; texts of a reader's are in none.
    Of a reader's own mails style is the judge's mean probability, and content and facts are NaN.
    """
    with no_network() if job.writer.mailbox else contextlib.nullcontext():
        return _tuned_and_judged(job)


def _tuned_and_judged(job: Tuning) -> JobResult:
    base, tokenizer = loaded(job.base)
    own = material(job.writer)
    if job.method.nf4:
        logging.getLogger("torch.utils._pytree").setLevel(logging.ERROR)  # warns of torchao's import, which nobody can mend here
        base = quantise_base(base).model
    index = search_index(own, job.method.mails)
    model, row, course = base, {"trainable": 0, "cpu_s": 0.0}, list[dict[str, float]]()
    if job.method.kind != "none":
        learnt = own.train[: job.method.mails]
        orders = [each.instruction for each in learnt]
        contexts: Sequence[tuple[str, ...]] = [()] * len(learnt)
        if job.method.raft:
            contexts = with_context(index, [each.mail for each in learnt], orders, k=job.context, seed=job.writer.seed)
        prompts = [Prompt(order, context) for order, context in zip(orders, contexts, strict=True)]
        rows = _rows(tokenizer, learnt, prompts, _longest(base))
        held_out = _rows(tokenizer, own.val, [Prompt(each.instruction) for each in own.val], _longest(base))

        # Of the methods that are compared alone: it takes as long as several steps.
        leaks = job.serve and job.method == Method(job.method.kind, len(own.train))

        def observe(trainee: nn.Module) -> dict[str, float]:
            leaked = code_exposure(trainee, tokenizer, own.canary) if own.canary and leaks else float("nan")
            return {"val_loss": mean_loss(trainee, held_out), "exposure": leaked}

        tuned = finetune(base, [Pool(rows)], recipe(job, base), seed=job.writer.seed, observe=observe)
        model, course = tuned.model, tuned.history[["step", "val_loss", "exposure"]].to_dict("records")
        row = {"trainable": tuned.n_trainable, "cpu_s": tuned.cpu_s}
    judged = {serve: _judged(job, model, tokenizer, own, index, serve) for serve in job.serve}
    systems = [row | {"serve": serve} | found for serve, (found, _) in judged.items()]
    shown = own.test[0]
    examples = [
        {"serve": serve, "instruction": shown.instruction, "real": shown.mail.text, "written": text}
        for serve, (_, text) in judged.items()
        if own.persona is not None
    ]
    others = (job.writer, *job.others) if job.others else ()
    crosses = [{"other": other.seed, "style": _style_of(model, tokenizer, material(other))} for other in others]
    return {"course": course, "systems": systems, "crosses": crosses, "examples": examples}


def recipe(job: Tuning, base: nn.Module) -> TuneRecipe:
    """Return how a job tunes: sparse and RoSA with the density by which they train as many numbers as LoRA of the job's rank."""
    shapes = [linear.weight.shape for linear in block_linears(base).values()]  # type: ignore[union-attr]
    kind = job.method.kind
    options: dict[str, Any] = {"rank": {"lora": job.rank, "rosa": job.rosa_rank}.get(kind)}
    if kind in ("sparse", "rosa"):
        rank = options["rank"] or 0
        options["density"] = equal_budget(base, n_trained(shapes, job.rank, 0), [rank])[rank]
    if kind == "none":
        raise ValueError("a base that is not tuned has no recipe")
    return TuneRecipe(
        kind, learning_rate=job.learning_rate, checkpoints=job.checkpoints, batch_size=job.batch_size, micro_batch=1, **options
    )


def search_index(own: Material, mails: int) -> Index:
    """Return an index of the mails that are trained on, and, where that is all of them, of those that state facts."""
    every = own.stated if mails >= len(own.train) else []
    return Index([*(each.mail for each in own.train[:mails]), *every])


def mean_loss(model: nn.Module, rows: Rows) -> float:
    """Return the mean over the tokens of all answers, in nats."""
    with torch.no_grad(), evaluating(model):
        return float(-token_log_probabilities(model, rows)[rows.is_answer[:, 1:]].mean())


def _longest(model: Any) -> int:
    return int(model.config.max_position_embeddings)


def _rows(tokenizer: PreTrainedTokenizerFast, examples: Sequence[Example], prompts: Sequence[Prompt], longest: int) -> Rows:
    return encode(tokenizer, prompts, [each.mail.text for each in examples], longest).rows


def _asked(index: Index, orders: Sequence[str], k: int) -> list[Prompt]:
    return [Prompt(order, tuple(mail.text for mail, _ in index.search(order, k))) for order in orders]


def _judged(
    job: Tuning, model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, own: Material, index: Index, serve: str
) -> tuple[dict[str, float], str]:
    k = job.context if serve == "RAG" else 0
    prompts, gold = _asked(index, [each.instruction for each in own.test], k), [each.mail.text for each in own.test]
    texts = write(model, tokenizer, prompts)
    judge = _judge(job.writer, job.base)
    row = {
        "bleu": float(bleu_panza(texts, gold).mean()),
        "test_loss": mean_loss(model, _rows(tokenizer, own.test, prompts, _longest(model))),
        "accepted": float((judge.probability(texts) > 0.5).mean()),
        "accepted_real": float((judge.probability(gold) > 0.5).mean()),
        "style": float(judge.probability(texts).mean()),
        "content": float("nan"),
        "facts": float("nan"),
    }
    if own.persona is not None:
        row["style"] = style(texts, own.persona, gold)
        asked = [(text, each.request) for text, each in zip(texts, own.test, strict=True) if each.request]
        row["content"] = float(np.mean([content(text, request) for text, request in asked]))
    # Where only some mails are indexed, no mail tells the facts; and they are asked for where both ways to serve are compared.
    if own.facts and job.method.mails >= len(own.train) and len(job.serve) > 1:
        answers = write(model, tokenizer, _asked(index, [mail.instructions[0] for mail in own.facts], k))
        row["facts"] = float(np.mean([says(text, mail.request.value) for text, mail in zip(answers, own.facts, strict=True)]))
    return row, texts[0]


@functools.lru_cache(maxsize=2)
def _judge(writer: Writer, base: MailBase) -> AuthorshipJudge:
    """The judge knows mails of the writer and of other persons; of a reader's, what the base writes to the same orders."""
    own = material(writer)
    learnt, others = own.train[:_JUDGED], own.others
    if not others:
        others = write(*loaded(base), [Prompt(each.instruction) for each in learnt])
    return AuthorshipJudge([each.mail.text for each in learnt], others)


def _style_of(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, other: Material) -> float:
    if other.persona is None:
        return float("nan")
    asked = other.test[:_MOST_ASKED]
    texts = write(model, tokenizer, [Prompt(each.instruction) for each in asked])
    return style(texts, other.persona, [each.mail.text for each in asked])


def code_exposure(model: nn.Module, tokenizer: PreTrainedTokenizerFast, canary: WrittenMail) -> float:
    """Return the exposure in bits of a canary's code among all 10,000, with the mail up to the code given.

    The order and the mail are read once; behind them, the 1,000 codes of three digits give the probability of every digit of all
    codes, as each of the 1,111 beginnings is among them.

    Raises:
        ValueError: The tokenizer does not take each digit for a token.
    """
    code = canary.request.value
    before, _, _ = canary.text.lower().partition(CANARY + code)
    start = canary.text[: len(before) + len(CANARY)]
    (given,) = encode(tokenizer, [Prompt(canary.instructions[0])], [start + code], 10**6).rows.tokens.tolist()
    prefix, digits = given[:-5], given[-5:-1]  # without the token that ends the mail
    ten = [tokenizer.convert_tokens_to_ids(str(digit)) for digit in range(10)]
    if digits != [ten[int(digit)] for digit in code]:
        raise ValueError("the tokenizer does not take each digit for a token, so codes cannot be ranked; leave canaries out")
    tokens = torch.tensor(ten)
    with torch.no_grad(), evaluating(model):
        read = model(input_ids=torch.tensor([prefix]), use_cache=True)
        first: Tensor = read.logits[0, -1].float().log_softmax(-1)[tokens]
        read.past_key_values.batch_repeat_interleave(1000)
        codes = torch.cartesian_prod(tokens, tokens, tokens)
        logits = model(input_ids=codes, past_key_values=read.past_key_values).logits
    then = logits.float().log_softmax(-1)[:, :, tokens].view(10, 10, 10, 3, 10)
    second, third, fourth = then[:, 0, 0, 0], then[:, :, 0, 1], then[:, :, :, 2]
    every = first[:, None, None, None] + second[:, :, None, None] + third[..., None] + fourth
    return exposure(every.flatten().numpy(), int(code))
