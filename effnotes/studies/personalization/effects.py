"""What decides the chapter's verdicts: an effect for each persona of each claim, from the tables of judged systems."""

from __future__ import annotations

import pandas as pd

from effnotes.reporting import claims
from effnotes.studies.personalization.experiment import Result


def score_of(systems: pd.DataFrame, method: str, serve: str, score: str) -> pd.Series[float]:
    """Return a score of one method, served in one way, by persona.

    Args:
        systems: As `Result.systems`.
        method: Its name.
        serve: "none" or "RAG".
        score: A column, such as "style".
    """
    chosen = systems[(systems["method"] == method) & (systems["serve"] == serve)]
    return chosen.set_index("persona")[score]


def own_advantage(crosses: pd.DataFrame) -> pd.Series[float]:
    """Return for each persona the style of its own model on its mails minus the mean of the others' models.

    Args:
        crosses: As `Result.crosses`: persona is whose model wrote, other whose mails it was asked for.
    """
    if crosses.empty:
        return pd.Series(dtype=float)
    is_own = crosses["persona"] == crosses["other"]
    own, others = (crosses[each].groupby("other")["style"].mean() for each in (is_own, ~is_own))
    return own - others


def leaked_more(course: pd.DataFrame, full: str, lora: str) -> pd.Series[float]:
    """Return exposure under full tuning, where its validation loss is nearest to LoRA's at its end, minus LoRA's there, by persona.

    Args:
        course: As `Result.course`.
        full: Name of the method whose checkpoints are searched; the start, before any step, is none of them.
        lora: Name of the other.
    """
    found = {}
    trained = course[course["step"] > 0]
    for persona, rows in trained.groupby("persona"):
        of_full, of_lora = rows[rows["method"] == full], rows[rows["method"] == lora]
        if of_full.empty:
            continue
        end = of_lora.sort_values("step").iloc[-1]
        nearest = of_full.iloc[int((of_full["val_loss"] - end["val_loss"]).abs().argmin())]
        found[persona] = nearest["exposure"] - end["exposure"]
    return pd.Series(found, dtype=float)


def bleu_leaning(systems: pd.DataFrame) -> pd.Series[float]:
    """Return for each persona the Spearman correlation of BLEU with content minus that with style, over its systems."""

    def leaning(rows: pd.DataFrame) -> float:
        ranks = rows[["bleu", "content", "style"]].rank()
        correlations = ranks.corr()["bleu"]
        return float(correlations["content"] - correlations["style"])

    # Where all systems have the same content, or the same style, there is no correlation.
    return pd.Series({persona: leaning(rows) for persona, rows in systems.groupby("persona")}, dtype=float)


def effects(result: Result) -> dict[str, list[float]]:
    """Return what each claim is measured by, by the claim's name in the chapter, in the order of the page.

    Nothing where a run has left out what a claim compares.
    """
    made, systems = result.plan, result.systems
    full, sparse, rosa, lora = (made.method(kind).name for kind in ("full", "sparse", "rosa", "lora"))
    raft, quantised = made.method("lora", raft=True).name, made.method("rosa", nf4=True).name
    base, base_few = (made.method("none", mails).name for mails in (None, made.few))

    def of(method: str, score: str = "style", serve: str = "none") -> pd.Series[float]:
        return score_of(systems, method, serve, score)

    found = {
        "tuning-beats-rag": of(lora) - of(base, serve="RAG"),
        "peft-as-good": of(rosa) - of(full),
        "rosa-beats-lora": of(lora, "test_loss") - of(rosa, "test_loss"),
        "rosa-beats-sparse": of(sparse, "test_loss") - of(rosa, "test_loss"),
        "under-100": of(made.method("lora", made.under).name) - of(lora),
        "rag-wins-with-few": of(base_few, serve="RAG") - of(made.method("lora", made.few).name),
        "own-model-best": own_advantage(result.crosses),
        "lora-leaks-less": leaked_more(result.course, full, lora),
        "raft-mends": of(raft, serve="RAG") - of(lora, serve="RAG"),
        "rag-adds-facts": of(raft, "facts", "RAG") - of(raft, "facts"),
        "quantised-as-good": of(rosa, "test_loss") - of(quantised, "test_loss"),
        "bleu-follows-content": bleu_leaning(systems),
        "judge-fooled": of(lora, "accepted") - of(lora, "accepted_real"),
    }
    return {name: values.dropna().tolist() for name, values in found.items()}


def measure(result: Result) -> list[claims.Measurement]:
    """Measure the chapter's claims; to be displayed."""
    return [claims.measure(f"personal.{name}", found) for name, found in effects(result).items()]
