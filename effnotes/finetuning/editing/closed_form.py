"""Editing facts in closed form: ROME, MEMIT and AlphaEdit, with the second moments of the keys taken from the whole world.

All three take the output matrix W of an MLP for a memory that maps keys k (its hidden units) to values W k. For each edited fact a
change delta of the value at one place of the prompt is sought by gradient descent, such that the model gives the new answer; then
W is changed so that W' k = W k + delta for the keys k of the edited facts, and W' k is about W k for all others. Where the
originals estimate C = E[k k'] from an encyclopaedia, a world is small enough to be written out.

The equations are the papers'; the search for delta is plainer. It minimises the negative log-likelihood of the new answer alone,
until that is probable enough: the originals add a penalty on the length of delta, a bound on it, and a divergence that keeps the
subject what it is. Key and value are those of the one prompt that is edited, not means over prompts with random beginnings: a
sentence of a world has nothing before it, and other templates stay unseen, to test paraphrases. ROME writes exactly the change that
the search found, so that an edit of it that fails has mostly failed in the search.
"""

import warnings
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from effnotes.core.settings import settings
from effnotes.datasets.worlds.sentences import Sentences, last_columns
from effnotes.datasets.worlds.tasks import Task
from effnotes.datasets.worlds.world import World
from effnotes.models.answers import answer_log_likelihood
from effnotes.models.language import check_layers, mlp_output, mlp_units, n_layers, residual_stream
from effnotes.models.rows import Rows

_FACTS_AT_A_TIME = 4096


@settings
class ClosedFormRecipe:
    """How facts are written into the MLPs of a model.

    Args:
        method: "rome" (Meng et al., NeurIPS 2022) changes one matrix by W += delta (C^-1 k)' / (k' C^-1 k), one fact after the
            other. "memit" (Meng et al., ICLR 2023) changes several at once, W += R K' (covariance_weight C + K K')^-1, each layer
            taking an even part of what is still missing. "alphaedit" (Fang et al., ICLR 2025) does the same with
            W += R K' P (K K' P + regulariser I)^-1, where P projects onto the directions that hardly any key of the world has;
            the original's further term for the keys of earlier edits is left out.
        layers: Blocks whose MLPs change; one for "rome". None takes the last that can reach the answer: at the subject the last
            but one, because behind the last block no attention carries anything on.
        site: Where the key is read: at the last token of the subject, or of the prompt. All three papers take the subject, where
            causal tracing finds the facts of large models, and so does the default. A model of two blocks has only the first to
            write in there, and what it writes reaches the answer by the attention of the second alone: for many facts that is not
            enough, and the edit fails. `causal_trace` tells where a model looks its facts up.
        null_energy: Of "alphaedit": share of the trace of C that the directions left to the edit may hold together. Of the
            squared length of the world's keys no larger share is, on average, in reach of the edit. The original leaves the
            directions with eigenvalues of C below .02, in the unit of its models' hidden units, which other models do not share.
            Taken as it stands, that bound left .5 to 1.1% of the trace in three worlds' models of two blocks and width 64: hence
            the default. Less of it disturbs less, and asks for larger changes.

    Raises:
        ValueError: A field is out of range, or does not go with another.
    """

    method: Literal["rome", "memit", "alphaedit"] = "rome"
    layers: tuple[int, ...] | None = None
    site: Literal["subject", "last"] = "subject"
    delta_steps: int = Field(100, ge=1)  # of Adam, at most
    delta_learning_rate: float = Field(0.1, gt=0)
    enough: float = Field(0.99, gt=0, lt=1)  # probability of the new answer at which the search for delta stops
    covariance_weight: float = Field(30.0, gt=0)  # of "memit": how much the other keys count, in numbers of edited ones
    null_energy: float = Field(0.01, gt=0, lt=1)
    regulariser: float = Field(0.01, gt=0)  # of "alphaedit", in units of the mean squared hidden unit
    ridge: float = Field(1e-6, gt=0)  # in the same units; added to C, which has no inverse in some small worlds, to invert it

    def __post_init__(self) -> None:
        if self.method == "rome" and self.layers is not None and len(set(self.layers)) != 1:
            raise ValueError(f"layers={self.layers}: 'rome' changes one layer; take 'memit' for several")


