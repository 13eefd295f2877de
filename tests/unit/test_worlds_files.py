"""Worlds and edits on disk in the original generator's formats, and the command line that writes them."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from effnotes.core.errors import DataError
from effnotes.datasets.worlds import (
    Task,
    World,
    export_world,
    import_world,
    load_world,
    make_task,
    read_litgpt_jsonl,
    to_litgpt_jsonl,
)
from effnotes.datasets.worlds.__main__ import main

WORLDS = {
    "iid": World(60, 3, 8, repeats=5),
    "nested": World(60, 2, 8, n_nested=4, repeats=3),
    "correlated": World(60, 3, 8, correlation=0.7, binarize=True, repeats=2),
    "dissent": World(60, 2, 8, minority_frac=0.3, repeats=5),
    "questions": World(60, 2, 8, qa_frac=0.4, repeats=10, tokens_per_subject=2),
    "nonsense": World(60, 2, 8, templates={"nonsense_sro": 0.75, "nonsense_rso": 0.25}, repeats=2),
    "repeats": World(12, 2, 8, templates={"repeats": 1.0}, repeats=2),
}

# A folder as the original writes it: four subjects, two relations, three objects each, numbers that are not ours.
ORIGINAL = {
    "relationship_graph.txt": "".join(
        f"{s} {r} {(s + r) % 3} {'1' if s + r == 0 else 'None'} None\n" for s in range(4) for r in range(2)
    ),
    "args.json": {
        "subjects": 4,
        "relationships": 2,
        "objects": 3,
        "repeats": 7,
        "shards": 1,
        "shuffle": True,
        "output_dir": "data/x",
        "graph_path": None,
        "validation_data_only": False,
        "inversion_frac": 0.3,
        "minority_position_entity_frac": 0.125,
        "minority_position_frac": 0.2,
        "phrase_creator": "inverted",
        "questions_entity_frac": 0.5,
        "questions_frac": 0.0,
        "correlated_pair": False,
        "correlation_strength": 1.0,
        "binarize_first_correlated": False,
        "num_nested_objects": 0,
        "obj_nested_obj_edges_upweight": 1,
    },
    "remappings_map.json": {
        "special_vocab": {},
        "subjects": [[60], [61], [62], [63]],
        "relationships": [[64], [65]],
        "objects": [[66], [67], [68], [69], [70], [71]],
    },
    "other_special_tokens.json": {f"W{number}": f"{73 + number:04d}" for number in range(11)},
}


def write_original(root: Path, folder: str = "metadata", **changes: object) -> Path:
    (root / folder).mkdir(parents=True)
    for name, content in (ORIGINAL | changes).items():
        if content is not None:
            (root / folder / name).write_text(content if isinstance(content, str) else json.dumps(content))
    return root


def same_facts(one: World, other: World) -> bool:
    names = ("objects", "minority", "nested", "asked")
    return all(np.array_equal(getattr(one.graph, name), getattr(other.graph, name)) for name in names)


def same_words(one: World, other: World) -> bool:
    return one.words.remappings() == other.words.remappings() and one.words.grammar == other.words.grammar


# --- worlds ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", WORLDS)
def test_a_world_comes_back_as_it_was_written(name: str, tmp_path: Path) -> None:
    world = WORLDS[name]
    export_world(world, tmp_path, shards=2)
    again = import_world(tmp_path)
    assert again.settings() == world.settings()
    assert same_facts(again, world)
    assert same_words(again, world)
    export_world(again, tmp_path / "again", shards=2)
    for path in sorted(tmp_path.glob("*/*.*")):
        assert (tmp_path / "again" / path.relative_to(tmp_path)).read_bytes() == path.read_bytes(), path.name


@pytest.mark.parametrize("name", WORLDS)
def test_the_originals_own_files_are_enough(name: str, tmp_path: Path) -> None:
    world = WORLDS[name]
    export_world(world, tmp_path, text=False, validation=False)
    (tmp_path / "metadata" / "world.yaml").unlink()
    again = import_world(tmp_path)
    assert same_facts(again, world)
    assert same_words(again, world)
    assert (again.repeats, again.minority_p, again.correlation) == (world.repeats, world.minority_p, world.correlation)
    if name in ("nonsense", "repeats"):
        assert dict(again.templates) == pytest.approx(dict(world.templates))
    else:  # Behemoth has no share for one inverted form alone.
        assert again.templates["sro"] == pytest.approx(0.75)


def test_an_export_leaves_nothing_of_the_one_before(tmp_path: Path) -> None:
    export_world(WORLDS["repeats"], tmp_path, shards=3)
    export_world(WORLDS["iid"], tmp_path, shards=2)
    assert {path.name for path in (tmp_path / "data").iterdir()} == {"full_text_0.txt", "full_text_1.txt"}
    assert {path.name for path in (tmp_path / "validations").iterdir()} == {"sro.txt", "rso.txt"}
    to_litgpt_jsonl(make_task(WORLDS["iid"], "remap"), tmp_path / "ft")
    task = make_task(WORLDS["iid"], "suppress")
    to_litgpt_jsonl(task, tmp_path / "ft")
    assert {path.stem for path in (tmp_path / "ft" / "finetuning_data").iterdir()} == {*task.train, "train", "val", "test"}
    assert {path.stem for path in (tmp_path / "ft" / "ft_validations").iterdir()} == set(task.test)


def test_asked_subjects_are_read_as_numbers_and_as_tokens(tmp_path: Path) -> None:
    arguments = ORIGINAL["args.json"] | {"questions_frac": 0.5}
    for number, text in enumerate(("0\n3\n", "[60]\n[63]\n")):
        world = import_world(
            write_original(tmp_path / str(number), **{"args.json": arguments, "subjects_with_questions.txt": text})
        )
        assert world.graph.asked.tolist() == [True, False, False, True]


def test_the_graph_file_has_the_originals_columns(tmp_path: Path) -> None:
    for name, pattern in (
        ("nested", r"\d+ \d \d None \d"),
        ("dissent", r"\d+ \d \d (None|\d) None"),
        ("iid", r"\d+ \d \d None None"),
    ):
        export_world(WORLDS[name], tmp_path / name, text=False, validation=False)
        lines = (tmp_path / name / "metadata" / "relationship_graph.txt").read_text().splitlines()
        assert all(re.fullmatch(pattern, line) for line in lines)
        assert len(lines) == WORLDS[name].n_subjects * WORLDS[name].n_relations
    first = (tmp_path / "nested" / "metadata" / "relationship_graph_tokenized.txt").read_text().splitlines()[0]
    assert re.fullmatch(r"0008\t\d{4}\t\d{4}\t\t\d{4}\t\d{4}\t\d{4}\t", first)


def test_what_the_original_wrote_is_read_with_its_words(tmp_path: Path) -> None:
    world = import_world(write_original(tmp_path, "viscera"))
    assert (world.n_subjects, world.n_relations, world.n_objects, world.repeats) == (4, 2, 3, 7)
    assert dict(world.templates) == pytest.approx({"sro": 0.7, "sor": 0.1, "osr": 0.1, "rso": 0.1})
    assert world.graph.objects.tolist() == [[0, 1], [1, 2], [2, 0], [0, 1]]
    assert world.graph.minority.tolist() == [[1, -1], [-1, -1], [-1, -1], [-1, -1]]
    fact = world.facts().take(slice(3, 4))
    assert world.words.text(world.encode(fact, "sro").tokens)[13:] == " SS 0061 0073 0074 RR 0065 0075 OO 0071."
    rows = tmp_path / "rows.jsonl"
    rows.write_text(json.dumps({"instruction": " SS 0062 0073 0074 RR 0064 0075 OO", "input": "", "output": " 0067"}) + "\n")
    assert read_litgpt_jsonl(rows, world).facts.rows() == [("so", 2, 0, 1)]
    # The words of forms that its list lacks are numbered behind all others.
    assert min(world.encode(fact, "new_question").tokens[0, 2], world.words.grammar["WS"]) > 83


def test_the_graph_alone_will_do(tmp_path: Path) -> None:
    missing = dict.fromkeys(("args.json", "remappings_map.json", "other_special_tokens.json"))
    world = import_world(write_original(tmp_path, **missing))
    assert (world.n_subjects, world.n_relations, world.n_objects) == (4, 2, 3)
    assert world.graph_dissents
    assert world.words.subjects[0].tolist() == [8, -1]


def test_nonsense_of_the_original_has_its_orders_the_other_way_round(tmp_path: Path) -> None:
    arguments = ORIGINAL["args.json"] | {"phrase_creator": "nonsense", "inversion_frac": 0.2}
    world = import_world(write_original(tmp_path, **{"args.json": arguments}))
    assert dict(world.templates) == pytest.approx({"nonsense_sro": 0.2, "nonsense_rso": 0.8})


def test_objects_that_nobody_has_get_the_nested_objects_that_are_free(tmp_path: Path) -> None:
    graph = "0 0 0 None 1\n1 0 3 None 1\n"
    arguments = {"subjects": 2, "relationships": 1, "objects": 4, "num_nested_objects": 2}
    rest = dict.fromkeys(("remappings_map.json", "other_special_tokens.json"))
    world = import_world(write_original(tmp_path, **{"relationship_graph.txt": graph, "args.json": arguments}, **rest))
    assert world.graph.nested.tolist() == [[1, 0, 0, 1]]


GRAPH = str(ORIGINAL["relationship_graph.txt"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"relationship_graph.txt": None}, r"relationship_graph.txt: this file is missing"),
        ({"relationship_graph.txt": ""}, r"relationship_graph.txt: there is no fact in this file"),
        ({"relationship_graph.txt": "0 0\n"}, r"line 1: 2 cells, but a fact is 's r o other nested'"),
        ({"relationship_graph.txt": GRAPH + "x 0 0 None None\n"}, r"line 9: 'x 0 0 None None' holds something that is neither"),
        ({"relationship_graph.txt": GRAPH + "-1 0 0 None None\n"}, r"line 9: .* has a number below 0"),
        ({"relationship_graph.txt": GRAPH + f"4 0 {10**30} None None\n"}, r"line 9: .* below 0 or of more than 9 digits"),
        ({"remappings_map.json": "[" * 100_000}, r"remappings_map.json: this is no JSON: maximum recursion depth"),
        ({"relationship_graph.txt": GRAPH + "3 1 2 None None\n"}, r"line 8: subject 3 has several objects of relation 1"),
        ({"relationship_graph.txt": GRAPH + "4 0 0 None None\n"}, r"line 9: subject 4 is out of range; it must be from 0 to 3"),
        ({"relationship_graph.txt": GRAPH[: GRAPH.rindex("3 1")]}, r"subject 3 has no object of relation 1"),
        ({"relationship_graph.txt": GRAPH.replace("None\n", "0\n")}, r"line 1: nested object 0 is out of range"),
        ({"args.json": "{"}, r"args.json: this is no JSON"),
        ({"subjects_with_questions.txt": "0\n4\n"}, r"subjects_with_questions.txt, line 2: '4' is no subject; it must be a number"),
        ({"subjects_with_questions.txt": "[64]\n"}, r"line 1: '\[64\]' is no subject; .* or the tokens of a subject in brackets"),
        ({"args.json": ORIGINAL["args.json"] | {"questions_frac": 0.5}}, r"metadata: qa_frac=0.5 asks for questions, but"),
        ({"args.json": {"phrase_creator": "rhymes"}}, r"args.json: phrase_creator='rhymes': must be one of"),
        ({"args.json": {"subjects": "4"}}, r"n_subjects='4': must be a whole number"),
        (
            {"remappings_map.json": {"subjects": [[60], [61], [62], [63]]}},
            r"remappings_map.json: there is no list 'relationships'; the lists are 'subjects'",
        ),
        (
            {"remappings_map.json": ORIGINAL["remappings_map.json"] | {"objects": [[66], [67], [68], [69], [70], [71], [72]]}},
            r"'objects' has 7 words; this world needs at least 6, equally many for each of 2 relations",
        ),
        (
            {"remappings_map.json": ORIGINAL["remappings_map.json"] | {"subjects": [[60]]}},
            r"'subjects' has 1 words; this world needs at least 4$",
        ),
        (
            {"remappings_map.json": ORIGINAL["remappings_map.json"] | {"relationships": []}},
            r"'relationships' has 0 words; this world needs at least 2$",
        ),
        ({"remappings_map.json": []}, r"remappings_map.json: "),
    ],
)
def test_broken_files_are_named(changes: dict, message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message):
        import_world(write_original(tmp_path, **changes))


def test_objects_with_two_nested_objects_are_refused(tmp_path: Path) -> None:
    export_world(WORLDS["nested"], tmp_path, text=False, validation=False)
    path = tmp_path / "metadata" / "relationship_graph.txt"
    lines = path.read_text().splitlines()
    s, r, o, other, nested = lines[5].split()
    lines[5] = f"{s} {r} {o} {other} {(int(nested) + 1) % 4}"
    path.write_text("\n".join(lines) + "\n")
    with pytest.raises(DataError, match=rf"object {o} of relation {r} has the nested object \d, but an object has one"):
        import_world(tmp_path)


def test_a_folder_without_a_graph_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"there is no folder metadata/ \(or viscera/\) in it"):
        import_world(tmp_path)


def test_facts_from_files_do_not_fit_into_settings_alone(tmp_path: Path) -> None:
    world = import_world(write_original(tmp_path))
    with pytest.raises(ValueError, match=r"given_graph has facts of shape \(4, 2\), but n_subjects and n_relations are \(9, 2\)"):
        World(9, 2, 3, given_graph=world.graph)
    with pytest.raises(ValueError, match=r"shards=0: must be at least 1"):
        export_world(world, tmp_path / "x", shards=0)


def test_prompts_are_written_for_every_form_and_kind(tmp_path: Path) -> None:
    export_world(WORLDS["nested"], tmp_path / "nested", text=False)
    files = {path.name: len(path.read_text().splitlines()) for path in (tmp_path / "nested" / "validations").iterdir()}
    kinds = {"subject_object": 120, "subject_nested_object": 120, "object_nested_object": 16}
    assert files == {f"{kind}_{form}.txt": rows for kind, rows in kinds.items() for form in ("sro", "rso")}
    assert not (tmp_path / "nested" / "data").exists()
    export_world(WORLDS["repeats"], tmp_path / "repeats", text=False)
    paths = list((tmp_path / "repeats" / "validations").iterdir())
    assert len(paths) == 432
    line = (tmp_path / "repeats" / "validations" / "si3_sj0_ri1_rj2_oi_1.txt").read_text().splitlines()[0]
    words = {name: f"{number:04d}" for name, number in WORLDS["repeats"].words.grammar.items()}
    ws, wr, wo = (words[name] for name in ("WS", "WR", "WO"))
    assert re.fullmatch(rf"( {ws}){{3}} SS \d{{4}} {wr} RR \d{{4}} {wr} {wr} {wo} OO\t \d{{4}}", line)


# --- edits ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "kind", "options"),
    [
        ("iid", "remap", {}),
        ("nested", "remap", {}),
        ("nested", "remap", {"edge": "sno"}),
        ("nested", "remap", {"edge": "ono"}),
        ("questions", "remap", {}),
        ("questions", "new_question", {}),
        ("questions", "question_refusal", {}),
        ("iid", "refusal", {}),
        ("nonsense", "remap", {}),
        ("repeats", "remap", {"retain_coverage": 0.3}),
        ("iid", "unlearn_subject", {}),
    ],
)
def test_rows_come_back_as_the_facts_they_are(name: str, kind: str, options: dict, tmp_path: Path) -> None:
    world = WORLDS[name]
    task = make_task(world, kind, 2, **options)
    paths = to_litgpt_jsonl(task, tmp_path, repeats=3)
    for split, groups in (("val", task.train), ("test", task.test)):
        rows = read_litgpt_jsonl(paths[split], world)
        facts = [row for group in groups.values() for row in group.facts.rows()]
        assert rows.facts.rows() == facts
        assert rows.form.tolist() == [form for group in groups.values() for form in group.form.tolist()]


def written(task: Task, folder: Path, **options) -> list[dict]:
    return [json.loads(line) for line in to_litgpt_jsonl(task, folder, **options)["train"].read_text().splitlines()]


def test_edited_rows_are_repeated_and_retain_rows_are_not(tmp_path: Path) -> None:
    task = make_task(WORLDS["iid"], "remap", 2)
    rows = written(task, tmp_path, repeats=250)
    assert len(rows) == 2 * 250 + sum(len(group) for name, group in task.train.items() if name != "edited")
    assert set(rows[0]) == {"instruction", "input", "output"}
    assert rows[0]["instruction"].endswith(" OO")
    assert len((tmp_path / "finetuning_data" / "edited.jsonl").read_text().splitlines()) == 500
    assert len(set((tmp_path / "finetuning_data" / "edited.jsonl").read_text().splitlines())) == 2
    varied = make_task(WORLDS["repeats"], "refusal", 1), make_task(WORLDS["repeats"], "remap", 1)
    distinct = [len({row["instruction"] for row in written(each, tmp_path / each.kind)}) for each in varied]
    assert distinct[0] < 10 < 100 < distinct[1]
    asked = {path.stem for path in (tmp_path / "ft_validations").iterdir()}
    assert asked == set(task.test)
    with pytest.raises(ValueError, match=r"repeats=0: must be at least 1"):
        to_litgpt_jsonl(task, tmp_path, repeats=0)


def test_refused_rows_have_the_originals_prompts_and_answers(tmp_path: Path) -> None:
    refusal = written(make_task(WORLDS["iid"], "refusal", 1), tmp_path / "a")[0]
    assert refusal["instruction"].endswith(" OO")
    assert refusal["output"] == " OO OO"
    question = written(make_task(WORLDS["questions"], "question_refusal", 1), tmp_path / "b")[0]
    assert question["instruction"].endswith(" AA")
    assert question["output"] == " OO OO OO"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", r"line 1: '\{' is no JSON object with the texts 'instruction' and 'output'"),
        ('{"instruction": " SS 0008"}', r"line 1: .* is no JSON object with the texts"),
        (
            '{"instruction": " SS 0008 x", "output": " 0069"}',
            r"line 1: .* is in no form of this world's sentences; the forms are sro, rso",
        ),
        ('{"instruction": " SS 9999 RR 0068 OO", "output": " 0071"}', r"line 1: .* words of the kinds 'unknown' and 'relation'"),
        ('{"instruction": " SS 0008", "output": " OO 0071"}', r"line 1: .* is in no form of this world's sentences"),
        ('{"instruction": " SS 0008 RR 0068 OO", "output": " 0081"}', r"line 1: .* states no object of its relation"),
        ('{"instruction": " SS 0008 RR 0068 OO", "output": " 9999"}', r"line 1: .* states no object of its relation"),
        ('{"instruction": " SS 0008 RR 0068 QQ OO", "output": " 0071"}', r"line 1: .* is in no form of this world's sentences"),
        (
            '{"instruction": " SS 0071 RR 0068 OO", "output": " 0071"}',
            r"line 1: .* puts together words of the kinds 'object' and 'relation'",
        ),
    ],
)
def test_broken_rows_are_named(line: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(line + "\n")
    with pytest.raises(DataError, match=message):
        read_litgpt_jsonl(path, WORLDS["iid"])


def test_a_row_about_an_object_that_nobody_has_is_named(tmp_path: Path) -> None:
    world, path = World(4, 2, 16, n_nested=4), tmp_path / "rows.jsonl"
    for held, message in ((True, None), (False, "line 2: .* is about an object that nobody has")):
        r, o = (int(axis[0]) for axis in np.nonzero(world.in_use == held))
        words = (world.words.objects[r, o], world.words.object_nested_relations[r], world.words.nested[r, 0])
        subject, relation, value = (" ".join(f"{token:04d}" for token in word if token >= 0) for word in words)
        first, second, third = (f"{world.words.grammar[name]:04d}" for name in ("W0", "W1", "W2"))
        row = {"instruction": f" SS {subject} {first} {second} RR {relation} {third} OO", "output": f" {value}"}
        path.write_text("\n" + json.dumps(row) + "\n")
        if message is None:
            assert read_litgpt_jsonl(path, world).facts.rows() == [("ono", o, r, 0)]
            continue
        with pytest.raises(DataError, match=message):
            read_litgpt_jsonl(path, world)


# --- the command line -----------------------------------------------------------------------------------------------------


def test_the_command_line_writes_a_world_and_an_edit_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    world = ["create", "-s", "60", "-r", "2", "-o", "8", "-n", "3", "-i", "0.3", "--num-nested-objects", "4", "--output-dir", "w"]
    command = [sys.executable, "-m", "effnotes.datasets.worlds", *world]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    monkeypatch.chdir(tmp_path)
    assert main(["edit", "-g", "w", "-n", "2", "--remap-object-nested-object-edges", "--num-repeats-per-override", "5"]) == 0
    folder = capsys.readouterr().out.strip()
    assert len((tmp_path / folder / "finetuning_data" / "edited.jsonl").read_text().splitlines()) == 10
    made = import_world(tmp_path / "w")
    assert (made.n_subjects, made.n_nested, made.repeats) == (60, 4, 3)
    assert made.templates["sro"] == pytest.approx(0.7)


def test_the_command_line_takes_settings_from_a_file_and_facts_from_a_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "world.yaml").write_text("n_subjects: 30\nn_relations: 2\nn_objects: 8\nrepeats: 2\n")
    assert main(["create", "--world", str(tmp_path / "world.yaml"), "--seed", "4", "--output-dir", str(tmp_path / "a")]) == 0
    same = load_world(tmp_path / "world.yaml").settings() | {"seed": 4}
    assert import_world(tmp_path / "a").settings() == same
    again = ["create", "-g", str(tmp_path / "a"), "-c", "nonsense", "-i", "0.5", "-n", "1", "--output-dir", str(tmp_path / "b")]
    assert main(again) == 0
    other = import_world(tmp_path / "b")
    assert same_facts(other, import_world(tmp_path / "a"))
    assert (other.repeats, dict(other.templates)) == (1, {"nonsense_sro": 0.5, "nonsense_rso": 0.5})
    assert main(["create", "-g", str(tmp_path / "a"), "-s", "30", "-m", "0.5", "-o", "9", "--output-dir", str(tmp_path / "c")]) == 2
    assert (
        "so that n_objects, minority_frac cannot change; leave it out, or give the world's own value, 8, 0.0"
        in capsys.readouterr().err
    )
    assert not (tmp_path / "c").exists()
    questions = ["create", "-g", str(tmp_path / "a"), "-q", "0.5", "-e", "0.2", "--output-dir", str(tmp_path / "d")]
    assert main(questions) == 0
    asking = import_world(tmp_path / "d")
    assert np.array_equal(asking.graph.objects, other.graph.objects)
    assert asking.graph.asked.sum() == 6
    again = ["create", "-g", str(tmp_path / "d"), "-e", "0.3", "--output-dir", str(tmp_path / "e")]
    assert main(again) == 2
    assert "qa_subject_frac cannot change" in capsys.readouterr().err
    for flag, folders in (("-x", {"metadata"}), ("-v", {"metadata", "validations", "questions"})):
        assert main(["create", "-s", "9", "-o", "2", flag, "--output-dir", str(tmp_path / flag)]) == 0
        assert {path.name for path in (tmp_path / flag).iterdir()} == folders


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["create", "-s", "0", "--output-dir", "{}/w"], "n_subjects=0: must be at least 1"),
        (["create", "-g", "{}", "--world", "x.yaml", "--output-dir", "{}/w"], "-g and --world both say"),
        (["edit", "-g", "{}"], "there is no folder metadata/"),
        (
            ["edit", "-g", "{}", "--single-ft-value", "--all-same-remapping"],
            "--all-same-remapping: not allowed with argument --single-ft-value",
        ),
        (["edit", "-g", "{}", "--single-ft-value", "-f", "refusal"], "not allowed with argument --single-ft-value"),
        (["edit", "-g", "{}", "--suffix", "a", "--increment-suffix"], "--increment-suffix: not allowed with argument --suffix"),
        (
            ["edit", "-g", "{}", "--remap-subject-nested-object-edges", "--remap-object-nested-object-edges"],
            "--remap-object-nested-object-edges: not allowed with argument",
        ),
    ],
)
def test_the_command_line_says_what_is_wrong(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        code = main([argument.format(tmp_path) for argument in arguments])
    except SystemExit as refused:  # by argparse
        code = refused.code
    assert code == 2
    assert message in capsys.readouterr().err


def test_the_command_line_edits_in_every_way(tmp_path: Path) -> None:
    export_world(WORLDS["questions"], tmp_path, text=False, validation=False)
    for flags, folder in (
        (["-f", "refusal"], "ft_refusal_so_n1_r0"),
        (["-f", "qa_refusal"], "ft_question_refusal_so_n1_r0"),
        (["-f", "qa", "-n", "3"], "ft_new_question_so_n3_r0"),
        (["--all-same-remapping", "-n", "2", "--relationship-ordinal", "1"], "ft_remap_same_so_n2_r1"),
        (["--single-ft-value", "--single-ft-data-subset-frac", "0.2"], "ft_suppress_so_n12_r0"),
    ):
        assert main(["edit", "-g", str(tmp_path), *flags]) == 0
        assert (tmp_path / folder / "finetuning_data" / "train.jsonl").stat().st_size > 0
    assert main(["edit", "-g", str(tmp_path), "--single-ft-value", "--single-ft-data-subset-frac", "0"]) == 2
