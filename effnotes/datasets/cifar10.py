"""CIFAR-10 (Krizhevsky 2009) from a folder of the user's, and CIFAR-10S, which plants a known spurious feature in it.

CIFAR-10S (Wang, Qinami, Karakozis, Genova, Nair, Hata & Russakovsky, "Towards fairness in visual recognition", CVPR 2020) makes
whether an image is grey the protected attribute: five of the ten classes are mostly grey in training, five mostly in colour,
and the test images come both ways. Colour says nothing about what an object is, so whatever a model takes from it is bias.
"""

import io
import pickle
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from effnotes.core.checks import check_range
from effnotes.core.errors import DataError
from effnotes.datasets import files
from effnotes.datasets.attributes import AttributeData, AttributeSplit, ClassData, ClassSplit, check_images

CIFAR10_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
"""The ten classes in the order of their indices, which is alphabetical."""

CIFAR10S_GREY_CLASSES = ("airplane", "bird", "deer", "frog", "ship")
"""Classes that are mostly grey in training, as in the official code of Wang et al. (CVPR 2020); the others are mostly in colour."""

_IMAGE_SIZE = 32
_PIXELS = 3 * _IMAGE_SIZE**2
_MOST_BYTES = 2**30  # of a batch; the published ones have 31 MB
_SPLITS = ("train", "test")
_BATCHES = "cifar-10-batches-py"
_LAYOUT = f"""\
  ROOT/{_BATCHES}/data_batch_1 ... data_batch_5, test_batch      the download in Python's format, unpacked
or
  ROOT/train/CLASS/0001.jpg ... and ROOT/test/CLASS/0001.jpg ...      JPEG or PNG, for CLASS = {", ".join(CIFAR10_CLASSES)}"""


def load_cifar10(root: str | Path, *, limit: files.Limit = None) -> ClassData:
    """Read CIFAR-10 from the download's pickled batches or from a folder for each class.

    The batches are pickles, and a pickle can run any program. They are therefore read by an unpickler that builds dictionaries,
    lists, text and numbers, has markers that do nothing in place of arrays, and refuses everything else. The folders hold
    re-compressed images where they are JPEG: the pixels differ a little from the batches'.

    Args:
        root: Folder with the data; see the data card `data/cifar10/CARD.md` for the layouts.
        limit: At most so many images of each split ("train", "test"), evenly spread over the source.

    Returns:
        Splits "train" (50,000 images in the whole data set) and "test" (10,000), of 32 x 32 pixels.

    Raises:
        DataError: A file or folder is missing, damaged or holds what it should not; the message names it.
        ValueError: A limit is below 1 or names another split.
    """
    files.check_request(_IMAGE_SIZE, limit, _SPLITS)

    def is_root(folder: Path) -> bool:
        return _batch_folder(folder) is not None or all((folder / split).is_dir() for split in _SPLITS)

    base = files.find_root(root, ["cifar10", "cifar-10"], is_root, _LAYOUT)
    batches = _batch_folder(base)
    if batches is not None:
        names = {"train": [f"data_batch_{number}" for number in range(1, 6)], "test": ["test_batch"]}
        splits = {split: _read_batches([batches / name for name in names[split]], limit, split) for split in _SPLITS}
        return ClassData(splits, CIFAR10_CLASSES, "CIFAR-10, pickled batches")
    paths, labels, split_of = [], [], []
    for number, split in enumerate(_SPLITS):
        for label, images in enumerate(_list_folders(base / split)):
            paths += images
            labels += [label] * len(images)
            split_of += [number] * len(images)
    read = files.read_splits(files.rows_of_splits(np.array(split_of), _SPLITS, limit, base), paths, _IMAGE_SIZE)
    splits = {split: ClassSplit(torch.from_numpy(images), torch.tensor(labels)[rows]) for split, (rows, images) in read.items()}
    return ClassData(splits, CIFAR10_CLASSES, "CIFAR-10, image folders")


