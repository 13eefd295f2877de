"""Choosing and comparing, against loops in plain Python over small random tables with ties, NaN and closed forms."""

import itertools
import math
from collections import defaultdict

import numpy as np
import pandas as pd
import pytest

from effnotes.reporting import claims
from effnotes.reporting.claims import Claim, Source, measure
from effnotes.studies.editing.rates import RUN, at_rates, choose_rates, stopped
from effnotes.studies.editing.statistics import TIE, by_world, compare, frontier, holm, paired_differences, sign_test
from effnotes.studies.protocol import next_value

NAN = math.nan
METHODS = {"full linears": ("linears", NAN), "LoRA 1 mlp": ("mlp", 1.0), "LoRA 4 mlp": ("mlp", 4.0)}
RATES = {"full linears": (1e-4, 3e-4, 1e-3), "LoRA 1 mlp": (1e-3, 3e-3), "LoRA 4 mlp": (3e-3,)}
STEPS = (5, 10, 20)
UNIT = ("setting", "world", "draw")


def table(seed: int, *, worlds: int = 2, splits: tuple[str, ...] = ("tune", "test")) -> pd.DataFrame:
    """Rows as of `run_edits`, in random order; scores in tenths, so that many are equal."""
    rng = np.random.default_rng(seed)
    rows = []
    for setting, split, world, draw in itertools.product(("one", "many"), splits, range(worlds), range(2)):
        same = {"setting": setting, "split": split, "world": world, "draw": draw}
        for method, (blocks, rank) in METHODS.items():
            for rate, step in itertools.product(RATES[method], STEPS):
                names = {"method": method, "blocks": blocks, "rank": rank, "learning_rate": rate, "step": step}
                rows.append(same | names)
        rows.append(same | {"method": "rome", "blocks": "mlp", "rank": NAN, "learning_rate": NAN, "step": 1})
    for row in rows:
        row["edited_exact"] = float(rng.choice([0.0, 0.5, 1.0], p=[0.5, 0.3, 0.2]))
        row["H"], row["edit_success"], row["retention"] = (float(value) / 10 for value in rng.integers(0, 11, size=3))
    return pd.DataFrame(rows).sample(frac=1, random_state=seed).reset_index(drop=True)


def key(row, names=RUN) -> tuple:
    return tuple("NaN" if isinstance(row[name], float) and math.isnan(row[name]) else row[name] for name in names)


def records(frame: pd.DataFrame) -> list[dict]:
    return frame.to_dict("records")


def same_rows(frame: pd.DataFrame, expected: list[dict]) -> bool:
    return sorted(map(repr, records(frame))) == sorted(map(repr, expected))


def stop_by_hand(rows: list[dict], rule: str) -> list[dict]:
    runs = defaultdict(list)
    for row in rows:
        runs[key(row)].append(row)
    ends = []
    for run in runs.values():
        run.sort(key=lambda row: row["step"])
        reached = [row for row in run if row["edited_exact"] == 1] if rule == "first_success" else []
        ends.append(reached[0] if reached else run[-1])
    return ends


def rates_by_hand(rows: list[dict], rule: str, score: str) -> dict:
    scores = defaultdict(list)
    for row in stop_by_hand([row for row in rows if row["split"] == "tune"], rule):
        if not math.isnan(row["learning_rate"]):
            scores[row["setting"], row["method"], row["learning_rate"]].append(row[score])
    found = {}
    for setting, method in {each[:2] for each in scores}:
        tried = sorted(rate for s, m, rate in scores if (s, m) == (setting, method))
        best, mean = None, -math.inf
        for rate in tried:
            values = [value for value in scores[setting, method, rate] if not math.isnan(value)]
            here = sum(values) / len(values) if values else -math.inf
            if here > mean + 1e-12:
                best, mean = rate, here
        edge = "" if len(tried) == 1 else "low" if best == tried[0] else "high" if best == tried[-1] else ""
        found[setting, method] = (best, mean, len(tried), edge)
    return found


# --- stopping -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", ["budget", "first_success"])
@pytest.mark.parametrize("seed", range(5))
def test_edits_end_where_a_loop_ends_them(seed: int, rule: str) -> None:
    rows = table(seed)
    assert same_rows(stopped(rows, rule), stop_by_hand(records(rows), rule))


