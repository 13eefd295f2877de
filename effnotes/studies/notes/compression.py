"""What compression takes away unseen, and where it comes by itself: SEP after pruning, and the rank that weight decay leaves."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from scipy.optimize import minimize_scalar
from torch import Tensor, nn
from torch.nn import functional

from effnotes.metrics.guarantees import sep_score
from effnotes.pruning.magnitude import global_magnitude
from effnotes.pruning.masks import apply_masks_
from effnotes.studies.notes.common import Rows, descend

DIGITS, TASKS, PROBES, LENGTH = (
    6,
    4,
    5,
    16,
)  # a prompt has digits 0 to 9, then tokens for tasks, probes, two tags, filler, two slots
TAG, FILLER = 10 + TASKS + PROBES, 12 + TASKS + PROBES


def prompts(n: int, place: str | None, generator: np.random.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Draw prompts of two blocks in any order and at any place: a task, and six digits, with a probe in one of them or in none.

    Args:
        n: How many.
        place: Where the probe stands: "instruction", "data", or None.
        generator: What is drawn from.

    Returns:
        Tokens and roles (0 none, 1 instruction, 2 data), each (n, LENGTH), and the task's answer with the probe's witness (n, 2).
    """
    tokens, roles = np.full((n, LENGTH), FILLER), np.zeros((n, LENGTH), int)
    tokens[:, -2:] = FILLER + 1, FILLER + 2
    answers = np.zeros((n, 2), int)
    for row in range(n):
        numbers, task, probe = generator.integers(0, 10, DIGITS), generator.integers(TASKS), generator.integers(PROBES)
        answers[row] = [numbers[0], numbers[-1], numbers.max(), numbers.min()][task], probe
        blocks = {"instruction": [10 + task], "data": numbers.tolist()}
        if place:
            blocks[place].insert(0 if generator.random() < 0.5 else len(blocks[place]), 10 + TASKS + probe)
        text = [([TAG + role, *blocks[name]], 1 + role) for role, name in enumerate(("instruction", "data"))]
        text = text[::-1] if generator.random() < 0.5 else text
        whole = [token for part, _ in text for token in part]
        start = generator.integers(LENGTH - 2 - len(whole) + 1)
        tokens[row, start : start + len(whole)] = whole
        roles[row, start : start + len(whole)] = [role for part, role in text for _ in part]
    return torch.tensor(tokens), torch.tensor(roles), torch.tensor(answers)


class Reader(nn.Module):
    """A transformer of two blocks that answers at the last two places; roles are added to its embeddings where it is told them."""

    def __init__(self, told: bool, width: int = 64) -> None:
        super().__init__()
        self.told = told
        self.token, self.place, self.role = nn.Embedding(FILLER + 3, width), nn.Embedding(LENGTH, width), nn.Embedding(3, width)
        parts = [(width, 3 * width), (width, width), (width, 2 * width), (2 * width, width)]
        self.blocks = nn.ModuleList(nn.ModuleList(nn.Linear(*shape) for shape in parts) for _ in range(2))
        self.answer, self.witness = nn.Linear(width, 10), nn.Linear(width, PROBES + 1)

    def forward(self, tokens: Tensor, roles: Tensor) -> tuple[Tensor, Tensor]:
        """Give logits of the answer (n, 10) and of the witness, whose last class is that there is none."""
        x = self.token(tokens) + self.place.weight + (self.role(roles) if self.told else 0)
        for block in self.blocks:
            mix, out, up, down = block.children()
            heads = [part.unflatten(-1, (4, -1)).transpose(1, 2) for part in mix(normed(x)).chunk(3, -1)]
            x = x + out(functional.scaled_dot_product_attention(*heads).transpose(1, 2).flatten(2))
            x = x + down(torch.relu(up(normed(x))))
        return self.answer(normed(x[:, -2])), self.witness(normed(x[:, -1]))


def normed(x: Tensor) -> Tensor:
    """Normalise the last dimension."""
    return functional.layer_norm(x, x.shape[-1:])


def sep(seed: int, steps: int, adversarial: float = 0.2) -> Rows:
    """Train readers of tagged prompts with and without roles, prune them, tune them on benign prompts, and score both times."""
    draw = np.random.default_rng(seed)
    shares, n = {"data": adversarial, "instruction": 0.5, None: 0.5 - adversarial}, min(12_000, 64 * steps)
    drawn = {place: prompts(round(n * share), place, draw) for place, share in shares.items()}
    for place in ("data", None):
        drawn[place][2][:, 1] = PROBES  # there is nothing to execute
    tests: dict[Any, Any] = {place: prompts(600, place, draw) for place in ("data", "instruction")}
    return [row for told in (False, True) for row in _separation(seed, steps, told, drawn, tests)]


