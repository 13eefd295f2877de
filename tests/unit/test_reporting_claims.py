"""The register, the intervals and verdicts, and what a measurement shows of itself."""

import html.parser
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import yaml
from scipy import stats

from effnotes.reporting import claims
from effnotes.reporting.claims import CLAIM_MIME, ClaimError, card_html, join, load_register, measure
from effnotes.reporting.claims import register as register_module
from effnotes.reporting.claims.intervals import bootstrap_interval, t_interval, verdict

ENTRY = {
    "id": "bias.ba-grows",
    "chapter": "pruning_bias",
    "statement": "Bias grows at high sparsity.",
    "source": {"key": "iofinova2023bias", "kind": "text", "where": "abstract"},
    "published": None,
    "effect": "bias amplification of the pruned minus the dense network of one seed",
    "unit": "BA difference",
    "range": None,
    "unit_of_analysis": "seed",
    "direction": "increase",
    "margin": 0.02,
    "interval": "t",
}
DIRECTIONS = ("increase", "decrease", "equivalence", "noninferiority")
EFFECTS = [0.031, 0.052, 0.047, 0.038, 0.061]


@pytest.fixture
def register(tmp_path, monkeypatch):
    """Return a function that writes a register of variations of ENTRY and makes it the one in use."""
    path = tmp_path / "claims.yaml"
    monkeypatch.setenv("EFFNOTES_CLAIMS", str(path))

    def write(*variations):
        path.write_text(yaml.safe_dump([ENTRY | v for v in variations or ({},)]), encoding="utf-8")
        return path

    return write


# ---- register


def test_register_keeps_order_and_fields(register):
    path = register({}, {"id": "bias.no-loss", "direction": "equivalence", "margin": 1, "published": "0.170 at 99.5%"})
    loaded = load_register(path)
    assert list(loaded) == ["bias.ba-grows", "bias.no-loss"]
    first, second = loaded.values()
    assert (first.source.key, first.source.where, first.published) == ("iofinova2023bias", "abstract", None)
    assert (second.direction, second.margin, second.published) == ("equivalence", 1.0, "0.170 at 99.5%")


def test_register_is_looked_for_in_order(register, tmp_path, monkeypatch):
    explicit = tmp_path / "explicit.yaml"
    explicit.write_text(yaml.safe_dump([ENTRY | {"id": "a.explicit"}]))
    register({"id": "a.environment"})
    assert list(load_register(explicit)) == ["a.explicit"]
    assert list(load_register()) == ["a.environment"]

    monkeypatch.delenv("EFFNOTES_CLAIMS")
    package = tmp_path / "checkout" / "effnotes"
    checkout, packaged = package.parent / "book" / "claims.yaml", package / "_book" / "claims.yaml"
    monkeypatch.setattr(register_module, "__file__", str(package / "reporting" / "claims" / "register.py"))
    with pytest.raises(ClaimError, match="EFFNOTES_CLAIMS"):
        load_register()
    for file, name in ((packaged, "a.packaged"), (checkout, "a.checkout")):
        file.parent.mkdir(parents=True)
        file.write_text(yaml.safe_dump([ENTRY | {"id": name}]))
        assert list(load_register()) == [name]


def test_register_of_the_book_is_valid(monkeypatch):
    monkeypatch.delenv("EFFNOTES_CLAIMS", raising=False)
    book = Path(claims.__file__).parents[3] / "book" / "claims.yaml"
    assert load_register() == load_register(book)


