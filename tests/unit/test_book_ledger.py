"""The ledger against the register of claims, the pages and the bibliography."""

import re
from pathlib import Path

import pytest

from effnotes.core.strict_yaml import load_yaml
from effnotes.reporting.claims import load_register
from effnotes.runner.sphinx_ledger import REASONS, STATUS

BOOK = Path(__file__).parents[2] / "book"
SOURCES = load_yaml((BOOK / "ledger.yaml").read_text(encoding="utf-8"))
ROWS = [row for source in SOURCES for row in source["rows"]]
REGISTER = load_register(BOOK / "claims.yaml")


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["item"][:60])
def test_a_row_says_where_it_is_or_why_it_is_nowhere(row: dict) -> None:
    assert row["kind"] in ("method", "experiment", "table", "figure")
    if row["status"] == "not done":
        assert set(row) == {"kind", "item", "status", "why", "because"}
        assert row["why"] in REASONS
    else:
        assert set(row) == {"kind", "item", "status", "at"}
        assert row["status"] in STATUS
        assert row["at"]


def test_what_rows_lead_to_is_there() -> None:
    for target in (target for row in ROWS for target in row.get("at", [])):
        if "." in target:
            assert target in REGISTER, target
        else:
            page, _, label = target.partition("#")
            text = next(BOOK.glob(f"{page}.*")).read_text(encoding="utf-8")
            assert not label or re.search(rf'"name": "{label}"|\({label}\)=', text), target


def test_every_published_claim_and_every_source_of_one_has_a_row() -> None:
    listed = {target for row in ROWS for target in row.get("at", [])}
    published = {name for name, claim in REGISTER.items() if claim.source.kind != "addition"}
    assert published <= listed
    assert {REGISTER[name].source.key for name in published} <= {source["source"] for source in SOURCES}


def test_sources_are_in_the_bibliography_and_stand_once() -> None:
    keys = [source["source"] for source in SOURCES]
    assert set(keys) <= set(re.findall(r"^@\w+\{(\w+),", (BOOK / "references.bib").read_text(encoding="utf-8"), re.MULTILINE))
    assert len(keys) == len(set(keys))
    items = [(source["source"], row["item"]) for source in SOURCES for row in source["rows"]]
    assert len(items) == len(set(items))
