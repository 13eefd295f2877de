"""Data for the chapters: drawn on the fly from a seed, or read from a folder that the user names."""

from effnotes.core.lazy import exports

_HOMES = {
    "ATTRIBUTES": "effnotes.datasets.faces",
    "AttributeData": "effnotes.datasets.attributes",
    "AttributeSplit": "effnotes.datasets.attributes",
    "CIFAR10_CLASSES": "effnotes.datasets.cifar10",
    "CelebADataset": "effnotes.datasets.celeba",
    "ClassData": "effnotes.datasets.attributes",
    "ClassSplit": "effnotes.datasets.attributes",
    "Nuisances": "effnotes.datasets.face_drawing",
    "backdoor_data": "effnotes.datasets.backdoor",
    "face_data": "effnotes.datasets.faces",
    "frequency_groups": "effnotes.datasets.iwildcam",
    "frequency_names": "effnotes.datasets.iwildcam",
    "load_awa2": "effnotes.datasets.awa2",
    "load_celeba": "effnotes.datasets.celeba",
    "load_cifar10": "effnotes.datasets.cifar10",
    "load_data": "effnotes.datasets.load",
    "load_iwildcam": "effnotes.datasets.iwildcam",
    "load_waterbirds": "effnotes.datasets.waterbirds",
    "make_cifar10s": "effnotes.datasets.cifar10",
    "make_face_splits": "effnotes.datasets.faces",
    "make_faces": "effnotes.datasets.faces",
    "plant_backdoor": "effnotes.datasets.backdoor",
    "render_faces": "effnotes.datasets.face_drawing",
    "skewed_attributes": "effnotes.datasets.faces",
    "to_greyscale": "effnotes.datasets.cifar10",
}

__getattr__, __dir__, __all__ = exports(__name__, _HOMES)
