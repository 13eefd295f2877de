"""What belongs to all pages or none: date and version, addresses that lead nowhere, and what pages need not load."""

import json
import posixpath
import re
from collections.abc import Iterator
from datetime import datetime
from html import escape
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.config import Config

import effnotes
from effnotes.core.files import written_whole

_NOT_FOUND = (
    "<h1>There is no such page</h1><p>It was renamed or removed. The <a href='{start}'>first page</a> leads to all others, "
    "and the search of the sidebar finds words.</p>"
)
_MOVED = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>This page has moved</title><meta http-equiv="refresh" content="0; url={to}">
<link rel="canonical" href="{to}"><p>This page has moved: <a href="{to}">{to}</a>.</p></html>
"""
# An icon in the theme's script: its name, size, other names, and outline.
_ICON = re.compile(r'"?([a-z0-9-]+)"?:\[\d+,\d+,\[([^\]]*)\],"[0-9a-f]*",(?:"[^"]*"|\["[^"]*","[^"]*"\])\],?')

# The same icons as letters of a font, which the script draws over. The font stays: titles of notes have their icons from it, and
# browsers load it for these alone.
_ICON_LETTER = re.compile(r'(?:\.fa-[\w-]+:{1,2}before,?)+\{content:"[^"]*"\}')


def find_date(app: Sphinx, config: Config) -> None:
    """Make the configuration hold the day of the latest run that the pages show, so that the same book gives the same pages."""
    path = Path(app.confdir) / "book" / "_data" / "build.json"
    chapters = json.loads(path.read_text(encoding="utf-8"))["chapters"] if path.is_file() else []
    runs = [chapter[kind] or {} for chapter in chapters for kind in ("record", "kept")]
    if started := [run["started"] for run in runs if "started" in run]:
        config.effnotes_date = f"{datetime.fromisoformat(max(started)):%d %B %Y}".lstrip("0")


def offer_launches(_app: Sphinx, config: Config) -> None:
    """Have the theme make buttons of Binder and Colab, where the address of the repository is set."""
    options = config.html_theme_options
    if address := options.get("repository_url"):
        options["repository_branch"] = options.get("repository_branch") or "main"
        options["launch_buttons"] = {"binderhub_url": "https://mybinder.org", "notebook_interface": "jupyterlab"}
        if address.startswith("https://github.com/"):
            options["launch_buttons"]["colab_url"] = "https://colab.research.google.com"


def point_launches(app: Sphinx, page: str, _template: str, context: dict[str, Any], _doctree: nodes.document | None) -> None:
    """Lead Binder to the source of a chapter, and Colab to the notebook beside the published pages: the repository has none."""
    branch = app.config.html_theme_options.get("repository_branch")
    for group in context.get("header_buttons", []):
        if group.get("label") == "launch-buttons":
            if context["page_source_suffix"] != ".ipynb":  # without a run no notebook is published
                group["buttons"] = [button for button in group["buttons"] if button["text"] != "Colab"]
            for button in group["buttons"]:
                if button["text"] == "Colab":
                    button["url"] = button["url"].replace(f"/blob/{branch}/", "/blob/gh-pages/_sources/")
                else:
                    button["url"] = button["url"].replace(f"{page}.ipynb", f"{page}.py")


def say_version(app: Sphinx, _page: str, _template: str, context: dict[str, Any], _doctree: nodes.document | None) -> None:
    """Put date and version into the footer."""
    context["last_updated"] = f"{app.config.effnotes_date or context.get('last_updated')}, version {effnotes.__version__}"


def collect_pages(app: Sphinx) -> Iterator[tuple[str, dict[str, Any], str]]:
    """Yield the page that servers show where there is none."""
    start = f"{app.config.ogp_site_url}{app.config.root_doc}.html"
    # A server shows it under any address: relative ones would lead elsewhere.
    base = f'<base href="{escape(app.config.ogp_site_url)}">' if app.config.ogp_site_url else ""
    yield "404", {"title": "There is no such page", "body": _NOT_FOUND.format(start=escape(start)), "metatags": base}, "page.html"


def finish_site(app: Sphinx, exception: Exception | None) -> None:
    """Write what leads from old addresses to new ones, and leave out of the theme the icons that no page shows."""
    if exception is not None or app.builder.name != "html":
        return
    site = Path(app.outdir)
    for old, new in app.config.effnotes_redirects.items():
        to = posixpath.relpath(f"{new}.html", posixpath.dirname(old))
        with written_whole(site / f"{old}.html") as file:
            file.write(_MOVED.format(to=escape(to)).encode())
    script, sheet = (site / "_static" / name for name in ("scripts/fontawesome.js", "styles/pydata-sphinx-theme.css"))
    pages = [*site.rglob("*.html"), *site.glob("_static/*.js"), *(path for path in script.parent.glob("*.js") if path != script)]
    used = {name for page in pages for name in re.findall(r"\bfa-([a-z0-9-]+)", page.read_text(encoding="utf-8"))}

    def keep(icon: re.Match[str]) -> str:
        return icon[0] if used & {icon[1], *re.findall(r'"([^"]+)"', icon[2])} else ""

    for path, left_out, by in ((script, _ICON, keep), (sheet, _ICON_LETTER, "")):
        if path.is_file():
            with written_whole(path) as file:
                file.write(left_out.sub(by, path.read_text(encoding="utf-8")).encode())
