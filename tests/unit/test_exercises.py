"""Every exercise of the book: its own answer passes its check, no answer and answers that people give wrongly do not."""

import contextlib
import re
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from effnotes.runner.exercises import exercises_of, read_worksheet
from effnotes.runner.project import Project

ROOT = Path(__file__).parents[2]
PROJECT = Project.find(ROOT)
CHAPTERS = {name: exercises_of(chapter) for name, chapter in PROJECT.chapters.items() if exercises_of(chapter)}


@cache
def at_hand(chapter: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The names of the worksheet's first cell, and those of the module that its checks come from."""
    sheet = read_worksheet(PROJECT, chapter)
    names: dict[str, Any] = {}
    checks: dict[str, Any] = {}
    with contextlib.chdir(ROOT):
        exec(compile(sheet.setup, f"{chapter}.ipynb", "exec"), names)
        exec(compile(sheet.check_module(), f"{chapter}_checks.py", "exec"), checks)
    return names, checks


def after(code: str, names: dict[str, Any]) -> dict[str, Any]:
    """The names that there are once a cell has run."""
    names = names | {"answer": deepcopy(names.get("answer"))}
    exec(compile(code, "cell", "exec"), names)
    return names


@pytest.mark.parametrize(("chapter", "number"), [(name, at) for name, found in CHAPTERS.items() for at in range(len(found))])
def test_the_answer_passes_and_others_do_not(chapter, number, capsys):
    exercise = read_worksheet(PROJECT, chapter).exercises[number]
    setup, checks = at_hand(chapter)
    check = checks[exercise.function]
    (right,), wrong, (stub,) = (exercise.cells[tag] for tag in ("answer", "wrong", "stub"))
    answered = after(right, setup)
    capsys.readouterr()
    check(answered["answer"])
    assert capsys.readouterr().out == "pass\n"
    assert len(wrong) >= 2
    others = [*(after(code, answered)["answer"] for code in wrong), after(stub, setup)["answer"], None, {}]
    for other in others:
        check(other)
        text = capsys.readouterr().out
        assert re.match(r"not yet: .{20,}", text), f"{exercise.label} says {text!r} of {other}"


def test_all_chapters_with_exercises_have_a_worksheet():
    assert sum(map(len, CHAPTERS.values())) >= 24
    assert {path.stem for path in (ROOT / "book" / "exercises").glob("*.py")} == set(CHAPTERS)
    for name in CHAPTERS:
        read_worksheet(PROJECT, name)


def test_the_page_for_teachers_places_every_exercise_once():
    placed = re.findall(r"<(exercise-[\w-]+)>", (ROOT / "book" / "teach.md").read_text())
    assert sorted(placed) == sorted(exercise.label for found in CHAPTERS.values() for exercise in found)
