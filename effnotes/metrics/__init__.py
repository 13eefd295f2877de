"""What a model does well, how sure it is of it, and whom it treats how: functions on arrays, a room for each question."""

from effnotes.core.lazy import exports

_HOMES = {
    "effnotes.metrics.bias": "audit_logits bias_audit read_outputs",
    "effnotes.metrics.blinded": "agreement read_study score_study write_study",
    "effnotes.metrics.localisation": "decoy_auc deletion insertion pixel_auc pointing_game",
    "effnotes.metrics.text": "AuthorshipJudge Habits Mauve bleu_panza corpus_bleu exposure longest_copy mauve rouge_l",
}

__getattr__, __dir__, __all__ = exports(__name__, _HOMES)
