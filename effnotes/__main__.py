"""The command ``effnotes``: what the runner does with chapters, and an audit of logits, of which the runner knows nothing."""

from pathlib import Path
from typing import Annotated

import typer

from effnotes.core.files import new_folder
from effnotes.runner.cli import app, main

_STORED = ".npy, or .csv with a row of names on top"


@app.command()
def audit(
    dense: Annotated[Path, typer.Option(help=f"Logits of the dense model, one row a sample: {_STORED}.")],
    pruned: Annotated[Path, typer.Option(help="Logits of the pruned model on the same samples in the same order.")],
    labels: Annotated[Path, typer.Option(help="0 or 1 for each logit, or one column: the class of each sample, from 0.")],
    groups: Annotated[
        str | None, typer.Option(help="0 or 1 for each sample, one column; or the name or number of a column of the labels.")
    ] = None,
    to: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="For figure and table; missing or empty.", show_default="audit-NAME, of the pruned file"),
    ] = None,
) -> None:
    """Say what pruning changed, from stored logits: the summary with 95% intervals, the largest changes first; figure and table.

    Which group has more of an attribute is read from the audited labels themselves.
    """
    from effnotes.metrics.bias import audit_files

    folder = new_folder(to or f"audit-{pruned.stem}")
    found = audit_files(dense, pruned, labels, groups=groups)
    typer.echo(found)
    if groups is None:
        typer.echo("\nNo groups are given, so nothing that compares them is defined: name them with --groups.")
    typer.echo(f"\nwritten: {', '.join(map(str, found.write(folder)))}")


if __name__ == "__main__":
    main()
