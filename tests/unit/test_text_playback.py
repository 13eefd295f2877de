"""An instruction for each mail: what is refused, what a sentence gives without a model, and a real model that is asked."""

import random
import re
from collections.abc import Sequence
from typing import TypeAlias

import pytest
import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from effnotes.datasets.text import Extractive, Instruct, Mail, copy_rate, play_back
from effnotes.datasets.text.playback import _REQUEST

TEMPLATE = "{% for m in messages %}<u>{{ m['content'] }}{% endfor %}{% if add_generation_prompt %}<a>{% endif %}"
WORD = r"\w+|\s|[^\w\s]"
TOPICS = ["budget", "harbour", "violin", "orchard", "telescope", "bakery"]


def mail(text: str, number: int = 0) -> Mail:
    return Mail(f"<{number}>", text, "", (), None, f"<{number}>")


DAYS = ["Monday", "Tuesday", "Friday", "noon", "March", "Easter"]
BODY = "Dear Anna,\n\nI hope that you are well. Could you send me the report on the {} by {}? Many thanks.\n\nBest,\nAda"
MAILS = [mail(BODY.format(*both), number) for number, both in enumerate(zip(TOPICS, DAYS, strict=True))]


def brute_copy_rate(instruction: str, text: str, n: int) -> float:
    asked, given = instruction.lower().split(), text.lower().split()
    n = min(n, len(asked))
    grams = [asked[k : k + n] for k in range(len(asked) - n + 1)]
    return sum(any(given[j : j + n] == gram for j in range(len(given))) for gram in grams) / len(grams)


@pytest.mark.parametrize("seed", range(20))
def test_copy_rate_is_that_of_a_search_for_each_gram(seed: int) -> None:
    rng = random.Random(seed)
    given = " ".join(rng.choices("abc", k=30))
    asked = " ".join(rng.choices("abc", k=rng.randint(1, 12)))
    assert copy_rate(asked, given, 3) == brute_copy_rate(asked, given, 3)


def test_copy_rate_takes_no_notice_of_case_and_punctuation() -> None:
    assert copy_rate("SEND me; the report on the budget by Monday.", MAILS[0].text) == 1.0
    assert copy_rate("send me", MAILS[0].text) == 1.0
    assert copy_rate("...", MAILS[0].text) == 0.0


@pytest.mark.parametrize(
    ("output", "reason"),
    [
        ("Ask Anna for the report on the budget.", "no tag"),
        ("Instruction: Ask Anna. Instruction: for the report on the budget.", "no tag"),
        ("Instruction: Ask Anna for it.", "too short"),
        ("Instruction: " + "word " * 81, "too long"),
        ("Instruction: Please could you send me the report on the budget by Monday", "copied"),
    ],
)
def test_an_instruction_is_refused_three_times_and_then_given_up(output: str, reason: str) -> None:
    tries: list[int] = []

    def backend(texts: Sequence[str], attempt: int) -> list[str]:
        tries.append(attempt)
        return [output] * len(texts)

    found = play_back(MAILS[:1], backend)
    assert (found.instructions, found.rejected, found.given_up, tries) == ({}, {reason: 3}, 1, [0, 1, 2])


def test_only_what_was_refused_is_tried_again() -> None:
    def backend(texts: Sequence[str], attempt: int) -> list[str]:
        return ["Sure! Instruction:  Ask Anna for\nthe budget report." if k >= 2 - attempt else "no" for k in range(len(texts))]

    found = play_back(MAILS[:4], backend)
    assert set(found.instructions.values()) == {"Ask Anna for the budget report."}
    assert (len(found.instructions), found.rejected, found.given_up) == (4, {"no tag": 3}, 0)
    assert "Anna" not in repr(found)


def test_without_a_model_an_instruction_names_what_is_particular() -> None:
    found = play_back(MAILS, Extractive())
    assert len(found.instructions) == len(MAILS)
    for each, topic in zip(MAILS, TOPICS, strict=True):
        assert topic in found.instructions[each.id]
        assert "hope" not in found.instructions[each.id]
        assert found.instructions[each.id].startswith("Write a mail on: ")
    assert play_back(MAILS[:1], Extractive()).given_up == 0


