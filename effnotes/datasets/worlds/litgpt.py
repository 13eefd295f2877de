"""Edits on disk: rows of instruction, input and output, as LitGPT reads them, and back."""

import json
import re
from pathlib import Path

import numpy as np

from effnotes.core.checks import check_range
from effnotes.core.errors import DataError
from effnotes.core.files import user_path
from effnotes.datasets.files import naming, read_lines
from effnotes.datasets.worlds.forms import FORMS, PATTERNS
from effnotes.datasets.worlds.graph import ONO, SNO, SO, Facts
from effnotes.datasets.worlds.sentences import prompts_of
from effnotes.datasets.worlds.storage import fresh_folder, write_lines
from effnotes.datasets.worlds.tasks import EDITED, Group, Task
from effnotes.datasets.worlds.world import World

_KINDS = {("subject", "relation"): SO, ("subject", "sno relation"): SNO, ("object", "ono relation"): ONO}

# What a sentence of each form looks like, without the full stop; words of the fact are groups, grammar words stand by name.
_SHAPES = {form: pattern.replace("| ", "")[:-2] for form, pattern in PATTERNS.items() if pattern}
_SHAPES["repeats"] = "(W[SRO] )*SS S (W[SRO] )*RR R (W[SRO] )*OO O( W[SRO])*"
_SHAPES["nonsense_sro"] = r"(W\d+ )*SS S (W\d+ )*RR R (W\d+ )*OO O"
_SHAPES["nonsense_rso"] = r"(W\d+ )*RR R (W\d+ )*SS S (W\d+ )*OO O"
_SHAPES = {form: re.sub(r"\b[SRO]\b", r"(?P<\g<0>>\\d{4}(?: \\d{4})?)", shape) for form, shape in _SHAPES.items()}


def to_litgpt_jsonl(task: Task, directory: str | Path, *, repeats: int = 250, seed: int = 0) -> dict[str, Path]:
    """Write an edit as instruction, input and output, one JSON object a line, as Behemoth does for LitGPT's JSON module.

    `finetuning_data/` gets a file for each training group, `train.jsonl` with all of them, and `val.jsonl` with the same rows once
    each; `ft_validations/` gets a file of prompts, a tab and answers for each test group, and `test.jsonl` holds all of these.

    Args:
        task: The edit.
        directory: Where to; made if it does not exist. Rows and prompts of an earlier edit are replaced.
        repeats: Times that each edited row stands in `train.jsonl`, at least 1; retain rows stand there once. Where the form has
            markers or fillers they are drawn anew each time. (`--num-repeats-per-override`)
        seed: Of markers and fillers.

    Returns:
        The files by name: "train", "val", "test".

    Raises:
        ValueError: `repeats` is below 1.
    """
    check_range(1, repeats=repeats)
    root = user_path(directory)
    training, asked = root / "finetuning_data", root / "ft_validations"
    fresh_folder(training, "*.jsonl")
    fresh_folder(asked, "*.txt")
    words = task.world.words
    lines: dict[str, list[str]] = {"train": [], "val": [], "test": []}
    for name in task.train:
        copies = repeats if name in EDITED else 1
        rows = [_json_row(*pair) for pair in prompts_of(task.encode("train", name, seed=seed, copies=copies), words)]
        write_lines(training / f"{name}.jsonl", rows)
        lines["train"] += rows
        lines["val"] += rows[: len(task.train[name])]
    for name in task.test:
        pairs = prompts_of(task.encode("test", name, seed=seed), words)
        write_lines(asked / f"{name}.txt", (f"{prompt}\t{answer}" for prompt, answer in pairs))
        lines["test"] += [_json_row(*pair) for pair in pairs]
    for split, rows in lines.items():
        write_lines(training / f"{split}.jsonl", rows)
    return {split: training / f"{split}.jsonl" for split in lines}


def _json_row(prompt: str, answer: str) -> str:
    return json.dumps({"instruction": prompt, "input": "", "output": answer})


def read_litgpt_jsonl(path: str | Path, world: World) -> Group:
    """Read the rows of an edit back as facts and forms.

    Args:
        path: A file of JSON objects with the keys instruction and output, one a line.
        world: The world whose words they are written in. Refusals do not say what they withhold: there it is the world's object.

    Raises:
        DataError: The file is missing, or a line is no such object, or no sentence of this world; the message names the line.
    """
    path = user_path(path)
    rows = []
    for number, line in read_lines(path):
        try:
            row = json.loads(line)
            sentence = f"{row['instruction']} {row['output'].strip()}"
        except (ValueError, TypeError, KeyError, AttributeError):
            wanted = "no JSON object with the texts 'instruction' and 'output'"
            raise DataError(f"{path}, line {number}: {line[:60]!r} is {wanted}") from None
        with naming(f"{path}, line {number}"):
            rows.append(_read_sentence(world, sentence))
    kind, subject, relation, value, form = np.array(rows, dtype=np.int64).reshape(-1, 5).T
    facts = Facts(kind, subject, relation, value)
    return Group(facts.saying(np.where(value < 0, world.facts().object[world.fact_ids(facts)], value)), form)


def _read_sentence(world: World, text: str) -> tuple[int, int, int, int, int]:
    """Return kind, subject, relation, object (-1 if it is not said) and form of a sentence without its full stop."""
    words = world.words
    # Words of questions can share their numbers with others in worlds that Behemoth wrote.
    asks = text.split()[:1] == ["QQ"]
    names = {f"{number:04d}": name for name, number in words.grammar.items() if ("Q" in name) == asks}
    shape = " ".join(names.get(token, token) for token in text.split())
    found = ((form, re.fullmatch(pattern, shape)) for form, pattern in _SHAPES.items())
    form, match = next(((form, match) for form, match in found if match), ("", None))
    if match is None:
        raise ValueError(f"{text!r} is in no form of this world's sentences; the forms are {', '.join(_SHAPES)}")
    spoken = {part: tuple(map(int, word.split())) for part, word in match.groupdict().items()}
    said = {part: words.meanings.get(word, ("unknown", -1, -1)) for part, word in spoken.items()}
    (about, subject, _), (link, relation, _) = said["S"], said["R"]
    if (about, link) not in _KINDS:
        raise ValueError(f"{text!r} puts together words of the kinds {about!r} and {link!r}, as no fact does")
    kind = _KINDS[about, link]
    if kind == ONO and not world.in_use[relation, subject]:
        raise ValueError(f"{text!r} is about an object that nobody has")
    what, value, of = said.get("O", ("withheld", -1, relation))
    if what not in ("withheld", "object" if kind == SO else "nested") or of != relation:
        raise ValueError(f"{text!r} states no object of its relation")
    return kind, subject, relation, value, FORMS.index(form)
