"""Every executable page runs on the smoke profile, and a chapter has its form and measures the claims that it has registered.

Executable pages are the chapters, which measure claims, and pages that are drawn from a kept record, which measure none.
"""

import ast
import dataclasses
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
import yaml

from effnotes.reporting.claims import CLAIM_MIME, load_register
from effnotes.reporting.tables import read_table
from effnotes.runner.project import PROFILES, Chapter, Project
from effnotes.studies.bias.experiment import Experiment
from effnotes.training.recipes import PUBLISHED_GMP_RI

PROJECT = Project.find(Path(__file__))
PAGES = list(PROJECT.chapters.values())
CHAPTERS = [page for page in PAGES if PROJECT.register(page.name)]

THESIS = ("pruning_bias", "sample_targeted_pruning", "personalization", "model_editing")
COMPANIONS = ("sparse_training", "coresets", "contextual_sparsity", "notes")

each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
each_chapter = pytest.mark.parametrize("chapter", CHAPTERS, ids=lambda chapter: chapter.name)


def record(build: Path, page: Chapter) -> dict:
    (path,) = (build / "runs" / page.name).glob("*/record.json")
    return json.loads(path.read_text())


def notebook(build: Path, page: Chapter):
    (path,) = (build / "runs" / page.name).glob("*/notebook.ipynb")
    return nbformat.read(path, as_version=4)


def test_the_book_has_chapters():
    assert [chapter.name for chapter in CHAPTERS] == [*THESIS, *COMPANIONS]


@each_page
def test_a_page_runs_on_the_smoke_profile(page, smoke_build):
    made = record(smoke_build, page)
    assert made["status"] == "finished"
    assert made["profile"] == "smoke"


@each_page
def test_a_page_measures_exactly_its_registered_claims(page, smoke_build):
    registered = {name for name, claim in load_register().items() if claim.chapter == page.name}
    measured = [payload["id"] for payload in record(smoke_build, page)["claims"]]
    assert sorted(measured) == sorted(registered)


@each_chapter
def test_a_chapter_reports_a_handful_of_numbers(chapter, smoke_build):
    metrics = record(smoke_build, chapter)["metrics"]
    assert 3 <= len(metrics) <= 6
    assert all(metric["unit"] and metric["value"] is not None for metric in metrics.values())


def test_every_registered_claim_belongs_to_a_chapter():
    assert {claim.chapter for claim in load_register().values()} == {chapter.name for chapter in CHAPTERS}


@each_page
def test_cells_ran_in_order_and_show_no_warning_or_repr(page, smoke_build):
    codes = [cell for cell in notebook(smoke_build, page).cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in codes] == list(range(1, len(codes) + 1))
    for cell in codes:
        for output in cell.outputs:
            assert output.get("name") != "stderr", output["text"]
            data = output.get("data", {})
            if output.output_type == "execute_result" and set(data) == {"text/plain"}:
                assert not re.match(r"<.* at 0x|\(?array\(\[+<|Text\(", data["text/plain"]), (
                    f"a stray object is shown by:\n{cell.source}"
                )


@each_page
def test_every_figure_has_a_caption_a_name_and_words_for_those_who_cannot_see_it(page, smoke_build):
    figures = 0
    for cell in notebook(smoke_build, page).cells:
        images = [output for output in cell.get("outputs", []) if any(kind.startswith("image/") for kind in output.get("data", {}))]
        if not images:
            continue
        figures += 1
        described = cell.metadata["mystnb"]
        assert len(images) == 1
        assert described["figure"]["caption"].endswith(".")
        assert described["figure"]["name"].startswith("fig-")
        assert len(described["image"]["alt"].split()) >= 8
    assert figures > 0


@each_page
@pytest.mark.parametrize("profile", PROFILES)
def test_every_profile_fits_the_parameters(page, profile):
    values = PROJECT.profile(profile).chapters.get(page.name, {})
    assert set(PROJECT.values(page.name, profile, {})) == set(page.parameters)
    if profile == "quick":
        assert not values, "the defaults in the page are the quick profile"


@each_page
def test_every_parameter_has_help_and_is_used(page):
    code = "\n".join(source for source, tags in page.code if "parameters" not in tags)
    used = {node.id for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}
    for parameter in page.parameters.values():
        assert parameter.help, parameter.name
        assert parameter.name in used, parameter.name


@each_chapter
def test_a_chapter_promises_offers_exercises_and_concludes(chapter):
    prose = chapter.prose
    for part in ("What you will be able to do", "## Try it on your own", "## Exercises", "## Key takeaways", "## Further reading"):
        assert part in prose, part
    labels = re.findall(r":label: (exercise-[\w-]+)", prose)
    assert len(labels) >= (6 if chapter.name in THESIS else 2)
    assert sorted(re.findall(r"\{solution(?:-start)?\} (exercise-[\w-]+)", prose)) == sorted(labels)


