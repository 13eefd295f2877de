"""The procedural faces: statistics of the generator, the closed-form posterior, the drawing, and reproducibility."""

import hashlib
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.linear_model import Ridge
from sklearn.metrics import roc_auc_score
from torch.utils.data import DataLoader, TensorDataset

from effnotes.datasets import ATTRIBUTES, Nuisances, drawing, make_face_splits, make_faces, render_faces, skewed_attributes
from effnotes.datasets.faces import Attribute, Faces

COLUMN = {attribute.name: column for column, attribute in enumerate(ATTRIBUTES)}
N = 20_000


@pytest.fixture(scope="module")
def faces() -> Faces:
    return make_faces(N, seed=2023)


# --- the generator's statistics -------------------------------------------------------------------------------------------


def test_shapes_and_types(faces: Faces) -> None:
    assert faces.images.shape == (N, 3, 32, 32)
    assert faces.images.dtype == torch.uint8
    assert faces.labels.shape == faces.evidence.shape == (N, 12)
    assert faces.labels.dtype == torch.int64
    assert faces.evidence.dtype == torch.float32
    assert set(faces.labels.unique().tolist()) == {0, 1}
    assert faces.attribute_names[faces.protected] == "Round"
    assert torch.equal(faces.labels, faces.clean_labels)


def test_rates_lie_within_binomial_error_of_the_table(faces: Faces) -> None:
    is_round = faces.labels[:, 0] == 1
    assert stats.binomtest(int(is_round.sum()), N, 0.42).pvalue > 1e-3
    for column, attribute in enumerate(ATTRIBUTES[1:], start=1):
        for group, rate in ((is_round, attribute.rate_if_round), (~is_round, attribute.rate_if_not)):
            positives = faces.labels[group, column]
            assert stats.binomtest(int(positives.sum()), len(positives), rate).pvalue > 1e-3, attribute.name


def test_correlation_with_the_protected_attribute_has_the_sign_of_the_table(faces: Faces) -> None:
    correlation = np.corrcoef(faces.labels.numpy().T)[0]
    for column in skewed_attributes():
        attribute = ATTRIBUTES[column]
        assert np.sign(correlation[column]) == np.sign(attribute.rate_if_round - attribute.rate_if_not)
        assert abs(correlation[column]) > 0.05
    for control in ("Smile", "Narrow_Eyes"):
        assert abs(correlation[COLUMN[control]]) < 4 / np.sqrt(N)


def test_attributes_are_independent_within_a_group(faces: Faces) -> None:
    for group in (0, 1):
        labels = faces.labels[faces.labels[:, 0] == group, 1:].numpy()
        correlation = np.corrcoef(labels.T) - np.eye(11)
        assert np.abs(correlation).max() < 4 / np.sqrt(len(labels))


def test_evidence_is_normal_around_the_mean_of_its_class(faces: Faces) -> None:
    for column, attribute in enumerate(ATTRIBUTES):
        for label in (0, 1):
            evidence = faces.evidence[faces.labels[:, column] == label, column].double().numpy()
            mean = (2 * label - 1) * attribute.separability / 2
            assert stats.kstest(evidence, stats.norm(mean, 1.0).cdf).pvalue > 1e-3, attribute.name
    noise = faces.evidence - (2 * faces.labels - 1) * torch.tensor([a.separability for a in ATTRIBUTES]) / 2
    assert np.abs(np.corrcoef(noise.numpy().T) - np.eye(12)).max() < 4.5 / np.sqrt(N)


def test_nuisances_are_uniform_and_say_nothing_about_the_labels(faces: Faces) -> None:
    ranges = {"shift": (-0.06, 0.06), "background": (0.1, 0.6), "skin": (0.65, 0.85)}
    ranges |= {"brightness": (0.85, 1.1), "hat_colour": (0.0, 1.0)}
    for name, (low, high) in ranges.items():
        values = getattr(faces.nuisances, name).reshape(N, -1).double().numpy()
        for column in values.T:
            assert stats.kstest(column, stats.uniform(low, high - low).cdf).pvalue > 1e-3, name
            both = np.corrcoef(np.column_stack([column, faces.evidence.numpy()]).T)
            assert np.abs(both[0, 1:]).max() < 4.5 / np.sqrt(N), name


