"""The job of the study: tune a base on a writer's mails in one way, and judge what it then writes, with and without retrieval."""

from __future__ import annotations

import contextlib
import functools
import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple, TypeAlias, cast

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from effnotes.core.jobs import JobResult
from effnotes.core.settings import settings
from effnotes.datasets.text.grammar import CANARY, content, says
from effnotes.datasets.text.personas import WrittenMail, style
from effnotes.datasets.text.retrieval import Encoder, Index, encoder_of, with_context
from effnotes.finetuning.decomposition import decompose
from effnotes.finetuning.quantisation import quantise_base
from effnotes.finetuning.rosa import MaskRule, equal_budget, mask_overlap, n_trained
from effnotes.finetuning.tune import Pool, Tuned, TuneRecipe, apply_difference, finetune
from effnotes.metrics.text import AuthorshipJudge, Habits, bleu_panza, exposure, longest_copy, mauve, rouge_l
from effnotes.models.answers import answer_log_likelihood
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
NAMES: dict[str, str] = {"none": "base", "full": "full", "lora": "LoRA", "sparse": "sparse", "rosa": "RoSA"}
"""Of what is trained, as tables and figures have it."""
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
        mask_rule: As in `TuneRecipe`, of RoSA.
    """

    kind: Kind
    mails: Annotated[int, Field(ge=1)]
    raft: bool = False
    nf4: bool = False
    mask_rule: MaskRule = "grad_sq"

    @property
    def name(self) -> str:
        """Such as "LoRA, 75 mails"."""
        rule = "" if self.mask_rule == "grad_sq" else f", {self.mask_rule} mask"
        return f"{NAMES[self.kind]}{rule}{' with RAFT' * self.raft}{' on NF4' * self.nf4}, {self.mails} mails"


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
    one for each way to serve: serve, style, content and facts (shares), bleu and rouge, mauve and mauve_real (of what is written
    and of as many training mails, against the held-out ones, by the mean last states of the untuned base), test_loss, accepted and
    accepted_real (shares that the judge of authorship takes for the writer's, of what is written and of the real mails), told
    (share of orders for the mail with the canary that are answered with its code), trainable, cpu_s, and the bytes of the adapter,
    of training and of the base's linear layers; what `_learnt_by_heart` says; for RoSA the overlap of its mask with that of the
    largest weights, and by chance. "habits": serve, habit, and its shares of what is written and of the real mails, as `Habits`
    finds them in the training mails. "course" has no rows of methods that are judged, but whose leaks are not. "crosses": other,
    style. "cuts": as `_cut` says. "examples": serve, instruction, real and written, of a made-up person's first test mail; texts of
    a reader's are in none.
    Of a reader's own mails style is the judge's mean probability, and content and facts are NaN.
    """
    with no_network() if job.writer.mailbox else contextlib.nullcontext():
        return _tuned_and_judged(job)


