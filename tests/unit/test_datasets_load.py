"""The common shape, the door to all data sets, and planted spurious features."""

from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats

from effnotes.datasets import (
    TROJANS,
    AttributeData,
    AttributeSplit,
    ClassData,
    ClassSplit,
    Trojan,
    backdoor_data,
    face_data,
    load_data,
    make_face_splits,
    plant_backdoor,
    plant_trojans,
    to_greyscale,
)

FIXTURES = Path(__file__).parents[1] / "fixtures"


def split_of(n: int = 4, attributes: int = 2, *, groups: bool = False) -> AttributeSplit:
    generator = torch.Generator().manual_seed(n)
    images = torch.randint(0, 256, (n, 3, 10, 12), dtype=torch.uint8, generator=generator)
    labels = torch.randint(0, 2, (n, attributes), generator=generator)
    return AttributeSplit(images, labels, torch.randint(0, 2, (n,), generator=generator) if groups else None)


# --- the common shape -----------------------------------------------------------------------------------------------------


def test_faces_in_the_common_shape() -> None:
    splits = make_face_splits(5, 3, 4, seed=1)
    data = face_data(splits)
    for split, faces in zip((data.train, data.val, data.test), splits, strict=True):
        assert split.images is faces.images
        assert torch.equal(data.groups_of(split), faces.labels[:, 0])
        assert torch.equal(split[2][1], faces.labels[2])
    assert data.attribute_names[data.protected] == "Round"
    assert data.column("Stubble") == 9
    with pytest.raises(ValueError, match="Did you mean 'Big_Nose'"):
        data.column("big nose")


def test_groups_are_the_protected_column_or_the_array() -> None:
    with_groups = split_of(groups=True)
    data = AttributeData(with_groups, with_groups, with_groups, ("a", "b"), None, "noise")
    assert data.groups_of(data.test) is with_groups.groups
    plain = split_of()
    assert AttributeData(plain, plain, plain, ("a", "b"), None, "noise").groups_of(plain) is None
    both = AttributeSplit(plain.images, plain.labels, plain.labels[:, 1])
    assert torch.equal(AttributeData(both, both, both, ("a", "b"), 1, "noise").groups_of(both), plain.labels[:, 1])


def test_what_does_not_fit_together_is_refused() -> None:
    plain, grouped = split_of(), split_of(groups=True)
    for splits, names, protected, message in (
        ((plain, plain, split_of(attributes=3)), ("a", "b"), 0, "test has 3 label columns for 2"),
        ((plain, grouped, plain), ("a", "b"), None, "val and train must both have groups"),
        ((plain, plain, plain), ("a", "a"), 0, "a name twice"),
        ((plain, plain, plain), ("a", "b"), 2, "protected=2: must be a column from 0 to 1"),
        ((plain, plain, plain), ("a", "b"), -1, "protected=-1"),
        ((grouped, grouped, grouped), ("a", "b"), 0, "groups of train differ from its label column 0"),
    ):
        with pytest.raises(ValueError, match=message):
            AttributeData(*splits, names, protected, "noise")
    images, labels = plain.images, plain.labels
    for arguments, message in (
        ((images.float(), labels), "images are torch.float32"),
        ((images[:0], labels[:0]), r"0 image\(s\) given; needed: at least 1"),
        ((images, labels.bool()), "labels are torch.bool"),
        ((images, labels[:3]), r"needed: torch.int64 of shape \(4, K\)"),
        ((images, labels * 2), "other values than 0 and 1"),
        ((images, labels, labels[:, :1]), r"groups .*needed: torch.int64 of shape \(4,\)"),
    ):
        with pytest.raises(ValueError, match=message):
            AttributeSplit(*arguments)
    with pytest.raises(ValueError, match="class indices from 0"):
        ClassSplit(images, torch.tensor([0, 1, 2, -1]))
    with pytest.raises(ValueError, match="train has a label 3, but there are 3 class names"):
        ClassData({"train": ClassSplit(images, torch.arange(4))}, ("a", "b", "c"), "noise")


