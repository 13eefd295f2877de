"""The whole audit: models with known answers, stored logits, multi-class, thresholds, and refusals before long work."""

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.special import log_softmax
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from effnotes.metrics import bias as metrics
from effnotes.metrics.bias import Reason

NAMES = ["group", "easy", "hard", "rare"]


def draw(seed, n=500):
    """Labels of which the first is the group, and the evidence for each, shape (n, 4)."""
    rng = np.random.default_rng(seed)
    group = rng.random(n) < 0.4
    rates = np.where(group[:, None], [0.6, 0.5, 0.3], [0.3, 0.2, 0.1])
    labels = np.column_stack([group, rng.random((n, 3)) < rates]).astype(np.int64)
    evidence = (2 * labels - 1) * [4.0, 4.0, 1.5, 2.0] + rng.normal(size=labels.shape)
    return evidence.astype(np.float32), labels


class Shift(nn.Module):
    """Returns its input plus a constant, but noise while training, to show which mode it was run in."""

    def __init__(self, by):
        super().__init__()
        self.by = nn.Parameter(torch.tensor(by))
        self.dropout = nn.Dropout(0.9)
        self.frozen = nn.BatchNorm1d(len(by), affine=False).eval()
        self.calls = 0

    def forward(self, images):
        assert torch.is_inference_mode_enabled()
        self.calls += 1
        return self.dropout(images) + self.by + 0 * self.frozen(images)


@pytest.fixture(scope="module")
def case():
    evidence, labels = draw(0)
    _, train = draw(1, 1000)
    return evidence, labels, train


def loader_of(*arrays, shuffle=False):
    return DataLoader(TensorDataset(*map(torch.as_tensor, arrays)), batch_size=64, shuffle=shuffle)


def pair():
    return Shift([0.0, 0.0, 0.0, 0.0]), Shift([0.0, 0.0, -1.0, -2.0])


def value(audit, model, metric, attribute, decision="raw"):
    table = audit.table
    rows = (table["model"] == model) & (table["metric"] == metric) & (table["attribute"] == attribute)
    return table[rows & (table["decision"] == decision)]["value"].item()


def test_models_with_known_answers(case):
    evidence, labels, train = case
    dense, pruned = pair()
    audit = metrics.bias_audit(dense, pruned, loader_of(evidence, labels), protected="group", train_labels=train, names=NAMES)
    assert audit.samples == 500
    logits = {"dense": evidence, "pruned": evidence + np.array([0, 0, -1, -2], np.float32)}
    for k, name in enumerate(NAMES[1:], start=1):
        in_group = labels[:, 0] == 1
        for model in ("dense", "pruned"):
            predicted = logits[model][:, k] > 0
            share = predicted[in_group].sum() / predicted.sum() - labels[in_group, k].sum() / labels[:, k].sum()
            assert value(audit, model, "bias_amplification", name) == pytest.approx(share)
            assert value(audit, model, "accuracy", name) == pytest.approx((predicted == labels[:, k]).mean())
            misses = [(~predicted[(labels[:, k] == 1) & side]).mean() for side in (~in_group, in_group)]
            assert value(audit, model, "false_negative_rate_gap", name) == pytest.approx(abs(misses[1] - misses[0]))
            change = [predicted[side].mean() - labels[side, k].mean() for side in (~in_group, in_group)]
            assert value(audit, model, "directional_bias_amplification", name) == pytest.approx((change[1] - change[0]) / 2)
            by_group = logits[model][:, 0] > 0  # Zhao's groups are predicted
            train_share = train[train[:, 0] == 1, k].sum() / train[:, k].sum()
            corpus = (predicted & by_group).sum() / predicted.sum() - train_share
            sign = 1 if train_share > 0.5 else -1
            assert value(audit, model, "corpus_bias_amplification", name) == pytest.approx(sign * corpus)
        change = value(audit, "pruned", "accuracy", name) - value(audit, "dense", "accuracy", name)
        assert value(audit, "difference", "accuracy", name) == pytest.approx(change)
    flips = audit.exemplars.set_index("attribute")
    assert flips.loc["easy", "exemplars"] == 0
    assert flips.loc["rare", "exemplars"] == ((evidence[:, 3] > 0) & (evidence[:, 3] <= 2)).sum()
    assert flips.loc["rare", "positive_to_negative"] == 1


