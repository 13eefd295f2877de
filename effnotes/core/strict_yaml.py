"""YAML of which nothing gets lost: by the core schema of YAML 1.2, each key once, and never more than was written."""

import re
from collections.abc import Hashable
from typing import Any

import yaml

_MOST_VALUES = 100_000
_DEEPEST = 50


class _StrictLoader(yaml.SafeLoader):
    """The core schema without 0x and 0o: ``1e-3`` is a number, ``no`` and ``2024-01-01`` are text, and 010 is ten."""

    _depth = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        self._depth += 1
        if self._depth > _DEEPEST:  # found here, as it is read: thousands of brackets take minutes
            problem = f"more than {_DEEPEST} brackets in one another"
            raise yaml.composer.ComposerError(None, None, problem, self.peek_event().start_mark)
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node

    def compose_document(self) -> Any:
        node = super().compose_document()
        _count(node, {})
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[Hashable] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and (name := self.construct_object(key)) in seen:
                raise yaml.constructor.ConstructorError(None, None, f"{name!r} is given twice", key.start_mark)
            seen |= {name} if isinstance(key, yaml.ScalarNode) else set()
        return super().construct_mapping(node, deep)


_StrictLoader.yaml_implicit_resolvers = {}
for _tag, _pattern, _first in (
    ("null", r"~|null|Null|NULL|", "~nN"),
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", r"[-+]?[0-9]+", "-+0123456789"),
    ("float", r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)", "-+.0123456789"),
):
    _StrictLoader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"^(?:{_pattern})$"), [*_first, ""])
_StrictLoader.add_constructor("tag:yaml.org,2002:int", lambda _loader, node: int(node.value))


def load_yaml(text: str) -> Any:
    """Read YAML by the core schema of YAML 1.2.

    Raises:
        yaml.YAMLError: The text is no valid YAML, gives a key twice, or has more than 100,000 values, with those that aliases
            (``*name``) repeat.
    """
    try:
        return yaml.load(text, Loader=_StrictLoader)
    except (ValueError, TypeError, LookupError, AttributeError) as error:  # tags that do not fit
        raise yaml.YAMLError(str(error)) from None


def lost_from(text: str) -> str:
    """Return a part of valid YAML that its value does not hold, such as a comment or folded lines; empty where there is none."""
    at = 0
    for token in yaml.scan(text, Loader=yaml.SafeLoader):
        start, end = token.start_mark.index, token.end_mark.index
        if skipped := text[at:start].strip():
            return skipped
        first, *others = text[start:end].strip().splitlines() or [""]
        if isinstance(token, yaml.ScalarToken) and ("#" in first if token.style in ("|", ">") else others):
            return text[start:end]
        at = max(at, end)
    return text[at:].strip()


def _count(node: Any, sizes: dict[int, float]) -> float:
    """Return how many values a node stands for, with all that its aliases repeat."""
    if id(node) not in sizes:
        sizes[id(node)] = float("inf")  # what holds itself has no end
        children = [] if node is None or isinstance(node, yaml.ScalarNode) else node.value
        pairs = [each for child in children for each in (child if isinstance(child, tuple) else (child,))]
        sizes[id(node)] = 1 + sum(_count(each, sizes) for each in pairs)
    if sizes[id(node)] > _MOST_VALUES:
        written = f"more than {_MOST_VALUES:,} values; at most as many are read"
        repeated = f"its aliases (*name) make more than {_MOST_VALUES:,} values of it; write out what is meant"
        problem = repeated if sizes[id(node)] > len(sizes) else written  # more than were seen until here
        raise yaml.composer.ComposerError(None, None, problem, node.start_mark)
    return sizes[id(node)]
