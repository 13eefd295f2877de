"""Checks of the arguments of functions, with messages such as ``epochs=0: must be at least 1``; classes use `settings`."""

import math
from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any

from effnotes.core.errors import nearest


def check_range(low: float, high: float = math.inf, *, whole: bool = False, **given: Any) -> None:
    """Raise ValueError unless each of the numbers, given by name, lies from `low` to `high`, ends included.

    Args:
        low: The least that is allowed.
        high: The most.
        whole: Whether fractions are refused.
        given: The numbers; True, which Python counts as one, is refused.
    """
    for name, value in given.items():
        is_number = isinstance(value, Integral if whole else Real) and not isinstance(value, bool)
        if not is_number:
            raise ValueError(f"{name}={value!r}: must be a {'whole ' * whole}number")
        if not low <= value <= high:
            raise ValueError(f"{name}={value}: must be {f'at least {low}' if high == math.inf else f'from {low} to {high}'}")


def check_choice(allowed: Sequence[str], **given: str) -> None:
    """Raise ValueError unless each of the names, given by what it is for, is an allowed one; the message gives the nearest."""
    for name, value in given.items():
        if value not in allowed:
            raise ValueError(f"{name}={value!r}: must be one of {', '.join(allowed)}.{nearest(str(value), allowed)}")
