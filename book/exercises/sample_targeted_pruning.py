# %% [markdown]
# At hand are the network of the first seed of the chapter's quick profile, and the images that it is explained on: `with_trojan` and `without`, each with `images`, `regions`, `decoys`, `targets` and `names`; `test_images`, all 1,000 of its test images; `strong` and `n`, the levels and the number of views.

# %% tags=["setup"]
from types import SimpleNamespace

import numpy as np
import safetensors.torch
import torch

from effnotes.datasets.shapes import make_shapes
from effnotes.interpretation import attribute, trace, visualise
from effnotes.interpretation.augmentation import augment as draw_views
from effnotes.metrics.localisation import decoy_auc, deletion, insertion, pixel_auc
from effnotes.models import build_model
from effnotes.pruning.layerwise import solve_layer
from effnotes.training import normalize

folder = "data/exercises/sample_targeted_pruning"
network = build_model("resnet8", 10, image_size=32, width=16, seed=1).eval()
network.load_state_dict(safetensors.torch.load_file(f"{folder}/network.safetensors"))
kept = np.load(f"{folder}/samples.npz")
with_trojan, without = (
    SimpleNamespace(**{each: torch.from_numpy(kept[f"{kind}_{each}"]) for each in ("images", "regions", "decoys", "targets")})
    for kind in ("trojan", "clean")
)
with_trojan.names, without.names = kept["trojan_names"].tolist(), kept["clean_names"].tolist()
test_images = make_shapes(1, 1, 1000, seed=1).data.splits["test"].images
strong, n = {"blocks.0": 0.8, "blocks.1": 0.8, "blocks.2": 0.9, "fc": 0.5}, 16

# Crops of the first image with a trojan that no trace has seen; every fourth view, the image itself, is left out.
crops = normalize(draw_views(with_trojan.images[0], 256, "small", generator=torch.Generator().manual_seed(901))[1::4])


def probabilities(images: torch.Tensor) -> torch.Tensor:
    """Say what the network, dense or as it is pruned at the time, holds probable: (n, 10)."""
    return torch.softmax(network(normalize(images)), dim=1)


# %% tags=["checks"]
from typing import Any

from effnotes.reporting.exercises import check

answer: Any

# %% [markdown] exercise="exercise-obs"
# Which weight goes, "first" or "second"; what becomes of the other; and both costs.

# %% tags=["stub"]
answer = {"goes": ..., "the other becomes": ..., "cost by eq-obs": ..., "cost by eq-layer": ...}


# %% tags=["check"]
@check
def exercise_obs(answer: Any) -> None:
    weight, gram = np.array([3.0, 1.0]), np.array([[2.0, 1.0], [1.0, 2.0]])
    inverse = np.linalg.inv(gram)
    costs = weight**2 / (2 * np.diag(inverse))
    gone = int(costs.argmin())
    new = weight - weight[gone] / inverse[gone, gone] * inverse[:, gone]
    assert answer["goes"] == ("first", "second")[gone], "the cheaper of the two goes, by the second formula"
    assert abs(answer["the other becomes"] - new[1 - gone]) < 1e-3, "the weight that stays must make up for the one that goes"
    assert abs(answer["cost by eq-obs"] - costs[gone]) < 1e-3, "the cost by eq-obs is off; is H inverted, and is the 2 there?"
    change = weight - new
    assert abs(answer["cost by eq-layer"] - change @ gram @ change) < 1e-3, "eq-layer takes the change of both weights"


# %% [markdown] tags=["marking"]
# One point for each of the four.
# Ask why the second cost is twice the first: one counts half of the squared change.

# %% tags=["answer"]
row = torch.nn.Linear(2, 1, bias=False).double()
row.weight.data = torch.tensor([[3.0, 1.0]]).double()
two = torch.tensor([[[2.0, 1.0], [1.0, 2.0]]]).double()
left = solve_layer(row, two, 0.5, solver="exact_obs", damping=0).weight
answer = {"goes": "second", "the other becomes": float(left[0, 0]), "cost by eq-obs": 0.75, "cost by eq-layer": 1.5}

