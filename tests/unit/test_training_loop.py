"""The one loop, on a straight line: hooks, clipping, parts, and what it refuses."""

import math

import pytest
import torch
from torch import nn

from effnotes.training.checkpoints import read_checkpoint, write_checkpoint
from effnotes.training.loop import DivergedError, Hook, Loop

X = torch.linspace(-1, 1, 12)[:, None]


def line(**settings):
    """Fit y = 2 x by plain gradient descent, four batches of three a part; whatever is not set is as the loop's defaults."""
    torch.manual_seed(0)
    model = nn.Linear(1, 1)
    values = {
        "batches": lambda part: X.roll(part, 0).split(3),
        "loss": lambda network, x: (network(x) - 2 * x).square().mean(),
        "parts": 3,
        **settings,
    }
    return Loop(model, torch.optim.SGD(model.parameters(), lr=0.1), **values)


class Recorder(Hook):
    def __init__(self):
        self.seen = []

    def start(self, model, optimizer, parts):
        self.seen.append(("start", parts))

    def before_part(self, part):
        self.seen.append(("part", part))

    def after_step(self, step, loss):
        self.seen.append(("step", step, float(loss)))

    def columns(self):
        return {"steps_seen": float(len(self.seen))}


def test_hooks_are_called_in_order_and_add_their_columns():
    hook = Recorder()
    loop = line(hooks=[hook])
    loop.fit()
    assert [entry[0] for entry in hook.seen] == ["start", *(["part"] + ["step"] * 4) * 3]
    assert [entry[1] for entry in hook.seen if entry[0] == "step"] == list(range(1, 13))
    assert [row["steps_seen"] for row in loop.history] == [6, 11, 16]
    losses = [entry[2] for entry in hook.seen if entry[0] == "step"]
    assert [row["loss"] for row in loop.history] == pytest.approx([sum(losses[k : k + 4]) / 4 for k in (0, 4, 8)])
    assert [row["part"] for row in loop.history] == [0, 1, 2]


def test_who_waits_is_told_after_each_part_how_many_are_done():
    told = []
    loop = line(progress=lambda done, planned: told.append((done, planned)))
    loop.fit()
    assert told == [(1, 3), (2, 3), (3, 3)]
    loop.fit(4)
    assert told[3:] == [(4, 3)]


def test_a_hook_that_overrides_nothing_changes_nothing():
    bare, hooked = line(), line(hooks=[type("Nothing", (Hook,), {})()])
    for loop in (bare, hooked):
        loop.fit()
    assert all(torch.equal(a, b) for a, b in zip(bare.model.parameters(), hooked.model.parameters(), strict=True))


def test_rates_and_sizes_are_those_that_are_given():
    seen = []
    loop = line(
        rate=lambda part, step: seen.append((part, step)) or 0.01 * (1 + step),
        size=len,
        batches=lambda part: X.split([1, 11]),
        parts=2,
    )
    first = loop.loss(loop.model, X[:1]).item()
    loop.fit()
    assert seen == [(0, 0), (0, 1), (1, 2), (1, 3)]
    assert [row["learning_rate"] for row in loop.history] == pytest.approx([0.02, 0.04])
    whole = line(rate=lambda part, step: 0.0, size=len, batches=lambda part: X.split([1, 11]), parts=1)
    whole.fit()
    rest = whole.loss(whole.model, X[1:]).item()
    assert whole.history[0]["loss"] == pytest.approx((first + 11 * rest) / 12)


def test_a_clipped_step_is_as_long_as_the_norm_allows():
    loop = line(clip=1e-3, batches=lambda part: [X], parts=1)
    before = torch.cat([p.detach().flatten().clone() for p in loop.model.parameters()])
    loop.fit()
    after = torch.cat([p.detach().flatten() for p in loop.model.parameters()])
    assert float((after - before).norm()) == pytest.approx(0.1 * 1e-3, rel=1e-3)


@pytest.mark.parametrize("train_mode", [True, False])
def test_dropout_is_on_only_where_it_is_meant(train_mode):
    modes = []
    loop = line(train_mode=train_mode, loss=lambda network, x: modes.append(network.training) or network(x).square().mean())
    loop.fit()
    assert set(modes) == {train_mode}
    assert not loop.model.training


def test_a_loss_that_is_not_finite_ends_the_run_unless_it_may():
    settings = {"loss": lambda network, x: network(x).mean() * math.nan, "parts": 1}
    with pytest.raises(DivergedError, match=r"the loss became nan in part 0, before step 4 .*lower the learning rate"):
        line(**settings).fit()
    loop = line(**settings, may_diverge=True)
    loop.fit()
    assert math.isnan(loop.history[0]["loss"])


class Counter(Hook):
    """Counts steps, also over an interruption."""

    count = 0

    def after_step(self, step, loss):
        self.count += 1

    def describe(self):
        return {"counter": "by one"}

    def state(self):
        return {"counter.count": torch.tensor(self.count)}

    def restore(self, tensors):
        self.count = int(tensors["counter.count"])


def test_a_run_goes_on_with_the_state_of_its_hooks_and_beyond_its_plan(tmp_path):
    file = tmp_path / "deep" / "run.safetensors"
    settings = {"checkpoint": file, "run": {"name": "line"}}
    whole = line(hooks=[Counter()])
    whole.fit(5)
    first = line(hooks=[Counter()], **settings)
    first.fit(2)
    second = line(hooks=[Counter()], **settings)
    assert (second.step, len(second.history)) == (8, 2)
    second.fit()
    second.fit(5)
    assert second.hooks[0].count == 20
    assert all(torch.equal(a, b) for a, b in zip(whole.model.parameters(), second.model.parameters(), strict=True))
    with pytest.raises(ValueError, match=r"another run \(different: counter\)"):
        line(**settings)
    with pytest.raises(ValueError, match=r"another run \(different: name\)"):
        line(hooks=[Counter()], checkpoint=file, run={"name": "curve"})


def test_a_checkpoint_that_cannot_be_written_leaves_the_last_one(tmp_path):
    file = tmp_path / "run.safetensors"
    write_checkpoint(file, {}, {"x": X}, {"step": 1})
    with pytest.raises(TypeError):
        write_checkpoint(file, {}, {"x": X}, {"step": object()})
    tensors, progress = read_checkpoint(file, {})
    assert torch.equal(tensors["x"], X)
    assert progress == {"step": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["run.safetensors"]
