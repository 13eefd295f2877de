"""Mails: read out of mailboxes or written by made-up persons, split so that no test is learnt, with an instruction each."""

from effnotes.core.lazy import exports

_HOMES = {
    "effnotes.datasets.text.grammar": "Request content",
    "effnotes.datasets.text.mail": "Mail Mailbox read_mails",
    "effnotes.datasets.text.mailboxes": "grammar_playback read_gold write_mbox",
    "effnotes.datasets.text.personas": "Persona detect draw_persona style write_canaries write_facts write_mails",
    "effnotes.datasets.text.playback": "Extractive Instruct Playback copy_rate play_back",
    "effnotes.datasets.text.redaction": "redact restore",
    "effnotes.datasets.text.retrieval": "PANZA_COSINE Encoder Index sentence_encoder with_context",
    "effnotes.datasets.text.splits": "check_apart group_mails split_mails split_manifest",
}

__getattr__, __dir__, __all__ = exports(__name__, _HOMES)
