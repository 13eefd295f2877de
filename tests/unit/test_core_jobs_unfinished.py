"""What a job keeps while it runs: found again by the same job, removed when its result is kept."""

import textwrap

import pytest

from effnotes.core.jobs import JobError, WorkerPool, run_jobs, unfinished_folder


def test_a_job_that_failed_finds_what_it_had_left(tmp_path, monkeypatch):
    (tmp_path / "counting.py").write_text(
        textwrap.dedent(
            """
            from effnotes.core.jobs import unfinished_folder
            from effnotes.core.settings import settings

            @settings
            class Job:
                number: int
                fails: int

            def count(job: Job) -> dict:
                folder = unfinished_folder()
                if folder is None:
                    return {"tries": 0}
                folder.mkdir(exist_ok=True)
                tries = len(list(folder.iterdir())) + 1
                (folder / str(tries)).touch()
                if tries <= job.fails:
                    raise RuntimeError("once more")
                return {"tries": tries}
            """
        )
    )
    monkeypatch.syspath_prepend(tmp_path)
    from counting import Job, count

    cache, job = tmp_path / "cache", Job(1, 1)
    monkeypatch.setenv("EFFNOTES_CACHE_DIR", str(cache))
    with pytest.raises(JobError, match="once more"):
        run_jobs(count, [job], workers=1)
    assert [path.suffix for path in cache.iterdir()] == [".unfinished"]
    with WorkerPool(1) as pool:
        results = run_jobs(count, [job, Job(2, 0)], workers=pool)
        assert [result["tries"] for result in results] == [2, 1]
        assert {path.suffix for path in cache.iterdir()} == {".npz"}
        monkeypatch.delenv("EFFNOTES_CACHE_DIR")
        assert run_jobs(count, [job], workers=pool) == [{"tries": 0}]
    assert unfinished_folder() is None
