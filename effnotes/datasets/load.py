"""The door to data with binary attributes, or classes read as such: the name of a data set and the folder where it lies."""

from pathlib import Path

from torch.nn.functional import one_hot

from effnotes.core.checks import check_choice
from effnotes.datasets.attributes import AttributeData, AttributeSplit
from effnotes.datasets.awa2 import load_awa2
from effnotes.datasets.celeba import load_celeba
from effnotes.datasets.cifar10 import load_cifar10, make_cifar10s
from effnotes.datasets.faces import face_data, make_face_splits
from effnotes.datasets.iwildcam import load_iwildcam
from effnotes.datasets.waterbirds import load_waterbirds

DATASETS = ("faces", "cifar10s", "celeba", "awa2", "waterbirds", "iwildcam")
"""Data with binary attributes, by the names that `load_data` knows."""


def load_data(
    name: str,
    data_root: str | Path | None = None,
    *,
    image_size: int = 32,
    num_train: int | None = None,
    num_val: int | None = None,
    num_test: int | None = None,
    seed: int = 0,
) -> AttributeData:
    """Load or draw a data set by name.

    Args:
        name: "faces" (drawn, `make_face_splits`), "cifar10s" (`make_cifar10s`), "celeba" (`load_celeba`), "awa2" (`load_awa2`),
            "waterbirds" (`load_waterbirds`), or "iwildcam" (`load_iwildcam`), whose exclusive classes come as one attribute each;
            no attribute is protected there, and validation and test images are from the cameras of training ("id_val", "id_test").
        data_root: Folder with the data; for "faces" none ("" or None).
        image_size: Height and width in pixels; 32 for "cifar10s".
        num_train: Training images: exactly so many faces; of the others at most so many, None for all.
        num_val: Validation images, alike; "cifar10s" splits exactly so many off its training images, 5,000 by default.
        num_test: Test images, alike; for "cifar10s" an even number, because each image comes in colour and in grey.
        seed: For "faces" the seed of everything, for "cifar10s" of split and colours; the others have nothing random.

    Returns:
        The data in the common shape.

    Raises:
        DataError: Something on disk is missing or malformed; the message names the file.
        ValueError: The name is unknown, `data_root` is missing or not wanted, or an argument is out of range or not for these data.
    """
    check_choice(DATASETS, name=name)
    if name == "faces":
        if data_root:
            raise ValueError(f"data_root={str(data_root)!r}: faces are drawn and not read; leave it empty, or name other data")
        if num_train is None or num_val is None or num_test is None:
            raise ValueError("num_train, num_val and num_test must be given for faces: there are as many as one asks for")
        return face_data(make_face_splits(num_train, num_val, num_test, seed=seed, image_size=image_size))
    if not data_root:
        card = f"data/{name.removesuffix('s') if name == 'cifar10s' else name}/CARD.md"
        raise ValueError(f"data_root is empty: {name} is read from a folder; the data card {card} says how it must look")
    if name == "cifar10s":
        if image_size != 32:
            raise ValueError(f"image_size={image_size}: the images of CIFAR-10 have 32 pixels")
        if num_test is not None and (num_test < 2 or num_test % 2):
            raise ValueError(f"num_test={num_test}: must be even and at least 2, for each test image comes in colour and in grey")
        num_val = 5000 if num_val is None else num_val
        limit = _limit(None if num_train is None else num_train + num_val, None, None if num_test is None else num_test // 2)
        return make_cifar10s(load_cifar10(data_root, limit=limit), seed=seed, num_val=num_val)
    limit = _limit(num_train, num_val, num_test)
    if name == "waterbirds":
        return load_waterbirds(data_root, image_size=image_size, limit=limit)
    if name == "iwildcam":
        limit = {split if split == "train" else f"id_{split}": size for split, size in limit.items()}
        found = load_iwildcam(data_root, image_size=image_size, limit=limit, splits=("train", "id_val", "id_test"))
        classes = len(found.class_names)
        train, val, test = (AttributeSplit(each.images, one_hot(each.labels, classes)) for each in found.splits.values())
        return AttributeData(train, val, test, found.class_names, None, found.source)
    return (load_awa2 if name == "awa2" else load_celeba)(data_root, image_size=image_size, limit=limit)


def _limit(num_train: int | None, num_val: int | None, num_test: int | None) -> dict[str, int]:
    return {split: size for split, size in {"train": num_train, "val": num_val, "test": num_test}.items() if size is not None}
