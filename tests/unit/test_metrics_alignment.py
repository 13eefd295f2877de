"""What carries names is read by them: frames in other orders, series, masks, and loaders whose order nobody knows."""

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    IterableDataset,
    RandomSampler,
    Sampler,
    SequentialSampler,
    SubsetRandomSampler,
    TensorDataset,
    WeightedRandomSampler,
)
from torch.utils.data.distributed import DistributedSampler

from effnotes.metrics import bias as metrics
from effnotes.metrics.bias.criteria import CRITERIA

N = 200
NAMES = ["Smiling", "Hat", "Male"]
OTHER = ["Hat", "Male", "Smiling"]
RNG = np.random.default_rng(0)
GROUP = (RNG.random(N) < 0.5).astype(int)
LABELS = np.column_stack([RNG.random(N) < np.where(GROUP, 0.7, 0.2), RNG.random(N) < np.where(GROUP, 0.3, 0.5), GROUP]).astype(int)
SCORES = (2 * LABELS - 1) * 1.5 + RNG.normal(size=LABELS.shape)
PERMUTED = RNG.permutation(N)


def frame(values):
    return pd.DataFrame(values, columns=NAMES, index=[f"{i:06}.jpg" for i in range(N)])


DENSE, PRUNED, TRUE, PREDICTED = frame(SCORES), frame(SCORES * [0.5, 0.5, 1] - 0.3), frame(LABELS), frame((SCORES > 0).astype(int))
GROUPS = pd.Series(GROUP, index=TRUE.index)
RATES = pd.DataFrame(metrics.conditional_rates(LABELS, 2), columns=NAMES)
CUTS = pd.Series([0.1, 0.5, 0.9], index=NAMES)


class Table:
    """A table of another library, which says how it becomes a frame."""

    def __init__(self, values):
        self.values = values

    def to_pandas(self):
        return self.values


class Bare(Table):
    """A table of polars where pyarrow is not installed."""

    def __init__(self, values):
        super().__init__(values)
        if values.ndim == 2:
            self.columns = list(values.columns)

    def __array__(self, dtype=None, copy=None):
        return self.values.to_numpy(dtype)

    def to_pandas(self):
        raise ModuleNotFoundError("No module named 'pyarrow'")


def audited(**changes):
    given = {
        "dense_logits": DENSE,
        "pruned_logits": PRUNED,
        "labels": TRUE,
        "protected": "Male",
        "train_labels": TRUE,
        "names": NAMES,
    }
    return metrics.audit_logits(**(given | changes)).table


def task(**changes):
    return metrics.AttributeTask.of(TRUE, **({"protected": "Male", "train_labels": TRUE} | changes))


IN_ANOTHER_ORDER = {
    "columns of labels": ({"labels": TRUE[OTHER]}, {}),
    "columns of training labels": ({"train_labels": TRUE[OTHER]}, {}),
    "columns of logits": ({"pruned_logits": PRUNED[OTHER]}, {}),
    "rows of labels": ({"labels": TRUE.iloc[PERMUTED]}, {}),
    "rows of logits": ({"dense_logits": DENSE.iloc[PERMUTED]}, {}),
    "all frames alike": ({"dense_logits": DENSE[OTHER], "pruned_logits": PRUNED[OTHER], "labels": TRUE[OTHER]}, {}),
    "groups": ({"protected": GROUPS.iloc[PERMUTED], "train_groups": GROUPS}, {"protected": GROUP, "train_groups": GROUP}),
    "training groups": ({"protected": GROUPS, "train_groups": GROUPS[::-1]}, {"protected": GROUP, "train_groups": GROUP}),
    "rates": ({"train_labels": None, "rates": RATES[OTHER]}, {"train_labels": None, "rates": RATES.to_numpy()}),
    "thresholds": ({"thresholds": {"dense": CUTS[OTHER], "pruned": CUTS}}, {"thresholds": CUTS.to_numpy()}),
    "validation": ({"validation": (DENSE, PRUNED[OTHER], TRUE.iloc[PERMUTED])}, {"validation": (DENSE, PRUNED, TRUE)}),
    "names from the columns": ({"names": None, "pruned_logits": PRUNED[OTHER]}, {}),
    "a table of another library": ({"labels": Table(TRUE[OTHER])}, {}),
    "nullable types": ({"labels": TRUE.astype("Int64"), "train_labels": TRUE.astype({"Hat": "boolean"})}, {}),
    "a mask that hides nothing": ({"labels": np.ma.array(LABELS)}, {}),
    "integers beside names": (
        {"labels": TRUE.set_axis(range(7, N + 7)), "thresholds": CUTS.set_axis([3, 9, 27])},
        {"thresholds": CUTS},
    ),
    "a table without pyarrow": ({"labels": Bare(TRUE[OTHER])}, {}),
    "groups without pyarrow": ({"protected": Bare(GROUPS), "train_groups": GROUPS}, {"protected": GROUP, "train_groups": GROUP}),
    "some without names": ({"dense_logits": SCORES, "labels": TRUE.reset_index(drop=True)}, {}),
}