@pytest.mark.parametrize("exact", [0.5, 1.0])
def test_all_edits_succeed_at_once_or_none_ever_does(exact: float) -> None:
    rows = table(0).assign(edited_exact=exact)
    found = stopped(rows, "first_success").set_index(RUN)["step"]
    tuned = rows["learning_rate"].notna()
    assert len(found) == rows[RUN].drop_duplicates().shape[0]
    assert set(found[found.index.get_level_values("learning_rate").notna()]) == {STEPS[0] if exact == 1 else STEPS[-1]}
    assert tuned.any()


def test_an_unknown_rule_is_named() -> None:
    with pytest.raises(ValueError, match="rule='last': must be one of budget, first_success"):
        stopped(table(0), "last")


# --- choosing rates -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", ["budget", "first_success"])
@pytest.mark.parametrize("seed", range(8))
def test_rates_are_those_that_a_loop_chooses(seed: int, rule: str) -> None:
    rows = table(seed, worlds=1 + seed % 3)
    chosen = choose_rates(rows, rule)
    expected = rates_by_hand(records(rows), rule, "H")
    assert {(row["setting"], row["method"]) for row in records(chosen)} == set(expected)
    for row in records(chosen):
        rate, mean, tried, edge = expected[row["setting"], row["method"]]
        assert (row["learning_rate"], row["tried"], row["edge"], row["rule"]) == (rate, tried, edge, rule)
        assert row["score"] == pytest.approx(mean)


def test_no_score_of_a_draw_to_report_moves_the_choice() -> None:
    rows = table(3)
    other = rows.copy()
    is_test = other["split"] == "test"
    other.loc[is_test, "H"] = 1 - other.loc[is_test, "H"]
    pd.testing.assert_frame_equal(choose_rates(rows, "budget"), choose_rates(other, "budget"))
    pd.testing.assert_frame_equal(choose_rates(rows, "budget"), choose_rates(rows[~is_test], "budget"))
    with pytest.raises(ValueError, match="no edits of the split 'tune'"):
        choose_rates(rows[is_test], "budget")


def tuning(scores: dict[float, list[float]], method: str = "full linears") -> pd.DataFrame:
    blocks, rank = METHODS[method]
    names = {"setting": "one", "split": "tune", "world": 0, "method": method, "blocks": blocks, "rank": rank, "step": 5}
    rows = [
        names | {"learning_rate": rate, "draw": draw, "H": h} for rate, values in scores.items() for draw, h in enumerate(values)
    ]
    return pd.DataFrame(rows).assign(edited_exact=1.0)


@pytest.mark.parametrize(
    ("scores", "rate", "edge"),
    [
        ({1e-3: [0.5, 0.5], 1e-4: [0.5, 0.5], 1e-2: [0.5, 0.5]}, 1e-4, "low"),  # a tie goes to the lowest, in any order
        ({1e-2: [0.9], 1e-3: [0.9], 1e-4: [0.1]}, 1e-3, ""),
        ({1e-4: [0.1], 1e-2: [0.9], 1e-3: [0.8]}, 1e-2, "high"),
        ({1e-4: [NAN], 1e-3: [0.1], 1e-2: [NAN]}, 1e-3, ""),  # undefined is not best
        ({1e-3: [0.7, 0.1]}, 1e-3, ""),  # a single rate is no grid
    ],
)
def test_ties_edges_and_undefined_scores(scores: dict[float, list[float]], rate: float, edge: str) -> None:
    (row,) = records(choose_rates(tuning(scores), "budget"))
    assert (row["learning_rate"], row["edge"]) == (rate, edge)


def test_no_rate_is_chosen_where_the_score_is_undefined_at_all() -> None:
    with pytest.raises(ValueError, match="H of one, full linears is NaN at every learning_rate"):
        choose_rates(tuning({1e-3: [NAN], 1e-2: [NAN]}), "budget")


def test_the_grid_goes_on_in_ones_and_threes() -> None:
    grid = [float(f"{digit}e{power}") for power in range(-6, 1) for digit in (1, 3)]
    for low, high in itertools.pairwise(grid):
        assert next_value([low], "high") == next_value([low / 2, low], "high") == high
        assert next_value([high], "low") == next_value([high * 7, high], "low") == low
    assert next_value([5e-4], "low") == 3e-4
    assert next_value([5e-4], "high") == 1e-3