def rewrite_(model: nn.Module, task: Task, recipe: ClosedFormRecipe) -> list[str]:
    """Write the edited facts of a task into a model, in place; return the names of the weights that changed.

    Raises:
        ValueError: The task edits no facts, there is no such layer, or it cannot reach the answer from the site.
    """
    if "edited" not in task.train:
        raise ValueError(f"kind={task.kind!r}: closed forms write answers; to forget take a recipe with an unlearning objective")
    layers = _layers(model, recipe)
    asked = task.encode("train", "edited")
    moments = {layer: key_moments(model, task.world, layer) for layer in layers}
    at_a_time = 1 if recipe.method == "rome" else len(asked)
    for first in range(0, len(asked), at_a_time):
        _rewrite_together_(model, asked.take(slice(first, first + at_a_time)), task.world, layers, recipe, moments)
    return [f"{mlp_output(model, layer)[0]}.weight" for layer in layers]


def _layers(model: nn.Module, recipe: ClosedFormRecipe) -> list[int]:
    last = n_layers(model) - 1 - (recipe.site == "subject")
    if last < 0:
        raise ValueError("site='subject' needs a model of at least two blocks: what the last one writes there nothing carries on")
    layers = check_layers(model, [last] if recipe.layers is None else recipe.layers)
    if layers[-1] > last:
        why = f"at the subject the last block, {layers[-1]}, cannot reach the answer, as no attention follows it"
        raise ValueError(f"layers={layers}: {why}; take layers up to {last}, or site='last'")
    return layers


def _rewrite_together_(
    model: nn.Module, asked: Sentences, world: World, layers: list[int], recipe: ClosedFormRecipe, moments: dict[int, Tensor]
) -> None:
    device = next(model.parameters()).device
    rows = Rows.of(asked).to(device)
    places = torch.from_numpy(last_columns(asked, world.words, recipe.site)).to(device)
    index = torch.arange(len(rows), device=device)
    delta, found = find_deltas(model, rows, places, layers[-1], recipe)
    lacking = found[found < recipe.enough]
    if len(lacking):
        search = f"for {len(lacking)} of {len(found)} facts the search for a change ({recipe.site}, block {layers[-1]}) ended"
        short = f"before the new answer had p={recipe.enough:g} (at worst p={float(lacking.min()):.2g})"
        remedy = "what was found is written all the same: search longer (delta_steps), or take another site or layer"
        warnings.warn(f"{search} {short}; {remedy}", RuntimeWarning, stacklevel=7)
    with torch.no_grad():
        wanted = residual_stream(model, rows.tokens, layers[-1])[index, places] + delta  # (n, d)
        for done, layer in enumerate(layers):
            keys = mlp_units(model, rows.tokens, layer)[index, places].double()  # (n, h)
            missing = wanted - residual_stream(model, rows.tokens, layers[-1])[index, places]
            share = (missing / (len(layers) - done)).double()
            weight = mlp_output(model, layer)[1].weight
            weight += closed_form(keys, share, moments[layer], recipe).to(weight.dtype)


def closed_form(keys: Tensor, residuals: Tensor, moments: Tensor, recipe: ClosedFormRecipe) -> Tensor:
    """Return the change of an MLP's output matrix.

    Args:
        keys: (n, h) float64; hidden units of the edited facts, K'.
        residuals: (n, d) float64; how much their values are to change, R'.
        moments: (h, h) float64; C = E[k k'] over the world.
        recipe: Which of the closed forms; "rome" takes one fact.

    Returns:
        (d, h) float64.

    Raises:
        ValueError: "rome" is given several facts, or "alphaedit" is left no direction.
    """
    size = len(moments)
    unit = moments.trace() / size
    regular = moments + recipe.ridge * unit * torch.eye(size, dtype=moments.dtype, device=moments.device)
    change: Tensor
    if recipe.method == "rome":
        if len(keys) != 1:
            raise ValueError(f"{len(keys)} keys: 'rome' writes one fact at a time")
        direction = torch.linalg.solve(regular, keys[0])
        change = torch.outer(residuals[0], direction) / (keys[0] @ direction)
    elif recipe.method == "memit":
        change = torch.linalg.solve(recipe.covariance_weight * regular + keys.T @ keys, keys.T @ residuals).T
    else:
        # Without the ridge, which would fill the very directions that are empty.
        projection = null_projection(moments, recipe.null_energy)
        if not projection.any():
            raise ValueError(f"null_energy={recipe.null_energy}: even the weakest direction of the keys holds more; raise it")
        projected = keys @ projection  # (n, h), K' P
        # The push-through identity: R K'P (K K'P + a I)^-1 = R (K'P K + a I)^-1 K'P, with a matrix of n instead of h rows.
        gram = projected @ keys.T + recipe.regulariser * unit * torch.eye(len(keys), dtype=keys.dtype, device=keys.device)
        change = residuals.T @ torch.linalg.solve(gram, projected)
    return change


