"""What an edit did, group by group: learnt, kept, drifted, followed, spread, forgotten."""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple
from zlib import crc32

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from effnotes.core.checks import check_range
from effnotes.datasets.worlds.forms import FORMS
from effnotes.datasets.worlds.graph import Facts, Integers
from effnotes.datasets.worlds.sentences import Sentences
from effnotes.datasets.worlds.tasks import Group, Task
from effnotes.datasets.worlds.words import PAD
from effnotes.datasets.worlds.world import World
from effnotes.metrics import editing as metrics
from effnotes.models.answers import Answers, Questions, answer, answer_log_probabilities, read
from effnotes.models.weights import copy_of, in_float32

RETAINED = {"with_same_value": "kept_same_value", "with_same_rel": "kept_same_relation"}
RETAINED |= {"same_edges_diff_rel": "kept_same_subject", "reg_data": "kept_other"}
"""Test groups that an edit should leave alone, and the names of their scores: together they are the retention."""

NEW_ANSWERS = ("edited", "edited_before", "paraphrase", "withheld", "new_question", "same_subject_second_rel_converted", "sno_new")
"""Test groups whose right answer is one that the base model does not give; in all others it is the answer of the world."""

# Further answers to the prompts of a group: what the edited facts were, what nested objects are, object 0 for all.
_OLD, _PRESENT, _ZERO = "edited, old", "sno_new, present", "implicitly_remapped_edges, 0"


class EditScores(NamedTuple):
    """How an edit did.

    Attributes:
        groups: A row for each test group: group, expects ("new" or "old" answers), asked (facts; at most `most_asked`), accuracy
            (share answered exactly right), probability (mean, of the right answers), known (facts that the base answered right),
            kept (accuracy among these; NaN where new answers are expected or none was known), kept_probability (mean probability of
            the right answers among these, likewise), drift (mean KL of the edited model from the base over the places of the
            answer, nats).
        scores: By name, NaN or absent where a task has no such facts:
            edit_success, probability_gain (mean p(new) - p(old)), prefers_new (share with p(new) > p(old)), old_probability: on the
                edited facts. `probability_gain` and what follows only where an object is replaced by another.
            paraphrase_success: on the edited facts in forms that were not trained.
            kept_same_value, kept_same_relation, kept_same_subject, kept_other: share kept of what the base knew.
            retention: their macro-average. drift: mean KL over their prompts, groups weighing as many as they have.
            retention_of_successes: the retention of an edit of which every fact is answered as trained; NaN of others.
            edit_probability, kept_probability: e, mean p(new) on the edited facts, and k, the macro-average over the groups of
                retention of the mean p(right) of what the base knew.
            H: graded, 2 e k / (e + k), which tells edits of few facts apart that exact answers count alike.
            exact_H, S: harmonic means of edit_success and retention, and of these with paraphrase_success.
            consequence_followed, consequence_kept, consequence_other: on facts about nested objects that the edit changes
                by implication.
            nested_of_old_kept, nested_of_new_kept: nested objects of the old and the new object, which do not change.
            pair_kept, pair_moved: the other relation of a correlated pair.
            spread, unseen_kept: after a suppression, share of subjects without edited rows that now have object 0, or their old
                one.
            forget_accuracy, forget_probability: on forgotten facts; to be compared with a gold model's, not with 0.
    """

    groups: pd.DataFrame
    scores: dict[str, float]


