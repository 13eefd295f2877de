"""Texts that somebody wrote: mails out of a mailbox, split so that nothing of a test is learnt, and an instruction for each."""

from effnotes.core.lazy import exports

_HOMES = {
    "effnotes.datasets.text.mail": "Mail Mailbox read_mails",
    "effnotes.datasets.text.playback": "Extractive Instruct Playback copy_rate play_back",
    "effnotes.datasets.text.redaction": "redact restore",
    "effnotes.datasets.text.retrieval": "PANZA_COSINE Encoder Index sentence_encoder with_context",
    "effnotes.datasets.text.splits": "check_apart group_mails split_mails split_manifest",
}

__getattr__, __dir__, __all__ = exports(__name__, _HOMES)