# %% tags=["wrong"]
# By size alone: the small one goes, and nothing makes up for it.
answer = {"goes": "second", "the other becomes": 3.0, "cost by eq-obs": 1.0, "cost by eq-layer": 2.0}

# %% tags=["wrong"]
# The diagonal of H in place of that of its inverse.
answer = {"goes": "second", "the other becomes": 3.5, "cost by eq-obs": 1 / 4, "cost by eq-layer": 1.5}

# %% [markdown] exercise="exercise-quota"
# The number of classes that a feature speaks for at level 0.5 and at level 0.95, and for each of the ten classes how many features speak for it at level 0.95 (first image with a trojan, `n=4`, `augment="small"`).

# %% tags=["stub"]
answer = {"classes of a feature at 0.5": ..., "classes of a feature at 0.95": ..., "features of each class at 0.95": ...}


# %% tags=["check"]
@check
def exercise_quota(answer: Any) -> None:
    for level in (0.5, 0.95):
        mask = trace(network, with_trojan.images[0], {"fc": level}, n=4, augment="small").masks["fc.weight"]
        said = answer[f"classes of a feature at {level:g}"]
        assert mask.sum(0).eq(said).all(), f"level {level:g}: the columns of the mask say another number"
    features = list(answer["features of each class at 0.95"])
    assert features == mask.sum(1).tolist(), "ten numbers are asked for, a row of the mask each"


# %% [markdown] tags=["marking"]
# A third for each.
# Who says "none" at 0.95 has rounded half a weight down; the library rounds it up, and a feature that speaks for nothing would be useless.

# %% tags=["answer"]
kept_at = {
    level: trace(network, with_trojan.images[0], {"fc": level}, n=4, augment="small").masks["fc.weight"] for level in (0.5, 0.95)
}
answer = {f"classes of a feature at {level:g}": int(mask.sum(0)[0]) for level, mask in kept_at.items()}
answer["features of each class at 0.95"] = kept_at[0.95].sum(1).tolist()

# %% tags=["wrong"]
# Half a weight rounded down.
answer = {"classes of a feature at 0.5": 5, "classes of a feature at 0.95": 0, "features of each class at 0.95": [0] * 10}

# %% tags=["wrong"]
# Each class gets as many features as the others.
answer = {"classes of a feature at 0.5": 5, "classes of a feature at 0.95": 1, "features of each class at 0.95": [6.4] * 10}

# %% [markdown] exercise="exercise-reduction"
# The mean pixel AUC of Saliency on the images with a trojan with each reduction, and which of them loses most.

# %% tags=["stub"]
answer = {"sum of sizes": ..., "largest size": ..., "size of the sum": ..., "worst": ...}


# %% tags=["check"]
@check
def exercise_reduction(answer: Any) -> None:
    pixels = normalize(with_trojan.images).requires_grad_()
    chosen = network(pixels).gather(1, with_trojan.targets[:, None]).sum()
    slope = torch.autograd.grad(chosen, pixels)[0]
    maps = {"sum of sizes": slope.abs().sum(1), "largest size": slope.abs().amax(1), "size of the sum": slope.sum(1).abs()}
    right = {name: pixel_auc(each, with_trojan.regions).mean() for name, each in maps.items()}
    for name, value in right.items():
        assert abs(answer[name] - value) < 2e-3, f"{name}: another AUC is expected, of the gradient of the targets' logits"
    assert answer["worst"] == min(right, key=right.__getitem__), "that does not follow from your numbers"


# %% [markdown] tags=["marking"]
# A point for each number, one for the reason: colours of opposite sign cancel in the sum.
# A bonus for comparing the differences with those between networks in the chapter.

