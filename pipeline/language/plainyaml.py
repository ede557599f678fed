"""YAML as people mean it: what looks like a word is a word, and nothing is said twice.

PyYAML reads YAML 1.1, in which `no` is false, `010` is eight, `1:30` is ninety, `2001-01-01` is a date and `1e-5` a
text, and in which the last of two equal keys wins without a word: in an owner's policy, another budget than on top.
Here are true and false, decimal numbers, `.inf` and `.nan`, null, and texts (the core schema of YAML 1.2).
"""

from __future__ import annotations

import re
from typing import Any

import yaml

_TAG = "tag:yaml.org,2002:"
_WHOLE = r"[-+]?(?:0|[1-9][0-9]*)"
_PLAIN: tuple[tuple[str, str, str], ...] = (
    ("null", r"~|null|Null|NULL|", "~nN\0"),
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", _WHOLE, "-+0123456789"),
    ("float", rf"(?:{_WHOLE}(?:\.[0-9]*)?|[-+]?\.[0-9]+)(?:[eE][-+]?[0-9]+)?", "-+.0123456789"),
    ("float", r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)", "-+."),
    ("merge", r"<<", "<"),
)


class _Loader(yaml.SafeLoader):
    yaml_implicit_resolvers: dict[str, list[Any]] = {}  # noqa: RUF012  # of PyYAML

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        """Raises yaml.constructor.ConstructorError for a key that stands twice."""
        seen: dict[Any, int] = {}
        for key_node, _ in node.value if isinstance(node, yaml.MappingNode) else ():
            if key_node.tag == f"{_TAG}merge":
                continue
            key, line = self.construct_object(key_node, deep=True), key_node.start_mark.line + 1
            if isinstance(key, str | int | float | bool | None) and key in seen:
                problem = f"{key} is set twice, in line {seen[key]} and line {line}"
                raise yaml.constructor.ConstructorError(None, None, problem, key_node.start_mark)
            if isinstance(key, str | int | float | bool | None):
                seen[key] = line
        return super().construct_mapping(node, deep)


for _name, _pattern, _first in _PLAIN:
    _letters = ["" if letter == "\0" else letter for letter in _first]
    _Loader.add_implicit_resolver(f"{_TAG}{_name}", re.compile(f"^(?:{_pattern})$"), _letters)


def load(text: str) -> Any:
    """Raises yaml.YAMLError."""
    return yaml.load(text, _Loader)  # noqa: S506  # a SafeLoader
