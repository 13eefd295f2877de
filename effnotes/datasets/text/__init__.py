"""Mails: read from mailboxes, or written by made-up persons."""

from effnotes.core.lazy import exports

_HOMES = {
    "effnotes.datasets.text.grammar": "Request content",
    "effnotes.datasets.text.mailboxes": "grammar_playback read_gold write_mbox",
    "effnotes.datasets.text.personas": "Persona detect draw_persona style write_canaries write_facts write_mails",
}

__getattr__, __dir__, __all__ = exports(__name__, _HOMES)
