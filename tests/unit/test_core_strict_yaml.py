"""Of YAML nothing gets lost: keys, comments, folded lines, and no more comes out than went in."""

import time

import pytest
import yaml

from effnotes.core.strict_yaml import load_yaml, lost_from

BOMB = (
    "{a: &a [x,x,x,x,x,x,x,x,x]"
    + "".join(f", {b}: &{b} [{','.join(9 * [f'*{a}'])}]" for a, b in zip("abcdefgh", "bcdefghi", strict=True))
    + "}"
)


@pytest.mark.parametrize("text", ["{a: 1, a: 2}", "{a: 1, 'a': 2}", "x: {b: 1, b: 2}", "a: 1\nb: 2\na: 1", "{010: a, 10: b}"])
def test_a_key_given_twice_is_refused_wherever_it_stands(text):
    with pytest.raises(yaml.YAMLError, match="is given twice"):
        load_yaml(text)


@pytest.mark.parametrize("text", [BOMB, "&a [*a]", "&a {b: *a}", f"[{BOMB}]"])
def test_aliases_that_blow_up_are_refused_at_once(text):
    start = time.monotonic()
    with pytest.raises(yaml.YAMLError, match="its aliases"):
        load_yaml(text)
    assert time.monotonic() - start < 1
    assert load_yaml("[&a 1, *a]") == [1, 1]


def test_too_many_values_that_are_written_out_are_not_blamed_on_aliases():
    with pytest.raises(yaml.YAMLError, match="more than 100,000 values; at most as many are read") as caught:
        load_yaml("a: [" + "1," * 100_000 + "]")
    assert "alias" not in str(caught.value)
    assert len(load_yaml("[" + "1," * 99_999 + "]")) == 99_999


@pytest.mark.parametrize(
    "text", ["!!int x", "!!bool x", "!!float x", "[" * 100_000, "{a: " * 50_000, "? [1]\n: 2", "9" * 5000, "!!timestamp x"]
)
def test_whatever_is_wrong_is_an_error_of_yaml(text):
    with pytest.raises(yaml.YAMLError):
        load_yaml(text)


@pytest.mark.parametrize(
    ("text", "lost"),
    [
        ("facts #2.csv", "#2.csv"),
        ("'a' # b", "# b"),
        ("# all", "# all"),
        ("{a: 1, # b: 2\n c: 3}", "# b: 2"),
        ("a\n b", "a\n b"),
        ("['a\n b']", "'a\n b'"),
        ("a\u2028b", "a\u2028b"),
        ("| # c\n a", "| # c\n a"),
        ("facts#2.csv", ""),
        ("'facts #2.csv'", ""),
        ("{a: [1, 'b']}", ""),
        ("- a\n- b\n", ""),
        ("|\n a\n b\n", ""),
        ("", ""),
    ],
)
def test_what_the_value_leaves_out_is_found(text, lost):
    assert lost_from(text) == lost