class Evaluator:
    """Asks edited models for the test groups of a task, and compares them with their base, which is asked only once.

    All groups are read together, each text once whatever is asked about it, and the head is applied at the places of answers only.
    Cheap enough for each checkpoint of an edit: `edit(base, task, recipe, observe=lambda model: evaluator(model).scores)`.
    """

    def __init__(self, base: nn.Module, task: Task, *, most_asked: int | None = None, batch_size: int = 512) -> None:
        """Ask the base.

        Args:
            base: The model before any edit. It may change afterwards: what is needed of it is kept, the hidden
                state of each answer (n by width) and a copy of its head.
            task: The edit.
            most_asked: Of a test group with more rows, this many are drawn, the same for all models; None asks all.
            batch_size: Texts at a time.

        Raises:
            ValueError: `most_asked` or `batch_size` is below 1, or the base does more to logits behind its head, or has weights
                that are NaN or infinite.
        """
        check_range(1, most_asked=1 if most_asked is None else most_asked, batch_size=batch_size)
        self._task, self._batch_size = task, batch_size
        drawn = {name: _drawn(name, len(group), most_asked) for name, group in task.test.items()}
        parts = {name: task.encode("test", name).take(rows) for name, rows in drawn.items()}
        if "edited" in parts and (task.kind.startswith("remap") or task.kind == "suppress"):
            parts[_OLD] = _answered(task.world, parts["edited"], task.old.object[drawn["edited"]])
        if "sno_new" in parts:
            parts[_PRESENT] = _answered(task.world, parts["sno_new"], _present(task.world, parts["sno_new"].facts))
        if "implicitly_remapped_edges" in parts:
            parts[_ZERO] = _answered(task.world, parts["implicitly_remapped_edges"], 0)
        self._facts = {name: part.facts for name, part in parts.items()}
        self._questions = Questions.of(*parts.values())
        ends = np.cumsum([len(part) for part in parts.values()])
        self._rows = {name: slice(end - len(part), end) for (name, part), end in zip(parts.items(), ends.tolist(), strict=True)}
        base = in_float32(base)
        self._head = copy_of(base.get_output_embeddings())  # type: ignore[operator]
        self._hidden: list[Tensor] = []

        def keep(_places: slice, hidden: Tensor, log_p: Tensor) -> None:
            if not torch.allclose(self._log_p(hidden), log_p, atol=1e-4):
                raise ValueError(f"{type(base).__name__} changes what its head puts out; drift is told for models only that do not")
            self._hidden.append(hidden)

        self._old = self._questions.ask(base, batch_size, keep)

    def _log_p(self, hidden: Tensor) -> Tensor:
        """(p, V): log-probabilities of the base at hidden states (p, d) of its own."""
        logits: Tensor = self._head(hidden)
        return logits.float().log_softmax(dim=-1)

    def __call__(self, edited: nn.Module) -> EditScores:
        """Ask an edited model; the base itself gives the scores of doing nothing.

        Args:
            edited: The model after the edit, or while it is trained, with adapters too. Its training mode is left as it was.
        """
        edited = in_float32(edited, finite=False)
        divergences: list[Tensor] = []

        def look(_places: slice, _hidden: Tensor, log_q: Tensor) -> None:
            log_p = self._log_p(self._hidden[len(divergences)]).to(log_q.device)
            kl = F.kl_div(log_q, log_p, reduction="none", log_target=True).sum(dim=-1, dtype=torch.float64)
            divergences.append(kl.clamp_min(0).cpu())  # rounding can leave it just below 0

        new = self._questions.ask(edited, self._batch_size, look)
        inside = self._questions.inside
        drift = (torch.cat(divergences)[self._questions.place] * inside).sum(dim=1) / inside.sum(dim=1)
        rows = []
        for name in self._task.test:
            here = self._rows[name]
            known, expects = self._old.exact[here], "new" if name in NEW_ANSWERS else "old"
            accuracy, probability = new.exact[here].mean(), new.probability[here].mean()
            counts = expects == "old" and known.any()
            kept = [float(each[here][known].mean()) if counts else math.nan for each in (new.exact, new.probability)]
            rows.append((name, expects, len(known), accuracy, probability, int(known.sum()), *kept, float(drift[here].mean())))
        columns = ["group", "expects", "asked", "accuracy", "probability", "known", "kept", "kept_probability", "drift"]
        groups = pd.DataFrame(rows, columns=columns)
        by_part = {name: Answers(new.exact[here], new.probability[here]) for name, here in self._rows.items()}
        return EditScores(groups, _scores(groups.set_index("group"), by_part, self._facts, self._task))


def evaluate_edit(base: nn.Module, edited: nn.Module, task: Task, *, batch_size: int = 512) -> EditScores:
    """Ask an edited model for all test groups of a task, and compare it with its base; for several edited models, `Evaluator`.

    Facts that the base answers wrongly are not held against the edit: retention counts only what it knew.

    Args:
        base: The model before.
        edited: The model after; the base itself gives the scores of doing nothing.
        task: The edit.
        batch_size: Texts at a time.
    """
    return Evaluator(base, task, batch_size=batch_size)(edited)