def make_cifar10s(data: ClassData, *, skew: float = 0.95, seed: int, num_val: int = 5000) -> AttributeData:
    """Make CIFAR-10S: ten attributes, one a class, and groups 1 = greyscale, 0 = colour.

    In training, round(`skew` n) of the n images of each class in `CIFAR10S_GREY_CLASSES` are turned grey, and n - round(`skew`
    n) of each other class. Validation images are split off the training images first, the same share of each class, and skewed
    alike: nothing is calibrated on images that are fairer than the training ones. The test set has every image twice, first all
    in colour, then all in grey, so group and class are independent there; the paper measures on the same two versions. With half
    of each class in either group, its measure of bias, the mean over classes of max(grey, colour) / (grey + colour) - 1/2 of the
    predictions, is bias amplification whose direction is taken from the predictions and not from training. Differences from the
    paper's code: it draws no validation set, and rounds `skew` n down.

    Args:
        data: As from `load_cifar10`: "train" and "test" images of the ten classes.
        skew: Share of a class's images in its main group, from .5 (no bias) to 1.
        seed: Which images go into validation and which are turned grey.
        num_val: Validation images, at least 1 and fewer than the training images.

    Returns:
        One-hot labels (n, 10) with the class names as attributes, and groups for every split. n is 45,000, 5,000 and 20,000 for the
        whole data set.

    Raises:
        ValueError: Classes are others, or a number is out of range.
    """
    if tuple(data.class_names) != CIFAR10_CLASSES:
        raise ValueError(f"classes are {list(data.class_names)}, but must be {list(CIFAR10_CLASSES)}")
    check_range(0.5, 1, skew=skew)
    train, test = data.splits["train"], data.splits["test"]
    if not 1 <= num_val < len(train):
        raise ValueError(f"num_val={num_val}: must be at least 1 and below the {len(train)} training images")
    generator = np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed)))
    order = _class_balanced_order(train.labels.numpy(), generator)
    training, validation = (_skewed(train, rows, skew, generator) for rows in (order[num_val:], order[:num_val]))
    labels = F.one_hot(test.labels, len(CIFAR10_CLASSES))
    images, groups = torch.cat([test.images, to_greyscale(test.images)]), torch.arange(2).repeat_interleave(len(test))
    both = AttributeSplit(images, labels.repeat(2, 1), groups)
    source = f"CIFAR-10S from {data.source}, skew {skew:g}, seed {seed}"
    return AttributeData(training, validation, both, CIFAR10_CLASSES, None, source)


def to_greyscale(images: Tensor) -> Tensor:
    """Return the images without colour: Y = .299 R + .587 G + .114 B in all three channels.

    The luma of ITU-R Recommendation BT.601, computed in 16-bit fixed point as Pillow's `convert("L")` does, to the same level.

    Args:
        images: (n, 3, H, W) uint8, RGB.

    Returns:
        (n, 3, H, W) uint8.

    Raises:
        ValueError: Shape or dtype is another.
    """
    check_images(images, least=0)
    grey = torch.empty_like(images)
    # In parts: the 32-bit intermediate of all images at once would take several times the memory of the images.
    for part, target in zip(images.split(1000), grey.split(1000), strict=True):
        red, green, blue = part.int().unbind(dim=1)
        target.copy_(((19595 * red + 38470 * green + 7471 * blue + 32768) >> 16).unsqueeze(1).expand_as(part))
    return grey


def _class_balanced_order(labels: NDArray[np.int64], generator: np.random.Generator) -> NDArray[np.int64]:
    """Shuffle rows so that every beginning of the order has the classes in the proportions of the whole, up to one image."""
    place = np.empty(len(labels))
    for label in np.unique(labels):
        rows = generator.permutation(np.flatnonzero(labels == label))
        place[rows] = (np.arange(len(rows)) + 0.5) / len(rows)
    return np.argsort(place, kind="stable")


def _skewed(data: ClassSplit, rows: NDArray[np.int64], skew: float, generator: np.random.Generator) -> AttributeSplit:
    chosen = torch.from_numpy(np.sort(rows))
    images, labels = data.images[chosen], data.labels[chosen]
    grey = torch.zeros(len(rows), dtype=torch.int64)
    for index, name in enumerate(CIFAR10_CLASSES):
        members = np.flatnonzero(labels.numpy() == index)
        main = round(skew * len(members))
        count = main if name in CIFAR10S_GREY_CLASSES else len(members) - main
        grey[torch.from_numpy(generator.permutation(members)[:count])] = 1
    images[grey == 1] = to_greyscale(images[grey == 1])
    return AttributeSplit(images, F.one_hot(labels, len(CIFAR10_CLASSES)), grey)


def _batch_folder(folder: Path) -> Path | None:
    return next((path for path in (folder, folder / _BATCHES) if (path / "test_batch").is_file()), None)


def _list_folders(folder: Path) -> list[list[Path]]:
    present = {path.name for path in folder.iterdir() if path.is_dir() and not files.is_hidden(path)}
    if present != set(CIFAR10_CLASSES):
        absent, extra = sorted(set(CIFAR10_CLASSES) - present), sorted(present - set(CIFAR10_CLASSES))
        raise DataError(f"{folder}: missing class folders {absent}, unknown ones {extra}. Expected layout:\n{_LAYOUT}")
    return files.list_image_folders([folder / name for name in CIFAR10_CLASSES])


