# %% [markdown]
# At hand are the three `counts`, `log_likelihood` of clients' label counts and `meta_bound`, as the page has them.

# %% tags=["setup"]
import numpy as np

from effnotes.metrics.guarantees import meta_bound
from effnotes.studies.notes.owners import log_likelihood

counts = np.array([[2, 0], [1, 1], [0, 2]])

# %% tags=["checks"]
from typing import Any

from effnotes.reporting.exercises import check

answer: Any

# %% [markdown] exercise="exercise-dirichlet"
# The probabilities of the counts (2, 0), (1, 1) and (0, 2), in this order.

# %% tags=["stub"]
answer = [..., ..., ...]


# %% tags=["check"]
@check
def exercise_dirichlet(answer: Any) -> None:
    assert len(answer) == 3, "three probabilities are asked for, one for each of the counts"
    assert abs(sum(answer) - 1) < 1e-6, "there are no other counts of two labels, so the probabilities add up to 1"
    expected = np.exp(log_likelihood(counts, np.ones((1, 2)), np.ones(1)))[:, 0]
    assert np.abs(np.array(answer) - expected).max() < 1e-3, "with alpha = (1, 1) every share of the first label is equally likely"


# %% [markdown] tags=["marking"]
# Half for the numbers, half for the reason: a fair coin would give the middle one half.

# %% tags=["answer"]
answer = np.exp(log_likelihood(counts, np.ones((1, 2)), np.ones(1)))[:, 0].tolist()

# %% tags=["wrong"]
# One coin for all clients.
answer = [0.25, 0.5, 0.25]

# %% tags=["wrong"]
# The orders of the middle one are forgotten.
answer = [1 / 3, 1 / 6, 1 / 3]

# %% [markdown] exercise="exercise-meta"
# The least number of tasks with a bound below one half, and what the bound tends to with more and more tasks.

# %% tags=["stub"]
answer = {"tasks": ..., "limit": ...}


# %% tags=["check"]
@check
def exercise_meta(answer: Any) -> None:
    bounds = {n: meta_bound(0.1, 2.0, 20.0, n, 40) for n in range(1, 1000)}
    first = min(n for n, each in bounds.items() if each < 0.5)
    assert answer["tasks"] == first, "the bound at this number or at the one before says otherwise; are both roots in it?"
    assert abs(answer["limit"] - meta_bound(0.1, 2.0, 20.0, 10**9, 40)) < 1e-3, "which terms are divided by the number of tasks?"


# %% [markdown] tags=["marking"]
# Half for the number, half for the limit: few samples a task are not made up for by many tasks.

# %% tags=["answer"]
found = [n for n in range(1, 1000) if meta_bound(0.1, 2.0, 20.0, n, 40) < 0.5]
answer = {"tasks": found[0], "limit": 0.1 + (2 / 80) ** 0.5}

# %% tags=["wrong"]
# The limit is taken for the empirical risk.
answer["limit"] = 0.1

# %% tags=["wrong"]
# Only the first root is seen.
answer = {"tasks": 1, "limit": 0.1 + (2 / 80) ** 0.5}
