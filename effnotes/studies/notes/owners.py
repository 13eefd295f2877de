"""Data of many owners that stay where they are: asynchronous averaging, personal models, shared labels, and simulated clients."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from scipy import special
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import kneighbors_graph
from sklearn.semi_supervised import LabelSpreading
from torch import Tensor, nn
from torch.nn import functional

from effnotes.studies.notes.common import Digits, Rows, descend, digits, padded

SCALE, CLIENTS = 1e-3, 20  # of the lattice that QuAFL rounds to, and how many there are
METHODS = {"FedAvg": 0, "QuAFL, 32 bits": 32, "QuAFL, 14 bits": 14, "QuAFL, 10 bits": 10, "QuAFL, 8 bits": 8}


def quantised(x: Any, key: Any, bits: int) -> Any:
    """Send x / SCALE modulo 2^bits, decoded near a key: right to SCALE / 2 where |x - key| < SCALE (2^bits - 1) / 2."""
    if bits == 32:
        return x
    q = 2**bits
    sent = np.round(x / SCALE) % q
    return SCALE * sent + SCALE * q * np.round(key / (SCALE * q) - sent / q)


def quafl(seed: int) -> Rows:
    """Average clients, half of them four times slower, by FedAvg and by QuAFL with messages of several sizes.

    Labels are skewed by Dirichlet(0.3). A step takes an exponential time of mean 2 or 8, a message of 32 bits takes 10, and
    fewer bits take as much less: this model of time is an assumption. FedAvg waits for the slowest of its five clients.
    Beside the accuracy stands the recall of the digits, weighed as the slow clients hold them and as the fast ones do.
    """
    data, times = digits(seed), np.arange(60.0, 601.0, 60.0)
    shares = np.random.default_rng(seed).dirichlet(np.full(CLIENTS, 0.3), size=10)
    rows: Rows = []
    for name, bits in METHODS.items():
        done = _course(data, shares, bits, seed, times[-1])
        # What a round gave counts until the next one is done.
        found = [([(0.0, 0.1, 0.1, 0.1)] + [each for each in done if each[0] <= time])[-1][1:] for time in times]
        columns = ("accuracy", "slow clients", "fast clients")
        rows += [
            {"method": name, "time": float(time), **dict(zip(columns, each, strict=True))}
            for time, each in zip(times, found, strict=True)
        ]
    return rows


def _course(data: Digits, shares: Any, bits: int, seed: int, horizon: float) -> list[tuple[float, ...]]:
    """Time, accuracy and recall as slow and as fast clients' digits weigh after each round of one method; no bits are FedAvg."""
    draw, x, test_x, y = np.random.default_rng(seed), padded(data.x), padded(data.test_x), np.eye(10)[data.y]
    owner = np.array([draw.choice(CLIENTS, p=shares[label]) for label in data.y])
    owned, pace = [np.flatnonzero(owner == client) for client in range(CLIENTS)], np.where(np.arange(CLIENTS) % 2, 8.0, 2.0)
    held = [np.bincount(data.y[pace[owner] == mean], minlength=10) for mean in (8.0, 2.0)]
    server, clients, last = np.zeros((65, 10)), np.zeros((CLIENTS, 65, 10)), np.zeros(CLIENTS)
    clock, found = 0.0, list[tuple[float, ...]]()

    def local(model: Any, client: int, steps: int, rate: float) -> Any:
        for _ in range(steps if len(owned[client]) else 0):
            at = draw.choice(owned[client], 20)
            model = model - rate * x[at].T @ (special.softmax(x[at] @ model, axis=1) - y[at]) / 20
        return model

    while True:
        chosen = draw.choice(CLIENTS, 5, replace=False)
        clock += 10 * bits / 32 if bits else 10 + max(draw.gamma(5, pace[chosen]))
        if clock > horizon:
            return found
        if bits:
            steps = np.minimum(5, draw.poisson((clock - last[chosen]) / pace[chosen]))
            moved = np.array([local(clients[client], client, n, 0.6) for client, n in zip(chosen, steps, strict=True)])
            clients[chosen] = (quantised(server, moved, bits) + 5 * moved) / 6
            server, last[chosen] = (server + quantised(moved, server, bits).sum(0)) / 6, clock
        else:
            server = np.mean([local(server, client, 5, 0.5) for client in chosen], axis=0)
        right = (test_x @ server).argmax(1) == data.test_y
        recall = np.bincount(data.test_y, right, 10) / np.bincount(data.test_y, minlength=10)
        found.append((clock, float(right.mean()), *(float(np.average(recall, weights=each)) for each in held)))


