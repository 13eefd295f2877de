"""Kept records of several data beside one another: from invented records whose numbers are known."""

from typing import Any

import numpy as np
import pandas as pd
import pytest

from effnotes.reporting.claims import measure
from effnotes.reporting.kept import KeptRecord
from effnotes.reporting.tables import keep_table
from effnotes.studies.traces import comparison, figures
from effnotes.studies.traces.experiment import Result

METHODS = ("saliency", "lrp")
GAINS = {1: 0.02, 2: 0.021, 3: 0.019}  # of the own trace at the strong levels, by seed


def invented(sign: int, *, region: bool) -> KeptRecord:
    """A record of three seeds of two images; where no region is known, images without a trojan have no AUC."""
    rows, variants = [], [("dense", ""), ("own", "mild"), ("own", "strong"), ("magnitude", "strong")]
    for seed, gain in GAINS.items():
        for kind in ("trojan", "clean"):
            for sample in range(2):
                for variant, levels in variants:
                    auc = 0.5 + sample / 10 + sign * gain * (variant == "own" and levels == "strong")
                    told = {"seed": seed, "kind": kind, "sample": sample, "variant": variant, "levels": levels}
                    known = {"auc": auc if region or kind == "trojan" else np.nan, "insertion": auc, "deletion": 1 - auc}
                    numbers = known | {"decoy_auc": 0.5, "pointing": 0.5, "agreement": 0.9 - 0.1 * (variant == "own"), "kl": 0.1}
                    rows += [told | {"method": method} | numbers for method in METHODS]
    learned = pd.DataFrame(
        [(1, "", 0.9, 10), (1, "heart", 0.8, 5), (1, "heart elsewhere", 0.3, 5), (2, "", 0.7, 10), (2, "fish", 0.95, 5)],
        columns=["seed", "trojan", "share", "n"],
    )
    none: Any = None
    means = Result(none, learned, pd.DataFrame(rows), *(none for _ in range(6))).means
    tables = {kind: group.drop(columns="kind").reset_index(drop=True) for kind, group in means.groupby("kind")}
    payloads = {name: keep_table(str(name), table).to_json() for name, table in (tables | {"learned": learned}).items()}
    effects = [[sign * gain] * 2 for gain in GAINS.values()]
    claims = [measure("traces.saliency-gains", effects).to_json(), measure("traces.insertion-rises", [[0.1, 0.2]] * 3).to_json()]
    values = {"seeds": [1, 2, 3], "samples": 2, "num_train": 100, "num_test": 50}
    parameters = [{"name": name, "value": value} for name, value in values.items()]
    return KeptRecord({"tables": payloads, "claims": claims, "parameters": parameters})


@pytest.fixture(scope="module")
def records() -> comparison.Records:
    return {"shapes": invented(1, region=True), "photographs": invented(-1, region=False)}


def test_kept_means_have_both_kinds_and_nan_where_nothing_is_kept(records: comparison.Records) -> None:
    """What a kind does not have is missing and not nothing."""
    means = comparison.kept_means(records["photographs"])
    clean = means[means["kind"] == "clean"]
    assert len(clean) == 3 * 4 * 2
    assert clean["auc"].isna().all()
    assert clean["insertion"].notna().all()
    assert means.loc[means["kind"] == "trojan", "auc"].notna().all()


def test_gains_are_those_of_the_images(records: comparison.Records) -> None:
    """The mean over seeds, and Student's interval over them, by hand."""
    found = comparison.gains_beside(records, "trojan", "auc")
    half = 4.302653 * np.std([*GAINS.values()], ddof=1) / 3**0.5
    for name, sign in (("shapes", 1), ("photographs", -1)):
        assert found[name]["name"].to_list() == ["Saliency", "LRP"]
        np.testing.assert_allclose(found[name]["mean"], sign * 0.02)
        np.testing.assert_allclose(found[name]["high"] - found[name]["mean"], half, rtol=0.02)
    assert comparison.gains_beside(records, "clean", "auc")["photographs"].empty
    inserted = comparison.insertion_beside(records)
    np.testing.assert_allclose(inserted["insertion, shapes"], 0.02)
    np.testing.assert_allclose(inserted["deletion, photographs"], 0.02)


def test_the_data_are_told_as_the_record_has_them(records: comparison.Records) -> None:
    """Means over networks; of trojans the weakest, and the strongest leak."""
    row = comparison.data_table(records).iloc[0]
    assert row["networks"] == 3
    assert row["explained"] == 12
    assert row["class right"] == pytest.approx(0.8)
    assert row["trojan works, least"] == pytest.approx(0.8)
    assert row["works elsewhere, most"] == pytest.approx(0.3)


def test_verdicts_that_differ_are_counted_and_said(records: comparison.Records) -> None:
    """One of two claims differs; a claim that the other run lacks is a dash."""
    table = comparison.verdicts_table(records)
    assert table["differ"].to_list() == [True, False]
    assert table.loc[0, "shapes"].startswith("shown, 0.020")
    assert table.loc[0, "photographs"].startswith("contradicted, \u22120.020")
    assert comparison.of_verdicts(table) == "Of 2 claims, 1 came out differently on some of the data."
    (said,) = comparison.across(records)
    assert said.endswith("than on the dense network is shown on shapes, contradicted on photographs.")
    fewer = dict(records["photographs"].content) | {"claims": []}
    assert comparison.verdicts_table({**records, "photographs": KeptRecord(fewer)})["photographs"].to_list() == ["–", "–"]


def test_the_frontier_says_who_is_first_where(records: comparison.Records) -> None:
    """The own trace points best where it gains, magnitude where it does not; it agrees less in both."""
    said = comparison.of_frontiers(records)
    assert "on shapes in pixel AUC, the image's own trace (0.570), and in agreement, pruned by magnitude (90%)" in said
    assert "on photographs in pixel AUC, pruned by magnitude (0.550)" in said
    assert len(figures.plot_frontiers({name: comparison.kept_means(each) for name, each in records.items()}).axes) == 2
    assert "2 of 2 methods up and 0 down on shapes and 0 of 2 methods up and 2 down on photographs" in comparison.of_gains_beside(
        comparison.gains_beside(records, "clean", "insertion"), "insertion"
    )
