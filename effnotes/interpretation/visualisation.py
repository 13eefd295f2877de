"""Feature visualisation: pictures of what excites an output neuron (Olah, Mordvintsev & Schubert, Distill, 2017)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from effnotes.core.checks import check_range
from effnotes.models.images import normalize
from effnotes.models.modes import check_evaluating
from effnotes.models.weights import check_finite, like_weights

# A square root of the covariance of colours in ImageNet, from the paper's code (Lucid), which also has the constants below.
_COLOURS = torch.tensor([[0.26, 0.09, 0.02], [0.27, 0.00, -0.05], [0.27, -0.09, 0.03]])
_START, _SHRUNK, _RATE, _SHIFT = 0.01, 4.0, 0.05, 2


def visualise(
    model: nn.Module,
    targets: Sequence[int],
    *,
    size: int,
    steps: int = 128,
    seed: int = 0,
    prepare: Callable[[Tensor], Tensor] = normalize,
) -> Tensor:
    """Search for images that a classifier gives the largest logit of a class, starting from next to grey.

    What Adam (rate 0.05) moves is the spectrum of the image, in colours that are decorrelated: a frequency f has the weight 1/f, as
    in photographs, and a sigmoid keeps pixels in range. Before each step the image is shifted by up to 2 pixels either way, around
    the edges, so that no single pixel counts.

    Args:
        model: A classifier in evaluation mode that maps (n, 3, size, size) to logits (n, K). It stays as it is.
        targets: A class, from 0 to K - 1, for each image. The same class twice gives two images, from its first and second start,
            which are the same for all classes.
        size: Height and width in pixels, at least 1.
        steps: Of gradient ascent, at least 1.
        seed: Of starts and shifts.
        prepare: Maps images to what the model takes. It gets floats from 0 to 255, not bytes, and must pass a gradient on;
            `normalize` does.

    Returns:
        uint8 (n, 3, size, size), on the device of the model's weights.

    Raises:
        ValueError: No class is given, or one that the model has not; a number is out of range; `prepare` passes no gradient on; the
            model is in training mode or has weights that are NaN or infinite.
    """
    check_range(1, whole=True, targets=len(targets), size=size, steps=steps)
    check_evaluating(model)
    check_finite(model)
    generator = torch.Generator().manual_seed(seed)
    # Gradients are needed whatever mode the caller is in, and tensors made in inference mode can have none.
    with torch.inference_mode(False), torch.enable_grad():
        device = like_weights(model, torch.zeros(1)).device
        colours = (_COLOURS / _COLOURS.norm(dim=0).max()).to(device)
        frequencies = torch.hypot(torch.fft.fftfreq(size)[:, None], torch.fft.rfftfreq(size)).clamp(min=1 / size).to(device)
        shifts = torch.randint(-_SHIFT, _SHIFT + 1, (steps, 2), generator=generator).tolist()
        turns = [list(targets[:place]).count(target) for place, target in enumerate(targets)]
        # One by one: what several drawn at once are depends on how many.
        starts = [_START * torch.randn(3, *frequencies.shape, 2, generator=generator) for _ in range(max(turns) + 1)]
        spectrum = torch.stack([starts[turn] for turn in turns]).to(device).requires_grad_()
        optimizer = torch.optim.Adam([spectrum], lr=_RATE, maximize=True)

        def picture() -> Tensor:
            waves = torch.fft.irfft2(torch.view_as_complex(spectrum) / frequencies, s=(size, size), norm="ortho")
            return 255 * torch.sigmoid(torch.einsum("ij,njhw->nihw", colours, waves / _SHRUNK))

        for shift in shifts:
            logits = model(like_weights(model, prepare(picture().roll(shift, (2, 3)))))
            for target in targets:
                check_range(0, logits.shape[1] - 1, whole=True, target=target)
            wanted = logits[torch.arange(len(targets)), list(targets)].sum()
            try:
                # Of the spectrum alone: the gradients of the model's parameters stay as they are.
                (spectrum.grad,) = torch.autograd.grad(wanted, spectrum)
            except RuntimeError as error:
                what = "no gradient comes back to the image; `prepare` must work on floats from 0 to 255, without bytes or rounding"
                raise ValueError(f"{what} ({error})") from error
            optimizer.step()
        return picture().detach().round().to(torch.uint8)
