"""Sentences on a run of chapter 1, from invented tables of which it is known what can be said; and what its figures name."""

from types import SimpleNamespace

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from effnotes.studies.bias import Findings, effects, figures, sentences
from effnotes.studies.bias.results import Result
from effnotes.studies.bias.sentences import Sentences

LEVELS = (0.0, 0.9, 0.985)
NAMES = ("Big_Nose", "Hat", "Oval", "Rosy")


def findings_of(seeds=(1, 2), measured=True, overrides=None):
    """Tables of a run in which accuracy falls from 0.9 over 0.895 to 0.8, and bias grows from 0.01 to 0.05."""
    models = pd.DataFrame([(seed, level) for seed in seeds for level in LEVELS], columns=["seed", "sparsity"])
    courses = {
        "accuracy": (0.9, 0.895, 0.8),
        "majority_accuracy": (0.75, 0.75, 0.75),
        "uncertainty": (0.1, 0.11, 0.3),
        "expected_calibration_error": (0.01, 0.01, 0.05),
        "interdependence": (0.1, 0.1, 0.125),
        "label_interdependence": (0.09, 0.09, 0.09),
        "false_negative_rate_gap": (0.1, 0.1, 0.25),
        "false_positive_rate_gap": (0.04, 0.04, 0.02),
        "bias_amplification": (0.01, 0.01, 0.05),
        "bias_amplification_calibrated": (0.01, 0.01, 0.03),
        "remaining_weights": (80_000, 8_000, 1_200),
        "sparse_kib": (300.0, 60.0, 20.0),
        "latency_ms": (26.0, 28.0, 27.0),
    }
    for name, course in courses.items():
        models[name] = models["sparsity"].map(dict(zip(LEVELS, course, strict=True)))
    if not measured:
        models[["interdependence", "bias_amplification", "false_negative_rate_gap", "bias_amplification_calibrated"]] = np.nan
    rows = [(level, name, step * rank / 100) for step, level in enumerate(LEVELS) for rank, name in enumerate(NAMES, start=-1)]
    growth = pd.DataFrame({"sparsity": LEVELS[1:], "estimate": [0.0, 0.04], "low": [-0.01, 0.03], "high": [0.01, 0.05]})
    cases = overrides or {"random": (0.04, 0.9), "dense uncertainty": (0.02, 0.95), "sparse uncertainty": (0.05, 0.97)}
    return Findings(
        models=models,
        attributes=pd.DataFrame(rows, columns=["sparsity", "attribute", "bias_amplification"]),
        growth=growth if measured and len(seeds) > 1 else growth.assign(low=np.nan, high=np.nan),
        exemplars=pd.DataFrame(
            {"sparsity": [0.985], "rate": 0.06, "noise_floor": 0.02, "dense_uncertain": 0.5, "base_dense_uncertain": 0.1}
        ).assign(positive_to_negative=0.75),
        criteria=pd.DataFrame({"attribute": NAMES if measured else []}),
        overrides=pd.DataFrame(
            [(False, "dense", name, *values) for name, values in cases.items()],
            columns=["calibrated", "override", "selection", "bias_amplification", "accuracy"],
        ),
        levels=pd.DataFrame({"moderate": [0.9], "high": [0.985]}),
    )


def claim(estimate, interval, verdict="shown", **more):
    return {"estimate": estimate, "interval": interval, "verdict": verdict, "statement": "It is so.", "margin": 0.02} | more


