"""Data for the chapters: drawn on the fly from a seed, or read from a folder that the user names."""

from effnotes.core.errors import DataError
from effnotes.datasets.attributes import AttributeData, AttributeSplit, ClassData, ClassSplit, face_data, face_split
from effnotes.datasets.awa2 import load_awa2
from effnotes.datasets.backdoor import backdoor_data, plant_backdoor
from effnotes.datasets.celeba import CelebADataset, load_celeba
from effnotes.datasets.cifar10 import CIFAR10_CLASSES, CIFAR10S_GREY_CLASSES, load_cifar10, make_cifar10s, to_greyscale
from effnotes.datasets.face_attributes import ATTRIBUTES, Attribute, skewed_attributes
from effnotes.datasets.face_drawing import Nuisances, render_faces
from effnotes.datasets.faces import Faces, FaceSplits, make_face_splits, make_faces
from effnotes.datasets.files import Limit
from effnotes.datasets.iwildcam import frequency_groups, frequency_names, load_iwildcam
from effnotes.datasets.load import CLASS_DATASETS, DATASETS, load_class_data, load_data
from effnotes.datasets.waterbirds import load_waterbirds

__all__ = [
    "ATTRIBUTES",
    "CIFAR10S_GREY_CLASSES",
    "CIFAR10_CLASSES",
    "CLASS_DATASETS",
    "DATASETS",
    "Attribute",
    "AttributeData",
    "AttributeSplit",
    "CelebADataset",
    "ClassData",
    "ClassSplit",
    "DataError",
    "FaceSplits",
    "Faces",
    "Limit",
    "Nuisances",
    "backdoor_data",
    "face_data",
    "face_split",
    "frequency_groups",
    "frequency_names",
    "load_awa2",
    "load_celeba",
    "load_cifar10",
    "load_class_data",
    "load_data",
    "load_iwildcam",
    "load_waterbirds",
    "make_cifar10s",
    "make_face_splits",
    "make_faces",
    "plant_backdoor",
    "render_faces",
    "skewed_attributes",
    "to_greyscale",
]
