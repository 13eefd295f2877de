"""Worlds on disk: a YAML file for the settings of a world, and the text files of Behemoth for its facts and its text.

Nothing is pickled or unpickled; where Behemoth writes a pickle beside a text file, the text file is what is read and written.
"""

import itertools
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from effnotes.core.checks import check_range
from effnotes.core.errors import DataError
from effnotes.core.files import user_path
from effnotes.datasets.files import naming, read_lines, read_text
from effnotes.datasets.worlds.forms import FORMS, PROMPTABLE
from effnotes.datasets.worlds.graph import FACT_KINDS, FILLERS, Facts, Graph, Integers, stream
from effnotes.datasets.worlds.sentences import prompts_of, text_of, write_facts
from effnotes.datasets.worlds.settings import ALIASES, COMPOSED, NAME_OF, SETTINGS, rename_settings
from effnotes.datasets.worlds.words import ABSENT, Words
from effnotes.datasets.worlds.world import SPECIAL_TOKENS, World

_PREFIXES = {"so": "subject_object_", "sno": "subject_nested_object_", "ono": "object_nested_object_"}
_CHUNK = 2**16
_DEPTH = 9  # of lists and mappings in a file of settings

# --- the settings of a world: YAML --------------------------------------------------------------------------------------------


def load_world(path: str | Path) -> World:
    """Read a world's settings from a YAML file: a mapping from the names of `World`, or Behemoth's, to values.

    Raises:
        DataError: The file is missing or no YAML, has aliases or is nested too deep, or a setting is unknown, given twice, of the
            wrong type, out of range, or does not go with another; the message names the file, the line, the setting and what is
            allowed.
    """
    path = user_path(path)
    text = read_text(path)
    try:
        # A few aliases of aliases stand for more than a message could hold, and thousands of brackets take minutes.
        depth = 0
        for event in yaml.parse(text, Loader=yaml.SafeLoader):
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if isinstance(event, yaml.AliasEvent) or depth > _DEPTH:
                said = f"for a world values are written out, without aliases such as *name, and at most {_DEPTH} deep"
                raise DataError(f"{path}, line {event.start_mark.line + 1}: {said}")  # type: ignore[union-attr]
        node, settings = yaml.compose(text, Loader=yaml.SafeLoader), yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        raise DataError(f"{path}{where}: this is no YAML ({getattr(error, 'problem', None) or error})") from error
    if not isinstance(node, yaml.MappingNode):
        what = "nothing" if node is None else "a list" if isinstance(node, yaml.SequenceNode) else "a single value"
        raise DataError(f"{path}: a world is a mapping such as 'n_subjects: 768', one setting a line, but this file holds {what}")
    lines: dict[str, int] = {}
    for name, line in ((key.value, key.start_mark.line + 1) for key, _ in node.value):
        if name in lines:
            raise DataError(f"{path}, line {line}: {name} is given twice, first in line {lines[name]}; keep one")
        lines[name] = line
    try:
        return World.from_settings(settings)
    except ValueError as error:
        raise DataError(f"{path}{_line_of(str(error), lines)}: {error}") from error


def _line_of(message: str, lines: Mapping[str, int]) -> str:
    """Return ", line N" of the setting that a message names first, under any of its names; nothing where it names none."""
    found = []
    for key, line in lines.items():
        plain = key.lstrip("-").replace("-", "_")
        for name in {key, plain, NAME_OF.get(plain, plain), *(name for name, parts in COMPOSED.items() if plain in parts)}:
            found += [(match.start(), line) for match in re.finditer(rf"(?<!\w){re.escape(name)}(?!\w)", message)]
    return f", line {min(found)[1]}" if found else ""


# --- the facts and the text of a world: Behemoth's folder ---------------------------------------------------------------------