@each_page
def test_the_notebook_of_a_page_can_be_run_on_its_own(page, smoke_build):
    """A downloaded notebook is Python in a standard kernel and needs nothing that only the runner gives."""
    staged = nbformat.read(smoke_build / "stage" / f"{page.page}.ipynb", as_version=4)
    assert staged.metadata.kernelspec.name == "python3"
    assert staged.cells[-1].source.startswith("## What made this page")
    claims = [output for cell in staged.cells for output in cell.get("outputs", []) if CLAIM_MIME in output.get("data", {})]
    assert len(claims) == len(PROJECT.register(page.name))
    code = "\n".join(cell.source for cell in staged.cells if cell.cell_type == "code")
    assert "effnotes.runner" not in code
    assert "EFFNOTES_" not in code


FIXTURES = PROJECT.root / "tests" / "fixtures"
ONE_EPOCH = {"epochs": 1, "warmup_epochs": 0, "prune_start": 0, "prune_end": 1, "seeds": [1], "sparsities": [0, 0.9]}


def run_chapter(chapter: str, build: Path, profile: str, **values: object) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "effnotes.runner.cli", "run", chapter, "--profile", profile, "--build-dir", str(build)]
    for name, value in values.items():
        command += ["-p", f"{name}={value}"]
    return subprocess.run(command, cwd=PROJECT.root, capture_output=True, text=True, timeout=600)


@pytest.mark.slow
def test_the_chapter_on_bias_runs_on_photographs_in_the_published_set_up(tmp_path):
    # For one epoch, and on smaller images: at the published size it takes minutes just to time a network on a processor.
    values = {"data_root": FIXTURES / "celeba", "image_size": 32, **ONE_EPOCH}
    done = run_chapter("pruning_bias", tmp_path, "paper", **values)
    assert done.returncode == 0, done.stdout + done.stderr
    (path,) = tmp_path.glob("runs/pruning_bias/*/record.json")
    measured = {claim["id"]: claim for claim in json.loads(path.read_text())["claims"]}
    # On a hundred images little is settled; accuracy is defined for whatever was trained.
    assert measured["bias.accuracy-flat"]["estimate"] is not None
    assert measured["bias.single-label-more-biased"]["estimate"] is None, "further experiments are for faces, unless asked for"


@pytest.mark.slow
def test_the_chapter_on_bias_runs_on_classes_without_a_protected_attribute(wild, tmp_path):
    done = run_chapter("pruning_bias", tmp_path, "smoke", dataset="iwildcam", data_root=wild)
    assert done.returncode == 0, done.stdout + done.stderr
    (path,) = tmp_path.glob("runs/pruning_bias/*/record.json")
    made = json.loads(path.read_text())
    claims = {claim["id"].removeprefix("bias."): claim for claim in made["claims"]}
    measured = {
        "accuracy-flat",
        "uncertainty-grows",
        "rare-value-underpredicted",
        "changes-were-uncertain",
        "changes-turn-negative",
    }
    unmeasured = {name for name, claim in claims.items() if claim["reason"].startswith("Not measured with these data: the classes")}
    assert set(claims) - unmeasured == measured
    assert {claims[name]["n_units"] for name in unmeasured} == {0}
    models, f1 = read_table(made, "models").set_index("sparsity"), read_table(made, "f1")
    assert models[["accuracy", "uncertainty", "expected_calibration_error"]].stack().between(0, 1).all()
    assert (models["majority_accuracy"] == 0.2).all(), "a fifth of the test images is of the most frequent class in training"
    assert models[["interdependence", "bias_amplification", "false_negative_rate_gap"]].isna().all(axis=None)
    effect = claims["accuracy-flat"]["effects"][0]
    assert effect == pytest.approx(models["accuracy"][0.9] - models["accuracy"][0.0], abs=1e-5)
    assert f1.groupby("images")["f1"].count().to_dict() == {"1 to 5": 3, "6 to 10": 3, "11 to 50": 3, "51 to 150": 3}
    assert f1["f1"].between(0, 1).all()
    (path,) = tmp_path.glob("runs/pruning_bias/*/notebook.ipynb")
    text = path.read_text(encoding="utf-8")
    assert "iwildcam: bias amplification and all that rests on it" in text
    assert "stderr" not in text


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"dataset": "cifar10s", "data_root": FIXTURES / "cifar10", "num_val": 10}, "no attribute is skewed"),
        ({"protected": "Smiling"}, "attribute to protect 'Smiling'"),
        ({"num_shared": 0}, "num_shared=0 must be at least 1"),
        ({"dataset": "celeba"}, "is read from a folder; name it"),
        ({"dataset": "celeba", "data_root": "nowhere/celeba"}, "data_root='nowhere/celeba': there is no such folder"),
        ({"dataset": "celeba", "data_root": "nowhere/celeba", "stream": True}, "nowhere/celeba: this directory does not exist"),
        ({"sparsities": [0.9, 0.95]}, "add 0, the dense model"),
        ({"image_size": 16}, "image_size=16"),
        ({"other_methods": "[magic]"}, "method='magic'"),
        ({"moderate_sparsity": 0.5}, "must be one of the sparsities"),
    ],
    ids=[
        *("too few images", "no such attribute", "no shared faces", "no folder", "folder missing", "folder to stream missing"),
        *("no dense model", "small images", "no such method", "no such level"),
    ],
)
def test_the_chapter_on_bias_refuses_before_it_trains(values, message, check):
    with pytest.raises(ValueError, match=re.escape(message)):
        check("pruning_bias", **values)