# %% tags=["answer"]
inputs = normalize(with_trojan.images).requires_grad_()
summed = network(inputs).gather(1, with_trojan.targets[:, None]).sum()
gradients = torch.autograd.grad(summed, inputs)[0]
reduced = {
    "sum of sizes": gradients.abs().sum(1),
    "largest size": gradients.abs().amax(1),
    "size of the sum": gradients.sum(1).abs(),
}
answer = {name: float(pixel_auc(maps, with_trojan.regions).mean()) for name, maps in reduced.items()}
answer["worst"] = min(answer, key=answer.get)

# %% tags=["wrong"]
# The signed sum: what lowers the logit counts as not important.
inputs = normalize(with_trojan.images).requires_grad_()
summed = network(inputs).gather(1, with_trojan.targets[:, None]).sum()
gradients = torch.autograd.grad(summed, inputs)[0]
reduced = {"sum of sizes": gradients.abs().sum(1), "largest size": gradients.amax(1), "size of the sum": gradients.sum(1)}
answer = {name: float(pixel_auc(maps, with_trojan.regions).mean()) for name, maps in reduced.items()} | {"worst": "size of the sum"}

# %% tags=["wrong"]
# The gradient of the sum of all logits, not of the class that is explained.
inputs = normalize(with_trojan.images).requires_grad_()
gradients = torch.autograd.grad(network(inputs).sum(), inputs)[0]
reduced = {
    "sum of sizes": gradients.abs().sum(1),
    "largest size": gradients.abs().amax(1),
    "size of the sum": gradients.sum(1).abs(),
}
answer = {name: float(pixel_auc(maps, with_trojan.regions).mean()) for name, maps in reduced.items()} | {"worst": "size of the sum"}

# %% [markdown] exercise="exercise-cheat"
# Your maps of the images with a trojan, of shape (16, 32, 32), and the two mean AUCs; the pixel AUC has to be 0.9 or more.

# %% tags=["stub"]
answer = {"maps": ..., "pixel AUC": ..., "AUC among patches": ...}


# %% tags=["check"]
@check
def exercise_cheat(answer: Any) -> None:
    maps = torch.as_tensor(answer["maps"]).float()
    assert maps.shape == with_trojan.regions.shape, "one map for each image is asked for, a number for each pixel"
    high = pixel_auc(maps, with_trojan.regions).mean()
    among = decoy_auc(maps, with_trojan.regions, with_trojan.decoys).mean()
    assert high >= 0.9, "the map does not point at patches: its pixel AUC is too low"
    assert abs(among - 0.5) < 0.1, "the map knows which patch is the trojan; a map that never asks the network cannot"
    assert abs(answer["pixel AUC"] - high) < 2e-3, "the pixel AUC of these maps is another one"
    assert abs(answer["AUC among patches"] - among) < 2e-3, "the AUC among patches takes the decoys for the other class"


# %% [markdown] tags=["marking"]
# Half for a map, half for saying what gives it away.
# A map that finds patches in the pixels, without the stored regions, earns a bonus.

# %% tags=["answer"]
cheat = (with_trojan.regions | with_trojan.decoys).float()
answer = {
    "maps": cheat,
    "pixel AUC": float(pixel_auc(cheat, with_trojan.regions).mean()),
    "AUC among patches": float(decoy_auc(cheat, with_trojan.regions, with_trojan.decoys).mean()),
}

# %% tags=["wrong"]
# The right answer itself, which only the network can know.
cheat = with_trojan.regions.float()
answer = {"maps": cheat, "pixel AUC": 1.0, "AUC among patches": 1.0}

# %% tags=["wrong"]
# A map of the middle of the image.
cheat = torch.zeros(with_trojan.regions.shape)
cheat[:, 8:24, 8:24] = 1
answer = {
    "maps": cheat,
    "pixel AUC": float(pixel_auc(cheat, with_trojan.regions).mean()),
    "AUC among patches": float(decoy_auc(cheat, with_trojan.regions, with_trojan.decoys).mean()),
}

