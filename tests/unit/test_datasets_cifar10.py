"""CIFAR-10 from disk in both formats, pickles that would run something, and CIFAR-10S counted by hand."""

import io
import os
import pickle
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.datasets import ImageFolder, cifar

from effnotes.core.errors import DataError
from effnotes.datasets import CIFAR10_CLASSES, ClassData, ClassSplit, load_cifar10, make_cifar10s, to_greyscale
from effnotes.datasets.cifar10 import CIFAR10S_GREY_CLASSES

FIXTURE = Path(__file__).parents[1] / "fixtures" / "cifar10"


class Python2Pickler(pickle._Pickler):
    """Writes bytes and text alike as plain strings, as Python 2 did for the download."""

    def save_string(self, value: bytes | str) -> None:
        content = value.encode("latin1") if isinstance(value, str) else value
        self.write(pickle.BINSTRING + struct.pack("<i", len(content)) + content)
        self.memoize(value)

    dispatch: ClassVar = {**pickle._Pickler.dispatch, bytes: save_string, str: save_string}


def as_python2(batch: object) -> bytes:
    file = io.BytesIO()
    Python2Pickler(file, protocol=2).dump(batch)
    return file.getvalue().replace(b"numpy._core.", b"numpy.core.")


def as_python3(batch: object) -> bytes:
    return pickle.dumps(batch, protocol=2)


def write_batches(root: Path, dump: Callable[[object], bytes] = as_python2) -> tuple[np.ndarray, list[int]]:
    """Write batches of four images as the download has them; give all images and labels."""
    folder = root / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    generator = np.random.default_rng(0)
    pixels, classes = [], []
    for name in [*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"]:
        data = generator.integers(0, 256, (4, 3072), dtype=np.uint8)
        labels = generator.integers(0, 10, 4).tolist()
        batch = {b"batch_label": name.encode(), b"labels": labels, b"data": data, b"filenames": [b"a.png"] * 4}
        (folder / name).write_bytes(dump(batch))
        pixels.append(data)
        classes += labels
    return np.concatenate(pixels).reshape(-1, 3, 32, 32), classes


def classes_with(counts: list[int], test: int = 3) -> ClassData:
    """Random images with so many of each class."""
    generator = torch.Generator().manual_seed(0)
    splits = {}
    for name, numbers in (("train", counts), ("test", [test] * 10)):
        labels = torch.arange(10).repeat_interleave(torch.tensor(numbers))
        order = torch.randperm(len(labels), generator=generator)
        images = torch.randint(0, 256, (len(labels), 3, 32, 32), dtype=torch.uint8, generator=generator)
        splits[name] = ClassSplit(images, labels[order])
    return ClassData(splits, CIFAR10_CLASSES, "noise")


def is_grey(images: torch.Tensor) -> torch.Tensor:
    return (images == images[:, :1]).flatten(1).all(dim=1)


# --- reading --------------------------------------------------------------------------------------------------------------


def test_folders_give_what_torchvision_reads() -> None:
    data = load_cifar10(FIXTURE)
    assert data.class_names == CIFAR10_CLASSES
    for split in ("train", "test"):
        reference = ImageFolder(FIXTURE / split)
        assert tuple(reference.classes) == CIFAR10_CLASSES
        assert data.splits[split].labels.tolist() == reference.targets
        expected = np.stack([np.asarray(image) for image, _ in reference]).transpose(0, 3, 1, 2)
        assert np.array_equal(data.splits[split].images.numpy(), expected)


@pytest.mark.parametrize("inner", ["", "cifar-10-batches-py"])
@pytest.mark.parametrize("dump", [as_python2, as_python3])
def test_batches_give_the_images_in_their_order(tmp_path: Path, inner: str, dump: Callable[[object], bytes]) -> None:
    images, labels = write_batches(tmp_path, dump)
    data = load_cifar10(tmp_path / inner)
    assert np.array_equal(torch.cat([split.images for split in data.splits.values()]).numpy(), images)
    assert torch.cat([split.labels for split in data.splits.values()]).tolist() == labels
    assert len(data.splits["test"]) == 4


def test_batches_give_what_torchvision_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_batches(tmp_path)
    (tmp_path / "cifar-10-batches-py" / "batches.meta").write_bytes(as_python2({b"label_names": [b"airplane"]}))
    # torchvision insists on the checksums of the published files; nothing else of it is replaced.
    monkeypatch.setattr(cifar, "check_integrity", lambda *_: True)
    data = load_cifar10(tmp_path)
    for split in ("train", "test"):
        reference = cifar.CIFAR10(tmp_path, train=split == "train")
        assert np.array_equal(data.splits[split].images.permute(0, 2, 3, 1).numpy(), reference.data)
        assert data.splits[split].labels.tolist() == reference.targets


def test_limits_are_spread_over_the_classes() -> None:
    data = load_cifar10(FIXTURE, limit={"train": 20})
    assert torch.bincount(data.splits["train"].labels).tolist() == [2] * 10
    assert len(data.splits["test"]) == 20


class Touch:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.path),)