def _drawn(group: str, n_rows: int, most: int | None) -> Integers:
    """Ascending positions of the rows of a group that are asked; they depend on its name and size only."""
    if most is None or n_rows <= most:
        return np.arange(n_rows)
    return np.sort(np.random.default_rng(crc32(group.encode())).choice(n_rows, size=most, replace=False))


def _present(world: World, facts: Facts) -> Integers:
    """Indices (n,) of the nested objects that subjects have before the edit."""
    return world.graph.nested[facts.relation, world.graph.objects[facts.subject, facts.relation]]


def _answered(world: World, asked: Sentences, objects: Integers | int) -> Sentences:
    """Return the same prompts, answered with other objects; nothing follows the answers."""
    facts = asked.facts.saying(objects)
    words = world.words.of_facts(facts)[2]  # (n, 2), below 0 where a word has one token
    lengths = (words >= 0).sum(axis=1)
    tokens = np.full((len(asked), max(asked.tokens.shape[1], int(asked.answer.max(initial=0)) + 2)), PAD, dtype=np.int32)
    tokens[:, : asked.tokens.shape[1]] = np.where(np.arange(asked.tokens.shape[1]) < asked.answer[:, None], asked.tokens, PAD)
    for place in range(2):
        rows = np.flatnonzero(lengths > place)
        tokens[rows, asked.answer[rows] + place] = words[rows, place]
    return Sentences(tokens, asked.answer + lengths, asked.answer, lengths, facts, asked.form)


def _scores(groups: pd.DataFrame, answers: Mapping[str, Answers], facts: Mapping[str, Facts], task: Task) -> dict[str, float]:
    cells: dict[str, dict[str, float]] = groups.to_dict("index")  # type: ignore[assignment]
    scores: dict[str, float] = {}
    if "edited" in task.test:
        scores["edit_success"] = cells["edited"]["accuracy"]
        if _OLD in answers:
            new, old = (answers[name].probability for name in ("edited", _OLD))
            scores |= {"probability_gain": float((new - old).mean()), "prefers_new": float((new > old).mean())}
            scores["old_probability"] = float(old.mean())
        if "paraphrase" in task.test:
            scores["paraphrase_success"] = cells["paraphrase"]["accuracy"]
    if "forget" in task.test:
        scores |= {f"forget_{name}": cells["forget"][name] for name in ("accuracy", "probability")}

    present = [name for name in RETAINED if name in task.test]
    scores |= {RETAINED[name]: cells[name]["kept"] for name in present}
    scores["retention"] = metrics.macro_average(scores[RETAINED[name]] for name in present)
    scores["kept_probability"] = metrics.macro_average(cells[name]["kept_probability"] for name in present)
    sizes = [len(task.test[name]) for name in present]  # of whole groups, so that a cap on what is asked shifts no weight
    scores["drift"] = float(np.average(groups.loc[present, "drift"], weights=sizes)) if present else math.nan
    if "edit_success" in scores:
        scores["exact_H"] = metrics.harmonic_mean(scores["edit_success"], scores["retention"])
        scores["edit_probability"] = cells["edited"]["probability"]
        scores["H"] = metrics.harmonic_mean(scores["edit_probability"], scores["kept_probability"])
        scores["retention_of_successes"] = scores["retention"] if scores["edit_success"] == 1 else math.nan
        if "paraphrase_success" in scores:
            scores["S"] = metrics.harmonic_mean(scores["edit_success"], scores["paraphrase_success"], scores["retention"])

    if "sno_new" in task.test:
        implied = facts["sno_new"]
        changes = implied.object != _present(task.world, implied)
        shares = metrics.consequence(*(answers[name].exact[changes] for name in ("sno_new", _PRESENT)))
        scores |= {f"consequence_{name}": share for name, share in shares.items()}
    linked = {"same_obj_nested_obj_edges": "nested_of_old_kept", "remapped_obj_nested_obj_edges": "nested_of_new_kept"}
    linked["same_subject_second_rel"] = "pair_kept"
    scores |= {score: cells[name]["kept"] for name, score in linked.items() if name in task.test}
    if "same_subject_second_rel_converted" in task.test:
        scores["pair_moved"] = cells["same_subject_second_rel_converted"]["accuracy"]
    if "implicitly_remapped_edges" in task.test:
        scores["spread"] = float(answers[_ZERO].exact.mean())
        scores["unseen_kept"] = cells["implicitly_remapped_edges"]["kept"]
    return scores


