# %% [markdown]
# At hand are the first world of the chapter, `world_of_main`, a model that knows it, `base_model`, one edit, `task` with `recipe`, made as `made`, and the learning rates of the quick profile.
# `result.course` and `result.ends` are those of the full profile's kept record.

# %% tags=["setup"]
from types import SimpleNamespace

from effnotes.datasets.worlds import World, edit_task, make_draws
from effnotes.finetuning import EditRecipe, apply_difference, edit, evaluate_edit
from effnotes.models.language import load_language_model
from effnotes.reporting.kept import read_record

world_of_main = World.from_settings({"n_subjects": 128, "n_relations": 3, "n_objects": 16, "repeats": 90, "seed": 1})
base_model = load_language_model("data/exercises/model_editing/base")
task = make_draws(world_of_main, "remap", 4, n_tune=2, n_test=1, seed=11, retain_coverage=0.25).tune[0]
full_rates, lora_rates = [1e-3, 3e-3, 1e-2], [3e-3, 1e-2, 3e-2]
recipe = EditRecipe(method="lora", rank=4, learning_rate=lora_rates[1])
made = edit(base_model, task, recipe)
record = read_record("data/records/model_editing/full.json")
result = SimpleNamespace(course=record.table("course"), ends=record.table("ends"))

# %% tags=["checks"]
import functools
from typing import Any

from effnotes.reporting.exercises import check

answer: Any
GROUPS = ("kept_same_value", "kept_same_relation", "kept_same_subject", "kept_other")


@functools.cache
def torn(method: str, rows: str) -> dict[str, float]:
    """Scores of the edit of `task` by one of two methods, with retain rows or without."""
    how = recipe if method == "LoRA" else EditRecipe(learning_rate=full_rates[1])
    bare = edit_task(world_of_main, task.old, task.train["edited"].facts.object, retain_coverage=0.0)
    which = task if rows == "with" else bare
    return dict(evaluate_edit(base_model, edit(base_model, which, how).model, which).scores)


@functools.cache
def held() -> dict[str, list[float]]:
    """Whether both edits of a pair hold, added and one after the other."""
    pair = make_draws(world_of_main, "remap", n_tune=0, n_test=2).test
    singles = [edit(base_model, each, recipe) for each in pair]
    models = {"added": apply_difference(apply_difference(base_model, singles[0].difference), singles[1].difference)}
    models["in turn"] = edit(singles[0].model, pair[1], recipe).model
    return {
        name: [evaluate_edit(base_model, model, each).scores["edit_success"] for each in pair] for name, model in models.items()
    }


# %% [markdown] exercise="exercise-sign"
# The smallest p-value with three worlds, the number of worlds that it takes for a p-value of at most 0.05, and the number it takes among eight methods.

# %% tags=["stub"]
answer = {"p of three worlds": ..., "worlds for 0.05": ..., "worlds among eight": ...}


# %% tags=["check"]
@check
def exercise_sign(answer: Any) -> None:
    assert abs(answer["p of three worlds"] - 2 * 0.5**3) < 1e-3, "the test is two-sided: all for the first, or all for the second"
    for name, factor in (("worlds for 0.05", 1), ("worlds among eight", 8)):
        count = answer[name]
        assert factor * 2 * 0.5**count <= 0.05, f"{name}: more worlds are needed"
        assert factor * 2 * 0.5 ** (count - 1) > 0.05, f"{name}: fewer worlds are enough"


# %% [markdown] tags=["marking"]
# One point, two points, two points.
# Holm multiplies the smallest of eight by eight; where all look equally good, all get what the smallest gets.

# %% tags=["answer"]
answer = {"p of three worlds": 0.25, "worlds for 0.05": 6, "worlds among eight": 9}

# %% tags=["wrong"]
# One-sided.
answer = {"p of three worlds": 0.125, "worlds for 0.05": 5, "worlds among eight": 8}

# %% tags=["wrong"]
# Eight methods do not change a thing.
answer = {"p of three worlds": 0.25, "worlds for 0.05": 6, "worlds among eight": 6}

# %% [markdown] exercise="exercise-lora-size"
# A function of d, r and L that returns how many numbers LoRA trains; the rank, as a share of d, at which that is as many as full rank; and whether LoRA is then as expressive, True or False.


# %% tags=["stub"]
def count_of(d: int, r: int, L: int) -> int:
    return ...


answer = {"numbers": count_of, "equal at": ..., "as expressive": ...}


