"""The study of personalisation: what is refused, what stays private, what decides verdicts, and sentences that are always true."""

import dataclasses
import json
import re
import socket
import stat
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import spearmanr

from effnotes.datasets.text import draw_persona, write_canaries
from effnotes.datasets.text.retrieval import encoder_of
from effnotes.models.answers import token_log_probabilities
from effnotes.models.language import LanguageModelShape, build_language_model
from effnotes.models.prompts import Prompt, encode
from effnotes.reporting.claims import load_register
from effnotes.reporting.tables import read_table
from effnotes.studies import personalization
from effnotes.studies.personalization import effects, figures, private, sentences, tuning, writers
from effnotes.studies.personalization.experiment import Plan, Result, choose_rates
from effnotes.studies.personalization.published import published, told
from effnotes.training.mail_base import train_tokenizer

FIXTURE = Path(__file__).parents[1] / "fixtures" / "persona.mbox"
SENTINEL = "heron flew over nine green ladders"
SHAPE = {"width": 64, "layers": 1, "heads": 2, "mlp_width": 64, "family": "llama", "context": 512}
PARAMETERS: dict[str, Any] = {
    "personas": [1, 2, 3],
    "checkpoint": "",
    "mailbox": "",
    "address": "",
    "redacted": False,
    "mails": 24,
    "few": 3,
    "under": 12,
    "val": 5,
    "test": 5,
    "facts": 2,
    "canaries": 2,
    "rank": 4,
    "rosa_rank": 2,
    "context": 1,
    "batch_size": 4,
    "full_rates": [1e-3],
    "lora_rates": [1e-2],
    "sparse_rates": [1e-2],
    "rosa_rates": [1e-2],
    "mask_rules": ["magnitude"],
    "extensions": 0,
    "steps": [2, 4],
    "tune_personas": [901],
    "pretraining": {"shape": SHAPE, "steps": 5, "repeat_steps": 0, "tokenizer_mails": 200},
}
HABITS = ("greeting", "signoff", "name", "small letters", "exclamation mark", "length")
OWN = {"mailbox": str(FIXTURE), "address": "ada@example.org"}


@pytest.fixture(scope="module")
def plan() -> Plan:
    return personalization.plan(**PARAMETERS)


def made_up_result(plan: Plan, score: Any, facts: Any = None) -> Result:
    """A result whose scores a function of persona, method and way to serve gives."""
    systems, course, habits = [], [], []
    for persona in plan.parameters.personas:
        for method in [*plan.untuned, *plan.grids, *plan.borrowed]:
            row = {"persona": persona, "method": method.name, "kind": method.kind, "mails": method.mails}
            row |= {"raft": method.raft, "nf4": method.nf4, "mask_rule": method.mask_rule, "learning_rate": 0.1}
            for serve in ("none", "RAG"):
                value = score(persona, method, serve)
                scores = dict.fromkeys(
                    ("style", "content", "bleu", "rouge", "mauve", "test_loss", "accepted", "told", "membership"), value
                )
                told_right = value if facts is None else facts
                costs = dict.fromkeys(("trainable", "cpu_s", "adapter_bytes", "training_bytes"), 9.0) | {
                    "base_bytes": 80 - 70 * method.nf4
                }
                places = {"overlap": 0.2, "chance": 0.1, "copied": 2.5, "copied_real": 2.0, "mauve_real": 0.55}
                habits += [row | {"serve": serve, "habit": each, "written": value, "real": 0.9} for each in HABITS]
                systems.append(row | scores | costs | places | {"serve": serve, "facts": told_right, "accepted_real": 0.5})
            if method.kind != "none":
                course += [row | {"step": step, "val_loss": 3.0 - step / 4, "exposure": float(step)} for step in (0, 2, 4)]
    crosses = [
        {"persona": one, "other": other, "style": 0.9 - other / 100 if one == other else 0.1 + one / 100}
        for one in (1, 2, 3)
        for other in (1, 2, 3)
    ]
    rates = [{"method": m.name, "learning_rate": 0.1, "score": -2.0, "tried": 1, "edge": "", "step": 4} for m in plan.grids]
    tried = [{"persona": 901, "method": "x", "learning_rate": 0.1, "step": 2, "val_loss": 1.0}]
    cuts = [{"persona": 1, "form": form, "left": 0.4, "style": 0.3, "test_loss": 1.5} for form in ("low rank", "both", "sparse")]
    frames = (pd.DataFrame(each) for each in (tried, rates, systems, course, habits, crosses, cuts))
    return Result(plan, pd.DataFrame(), *frames, pd.DataFrame())


