"""What is to be run: a chapter, every parameter's value, and the key that its record will have."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from effnotes.runner import keys
from effnotes.runner.project import Chapter, Project


class ChapterPlan(NamedTuple):
    """A chapter with the values that it will be run with, and the key that follows from them."""

    chapter: Chapter
    profile: str
    overrides: Mapping[str, Any]
    values: dict[str, Any]
    key: str
    key_parts: dict[str, str]


def plan_chapter(project: Project, name: str, profile: str, overrides: Mapping[str, Any]) -> ChapterPlan:
    """Resolve the parameters of a chapter and compute its key; nothing is run.

    Args:
        project: the checkout.
        name: the chapter.
        profile: name of the profile, which supplies values over the chapter's defaults.
        overrides: values by name over the profile's.

    Raises:
        UsageError: the chapter, the profile or a parameter does not exist, or a value does not fit.
    """
    chapter, values = project.chapter(name), project.values(name, profile, overrides)
    return ChapterPlan(chapter, profile, overrides, values, *keys.record_key(chapter, project.register(name), project.root)(values))