def test_empty_register(tmp_path):
    (tmp_path / "claims.yaml").write_text("# nothing yet\n")
    assert load_register(tmp_path / "claims.yaml") == {}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"marginn": 0.1}, ["no field 'marginn'", "Did you mean 'margin'", "unit_of_analysis"]),
        ({"margin": ...}, ["margin is missing", "unit_of_analysis"]),
        ({"published": ...}, ["published is missing"]),
        ({"direction": "increases"}, ["direction='increases'", "Did you mean 'increase'", "decrease", "equivalence"]),
        ({"interval": "boot"}, ["interval='boot'", "Did you mean 'bootstrap'", "'t', 'bootstrap'"]),
        ({"margin": -0.1}, ["margin=-0.1: must be at least 0"]),
        ({"margin": 0, "direction": "equivalence"}, ["margin=0: must be above 0 for the direction 'equivalence'"]),
        ({"margin": 0, "direction": "noninferiority"}, ["margin=0: must be above 0 for the direction 'noninferiority'"]),
        ({"direction": "non-inferiority"}, ["direction='non-inferiority'", "Did you mean 'noninferiority'"]),
        ({"margin": "0.1"}, ["margin='0.1': must be a number"]),
        ({"margin": True}, ["margin=True: must be a number"]),
        ({"range": [1, -1]}, ["range=[1.0, -1.0]", "two rising"]),
        ({"range": [0, 1, 2]}, ["range=(0, 1, 2)", "two rising"]),
        ({"range": [0, float("inf")]}, ["range.1=inf", "two rising finite numbers"]),
        ({"range": "wide"}, ["range='wide'", "null or two rising"]),
        ({"margin": float("nan")}, ["margin=nan: must be finite"]),
        ({"margin": float("inf")}, ["margin=inf: must be finite"]),
        ({"published": 0.17}, ["published=0.17: must be text; put it in quotes, or give null"]),
        ({"statement": "  "}, ["statement='  '", "text"]),
        ({"unit": None}, ["unit=None: must be text"]),
        ({"id": "BA grows"}, ["id='BA grows'", "topic.kebab-name"]),
        ({"chapter": "pruning-bias"}, ["chapter='pruning-bias'", "file stem"]),
        ({"source": "iofinova2023bias"}, ["source", "key, where", "'iofinova2023bias' (str)"]),
        ({"source": {"key": "a", "kind": "text"}}, ["source: where is missing"]),
        ({"source": {"key": "a", "where": "b"}}, ["source: kind is missing"]),
        ({"source": {"key": "a", "where": "b", "kind": "text", "page": 3}}, ["source: there is no field 'page'"]),
        ({"source": {"key": "a", "where": 3, "kind": "text"}}, ["source: where=3: must be text; put it in quotes"]),
        ({"source": {"key": "a", "where": "b", "kind": "tabel"}}, ["source: kind='tabel'", "Did you mean 'table'", "'addition'"]),
        ({"margin": 0}, ["worth_seeing=None: must be a number above 0 where the margin is 0"]),
        ({"worth_seeing": 0.1}, ["worth_seeing=0.1: must be null, as the margin says what is worth seeing"]),
        ({"margin": 0, "worth_seeing": 0}, ["worth_seeing=0: must be above 0"]),
        ({"margin": 0, "worth_seeing": "0.1"}, ["worth_seeing='0.1': must be a number"]),
        ({3: 4}, ["no field '3'"]),
    ],
)
def test_bad_entry_is_named(tmp_path, change, words):
    entry = {k: v for k, v in (ENTRY | {"id": "bias.second"} | change).items() if v is not ...}
    path = tmp_path / "claims.yaml"
    path.write_text(yaml.safe_dump([ENTRY, entry]))
    with pytest.raises(ClaimError) as error:
        load_register(path)
    for word in [str(path), "entry 2", *words]:
        assert word in str(error.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (yaml.safe_dump([ENTRY, ENTRY]), ["entry 2", "already used by entry 1"]),
        (yaml.safe_dump(ENTRY), ["list of entries"]),
        (yaml.safe_dump(["bias.ba-grows"]), ["entry 1", "mapping"]),
        ("- id: [", ["as YAML"]),
        ("- id: a.b\n  margin: 1\n  margin: 2\n", ["'margin' is given twice", "line 3"]),
        ("- ? [a, b]\n  : 1\n", ["as YAML", "line 1"]),
        ("- !!python/object/apply:os.getcwd []\n", ["as YAML"]),
    ],
)
def test_bad_file_is_named(tmp_path, text, words):
    path = tmp_path / "claims.yaml"
    path.write_text(text)
    with pytest.raises(ClaimError) as error:
        load_register(path)
    for word in [str(path), *words]:
        assert word in str(error.value)


