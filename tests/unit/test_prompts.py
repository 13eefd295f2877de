"""Prompts as token ids: what the loss is on, that training and writing begin alike, what is cut where there is no room."""

import dataclasses
from typing import Any

import pytest
import torch
from transformers import PreTrainedTokenizerFast

from effnotes.models.language import LanguageModelShape, build_language_model
from effnotes.models.prompts import Prompt, encode, write
from effnotes.models.rows import Rows
from effnotes.training.mail_base import train_tokenizer

MAIL = "Vefi Nora,\n\nThe inventory moves to Saturday at 15:45.\n\nAda Hill"
# As SmolLM2's: a system turn that nobody asked for, the padding is the end, and a line break behind the token that ends a turn.
CHATML = (
    "{% if messages[0]['role'] != 'system' %}<|user|>system\nBe brief<|end|>\n{% endif %}"
    "{% for message in messages %}<|user|>{{ message.role }}\n{{ message.content | trim }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|user|>assistant\n{% endif %}"
)


@pytest.fixture(scope="module")
def plain() -> PreTrainedTokenizerFast:
    return train_tokenizer(400, 60)


@pytest.fixture(params=["four specials", "chatml"])
def tokenizer(request: pytest.FixtureRequest, plain: PreTrainedTokenizerFast) -> PreTrainedTokenizerFast:
    made = PreTrainedTokenizerFast(tokenizer_object=plain.backend_tokenizer, eos_token="<|end|>", pad_token="<|pad|>")
    made.chat_template = plain.chat_template
    if request.param == "chatml":
        made.chat_template, made.pad_token = CHATML, "<|end|>"
    return made


def templated(tokenizer: Any, prompt: Prompt, response: str | None = None) -> str:
    turns = [{"role": "user", "content": prompt.text}]
    if response is not None:
        turns.append({"role": "assistant", "content": response})
    return str(tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=response is None))


def test_blocks_of_a_prompt_stand_in_order_and_empty_ones_are_left_out() -> None:
    assert Prompt("Write.").text == "Instruction: Write."
    text = Prompt("Write.", context=("Old mail", "Older mail"), thread=("First", "Second"), preamble="You are Ada.").text
    blocks = ["You are Ada.", "E-MAIL CONTENT:\nOld mail\n\n---", "E-MAIL CONTENT:\nOlder mail\n\n---", "First\n\n---\n\nSecond"]
    places = [text.index(block) for block in [*blocks, "Instruction: Write."]]
    assert places == sorted(places)
    assert text.endswith("Second\n\nInstruction: Write.")


def test_the_loss_is_on_the_response_and_the_token_that_ends_it(tokenizer: Any) -> None:
    # A mail that quotes its prompt, and one with special tokens in its text.
    prompts = [Prompt("Move it.", context=(MAIL,)), Prompt(MAIL), Prompt("Say <|end|> and <|assistant|>.")]
    responses = [MAIL, f"Instruction: {MAIL}", "<|end|> and <|pad|> are words"]
    rows = encode(tokenizer, prompts, responses).rows
    end = tokenizer.convert_tokens_to_ids("<|end|>")
    for row, (prompt, response) in enumerate(zip(prompts, responses, strict=True)):
        ids = rows.tokens[row, : rows.length[row]]
        answer = ids[rows.is_answer[row, : rows.length[row]]].tolist()
        assert answer[-1] == end
        assert tokenizer.decode(answer[:-1]) == response
        assert rows.answer[row] + rows.answer_length[row] == rows.length[row]
        if row < 2:  # in the third the text has special tokens, which the ids must not
            assert tokenizer.decode(ids[: rows.answer[row]]) == templated(tokenizer, prompt)
            assert templated(tokenizer, prompt, response).startswith(tokenizer.decode(ids))
    wrapping = encode(tokenizer, [Prompt("x")], ["x"]).rows.tokens[0].tolist().count(end)
    assert rows.tokens[2, : rows.length[2]].tolist().count(end) == wrapping


def test_rows_are_padded_behind(tokenizer: Any) -> None:
    rows = encode(tokenizer, [Prompt("a"), Prompt("a much longer one")], ["b", "c"]).rows
    alone = encode(tokenizer, [Prompt("a")], ["b"]).rows
    assert isinstance(rows, Rows)
    assert rows.tokens[0, : alone.tokens.shape[1]].equal(alone.tokens[0])
    assert (rows.tokens[0, rows.length[0] :] == tokenizer.pad_token_id).all()


