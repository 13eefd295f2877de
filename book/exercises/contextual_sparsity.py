# %% [markdown]
# At hand are `drawn`, gates of two thousand tokens and 64 experts that each token chooses independently, and `union_sparsity`, which counts the experts that no token of a batch uses.

# %% tags=["setup"]
import torch

from effnotes.finetuning.lte import LTE, union_sparsity

drawn = (torch.rand(2000, 64, generator=torch.Generator().manual_seed(0)) < 1 / 8).numpy()

# %% tags=["checks"]
from typing import Any

from effnotes.reporting.exercises import check

answer: Any

# %% [markdown] exercise="exercise-union"
# The share of experts that 1, 8 and 32 independent tokens leave unused together, by your formula, and what `union_sparsity` gives for `drawn` and 8 tokens.

# %% tags=["stub"]
answer = {1: ..., 8: ..., 32: ..., "drawn": ...}


# %% tags=["check"]
@check
def exercise_union(answer: Any) -> None:
    for batch in (1, 8, 32):
        assert abs(answer[batch] - 0.875**batch) < 1e-3, f"{batch} tokens: an expert is unused if every one of them leaves it out"
    assert abs(answer["drawn"] - union_sparsity(drawn, 8)) < 1e-6, "the share for the drawn gates is another one; the batch is 8"


# %% [markdown] tags=["marking"]
# One point each.
# Ask what a batch of the same prompt eight times would leave unused: as much as one token.

# %% tags=["answer"]
answer = {batch: 0.875**batch for batch in (1, 8, 32)} | {"drawn": union_sparsity(drawn, 8)}

# %% tags=["wrong"]
# Shares are added instead of multiplied.
answer = {batch: max(0.0, 1 - batch / 8) for batch in (1, 8, 32)} | {"drawn": union_sparsity(drawn, 8)}

# %% tags=["wrong"]
# The sparsity of one token taken for that of the batch.
answer = {batch: 0.875**batch for batch in (1, 8, 32)} | {"drawn": float(1 - drawn.mean())}

# %% [markdown] exercise="exercise-router-cost"
# For experts of 4 and of 32 units: the share of the dense FFN's multiplications that is left at a sparsity of 0.875, with the router, and the sparsity above which anything is saved.

# %% tags=["stub"]
answer = {4: {"left": ..., "saved above": ...}, 32: {"left": ..., "saved above": ...}}


# %% tags=["check"]
@check
def exercise_router_cost(answer: Any) -> None:
    for units in (4, 32):
        router = 1 / (2 * units)
        assert abs(answer[units]["left"] - (0.125 + router)) < 1e-3, (
            f"experts of {units}: what runs is an eighth, and the router has as many scores as there are experts"
        )
        assert abs(answer[units]["saved above"] - router) < 1e-3, f"experts of {units}: what is left out must outweigh the router"


# %% [markdown] tags=["marking"]
# One point each.
# The FFN has two matrices, which halves the router's share; a gated FFN has three.

# %% tags=["answer"]
answer = {units: {"left": 0.125 + 1 / (2 * units), "saved above": 1 / (2 * units)} for units in (4, 32)}

# %% tags=["wrong"]
# The router forgotten.
answer = {units: {"left": 0.125, "saved above": 0.0} for units in (4, 32)}

# %% tags=["wrong"]
# One matrix in place of two.
answer = {units: {"left": 0.125 + 1 / units, "saved above": 1 / units} for units in (4, 32)}

# %% [markdown] exercise="exercise-guard"
# With a guard of 0.01: the separability loss of a gate at the threshold, and the distance from it at which it pushes hardest.

# %% tags=["stub"]
answer = {"at the threshold": ..., "hardest at": ...}


# %% tags=["check"]
@check
def exercise_guard(answer: Any) -> None:
    at = float(LTE(eta=0.0, separability=1.0, guard=0.01).penalty(torch.tensor([0.5])))
    assert abs(answer["at the threshold"] - at) < 0.1, "at the threshold nothing is left in the denominator but the guard"
    assert abs(abs(answer["hardest at"]) - (0.01 / 3) ** 0.5) < 2e-3, "it pushes hardest where the second derivative is zero"


# %% [markdown] tags=["marking"]
# Half each.
# Exactly at the threshold the loss is largest and pushes not at all: routers must start spread out.

# %% tags=["answer"]
answer = {"at the threshold": 1 / 0.01, "hardest at": (0.01 / 3) ** 0.5}

# %% tags=["wrong"]
# Taken where the loss is largest.
answer = {"at the threshold": 1 / 0.01, "hardest at": 0.0}

# %% tags=["wrong"]
# The guard's root taken for the distance, and the guard squared.
answer = {"at the threshold": 1 / 0.01**2, "hardest at": 0.01**0.5}
