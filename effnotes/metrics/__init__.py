"""What a model does well, how sure it is of it, and whom it treats how: functions on arrays, a room for each question."""

from effnotes.core.lazy import exports

_HOMES = {"audit_logits": "effnotes.metrics.bias", "bias_audit": "effnotes.metrics.bias", "read_outputs": "effnotes.metrics.bias"}

__getattr__, __dir__, __all__ = exports(__name__, _HOMES)