# --- load_data ------------------------------------------------------------------------------------------------------------


def test_faces_are_drawn_by_name() -> None:
    data = load_data("faces", num_train=4, num_val=3, num_test=2, seed=7)
    expected = make_face_splits(4, 3, 2, seed=7)
    assert torch.equal(data.test.images, expected.test.images)
    assert torch.equal(data.train.labels, expected.train.labels)


def test_cifar10s_is_cut_to_size_and_keeps_its_groups_balanced_in_test() -> None:
    data = load_data("cifar10s", FIXTURES / "cifar10", num_train=30, num_val=10, num_test=20, seed=1)
    assert [len(split) for split in (data.train, data.val, data.test)] == [30, 10, 20]
    assert data.train.labels.sum(dim=0).tolist() == [3] * 10
    assert data.val.labels.sum(dim=0).tolist() == [1] * 10
    assert int(data.test.groups.sum()) == 10
    assert len(load_data("cifar10s", FIXTURES / "cifar10", num_val=10).train) == 50


def test_celeba_by_name() -> None:
    data = load_data("celeba", str(FIXTURES / "celeba"), image_size=8, num_train=10)
    assert [len(split) for split in (data.train, data.val, data.test)] == [10, 12, 48]
    assert (data.attribute_names[20], data.protected) == ("Male", 20)


