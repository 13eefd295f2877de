"""Errors that people see, and the words that help them on."""

import difflib
from collections.abc import Iterable


class DataError(ValueError):
    """Data on disk are not what a loader needs; the message names the file, and the line where there is one."""


def nearest(given: str, known: Iterable[str]) -> str:
    """Return ``" Did you mean 'x'?"`` for the closest name in `known`, or an empty string."""
    # Case must not hide a match: "male" is meant to be "Male".
    folded = {name.casefold(): name for name in known}
    matches = difflib.get_close_matches(given.casefold(), list(folded), n=1, cutoff=0.5)
    return f" Did you mean {folded[matches[0]]!r}?" if matches else ""
