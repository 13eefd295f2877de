"""The book in JupyterLab: chapters open as notebooks with their roles rendered, and are saved as they were."""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from urllib.request import Request, urlopen

import pytest

BOOK = Path(__file__).parents[2] / "book"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("jupyterlab_myst") is None, reason="needs the extra: pip install -e '.[lab]'"),
]


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """A function that asks a JupyterLab whose folder is a copy of the book; settings of whoever runs the tests do not count."""
    folder = tmp_path_factory.mktemp("lab")
    shutil.copytree(BOOK, folder / "book")
    own = {f"JUPYTER_{kind}_DIR": str(folder / kind.lower()) for kind in ("CONFIG", "DATA", "RUNTIME")}
    command = [sys.executable, "-m", "jupyterlab", str(folder / "book"), "--no-browser", "--ServerApp.port=0", "--allow-root"]
    with (folder / "log").open("wb") as log, subprocess.Popen(command, env=os.environ | own, stdout=log, stderr=log) as server:
        try:
            until = time.monotonic() + 120
            while not (found := list((folder / "runtime").glob("jpserver-*.json"))):
                assert server.poll() is None, (folder / "log").read_text()
                assert time.monotonic() < until, (folder / "log").read_text()
                time.sleep(0.2)
            about = json.loads(found[0].read_text())

            def address(path: str) -> str:
                return f"{about['url']}{path}?token={about['token']}"

            def ask(path: str, model: dict | None = None) -> dict:
                data = model and json.dumps(model).encode()
                with urlopen(Request(address(path), data, method="PUT" if model else "GET")) as answer:
                    return json.load(answer)

            ask.folder, ask.address = folder / "book", address
            yield ask
        finally:
            server.terminate()


def test_chapters_are_notebooks_and_saved_as_they_were(lab):
    chapters = sorted(BOOK.glob("*.py"))
    assert len(chapters) > 6
    for path in chapters:
        model = lab(f"api/contents/{path.name}")
        assert (model["type"], len(model["content"]["cells"]) > 9) == ("notebook", True), path.name
        lab(f"api/contents/{path.name}", {key: model[key] for key in ("type", "format", "content")})
        assert (lab.folder / path.name).read_text() == path.read_text(), f"{path.name}: save it in JupyterLab once, and keep that"


def test_a_chapter_opens_as_a_notebook_with_its_roles_rendered(lab):
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("there is no Chromium")
    with pytest.importorskip("playwright.sync_api").sync_playwright() as playwright:
        page = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"]).new_page()
        page.set_default_timeout(120_000)
        page.goto(lab.address("lab/tree/personalization.py"))
        page.wait_for_selector(".jp-NotebookPanel .jp-MarkdownCell a:has-text('fine-tuning')")
        first = page.locator(".jp-MarkdownCell").first.inner_text()
        assert page.locator(".jp-FileEditor").count() == 0
    assert "A writing assistant of your own" in first
    assert "{term}" not in first
    assert "{cite:p}" not in first
