"""How near written mails come to real ones: in their words, as a whole, in their author, and in what they give away.

Results for each mail are float64 (n,), so that mails can be paired and drawn again; a published figure is the mean.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Callable, Sequence
from difflib import SequenceMatcher
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import rel_entr

from effnotes.core.checks import check_range

FloatArray: TypeAlias = NDArray[np.float64]
References: TypeAlias = Sequence[str | Sequence[str]]  # for each candidate the real mail, or several

_PUNCTUATION = str.maketrans("", "", string.punctuation)


def bleu_panza(candidates: Sequence[str], references: References) -> FloatArray:
    """Return Panza's BLEU of each candidate, (n,) in [0, 1]: the mean of its BLEU-1 to BLEU-4, without smoothing, by torchmetrics.

    ASCII punctuation is deleted and case dropped first, so it sees little of a style. A candidate or mail of fewer than 4 words
    has a BLEU-4 of 0 and at most .75, an empty one 0. Not to be put beside `corpus_bleu`.

    Raises:
        ValueError: As many candidates as references are needed, one or more, and of each a real mail.
    """
    from torchmetrics.functional.text import bleu_score

    def score(candidate: str, real: list[str]) -> float:
        return float(np.mean([float(bleu_score([candidate], [real], n_gram=n)) for n in (1, 2, 3, 4)]))

    return _each(score, candidates, references)


def rouge_l(candidates: Sequence[str], references: References) -> FloatArray:
    """Return ROUGE-L of each candidate, (n,) in [0, 1]: F of the longest common subsequence of words, the best over its references.

    Words as in `bleu_panza`, by torchmetrics but for texts that are both empty: they agree, 1. Errors are those of `bleu_panza`.
    """
    from torchmetrics.functional.text import rouge_score

    def score(candidate: str, real: list[str]) -> float:
        if not candidate and "" in real:
            return 1.0
        # Its own normalisation drops all letters beyond a to z.
        found = rouge_score([candidate], [real], normalizer=str, tokenizer=str.split, rouge_keys="rougeL")
        return float(found["rougeL_fmeasure"])

    return _each(score, candidates, references)


def _each(score: Callable[[str, list[str]], float], candidates: Sequence[str], references: References) -> FloatArray:
    real = [[each] if isinstance(each, str) else list(each) for each in references]
    if len(candidates) != len(real) or not real or not all(real):
        raise ValueError(f"{len(candidates)} candidates and {len(real)} references: must be as many, and none without a mail")
    return np.array([score(_plain(text), [*map(_plain, each)]) for text, each in zip(candidates, real, strict=True)])


def _plain(text: str) -> str:
    return " ".join(text.translate(_PUNCTUATION).lower().split())


def corpus_bleu(candidates: Sequence[str], references: Sequence[str]) -> tuple[float, str]:
    """Return sacreBLEU's BLEU of all candidates together, in [0, 100], and the signature that goes with it (Post, WMT 2018)."""
    from sacrebleu import BLEU

    bleu = BLEU()
    return bleu.corpus_score(candidates, [references]).score, str(bleu.get_signature())


class Mauve(NamedTuple):
    """MAUVE over five seeds of k-means, and the number of its clusters."""

    mean: float
    spread: float
    buckets: int


def mauve(p: ArrayLike, q: ArrayLike, *, buckets: int | None = None) -> Mauve:
    """Return MAUVE of two sets of texts from features of them: how far one distribution has what the other has, in (0, 1].

    The rows get unit length, PCA keeps 90% of their variance, k-means makes histograms P and Q, and for 25 mixtures R = l P +
    (1 - l) Q the points (exp -5 KL(Q|R), exp -5 KL(P|R)) draw a curve between (0, 1) and (1, 0); MAUVE is the area below it.
    On raw texts it sees style, but wants thousands of them: from 30 to 150 a side it ranks at best, so give `buckets` and n.

    Source: Pillutla et al. (NeurIPS 2021), with the settings of their code; k-means is scikit-learn's.

    Args:
        p: Features of the written texts, finite (n, d), by a model that is not under test, or of character n-grams.
        q: Features of the real ones, finite (m, d).
        buckets: Clusters, from 2 to n + m; None takes max(2, round(min(n, m) / 10)).
    """
    from sklearn.cluster import KMeans
    from sklearn.decomposition import PCA
    from sklearn.preprocessing import normalize

    one, other = np.asarray(p, dtype=np.float64), np.asarray(q, dtype=np.float64)
    if one.ndim != 2 or other.ndim != 2 or one.shape[1] != other.shape[1] or not min(len(one), len(other)):
        raise ValueError(f"p has shape {one.shape} and q {other.shape}: must be (n, d) and (m, d), neither empty")
    buckets = max(2, round(min(len(one), len(other)) / 10)) if buckets is None else buckets
    check_range(2, len(one) + len(other), whole=True, buckets=buckets)
    points = PCA(0.9, svd_solver="full").fit_transform(normalize(np.vstack([one, other])))
    areas = []
    for seed in range(5):
        labels = KMeans(buckets, n_init=5, max_iter=500, random_state=seed).fit_predict(points)
        areas.append(_area(*(np.bincount(each, minlength=buckets) / len(each) for each in np.split(labels, [len(one)]))))
    return Mauve(float(np.mean(areas)), float(np.std(areas, ddof=1)), buckets)


def _area(p: FloatArray, q: FloatArray) -> float:
    share = np.linspace(1e-6, 1 - 1e-6, 25)[:, None]
    mixed = share * p + (1 - share) * q
    x, y = (np.exp(-5 * rel_entr(each, mixed).sum(axis=1)) for each in (q, p))
    return float(-np.trapezoid([0, *y, 1], [1, *x, 0]))  # from (1, 0), where the mixture is Q, to (0, 1)