# %% [markdown] exercise="exercise-views"
# For 1, 4, 16 and 64 views: the mean error of the layers, the divergence, and the share of the `crops` on which the trace gives the dense network's answer; and which of the three speaks of images that the trace was not made from: "error", "divergence" or "crops".

# %% tags=["stub"]
answer = {"error": {1: ..., 4: ..., 16: ..., 64: ...}, "divergence": {1: ..., 4: ..., 16: ..., 64: ...}}
answer |= {"same on crops": {1: ..., 4: ..., 16: ..., 64: ...}, "speaks of others": ...}


# %% tags=["check"]
@check
def exercise_views(answer: Any) -> None:
    dense_answers = network(crops).argmax(1)
    for count in (1, 4, 16, 64):
        found = trace(network, with_trojan.images[0], strong, n=count, augment="small")
        with found.applied() as pruned:
            same = float((pruned(crops).argmax(1) == dense_answers).float().mean())
        error = float(found.layers["error"].mean())
        assert abs(answer["error"][count] - error) < 0.01 + 0.05 * error, f"{count} views: the mean error of the layers is off"
        assert abs(answer["divergence"][count] - found.kl) < 0.01 + 0.05 * found.kl, f"{count} views: the divergence is off"
        assert abs(answer["same on crops"][count] - same) < 0.02, (
            f"{count} views: compare with the dense network's answers on crops"
        )
    assert answer["speaks of others"] == "crops", "which of the three is taken where the trace was not fitted?"


# %% [markdown] tags=["marking"]
# Half for the numbers, half for the reason: with few views H has a low rank, and there are many ways to keep the outputs on them.

# %% tags=["answer"]
answer = {"error": {}, "divergence": {}, "same on crops": {}, "speaks of others": "crops"}
of_dense = network(crops).argmax(1)
for count in (1, 4, 16, 64):
    found = trace(network, with_trojan.images[0], strong, n=count, augment="small")
    with found.applied() as pruned:
        answer["same on crops"][count] = float((pruned(crops).argmax(1) == of_dense).float().mean())
    answer["error"][count], answer["divergence"][count] = found.layers["error"].mean(), found.kl

# %% tags=["wrong"]
# The trace is compared with itself: while it is applied, `network` is the trace.
for count in (1, 4, 16, 64):
    with trace(network, with_trojan.images[0], strong, n=count, augment="small").applied() as pruned:
        answer["same on crops"][count] = float((pruned(crops).argmax(1) == network(crops).argmax(1)).float().mean())

# %% tags=["wrong"]
# A small divergence taken for a good sign.
answer["speaks of others"] = "divergence"

# %% [markdown] exercise="exercise-judge"
# Insertion and deletion of the trace's map, by each judge, and which judge you would report: "dense" or "trace" (`n=16`, `augment="small"`).

# %% tags=["stub"]
answer = {"dense": (..., ...), "trace": (..., ...), "report": ...}  # insertion, deletion


# %% tags=["check"]
@check
def exercise_judge(answer: Any) -> None:
    one, target = without.images[:1], without.targets[:1]
    found = trace(network, one[0], strong, n=n, augment="small")
    with found.applied() as pruned:
        its_map = attribute(pruned, one[0], target=int(target))[None]
        of_trace = [float(judge(probabilities, one, its_map, target)[0]) for judge in (insertion, deletion)]
    of_dense = [float(judge(probabilities, one, its_map, target)[0]) for judge in (insertion, deletion)]
    given = {name: [float(np.squeeze(each)) for each in answer[name]] for name in ("dense", "trace")}
    assert np.allclose(given["dense"], of_dense, atol=0.01), (
        "dense: the map is the trace's, and the whole network is asked about it"
    )
    assert np.allclose(given["trace"], of_trace, atol=0.01), "trace: the network has to be asked while the trace is applied"
    assert answer["report"] == "dense", "of which network was the question?"


