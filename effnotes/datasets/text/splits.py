"""Mails to learn from and mails to be tested on, with no thread and no mail that is nearly the same on both sides."""

import math
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

from effnotes.core.checks import check_choice, check_range
from effnotes.core.digests import json_digest
from effnotes.datasets.text.mail import Mail, first_linked

SPLITS = ("train", "val", "test")
Splits = dict[str, list[Mail]]


def group_mails(mails: Sequence[Mail], similarity: float = 0.9) -> list[Mail]:
    """Return the mails with one group for all that one thread or chain of near duplicates holds together.

    Two mails are near duplicates if the cosine of their TF-IDF vectors of character 3- to 5-grams within words is at least
    `similarity`: one mail sent to three people with another name in each, for example.

    Args:
        mails: Mails with the group of their thread.
        similarity: In (0, 1].
    """
    # Loaded here: who reads mails does not wait for scikit-learn.
    from sklearn.neighbors import NearestNeighbors

    check_range(1e-6, 1, similarity=similarity)
    if not mails:
        return []
    vectors = similarity_vectorizer().fit_transform(mail.text for mail in mails)
    # A little further than asked: the cosine of a text with its copy is 1 up to rounding.
    near = NearestNeighbors(radius=1 - similarity + 1e-6, metric="cosine", algorithm="brute").fit(vectors)
    neighbours = near.radius_neighbors(vectors, return_distance=False)
    keys = ([mail.group, item, *map(int, found)] for item, (mail, found) in enumerate(zip(mails, neighbours, strict=True)))
    return [replace(mail, group=mails[first].id) for mail, first in zip(mails, first_linked(keys), strict=True)]


def similarity_vectorizer() -> Any:
    """Return scikit-learn's vectorizer, not fitted, by the cosines of which mails are near duplicates."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    return TfidfVectorizer(analyzer="char_wb", ngram_range=(3, 5), max_features=2**17)


def split_mails(
    mails: Sequence[Mail], sizes: Mapping[str, float] | None = None, *, by: Literal["thread", "date"] = "thread", seed: int = 0
) -> Splits:
    """Split mails into "train", "val" and "test" so that no group of `group_mails` is in two of them.

    By thread, groups come in an order drawn from the seed, those larger than the smallest split last, so that they are learnt
    from. By date, the newest mails are the test, those before them the validation, and mails without a date are the oldest; what
    belongs to a group of a newer split is left out. Within a split mails stand in the order that they are given in.

    Args:
        mails: All mails, each once.
        sizes: Of each of the three splits how many mails, or which fraction of them: whole numbers, or numbers below 1 that sum to
            1 at most. None takes .7, .15 and .15. Counts are kept exactly; by fractions, "train" may end up smaller.
        by: What decides.
        seed: Of the order of threads.

    Raises:
        ValueError: The sizes are none, or there are too few mails or threads for them.
    """
    check_choice(("thread", "date"), by=by)
    wanted, is_exact = _counts(sizes or {"train": 0.7, "val": 0.15, "test": 0.15}, len(mails))
    grouped = group_mails(mails)
    members = Counter(mail.group for mail in grouped)
    if by == "date":
        keys: list[Any] = [-mail.date.timestamp() if mail.date else math.inf for mail in grouped]
    else:
        drawn = sorted(members)
        random.Random(seed).shuffle(drawn)
        rank = {group: (members[group] > min(wanted.values()), place) for place, group in enumerate(drawn)}
        keys = [rank[mail.group] for mail in grouped]
    order = sorted(range(len(grouped)), key=keys.__getitem__)
    taken, home = dict[str, list[int]](), set[str]()
    for split in reversed(SPLITS):
        taken[split] = [place for place in order if grouped[place].group not in home][: wanted[split]]
        home |= {grouped[place].group for place in taken[split]}
        if len(taken[split]) < (wanted[split] if is_exact or split != "train" else 1):
            found = f"{len(mails)} mails in {len(members)} groups of threads and near duplicates"
            raise ValueError(f"sizes={wanted}: {split} gets {len(taken[split])} of {found}; ask for smaller splits")
    return {split: [grouped[place] for place in sorted(taken[split])] for split in SPLITS}


def _counts(sizes: Mapping[str, Any], n: int) -> tuple[dict[str, int], bool]:
    """How many mails each split is to get, and whether exactly so many were asked for."""
    if sizes.keys() != set(SPLITS):
        raise ValueError(f"sizes={sizes}: must name train, val and test")
    check_range(0, **sizes)
    is_exact = max(sizes.values()) >= 1
    check_range(0, whole=is_exact, **sizes)
    if not is_exact and sum(sizes.values()) > 1 + 1e-9:
        raise ValueError(f"sizes={sizes}: fractions must sum to 1 at most")
    return {split: int(size) if is_exact else round(size * n) for split, size in sizes.items()}, is_exact


def check_apart(splits: Mapping[str, Sequence[Mail]]) -> None:
    """Raise ValueError if a mail, its text or its group is in two splits: what is measured on them would be learnt by heart.

    Args:
        splits: By name; their groups are those of `group_mails` where near duplicates are to count.
    """
    home: dict[tuple[str, str], str] = {}
    for split, mails in splits.items():
        for mail in mails:
            for what, key in (("mail", mail.id), ("text", mail.text), ("group", mail.group)):
                other = home.setdefault((what, key), split)
                if other != split:
                    raise ValueError(f"{other} and {split} overlap: they hold the same {what}; split with split_mails, by group")


def split_manifest(splits: Mapping[str, Sequence[Mail]]) -> dict[str, list[str]]:
    """Return of each split the SHA-256 of its mails (id and text), to tell later that a record was made on the same split."""
    return {split: [json_digest([mail.id, mail.text]) for mail in mails] for split, mails in splits.items()}
