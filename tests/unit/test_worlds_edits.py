"""Edits that are named instead of drawn: read from a table, made into tasks, refused by file and line."""

from pathlib import Path

import numpy as np
import pytest

from effnotes.core.errors import DataError
from effnotes.datasets.worlds import Facts, World, edit_task, make_task, read_edits, read_facts

FIXTURES = Path(__file__).parents[1] / "fixtures"
NAMED = read_facts(FIXTURES / "facts.csv")


def test_edits_are_the_named_facts_with_their_new_objects() -> None:
    facts, new = read_edits(FIXTURES / "edits.csv", NAMED)
    assert NAMED.describe(facts, new) == [
        "Abrel Tuno | lives in | Norrick → Varn",
        "Bixa Morle | works as | surveyor → glazier",
        "Cado Venn | speaks | Old Varnish → Sendar",
    ]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("Abrel Tunno,lives in,Varn", "line 2: no fact is about the subject 'Abrel Tunno'. Did you mean 'Abrel Tuno'? Known are"),
        ("Abrel Tuno,live in,Varn", "line 2: no fact has the relation 'live in'. Did you mean 'lives in'?"),
        ("Abrel Tuno,lives in,Vaarn", "line 2: no subject 'lives in' 'Vaarn'. Did you mean 'Varn'?"),
        ("Abrel Tuno,lives in,baker", "line 2: no subject 'lives in' 'baker'."),
        ("Abrel Tuno,lives in,Norrick", "line 2: 'Abrel Tuno | lives in' is 'Norrick' already; give the object"),
        (
            "Abrel Tuno,lives in,Varn\nAbrel Tuno,lives in,Linthal",
            "line 3: 'Abrel Tuno | lives in' is 'Linthal', but 'Varn' in line 2",
        ),
        ("", "there is no fact in this file, only a header"),
    ],
    ids=["subject", "relation", "object", "object of another relation", "no change", "twice", "empty"],
)
def test_what_cannot_be_edited_is_refused(rows: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "edits.csv"
    path.write_text(f"subject,relation,object\n{rows}\n", encoding="utf-8")
    with pytest.raises(DataError) as refused:
        read_edits(path, NAMED)
    assert str(refused.value).startswith(str(path))
    assert message in str(refused.value)


def test_a_named_edit_is_a_task_like_a_drawn_one() -> None:
    world = World(40, 3, 6, seed=5)
    drawn = make_task(world, "remap", 2, relation=1, retain_coverage=0.2)
    made = edit_task(world, drawn.old, drawn.train["edited"].facts.object, retain_coverage=0.2, seed=7)
    assert (made.kind, made.edge, made.relation) == ("remap", "so", 1)
    assert made.train["edited"].facts.rows() == drawn.train["edited"].facts.rows()
    assert made.old.rows() == drawn.old.rows()
    assert set(made.train) == set(drawn.train)
    assert set(made.test) == set(drawn.test)
    assert len(made.train["reg_data"]) == len(drawn.train["reg_data"]) == 2 * 8  # the two other relations of 0.2 * 40 subjects


def test_a_named_edit_that_is_none_is_refused() -> None:
    world = World(40, 3, 6, seed=5)
    facts = world.facts("so")
    of_one = facts.take((facts.relation == 1) & (facts.subject < 2))
    other = (of_one.object + 1) % 6
    wrong = of_one.saying(other)
    for given, new, message in (
        (Facts.none(), np.zeros(0), "give at least one fact"),
        (of_one, other[:1], "give at least one fact, and each a new object"),
        (facts.take(facts.subject == 0), np.zeros(3), "an edit takes one relation"),
        (of_one.take(np.array([0, 0])), other, "each subject once"),
        (wrong, other, "is not what the world states"),
        (of_one, of_one.object, "must differ from the old one"),
        (of_one, np.full(2, 6), "new object 6 must differ"),
    ):
        with pytest.raises(ValueError, match=message):
            edit_task(world, given, new)
