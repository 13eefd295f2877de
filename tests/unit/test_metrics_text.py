"""Scores of written mails against their definitions, computed literally."""

import functools
import itertools
import math
import string
from collections import Counter

import numpy as np
import pytest

from effnotes.metrics.text import AuthorshipJudge, Habits, bleu_panza, corpus_bleu, exposure, longest_copy, mauve, rouge_l

PAIRS = [
    ("Hi Ann, the meeting is on Friday at 5!", "Dear Ann, the meeting is on Friday at noon."),
    ("the the the the the", "the cat is on the mat"),  # counts are clipped
    ("the cat is on", "the cat is on the mat today"),  # too short: penalised
    ("Thanks, Bob", "thanks BOB"),  # under 4 words
    ("", "something was to be written"),
    ("nothing in common here", "other words all over"),
    ("Grüße aus Köln, wie immer schön", "Liebe Grüße aus Köln, schön wie immer"),
    ("don't stop now please", "dont stop now please"),
]


def plain(text: str) -> list[str]:
    return "".join(c for c in text if c not in string.punctuation).lower().split()


def grams(words: list[str], n: int) -> Counter[tuple[str, ...]]:
    return Counter(tuple(words[k : k + n]) for k in range(len(words) - n + 1))


def literal_bleu(candidate: str, references: list[str]) -> float:
    words, real = plain(candidate), [plain(each) for each in references]
    r = min((abs(len(each) - len(words)), place, len(each)) for place, each in enumerate(real))[2]
    total = 0.0
    for order in (1, 2, 3, 4):
        precisions = []
        for n in range(1, order + 1):
            held = grams(words, n)
            clipped = sum(min(count, max(grams(each, n)[gram] for each in real)) for gram, count in held.items())
            precisions.append(clipped / held.total() if held else 0.0)
        if all(precisions):
            penalty = 1.0 if len(words) > r else math.exp(1 - r / len(words))
            total += penalty * math.exp(sum(math.log(p) / order for p in precisions))
    return total / 4


def literal_rouge(candidate: str, reference: str) -> float:
    a, b = plain(candidate), plain(reference)

    @functools.cache
    def longest(i: int, j: int) -> int:
        if i == len(a) or j == len(b):
            return 0
        return 1 + longest(i + 1, j + 1) if a[i] == b[j] else max(longest(i + 1, j), longest(i, j + 1))

    both = longest(0, 0)
    return 2 * both / (len(a) + len(b)) if a or b else 1.0  # what 2PR/(P + R) comes to


def test_bleu_of_panza_is_the_literal_one() -> None:
    candidates, references = zip(*PAIRS, strict=True)
    found = bleu_panza(candidates, references)
    np.testing.assert_allclose(found, [literal_bleu(c, [r]) for c, r in PAIRS], atol=1e-6)
    assert found[3] == 0.5  # two words, both right: BLEU-1 and BLEU-2 are 1, the others 0
    assert found[4] == found[5] == 0
    assert found[7] == 1
    several = [[r, "the cat sat on the mat"] for _, r in PAIRS]
    expected = [literal_bleu(c, real) for c, real in zip(candidates, several, strict=True)]
    np.testing.assert_allclose(bleu_panza(candidates, several), expected, atol=1e-6)


def test_rouge_l_is_the_literal_one_and_the_best_of_several() -> None:
    candidates, references = zip(*PAIRS, strict=True)
    found = rouge_l(candidates, references)
    np.testing.assert_allclose(found, [literal_rouge(c, r) for c, r in PAIRS], atol=1e-6)
    np.testing.assert_allclose(rouge_l(candidates, [["no such", r] for r in references]), found, atol=1e-6)
    assert rouge_l(["", "?!", ""], ["", "", "a word"]).tolist() == [1, 1, 0]


@pytest.mark.parametrize("measure", [bleu_panza, rouge_l])
@pytest.mark.parametrize(("candidates", "references"), [(["a"], []), ([], []), (["a"], [[]])])
def test_unequal_numbers_of_texts_are_refused(measure, candidates, references) -> None:
    with pytest.raises(ValueError, match="candidates"):
        measure(candidates, references)


