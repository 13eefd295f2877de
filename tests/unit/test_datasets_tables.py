"""Waterbirds, AwA2 and iWildCam from tiny folders in the format of each, whole and damaged."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from effnotes.core.errors import DataError
from effnotes.datasets import frequency_groups, load_awa2, load_iwildcam, load_waterbirds


def draw(path: Path, colour: tuple[int, int, int], size: tuple[int, int] = (24, 20)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path, quality=95)


def edit(path: Path, change: Callable[[list[str]], None]) -> None:
    lines = path.read_text().split("\n")
    change(lines)
    path.write_text("\n".join(lines))


def colour_of(number: int) -> tuple[int, int, int]:
    return (20 * number, 200, 100)


def red_of(images: torch.Tensor) -> list[int]:
    """Which drawing an image is, read back from its red: JPEG changes it by a level or two."""
    return (images[:, 0].float().mean(dim=(1, 2)) / 20).round().int().tolist()


# --- Waterbirds -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def waterbirds(tmp_path: Path) -> Path:
    root = tmp_path / "waterbird_complete95_forest2water2"
    lines = ["img_id,img_filename,y,split,place,place_filename"]
    for number, (y, split, place) in enumerate([(0, 0, 0), (1, 0, 1), (1, 1, 0), (0, 2, 1), (1, 2, 1), (0, 0, 1), (1, 1, 1)]):
        lines.append(f'{number},00{y}.Bird/{number}.jpg,{y},{split},{place},"/o/ocean, wide/1.jpg"')
        draw(root / f"00{y}.Bird" / f"{number}.jpg", colour_of(number))
    root.joinpath("metadata.csv").write_text("\n".join(lines) + "\n")
    return root


@pytest.mark.parametrize("windows", [False, True])
def test_waterbirds(waterbirds: Path, windows: bool) -> None:
    if windows:
        table = waterbirds / "metadata.csv"
        table.write_bytes(table.read_bytes().replace(b"\n", b"\r\n") + b"\r\n")
    data = load_waterbirds(waterbirds.parent, image_size=8)
    assert data.attribute_names == ("Waterbird",)
    assert data.protected is None
    expected = {"train": ([0, 1, 5], [0, 1, 0], [0, 1, 1]), "val": ([2, 6], [1, 1], [0, 1]), "test": ([3, 4], [0, 1], [1, 1])}
    for name, (numbers, labels, groups) in expected.items():
        split = getattr(data, name)
        assert red_of(split.images) == numbers
        assert split.labels[:, 0].tolist() == labels
        assert split.groups.tolist() == groups
    assert len(load_waterbirds(waterbirds, image_size=8, limit={"train": 2}).train) == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda ls: ls.__setitem__(0, ls[0].replace("place,", "background,")), r"metadata\.csv, line 1: no column 'place'"),
        (lambda ls: ls.__setitem__(2, ls[2] + ",1"), r"metadata\.csv, line 3: 7 cells, but the header has 6"),
        (lambda ls: ls.__setitem__(3, ls[3].replace("jpg,1,", "jpg,2,")), r"line 4: y is '2', but must be one of 0, 1"),
        (lambda ls: ls.__setitem__(1, ls[1].replace("jpg,0,0,", "jpg,0,3,")), r"line 2: split is '3'"),
        (lambda ls: ls.__setitem__(2, ls[2].replace("1.jpg,", "9.jpg,", 1)), r"9\.jpg: this image is missing"),
        (lambda ls: ls.__setitem__(slice(3, None), []), "the split 'val' has no image"),
        (lambda ls: ls.__setitem__(slice(1, None), []), "the split 'train' has no image"),
        (lambda ls: ls.insert(4, ls[1].replace(",0,0,0,", ",0,2,0,")), r"line 5: 000\.Bird/0\.jpg is listed a .* first in line 2"),
        (
            lambda ls: ls.insert(4, ls[1].replace("000.Bird", "./000.Bird")),
            r"line 5: \./000.* is listed a second time, first in line 2",
        ),
        (lambda ls: ls.__setitem__(3, ls[3].replace("/o/", '"/o/')), "line 4: a quotation mark that is opened here is not closed"),
    ],
)
def test_malformed_waterbirds(waterbirds: Path, change: Callable[[list[str]], None], message: str) -> None:
    edit(waterbirds / "metadata.csv", change)
    with pytest.raises(DataError, match=message):
        load_waterbirds(waterbirds, image_size=8)


def test_missing_waterbirds(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"the data are not there(.|\n)*metadata\.csv      with the columns"):
        load_waterbirds(tmp_path, image_size=8)


# --- AwA2 -----------------------------------------------------------------------------------------------------------------

PREDICATES = ("black", "water", "furry", "domestic")
MATRIX = {"antelope": (0, 0, 1, 0), "whale": (1, 1, 0, 0), "cow": (1, 0, 1, 1), "seal": (1, 1, 0, 0), "dog": (0, 0, 1, 1)}
TEST_CLASSES = ("seal", "dog")


@pytest.fixture
def awa2(tmp_path: Path) -> Path:
    root = tmp_path / "Animals_with_Attributes2"
    for number, name in enumerate(MATRIX):
        for image in range(1, 13):
            draw(root / "JPEGImages" / name / f"{name}_{10000 + image}.jpg", colour_of(number))
    for file, names in (("classes.txt", MATRIX), ("predicates.txt", PREDICATES)):
        (root / file).write_text("".join(f"{number:7d}\t{name}\n" for number, name in enumerate(names, start=1)))
    (root / "predicate-matrix-binary.txt").write_text("".join(" ".join(map(str, row)) + " \n" for row in MATRIX.values()))
    (root / "trainclasses.txt").write_text("".join(f"{name}\n" for name in MATRIX if name not in TEST_CLASSES))
    (root / "testclasses.txt").write_text("".join(f"{name}\n" for name in TEST_CLASSES))
    return root


def as_resplit(root: Path) -> None:
    """The layout with a folder for seen and one for unseen classes."""
    for name in MATRIX:
        target = root / ("ood_images" if name in TEST_CLASSES else "train_images")
        target.mkdir(exist_ok=True)
        (root / "JPEGImages" / name).rename(target / name)
    for name in ("JPEGImages",):
        (root / name).rmdir()
    for name in ("trainclasses.txt", "testclasses.txt"):
        (root / name).unlink()


@pytest.mark.parametrize("resplit", [False, True])
def test_awa2(awa2: Path, resplit: bool) -> None:
    if resplit:
        as_resplit(awa2)
    data = load_awa2(awa2.parent, image_size=8)
    assert data.attribute_names == PREDICATES
    assert data.protected == 1
    # Of twelve images of a class the second and the twelfth go to validation.
    assert [len(split) for split in (data.train, data.val, data.test)] == [30, 6, 24]
    rows = list(MATRIX.values())
    for split, classes in ((data.train, {0, 1, 2}), (data.val, {0, 1, 2}), (data.test, {3, 4})):
        drawn = red_of(split.images)
        assert set(drawn) == classes
        assert split.labels.tolist() == [list(rows[number]) for number in drawn]


def test_awa2_limits_are_spread_over_the_classes(awa2: Path) -> None:
    data = load_awa2(awa2, image_size=8, limit=6)
    assert sorted(red_of(data.train.images)) == [0, 0, 1, 1, 2, 2]
    file = awa2 / "predicates.txt"
    file.write_text(file.read_text().replace("water", "watery"))
    with pytest.raises(ValueError, match=r"no attribute to protect 'water'\. Did you mean 'watery'"):
        load_awa2(awa2, image_size=8)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("classes.txt", lambda ls: ls.pop(1), r"classes\.txt, line 2: '3\\tcow' should be the number 2 and a name"),
        ("classes.txt", lambda ls: ls.pop(4), r"matrix-binary\.txt: 5 rows, but classes\.txt lists 4 classes"),
        ("predicates.txt", lambda ls: ls.pop(3), r"matrix-binary\.txt, line 1: needed are 3 values of 0 and 1"),
        ("predicate-matrix-binary.txt", lambda ls: ls.__setitem__(2, "1 0 1 -1"), "line 3: needed are 4 values of 0 and 1"),
        ("trainclasses.txt", lambda ls: ls.__setitem__(1, "orca"), r"trainclasses\.txt, line 2: 'orca' is not in classes\.txt"),
        ("testclasses.txt", lambda ls: ls.__setitem__(0, "cow"), "cow is a training and a test class at once"),
        (
            "trainclasses.txt",
            lambda ls: ls.insert(2, "cow/"),
            r"trainclasses\.txt, line 4: cow is listed a second time, first in line 3",
        ),
        (
            "classes.txt",
            lambda ls: ls.__setitem__(1, "2 ante\u200blope"),
            r"classes\.txt, line 2: antelope is listed a second time",
        ),
        (
            "predicates.txt",
            lambda ls: ls.__setitem__(3, "4\t\u200b"),
            r"predicates\.txt, line 4: .* should be the number 4 and a name",
        ),
        (
            "trainclasses.txt",
            lambda ls: ls.__setitem__(1, "../cow"),
            r"trainclasses\.txt, line 2: '\.\./cow' is not in classes\.txt",
        ),
        ("predicates.txt", lambda ls: ls.__setitem__(3, "4\twater"), r"predicates\.txt, line 4: water is listed a second time"),
    ],
)
def test_malformed_awa2(awa2: Path, name: str, change: Callable[[list[str]], None], message: str) -> None:
    edit(awa2 / name, change)
    with pytest.raises(DataError, match=message):
        load_awa2(awa2, image_size=8)


def test_names_of_attributes_are_no_paths(awa2: Path) -> None:
    edit(awa2 / "predicates.txt", lambda lines: lines.__setitem__(slice(2, 4), ["3\tland//water", "4\t./water"]))
    assert load_awa2(awa2, image_size=8).attribute_names == ("black", "water", "land//water", "./water")


def test_a_class_is_the_same_however_its_accent_is_written(awa2: Path) -> None:
    for file in ("classes.txt", "trainclasses.txt"):
        text = (awa2 / file).read_text()
        (awa2 / file).write_text(text.replace("cow", "co\u0302w" if file == "trainclasses.txt" else "c\u00f4w"))
    (awa2 / "JPEGImages" / "cow").rename(awa2 / "JPEGImages" / "co\u0302w")
    assert len(load_awa2(awa2, image_size=8).train.labels) == 30


@pytest.mark.parametrize("resplit", [False, True])
def test_what_systems_leave_behind_is_no_class_and_no_image(awa2: Path, resplit: bool) -> None:
    if resplit:
        as_resplit(awa2)
    expected = load_awa2(awa2, image_size=8)
    for folder in {path.parent for path in awa2.rglob("*.jpg")}:
        (folder / f"._{folder.name}_10001.jpg").write_bytes(b"\0\5\26\7")
        (folder / ".ipynb_checkpoints").mkdir()
        (folder.parent / ".ipynb_checkpoints").mkdir(exist_ok=True)
    with pytest.warns(RuntimeWarning, match=r"10 hidden \(.*\._") as caught:
        data = load_awa2(awa2, image_size=8)
    assert len(caught) == 1
    for name in ("train", "val", "test"):
        assert torch.equal(getattr(data, name).labels, getattr(expected, name).labels)


def test_missing_parts_of_awa2(awa2: Path) -> None:
    (awa2 / "testclasses.txt").rename(awa2 / "kept")
    with pytest.raises(DataError, match=r"testclasses\.txt: this file is missing"):
        load_awa2(awa2, image_size=8)
    (awa2 / "kept").rename(awa2 / "testclasses.txt")
    (awa2 / "JPEGImages" / "whale").rename(awa2 / "JPEGImages" / "orca")
    with pytest.raises(DataError, match="whale: this folder of images is missing"):
        load_awa2(awa2, image_size=8)
    (awa2 / "JPEGImages").rename(awa2 / "images")
    with pytest.raises(DataError, match="neither JPEGImages nor train_images"):
        load_awa2(awa2, image_size=8)


# --- iWildCam -------------------------------------------------------------------------------------------------------------

WILD_ROWS = [
    ("train", 0), ("train", 1), ("train", 1), ("val", 2), ("test", 0), ("id_val", 1), ("id_test", 0), ("test", 1), ("id_test", 1)
]  # fmt: skip


@pytest.fixture
def iwildcam(tmp_path: Path) -> Path:
    root = tmp_path / "iwildcam_v2.0"
    lines = [",split,filename,location_remapped,datetime,y"]
    for number, (split, y) in enumerate(WILD_ROWS):
        lines.append(f"{number},{split},{number}.jpg,4,2013-01-17 13:21:00.000,{y}")
        draw(root / "train" / f"{number}.jpg", colour_of(number), size=(40, 20))
    (root / "metadata.csv").write_text("\n".join(lines) + "\n")
    (root / "categories.csv").write_text("y,category_id,name\n0,0,empty\n1,372,tayassu pecari\n99999,1,other\n99999,8,another\n")
    return root


def test_iwildcam(iwildcam: Path) -> None:
    data = load_iwildcam(iwildcam.parent, image_size=8)
    assert data.class_names == ("empty", "tayassu pecari", "class 2")
    assert list(data.splits) == ["train", "val", "test", "id_val", "id_test"]
    for name, split in data.splits.items():
        assert split.labels.tolist() == [y for of, y in WILD_ROWS if of == name]
        assert red_of(split.images) == [number for number, (of, _) in enumerate(WILD_ROWS) if of == name]
    (iwildcam / "categories.csv").write_text("y,category_id,name\n0,0,empty\n1,372,tayassu pecari\n00,1,other\n")
    with pytest.raises(DataError, match=r"categories\.csv, line 4: 0 is listed a second time, first in line 2"):
        load_iwildcam(iwildcam, image_size=8)
    (iwildcam / "categories.csv").unlink()
    assert load_iwildcam(iwildcam, image_size=8).class_names == ("class 0", "class 1", "class 2")


def test_iwildcam_has_the_splits_that_are_asked_for_within_their_limits(iwildcam: Path) -> None:
    for split in ("id_val", "id_test"):
        for number in (number for number, (of, _) in enumerate(WILD_ROWS) if of == split):
            (iwildcam / "train" / f"{number}.jpg").unlink()  # what nobody asks for is not read
    data = load_iwildcam(str(iwildcam), image_size=8, limit={"train": 2, "test": 1}, splits=["train", "val", "test"])
    assert list(data.splits) == ["train", "val", "test"]
    assert [len(split) for split in data.splits.values()] == [2, 1, 1]
    assert data.splits["train"].labels.tolist() == [0, 1]
    assert data.splits["train"].labels.dtype == torch.int64
    assert data.class_names == ("empty", "tayassu pecari", "class 2")
    with pytest.raises(ValueError, match="limit=0 for val"):
        load_iwildcam(iwildcam, image_size=8, limit={"val": 0})
    with pytest.raises(ValueError, match="Did you mean 'id_val'"):
        load_iwildcam(iwildcam, image_size=8, splits=["idval"])


def test_iwildcam_images_are_squashed_and_not_cropped(iwildcam: Path) -> None:
    image = np.zeros((20, 40, 3), dtype=np.uint8)
    image[:, :4] = 255  # an animal at the edge, which a crop would cut off
    Image.fromarray(image).save(iwildcam / "train" / "3.jpg", quality=95)
    assert int(load_iwildcam(iwildcam, image_size=10).splits["val"].images[0, :, :, 0].min()) > 200


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda ls: ls.__setitem__(2, ls[2].replace(",train,", ",training,")), r"metadata\.csv, line 3: split is 'training'"),
        (lambda ls: ls.__setitem__(2, ls[2][:-1] + "-1"), "line 3: y is '-1', but must be a class index"),
        (lambda ls: ls.__setitem__(4, ls[4][:-1] + "3"), r"labels go up to 3, but no row has y = 2"),
        (
            lambda ls: ls.__setitem__(4, ls[4][:-1] + "9" * 30),
            "line 5: y is '9{30}', but must be a class index from 0, of at most 9",
        ),
        (lambda ls: ls.append(ls[4].replace(",val,", ",train,")), r"line \d+: 3\.jpg is listed a second time, first in line 5"),
        (lambda ls: ls.pop(4), "the split 'val' has no image"),
        (lambda ls: ls.__setitem__(0, ls[0].replace(",y", ",category_id")), "line 1: no column 'y'"),
    ],
)
def test_malformed_iwildcam(iwildcam: Path, change: Callable[[list[str]], None], message: str) -> None:
    edit(iwildcam / "metadata.csv", change)
    with pytest.raises(DataError, match=message):
        load_iwildcam(iwildcam, image_size=8)


def test_version_1_of_iwildcam_is_refused(iwildcam: Path) -> None:
    (iwildcam / "metadata.csv").rename(iwildcam / "train.csv")
    with pytest.raises(DataError, match=r"the data are not there(.|\n)*Version 1\.0, which has train\.csv.*is not read"):
        load_iwildcam(iwildcam, image_size=8)


def test_classes_are_grouped_by_frequency_and_absent_ones_apart() -> None:
    counts = [0, 1, 5, 6, 10, 11, 50, 51, 150, 151]
    labels = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    assert frequency_groups(labels, len(counts) + 1).tolist() == [-1, 0, 0, 1, 1, 2, 2, 3, 3, 4, -1]
