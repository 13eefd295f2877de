"""Faces of ten exclusive classes: one attribute each, regions against the geometry of a face, and reproducibility."""

from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

from effnotes.datasets import FACE_CLASSES, RegionData, face_classes, make_face_classes
from effnotes.datasets.faces import NAMES

N = 1500
# Where each attribute may show, on [-1, 1] with y pointing down: |x| from, |x| to, y from, y to; written down from the drawing.
BOXES = {
    "Smile": (0.0, 0.24, 0.2, 0.6),
    "Glasses": (0.0, 0.46, -0.3, 0.14),
    "Hat": (0.0, 0.66, -0.94, -0.44),
    "Light_Hair": (0.0, 0.8, -0.94, 0.95),
    "Big_Nose": (0.0, 0.2, 0.01, 0.27),
    "Bushy_Brows": (0.1, 0.38, -0.42, -0.28),
    "Rosy": (0.23, 0.49, 0.07, 0.33),
    "Stubble": (0.0, 0.66, 0.26, 0.86),
    "Earrings": (0.41, 0.77, 0.14, 0.34),
    "Narrow_Eyes": (0.09, 0.39, -0.27, 0.11),
}
SLACK = 0.06 + 2 / 32  # the shift of a face, and the pixel over which an edge fades


@pytest.fixture(scope="module")
def drawn() -> RegionData:
    return make_face_classes(N, 20, 30, seed=2024)


@pytest.mark.parametrize("name", FACE_CLASSES)
def test_a_region_lies_where_the_attribute_is_drawn(drawn: RegionData, name: str) -> None:
    """Every pixel of every region, and a region in every image."""
    of_class = drawn.regions["train"][drawn.data.splits["train"].labels == FACE_CLASSES.index(name)]
    assert (of_class.sum((1, 2)) >= 8).all()
    _, rows, columns = of_class.nonzero().T
    x, y = ((columns + 0.5) / 16 - 1).abs(), (rows + 0.5) / 16 - 1
    low_x, high_x, low_y, high_y = BOXES[name]
    assert ((x >= low_x - SLACK) & (x <= high_x + SLACK) & (y >= low_y - SLACK) & (y <= high_y + SLACK)).all()


def test_a_face_has_clear_evidence_for_one_attribute(monkeypatch: pytest.MonkeyPatch) -> None:
    """One local attribute for and nine against, none near the middle; round and oval faces in every class alike."""
    seen: list[Any] = []
    draw = face_classes.draw_images
    monkeypatch.setattr(face_classes, "draw_images", lambda evidence, *rest: seen.append(evidence) or draw(evidence, *rest))
    labels = make_face_classes(N, 1, 1, seed=5).data.splits["train"].labels.numpy()
    evidence, flipped = seen[:2]
    local = [NAMES.index(name) for name in FACE_CLASSES]
    assert np.array_equal(evidence[:, local] > 0, np.eye(10, dtype=bool)[labels])
    assert (np.abs(evidence[:, local]) >= 2).all()
    assert (flipped[:, local] <= -2).all()
    assert np.array_equal(np.abs(evidence), np.abs(flipped))
    for name in ("Round", "Oval"):
        column = evidence[:, NAMES.index(name)]
        assert stats.kstest(column, stats.uniform(-3.5, 7).cdf).pvalue > 1e-3
        assert stats.kruskal(*(column[labels == k] for k in range(10))).pvalue > 1e-3


def test_the_region_is_what_changes_beyond_the_noise(drawn: RegionData, monkeypatch: pytest.MonkeyPatch) -> None:
    """By loops over a few images, from the two drawings themselves."""
    pairs: list[torch.Tensor] = []
    draw = face_classes.draw_images

    def keep(*given: Any) -> torch.Tensor:
        pairs.append(draw(*given))
        return pairs[-1]

    monkeypatch.setattr(face_classes, "draw_images", keep)
    found = make_face_classes(3, 1, 1, seed=2024)
    for image, region in enumerate(found.regions["train"]):
        for row, column in np.ndindex(32, 32):
            changes = [abs(int(pairs[0][image, c, row, column]) - int(pairs[1][image, c, row, column])) for c in range(3)]
            assert bool(region[row, column]) == (max(changes) > 16)
    assert torch.equal(found.data.splits["train"].images, drawn.data.splits["train"].images[:3])
    assert torch.equal(found.regions["train"], drawn.regions["train"][:3])


def test_classes_are_equally_likely_and_seeds_and_splits_differ(drawn: RegionData) -> None:
    """No class more often than chance allows; nothing drawn twice."""
    train = drawn.data.splits["train"]
    assert stats.chisquare(torch.bincount(train.labels, minlength=10).numpy()).pvalue > 1e-3
    assert train.images.shape == (N, 3, 32, 32)
    assert drawn.regions["val"].shape == (20, 32, 32)
    assert not torch.equal(train.images[:20], drawn.data.splits["val"].images)
    assert not torch.equal(make_face_classes(20, 1, 1, seed=1).data.splits["train"].images, train.images[:20])


@pytest.mark.parametrize("bad", [{"num_train": 0}, {"num_test": 1.5}, {"seed": -1}, {"image_size": 16}])
def test_numbers_out_of_range_are_refused(bad: dict[str, Any]) -> None:
    """The message names the argument."""
    with pytest.raises(ValueError, match=next(iter(bad))):
        make_face_classes(**{"num_train": 5, "num_val": 5, "num_test": 5, "seed": 0} | bad)
