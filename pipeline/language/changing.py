"""A configuration with some of its settings changed by their paths, checked as if a person had written it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.language.config import Config
from pipeline.language.configfile import parse


def changed(config: Config, changes: Mapping[str, Any], source: str) -> Config:
    """source: who wants it so, for the error. Raises ConfigError, ConfigUnknownKey."""
    tree = config.model_dump(mode="json", exclude_unset=True)
    for path, value in changes.items():
        *parents, last = path.split(".")
        node = tree
        for name in parents:
            below = node.setdefault(name, {})
            if not isinstance(below, dict):  # a section that is one word, as `privacy: none`
                below = node[name] = {}
            node = below
        node[last] = list(value) if isinstance(value, tuple) else value
    return parse(Config, tree, source)


def check_space(config: Config) -> None:
    """Raise ConfigError unless both ends of every range, and every choice, would be accepted."""
    for path, space in config.tuning.space.items():
        for value in space.ends:
            changed(config, {path: value}, "tuning.space")
