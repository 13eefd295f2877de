"""The pages that compare the points of sweeps: a figure, a table to sort, and the executed notebook of each point."""

import html
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from effnotes.reporting.escaping import myst_text
from effnotes.runner.install import leaving_notebook
from effnotes.runner.project import Project

if TYPE_CHECKING:
    import pandas as pd

_MOST_ROWS = 500  # of the table on a page; the files hold all
_STATIC = "book/_static/sweeps"

# Where no script runs, the table stands in the order of the plan.
_SORT = """<script>
for (const table of document.querySelectorAll("table.effnotes-sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const up = head.getAttribute("aria-sort") !== "ascending";
      heads.forEach((each) => each.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
      const text = (row) => row.cells[column].textContent;
      const rows = [...table.tBodies[0].rows].sort((a, b) =>
        parseFloat(text(a)) - parseFloat(text(b)) || text(a).localeCompare(text(b), undefined, { numeric: true }));
      table.tBodies[0].append(...(up ? rows : rows.reverse()));
    });
  });
}
</script>"""


def sweep_pages(project: Project) -> dict[str, bytes]:
    """Return the files of the pages of all sweeps that have a table, by their place among what is staged."""
    files: dict[str, bytes] = {}
    for path in sorted(project.build_dir.glob("sweeps/*/table.parquet")):
        plan = json.loads(path.with_name("plan.json").read_bytes())
        if plan["chapter"] in project.chapters:  # it may have got another name
            files |= _page(project, path.parent, plan)
    return files


def with_sweeps(toc: bytes, files: Iterable[str]) -> bytes:
    """Return a table of contents that lists the pages of sweeps, too."""
    pages = [{"file": name.removesuffix(".md")} for name in files if name.endswith(".md")]
    if not pages:
        return toc
    content = yaml.safe_load(toc)
    if "parts" in content:
        content["parts"].append({"caption": "Sweeps", "chapters": pages})
    else:
        content["chapters"] = [*content.get("chapters", []), *pages]
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True).encode()


def _page(project: Project, folder: Path, plan: Mapping[str, Any]) -> dict[str, bytes]:
    import pandas as pd

    from effnotes.reporting.claims.figure import figure_bytes
    from effnotes.reporting.comparison import draw_comparison, quantities

    table, name = pd.read_parquet(folder / "table.parquet"), folder.name
    by = [f"parameter.{varied}" for varied in plan["varied"]]
    done = table[table["status"] == "ok"]
    parts = [
        f"# Sweep {name}",
        f"The chapter {{doc}}`/{project.chapter(plan['chapter']).page}` with the profile `{plan['profile']}`: {len(done)} of"
        f" {plan['points']} points are finished, {len(table) - len(done)} failed. `table.parquet` and `table.csv` in"
        f" `_build/sweeps/{name}` hold all columns of this table, and the versions.",
    ]
    files: dict[str, bytes] = {}
    if len(done) and (figure := draw_comparison(done, by)) is not None:
        files[f"{_STATIC}/{name}/figure.svg"] = figure_bytes(figure)
        along = " and ".join(varied for varied in plan["varied"][:2])
        alt = f"A panel for each of {len(quantities(done))} quantities, by {along}; the table below has the numbers."
        caption = f"What the points measured, by {along}. Bars are 95% intervals or, over further parameters, the range."
        options = f":name: fig-sweep-{name}\n:alt: {alt}\n\n{myst_text(caption)}"
        parts.append(f"```{{figure}} ../_static/sweeps/{name}/figure.svg\n{options}\n```")
    rows = table.head(_MOST_ROWS)
    if len(rows) < len(table):
        parts.append(f"The first {len(rows)} of {len(table)} rows:")
    links = []
    for key in rows["key"]:
        notebook = project.build_dir / "runs" / plan["chapter"] / key / "notebook.ipynb"
        if recorded := notebook.is_file():
            files[f"{_STATIC}/{name}/{key}.ipynb"] = leaving_notebook(project, notebook)
        links.append(f'<a href="../../_static/sweeps/{name}/{key}.ipynb" download>{key[:8]}</a>' if recorded else "–")
    shown = _shown(rows, by, quantities(table))
    written = shown.assign(notebook=links).to_html(index=False, escape=False, border=0, classes=["table", "effnotes-sortable"])
    written = written.replace("<th>", '<th scope="col">')
    parts.append(f'```{{raw}} html\n<div class="pst-scrollable-table-container" tabindex="0">{written}</div>\n{_SORT}\n```')
    return files | {f"book/sweeps/{name}.md": ("\n\n".join(parts) + "\n").encode()}


def _shown(table: "pd.DataFrame", by: list[str], measured: Mapping[str, tuple[str, str]]) -> "pd.DataFrame":
    """Return the columns of the table that a page has room for, as escaped text."""

    def text(value: Any) -> str:
        if value is None or value != value:
            return "–"
        escaped = html.escape(f"{value:.4g}" if isinstance(value, float) else str(value))
        return escaped.replace("`", "&#96;")  # three of which would end the block

    columns = {"status": "status", **{name: name.removeprefix("parameter.") for name in by if name in table}}
    columns |= {column: f"{name} ({unit})" for column, (name, unit) in measured.items()}
    columns |= {"duration_s": "seconds", "error": "error"} if table["error"].notna().any() else {"duration_s": "seconds"}
    shown = table[[*columns]].rename(columns={name: html.escape(title) for name, title in columns.items()})
    verdicts = {html.escape(columns[name]): f"{name.removesuffix('estimate')}verdict" for name in measured}
    shown = shown.map(text)
    for title, verdict in verdicts.items():
        if verdict in table:
            shown[title] += table[verdict].map(lambda word: f" ({text(word)})" if isinstance(word, str) else "")
    return shown
