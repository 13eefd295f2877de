"""The base of the mails: its tokeniser, what its batches weigh, and that pretraining lowers the loss and goes on where it was."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from transformers import AutoTokenizer

from effnotes.models.language import LanguageModelShape, build_language_model, load_language_model, weights_digest
from effnotes.models.prompts import Prompt, encode
from effnotes.training import mail_base
from effnotes.training.mail_base import (
    SPECIALS,
    MailBaseRecipe,
    draw_batches,
    draw_repeats,
    keep_mail_base,
    pretrain_mail_base,
    response_loss,
    train_tokenizer,
)

SMALL = MailBaseRecipe(
    shape=LanguageModelShape(width=32, layers=1, heads=2, mlp_width=48, family="llama", context=512),
    vocab_size=400,
    tokenizer_mails=100,
    steps=40,
    repeat_steps=5,
    batch_size=4,
    part_steps=5,
)


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(400, 100)


def test_any_text_comes_back_and_digits_are_single_tokens(tokenizer) -> None:
    text = "Grüße, 15:45 and 0417 🙂\n\n  <|end|> \\o/"
    ids = tokenizer.encode(text, split_special_tokens=True)
    assert tokenizer.decode(ids) == text
    assert [tokenizer.decode([i]) for i in tokenizer.encode("is 4821.")][-5:] == ["4", "8", "2", "1", "."]
    assert tokenizer.convert_tokens_to_ids([*SPECIALS]) == [0, 1, 2, 3]
    assert (tokenizer.eos_token, tokenizer.pad_token, len(tokenizer)) == ("<|end|>", "<|pad|>", 400)
    assert train_tokenizer(400, 100).get_vocab() == tokenizer.get_vocab()


def test_answers_count_and_values_that_are_asked_for_count_more(tokenizer) -> None:
    drawn = [each for seed in range(6) for each in draw_batches(tokenizer, np.random.default_rng(seed), 2, 8, 0.5)]
    heavy = 0
    for rows, weight in drawn:
        assert ((weight > 0) == rows.is_answer).all()
        assert rows.tokens.shape[1] == rows.length.max()
        for row in (weight > 1).any(dim=1).nonzero().flatten():
            heavy += 1
            said = tokenizer.decode(rows.tokens[row, weight[row] > 1]).strip()
            assert 0 < len(said) < 40
            text = tokenizer.decode(rows.tokens[row, : rows.answer[row]]).rpartition("Instruction:")[2]
            assert any(word in text for word in ("room", "town", "project", "where", "does"))
    assert heavy > 3


def test_the_answers_of_repeats_stand_earlier_in_the_row() -> None:
    periods = set()
    for rows, weight in draw_repeats(np.random.default_rng(0), 20, 3, 400):
        assert rows.tokens.min() >= len(SPECIALS)
        assert ((weight == 1) == rows.is_answer).all()
        period = int(rows.answer[0]) - 1
        periods.add(period)
        for row, first in zip(rows.tokens.tolist(), rows.answer.tolist(), strict=True):
            assert all(row[column] == row[column - period] for column in range(first - 1, len(row)))
            assert len(set(row)) > period // 2
    assert periods <= set(range(6, 25))
    assert len(periods) > 5


def test_the_loss_is_the_weighted_mean_of_a_loop(tokenizer) -> None:
    model = build_language_model(SMALL.shape, len(tokenizer), seed=0)
    batch = next(
        b for seed in range(9) for b in draw_batches(tokenizer, np.random.default_rng(seed), 1, 6, 0.5) if (b.weight > 1).any()
    )
    total = mass = 0.0
    with torch.no_grad():
        found = float(response_loss(model, batch))
        for row in range(len(batch.rows)):
            length = int(batch.rows.length[row])
            logits = model(input_ids=batch.rows.tokens[row : row + 1, :length]).logits[0]
            for column in range(int(batch.rows.answer[row]), length):
                weight = float(batch.weight[row, column])
                total += weight * float(F.cross_entropy(logits[column - 1], batch.rows.tokens[row, column]))
                mass += weight
    assert found == pytest.approx(total / mass, rel=1e-5)


def test_a_few_steps_lower_the_loss_and_an_interrupted_run_goes_on(tmp_path: Path) -> None:
    model, _, history = pretrain_mail_base(SMALL)
    assert len(history) == 8
    assert history[-1]["loss"] < history[1]["loss"] - 0.3, "the first part is of repeats"
    calls = []

    def stop(done: int, _planned: int) -> None:
        calls.append(done)
        if done == 2:
            raise KeyboardInterrupt

    original = mail_base.Loop
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mail_base, "Loop", lambda *a, **k: original(*a, **k, progress=stop))
        with pytest.raises(KeyboardInterrupt):
            pretrain_mail_base(SMALL, checkpoint=tmp_path / "state.safetensors")
    again, _, rows = pretrain_mail_base(SMALL, checkpoint=tmp_path / "state.safetensors")
    assert [row["loss"] for row in rows] == [row["loss"] for row in history]
    for name, weight in model.state_dict().items():
        assert weight.equal(again.state_dict()[name]), name


def test_a_base_is_kept_in_half_the_bytes_and_reads_again(tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(mail_base.judge_mail_base.__kwdefaults__, "seeds", [900])
        patch.setitem(mail_base.judge_mail_base.__kwdefaults__, "n", 2)
        record = keep_mail_base(tmp_path / "base", SMALL)
    assert {path.name for path in tmp_path.iterdir()} == {"base"}
    assert json.loads((tmp_path / "base" / "record.json").read_text()) == record
    with pytest.warns(RuntimeWarning, match="kept as BF16"):
        model = load_language_model(tmp_path / "base")
    assert weights_digest(model) == record["weights"]
    assert (tmp_path / "base" / "model.safetensors").stat().st_size < 2.2 * model.num_parameters()
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "base")
    assert encode(tokenizer, [Prompt("a")], ["b"]).rows.tokens.tolist()[0][0] == SPECIALS.index("<|user|>")
    assert {"style, 0 mails", "style, 2 mails", "content, 2 mails", "fact, 1 mails"} <= record["held-out persons"].keys()
    with pytest.raises(FileExistsError):
        keep_mail_base(tmp_path / "base", SMALL)