def test_context_is_cut_first_then_the_oldest_of_the_thread_and_never_the_response(tokenizer: Any) -> None:
    prompt = Prompt("Move it.", context=("alpha " * 5, "beta " * 5), thread=("gamma " * 5, "delta " * 5))
    shortest = int(encode(tokenizer, [Prompt("Move it.")], [MAIL]).rows.length)
    kept = []
    for length in range(int(encode(tokenizer, [prompt], [MAIL]).rows.length), shortest - 1, -1):
        rows = encode(tokenizer, [prompt], [MAIL], max_length=length).rows
        assert rows.length[0] <= length
        assert tokenizer.decode(rows.tokens[0, rows.answer[0] : rows.length[0] - 1]) == MAIL
        text = tokenizer.decode(rows.tokens[0, : rows.answer[0]])
        kept.append("".join(word[0] for word in ("alpha", "beta", "gamma", "delta") if word in text))
    assert list(dict.fromkeys(kept)) == ["abgd", "agd", "gd", "d", ""]
    with pytest.raises(ValueError, match=f"none of 1 mails fits into max_length={shortest - 1} tokens"):
        encode(tokenizer, [prompt], [MAIL], max_length=shortest - 1)


def test_what_is_too_long_is_left_out_and_told(tokenizer: Any) -> None:
    short = int(encode(tokenizer, [Prompt("a")], ["b"]).rows.length)
    found = encode(tokenizer, [Prompt("a"), Prompt("a"), Prompt("a")], ["b", MAIL, "b"], max_length=short)
    assert found.kept == [0, 2]
    assert len(found.rows) == 2


def test_a_tokenizer_that_cannot_be_used_is_refused(plain: Any) -> None:
    made = PreTrainedTokenizerFast(tokenizer_object=plain.backend_tokenizer, eos_token="<|end|>")
    with pytest.raises(ValueError, match="no chat template"):
        encode(made, [Prompt("a")], ["b"])
    made.chat_template = plain.chat_template
    with pytest.raises(ValueError, match="none that pads"):
        encode(made, [Prompt("a")], ["b"])
    made.chat_template = "{% for m in messages %}{{ m.content }}{% endfor %}{% if add_generation_prompt %}>{% endif %}"
    with pytest.raises(ValueError, match="between its generation prompt and a response"):
        encode(made, [Prompt("a")], ["b"])


def test_mails_written_together_are_those_written_alone(tokenizer: Any) -> None:
    shape = LanguageModelShape(width=32, layers=2, heads=2, family="llama", context=256)
    model = build_language_model(shape, len(tokenizer), seed=0)
    model.lm_head.weight.data *= 30  # decided answers
    prompts = [Prompt("Move it."), Prompt("Send me the notebook by Friday, please.", context=(MAIL,)), Prompt("No.")]
    together = write(model, tokenizer, prompts, max_new_tokens=12)
    assert together == [write(model, tokenizer, [prompt], max_new_tokens=12)[0] for prompt in prompts]
    ids = tokenizer.encode(templated(tokenizer, prompts[1]), add_special_tokens=False)
    for _ in range(12):  # step by step, without padding, mask or cache
        ids.append(int(model(input_ids=torch.tensor([ids])).logits[0, -1].argmax()))
    prefix = len(tokenizer.encode(templated(tokenizer, prompts[1]), add_special_tokens=False))
    end = tokenizer.convert_tokens_to_ids("<|end|>")
    said = ids[prefix:]
    said = said[: said.index(end)] if end in said else said
    assert together[1] == tokenizer.decode(said, skip_special_tokens=True)
    warm = write(model, tokenizer, prompts, max_new_tokens=12, temperature=1.0, seed=1)
    assert warm == write(model, tokenizer, prompts, max_new_tokens=12, temperature=1.0, seed=1) != together
    with pytest.raises(ValueError, match="prompt 0 is longer than the 4 tokens"):
        write(model, tokenizer, [Prompt("a " * 300)], max_new_tokens=252)


def test_a_prompt_is_a_value() -> None:
    assert dataclasses.replace(Prompt("a", context=("b",)), context=()) == Prompt("a")
    assert Prompt("a").shorter() is None
