# %% [markdown]
# At hand are `coverage`, the functions that score, choose and measure coverage, and NumPy as `np`.
# `trace` holds the margins of two images at four visits, a column for each image; `outlier` holds a thousand scores, the last a hundred times as large as any other.

# %% tags=["setup"]
import numpy as np

from effnotes.metrics import coverage

trace = np.array([[0.2, -0.5], [-0.1, -0.5], [0.3, -0.5], [-0.4, -0.5]])
outlier = np.append(np.random.default_rng(0).random(999), 100.0)

# %% tags=["checks"]
from typing import Any

from effnotes.reporting.exercises import check

answer: Any

# %% [markdown] exercise="exercise-scores"
# Of the first image its AUM and its forgetting; of the second, which was never right, its forgetting by Toneva et al. and by the code of CCS.

# %% tags=["stub"]
answer = {"AUM": ..., "forgetting": ..., "never learned, Toneva": ..., "never learned, CCS": ...}


# %% tags=["check"]
@check
def exercise_scores(answer: Any) -> None:
    assert abs(answer["AUM"] - 0.0) < 1e-9, "AUM is the sum of the margins over all visits"
    assert answer["forgetting"] == 2, "count the visits that were right and whose next visit was wrong"
    assert answer["never learned, Toneva"] == 4, "by Toneva et al. it counts as more forgotten than any other can be"
    assert answer["never learned, CCS"] == 0, "in the code of CCS what was never right was never forgotten"


# %% [markdown] tags=["marking"]
# One point each.
# Ask which of the two conventions keeps wrong labels in a coreset of the most forgotten: Toneva's.

# %% tags=["answer"]
forgotten = [coverage.forgetting(trace, rule) for rule in ("most", "least")]
answer = {"AUM": float(coverage.aum(trace)[0]), "forgetting": int(forgotten[0][0])}
answer |= {"never learned, Toneva": int(forgotten[0][1]), "never learned, CCS": int(forgotten[1][1])}

# %% tags=["wrong"]
# Wrong visits counted in place of transitions to them, which here differs for the second image only.
answer = {"AUM": 0.0, "forgetting": 2, "never learned, Toneva": 4, "never learned, CCS": 4}

# %% tags=["wrong"]
# All changes, in either direction.
answer = {"AUM": 0.0, "forgetting": 3, "never learned, Toneva": 4, "never learned, CCS": 0}

# %% [markdown] exercise="exercise-strata"
# How many of fifty strata of equal width of `outlier` hold any score, how many scores the largest holds, and whether the outlier is in a coreset of a hundred ("always", "sometimes" or "never").

# %% tags=["stub"]
answer = {"strata in use": ..., "largest": ..., "outlier kept": ...}


# %% tags=["check"]
@check
def exercise_strata(answer: Any) -> None:
    counts, _ = np.histogram(outlier, 50)
    assert answer["strata in use"] == int((counts > 0).sum()), "the strata have equal width, from the lowest score to the highest"
    assert answer["largest"] == int(counts.max()), "all scores but one lie close together, seen from the outlier"
    assert answer["outlier kept"] == "always", "the smallest stratum comes first; how large is its budget, and how large is it?"


# %% [markdown] tags=["marking"]
# Half for the counts, half for what follows: the draw is random but for the outlier.

# %% tags=["answer"]
counts, _ = np.histogram(outlier, 50)
kept = [999 in coverage.stratified_coreset(outlier, outlier, 100, cutoff=0.0, seed=seed) for seed in range(5)]
answer = {
    "strata in use": int((counts > 0).sum()),
    "largest": int(counts.max()),
    "outlier kept": "always" if all(kept) else "never",
}

# %% tags=["wrong"]
# Quantiles in place of equal widths.
answer = {"strata in use": 50, "largest": 20, "outlier kept": "sometimes"}

# %% tags=["wrong"]
# The budget of a stratum taken for a chance.
answer = {"strata in use": 2, "largest": 999, "outlier kept": "sometimes"}

# %% [markdown] exercise="exercise-ends"
# How many of `range(10)` the script's slice keeps, with a cutoff of 0.4 and six to be kept, and the list that should be kept.

# %% tags=["stub"]
answer = {"kept by the slice": ..., "right": ...}


# %% tags=["check"]
@check
def exercise_ends(answer: Any) -> None:
    assert answer["kept by the slice"] == 0, "none are left at the easy end: what does a slice up to -0 hold?"
    assert list(answer["right"]) == [4, 5, 6, 7, 8, 9], "the first four are dropped, and the next six are kept"


# %% [markdown] tags=["marking"]
# Half each; a sentence on why nobody noticed (no error, an empty coreset) is worth a point more.

# %% tags=["answer"]
easy = 10 - 4 - 6
answer = {"kept by the slice": len(range(10)[4:-easy]), "right": coverage.double_end(np.arange(10), 6, 0.4).tolist()}

# %% tags=["wrong"]
# The slice read as if -0 were the end.
answer["kept by the slice"] = 6

# %% tags=["wrong"]
# The hard end kept in place of the middle.
answer["right"] = [0, 1, 2, 3, 4, 5]
