"""What a search costs in an archive of 10,000 mails. Goal: under 10 ms of CPU time by each method; near duplicates cost more.

Run with `pytest -o addopts= --import-mode=importlib tests/benchmarks/test_retrieval_benchmark.py`. The vectors of an encoder are
given, for what it takes to make that of a query is the model's.
"""

import time
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
import torch

from effnotes.datasets.text import Index, Mail

N = 10_000


@pytest.fixture(scope="module")
def mails():
    """Mails of 20 to 120 words, of which a few are frequent and most are rare, as Zipf's law has it."""
    rng = np.random.default_rng(0)
    known = np.array(["".join(rng.choice(list("abcdefghijklmnopqrstuvwxyz"), rng.integers(2, 10))) for _ in range(20_000)])
    chance = 1 / np.arange(10, len(known) + 10)
    start = datetime(2020, 1, 1, tzinfo=UTC)
    texts = (" ".join(rng.choice(known, rng.integers(20, 120), p=chance / chance.sum())) for _ in range(N))
    return [Mail(f"<{k}>", text, "", (), start + timedelta(hours=k), f"<{k}>") for k, text in enumerate(texts)]


def encode(texts):
    return torch.randn(len(texts), 384, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("method", "excluding"),
    [("bm25", False), ("tfidf", False), (encode, False), ("bm25", True)],
    ids=["bm25", "tfidf", "encoder", "bm25 without near duplicates"],
)
def test_a_search_in_10000_mails(benchmark, mails, method, excluding):
    start = time.process_time()
    index = Index(mails, method)
    built = time.process_time() - start
    queries = [mail.text.rsplit(" ", len(mail.text.split()) - 15)[0] for mail in mails[:20]]  # 15 words, as an instruction has
    options = {"before": mails[9_000].date} | ({"exclude": mails[4]} if excluding else {})
    index.search(queries[0], 3, **options)
    times = []
    for query in queries:
        start = time.process_time()
        found = index.search(query, 3, **options)
        times.append(time.process_time() - start)
        assert len(found) == 3
    benchmark.pedantic(lambda: index.search(queries[0], 3, **options), rounds=3)
    benchmark.extra_info |= {"build_seconds": round(built, 2), "median_ms": round(1000 * float(np.median(times)), 2)}
    if not excluding:
        assert np.median(times) < 0.010
