"""One tiny pretrained world for all tests of a process: a model is trained once, whoever needs it."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory):
    """The model of the smallest world, which knows its world; nobody may change it."""
    import torch

    from effnotes.datasets.worlds import World
    from effnotes.training.pretraining import pretrain
    from effnotes.training.recipes import PretrainingRecipe

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    found = pretrain(
        World(48, 2, 8, repeats=40),
        "neox-32x2",
        PretrainingRecipe(batch_size=16, passes=3, most_extensions=1),
        cache=tmp_path_factory.mktemp("models"),
    )
    torch.set_num_threads(threads)
    return found


@pytest.fixture(scope="module")
def cache(tiny, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """EFFNOTES_CACHE_DIR of a module's tests, on one thread: a folder that holds the tiny model and nothing else at first."""
    import torch

    folder, kept, threads = tmp_path_factory.mktemp("cache"), tiny.folder.parent, torch.get_num_threads()
    shutil.copytree(kept, folder / "models" / kept.name)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EFFNOTES_CACHE_DIR", str(folder))
        torch.set_num_threads(1)
        yield folder
        torch.set_num_threads(threads)