# %% [markdown] tags=["marking"]
# Half for the four numbers, half for the judge with its reason: the question was what the dense network used.

# %% tags=["answer"]
first, its_class = without.images[:1], without.targets[:1]
of_image = trace(network, first[0], strong, n=n, augment="small")
with of_image.applied() as pruned:
    shown = attribute(pruned, first[0], target=int(its_class))[None]
    by_trace = tuple(float(judge(probabilities, first, shown, its_class)[0]) for judge in (insertion, deletion))
by_dense = tuple(float(judge(probabilities, first, shown, its_class)[0]) for judge in (insertion, deletion))
answer = {"dense": by_dense, "trace": by_trace, "report": "dense"}

# %% tags=["wrong"]
# The right numbers, and the judge that flatters.
answer = {"dense": by_dense, "trace": by_trace, "report": "trace"}

# %% tags=["wrong"]
# The map of the dense network in place of the trace's.
first, its_class = without.images[:1], without.targets[:1]
shown = attribute(network, first[0], target=int(its_class))[None]
by_dense = tuple(float(judge(probabilities, first, shown, its_class)[0]) for judge in (insertion, deletion))
with trace(network, first[0], strong, n=n, augment="small").applied():
    by_trace = tuple(float(judge(probabilities, first, shown, its_class)[0]) for judge in (insertion, deletion))
answer = {"dense": by_dense, "trace": by_trace, "report": "dense"}

# %% [markdown] exercise="exercise-picture"
# The dense network's logit of the class of each picture (`size=32`, `seed=0`, 128 steps), of the image, and the largest of all test images; and whether the network's picture is an example of the class as the data have them, True or False.

# %% tags=["stub"]
answer = {"network's picture": ..., "trace's picture": ..., "the image": ..., "test images": ..., "an example": ...}


# %% tags=["check"]
@check
def exercise_picture(answer: Any) -> None:
    target = int(with_trojan.targets[0])
    found = {"network's picture": visualise(network, [target], size=32), "the image": with_trojan.images[:1]}
    with trace(network, with_trojan.images[0], strong, n=n, augment="small").applied() as pruned:
        found["trace's picture"] = visualise(pruned, [target], size=32)
    with torch.no_grad():
        for name, images in (found | {"test images": test_images}).items():
            logit = float(network(normalize(images))[:, target].max())
            off = f"{name}: another logit is expected, of class {target}, by the dense network"
            assert abs(answer[name] - logit) < 0.1 + 0.02 * abs(logit), off
    assert answer["an example"] is False, "compare its logit with the largest that an image of the data has"


# %% [markdown] tags=["marking"]
# A point for each logit, two for the conclusion: the picture shows what the neuron looks for, not what it meets.

# %% tags=["answer"]
aim = int(with_trojan.targets[0])
pictures = {
    "network's picture": visualise(network, [aim], size=32),
    "the image": with_trojan.images[:1],
    "test images": test_images,
}
with trace(network, with_trojan.images[0], strong, n=n, augment="small").applied() as pruned:
    pictures["trace's picture"] = visualise(pruned, [aim], size=32)
with torch.no_grad():
    answer = {what: float(network(normalize(each))[:, aim].max()) for what, each in pictures.items()} | {"an example": False}

# %% tags=["wrong"]
# The trace judges its own picture.
with torch.no_grad():
    answer = {what: float(network(normalize(each))[:, aim].max()) for what, each in pictures.items()} | {"an example": False}
with trace(network, with_trojan.images[0], strong, n=n, augment="small").applied() as pruned, torch.no_grad():
    answer["trace's picture"] = float(pruned(normalize(pictures["trace's picture"]))[:, aim].max())

# %% tags=["wrong"]
# The largest of all logits in place of that of the class.
with torch.no_grad():
    answer = {what: float(network(normalize(each)).max()) for what, each in pictures.items()} | {"an example": True}