class AuthorshipJudge:
    """Says how likely it is that a mail is a person's, from its character 1- to 4-grams: logistic regression on their TF-IDF.

    `auc` is the area under the ROC curve on the real mails, each judged by a model of 5 that did not see it: what a probability
    is worth. 1/2 is chance. Near duplicates among the mails make it too high.

    Args:
        own: Real mails of the person, at least 5.
        others: Real mails of others, at least 5.
    """

    def __init__(self, own: Sequence[str], others: Sequence[str]) -> None:
        from sklearn.feature_extraction.text import TfidfVectorizer
        from sklearn.linear_model import LogisticRegression
        from sklearn.metrics import roc_auc_score
        from sklearn.model_selection import StratifiedKFold, cross_val_predict
        from sklearn.pipeline import make_pipeline

        if min(len(own), len(others)) < 5:
            raise ValueError(f"{len(own)} mails of the person and {len(others)} of others: must be at least 5 each")
        letters = TfidfVectorizer(analyzer="char", ngram_range=(1, 4), lowercase=False, sublinear_tf=True, max_features=2**16)
        judge = make_pipeline(letters, LogisticRegression(C=10, class_weight="balanced", max_iter=1000))
        texts, is_own = [*own, *others], np.repeat([1, 0], [len(own), len(others)])
        folds = StratifiedKFold(5, shuffle=True, random_state=0)
        unseen = cross_val_predict(judge, texts, is_own, cv=folds, method="predict_proba")[:, 1]
        self.auc = float(roc_auc_score(is_own, unseen))
        self._judge = judge.fit(texts, is_own)

    def probability(self, texts: Sequence[str]) -> FloatArray:
        """Return for each text the probability (n,) that the person wrote it, as if half of all mails were the person's."""
        return np.asarray(self._judge.predict_proba(list(texts))[:, 1])


def exposure(log_probabilities: ArrayLike, true: int) -> float:
    """Return the exposure of a secret in bits, log2 R - log2 rank, in [0, log2 R]: 0 if it ranks last, log2 R if first.

    Equal candidates share their mean rank. Source: Carlini et al. ("The Secret Sharer", USENIX Security 2019).

    Args:
        log_probabilities: (R,), of all candidates, from the model; -inf allowed.
        true: Position of the secret among them.
    """
    given = np.asarray(log_probabilities, dtype=np.float64)
    if given.ndim != 1 or not given.size or np.isnan(given).any():
        raise ValueError(f"log_probabilities have shape {given.shape}: must be (R,), not empty, without NaN")
    check_range(0, len(given) - 1, whole=True, true=true)
    rank = (given > given[true]).sum() + ((given == given[true]).sum() + 1) / 2
    return float(np.log2(len(given)) - np.log2(rank))


class Habits(NamedTuple):
    """What most mails of a person begin and end with, found in the mails themselves; in small letters, without punctuation behind.

    Of one's own mails these are private, and what `compared` returns are numbers alone.
    """

    greeting: str  # the first word
    signoff: str  # the first line of the last paragraph
    name: str  # the last line

    @classmethod
    def of(cls, texts: Sequence[str]) -> Habits:
        """Return the most common of each, of texts of which there is at least one."""
        return cls(*(Counter(each).most_common(1)[0][0] for each in zip(*map(_ends, texts), strict=True)))

    def compared(self, written: Sequence[str], real: Sequence[str]) -> list[dict[str, str | float]]:
        """Return a row for each habit, with its shares of written and of real mails: habit, written, real.

        Beside the three it is whether all is in small letters, and whether there is an exclamation mark. The row of length has in
        `written` the largest difference between the shares of mails of at most so many words (Kolmogorov and Smirnov), in [0, 1],
        and 0 in `real`.
        """
        from scipy.stats import ks_2samp

        def shares(texts: Sequence[str]) -> list[float]:
            has = [
                [*(one == other for one, other in zip(_ends(text), self, strict=True)), text == text.lower(), "!" in text]
                for text in texts
            ]
            return [float(share) for share in np.mean(has, axis=0)]

        names = (*self._fields, "small letters", "exclamation mark")
        rows: list[dict[str, str | float]] = [
            {"habit": habit, "written": one, "real": other}
            for habit, one, other in zip(names, shares(written), shares(real), strict=True)
        ]
        length = ks_2samp(*([len(text.split()) for text in texts] for texts in (written, real)))
        return [*rows, {"habit": "length", "written": float(length.statistic), "real": 0.0}]


def _ends(text: str) -> tuple[str, str, str]:
    paragraphs = [paragraph.split("\n") for paragraph in re.split(r"\n\s*\n", text.strip().lower())]
    first, signoff, name = (
        line.strip().rstrip(string.punctuation) for line in (paragraphs[0][0], paragraphs[-1][0], paragraphs[-1][-1])
    )
    return first.partition(" ")[0].rstrip(string.punctuation), signoff, name


def longest_copy(output: str, texts: Sequence[str]) -> int:
    """Return how many words the longest run has that the output shares with one of the texts; case and punctuation do not count.

    `effnotes.datasets.text.copy_rate` says which share of its 8-grams it copies.
    """
    words = [re.findall(r"\w+", each.casefold()) for each in (output, *texts)]
    # SequenceMatcher keeps what it knows of its second sequence, the output.
    matcher = SequenceMatcher(None, b=words[0], autojunk=False)
    longest = 0
    for each in words[1:]:
        matcher.set_seq1(each)
        longest = max(longest, matcher.find_longest_match().size)
    return longest
