"""Worlds of made-up facts, to study what a language model knows and how editing changes it: see `data/worlds/CARD.md`."""

from effnotes.datasets.worlds.changes import Group
from effnotes.datasets.worlds.draws import Draws, make_draws, make_task
from effnotes.datasets.worlds.forms import FORMS
from effnotes.datasets.worlds.graph import Facts, Graph
from effnotes.datasets.worlds.litgpt import read_litgpt_jsonl, to_litgpt_jsonl
from effnotes.datasets.worlds.named import NamedWorld, read_facts
from effnotes.datasets.worlds.plot import plot_world
from effnotes.datasets.worlds.sentences import Sentences
from effnotes.datasets.worlds.storage import export_world, import_world, load_world, save_world
from effnotes.datasets.worlds.tasks import Task
from effnotes.datasets.worlds.world import World

__all__ = [
    "FORMS",
    "Draws",
    "Facts",
    "Graph",
    "Group",
    "NamedWorld",
    "Sentences",
    "Task",
    "World",
    "export_world",
    "import_world",
    "load_world",
    "make_draws",
    "make_task",
    "plot_world",
    "read_facts",
    "read_litgpt_jsonl",
    "save_world",
    "to_litgpt_jsonl",
]
