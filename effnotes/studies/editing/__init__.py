"""The experiments of the chapter on editing what a language model knows: `plan`, `pretrain`, `run`, `measure`."""

from effnotes.core.lazy import exports

_HOMES = {
    "plan": "effnotes.studies.editing.experiment",
    "pretrain": "effnotes.studies.editing.experiment",
    "run": "effnotes.studies.editing.experiment",
    "load_base": "effnotes.studies.editing.bases",
    "measure": "effnotes.studies.editing.effects",
}

__getattr__, __dir__, __all__ = exports(__name__, _HOMES)
