import itertools

import numpy as np
import pytest
import torch
from scipy import ndimage
from sklearn.metrics import roc_auc_score

from effnotes.metrics import decoy_auc, deletion, insertion, pixel_auc, pointing_game


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def regions_of(rng, n=6, size=9):
    regions = np.zeros((n, size, size), dtype=bool)
    for region in regions:
        row, column = rng.integers(0, size - 3, 2)
        region[row : row + 3, column : column + 3] = True
    return regions


def test_pixel_auc_is_sklearns_with_and_without_ties(rng):
    regions = regions_of(rng)
    for maps in (rng.normal(size=regions.shape), rng.integers(0, 4, regions.shape)):
        expected = [roc_auc_score(region.ravel(), each.ravel()) for region, each in zip(regions, maps, strict=True)]
        assert pixel_auc(maps, regions) == pytest.approx(expected)
        assert pixel_auc(torch.from_numpy(maps), torch.from_numpy(regions)) == pytest.approx(expected)


def test_pixel_auc_has_no_value_without_inside_or_outside_and_a_half_for_a_constant_map(rng):
    regions = regions_of(rng, n=3)
    regions[0], regions[1] = False, True
    assert pixel_auc(np.ones(regions.shape), regions) == pytest.approx([np.nan, np.nan, 0.5], nan_ok=True)


def test_decoy_auc_looks_at_the_patches_alone(rng):
    regions, decoys = regions_of(rng), regions_of(rng)
    decoys[-1] = regions[-1]  # nothing of the decoy is left
    maps = rng.integers(0, 5, regions.shape).astype(float)
    expected = []
    for each, region, decoy in zip(maps, regions, decoys, strict=True):
        pairs = [(a, b) for a in each[region] for b in each[decoy & ~region]]
        expected.append(np.mean([(a > b) + (a == b) / 2 for a, b in pairs]) if pairs else np.nan)
    assert decoy_auc(maps, regions, decoys) == pytest.approx(expected, nan_ok=True)
    maps[~(regions | decoys)] = 100
    assert decoy_auc(maps, regions, decoys) == pytest.approx(expected, nan_ok=True)


def test_pointing_game_shares_ties_and_leaves_an_empty_region_out():
    maps, regions = np.zeros((4, 2, 2)), np.zeros((4, 2, 2), dtype=bool)
    regions[:3, 0, 0] = True
    maps[0, 0, 0] = maps[1, 1, 1] = 1
    maps[2, 0] = 1  # one of two highest is inside
    assert pointing_game(maps, regions) == pytest.approx([1, 0, 0.5, np.nan], nan_ok=True)
    assert pointing_game(np.zeros((1, 2, 2)), regions[:1]) == pytest.approx([0.25])


def white_in(regions):
    """White on the region, black elsewhere."""
    return (torch.from_numpy(regions)[:, None] * torch.tensor(255, dtype=torch.uint8)).expand(-1, 3, -1, -1).contiguous()


