"""LoRA with a sparse change beside it: peft's layer against the formula, the whole run against a plain loop, masks and budgets."""

import copy
import itertools
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from peft import PeftModel
from safetensors.torch import load_file
from torch import Tensor, nn

from effnotes.finetuning import NPO, Pool, TuneRecipe, apply_difference, equal_budget, finetune, mask_overlap
from effnotes.finetuning.rosa import n_entries, with_adapters, write_mask_
from effnotes.finetuning.tune import Batches
from effnotes.models.answers import token_log_probabilities
from effnotes.models.language import LanguageModelShape, block_linears, build_language_model, weights_digest
from effnotes.models.rows import Rows

SHAPE = LanguageModelShape(width=32, layers=2, heads=2, mlp_width=48, family="llama", context=64)
VOCABULARY, DENSITY, RANK = 40, 0.05, 2
COMMON: dict[str, Any] = {"density": DENSITY, "learning_rate": 1e-2, "batch_size": 6}
ROSA = TuneRecipe("rosa", rank=RANK, sparse_learning_rate=3e-3, warmup_steps=3, checkpoints=(1, 6), micro_batch=2, **COMMON)
SPARSE = TuneRecipe("sparse", checkpoints=(4,), **COMMON)


def fresh(seed: int = 0) -> Any:
    model = build_language_model(SHAPE, VOCABULARY, seed=seed)
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(4 if weight.ndim == 2 else 1)
    return model


def rows_of(n: int = 12, width: int = 20) -> Rows:
    rng = np.random.default_rng(0)
    length = rng.integers(10, width + 1, size=n)
    parts = {"length": length, "answer": length - 4, "answer_length": np.full(n, 4)}
    return Rows.of(type("Any", (), {"tokens": rng.integers(2, VOCABULARY, size=(n, width)), **parts}))


ROWS = rows_of()
POOLS = [Pool(ROWS)]


class RosaLinear(nn.Module):
    """y = x (W + S)^T + scale (x A^T) B^T, S of values at fixed places; the gradient of W + S is kept, dO^T x."""

    def __init__(self, weight: Tensor, places: Tensor, values: Tensor, a: Tensor, b: Tensor, scale: float) -> None:
        super().__init__()
        self.register_buffer("weight", weight)
        self.register_buffer("places", places.long())
        self.values, self.a, self.b, self.scale = nn.Parameter(values), nn.Parameter(a), nn.Parameter(b), scale

    def forward(self, x: Tensor) -> Tensor:
        sparse = torch.zeros(self.weight.numel()).scatter(0, self.places, self.values)
        self.dense = self.weight + sparse.view_as(self.weight)
        self.dense.retain_grad()
        return x @ self.dense.T + self.scale * (x @ self.a.T) @ self.b.T

    @property
    def delta(self) -> Tensor:
        """What is added to the weight."""
        return (self.dense - self.weight + self.scale * self.b @ self.a).detach()