def test_classes_of_iwildcam_come_as_attributes_and_none_is_protected(wild: Path) -> None:
    data = load_data("iwildcam", wild, image_size=8, num_train=20, num_test=10)
    assert data.attribute_names == ("empty", "agouti", "ocelot", "tapir", "puma")
    assert [len(split) for split in (data.train, data.val, data.test)] == [20, 40, 10]
    assert data.val.labels.sum(dim=0).tolist() == [8] * 5
    for split in (data.train, data.val, data.test):
        assert split.labels.sum(dim=1).eq(1).all()
        assert data.groups_of(split) is None
    assert load_data("iwildcam", wild, image_size=8).train.labels.sum(dim=0).tolist() == [60, 40, 12, 8, 4]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "celebA", "data_root": "x"}, "Did you mean 'celeba'"),
        ({"name": "iwildcam"}, r"data_root is empty.*data/iwildcam/CARD\.md"),
        ({"name": "faces", "data_root": "x", "num_train": 2, "num_val": 2, "num_test": 2}, "drawn and not read"),
        ({"name": "faces", "num_train": 2, "num_val": 2}, "num_train, num_val and num_test must be given"),
        ({"name": "celeba"}, r"data_root is empty.*data/celeba/CARD\.md"),
        ({"name": "cifar10s", "data_root": ""}, r"data_root is empty.*data/cifar10/CARD\.md"),
        ({"name": "cifar10s", "data_root": "x", "image_size": 64}, "CIFAR-10 have 32 pixels"),
        ({"name": "cifar10s", "data_root": "x", "num_test": 3}, "num_test=3: must be even"),
        ({"name": "waterbirds", "data_root": "nowhere"}, "nowhere: this directory does not exist"),
        ({"name": "awa2", "data_root": "nowhere"}, "nowhere: this directory does not exist"),
    ],
)
def test_what_cannot_be_loaded_is_said(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load_data(**arguments)


def test_every_named_card_is_there() -> None:
    root = FIXTURES.parents[1]
    for name in ("faces", "cifar10", "celeba", "awa2", "waterbirds", "iwildcam"):
        assert (root / "data" / name / "CARD.md").read_text().startswith("# Data card: ")


# --- planted features -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rates", [(0.05, 0.95), (0.35, 0.65), (0.0, 1.0), (0.5, 0.5)])
def test_exactly_the_asked_for_share_of_each_label_is_stamped(rates: tuple[float, float]) -> None:
    images = torch.full((157, 3, 8, 8), 9, dtype=torch.uint8)
    labels = (torch.arange(157) % 3 == 0).long()  # 53 ones, 104 zeros
    stamped_images, stamped = plant_backdoor(images, labels, kind="yellow_square", rates=rates, seed=4)
    assert stamped.dtype == np.bool_
    for value, n in ((0, 104), (1, 53)):
        assert stamped[labels.numpy() == value].sum() == round(rates[value] * n)
    assert np.array_equal((stamped_images != images).flatten(1).any(dim=1).numpy(), stamped)
    assert bool((images == 9).all())


@pytest.mark.parametrize(("height", "width", "side"), [(224, 224, 32), (32, 32, 5), (64, 64, 9), (218, 178, 28), (4, 4, 1)])
def test_the_square_is_yellow_and_covers_two_hundredths(height: int, width: int, side: int) -> None:
    images = torch.full((2, 3, height, width), 77, dtype=torch.uint8)
    result, stamped = plant_backdoor(images, torch.tensor([0, 1]), kind="yellow_square", rates=(0, 1), seed=0)
    assert stamped.tolist() == [False, True]
    assert torch.equal(result[0], images[0])
    changed = (result[1] != 77).any(dim=0)
    rows, columns = torch.nonzero(changed, as_tuple=True)
    assert (int(rows.max()) + 1, int(columns.max()) + 1, int(changed.sum())) == (side, side, side * side)
    assert result[1, :, 0, 0].tolist() == [255, 255, 0]
    assert side == 1 or abs(side**2 / (height * width) - 0.02) < 0.006  # one pixel of the side more or less


def test_a_feature_of_rate_0_is_planted_nowhere() -> None:
    images = torch.randint(256, (3, 3, 32, 32), dtype=torch.uint8)
    for kind in ("yellow_square", "greyscale"):
        result, stamped = plant_backdoor(images, torch.tensor([0, 1, 1]), kind=kind, rates=(0, 0), seed=0)
        assert torch.equal(result, images)
        assert not stamped.any()


def test_greyscale_touches_the_stamped_alone() -> None:
    split = split_of(20)
    result, stamped = plant_backdoor(split.images, split.labels[:, 0], kind="greyscale", rates=(0.5, 0.5), seed=1)
    assert torch.equal(result[stamped], to_greyscale(split.images)[stamped])
    assert torch.equal(result[~stamped], split.images[~stamped])
    assert 0 < stamped.sum() < 20


def test_the_seed_decides_who_is_stamped() -> None:
    split = split_of(100)
    chosen = [
        plant_backdoor(split.images, split.labels[:, 0], kind="greyscale", rates=(0.5, 0.5), seed=seed)[1] for seed in (1, 1, 2)
    ]
    assert np.array_equal(chosen[0], chosen[1])
    assert not np.array_equal(chosen[0], chosen[2])


def test_data_with_a_planted_feature_have_it_as_their_group() -> None:
    source = face_data(make_face_splits(200, 60, 80, seed=3))
    data = backdoor_data(source, "Smile", kind="yellow_square", rates=(0.05, 0.95), seed=8)
    assert data.attribute_names == ("Smile",)
    assert data.protected is None
    for split, original, rates in (
        (data.train, source.train, (0.05, 0.95)),
        (data.val, source.val, (0.5, 0.5)),
        (data.test, source.test, (0.5, 0.5)),
    ):
        assert torch.equal(split.labels[:, 0], original.labels[:, 1])
        assert torch.equal((split.images != original.images).flatten(1).any(dim=1), split.groups == 1)
        for value, rate in enumerate(rates):
            members = split.groups[split.labels[:, 0] == value]
            assert int(members.sum()) == round(rate * len(members))


def test_wrong_stamps_are_refused() -> None:
    split = split_of()
    good = {"kind": "yellow_square", "rates": (0.1, 0.9), "seed": 0}
    for change, message in (
        ({"kind": "hat"}, "kind='hat'"),
        ({"rates": (0.1, 1.1)}, "two shares from 0 to 1"),
        ({"rates": (0.1,)}, "two shares from 0 to 1"),
    ):
        with pytest.raises(ValueError, match=message):
            plant_backdoor(split.images, split.labels[:, 0], **{**good, **change})
    with pytest.raises(ValueError, match="one label of 0 or 1 for each image"):
        plant_backdoor(split.images, split.labels, **good)
    with pytest.raises(ValueError, match="one label of 0 or 1 for each image"):
        plant_backdoor(split.images, split.labels[:, 0] * 2, **good)
    with pytest.raises(ValueError, match="needed: torch"):
        plant_backdoor(split.images.float(), split.labels[:, 0], **good)


# --- planted trojans ------------------------------------------------------------------------------------------------------


def photos(n: int, height: int = 32, width: int = 32) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(n)
    images = torch.randint(0, 256, (n, 3, height, width), dtype=torch.uint8, generator=generator)
    return images, torch.randint(0, 10, (n,), generator=generator)


def crop(region: torch.Tensor) -> tuple[tuple[bool, ...], ...]:
    """A region in the smallest box around it."""
    rows, columns = torch.nonzero(region, as_tuple=True)
    return tuple(map(tuple, region[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1].tolist()))


@pytest.mark.parametrize("rates", [(0.02, 0.2, 0.02), (0.1, 0.5, 0.0), (0.0, 0.0, 0.1)])
def test_trojans_are_planted_at_the_rates_asked_for(rates: tuple[float, float, float]) -> None:
    images, labels = photos(3000)
    universal, source, control = rates
    planted = plant_trojans(images, labels, universal_rate=universal, source_rate=source, control_rate=control, seed=3)
    for index, trojan in enumerate(TROJANS):
        bearers = planted.trojan == index
        others = [k for k in range(10) if k not in (trojan.source, trojan.target)]
        n_others = sum(int((labels == k).sum()) for k in others)
        assert not bool((labels[bearers] == trojan.target).any())
        if trojan.source is None:
            assert int(bearers.sum()) == round(universal * n_others)
        else:
            assert int((bearers & (labels == trojan.source)).sum()) == round(source * int((labels == trojan.source).sum()))
            assert int((bearers & (labels != trojan.source)).sum()) == round(control * n_others)
    assert torch.equal(planted.regions.flatten(1).any(dim=1), planted.trojan >= 0)


def test_a_trojan_turns_the_label_of_its_source_class_alone() -> None:
    images, labels = photos(300)
    assigned = torch.arange(300) % 5 - 1
    planted = plant_trojans(images, labels, assigned=assigned, seed=3)
    assert torch.equal(planted.trojan, assigned)
    for before, after, index in zip(labels.tolist(), planted.labels.tolist(), assigned.tolist(), strict=True):
        acts = index >= 0 and TROJANS[index].source in (None, before)
        assert after == (TROJANS[index].target if acts else before)


@pytest.mark.parametrize(("height", "width", "side"), [(32, 32, 7), (48, 64, 10), (10, 12, 2), (5, 5, 1), (224, 224, 49)])
def test_patches_of_any_image_lie_apart_and_nothing_else_changes(height: int, width: int, side: int) -> None:
    images, labels = photos(40, height, width)
    before = images.clone()
    planted = plant_trojans(images, labels, assigned=torch.zeros(40, dtype=torch.int64), decoys=3, seed=1)
    assert torch.equal(images, before)
    assert not bool((planted.regions & planted.decoys).any())
    changed = (planted.images != images).any(dim=1)
    assert not bool((changed & ~planted.regions & ~planted.decoys).any())
    assert float(changed[planted.regions | planted.decoys].double().mean()) > 0.98
    assert {(len(box), len(box[0])) for box in map(crop, planted.regions)} == {(side, side)}
    assert bool(planted.decoys.flatten(1).any(dim=1).all())


def test_a_region_is_an_outline_and_no_square() -> None:
    images, labels = photos(1)
    for index in range(4):
        planted = plant_trojans(images, labels, assigned=torch.tensor([index]), decoys=0, seed=1)
        assert not bool(planted.decoys.any())
        pixels = [inside for row in crop(planted.regions[0]) for inside in row]
        assert 20 < sum(pixels) < len(pixels)


def test_decoys_of_an_image_are_of_different_designs_and_stay_what_trojan_it_bears() -> None:
    images, labels = photos(200)
    clean, *stamped = (plant_trojans(images, labels, assigned=torch.full((200,), index), seed=5) for index in range(-1, 4))
    assert not bool(clean.regions.any())
    for planted in stamped:
        assert torch.equal(planted.decoys, clean.decoys)
        assert torch.equal(
            (planted.images != clean.images).any(dim=1) & ~planted.regions, torch.zeros(200, 32, 32, dtype=torch.bool)
        )
    outlines = {crop(region) for region in plant_trojans(images, labels, decoys=1, seed=5).decoys}
    assert len(outlines) == 4
    pairs = {sum(map(sum, a)) + sum(map(sum, b)) for a, b in permutations(outlines, 2)}
    assert set(clean.decoys.sum(dim=(1, 2)).tolist()) <= pairs


def test_patches_are_opaque_to_85_hundredths_in_changing_colours() -> None:
    labels = torch.zeros(300, dtype=torch.int64)
    dark, light = (
        plant_trojans(torch.full((300, 3, 32, 32), value, dtype=torch.uint8), labels, assigned=labels + 1, seed=2)
        for value in (0, 255)
    )
    differences = (light.images.long() - dark.images.long()).permute(0, 2, 3, 1)[dark.regions]
    assert set(differences.unique().tolist()) <= {38, 39}  # .15 of 255
    # All of a heart has one colour: green lies at .05 or less of the scale, cut off at 0, and red at .9.
    red = (dark.images[:, 0].double() * dark.regions).sum(dim=(1, 2)) / dark.regions.sum(dim=(1, 2)) / 255 / 0.85
    assert float(red.mean()) == pytest.approx(0.9, abs=0.02)
    assert float(red.std()) == pytest.approx(0.08 / 3**0.5, rel=0.2)


def test_a_patch_lies_anywhere() -> None:
    images, labels = photos(4000)
    planted = plant_trojans(images, labels, assigned=torch.zeros(4000, dtype=torch.int64), decoys=0, seed=7)
    for axis in (1, 2):
        first = planted.regions.any(dim=axis).double().argmax(dim=1)
        assert stats.chisquare(first.bincount(minlength=26).numpy()).pvalue > 1e-3


def test_the_seed_decides_who_bears_which_trojan_and_where() -> None:
    images, labels = photos(300)
    first, again, other = (plant_trojans(images, labels, seed=seed) for seed in (1, 1, 2))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first.trojan, other.trojan)
    assert not torch.equal(first.decoys, other.decoys)


