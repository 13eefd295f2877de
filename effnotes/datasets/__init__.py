"""Data for the chapters: drawn on the fly from a seed, or read from a folder that the user names."""

from effnotes.core.lazy import exports

_HOMES = {
    "effnotes.datasets.attributes": "AttributeData AttributeSplit ClassData ClassSplit RegionData",
    "effnotes.datasets.awa2": "load_awa2",
    "effnotes.datasets.backdoor": "TROJANS Trojan backdoor_data plant_backdoor plant_trojans",
    "effnotes.datasets.celeba": "CelebADataset load_celeba",
    "effnotes.datasets.cifar10": "CIFAR10_CLASSES load_cifar10 make_cifar10s to_greyscale",
    "effnotes.datasets.face_classes": "FACE_CLASSES make_face_classes",
    "effnotes.datasets.face_drawing": "Nuisances render_faces",
    "effnotes.datasets.faces": "ATTRIBUTES face_data make_face_splits make_faces skewed_attributes",
    "effnotes.datasets.glyphs": "GLYPHS GlyphData make_glyphs",
    "effnotes.datasets.iwildcam": "FREQUENCY_NAMES frequency_groups load_iwildcam",
    "effnotes.datasets.load": "load_data",
    "effnotes.datasets.shapes": "SHAPES make_shapes",
    "effnotes.datasets.waterbirds": "load_waterbirds",
}

__getattr__, __dir__, __all__ = exports(__name__, _HOMES)