def _tuned_and_judged(job: Tuning) -> JobResult:
    base, tokenizer = loaded(job.base)
    own = material(job.writer)
    base_bytes = sum(linear.weight.nbytes for linear in block_linears(base).values())
    if job.method.nf4:
        base, base_bytes, _ = quantise_base(base)
    index = search_index(own, job.method.mails)
    # Of the methods that are compared alone: what leaks takes as long as several steps.
    compared = bool(job.serve) and job.method.kind != "none" and job.method == Method(job.method.kind, len(own.train))
    model, course, cuts = base, list[Any](), list[dict[str, Any]]()
    row: dict[str, float] = {"trainable": 0, "cpu_s": 0.0, "base_bytes": base_bytes}
    if job.method.kind != "none":
        learnt = own.train[: job.method.mails]
        orders = [each.instruction for each in learnt]
        contexts: Sequence[tuple[str, ...]] = [()] * len(learnt)
        if job.method.raft:
            contexts = with_context(index, [each.mail for each in learnt], orders, k=job.context, seed=job.writer.seed)
        prompts = [Prompt(order, context) for order, context in zip(orders, contexts, strict=True)]
        rows = _rows(tokenizer, learnt, prompts, _longest(base))
        held_out = _rows(tokenizer, own.val, [Prompt(each.instruction) for each in own.val], _longest(base))

        def observe(trainee: nn.Module) -> dict[str, float]:
            leaked = code_exposure(trainee, tokenizer, own.canary) if own.canary and compared else float("nan")
            return {"val_loss": mean_loss(trainee, held_out), "exposure": leaked}

        watched = compared or not job.serve  # nobody reads the course of the others
        tuned = finetune(base, [Pool(rows)], recipe(job, base), seed=job.writer.seed, observe=observe if watched else None)
        model = tuned.model
        course = tuned.history[["step", "val_loss", "exposure"]].to_dict("records") if watched else []
        row |= {"trainable": tuned.n_trainable, "cpu_s": tuned.cpu_s}
        row |= {"adapter_bytes": tuned.adapter_bytes, "training_bytes": tuned.optimizer_bytes}
        if job.method.kind == "rosa":
            largest = {name: base.get_parameter(name).abs().flatten().topk(len(at)).indices for name, at in tuned.mask.items()}
            overlap = mask_overlap(tuned.mask, largest, tuned.difference).mean()
            row |= {"overlap": float(overlap["jaccard"]), "chance": float(overlap["chance"])}
        if compared and job.method.kind == "full":
            cuts = _cut(job, base, tuned, tokenizer, own)
    judged = {serve: _judged(job, model, tokenizer, own, index, serve) for serve in job.serve}
    if compared:
        row |= _learnt_by_heart(job, model, judged["none"][1])
    systems = [row | {"serve": serve} | found for serve, (found, _) in judged.items()]
    shown = own.test[0]
    examples = [
        {"serve": serve, "instruction": shown.instruction, "real": shown.mail.text, "written": texts[0]}
        for serve, (_, texts) in judged.items()
        if own.persona is not None
    ]
    crosses = _crossed(job, model, tokenizer) if job.others else []
    found = Habits.of([each.mail.text for each in own.train])
    habits = [
        {"serve": serve, **shares}
        for serve, (_, texts) in judged.items()
        for shares in found.compared(texts, [each.mail.text for each in own.test])
    ]
    return {"course": course, "systems": systems, "habits": habits, "crosses": crosses, "cuts": cuts, "examples": examples}


def recipe(job: Tuning, base: nn.Module) -> TuneRecipe:
    """Return how a job tunes: sparse and RoSA with the density by which they train as many numbers as LoRA of the job's rank."""
    shapes = [linear.weight.shape for linear in block_linears(base).values()]
    kind = job.method.kind
    options: dict[str, Any] = {"rank": {"lora": job.rank, "rosa": job.rosa_rank}.get(kind)}
    if kind in ("sparse", "rosa"):
        rank = options["rank"] or 0
        options["density"] = equal_budget(base, n_trained(shapes, job.rank, 0), [rank])[rank]
    if kind == "none":
        raise ValueError("a base that is not tuned has no recipe")
    return TuneRecipe(
        kind,
        learning_rate=job.learning_rate,
        checkpoints=job.checkpoints,
        batch_size=job.batch_size,
        micro_batch=1,
        mask_rule=job.method.mask_rule,
        **options,
    )


def search_index(own: Material, mails: int) -> Index:
    """Return an index of the mails that are trained on, and, where that is all of them, of those that state facts."""
    every = own.stated if mails >= len(own.train) else []
    return Index([*(each.mail for each in own.train[:mails]), *every])


def mean_loss(model: nn.Module, rows: Rows) -> float:
    """Return the mean over the tokens of all answers, in nats."""
    losses, lengths = _losses(model, rows)
    return float(losses.sum() / lengths.sum())


def _losses(model: nn.Module, rows: Rows) -> tuple[Tensor, Tensor]:
    """Return the loss of each answer, the sum over its tokens in nats, and their number, both (n,)."""
    with torch.no_grad(), evaluating(model):
        return -answer_log_likelihood(model, rows), rows.is_answer[:, 1:].sum(dim=1)


def _longest(model: Any) -> int:
    return int(model.config.max_position_embeddings)