def test_corpus_bleu_counts_over_all_texts_and_says_how() -> None:
    candidates, references = ["the cat is on the mat now", "a b c d e"], ["the cat is on the mat", "a b c d f"]
    precisions = []
    for n in (1, 2, 3, 4):
        held = [(grams(plain(c), n), grams(plain(r), n)) for c, r in zip(candidates, references, strict=True)]
        precisions.append(sum((c & r).total() for c, r in held) / sum(c.total() for c, _ in held))
    score, signature = corpus_bleu(candidates, references)
    assert score == pytest.approx(100 * math.prod(precisions) ** 0.25)  # 12 words against 11: no penalty
    assert "tok:13a" in signature
    assert "version:" in signature


def literal_mauve(p: list[float], q: list[float]) -> float:
    """The area below the curve as the sum of its trapezoids, with loops."""
    points = [(0.0, 1.0)]
    for step in range(25):
        share = 1 - 1e-6 - (1 - 2e-6) * step / 24
        r = [share * a + (1 - share) * b for a, b in zip(p, q, strict=True)]
        kl = [sum(a * math.log(a / m) for a, m in zip(each, r, strict=True) if a > 0) for each in (q, p)]
        points.append((math.exp(-5 * kl[0]), math.exp(-5 * kl[1])))
    points.append((1.0, 0.0))
    return sum((x1 - x0) * (y0 + y1) / 2 for (x0, y0), (x1, y1) in itertools.pairwise(points))


def clusters(counts: list[int], seed: int) -> np.ndarray:
    """Features close to as many directions, at right angles to one another; k-means cannot miss them."""
    rng = np.random.default_rng(seed)
    rows = np.repeat(np.eye(len(counts), 6), counts, axis=0) * rng.uniform(1, 9, (sum(counts), 1))
    return rows + rng.normal(0, 0.003, rows.shape)


@pytest.mark.parametrize(("ours", "real"), [([20, 30, 50], [40, 40, 20]), ([50, 50, 0], [0, 50, 50]), ([30, 30, 40], [30, 30, 40])])
def test_mauve_is_the_area_below_the_literal_curve(ours, real) -> None:
    found = mauve(clusters(ours, 0), clusters(real, 1), buckets=3)
    assert found.mean == pytest.approx(literal_mauve([c / 100 for c in ours], [c / 100 for c in real]), abs=1e-6)
    assert found.spread == pytest.approx(0, abs=1e-9)


def test_mauve_of_noise_is_high_and_of_a_shift_low() -> None:
    """As measured with the authors' code: .96 and .03 of 200 texts in 32 dimensions."""
    rng = np.random.default_rng(0)
    p, q = rng.normal(size=(2, 200, 32))
    same, other = mauve(p, q), mauve(p + 0.7, q)
    assert same.mean > 0.85 > 0.15 > other.mean > 0
    assert same.buckets == other.buckets == 20
    assert same.spread > 0
    assert mauve(p[:9], q[:50]).buckets == 2
    with pytest.raises(ValueError, match=r"\(200, 31\)"):
        mauve(p, q[:, 1:])


def test_mauve_is_that_of_its_authors() -> None:
    theirs = pytest.importorskip("mauve", reason="the authors' package, mauve-text, is not installed")
    rng = np.random.default_rng(1)
    p, q = rng.normal(size=(200, 8)), rng.normal(0.2, 1, size=(200, 8))
    found = mauve(p, q)
    runs = [theirs.compute_mauve(p_features=p, q_features=q, seed=seed).mauve for seed in range(5)]
    assert found.mean == pytest.approx(np.mean(runs), abs=4 * max(found.spread, np.std(runs)))


def mails_of(greeting: str, close: str, n: int, seed: int) -> list[str]:
    rng = np.random.default_rng(seed)
    return [f"{greeting} the {' '.join(f'word{k}' for k in rng.integers(0, 99, 12))}{close}" for _ in range(n)]