# %% tags=["check"]
@check
def exercise_lora_size(answer: Any) -> None:
    shape = base_model.config
    found = answer["numbers"](shape.hidden_size, recipe.rank, shape.num_hidden_layers)
    assert found == made.n_trainable, "the library trains another number; r (m + n) for each of the four matrices of a block"
    assert answer["numbers"](128, 1, 4) == 4 * answer["numbers"](64, 1, 2), (
        "twice the width and twice the blocks: four times as many"
    )
    assert answer["numbers"](64, 3, 2) == 3 * answer["numbers"](64, 1, 2), "three times the rank, three times as many"
    assert abs(answer["equal at"] - 12 / 16) < 1e-3, "the rank is off; full rank trains d 3d + d d + d 4d + 4d d in a block"
    assert answer["as expressive"] is False, "what rank can the change of a matrix of d x d have there?"


# %% [markdown] tags=["marking"]
# Half for the formula, a quarter each for the rank and the reason.
# The reason: many of the numbers say the same thing twice, as B A = (B M)(M^-1 A).


# %% tags=["answer"]
def lora_numbers(d: int, r: int, L: int) -> int:
    return 16 * r * d * L


answer = {"numbers": lora_numbers, "equal at": 3 / 4, "as expressive": False}

# %% tags=["wrong"]
# As many numbers, so as expressive.
answer = {"numbers": lora_numbers, "equal at": 3 / 4, "as expressive": True}


# %% tags=["wrong"]
def one_side(d: int, r: int, L: int) -> int:
    """Only one of the two factors counted."""
    return 9 * r * d * L


answer = {"numbers": one_side, "equal at": 12 / 9, "as expressive": False}

# %% [markdown] exercise="exercise-stop"
# The method that looks best by mean `H` after each number of steps of the test edits, with the rates that were chosen for the budget, and what a paper must fix beforehand: "stop rule", "seed" or "model".

# %% tags=["stub"]
answer = {10: ..., 20: ..., 40: ..., "fixed beforehand": ...}


# %% tags=["check"]
@check
def exercise_stop(answer: Any) -> None:
    chosen = result.ends.loc[result.ends["rule"] == "budget", ["method", "learning_rate"]].drop_duplicates()
    course = result.course[result.course["split"] == "test"].merge(chosen)
    best = course.pivot_table(index="method", columns="step", values="H").idxmax()
    for step in (10, 20, 40):
        assert answer[step] == best[step], f"{step} steps: another method looks best, of the test edits at the rates of the budget"
    assert answer["fixed beforehand"] == "stop rule", "which choice of yours changed the ranking?"


# %% [markdown] tags=["marking"]
# Half for the three names, half for the sentence that a ranking without its stop rule means nothing.

# %% tags=["answer"]
rates_of = result.ends.loc[result.ends["rule"] == "budget", ["method", "learning_rate"]].drop_duplicates()
at_chosen = result.course[result.course["split"] == "test"].merge(rates_of)
winners = at_chosen.pivot_table(index="method", columns="step", values="H").idxmax()
answer = {step: winners[step] for step in (10, 20, 40)} | {"fixed beforehand": "stop rule"}

# %% tags=["wrong"]
# Each step at the rate that is best for it.
at_best = result.course[result.course["split"] == "test"]
winners = at_best.pivot_table(index="method", columns="step", values="H", aggfunc="max").idxmax()
answer = {step: winners[step] for step in (10, 20, 40)} | {"fixed beforehand": "stop rule"}

# %% tags=["wrong"]
# The last ranking taken for that of all steps.
answer = dict.fromkeys((10, 20, 40), answer[40]) | {"fixed beforehand": "stop rule"}

# %% [markdown] exercise="exercise-retain"
# For each method (full rank at `full_rates[1]`) and for the edit with retain rows and without, the `scores` of `evaluate_edit`; and for each method the group of which least is kept without retain rows, by the name of its column ("kept_...").

# %% tags=["stub"]
answer = {"LoRA": {"with": ..., "without": ...}, "full rank": {"with": ..., "without": ...}}
answer["suffers most"] = {"LoRA": ..., "full rank": ...}


# %% tags=["check"]
@check
def exercise_retain(answer: Any) -> None:
    for method in ("LoRA", "full rank"):
        for rows in ("with", "without"):
            right, given = torn(method, rows), answer[method][rows]
            for name in ("edit_success", *(group for group in GROUPS if group in right)):
                off = f"{method}, {rows} retain rows: {name} is off; is the edit judged on the task that it was made from?"
                assert abs(given[name] - right[name]) < 0.1, off
        kept = {group: torn(method, "without").get(group, 1.0) for group in GROUPS}
        said = answer["suffers most"][method]
        assert said in kept, "a group goes by the name of its column"
        assert kept[said] < min(kept.values()) + 0.02, f"{method}: of another group less is kept without retain rows"


