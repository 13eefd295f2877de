"""Worlds of made-up facts, to study what a language model knows and how editing changes it: see `data/worlds/CARD.md`."""

from effnotes.core.lazy import exports

_HOMES = {
    "effnotes.datasets.worlds.draws": "edit_task make_draws make_task",
    "effnotes.datasets.worlds.forms": "FORMS",
    "effnotes.datasets.worlds.graph": "Facts",
    "effnotes.datasets.worlds.litgpt": "read_litgpt_jsonl to_litgpt_jsonl",
    "effnotes.datasets.worlds.named": "NamedWorld read_edits read_facts",
    "effnotes.datasets.worlds.plot": "plot_world",
    "effnotes.datasets.worlds.sentences": "Sentences",
    "effnotes.datasets.worlds.storage": "export_world import_world load_world",
    "effnotes.datasets.worlds.tasks": "Group Task",
    "effnotes.datasets.worlds.world": "World",
}

__getattr__, __dir__, __all__ = exports(__name__, _HOMES)
