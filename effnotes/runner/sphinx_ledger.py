"""The ledger: what the book's sources are known to have, and what became of it here, from ``ledger.yaml`` beside the page."""

from collections import Counter
from pathlib import Path
from typing import Any

import yaml
from docutils import nodes

from effnotes.runner import sphinx_directives as shared

STATUS = {"run": "run here", "redrawn": "redrawn from published numbers", "not done": "not done"}
REASONS = {"data": "data not at hand", "compute": "too much computation", "text": "text not at hand"}


class Ledger(shared.BuildDirective):
    """``{ledger}``: a table for each source."""

    def run(self) -> list[nodes.Node]:
        """Return the tables, each with its counts as the caption."""
        build = shared.read_build(self.env) or {"claims": {"record": []}}
        pages, shown = {claim["id"]: claim["chapter"] for claim in build["claims"]["record"]}, list[nodes.Node]()
        for source in self.sources():
            header = ("What the source has", "Kind", "Here", "Where, or why not")
            rows = [[row["item"], row["kind"], STATUS[row["status"]], self.place(row, pages)] for row in source["rows"]]
            key = source["source"]
            shown.append(nodes.paragraph("", "", *self.inline(f"{{cite:t}}`{key}`", plain=False)))
            shown.append(self.table(f"ledger-{key}", f"{source['title']}: {_counted([source])}", header, rows, (38, 12, 16, 34)))
        return shown

    def sources(self) -> list[dict[str, Any]]:
        """Return the sources with their rows."""
        path = Path(self.env.doc2path(self.env.docname)).parent / "ledger.yaml"
        self.env.note_dependency(str(path))
        return list(yaml.safe_load(path.read_text(encoding="utf-8")))

    def place(self, row: dict[str, Any], pages: dict[str, str]) -> list[nodes.Node]:
        """Return links to where a row stands, or why it stands nowhere."""
        if row["status"] == "not done":
            return [nodes.paragraph("", f"{REASONS[row['why']]}: {row['because']}")]
        links = nodes.paragraph()
        for target in row["at"]:
            claim = "." in target
            page, _, label = (pages.get(target, ""), "", shared.card_anchor(target)) if claim else target.partition("#")
            name = nodes.literal("", target.replace("#", ": "))
            links += nodes.reference("", "", name, refuri=f"{page}.html" + f"#{label}" * bool(label)) if page else name
            links += nodes.Text(" ")
        return [links]


class LedgerCount(Ledger):
    """``{ledger-count}``: a sentence that says how many rows there are, by what became of them."""

    def run(self) -> list[nodes.Node]:
        """Return the sentence, which leads to the ledger."""
        sources = self.sources()
        number = sum(len(source["rows"]) for source in sources)
        link = nodes.reference("", "ledger", refuri="ledger.html")
        told = f" names {number} methods, experiments, tables and figures of {len(sources)} sources: {_counted(sources)}."
        return [nodes.paragraph("", "", nodes.Text("The "), link, nodes.Text(told))]


def _counted(sources: list[dict[str, Any]]) -> str:
    counts = Counter(row["status"] for source in sources for row in source["rows"])
    return ", ".join(f"{counts[status]} {text}" for status, text in STATUS.items() if counts[status])
