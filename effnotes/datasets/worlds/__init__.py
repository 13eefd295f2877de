"""Worlds of made-up facts, to study what a language model knows and how editing changes it: see `data/worlds/CARD.md`."""

from effnotes.datasets.worlds.graph import Facts, Graph
from effnotes.datasets.worlds.sentences import FORMS, Sentences
from effnotes.datasets.worlds.world import World

__all__ = ["FORMS", "Facts", "Graph", "Sentences", "World"]