# %% [markdown] tags=["marking"]
# Half for the scores, half for what they say: "this relation, that object" has been learnt in place of "this subject", or the other way round.
# Damage counts only beside an edit that took.

# %% tags=["answer"]
without_rows = edit_task(world_of_main, task.old, task.train["edited"].facts.object, retain_coverage=0.0)
answer = {"suffers most": {}}
for method, how in (("LoRA", recipe), ("full rank", EditRecipe(learning_rate=full_rates[1]))):
    answer[method] = {}
    for rows, which in (("with", task), ("without", without_rows)):
        answer[method][rows] = evaluate_edit(base_model, edit(base_model, which, how).model, which).scores
    damage = {
        name: value for name, value in answer[method]["without"].items() if name.startswith("kept_same") or name == "kept_other"
    }
    answer["suffers most"][method] = min(damage, key=damage.__getitem__)

# %% tags=["wrong"]
# The two ways taken for one another.
for method in ("LoRA", "full rank"):
    answer[method] = {"with": answer[method]["without"], "without": answer[method]["with"]}

# %% tags=["wrong"]
# "Others" must suffer most, as there are most of them.
answer["suffers most"] = dict.fromkeys(("LoRA", "full rank"), "all others")

# %% [markdown] exercise="exercise-difference"
# The edit success of the first and of the second edit, once with both differences added and once with the second edit made of the model of the first; `recipe` makes both.

# %% tags=["stub"]
answer = {"added": (..., ...), "in turn": (..., ...)}


# %% tags=["check"]
@check
def exercise_difference(answer: Any) -> None:
    for name, right in held().items():
        first, second = answer[name]
        assert abs(first - right[0]) < 0.01, (
            f"{name}: the success of the first edit is off; ask for it in the model that holds both"
        )
        assert abs(second - right[1]) < 0.01, (
            f"{name}: the success of the second edit is off; ask for it in the model that holds both"
        )


# %% [markdown] tags=["marking"]
# Half for the numbers, half for why: small changes nearly add up in different directions, and nothing keeps a second edit from undoing the first.

# %% tags=["answer"]
two = make_draws(world_of_main, "remap", n_tune=0, n_test=2).test
each_alone = [edit(base_model, one, recipe) for one in two]
both = apply_difference(apply_difference(base_model, each_alone[0].difference), each_alone[1].difference)
after = edit(each_alone[0].model, two[1], recipe).model
answer = {
    name: tuple(evaluate_edit(base_model, edited, one).scores["edit_success"] for one in two)
    for name, edited in (("added", both), ("in turn", after))
}

# %% tags=["wrong"]
# Each edit asked for in the model that holds it alone.
alone = tuple(
    evaluate_edit(base_model, made_of.model, one).scores["edit_success"] for made_of, one in zip(each_alone, two, strict=True)
)
answer = {"added": alone, "in turn": alone}

# %% tags=["wrong"]
# The second edit made first.
turned = edit(each_alone[1].model, two[0], recipe).model
answer["in turn"] = tuple(evaluate_edit(base_model, turned, one).scores["edit_success"] for one in two)

# %% [markdown] exercise="exercise-guess"
# Whether zero is better, True or False; and a function of the number of forgotten facts and of objects that returns the probability that a model which guesses misses all of them.


# %% tags=["stub"]
def misses_all(n_facts: int, n_objects: int) -> float:
    return ...


answer = {"zero is better": ..., "misses all": misses_all}


# %% tags=["check"]
@check
def exercise_guess(answer: Any) -> None:
    for n_facts, n_objects in ((1, 2), (10, 16), (100, 16), (50, 200)):
        given = answer["misses all"](n_facts, n_objects)
        right = (1 - 1 / n_objects) ** n_facts
        assert abs(given - right) < 1e-6, f"{n_facts} facts, {n_objects} objects: each guess misses by itself, and all must miss"
    assert answer["zero is better"] is False, "what would a model say that never saw the facts, and how often by chance?"


# %% [markdown] tags=["marking"]
# Half for the probability, half for the attack: ask often, and the object that never comes is the secret.


# %% tags=["answer"]
def none_right(n_facts: int, n_objects: int) -> float:
    return (1 - 1 / n_objects) ** n_facts


answer = {"zero is better": False, "misses all": none_right}

# %% tags=["wrong"]
# To know what not to say taken for having forgotten.
answer = {"zero is better": True, "misses all": none_right}


# %% tags=["wrong"]
def all_right(n_facts: int, n_objects: int) -> float:
    """The probability that all guesses hit."""
    return (1 / n_objects) ** n_facts


answer = {"zero is better": False, "misses all": all_right}