# --- edits at the chosen rates ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", ["budget", "first_success"])
@pytest.mark.parametrize("seed", range(3))
def test_reported_are_the_edits_at_the_chosen_rates(seed: int, rule: str) -> None:
    rows = table(seed)
    rates = choose_rates(rows, rule)
    chosen = {(row["setting"], row["method"], row["learning_rate"]) for row in records(rates)}
    test = [row for row in records(rows) if row["split"] == "test"]
    expected = [row for row in stop_by_hand(test, rule) if (row["setting"], row["method"], row["learning_rate"]) in chosen]
    assert len(expected) == 2 * 3 * 2 * 2  # settings, methods, worlds, draws
    assert same_rows(at_rates(rows, rates), expected)


def test_a_rate_that_was_not_run_on_the_draws_to_report_is_named() -> None:
    rows = table(0)
    rates = choose_rates(rows, "budget")
    first = rates.iloc[0]
    gone = (rows["split"] == "test") & (rows["method"] == first["method"]) & (rows["setting"] == first["setting"])
    with pytest.raises(
        ValueError,
        match=f"1 values of learning_rate that were chosen have no rows.*for {first['setting']}, {first['method']}; run them",
    ):
        at_rates(rows[~gone], rates)
    with pytest.raises(ValueError, match="rates of the rules 'budget', 'first_success': give those of a single one"):
        at_rates(rows, pd.concat([rates, choose_rates(rows, "first_success")]))


@pytest.mark.parametrize("seed", range(3))
def test_differences_are_taken_on_the_same_edit(seed: int) -> None:
    rows = table(seed)
    edits = at_rates(rows, choose_rates(rows, "budget"))
    rng = np.random.default_rng(seed)
    edits.loc[rng.random(len(edits)) < 0.2, "H"] = NAN
    edits = edits[rng.random(len(edits)) < 0.8]
    scores = {(*key(row, UNIT), row["method"]): row["H"] for row in records(edits)}
    expected = {}
    for (*unit, method), h in scores.items():
        reference = scores.get((*unit, "full linears"), NAN)
        if method != "full linears" and not math.isnan(h - reference):
            expected[*unit, method] = h - reference
    found = {(*key(row, UNIT), row["method"]): row["difference"] for row in records(paired_differences(edits, "full linears"))}
    assert found == pytest.approx(expected)
    assert 0 < len(found) < 2 * 2 * 2 * 2


def test_what_cannot_be_paired_is_refused() -> None:
    rows = table(0, splits=("test",))
    with pytest.raises(ValueError, match="several rows of the same method"):
        paired_differences(rows, "full linears")
    with pytest.raises(ValueError, match="reference='full' is none of the methods: "):
        paired_differences(stopped(rows, "budget"), "full")


# --- statistics ---------------------------------------------------------------------------------------------------------------


def differences(seed: int, worlds: int, *, mean: float = 0.0, spread: float = 0.02) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    rows = []
    for setting, method in itertools.product(("one", "many"), ("a", "b", "c")):
        for world in range(worlds):
            shift = mean + spread * rng.standard_normal()
            for draw in range(int(rng.integers(1, 5))):
                rows.append((setting, world, draw, method, shift + spread * rng.standard_normal()))
    columns = [*UNIT, "method", "difference"]
    return pd.DataFrame(rows, columns=columns).sample(frac=1, random_state=seed)


CLAIM = Claim(
    id="editing.test",
    chapter="editing",
    statement="A claim.",
    source=Source(key="nobody", where="nowhere", kind="text"),
    published=None,
    effect="difference of H",
    unit="1",
    range=None,
    unit_of_analysis="edit",
    direction="increase",
    margin=0.0,
    interval="bootstrap",
    worth_seeing=0.02,
)


