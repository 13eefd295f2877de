"""What a model used for its answer."""

from effnotes.core.lazy import exports

_HOMES = {
    "effnotes.interpretation.augmentation": "augment",
    "effnotes.interpretation.causal": "causal_trace",
    "effnotes.interpretation.tracing": "Trace TraceRequest trace traces",
}

__getattr__, __dir__, __all__ = exports(__name__, _HOMES)