def test_each_claim_compares_the_two_systems_that_it_names(plan: Plan) -> None:
    """Against differences that were planted; one effect a persona, and no claim without one."""
    score = {
        ("none", 24, False, False, "RAG"): 0.3,
        ("none", 3, False, False, "RAG"): 0.25,
        ("lora", 24, False, False, "none"): 0.8,
        ("lora", 24, False, False, "RAG"): 0.35,
        ("lora", 12, False, False, "none"): 0.72,
        ("lora", 3, False, False, "none"): 0.4,
        ("lora", 24, True, False, "RAG"): 0.75,
        ("lora", 24, True, False, "none"): 0.7,
        ("full", 24, False, False, "none"): 0.9,
        ("rosa", 24, False, False, "none"): 0.85,
        ("rosa", 24, False, True, "none"): 0.95,
        ("sparse", 24, False, False, "none"): 0.86,
    }
    result = made_up_result(plan, lambda p, m, s: p / 10 + score.get((m.kind, m.mails, m.raft, m.nf4, s), 0))
    found = effects.effects(result)
    expected = {
        "tuning-beats-rag": 0.5,
        "peft-as-good": -0.05,
        "rosa-beats-lora": -0.05,
        "rosa-beats-sparse": 0.01,
        "under-100": -0.08,
        "rag-wins-with-few": -0.15,
        "raft-mends": 0.4,
        "rag-adds-facts": 0.05,
        "quantised-as-good": -0.1,
        "bleu-follows-content": 0.0,
    }
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], [value] * 3, atol=1e-12, err_msg=name)
    np.testing.assert_allclose(found["judge-fooled"], [0.4, 0.5, 0.6])
    np.testing.assert_allclose(found["own-model-best"], [0.89 - 0.125, 0.88 - 0.12, 0.87 - 0.115])
    registered = {name for name, claim in load_register().items() if claim.chapter == "personalization"}
    assert registered == {f"personal.{name}" for name in found}


def test_leaks_are_compared_where_validation_losses_are_nearest() -> None:
    """The checkpoint of full tuning that is nearest to LoRA's last, before or behind it, and never the start."""
    rows = [("lora", 0, 2.0, 0.0), ("lora", 2, 1.5, 1.0), ("lora", 4, 1.0, 3.0)]
    rows += [("full", 0, 1.0, 99.0), ("full", 2, 1.1, 7.0), ("full", 4, 0.4, 13.0)]
    course = pd.DataFrame(rows, columns=["method", "step", "val_loss", "exposure"]).assign(persona=5)
    assert effects.leaked_more(course, "full", "lora").to_dict() == {5: 4.0}


def test_the_leaning_of_bleu_is_a_difference_of_spearman_correlations() -> None:
    """Against SciPy; a constant score has no correlation, and gives no effect."""
    rng = np.random.default_rng(0)
    systems = pd.DataFrame(rng.random((14, 3)).round(1), columns=["bleu", "content", "style"]).assign(persona=[1] * 7 + [2] * 7)
    for persona, rows in systems.groupby("persona"):
        expected = spearmanr(rows["bleu"], rows["content"])[0] - spearmanr(rows["bleu"], rows["style"])[0]
        assert effects.bleu_leaning(systems)[persona] == pytest.approx(expected)
    assert effects.bleu_leaning(systems.assign(content=1.0)).isna().all()