def _separation(seed: int, steps: int, told: bool, drawn: Any, tests: Any, level: float = 0.7) -> Rows:
    draw = np.random.default_rng(seed)
    torch.manual_seed(seed)
    model = Reader(told)

    def loss_on(places: tuple[str | None, ...]) -> Any:
        tokens, roles, answers = (torch.cat([drawn[place][part] for place in places]) for part in range(3))

        def loss() -> Tensor:
            batch = torch.from_numpy(draw.integers(len(tokens), size=64))
            answer, witness = model(tokens[batch], roles[batch])
            wanted = answers[batch]
            return functional.cross_entropy(answer, wanted[:, 0]) + functional.cross_entropy(witness, wanted[:, 1])

        return loss

    def scores(stage: str) -> dict[str, Any]:
        with torch.no_grad():
            found = {place: [part.argmax(1) for part in model(*test[:2])] for place, test in tests.items()}
        executed = {place: (found[place][1] == test[2][:, 1]).numpy() for place, test in tests.items()}
        score, utility = sep_score(executed["data"], executed["instruction"])
        right = float((found["data"][0] == tests["data"][2][:, 0]).float().mean())
        arm = "tags and roles" if told else "tags"
        return {"arm": arm, "stage": stage, "sep": score, "utility": utility, "accuracy": right}

    descend(model.parameters(), loss_on(("data", "instruction", None)), steps, 2e-3)
    rows = [scores("dense")]
    masks = global_magnitude(model, level)
    benign = loss_on(("instruction", None))

    def masked() -> Tensor:
        apply_masks_(model, masks)
        return benign()  # type: ignore[no-any-return]

    descend(model.parameters(), masked, max(1, steps // 10), 5e-4)
    apply_masks_(model, masks)
    return [*rows, scores("pruned")]


DECAY = 0.004


def collapsed_loss(classes: int, depth: int) -> float:
    """Loss of deep neural collapse with one example a class: minimise (1 - q^(L + 1))^2 / 2 + (L + 1) lambda K q^2 / 2 over q."""

    def loss(q: float) -> float:
        return (1 - q ** (depth + 1)) ** 2 / 2 + (depth + 1) * DECAY * classes * q**2 / 2

    return float(min(minimize_scalar(loss, bounds=(0.3, 1.2), method="bounded").fun, loss(0.0)))


def collapse(seeds: tuple[int, ...], steps: int, width: int = 30) -> Rows:
    """Train deep unconstrained features (H, W_1 to W_L, ReLU between) by gradient descent, all seeds side by side."""
    rows = []
    for classes, depth in ((2, 4), (10, 2), (10, 4)):
        starts = [torch.Generator().manual_seed(seed) for seed in seeds]
        sizes = [(width, classes), *[(width, width)] * (depth - 1), (classes, width)]
        draw = [torch.stack([torch.randn(size, generator=each) / size[1] ** 0.5 for each in starts]) for size in sizes]
        parts = [part.requires_grad_() for part in draw]
        optimizer = torch.optim.SGD(parts, lr=0.3, momentum=0.9)
        # Begun at the full rate, momentum throws some starts far out, where they diverge or end in zero.
        rising = torch.optim.lr_scheduler.LinearLR(optimizer, 0.05, total_iters=1000)
        target = torch.eye(classes)
        for _ in range(steps):
            _, out = _forward(parts)
            # Squares are summed over the seeds, whose gradients do not meet.
            loss = ((out - target) ** 2).sum() / (2 * classes) + DECAY / 2 * sum((part**2).sum() for part in parts)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            rising.step()
        with torch.no_grad():
            before, out = _forward(parts)
            penalty = sum((part**2).sum((1, 2)) for part in parts)
            losses = ((out - target) ** 2).sum((1, 2)) / (2 * classes) + DECAY / 2 * penalty
            values = torch.linalg.svdvals(before)
            ranks = (values > 1e-2 * values[:, :1]).sum(1)
        name = f"{classes} classes, {depth} layers"
        for at, seed in enumerate(seeds):
            gain = collapsed_loss(classes, depth) - float(losses[at])
            row = {"seed": seed, "setting": name, "gain": gain, "rank": int(ranks[at]), "missing": classes - int(ranks[at])}
            shares = (values[at] / values[at, 0])[:classes].tolist()
            rows += [row | {"place": place, "value": value} for place, value in enumerate(shares, start=1)]
    return rows


def _forward(parts: list[Tensor]) -> tuple[Tensor, Tensor]:
    """The features before the last ReLU, and the outputs."""
    features = parts[0]
    for weight in parts[1:-1]:
        before = weight @ features
        features = torch.relu(before)
    return before, parts[-1] @ features
