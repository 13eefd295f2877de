"""The notes: what they take from the library against other ways to compute it, and what decides their verdicts."""

import itertools
import math

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import optimize, stats
from torch import nn

from effnotes.metrics.guarantees import certified_radius, meta_bound, sep_score
from effnotes.models.lipschitz import AOL, MaxMin, NActivation, constrain, lipschitz_bound
from effnotes.reporting.claims import load_register
from effnotes.studies import notes
from effnotes.studies.notes import compression, experiment, outputs, owners
from effnotes.studies.notes.figures import DRAWINGS, draw
from effnotes.training import private

STEPS = dict.fromkeys([*experiment.TRAINED, "collapse"], 2)


@pytest.mark.parametrize("constraint", ["aol", "bjorck", "cayley"])
def test_a_constrained_layer_never_stretches_and_keeps_to_it_when_trained(constraint):
    torch.manual_seed(0)
    layer = constrain(nn.Linear(12, 12), constraint)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
    for _ in range(20):
        assert torch.linalg.svdvals(layer.weight).max() <= 1 + 1e-5
        optimizer.zero_grad()
        layer(torch.randn(8, 12)).square().sum().backward()
        optimizer.step()
    if constraint == "cayley":
        assert torch.allclose(layer.weight.T @ layer.weight, torch.eye(12), atol=1e-5)


def test_aol_holds_for_any_mask_that_comes_before_its_rescaling():
    weight = torch.randn(30, 20, generator=torch.Generator().manual_seed(1))
    expected = weight / torch.tensor([sum(abs(float(weight[:, i] @ weight[:, j])) for j in range(20)) ** 0.5 for i in range(20)])
    assert torch.allclose(AOL()(weight), expected, rtol=1e-4)
    for threshold in (0.0, 0.5, 1.0, 2.0):
        assert torch.linalg.matrix_norm(AOL()(weight * (weight.abs() > threshold)), ord=2) <= 1 + 1e-6


def test_layers_that_cannot_be_constrained_are_refused():
    with pytest.raises(ValueError, match="must be square"):
        constrain(nn.Linear(3, 4), "cayley")
    with pytest.raises(ValueError, match="constraint='aoll'"):
        constrain(nn.Linear(3, 3), "aoll")  # type: ignore[arg-type]


def test_activations_have_slopes_of_one_and_no_jumps():
    x = torch.linspace(-5, 5, 10_001)[:, None]
    n = NActivation(1)
    n.thresholds.data = torch.tensor([[1.5], [-0.5]])  # in either order
    steps = (n(x)[1:] - n(x)[:-1]) / (x[1:] - x[:-1])
    assert steps.abs().max() <= 1 + 1e-3
    assert (steps.abs() > 0.99).float().mean() > 0.999
    assert n(torch.tensor([[-2.0]])).item() == pytest.approx(-1.0)
    assert torch.equal(MaxMin()(torch.tensor([[1.0, 3.0, 2.0, -1.0]])), torch.tensor([[3.0, 2.0, 1.0, -1.0]]))
    start = NActivation(2)(torch.tensor([[-2.0, -2.0], [3.0, 3.0]]))
    assert torch.equal(start.detach(), torch.tensor([[2.0, -2.0], [3.0, 3.0]])) or torch.equal(
        start.abs(), torch.tensor([[2.0, 2.0], [3.0, 3.0]])
    )


def test_no_attack_within_the_radius_changes_an_answer_and_one_beyond_it_does():
    torch.manual_seed(3)
    model = nn.Sequential(constrain(nn.Linear(2, 2), "cayley"), constrain(nn.Linear(2, 2), "cayley"))
    x = torch.randn(50, 2)
    labels = model(x).argmax(1)
    radii = certified_radius(model(x).detach().numpy(), labels.numpy(), lipschitz_bound(model))
    angles = torch.linspace(0, 2 * math.pi, 721)
    circle = torch.stack([angles.cos(), angles.sin()], 1)
    for scale, safe in ((0.99, True), (1.01, False)):  # two orthogonal logits: the bound is reached
        kept = [
            bool((model(point + scale * float(r) * circle).argmax(1) == label).all())
            for point, r, label in zip(x, radii, labels, strict=True)
        ]
        assert all(kept) if safe else not any(kept)
    assert certified_radius([[1.0, 0.0]], [1])[0] < 0


