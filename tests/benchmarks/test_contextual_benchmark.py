"""What LTE's gathered forward pass takes beside the dense one, for one token at a sparsity of 87.5%: reported, whatever it is.

Run with `pytest tests/benchmarks/test_contextual_benchmark.py -s`.
"""

import pytest

from effnotes.studies.contextual import time_wide

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize(("width", "hidden", "experts"), [(64, 256, 32), (768, 3072, 96), (2048, 8192, 256)])
def test_a_gathered_forward_pass(width: int, hidden: int, experts: int) -> None:
    (times,) = time_wide(width, hidden, experts, 0.875).to_dict("records")
    ratio = {name: times[name] / times["dense"] for name in ("masked", "gathered")}
    told = f"masked {ratio['masked']:.2f}, gathered {ratio['gathered']:.2f} times that"
    print(f"\n{width} x {hidden}: dense {times['dense']:.3f} ms; {told}")
    assert times["sparsity"] == pytest.approx(0.875)
    assert ratio["masked"] > 0.5, "a masked pass computes every hidden unit"
