"""What a mailbox costs: messages a second, and the memory that reading a large one takes at its peak."""

import subprocess
import sys
import time
from pathlib import Path

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from effnotes.datasets.text import group_mails, read_mails

WORDS = (Path(__file__).parents[2] / "README.md").read_text().split()
QUOTED = "\n".join(f"> {' '.join(WORDS[k : k + 9])}" for k in range(0, 90, 9))
HTML = "Content-Type: text/html; charset=utf-8"
PLAIN = "Content-Type: text/plain; charset=utf-8"


def write_mbox(path: Path, n: int, every: int, *, html: bool = False) -> Path:
    """n messages of some 120 words, half of them answers with a quote; one in `every` is Ada's."""
    with path.open("w") as file:
        for k in range(n):
            sender = "Ada <ada@example.org>" if k % every == 0 else f"Bob <bob{k % 500}@example.com>"
            at = (k * 37) % (len(WORDS) - 130)
            lines = [" ".join(WORDS[at + j : at + j + 10]) for j in range(0, 80, 10)]
            body = "<br>".join(lines) if html else "\n".join(lines)
            answer = "" if html or k % 2 else f"\n\nOn Mon, 2 Mar 2026 at 10:00, Bob <bob{k % 500}@example.com> wrote:\n{QUOTED}"
            print(
                f"From x@y Mon Mar  2 10:00:00 2026\nFrom: {sender}\nTo: Anna <anna@example.com>\nSubject: Re: topic {k // 3}\n"
                f"Date: Mon, 02 Mar 2026 10:00:00 +0100\nMessage-ID: <{k}@example.org>\nReferences: <{k // 3}@example.com>\n"
                f"MIME-Version: 1.0\n{HTML if html else PLAIN}\n\nHi {k},\n\n{body}\n\nBest,\nAda{answer}\n",
                file=file,
            )
    return path


# Seconds of the core, whatever else runs beside it.
@pytest.mark.benchmark(timer=time.process_time)
@pytest.mark.parametrize("html", [False, True], ids=["plain", "html"])
def test_messages_a_second(benchmark: BenchmarkFixture, tmp_path: Path, html: bool) -> None:
    path = write_mbox(tmp_path / "box.mbox", 1000, 1, html=html)
    found = benchmark.pedantic(read_mails, args=(path, "ada@example.org"), rounds=3)
    assert len(found.mails) == 1000
    print(f"{1000 / benchmark.stats.stats.min:,.0f} messages a second")
    assert 1000 / benchmark.stats.stats.min > 500


@pytest.mark.slow
def test_memory_of_200_000_messages(benchmark: BenchmarkFixture, tmp_path: Path) -> None:
    path = write_mbox(tmp_path / "box.mbox", 200_000, 5)
    # A process of its own: the peak of this one is that of all tests so far.
    code = (
        "import resource, sys; from effnotes.datasets.text import read_mails; found = read_mails(sys.argv[1], 'ada@example.org'); "
        "print(len(found.mails), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    )

    def read() -> tuple[int, int]:
        n, peak = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True).stdout.split()
        return int(n), int(peak) * (1 if sys.platform == "darwin" else 1024)

    n, peak = benchmark.pedantic(read, rounds=1)
    print(f"{n:,} mails, peak {peak / 1e6:,.0f} MB")
    assert n == 40_000
    assert peak < 300e6


def test_groups_of_2_000_mails(benchmark: BenchmarkFixture, tmp_path: Path) -> None:
    mails = read_mails(write_mbox(tmp_path / "box.mbox", 2000, 1), "ada@example.org").mails
    assert len(benchmark.pedantic(group_mails, args=(mails,), rounds=1)) == 2000
