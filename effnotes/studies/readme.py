"""What the README says of the kept records of the profile `full`: a picture and verdict counts, written by `make readme`."""

import re
from collections import Counter
from pathlib import Path

import matplotlib.pyplot as plt

from effnotes.core.digests import json_digest
from effnotes.reporting.claims import format_number
from effnotes.reporting.claims.figure import figure_bytes
from effnotes.reporting.figures import use_style
from effnotes.reporting.kept import KeptRecord, read_record, run_text
from effnotes.studies.bias import Findings

PICTURE = "data/records/pruning_bias/full.svg"
CHAPTERS = {
    "pruning_bias": "1. Bias in pruned vision models",
    "sample_targeted_pruning": "2. One trace per example",
    "personalization": "3. A writing assistant of your own",
    "model_editing": "4. Editing what a model knows",
    "sparse_training": "Companion: sparse training",
    "coresets": "Companion: coresets",
    "contextual_sparsity": "Companion: contextual sparsity",
    "notes": "Notes on related work",
}
_VERDICTS = ("shown", "contradicted", "not settled")
_BLOCK = re.compile(r"(<!-- results: .*? -->\n).*?(<!-- end of results -->)", re.DOTALL)


def results_block(root: Path) -> str:
    """Return the README's lines on what came out, from the kept records below a checkout."""
    paths = {name: root / f"data/records/{name}/full.json" for name in CHAPTERS}
    records = {CHAPTERS[name]: read_record(path) for name, path in paths.items() if path.is_file()}
    by_level = Findings.of_record(records[CHAPTERS["pruning_bias"]]).by_attribute("bias_amplification")
    means = by_level.mean(axis=1)
    shown = {level: format_number(mean, spread=means.max() - means.min()) for level, mean in means.items()}
    levels = [f"{value} at {100 * float(level):g}%" for level, value in shown.items()]
    what = f"{by_level.shape[1]} attributes of drawn faces"
    rows = ["| Chapter | Larger run | Shown | Contradicted | Not settled |", "|---|---|---|---|---|"]
    for title, record in records.items():
        counts = Counter(claim["verdict"] for claim in record.claims.values())
        cells = [title, run_text(record.content), *(str(counts[verdict]) for verdict in _VERDICTS)]
        rows.append(f"| {' | '.join(cells)} |")
    lines = [
        f"![Bias amplification against sparsity of {what} (thin lines) and their mean (thick): {', '.join(levels)}.]({PICTURE})",
        "",
        "*How much a classifier exaggerates the bias of its data as its weights are removed, in the larger run of chapter 1:",
        f"{what}, thin, and their mean, thick, {levels[0]} and {levels[-1]} sparsity; dots are seeds.*",
        "",
        "What the larger runs say of the published claims, each judged by a rule that was fixed before:",
        "",
        *rows,
    ]
    found = {title: record.content.get("found") for title, record in records.items()}
    told = [f"- {title}: {said[0]['sentence']}" for title, said in found.items() if said]
    return "\n".join([*lines, *([""] if told else []), *told, ""])


def picture(root: Path) -> bytes:
    """Draw bias amplification against sparsity from the kept record of chapter 1 as SVG, with the digest of its tables within."""
    from effnotes.studies.bias import figures

    record = read_record(root / "data/records/pruning_bias/full.json")
    use_style()
    figures.bias_amplification(Findings.of_record(record), {}, label="mean of the skewed attributes")
    return figure_bytes(plt.gcf(), "svg", Description=picture_digest(record))


def picture_digest(record: KeptRecord) -> str:
    """Digest what the picture is drawn from."""
    return json_digest(record.content["tables"])


def with_results(text: str, root: Path) -> str:
    """Return the README's text with the block of results as the kept records have it now."""
    return _BLOCK.sub(lambda block: f"{block[1]}{results_block(root)}{block[2]}", text, count=1)


if __name__ == "__main__":
    checkout = Path(__file__).parents[2]
    (checkout / PICTURE).write_bytes(picture(checkout))
    readme = checkout / "README.md"
    readme.write_text(with_results(readme.read_text(encoding="utf-8"), checkout), encoding="utf-8")