def test_sep_counts_executed_probes_alone():
    assert sep_score([0, 1, 0, 1], [1, 1, 0, 0]) == (0.5, 0.5)
    score, utility = sep_score([0, 0], [0, 0])
    assert math.isnan(score)
    assert utility == 0


def test_the_bound_is_the_formula_and_holds_for_a_mean_of_coins():
    n, m, kl, hyper, delta = 7, 11, 0.3, 1.7, 0.05
    second = math.sqrt((hyper + math.log(2 * n**0.5 / delta)) / 14)
    assert meta_bound(0.2, kl, hyper, n, m, delta) == pytest.approx(
        0.2 + math.sqrt((kl + (hyper + math.log(12320) + 1) / 7) / 22) + second
    )
    draw = np.random.default_rng(0)
    for _ in range(100):  # with no divergence it must cover the mean of tasks' risks
        risks = draw.beta(2, 3, 30)
        assert meta_bound(draw.binomial(20, risks).mean() / 20, 0.0, 0.0, 30, 20) > 0.4
    with pytest.raises(ValueError, match="tasks=0"):
        meta_bound(0.1, 0, 0, 0, 1)


@pytest.mark.parametrize(("alpha", "beta"), [(1.0, 0.0), (1.0, 0.9), (0.99, 0.5)])
def test_the_root_of_the_workload_is_its_root(alpha, beta):
    steps = 60
    lower = np.array([[alpha ** (i - j) if i >= j else 0.0 for j in range(steps)] for i in range(steps)])
    with_momentum = lower @ np.array([[beta ** (i - j) if i >= j else 0.0 for j in range(steps)] for i in range(steps)])
    a, c = private.workload(steps, alpha, beta), private.banded_root(steps, steps, alpha, beta)
    matrix = np.array([[c[i - j] if i >= j else 0.0 for j in range(steps)] for i in range(steps)])
    assert np.allclose(with_momentum[:, 0], a)
    assert np.allclose(matrix @ matrix, with_momentum, atol=1e-8)


def test_sensitivity_error_and_noise_are_those_of_the_matrices():
    steps, epochs, apart = 24, 3, 8
    c = private.banded_root(steps, 5, beta=0.6)
    matrix, a = (
        np.array([[col[i - j] if i >= j else 0.0 for j in range(steps)] for i in range(steps)])
        for col in (c, private.workload(steps, 1, 0.6))
    )
    # The worst of all ways to take part, gradients at their bound and of either sign.
    ways = [
        at
        for k in (1, 2, 3)
        for at in itertools.combinations(range(steps), k)
        if all(b - a >= apart for a, b in itertools.pairwise(at))
    ]
    worst = max(
        np.linalg.norm(matrix[:, list(at)] @ np.array(signs)) for at in ways for signs in itertools.product((1, -1), repeat=len(at))
    )
    sens = private.sensitivity(c, epochs, apart)
    assert sens == pytest.approx(worst)
    assert private.expected_error(a[:, 0], c, sens) == pytest.approx(np.linalg.norm(a @ np.linalg.inv(matrix)) * sens / steps**0.5)
    z = np.random.default_rng(0).normal(size=(steps, 2))
    assert np.allclose(matrix @ private.correlated(z, c), z)
    with pytest.raises(ValueError, match="band=25"):
        private.banded_root(steps, 25)
    with pytest.raises(ValueError, match="must not rise"):
        private.sensitivity(np.array([1.0, 2.0]), 1, 1)


def test_the_noise_gives_the_privacy_that_was_asked_for():
    sigma = private.noise_multiplier(1.0, 1e-5)
    # The divergence of two Gaussians by its integral.
    x = np.linspace(-40, 40, 400_001)
    excess = np.maximum(stats.norm.pdf(x, 1, sigma) - math.e * stats.norm.pdf(x, 0, sigma), 0)
    assert np.trapezoid(excess, x) == pytest.approx(1e-5, rel=1e-2)


