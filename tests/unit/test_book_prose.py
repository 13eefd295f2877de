"""Numbers in the prose of the pages that are run: each is a parameter's value, the register's, a citation's or a definition.

What a run gives is said by sentences that the run computes (`effnotes.reporting.findings`); whatever number is typed beside them
goes stale with the next run. All offenders, with their lines: `python -m pytest tests/unit/test_book_prose.py -k prose`.
"""

import ast
import inspect
import itertools
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from effnotes.datasets import ATTRIBUTES
from effnotes.metrics.bias import uncertain
from effnotes.pruning.cost import measure_latency
from effnotes.reporting.claims.intervals import LEVEL
from effnotes.runner.project import PROFILES, Chapter, Project

ROOT = Path(__file__).parents[2]
PROJECT = Project.find(ROOT)
PAGES = list(PROJECT.chapters)

DOUBT = inspect.signature(uncertain).parameters["half_width"].default  # of the band of probabilities that count as uncertain
TIMED = inspect.signature(measure_latency).parameters

# What is no measurement, as it is typed, and why it stands; one entry for what several sentences say.
ALLOWED = {
    rf"between {0.5 - DOUBT:g} and {0.5 + DOUBT:g}": "the threshold of the library's `uncertain`",
    rf"\b([Tt]welve|{len(ATTRIBUTES)}) (binary )?attributes": "what the drawn faces have",
    rf"fastest of {TIMED['repeats'].default} batches of {TIMED['batch_size'].default} faces": "how the library measures a latency",
    r"\b(above|at|under|from|to|than|around|variance|between|is|are|of|and|by|or|below) [01](?![\d%]|[.,]\d)": "an end of a scale",
    r"\bone (mark )?bit\b": "what a mark takes in a file",
    r"\b(worlds|seeds) 9\d\d (to|and) 9\d\d\b": "names of pilot units, of which nothing is reported",
    r"\b[Oo]ne class in ten\b|\bnine (times|answers|faces) in ten\b": "CIFAR-10 has ten classes; or a made-up example",
    r"If 80% of the faces .* 89% .* is 0\.09|a mean _ of 0\.6 can be": "a made-up example, which is said to be one",
    r"_ above 1\.25 times the median": "a definition that the text gives: which attributes are flagged",
    r"less than a tenth of the smaller one": "a definition that the text gives: which attributes are skewed",
    r"a quarter edited rows and three quarters retain rows": "a definition that the text gives: how a batch is made up",
}

ORDINAL = "one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve"
WORDS = dict(zip(ORDINAL.split("|"), range(1, 13), strict=True))
PARTS = {"third": 3, "quarter": 4, "fifth": 5, "sixth": 6, "seventh": 7, "eighth": 8, "ninth": 9, "tenth": 10, "hundredth": 100}
UNITS = r"points?|times|per cent|percent|minutes?|hours?|seconds|milliseconds?|days?|weeks?|months?|standard errors?|bits?"
QUANTITY = re.compile(
    rf"""(?P<number>(?<![\w.])(?<![A-Za-z]-)[-+−–]?\d(?:[\d,\u202f]*\d)?(?:\.\d+)?)(?P<unit>\s?%|\s?points?)?(?![-]?\w)
    |\b(?P<word>{ORDINAL}|a|an|half\ an)\s(?P<word_unit>{UNITS})\b
    |\b(?:several|few)\s(?:points|minutes|hours|seconds|days)\b
    |\b(?:(?:{ORDINAL}|\w+ty|\w+teen|a|an|over\ a|several|few)\s)?(?:hundreds?|thousands?|millions?|billions?|dozens?)\b
    |\b(?:twenty|thirty|forty|fifty|sixty|seventy|eighty|ninety|\w+teen)(?:-\w+)?\b
    |\b(?P<count>{ORDINAL}|a)\s(?P<part>thirds?|quarters?|fifths?|sixths?|sevenths?|eighths?|ninths?|tenths?|hundredths?)\b
    |\b(?:{ORDINAL})\s(?:\w+\s)?(?:in|out\ of)\s(?:{ORDINAL}|a\ hundred)\b""",
    re.VERBOSE | re.IGNORECASE,
)
NO_PROSE = re.compile(r"\$[^$]*\$|\{[\w:.-]+\}`[^`]*`|`[^`]*`|!?\[[^\]]*\]\([^)]*\)|<[^>]*>|https?://\S+|\(eq-[\w-]+\)")
HISTORY = re.compile(r"changed after seeing", re.IGNORECASE)  # the one section that tells what earlier runs gave