def share_of(regions):
    """A model whose class 1 is as probable as the share of the region's white that it sees."""
    inside = torch.from_numpy(regions)

    def predict(images):  # of several steps, one after the other
        wanted = inside.repeat(len(images) // len(inside), 1, 1)
        seen = (images.double().mean(1) / 255 * wanted).sum((1, 2)) / wanted.sum((1, 2))
        return torch.stack([1 - seen, seen], 1)

    return predict


def test_insertion_and_deletion_of_a_linear_model_have_the_areas_of_its_geometry(rng):
    regions = regions_of(rng, n=4, size=6)  # 9 of 36 pixels
    images, targets = white_in(regions), torch.ones(4, dtype=torch.int64)
    perfect, worst = regions.astype(float), -regions.astype(float)
    base = np.round(255 * 9 / 36) / 255  # the mean colour
    climb = {"perfect": 1 - (9 / 36) / 2, "worst": (9 / 36) / 2}  # 9 of 36 steps up, then level; or level, then up
    for name, maps in (("perfect", perfect), ("worst", worst)):
        area = base + (1 - base) * climb[name]
        given = {"steps": 36, "base": "mean"}
        assert insertion(share_of(regions), images, maps, targets, **given) == pytest.approx([area] * 4)
        assert deletion(share_of(regions), images, maps, targets, **given) == pytest.approx([1 + base - area] * 4)
    random = insertion(share_of(regions), images, rng.normal(size=regions.shape), targets, steps=36)
    assert (random < insertion(share_of(regions), images, perfect, targets, steps=36)).all()
    assert (random > insertion(share_of(regions), images, worst, targets, steps=36)).all()


@pytest.mark.parametrize(("metric", "inserted"), [(insertion, True), (deletion, False)])
def test_insertion_and_deletion_agree_with_loops_over_pixels(rng, metric, inserted):
    images = torch.from_numpy(rng.integers(0, 256, (2, 3, 8, 8), dtype=np.uint8))
    maps = rng.integers(0, 9, (2, 8, 8)).astype(float)  # ties: row by row
    weights = torch.from_numpy(rng.normal(size=(3, 3 * 64)) / 4000)
    targets = torch.tensor([2, 0])

    def predict(batch):
        assert batch.dtype == torch.uint8
        return (batch.flatten(1).double() @ weights.T).softmax(1)

    expected = []
    for image, each, target in zip(images, maps, targets, strict=True):
        blurred = np.stack([ndimage.gaussian_filter(channel.astype(float), 1.0) for channel in image.numpy()])
        blurred = torch.from_numpy(blurred.round().astype(np.uint8))
        canvas, other = (blurred.clone(), image) if inserted else (image.clone(), blurred)
        pixels = sorted(np.ndindex(8, 8), key=lambda pixel: -each[pixel])
        curve = [predict(canvas[None])[0, target]]
        for step in range(1, 11):  # 6.4 pixels a step: those whose rank lies below the step's share
            for rank, (row, column) in enumerate(pixels):
                if rank < step * 6.4:
                    canvas[:, row, column] = other[:, row, column]
            curve.append(predict(canvas[None])[0, target])
        expected.append(float(sum(a + b for a, b in itertools.pairwise(curve)) / 20))
    assert metric(predict, images, maps, targets, steps=10) == pytest.approx(expected)


MAPS, REGIONS = np.zeros((2, 4, 4)), np.zeros((2, 4, 4), dtype=bool)
IMAGES, TARGETS = torch.zeros(2, 3, 4, 4, dtype=torch.uint8), torch.zeros(2, dtype=torch.int64)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: pixel_auc(MAPS[0], REGIONS), "maps are float64 of shape"),
        (lambda: pixel_auc(MAPS * np.nan, REGIONS), "NaN or infinite numbers, first in map 0"),
        (lambda: pointing_game(MAPS, REGIONS.astype(int)), "regions are int64 .* needed: bool"),
        (lambda: decoy_auc(MAPS, REGIONS, REGIONS[:1]), "decoys are bool of shape"),
        (lambda: insertion(None, IMAGES.float(), MAPS, TARGETS), "needed: torch.uint8"),
        (lambda: insertion(None, IMAGES, MAPS[:1], TARGETS), "needed for these images"),
        (lambda: deletion(None, IMAGES, MAPS, TARGETS, steps=17), "steps=17: must be from 1 to 16"),
        (lambda: deletion(None, IMAGES, MAPS, TARGETS, steps=1, base="blurr"), "Did you mean 'blur'"),
        (lambda: deletion(None, IMAGES, MAPS, TARGETS[:1], steps=1), "targets are"),
        (lambda: deletion(lambda x: torch.ones(len(x), 3) * 2, IMAGES, MAPS, TARGETS, steps=1), "put a softmax"),
        (lambda: deletion(lambda x: torch.ones(2), IMAGES, MAPS, TARGETS, steps=1), "predict gives shape"),
    ],
)
def test_bad_input_gets_a_clear_error(call, message):
    with pytest.raises(ValueError, match=message):
        call()