def test_pixel_noise_is_gaussian_with_the_documented_deviation(faces: Faces) -> None:
    few = torch.arange(500)
    clean = render_faces(faces.evidence[few], faces.nuisances.take(few)).double()
    inner = (clean > 50) & (clean < 205)  # more than six deviations from where levels are clipped
    noise = (faces.images[few].double() - clean)[inner].numpy()
    assert abs(noise.mean()) < 0.05
    assert noise.std() == pytest.approx(0.03 * 255, rel=0.01)
    assert stats.kurtosis(noise) == pytest.approx(0.0, abs=0.05)


def test_skewed_attributes_follow_the_true_rates() -> None:
    names = [ATTRIBUTES[column].name for column in skewed_attributes()]
    assert names == [a.name for a in ATTRIBUTES if a.name not in ("Round", "Smile", "Narrow_Eyes")]
    # .25 against .20 is a quarter of the smaller rate.
    slight = [replace(a, rate_if_round=0.25) if a.name == "Narrow_Eyes" else a for a in ATTRIBUTES]
    assert COLUMN["Narrow_Eyes"] in skewed_attributes(slight)
    assert COLUMN["Narrow_Eyes"] not in skewed_attributes(slight, min_relative_skew=0.3)


# --- the posterior --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("group_aware", [True, False])
def test_posterior_is_bayes_rule_on_numerical_densities(faces: Faces, group_aware: bool) -> None:
    posterior = faces.posterior(group_aware=group_aware).numpy()
    for row in range(0, 200):
        is_round = bool(faces.labels[row, 0])
        for column, a in enumerate(ATTRIBUTES):
            prior = a.rate_if_round if is_round else a.rate_if_not
            if not group_aware:
                prior = 0.42 * a.rate_if_round + 0.58 * a.rate_if_not
            z = float(faces.evidence[row, column])
            yes = prior * stats.norm.pdf(z, a.separability / 2)
            no = (1 - prior) * stats.norm.pdf(z, -a.separability / 2)
            assert posterior[row, column] == pytest.approx(yes / (yes + no), rel=1e-6, abs=1e-12)


@pytest.mark.parametrize("group_aware", [True, False])
def test_posterior_is_calibrated(faces: Faces, group_aware: bool) -> None:
    posterior = faces.posterior(group_aware=group_aware).flatten()
    labels = faces.labels.flatten()
    bins = (posterior * 10).long().clamp(max=9)
    for b in range(10):
        inside = bins == b
        expected, observed = posterior[inside].mean().item(), labels[inside].double().mean().item()
        error = np.sqrt(expected * (1 - expected) / inside.sum().item())
        assert abs(observed - expected) < 4 * error + 1e-4, f"bin {b}"


def test_only_the_group_aware_posterior_is_calibrated_within_groups(faces: Faces) -> None:
    not_round = faces.labels[:, 0] == 0
    stubble = COLUMN["Stubble"]
    true_rate = faces.labels[not_round, stubble].double().mean().item()
    aware = faces.posterior()[not_round, stubble].mean().item()
    blind = faces.posterior(group_aware=False)[not_round, stubble].mean().item()
    assert aware == pytest.approx(true_rate, abs=0.005)
    assert blind > true_rate + 0.005


def _predicted_rates(attribute: Attribute, group_aware: bool) -> dict[tuple[int, int], float]:
    """P(posterior > 1/2 | label, group) from the normal distribution function."""
    rates = {}
    for group, rate in ((1, attribute.rate_if_round), (0, attribute.rate_if_not)):
        prior = rate if group_aware else 0.42 * attribute.rate_if_round + 0.58 * attribute.rate_if_not
        cut = -np.log(prior / (1 - prior)) / attribute.separability
        for label in (0, 1):
            rates[label, group] = stats.norm.sf(cut - (2 * label - 1) * attribute.separability / 2)
    return rates