def test_a_pickle_that_would_run_something_is_refused_and_runs_nothing(tmp_path: Path) -> None:
    write_batches(tmp_path)
    path = tmp_path / "cifar-10-batches-py" / "data_batch_3"
    path.write_bytes(pickle.dumps({b"data": Touch(tmp_path / "harm"), b"labels": []}, protocol=2))
    with pytest.raises(DataError, match=r"data_batch_3: this is no batch of CIFAR-10.*mkdir"):
        load_cifar10(tmp_path)
    assert not (tmp_path / "harm").exists()
    pickle.loads(path.read_bytes())  # the pickle does what it is meant to do where nothing holds it back
    assert (tmp_path / "harm").exists()


class Forged:
    """An array of objects whose addresses are what the file says: to look at one ends the process."""

    def __init__(self, shape: tuple[int, ...] = (3,), kind: str = "O", content: bytes = b"A" * 24) -> None:
        self.state = (1, shape, np.dtype(kind), False, content)

    def __reduce__(self) -> tuple[object, ...]:
        return np._core.multiarray._reconstruct, (np.ndarray, (0,), b"b"), self.state


PIXELS = np.zeros((2, 3072), np.uint8)
DEEP = b"\x80\x02})" + pickle.TUPLE1 * 200_000 + b"K\x01s."


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({b"data": PIXELS, b"labels": [Forged(), Forged()]}, "'labels' must be 2 class indices"),
        ({b"data": PIXELS, b"labels": Forged()}, "'labels' must be 2 class indices"),
        ({b"data": PIXELS, b"labels": [Forged((1,), "i8", bytes(8)), 1]}, "'labels' must be 2 class indices"),
        ({b"data": PIXELS, b"labels": [0, True]}, "'labels' must be 2 class indices"),
        ({b"data": Forged((2, 3072)), b"labels": [0, 0]}, "'data' must be uint8"),
        ({b"data": Forged((2, 3072), "u1", bytes(10)), b"labels": [0, 0]}, "'data' must be uint8"),
        ({b"data": Forged((-2, -3072), "u1", bytes(6144)), b"labels": [0, 0]}, "'data' must be uint8"),
        (DEEP, "unhashable"),
        (b"\x80\x02Nr\xff\xff\xff\x7f.", "a dictionary with 'data'"),
        (pickle.BYTEARRAY8 + (2**31).to_bytes(8, "little") + b".", "KeyError: 150"),
        (b"\x80\x02cnumpy\ndtype\n)R)R.", "calls what a call of dtype gives"),
        (b"\x80\x02c_codecs\nencode\nN}X\x01\x00\x00\x00xK\x01s\x86b.", "a dictionary with 'data'"),
    ],
)
def test_a_forged_batch_is_refused_and_the_process_lives(tmp_path: Path, content: object, message: str) -> None:
    write_batches(tmp_path)
    path = tmp_path / "cifar-10-batches-py" / "data_batch_4"
    path.write_bytes(content if isinstance(content, bytes) else pickle.dumps(content, protocol=2))
    with pytest.raises(DataError, match=f"data_batch_4: .*{message}"):
        load_cifar10(tmp_path)


def test_a_batch_is_measured_before_it_is_read(tmp_path: Path) -> None:
    write_batches(tmp_path)
    path = tmp_path / "cifar-10-batches-py" / "data_batch_4"
    with path.open("r+b") as file:
        file.truncate(2**40)  # takes no room on the disk
    with pytest.raises(DataError, match=r"data_batch_4: .* has 1099511627776 bytes, and at most 1073741824 are read"):
        load_cifar10(tmp_path)


