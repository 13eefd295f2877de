"""Worksheets: the exercises of a chapter as a notebook that runs by itself, for students with stubs, for teachers with answers.

What is asked, how long it takes and how hard it is, and the solution in words stand in the chapter. ``book/exercises/CHAPTER.py``
(py:percent) adds what a worksheet needs. Its cells are told apart by tags, and those of one exercise follow its first one::

    # %% tags=["setup"]                              what is at hand, here and in the checks; what it reads lies under "data/..."
    # %% tags=["checks"]                             further names that the checks need
    # %% [markdown] exercise="exercise-identity"     what to hand in
    # %% tags=["stub"]                               `answer` with gaps, `...`
    # %% tags=["check"]                              a function by the label's name, with _ for -, that asserts what is right
    # %% [markdown] tags=["marking"]                 what to look for, for teachers
    # %% tags=["answer"]                             an answer that passes
    # %% tags=["wrong"]                              what people answer wrongly, two or more, to be run behind the answer
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from effnotes.runner.errors import UsageError
from effnotes.runner.project import Chapter, Project

_EXERCISE = re.compile(r"```\{exercise-start\}([^\n]*)\n:label: (\S+)\n```\n(.*?)\n```\{exercise-end\}", re.DOTALL)
_SOLUTION = re.compile(r"```\{solution-start\} (\S+)\n(?::[^\n]*\n)*```\n(.*?)\n```\{solution-end\}", re.DOTALL)
_EFFORT = re.compile(r" ([1-9]\d*) minutes, (easy|medium|hard)")
_EQUATION = re.compile(r"\$\$\n(.*?)\n\$\$ \((eq-[\w-]+)\)", re.DOTALL)
_ROLE = re.compile(r"\{([\w:]+)\}`([^`<]*?)(?: <[^`]*>)?`")

_WORDS = {"eq": "({})", "numref": "the figure *{}*"}  # what a role becomes

_ONCE = {"stub", "check", "marking", "answer"}  # cells that each exercise has one of


@dataclass
class Exercise:
    """An exercise of a chapter, with the cells of its worksheet."""

    label: str
    effort: str  # such as "15 minutes, easy"
    text: str  # what is asked, as Markdown that needs nothing of the chapter
    solution: str  # in words, likewise
    hand_in: str = ""  # what to hand in
    cells: dict[str, list[str]] = field(default_factory=dict)  # texts of the other cells by tag

    @property
    def function(self) -> str:
        """The name of its check."""
        return self.label.replace("-", "_")


@dataclass(frozen=True)
class Worksheet:
    """The exercises of a chapter in its order, with what goes before them."""

    chapter: Chapter
    intro: str
    setup: str
    checks: str
    exercises: tuple[Exercise, ...]

    def check_module(self) -> str:
        """Return the text of the module that the worksheet's checks come from; it holds no answers."""
        functions = [text for each in self.exercises for text in each.cells["check"]]
        about = f'"""Checks of the exercises of "{self.chapter.title}": each takes an answer, and says what is off."""'
        return "\n\n\n".join([about, self.setup, self.checks, *functions]) + "\n"

    def notebook(self, teacher: bool) -> Any:
        """Return the worksheet as a notebook without outputs."""
        from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

        kind = "for teachers, with answers and notes on marking" if teacher else "answer in the cells that hold gaps (`...`)"
        needs = "It needs the package effnotes and the files that lie beside it."
        about = f"A worksheet, {kind}.\nA check says *pass*, or what is off.\n{needs}"
        head = f"# Exercises: {self.chapter.title}\n\n{about}\n\n{self.intro}"
        setup = f"{self.setup}\n\nimport {self.chapter.name}_checks as checks"
        cells = [new_markdown_cell(head), new_code_cell(setup)]
        for number, each in enumerate(self.exercises, start=1):
            asked = (
                f"## {number}. {each.label.removeprefix('exercise-').replace('-', ' ').capitalize()} ({each.effort})\n\n{each.text}"
            )
            cells.append(new_markdown_cell(f"{asked}\n\n**Hand in.** {each.hand_in}"))
            if teacher:
                cells.append(new_markdown_cell(f"**Solution.** {each.solution}\n\n**Marking.** {each.cells['marking'][0]}"))
            cells.append(new_code_cell(each.cells["answer" if teacher else "stub"][0], metadata={"tags": [each.label]}))
            cells.append(new_code_cell(f"checks.{each.function}(answer)"))
        for number, cell in enumerate(cells):
            cell["id"] = f"cell-{number}"
        kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
        return new_notebook(cells=cells, metadata={"kernelspec": kernel, "language_info": {"name": "python"}})