@pytest.mark.parametrize(("group_aware", "low", "high"), [(True, 0.004, 0.009), (False, -0.022, -0.014)])
def test_accuracy_and_bias_of_the_bayes_classifier_match_the_normal_distribution(
    faces: Faces, group_aware: bool, low: float, high: float
) -> None:
    predictions = faces.posterior(group_aware=group_aware) > 0.5
    amplification = []
    for column, a in enumerate(ATTRIBUTES):
        rates = _predicted_rates(a, group_aware)
        weight = {
            (1, 1): 0.42 * a.rate_if_round,
            (0, 1): 0.42 * (1 - a.rate_if_round),
            (1, 0): 0.58 * a.rate_if_not,
            (0, 0): 0.58 * (1 - a.rate_if_not),
        }
        accuracy = sum(w * (rates[key] if key[0] else 1 - rates[key]) for key, w in weight.items())
        measured = (predictions[:, column] == faces.labels[:, column]).double().mean().item()
        assert measured == pytest.approx(accuracy, abs=4 * np.sqrt(accuracy * (1 - accuracy) / N))
        if column in skewed_attributes():
            group = int(a.rate_if_round > a.rate_if_not)
            predicted = {g: sum(weight[y, g] * rates[y, g] for y in (0, 1)) for g in (0, 1)}
            share = predicted[group] / (predicted[0] + predicted[1])
            amplification.append(share - weight[1, group] / (weight[1, 0] + weight[1, 1]))
    # The group-blind classifier attenuates bias and the group-aware one hardly amplifies it.
    assert low < np.mean(amplification) < high
    member = faces.labels[:, 0] == 1
    measured_shares = []
    for column in skewed_attributes():
        a = ATTRIBUTES[column]
        over = member if a.rate_if_round > a.rate_if_not else ~member
        predicted_share = predictions[over, column].sum() / predictions[:, column].sum()
        measured_shares.append(float(predicted_share - faces.labels[over, column].sum() / faces.labels[:, column].sum()))
    assert np.mean(measured_shares) == pytest.approx(np.mean(amplification), abs=0.004)


def test_reference_floors_on_faces_of_default_difficulty(faces: Faces) -> None:
    posterior = faces.posterior()
    assert ((posterior > 0.5) == (faces.labels == 1)).double().mean().item() == pytest.approx(0.977, abs=0.002)
    assert ((posterior > 0.1) & (posterior < 0.9)).double().mean().item() == pytest.approx(0.068, abs=0.003)


# --- label noise and researchers' own rates -------------------------------------------------------------------------------


def test_label_noise_flips_labels_at_its_rate_and_changes_nothing_else() -> None:
    clean, noisy = make_faces(4000, seed=1), make_faces(4000, seed=1, label_noise=0.1)
    assert torch.equal(noisy.clean_labels, clean.labels)
    assert torch.equal(noisy.images, clean.images)
    assert torch.equal(noisy.posterior(), clean.posterior())
    flipped = noisy.labels != noisy.clean_labels
    for column in range(12):
        assert stats.binomtest(int(flipped[:, column].sum()), 4000, 0.1).pvalue > 1e-3
    assert abs(np.corrcoef(flipped.flatten(), clean.labels.flatten())[0, 1]) < 4 / np.sqrt(flipped.numel())


def test_label_noise_by_name_and_the_posterior_of_a_noisy_label() -> None:
    noisy = make_faces(4000, seed=1, label_noise={"Smile": 0.3})
    flipped = (noisy.labels != noisy.clean_labels).double().mean(0)
    assert flipped[COLUMN["Smile"]].item() == pytest.approx(0.3, abs=0.03)
    assert flipped.sum() == flipped[COLUMN["Smile"]]
    expected = (1 - 2 * 0.3) * noisy.posterior()[:, COLUMN["Smile"]] + 0.3
    confident = expected > 0.69
    assert noisy.labels[confident, COLUMN["Smile"]].double().mean().item() == pytest.approx(0.7, abs=0.04)


def test_rates_and_separabilities_can_be_replaced() -> None:
    rosy = COLUMN["Rosy"]
    changed = list(ATTRIBUTES)
    changed[0] = replace(ATTRIBUTES[0], rate_if_round=0.2, rate_if_not=0.2)
    changed[rosy] = replace(ATTRIBUTES[rosy], rate_if_round=0.9, rate_if_not=0.1, separability=0.0)
    faces = make_faces(4000, seed=3, attributes=changed)
    is_round = faces.labels[:, 0] == 1
    assert is_round.double().mean().item() == pytest.approx(0.2, abs=0.03)
    assert faces.labels[is_round, rosy].double().mean().item() == pytest.approx(0.9, abs=0.05)
    assert roc_auc_score(faces.labels[:, rosy], faces.evidence[:, rosy]) == pytest.approx(0.5, abs=0.04)
    # Evidence that separates nothing leaves the prior.
    assert torch.allclose(faces.posterior()[is_round, rosy], torch.tensor(0.9, dtype=torch.float64))


