"""Time to draw faces on one core: `pytest tests/benchmarks`."""

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from effnotes.datasets import make_faces


@pytest.mark.parametrize("image_size", [32, 64])
def test_draw_ten_thousand_faces(benchmark: BenchmarkFixture, image_size: int) -> None:
    faces = benchmark.pedantic(make_faces, args=(10_000,), kwargs={"seed": 0, "image_size": image_size}, rounds=3)
    assert len(faces) == 10_000
