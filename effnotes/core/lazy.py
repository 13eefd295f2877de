"""Names that a room gives on demand, so that asking for one does not load what another needs."""

import importlib
from collections.abc import Callable, Mapping
from typing import Any


def exports(package: str, names: Mapping[str, str]) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """Return `__getattr__`, `__dir__` and `__all__` of a package that loads a name's module when the name is first asked for.

    Write `__getattr__, __dir__, __all__ = exports(__name__, _HOMES)` with a literal dictionary `_HOMES`: the digest of what a
    module depends on reads it.

    Args:
        package: Name of the package.
        names: The names that each module holds, with spaces between them, by its full name.
    """
    homes = {name: module for module, held in names.items() for name in held.split()}

    def get(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(importlib.import_module(homes[name]), name)

    every = sorted(homes)
    return get, lambda: every, every