class Sentence(NamedTuple):
    """A sentence of a page with the line of the source on which it stands."""

    line: int
    text: str


def known_numbers(name: str) -> set[float]:
    """All numbers among the parameters of a chapter in some profile, in the files that they name, and in the register."""
    values: list[Any] = [PROJECT.values(name, profile, {}) for profile in PROFILES]
    # A page that is drawn from a kept record tells of that run; the profiles are those of its chapter.
    owner = next((chapter for chapter in PROJECT.chapters if name.startswith(f"{chapter}_")), name)
    values += [PROJECT.values(owner, profile, {}) for profile in PROFILES] if owner != name else []
    values += [PROJECT.register(), LEVEL]
    return set(numbers_in(values))


def numbers_in(value: Any) -> Iterator[float]:
    if isinstance(value, dict | list | tuple):
        for item in value.values() if isinstance(value, dict) else value:
            yield from numbers_in(item)
    elif isinstance(value, str) and value.endswith(".yaml") and (ROOT / value).is_file():
        yield from numbers_in(yaml.safe_load((ROOT / value).read_text(encoding="utf-8")))
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield float(value)


def sentences(chapter: Chapter) -> Iterator[Sentence]:
    """The sentences of prose, captions, alternative texts and texts in code, without exercises and their solutions."""
    lines = chapter.source.splitlines()
    starts = [number for number, line in enumerate(lines, start=1) if line.startswith("# %%")]
    cells = chapter.notebook().cells
    assert len(starts) == len(cells), f"{chapter.page}: cells that are not marked by '# %%'"
    inside, history = "", False
    for start, cell in zip(starts, cells, strict=True):
        if cell.cell_type == "markdown":
            fence = ""
            for number, raw in enumerate(cell.source.splitlines(), start=start + 1):
                line = raw.strip()
                if marker := re.match(r"[`:]{3,}\{(exercise|solution)-(start|end)", line):
                    inside = marker[1] if marker[2] == "start" else ""
                if line.startswith("#"):
                    history = HISTORY.search(line) is not None
                if fence:
                    fence = "" if line.startswith(fence) else fence
                    continue
                # What is fenced is code or mathematics; the content of a directive, such as a note, is prose.
                if opening := re.match(r"(\$\$)(?!.*\$\$)|(?:`{3,}|:{3,})(?!$|\{(?!code|math))", line):
                    fence = opening[1] or line[:3]
                    continue
                if re.match(r"`{3}|:{3}", line):
                    continue
                if not (inside or history or re.match(r":[\w-]+:", line) or set(line) <= set("|:- ")):
                    yield Sentence(number, re.sub(r"^(\d+\.|[-*]) ", "", line))
            continue
        shown = cell.metadata.get("mystnb", {})
        told = [shown.get("figure", {}).get("caption", ""), shown.get("image", {}).get("alt", "")]
        if not inside:
            yield from (Sentence(start, part) for text in told for part in re.split(r"(?<=[.;:!?]) ", text))
            yield from (Sentence(start + line, text) for line, text in texts_in(cell.source))


def texts_in(code: str) -> Iterator[tuple[int, str]]:
    """Texts of several words in code, such as captions of tables; not what is formatted into them, and no file names."""
    for node in ast.walk(ast.parse(textwrap.dedent(code))):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and len(node.value.split()) > 1:
            yield node.lineno, node.value


