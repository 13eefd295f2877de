"""What a result depends on: tensors to the bit, and the code that computes it.

The code behind a job or a chapter is the closure of its imports: the modules of this package that it imports, directly or through
others, with the packages that they lie in. Each counts by its syntax tree without docstrings and comments, so that words about the
code change no digest. Of a package that gives its names on demand (`effnotes.core.lazy`) only the homes of the names that are asked
for count; of one that is imported as a whole, all.
"""

from __future__ import annotations

import ast
import contextlib
import functools
import hashlib
import inspect
import json
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from torch import Tensor

Import = tuple[str, str | None]  # a module, and the name that is asked of it; None: the module as a whole
_ROOTS = {"effnotes": Path(__file__).parents[1]}
_distributions = functools.cache(metadata.packages_distributions)


def tensors_digest(tensors: Mapping[str, Tensor]) -> str:
    """Return a SHA-256 over names, shapes, types and bytes of tensors, whatever their order."""
    import torch  # here, because commands that compute nothing digest code alone

    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)} ".encode())
        digest.update(tensor.flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def json_digest(value: Any) -> str:
    """Return a SHA-256 over a value that JSON can hold, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


class Closure(NamedTuple):
    """The code that some other code depends on.

    Attributes:
        modules: Digest of the syntax tree of each module, by name.
        imported: Top-level names of what all this code imports from elsewhere, the standard library left out.
    """

    modules: Mapping[str, str]
    imported: frozenset[str]

    @property
    def digest(self) -> str:
        """A SHA-256 over the modules."""
        return json_digest(dict(self.modules))

    @property
    def versions(self) -> dict[str, str]:
        """Version of every installed distribution that is imported, by name."""
        names = {name for module in self.imported for name in _distributions().get(module, ())}
        return {name: metadata.version(name) for name in sorted(names)}


def code_closure(sources: Iterable[str], roots: Mapping[str, Path] = _ROOTS) -> Closure:
    """Return the closure of what pieces of code import, such as the cells of a notebook; the pieces themselves are left out.

    Args:
        sources: Python, where lines of notebook magic may stand between the others.
        roots: Folder of each package whose modules are followed.
    """
    wanted: list[Import] = []
    for source in sources:
        # What is no Python even so, its kernel will refuse.
        with contextlib.suppress(SyntaxError):
            wanted += _imports(ast.parse(re.sub(r"^([ \t]*)(%+\w+[ \t]*|!.*)", r"\1", source, flags=re.MULTILINE)), "")
    return _close(wanted, roots)


def function_closure(function: Callable[..., Any], roots: Mapping[str, Path] = _ROOTS) -> Closure:
    """Return the closure of the module that a function is defined in, that module included; `roots` as for `code_closure`."""
    name, file = function.__module__, inspect.getsourcefile(function)
    if name.partition(".")[0] in roots or file is None:
        return _close([(name, function.__name__)], roots)
    own = _read(name, Path(file))
    rest = _close(own.imports, roots)
    return Closure({name: own.digest, **rest.modules}, rest.imported)


class _Module(NamedTuple):
    digest: str
    imports: tuple[Import, ...]
    homes: Mapping[str, str]


def _close(wanted: Iterable[Import], roots: Mapping[str, Path]) -> Closure:
    found: dict[str, _Module] = {}
    waiting, seen, elsewhere = list(wanted), set[Import](), set[str]()
    while waiting:
        item = module, name = waiting.pop()
        parts = module.split(".")
        if parts[0] not in roots:
            elsewhere.add(parts[0])
        if item in seen or parts[0] not in roots:
            continue
        seen.add(item)
        # Importing a module runs the packages that it lies in, too.
        for depth in range(1, len(parts) + 1):
            label = ".".join(parts[:depth])
            if label not in found and (file := _file(label, roots)) is not None:
                found[label] = _read(label, file)
                waiting += found[label].imports
        homes = found[module].homes if module in found else {}
        if name is None or name == "*":
            waiting += [(home, each) for each, home in homes.items()]
        elif name in homes:
            waiting.append((homes[name], name))
        elif _file(f"{module}.{name}", roots) is not None:
            waiting.append((f"{module}.{name}", None))
    return Closure({name: found[name].digest for name in sorted(found)}, frozenset(elsewhere - sys.stdlib_module_names - {""}))


def _read(label: str, file: Path) -> _Module:
    status = file.stat()
    return _parse(label, file, status.st_mtime_ns, status.st_size)


@functools.cache
def _parse(label: str, file: Path, _changed: int, _size: int) -> _Module:
    """Read a module; what has been read is kept until the file changes."""
    tree = ast.parse(file.read_bytes())
    for node in ast.walk(tree):
        if isinstance(body := getattr(node, "body", None), list):
            body[:] = [item for item in body if not (isinstance(item, ast.Expr) and isinstance(item.value, ast.Constant))]
    assigned = {ast.unparse(item.targets[0]): item.value for item in tree.body if isinstance(item, ast.Assign)}
    listed = ast.literal_eval(assigned["_HOMES"]) if "_HOMES" in assigned else {}
    homes = {name: home for home, names in listed.items() for name in names.split()}
    package = label if file.name == "__init__.py" else label.rpartition(".")[0]
    # A module that a text names may be imported by that name; the homes of names are followed one by one.
    top = label.partition(".")[0]
    texts = {str(node.value) for node in ast.walk(tree) if isinstance(node, ast.Constant)} - set(homes.values())
    named: list[Import] = [(text, None) for text in sorted(texts) if re.fullmatch(rf"{top}(\.\w+)+", text)]
    return _Module(hashlib.sha256(ast.dump(tree).encode()).hexdigest(), (*_imports(tree, package), *named), homes)


def _imports(tree: ast.AST, package: str) -> list[Import]:
    """Return what some code imports; `package` is where relative imports start."""
    found: list[Import] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(alias.name, None) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: package.count(".") + 2 - node.level] if node.level else []
            found += [(".".join([*above, *filter(None, [node.module])]), alias.name) for alias in node.names]
    return found


def _file(module: str, roots: Mapping[str, Path]) -> Path | None:
    """Return the file of a module that lies in one of the packages, None where there is none."""
    top, *inner = module.split(".")
    base = roots[top].joinpath(*inner)
    return next((path for path in (base / "__init__.py", base.with_suffix(".py")) if path.is_file()), None)