def parts(layer: Any) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Places, values, A and B of a layer of peft."""
    a, b = layer.supertuning_lora_A["default"].weight, layer.supertuning_lora_B["default"].weight
    return layer.supertuning_indices["default"], layer.supertuning_values["default"], a, b


def loss_of(model: nn.Module, rows: Rows) -> Tensor:
    return -token_log_probabilities(model, rows, rows.is_answer).mean()


def linears_of(model: nn.Module) -> dict[str, nn.Module]:
    return {f"{name}.weight": linear for name, linear in block_linears(model).items()}


def layer_of(trainee: Any, name: str) -> Any:
    return trainee.get_submodule(f"base_model.model.{name.removesuffix('.weight')}")


def wrapped(model: nn.Module, density: float = DENSITY, rank: int | None = RANK) -> tuple[Any, list[str]]:
    names = [*linears_of(model)]
    targets = [name.removesuffix(".weight") for name in names]
    return with_adapters(model, targets, rank=rank, scale=2.0, density=density, seed=0), names


# --- the layer and the run, against the formula -------------------------------------------------------------------------------


def test_a_layer_of_peft_is_the_formula_and_so_are_its_gradients() -> None:
    torch.manual_seed(0)
    trainee, names = wrapped(fresh())
    mask = write_mask_(trainee, names, DENSITY, "random", iter(()), 5)
    for name in names[:7]:
        layer = layer_of(trainee, name)
        places, values, a, b = parts(layer)
        assert torch.equal(places, mask[name])
        for each in (values, b):
            each.data.normal_()
        own = RosaLinear(layer.base_layer.weight.detach(), places, *(each.detach().clone() for each in (values, a, b)), 2.0)
        x, weight = torch.randn(3, 5, own.weight.shape[1]), torch.randn(3, 5, own.weight.shape[0])
        inputs = [x.clone().requires_grad_(), x.clone().requires_grad_()]
        outputs = [layer(inputs[0]), own(inputs[1])]
        for output in outputs:
            (output * weight).sum().backward()
        pairs = [outputs, [each.grad for each in inputs], [values.grad, own.values.grad], [a.grad, own.a.grad]]
        for found, expected in [*pairs, [b.grad, own.b.grad]]:
            assert torch.allclose(found, expected, atol=1e-5, rtol=1e-5)
        assert torch.allclose(layer.get_delta_weight("default"), own.delta, atol=1e-6)


def plain_run(recipe: TuneRecipe) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The paper's two runs in plain PyTorch: warm-up of LoRA, squares of gradients, and both parts from the start."""
    start, names = wrapped(fresh())  # for A, which peft draws
    first = {name: parts(layer_of(start, name))[2].detach() for name in names}

    def model_with(mask: dict[str, Tensor] | None) -> tuple[Any, dict[str, RosaLinear]]:
        made, layers = fresh(), {}
        for name, linear in linears_of(made).items():
            places = torch.zeros(0, dtype=torch.long) if mask is None else mask[name]
            weight, b = linear.weight.detach(), torch.zeros(linear.weight.shape[0], RANK)
            layers[name] = RosaLinear(weight, places, torch.zeros(len(places)), first[name].clone(), b, recipe.scale)
            parent, _, own = name.removesuffix(".weight").rpartition(".")
            setattr(made.get_submodule(parent), own, layers[name])
        return made, layers

    def train(model: Any, layers: dict[str, RosaLinear], stream: Iterator[Any], steps: int) -> None:
        low = [each for layer in layers.values() for each in (layer.a, layer.b)]
        groups = [{"params": low, "lr": recipe.learning_rate}]
        groups += [{"params": [layer.values for layer in layers.values()], "lr": recipe.sparse_learning_rate}]
        optimizer = torch.optim.AdamW(groups, weight_decay=0.0)
        for _ in range(steps):
            optimizer.zero_grad()
            loss_of(model, next(stream)[0]).backward()
            optimizer.step()

    batches = Batches(POOLS, recipe.batch_size, 0, torch.device("cpu"))
    stream = iter(batches)
    warm, layers = model_with(None)
    train(warm, layers, stream, recipe.warmup_steps)
    squares = {name: torch.zeros_like(layer.weight) for name, layer in layers.items()}
    edited = next(stream)[0]
    for start_row in range(recipe.batch_size // recipe.micro_batch):
        rows = edited.take(slice(start_row, None, recipe.batch_size // recipe.micro_batch))
        loss_of(warm, rows).backward()
        for name, layer in layers.items():
            squares[name] += layer.dense.grad**2
    mask = {name: each.reshape(-1).argsort(descending=True)[: int(DENSITY * each.numel())] for name, each in squares.items()}
    model, layers = model_with(mask)
    train(model, layers, iter(batches), recipe.checkpoints[-1])
    loss_of(model, ROWS)  # of the last step
    return {name: layer.delta for name, layer in layers.items()}, mask


def test_a_run_is_that_of_a_plain_loop() -> None:
    base = fresh()
    before = weights_digest(base)
    found = finetune(base, POOLS, ROSA)
    assert weights_digest(base) == before  # merging changed a copy
    difference, mask = plain_run(ROSA)
    assert found.mask.keys() == mask.keys()
    for name, places in found.mask.items():
        assert places.tolist() == sorted(mask[name].tolist())
        assert places.dtype == torch.int32
        assert torch.allclose(found.difference[name], difference[name], atol=1e-5)
        assert difference[name].abs().max() > 1e-2
    assert type(found.model) is type(base)
    assert found.history["step"].tolist() == [0, 1, 6]


def test_the_base_is_what_the_first_step_after_the_warm_up_sees() -> None:
    base = fresh()
    batch = next(iter(Batches(POOLS, 6, 0, torch.device("cpu"))))[0]
    found = finetune(base, POOLS, replace(ROSA, warmup_steps=5, checkpoints=(1,)))
    assert found.history["loss"].iloc[-1] == pytest.approx(loss_of(base, batch).item(), abs=1e-6)
    # A mask that hangs on no gradient needs no warm-up.
    ends = [weights_digest(finetune(base, POOLS, replace(ROSA, mask_rule="random", warmup_steps=n)).model) for n in (0, 7)]
    assert ends[0] == ends[1]


def test_without_a_restart_lora_goes_on_and_the_sparse_part_joins_it() -> None:
    recipe = replace(ROSA, restart=False, warmup_steps=4, checkpoints=(2, 4, 8))
    seen: list[tuple[float, float]] = []

    def look(model: Any) -> dict[str, float]:
        named = dict(model.named_parameters())
        values, b = (sum(float(each.abs().sum()) for name, each in named.items() if part in name) for part in ("_values", "lora_B"))
        seen.append((values, b))
        return {}

    found = finetune(fresh(), POOLS, recipe, observe=look)
    lora = finetune(fresh(), POOLS, TuneRecipe("lora", rank=RANK, learning_rate=1e-2, checkpoints=(2, 4, 8), batch_size=6))
    assert found.history["loss"].tolist()[1:3] == pytest.approx(lora.history["loss"].tolist()[1:3], abs=1e-5)
    assert found.history["step"].tolist() == [0, 2, 4, 8]
    assert [values > 0 for values, _ in seen] == [False, False, False, True]
    assert [b > 0 for _, b in seen] == [False, True, True, True]


def test_both_parts_have_rates_of_their_own_and_no_decay(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []

    class Kept(torch.optim.AdamW):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            made.append(self)

    monkeypatch.setattr(torch.optim, "AdamW", Kept)
    found = finetune(fresh(), POOLS, ROSA)
    groups = made[-1].param_groups
    assert [(group["lr"], group["weight_decay"]) for group in groups] == [(1e-2, 0.0), (3e-3, 0.0)]
    trained = [parameter for group in groups for parameter in group["params"]]
    assert len(trained) == 3 * len(found.mask)
    assert sum(parameter.numel() for parameter in trained) == found.n_trainable
    moments = sum(each.nbytes for state in made[-1].state.values() for key, each in state.items() if key != "step")
    assert moments + sum(parameter.grad.nbytes for parameter in trained) == found.optimizer_bytes
    assert finetune(fresh(), POOLS, replace(ROSA, sparse_learning_rate=None)).n_trainable == found.n_trainable
    assert {group["lr"] for group in made[-1].param_groups} == {1e-2}


# --- masks --------------------------------------------------------------------------------------------------------------------


def test_the_sparse_change_is_where_the_mask_is_and_nowhere_else() -> None:
    found = finetune(fresh(), POOLS, SPARSE)
    for name, change in found.difference.items():
        places = change.flatten().nonzero()[:, 0].tolist()
        assert places == found.mask[name].tolist()
        assert len(places) == int(Fraction("0.05") * change.numel())


@pytest.mark.parametrize("rule", ["grad_sq", "grad_abs", "magnitude"])
def test_masks_are_the_largest_scores_of_each_matrix(rule: Any) -> None:
    base = fresh()
    found = finetune(base, POOLS, replace(SPARSE, mask_rule=rule, mask_batches=2, checkpoints=(1,)))
    batches = itertools.islice(Batches(POOLS, 6, 0, torch.device("cpu")), 2)
    scores = {name: torch.zeros(linear.weight.shape) for name, linear in linears_of(base).items()}
    for batch, number in itertools.product((edited for edited, _ in batches), range(6)):
        base.zero_grad()
        loss_of(base, batch.take(slice(number, number + 1))).backward()
        for name, linear in linears_of(base).items():
            scores[name] += linear.weight.grad**2 if rule == "grad_sq" else linear.weight.grad
    for name, linear in linears_of(base).items():
        of_name = linear.weight.detach() if rule == "magnitude" else scores[name]
        kept = of_name.abs().flatten().argsort(descending=True)[: len(found.mask[name])]
        assert found.mask[name].tolist() == sorted(kept.tolist())


def test_rows_that_should_stay_are_cut_along_with_the_others() -> None:
    pools = [Pool(ROWS), Pool(ROWS, 0.5, retained=True)]
    recipe = replace(SPARSE, objective=NPO(), checkpoints=(1,))
    masks = [finetune(fresh(), pools, replace(recipe, micro_batch=n)).mask for n in (1, 2, 4)]
    assert mask_overlap(masks[0], masks[1], fresh().state_dict())["jaccard"].min() == 1  # two retained rows are two parts at most
    assert mask_overlap(masks[0], masks[2], fresh().state_dict())["jaccard"].max() < 1


def test_random_masks_follow_the_seed_and_overlap_by_chance() -> None:
    base = build_language_model(replace(SHAPE, width=128, mlp_width=352), VOCABULARY, seed=0)
    masks = [finetune(base, POOLS, replace(SPARSE, mask_rule="random", checkpoints=(1,)), seed=seed).mask for seed in (0, 0, 1)]
    assert (mask_overlap(masks[0], masks[1], base.state_dict())["jaccard"] == 1).all()
    overlap = mask_overlap(masks[0], masks[2], base.state_dict())
    assert overlap["chance"].to_numpy() == pytest.approx(DENSITY / (2 - DENSITY), rel=1e-2)
    assert overlap["jaccard"].mean() == pytest.approx(overlap["chance"].mean(), rel=0.1)
    name = next(iter(masks[0]))
    one, other = ({*mask[name].tolist()} for mask in (masks[0], masks[2]))
    assert overlap.loc[name, "jaccard"] == len(one & other) / len(one | other)
    with pytest.raises(ValueError, match="masks of 14 and 0 weights"):
        mask_overlap(masks[0], {}, base.state_dict())


def test_squares_of_small_gradients_in_half_precision_are_kept_apart() -> None:
    trainee, names = wrapped(fresh().half(), rank=None)
    layers = [layer_of(trainee, name) for name in names]
    torch.manual_seed(0)
    gradients = [(torch.randn(layer.base_layer.weight.shape) * 1e-5).half() for layer in layers]
    assert not any((gradient**2).any() for gradient in gradients)
    losses = (sum((layer.base_layer.weight * g).sum() for layer, g in zip(layers, gradients, strict=True)) for _ in range(1))
    mask = write_mask_(trainee, names, DENSITY, "grad_sq", losses, 0)
    for places, gradient in zip(mask.values(), gradients, strict=True):
        size = gradient.float().abs().flatten()
        kept = torch.zeros_like(size, dtype=torch.bool)
        kept[places.long()] = True
        assert size[kept].min() >= size[~kept].max()
    assert not any(layer.base_layer.weight.requires_grad for layer in layers)
    with pytest.raises(RuntimeError, match="gradients are NaN or infinite"):
        write_mask_(trainee, names, DENSITY, "grad_sq", (layers[0].base_layer.weight.sum() * float("nan") for _ in range(1)), 0)


# --- kept, merged, read again by peft -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "recipe", [ROSA, SPARSE, TuneRecipe("lora", rank=RANK, learning_rate=1e-2, checkpoints=(6,), batch_size=6)]
)
def test_peft_keeps_and_reads_the_adapter_and_merging_changes_nothing(recipe: TuneRecipe, tmp_path: Any) -> None:
    base, seen = fresh(), []

    def keep(model: Any) -> dict[str, float]:
        model.save_pretrained(tmp_path)
        seen.append(model(input_ids=ROWS.tokens).logits)
        return {}

    found = finetune(base, POOLS, recipe, observe=keep)
    again = PeftModel.from_pretrained(fresh(), tmp_path).eval()
    with torch.no_grad():
        assert torch.equal(again(input_ids=ROWS.tokens).logits, seen[-1])
        before = base(input_ids=ROWS.tokens).logits
        merged = found.model(input_ids=ROWS.tokens).logits
        assert (merged - seen[-1]).abs().max() < 1e-6 * before.abs().max()
        assert (merged - before).abs().max() > 1e-2
    kept = load_file(tmp_path / "adapter_model.safetensors")
    assert sum(each.nbytes for each in kept.values()) == found.adapter_bytes
    assert {each.dtype for name, each in kept.items() if "indices" in name} == ({torch.int32} if found.mask else set())
    prompts = torch.randint(2, VOCABULARY, (20, 8), generator=torch.Generator().manual_seed(0))
    written = [each.generate(input_ids=prompts, max_new_tokens=8, do_sample=False) for each in (again, found.model)]
    assert torch.equal(*written)
    difference = apply_difference(base, found.difference)(input_ids=ROWS.tokens).logits
    assert torch.allclose(difference, merged, atol=1e-5)


def test_adapters_leave_a_tied_head() -> None:
    config = fresh().config
    config.tie_word_embeddings = True
    base = transformers.AutoModelForCausalLM.from_config(config).eval()
    found = finetune(base, POOLS, ROSA)
    head = found.model.get_output_embeddings().weight
    assert head is found.model.get_input_embeddings().weight
    assert torch.equal(head, base.lm_head.weight)
    assert not any("lm_head" in name or "embed" in name for name in found.difference)


# --- budgets ------------------------------------------------------------------------------------------------------------------


def test_entries_are_counted_as_written_and_as_peft_counts_them() -> None:
    for text in ("0.001", "0.01", "0.05", "0.049", "0.1", "0.29", "0.3", "0.57", "1"):
        for size in (10, 100, 1000, 16384, 45056, 10**8):
            assert n_entries(size, float(text)) == int(Fraction(text) * size), (text, size)
    assert n_entries(100, 0) == 0
    model = build_language_model(replace(SHAPE, width=40, mlp_width=100), VOCABULARY, seed=0)
    for density in (0.01, 0.1, 0.3, 1.0):
        trainee, names = wrapped(copy.deepcopy(model), density)
        for name in names:
            layer = layer_of(trainee, name)
            assert len(parts(layer)[1]) == n_entries(layer.base_layer.weight.numel(), density)


def test_equal_budgets_train_as_many_numbers() -> None:
    base = build_language_model(replace(SHAPE, width=128, layers=3, heads=4, mlp_width=352), 768, seed=0)
    found = equal_budget(base, 59136, (8, 4, 2, 0))
    assert list(found) == [8, 4, 2, 0]
    assert found[8] == 0
    assert [found[rank] for rank in (4, 2, 0)] == pytest.approx([0.0491, 0.0737, 0.0982], abs=1e-4)
    trained = {}
    for rank, density in ((8, None), (4, found[4]), (None, found[0]), (4, 0.049)):
        method = "lora" if density is None else "sparse" if rank is None else "rosa"
        recipe = TuneRecipe(method, rank=rank, density=density, mask_rule="magnitude", checkpoints=(1,), batch_size=2)
        trained[rank, density] = finetune(base, POOLS, recipe).n_trainable
    assert trained.pop((4, 0.049)) == 59055
    assert trained[8, None] == 59136
    assert all(abs(count - 59136) < 0.01 * 59136 for count in trained.values())
    for trainable, rank in ((59136, 9), (700_000, 0), (10, 0)):
        with pytest.raises(ValueError, match="take another rank or budget"):
            equal_budget(base, trainable, [rank])


# --- recipes and refusals -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "rosa"}, "rank=None, density=None: LoRA needs a rank, sparse a density, RoSA both"),
        ({"method": "rosa", "rank": 2}, "density=None: LoRA needs"),
        ({"method": "sparse", "density": 0.1, "rank": 2}, "rank=2, density=0.1: LoRA needs"),
        ({"method": "lora", "rank": 2, "density": 0.1}, "rank=2, density=0.1: LoRA needs"),
        ({"density": 0.1}, "method='full', rank=None, density=0.1"),
        ({"rank": 2}, "full rank has none to give"),
        ({"method": "lora", "rank": 0}, "rank=0: must be at least 1"),
        ({"blocks": "all", "layers": (0,)}, "blocks='all' takes every parameter"),
        ({"blocks": "head"}, "blocks='head'"),
        ({"learning_rate": 0.0}, "learning_rate=0.0: must be above 0"),
        *(({"checkpoints": steps}, "must be numbers of steps from 1 on") for steps in ((), (5, 2), (0, 2))),
        ({"method": "sparse", "density": 0.0}, "density=0.0: must be above 0"),
        ({"method": "sparse", "density": 1.5}, "density=1.5: must be at most 1"),
        ({"method": "sparse", "density": 0.1, "mask_rule": "largest"}, "mask_rule='largest': must be one of 'grad_sq'"),
        ({"method": "sparse", "density": 0.1, "blocks": "all"}, "blocks='all' takes every parameter"),
        ({"method": "rosa", "rank": 1, "density": 0.1, "restart": False, "warmup_steps": 80}, "warmup_steps=80: leaves no step"),
    ],
)
def test_recipes_that_cannot_be_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TuneRecipe(**options)


def test_a_mask_without_entries_is_refused_before_any_training() -> None:
    with pytest.raises(
        ValueError, match=r"density=0.0005: of the 1024 numbers of .*q_proj that is no entry; take at least 0.00098"
    ):
        finetune(fresh(), POOLS, replace(SPARSE, density=0.0005))
    config = transformers.GPT2Config(vocab_size=VOCABULARY, n_embd=32, n_layer=1, n_head=2, n_positions=64)
    gpt2 = transformers.GPT2LMHeadModel(config)
    with pytest.raises(ValueError, match=r"c_attn is a Conv1D: peft has a sparse part for nn.Linear only; take method='lora'"):
        finetune(gpt2, POOLS, SPARSE)
