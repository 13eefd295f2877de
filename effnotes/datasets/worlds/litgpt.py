"""Edits on disk: rows of instruction, input and output, as LitGPT reads them, and back."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from effnotes.core.checks import check_range
from effnotes.core.errors import DataError
from effnotes.datasets.files import naming, read_lines
from effnotes.datasets.worlds.changes import Group
from effnotes.datasets.worlds.forms import FORMS, PATTERNS, REFUSALS
from effnotes.datasets.worlds.graph import ONO, SNO, SO, Facts
from effnotes.datasets.worlds.sentences import prompts_of
from effnotes.datasets.worlds.storage import fresh_folder, write_lines
from effnotes.datasets.worlds.tasks import EDITED, Task
from effnotes.datasets.worlds.words import OO, REPEATED_WORDS, RESERVED, RR, SS
from effnotes.datasets.worlds.world import World


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
    root = Path(directory)
    training, asked = root / "finetuning_data", root / "ft_validations"
    for folder, pattern in ((training, "*.jsonl"), (asked, "*.txt")):
        fresh_folder(folder, pattern)
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
    paths = {split: training / f"{split}.jsonl" for split in lines}
    for split, path in paths.items():
        write_lines(path, lines[split])
    return paths


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
    path = Path(path)
    rows = []
    for number, line in read_lines(path):
        try:
            row = json.loads(line)
            sentence = f"{row['instruction']} {row['output'].strip()}"
        except (ValueError, TypeError, KeyError, AttributeError):
            raise DataError(
                f"{path}, line {number}: {line[:60]!r} is no JSON object with the texts 'instruction' and 'output'"
            ) from None
        with naming(f"{path}, line {number}"):
            rows.append(_read_sentence(world, sentence))
    kind, subject, relation, value, form = np.array(rows, dtype=np.int64).reshape(-1, 5).T
    facts = Facts(kind, subject, relation, value)
    unsaid = value < 0
    if unsaid.any():
        every = world.facts()
        facts = facts.saying(np.where(unsaid, every.object[world.fact_ids(facts.saying(0))], value))
    return Group(facts, form)


def _read_sentence(world: World, text: str) -> tuple[int, int, int, int, int]:
    """Return kind, subject, relation, object (-1 if it is not said) and form of a sentence without its full stop."""
    tokens = world.words.tokens(text)
    meanings = world.words.meanings
    names = {number: name for name, number in world.words.grammar.items()}
    markers = {SS: "S", RR: "R", OO: "O"}
    said: dict[str, tuple[str, int, int]] = {}
    skeleton: list[str] = []
    place = 0
    while place < len(tokens):
        token = tokens[place]
        skeleton.append(RESERVED[token] if token < len(RESERVED) else names.get(token, f"{token:04d}"))
        place += 1
        if token in markers:
            word = next((tuple(tokens[place : place + n]) for n in (2, 1) if tuple(tokens[place : place + n]) in meanings), None)
            if word is not None:
                said[markers[token]] = meanings[word]
                skeleton.append(markers[token])
                place += len(word)
    if "S" not in said or "R" not in said:
        raise ValueError(f"{text!r} has no subject after SS or no relation after RR")
    form = _form_of(skeleton, text)
    subject, relation = said["S"], said["R"]
    kinds = {("subject", "relation"): SO, ("subject", "sno relation"): SNO, ("object", "ono relation"): ONO}
    if (subject[0], relation[0]) not in kinds:
        raise ValueError(f"{text!r} puts together words of the kinds {subject[0]!r} and {relation[0]!r}, as no fact does")
    kind = kinds[subject[0], relation[0]]
    if form in REFUSALS:
        return kind, subject[1], relation[1], -1, FORMS.index(form)
    value = said["O"]
    if value[0] != ("object" if kind == SO else "nested") or value[2] != relation[1]:
        raise ValueError(f"{text!r} states an object of another relation")
    return kind, subject[1], relation[1], value[1], FORMS.index(form)


def _form_of(skeleton: list[str], text: str) -> str:
    for form, pattern in PATTERNS.items():
        if pattern and pattern.replace("|", "").split()[:-1] == skeleton:
            return form
    bare = [piece for piece in skeleton if piece in ("SS", "RR", "OO", "S", "R", "O")]
    extra = {piece for piece in skeleton if piece not in bare}
    if bare == ["SS", "S", "RR", "R", "OO", "O"] and extra <= set(REPEATED_WORDS):
        return "repeats"
    orders = {"S R": "nonsense_sro", "R S": "nonsense_rso"}
    order = " ".join(piece for piece in bare if piece in ("S", "R"))
    if bare[-2:] == ["OO", "O"] and len(bare) == 6 and all(piece.startswith("W") for piece in extra):
        return orders[order]
    raise ValueError(f"{text!r} is in no form of this world's sentences")
