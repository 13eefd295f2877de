"""The experiment of the companion page on contextual sparsity: `plan`, `run`, `measure`."""

from effnotes.core.lazy import exports

_HOMES = {
    "effnotes.studies.contextual.effects": "measure recall_at",
    "effnotes.studies.contextual.experiment": "DENSE LTE METHODS STATIC draw_facts plan run time_wide",
}

__getattr__, __dir__, __all__ = exports(__name__, _HOMES)
