"""CelebA from disk: both layouts, every kind of damage, and the scaling against torchvision's."""

import csv
import dataclasses
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader
from torchvision.transforms import v2

from effnotes.core.errors import DataError
from effnotes.datasets import CelebADataset, load_celeba

FIXTURE = Path(__file__).parents[1] / "fixtures" / "celeba"
ATTRIBUTES = "list_attr_celeba.txt"
PARTITION = "list_eval_partition.txt"
IMAGES = "img_align_celeba"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    shutil.copytree(FIXTURE, tmp_path / "celeba")
    return tmp_path / "celeba"


@pytest.fixture(scope="module")
def truth() -> pd.DataFrame:
    """The tables of the fixture, read by pandas."""
    table = pd.read_csv(FIXTURE / ATTRIBUTES, sep=r"\s+", skiprows=1, index_col=0)
    return table.assign(split=pd.read_csv(FIXTURE / PARTITION, sep=" ", header=None, index_col=0)[1])


def edit(path: Path, change: Callable[[list[str]], None]) -> None:
    lines = path.read_text().split("\n")
    change(lines)
    path.write_text("\n".join(lines))


def test_names_labels_and_splits_are_those_of_the_files(truth: pd.DataFrame) -> None:
    data = load_celeba(FIXTURE, image_size=16)
    assert len(data.attribute_names) == 40
    assert list(data.attribute_names) == list(truth.columns[:-1])
    assert data.protected == data.column("Male") == 20
    for number, split in enumerate((data.train, data.val, data.test)):
        rows = truth[truth["split"] == number]
        assert split.images.shape == (len(rows), 3, 16, 16)
        assert np.array_equal(split.labels.numpy(), (rows.iloc[:, :-1].to_numpy() + 1) // 2)
        assert split.groups is None
        assert torch.equal(data.groups_of(split), split.labels[:, 20])


@pytest.mark.parametrize("size", [32, 65, 178, 224])
def test_images_are_scaled_and_cropped_as_torchvision_does(size: int) -> None:
    data = load_celeba(FIXTURE, image_size=size, limit=1)
    transform = v2.Compose([v2.Resize(size), v2.CenterCrop(size), v2.PILToTensor()])
    with Image.open(FIXTURE / IMAGES / "000001.jpg") as image:
        assert torch.equal(data.train.images[0], transform(image.convert("RGB")))


def test_limits_are_spread_over_the_file(truth: pd.DataFrame) -> None:
    data = load_celeba(FIXTURE, image_size=8, limit={"train": 4, "val": 3})
    assert [len(split) for split in (data.train, data.val, data.test)] == [4, 3, 48]
    names = [truth.index[row] for row in (0, 12, 24, 36)]  # of 48 training images
    assert np.array_equal(data.train.labels.numpy(), (truth.loc[names].iloc[:, :-1].to_numpy() + 1) // 2)


def test_another_attribute_may_be_protected(truth: pd.DataFrame) -> None:
    data = load_celeba(FIXTURE, image_size=8)
    assert data.attribute_names[data.protected] == "Male"
    other = dataclasses.replace(data, protected=data.column("Young"))
    assert np.array_equal(other.groups_of(other.test).numpy(), (truth.loc[truth["split"] == 2, "Young"] + 1) // 2)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda text: text.replace("\n", "\r\n"), id="windows line ends"),
        pytest.param(lambda text: text + "\n\n", id="blank lines at the end"),
        pytest.param(lambda text: text.replace("\n", "\n\n", 4), id="blank lines between"),
        pytest.param(lambda text: "\ufeff" + text, id="byte order mark"),
        pytest.param(lambda text: re.sub("  +", " ", text).replace(" \n", "\n"), id="no padding"),
    ],
)
def test_harmless_differences_change_nothing(root: Path, change: Callable[[str], str]) -> None:
    expected = load_celeba(FIXTURE, image_size=8)
    for name in (ATTRIBUTES, PARTITION):
        text = (root / name).read_text()
        assert change(text) != text or name == PARTITION
        (root / name).write_bytes(change(text).encode())
    data = load_celeba(root, image_size=8)
    assert data.attribute_names == expected.attribute_names
    for split in ("train", "val", "test"):
        assert torch.equal(getattr(data, split).labels, getattr(expected, split).labels)


def test_folder_above_and_folders_of_the_download_are_found(root: Path) -> None:
    assert len(load_celeba(root.parent, image_size=8).train) == 48
    for name, folder in ((ATTRIBUTES, "Anno"), (PARTITION, "Eval"), (IMAGES, "Img")):
        (root / folder).mkdir()
        (root / name).rename(root / folder / name)
    assert len(load_celeba(root, image_size=8).train) == 48


def as_repack(root: Path, truth: pd.DataFrame) -> None:
    (root / ATTRIBUTES).unlink()
    (root / PARTITION).unlink()
    truth.drop(columns="split").to_csv(root / "list_attr_celeba.csv", index_label="image_id")
    truth["split"].rename("partition").to_csv(root / "list_eval_partition.csv", index_label="image_id")
    (root / IMAGES).rename(root / "inner")
    (root / IMAGES).mkdir()
    (root / "inner").rename(root / IMAGES / IMAGES)


def test_repack_gives_the_same_data(root: Path, truth: pd.DataFrame) -> None:
    as_repack(root, truth)
    data, expected = load_celeba(root, image_size=8), load_celeba(FIXTURE, image_size=8)
    assert data.attribute_names == expected.attribute_names
    assert torch.equal(data.test.labels, expected.test.labels)
    assert torch.equal(data.test.images, expected.test.images)


@pytest.mark.parametrize(
    "options", [{"quoting": csv.QUOTE_NONNUMERIC}, {"quoting": csv.QUOTE_ALL, "encoding": "utf-8-sig", "lineterminator": "\r\n"}]
)
def test_a_repack_with_quotes_row_numbers_and_other_columns_first_gives_the_same_data(
    root: Path, truth: pd.DataFrame, options: dict
) -> None:
    as_repack(root, truth)
    for name, order in (("list_attr_celeba.csv", [3, 0, 2, 1, *range(4, 41)]), ("list_eval_partition.csv", [1, 0])):
        table = pd.read_csv(root / name)
        table.iloc[:, order].to_csv(root / name)  # a first column without a name numbers the rows
        pd.read_csv(root / name).to_csv(root / name, **options)  # and is now called "Unnamed: 0", behind another
        assert (root / name).read_text(encoding="utf-8-sig").startswith('"","Unnamed: 0",')
    data, expected = load_celeba(root, image_size=8), load_celeba(FIXTURE, image_size=8)
    assert sorted(data.attribute_names) == sorted(expected.attribute_names)
    order = [expected.attribute_names.index(name) for name in data.attribute_names]
    assert torch.equal(data.test.labels, expected.test.labels[:, order])
    assert torch.equal(data.test.images, expected.test.images)


def test_a_repack_that_lists_an_image_twice_or_opens_a_quote_is_refused(root: Path, truth: pd.DataFrame) -> None:
    as_repack(root, truth)
    path = root / "list_eval_partition.csv"
    edit(path, lambda lines: lines.insert(5, f"./{lines[2]}"))
    with pytest.raises(DataError, match=r"partition\.csv, line 6: \./000002\.jpg is listed a second time, first in line 3"):
        load_celeba(root, image_size=8)
    edit(path, lambda lines: lines.__setitem__(5, '"' + lines[6]))
    with pytest.raises(DataError, match=r"partition\.csv, line 6: a quotation mark that is opened here is not closed"):
        load_celeba(root, image_size=8)


def test_malformed_repack_names_file_and_line(root: Path, truth: pd.DataFrame) -> None:
    as_repack(root, truth)
    path = root / "list_attr_celeba.csv"
    edit(path, lambda lines: lines.__setitem__(3, lines[3] + ",1"))
    with pytest.raises(DataError, match=r"list_attr_celeba\.csv, line 4: 42 cells, but the header has 41"):
        load_celeba(root, image_size=8)
    edit(path, lambda lines: lines.__setitem__(0, lines[0].replace("image_id", "file")))
    with pytest.raises(DataError, match=r"line 1: no column 'image_id'; the header is 'file,5_o"):
        load_celeba(root, image_size=8)
    with (root / "list_eval_partition.csv").open("w", newline="") as file:
        csv.writer(file).writerow(["image", "part"])
    edit(path, lambda lines: lines.__setitem__(slice(None), [lines[0].replace("file", "image_id"), *lines[1:3]]))
    with pytest.raises(DataError, match=r"line 1: no column 'image_id', 'partition'; the header is 'image,part'"):
        load_celeba(root, image_size=8)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        (ATTRIBUTES, lambda ls: ls.__setitem__(0, "109"), r"list_attr_celeba\.txt, line 1: it announces 109 images, but 108 rows"),
        (ATTRIBUTES, lambda ls: ls.pop(50), r"line 1: it announces 108 images, but 107 rows"),
        (ATTRIBUTES, lambda ls: ls.pop(0), r"line 1: '5_o_Clock_Shadow.*should be the number of images"),
        (ATTRIBUTES, lambda ls: ls.pop(1), r"line 2: these are no attribute names"),
        (
            ATTRIBUTES,
            lambda ls: ls.__setitem__(6, ls[6].rsplit(" ", 1)[0]),
            r"line 7: 3\d values after '000005\.jpg', but there are 40",
        ),
        (ATTRIBUTES, lambda ls: ls.__setitem__(6, ls[6][:-1] + "0"), r"line 7: '-?0' is no label"),
        (ATTRIBUTES, lambda ls: ls.__setitem__(9, ls[8]), r"line 10: 000007\.jpg is listed a second time"),
        (ATTRIBUTES, lambda ls: ls.__setitem__(slice(None), ["0"]), "line of attribute names is missing"),
        (ATTRIBUTES, lambda ls: ls.clear(), r"list_attr_celeba\.txt: there is no image in this table"),
        (PARTITION, lambda ls: ls.__setitem__(3, "000004.jpg 3"), r"partition\.txt, line 4: the partition of 000004\.jpg is '3'"),
        (
            PARTITION,
            lambda ls: ls.__setitem__(3, "000004.jpg"),
            r"partition\.txt, line 4: 0 values after '000004\.jpg', but needed is one: 0, 1 or 2",
        ),
        (PARTITION, lambda ls: ls.pop(3), r"partition\.txt: 000004\.jpg of list_attr_celeba\.txt is not in this file"),
        (PARTITION, lambda ls: ls.insert(3, "x.jpg 0"), r"partition\.txt, line 4: x\.jpg is not in list_attr_celeba\.txt"),
        (PARTITION, lambda ls: ls.insert(3, ls[2]), r"line 4: 000003\.jpg is listed a second time"),
        (PARTITION, lambda ls: ls.__setitem__(slice(None), [x.replace(" 1", " 0") for x in ls]), "the split 'val' has no image"),
    ],
)
def test_malformed_tables_name_file_and_line(root: Path, name: str, change: Callable[[list[str]], None], message: str) -> None:
    edit(root / name, change)
    with pytest.raises(DataError, match=message):
        load_celeba(root, image_size=8)


