"""Answers that shift, branch or are inverted: class priors that move with the hour, several outcomes, a simulator run backwards."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from scipy import ndimage, special
from torch import Tensor, nn
from torch.nn import functional

from effnotes.studies.notes.common import Rows, descend, digits, padded

HOURS, DAYS, BATCH = 24, 3, 50


def limes(seed: int) -> Rows:
    """Classify a stream whose class priors go round with the hour, by one model with several priors added to its logits."""
    data, draw = digits(seed), np.random.default_rng(seed)
    priors = special.softmax(2 * np.cos(2 * np.pi * (np.arange(HOURS)[:, None] / HOURS - np.arange(10) / 10)), axis=1)

    def batch(x: Any, y: Any, hour: int, n: int) -> tuple[Any, Any]:
        wanted = draw.choice(10, n, p=priors[hour])
        at = np.array([draw.choice(np.flatnonzero(y == each)) for each in wanted])
        return padded(x[at] + 0.4 * draw.normal(size=(n, 64))), wanted

    def log_prior(y: Any) -> Any:
        return np.log((np.bincount(y, minlength=10) + 0.5) / (len(y) + 5))  # smoothed

    stream = [batch(data.x, data.y, step % HOURS, BATCH) for step in range(DAYS * HOURS)]
    x, y = (np.concatenate(part) for part in zip(*stream, strict=True))
    offsets = np.repeat([log_prior(labels) for _, labels in stream], BATCH, axis=0)
    plain, shifted = np.zeros((65, 10)), np.zeros((65, 10))
    for _ in range(200):
        plain -= 0.5 * x.T @ (special.softmax(x @ plain, axis=1) - np.eye(10)[y]) / len(y)
        shifted -= 0.5 * x.T @ (special.softmax(x @ shifted + offsets, axis=1) - np.eye(10)[y]) / len(y)
    last, rows = log_prior(stream[-1][1]), []
    for hour in range(HOURS):
        x, y = batch(data.test_x, data.test_y, hour, 300)
        same = log_prior(np.concatenate([labels for _, labels in stream[hour::HOURS]]))
        known = {"last hour's prior": last, "prior of this hour before": same, "true prior": np.log(priors[hour])}
        found = {name: float(((x @ shifted + prior).argmax(1) == y).mean()) for name, prior in known.items()}
        found["no adaptation"] = float(((x @ plain).argmax(1) == y).mean())
        rows += [{"hour": hour, "method": name, "accuracy": value} for name, value in found.items()]
        last = log_prior(y[:BATCH])
    return rows


def modes(seed: int, steps: int) -> Rows:
    """Locate words that each name one of two cities, and run a chaotic map backwards, with one outcome and with two."""
    draw, rows = np.random.default_rng(seed), []
    cities, words = torch.tensor(draw.normal(size=(40, 2, 2))).float(), torch.tensor(draw.integers(40, size=4000))
    places = (
        cities[words, torch.tensor((draw.random(4000) < 0.35).astype(int))]
        + 0.05 * torch.tensor(draw.normal(size=(4000, 2))).float()
    )
    series = [draw.random()]
    for _ in range(2000):
        series.append(4 * series[-1] * (1 - series[-1]))
    now, before = torch.tensor(series[1:]).float()[:, None], torch.tensor(series[:-1]).float()[:, None]
    for k in (1, 2):
        torch.manual_seed(seed)
        table = nn.Embedding(40, 4 * k)  # a mean, a weight and a variance of each outcome

        def located(k: int = k, table: nn.Embedding = table) -> tuple[Tensor, Tensor, Tensor]:
            parts = table(words).unflatten(1, (k, 4))
            gaps, variance = ((parts[..., :2] - places[:, None]) ** 2).sum(2), functional.softplus(parts[..., 3]) + 1e-3
            return gaps, variance, torch.log_softmax(parts[..., 2], 1)

        def surprise() -> Tensor:
            gaps, variance, weight = located()
            return -torch.logsumexp(weight - gaps / (2 * variance) - variance.log(), 1).mean()

        descend(table.parameters(), surprise, steps, 0.05)
        gaps, _, weight = located()
        errors = gaps.detach()[torch.arange(len(words)), weight.argmax(1)].sqrt()
        rows += [{"outcomes": k, "of": f"{name} error", "value": float(getattr(errors, name)())} for name in ("median", "mean")]
        net = nn.Sequential(nn.Linear(1, 32), nn.Tanh(), nn.Linear(32, 32), nn.Tanh(), nn.Linear(32, k))
        descend(net.parameters(), lambda: ((net(now[:1500]) - before[:1500]) ** 2).amin(1).mean(), steps, 0.01)  # noqa: B023
        guesses = {"R² of the model": net(now[1500:]).detach(), "R² of guesses": before[draw.integers(1500, size=(500, k)), 0]}
        spread = before[1500:].var()
        found = {name: float(1 - ((each - before[1500:]) ** 2).amin(1).mean() / spread) for name, each in guesses.items()}
        rows += [{"outcomes": k, "of": name, "value": value} for name, value in found.items()]
    return rows


def density_of_states(hoppings: Any, bins: int = 48) -> Any:
    """Smoothed density of states (n, bins) over [-6, 6] of chains with energies -2 sum_j t_j cos(j k), for t (n, 3)."""
    energies = -2 * hoppings @ np.cos(np.arange(1, 4)[:, None] * np.linspace(0, np.pi, 2000))
    counted = np.stack([np.histogram(each, bins, (-6, 6), density=True)[0] for each in energies])
    return ndimage.gaussian_filter1d(counted, 1.5, axis=1).astype(np.float32)


def bands(seed: int, steps: int, known: int = 300, sought: int = 20) -> Rows:
    """Learn the simulator by a network, freeze it, and find the hoppings of unseen chains by gradient descent from many starts."""
    draw, rows = np.random.default_rng(seed), []
    hoppings = (draw.random((known + sought, 3)) * [0.9, 0.8, 0.6] + [0.3, -0.4, -0.3]).astype(np.float32)
    states = density_of_states(hoppings)
    inputs, targets = torch.from_numpy(hoppings[:known]), torch.from_numpy(states)
    torch.manual_seed(seed)
    net = nn.Sequential(nn.Linear(3, 128), nn.Tanh(), nn.Linear(128, 128), nn.Tanh(), nn.Linear(128, states.shape[1]))
    descend(net.parameters(), lambda: functional.mse_loss(net(inputs), targets[:known]), steps, 1e-2)
    starts = inputs[draw.integers(known, size=(sought, 12))].requires_grad_()
    descend([starts], lambda: ((net(starts) - targets[known:, None]) ** 2).mean(2).sum(), 150, 0.03)
    best = ((net(starts) - targets[known:, None]) ** 2).mean(2).argmin(1)
    nearest = ((states[None, :known] - states[known:, None]) ** 2).sum(2).argmin(1)
    found = {"inverted surrogate": starts.detach()[torch.arange(sought), best].numpy(), "nearest known chain": hoppings[nearest]}
    for name, each in found.items():
        error = np.abs(each - hoppings[known:]).mean(1)
        gap = np.abs(density_of_states(each) - states[known:]).mean(1)  # by the true simulator
        rows += [{"by": name, "error": float(e), "gap of densities": float(g)} for e, g in zip(error, gap, strict=True)]
    return rows
