"""What reading data from disk costs: CelebA's tables at full length, and its images."""

from pathlib import Path

import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from effnotes.datasets.celeba import _read_index
from effnotes.datasets.files import decode_images

FIXTURE = Path(__file__).parents[1] / "fixtures" / "celeba"
ROWS = 202_599


def test_tables_of_all_images(benchmark: BenchmarkFixture, tmp_path: Path) -> None:
    labels = np.random.default_rng(0).integers(0, 2, (ROWS, 40))
    names = [f"{number:06d}.jpg" for number in range(1, ROWS + 1)]
    rows = [f"{name} {' '.join(' 1' if value else '-1' for value in row)}" for name, row in zip(names, labels, strict=True)]
    header = " ".join(f"A{column}" for column in range(40))
    (tmp_path / "list_attr_celeba.txt").write_text("\n".join([str(ROWS), header, *rows]))
    (tmp_path / "list_eval_partition.txt").write_text("".join(f"{name} {row % 3}\n" for row, name in enumerate(names)))
    (tmp_path / "img_align_celeba").mkdir()
    index = benchmark.pedantic(_read_index, args=(tmp_path,), rounds=3)
    assert np.array_equal(index.labels, labels)


@pytest.mark.parametrize("image_size", [64, 224])
def test_decoding_the_fixture(benchmark: BenchmarkFixture, image_size: int) -> None:
    paths = sorted((FIXTURE / "img_align_celeba").iterdir())
    images = benchmark(decode_images, paths, image_size)
    assert images.shape == (len(paths), 3, image_size, image_size)