# --- the drawing ----------------------------------------------------------------------------------------------------------

# Where each attribute shows: top, bottom, left and right of a box on [-1, 1] with y down, RGB weights, and whether the
# weighted mean rises or falls with the evidence.
BOXES = {
    "Round": ((0.9, 1.0, -0.5, 0.5), (1, 0, -1), +1),  # shoulders from blue to orange
    "Smile": ((0.24, 0.36, 0.16, 0.24), (1, -1, 0), +1),  # red where the corner of a smile is
    "Glasses": ((-0.3, 0.14, -0.46, -0.36), (1, 1, 1), -1),  # dark frame beside the eye
    "Hat": ((-0.9, -0.6, -0.4, 0.4), (1, -2, 1), +1),  # purple
    "Light_Hair": ((-0.8, -0.6, -0.2, 0.2), (1, 1, 1), +1),
    "Big_Nose": ((0.06, 0.22, 0.08, 0.18), (1, 1, 1), -1),  # nose darker than the skin beside it
    "Oval": ((0.58, 0.72, -0.2, 0.2), (1, 1, 1), +1),  # skin where a short head has ended
    "Bushy_Brows": ((-0.42, -0.28, 0.12, 0.36), (1, 1, 1), -1),
    "Rosy": ((0.14, 0.26, 0.3, 0.42), (1, -1, 0), +1),
    "Stubble": ((0.46, 0.55, -0.2, 0.2), (1, 1, 1), -1),
    "Earrings": ((0.18, 0.3, 0.52, 0.68), (-2, 1, 1), +1),  # turquoise
    "Narrow_Eyes": ((-0.3, 0.14, 0.2, 0.28), (1, 1, 1), +1),  # skin where the pupil was
}


def _sweep(name: str, image_size: int) -> torch.Tensor:
    evidence = torch.full((15, 12), -2.0)
    evidence[:, 0] = 0.0
    evidence[:, COLUMN[name]] = torch.linspace(-3.5, 3.5, 15)
    return render_faces(evidence, Nuisances.typical(15), image_size=image_size).double()


@pytest.mark.parametrize("image_size", [32, 48, 64])
@pytest.mark.parametrize("name", BOXES)
def test_each_attribute_moves_its_own_property_monotonically(name: str, image_size: int) -> None:
    box, weights, sign = BOXES[name]
    top, bottom, left, right = (round((edge + 1) / 2 * image_size) for edge in box)
    images = _sweep(name, image_size)
    region = images[:, :, top : max(bottom, top + 1), left : max(right, left + 1)].mean((2, 3))
    value = sign * (region @ torch.tensor(weights, dtype=torch.float64))
    assert (value.diff() >= -1.0).all(), value  # one level: rounding to integers, summed over weighted channels
    assert value[-1] - value[0] > 20.0, value


def test_every_attribute_can_be_read_off_noisy_images(faces: Faces) -> None:
    """A linear probe, which knows nothing of the drawing, comes near what the evidence itself allows."""
    pixels = faces.images[:3000].reshape(3000, -1).numpy().astype(np.float32) / 255
    labels = faces.labels[:3000].numpy()
    scores = Ridge(alpha=30.0).fit(pixels[:2400], labels[:2400]).predict(pixels[2400:])
    for column, attribute in enumerate(ATTRIBUTES):
        by_probe = roc_auc_score(labels[2400:, column], scores[:, column])
        by_evidence = roc_auc_score(labels[2400:, column], faces.evidence[2400:3000, column])
        assert by_probe > by_evidence - 0.04, attribute.name