def export_world(
    world: World, directory: str | Path, *, text: bool = True, validation: bool = True, shards: int | None = None
) -> None:
    """Write a world as Behemoth does.

    Writes `metadata/` (the graph with numbers and with tokens, the tokeniser, the words, the counts, the settings), `data/` (the
    training text, one line a shard), `validations/` and `questions/` (a prompt, a tab and the answer in each line; questions on
    subjects that were never asked about go to files ending in `_new`). Prompts are in each template that the world names and that
    a prompt can be made of. In `metadata.json` the size of the vocabulary is `n_tokens`; `vocab_size` is what Behemoth means by it,
    one more than the number from which it numbers the words of its new form of question.

    Args:
        world: The world.
        directory: Where to; made if it does not exist. Text and prompts of an earlier export are replaced.
        text: Whether to write the training text. (`--write-graph-only` and `--validation-data-only` write none.)
        validation: Whether to write prompts and answers. (`--write-graph-only` writes none.)
        shards: Files that the training text is split into, at least 1; None takes one for each 100,000 sentences, and for each
            200,000 in a nested world. (`-d --shards`)

    Raises:
        ValueError: There would be no shard.
    """
    if shards is None:
        shards = max(1, world.n_sentences // (200_000 if world.graph.has_nested else 100_000))
    check_range(1, shards=shards)
    root = user_path(directory)
    metadata = root / "metadata"
    metadata.mkdir(parents=True, exist_ok=True)
    _write_graph(world, metadata)
    n_tokens = 0
    if text:
        fresh_folder(root / "data", "full_text_*.txt")
        for shard in range(shards):
            with (root / "data" / f"full_text_{shard}.txt").open("w", encoding="utf-8") as file:
                for block in world.sentences(shard=shard, of=shards):
                    file.write(text_of(block, world.words))
                    n_tokens += int(block.length.sum())
    counts = {"graph_size": world.n_subjects * world.n_relations, "n_tokens": world.vocab_size}
    counts |= {"vocab_size": world.words.grammar["FTWQ1"] + 1} | ({"total_num_tokens": n_tokens} if text else {})
    write_lines(metadata / "metadata.json", [json.dumps(counts, indent=1)])
    if validation:
        for name in ("validations", "questions"):
            fresh_folder(root / name, "*.txt")
        for name, facts, form, markers in _prompt_files(world):
            write_lines(root / f"{name}.txt", _prompt_lines(world, facts, form, markers))


def fresh_folder(path: Path, pattern: str) -> None:
    """Make a folder, or remove what an earlier export left in it, which could be taken for a part of the new one."""
    path.mkdir(parents=True, exist_ok=True)
    for old in path.glob(pattern):
        old.unlink()


def write_lines(path: Path, lines: Iterable[str]) -> None:
    """Write a text file, each line with its end."""
    with path.open("w", encoding="utf-8") as file:
        file.writelines(f"{line}\n" for line in lines)


def _write_graph(world: World, metadata: Path) -> None:
    graph, words, so = world.graph, world.words, world.facts("so")
    other = graph.minority.reshape(-1)
    inner = graph.nested[so.relation, so.object] if graph.has_nested else np.full(len(so), ABSENT)
    table = np.stack([so.subject, so.relation, so.object, other, inner], axis=1).tolist()
    write_lines(metadata / "relationship_graph.txt", (" ".join(map(_or_none, row)) for row in table))

    columns = [*words.of_facts(so), np.where(other[:, None] >= 0, words.objects[so.relation, other], ABSENT)]
    if graph.has_nested:
        columns += [words.subject_nested_relations[so.relation], words.object_nested_relations[so.relation]]
        columns.append(words.nested[so.relation, inner])
    rows = ("".join(f"{_numbers(word)}\t" for word in row) for row in np.stack(columns, axis=1).tolist())
    write_lines(metadata / "relationship_graph_tokenized.txt", rows)

    for name, content in (
        ("remappings_map", words.remappings()),
        ("other_special_tokens", {name: f"{n:04d}" for name, n in words.grammar.items()}),
        ("tokenizer", json.loads(world.tokenizer().to_str())),
        ("tokenizer_config", {"tokenizer_class": "PreTrainedTokenizerFast", **SPECIAL_TOKENS}),
        ("args", _arguments(world)),
    ):
        write_lines(metadata / f"{name}.json", [json.dumps(content, indent=1)])
    write_lines(metadata / "world.yaml", [yaml.safe_dump(world.settings(), sort_keys=False).rstrip()])
    fresh_folder(metadata, "subjects_with_questions.txt")
    if world.qa_frac:
        write_lines(metadata / "subjects_with_questions.txt", map(str, np.flatnonzero(graph.asked).tolist()))


def _or_none(value: int) -> str:
    return "None" if value < 0 else str(value)


def _numbers(word: list[int]) -> str:
    return ",".join(f"{token:04d}" for token in word if token != ABSENT)


def _arguments(world: World) -> dict[str, Any]:
    """The settings by Behemoth's names, as far as it has names for them."""
    names = {name: aliases[0] for name, aliases in ALIASES.items() if name in SETTINGS} | {"repeats": "repeats"}
    arguments = {alias: getattr(world, name) for name, alias in names.items()}
    creator = next(iter(world.templates))
    creators = {"repeats": "simplerepeats", "nonsense_sro": "nonsense", "nonsense_rso": "nonsense"}
    inverted = 1.0 - sum(world.templates.get(name, 0.0) for name in ("sro", "repeats", "nonsense_sro"))
    return arguments | {
        "shuffle": world.shuffle,
        "correlated_pair": world.correlation is not None,
        "correlation_strength": 1.0 if world.correlation is None else world.correlation,
        "phrase_creator": creators.get(creator, "inverted"),
        # In nonsense Behemoth takes it for the share in the order SRO, the contrary of what it says.
        "inversion_frac": 1.0 - inverted if creator.startswith("nonsense") else inverted,
    }


def _prompt_files(world: World) -> Iterator[tuple[str, Facts, str, tuple[int, ...] | None]]:
    """Name, facts, form and markers of each file of prompts."""
    nested = world.graph.has_nested
    for kind in FACT_KINDS if nested else FACT_KINDS[:1]:
        folder, facts = f"validations/{_PREFIXES[kind] if nested else ''}", world.facts(kind)
        for form in (name for name in PROMPTABLE if name in world.templates):
            if form != "repeats":
                short = form.removeprefix("nonsense_")
                yield folder + (form if short in world.templates else short), facts, form, None
                continue
            for si, sj, ri, rj, oi in itertools.product(range(1, 4), range(4), range(1, 4), range(4), range(1, 4)):
                yield f"{folder}si{si}_sj{sj}_ri{ri}_rj{rj}_oi_{oi}", facts, form, (si, sj, ri, rj, oi, 0)
    if world.qa_frac:
        facts = world.facts("so")
        asked = world.graph.asked[facts.subject]
        folder = f"questions/{_PREFIXES['so'] if nested else ''}"
        yield f"{folder}default", facts.take(asked), "question", None
        yield f"{folder}default_new", facts.take(~asked), "question", None


def _prompt_lines(world: World, facts: Facts, form: str, repeats: tuple[int, ...] | None) -> Iterator[str]:
    rng = stream(world.seed, FILLERS)
    for start in range(0, len(facts), _CHUNK):
        part = facts.take(slice(start, start + _CHUNK))
        codes = np.full(len(part), FORMS.index(form))
        written = write_facts(world.words, part, codes, rng, validation=True, repeats=repeats)
        yield from (f"{prompt}\t{answer}" for prompt, answer in prompts_of(written, world.words))


def import_world(directory: str | Path) -> World:
    """Read a world that Behemoth or `export_world` wrote.

    Args:
        directory: The folder that holds `metadata/` (older versions of Behemoth: `viscera/`). `relationship_graph.txt` in it is
            needed; `args.json` and `world.yaml` give the settings, `remappings_map.json` and `other_special_tokens.json` the words,
            and where they are missing the settings are those that the graph shows, and the words are numbered anew.

    Returns:
        The world, with the facts and words of the files.

    Raises:
        DataError: A file is missing or malformed; the message names the file and the line.
    """
    given = user_path(directory)
    metadata = next((given / name for name in ("metadata", "viscera") if (given / name).is_dir()), None)
    if metadata is None:
        raise DataError(f"{given}: there is no folder metadata/ (or viscera/) in it, with a file relationship_graph.txt")
    rows = _read_graph_rows(metadata / "relationship_graph.txt")
    settings = _read_settings(metadata, rows)
    with naming(metadata):
        world = World(**settings)
        words = _read_words(metadata, world)
        return World(**settings, given_graph=_graph_of(rows, replace(world, given_words=words), metadata), given_words=words)


def _read_graph_rows(path: Path) -> Integers:
    """Read (n, 6): line number, subject, relation, object, minority object or -1, nested object or -1."""
    rows = []
    for number, line in read_lines(path):
        where, cells = f"{path}, line {number}", line.split()
        if not 3 <= len(cells) <= 5:
            raise DataError(f"{where}: {len(cells)} cells, but a fact is 's r o other nested', the last two None or a number")
        try:
            values = [ABSENT if cell == "None" and place > 2 else int(cell) for place, cell in enumerate(cells)]
        except ValueError:
            raise DataError(f"{where}: {line!r} holds something that is neither a whole number nor None") from None
        if min(values[:3]) < 0 or max(values) >= 10**9:
            raise DataError(f"{where}: {line!r} has a number below 0 or of more than 9 digits")
        rows.append([number, *values, ABSENT, ABSENT][:6])
    if not rows:
        raise DataError(f"{path}: there is no fact in this file")
    return np.array(rows, dtype=np.int64)


def _read_json(path: Path) -> Any:
    with naming(f"{path}: this is no JSON"):
        return json.loads(read_text(path))


def _read_settings(metadata: Path, rows: Integers) -> dict[str, Any]:
    if (metadata / "world.yaml").is_file():
        return load_world(metadata / "world.yaml").settings()
    shown = {"n_subjects": [1], "n_relations": [2], "n_objects": [3, 4], "n_nested": [5]}
    settings: dict[str, Any] = {name: int(rows[:, columns].max()) + 1 for name, columns in shown.items()}
    path = metadata / "args.json"
    if not path.is_file():
        return settings | {"minority_frac": float((rows[:, 4] >= 0).mean())}
    with naming(path):
        stored = dict(_read_json(path))
        known = {*NAME_OF, "shuffle", "repeats", *(part for parts in COMPOSED.values() if stored.get(parts[0]) for part in parts)}
        # Behemoth passes over what does not go with the rest: with a graph that is given, the numbers for drawing one.
        known -= {"minority_position_entity_frac" if stored.get("correlated_pair") else "binarize_first_correlated"}
        known -= {"inversion_frac"} if stored.get("phrase_creator") == "simplerepeats" else set()
        known -= {"subjects", "relationships"} if stored.get("graph_path") else set()
        arguments = {key: value for key, value in stored.items() if key in known and value is not None}
        if arguments.get("phrase_creator") == "nonsense":
            # The contrary of what it says, as in `_arguments`.
            arguments["inversion_frac"] = 1.0 - arguments.get("inversion_frac", 0.0)
        return settings | rename_settings(arguments)


def _read_words(metadata: Path, world: World) -> Words | None:
    paths = [metadata / name for name in ("remappings_map.json", "other_special_tokens.json")]
    if not all(path.is_file() for path in paths):
        return None
    with naming(paths[0]):
        return Words.from_remappings(_read_json(paths[0]), _read_json(paths[1]), world)


def _graph_of(rows: Integers, world: World, metadata: Path) -> Graph:
    path = metadata / "relationship_graph.txt"
    line, s, r, o, other, inner = rows.T
    names = ("subject", "relation", "object", "second object", "nested object")
    ends = (world.n_subjects, world.n_relations, world.n_objects, world.n_objects, world.n_nested)
    for name, end, column in zip(names, ends, (s, r, o, other, inner), strict=True):
        for at in np.flatnonzero(column >= end):
            raise DataError(f"{path}, line {line[at]}: {name} {column[at]} is out of range; it must be from 0 to {end - 1}")
    ids = s * world.n_relations + r
    _, first, counts = np.unique(ids, return_index=True, return_counts=True)
    for at in first[counts > 1]:
        raise DataError(f"{path}, line {line[at]}: subject {s[at]} has several objects of relation {r[at]}; it must have one")
    for missing in np.setdiff1d(np.arange(world.n_subjects * world.n_relations), ids):
        lacks = "subject {} has no object of relation {}".format(*divmod(missing, world.n_relations))
        raise DataError(f"{path}: {lacks}; each of {world.n_subjects} subjects needs one of each of {world.n_relations} relations")
    objects, minority = np.full((2, world.n_subjects, world.n_relations), ABSENT)
    objects[s, r], minority[s, r] = o, other
    asked = _read_asked(metadata / "subjects_with_questions.txt", world)
    return Graph(objects, minority, _nested_map(line, r, o, inner, world, path), asked)


def _read_asked(path: Path, world: World) -> NDArray[np.bool_]:
    """Read which subjects are asked about: a subject's number in each line or, in older files, the list of its tokens."""
    asked = np.zeros(world.n_subjects, dtype=bool)
    by_number: dict[tuple[int, ...], int] = {(number,): number for number in range(world.n_subjects)}
    by_tokens = {word: number for word, (kind, number, _) in world.words.meanings.items() if kind == "subject"}
    for line, text in read_lines(path) if path.is_file() else ():
        subject = (by_tokens if text.startswith("[") else by_number).get(tuple(int(number) for number in re.findall(r"\d+", text)))
        if subject is None:
            allowed = f"a number from 0 to {world.n_subjects - 1}, or the tokens of a subject in brackets"
            raise DataError(f"{path}, line {line}: {text!r} is no subject; it must be {allowed}")
        asked[subject] = True
    return asked


def _nested_map(line: Integers, r: Integers, o: Integers, inner: Integers, world: World, path: Path) -> Integers:
    """Collect which nested object each object has; objects that no subject has get those that are still free."""
    nested = np.full((world.n_relations, world.n_objects if world.n_nested else 0), ABSENT)
    if not world.n_nested:
        return nested
    nested[r, o] = inner
    for at in np.flatnonzero((nested[r, o] != inner) | (inner < 0)):
        has = f"object {o[at]} of relation {r[at]} has the nested object {_or_none(int(inner[at]))}"
        raise DataError(f"{path}, line {line[at]}: {has}, but an object has one nested object, the same in every line")
    for classes in nested:
        room = world.n_objects // world.n_nested - np.bincount(classes[classes >= 0], minlength=world.n_nested)
        classes[classes < 0] = np.repeat(np.arange(world.n_nested), np.maximum(room, 0))[: (classes < 0).sum()]
    return nested