def test_missing_and_undecodable_file(tmp_path):
    with pytest.raises(ClaimError, match="cannot be read"):
        load_register(tmp_path / "none.yaml")
    (tmp_path / "latin.yaml").write_bytes("- id: é".encode("latin-1"))
    with pytest.raises(ClaimError, match="UTF-8"):
        load_register(tmp_path / "latin.yaml")


# ---- effects


def test_unregistered_claim_names_the_nearest(register):
    register()
    with pytest.raises(ClaimError, match=r"'bias.ba-grow' is not registered. Did you mean 'bias.ba-grows'"):
        measure("bias.ba-grow", EFFECTS)


def test_unit_is_checked(register):
    register()
    assert measure("bias.ba-grows", EFFECTS, unit="BA difference").estimate == pytest.approx(np.mean(EFFECTS))
    with pytest.raises(ValueError, match=r"'percentage points'.*'BA difference'"):
        measure("bias.ba-grows", EFFECTS, unit="percentage points")


@pytest.mark.parametrize(
    ("interval", "effects", "message"),
    [
        ("t", [0.1, float("nan"), 0.2, float("inf")], r"effects\[1\] = nan, effects\[3\] = inf"),
        ("t", [float("nan")] * 7, r"effects\[4\] = nan and 2 more"),
        ("t", 0.1, r"shape \(\)"),
        ("t", [[0.1, 0.2], [0.3, 0.4]], r"shape \(2, 2\)"),
        ("t", ["a", "b"], "no such numbers"),
        ("bootstrap", [[0.1, 0.2], [0.3, float("nan")]], r"effects\[1\]\[1\] = nan"),
        ("bootstrap", [0.1, 0.2], r"shape \(\) at position 0"),
        ("bootstrap", [[0.1], []], "got none at position 1"),
        ("bootstrap", 3, "no such numbers"),
    ],
)
def test_bad_effects_are_refused(register, interval, effects, message):
    register({"interval": interval})
    with pytest.raises(ValueError, match=message) as error:
        measure("bias.ba-grows", effects)
    assert "bias.ba-grows" in str(error.value)


@pytest.mark.parametrize(("interval", "n_seeds"), [("t", 0), ("bootstrap", 0)])
def test_no_defined_effect_settles_nothing(register, interval, n_seeds):
    register({"interval": interval})
    result = measure("bias.ba-grows", [])
    assert (result.estimate, result.interval, result.n_units, result.n_seeds) == (None, None, 0, n_seeds)
    assert result.verdict == "not settled"
    assert "No effect was defined" in result.reason
    assert "no effect defined" in card_html(result.to_json())
    assert json.loads(json.dumps(result.to_json(), allow_nan=False))["estimate"] is None


def test_an_interval_ends_where_the_range_does(register):
    effects = [0.9, 0.7, 0.98]
    register()
    free = measure("bias.ba-grows", effects)
    assert free.interval[1] > 1
    register({"range": [-1, 1]})
    bounded = measure("bias.ba-grows", effects)
    assert bounded.interval == (free.interval[0], 1.0)
    assert bounded.estimate == free.estimate
    with pytest.raises(ValueError, match=r"the register has the range \[-1\.0, 1\.0\]"):
        measure("bias.ba-grows", [0.9, 1.4])
    assert measure("bias.ba-grows", [0.2, 1.4]).estimate == pytest.approx(0.8), "a single effect may be a part of the mean"


@pytest.mark.parametrize("convert", [tuple, np.array, pd.Series, lambda e: np.array(e, dtype=np.float32).astype(float)])
def test_any_sequence_of_numbers_will_do(register, convert):
    register()
    effects = convert(EFFECTS)
    before = list(effects)
    result = measure("bias.ba-grows", effects)
    assert result.estimate == pytest.approx(0.0458, abs=1e-8)
    assert list(effects) == before
    assert all(type(e) is float for e in result.effects)


# ---- intervals


@pytest.mark.parametrize("n", [2, 3, 10, 200])
def test_t_interval_is_scipys(register, n):
    register()
    effects = np.random.default_rng(n).normal(0.3, 2.0, size=n)
    result = measure("bias.ba-grows", effects)
    expected = stats.ttest_1samp(effects, 0).confidence_interval(0.95)
    assert result.interval == pytest.approx((expected.low, expected.high), rel=1e-9)
    assert result.estimate == pytest.approx(effects.mean(), rel=1e-12)
    assert (result.level, result.n_units, result.n_seeds) == (0.95, n, n)