def test_render_changes_no_argument_and_accepts_double_evidence() -> None:
    evidence = torch.zeros(2, 12, dtype=torch.float64)
    nuisances = Nuisances.typical(2)
    before = nuisances.background.clone()
    images = render_faces(evidence, nuisances)
    assert torch.equal(evidence, torch.zeros(2, 12, dtype=torch.float64))
    assert torch.equal(nuisances.background, before)
    assert torch.equal(images, render_faces(evidence.float(), nuisances))


def test_nuisances_of_one_face_can_be_repeated(faces: Faces) -> None:
    versions = faces.nuisances.take((7, 7, 7))
    assert len(versions) == 3
    assert torch.equal(versions.background, faces.nuisances.background[7].expand(3, 3))
    evidence = faces.evidence[[7, 7, 7]].clone()
    evidence[:, COLUMN["Hat"]] = torch.tensor([-3.0, -3.0, 3.0])
    images = render_faces(evidence, versions)
    assert torch.equal(images[0], images[1])
    changed = (images[2] != images[1]).any(0)
    assert changed[:10].any()
    assert not changed[12:].any()  # a hat leaves the lower face alone


# --- reproducibility ------------------------------------------------------------------------------------------------------


def _sha256(labels: torch.Tensor) -> str:
    return hashlib.sha256(labels.numpy().astype(np.uint8).tobytes()).hexdigest()


def test_labels_have_a_fixed_hash() -> None:
    faces = make_faces(1000, seed=0, label_noise=0.1)
    assert _sha256(faces.clean_labels) == "a680ca2a74622f6dc78f3e6088e8bd15a30c4b6fbe8a228fb25e58621980974d"
    assert _sha256(faces.labels) == "ba5f7e4f2cf94a94edd9fb624ae732fadcb24125adca4801f25de44278489938"


def test_images_and_evidence_have_fixed_values_up_to_rounding() -> None:
    faces = make_faces(1000, seed=0)
    assert faces.evidence[999, :4].tolist() == pytest.approx([2.7411764, 1.5597206, -4.0671010, -4.0744643], abs=1e-5)
    # Means over the quadrants of three images, per channel, in levels of 255.
    quadrants = faces.images[[0, 1, 999]].double().reshape(3, 3, 2, 16, 2, 16).mean((3, 5)).reshape(3, 12)
    expected = [
        [93, 89, 99, 96, 78, 74, 88, 86, 66, 66, 100, 94],
        [154, 160, 116, 117, 130, 135, 100, 100, 127, 125, 145, 145],
        [129, 130, 142, 145, 110, 112, 114, 113, 68, 70, 73, 75],
    ]
    assert torch.allclose(quadrants, torch.tensor(expected, dtype=torch.float64), rtol=0, atol=1.0)


def test_same_seed_same_faces_and_other_seed_other_faces() -> None:
    first, again, other = (make_faces(50, seed=seed) for seed in (4, 4, 5))
    assert torch.equal(first.images, again.images)
    assert not torch.equal(first.labels, other.labels)


def test_a_larger_set_extends_a_smaller_one() -> None:
    # 48 px: the number of pixels in an image and the chunk length divide neither one another nor the sizes here.
    small, large = make_faces(37, seed=6, image_size=48), make_faces(260, seed=6, image_size=48)
    assert torch.equal(small.labels, large.labels[:37])
    assert torch.equal(small.evidence, large.evidence[:37])
    assert torch.equal(small.images, large.images[:37])


def test_chunks_leave_no_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = make_faces(40, seed=8, image_size=33)
    monkeypatch.setattr(drawing, "_CHUNK_PIXELS", 7 * 33**2)
    assert torch.equal(make_faces(40, seed=8, image_size=33).images, whole.images)
    monkeypatch.setattr(drawing, "_CHUNK_PIXELS", 1)
    assert torch.equal(make_faces(40, seed=8, image_size=33).images, whole.images)


def test_labels_and_nuisances_do_not_depend_on_the_image_size() -> None:
    small, large = make_faces(20, seed=9), make_faces(20, seed=9, image_size=64)
    assert large.images.shape == (20, 3, 64, 64)
    assert torch.equal(small.evidence, large.evidence)
    assert torch.equal(small.nuisances.shift, large.nuisances.shift)
    # The same faces at twice the resolution: pooled, they agree up to noise and edges.
    pooled = torch.nn.functional.avg_pool2d(large.images.double(), 2)
    assert (pooled - small.images.double()).abs().mean() < 10