@pytest.mark.parametrize(("seed", "worlds", "mean"), [(0, 2, 0.0), (1, 3, 0.1), (2, 8, -0.1), (3, 5, 0.0)])
def test_intervals_are_those_of_a_claim_over_whole_worlds(seed: int, worlds: int, mean: float, monkeypatch) -> None:
    monkeypatch.setattr(claims, "load_register", lambda: {CLAIM.id: CLAIM})
    given = differences(seed, worlds, mean=mean)
    found = compare(given)
    assert len(found) == 6
    for row in records(found):
        own = [each for each in records(given) if (each["setting"], each["method"]) == (row["setting"], row["method"])]
        groups = [[each["difference"] for each in own if each["world"] == world] for world in range(worlds)]
        claim = measure(CLAIM.id, groups)
        means = [sum(group) / len(group) for group in groups]
        assert row["mean"] == pytest.approx(claim.estimate) == pytest.approx(sum(means) / worlds)
        assert (row["low"], row["high"]) == pytest.approx(claim.interval, abs=1e-12)
        assert (row["worlds"], row["edits"]) == (worlds, len(own))
        assert row["wins"] == pytest.approx(sum(each["difference"] > 0 for each in own) / len(own))
        assert row["sign_p"] == pytest.approx(sign_by_hand(means))
        low, high = map(float, claim.interval)
        expected = "win" if low > 0 else "loss" if high < 0 else "tie" if low > -TIE and high < TIE else "open"
        assert row["outcome"] == expected
    for _, group in found.groupby("setting"):
        assert group["holm_p"].tolist() == pytest.approx(holm_by_hand(group["sign_p"].tolist()))


@pytest.mark.parametrize("wrong", [-0.1, 1.1, NAN])
def test_only_probabilities_are_corrected(wrong: float) -> None:
    with pytest.raises(ValueError, match="p_values="):
        holm(pd.Series([0.5, wrong]))


@pytest.mark.parametrize(
    ("values", "outcome"),
    [
        ([0.02, 0.021, 0.019], "win"),
        ([-0.02, -0.021, -0.019], "loss"),
        ([0.001, -0.001, 0.0005], "tie"),
        ([0.0, 0.0, 0.0], "open"),  # that three worlds agree says little of the next
        ([0.02, 0.02, 0.02], "open"),
        ([0.1, -0.1, 0.05], "open"),
    ],
)
def test_outcomes(values: list[float], outcome: str) -> None:
    given = pd.DataFrame({"setting": "one", "world": range(3), "draw": 0, "method": "a", "difference": values})
    assert compare(given)["outcome"].tolist() == [outcome]


def test_a_single_world_settles_nothing() -> None:
    (row,) = records(compare(pd.DataFrame({"setting": "one", "world": 7, "draw": [0, 1], "method": "a", "difference": [0.1, 0.3]})))
    assert (row["worlds"], row["edits"], row["mean"]) == (1, 2, pytest.approx(0.2))
    assert math.isnan(row["low"])
    assert math.isnan(row["high"])
    assert (row["sign_p"], row["holm_p"], row["outcome"]) == (1.0, 1.0, "open")


def test_what_cancels_is_neither_above_nor_below_zero() -> None:
    # 0.1 + 0.2 - 0.3 is 2.8e-17 in binary, in every world.
    rows = pd.DataFrame({"setting": "one", "world": np.repeat([0, 1, 2], 3), "draw": np.tile([0, 1, 2], 3)})
    both = pd.concat(
        [rows.assign(method="full linears", H=np.tile([0.5, 0.5, 0.5], 3)), rows.assign(method="a", H=np.tile([0.6, 0.7, 0.2], 3))]
    )
    (row,) = records(compare(paired_differences(both, "full linears")))
    assert (row["mean"], row["sign_p"], row["outcome"]) == (0.0, 1.0, "open")
    assert row["high"] == -row["low"] == pytest.approx(1 - 0.025 ** (1 / 3))  # of three worlds that agree, between -1 and 1
    assert row["wins"] == pytest.approx(2 / 3)


def test_rates_whose_scores_come_in_another_order_are_a_tie() -> None:
    values = [0.1, 0.2, 0.3, 0.7, 0.05]
    for order in itertools.permutations(values):
        assert choose_rates(tuning({1e-4: values, 1e-3: list(order)}), "budget")["learning_rate"].tolist() == [1e-4]


def test_nothing_compared_is_an_empty_table() -> None:
    empty = compare(differences(0, 2).iloc[:0])
    assert len(empty) == 0
    assert "holm_p" in empty


def test_values_are_listed_by_world() -> None:
    given = pd.DataFrame({"world": [5, 2, 5], "difference": [0.1, 0.2, 0.3]})
    assert by_world(given) == [[0.2], [0.1, 0.3]]