CLAIMS = {
    "bias.accuracy-flat": claim(-0.005, (-0.006, -0.004)),
    "bias.ba-flat": claim(0.0, (-0.01, 0.01)),
    "bias.uncertainty-grows": claim(0.2, (0.19, 0.21)),
    "bias.rare-value-underpredicted": claim(-0.1, (-0.2, 0.0), "not settled", unsettled="too few units"),
    "bias.interdependence-grows": claim(0.025, (0.02, 0.03)),
    "bias.ba-grows": claim(0.04, (0.03, 0.05)),
    "bias.ba-follows-uncertainty": claim(0.8, (-0.2, 1.0), "not settled"),
    "bias.ba-follows-interdependence": claim(-0.9, (-1.0, -0.4), "contradicted"),
    "bias.dense-criteria-predict": claim(0.5, (0.1, 0.9)),
    "bias.calibration-lowers-ba": claim(-0.02, (-0.03, -0.01)),
    "bias.override-beats-random": claim(-0.02, (-0.03, -0.01), "not settled"),
}


@pytest.fixture
def say():
    return Sentences(findings_of(), CLAIMS)


def test_a_sentence_has_numbers_interval_and_verdict(say):
    assert say.accuracy() == (
        "At 90% sparsity accuracy differs from the dense twins' by −0.50 points [−0.60, −0.40], shown. Accuracy goes from 90% dense"
        " to 80% at 98.5% sparsity; the majority answer scores 75%."
    )
    assert "uncertain predictions go from 10% to 30% of all (change 20.0 points [19.0, 21.0], shown)" in say.uncertainty()
    assert say.uncertainty().endswith("the rare-value ratio changes by −0.10 [−0.20, 0], not settled: too few units.")
    assert "goes from 0.1 dense to 0.125 at 98.5% sparsity (change 0.025 [0.020, 0.030], shown)" in say.interdependence()
    assert say.bias().endswith("where it lies between −0.02 for Big_Nose and 0.04 for Rosy.")
    assert "from 10 to 25 points in the miss rate and from 4 to 2 points in the false-alarm rate" in say.errors()
    assert "from 0.05" not in say.calibration()
    assert "0.05 at the threshold one half and 0.03 at calibrated ones" in say.calibration()
    assert "1,200 of 80,000 prunable weights are left" in say.costs()
    assert "from 300 to 20 KiB; the fastest batch takes 26.0 to 28.0 ms" in say.costs()
    assert say.verdicts() == "Of 11 claims, this run has 7 shown, 1 contradicted and 3 not settled."


def test_growth_is_told_level_by_level(say):
    assert say.growth() == (
        "Against a margin of 0.02, the interval of the growth lies beyond it at 98.5% and below it at 90%; at 98.5% sparsity bias"
        " grows by 0.040 [0.030, 0.050], shown."
    )
    wide = findings_of()
    wide.growth["high"] = [0.03, 0.05]
    assert "beyond it at 98.5% and around it at 90%" in Sentences(wide, CLAIMS).growth()


def test_overrides_say_which_way_bias_and_accuracy_go(say):
    said = say.overrides()
    assert "where the dense model was in doubt, 0.02 at 95% accuracy, less biased and more accurate than on random images" in said
    assert "where the pruned model itself is, 0.05 at 97% accuracy, more biased and more accurate than on random images" in said
    turned = findings_of(overrides={"random": (0.04, 0.9), "dense uncertainty": (0.05, 0.8), "sparse uncertainty": (np.nan, 0.9)})
    assert Sentences(turned, CLAIMS).overrides() == "What overrides do to bias is not measured in this run."


def test_links_carry_both_tests(say):
    rising = pd.DataFrame({"score": [1.0, 2, 3, 4], "growth": [0.1, 0.2, 0.3, 0.4]}, NAMES)
    said = say.link({"uncertainty": rising, "interdependence": rising.iloc[:3]})
    p = 1 / 24  # of four attributes one order in 24 is as good
    assert f"has a rank correlation of 0.8 [−0.2, 1.0], not settled (permutation test for a rise: p = {p:.3f})" in said
    assert said.endswith("for interdependence no rank correlation is defined.")