def test_global_random_states_are_neither_read_nor_changed() -> None:
    torch.manual_seed(0)
    first = make_faces(10, seed=1)
    state = torch.get_rng_state()
    torch.manual_seed(123)
    before = torch.get_rng_state()
    second = make_faces(10, seed=1)
    assert torch.equal(torch.get_rng_state(), before)
    assert not torch.equal(state, before)
    assert torch.equal(first.images, second.images)


# --- splits and loaders ---------------------------------------------------------------------------------------------------


def test_splits_are_independent_of_one_another_and_of_their_sizes() -> None:
    splits = make_face_splits(300, 200, 100, seed=0)
    assert [len(split) for split in splits] == [300, 200, 100]
    resized = make_face_splits(10, 200, 1, seed=0)
    assert torch.equal(resized.val.images, splits.val.images)
    assert torch.equal(resized.test.images, splits.test.images[:1])
    sets = [*splits, make_faces(300, seed=0)]
    for i, one in enumerate(sets):
        for other in sets[i + 1 :]:
            m = min(len(one), len(other))
            correlation = np.corrcoef(one.evidence[:m, 0], other.evidence[:m, 0])[0, 1]
            assert abs(correlation) < 4 / np.sqrt(m)


def test_splits_pass_their_options_on() -> None:
    easy = [replace(a, separability=8.0) for a in ATTRIBUTES]
    splits = make_face_splits(20, 20, 20, seed=0, image_size=40, attributes=easy, label_noise=0.2)
    for split in splits:
        assert split.images.shape[-1] == 40
        assert split.attributes == tuple(easy)
        assert not torch.equal(split.labels, split.clean_labels)


def test_faces_feed_a_data_loader(faces: Faces) -> None:
    few = make_faces(10, seed=0)
    images, labels = next(iter(DataLoader(few, batch_size=4)))
    assert torch.equal(images, few.images[:4])
    assert torch.equal(labels, few.labels[:4])
    assert len(TensorDataset(few.images, few.labels)) == len(few)


# --- errors ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n": 0}, "n=0: must be at least 1"),
        ({"n": 2.0}, "n=2.0: must be a whole number"),
        ({"n": True}, "n=True: must be a whole number"),
        ({"seed": -1}, "seed=-1: must be at least 0"),
        ({"seed": "0"}, "seed='0': must be a whole number"),
        ({"image_size": 31}, "image_size=31: must be from 32 to 64"),
        ({"image_size": 65}, "image_size=65: must be from 32 to 64"),
        ({"label_noise": 0.5}, "label_noise is 0.5"),
        ({"label_noise": -0.1}, "at least 0 and below .5"),
        ({"label_noise": float("nan")}, "label_noise is nan"),
        ({"label_noise": {"Smiling": 0.1}}, r"label_noise names \['Smiling'\], but the attributes are"),
        ({"attributes": ATTRIBUTES[1:]}, "in this order"),
        ({"attributes": (replace(ATTRIBUTES[0], rate_if_not=0.1), *ATTRIBUTES[1:])}, "base rate"),
    ],
)
def test_bad_arguments_are_refused(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_faces(**({"n": 4, "seed": 0} | arguments))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rate_if_round": 0.0}, "rate_if_round=0.0: must be above 0"),
        ({"rate_if_not": 1.0}, "rate_if_not=1.0: must be below 1"),
        ({"separability": -1.0}, "separability=-1.0: must be at least 0"),
        ({"separability": float("inf")}, "must be finite"),
    ],
)
def test_impossible_attributes_are_refused(changes: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(ATTRIBUTES[COLUMN["Rosy"]], **changes)


@pytest.mark.parametrize(
    ("evidence", "n", "message"),
    [
        (torch.zeros(2, 11), 2, r"must be \(n, 12\)"),
        (torch.zeros(12), 1, r"must be \(n, 12\)"),
        (torch.zeros(2, 12), 3, "for 2 faces and nuisances for 3"),
        (torch.full((1, 12), float("nan")), 1, "finite"),
    ],
)
def test_render_refuses_what_does_not_fit(evidence: torch.Tensor, n: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        render_faces(evidence, Nuisances.typical(n))
