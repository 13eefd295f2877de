"""What a job keeps while it runs: found again by the same job, removed when its result is kept."""

import textwrap

import pytest

from effnotes.core.jobs import JobError, run_jobs, unfinished_folder


def test_a_job_that_failed_finds_what_it_had_left(tmp_path, monkeypatch):
    (tmp_path / "counting.py").write_text(
        textwrap.dedent(
            """
            from effnotes.core.jobs import unfinished_folder

            def count(number: int, fails: int) -> dict:
                folder = unfinished_folder()
                if folder is None:
                    return {"tries": 0}
                folder.mkdir(exist_ok=True)
                tries = len(list(folder.iterdir())) + 1
                (folder / str(tries)).touch()
                if tries <= fails:
                    raise RuntimeError("once more")
                return {"tries": tries}
            """
        )
    )
    monkeypatch.syspath_prepend(tmp_path)
    from counting import count

    cache, job = tmp_path / "cache", {"number": 1, "fails": 1}
    with pytest.raises(JobError, match="once more"):
        run_jobs(count, [job], workers=1, cache_dir=cache)
    assert [path.suffix for path in cache.iterdir()] == [".unfinished"]
    results = run_jobs(count, [job, {"number": 2, "fails": 0}], workers=1, cache_dir=cache)
    assert [result["tries"] for result in results] == [2, 1]
    assert {path.suffix for path in cache.iterdir()} == {".npz"}
    monkeypatch.delenv("EFFNOTES_CACHE_DIR", raising=False)
    assert run_jobs(count, [job], workers=1) == [{"tries": 0}]
    assert unfinished_folder() is None