@pytest.mark.parametrize("seeds", [(1,), (1, 2)])
@pytest.mark.parametrize("measured", [True, False])
@pytest.mark.parametrize("judged", [CLAIMS, {"bias.accuracy-flat": claim(-0.005, None)}, {}])
def test_every_sentence_is_a_sentence_whatever_the_run_gave(seeds, measured, judged):
    say = Sentences(findings_of(seeds, measured), judged)
    empty = {"uncertainty": pd.DataFrame({"score": [], "growth": []})}
    said = [say.accuracy(), say.uncertainty(), say.interdependence(), say.bias(), say.growth(), say.link(empty), say.errors()]
    said += [say.exemplars(), say.criterion(), say.calibration(), say.overrides(), say.further(None), say.costs(), say.ends()]
    said += say.to_take_away()
    found = say.found_at_a_glance()
    for sentence in [*said, *(text for text, _ in found)]:
        assert sentence.endswith("."), sentence
        assert "nan" not in sentence.split(), sentence
        assert "{" not in sentence
    assert len(found) >= 2 + bool(judged)
    assert len(found) <= 5
    assert {name for _, name in found if name} <= set(judged)


def test_the_top_of_a_page_tells_what_the_claims_are_about(say):
    assert [name.removeprefix("bias.") for _, name in say.found_at_a_glance()] == [
        *("accuracy-flat", "ba-flat", "uncertainty-grows", "ba-grows", "override-beats-random")
    ]
    assert dict(map(reversed, say.found_at_a_glance()))["bias.ba-grows"].endswith("over attributes; Rosy has most, 0.04.")
    same = findings_of()
    same.levels["moderate"] = 0.985
    assert "bias.ba-flat" not in dict(map(reversed, Sentences(same, CLAIMS).found_at_a_glance()))


@pytest.mark.parametrize(
    ("means", "end"),
    [
        ((0.95, 0.94, 0.90), "High sparsity is 98.5%, the lowest with a fall of more than 3."),
        ((0.95, 0.95, 0.94), "No level has lost more than 3: claims on high sparsity are not judged."),
    ],
)
def test_the_knee(means, end):
    table = pd.DataFrame({"seed": 1, "sparsity": LEVELS, "accuracy": means})
    assert sentences.of_knee(effects.find_knee(table, 0.03), 0.03).endswith(end)


def test_the_best_threshold_on_the_evidence():
    said = sentences.of_evidence({"easy": 6.0, "hard": 2.0, "other": 3.0})
    assert "84.1% of faces for hard (d = 2) and 99.9% of faces for easy (d = 6)" in said


@pytest.mark.parametrize(("own", "rival", "how"), [(0.8, 0.7, "better than"), (0.6, 0.7, "worse than"), (0.7, 0.7, "as well as")])
def test_the_criterion_beside_its_rival(own, rival, how):
    quality = pd.DataFrame({"criterion": ["uncertainty_times_phi", "bias_amplification"], "spearman": [own, rival]})
    assert how in sentences.of_criteria(quality)
    assert "not defined" in sentences.of_criteria(quality.assign(spearman=np.nan))


def changed(chance):
    table = {"sparsity": [0.985], "rate": 0.06, "dense_uncertain": 0.5, "base_dense_uncertain": 0.1}
    across = pd.DataFrame({"rate": [0.02 if np.isfinite(chance) else np.nan], "dense_uncertain": [chance]})
    return SimpleNamespace(high=0.985, changed=pd.DataFrame(table), changed_across_seeds=across)


def test_changes_are_compared_with_those_by_chance():
    assert "doubt marks chance changes more often than those of pruning" in sentences.of_changes(changed(0.9))
    assert "doubt marks chance changes less often than those of pruning" in sentences.of_changes(changed(0.3))
    assert sentences.of_changes(changed(np.nan)).endswith("With one seed there is no noise floor.")