@pytest.mark.parametrize(("given", "meant"), IN_ANOTHER_ORDER.values(), ids=IN_ANOTHER_ORDER)
def test_an_audit_reads_by_name(given, meant):
    pd.testing.assert_frame_equal(audited(**given), audited(**meant))


RENUMBERED = TRUE.reset_index(drop=True)
REFUSED = {
    "numbers may be names or places": (
        {"labels": RENUMBERED, "pruned_logits": pd.DataFrame(SCORES, columns=NAMES).iloc[PERMUTED], "dense_logits": SCORES},
        r"pruned_logits has its samples in another order than labels .*\.to_numpy",
    ),
    "arrays have no names": ({"labels": RENUMBERED.sort_values("Hat"), "dense_logits": SCORES}, "numbers that count may be names"),
    "rows of rates": ({"train_labels": None, "rates": RATES[::-1]}, "rates has its groups in another order than 0 and 1"),
    "another name": ({"labels": TRUE.rename(columns={"Hat": "Cap"})}, r"labels alone has \['Cap'\], names alone \['Hat'\]"),
    "a column twice": ({"labels": TRUE.set_axis(["Hat", "Hat", "Male"], axis=1)}, "some twice"),
    "a column twice, no names": ({"names": None, "labels": TRUE.set_axis(["Hat", "Hat", "Male"], axis=1)}, "some twice"),
    "other samples": ({"protected": GROUPS.rename(str.upper), "train_groups": GROUPS}, "names other samples than labels"),
    "an index for a moved column": ({"labels": TRUE[OTHER], "protected": 2}, "the protected attribute are given by their place"),
    "classes of moved columns": ({"labels": GROUP, "protected": GROUP, "rates": RATES, "names": OTHER}, "classes or the protected"),
    "masked labels": ({"labels": np.ma.array(LABELS, mask=SCORES > 2)}, r"labels hides \d+ of 600 entries .*filled"),
    "masked groups": ({"protected": np.ma.array(GROUP, mask=GROUP), "train_groups": GROUP}, "protected hides"),
    "masked thresholds": ({"thresholds": np.ma.array([0, 1, 2.0], mask=[0, 1, 0])}, "thresholds hides 1 of 3"),
    "a label that is missing": ({"labels": TRUE.astype("Int64").mask(TRUE > 0)}, r"must be 0 or 1, but hold \[nan"),
}


@pytest.mark.parametrize(("given", "message"), REFUSED.values(), ids=REFUSED)
def test_names_that_contradict_and_masks_are_refused(given, message):
    with pytest.raises(ValueError, match=message):
        audited(**given)


def by_hand(metric, *arrays, **more):
    return metric(*(np.asarray(each) for each in arrays), **{name: np.asarray(each) for name, each in more.items()})


METRICS = {
    "accuracy": (metrics.accuracy, (PREDICTED[OTHER], TRUE), (PREDICTED, TRUE)),
    "roc_auc": (metrics.roc_auc, (DENSE.iloc[PERMUTED], TRUE), (DENSE, TRUE)),
    "calibrated_thresholds": (metrics.calibrated_thresholds, (DENSE[OTHER], TRUE), (DENSE, TRUE)),
    "hard_predictions": (metrics.hard_predictions, (DENSE, CUTS[OTHER]), (DENSE, CUTS)),
    "rare_value_ratio": (metrics.rare_value_ratio, (PREDICTED, TRUE, TRUE.mean()[OTHER]), (PREDICTED, TRUE, TRUE.mean())),
    "conditional_rates": (metrics.conditional_rates, (TRUE, GROUPS[::-1]), (TRUE, GROUPS)),
    "planted": (metrics.planted_bias_amplification, (PREDICTED, TRUE, GROUPS[::-1]), (PREDICTED, TRUE, GROUPS)),
    "override": (metrics.override, (PREDICTED, TRUE[OTHER], TRUE[::-1]), (PREDICTED, TRUE, TRUE)),
    "least certain": (metrics.select_least_certain, (DENSE, pd.Series([1, 5, 9], OTHER)), (DENSE, [9, 1, 5])),
    "population": (metrics.modal_predictions, ([PREDICTED, TRUE[OTHER], TRUE[::-1]],), ([PREDICTED, TRUE, TRUE],)),
    "rank_products": (metrics.rank_products, (GROUPS, DENSE["Hat"][::-1]), (GROUPS, DENSE["Hat"])),
}


