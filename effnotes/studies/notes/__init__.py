"""Thirteen systems beside the thesis, each as one small run: the notes.

`plan` checks everything before anything is trained, `run` gives a table for each note, `measure` the verdicts; `figures` draws.
"""

from effnotes.core.lazy import exports

_HOMES = {"effnotes.studies.notes.experiment": "measure plan run"}

__getattr__, __dir__, __all__ = exports(__name__, _HOMES)