def _client(x: Any, y: Any, draw: np.random.Generator, n: int, kind: int) -> tuple[Tensor, Tensor]:
    """Draw n digits as one client sees them: turned by a multiple of 90 degrees, and in half of the kinds inverted."""
    at = draw.choice(len(x), n, replace=False)
    turned = np.rot90(x[at].reshape(-1, 8, 8), kind % 4, axes=(1, 2)).reshape(n, 64)
    return torch.tensor((1 - turned if kind >= 4 else turned).copy()), torch.tensor(y[at])


def pefll(seed: int, steps: int) -> Rows:
    """Learn to write a client's linear model from a few of its examples, and compare on clients that were not in the training.

    v = mean E(x, y) over a client's examples, theta = h(v). A client takes five steps from theta on its data; the server sees their
    difference alone, and passes sum <difference, theta> back through h and E.
    """
    data, draw, rows = digits(seed), np.random.default_rng(seed), []
    x, y = (torch.stack(part) for part in zip(*(_client(data.x, data.y, draw, 60, each % 8) for each in range(48)), strict=True))
    torch.manual_seed(seed)
    embed = nn.Sequential(nn.Linear(74, 64), nn.ReLU(), nn.Linear(64, 16))
    write = nn.Sequential(nn.Linear(16, 64), nn.ReLU(), nn.Linear(64, 650))

    def models(x: Tensor, y: Tensor) -> Tensor:
        return write(embed(torch.cat([x, functional.one_hot(y, 10).float()], -1)).mean(1)).view(-1, 65, 10)  # type: ignore[no-any-return]

    def loss() -> Tensor:
        clients, shown = torch.from_numpy(draw.choice(48, 8, replace=False)), draw.permutation(60)[: draw.choice([5, 10, 30])]
        theta = models(x[clients][:, shown], y[clients][:, shown])
        own, inputs = theta.detach(), functional.pad(x[clients], (0, 1), value=1.0)
        for _ in range(5):
            own = own - 0.5 * inputs.transpose(1, 2) @ (torch.softmax(inputs @ own, -1) - functional.one_hot(y[clients], 10)) / 60
        return ((theta.detach() - own) * theta).sum() / 8

    descend([*embed.parameters(), *write.parameters()], loss, steps, 3e-3)
    shared = LogisticRegression(C=0.3, max_iter=1000).fit(x.flatten(0, 1).numpy(), y.flatten().numpy())
    for each in range(16):
        own_x, own_y = _client(data.test_x, data.test_y, draw, 200, each % 8)
        test_x, test_y = own_x[100:], own_y[100:]
        for n in (5, 10, 30, 100):
            local = LogisticRegression(max_iter=1000).fit(own_x[:n], own_y[:n])
            with torch.no_grad():
                written = functional.pad(test_x, (0, 1), value=1.0) @ models(own_x[None, :n], own_y[None, :n])[0]
            found = {"PeFLL": float((written.argmax(1) == test_y).float().mean()), "its own examples": local.score(test_x, test_y)}
            found["one model for all"] = shared.score(test_x, test_y)
            rows += [{"examples": n, "method": name, "accuracy": float(value)} for name, value in found.items()]
    return rows