@pytest.mark.parametrize(("metric", "given", "meant"), METRICS.values(), ids=METRICS)
def test_each_metric_reads_by_name(metric, given, meant):
    np.testing.assert_array_equal(metric(*given), by_hand(metric, *meant))


def test_results_without_names_are_in_the_order_of_the_labels():
    np.testing.assert_array_equal(
        metrics.accuracy(PREDICTED, TRUE[OTHER]), by_hand(metrics.accuracy, PREDICTED[OTHER], TRUE[OTHER])
    )
    shares = pd.Series(metrics.positive_shares(TRUE, GROUPS), NAMES)
    by_name = metrics.corpus_bias_amplification(PREDICTED, GROUPS, train_shares=shares[OTHER])
    np.testing.assert_array_equal(by_name, by_hand(metrics.corpus_bias_amplification, PREDICTED, GROUPS, train_shares=shares))
    groups = metrics.by_group(metrics.accuracy, PREDICTED[OTHER], TRUE, GROUPS[::-1])
    for found, meant in zip(groups, metrics.by_group(metrics.accuracy, PREDICTED.to_numpy(), LABELS, GROUP), strict=True):
        np.testing.assert_array_equal(found, meant)


def test_a_task_keeps_the_names_of_its_frame():
    meant = metrics.attribute_metrics(SCORES, task())
    assert meant["attribute"].unique().tolist() == NAMES
    for logits in (DENSE[OTHER], DENSE.iloc[PERMUTED]):
        pd.testing.assert_frame_equal(metrics.attribute_metrics(logits, task()), meant)
    criteria = metrics.attribute_criteria(DENSE[OTHER].iloc[PERMUTED], task())
    pd.testing.assert_frame_equal(criteria, metrics.attribute_criteria(SCORES, task()))
    study = [metrics.override_study(dense, PRUNED, task(), validation=(DENSE, PRUNED, TRUE)) for dense in (DENSE, DENSE[OTHER])]
    pd.testing.assert_frame_equal(*study)
    with pytest.raises(ValueError, match="another order than task"):
        metrics.attribute_metrics(
            pd.DataFrame(SCORES).iloc[PERMUTED], metrics.AttributeTask.of(LABELS, protected=2, train_labels=LABELS)
        )
    with pytest.raises(ValueError, match="sample_names must be 200"):
        metrics.AttributeTask.of(LABELS, protected=2, train_labels=LABELS, sample_names=["a", "b"])


def test_growth_by_attribute_is_brought_to_its_criteria():
    attributes = list("abcde")
    criteria = pd.DataFrame({"attribute": attributes} | {name: [1, 3, 2, 5, 4] for name in CRITERIA})
    growth = pd.Series([0.1, 0.2, 0.4, 0.3, 0.5], attributes)
    meant = metrics.evaluate_criteria(criteria, growth.to_numpy())
    pd.testing.assert_frame_equal(metrics.evaluate_criteria(criteria, growth.sort_values()), meant)
    columns = criteria.assign(growth=growth.to_numpy()).sort_values("growth")
    pd.testing.assert_frame_equal(metrics.evaluate_criteria(columns, columns["growth"]), meant)
    with pytest.raises(ValueError, match="growth has its attributes in another order"):
        metrics.evaluate_criteria(columns, columns["growth"].sort_index())
    # What has no names is in the order of the criteria, even if these are sorted and their attributes have numbers for names.
    numbered = criteria.assign(attribute=[2, 0, 1, 4, 3])
    for given in (growth.to_numpy(), growth.tolist()):
        pd.testing.assert_frame_equal(metrics.evaluate_criteria(numbered, given), meant)


def test_numbers_that_name_the_columns_of_arrays():
    given = {"labels": LABELS, "train_labels": LABELS, "train_groups": GROUP, "names": [2, 0, 1]}
    meant = metrics.audit_logits(SCORES, SCORES / 2, protected=GROUP, **given).table
    found = metrics.audit_logits(SCORES, SCORES / 2, protected=pd.Series(GROUP), **given).table
    pd.testing.assert_frame_equal(found, meant)
    batches = [(torch.tensor(SCORES), torch.tensor(LABELS))]
    assert audited_from(batches, names=[2, 0, 1])["attribute"].unique().tolist() == [2, 0, 1]


def test_a_single_attribute_may_have_two_names():
    one = pd.DataFrame({"smiles": LABELS[:, 0], "predicted": PREDICTED["Smiling"].to_numpy()}, index=TRUE.index)
    found = metrics.accuracy(one[["predicted"]].iloc[PERMUTED], one[["smiles"]])
    np.testing.assert_array_equal(found, by_hand(metrics.accuracy, one[["predicted"]], one[["smiles"]]))