def test_changed_decisions_of_most_seeds_are_counted():
    yes, no = np.full((2, 2), 3.0), np.full((2, 2), -3.0)
    mixed = np.array([[-3.0, 3.0], [-3.0, -3.0]])
    runs = {0.0: {1: yes, 2: yes, 3: no}, 0.985: {1: mixed, 2: mixed, 3: mixed}}
    result = SimpleNamespace(high=0.985, at=lambda level: {s: SimpleNamespace(shared_logits=z) for s, z in runs[level].items()})
    result.shared_decisions = lambda: Result.shared_decisions(result)
    assert sentences.of_gallery(result) == "Over 3 seeds, most networks change 3 of 4 decisions; 100% of them go from yes to no."
    runs[0.985] = runs[0.0]
    assert sentences.of_gallery(result).endswith("change 0 of 4 decisions, so the largest differences are shown.")


def test_verdicts_of_two_runs_stand_side_by_side_those_first_that_differ():
    ours = {"a": claim(0.1, (0.0, 0.2)), "b": claim(0.1, (0.0, 0.2)), "c": claim(None, None), "d": claim(0.1, None)}
    others = {"a": claim(0.3, (0.2, 0.4)), "b": claim(-0.1, (-0.2, 0.0), "contradicted"), "c": claim(0.1, None)}
    table = sentences.verdicts_beside(ours, others, ("one", "two"))
    assert table["differ"].tolist() == [True, False]
    assert table.loc[0, ["one", "two"]].tolist() == ["0.10 [0, 0.20], shown", "−0.10 [−0.20, 0], contradicted"]
    assert sentences.of_difference(table) == "Of 2 claims that both runs measured, 1 have another verdict."


def test_lines_that_end_close_together_have_only_the_outermost_named():
    found = findings_of()
    names = [f"c{number}" for number in range(10)]
    rows = [(level, name, 0.05 * step * number) for step, level in enumerate(LEVELS) for number, name in enumerate(names)]
    table = pd.DataFrame(rows, columns=["sparsity", "attribute", "bias_amplification"])

    def named(table):
        wide = Findings(**vars(found) | {"attributes": table, "criteria": pd.DataFrame({"attribute": names})})
        figures.bias_amplification(wide, {}, label="mean")
        texts = {text.get_text() for text in plt.gca().texts}
        plt.close("all")
        return texts

    assert named(table) == set(names)
    last = table["sparsity"] == LEVELS[-1]
    table.loc[last, "bias_amplification"] = 0.5 + 0.002 * np.arange(10)
    assert named(table) == {"c0", "c1", "c8", "c9"}


def test_further_experiments_are_rows_with_horizontal_names_and_the_square_has_a_panel_of_its_own():
    series = {(seed, level): pd.Series({"a": 0.1, "b": 0.2}) for seed in (1, 2) for level in (0.0, 0.9, 0.985)}
    further = SimpleNamespace(
        main=SimpleNamespace(plan=SimpleNamespace(seeds=[1, 2], by_method={}), high=0.985, common=["a", "b"]),
        **{"alone": ["a"], "subtle": "a", "easy": "b", "matched": 0.9, "joint": series, "second": series},
        single={(seed, "a"): 0.3 for seed in (1, 2)},
        by_method={"gmp": pd.DataFrame({1: [0.1, 0.2], 2: [0.1, np.nan]})},
        planted={(name, level, seed): 0.4 for name in "ab" for level in (0.0, 0.985) for seed in (1, 2)},
    )
    figures.follow_ups(further)
    upper, lower = plt.gcf().axes
    names = [label.get_text() for label in upper.get_yticklabels()]
    assert names[:3] == ["dense, all labels together", "dense, one label alone", "98.5% sparse, gmp, 1 attributes"]
    assert lower.get_yticklabels()[0].get_text() == "square on a, dense"
    plt.close("all")
    figures.follow_ups(SimpleNamespace(**vars(further) | {"planted": {}}))
    assert len(plt.gcf().axes) == 1, "no square was planted"
    plt.close("all")
    figures.follow_ups(None)
    assert not plt.get_fignums()
