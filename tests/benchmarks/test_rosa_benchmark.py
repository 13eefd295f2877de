"""What a step of RoSA costs beside one of LoRA that trains as many numbers, and what its mask costs.

Run with `pytest tests/benchmarks/test_rosa_benchmark.py -s`. Times are processor seconds on one thread, medians of ratios taken in
turns; each method runs in a process of its own for its peak memory.
"""

import json
import resource
import statistics
import subprocess
import sys
import time
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from effnotes.finetuning import Pool, TuneRecipe, equal_budget, finetune
from effnotes.finetuning.rosa import n_trained
from effnotes.models.language import LanguageModelShape, block_linears, build_language_model
from effnotes.models.rows import Rows

pytestmark = pytest.mark.usefixtures("one_thread")
SMALL = (LanguageModelShape(width=128, layers=3, heads=4, mlp_width=352, family="llama", context=128), 768, 32)
LARGE = (LanguageModelShape(width=768, layers=12, heads=12, mlp_width=2048, family="llama", context=128), 16_000, 8)


def setting(size: str) -> tuple[Any, list[Pool], dict[str, TuneRecipe]]:
    """A model, rows of the length of mails, and recipes that train as many numbers."""
    shape, vocabulary, batch = {"small": SMALL, "large": LARGE}[size]
    model = build_language_model(shape, vocabulary, seed=0)
    rng = np.random.default_rng(0)
    length = rng.integers(40, 65, size=64)
    fields = {"length": length, "answer": length - 25, "answer_length": np.full(64, 25)}
    rows = Rows.of(type("Drawn", (), {"tokens": rng.integers(2, vocabulary, size=(64, 64)), **fields}))
    lora = TuneRecipe("lora", rank=8, batch_size=batch, checkpoints=(1,))
    budget = n_trained((linear.weight.shape for linear in block_linears(model).values()), 8, 0)
    rosa = replace(lora, method="rosa", rank=4, density=equal_budget(model, budget, [4])[4], warmup_steps=0)
    return model, [Pool(rows)], {"lora": lora, "rosa": rosa}


def seconds(model: Any, pools: list[Pool], recipe: TuneRecipe, steps: tuple[int, int]) -> tuple[float, float]:
    """Processor seconds of a step, and of all that comes before the first."""
    at: dict[int, float] = {}
    start = time.process_time()
    finetune(model, pools, replace(recipe, checkpoints=steps), observe=lambda _: at.__setitem__(len(at), time.process_time()) or {})
    step = (at[2] - at[1]) / (steps[1] - steps[0])
    return step, at[1] - start - steps[0] * step


def peak_mib(size: str, method: str) -> float:
    """Peak memory of a process that takes three steps."""
    code = f"import test_rosa_benchmark as b; b.tell_peak({size!r}, {method!r})"
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=__file__.rpartition("/")[0]
    )
    return float(json.loads(found.stdout.splitlines()[-1]))


def tell_peak(size: str, method: str) -> None:
    model, pools, recipes = setting(size)
    finetune(model, pools, replace(recipes[method], checkpoints=(3,)))
    print(json.dumps(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)))


def compare(benchmark: BenchmarkFixture, size: str, steps: tuple[int, int], rounds: int) -> float:
    model, pools, recipes = setting(size)
    ratios, masks, step = [], [], 0.0
    for _ in range(rounds):
        lora, before_lora = seconds(model, pools, recipes["lora"], steps)
        step, before_rosa = seconds(model, pools, recipes["rosa"], steps)
        ratios.append(step / lora)
        masks.append((before_rosa - before_lora) / step)
    ratio, mask = statistics.median(ratios), statistics.median(masks)
    benchmark.pedantic(lambda: finetune(model, pools, recipes["rosa"]), rounds=1)
    peaks = {method: peak_mib(size, method) for method in recipes}
    benchmark.extra_info |= {"step in LoRA's": ratio, "mask in steps": mask, "cpu seconds a step": step} | peaks
    each = ", ".join(f"{of_round:.2f}" for of_round in ratios)
    print(f"{size}: a step {step:.3f} CPU s, {ratio:.2f} of LoRA's ({each}), mask {mask:.1f} steps")
    print("peak memory (MiB): " + ", ".join(f"{method} {peak:.0f}" for method, peak in peaks.items()))
    assert mask < 3
    return ratio


def test_a_step_and_the_mask_on_the_base(benchmark: BenchmarkFixture) -> None:
    assert compare(benchmark, "small", (4, 24), rounds=3) < 1.3


@pytest.mark.slow
def test_a_step_and_the_mask_on_a_large_model(benchmark: BenchmarkFixture) -> None:
    assert compare(benchmark, "large", (1, 4), rounds=2) < 1.5
