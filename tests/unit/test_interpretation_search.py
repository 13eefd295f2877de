"""The search for levels, against an exhaustive one and against traces that are made one by one."""

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from effnotes.interpretation import FoundLevels, SolvedLevels, trace, tracing
from effnotes.models import build_model
from effnotes.models.images import normalize
from effnotes.pruning.layerwise import solve_layer_batch

IMAGES = torch.randint(0, 256, (4, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(5))
GRID = (0.0, 0.5, 0.9)
GIVEN: dict[str, Any] = {"n": 3, "augment": "small", "seed": 2}


@pytest.fixture(scope="module")
def model() -> nn.Module:
    model = build_model("resnet8", 10, image_size=32, width=4, seed=0).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(3 if parameter.ndim > 1 else 1)
    return model


@pytest.fixture(scope="module")
def solved(model: nn.Module) -> SolvedLevels:
    return SolvedLevels(model, IMAGES, ["blocks.1", "blocks.2", "fc"], grid=GRID, **GIVEN)


def flatness(model: nn.Module, number: int) -> float:
    """A score that pruning raises, by what the pruned model answers alone."""
    with torch.no_grad():
        return -float(model(normalize(IMAGES[number, None])).std())


def one_by_one(model: nn.Module, levels: dict[str, float]) -> tuple[float, float]:
    """Mean score and agreement, each image traced anew."""
    scores, agreements = [], []
    for number, image in enumerate(IMAGES):
        found = trace(model, image, levels, **GIVEN)
        with found.applied():
            scores.append(flatness(model, number))
        agreements.append(found.agreement)
    return float(np.mean(scores)), float(np.mean(agreements))


@pytest.mark.parametrize("min_agreement", [0.0, 0.75, 1.0])
def test_one_group_is_searched_exhaustively(model: nn.Module, min_agreement: float) -> None:
    grid = (0.3, 0.6, 0.8, 0.95)
    found = SolvedLevels(model, IMAGES, ["blocks"], grid=grid, **GIVEN).search(flatness, min_agreement)
    every = {level: one_by_one(model, {"blocks": level}) for level in (0.0, *grid)}
    allowed = {level: score for level, (score, agreement) in every.items() if agreement >= min_agreement}
    best = max(allowed, key=lambda level: allowed[level])
    assert found.levels == {"blocks": best}
    assert (found.score, found.agreement) == pytest.approx(every[best], rel=1e-5)
    assert list(found.path["level"]) == [0.0, *grid]
    for row in found.path.itertuples():
        assert row.agreement == every[row.level][1]
        assert np.isnan(row.score) == (row.agreement < min_agreement)


def test_levels_that_disagree_are_not_chosen(model: nn.Module, solved: SolvedLevels) -> None:
    """On these images the constraint decides, or the test would say nothing."""
    free, held = solved.search(flatness, 0.0), solved.search(flatness, 1.0)
    assert free.agreement < 1 == held.agreement
    assert free.score > held.score >= one_by_one(model, {"fc": 0.0})[0] - 1e-5


def test_groups_are_searched_from_the_last_to_the_first_with_the_weights_of_traces(model: nn.Module, solved: SolvedLevels) -> None:
    """Each step against traces made anew at the same levels, of all layers together."""
    found = solved.search(flatness, 0.5)
    levels: dict[str, float] = {}
    for group, rows in itertools.groupby(found.path.itertuples(), key=lambda row: row.group):
        tried = {row.level: row for row in rows}
        expected = {level: one_by_one(model, levels | {group: level}) for level in GRID}
        assert list(tried) == list(GRID)
        for level, (score, agreement) in expected.items():
            assert tried[level].agreement == agreement
            assert agreement < 0.5 or tried[level].score == pytest.approx(score, rel=1e-5)
        levels[group] = max((level for level in GRID if expected[level][1] >= 0.5), key=lambda level: expected[level][0])
    assert list(levels) == ["fc", "blocks.2", "blocks.1"]
    assert found.levels == levels
    assert any(levels.values())


def test_of_equal_scores_the_lowest_level_is_taken(solved: SolvedLevels) -> None:
    found = solved.search(lambda model, number: 1.0, 0.0)
    assert found == FoundLevels(dict.fromkeys(solved.groups, 0.0), 1.0, 1.0, found.path)


def test_a_layer_is_solved_once_for_an_image_and_a_level_whatever_is_searched(
    model: nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[tuple[int, float]] = []

    def counted(layer: Any, gram: Tensor, level: float, **named: Any) -> Any:
        calls.extend([(id(layer), level)] * len(gram))
        return solve_layer_batch(layer, gram, level, **named)

    monkeypatch.setattr(tracing, "solve_layer_batch", counted)
    solved = SolvedLevels(model, IMAGES[:2], ["blocks.2", "fc"], grid=GRID, **GIVEN)
    assert len(calls) == 2 * 4 * 2
    assert len(set(calls)) == 4 * 2
    solved.search(flatness, 0.0)
    solved.search(flatness, 1.0)
    assert len(calls) == 16


def test_a_bad_score_leaves_the_model_as_it_was(model: nn.Module, solved: SolvedLevels) -> None:
    before = [id(parameter) for parameter in model.parameters()]
    for score, message in ((lambda *_: np.nan, "score of image 0 is nan"), (lambda *_: {}["x"], "x")):
        with pytest.raises((ValueError, KeyError), match=message):
            solved.search(score)
    assert [id(parameter) for parameter in model.parameters()] == before
    with pytest.raises(ValueError, match=r"min_agreement=1.5: must be from 0.0 to 1.0"):
        solved.search(flatness, 1.5)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"images": IMAGES[0]}, "images"),
        ({"groups": []}, "give names of modules"),
        ({"groups": ["block"]}, "Did you mean 'blocks'"),
        ({"groups": ["fc", "blocks.1", "blocks"]}, "'blocks' holds 'blocks.1'"),
        ({"groups": ["fc", "fc"]}, "'fc' holds 'fc'"),
        ({"grid": (0.5, 1.0)}, r"levels\['fc'\]=1.0"),
        ({"grid": (0.5, -1)}, "grid=-1"),
        ({"grid": (0.0,)}, "a level above 0"),
        ({"n": 0}, "n=0"),
    ],
)
def test_bad_arguments_are_refused_before_any_layer_is_solved(
    model: nn.Module, monkeypatch: pytest.MonkeyPatch, given: dict[str, Any], message: str
) -> None:
    monkeypatch.setattr(tracing, "layer_statistics", None)
    named: dict[str, Any] = {"images": IMAGES, "groups": ["fc"], "grid": GRID, **GIVEN} | given
    with pytest.raises(ValueError, match=message):
        SolvedLevels(model, **named)
