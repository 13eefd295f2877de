# %% [markdown]
# At hand are the mails of a made-up person, `own` (train, val, test, stated, persona), each with `mail.text`, `mail.id` and the order `instruction`, and `index`, which searches the training mails and those that state facts.
# `effects` are made-up effects of five personas, as no trained model goes with this worksheet.

# %% tags=["setup"]
import re

import numpy as np
from scipy import stats

from effnotes.datasets.text import Index, style
from effnotes.metrics.text import bleu_panza, longest_copy
from effnotes.studies.personalization.writers import Writer, material

own = material(Writer(mails=60, val=10, test=10, facts=10, seed=902))
assert own.persona is not None
index = Index([each.mail for each in own.train] + own.stated)
real = [each.mail.text for each in own.test]
effects = [0.04, 0.11, -0.02, 0.09, 0.06]

# %% tags=["checks"]
from typing import Any

from effnotes.reporting.exercises import check

answer: Any

# %% [markdown] exercise="exercise-budget"
# The two densities.

# %% tags=["stub"]
answer = {"as many as LoRA of rank 8": ..., "beside rank 4": ...}


# %% tags=["check"]
@check
def exercise_budget(answer: Any) -> None:
    numbers = 8 * (128 + 128)
    alone, beside = answer["as many as LoRA of rank 8"], answer["beside rank 4"]
    assert abs(alone * 128**2 - numbers) < 1, (
        "a density of d trains d m n numbers, and LoRA of rank r trains r for each row and column"
    )
    assert abs(beside * 128**2 + 4 * (128 + 128) - numbers) < 1, "rank 4 has spent a part of the budget; what is left of it?"


# %% [markdown] tags=["marking"]
# One point each.
# Ask what happens to the density when the layer is twice as wide: it halves.

# %% tags=["answer"]
answer = {"as many as LoRA of rank 8": 8 * 256 / 128**2, "beside rank 4": (8 - 4) * 256 / 128**2}

# %% tags=["wrong"]
# The columns forgotten.
answer = {"as many as LoRA of rank 8": 8 * 128 / 128**2, "beside rank 4": 4 * 128 / 128**2}

# %% tags=["wrong"]
# The whole budget once more, beside the low-rank part.
answer = {"as many as LoRA of rank 8": 8 * 256 / 128**2, "beside rank 4": 8 * 256 / 128**2}

# %% [markdown] exercise="exercise-bleu"
# The test mails (`real`) as you have changed them, all in one list; the mean of their `bleu_panza`; their `style`; and which of the two notices: "BLEU" or "style".

# %% tags=["stub"]
answer = {"mails": ..., "BLEU": ..., "style": ..., "notices": ...}


# %% tags=["check"]
@check
def exercise_bleu(answer: Any) -> None:
    def words(text: str) -> list[str]:
        return re.findall(r"[^\W_]+", text.lower())

    mails = list(answer["mails"])
    assert len(mails) == len(real), "a list of all test mails is asked for, in their order"
    assert all(text == text.lower() for text in mails), "there are capital letters left"
    assert list(map(words, mails)) == list(map(words, real)), "only letters' case and punctuation may change, no word"
    assert mails != [text.lower() for text in real], "the punctuation is as it was"
    assert abs(answer["BLEU"] - bleu_panza(mails, real).mean()) < 1e-3, "the mean BLEU of these mails is another one"
    assert own.persona is not None
    assert abs(answer["style"] - style(mails, own.persona, real)) < 1e-3, "the style of these mails is another one"
    assert answer["notices"] == "style", "which of the two numbers has moved?"


# %% [markdown] tags=["marking"]
# A third for the mails, a third for the numbers, a third for saying why: this BLEU deletes punctuation and drops case before it counts.

# %% tags=["answer"]
changed = [text.lower().replace(".", "!") for text in real]
answer = {"mails": changed, "BLEU": float(bleu_panza(changed, real).mean()), "style": style(changed, own.persona, real)}
answer["notices"] = "style"

# %% tags=["wrong"]
# Words are changed as well.
other = [text.replace("you", "thou") for text in changed]
answer = {
    "mails": other,
    "BLEU": float(bleu_panza(other, real).mean()),
    "style": style(other, own.persona, real),
    "notices": "style",
}

# %% tags=["wrong"]
# The habit of trusting BLEU.
answer["notices"] = "BLEU"

# %% [markdown] exercise="exercise-leak"
# How many of the orders of `own.train` find their own mail first, and the ids of the five mails that the first order finds when its own is excluded.

# %% tags=["stub"]
answer = {"find their own": ..., "ids without it": ...}


# %% tags=["check"]
@check
def exercise_leak(answer: Any) -> None:
    first = [index.search(each.instruction, 1)[0][0].id == each.mail.id for each in own.train]
    assert answer["find their own"] == sum(first), "another number of orders find their own mail first; the query is the order"
    mine = own.train[0]
    assert mine.mail.id not in answer["ids without it"], "the mail itself is among them"
    right = [found.id for found, _ in index.search(mine.instruction, 5, exclude=mine.mail)]
    assert list(answer["ids without it"]) == right, (
        "the search finds other mails; `exclude` also leaves out what is nearly the same"
    )


# %% [markdown] tags=["marking"]
# Half for the number, half for saying what a model would learn from it: to copy its prompt.

# %% tags=["answer"]
mine = own.train[0]
answer = {"find their own": sum(index.search(each.instruction, 1)[0][0].id == each.mail.id for each in own.train)}
answer["ids without it"] = [found.id for found, _ in index.search(mine.instruction, 5, exclude=mine.mail)]