@pytest.mark.parametrize("protocol", range(5))
def test_batches_of_every_protocol_and_order_are_read(tmp_path: Path, protocol: int) -> None:
    images, labels = write_batches(tmp_path, lambda batch: pickle.dumps(batch, protocol=protocol))
    path = tmp_path / "cifar-10-batches-py" / "test_batch"
    batch = {b"data": np.asfortranarray(images[20:].reshape(4, -1)), b"labels": labels[20:]}
    path.write_bytes(pickle.dumps(batch, protocol=protocol))
    data = load_cifar10(tmp_path)
    assert np.array_equal(torch.cat([split.images for split in data.splits.values()]).numpy(), images)


@pytest.mark.parametrize("module", ["builtins.eval", "numpy.load", "numpy.core.multiarray.fromfile", "_codecs.decode"])
def test_no_other_name_is_looked_up(tmp_path: Path, module: str) -> None:
    write_batches(tmp_path)
    package, name = module.rsplit(".", 1)
    (tmp_path / "cifar-10-batches-py" / "test_batch").write_bytes(f"c{package}\n{name}\n.".encode())
    with pytest.raises(DataError, match=f"asks for {module}".replace(".", r"\.")):
        load_cifar10(tmp_path)


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        ([1, 2], "a dictionary with 'data' and 'labels'"),
        ({b"labels": [1]}, "a dictionary with 'data' and 'labels'"),
        ({b"data": np.zeros((1, 3072)), b"labels": [1]}, r"'data' must be uint8 of shape \(n, 3072\)"),
        ({b"data": np.zeros((1, 3071), np.uint8), b"labels": [1]}, r"'data' must be uint8"),
        ({b"data": np.zeros((2, 3072), np.uint8), b"labels": [1]}, "'labels' must be 2 class indices"),
        ({b"data": np.zeros((1, 3072), np.uint8), b"labels": [10]}, "'labels' must be 1 class indices from 0 to 9"),
        ({b"data": np.zeros((1, 3072), np.uint8), b"labels": ["cat"]}, "'labels' must be 1 class indices from 0 to 9"),
    ],
)
def test_batches_of_another_content_are_refused(tmp_path: Path, batch: object, message: str) -> None:
    write_batches(tmp_path)
    (tmp_path / "cifar-10-batches-py" / "data_batch_2").write_bytes(pickle.dumps(batch, protocol=2))
    with pytest.raises(DataError, match=f"data_batch_2: .*{message}"):
        load_cifar10(tmp_path)


def test_missing_and_torn_batches_are_named(tmp_path: Path) -> None:
    write_batches(tmp_path)
    path = tmp_path / "cifar-10-batches-py" / "data_batch_5"
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(DataError, match="data_batch_5: this is no batch of CIFAR-10"):
        load_cifar10(tmp_path)
    path.unlink()
    with pytest.raises(DataError, match="data_batch_5: this file is missing"):
        load_cifar10(tmp_path)


def test_wrong_folders_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"the data are not there(.|\n)*cifar-10-batches-py(.|\n)*train/CLASS"):
        load_cifar10(tmp_path)
    shutil.copytree(FIXTURE, tmp_path / "cifar10")
    (tmp_path / "cifar10" / "test" / "cat").rename(tmp_path / "cifar10" / "test" / "lynx")
    with pytest.raises(DataError, match=r"test: missing class folders \['cat'\], unknown ones \['lynx'\]"):
        load_cifar10(tmp_path)
    (tmp_path / "cifar10" / "test" / "lynx").rename(tmp_path / "cifar10" / "test" / "cat")
    path = tmp_path / "cifar10" / "test" / "cat" / "0001.jpg"
    (path.parent.parent / ".ipynb_checkpoints").mkdir()  # of which nothing is said: it is in the way of no image
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(DataError, match=r"cat.0001\.jpg: this image cannot be read"):
        load_cifar10(tmp_path)
    for image in path.parent.iterdir():
        image.unlink()
    with pytest.raises(DataError, match="cat: there is no JPEG or PNG file"):
        load_cifar10(tmp_path)


# --- CIFAR-10S ------------------------------------------------------------------------------------------------------------


def test_greyscale_is_pillows() -> None:
    generator = torch.Generator().manual_seed(1)
    images = torch.randint(0, 256, (1003, 3, 8, 8), dtype=torch.uint8, generator=generator)
    grey = to_greyscale(images)
    for image, result in zip(images, grey, strict=True):
        expected = np.asarray(Image.fromarray(image.permute(1, 2, 0).numpy()).convert("L"))
        assert all(np.array_equal(channel, expected) for channel in result.numpy())
    with pytest.raises(ValueError, match=r"needed: torch\.uint8"):
        to_greyscale(images.float())