def test_f1_of_groups_of_classes_that_stand_in_another_order():
    winners = np.eye(3)[SCORES.argmax(1)]
    f1 = metrics.macro_f1(DENSE, frame(np.eye(3)[RNG.integers(0, 3, N)]), pd.Series([2, 3, 1], OTHER))
    assert f1.index.tolist() == [1, 2, 3]
    assert metrics.macro_f1(DENSE[OTHER], frame(winners), pd.Series([2, 3, 1], OTHER)).tolist() == [1, 1, 1]
    with pytest.raises(ValueError, match="logits hides"):
        metrics.log_odds(np.ma.array(SCORES, mask=SCORES > 1))


SAMPLES = TensorDataset(torch.tensor(SCORES, dtype=torch.float32), torch.tensor(LABELS))


class Stream(IterableDataset):
    def __iter__(self):
        return iter([SAMPLES[i] for i in PERMUTED])


class Own(Sampler):
    def __iter__(self):
        return iter(PERMUTED.tolist())


class Wrapped(DataLoader):
    def __iter__(self):
        return iter([SAMPLES[PERMUTED]])


def audited_from(loader, protected=GROUP, **changes):
    given = {"protected": protected, "train_labels": LABELS, "train_groups": GROUP} | changes
    return metrics.bias_audit(nn.Identity(), nn.Hardtanh(), loader, **given).table


UNKNOWN = {
    "shuffled": DataLoader(SAMPLES, 64, shuffle=True),
    "subset": DataLoader(SAMPLES, 64, sampler=SubsetRandomSampler(range(N))),
    "weighted": DataLoader(SAMPLES, 64, sampler=WeightedRandomSampler(torch.ones(N), N)),
    "distributed": DataLoader(SAMPLES, 64, sampler=DistributedSampler(SAMPLES, 1, 0)),
    "own sampler": DataLoader(SAMPLES, 64, sampler=Own()),
    "list of indices": DataLoader(SAMPLES, 64, sampler=PERMUTED.tolist()),
    "random batch sampler": DataLoader(SAMPLES, batch_sampler=BatchSampler(RandomSampler(SAMPLES), 64, False)),
    "list of batches of indices": DataLoader(SAMPLES, batch_sampler=[PERMUTED.tolist()]),
    "sampled batches": DataLoader(SAMPLES, batch_size=None, sampler=BatchSampler(SubsetRandomSampler(range(N)), 64, False)),
    "stream": DataLoader(Stream(), 64),
    "subclass": Wrapped(SAMPLES, 64),
    "generator": (batch for batch in DataLoader(SAMPLES, 64)),
    "as workers finish": DataLoader(SAMPLES, 64, num_workers=1, in_order=False),
}


@pytest.mark.parametrize("loader", UNKNOWN.values(), ids=UNKNOWN)
def test_groups_beside_a_loader_of_unknown_order_are_refused(loader):
    with pytest.raises(ValueError, match=r"but the loader (shuffles, or has|is a) .*let it yield \(images, labels, group\)"):
        audited_from(loader)


def test_groups_beside_a_loader_in_order():
    in_order = DataLoader(SAMPLES, 64)
    meant = audited_from(in_order)
    sequential = DataLoader(SAMPLES, batch_sampler=BatchSampler(SequentialSampler(SAMPLES), 50, False))
    for loader in (list(in_order), sequential, DataLoader([SAMPLES[:]], batch_size=None)):
        pd.testing.assert_frame_equal(audited_from(loader), meant)
    pd.testing.assert_frame_equal(audited_from(in_order, GROUPS), meant)
    assert len(audited_from(DataLoader(SAMPLES, 64, drop_last=True), GROUP[:192])) == len(meant)
    # A column of the labels is in whatever order they are.
    assert len(audited_from(UNKNOWN["subset"], 2)) == len(meant)
    with pytest.raises(ValueError, match=r"200 entries, but the loader yields 192 of 200 samples \(drop_last=True\)"):
        audited_from(DataLoader(SAMPLES, 64, drop_last=True))
    with pytest.raises(ValueError, match="protected has its samples in another order than the loader"):
        audited_from(in_order, pd.Series(GROUP)[PERMUTED])


def test_labels_of_a_loader_that_have_names_or_a_mask():
    images = torch.tensor(SCORES)
    by_name = audited_from([(images, TRUE[OTHER])], "Male", names=NAMES)
    pd.testing.assert_frame_equal(by_name, audited_from([(images, LABELS)], "Male", names=NAMES))
    with pytest.raises(ValueError, match="labels hides"):
        audited_from([(images, np.ma.array(LABELS, mask=SCORES > 1))], 2)