def test_collapse_costs_what_a_collapsed_network_costs():
    def loss(q: float) -> float:
        parts = [np.eye(4) * q] * 4  # H and three layers, whose ReLU changes nothing
        out = np.linalg.multi_dot(parts)
        return ((out - np.eye(4)) ** 2).sum() / 8 + compression.DECAY / 2 * sum((part**2).sum() for part in parts)

    best = min(loss(0.0), optimize.minimize_scalar(loss, bounds=(0.3, 1.2), method="bounded").fun)
    assert compression.collapsed_loss(4, 3) == pytest.approx(best, abs=1e-9)


def test_prompts_have_their_probe_where_it_is_said_and_their_answers_right():
    draw = np.random.default_rng(0)
    for place in ("instruction", "data", None):
        tokens, roles, answers = (each.numpy() for each in compression.prompts(40, place, draw))
        for row, kinds, (answer, probe) in zip(tokens, roles, answers, strict=True):
            numbers, task = [token for token in row if token < 10], next(token - 10 for token in row if 10 <= token < 14)
            assert answer == [numbers[0], numbers[-1], max(numbers), min(numbers)][task]
            found = [(int(token) - 14, int(kind)) for token, kind in zip(row, kinds, strict=True) if 14 <= token < 19]
            assert found == ([(probe, 1 if place == "instruction" else 2)] if place else [])
    assert len({tuple(row.nonzero()[0]) for row in roles}) > 3, "blocks stand at many places"


def test_a_quantised_model_is_right_until_it_is_too_far_away():
    draw = np.random.default_rng(0)
    x = draw.normal(size=1000)
    for bits in (8, 10):
        reach = owners.SCALE * (2**bits - 1) / 2
        near = owners.quantised(x, x + draw.uniform(-0.99, 0.99, 1000) * (reach - owners.SCALE), bits)
        assert np.abs(near - x).max() <= owners.SCALE / 2 + 1e-9
        assert np.abs(owners.quantised(x, x + 1.2 * reach, bits) - x).min() > reach


def test_labels_spread_as_the_closed_form_says():
    draw = np.random.default_rng(0)
    z = np.concatenate([draw.normal(size=(30, 5)) + 3 * np.eye(5)[each] for each in range(3)])
    z /= np.linalg.norm(z, axis=1, keepdims=True)
    labels = np.full(90, -1)
    labels[::10] = np.repeat(range(3), 3)
    similarity = z @ z.T
    weights = np.zeros((90, 90))
    for row in range(90):
        order = [at for at in np.argsort(-similarity[row]) if at != row][:10]
        weights[row, order] = np.maximum(similarity[row, order], 0) ** 3
    weights = weights + weights.T
    scaled = weights / np.sqrt(np.outer(weights.sum(0), weights.sum(0)))
    expected = np.linalg.solve(np.eye(90) - 0.99 * scaled, np.eye(4)[labels][:, :3]).argmax(1)
    found = owners.propagate(similarity, labels)
    assert (found == expected).mean() > 0.95


def test_the_mixture_s_probabilities_add_up_and_its_parameters_are_found():
    counts = np.array([c for c in itertools.product(range(6), repeat=3) if sum(c) == 5])
    alphas, shares = np.array([[0.5, 1.0, 2.0], [3.0, 0.2, 1.0]]), np.array([0.3, 0.7])
    each = owners.log_likelihood(counts, alphas, shares)
    assert np.exp(each).sum() == pytest.approx(1)
    one = [stats.dirichlet_multinomial(alphas[0], 5).logpmf(row) + math.log(0.3) for row in counts]
    assert np.allclose(each[:, 0], one)
    draw = np.random.default_rng(0)
    drawn = np.stack([draw.multinomial(60, draw.dirichlet(alphas[0])) for _ in range(500)])
    assert np.allclose(owners.fit_mixture(drawn, 1, draw)[0][0], alphas[0], rtol=0.15)