def _encode(world: World, group: Group) -> Sentences:
    """Write a group's facts, all in one form."""
    (form,) = np.unique(group.form).tolist()
    return world.encode(group.facts, FORMS[form])


def relearning_task(task: Task) -> Task:
    """Return the task of teaching half of the forgotten subjects again: what comes back of the other half was not gone.

    Edit the unlearned model (without adapters, or another space would be trained) for a fixed number of steps. The other half is
    the test group "forget", so that `edited_exact` in the history is how much of it is answered.

    Args:
        task: A task of the kind "unlearn_subject" with at least two subjects.

    Raises:
        ValueError: The task has no halves.
    """
    if "forget_relearn" not in task.test:
        raise ValueError(f"kind={task.kind!r}, {len(task.subjects)} subject(s): only unlearning two or more has two halves")
    again, other = task.test["forget_relearn"], task.test["forget_other_half"]
    return replace(task, old=again.facts, train={"forget": again}, test={"forget": other})


class UnlearningScores(NamedTuple):
    """How a model forgot, held against one that never knew."""

    ks_statistic: float  # see `metrics.editing.forget_quality`: of truth ratios on the forgotten facts, against the gold model's
    forget_quality_log10_p: float
    utility: float  # harmonic mean of accuracy, p(true) and 1 - truth ratio on the retain groups
    forget_accuracy: float
    gold_accuracy: float  # what forget_accuracy should come down to, not 0
    # How well the forgotten sentences can be told from sentences that no model was trained on, as the area under the ROC curve:
    membership_loss: float  # by their mean log-probability (LOSS)
    gold_membership_loss: float  # about 1/2
    membership_min_k: float  # by that of the least probable fifth of their tokens (Min-K%)
    gold_membership_min_k: float  # about 1/2
    extraction_strength: float  # mean share of the forgotten sentences that greedy decoding gives back
    gold_extraction_strength: float  # above 0: what grammar alone gives back, such as the full stop


def evaluate_unlearning(unlearned: nn.Module, gold: nn.Module, task: Task, *, batch_size: int = 512) -> UnlearningScores:
    """Compare an unlearned model with a gold one, trained without the forgotten facts (`pretrain(left_out=task.forgotten)`).

    Only facts between subjects and objects are asked for. Whether a forgotten fact was trained on is told from control facts, one
    for each: the same subject and relation with one of the wrong objects, all equally likely, which no model was trained on
    (neither has the object that a dissenting sentence gives). The gold model saw neither.

    Args:
        unlearned: The model after unlearning.
        gold: The model that never saw the facts.
        task: A task of the kind "unlearn_subject".
        batch_size: Sentences at a time.

    Raises:
        ValueError: The task forgets nothing, or the gold model has weights that are NaN or infinite.
    """
    if "forget" not in task.test:
        raise ValueError(f"kind={task.kind!r}: only a task of the kind 'unlearn_subject' has facts to forget")
    unlearned, gold = in_float32(unlearned, finite=False), in_float32(gold)
    forget = _plain(task.test["forget"])
    sentences = _encode(task.world, forget)
    controls = _encode(task.world, Group(control_facts(task.world, forget.facts), forget.form))
    accuracies, ratios, traces = [], [], []
    for model in (unlearned, gold):
        accuracies.append(float(answer(model, sentences, batch_size=batch_size).exact.mean()))
        ratios.append(_truth_ratios(model, task.world, forget, batch_size))
        traces.append(_traces(model, sentences, controls, batch_size))
    kept = []
    for group in (_plain(task.test[name]) for name in RETAINED if name in task.test):
        answers = answer(unlearned, _encode(task.world, group), batch_size=batch_size)
        kept.append((answers.exact, answers.probability, _truth_ratios(unlearned, task.world, group, batch_size)))
    of_both = [value for values in zip(*traces, strict=True) for value in values]
    return UnlearningScores(*metrics.forget_quality(*ratios), metrics.model_utility(kept), *accuracies, *of_both)


