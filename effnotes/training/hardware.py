"""How a network lies in memory, and in which precision it computes, on the processor or GPU that is there."""

import os

import torch
from torch import nn


def resolve_precision(precision: str, device: torch.device) -> torch.dtype:
    """Give the dtype in which activations are computed on a device.

    `"auto"` is bfloat16 where the hardware has instructions for it (AVX512-BF16 or AMX on the CPU, Ampere or later on a GPU) and
    float32 elsewhere, where bfloat16 would be emulated and slow, also where oneDNN was told to do without. Weights, their
    gradients and the optimizer stay float32.
    """
    if precision != "auto":
        return torch.bfloat16 if precision == "bfloat16" else torch.float32
    is_fast = False
    if device.type == "cuda":
        is_fast = torch.cuda.is_bf16_supported(including_emulation=False)
    elif device.type == "cpu":
        features = torch.cpu.get_capabilities()
        is_fast = bool(features.get("avx512_bf16") or features.get("amx_bf16")) and not _has_avx2_kernels()
    return torch.bfloat16 if is_fast else torch.float32


def memory_format(model: nn.Module, device: torch.device) -> torch.memory_format:
    """Give the memory layout of images and weights: channels-last, which convolutions run fastest in, wherever it is safe.

    On processors without AVX-512, oneDNN (3.13.3 in torch 2.15) writes past its buffer in the weight gradient of a 1x1 convolution
    with a stride and fewer than 8 input channels that lies channels-last in float32: "double free or corruption", or wrong
    gradients (kernel `jit_1x1:avx2`, https://github.com/uxlfoundation/oneDNN/issues/6035). Of kernels of 1, 3, 5 and 7 pixels with
    strides of 1 to 3, 1 to 32 channels and 1 to 12 groups no other crashed or differed, in float32 or bfloat16, nor did AVX-512. A
    narrow ResNet below width 8 has such a layer, the shortcut of its second stage; it gets the contiguous layout there.

    Args:
        model: The network.
        device: Where it runs.
    """
    pointwise = [each for each in model.modules() if isinstance(each, nn.Conv2d) and each.kernel_size == (1, 1) != each.stride]
    small = any(each.in_channels // each.groups < 8 for each in pointwise)
    return torch.contiguous_format if small and device.type == "cpu" and _has_avx2_kernels() else torch.channels_last


def _has_avx2_kernels() -> bool:
    """Whether oneDNN takes its kernels for AVX2, because the processor has no AVX-512 or it was told to do without."""
    limit = os.environ.get("ONEDNN_MAX_CPU_ISA") or os.environ.get("DNNL_MAX_CPU_ISA") or ""
    # What oneDNN calls AVX512_CORE.
    has_avx512 = all(torch.cpu.get_capabilities().get(f"avx512_{part}") for part in ("f", "bw", "vl", "dq"))
    return not has_avx512 or limit.upper().startswith("AVX2")
