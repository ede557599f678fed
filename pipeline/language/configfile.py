"""Reading a configuration: YAML, `--set a.b=c`, and errors that name the place and the nearest known key."""

from __future__ import annotations

import difflib
import hashlib
import json
import re
import types
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError

from pipeline.host.environment import admit_own_code
from pipeline.kinds import INSTALLED, Kind
from pipeline.language import plainyaml
from pipeline.language.config import Config
from privacy.errors import ConfigError, ConfigUnknownKey, KindMissing

Model = TypeVar("Model", bound=BaseModel)

_BESIDE = re.compile(r"(?P<module>[A-Za-z_]\w*)\.py:(?P<class>[A-Za-z_]\w*)")

_KINDS = ("record", "subject", "client", "average", "momentum", "adam")
"""Tags that pydantic puts into the place of an error and that nobody wrote into the file."""


def load_config(path: Path, overrides: Sequence[str] = (), expect: str | None = None) -> Config:
    """The configuration in `path` with `a.b=c` overrides applied.

    expect: digest of what the file has to say; None: whatever. Raises ConfigError, ConfigUnknownKey.
    """
    tree = read_yaml(path)
    if expect is not None and (found := _digest(tree)) != expect:
        raise ConfigError(
            f"{path.name} has changed: its settings have the digest {found[:12]}, expected was {expect[:12]}",
            remedy="Export it again: what was exported runs the configuration that it was exported with.",
        )
    for override in overrides:
        _override(tree, override)
    return parse(Config, with_own_code(tree, path.parent), path.name)


def settings_digest(path: Path) -> str:
    """Of what the file says, comments and layout apart: 64 hex digits. Raises ConfigError."""
    return _digest(read_yaml(path))


def _digest(tree: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(tree, sort_keys=True, default=str).encode()).hexdigest()


def with_own_code(tree: Any, folder: Path) -> Any:
    """A kind may be a class in a file beside the configuration, `my_model.py:Net`: then modules there are found.

    Raises KindMissing when there is no such file.
    """
    if isinstance(tree, dict):
        tree = {name: with_own_code(value, folder) for name, value in tree.items()}
        named = _BESIDE.fullmatch(str(tree.get("kind", "")))
        if named:
            if not (folder / f"{named['module']}.py").is_file():
                raise KindMissing(
                    f"{folder}/{named['module']}.py: no such file",
                    remedy="A class of your own stands in a file beside the configuration, or in an installed package.",
                )
            admit_own_code(folder)
            return {**tree, "kind": f"{named['module']}:{named['class']}"}
        return tree
    return [with_own_code(value, folder) for value in tree] if isinstance(tree, list) else tree


def read_yaml(path: Path) -> dict[str, Any]:
    """A YAML mapping. Raises ConfigError with the place of a syntax error."""
    try:
        tree = plainyaml.load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file", remedy="Give the path of a YAML file.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read: {type(error).__name__}") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        said = "" if isinstance(error, yaml.constructor.ConstructorError) else "not valid YAML: "
        raise ConfigError(f"{path.name}{where}: {said}{getattr(error, 'problem', '')}") from None
    if not isinstance(tree, dict):
        raise ConfigError(f"{path.name}: expected a mapping of settings", remedy="See: sottovoce config schema")
    return tree


def parse(kind: type[Model], tree: dict[str, Any], source: str) -> Model:
    """`tree` as a `kind`. Raises ConfigUnknownKey or ConfigError naming the setting."""
    try:
        return kind.model_validate(tree, context=INSTALLED)
    except ValidationError as error:
        raise _explained(kind, error, source) from None


def _override(tree: dict[str, Any], override: str) -> None:
    path, equals, text = override.partition("=")
    if not equals or not path:
        raise ConfigError(f"--set {override}: expected a.b=value")
    try:
        value = plainyaml.load(text)
    except yaml.YAMLError:
        raise ConfigError(f"--set {override}: the value is not valid YAML") from None
    *parents, last = path.split(".")
    node = tree
    for name in parents:
        below = node.setdefault(name, {})
        if not isinstance(below, dict):
            raise ConfigError(f"--set {override}: {name} is a value, not a group of settings")
        node = below
    usual = getattr(Config.model_fields["model"].annotation, "USUAL", None) if parents == ["model"] else value
    if last == "kind" and value != node.get("kind", usual):
        node.clear()  # what was set of the kind before says nothing of this one
    node[last] = value


def _explained(kind: type[BaseModel], error: ValidationError, source: str) -> ConfigError:
    problems = error.errors(include_url=False, include_input=False)
    unknown = [problem for problem in problems if problem["type"] == "extra_forbidden"]
    if unknown:
        place = [str(part) for part in unknown[0]["loc"]]
        known = dict(_settings(kind))
        path = _path(place)
        close = difflib.get_close_matches(path, known, n=1, cutoff=0.6)
        nearest = close or difflib.get_close_matches(
            place[-1], [name.split(".")[-1] for name in known], n=1, cutoff=0.6
        )
        hint = f" Did you mean {nearest[0]}?" if nearest else ""
        if path in known:
            hint = " It is a setting of another kind."
        return ConfigUnknownKey(f"{source}, {path}: no such setting.{hint}", remedy=_known(kind))
    told = []
    for problem in problems:
        place = [str(part) for part in problem["loc"]]
        if place[:1] == ["privacy"] and problem["type"] == "literal_error":
            continue  # the other half of the union `none | record`
        path = _path(place)
        told.append(f"{path or 'the file'}: {problem['msg'].removeprefix('Value error, ')}")
    told = told or [f"{'.'.join(map(str, problems[0]['loc']))}: {problems[0]['msg']}"]
    return ConfigError(f"{source}, " + "; ".join(dict.fromkeys(told)), remedy=_known(kind))


def _known(kind: type[BaseModel]) -> str:
    if kind is Config:
        return "All settings: sottovoce config schema"
    return f"Its settings: {', '.join(kind.model_fields)}."


def _path(place: Sequence[str]) -> str:
    """A tag stands before what is inside it; what is last is a setting, also one that is called as a tag is."""
    last = len(place) - 1
    return ".".join(
        part
        for at, part in enumerate(place)
        if (part not in _KINDS or (at == last and part == "momentum")) and not part.startswith("tagged-union")
    )


def _settings(
    kind: type[BaseModel], prefix: str = "", within: tuple[type[BaseModel], ...] = ()
) -> Iterator[tuple[str, str]]:
    """Every setting of a model as its dotted path and its description. within: models that this one is a part of."""
    for name, field in kind.model_fields.items():
        yield prefix + name, field.description or ""
        for model in _models(field.annotation):
            if model not in (*within, kind):
                yield from _settings(model, f"{prefix}{name}.", (*within, kind))


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, Kind) and annotation.BUILT_IN:
        yield from (annotation.known(name) for name in annotation.BUILT_IN)
    elif isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    elif get_origin(annotation) in (Union, types.UnionType, Annotated):
        for part in get_args(annotation):
            yield from _models(part)