class _Marker:
    """Stands for what a pickle asks for by name, or for what a call of that would give: keeps what it is given, does nothing."""

    def __init__(self, name: str, arguments: Sequence[Any] | None = None) -> None:
        self.name, self.arguments = name, arguments
        self.state: Any = None

    def __call__(self, *arguments: Any) -> Any:
        match self.name, self.arguments, arguments:
            case "_codecs.encode", None, (str() as text, "latin1" | "latin-1"):  # bytes, as Python 3 writes them in old protocols
                return text.encode("latin1")
            case name, None, _:
                return _Marker(name, list(arguments))
        raise pickle.UnpicklingError(f"it calls what a call of {self.name} gives, which no batch of CIFAR-10 does")

    def __setstate__(self, state: Any) -> None:
        self.state = state


def _pack(n: int, unpickler: Any) -> None:
    unpickler.stack[-n:] = [unpickler.stack[-n:]]


class _BatchUnpickler(pickle._Unpickler):
    """Builds what a batch consists of, which needs no import: containers, text and numbers, and markers in place of arrays.

    The one written in Python, as the other makes room for as many objects as a pickle says. Tuples become lists, for a tuple in
    a tuple in a tuple, thousands deep, ends the process once it is the key of a dictionary.
    """

    # Without what makes an array of zeros, as long as a pickle says, before it is filled.
    dispatch: ClassVar = {code: load for code, load in pickle._Unpickler.dispatch.items() if code != pickle.BYTEARRAY8[0]} | {
        pickle.TUPLE[0]: pickle._Unpickler.dispatch[pickle.LIST[0]],
        **{code[0]: partial(_pack, n) for n, code in enumerate((pickle.TUPLE1, pickle.TUPLE2, pickle.TUPLE3), start=1)},
    }
    # The arrays of a batch, from either numbering of NumPy's modules.
    names: ClassVar = {f"numpy.{core}.multiarray._reconstruct": "array" for core in ("core", "_core")}
    names |= {"numpy.ndarray": "ndarray", "numpy.dtype": "dtype", "_codecs.encode": "_codecs.encode"}

    def find_class(self, module: str, name: str) -> _Marker:
        if f"{module}.{name}" not in self.names:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which no batch of CIFAR-10 needs and which is not loaded")
        return _Marker(self.names[f"{module}.{name}"])


def _read_batches(paths: Sequence[Path], limit: files.Limit, split: str) -> ClassSplit:
    batches = [_read_batch(path) for path in paths]
    images = torch.from_numpy(np.concatenate([images for images, _ in batches]))
    labels = torch.from_numpy(np.concatenate([labels for _, labels in batches]))
    chosen = torch.from_numpy(files.limited(len(labels), limit, split))
    return ClassSplit(images[chosen], labels[chosen])


def _read_batch(path: Path) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    try:
        if (size := path.stat().st_size) > _MOST_BYTES:
            raise pickle.UnpicklingError(f"it has {size} bytes, and at most {_MOST_BYTES} are read")
        batch = _BatchUnpickler(io.BytesIO(path.read_bytes()), encoding="bytes").load()
    except FileNotFoundError:
        raise DataError(f"{path}: this file is missing. Expected layout:\n{_LAYOUT}") from None
    # Damaged bytes can raise nearly anything inside an unpickler; what it was matters less than which file.
    except Exception as error:
        raise DataError(f"{path}: this is no batch of CIFAR-10 ({type(error).__name__}: {error}); unpack it again") from error
    if type(batch) is not dict or not {b"data", b"labels"} <= batch.keys():
        raise DataError(f"{path}: this is no batch of CIFAR-10; needed: a dictionary with 'data' and 'labels'")
    data, labels = _image_rows(batch[b"data"]), batch[b"labels"]
    if data is None:
        raise DataError(f"{path}: 'data' must be uint8 of shape (n, {_PIXELS}), one image a row")
    known = range(len(CIFAR10_CLASSES))
    if type(labels) is not list or len(labels) != len(data) or not all(type(label) is int and label in known for label in labels):
        raise DataError(f"{path}: 'labels' must be {len(data)} class indices from 0 to {known[-1]}, one for each image")
    return data.reshape(-1, 3, _IMAGE_SIZE, _IMAGE_SIZE), np.array(labels, dtype=np.int64)


def _image_rows(array: Any) -> NDArray[np.uint8] | None:
    """Return the array that a marker stands for, if it is one of images of single bytes whose size is that of its bytes."""
    match array:
        case _Marker(
            name="array", state=[_, [int(n), int(width)], _Marker(name="dtype", arguments=["u1" | b"u1", *_]), by_column, content]
        ):
            if width == _PIXELS and isinstance(content, bytes) and len(content) == n * width > 0:
                return np.frombuffer(content, np.uint8).reshape((n, width), order="F" if by_column else "C")
    return None