Asked: TypeAlias = tuple[LlamaForCausalLM, PreTrainedTokenizerFast]
LENGTHS = [MAILS[0].text[:20], MAILS[1].text[:60], MAILS[2].text, MAILS[3].text]
ANSWER = "Instruction: Ask for the paper in kind words."


@pytest.fixture(scope="module")
def asked() -> Asked:
    """A model of two layers that has learnt one answer to requests."""
    torch.manual_seed(0)
    special = ["<p>", "<e>", "<u>", "<a>"]
    words = sorted({word for text in (_REQUEST, ANSWER, *(each.text for each in MAILS)) for word in re.findall(WORD, text)})
    base = Tokenizer(models.WordLevel({word: k for k, word in enumerate(special + words)}, unk_token="<p>"))
    base.pre_tokenizer = pre_tokenizers.Split(Regex(WORD), "isolated")
    base.decoder = decoders.Fuse()
    extra = {"additional_special_tokens": ["<u>", "<a>"]}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=base, pad_token="<p>", eos_token="<e>", **extra)
    tokenizer.chat_template = TEMPLATE
    shape = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    ends = {"eos_token_id": 1, "pad_token_id": 0, "bos_token_id": None}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=len(special + words), max_position_embeddings=320, **ends, **shape))
    prompts = Instruct(model, tokenizer, max_new_tokens=30)
    answer = [*tokenizer(ANSWER)["input_ids"], 1]
    optimizer = torch.optim.AdamW(model.parameters(), 3e-3)
    for step in range(220):
        prompt = prompts._ids(LENGTHS[step % 4])
        optimizer.zero_grad()
        labels = torch.tensor([[-100] * len(prompt) + answer])
        model(torch.tensor([prompt + answer]), labels=labels).loss.backward()
        optimizer.step()
    return model.eval(), tokenizer


def test_what_a_real_model_answers_to_its_chat_template_is_the_instruction(asked: Asked) -> None:
    found = play_back(MAILS, Instruct(*asked, batch=4, max_new_tokens=30))
    assert set(found.instructions.values()) == {ANSWER.removeprefix("Instruction: ")}
    assert (len(found.instructions), found.rejected) == (6, {})


def test_mails_of_different_lengths_side_by_side_are_answered_as_each_alone(asked: Asked) -> None:
    model, tokenizer = asked
    before = torch.random.get_rng_state()
    together, alone = (Instruct(model, tokenizer, batch=batch, max_new_tokens=30)(LENGTHS, 0) for batch in (4, 1))
    assert together == alone == [ANSWER] * 4
    assert torch.equal(before, torch.random.get_rng_state())
    assert tokenizer.padding_side == "right"


def test_a_mail_too_long_for_the_context_is_cut_and_the_request_stays_whole(asked: Asked) -> None:
    backend = Instruct(*asked, max_new_tokens=30)
    ids = backend._fitting(MAILS[0].text * 30)
    assert 280 < len(ids) <= 290
    request = asked[1].decode(ids)
    assert request.startswith("<u>Below")
    assert request.endswith("<a>")


def test_a_model_without_a_template_or_room_is_used_or_refused(asked: Asked) -> None:
    model, tokenizer = asked
    with pytest.raises(ValueError, match="context has 320 tokens"):
        Instruct(model, tokenizer, max_new_tokens=300)
    plain = PreTrainedTokenizerFast(tokenizer_object=tokenizer.backend_tokenizer)
    with pytest.raises(ValueError, match="neither a padding nor an end token"):
        Instruct(model, plain)
    plain.eos_token = "<e>"
    found = play_back(MAILS[:2], Instruct(model, plain, max_new_tokens=3))
    assert found.given_up == 2
    assert sum(found.rejected.values()) == 6
