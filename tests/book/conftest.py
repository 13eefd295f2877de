"""A built site to look at, served over HTTP, and a browser to look at it with."""

import contextlib
import functools
import http.server
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session", params=["smoke", pytest.param("built", marks=pytest.mark.slow)])
def site(request: pytest.FixtureRequest) -> Path:
    """Where the pages lie: a smoke build made for the tests, and what the last `make book` has left."""
    if request.param == "smoke":
        build_dir: Path = request.getfixturevalue("smoke_build")
        return build_dir / "html"
    site = ROOT / "_build" / "html"
    if not (site / "index.html").is_file():
        pytest.skip("no built book in _build/html (make book makes one)")
    return site


@pytest.fixture(scope="session")
def pages(site: Path) -> list[Path]:
    """Every page of the site, as paths relative to it, without the one that only leads to the landing page."""
    found = sorted(path.relative_to(site) for path in site.rglob("*.html") if "_static" not in path.relative_to(site).parts)
    found.remove(Path("index.html"))
    assert Path("book/index.html") in found
    return found


class _QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


@contextlib.contextmanager
def serve(directory: Path) -> Iterator[str]:
    """Serve a directory on a free port of this machine and give its address, with a slash at the end."""
    handler = functools.partial(_QuietHandler, directory=str(directory))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/"
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture(scope="session")
def address(site: Path) -> Iterator[str]:
    """Address of the site, served over HTTP."""
    with serve(site) as url:
        yield url


@pytest.fixture(scope="session")
def chromium() -> str:
    """Path of a Chromium; the test is skipped where there is none."""
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if found is None:
        pytest.skip("no Chromium on this machine (Debian: apt-get install chromium)")
    return found