@pytest.mark.parametrize(
    ("direction", "tests"),
    [("equivalence", [(-0.5, "greater"), (0.5, "less")]), ("noninferiority", [(-0.5, "greater")])],  # that m or more is lost
)
def test_equivalence_is_two_one_sided_t_tests_and_noninferiority_one(register, direction, tests):
    register({"direction": direction, "margin": 0.5})
    rng = np.random.default_rng(0)
    verdicts = Counter()
    for _ in range(300):
        effects = rng.normal(rng.uniform(-1.0, 0.8), 0.3, size=6)
        p = [stats.ttest_1samp(effects, bound, alternative=side).pvalue for bound, side in tests]
        beyond = min(1 - each for each in p)  # the opposite one-sided tests
        expected = "shown" if max(p) < 0.025 else "contradicted" if beyond < 0.025 else "not settled"
        assert measure("bias.ba-grows", effects).verdict == expected
        verdicts[expected] += 1
    assert min(verdicts[v] for v in ("shown", "contradicted", "not settled")) > 10


def test_bootstrap_standard_error_is_scipys(register):
    """On seeds of one unit each, SciPy's bootstrap is an independent run of the same resampling."""
    register({"interval": "bootstrap"})
    effects = np.random.default_rng(3).gamma(2.0, size=8)
    result = measure("bias.ba-grows", effects[:, None])
    error = stats.bootstrap((effects,), np.mean, n_resamples=40_000, rng=1, method="basic").standard_error
    half = stats.t.ppf(0.975, 7) * np.sqrt(8 / 7) * error
    # The standard error of a standard deviation over B resamples is about 1 / sqrt(2 B): 0.7% at 10,000; 3% is four of them.
    assert result.interval == pytest.approx((effects.mean() - half, effects.mean() + half), abs=0.03 * half)


def test_bootstrap_resamples_whole_seeds(register):
    """An explicit loop that gathers the units of the drawn seeds, as the definition has it."""
    register({"interval": "bootstrap"})
    rng = np.random.default_rng(5)
    effects = rng.normal(size=(4, 1)) + rng.normal(size=(4, 7))
    drawn = [np.concatenate([effects[s] for s in rng.integers(4, size=4)]).mean() for _ in range(10_000)]
    half = stats.t.ppf(0.975, 3) * np.sqrt(4 / 3) * np.std(drawn)
    result = measure("bias.ba-grows", effects)
    # Two runs of 10,000 resamples: 0.7% each, 1% together; 4% is four of them.
    assert result.interval == pytest.approx((effects.mean() - half, effects.mean() + half), abs=0.04 * half)
    assert (result.n_units, result.n_seeds) == (28, 4)
    assert result.effects == tuple(map(tuple, effects.tolist()))


def test_each_seed_counts_the_same_however_many_units_it_has(register):
    register({"interval": "bootstrap"})
    result = measure("bias.ba-grows", [[1.0], [2.0, 4.0], [5.0, 6.0, 7.0, 6.0]])
    assert result.estimate == pytest.approx((1 + 3 + 6) / 3)
    assert (result.n_units, result.n_seeds) == (7, 3)


def test_bootstrap_is_reproducible_and_follows_its_seed(register):
    register({"interval": "bootstrap"})
    effects = np.random.default_rng(0).normal(size=(5, 10))
    one = measure("bias.ba-grows", effects)
    assert measure("bias.ba-grows", effects) == one
    other = measure("bias.ba-grows", effects, seed=1)
    assert other.interval != one.interval
    assert other.interval == pytest.approx(one.interval, abs=0.04 * (one.interval[1] - one.interval[0]))