def null_projection(moments: Tensor, energy: float) -> Tensor:
    """Return (h, h): the projection onto the eigenvectors of C with the smallest eigenvalues, which add up to a share of its trace.

    Args:
        moments: (h, h) float64, symmetric; C.
        energy: Largest share of the trace that the directions may hold together, in (0, 1).
    """
    values, vectors = torch.linalg.eigh(moments)  # ascending
    small = values.clamp_min(0).cumsum(0) <= energy * moments.trace()
    projection: Tensor = vectors[:, small] @ vectors[:, small].T
    return projection


@torch.no_grad()
def key_moments(model: nn.Module, world: World, layer: int) -> Tensor:
    """Return (h, h) float64: C = E[k k'] of the hidden units of one MLP, over all facts of a world written out.

    Each fact is written once in each statement form of the world, forms weighing as much as their share; every token counts.

    Args:
        model: The model, as it is.
        world: The world that it knows.
        layer: Number of the block.
    """
    facts = world.facts()
    device = next(model.parameters()).device
    total = torch.zeros((), dtype=torch.float64, device=device)
    n_tokens = 0.0
    for name, share in ((name, share) for name, share in world.templates.items() if share > 0):
        for first in range(0, len(facts), _FACTS_AT_A_TIME):
            rows = Rows.of(world.encode(facts.take(slice(first, first + _FACTS_AT_A_TIME)), name)).to(device)
            keys = mlp_units(model, rows.tokens, layer)[rows.is_text].double()
            total = total + share * keys.T @ keys
            n_tokens += share * len(keys)
    return total / n_tokens


def find_deltas(model: nn.Module, rows: Rows, places: Tensor, layer: int, recipe: ClosedFormRecipe) -> tuple[Tensor, Tensor]:
    """Search for what to add to the output of an MLP at one place of each row, so that the model gives the row's answer.

    Args:
        model: The model; its weights stay as they are.
        rows: n rows with their answers.
        places: (n,) columns.
        layer: Number of the block.
        recipe: Steps, learning rate and when to stop, which each row does for itself; Adam, from 0.

    Returns:
        The changes (n, d), and the probability (n,) of each answer with them.
    """
    output = mlp_output(model, layer)[1]
    index = torch.arange(len(places), device=places.device)
    delta = torch.zeros(len(places), output.out_features, device=places.device, requires_grad=True)
    optimizer = torch.optim.Adam([delta], lr=recipe.delta_learning_rate)

    def add(_module: nn.Module, _inputs: object, values: Tensor) -> Tensor:
        by_row = values.reshape(*rows.tokens.shape, -1)  # some families join rows and places
        return by_row.index_put((index, places), delta, accumulate=True).reshape(values.shape)

    reached = torch.zeros(len(places), dtype=torch.bool, device=places.device)
    with output.register_forward_hook(add):
        for _ in range(recipe.delta_steps):
            log_p = answer_log_likelihood(model, rows)
            reached |= log_p.detach().exp() >= recipe.enough
            if bool(reached.all()):
                break
            before = delta.detach().clone()
            optimizer.zero_grad()
            (-log_p.sum()).backward(inputs=[delta])
            optimizer.step()
            with torch.no_grad():
                # Adam moves on by its momentum: a fact that has enough would get the more the longer another one takes.
                delta[reached] = before[reached]
        with torch.no_grad():
            probability = answer_log_likelihood(model, rows).exp()
    return delta.detach(), probability
