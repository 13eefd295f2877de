"""A study that hides whose the mails are, and what its ratings come to."""

import math
from collections import Counter

import pandas as pd
import pytest

from effnotes.core.errors import DataError
from effnotes.metrics.blinded import agreement, read_study, score_study, write_study

PROMPTS = [f"Ask for “{k}”, please" for k in range(12)]
MAILS = {
    system: [f'{k}: "Grüße",\nsecond line of {place}' for k in range(12)] for place, system in enumerate(("real", "ours", "stock"))
}


def written(folder, seed=0):
    write_study(folder / "study.csv", folder / "key.csv", PROMPTS, MAILS, seed)
    return folder / "study.csv", folder / "key.csv"


def rows_of(path):
    return pd.read_csv(path, dtype=str, keep_default_na=False).to_dict("records")


def fill(study, rate):
    """Rate as a person would, in a file of their own."""
    pd.DataFrame([row | {"rating": rate(row)} for row in rows_of(study)]).to_csv(study, index=False)


def test_the_raters_see_every_mail_and_not_whose_it_is(tmp_path) -> None:
    study, key = written(tmp_path)
    rows, held = rows_of(study), {row["id"]: row for row in rows_of(key)}
    assert list(rows[0]) == ["id", "prompt", "email", "rating"]
    assert not any(system in study.read_text(encoding="utf-8") for system in MAILS)
    assert not any(each in key.read_text(encoding="utf-8") for each in ("Grüße", "Ask"))
    assert [row["id"] for row in rows] == [str(k) for k in range(1, 37)]
    for row in rows:
        told = held[row["id"]]
        assert row["prompt"] == PROMPTS[int(told["item"])]
        assert row["email"] == MAILS[told["system"]][int(told["item"])]
        assert row["rating"] == ""
    assert Counter(row["system"] for row in held.values()) == dict.fromkeys(MAILS, 12)
    order = [held[row["id"]]["system"] for row in rows]
    assert order != sorted(order)
    (tmp_path / "again").mkdir()
    again = written(tmp_path / "again")
    assert again[0].read_bytes() == study.read_bytes()
    assert written(tmp_path / "again", seed=1)[0].read_bytes() != study.read_bytes()
    with pytest.raises(ValueError, match="'ours': 11"):
        write_study(study, key, PROMPTS, MAILS | {"ours": MAILS["ours"][:11]}, 0)


def wilson(k: int, n: int) -> list[float]:
    z = 1.959963984540054
    middle, half = (k + z * z / 2) / (n + z * z), z / (n + z * z) * math.sqrt(k * (n - k) / n + z * z / 4)
    return [middle - half, middle + half]


def binomial(k: int, n: int) -> float:
    chances = [math.comb(n, j) / 2**n for j in range(n + 1)]
    return sum(chance for chance in chances if chance <= chances[k] * (1 + 1e-9))


def test_scores_are_the_formulas(tmp_path) -> None:
    study, key = written(tmp_path)
    whose = {row["id"]: row for row in rows_of(key)}
    good = {"real": 12, "ours": 9, "stock": 1}
    fill(study, lambda row: 3 if int(whose[row["id"]]["item"]) < good[whose[row["id"]]["system"]] else 2)
    scored = score_study(read_study(study, key), 3)
    for system, k in good.items():
        row = scored.loc[system]
        assert (row["n"], row["accepted"]) == (12, k)
        assert row["rating"] == pytest.approx(2 + k / 12)
        assert [row["share"], row["lo"], row["hi"]] == pytest.approx([k / 12, *wilson(k, 12)])
        assert row["p"] == pytest.approx(binomial(k, 12))


def test_agreement_is_kappa(tmp_path) -> None:
    one = pd.DataFrame({"id": range(10), "rating": [1, 1, 1, 1, 0, 0, 0, 0, 0, 1]})
    other = one.assign(rating=[1, 1, 1, 0, 0, 0, 0, 1, 0, 1])
    seen, chance = 0.8, 0.5 * 0.5 + 0.5 * 0.5
    assert agreement(one, other) == pytest.approx((seen - chance) / (1 - chance))
    assert agreement(one, one) == 1
    with pytest.raises(ValueError, match="same study"):
        agreement(one, other[1:])


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda rows: rows[:-1], "ids differ"),
        (lambda rows: [{k: v for k, v in row.items() if k != "rating"} for row in rows], "no column rating"),
        (lambda rows: [row | {"rating": "good"} if row["id"] == "5" else row for row in rows], "1 ratings .* id 5"),
        (lambda rows: [row | {"rating": ""} if row["id"] in "78" else row for row in rows], "2 ratings .* id 7"),
    ],
)
def test_a_study_that_is_not_filled_in_is_refused_without_its_mails(tmp_path, damage, said) -> None:
    study, key = written(tmp_path)
    pd.DataFrame(damage([row | {"rating": "1"} for row in rows_of(study)])).to_csv(study, index=False)
    with pytest.raises(DataError, match=said) as caught:
        read_study(study, key)
    assert "Grüße" not in str(caught.value)