@pytest.mark.parametrize(("skew", "expected"), [(0.95, 38), (0.5, 20), (1.0, 40)])
def test_each_class_has_exactly_its_share_of_grey(skew: float, expected: int) -> None:
    data = make_cifar10s(classes_with([50] * 10), skew=skew, seed=3, num_val=100)
    for split, n in ((data.train, 40), (data.val, 10)):
        assert torch.equal(is_grey(split.images), split.groups == 1)
        for index, name in enumerate(CIFAR10_CLASSES):
            members = split.labels[:, index] == 1
            main = expected if n == 40 else round(skew * 10)
            grey = main if name in CIFAR10S_GREY_CLASSES else n - main
            assert int(members.sum()) == n
            assert int(split.groups[members].sum()) == grey
    assert data.protected is None
    assert data.attribute_names == CIFAR10_CLASSES
    assert bool((data.train.labels.sum(dim=1) == 1).all())


def test_validation_is_split_off_and_all_images_are_used_once() -> None:
    source = classes_with([7, 13, 20, 5, 9, 11, 3, 30, 2, 8])
    data = make_cifar10s(source, seed=0, num_val=25)
    assert (len(data.train), len(data.val)) == (83, 25)
    together = torch.cat([data.train.images, data.val.images])
    grey = to_greyscale(source.splits["train"].images)
    found = [
        (int((source.splits["train"].images == image).flatten(1).all(1).nonzero()[0]))
        if not is_grey(image[None])[0]
        else int((grey == image).flatten(1).all(1).nonzero()[0])
        for image in together
    ]
    assert sorted(found) == list(range(108))
    # Of each class a share of 25/108 goes to validation, up to one image.
    share = data.val.labels.sum(dim=0) - source.splits["train"].labels.bincount() * 25 / 108
    assert float(share.abs().max()) < 1


def test_test_images_come_in_colour_and_in_grey() -> None:
    source = classes_with([10] * 10)
    data = make_cifar10s(source, seed=0, num_val=10)
    test = source.splits["test"]
    assert torch.equal(data.test.images[:30], test.images)
    assert torch.equal(data.test.images[30:], to_greyscale(test.images))
    assert torch.equal(data.test.groups, torch.tensor([0] * 30 + [1] * 30))
    assert torch.equal(data.test.labels.argmax(dim=1), test.labels.repeat(2))


def test_the_seed_decides_and_the_source_is_left_as_it_was() -> None:
    source = classes_with([20] * 10)
    before = source.splits["train"].images.clone()
    first, again, other = (make_cifar10s(source, seed=seed, num_val=50) for seed in (1, 1, 2))
    assert torch.equal(first.train.images, again.train.images)
    assert not torch.equal(first.train.images, other.train.images)
    assert torch.equal(source.splits["train"].images, before)


def test_wrong_arguments_are_refused() -> None:
    source = classes_with([10] * 10)
    with pytest.raises(ValueError, match=r"skew=0\.3: must be from 0\.5 to 1"):
        make_cifar10s(source, skew=0.3, seed=0, num_val=10)
    for num_val in (0, 100):
        with pytest.raises(ValueError, match=f"num_val={num_val}: must be at least 1 and below the 100"):
            make_cifar10s(source, seed=0, num_val=num_val)
    with pytest.raises(ValueError, match="classes are"):
        make_cifar10s(ClassData(source.splits, tuple("abcdefghij"), "letters"), seed=0, num_val=10)
    with pytest.raises(ValueError, match="Did you mean 'test'"):
        load_cifar10(FIXTURE, limit={"tests": 1})


@pytest.mark.skipif("EFFNOTES_CIFAR10" not in os.environ, reason="needs the folder of the real images in EFFNOTES_CIFAR10")
def test_real_images_make_the_published_counts() -> None:
    data = make_cifar10s(load_cifar10(os.environ["EFFNOTES_CIFAR10"]), seed=1)
    assert (len(data.train), len(data.val), len(data.test)) == (45_000, 5_000, 20_000)
    assert [int(data.train.groups[data.train.labels[:, k] == 1].sum()) for k in range(10)] == [4275, 225] * 5
    # Real images are seldom grey all over, drawn or damaged ones would be.
    assert float(is_grey(data.test.images[:10_000]).float().mean()) < 0.05
