# %% [markdown]
# Nothing is needed but arithmetic.

# %% tags=["setup"]
import numpy as np

w = np.array([0.5, -0.4])
centre = np.array([1.0, -2.0])

# %% tags=["checks"]
from typing import Any

from effnotes.reporting.exercises import check

answer: Any

# %% [markdown] exercise="exercise-acdc-cost"
# The cost, and the kind of layer that keeps more of its weights than the others: "early" or "late".

# %% tags=["stub"]
answer = {"cost": ..., "keeps more": ...}


# %% tags=["check"]
@check
def exercise_acdc_cost(answer: Any) -> None:
    assert abs(answer["cost"] - 0.575) < 1e-9, "dense epochs count 1 and sparse ones their share of the operations; take the mean"
    assert answer["keeps more"] == "early", "which layers have few weights and use each of them at many places?"


# %% [markdown] tags=["marking"]
# One point each.
# Ask what dense kernels would save: nothing.

# %% tags=["answer"]
answer = {"cost": 0.5 + 0.5 * 0.15, "keeps more": "early"}

# %% tags=["wrong"]
# One minus the sparsity.
answer = {"cost": 0.5 + 0.5 * 0.1, "keeps more": "early"}

# %% tags=["wrong"]
# The layers with the most weights.
answer = {"cost": 0.5 + 0.5 * 0.15, "keeps more": "late"}

# %% [markdown] exercise="exercise-ascent"
# CrAM+'s two gradients without the ascent step, and the index of the weight that stays with it.

# %% tags=["stub"]
answer = {"gradients": ..., "stays": ...}


# %% tags=["check"]
@check
def exercise_ascent(answer: Any) -> None:
    gradient = 2 * (w - centre)
    given = np.asarray(answer["gradients"], dtype=float)
    assert given.shape == (2,), "two gradients are asked for"
    assert np.allclose(given, [2 * gradient[0], gradient[1]]), "the dense gradient, and once more that of the weight that stays"
    assert answer["stays"] == int(np.abs(w + 0.1 * gradient).argmax()), "move both weights up their gradients first, then compare"


# %% [markdown] tags=["marking"]
# Half for the gradients, half for the order: the mask is chosen after the ascent.

# %% tags=["answer"]
answer = {"gradients": [-2.0, 3.2], "stays": 0}

# %% tags=["wrong"]
# Both weights counted twice.
answer = {"gradients": [-2.0, 6.4], "stays": 0}

# %% tags=["wrong"]
# The weight with the larger gradient.
answer = {"gradients": [-2.0, 3.2], "stays": 1}

# %% [markdown] exercise="exercise-epsilon"
# The two factors, for the smaller and for the larger epsilon.

# %% tags=["stub"]
answer = [..., ...]


# %% tags=["check"]
@check
def exercise_epsilon(answer: Any) -> None:
    small, large = (float(each) for each in answer)
    assert abs(small - 1e-5**-0.5) < 1, "the norm divides by the root of variance plus epsilon, and the variance is zero"
    assert abs(large - 1e-2**-0.5) < 0.1, "the same for the larger epsilon"


# %% [markdown] tags=["marking"]
# One point each.

# %% tags=["answer"]
answer = [1e-5**-0.5, 1e-2**-0.5]

# %% tags=["wrong"]
# The root forgotten.
answer = [1e5, 1e2]

# %% tags=["wrong"]
# In the other order.
answer = [1e-2**-0.5, 1e-5**-0.5]
