"""Worlds of made-up facts, to study what a language model knows and how editing changes it: see `data/worlds/CARD.md`."""

from effnotes.core.lazy import exports

_HOMES = {
    "FORMS": "effnotes.datasets.worlds.forms",
    "Facts": "effnotes.datasets.worlds.graph",
    "Group": "effnotes.datasets.worlds.tasks",
    "NamedWorld": "effnotes.datasets.worlds.named",
    "Sentences": "effnotes.datasets.worlds.sentences",
    "Task": "effnotes.datasets.worlds.tasks",
    "World": "effnotes.datasets.worlds.world",
    "export_world": "effnotes.datasets.worlds.storage",
    "import_world": "effnotes.datasets.worlds.storage",
    "load_world": "effnotes.datasets.worlds.storage",
    "make_draws": "effnotes.datasets.worlds.draws",
    "make_task": "effnotes.datasets.worlds.draws",
    "plot_world": "effnotes.datasets.worlds.plot",
    "read_facts": "effnotes.datasets.worlds.named",
    "read_litgpt_jsonl": "effnotes.datasets.worlds.litgpt",
    "save_world": "effnotes.datasets.worlds.storage",
    "to_litgpt_jsonl": "effnotes.datasets.worlds.litgpt",
}

__getattr__, __dir__, __all__ = exports(__name__, _HOMES)