def offences(chapter: Chapter, known: set[float]) -> list[str]:
    """What stands in the prose of a page and is no known number: line, what was found and its sentence."""
    shares = {round(number * 100, 9) for number in known}
    found = []
    for line, text in sentences(chapter):
        if re.search(r"\{cite:?\w*\}`", text):
            continue
        plain = NO_PROSE.sub("_", text)
        for pattern in ALLOWED:
            plain = re.sub(pattern, " _ ", plain)
        found += [
            f"{chapter.page}.py:{line}: '{match[0].strip()}' in: {text}"
            for match in QUANTITY.finditer(plain)
            if not is_known(match, known, shares)
        ]
    return found


def is_known(match: re.Match[str], known: set[float], shares: set[float]) -> bool:
    """Whether a quantity is a parameter's value or the register's, as it is or as a percentage."""
    if match["number"]:
        value = abs(float(re.sub(r"[,\u202f+−–]", "", match["number"])))
        return round(value, 9) in (shares if match["unit"] else known)
    if match["part"]:
        parts = PARTS[match["part"].lower().removesuffix("s")]
        share = WORDS.get(match["count"].lower(), 1) / parts
        return bool({round(share, 9), round(1 - share, 9)} & known)
    if match["word"] and "point" in match["word_unit"]:
        return match["word"].lower() in WORDS and float(WORDS[match["word"].lower()]) in shares
    return False


@pytest.mark.parametrize("name", PAGES)
def test_prose_has_no_number_that_comes_from_nowhere(name: str) -> None:
    found = offences(PROJECT.chapters[name], known_numbers(name))
    assert not found, "\n" + "\n".join(itertools.chain(found, [f"{len(found)} numbers"]))


@pytest.mark.parametrize(
    ("sentence", "found"),
    [
        ("The network has about eighty thousand weights.", ["eighty thousand"]),
        ("It is a hundred times faster.", ["a hundred"]),
        ("It takes an hour, or 0.7 bits.", ["an hour", "0.7"]),
        ("It falls by a few points.", ["few points"]),
        ("It falls by 9.5 points at 90% after 8 epochs.", ["9.5 points"]),
        ("That is 4.3 standard errors, and −1.9.", ["4.3", "−1.9"]),
        ("Nine tenths of them, a tenth, or two thirds.", ["two thirds"]),
        ("Over a million weights, 17% of 5,016.", ["Over a million", "17%", "5,016"]),
        ("A ResNet-18 on CIFAR-10S in $x = 77$ and `f(77)` and {term}`77` by [77](77).", []),
        ("The paper says 77 {cite:p}`someone2023`.", []),
        ("The two models differ in three things, from 0 to 1.", []),
    ],
)
def test_quantities_are_found_in_a_sentence(sentence: str, found: list[str]) -> None:
    chapter = Chapter("c", "book/c", f"# %% [markdown]\n# # Title\n# {sentence}\n")
    assert [re.search(r"'(.*?)' in: ", each)[1] for each in offences(chapter, {0.9, 8.0})] == found  # type: ignore[index]


def test_code_exercises_and_history_are_left_out_and_captions_are_not() -> None:
    source = """\
# %% [markdown]
# # Title
# ```python
# x = 77
# ```
# $$
# 77
# $$ (eq-x)
# ```{note}
# :name: n-77
# There are 71.
# ```
# ```{exercise-start}
# :label: e
# ```
# Are there 77?
# ```{exercise-end}
# ```
# ## What was changed after seeing results
# There were 77.
#
# ## More

# %% mystnb={"figure": {"caption": "Some 72 dots.", "name": "fig-x"}, "image": {"alt": "Dots. Of them 73."}}
x = 77
table.set_caption(f"of 74 rows {x:77.1f}")
"""
    found = [offence.split(" in: ")[0] for offence in offences(Chapter("c", "book/c", source), set())]
    assert found == ["book/c.py:11: '71'", "book/c.py:24: '72'", "book/c.py:24: '73'", "book/c.py:26: '74'"]