def test_the_judge_knows_habits_from_chance() -> None:
    judge = AuthorshipJudge(mails_of("Hiya!!", " :)", 30, 0), mails_of("Dear colleague,", ". Regards", 30, 1))
    assert judge.auc == 1
    own = judge.probability(mails_of("Hiya!!", " :)", 10, 2))
    other = judge.probability(mails_of("Dear colleague,", ". Regards", 10, 3))
    assert own.min() > 0.5 > other.max()
    assert 0 < other.min() < own.max() < 1
    assert AuthorshipJudge(mails_of("hello", "", 30, 0), mails_of("HELLO", "", 30, 1)).auc == 1  # case is style
    nothing = AuthorshipJudge(mails_of("Hello", ".", 60, 0), mails_of("Hello", ".", 60, 1))
    assert 0.3 < nothing.auc < 0.7  # judged on mails that were not learnt from
    with pytest.raises(ValueError, match="3 mails"):
        AuthorshipJudge(["a"] * 3, ["b"] * 9)


def test_exposure_is_the_rank_of_the_secret_in_bits() -> None:
    rng = np.random.default_rng(0)
    values = rng.permutation(1024).astype(float)
    for place in range(0, 1024, 97):
        rank = 1 + sum(value > values[place] for value in values)
        assert exposure(values, place) == pytest.approx(math.log2(1024 / rank))
    assert exposure(values, int(values.argmax())) == 10
    assert exposure(values, int(values.argmin())) == 0
    assert exposure([0.0] * 7, 3) == pytest.approx(math.log2(7 / 4))  # all alike: the mean of the ranks 1 to 7
    assert exposure([1.0, 1.0, -math.inf, 0.0], 0) == pytest.approx(math.log2(4 / 1.5))
    for given, true in (([], 0), ([math.nan, 1.0], 0), ([1.0, 2.0], 2)):
        with pytest.raises(ValueError, match=r"log_probabilities|true"):
            exposure(given, true)


def test_the_longest_copy_is_that_of_all_runs() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        output, *texts = (" ".join(rng.choice(list("abc"), rng.integers(0, 15))) for _ in range(4))
        words = output.split()
        runs = {tuple(words[i:j]) for i in range(len(words)) for j in range(i + 1, len(words) + 1)}
        held = [each.split() for each in texts]
        shared = [len(run) for run in runs if any(tuple(t[k : k + len(run)]) == run for t in held for k in range(len(t)))]
        assert longest_copy(output, texts) == max(shared, default=0)
    assert longest_copy("My code is: 1234, sorry.", ["my CODE is 1234 or so"]) == 4
    assert longest_copy("word", []) == 0
    # Frequent words are no junk, however long the text.
    assert longest_copy("to be or not to be", ["to be or not to be " * 100]) == 6


def test_habits_are_those_of_most_mails_and_their_shares() -> None:
    """By hand; the recipient's name, case and punctuation behind a line do not count, and an empty text has no habit."""
    real = [
        "Hi Ben,\n\nThe hall is free.\n\nBest regards,\nAda",
        "hi Cora!\n\nAll is well.\n\nbest regards\nada",
        "Dear Dirk\n\nno\n\nYours,\nAda L.",
    ]
    found = Habits.of(real)
    assert found == ("hi", "best regards", "ada")
    rows = {row["habit"]: (row["written"], row["real"]) for row in found.compared(["HI!", ""], real)}
    assert rows["greeting"] == (0.5, pytest.approx(2 / 3))
    assert rows["signoff"] == (0, pytest.approx(2 / 3))
    assert rows["name"] == (0, pytest.approx(2 / 3))
    assert rows["small letters"] == (0.5, 0)  # an empty text has no capital
    assert rows["exclamation mark"] == (0.5, pytest.approx(1 / 3))
    assert rows["length"] == (1, 0)  # at most 1 word: all of the written mails, and no real one
    assert [row["written"] for row in found.compared(real, real)][-1] == 0