def test_the_density_of_states_is_that_of_the_chain():
    states = outputs.density_of_states(np.array([[1.0, 0.0, 0.0]]))[0]
    width = 12 / 48
    assert states.sum() * width == pytest.approx(1, abs=1e-5)
    middle = states[24] + states[23]
    assert middle / 2 == pytest.approx(1 / (2 * math.pi), rel=0.05)  # 1 / (pi sqrt(4 t^2 - E^2)) at E = 0


@pytest.fixture(scope="module")
def result():
    return notes.run(notes.plan(seeds=[1], sep_seeds=[1], steps=STEPS))


def test_every_claim_is_measured_and_every_note_drawn_and_said(result):
    measured = notes.measure(result)
    registered = [name for name, claim in load_register().items() if claim.chapter == "notes"]
    assert sorted(f"notes.{name}" for name in measured) == sorted(registered)
    tables = result | {"owners": experiment.recall_by_owner(result["quafl"])}
    assert {"activations", *DRAWINGS} == set(tables)
    for name in DRAWINGS:
        (axes,) = draw(name, tables[name]).axes
        assert axes.get_ylabel()
    for each in measured.values():
        assert experiment.judged(each.to_json()).endswith(").") or each.estimate is None


def test_recall_by_owner_is_that_of_the_last_moment_and_lies_around_the_accuracy(result):
    courses = result["quafl"]
    recall = experiment.recall_by_owner(courses).pivot(index="method", columns="whose digits", values="recall")
    last = courses[courses["time"] == 600].set_index("method")
    # Each digit belongs to a slow or a fast client, and the test digits are spread nearly as those are.
    between = recall.min(axis=1).sub(0.02).le(last["accuracy"]) & recall.max(axis=1).add(0.02).ge(last["accuracy"])
    assert between.all()
    gap = recall.loc["FedAvg", "fast clients"] - recall.loc["FedAvg", "slow clients"]
    shown = f"{gap:.2f}".replace("-", "−")
    assert f"FedAvg {shown} ({shown} to {shown})" in experiment.of_owners(experiment.recall_by_owner(courses))


def test_effects_are_the_differences_that_the_register_names(result):
    made = dict(result)
    rows = [("tags", 1.0, 0.4), ("tags and roles", 0.9, 0.8)]
    made["sep"] = pd.DataFrame(
        [
            {"seed": 1, "arm": arm, "stage": stage, "sep": sep}
            for arm, *both in rows
            for stage, sep in zip(("dense", "pruned"), both, strict=True)
        ]
    )
    sizes, shares = (75, 300, 1200), {"certified": (0.2, 0.4, 0.6), "accuracy": (0.7, 0.8, 0.9)}
    made["samples"] = pd.DataFrame(
        [{"seed": 1, "of": of, "size": n, "share": s} for of, found in shares.items() for n, s in zip(sizes, found, strict=True)]
    )
    hours = {"no adaptation": (0.9, 0.2), "prior of this hour before": (0.5, 0.6), "last hour's prior": (0.55, 0.6)}
    made["limes"] = pd.DataFrame(
        [{"seed": 1, "method": m, "hour": h, "accuracy": a} for m, found in hours.items() for h, a in enumerate(found)]
    )
    found = {name: each.tolist() for name, each in experiment.effects(made).items()}
    assert found["pruning-removes-separation"] == pytest.approx([0.5])
    assert found["robust-needs-more-data"] == pytest.approx([0.1 - 0.05])
    assert found["worst-hour-better"] == pytest.approx([0.3])
    assert found["extrapolation-beats-last"] == pytest.approx([-0.05])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seeds": []}, "seeds=\\(\\): must be at least 1 long"),
        ({"sep_seeds": [1, 1]}, "give each seed once"),
        ({"steps": {**STEPS, "sepp": 1}}, "'sepp'.*Did you mean|steps='sepp'"),
        ({"steps": {"sep": 1}}, "also give those of lipschitz"),
        ({"steps": {**STEPS, "sep": 0}}, "must be at least 1"),
    ],
)
def test_what_cannot_work_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        notes.plan(**{"seeds": [1], "sep_seeds": [1], "steps": STEPS} | change)
