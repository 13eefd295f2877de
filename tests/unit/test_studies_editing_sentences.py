"""What a run of the chapter on editing found, in sentences: true by sign and verdict, for one world and for many."""

import itertools
from typing import Any

import numpy as np
import pandas as pd
import pytest

from effnotes.datasets.worlds import World
from effnotes.reporting.claims import load_register, measure
from effnotes.studies.editing import sentences as said
from effnotes.studies.editing import tables
from effnotes.studies.editing.settings import REFERENCE, Method
from effnotes.studies.editing.statistics import compare, paired_differences

METHODS = [Method(blocks, rank) for rank in (None, 4) for blocks in ("linears", "mlp")]
LORA = Method("linears", 4).name


def edits(worlds: int, better: float = 0.0, **scores: float) -> pd.DataFrame:
    """A row for each rule, world and method; LoRA's H is higher by so much."""
    made = []
    for rule, world, method in itertools.product(("budget", "first_success", "reference_rate"), range(worlds), METHODS):
        names = {"rule": rule, "world": world, "method": method.name, "blocks": method.blocks, "setting": "one", "draw": 0}
        names |= {"rank": np.nan if method.rank is None else float(method.rank), "learning_rate": 1e-3, "split": "test", "step": 20}
        h = 0.5 + 0.01 * world + (better + 0.002 * world if method.rank else 0.0)
        kept = dict(zip(tables.GROUPS, (0.2 + 0.01 * world, 0.6, 0.7, 0.9 - 0.01 * world), strict=True))
        made.append(
            names | kept | {"edit_success": 0.75, "retention": 0.6, "H": h, "stable_rank": 2.0, "truncated_1_H": 0.25} | scores
        )
    return pd.DataFrame(made)


def payload(name: str, effects: Any) -> dict[str, Any]:
    return measure(f"editing.{name}", effects).to_json()


@pytest.mark.parametrize(
    ("effects", "words"),
    [
        (
            [[0.05], [0.06], [0.07], [0.04]],
            "Low rank edits as well as full rank, given the same number of steps (difference in H 0.055,",
        ),
        (
            [[-0.05], [-0.06], [-0.07], [-0.04]],
            "Low rank edits worse than full rank, given the same number of steps (difference in H −0.055",
        ),
        (
            [[0.5], [-0.6], [0.3], [-0.4]],
            "Whether low rank edits as well as full rank, given the same number of steps, is not settled",
        ),
        ([[0.5]], "is not settled (difference in H 0.5, no interval, 1 world"),
        ([], "is not settled: this run has nothing to measure it on."),
    ],
    ids=["shown", "contradicted", "open", "one world", "nothing"],
)
def test_what_is_said_of_a_claim_goes_by_its_verdict(effects: list[list[float]], words: str) -> None:
    assert words in said.judged(payload("low-rank-as-good", effects))


def test_intervals_and_units_stand_behind_each_verdict() -> None:
    claim = payload("low-rank-as-good", [[0.05], [0.06], [0.07], [0.04]])
    assert f"95% interval [{claim['interval'][0]:.3f}, {claim['interval'][1]:.3f}], 4 worlds)." in said.judged(claim)
    often = payload("low-rank-often", [1.0, 1.0, 1.0, -1.0, 1.0])
    assert "won minus lost, per setting 0.6" in said.judged(often)
    assert said.judged(often).endswith("5 settings: too few units).")


def test_what_is_open_says_why() -> None:
    claim = payload("low-rank-as-good", [[0.5], [-0.6], [0.3], [-0.4]])
    assert said.judged(claim).endswith("4 worlds: too few units).")
    del claim["unsettled"]
    assert said.judged(claim).endswith("4 worlds).")


def test_the_top_of_the_page_has_a_sentence_for_each_of_its_claims() -> None:
    register = load_register()
    claims = {name: payload(name.partition(".")[2], []) for name in register if name.startswith("editing.")}
    found = said.what_was_found(claims)
    assert 3 <= len(found) <= 5
    assert {name for _, name in found} <= set(register)
    assert all(sentence.startswith("Whether ") for sentence, _ in found)


def test_a_mean_has_its_interval_and_one_world_none() -> None:
    assert said.mean_text([0.25, np.nan]) == "0.25"
    assert said.mean_text([0.2, 0.4, 0.3]).startswith("0.30 [0.")
    assert said.mean_text([np.nan]) == "nothing (no world has such facts)"


@pytest.mark.parametrize("worlds", [1, 6])
@pytest.mark.parametrize("better", [0.1, -0.1])
def test_differences_say_who_is_ahead(worlds: int, better: float) -> None:
    ends = edits(worlds, better)
    sentence = said.differences(ends)
    assert ("One world gives no interval." in sentence) == (worlds == 1)
    # Full rank of the MLPs alone is as its reference in every world, which says nothing of other worlds.
    counts = "3 open" if worlds == 1 else "2 better, 1 open" if better > 0 else "2 worse, 1 open"
    assert sentence.count(f"(of 3 methods: {counts})") == 2
    assert f"With all steps, {LORA} by {'−' if better < 0 else ''}0." in sentence