# %% tags=["wrong"]
# The mail is the query, and so finds itself.
answer["find their own"] = sum(index.search(each.mail.text, 1)[0][0].id == each.mail.id for each in own.train)

# %% tags=["wrong"]
# Nothing is excluded.
answer["ids without it"] = [found.id for found, _ in index.search(mine.instruction, 5)]

# %% [markdown] exercise="exercise-exposure"
# The exposure in bits at each rank, and its mean over all ranks from 1 to 10,000.

# %% tags=["stub"]
answer = {1: ..., 100: ..., 10_000: ..., "mean": ...}


# %% tags=["check"]
@check
def exercise_exposure(answer: Any) -> None:
    bits = np.log2(10_000) - np.log2(np.arange(1, 10_001))
    for rank in (1, 100, 10_000):
        assert abs(answer[rank] - bits[rank - 1]) < 0.06, (
            f"rank {rank}: exposure compares the rank with the number of codes, in bits"
        )
    assert abs(answer["mean"] - bits.mean()) < 0.02, (
        "the mean is over ranks that are equally likely, of the bits and not of the ranks"
    )


# %% [markdown] tags=["marking"]
# One point for each rank, two for the mean.
# The logarithm of the mean rank is the usual slip: it gives one bit.

# %% tags=["answer"]
exposure = np.log2(10_000) - np.log2(np.arange(1, 10_001))
answer = {rank: float(exposure[rank - 1]) for rank in (1, 100, 10_000)} | {"mean": float(exposure.mean())}

# %% tags=["wrong"]
# Natural logarithms.
answer = {rank: float(np.log(10_000 / rank)) for rank in (1, 100, 10_000)} | {"mean": 1.0}

# %% tags=["wrong"]
# The exposure of the mean rank.
answer["mean"] = float(np.log2(10_000 / 5000.5))

# %% [markdown] exercise="exercise-split"
# The ids of a training and a test mail of `own` that share the longest run of words, how many words that is, and on which side a reply belongs that quotes a training mail: "train", "test" or "either".

# %% tags=["stub"]
answer = {"training mail": ..., "test mail": ..., "words in a row": ..., "a reply belongs to": ...}


# %% tags=["check"]
@check
def exercise_split(answer: Any) -> None:
    train, test = ({each.mail.id: each.mail.text for each in part} for part in (own.train, own.test))
    assert answer["training mail"] in train, "the first id is none of a training mail"
    assert answer["test mail"] in test, "the second id is none of a test mail"
    longest = max(longest_copy(text, list(train.values())) for text in test.values())
    assert answer["words in a row"] == longest, "another pair shares more words in a row, or these are fewer"
    of_pair = longest_copy(test[answer["test mail"]], [train[answer["training mail"]]])
    assert of_pair == longest, "these two share fewer words in a row"
    assert answer["a reply belongs to"] == "train", "whatever it quotes has been learnt"


# %% [markdown] tags=["marking"]
# Half for the pair, half for the reason: a reply quotes what it answers, and one text sent to three people is one text.
# There may be several pairs; the check takes any of them.

# %% tags=["answer"]
pairs = [
    (longest_copy(asked.mail.text, [learnt.mail.text]), learnt.mail.id, asked.mail.id) for asked in own.test for learnt in own.train
]
count, of_train, of_test = max(pairs)
answer = {"training mail": of_train, "test mail": of_test, "words in a row": count, "a reply belongs to": "train"}

# %% tags=["wrong"]
# All words that two mails share, in whatever order.
shared = [
    (len(set(a.mail.text.lower().split()) & set(b.mail.text.lower().split())), b.mail.id, a.mail.id)
    for a in own.test
    for b in own.train
]
answer = dict(zip(("words in a row", "training mail", "test mail"), max(shared), strict=True)) | {"a reply belongs to": "train"}

# %% tags=["wrong"]
# One by one would do.
answer["a reply belongs to"] = "either"

# %% [markdown] exercise="exercise-unit"
# A function that returns both ends of the 95% interval of the mean, for effects of two or more personas; try it on `effects`.


# %% tags=["stub"]
def interval(values: list[float]) -> tuple[float, float]:
    return ..., ...


answer = interval


# %% tags=["check"]
@check
def exercise_unit(answer: Any) -> None:
    for values in ([0.1, 0.3], effects, list(np.linspace(-1, 2, 12))):
        low, high = answer(values)
        assert low <= high, "the lower end comes first"
        assert abs((low + high) / 2 - np.mean(values)) < 1e-6, f"{len(values)} effects: the interval is not around their mean"
        half = stats.t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / len(values) ** 0.5
        assert abs((high - low) / 2 - half) < 1e-4 * half, (
            f"{len(values)} effects: the width is off; which distribution, and n or n - 1?"
        )


# %% [markdown] tags=["marking"]
# Half for the interval, half for the unit: mails of a persona share whatever went well or badly with its model.


# %% tags=["answer"]
def of_mean(values: list[float]) -> tuple[float, float]:
    half = stats.t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / len(values) ** 0.5
    return float(np.mean(values) - half), float(np.mean(values) + half)


answer = of_mean


# %% tags=["wrong"]
def normal(values: list[float]) -> tuple[float, float]:
    """The normal distribution, which is too sure of few."""
    half = 1.96 * np.std(values, ddof=1) / len(values) ** 0.5
    return float(np.mean(values) - half), float(np.mean(values) + half)


answer = normal


# %% tags=["wrong"]
def of_one(values: list[float]) -> tuple[float, float]:
    """Where one more effect would lie, not their mean."""
    half = stats.t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1)
    return float(np.mean(values) - half), float(np.mean(values) + half)


answer = of_one
