"""A writing assistant that learns one person's mails: the experiments of chapter 3.

`plan` checks everything before anything is trained, `run` tunes and judges, `measure` gives the verdicts; `figures` draws.
"""

from effnotes.core.lazy import exports

_HOMES = {"effnotes.studies.personalization.effects": "measure", "effnotes.studies.personalization.experiment": "plan run"}

__getattr__, __dir__, __all__ = exports(__name__, _HOMES)
