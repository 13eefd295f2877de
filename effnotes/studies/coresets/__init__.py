"""Fewer training examples: which to keep, and whom the smaller set no longer covers. The experiments of the companion on coresets.

`plan` checks everything before anything is trained, `run` scores, selects and trains, `measure` gives the verdicts.
"""

from effnotes.core.lazy import exports

_HOMES = {"effnotes.studies.coresets.effects": "measure", "effnotes.studies.coresets.experiment": "plan run"}

__getattr__, __dir__, __all__ = exports(__name__, _HOMES)
