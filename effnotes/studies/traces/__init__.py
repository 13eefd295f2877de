"""What a trace, a copy of a network pruned for one image, does to explanations: the experiments of chapter 2.

`plan` checks everything before anything is trained, `run` trains and judges, `measure` gives the verdicts; `figures` draws.
"""

from effnotes.core.lazy import exports

_HOMES = {
    "effnotes.studies.traces.effects": "measure",
    "effnotes.studies.traces.experiment": "example_maps example_pictures plan run trace_of",
}

__getattr__, __dir__, __all__ = exports(__name__, _HOMES)