def test_rate_and_steps_are_chosen_together_by_validation_loss() -> None:
    """The rate whose best checkpoint has the lowest mean loss over personas, and that checkpoint."""
    losses = {(0.1, 2): (3.0, 1.0), (0.1, 4): (1.9, 1.9), (0.3, 2): (1.6, 2.0), (0.3, 4): (5.0, 0.1), (1.0, 2): (2.5, 2.5)}
    rows = [
        {"persona": persona, "method": "a", "learning_rate": rate, "step": step, "val_loss": loss}
        for (rate, step), each in losses.items()
        for persona, loss in enumerate(each)
    ]
    (chosen,) = choose_rates(pd.DataFrame(rows)).to_dict("records")
    assert (chosen["learning_rate"], chosen["step"], chosen["edge"]) == (0.3, 2, "")
    assert chosen["score"] == pytest.approx(-1.8)


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        ({"mailbox": "nowhere.mbox", "address": "ada@example.org"}, r"nowhere\.mbox"),
        ({"mailbox": str(FIXTURE)}, "give both"),
        ({"mailbox": str(FIXTURE), "address": "eve@example.org"}, "ada@example.org"),
        ({"personas": [1, 1]}, "each persona once"),
        ({"personas": [901]}, "each persona once"),
        ({"personas": [801]}, "the judge's"),
        ({"under": 30}, r"few=3, under=30, mails=24"),
        ({"canaries": 13}, "take 1 to 12"),
        ({"rosa_rank": 4}, "rosa_rank=4"),
        ({"rank": 200, "rosa_rank": 2}, "another rank or budget"),
        ({"steps": [4, 2]}, "larger than the one before"),
        ({"lora_rates": [0.0]}, "lora_rates"),
        ({"checkpoint": "nowhere"}, "no such folder"),
        ({"checkpoint": str(FIXTURE.parent)}, "config.json is missing|model.safetensors is missing"),
        ({"pretraining": {"step": 5}}, "step"),
    ],
)
def test_wrong_parameters_are_refused_before_anything_is_trained(
    bad: dict[str, Any], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One clear error that names what was given."""
    monkeypatch.setenv(private.VARIABLE, str(tmp_path / "private"))
    with pytest.raises((ValueError, TypeError), match=says):
        personalization.plan(**PARAMETERS | bad)


def test_the_private_folder_is_its_owners_alone_and_in_no_repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Refused anywhere inside a working tree, also where .git is a file, as in a worktree of git."""
    monkeypatch.setenv(private.VARIABLE, str(tmp_path / "mine"))
    assert stat.S_IMODE(private.private_folder().stat().st_mode) == 0o700
    with private.kept_private():
        import os

        assert os.environ["EFFNOTES_CACHE_DIR"].startswith(str(tmp_path / "mine"))
        assert os.environ["HF_HUB_OFFLINE"] == "1"
    (tmp_path / ".git").write_text("gitdir: elsewhere")
    monkeypatch.setenv(private.VARIABLE, str(tmp_path / "mine" / "deeper"))
    with pytest.raises(ValueError, match="lies in the git repository"):
        personalization.plan(**PARAMETERS | OWN)
    assert not (tmp_path / "mine" / "deeper").exists()


def test_no_connection_is_made_within_the_block() -> None:
    """A server that would take it is there; behind the block it does."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        with private.no_network(), pytest.raises(OSError, match="no connection"):
            socket.create_connection(server.getsockname())
        socket.create_connection(server.getsockname()).close()


def test_material_is_apart_and_facts_are_indexed_only(plan: Plan) -> None:
    """Canaries are learnt last, no test mail is indexed, and what states a fact is indexed and not learnt."""
    own = writers.material(plan.writers[0])
    assert (len(own.train), len(own.val), len(own.test)) == (24, 5, 5)
    assert [each.request.intent == "locker" for each in own.train if each.request] == [False] * 22 + [True] * 2
    indexed = {mail.id for mail in tuning.search_index(own, 24).mails}
    assert indexed == {each.mail.id for each in own.train} | {mail.id for mail in own.stated}
    assert not indexed & {each.mail.id for each in [*own.val, *own.test]}
    assert len(tuning.search_index(own, 3).mails) == 3
    for fact in own.facts:
        assert sum(fact.request.value.lower() in mail.text.lower() for mail in own.stated) >= 1
    assert SENTINEL not in repr(own)


def test_exposure_ranks_all_codes_by_their_probability(monkeypatch: pytest.MonkeyPatch) -> None:
    """The log-probability of the four digits, against whole mails read one by one; a tokeniser that joins digits is refused."""
    tokenizer = train_tokenizer(400, 60)
    shape = LanguageModelShape(width=16, layers=1, heads=2, mlp_width=24, family="llama", context=512)
    model = build_language_model(shape, len(tokenizer), seed=0)
    canary = write_canaries(draw_persona(3), 1, 0)[0]
    seen: dict[str, Any] = {}
    monkeypatch.setattr(tuning, "exposure", lambda every, true: seen.update(every=every, true=true) or 1.0)
    tuning.code_exposure(model, tokenizer, canary)
    code = canary.request.value
    assert seen["every"].shape == (10_000,)
    assert seen["true"] == int(code)
    for number in (0, 7, 1234, int(code), 9999):
        text = canary.text.replace(code, f"{number:04d}")
        text = text[: text.index(f"{number:04d}") + 4]
        rows = encode(tokenizer, [Prompt(canary.instructions[0])], [text]).rows
        with torch.no_grad():
            expected = float(token_log_probabilities(model, rows, rows.is_answer)[-5:-1].sum())
        assert seen["every"][number] == pytest.approx(expected, abs=1e-4)


def test_features_of_a_text_are_the_mean_of_its_last_states() -> None:
    """Against each text read alone, whatever it stands beside; a text without tokens is at 0."""
    tokenizer = train_tokenizer(400, 60)
    shape = LanguageModelShape(width=16, layers=1, heads=2, mlp_width=24, family="llama", context=512)
    model = build_language_model(shape, len(tokenizer), seed=0).eval()
    texts = ["Hello there, the hall is free.", "Yes", ""]
    found = encoder_of(model.base_model, tokenizer, batch=3)(texts)
    for text, features in zip(texts[:2], found, strict=False):
        with torch.no_grad():
            states = model(torch.tensor([tokenizer.encode(text)]), output_hidden_states=True).hidden_states[-1][0]
        torch.testing.assert_close(features, states.mean(dim=0), atol=1e-5, rtol=1e-4)
    assert not found[2].any()


def test_what_mauve_says_has_its_mark_of_real_mails_beside_it(plan: Plan) -> None:
    """Planted: the highest and the lowest system, and how many reach what real mails get; a table of an older record has none."""
    result = made_up_result(plan, lambda p, m, s: {"lora": 0.9, "none": 0.2}.get(m.kind, 0.5) - 0.1 * (s == "RAG"))
    said = sentences.of_mauve(result.systems, 5)
    # Several have the same: all by LoRA, and the base with few or all mails to search.
    assert re.search(r"of 5 mails a side, is highest for LoRA[^(]* without context \(0\.90\)", said)
    assert re.search(r"lowest for base, \d+ mails with retrieved mails \(0\.10\)", said)
    means = result.systems.groupby(["method", "serve"])["mauve"].mean()
    assert f"have 0.55, and {(means >= 0.55).sum()} of {len(means)} systems" in said
    assert "MAUVE" in sentences.methods_table(result.systems)
    assert "MAUVE" not in sentences.methods_table(result.systems.drop(columns="mauve"))


def test_sparse_and_rosa_train_as_many_numbers_as_lora(plan: Plan) -> None:
    """Counted by the formula of each, on the shapes of the base."""
    from effnotes.studies.personalization.experiment import _job, _untrained

    base = _untrained(plan.base)
    shapes = [(64, 64)] * 7
    budget = sum(4 * (m + n) for m, n in shapes)
    for kind, rank in (("sparse", 0), ("rosa", 2)):
        made = tuning.recipe(_job(plan, plan.writers[0], plan.method(kind), (2,), 0.1), base)
        assert made.density is not None
        count = sum(rank * (m + n) + int(made.density * m * n) for m, n in shapes)
        assert count == pytest.approx(budget, rel=0.01)


@pytest.mark.parametrize(("gain", "verdict"), [(0.3, "shown"), (-0.3, "contradicted")])
def test_sentences_follow_the_verdict(plan: Plan, gain: float, verdict: str) -> None:
    """What the page says of a claim is what its verdict is; a claim without an effect says so."""
    lora = plan.method("lora")
    result = made_up_result(plan, lambda p, m, s: 0.4 + p / 1000 * (m == lora) + gain * (m == lora and s == "none"))
    payloads = {each.claim.id: each.to_json() for each in personalization.measure(result)}
    said = sentences.judged(payloads["personal.tuning-beats-rag"])
    assert payloads["personal.tuning-beats-rag"]["verdict"] == verdict
    assert ("no more" in said) == (gain < 0)
    assert "3 personas" in said
    assert "nothing to measure" in sentences.judged(payloads["personal.tuning-beats-rag"] | {"estimate": None, "interval": None})
    assert len(sentences.what_was_found(payloads)) == len(sentences.QUESTIONS)
    assert len(sentences.to_take_away(payloads)) == 4


def every_sentence(result: Result) -> list[str]:
    return [
        sentences.of_rates(result.rates),
        sentences.of_methods(result.systems),
        sentences.of_budget(result.systems),
        sentences.of_numbers(result.systems),
        sentences.of_served(result.systems),
        sentences.of_crosses(result.crosses),
        sentences.of_exposure(result.course),
        sentences.of_metrics(result.systems),
        sentences.of_mauve(result.systems, 5),
        sentences.of_habits(result.habits),
        sentences.of_leaks(result.systems),
        sentences.of_cuts(result.cuts),
        sentences.of_masks(result.systems),
        sentences.of_quantised(result.systems),
    ]


def test_sentences_and_figures_leave_out_what_a_readers_mails_have_not(plan: Plan) -> None:
    """Without facts, content, codes and other writers, none speaks of NaN; figures and tables are drawn all the same."""
    result = made_up_result(plan, lambda p, m, s: 0.5 + p / 100 + m.mails / 1000 + (s == "RAG") / 50)
    own = result._replace(
        systems=result.systems.assign(content=np.nan, facts=np.nan, told=np.nan),
        course=result.course.assign(exposure=np.nan),
        crosses=pd.DataFrame(),
    )
    for each in (result, own):
        for sentence in every_sentence(each):
            assert sentence.endswith(".")
            assert "nan" not in sentence
    assert "one learning rate" in sentences.of_rates(result.rates)
    several = result.rates.assign(tried=3)
    assert "within its grid" in sentences.of_rates(several)
    assert "the last that was tried for LoRA, 24 mails." in sentences.of_rates(
        several.assign(edge=["high" if name == "LoRA, 24 mails" else "" for name in several["method"]])
    )
    assert "no planted code" in sentences.of_exposure(own.course)
    assert "one writer" in sentences.of_crosses(own.crosses)
    assert "Of 3 personas 3 " in sentences.of_crosses(result.crosses)
    assert figures.served(result.systems, "style").notna().all(axis=None)
    for draw in (figures.plot_methods, figures.plot_numbers, figures.plot_served):
        draw(result.systems)
    figures.plot_crosses(result.crosses)
    figures.plot_cuts(result.cuts, result.systems)
    figures.plot_exposure(result.course)
    kept = {table.name: read_table({"tables": {table.name: table.to_json()}}, table.name) for table in own.keep()}
    assert set(kept) == {"rates", "tried", "systems", "course", "habits", "cuts"}


def test_a_run_without_full_tuning_says_what_it_has_and_no_more() -> None:
    """Base, retrieval, LoRA and RoSA on all mails; claims about anything else have no effect, and no sentence speaks of NaN."""
    short = personalization.plan(**PARAMETERS | {"full_rates": [], "mask_rules": []})
    assert [method.name for method in (*short.untuned, *short.grids)] == ["base, 24 mails", "LoRA, 24 mails", "RoSA, 24 mails"]
    assert not short.borrowed
    gain = {("none", "RAG"): 0.1, ("lora", "none"): 0.4, ("lora", "RAG"): 0.2, ("rosa", "none"): 0.35}
    result = made_up_result(short, lambda p, m, s: p / 10 + gain.get((m.kind, s), 0))._replace(cuts=pd.DataFrame())
    found = {name: values for name, values in effects.effects(result).items() if values}
    assert found.keys() == {"tuning-beats-rag", "rosa-beats-lora", "own-model-best", "bleu-follows-content", "judge-fooled"}
    np.testing.assert_allclose(found["tuning-beats-rag"], [0.3] * 3)
    np.testing.assert_allclose(found["rosa-beats-lora"], [0.05] * 3)
    for sentence in every_sentence(result):
        assert sentence.endswith(".")
        assert "nan" not in sentence
        assert "full tuning it" not in sentence
    assert sentences.of_budget(result.systems) == "LoRA and RoSA train 9 to 9 numbers."
    assert "RAFT" not in sentences.of_served(result.systems)
    for draw in (figures.plot_methods, figures.plot_numbers, figures.plot_served):
        draw(result.systems)
    figures.plot_exposure(result.course)


def test_published_figures_are_those_of_the_sources_or_say_that_they_are_missing() -> None:
    """Panza's cells are empty; the table of RoSA has three budgets, and a figure beside it another full tuning."""
    table = published("rosa")
    assert table.groupby("parameters").size().to_dict() == {41.1: 5, 82.3: 5, 164.5: 5, 6700.0: 1}
    assert table.loc[table["method"] == "RoSA r12 d0.15%", ["gsm8k", "viggo", "sql"]].to_numpy().tolist() == [[31.2, 95.0, 88.3]]
    cells = told(published("panza")).drop(columns="method")
    assert (cells == "not transcribed").all(axis=None)
    assert "31.8 against 32.3, 94.0 against 82.1, 89.4 against 89.0" in sentences.of_published()
    figures.plot_published(table)


@pytest.mark.slow
@pytest.mark.parametrize("own", [False, True], ids=["personas", "mailbox"])
def test_a_small_run_from_training_to_verdicts(own: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Real training and writing; of a reader's mails no sentence is in any result, and nothing outside the private folder."""
    monkeypatch.setenv("EFFNOTES_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv(private.VARIABLE, str(tmp_path / "private"))
    plan = personalization.plan(**PARAMETERS | {"personas": [1, 2]} | (OWN if own else {}))
    result = personalization.run(plan, workers=1)
    measured = {each.claim.id: each for each in personalization.measure(result)}
    assert measured["personal.tuning-beats-rag"].n_units == len(plan.writers)
    assert measured["personal.own-model-best"].n_units == (0 if own else 2)
    assert result.systems[["style", "bleu", "test_loss"]].notna().all(axis=None)
    assert result.systems[["mauve", "mauve_real"]].gt(0).all(axis=None)
    assert result.systems[["mauve", "mauve_real"]].le(1 + 1e-9).all(axis=None)
    assert result.habits[["written", "real"]].stack().between(0, 1).all()
    assert set(result.habits["habit"]) == set(HABITS)
    assert result.systems["facts"].notna().any() == (not own)
    assert result.course["exposure"].notna().any() == (not own)
    assert len(result.examples) > 0 if not own else result.examples.empty
    assert result.systems["told"].dropna().between(0, 1).all()
    assert result.systems["told"].notna().any() == (not own)
    compared = figures.on_all_mails(result.systems).query("serve == 'none' and kind != 'none'")
    assert compared["membership"].between(0, 1).all()
    assert (compared["copied_real"] > 0).all()
    left = result.cuts.groupby("form")["left"].mean()
    assert left.between(0, 1, inclusive="neither").all()
    assert set(result.cuts["persona"]) == {writer.seed for writer in plan.writers}
    rosa = result.systems.query("kind == 'rosa' and serve == 'none'").groupby("mask_rule")["overlap"].mean()
    assert rosa["magnitude"] == 1
    assert rosa["grad_sq"] < 0.9
    for sentence in every_sentence(result):
        assert "nan" not in sentence
    shown = sentences.one_mail(result.examples)
    assert shown.count("[") >= (0 if own else 5)
    assert ("No mail" in shown) == own
    texts = json.dumps([table.to_json() for table in result.keep()])
    assert SENTINEL not in texts
    files = [file for file in (tmp_path / "cache").rglob("*") if file.is_file()] if own else []
    assert not files
    assert not any(SENTINEL.encode() in file.read_bytes() for file in tmp_path.rglob("*") if file.is_file())


def test_a_reader_gets_one_writer_whose_mails_are_all_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rates are chosen on the reader's own validation mails; another mailbox is another job; redaction is another too."""
    monkeypatch.setenv(private.VARIABLE, str(tmp_path / "private"))
    plan = personalization.plan(**PARAMETERS | OWN)
    assert plan.private
    assert plan.writers == plan.tuned_on
    (writer,) = plan.writers
    assert writer.mails <= 24
    assert len(writer.digest) == 64
    assert dataclasses.replace(writer, redacted=True) != writer
    copy = tmp_path / "copy.mbox"
    copy.write_bytes(FIXTURE.read_bytes())
    assert personalization.plan(**PARAMETERS | OWN | {"mailbox": str(copy)}).writers[0].digest != writer.digest