def test_a_lead_and_a_gap_are_told_apart() -> None:
    for better, words in ((0.1, "has its smallest lead"), (-0.1, "falls furthest behind")):
        table = compare(paired_differences(edits(6, better).query("rule == 'budget'"), REFERENCE.name))
        sentence = said.settings(table[table["method"] == LORA])
        assert words in sentence
        assert "“one”" in sentence
        assert ("1 better" if better > 0 else "1 worse") in sentence


def test_groups_name_the_least_and_the_most_kept() -> None:
    sentence = said.groups(edits(4))
    assert "“same old object”, 0.215 [" in sentence
    assert "“all others”, 0.885 [0.865, 0.905]." in sentence


def test_the_same_rate_costs_what_tables_say() -> None:
    ends = edits(5)
    ends.loc[(ends["rule"] == "reference_rate") & (ends["method"] == LORA), "H"] -= 0.2 + 0.01 * ends["world"]
    assert "mean H of 0.52 at its own rates and of 0.30 at full rank's: a difference of 0.22" in said.one_rate(ends)


def test_edges_of_lists_are_counted() -> None:
    rates = pd.DataFrame({"method": ["LoRA 4 mlp", "full mlp", "full linears"], "edge": ["high", "low", ""]})
    assert said.rates(rates).startswith("Of 3 chosen learning rates, 2 are still an end of their list (1 of them LoRA's)")
    assert said.rates(rates[rates["edge"] == ""]) == "Of 1 chosen learning rates, none is still an end of a list of several."


def test_an_edit_is_told_by_what_it_lost() -> None:
    groups = pd.DataFrame({"group": ["edited", "reg_data"], "probability": [0.875, 0.5], "known": [0, 20], "kept": [np.nan, 0.75]})
    assert said.one_edit(groups).endswith(
        "with probability 0.88, and has lost 5 of the 20 other facts that it was asked and the base knew."
    )


def test_costs_trade_and_steps_compare_with_full_rank() -> None:
    costs = pd.DataFrame({"method": [REFERENCE.name, LORA], "n_trainable": [1000, 250], "cpu_s": [0.2, 0.3]})
    assert (
        said.costs(costs)
        == f"{LORA} trains 25% of the numbers of {REFERENCE.name}, and an edit takes 1.50 times its processor time."
    )
    ends = edits(1)
    first = ends.query("rule == 'budget'").assign(step=5, edit_success=0.5)
    course = pd.concat([first, ends.query("rule == 'budget'")])
    sentence = said.steps(course, ends)
    assert (
        f"{LORA} has edited 50% of the facts after 5 steps, and kept 20% of those with the same old object; after 20 it is 75%"
        in sentence
    )
    tuned = course.assign(split="tune")
    assert said.peaks(tuned).startswith(f"On the tuning edits, H is highest for {REFERENCE.name} at 0.001 (H 0.50)")
    assert "Where at least 75% of the tuning edits succeed, retention is at best 60.0% for" in said.trade(tuned)


def test_demonstrations_are_told() -> None:
    ends = edits(3)
    ends["stable_rank"] += 0.1 * ends["world"]
    assert "stable rank of 2.10 [1.85, 2.35]; cut down to rank 1 it gives H 0.25, whole 0.51." in said.truncation(ends, [4, 1])
    shares = ends[ends["world"] == 0].assign(spread=0.75, unseen_kept=0.125, consequence_followed=0.5, pair_kept=0.25)
    lone = "0.125 keeps its old one. One world gives no interval."
    assert said.spread(shares) == f"Of subjects that were never edited, a share of 0.75 now gets the one object, and {lone}"
    assert "0.75 of the edits succeed, 0.5 of the entailed facts follow, 0.25 of the correlated facts and 0.7" in said.ripple(
        shares
    )
    trace = pd.DataFrame({"place": ["subject", "last"], "layer": [1, 2], "recovered": [0.25, 0.5]})
    assert said.trace(trace) == "Most comes back at the place “last” behind block 2: 50% of what the noise took."
    assert f"{LORA} succeeds in 75% and keeps 60%" in said.closed_forms(ends)
    tried = {
        "objective": ["nothing", "npo", "rmu"],
        "method": "full linears",
        "forget_accuracy": 0.125,
        "gold_accuracy": 0.25,
        "kept_other": 0.5,
    }
    unlearned = pd.DataFrame(tried | {"ks_statistic": [0.0, 0.2, 0.3]})
    assert (
        "comes npo with full linears: D 0.20, 12.5% of the forgotten facts still right (the gold model: 25.0%)"
        in said.forgetting(unlearned)
    )
    own = pd.DataFrame({"method": ["a", "a", "b"], "answered": [1, 2, 1], "new": [1, 1, 1]})
    assert said.own_edits(own) == "Your edits answered with their new object, over all models: a 1 of 2, b 1 of 1."


def test_worlds_and_models_are_told_by_their_sizes() -> None:
    sentence = said.worlds(World(40, 2, 8), World(30, 3, 4, n_nested=2))
    assert (
        "An independent world has 40 subjects, 2 relations of 8 objects and 80 facts; a structured world has 30 subjects"
        in sentence
    )
    table = pd.DataFrame(
        {
            "world": ["independent", "structured", "independent, some left out"],
            "known, sro": [1.0, 0.975, 0.5],
            "load (bits a parameter)": [0.1, 0.2, 9],
        }
    )
    assert "Of the 2 models that read all of their world, the least sure answers 97.5%" in said.models(table)
    assert "the fullest holds 0.2 bits a parameter" in said.models(table)
