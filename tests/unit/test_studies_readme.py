"""What README.md says came out is what the kept records hold, and its lines of code run."""

import re
from collections import Counter
from pathlib import Path

import torch

from effnotes.reporting.kept import read_record
from effnotes.studies.readme import CHAPTERS, PICTURE, picture, picture_digest, results_block, with_results

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PATHS = {name: ROOT / f"data/records/{name}/full.json" for name in CHAPTERS}
RECORDS = {name: read_record(path) for name, path in PATHS.items() if path.is_file()}


def test_the_readme_counts_the_verdicts_of_the_kept_records():
    assert results_block(ROOT) in README, "the kept records say something else: run 'make readme'"
    assert with_results(README, ROOT) == README
    assert {"pruning_bias", "model_editing"} <= set(RECORDS)
    for name, record in RECORDS.items():
        counts = Counter(claim["verdict"] for claim in record.claims.values())
        (row,) = re.findall(rf"^\| {re.escape(CHAPTERS[name])} \| profile full.*$", README, re.MULTILINE)
        assert [int(cell) for cell in row.split("|")[3:6]] == [counts[v] for v in ("shown", "contradicted", "not settled")]


def test_a_sentence_of_a_record_is_in_the_readme_where_it_has_one(tmp_path):
    import json

    for name, record in RECORDS.items():
        folder = tmp_path / "data/records" / name
        folder.mkdir(parents=True)
        found = {"found": [{"sentence": f"{name} was found.", "claim": ""}]}
        (folder / "full.json").write_text(json.dumps(dict(record.content) | found))
    block = results_block(tmp_path)
    assert "pruning_bias was found." in block
    assert "model_editing was found." in block


def test_the_picture_is_that_of_the_kept_record():
    drawn = (ROOT / PICTURE).read_text(encoding="utf-8")
    assert picture_digest(RECORDS["pruning_bias"]) in drawn, "the kept record has changed: run 'make readme'"
    assert PICTURE in README
    assert picture_digest(RECORDS["pruning_bias"]).encode() in picture(ROOT)


def test_an_audit_is_the_lines_that_the_first_page_and_the_readme_show():
    labels = torch.randint(0, 2, (400, 3), generator=torch.Generator().manual_seed(0))
    images = labels + 0.5 * torch.randn(400, 3, generator=torch.Generator().manual_seed(1))
    models = {"dense": torch.nn.Linear(3, 3), "pruned": torch.nn.Linear(3, 3)}
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(images, labels), batch_size=100)
    given = {**models, "loader": loader, "train_labels": labels.numpy(), "names": ["Male", "Smile", "Hat"]}
    for page in ("README.md", "book/index.md"):
        text = (ROOT / page).read_text(encoding="utf-8")
        (lines,) = [code for code in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if "bias_audit" in code]
        assert len([line for line in lines.splitlines() if line.strip()]) == 3
        known = dict(given)
        exec(lines, known)
        assert len(known["audit"].table) > 0
