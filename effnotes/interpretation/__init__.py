"""What a model used for its answer."""

from effnotes.interpretation.causal import causal_trace

__all__ = ["causal_trace"]
