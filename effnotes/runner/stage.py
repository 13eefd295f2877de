"""Lay out what Jupyter Book renders: prose, figures and executed notebooks, each notebook ending with what made it."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from effnotes.core.files import files_under
from effnotes.reporting.claims import CLAIM_MIME, card_html
from effnotes.reporting.escaping import myst_code, myst_text
from effnotes.reporting.findings import FINDING_MIME
from effnotes.reporting.kept import run_facts
from effnotes.runner.execute import overridden
from effnotes.runner.install import install_cell
from effnotes.runner.keys import source_digest
from effnotes.runner.project import INJECTED, Chapter, Project
from effnotes.runner.records import StoredRun, write_atomically
from effnotes.runner.sweep_page import sweep_pages, with_sweeps

_NOT_STAGED = {".ipynb_checkpoints", "__pycache__"}
_FURTHER = "# Further settings"  # comment in a chapter's parameters, behind those that matter first


def stage_book(
    project: Project,
    runs: Mapping[str, StoredRun],
    kept: Mapping[str, dict[str, Any]],
    profile: str,
    failed: Mapping[str, Mapping[str, str]],
) -> Path:
    """Write the book's sources to ``stage/`` of the build directory and return that directory.

    A file is written only where its content changes, so that Sphinx renders again only what is new.

    Args:
        project: the checkout.
        runs: the finished run that each chapter is shown with; a chapter without one is staged as source, and says so.
        kept: the kept record of the full profile by chapter.
        profile: name of the profile that was asked for.
        failed: what the pages of chapters that failed are to say, by chapter: ``where`` and ``error``.
    """
    stage = project.build_dir / "stage"
    pages = sweep_pages(project)
    toc = with_sweeps((project.root / "_toc.yml").read_bytes(), pages)
    files: dict[str, bytes] = {"_config.yml": (project.root / "_config.yml").read_bytes(), "_toc.yml": toc, **pages}
    for shown, path in sorted(files_under(project.root / "book")):
        if path and not _NOT_STAGED.intersection(Path(shown).parts):
            files[f"book/{Path(shown).as_posix()}"] = Path(path).read_bytes()
    claims = {"record": project.measured(run.record for run in runs.values()), "kept": project.measured(kept.values())}
    others = {row["id"]: row for row in claims["kept"]}
    listed = []
    for name, chapter in project.chapters.items():
        record = runs[name].record if name in runs else None
        files.pop(f"{chapter.page}.ipynb", None)  # that jupytext keeps beside the source
        if record:
            del files[f"{chapter.page}.py"]
            files[f"{chapter.page}.ipynb"] = _staged_notebook(chapter, runs[name], others, install_cell(project))
        records = {"record": _without_tables(record), "kept": _without_tables(kept.get(name))}
        listed.append({"name": name, "title": chapter.title, "page": chapter.page, "failed": failed.get(name), **records})
    summary = {"profile": profile, "chapters": listed, "claims": claims}
    files["book/_data/build.json"] = json.dumps(summary, indent=1, ensure_ascii=False, sort_keys=True).encode()
    if (citation := project.root / "CITATION.cff").is_file():
        files[citation.name] = citation.read_bytes()
    _mirror(files, stage)
    return stage


def _staged_notebook(chapter: Chapter, run: StoredRun, others: Mapping[str, Mapping[str, Any]], install: Any) -> bytes:
    """Join the chapter's prose as it is now with the outputs of its run, and say at the end what made them.

    Args:
        chapter: as its source is now.
        run: of the chapter.
        others: what the kept record of the full profile has for each claim, which the claim's card shows beside.
        install: the cell that the notebook begins with, which its page does not show.
    """
    import nbformat
    from nbformat.v4 import new_code_cell, new_markdown_cell

    executed = nbformat.read(run.notebook_path, as_version=4)
    current = chapter.notebook()
    own = [cell for cell in executed.cells if INJECTED not in cell.metadata.get("tags", [])]
    outputs = [cell for cell in own if cell.cell_type == "code"]
    # The values that are not what the chapter's parameters cell says today.
    today = {name: parameter.default for name, parameter in chapter.parameters.items()}
    given = overridden([{**item, "default": today.get(item["name"])} for item in run.record["parameters"]])
    values = "\n".join(f"{name} = {value!r}" for name, value in given.items())
    codes = [cell for cell in current.cells if cell.cell_type == "code"]
    if run.record["key_parts"]["source"] == source_digest(chapter) and len(codes) == len(outputs):
        for shown, ran in zip(codes, outputs, strict=True):
            shown.outputs = ran.outputs
            shown.execution_count = ran.execution_count
        cells = current.cells
    else:
        # An older run, shown because this build was told not to run the chapter: outputs go with the code that made them.
        cells = own
    notebook = nbformat.v4.new_notebook(metadata=executed.metadata)
    for cell in cells:
        if "parameters" not in cell.metadata.get("tags", []):
            notebook.cells.append(cell)
            continue
        first, further = _settings(cell)
        for each in (first, further) if further else (first,):
            if values:
                each.metadata["tags"] = [*each.metadata.get("tags", []), "remove-cell"]
            notebook.cells.append(each)
        if values:
            notebook.cells.append(new_code_cell(f"# Parameters of this run\n{values}", metadata={"tags": [INJECTED]}))
    _say_results(notebook.cells)
    _name_folds(notebook.cells)
    notebook.cells.append(new_markdown_cell(provenance(run.record)))
    for number, cell in enumerate(notebook.cells):
        cell["id"] = f"cell-{number}"  # random ones would make every staged page a new one
        for output in cell.get("outputs", []):
            if claim := output.get("data", {}).get(CLAIM_MIME):
                output["data"]["text/html"] = card_html(claim, other=others.get(claim["id"]))
            # Leave out the text form of a figure, which holds the address of an object.
            if any(kind.startswith("image/") for kind in output.get("data", {})):
                output["data"].pop("text/plain", None)
    install.metadata["tags"] = ["remove-cell"]
    notebook.cells.insert(0, install)
    return str(nbformat.writes(notebook)).encode()


def _settings(cell: Any) -> tuple[Any, Any]:
    """Cut the parameters of a chapter where it says that further settings follow: those are shown behind a fold."""
    from nbformat.v4 import new_code_cell

    first, comment, further = cell.source.partition(_FURTHER)
    if not comment:
        return cell, None
    # The tag stays with the last of them: values that papermill puts behind it, where somebody runs the page's notebook, must win.
    tags = cell.metadata.get("tags", [])
    fold = {"tags": [*tags, "hide-input"], "mystnb": {"code_prompt_show": "Further settings"}}
    shown = {"tags": [tag for tag in tags if tag != "parameters"]}
    return new_code_cell(first.rstrip(), metadata=shown), new_code_cell(f"{comment}{further}", metadata=fold)


def _say_results(cells: Sequence[Any]) -> None:
    """End the alternative text of each figure, which says how it is drawn, with the sentences on what this run drew."""
    figures = {cell.metadata.get("mystnb", {}).get("figure", {}).get("name"): cell for cell in cells}
    for output in (output for cell in cells for output in cell.get("outputs", [])):
        finding = output.get("data", {}).get(FINDING_MIME)
        if finding and finding["figure"] in figures:
            image = figures[finding["figure"]].metadata["mystnb"].setdefault("image", {})
            image["alt"] = " ".join([image.get("alt", ""), *finding["sentences"]]).strip()


def _name_folds(cells: Sequence[Any]) -> None:
    """Name what unfolds the code of a cell by what the cell shows, where the chapter gives no name."""
    for cell in cells:
        if "hide-input" in cell.metadata.get("tags", []):
            shown = [output.get("data", {}) for output in cell.outputs]
            name = "How the figure is drawn" if "figure" in cell.metadata.get("mystnb", {}) else None
            name = name or ("How the claims are measured" if any(CLAIM_MIME in data for data in shown) else None)
            name = name or ("How the table is made" if any("<table" in data.get("text/html", "") for data in shown) else None)
            if name:
                cell.metadata.setdefault("mystnb", {}).setdefault("code_prompt_show", name)


def _without_tables(record: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    """Leave out what the directives of the pages do not read."""
    return record and {field: value for field, value in record.items() if field != "tables"}


def provenance(record: Mapping[str, Any]) -> str:
    """Return a Markdown section that says what made a page: parameters, seeds, versions, device, commit, time and memory."""
    facts = [("Profile", record["profile"]), ("Seeds", ", ".join(map(str, record["seeds"])) or "none"), *run_facts(record)]
    parameters = [
        (myst_code(item["name"]), myst_code(repr(item["value"])), myst_code(repr(item["default"])), myst_text(item["help"]))
        for item in record["parameters"]
    ]
    versions = [tuple(map(myst_text, pair)) for pair in record["environment"]["packages"].items()]
    rows = [*((name, myst_text(value)) for name, value in facts), ("Record", myst_code(record["key"][:16]))]
    parts = [
        *("## What made this page", _table(("What", "Value"), rows)),
        *("### Parameters of this run", _table(("Parameter", "Value", "Default", "Meaning"), parameters)),
        *("### Versions", _table(("Package", "Version"), versions)),
    ]
    return "\n\n".join(parts) + "\n"


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    head, *body = (f"| {' | '.join(row)} |" for row in (header, *rows))
    return "\n".join([head, f"|{':--|' * len(header)}", *body])


def _mirror(files: Mapping[str, bytes], target: Path) -> None:
    """Make `target` hold exactly `files`, touching only what differs."""
    for path in sorted(target.rglob("*"), reverse=True):
        if path.is_file() and path.relative_to(target).as_posix() not in files:
            path.unlink()
        elif path.is_dir() and not any(path.iterdir()):
            path.rmdir()
    for name, content in files.items():
        path = target / name
        if not path.is_file() or path.read_bytes() != content:
            write_atomically(path, content)