def test_cluster_interval_is_that_of_a_claim(register):
    register({"interval": "bootstrap"})
    groups = [[0.1, 0.4, 0.3], [0.6], [0.2, 0.5]]
    result = measure("bias.ba-grows", groups, seed=3)
    assert claims.cluster_interval(groups, seed=3) == (result.estimate, *result.interval)
    estimate, lo, hi = claims.cluster_interval(groups)
    assert all(type(value) is float for value in (estimate, lo, hi))
    assert estimate == pytest.approx((0.8 / 3 + 0.6 + 0.35) / 3)
    # For a mean the resampling comes to Student t on the means of the clusters, up to the noise of 10,000 resamples.
    student = stats.ttest_1samp([0.8 / 3, 0.6, 0.35], 0).confidence_interval(0.95)
    assert (lo, hi) == pytest.approx((student.low, student.high), abs=0.04 * (student.high - student.low) / 2)
    assert claims.cluster_interval(iter([np.array([1.0]), pd.Series([1.0, 2.0])]))[0] == 1.25


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        ([[0.1, 0.2]], "at least two clusters.*got 1"),
        ([], "at least two clusters.*got 0"),
        ([0.1, 0.2], r"one 1-D sequence of numbers per cluster; got an array of shape \(\) at position 0"),
        ([[0.1], []], "got none at position 1. Leave out a cluster"),
        ([[0.1], [0.2, float("nan")]], r"groups\[1\]\[1\] = nan. Leave out a unit .* in every cluster"),
        ([["a"], ["b"]], "no such numbers"),
    ],
)
def test_wrong_clusters_are_refused(groups, message):
    with pytest.raises(ValueError, match=message):
        claims.cluster_interval(groups)


@pytest.mark.parametrize(("interval", "effects"), [("t", [0.3]), ("bootstrap", [[0.2, 0.3, 0.4]])])
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_a_single_unit_settles_nothing(register, interval, effects, direction):
    register({"interval": interval, "direction": direction})
    result = measure("bias.ba-grows", effects)
    assert (result.verdict, result.interval) == ("not settled", None)
    assert result.estimate == pytest.approx(0.3)
    assert "at least two" in result.reason


@pytest.mark.parametrize(
    ("direction", "lo", "hi", "expected"),
    [
        ("increase", 0.21, 0.30, "shown"),
        ("increase", 0.20, 0.30, "not settled"),
        ("increase", 0.10, 0.20, "not settled"),
        ("increase", 0.05, 0.19, "contradicted"),
        ("decrease", -0.30, -0.21, "shown"),
        ("decrease", -0.30, -0.20, "not settled"),
        ("decrease", -0.20, -0.10, "not settled"),
        ("decrease", -0.19, 0.30, "contradicted"),
        ("equivalence", -0.19, 0.19, "shown"),
        ("equivalence", -0.20, 0.10, "not settled"),
        ("equivalence", -0.30, 0.30, "not settled"),
        ("equivalence", 0.10, 0.30, "not settled"),
        ("equivalence", 0.20, 0.30, "not settled"),
        ("equivalence", 0.21, 0.30, "contradicted"),
        ("equivalence", -0.30, -0.21, "contradicted"),
        ("noninferiority", -0.19, 5.00, "shown"),
        ("noninferiority", -0.19, -0.10, "shown"),
        ("noninferiority", -0.20, 5.00, "not settled"),
        ("noninferiority", -0.30, -0.20, "not settled"),
        ("noninferiority", -0.30, -0.21, "contradicted"),
    ],
)
def test_verdict_rule(direction, lo, hi, expected):
    assert verdict(direction, 0.2, lo, hi) == expected


# ---- simulations

N_SETS = 2000
# A true rate of 2.5% gives more than this (3.65%) once in a thousand times; the settings pooled are held to the same quantile.
CELL_BOUND = stats.binom.ppf(0.999, N_SETS, 0.025) / N_SETS
SETTINGS = [(s, n, icc) for s in (3, 5, 10) for n in (10, 20, 50) for icc in (0.1, 0.4, 0.8)]


def simulate_seed_means(n_seeds, n_units, icc, rng):
    """Means over units of normal effects of mean 0 and variance 1, a share `icc` of it between seeds: (N_SETS, n_seeds)."""
    between = np.sqrt(icc) * rng.standard_normal((N_SETS, n_seeds))
    within = np.sqrt(1 - icc) * rng.standard_normal((N_SETS, n_seeds, n_units), dtype=np.float32)
    return between + within.mean(axis=2)


