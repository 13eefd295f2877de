"""What editing costs: pretraining beside a bare PyTorch loop, an edit by each method, and asking for what it did.

Run with `pytest tests/benchmarks/test_editing_benchmark.py -s`. Times are processor seconds on one thread, and ratios of them: wall
time of a shared machine says little. Untrained models do: only the closed forms take a time that depends on what a model knows.
"""

import copy
import math
import statistics
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from pytest_benchmark.fixture import BenchmarkFixture
from torch import nn

from effnotes.datasets.worlds import World, make_task
from effnotes.finetuning import ClosedFormRecipe, EditRecipe, Evaluator, edit, evaluate_edit
from effnotes.finetuning.editing.edit import edit_pools
from effnotes.finetuning.tune import Batches
from effnotes.models.answers import answer
from effnotes.models.language import block_linears, build_language_model
from effnotes.models.rows import Rows
from effnotes.training.pretraining import pretrain
from effnotes.training.recipes import PretrainingRecipe

pytestmark = pytest.mark.usefixtures("one_thread")

WORLD = World(768, 4, 32, repeats=117)
STEPS = 60  # of pretraining a round
EDITS = {
    "full linears": EditRecipe(checkpoints=(80,)),
    "full attention": EditRecipe(blocks="attention", checkpoints=(80,)),
    "full mlp": EditRecipe(blocks="mlp", checkpoints=(80,)),
    "lora r1": EditRecipe("lora", rank=1, checkpoints=(80,)),
    "lora r4": EditRecipe("lora", rank=4, checkpoints=(80,)),
    "lora r16": EditRecipe("lora", rank=16, checkpoints=(80,)),
    "rome": ClosedFormRecipe("rome", site="last"),
    "memit": ClosedFormRecipe("memit", site="last"),
    "alphaedit": ClosedFormRecipe("alphaedit", site="last"),
}


def cpu_seconds(work) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def bare_loop(world: World, recipe: PretrainingRecipe) -> nn.Module:
    """What one would write without this library: the same batches, AdamW, clipping and schedule, and nothing else."""
    model = build_language_model("neox-64x2", world.vocab_size, seed=0).train()
    (block,) = world.sentences()
    tokens = torch.from_numpy(block.tokens).long()
    batches = torch.from_numpy(np.random.default_rng([0, 0]).permutation(len(tokens))).tensor_split(STEPS)
    optimizer = torch.optim.AdamW(model.parameters(), betas=recipe.betas, weight_decay=recipe.weight_decay, fused=True)
    for step, rows in enumerate(batches):
        optimizer.param_groups[0]["lr"] = recipe.learning_rate_at(step, STEPS)
        batch = tokens[rows]
        logits = model(input_ids=batch).logits
        loss = F.cross_entropy(logits[:, :-1].reshape(-1, logits.shape[-1]), batch[:, 1:].reshape(-1))
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.clip)
        optimizer.step()
    return model.eval()


def test_pretraining_is_as_fast_as_a_bare_loop(benchmark: BenchmarkFixture) -> None:
    world = replace(WORLD, repeats=5)
    # No facts are asked for, and no extensions follow.
    recipe = replace(PretrainingRecipe(), recall=0.0, recall_elsewhere=0.0, probability=0.0, most_asked=1)
    n_tokens = len(world.facts()) * 5 * 10  # predicted ones
    models: dict[str, nn.Module] = {}

    def ours() -> None:
        found = pretrain(world, "neox-64x2", recipe)
        assert found.steps == STEPS
        models["ours"] = found.model

    def bare() -> None:
        models["bare"] = bare_loop(world, recipe)

    ours(), bare()
    for (name, a), b in zip(models["ours"].named_parameters(), models["bare"].parameters(), strict=True):
        assert torch.allclose(a, b, atol=1e-5), name  # the same work
    ratios, fastest = [], math.inf
    for _ in range(5):
        # In turns, so that both meet the machine in the same moods.
        plain, own = cpu_seconds(bare), cpu_seconds(ours)
        ratios.append(plain / own)
        fastest = min(fastest, own)
    benchmark.pedantic(ours, rounds=1)
    ratio = statistics.median(ratios)
    benchmark.extra_info |= {"tokens a cpu second": round(n_tokens / fastest), "speed against a bare loop": ratio}
    print(f"{n_tokens / fastest:,.0f} tokens a CPU second, {ratio:.3f} of a bare loop's ({', '.join(f'{r:.3f}' for r in ratios)})")
    assert ratio > 0.9  # what is aimed at is 0.95; noise of a shared machine takes some