def control_facts(world: World, facts: Facts, *, seed: int = 0) -> Facts:
    """Return facts with the same subjects and relations and other objects, which no sentence of the world gives.

    Args:
        world: The world.
        facts: n facts between subjects and objects.
        seed: Draws the objects, uniformly among those left: all but the right one and that of dissenting sentences; in a binarised
            relation the other one of its two.

    Raises:
        ValueError: A fact is of another kind, or a relation has no object left.
    """
    if facts.kind.any():
        raise ValueError("control facts are drawn for facts between subjects and objects only")
    n_values = np.where(world.binarize & (facts.relation == 0), 2, world.n_objects)
    right, second = world.graph.objects[facts.subject, facts.relation], world.minority_of(facts)
    is_double = second >= 0
    left = n_values - 1 - is_double
    if (left < 1).any():
        raise ValueError(f"n_objects={world.n_objects}: a relation needs an object that none of its sentences gives; take more")
    drawn = np.random.default_rng(seed).integers(left)
    # Numbers up to `left` are moved past the taken ones, the smaller one first.
    lower, upper = np.where(is_double, np.minimum(right, second), right), np.maximum(right, second)
    drawn = drawn + (drawn >= lower)
    return facts.saying(drawn + (is_double & (drawn >= upper)))


def _traces(model: nn.Module, trained: Sentences, controls: Sentences, batch_size: int) -> tuple[float, float, float]:
    """AUC of LOSS and of Min-K%, and mean extraction strength."""
    readings = [read(model, sentences, batch_size=batch_size) for sentences in (trained, controls)]
    loss = metrics.membership_auc(*(metrics.loss_score(each.log_p, each.inside) for each in readings))
    min_k = metrics.membership_auc(*(metrics.min_k_score(each.log_p, each.inside) for each in readings))
    return loss, min_k, float(metrics.extraction_strength(readings[0].is_greedy, readings[0].inside).mean())


def object_probabilities(model: nn.Module, world: World, facts: Facts, form: str, *, batch_size: int = 512) -> NDArray[np.float64]:
    """Return (n, O) float64: the probability of each object of a fact's relation as the answer to it (for nested kinds (n, M)).

    Objects that no sentence of the world states have a column too; `World.in_use` says which they are.

    Args:
        model: As for `answer`.
        world: The world that the facts are from.
        facts: n facts, all between subjects and objects, or all to nested objects.
        form: The form in which they are asked.
        batch_size: Sentences at a time.

    Raises:
        ValueError: Facts to objects and facts to nested objects are mixed.
    """
    to_nested = facts.kind > 0
    if to_nested.any() and not to_nested.all():
        raise ValueError("facts to objects and facts to nested objects have different answers; ask for them one after the other")
    words = (world.words.nested if len(facts) and to_nested.all() else world.words.objects)[facts.relation]  # (n, O, 2)
    if (words[..., 1] < 0).all():  # one token each: one pass gives them all
        log_p = answer_log_probabilities(model, world.encode(facts, form), batch_size=batch_size)[:, 0]
        return np.exp(np.take_along_axis(log_p, words[..., 0], axis=1).astype(np.float64))
    asked = [world.encode(facts.saying(value), form) for value in range(words.shape[1])]
    return np.stack([answer(model, each, batch_size=batch_size).probability for each in asked], axis=1)


def _plain(group: Group) -> Group:
    return group.take(group.facts.kind == 0)


def _truth_ratios(model: nn.Module, world: World, group: Group, batch_size: int) -> np.ndarray:
    (form,) = np.unique(group.form).tolist()
    table = object_probabilities(model, world, group.facts, FORMS[form], batch_size=batch_size)
    return metrics.truth_ratio(table, group.facts.object, world.in_use[group.facts.relation])
