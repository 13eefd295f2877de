"""What a model used for its answer."""

from effnotes.core.lazy import exports

_HOMES = {
    "effnotes.interpretation.attribution": "ATTRIBUTION_METHODS attribute attribute_batch edge_map",
    "effnotes.interpretation.causal": "causal_trace",
}

__getattr__, __dir__, __all__ = exports(__name__, _HOMES)