def propagate(similarity: Any, labels: Any) -> Any:
    """Spread labels (n,), -1 where there is none, over ten neighbours with weights cos^3; give the class of each point."""

    def graph(*_: Any) -> Any:
        near = kneighbors_graph(np.maximum(1 - similarity, 0), min(10, len(labels) - 1), metric="precomputed")
        near = near.multiply(np.clip(similarity, 0, None) ** 3).tocsr()
        return near + near.T

    if (labels < 0).all():
        return np.zeros(len(labels), int)
    return LabelSpreading(kernel=graph, alpha=0.99, max_iter=500).fit(np.zeros((len(labels), 1)), labels).transduction_


def xclp(seed: int, n: int = 1000, labelled: int = 40) -> Rows:
    """Propagate labels across clients, by exact cosines or by those of random bits; in each client by itself; or not at all."""
    data, draw = digits(seed, n), np.random.default_rng(seed)
    z = data.x - data.x.mean(0)  # else all random hyperplanes see the same side
    z /= np.linalg.norm(z, axis=1, keepdims=True)
    unknown, owner = np.arange(n) >= labelled, draw.integers(CLIENTS, size=n)
    labels = np.where(unknown, -1, data.y)
    found = {"across clients": propagate(z @ z.T, labels)}
    for bits in (4096, 256, 64):
        signs = np.sign(z @ draw.normal(size=(64, bits)))
        found[f"by {bits} bits"] = propagate(np.cos(np.pi * (1 - signs @ signs.T / bits) / 2), labels)
    alone = np.zeros(n, int)
    for own in (owner == client for client in range(CLIENTS)):
        alone[own] = propagate(z[own] @ z[own].T, labels[own])
    found["within clients"] = alone
    found["a model of pooled labels"] = LogisticRegression(max_iter=1000).fit(z[~unknown], data.y[~unknown]).predict(z)
    return [{"method": name, "accuracy": float((given == data.y)[unknown].mean())} for name, given in found.items()]


def log_likelihood(counts: Any, alphas: Any, shares: Any) -> Any:
    """Log probability of each client's counts (n, classes) and that it is of each component (K, classes) with its share; (n, K)."""
    total, n = alphas.sum(1), counts.sum(1)[:, None]
    each = special.gammaln(counts[:, None] + alphas) - special.gammaln(alphas) - special.gammaln(counts[:, None] + 1)
    return each.sum(2) + special.gammaln(total) - special.gammaln(n + total) + special.gammaln(n + 1) + np.log(shares)


def fit_mixture(counts: Any, k: int, draw: np.random.Generator, rounds: int = 150) -> tuple[Any, Any]:
    """Fit a mixture of Dirichlet-multinomials by expectation maximisation from sums over clients alone; parameters and shares."""
    alphas, shares = draw.gamma(2.0, 0.5, (k, counts.shape[1])), np.full(k, 1 / k)
    for _ in range(rounds):
        weight = special.softmax(log_likelihood(counts, alphas, shares), axis=1)[:, :, None]
        total = alphas.sum(1, keepdims=True)
        up = weight * (special.psi(counts[:, None] + alphas) - special.psi(alphas))
        down = weight * (special.psi(counts.sum(1)[:, None, None] + total) - special.psi(total))
        alphas, shares = np.maximum(alphas * up.sum(0) / down.sum(0), 1e-3), weight.mean(0)[:, 0]  # an unseen class goes to 0
    return alphas, shares


def mixtures(seed: int) -> Rows:
    """Fit one to three components to the label counts of clients of two kinds; log-likelihoods are means over other clients."""
    draw, rows = np.random.default_rng(seed), []
    kinds = np.stack([np.r_[np.full(5, 2.0), np.full(5, 0.3)], np.full(10, 0.4)])
    drawn = np.stack([draw.multinomial(draw.integers(20, 80), draw.dirichlet(kinds[draw.integers(2)])) for _ in range(800)])
    for k in (1, 2, 3):
        fitted = fit_mixture(drawn[:400], k, draw)
        here, there = (
            float(special.logsumexp(log_likelihood(part, *fitted), axis=1).mean()) for part in (drawn[:400], drawn[400:])
        )
        rows.append({"components": k, "held_out": there, "BIC": -800 * here + (11 * k - 1) * float(np.log(400))})
    return rows