def bootstrap_intervals(seed_means):
    # In portions, for the memory of 10,000 resamples.
    parts = [bootstrap_interval(part, seed=0) for part in np.split(seed_means, 20)]
    return [np.concatenate(bounds) for bounds in zip(*parts, strict=True)]


def check_coverage_and_false_shown(intervals):
    """`intervals`: (lo, hi) of N_SETS data sets with a true mean of zero, one pair per setting."""
    false_shown = {direction: [] for direction in (*DIRECTIONS, "equivalence from below")}
    for lo, hi in intervals:
        assert 0.93 <= np.mean((lo <= 0) & (hi >= 0)) <= 0.97
        width = np.median(hi - lo)
        # Moved so that the true effect lies at the edge of what the claim says; a band of three widths, so that it can be shown.
        nulls = {
            "increase": ("increase", 0.2, 0.2),
            "decrease": ("decrease", 0.2, -0.2),
            "equivalence": ("equivalence", 3 * width, 3 * width),
            "equivalence from below": ("equivalence", 3 * width, -3 * width),
            "noninferiority": ("noninferiority", 0.2, -0.2),
        }
        for name, (direction, margin, truth) in nulls.items():
            shown = [verdict(direction, margin, a + truth, b + truth) == "shown" for a, b in zip(lo, hi, strict=True)]
            assert np.mean(shown) <= CELL_BOUND, name
            false_shown[name].extend(shown)
    for name, shown in false_shown.items():
        assert np.mean(shown) <= stats.binom.ppf(0.999, len(shown), 0.025) / len(shown), name


@pytest.mark.parametrize("n", [2, 3, 5, 10, 30])
def test_t_interval_keeps_its_promise(n):
    effects = np.random.default_rng(n).standard_normal((N_SETS, n))
    check_coverage_and_false_shown([t_interval(effects)])


def test_bootstrap_interval_keeps_its_promise():
    rng = np.random.default_rng(2)
    check_coverage_and_false_shown(bootstrap_intervals(simulate_seed_means(*setting, rng)) for setting in SETTINGS)


@pytest.mark.parametrize("n_seeds", [3, 5, 10])
def test_bootstrap_interval_keeps_its_promise_with_unequal_seeds(n_seeds):
    """5 to 50 units a seed: the seed means scatter unequally."""
    rng = np.random.default_rng(n_seeds)
    n_units = np.linspace(5, 50, n_seeds).round()
    noise = np.sqrt(0.4 + 0.6 / n_units) * rng.standard_normal((N_SETS, n_seeds))
    check_coverage_and_false_shown([bootstrap_intervals(noise)])


def test_measure_uses_the_simulated_intervals(register):
    register({"interval": "bootstrap"})
    effects = np.random.default_rng(0).normal(size=(20, 5, 10))
    lo, hi = bootstrap_interval(effects.mean(axis=2), seed=0)
    for i, data_set in enumerate(effects):
        assert measure("bias.ba-grows", data_set).interval == pytest.approx((lo[i], hi[i]), abs=1e-12)


# ---- what is shown


@pytest.mark.parametrize(
    ("variation", "effects", "verdict", "reason"),
    [
        ({}, EFFECTS, "shown", "lies wholly above the margin, 0.02."),
        ({"direction": "decrease"}, EFFECTS, "contradicted", "lies wholly above the margin, −0.02."),
        ({"margin": 0.05}, EFFECTS, "not settled", "includes the margin, 0.05."),
        ({"direction": "decrease", "margin": 0, "worth_seeing": 1}, [0.1, -0.1], "not settled", "includes the margin, 0."),
        ({"direction": "equivalence", "margin": 1}, EFFECTS, "shown", "lies wholly within the margin, −1 to 1."),
        ({"direction": "equivalence"}, EFFECTS, "contradicted", "lies wholly outside the margin, −0.02 to 0.02."),
        ({"direction": "equivalence", "margin": 0.05}, EFFECTS, "not settled", "neither wholly within nor wholly outside"),
        ({"direction": "noninferiority"}, EFFECTS, "shown", "lies wholly above the margin, −0.02."),
        ({"direction": "noninferiority"}, [-e for e in EFFECTS], "contradicted", "lies wholly below the margin, −0.02."),
        ({"direction": "noninferiority"}, [-0.04, 0.01, 0.02], "not settled", "includes the margin, −0.02."),
    ],
)
def test_reason(register, variation, effects, verdict, reason):
    register(variation)
    result = measure("bias.ba-grows", effects)
    assert result.verdict == verdict
    assert reason in result.reason
    assert result.reason.startswith("The 95% interval [")


