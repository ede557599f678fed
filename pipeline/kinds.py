"""Values: immutable, validated, without unknown keys; and kinds, values whose `kind` picks their class.

A kind is a name that is known here, or `package.module:Class` that is installed here. Own code never travels: a message
names a class, and importing it is running it, so who reads a message says first which classes it may name. Where
nothing is said, only the known ones.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Collection, Iterator, Mapping
from inspect import isabstract
from typing import Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, GetCoreSchemaHandler, GetJsonSchemaHandler, ValidationInfo
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

from pipeline.host.code import code_digest
from pipeline.host.environment import find_own_code
from privacy.errors import KindDiffers, KindMissing, KindNotAllowed, KindUnfit

INSTALLED: Mapping[str, Any] = {"allowed_kinds": ("*",)}
"""Validation context of what was written by whoever runs this process: every class that is installed."""

_OWN = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")


class Frozen(BaseModel):
    """A value: immutable, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Kind(Frozen):
    """A value whose `kind` picks its class. A class that states BUILT_IN is a family, and is read as any of it."""

    BUILT_IN: ClassVar[Mapping[str, str]] = {}
    """Known kinds: name -> `module:Class`, imported when first used."""
    USUAL: ClassVar[str | None] = None
    """The kind that is meant where none is said."""

    kind: str

    @classmethod
    def of(cls, tree: Any, allowed: Collection[str] = ()) -> Self:
        """`tree` as a value of its kind. allowed: own classes that may be named; `*`: all that are installed.

        Raises ValueError naming the known kinds, or of the value's own validation; KindNotAllowed, KindMissing,
        KindUnfit.
        """
        if isinstance(tree, cls):
            return tree
        if not isinstance(tree, Mapping):
            raise ValueError(f"expected a mapping with its `kind`, one of: {', '.join(cls.BUILT_IN)}")
        name = tree.get("kind", cls.USUAL)
        if not isinstance(name, str) or (name not in cls.BUILT_IN and not _OWN.fullmatch(name)):
            known = ", ".join(cls.BUILT_IN)
            raise ValueError(f"unknown kind {name!r}; known are {known}, or `package.module:Class` of your own")
        return cls._named(name, allowed).model_validate({**tree, "kind": name}, context={"allowed_kinds": allowed})

    @classmethod
    def _named(cls, name: str, allowed: Collection[str]) -> type[Self]:
        """The class of a kind. Nothing is imported that is not allowed."""
        own = name not in cls.BUILT_IN
        if own and name not in allowed and "*" not in allowed:
            raise KindNotAllowed(
                f"this client's policy does not allow the class {name}",
                remedy=f"Its owner can: allowed_kinds: [{name}] in policy.yaml.",
                travels=True,
            )
        module, _, attribute = cls.BUILT_IN.get(name, name).partition(":")
        find_own_code()
        try:
            found = getattr(importlib.import_module(module), attribute, None)
        except Exception as error:  # a module of its own may fail by anything when it is imported
            missing = isinstance(error, ModuleNotFoundError) and module.startswith(error.name or "-")
            what = "is not installed here" if missing else f"cannot be imported here: {type(error).__name__}"
            raise KindMissing(
                f"{name} {what}", remedy="Install its package beside Sottovoce, wherever the run works.", travels=True
            ) from error
        if found is None:
            raise KindMissing(f"{module} has no class {attribute}", remedy="Correct the `kind`.", travels=True)
        if not (isinstance(found, type) and issubclass(found, cls)) or isabstract(found):
            raise KindUnfit(
                f"{name} is no {cls.__name__.lower()}",
                remedy=f"Make it a class that extends {cls.__module__}.{cls.__name__}.",
                travels=True,
            )
        return found

    @classmethod
    def known(cls, name: str) -> type[Self]:
        """The class of a built-in kind."""
        return cls._named(name, ())

    @property
    def code(self) -> str:
        """Digest of the module of its class and of all that it imports."""
        return code_digest(type(self).__module__)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        if "BUILT_IN" not in cls.__dict__:
            return handler(source)

        def read(tree: Any, info: ValidationInfo) -> Any:
            return cls.of(tree, (info.context or {}).get("allowed_kinds", ()))

        def written(value: Any, info: core_schema.SerializationInfo) -> Any:
            return value.model_dump(mode=info.mode)

        return core_schema.with_info_plain_validator_function(
            read, serialization=core_schema.plain_serializer_function_ser_schema(written, info_arg=True)
        )

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        if "BUILT_IN" not in cls.__dict__:
            return handler(schema)
        known = [handler(cls.known(name).__pydantic_core_schema__) for name in cls.BUILT_IN]
        own = {
            "type": "object",
            "properties": {"kind": {"type": "string", "pattern": f"^{_OWN.pattern}$"}},
            "required": ["kind"],
            "description": "A class of your own that is installed, with its own settings.",
        }
        return {"anyOf": [*known, own]}


def kinds_in(value: object) -> Iterator[Kind]:
    """Every kind that a value holds, itself included."""
    if isinstance(value, Kind):
        yield value
    if isinstance(value, BaseModel):
        for name in type(value).model_fields:
            yield from kinds_in(getattr(value, name))
    elif isinstance(value, Mapping):
        for part in value.values():
            yield from kinds_in(part)
    elif isinstance(value, list | tuple):
        for part in value:
            yield from kinds_in(part)


def codes_of(*values: object) -> dict[str, str]:
    """The digest of the code of every kind that they hold, by its name."""
    found = {(type(kind), kind.kind): kind for value in values for kind in kinds_in(value)}
    return {f"{_family(of).__name__.lower()} {name}": kind.code for (of, name), kind in sorted(found.items(), key=repr)}


def check_codes(value: object, codes: Mapping[str, str]) -> None:
    """Raise KindDiffers for a kind of `value` whose code here is not the one that `codes` states."""
    for name, code in codes_of(value).items():
        if codes.get(name) != code:
            raise KindDiffers(
                f"the code of {name} is not the same here and at the coordinator",
                remedy="Install the same version of its package on both sides.",
                travels=True,
            )


def _family(of: type[Kind]) -> type[Kind]:
    return next(base for base in of.__mro__ if "BUILT_IN" in base.__dict__)