@pytest.fixture(scope="module")
def base() -> nn.Module:
    return build_language_model("neox-64x2", WORLD.vocab_size, seed=0)


@pytest.fixture(scope="module")
def task():
    return make_task(WORLD, "remap", 1, retain_coverage=0.1)


def bare_edit(base: nn.Module, task) -> None:
    """80 steps on the training rows, all linear layers: what an edit takes at least."""
    model, recipe = copy.deepcopy(base).requires_grad_(False), EDITS["full linears"]
    weights = [linear.weight.requires_grad_(True) for linear in block_linears(model).values()]
    batches = iter(Batches(edit_pools(task, recipe), recipe.batch_size, 0, torch.device("cpu")))
    optimizer = torch.optim.AdamW(weights, lr=recipe.learning_rate, weight_decay=0.0)
    for _ in range(80):
        rows = Rows.joined(*next(batches))
        log_p = model(input_ids=rows.tokens).logits[:, :-1].log_softmax(dim=-1).gather(-1, rows.tokens[:, 1:, None])[..., 0]
        optimizer.zero_grad()
        (-log_p[rows.is_answer[:, 1:]].mean()).backward()
        optimizer.step()


# An untrained model's closed forms search all their steps and write nothing: the time is the longest that they take.
@pytest.mark.filterwarnings("ignore:for 1 of 1 facts no change:RuntimeWarning")
def test_an_edit(benchmark: BenchmarkFixture, base: nn.Module, task) -> None:
    seconds: dict[str, list[float]] = {name: [] for name in ("bare loop", *EDITS)}
    for _ in range(3):
        seconds["bare loop"].append(cpu_seconds(lambda: bare_edit(base, task)))
        for name, recipe in EDITS.items():
            seconds[name].append(cpu_seconds(lambda recipe=recipe: edit(base, task, recipe)))
    benchmark.pedantic(edit, (base, task, EDITS["full linears"]), rounds=1)
    ratios = {
        name: statistics.median(own / bare for own, bare in zip(of_name, seconds["bare loop"], strict=True))
        for name, of_name in seconds.items()
    }
    benchmark.extra_info |= {"cpu seconds of a bare loop": min(seconds["bare loop"])} | ratios
    print(f"80 steps of a bare loop: {min(seconds['bare loop']):.2f} CPU s; times as long:")
    print("\n".join(f"  {name:16} {ratio:.2f}" for name, ratio in ratios.items()))
    assert ratios["full linears"] < 1.2


def test_an_evaluation(benchmark: BenchmarkFixture, base: nn.Module, task) -> None:
    edited = build_language_model("neox-64x2", WORLD.vocab_size, seed=1)
    capped, whole = Evaluator(base, task, most_asked=256), Evaluator(base, task)
    works = {
        "80 steps of a bare loop": lambda: bare_edit(base, task),
        "evaluate_edit": lambda: evaluate_edit(base, edited, task),
        "Evaluator, all": lambda: whole(edited),
        "Evaluator, 256": lambda: capped(edited),
        "answer, group by group, one model": lambda: [answer(edited, task.encode("test", name)) for name in task.test],
    }
    seconds = {name: min(cpu_seconds(work) for _ in range(5)) for name, work in works.items()}
    benchmark.pedantic(capped, (edited,), rounds=5)
    ratios = {name: each / seconds["80 steps of a bare loop"] for name, each in seconds.items()}
    benchmark.extra_info |= ratios
    print("\n".join(f"  {name:34} {seconds[name]:.3f} CPU s, {ratio:.3f} of an edit" for name, ratio in ratios.items()))
    assert ratios["Evaluator, 256"] < 0.1
    assert seconds["Evaluator, all"] < seconds["answer, group by group, one model"]