def exercises_of(chapter: Chapter) -> list[Exercise]:
    """Read the exercises of a chapter from its prose.

    Raises:
        UsageError: one does not say how many minutes it takes and how hard it is, or has no solution.
    """
    equations = {label: text for text, label in _EQUATION.findall(chapter.prose)}
    solutions = dict(_SOLUTION.findall(chapter.prose))
    found = []
    for effort, label, text in _EXERCISE.findall(chapter.prose):
        if not _EFFORT.fullmatch(effort):
            form = "``{exercise-start} 15 minutes, easy``, or medium, or hard"
            raise UsageError(f"{chapter.page}.py: {label} does not say how long it takes and how hard it is; write {form}.")
        if label not in solutions:
            raise UsageError(
                f"{chapter.page}.py: {label} has no solution; write one behind it, from solution-start to solution-end."
            )
        found.append(Exercise(label, effort.strip(), standing_alone(text, equations), standing_alone(solutions[label], equations)))
    return found


def standing_alone(text: str, equations: Mapping[str, str] = MappingProxyType({})) -> str:
    """Return Markdown of a chapter with words in place of roles, and the equations behind it that it refers to.

    Args:
        text: the Markdown.
        equations: the chapter's by label, in LaTeX.
    """
    named = dict.fromkeys(name for role, name in _ROLE.findall(text) if role == "eq" and name in equations)
    told = _ROLE.sub(lambda found: _WORDS.get(found[1], "*{}*").format(found[2]), re.sub(r" \{cite:p\}`[^`]*`", "", text))
    return "\n\n".join([told, *(f"$$\n{equations[name]} \\tag{{{name}}}\n$$" for name in named)])


def worksheets(project: Project) -> list[str]:
    """Return the names of the chapters that have a worksheet, in the order of the book."""
    return [name for name in project.chapters if (project.root / f"book/exercises/{name}.py").is_file()]


def read_worksheet(project: Project, name: str) -> Worksheet:
    """Read the worksheet of a chapter.

    Raises:
        UsageError: there is no such chapter, or none with exercises, or a cell of an exercise is missing.
    """
    chapter, path = project.chapter(name), f"book/exercises/{name}.py"
    if not (project.root / path).is_file():
        having = ", ".join(worksheets(project)) or "none"
        raise UsageError(f"'{name}' has no worksheet ({path}). Chapters that have one: {having}.")
    exercises = {each.label: each for each in exercises_of(chapter)}
    parts: dict[str, list[str]] = {"intro": [], "setup": [], "checks": []}
    current: Exercise | None = None
    for cell in Chapter(name, path.removesuffix(".py"), project.read_text(path)).notebook().cells:
        label, tags = cell.metadata.get("exercise"), cell.metadata.get("tags", ["intro"])
        if label is not None:
            if label not in exercises:
                raise UsageError(f"{path}: {chapter.page}.py has no exercise {label!r}; it has {', '.join(exercises) or 'none'}.")
            current = exercises[label]
            current.hand_in = cell.source
        elif current is None:
            parts.setdefault(tags[0], []).append(cell.source)
        else:
            current.cells.setdefault(tags[0], []).append(cell.source)
    for each in exercises.values():
        if wrong := sorted(_ONCE - {tag for tag, texts in each.cells.items() if len(texts) == 1}):
            raise UsageError(f"{path}: {each.label} needs one cell tagged {wrong[0]!r}.")
    joined = {tag: "\n\n".join(texts) for tag, texts in parts.items()}
    return Worksheet(chapter, joined["intro"], joined["setup"], joined["checks"], tuple(exercises.values()))
