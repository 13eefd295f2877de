"""Rows of token ids: padding is what lies behind a text, whatever stands there, and anything with the four fields will do."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from effnotes.datasets.worlds import World
from effnotes.models.answers import Questions, answer, answer_log_likelihood, answer_log_probabilities, read
from effnotes.models.language import build_language_model
from effnotes.models.rows import Rows

TEXTS = [[5, 1, 1, 7], [1, 9, 1, 1, 2, 1], [3, 1]]  # prompts and answers alike have token 1
ANSWER, ANSWER_LENGTH = [2, 3, 1], [2, 3, 1]


def rows_padded_with(token: int, width: int = 6) -> SimpleNamespace:
    return SimpleNamespace(
        tokens=np.array([text + [token] * (width - len(text)) for text in TEXTS], dtype=np.int32),
        length=np.array([len(text) for text in TEXTS]),
        answer=np.array(ANSWER),
        answer_length=torch.tensor(ANSWER_LENGTH),  # arrays or tensors
    )


@pytest.fixture(scope="module")
def model() -> nn.Module:
    model = build_language_model("neox-32x2", 12, seed=0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(20 if parameter.ndim > 1 else 1)
    return model


def test_padding_is_what_lies_behind_the_length() -> None:
    rows = Rows.of(rows_padded_with(1))
    assert [row[mask].tolist() for row, mask in zip(rows.tokens, rows.is_text, strict=True)] == TEXTS
    asked = [row[mask].tolist() for row, mask in zip(rows.tokens, rows.is_answer, strict=True)]
    assert asked == [[1, 7], [1, 2, 1], [1]]
    assert len(rows) == 3


def test_no_result_depends_on_what_stands_in_the_padding(model) -> None:
    def results(token: int, width: int) -> list[np.ndarray]:
        rows = rows_padded_with(token, width)
        answers, reading = answer(model, rows, batch_size=2), read(model, rows)
        whole = Questions.of(rows, rows).ask(model, 3)
        inside = reading.inside
        by_rows = answer_log_likelihood(model, Rows.of(rows)).detach().numpy()
        return [answers.exact, answers.probability, whole.probability, reading.log_p[inside], reading.is_greedy[inside], by_rows]

    expected = results(1, 6)
    for token, width in ((0, 6), (11, 9)):
        for found, wanted in zip(results(token, width), expected, strict=True):
            assert found == pytest.approx(wanted, rel=1e-5)


def test_no_rows_have_no_answers(model) -> None:
    none = Rows.of(rows_padded_with(1)).take(slice(0, 0))
    assert len(Questions.of(none).ask(model, 3).exact) == len(answer(model, none).exact) == 0


def test_answers_are_those_of_a_loop(model) -> None:
    found = answer(model, rows_padded_with(1)).probability
    table = answer_log_probabilities(model, rows_padded_with(1))
    for row, (text, start) in enumerate(zip(TEXTS, ANSWER, strict=True)):
        log_p = [model(input_ids=torch.tensor([text[:at]])).logits[0, -1].log_softmax(0) for at in range(start, len(text))]
        product = np.prod([float(each[token].detach().exp()) for each, token in zip(log_p, text[start:], strict=True)])
        assert found[row] == pytest.approx(product, rel=1e-4)
        assert table[row, len(log_p) - 1] == pytest.approx(log_p[-1].detach().numpy(), rel=1e-4, abs=1e-5)


def test_parts_are_joined_and_padded_to_the_longest() -> None:
    world = World(6, 2, 4, templates={"repeats": 1.0}, repeats=1)
    sentences = world.encode(world.facts(), "repeats")
    rows = Rows.of(rows_padded_with(1, 12), sentences)
    assert rows.tokens.shape == (3 + len(sentences), max(12, sentences.tokens.shape[1]))
    assert rows.take(slice(3, None)).length.tolist() == sentences.length.tolist()
    given = rows_padded_with(1)
    Rows.of(given).tokens.zero_()
    assert given.tokens.any()


@pytest.mark.parametrize(
    "changes",
    [
        {"answer": [0, 3, 1]},  # nothing before it
        {"answer_length": [0, 3, 1]},
        {"length": [3, 6, 2]},  # the first answer ends behind its text
        {"length": [4, 7, 2]},  # a text longer than its row
        {"length": [4, 6]},
    ],
)
def test_answers_outside_their_texts_are_refused(changes) -> None:
    with pytest.raises(ValueError, match=r"an answer must have|of shape \(3,\)"):
        Rows.of(SimpleNamespace(**vars(rows_padded_with(1)) | changes))
