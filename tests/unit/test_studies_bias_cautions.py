"""Sentences beside the verdicts of chapter 1, on invented tables of which it is known where a control disagrees."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from effnotes.studies import bias
from effnotes.studies.bias import cautions

SEEDS = (1, 2, 3, 4)


def test_a_noise_floor_above_the_share_is_told_with_both_numbers():
    said = cautions.noise_caution(0.29, 0.93)
    assert "unsure of 93%" in said
    assert "pruning changed, the dense model was unsure of 29%" in said
    assert cautions.noise_caution(0.93, 0.29) == ""
    assert cautions.noise_caution(0.29, float("nan")) == "", "a single seed has no floor"


def ranks(order):
    """Scores of nine attributes that rise, and growths in the given order."""
    names = list("abcdefghi")
    return pd.Series(np.arange(9.0), names), pd.Series(np.array(order, dtype=float), names)


@pytest.mark.parametrize(
    ("order", "said"),
    [
        # Correlation 0.73, p = 0.015, interval from -0.06: the case of a page that readers found contradictory.
        ([0, 2, 5, 1, 6, 3, 7, 4, 8], "It asks about chance alone"),
        ([0, 1, 2, 3, 4, 5, 6, 7, 8], ""),  # both settle it
        ([4, 8, 0, 6, 2, 7, 1, 5, 3], ""),  # neither does
        ([8, 7, 6, 5, 4, 3, 2, 1, 0], ""),  # the link runs the other way, and neither says that it is shown
    ],
)
def test_a_permutation_test_is_told_where_it_and_the_interval_disagree(order, said):
    score, growth = ranks(order)
    sentence = cautions.rank_caution("ba-follows-uncertainty", score, growth)
    assert said in sentence
    assert bool(sentence) == bool(said)
    if said:
        assert sentence.startswith("A permutation test of the 9 attributes gives p = 0.0")


def test_chance_is_told_where_the_interval_excludes_it_but_the_test_does_not(monkeypatch):
    monkeypatch.setattr(cautions, "rank_association", lambda *_: {"p_value": 0.2, "attributes": 9, "reason": ""})
    assert "does not exclude that chance" in cautions.rank_caution("ba-follows-uncertainty", *ranks(range(9)))
    monkeypatch.setattr(cautions, "rank_association", lambda *_: {"p_value": np.nan, "attributes": 9, "reason": "constant"})
    assert cautions.rank_caution("ba-follows-uncertainty", *ranks(range(9))) == ""


def repairs_of(random, dense, own):
    """The table of repairs with the given pairs of bias amplification and accuracy, raw; calibrated ones are all alike."""
    rows = [
        (calibrated, override, selection, seed, *((0.5, 0.5) if calibrated or override == "label" else (b + spread, a + spread)))
        for calibrated in (False, True)
        for override in ("dense", "label")
        for selection, (b, a) in {"random": random, "dense uncertainty": dense, "sparse uncertainty": own}.items()
        for seed in SEEDS
        for spread in [1e-4 * len(selection) * (-1) ** seed]  # none in the mean, and another one for each selection
    ]
    keys = ["calibrated", "override", "selection", "seed"]
    return pd.DataFrame(rows, columns=[*keys, "bias_amplification", "accuracy"]).set_index(keys)


def test_overrides_are_told_beside_random_ones_in_bias_and_in_accuracy():
    said = bias.override_sentence(repairs_of(random=(0.098, 0.91), dense=(0.07, 0.93), own=(0.126, 0.94)))
    by_dense, by_own = said.split(";")
    assert "dense model was in doubt, bias amplification ends 0.02" in by_dense
    assert "lower (interval [0.02" in by_dense
    assert "accuracy 2.0" in by_dense
    assert "pruned model itself was in doubt, bias amplification ends 0.02" in by_own
    assert "higher (interval [0.02" in by_own
    assert "points higher" in by_own
    same = bias.override_sentence(repairs_of((0.1, 0.9), (0.1, 0.9), (0.1, 0.9)))
    assert same.count("not settled to either side") == 4


def test_overrides_of_one_seed_have_no_interval_and_those_without_bias_are_not_told():
    table = repairs_of((0.1, 0.9), (0.05, 0.95), (0.2, 0.8)).query("seed == 1")
    assert "lower in the one seed and accuracy 4.89 points higher" in bias.override_sentence(table)
    assert "interval" not in bias.override_sentence(table)
    assert cautions.override_caution(table) == ""
    unmeasured = table.assign(bias_amplification=np.nan)
    assert bias.override_sentence(unmeasured).startswith("What overrides are worth was not measured")
    assert cautions.override_caution(unmeasured) == ""


def test_the_pruned_models_own_doubt_is_told_where_it_does_better():
    random, dense = (0.1, 0.9), (0.07, 0.93)
    assert cautions.override_caution(repairs_of(random, dense, (0.09, 0.92))) == ""
    said = cautions.override_caution(repairs_of(random, dense, (0.126, 0.94)))
    assert "leave bias amplification 0.05" in said
    assert "higher (interval" in said
    assert "points higher" in said
    assert "leave bias amplification 0.0" in cautions.override_caution(repairs_of(random, dense, (0.03, 0.92)))


def test_a_second_network_before_its_knee_is_told():
    assert cautions.knee_caution(0.095, 0.021, 0.03) == (
        "The second network has lost 2.1 points of validation accuracy there, the first 9.5; by the rule of the knee, more than 3"
        " points, it is not yet at high sparsity."
    )
    assert cautions.knee_caution(0.095, 0.031, 0.03) == ""


def test_cautions_go_to_the_claims_that_they_are_about_and_only_beyond_the_knee():
    knee = SimpleNamespace(passed=True, fall={0.985: 0.09})
    result = SimpleNamespace(high=0.985, knee=knee, plan=SimpleNamespace(knee_drop=0.03))
    further = SimpleNamespace(fall=0.01)
    said = bias.further_cautions(result, further)
    found = {each.claim.id: each for each in bias.measure({"second-network-grows": [], "planted-grows": []}, cautions=said)}
    assert found["bias.second-network-grows"].caution.startswith("The second network has lost 1 points")
    assert found["bias.planted-grows"].caution == ""
    assert bias.further_cautions(result, None) == {}
    result.knee = SimpleNamespace(passed=False, fall={0.985: 0.01})
    assert bias.further_cautions(result, further) == {}


def test_all_cautions_of_the_main_claims_and_the_repairs():
    score, growth = ranks([0, 2, 5, 1, 6, 3, 7, 4, 8])
    table = pd.DataFrame({"uncertainty": score, "interdependence": growth, "bias_amplification": growth})
    result = SimpleNamespace(
        high=0.985,
        knee=SimpleNamespace(passed=True),
        mean_growth=lambda _, *names: table[list(names)],
        changed=pd.DataFrame({"sparsity": [0.9, 0.985, 0.985], "dense_uncertain": [0.9, 0.2, 0.4]}),
        changed_across_seeds=pd.DataFrame({"dense_uncertain": [0.8, 0.5]}, index=[0.0, 0.985]),
        criteria=pd.DataFrame({"attribute": score.index, "uncertainty_times_phi": score}),
        by_repair=repairs_of((0.1, 0.9), (0.07, 0.93), (0.09, 0.92)),
    )
    assert list(bias.main_cautions(result)) == ["ba-follows-uncertainty"]
    said = bias.repair_cautions(result)
    assert list(said) == ["changes-were-uncertain", "dense-criteria-predict"]
    assert "unsure of 80%" in said["changes-were-uncertain"]
    assert "unsure of 30%" in said["changes-were-uncertain"]
    result.knee = SimpleNamespace(passed=False)
    assert bias.main_cautions(result) == bias.repair_cautions(result) == {}