def test_mime_bundle_survives_json(register):
    register({"interval": "bootstrap", "unit_of_analysis": "attribute within seed"})
    result = measure("bias.ba-grows", np.array([[0.1, 0.2], [0.2, 0.4]]))
    bundle = result._repr_mimebundle_()
    assert set(bundle) == {"text/plain", "text/html", CLAIM_MIME}
    payload = bundle[CLAIM_MIME]
    assert json.loads(json.dumps(payload, allow_nan=False)) == payload
    assert list(payload) == [
        *("id", "chapter", "statement", "published", "source", "effect", "unit", "range", "unit_of_analysis"),
        *(
            "direction",
            "margin",
            "worth_seeing",
            "method",
            "estimate",
            "interval",
            "interval_method",
            "level",
            "n_units",
            "n_seeds",
            "effects",
        ),
        *("verdict", "reason", "smallest_effect", "spread", "units_needed", "unsettled", "caution"),
    ]
    assert payload["effects"] == [[0.1, 0.2], [0.2, 0.4]]
    assert payload["method"] == "bootstrap"
    assert payload["interval"] == list(result.interval)
    assert payload["source"] == {"key": "iofinova2023bias", "where": "abstract", "kind": "text"}
    assert bundle["text/plain"].startswith("bias.ba-grows: not settled. 0.2")
    assert measure("bias.ba-grows", [[0.1]]).to_json()["interval"] is None


def test_ipython_displays_it(register):
    """As the last expression of a cell, through IPython's own formatter."""
    from IPython.core.formatters import DisplayFormatter

    register()
    result = measure("bias.ba-grows", EFFECTS)
    data, _ = DisplayFormatter().format(result)
    assert data[CLAIM_MIME] == result.to_json()
    assert data["text/html"] == card_html(result.to_json())


def parse(card):
    """Root attributes, and the text of each element, of a well-formed card."""
    elements, stack, text = [], [], {}

    class Parser(html.parser.HTMLParser):
        def handle_starttag(self, tag, attributes):
            elements.append(SimpleNamespace(tag=tag, **dict(attributes)))
            stack.append(tag)

        def handle_endtag(self, tag):
            assert stack.pop() == tag

        def handle_data(self, data):
            text[stack[-1]] = text.get(stack[-1], "") + data + "\n"

    Parser().feed(card)
    assert not stack
    return elements, text


def test_card_says_everything(register):
    register({"published": "0.170 at 99.5%"})
    result = measure("bias.ba-grows", EFFECTS)
    elements, text = parse(card_html(result.to_json()))
    root = elements[0]
    assert vars(root)["class"] == "effnotes-claim effnotes-claim--shown"
    assert (root.id, root.role) == ("claim-bias-ba-grows", "group")
    assert vars(root)["aria-label"] == "Claim bias.ba-grows: shown"
    assert text["strong"] == "shown\n"
    assert text["dt"].split("\n")[:-1] == ["Published", "Measured", "Effect", "Shown if", "Units", "Would have settled"]
    published, measured, effect, criterion, units, least = text["dd"].split("\n")[:-1]
    assert published == "0.170 at 99.5% (Iofinova 2023, abstract)"
    assert measured == "0.046, 95% interval [0.031, 0.060] (Student t), BA difference"
    assert effect == ENTRY["effect"]
    assert criterion == "increase: 95% interval above 0.02"
    assert units == "5 seeds"
    assert least == "0.0397 or more, in four of five such runs (a spread of 0.0117 between 5 seeds)"
    assert ENTRY["statement"] in text["p"]
    assert result.reason in text["p"]
    assert "style" not in card_html(result.to_json())


