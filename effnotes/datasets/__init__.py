"""Data whose truth is known, drawn on the fly from a seed."""

from effnotes.datasets.faces import (
    ATTRIBUTES,
    Attribute,
    Faces,
    FaceSplits,
    Nuisances,
    make_face_splits,
    make_faces,
    render_faces,
    skewed_attributes,
)

__all__ = [
    "ATTRIBUTES",
    "Attribute",
    "FaceSplits",
    "Faces",
    "Nuisances",
    "make_face_splits",
    "make_faces",
    "render_faces",
    "skewed_attributes",
]
