"""Parameters are read without running anything and refused before anything runs."""

import pytest

from effnotes.runner.errors import UsageError
from effnotes.runner.parameters import Parameter, check_plain, declared_parameters, parse_value, resolve, split_assignment


def parameter(annotation: str) -> Parameter:
    return Parameter("p", annotation, None, "")


def test_a_declaration_gives_name_annotation_default_and_help():
    cell = 'seeds: list[int] = [1, 2]  # one model a seed # each\nmode: Literal["a", "b"] | None = "a"'
    declared = declared_parameters(cell)
    assert declared["seeds"] == Parameter("seeds", "list[int]", [1, 2], "one model a seed # each")
    assert declared["mode"] == Parameter("mode", "Literal['a', 'b'] | None", "a", "")


def test_help_of_a_default_over_several_lines_stands_on_its_last():
    declared = declared_parameters("grid: list[float] = [\n    0.1,  # not this\n    0.2,\n]  # the grid")
    assert declared["grid"].help == "the grid"


def test_reading_a_cell_never_runs_it(tmp_path):
    with pytest.raises(UsageError, match="must be a literal"):
        declared_parameters(f"p: str = open({str(tmp_path / 'made')!r}, 'w').name")
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ("p = q = 1", "only declarations"),
        ("p: int", "only declarations"),
        ("p: int = 1\np: int = 2", "declared twice"),
        ("p: set[int] = 1", r"annotated 'set\[int\]'; allowed are"),
        ("p: int = 'x'", "declared as int; given was 'x'"),
        ("p: int = ", "line 40: invalid syntax"),
        ("p: list[int] = (1, 2)", "allowed are plain scalars, lists and mappings"),
    ],
)
def test_a_wrong_declaration_is_refused_with_its_line(cell, message):
    with pytest.raises(UsageError, match=message) as refusal:
        declared_parameters(cell, first_line=40, where="book/x.py")
    assert "book/x.py, line 4" in str(refusal.value)


@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        ("int", 3),
        ("float", 0.5),
        ("str", "no"),
        ("bool", True),
        ("int | None", None),
        ("Optional[int]", None),
        ("Union[int, str]", "x"),
        ("Literal['a', 2]", 2),
        ("list[float]", [0.1]),
        ("list[list[int]]", [[1], []]),
        ("dict[str, list[int]]", {"a": [1]}),
        ("list", [1, "x"]),
        ("Any", {"a": None}),
    ],
)
def test_a_fitting_value_is_returned_unchanged(annotation, value):
    checked = parameter(annotation).check(value)
    assert checked == value
    assert type(checked) is type(value)


def test_an_int_given_for_a_float_becomes_one_and_an_exact_fit_wins():
    widened = parameter("list[float]").check([1, 0.5])
    assert [type(item) for item in widened] == [float, float]
    assert type(parameter("float | int").check(3)) is int


@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        ("int", 1.0),
        ("int", True),
        ("float", False),
        ("bool", 1),
        ("str", 1),
        ("list[int]", [1, "2"]),
        ("list[int]", 1),
        ("Literal['a']", "b"),
        ("Literal[1]", True),
        ("int | None", "none"),
        ("dict[str, int]", {"a": "b"}),
    ],
)
def test_a_value_that_does_not_fit_is_refused_with_what_was_given_and_allowed(annotation, value):
    with pytest.raises(UsageError, match="parameter 'p' is declared as") as refusal:
        parameter(annotation).check(value)
    assert repr(value) in str(refusal.value)


def test_a_misspelt_choice_names_the_nearest():
    with pytest.raises(UsageError, match=r"allowed are 'dense', 'sparse'\. Did you mean 'sparse'\?"):
        parameter("Literal['dense', 'sparse']").check("sparce")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 0.001),
        ("0.9", 0.9),
        ("[1, 2]", [1, 2]),
        ("{a: 1}", {"a": 1}),
        ("no", "no"),
        ("2024-01-01", "2024-01-01"),
        ("null", None),
        ("", None),
        ("true", True),
        ("'7'", "7"),
        ("12:30", "12:30"),
    ],
)
def test_values_follow_the_core_schema_of_yaml(text, value):
    parsed = parse_value(text, "p")
    assert parsed == value
    assert type(parsed) is type(value)


@pytest.mark.parametrize("text", ["[1", "!!python/object/apply:os.getcwd []", ".nan", "[.inf]", "{1: 2}", "!!set {a}"])
def test_what_is_no_plain_finite_data_is_refused(text):
    with pytest.raises(UsageError):
        parse_value(text, "p")


def test_plain_data_excludes_tuples_and_objects():
    with pytest.raises(UsageError, match="tuple"):
        check_plain([(1, 2)], "p")


@pytest.mark.parametrize("text", ["seeds", "=1", " =1"])
def test_an_assignment_needs_a_name_and_an_equals_sign(text):
    with pytest.raises(UsageError, match="no assignment"):
        split_assignment(text)


def test_later_layers_win_and_unknown_names_name_the_nearest():
    declared = declared_parameters("sparsities: list[float] = [0.0]\nepochs: int = 1")
    values = resolve(declared, [("profile", {"epochs": 2}), ("-p", {"epochs": 3, "sparsities": [1]})], "c")
    assert values == {"sparsities": [1.0], "epochs": 3}
    with pytest.raises(UsageError, match=r"no parameter 'sparsty' \(-p\)\. Did you mean 'sparsities'\? It has: sparsities, epochs"):
        resolve(declared, [("-p", {"sparsty": 0.9})], "c")
