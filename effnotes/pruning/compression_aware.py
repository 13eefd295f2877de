"""Training that foresees compression (CrAM): the dense network that comes out can be pruned in one step and then used."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from effnotes.core.checks import check_range
from effnotes.pruning.masks import Masks, prunable_parameters
from effnotes.pruning.plans import MaskMethod, PruningHook


def compression_aware_gradients_(
    model: nn.Module, again: Callable[[], Tensor], compress: Callable[[nn.Module], Masks], rho: float, *, plus: bool = True
) -> None:
    """Replace the gradients g = ∇L(w) of a batch by those of CrAM, or CrAM+, at the same batch.

    With C the compression, which sets to zero what its masks m leave out, at the weights that an ascent step has reached,

        CrAM:   m ⊙ ∇L(C(w + ρ g))        CrAM+:   g + m ⊙ ∇L(C(w + ρ g)).

    This is a descent step of min_w max_{‖δ‖ ≤ ρ} L(C(w + δ)) to first order, in which the gradient passes C straight through to the
    weights that stay. The ascent moves all parameters and, unlike that of SAM, is not normalised; masks are of convolutions and
    linear layers alone. CrAM+ adds the gradient of the dense network, so its steps are up to twice as long. Statistics of
    normalisation layers take in nothing of the second pass.

    Peste, Vladu, Kurtic, Lampert & Alistarh, "CrAM: A Compression-Aware Minimizer" (ICLR 2023), and the authors' code.

    Args:
        model: The network, its gradients those of the batch; its weights are the same afterwards, to the bit.
        again: Computes the loss of the batch anew.
        compress: Gives the masks of the model as it is.
        rho: Length ρ of the ascent step in gradients, at least 0; 0 leaves it out.
        plus: Whether the dense gradient is added (CrAM+).
    """
    named: dict[str, Tensor] = {name: each for name, each in model.named_parameters() if each.grad is not None}
    parameters, clean = list(named.values()), _gradients(named)
    weights = [each.detach().clone() for each in parameters]
    norms: list[Any] = [each for each in model.modules() if getattr(each, "track_running_stats", False)]
    with torch.no_grad():
        if rho:
            torch._foreach_add_(parameters, clean, alpha=rho)
        masks = {name: mask for name, mask in compress(model).items() if name in named}
        for name, mask in masks.items():
            named[name].mul_(mask)
    model.zero_grad()
    try:
        for each in norms:
            each.track_running_stats = False
        again().backward()
    finally:
        for each in norms:
            each.track_running_stats = True
        with torch.no_grad():
            torch._foreach_copy_(parameters, weights)
    with torch.no_grad():
        torch._foreach_mul_(_gradients({name: named[name] for name in masks}), list(masks.values()))
        if plus:
            torch._foreach_add_(_gradients(named), clean)


def _gradients(named: Mapping[str, Tensor]) -> list[Tensor]:
    return [each.grad for each in named.values() if each.grad is not None]


class CompressionAware(PruningHook):
    """The hook that trains by CrAM: for the hooks of `effnotes.training.train`, one for each run.

    Each step draws one of the compressions, each as likely: one level is plain CrAM, several CrAM-Multi, and the patterns 2:4 and
    4:8 (`NMMagnitude`) CrAM-N:M. The network stays dense. A step takes two passes forward and back.

    Args:
        compressions: What chooses masks, and the sparsity; at least one.
        rho: As for `compression_aware_gradients_`.
        plus: The same.
        seed: Of the draws.

    Raises:
        ValueError: There is no compression, a sparsity is not in (0, 1), or `rho` is negative.
    """

    def __init__(self, compressions: Sequence[tuple[MaskMethod, float]], rho: float, *, plus: bool = True, seed: int = 0) -> None:
        super().__init__()
        check_range(0, rho=rho)
        if not compressions or not all(0 < level < 1 for _, level in compressions):
            given = [level for _, level in compressions]
            raise ValueError(f"sparsities {given}: needed is at least one, each between 0 and 1 (0.9 removes 90% of the weights)")
        self._compressions, self._rho, self._plus, self._seed = list(compressions), rho, plus, seed

    def start(self, model: nn.Module, optimizer: torch.optim.Optimizer, parts: int) -> None:
        """Check that the compressions fit the model.

        Raises:
            ValueError: One cannot reach its sparsity on this model, or a weight cannot be changed.
        """
        super().start(model, optimizer, parts)
        prunable_parameters(model, changing=True)
        for method, level in self._compressions:
            method(model, level, generator=torch.Generator().manual_seed(self._seed))

    def before_part(self, part: int) -> None:
        """Draw anew: a resumed run draws what an uninterrupted one draws."""
        super().before_part(part)
        self._generator = torch.Generator().manual_seed(self._seed * 1_000_003 + part)

    def before_step(self, again: Callable[[], Tensor]) -> None:
        """Replace the gradients."""
        method, level = self._compressions[int(torch.randint(len(self._compressions), (), generator=self._generator))]

        def compress(model: nn.Module) -> Masks:
            return method(model, level, generator=self._generator)

        compression_aware_gradients_(self._model, again, compress, self._rho, plus=self._plus)

    def describe(self) -> dict[str, Any]:
        """Give what tells this training from another."""
        names = [[repr(method), level] for method, level in self._compressions]
        return super().describe() | {"compression": [names, self._rho, self._plus, self._seed]}