def measured_in(build: Path, chapter: str) -> dict[str, dict]:
    (path,) = build.glob(f"runs/{chapter}/*/record.json")
    return {claim["id"]: claim for claim in json.loads(path.read_text())["claims"]}


@pytest.mark.slow
def test_the_chapter_on_editing_compares_ranks_and_blocks_on_facts_and_edits_from_files(tmp_path):
    values = {"ranks": "[1,4,16]", "blocks": "[linears,attention,mlp]"}
    done = run_chapter("model_editing", tmp_path, "smoke", facts=FIXTURES / "facts.csv", edits=FIXTURES / "edits.csv", **values)
    assert done.returncode == 0, done.stdout + done.stderr
    assert measured_in(tmp_path, "model_editing")["editing.low-rank-as-good"]["estimate"] is not None
    (path,) = tmp_path.glob("runs/model_editing/*/record.json")
    ends, costs = (read_table(json.loads(path.read_text()), name) for name in ("ends", "costs"))
    names = {f"LoRA {rank} {blocks}" for rank in (1, 4, 16) for blocks in ("linears", "attention", "mlp")}
    assert set(ends["method"]) == names | {"full linears", "full attention", "full mlp"}
    assert ends["edit_success"].between(0, 1).all()
    # LoRA of rank r trains r (in + out) numbers of each matrix of a block: 16 r d in all, d = 32, two blocks.
    trained = costs.set_index("method")["n_trainable"]
    assert [trained[f"LoRA {rank} linears"] for rank in (1, 4, 16)] == [16 * rank * 32 * 2 for rank in (1, 4, 16)]
    (path,) = tmp_path.glob("runs/model_editing/*/notebook.ipynb")
    text = path.read_text(encoding="utf-8")
    assert "Abrel Tuno | lives in | Norrick" in text, "facts are shown by their names"
    for edited in ("Abrel Tuno | lives in", "Bixa Morle | works as", "Cado Venn | speaks"):
        assert text.count(f">{edited}<") == 4, "each edit stands in the table, at full rank and by each LoRA"


