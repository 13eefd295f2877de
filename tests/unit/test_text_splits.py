"""Splits that share no thread and no near duplicate, and tokens in the place of addresses."""

import dataclasses
import itertools
from collections import Counter
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from effnotes.datasets.text import Mail, check_apart, group_mails, redact, restore, split_mails, split_manifest


def mails(n: int, *, threads: int | None = None, seed: int = 0) -> list[Mail]:
    """Mails of random words, so that none is like another; of each thread the first, second, ... in turn."""
    rng = np.random.default_rng(seed)
    start = datetime(2026, 1, 1, tzinfo=UTC)
    texts = [" ".join("".join(rng.choice(list("abcdefghijklmnopqrstuvwxyz"), 6)) for _ in range(20)) for _ in range(n)]
    return [Mail(f"<{k}>", text, "", (), start + timedelta(days=k), f"<{k % (threads or n)}>") for k, text in enumerate(texts)]


def groups(splits: dict[str, list[Mail]]) -> list[set[str]]:
    return [{mail.group for mail in part} for part in splits.values()]


def test_near_duplicates_are_one_group_as_pairs_compared_one_by_one_say() -> None:
    given = mails(6)
    given.append(dataclasses.replace(given[0], id="<c>", group="<c>", text=f"Dear Bob, {given[0].text}"))
    given.append(dataclasses.replace(given[1], id="<d>", group="<d>"))

    def grams(text: str) -> Counter[str]:
        padded = [f" {word} " for word in text.lower().replace(",", "").split()]
        return Counter(word[k : k + n] for word in padded for n in (3, 4, 5) for k in range(len(word) - n + 1))

    counts = [grams(mail.text) for mail in given]
    held = Counter(gram for count in counts for gram in count)
    weighed = [{g: c * (np.log((1 + len(given)) / (1 + held[g])) + 1) for g, c in count.items()} for count in counts]
    norms = [np.sqrt(sum(v * v for v in each.values())) for each in weighed]
    pairs = {
        (i, j)
        for i, j in itertools.combinations(range(len(given)), 2)
        if sum(v * weighed[j].get(g, 0) for g, v in weighed[i].items()) >= 0.8 * norms[i] * norms[j]
    }
    assert pairs == {(0, 6), (1, 7)}
    grouped = group_mails(given, 0.8)
    assert {(i, j) for i, j in itertools.combinations(range(len(given)), 2) if grouped[i].group == grouped[j].group} == pairs
    assert [mail.text for mail in grouped] == [mail.text for mail in given]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("by", ["thread", "date"])
def test_no_group_is_in_two_splits_and_counts_are_exact(by: str, seed: int) -> None:
    given = mails(100, threads=70)
    splits = split_mails(given, {"train": 40, "val": 10, "test": 20}, by=by, seed=seed)  # type: ignore[arg-type]
    assert [len(part) for part in splits.values()] == [40, 10, 20]
    assert all(one.isdisjoint(other) for one, other in itertools.combinations(groups(splits), 2))
    check_apart(splits)


def test_by_date_the_test_is_the_newest_and_a_mail_without_date_the_oldest() -> None:
    given = mails(30)
    given[29] = dataclasses.replace(given[29], date=None)
    splits = split_mails(given[::-1], {"train": 20, "val": 4, "test": 6}, by="date")
    assert {mail.id for mail in splits["test"]} == {f"<{k}>" for k in range(23, 29)}
    assert max(mail.date for mail in splits["val"] if mail.date) < min(mail.date for mail in splits["test"] if mail.date)
    assert "<29>" not in {mail.id for part in ("val", "test") for mail in splits[part]}


def test_fractions_use_all_and_a_large_thread_is_learnt() -> None:
    given = mails(100)
    given = [dataclasses.replace(mail, group="<0>") if k < 40 else mail for k, mail in enumerate(given)]
    splits = split_mails(given, {"train": 0.8, "val": 0.1, "test": 0.1})
    assert (len(splits["val"]), len(splits["test"])) == (10, 10)
    assert len(splits["train"]) >= 75
    assert sum(mail.group == "<0>" for mail in splits["train"]) == 40


def test_the_seed_decides_and_the_order_within_a_split_is_the_given_one() -> None:
    given = mails(60)
    one, again, other = (split_mails(given, seed=seed) for seed in (1, 1, 2))
    assert one == again
    assert split_manifest(one) != split_manifest(other)
    for part in one.values():
        assert [int(mail.id[1:-1]) for mail in part] == sorted(int(mail.id[1:-1]) for mail in part)


def test_a_manifest_holds_digests_and_tells_a_changed_mail() -> None:
    splits = split_mails(mails(30))
    manifest = split_manifest(splits)
    assert all(len(digest) == 64 for part in manifest.values() for digest in part)
    splits["test"][0] = dataclasses.replace(splits["test"][0], text="other")
    assert sum(a != b for a, b in zip(manifest["test"], split_manifest(splits)["test"], strict=True)) == 1


@pytest.mark.parametrize("field", ["id", "text", "group"])
def test_splits_that_overlap_are_refused(field: str) -> None:
    splits = split_mails(mails(30))
    shared = getattr(splits["train"][0], field)
    splits["test"][0] = dataclasses.replace(splits["test"][0], **{field: shared})
    with pytest.raises(ValueError, match="train and test overlap") as error:
        check_apart(splits)
    assert shared not in str(error.value)


@pytest.mark.parametrize(
    ("sizes", "said"),
    [
        ({"train": 90, "val": 10, "test": 10}, "train gets 80 of 100 mails in 100 groups"),
        ({"train": 0.9, "val": 0.2, "test": 0.1}, "sum to 1"),
        ({"train": 10, "val": 2.5, "test": 3}, "whole number"),
        ({"train": 10, "test": 3}, "must name train, val and test"),
        ({"train": -1, "val": 1, "test": 1}, "at least 0"),
    ],
)
def test_sizes_that_cannot_be_are_refused(sizes: dict[str, float], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        split_mails(mails(100), sizes)
    with pytest.raises(ValueError, match=r"by='tread'.*Did you mean 'thread'"):
        split_mails(mails(30), by="tread")  # type: ignore[arg-type]


TEXT = (
    "Write to anna.b@mail.example.org or see https://example.org/a?b=1, call +43 (1) 555 0123 or 01 5550123 or (212) 555-0199, "
    "pay to AT61 1904 3002 3457 3201 or DE89370400440532013000 by 02.03.2026 at 10:00; cc anna.b@mail.example.org. Room 12."
)


def test_addresses_numbers_and_links_become_tokens_and_come_back() -> None:
    redacted, known = redact(TEXT)
    assert redacted == (
        "Write to <email-1> or see <url-1>, call <phone-1> or <phone-2> or <phone-3>, "
        "pay to <iban-1> or <iban-2> by 02.03.2026 at 10:00; cc <email-1>. Room 12."
    )
    assert restore(redacted, known) == TEXT


def test_one_address_has_one_token_in_all_mails_and_a_token_of_the_text_is_not_taken() -> None:
    _, known = redact("a@x.org")
    second, both = redact("b@x.org a@x.org <email-2>", known)
    assert second == "<email-3> <email-1> <email-2>"
    assert restore(second, both) == "b@x.org a@x.org <email-2>"
    assert known == {"<email-1>": "a@x.org"}


def test_what_only_looks_like_an_iban_stays() -> None:
    assert redact("Order AT62 1904 3002 3457 3201 of 2026-03-02")[0] == "Order AT62 1904 3002 3457 3201 of 2026-03-02"
