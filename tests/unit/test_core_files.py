"""Paths as people give them, and what lies below a folder, links followed."""

from pathlib import Path

import pytest

from effnotes.core.errors import DataError
from effnotes.core.files import files_under, user_path


def test_the_home_directory_is_put_in_and_a_name_that_is_no_users_stays(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert user_path("~/a file") == tmp_path / "a file"
    assert str(user_path("~nobody-of-this-name/x")) == "~nobody-of-this-name/x"
    assert user_path(tmp_path) == tmp_path


def test_the_books_own_data_are_found_from_any_folder_and_what_is_here_comes_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = user_path("data/worlds/small.yaml")
    assert found.is_file()
    assert not found.is_relative_to(tmp_path)
    (tmp_path / "data" / "worlds").mkdir(parents=True)
    (tmp_path / "data" / "worlds" / "small.yaml").touch()
    assert user_path("data/worlds/small.yaml") == Path("data/worlds/small.yaml")
    assert user_path("data/nothing.yaml") == Path("data/nothing.yaml")
    assert user_path("worlds/small.yaml") == Path("worlds/small.yaml")


@pytest.mark.parametrize("given", ["x" * 5000, "a\0b", "/".join(["y" * 200] * 30)])
def test_a_path_that_no_file_can_have_is_refused_as_data_are(given):
    with pytest.raises(DataError, match="this path cannot be used"):
        user_path(given)


def test_every_reader_takes_the_home_directory(tmp_path, monkeypatch):
    from effnotes.datasets.worlds import read_facts
    from effnotes.datasets.worlds.storage import load_world
    from effnotes.metrics import read_outputs
    from effnotes.models.folders import checkpoint_files
    from effnotes.reporting.claims import load_register
    from effnotes.studies.bias.experiment import fingerprint

    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "facts.csv").write_text("subject,relation,object\n" + "".join(f"P{n},likes,O{n % 3}\n" for n in range(6)))
    (tmp_path / "world.yaml").write_text("n_subjects: 48\nn_relations: 2\nn_objects: 8\n")
    (tmp_path / "out.txt").write_text("0.5 0.5\n")
    (tmp_path / "claims.yaml").write_text("[]")
    (tmp_path / "model").mkdir()
    for name in ("config.json", "model.safetensors"):
        (tmp_path / "model" / name).write_text("{}")
    assert len(read_facts("~/facts.csv").subjects) == 6
    assert load_world("~/world.yaml").n_subjects == 48
    assert len(read_outputs("~/out.txt")) == 1
    assert load_register("~/claims.yaml") == {}
    assert checkpoint_files("~/model")[0] == tmp_path / "model" / "config.json"
    assert fingerprint("~/model") == fingerprint(str(tmp_path / "model"))


def test_links_are_followed_once_each_and_never_to_what_holds_the_folder(tmp_path):
    data, other = tmp_path / "data", tmp_path / "other"
    (data / "own").mkdir(parents=True)
    other.mkdir()
    for folder in (data, data / "own", other):
        (folder / "a.txt").write_text("1")
    (data / "linked").symlink_to(other)
    (data / "again").symlink_to(data / "own")
    (data / "up").symlink_to(tmp_path)
    (data / "round").symlink_to(data)
    (data / "file.txt").symlink_to(other / "a.txt")
    (data / "broken").symlink_to(tmp_path / "nothing")
    found = dict(files_under(data))
    assert sorted(name for name, path in found.items() if path) == ["a.txt", "file.txt", "linked/a.txt", "own/a.txt"]
    assert {name for name, path in found.items() if path is None} == {
        "again -> own",
        "linked -> ../other",
        "up -> ..",
        "round -> .",
    }
    (data / "again").unlink()
    (data / "again").symlink_to(other)
    assert dict(files_under(data)) != found