def sign_by_hand(values: list[float]) -> float:
    """Sum over all outcomes of n fair coins that are no likelier than the one seen."""
    above, n = sum(value > 0 for value in values), sum(value != 0 for value in values)
    return min(1.0, sum(math.comb(n, k) for k in range(n + 1) if math.comb(n, k) <= math.comb(n, above)) / 2**n)


@pytest.mark.parametrize("n", range(10))
def test_the_sign_test_sums_the_binomial(n: int) -> None:
    for above in range(n + 1):
        values = [0.3] * above + [-2.0] * (n - above)
        assert sign_test([*values, 0.0, 0.0]) == pytest.approx(sign_by_hand(values))


def test_known_p_values_of_the_sign_test() -> None:
    assert sign_test([1, 1, 1]) == 0.25  # the least that three worlds can give
    assert sign_test([1] * 8) == pytest.approx(2 / 256)
    assert sign_test([1] * 9 + [-1]) == pytest.approx(22 / 1024)
    assert sign_test([0.0, 0.0]) == 1.0


def holm_by_hand(p: list[float]) -> list[float]:
    """Reject step by step: the corrected value is the smallest level at which a hypothesis and all before it are rejected."""
    left, corrected, before = list(range(len(p))), [0.0] * len(p), 0.0
    while left:
        least = min(left, key=lambda index: p[index])
        before = max(before, min(1.0, len(left) * p[least]))
        corrected[least] = before
        left.remove(least)
    return corrected


def test_holm_of_worked_examples() -> None:
    # Wikipedia, "Holm-Bonferroni method", example; and p.adjust of R for the second row.
    for p, corrected in (
        ([0.01, 0.04, 0.03, 0.005], [0.03, 0.06, 0.06, 0.02]),
        ([0.01, 0.02, 0.03, 0.04, 0.05], [0.05, 0.08, 0.09, 0.09, 0.09]),
        ([0.5, 0.6], [1.0, 1.0]),
        ([0.03], [0.03]),
        ([], []),
    ):
        assert holm(pd.Series(p, dtype=float)).tolist() == pytest.approx(corrected)


@pytest.mark.parametrize("seed", range(10))
def test_holm_against_a_loop(seed: int) -> None:
    rng = np.random.default_rng(seed)
    p = np.round(rng.random(int(rng.integers(1, 9))) ** 3, 2)  # with ties
    corrected = holm(pd.Series(p)).to_numpy()
    assert corrected == pytest.approx(holm_by_hand(p.tolist()))
    for level in (0.01, 0.05, 0.2):
        rejected = set()
        for step, index in enumerate(sorted(range(len(p)), key=lambda index: p[index])):
            if p[index] > level / (len(p) - step):
                break
            rejected.add(index)
        assert set(np.flatnonzero(corrected <= level + 1e-12)) == rejected


# --- frontier and counts ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(6))
def test_the_frontier_is_what_nothing_else_equals_or_beats(seed: int) -> None:
    rows = table(seed, worlds=1, splits=("tune",))
    rows = rows[rows["setting"] == "one"]
    points = defaultdict(list)
    for row in records(rows):
        points[key(row, ("method", "learning_rate", "step"))].append((row["edit_success"], row["retention"]))
    means = {
        point: tuple(round(sum(each) / len(scores), 9) for each in zip(*scores, strict=True)) for point, scores in points.items()
    }
    expected = defaultdict(set)
    for point, (x, y) in means.items():
        others = [other for name, other in means.items() if name[0] == point[0] and other != (x, y)]
        if not any(u >= x and v >= y for u, v in others):
            expected[point[0]].add((x, y))
    found = frontier(rows)
    assert found["method"].is_monotonic_increasing
    for method, group in found.groupby("method"):
        pairs = [(round(x, 9), round(y, 9)) for x, y in zip(group["edit_success"], group["retention"], strict=True)]
        assert len(pairs) == len(set(pairs))
        assert set(pairs) == expected[method]
        assert pairs == sorted(pairs)
        assert all(
            means[key(row, ("method", "learning_rate", "step"))] == pair for row, pair in zip(records(group), pairs, strict=True)
        )
    assert set(found["method"]) == {*METHODS, "rome"}