@pytest.mark.parametrize(
    ("direction", "criterion"),
    [
        ("decrease", "decrease: 95% interval below −0.02"),
        ("equivalence", "equivalence: 95% interval within −0.02 to 0.02"),
        ("noninferiority", "noninferiority: 95% interval above −0.02"),
    ],
)
def test_card_says_when_a_claim_is_shown(register, direction, criterion):
    register({"direction": direction})
    _, text = parse(card_html(measure("bias.ba-grows", EFFECTS).to_json()))
    assert criterion in text["dd"].split("\n")


def test_card_escapes_text(register):
    evil = "<script>alert(\"x\")</script> & 'more'"
    register({"statement": evil, "published": evil, "effect": evil, "unit": evil, "unit_of_analysis": evil})
    card = card_html(measure("bias.ba-grows", EFFECTS).to_json())
    elements, text = parse(card)
    assert {e.tag for e in elements} == {"div", "p", "code", "strong", "dl", "dt", "dd"}
    assert (text["p"] + text["dd"]).count(evil) == 6


@pytest.mark.parametrize(
    ("interval", "effects", "shown"),
    [
        ("t", [-0.25], ["−0.25 (no interval), BA difference", "1 seed", "effnotes-claim--not-settled", "no figure given"]),
        (
            "bootstrap",
            [[1.0, 2.0]] * 3,
            ["1.5 (no interval), BA difference", "gave the same effect", "3 seeds, with 6 effects in all (seed)"],
        ),
    ],
)
def test_card_of_few_or_identical_effects(register, interval, effects, shown):
    register({"interval": interval})
    card = card_html(measure("bias.ba-grows", effects).to_json())
    for text in shown:
        assert text in card


@pytest.mark.parametrize(
    ("value", "spread", "text"),
    [
        (0.123456, 0.0, "0.123"),
        (-0.5, 0.0, "−0.5"),
        (-0.0, 0.0, "0"),
        (0.0123456, 0.0042, "0.0123"),
        (12.3456, 150.0, "12"),
        (0.02, 0.0, "0.02"),
    ],
)
def test_numbers_have_the_digits_that_they_can_bear(value, spread, text):
    assert claims.format_number(value, spread=spread) == text


# ---- join


def test_join_keeps_the_registers_order(register):
    loaded = load_register(register({}, {"id": "bias.not-yet"}, {"id": "bias.last"}))
    payloads = [measure(name, EFFECTS).to_json() for name in ("bias.last", "bias.ba-grows")]
    rows = join(loaded, payloads)
    assert [(row["id"], row["verdict"]) for row in rows] == [
        ("bias.ba-grows", "shown"),
        ("bias.not-yet", "not measured"),
        ("bias.last", "shown"),
    ]
    assert rows[0] == payloads[1]
    assert list(rows[1]) == list(rows[0])
    assert (rows[1]["estimate"], rows[1]["interval"], rows[1]["n_units"]) == (None, None, None)
    card = card_html(rows[1])
    assert "effnotes-claim--not-measured" in card
    assert json.loads(json.dumps(rows, allow_nan=False)) == rows


def test_join_takes_todays_words_but_no_verdict_of_another_rule(register):
    register({}, {"id": "bias.stricter"})
    payloads = [measure(name, EFFECTS).to_json() for name in ("bias.ba-grows", "bias.stricter")]
    loaded = load_register(register({"statement": "Better said."}, {"id": "bias.stricter", "margin": 0.2}))
    reworded, stricter = join(loaded, payloads)
    assert (reworded["statement"], reworded["verdict"]) == ("Better said.", "shown")
    assert (stricter["verdict"], stricter["estimate"], stricter["margin"]) == ("not measured", None, 0.2)
    assert "margin was 0.02 and is 0.2" in stricter["reason"]


def test_join_refuses_strangers_and_repetitions(register):
    loaded = load_register(register())
    payload = measure("bias.ba-grows", EFFECTS).to_json()
    with pytest.raises(ClaimError, match="measured twice"):
        join(loaded, [payload, payload])
    with pytest.raises(ClaimError, match=r"'bias.ba-grow' is not registered. Did you mean 'bias.ba-grows'"):
        join(loaded, [payload | {"id": "bias.ba-grow"}])


def test_import_brings_in_nothing_heavy():
    code = "import sys, effnotes.reporting.claims; print([m for m in ('torch', 'scipy', 'pandas', 'numpy') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
