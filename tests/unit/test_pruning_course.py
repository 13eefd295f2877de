"""What masks do in the course of a run, against counts by hand, and the two networks that come out of one AC/DC run."""

import pytest
import torch
from torch import nn

from effnotes.models import build_model
from effnotes.pruning import (
    AlternatingSchedule,
    CourseHook,
    PruningPlan,
    flop_share,
    layer_flops,
    mask_churn,
    prunable_parameters,
    reviving_magnitude,
)
from effnotes.training import Recipe, train

pytestmark = pytest.mark.usefixtures("one_thread")
SCHEDULE = AlternatingSchedule(warmup=1, phase=1, phases=3, final_dense=1)  # compressed at 1, 3 and 5, dense at 2 and 4
EPOCHS = 7


def test_churn_is_what_a_count_of_unlike_entries_gives():
    before = {"a": torch.tensor([True, True, False]), "b": torch.tensor([[False]])}
    after = {"a": torch.tensor([True, False, True]), "b": torch.tensor([[False]])}
    assert mask_churn(before, after) == 2 / 4
    assert mask_churn(before, before) == 0
    with pytest.raises(ValueError, match="same weights"):
        mask_churn(before, {"a": after["a"]})


def test_operations_are_those_of_the_layers_shapes():
    model = build_model("resnet8", 10, image_size=12, seed=0, width=4)
    flops = layer_flops(model, 12)
    assert list(flops) == list(prunable_parameters(model))
    sides: dict[str, int] = {}
    handles = [
        module.register_forward_hook(lambda _, __, out, name=name: sides.update({name: out.shape[-1]}))
        for name, module in model.named_modules()
        if isinstance(module, nn.Conv2d)
    ]
    model.eval()(torch.zeros(1, 3, 12, 12))
    for handle in handles:
        handle.remove()
    for name, weight in prunable_parameters(model).items():
        places = sides.get(name.removesuffix(".weight"), 1) ** 2
        assert flops[name] == 2 * weight.numel() * places
    masks = {name: torch.zeros_like(weight, dtype=torch.bool) for name, weight in prunable_parameters(model).items()}
    masks["fc.weight"][:5] = True
    assert flop_share(flops, masks) == pytest.approx(flops["fc.weight"] / 2 / sum(flops.values()))


def run(fit=None):
    generator = torch.Generator().manual_seed(0)
    images, labels = torch.randint(0, 256, (64, 3, 12, 12), dtype=torch.uint8, generator=generator), torch.arange(64) % 4
    model = build_model("resnet8", 4, image_size=12, seed=0, width=4)
    hook = CourseHook(PruningPlan(reviving_magnitude, 0.8, SCHEDULE, revives=True), 12)
    recipe = Recipe(epochs=EPOCHS, batch_size=16, loss="softmax", warmup_epochs=0, max_shift=0)
    history = train(model, images, labels, recipe=recipe, seed=0, hooks=[hook], **({} if fit is None else {"fit": fit}))
    return model, history


def test_one_run_gives_a_sparse_network_and_its_dense_twin():
    forks, at_fork = [], []

    def both(loop):
        loop.fit(max(SCHEDULE.levels(0.8)))
        forks.append(loop.fork())
        at_fork.extend(each.clone() for each in loop.model.parameters())
        forks[0].fit()
        assert all(torch.equal(each, kept) for each, kept in zip(loop.model.parameters(), at_fork, strict=True))
        loop.fit()

    sparse, history = run(both)
    straight, _ = run()
    assert all(torch.equal(a, b) for a, b in zip(sparse.parameters(), straight.parameters(), strict=True))
    dense = forks[0].model
    assert [row["part"] for row in forks[0].history] == list(range(EPOCHS))
    assert all(bool(weight.all()) for weight in prunable_parameters(dense).values())
    assert not torch.equal(dense.fc.weight, sparse.fc.weight)
    weights = torch.cat([weight.detach().flatten() for weight in prunable_parameters(sparse).values()])
    assert int((weights != 0).sum()) == round(0.2 * len(weights))
    assert history["sparsity"].round(3).tolist() == [0, 0.8, 0, 0.8, 0, 0.8, 0.8]
    assert history["churn"].notna().tolist() == [False, False, False, True, False, True, False]
    assert (history["cost"][history["sparsity"] == 0] == 1).all()
    assert history["cost"][[1, 3, 5]].between(0.05, 0.6).all()
