"""Sparse training beside the book's chapters: AC/DC, transfer of sparse networks, and CrAM, on drawn glyphs.

`plan` checks everything before anything is trained, `run` trains and judges, `measure` gives the verdicts; `figures` draws.
"""

from effnotes.core.lazy import exports

_HOMES = {"effnotes.studies.sparse_training.effects": "measure", "effnotes.studies.sparse_training.experiment": "plan run"}

__getattr__, __dir__, __all__ = exports(__name__, _HOMES)