def test_rows_are_those_of_the_table_of_one_model(case):
    evidence, labels, train = case
    audit = metrics.audit_logits(evidence, evidence - 1, labels, protected=0, train_labels=train, names=NAMES)
    for model, logits in (("dense", evidence), ("pruned", evidence - 1)):
        task = metrics.AttributeTask.of(labels, train_labels=train, protected=0, names=NAMES)
        alone = metrics.attribute_metrics(logits, task)
        found = audit.table[audit.table["model"] == model].merge(alone, on=["metric", "attribute"])
        assert len(found) == len(alone)
        np.testing.assert_array_equal(found["value_x"], found["value_y"])
        assert (found["reason_x"] == found["reason_y"]).all()
    pd.testing.assert_frame_equal(audit.criteria, metrics.attribute_criteria(evidence, task))
    exemplars = metrics.exemplar_table(evidence > 0, evidence > 1, metrics.probabilities(evidence), names=NAMES)
    pd.testing.assert_frame_equal(audit.exemplars, exemplars)


def test_flags_are_restored_and_each_model_sees_each_batch_once(case):
    evidence, labels, train = case
    dense, pruned = pair()
    dense.train()
    dense.frozen.eval()
    pruned.eval()
    first = metrics.bias_audit(dense, pruned, loader_of(evidence, labels), protected=0, train_labels=train)
    assert [dense.training, dense.dropout.training, dense.frozen.training, pruned.training] == [True, True, False, False]
    assert dense.calls == pruned.calls == -(-500 // 64)
    shuffled = metrics.bias_audit(dense, pruned, loader_of(evidence, labels, shuffle=True), protected=0, train_labels=train)
    np.testing.assert_allclose(shuffled.table["value"], first.table["value"], atol=1e-12)
    with pytest.raises(RuntimeError):
        metrics.bias_audit(dense, nn.Linear(3, 4), loader_of(evidence, labels), protected=0, train_labels=train)
    assert dense.training
    double = metrics.bias_audit(dense.double(), pruned, loader_of(evidence, labels), protected=0, train_labels=train)
    np.testing.assert_allclose(double.table["value"], first.table["value"], atol=1e-12)


def test_frames_of_labels_keep_the_order_of_the_first_without_names(case):
    """In later batches and in those for the thresholds, or a label would be held against another output."""
    evidence, labels, train = case
    images, frame = torch.from_numpy(evidence), pd.DataFrame(labels, columns=NAMES)
    mixed, turned = [(images[:250], frame[:250]), (images[250:], frame[250:][NAMES[::-1]])], [(images, frame[NAMES[::-1]])]
    plain = [(images, labels)]
    models, known = (Shift([0.0] * 4), Shift([-1.0, 0.5, -0.5, 0.2])), {"protected": 0, "train_labels": train}
    found = metrics.bias_audit(*models, mixed, validation=turned, **known)
    np.testing.assert_array_equal(
        found.table["value"], metrics.bias_audit(*models, plain, validation=plain, **known).table["value"]
    )


def test_groups_from_the_loader_an_array_and_a_column_agree(case):
    evidence, labels, train = case
    models = pair()
    by_loader = metrics.bias_audit(
        *models, loader_of(evidence, labels, labels[:, 0], shuffle=True), train_labels=train, train_groups=train[:, 0]
    )
    by_array = metrics.bias_audit(
        *models, loader_of(evidence, labels), protected=labels[:, 0], train_labels=train, train_groups=train[:, 0]
    )
    by_column = metrics.bias_audit(*models, loader_of(evidence, labels), protected=0, train_labels=train)
    np.testing.assert_allclose(by_loader.table["value"], by_array.table["value"], atol=1e-12)
    amplification = [audit.by_attribute("bias_amplification").iloc[1:] for audit in (by_array, by_column)]
    pd.testing.assert_frame_equal(*amplification)


def test_rates_stand_in_for_training_labels(case):
    evidence, labels, _ = case
    rates = metrics.conditional_rates(labels, 0)
    by_rates = metrics.audit_logits(evidence, evidence - 1, labels, protected=0, rates=rates)
    by_labels = metrics.audit_logits(evidence, evidence - 1, labels, protected=0, train_labels=labels)
    np.testing.assert_allclose(by_rates.table["value"], by_labels.table["value"], atol=1e-12)
    columns = ["uncertainty", "abs_phi", "rarity", "auc_gap", "uncertainty_times_phi"]
    np.testing.assert_allclose(by_rates.criteria[columns], by_labels.criteria[columns], atol=1e-12)


def test_calibration_restores_the_number_of_positives(case):
    evidence, labels, train = case
    dense, pruned = pair()
    arguments = {"protected": 0, "train_labels": train, "names": NAMES}
    loader = loader_of(evidence, labels)
    audit = metrics.bias_audit(dense, pruned, loader, validation=loader, **arguments)
    assert value(audit, "pruned", "rare_value_ratio", "rare") < 0.8
    for model in ("dense", "pruned"):
        assert value(audit, model, "rare_value_ratio", "rare", "calibrated") == 1
        assert value(audit, model, "bias_amplification", "hard", "calibrated") == pytest.approx(
            value(audit, "dense", "bias_amplification", "hard", "calibrated")  # a shift does not survive calibration
        )
    stored = metrics.audit_logits(
        evidence, evidence + np.float32([0, 0, -1, -2]), labels, validation=(evidence, evidence - 1, labels), **arguments
    )
    assert set(stored.table["decision"]) == {"raw", "calibrated"}
    thresholds = metrics.calibrated_thresholds(evidence, labels)
    by_hand = metrics.audit_logits(
        evidence, evidence, labels, thresholds={"dense": thresholds, "pruned": np.full(4, np.inf)}, **arguments
    )
    assert value(by_hand, "dense", "bias_amplification", "hard") == value(
        audit, "dense", "bias_amplification", "hard", "calibrated"
    )
    collapsed = by_hand.table[by_hand.table["metric"] == "bias_amplification"].set_index(["model", "attribute"])["reason"]
    assert collapsed["pruned", "hard"] == collapsed["difference", "hard"] == Reason.NO_PREDICTED_POSITIVES
    assert collapsed["difference", "group"] == Reason.PROTECTED_ITSELF
    summary = by_hand.summary.set_index("metric").loc["bias_amplification"]
    assert summary["attributes"] == 0
    assert summary["no_predicted_positives"] == 3
    assert np.isnan(summary["difference"])


def test_summary_averages_what_both_models_define(case):
    evidence, labels, train = case
    pruned = evidence.copy()
    pruned[:, 3] = -1
    summary = metrics.audit_logits(
        evidence, pruned, labels, protected=0, train_labels=train, validation=(evidence, evidence, labels)
    )
    rows = summary.summary.set_index(["decision", "metric"])
    wide = summary.by_attribute("bias_amplification")
    row = rows.loc[("raw", "bias_amplification")]
    assert row["attributes"] == 2
    assert row["undefined_dense"] == 1
    assert row["undefined_pruned"] == 2
    assert row["dense"] == pytest.approx(wide["dense"].iloc[1:3].mean())
    assert row["difference"] == pytest.approx(wide["difference"].iloc[1:3].mean())
    assert rows.loc[("raw", "accuracy"), "attributes"] == 4
    with pytest.raises(ValueError, match="no 'bias' under 'raw'"):
        summary.by_attribute("bias")


def test_multi_class_is_one_attribute_per_class():
    rng = np.random.default_rng(3)
    labels = rng.integers(0, 3, 400)
    groups = (rng.random(400) < np.array([0.8, 0.3, 0.2])[labels]).astype(int)
    dense = rng.normal(size=(400, 3)) + 2 * np.eye(3)[labels]
    pruned = dense + groups[:, None] * [1.0, 0, -1.0]
    pruned[0] = 1.0  # a tie goes to the first class
    audit = metrics.audit_logits(
        dense, pruned, labels, protected=groups, train_labels=labels, train_groups=groups, names=["x", "y", "z"]
    )
    winners = pruned.argmax(1)
    for c, name in enumerate("xyz"):
        predicted, true = winners == c, labels == c
        favoured = 1 if true[groups == 1].mean() > true[groups == 0].mean() else 0
        share = (predicted & (groups == favoured)).sum() / predicted.sum() - (true & (groups == favoured)).sum() / true.sum()
        assert value(audit, "pruned", "bias_amplification", name) == pytest.approx(share)
        p = np.exp(log_softmax(pruned, axis=1))[:, c]
        assert value(audit, "pruned", "uncertainty", name) == pytest.approx(np.mean((p > 0.1) & (p < 0.9)))
        assert value(audit, "pruned", "accuracy", name) == pytest.approx((predicted == true).mean())
    # With a threshold the decision is on the log-odds: p > 1/2, where a sample may get no class.
    cut = metrics.audit_logits(dense, pruned, labels, protected=groups, train_labels=labels, train_groups=groups, thresholds=0.0)
    above = (np.exp(log_softmax(pruned, axis=1)) > 0.5).mean(0)
    np.testing.assert_allclose(cut.by_attribute("predicted_positive_rate")["pruned"], above)
    calibrated = metrics.audit_logits(
        dense, pruned, labels, protected=groups, train_labels=labels, train_groups=groups, validation=(dense, pruned, labels)
    )
    np.testing.assert_allclose(
        calibrated.by_attribute("predicted_positive_rate", decision="calibrated")["dense"], np.bincount(labels) / 400
    )


def test_multi_class_models_run_from_a_loader():
    rng = np.random.default_rng(4)
    images, labels, groups = rng.normal(size=(100, 3)).astype(np.float32), rng.integers(0, 3, 100), rng.integers(0, 2, 100)
    dense, pruned = Shift([0.0, 0.0, 0.0]), Shift([1.0, 0.0, 0.0])
    rates = metrics.conditional_rates(np.eye(3)[labels], groups)
    audit = metrics.bias_audit(dense, pruned, loader_of(images, labels, groups), rates=rates)
    stored = metrics.audit_logits(images, images + np.float32([1, 0, 0]), labels, protected=groups, rates=rates)
    np.testing.assert_allclose(audit.table["value"], stored.table["value"], atol=1e-6)


def test_figure_and_page(case, tmp_path):
    evidence, labels, train = case
    names = ["group", "easy", "<b>hard</b>", "rare"]
    audit = metrics.audit_logits(evidence, evidence - 1, labels, protected="group", train_labels=train, names=names)
    figure = audit.figure()
    assert figure.axes[0].get_xlabel() == "bias amplification"
    assert figure.axes[0].get_yticklabels()[0].get_text() == "group"  # undefined: at the bottom
    drawn = {line.get_label(): line.get_xdata() for line in figure.axes[0].get_lines()}
    order = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    wide = audit.by_attribute("bias_amplification").loc[order]
    np.testing.assert_array_equal(drawn["pruned"], wide["pruned"])
    assert wide["difference"].abs().iloc[1:].is_monotonic_increasing, "the largest change is on top, up or down"
    figure.savefig(tmp_path / "audit.png")
    page = audit._repr_html_()
    assert "bias_amplification" in page
    assert page.count(">undefined<") == 5, "of the protected attribute alone, in the table of changes"
    assert "largest first, with 95% intervals over samples" in page
    assert "<b>hard</b>" not in page


def test_changes_come_largest_first_with_intervals_over_images(case):
    evidence, labels, train = case
    # "rare" gains false alarms in the group where it is less frequent: its bias falls, by more than that of "hard" grows.
    pruned = evidence + np.float32([0, 0, -0.4, 0])
    pruned[(labels[:, 0] == 0), 3] += 3
    audit = metrics.audit_logits(evidence, pruned, labels, protected="group", train_labels=train, names=NAMES)
    changes = audit.changes()
    assert changes.index.tolist() == ["rare", "hard", "easy", "group"]
    assert changes.loc["rare", "high"] < changes.loc["rare", "difference"] + 0.2
    assert changes.loc["rare", "high"] < 0
    assert changes.loc["easy", ["low", "high"]].tolist() == [0, 0]
    assert changes.loc["group"].isna().all()
    # The change of accuracy is the mean of one number an image: its interval is that of a mean.
    accuracy = audit.changes("accuracy").loc["rare"]
    each = ((pruned[:, 3] > 0) == labels[:, 3]).astype(float) - ((evidence[:, 3] > 0) == labels[:, 3])
    reach = 1.96 * each.std() / np.sqrt(len(each))
    assert accuracy["difference"] == pytest.approx(each.mean())
    assert [accuracy["low"], accuracy["high"]] == pytest.approx([each.mean() - reach, each.mean() + reach], abs=0.1 * reach)
    for metric in ("uncertainty", "false_negative_rate_gap"):
        table = audit.changes(metric).dropna()
        assert ((table["low"] <= table["difference"] + 1e-9) & (table["difference"] <= table["high"] + 1e-9)).all(), metric
    with pytest.raises(ValueError, match="metric='roc_auc' has no intervals; choose one of"):
        audit.changes("roc_auc")


def test_of_many_images_blocks_are_drawn_and_the_intervals_are_those_of_a_mean():
    evidence, labels = draw(2, n=25_003)
    order = np.argsort(evidence[:, 2])  # neighbours are alike, as in a sorted file
    evidence, labels = evidence[order], labels[order]
    audit = metrics.audit_logits(evidence, evidence - 1, labels, protected="group", train_labels=labels, names=NAMES)
    each = ((evidence - 1 > 0).astype(float) - (evidence > 0)) * (2 * labels - 1)
    reach = 1.96 * each.std(0) / np.sqrt(len(each))
    bounds = audit.intervals.loc["accuracy"].to_numpy().T
    np.testing.assert_allclose(bounds, [each.mean(0) - reach, each.mean(0) + reach], atol=0.15 * reach.max())


def test_an_audit_prints_a_summary_that_can_be_read(case):
    evidence, labels, train = case
    audit = metrics.audit_logits(evidence, evidence - 1, labels, protected="group", train_labels=train, names=NAMES)
    text = str(audit)
    mean = next(line for line in text.splitlines() if line.startswith("accuracy ")).split()
    low, high = audit.mean_intervals.loc["accuracy"]
    assert mean[3:6] == [f"{audit.changes('accuracy')['difference'].mean():+.3f}", f"{low:+.3f}", f"{high:+.3f}"]
    each = ((evidence - 1 > 0).astype(float) - (evidence > 0)) * (2 * labels - 1)
    reach = 1.96 * each.mean(1).std() / np.sqrt(len(each))
    assert [low, high] == pytest.approx([each.mean() - reach, each.mean() + reach], abs=0.1 * reach)
    assert text.startswith("Bias audit\nsamples: 500\nattributes: 4\n")
    assert "DataFrame" not in text
    row = next(line for line in text.splitlines() if line.startswith("hard "))
    assert row.split()[3] == f"{audit.changes().loc['hard', 'difference']:+.3f}"
    assert repr(audit) == text
    lost = metrics.audit_logits(evidence, np.full_like(evidence, -9), labels, protected="group", train_labels=train, names=NAMES)
    assert "undefined" in str(lost), "a model that never says yes has no bias amplification"


REFUSED = [
    ({"train_labels": None}, "pass train_labels="),
    ({"protected": None}, "nothing says which samples belong to which group"),
    ({"protected": "beard"}, "protected names no attribute: 'beard'"),
    ({"protected": 4}, "column's index from 0 to 3"),
    ({"names": ["a", "b"]}, "names must be 4 different ones"),
    ({"thresholds": [0.0, 1.0]}, "thresholds must be one number"),
    ({"thresholds": {"dense": 0.0}}, "keys 'dense' and 'pruned'"),
    ({"train_labels": np.zeros((5, 3))}, "train_labels must have 4 attributes"),
    ({"rates": np.zeros((2, 3))}, r"rates must have shape \(2, 4\)"),
    ({"protected": np.zeros(500)}, "train_groups=... are needed"),
    ({"protected": np.zeros(500), "train_groups": [0, 1]}, r"groups must have shape \(1000,\)"),
]


@pytest.mark.parametrize(("changes", "message"), REFUSED)
def test_what_cannot_work_is_refused_after_one_batch(case, changes, message):
    evidence, labels, train = case
    dense, pruned = pair()
    arguments = {"protected": "group", "train_labels": train, "names": NAMES} | changes
    with pytest.raises(ValueError, match=message):
        metrics.bias_audit(dense, pruned, loader_of(evidence, labels), **arguments)
    assert pruned.calls <= 1


def test_loaders_and_models_that_do_not_fit(case):
    evidence, labels, train = case
    dense, pruned = pair()
    arguments = {"protected": 0, "train_labels": train}
    loader = loader_of(evidence, labels, shuffle=True)
    with pytest.raises(ValueError, match="the loader shuffles"):
        metrics.bias_audit(dense, pruned, loader, protected=labels[:, 0], train_labels=train, train_groups=train[:, 0])
    with pytest.raises(TypeError, match="not a list of 1"):
        metrics.bias_audit(dense, pruned, loader_of(evidence), **arguments)
    with pytest.raises(TypeError, match="not a Tensor"):
        metrics.bias_audit(dense, pruned, [torch.zeros(2, 4)], **arguments)
    with pytest.raises(ValueError, match="yielded no batch"):
        metrics.bias_audit(dense, pruned, [], **arguments)
    with pytest.raises(ValueError, match=r"not \(64, 4\) \(dense\) and \(64, 2\) \(pruned\)"):
        metrics.bias_audit(dense, nn.Linear(4, 2), loader_of(evidence, labels), **arguments)
    with pytest.raises(ValueError, match="fit no logits"):
        metrics.bias_audit(dense, pruned, loader_of(evidence, labels[:, :2]), **arguments)

    class Wrapped(nn.Module):
        def forward(self, images):
            return {"logits": images}

    with pytest.raises(TypeError, match="the pruned model returned a dict"):
        metrics.bias_audit(dense, Wrapped(), loader_of(evidence, labels), **arguments)
    with pytest.raises(ValueError, match="multi-class task, whose classes are no groups"):
        metrics.audit_logits(evidence, evidence, labels[:, 0], protected=0, train_labels=train[:, 0])
    with pytest.raises(ValueError, match=r"pass labels\[:, None\]"):
        metrics.audit_logits(evidence[:, :1], evidence[:, :1], labels[:, 1], protected=labels[:, 0], rates=[[0.2], [0.4]])
    with pytest.raises(ValueError, match="pruned_logits must be finite"):
        metrics.audit_logits(evidence, evidence * np.nan, labels, **arguments)
    with pytest.raises(ValueError, match="pruned_logits and labels must have one shape"):
        metrics.audit_logits(evidence, evidence[:9], labels, **arguments)
    with pytest.raises(ValueError, match="the pruned logits of validation must have 4 columns"):
        metrics.audit_logits(evidence, evidence, labels, validation=(evidence, evidence[:, :2], labels), **arguments)
