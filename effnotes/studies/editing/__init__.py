"""The experiments of the chapter on editing what a language model knows: `plan`, `pretrain`, `run`, `measure`."""

from effnotes.core.lazy import exports

_HOMES = {
    "effnotes.studies.editing.bases": "load_base",
    "effnotes.studies.editing.effects": "measure",
    "effnotes.studies.editing.experiment": "plan pretrain run",
}

__getattr__, __dir__, __all__ = exports(__name__, _HOMES)
