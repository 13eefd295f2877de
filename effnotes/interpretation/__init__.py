"""What a model used for its answer: causal traces of language models, and of image classifiers traces and attribution."""

from effnotes.core.lazy import exports

_HOMES = {
    "effnotes.interpretation.attribution": "ATTRIBUTION_METHODS attribute attribute_batch edge_map",
    "effnotes.interpretation.augmentation": "augment",
    "effnotes.interpretation.causal": "causal_trace",
    "effnotes.interpretation.contribution": "critical_neurons",
    "effnotes.interpretation.search": "FoundLevels SolvedLevels",
    "effnotes.interpretation.tracing": "Trace TraceRequest trace trace_batch traces",
    "effnotes.interpretation.visualisation": "visualise",
}

__getattr__, __dir__, __all__ = exports(__name__, _HOMES)