def test_missing_files_and_folders_show_the_expected_layout(root: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere: this directory does not exist(.|\n)*list_attr_celeba\.txt"):
        load_celeba(tmp_path / "nowhere", image_size=8)
    with pytest.raises(DataError, match="is a file"):
        load_celeba(root / ATTRIBUTES, image_size=8)
    (root / IMAGES).rename(root / "elsewhere")
    with pytest.raises(DataError, match=r"there is no folder img_align_celeba(.|\n)*Expected layout"):
        load_celeba(root, image_size=8)
    (root / PARTITION).unlink()
    (root / "elsewhere").rename(root / IMAGES)
    with pytest.raises(DataError, match=r"there is no list_eval_partition\.txt"):
        load_celeba(root, image_size=8)
    (root / ATTRIBUTES).unlink()
    with pytest.raises(DataError, match=r"the data are not there(.|\n)*Expected layout"):
        load_celeba(root, image_size=8)


def test_missing_images_are_reported_before_any_is_decoded(root: Path) -> None:
    (root / IMAGES / "000001.jpg").write_bytes(b"no image")
    for number in (60, 70):
        (root / IMAGES / f"{number:06d}.jpg").unlink()
    with pytest.raises(DataError, match=r"0000(60|70)\.jpg: this image is missing, as are 1 others of the 108"):
        load_celeba(root, image_size=8)
    with pytest.raises(DataError, match=r"000060\.jpg: this image is missing"):
        CelebADataset(root, "val", transform=v2.PILToTensor())


@pytest.mark.parametrize("keep", [0, 2, 300, 1200])
def test_a_truncated_image_is_named(root: Path, keep: int) -> None:
    path = root / IMAGES / "000005.jpg"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(DataError, match=r"000005\.jpg: this image cannot be read"):
        load_celeba(root, image_size=8)


def test_wrong_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match="Did you mean 'Smiling'"):
        load_celeba(FIXTURE, image_size=8, limit=1).column("Smile")
    with pytest.raises(ValueError, match="image_size=0"):
        load_celeba(FIXTURE, image_size=0)
    with pytest.raises(ValueError, match="limit=0 for train"):
        load_celeba(FIXTURE, image_size=8, limit=0)
    with pytest.raises(ValueError, match="Did you mean 'val'"):
        load_celeba(FIXTURE, image_size=8, limit={"valid": 3})
    with pytest.raises(ValueError, match="Did you mean 'val'"):
        CelebADataset(FIXTURE, "valid", transform=v2.PILToTensor())


def test_lazy_dataset_gives_the_full_image_through_the_transform(truth: pd.DataFrame) -> None:
    transform = v2.Compose([v2.Resize(40), v2.CenterCrop(40), v2.PILToTensor()])
    dataset = CelebADataset(FIXTURE, "val", transform)
    in_memory = load_celeba(FIXTURE, image_size=40)
    assert len(dataset) == 12
    assert dataset.attribute_names == in_memory.attribute_names
    for number, (images, labels) in enumerate(DataLoader(dataset, batch_size=5)):
        rows = slice(5 * number, 5 * number + 5)
        assert torch.equal(images, in_memory.val.images[rows])
        assert torch.equal(labels, in_memory.val.labels[rows])
    sizes = []
    CelebADataset(FIXTURE, "test", lambda image: sizes.append((image.size, image.mode)))[0]
    assert sizes == [((178, 218), "RGB")]


def test_fixture_has_both_values_of_every_attribute_in_every_split(truth: pd.DataFrame) -> None:
    assert (truth.groupby("split").nunique() == 2).all(axis=None)