@pytest.mark.slow
def test_the_lines_that_edit_a_reader_s_facts_run_as_they_stand_on_the_page(tmp_path, monkeypatch, capsys):
    page = PROJECT.chapters["model_editing"].source
    lines = page.partition("**Your facts, from Python.**")[2].partition("```python\n")[2].partition("# ```")[0].splitlines()
    for name in ("facts", "edits"):
        shutil.copy(FIXTURES / f"{name}.csv", tmp_path / f"my_{name}.csv")
    monkeypatch.chdir(tmp_path)
    exec("\n".join(line.removeprefix("# ").removeprefix("#") for line in lines), {})
    told = capsys.readouterr().out
    assert "Abrel Tuno | lives in | Norrick → Varn" in told
    assert "edit_success" in told
    assert re.match(r"1 \d+\n", told), "how far the training is"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"world": FIXTURES / "worlds" / "unknown_key.yaml"}, "unknown_key.yaml, line 2: there is no setting 'n_relation'"),
        ({"world": FIXTURES / "worlds" / "out_of_range.yaml"}, "out_of_range.yaml, line "),
        ({"facts": FIXTURES / "facts" / "contradiction.csv"}, "contradiction.csv"),
        ({"edits": FIXTURES / "edits.csv"}, "name the table of all facts as well, as facts"),
        ({"facts": FIXTURES / "facts.csv", "edits": FIXTURES / "facts.csv"}, "is 'Norrick' already"),
        ({"blocks": "[attention]"}, "'linears' must be among them"),
        ({"checkpoint": "nowhere", "worlds": "[1, 2]"}, "a checkpoint knows one world"),
        ({"checkpoint": "nowhere"}, "nowhere"),
        ({"unlearn": "[magic]"}, "unlearn.0='magic': must be one of 'grad_ascent'"),
        ({"suppressed": "[400]"}, "n=400"),
    ],
    ids=[
        *(
            "unknown key",
            "out of range",
            "contradicting facts",
            "edits without facts",
            "edits without change",
            "no reference",
            "two worlds of a checkpoint",
            "no checkpoint",
        ),
        *("no such loss", "too many facts"),
    ],
)
def test_the_chapter_on_editing_refuses_before_it_trains(values, message, check):
    with pytest.raises(ValueError, match=re.escape(message)):
        check("model_editing", **values)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"threshold": 1.0}, "threshold=1.0: must be below 1"),
        ({"threshold": 0.0}, "threshold=0.0: must be above 0"),
        ({"sparsities": "[0.5, 1.0]"}, "sparsities.1=1.0: must be below 1"),
        ({"sparsities": "[-0.1]"}, "sparsities.0=-0.1: must be at least 0"),
        ({"sparsities": "[0.99]"}, "leaves none of experts=16"),
        ({"experts": 24}, "experts=24 do not divide the hidden units, mlp_width=64; allowed are [1, 2, 4, 8, 16, 32, 64]"),
        ({"edit_rates": "{active: 0.1}"}, "must have a rate for each of active, others and dense"),
    ],
)
def test_the_page_on_contextual_sparsity_refuses_before_it_trains(values, message, check):
    with pytest.raises(ValueError, match=re.escape(message)):
        check("contextual_sparsity", **values)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"rates": "[0.999]"}, "so 0 cannot be kept"),
        ({"cutoffs": "[0.3]", "sweep_rate": 0.2}, "a cutoff of 0.3 drops 180 of 600 examples, so 480 cannot be kept"),
        ({"pool_cutoff": 0.95}, "a cutoff of 0.95 drops 285 of 300 examples, so 30 cannot be kept"),
        ({"dataset": "cifar10"}, "cifar10 is read from a folder"),
    ],
)
def test_the_page_on_coresets_refuses_before_it_trains(values, message, check):
    with pytest.raises(ValueError, match=re.escape(message)):
        check("coresets", **values)


@each_chapter
def test_a_chapter_accepts_what_smoke_gives_it(chapter, check):
    check(chapter.name)


def test_the_chapter_on_bias_accepts_classes_without_a_protected_attribute(wild, check):
    check("pruning_bias", dataset="iwildcam", data_root=wild)
    with pytest.raises(ValueError, match="protected='puma', follow_ups=None: iwildcam has classes that exclude one another"):
        check("pruning_bias", dataset="iwildcam", data_root=wild, protected="puma")


def test_the_chapter_on_traces_refuses_before_it_trains(check):
    with pytest.raises(ValueError, match=re.escape("mild={'fc': 1.2}: levels['fc']=1.2: must be")):
        check("sample_targeted_pruning", mild="{fc: 1.2}")


def test_the_command_refuses_what_a_chapter_refuses(tmp_path):
    done = run_chapter("model_editing", tmp_path, "smoke", blocks="[attention]")
    assert done.returncode == 2, done.stdout + done.stderr
    assert done.stderr.startswith("effnotes: model_editing refuses these parameters: ")
    assert "'linears' must be among them" in done.stderr
    assert not list(tmp_path.glob("runs/*/*/record.json"))
    assert not [path for path in tmp_path.glob("cache/**/*") if path.is_file()], "something was trained first"


def test_the_published_set_up_is_the_published_recipe():
    chapter = PROJECT.chapters["pruning_bias"]
    values = PROJECT.values(chapter.name, "paper", {})
    fields = {field.name for field in dataclasses.fields(Experiment)} & set(values)
    experiment = Experiment(**{**{name: values[name] for name in fields}, "data_root": "somewhere"})
    assert experiment.recipe == PUBLISHED_GMP_RI
    levels = experiment.plan(0.95, seed=1).levels
    assert [round(level, 3) for level in levels.values()] == [0.05, 0.379, 0.616, 0.777, 0.875, 0.927, 0.947, 0.95]
    assert (values["model"], values["image_size"], values["dataset"]) == ("resnet18", 224, "celeba")


def test_profiles_name_only_what_exists():
    declared = yaml.safe_load((PROJECT.root / "book" / "profiles.yaml").read_text())
    assert tuple(declared) == PROFILES