def _rows(tokenizer: PreTrainedTokenizerFast, examples: Sequence[Example], prompts: Sequence[Prompt], longest: int) -> Rows:
    return encode(tokenizer, prompts, [each.mail.text for each in examples], longest).rows


def _asked(index: Index, orders: Sequence[str], k: int) -> list[Prompt]:
    return [Prompt(order, tuple(mail.text for mail, _ in index.search(order, k))) for order in orders]


def _judged(
    job: Tuning, model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, own: Material, index: Index, serve: str
) -> tuple[dict[str, float], list[str]]:
    k = job.context if serve == "RAG" else 0
    # Where only some mails are indexed, no mail tells the facts; and they are asked for where both ways to serve are compared.
    facts = own.facts if job.method.mails >= len(own.train) and len(job.serve) > 1 else []
    orders = (
        [each.instruction for each in own.test],
        own.canary.instructions if own.canary else (),
        [f.instructions[0] for f in facts],
    )
    prompts = _asked(index, [*itertools.chain(*orders)], k)
    every = iter(write(model, tokenizer, prompts))
    texts, told, answers = ([*itertools.islice(every, len(each))] for each in orders)
    gold, judge, real = [each.mail.text for each in own.test], _judge(job.writer, job.base), _real(job.writer, job.base)
    row = {
        "mauve": mauve(real.encode(texts), real.features).mean,
        "mauve_real": real.mauve,
        "bleu": float(bleu_panza(texts, gold).mean()),
        "rouge": float(rouge_l(texts, gold).mean()),
        "test_loss": mean_loss(model, _rows(tokenizer, own.test, prompts[: len(texts)], _longest(model))),
        "accepted": float((judge.probability(texts) > 0.5).mean()),
        "accepted_real": float((judge.probability(gold) > 0.5).mean()),
        "style": _style(job, texts, own, gold),
        **dict.fromkeys(("content", "facts", "told"), float("nan")),
    }
    if own.persona is not None:
        asked = [(text, each.request) for text, each in zip(texts, own.test, strict=True) if each.request]
        row["content"] = float(np.mean([content(text, request) for text, request in asked]))
    if own.canary is not None:
        row["told"] = float(np.mean([own.canary.request.value in text for text in told]))
    if facts:
        row["facts"] = float(np.mean([says(text, mail.request.value) for text, mail in zip(answers, facts, strict=True)]))
    return row, texts


@functools.lru_cache(maxsize=2)
def _judge(writer: Writer, base: MailBase) -> AuthorshipJudge:
    """The judge knows mails of the writer and of other persons; of a reader's, what the base writes to the same orders."""
    own = material(writer)
    learnt, others = own.train[:_JUDGED], own.others
    if not others:
        others = write(*loaded(base), [Prompt(each.instruction) for each in learnt])
    return AuthorshipJudge([each.mail.text for each in learnt], others)


def _style(job: Tuning, texts: Sequence[str], own: Material, gold: Sequence[str]) -> float:
    if own.persona is None:
        return float(_judge(job.writer, job.base).probability(texts).mean())
    return style(texts, own.persona, gold)


class _Real(NamedTuple):
    """What is the same for all models of a writer.

    Attributes:
        encode: What makes features (n, d) of texts: the mean last states of the untuned base.
        features: Of the held-out mails.
        mauve: Of as many training mails, against them.
        losses: As `_losses` gives them by the untuned base, with the rows: of so many training mails, and of the held-out ones.
        copied: As in `_learnt_by_heart`, of the held-out mails.
    """

    encode: Encoder
    features: Tensor
    mauve: float
    losses: list[tuple[Rows, Tensor, Tensor]]
    copied: float


