"""Parameters are read without running anything and refused before anything runs."""

import pytest

from effnotes.runner.errors import UsageError
from effnotes.runner.parameters import (
    Parameter,
    check_plain,
    check_reached,
    declared_parameters,
    parse_all,
    parse_value,
    resolve,
    split_assignment,
)


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
        ("p, q = 1, 2", "only declarations"),
        ("p.q = 1", "only declarations"),
        ("p = (1, 2)", "allowed are plain scalars, lists and mappings"),
        ("p = 3 * 4", "must be a literal"),
        ("p = 1\np: int = 2", "declared twice"),
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


@pytest.mark.parametrize(
    ("default", "annotation", "wrong"),
    [("42", "int", 0.5), ("1e-3", "float", "x"), ("'a'", "str", 1), ("True", "bool", 1), ("[1]", "list", 1), ("{}", "dict", [])],
)
def test_a_parameter_without_annotation_takes_the_type_of_its_default(default, annotation, wrong):
    declared = declared_parameters(f"SEED = {default}  # of all draws")
    assert (declared["SEED"].annotation, declared["SEED"].help) == (annotation, "of all draws")
    with pytest.raises(UsageError, match=f"declared as {annotation}"):
        declared["SEED"].check(wrong)
    assert declared_parameters("p = None")["p"].check(3) == 3


@pytest.mark.parametrize(
    "typed",
    ["facts #2.csv", "a: b", "[1", "7", "null", "", " x ", "*a", "a\nb", "C:\\new", "it's", "{a", "- x", "true", "@x", "a # 'b'"],
)
def test_a_text_for_a_parameter_of_text_is_taken_as_typed(typed):
    assert parameter("str").parse(typed) == typed
    if typed not in ("null", ""):
        assert parameter("str | None").parse(typed) == typed


def test_quotes_and_null_are_still_those_of_yaml():
    assert parameter("str").parse("'7'") == "7"
    assert parameter("str").parse('"a\\tb #"') == "a\tb #"
    assert parameter("Optional[str]").parse("null") is None
    assert parameter("str | int").parse("7") == 7
    with pytest.raises(UsageError, match=r"leaves out '# b'.*Put texts in quotes"):
        parameter("str").parse("'a' # b")


@pytest.mark.parametrize(
    ("annotation", "typed", "lost"),
    [
        ("list[str]", "[a, b] # c", "# c"),
        ("Any", "x #y", "#y"),
        ("Literal['a']", "a #b", "#b"),
        ("dict[str, str]", "{a: b\n c}", "b"),
    ],
)
def test_what_yaml_would_leave_out_is_refused(annotation, typed, lost):
    with pytest.raises(UsageError, match=f"leaves out .*{lost}"):
        parameter(annotation).parse(typed)


@pytest.mark.parametrize("text", ["{a: 1, a: 2}", "[&a [1], *a, {b: 1, 'b': 2}]"])
def test_a_key_given_twice_is_refused(text):
    with pytest.raises(UsageError, match="given twice"):
        parse_value(text, "p")


def test_a_parameter_given_twice_is_refused():
    declared = declared_parameters("p: int = 1")
    assert parse_all([("p", "2")], declared, "c") == {"p": 2}
    with pytest.raises(UsageError, match="'p' is given twice"):
        parse_all([("p", "2"), ("p", "3")], declared, "c")


@pytest.mark.parametrize("text", ["a\0b", "a\udcff"])
def test_letters_that_no_file_can_hold_are_refused_and_shown_escaped(text):
    with pytest.raises(UsageError, match="allowed is text in UTF-8") as refusal:
        check_plain([{"k": text}], "p")
    str(refusal.value).encode()


def test_values_that_did_not_reach_the_kernel_are_found():
    stated = [{"name": "n", "value": 5}, {"name": "t", "value": "a"}]
    check_reached(["n: int = 1\nt = 'a'", "# Parameters\nn = 5"], stated)
    with pytest.raises(RuntimeError, match="'n' was to be 5, but the notebook got 1"):
        check_reached(["n = 5", "n: int = 1\nt = 'a'"], stated)
    with pytest.raises(RuntimeError, match="'n' was to be 5"):
        check_reached(["n = 5.0", "t = 'a'"], stated)


@pytest.mark.parametrize("value", ["a'b\"c\\d\n☃\u2028", 1e-07, -0.0, 10**30, [None, True, {"k'\"": [1.0, "#"]}], "{{x}} %s"])
def test_every_value_reaches_the_kernel_through_papermill_as_it_is(value):
    from papermill.translators import PythonTranslator

    check_reached(["v = 1", PythonTranslator.codify({"v": value}, "Parameters")], [{"name": "v", "value": value}])
