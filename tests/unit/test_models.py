import pytest
import torch
from torch import nn

from effnotes.models import MODEL_NAMES, NarrowResNet, build_model
from effnotes.pruning import prunable_parameters


def test_resnet8_has_the_documented_number_of_prunable_weights():
    model = build_model("resnet8", 12, image_size=32, seed=0)
    assert sum(weight.numel() for weight in prunable_parameters(model).values()) == 79_792


@pytest.mark.parametrize("image_size", range(32, 65))
def test_resnet8_takes_every_size_of_its_range(image_size):
    model = build_model("resnet8", 5, image_size=image_size, seed=0, width=4).eval()
    assert model(torch.zeros(2, 3, image_size, image_size)).shape == (2, 5)


@pytest.mark.parametrize("image_size", [32, 48, 64])
def test_resnet8_pools_to_two_by_two(image_size):
    model = NarrowResNet(5, image_size=image_size, width=4)
    features = model.blocks(model.stem(torch.rand(2, 3, image_size, image_size)))
    half = features.shape[-1] // 2
    by_hand = torch.stack(
        [features[:, :, i * half : (i + 1) * half, j * half : (j + 1) * half].mean((2, 3)) for i in (0, 1) for j in (0, 1)], -1
    )
    torch.testing.assert_close(model.pool(features).flatten(2), by_hand)


@pytest.mark.parametrize(("name", "prunable"), [("resnet18", 11_187_392), ("resnet50", 23_454_912 + 2048 * 40)])
def test_torchvision_resnets_have_the_published_number_of_prunable_weights(name, prunable):
    model = build_model(name, 40, image_size=224, seed=0)
    assert sum(weight.numel() for weight in prunable_parameters(model).values()) == prunable


@pytest.mark.parametrize("name", MODEL_NAMES)
def test_every_model_gives_one_logit_an_output(name):
    model = build_model(name, 7, image_size=32, seed=0).eval()
    assert model(torch.zeros(1, 3, 32, 32)).shape == (1, 7)


@pytest.mark.parametrize("name", ["resnet8", "mobilenet_v2"])
def test_initial_weights_depend_on_the_seed_alone(name):
    torch.manual_seed(1)
    first = build_model(name, 3, image_size=32, seed=5).state_dict()
    torch.manual_seed(2)
    before = torch.random.get_rng_state()
    second = build_model(name, 3, image_size=32, seed=5).state_dict()
    assert torch.equal(torch.random.get_rng_state(), before)
    other = build_model(name, 3, image_size=32, seed=6).state_dict()
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert any(not torch.equal(first[key], other[key]) for key in first)


@pytest.mark.parametrize(
    ("name", "message"),
    [("resnet-8", "Did you mean 'resnet8'"), ("ResNet50", "'resnet50'"), ("mobilenet_v1", "not part of torchvision")],
)
def test_an_unknown_name_is_answered_with_the_nearest(name, message):
    with pytest.raises(ValueError, match=message):
        build_model(name, 3, image_size=32, seed=0)


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("resnet8", {"image_size": 7}, "8 to 64"),
        ("resnet18", {"image_size": 31}, "at least 32"),
        ("resnet8", {"image_size": 65}, "8 to 64"),
        ("resnet8", {"image_size": 32, "num_outputs": 0}, "num_outputs=0: must be at least 1"),
        ("resnet8", {"image_size": 32, "width": 0}, "width=0: must be at least 1"),
        ("resnet18", {"image_size": 64, "width": 8}, "fixed width"),
    ],
)
def test_numbers_out_of_range_are_refused(name, arguments, message):
    with pytest.raises(ValueError, match=message):
        build_model(name, **{"num_outputs": 3, "seed": 0, **arguments})


def test_images_of_another_size_are_refused():
    with pytest.raises(ValueError, match=r"\(n, 3, 32, 32\)"):
        NarrowResNet(3)(torch.zeros(1, 3, 48, 48))


def test_projection_only_where_the_shape_changes():
    blocks = NarrowResNet(3).blocks
    assert [block.downsample is not None for block in blocks] == [False, True, True]
    assert isinstance(blocks[1].downsample[0], nn.Conv2d)