@functools.lru_cache(maxsize=1)
def _real(writer: Writer, base: MailBase) -> _Real:
    own, (model, tokenizer) = material(writer), loaded(base)
    encode, parts = encoder_of(cast("PreTrainedModel", model.base_model), tokenizer), (own.train[: len(own.test)], own.test)
    learnt, held_out = (encode([each.mail.text for each in examples]) for examples in parts)
    losses = []
    for examples in parts:
        rows = _rows(tokenizer, examples, [Prompt(each.instruction) for each in examples], _longest(model))
        losses.append((rows, *_losses(model, rows)))
    texts = [each.mail.text for each in own.train]
    copied = float(np.mean([longest_copy(each.mail.text, texts) for each in own.test]))
    return _Real(encode, held_out, mauve(learnt, held_out).mean, losses, copied)


def _learnt_by_heart(job: Tuning, model: PreTrainedModel, written: Sequence[str]) -> dict[str, float]:
    """What a model gives away of its training mails.

    membership is the area under the ROC curve of the loss that tuning took off a mail, for as many training as held-out mails (1/2:
    they cannot be told apart; Yeom et al., CSF 2018, calibrated by the base as by Watson et al., ICLR 2022). copied and
    copied_real are the mean number of words in the longest run that a written and a real held-out mail share with a training mail.
    """
    from sklearn.metrics import roc_auc_score

    real, learnt = _real(job.writer, job.base), [each.mail.text for each in material(job.writer).train]
    gained = [(before - _losses(model, rows)[0]) / lengths for rows, before, lengths in real.losses]
    is_member = np.repeat([1, 0], [len(each) for each in gained])
    return {
        "membership": float(roc_auc_score(is_member, torch.cat(gained).numpy())),
        "copied": float(np.mean([longest_copy(text, learnt) for text in written])),
        "copied_real": real.copied,
    }


def _cut(
    job: Tuning, base: PreTrainedModel, tuned: Tuned, tokenizer: PreTrainedTokenizerFast, own: Material
) -> list[dict[str, Any]]:
    """Cut the difference that full tuning made to as many numbers as LoRA trains, in three forms.

    Rows with form, style, test_loss, and left: the norm of what is left out, in that of the difference.
    """
    shapes = [change.shape for change in tuned.difference.values()]
    densities = equal_budget(base, n_trained(shapes, job.rank, 0), [0, job.rosa_rank])
    forms = {"low rank": (job.rank, 0.0), "both": (job.rosa_rank, densities[job.rosa_rank]), "sparse": (0, densities[0])}
    prompts, gold = [Prompt(each.instruction) for each in own.test], [each.mail.text for each in own.test]
    held_out, found = _rows(tokenizer, own.test, prompts, _longest(base)), []
    for form, (rank, density) in forms.items():
        cut = decompose(tuned.difference, rank, density)
        model = apply_difference(base, cut.difference)
        scores = {"style": _style(job, write(model, tokenizer, prompts), own, gold), "test_loss": mean_loss(model, held_out)}
        found.append({"form": form, "left": cut.error[-1]} | scores)
    return found


def _crossed(job: Tuning, model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast) -> list[dict[str, Any]]:
    """Let a model write some mails of its own writer and of each other, and judge each by the style of whose mails they are."""
    asked = {other.seed: (material(other).persona, material(other).test[:_MOST_ASKED]) for other in (job.writer, *job.others)}
    texts = iter(write(model, tokenizer, [Prompt(each.instruction) for _, mails in asked.values() for each in mails]))
    return [
        {"other": seed, "style": style([*itertools.islice(texts, len(mails))], persona, [each.mail.text for each in mails])}
        for seed, (persona, mails) in asked.items()
        if persona is not None
    ]


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
        read.past_key_values.batch_repeat_interleave(100)
        parts = []
        for codes in torch.cartesian_prod(tokens, tokens, tokens).split(100):  # all at once would take gigabytes of a large model
            logits = model(input_ids=codes, past_key_values=read.past_key_values).logits
            parts.append(logits.float().log_softmax(-1)[:, :, tokens].view(10, 10, 3, 10))
            read.past_key_values.crop(-3)
    then = torch.stack(parts)
    second, third, fourth = then[:, 0, 0, 0], then[:, :, 0, 1], then[:, :, :, 2]
    every = first[:, None, None, None] + second[:, :, None, None] + third[..., None] + fourth
    return exposure(every.flatten().numpy(), int(code))