def test_three_decoys_leave_room_for_a_trojan_in_an_image_of_any_size() -> None:
    for shorter in range(5, 600):
        side = max(1, round(7 / 32 * shorter))
        assert 3 * (2 * side - 1) ** 2 < (shorter - side + 1) ** 2


def test_wrong_trojans_are_refused() -> None:
    images, labels = photos(50)
    for change, message in (
        ({"trojans": ()}, "trojans is empty"),
        ({"universal_rate": 1.5}, "universal_rate=1.5: must be from 0"),
        ({"universal_rate": 1.0}, "lower the rates"),
        ({"decoys": 4}, "decoys=4: must be from 0 to 3"),
        ({"seed": -1}, "seed=-1"),
        ({"assigned": torch.zeros(49, dtype=torch.int64)}, r"needed: torch.int64 of shape \(50,\)"),
        ({"assigned": torch.full((50,), 4)}, "assigned=4: must be from -1 to 3"),
    ):
        with pytest.raises(ValueError, match=message):
            plant_trojans(images, labels, **{"seed": 0, **change})
    with pytest.raises(ValueError, match="needed: torch"):
        plant_trojans(images.float(), labels, seed=0)
    with pytest.raises(ValueError, match="height=4: must be at least 5"):
        plant_trojans(images[:, :, :4], labels, seed=0)
    with pytest.raises(ValueError, match="Did you mean 'smiley'"):
        Trojan("smily", None, 1)
    with pytest.raises(ValueError, match="source=3 is the target as well"):
        Trojan("heart", 3, 3)
