"""What code a result depends on: a module and every project module it imports, in one digest.

What is hashed is the syntax tree, without what no result depends on: comments, docstrings, descriptions of settings,
the words of an error, what only a type checker reads, and with which resources a stage runs. The walk stops at the
rooms that schedule, store and report (`BESIDE`). Of other people's code the versions count of what computes.
"""

from __future__ import annotations

import ast
import hashlib
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

ROOMS = ("privacy", "pipeline", "clients", "server", "simulations")
BESIDE = ("privacy.errors", "pipeline.host", "pipeline.store", "pipeline.engine", "pipeline.reporting")
"""What schedules, stores and tells; and the machine below. No result depends on it."""

COMPUTES = ("dp_accounting", "numpy", "opacus", "pandas", "pyarrow", "tenseal", "torch")
"""Packages whose version changes results."""

_PARSING = threading.Lock()
"""CPython 3.11 counts the depth of a syntax tree for all threads together (python/cpython#106905)."""


def code_digest(*modules: str, alone: Iterable[str] = ()) -> str:
    """SHA-256 over `modules` and all modules of the project, or of their own package, that they import at any depth.

    alone: modules that count without what they import. Raises ModuleNotFoundError when one of either is none.
    """
    for name in (*modules, *alone):
        if _file(name) is None:
            raise ModuleNotFoundError(f"there is no module {name}", name=name)
    behind = {name: _module(name) for name in sorted({*modules_behind(*modules), *alone})}
    used = {imported.partition(".")[0] for module in behind.values() for imported in module.imports}
    versions = [(package, _version(package)) for package in COMPUTES if package in used]
    content = [(name, module.digest) for name, module in behind.items()]
    return hashlib.sha256(repr((content, versions)).encode()).hexdigest()


def modules_behind(*modules: str) -> frozenset[str]:
    """Names of the modules that a digest of `modules` covers: they, what they import of the project or of the packages
    that they are in themselves, and the packages those are in."""
    followed = {*ROOMS, *(name.partition(".")[0] for name in modules)}
    seen: set[str] = set()
    waiting = list(modules)
    while waiting:
        name = waiting.pop()
        if name in seen or _is_beside(name) or _file(name) is None:
            continue
        seen.add(name)
        waiting.extend(imported for imported in _module(name).imports if imported.partition(".")[0] in followed)
        if package := name.rpartition(".")[0]:
            waiting.append(package)
    return frozenset(seen)


@lru_cache(maxsize=16)
def _version(package: str) -> str:
    try:
        return version(package.replace("_", "-"))
    except PackageNotFoundError:
        return ""


def _is_beside(name: str) -> bool:
    return any(name == beside or name.startswith(f"{beside}.") for beside in BESIDE)


@lru_cache(maxsize=1024)
def _file(name: str) -> Path | None:
    """Where a module's source is. Nothing is imported, not even the packages above it."""
    top, *below = name.split(".")
    spec = find_spec(top)
    if spec is None:
        return None
    if not spec.submodule_search_locations:
        return Path(spec.origin) if not below and spec.origin and spec.origin.endswith(".py") else None
    for folder in spec.submodule_search_locations:
        place = Path(folder, *below)
        for path in (place / "__init__.py", place.with_suffix(".py")):
            if path.is_file():
                return path
    return None


@dataclass(frozen=True)
class _Module:
    digest: str
    imports: frozenset[str]


def _module(name: str) -> _Module:
    path = _file(name)
    return _read(path, name, path.stat().st_mtime_ns) if path else _Module("", frozenset())


@lru_cache(maxsize=1024)
def _read(path: Path, name: str, changed: int) -> _Module:
    with _PARSING:
        tree = _Meaning().visit(ast.parse(path.read_bytes()))
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    return _Module(hashlib.sha256(ast.dump(tree).encode()).hexdigest(), frozenset(_imports(tree, package)))


def _imports(tree: ast.AST, package: str) -> Iterator[str]:
    """Every name that an import statement anywhere in the tree may mean a module by."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            source = ".".join([*above, *([node.module] if node.module else [])])
            yield source
            yield from (f"{source}.{alias.name}" for alias in node.names)


class _Meaning(ast.NodeTransformer):
    """Takes away what no result depends on."""

    def visit_Expr(self, node: ast.Expr) -> Any:
        """A string that stands alone is a docstring."""
        is_text = isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        return ast.copy_location(ast.Pass(), node) if is_text else self.generic_visit(node)

    def visit_Raise(self, node: ast.Raise) -> Any:
        return _Wordless().visit(node)

    def visit_If(self, node: ast.If) -> Any:
        for_types = isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        return ast.copy_location(ast.Pass(), node) if for_types else self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> Any:
        if isinstance(node.func, ast.Name) and node.func.id == "Field":
            node.keywords = [keyword for keyword in node.keywords if keyword.arg != "description"]
        return self.generic_visit(node)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> Any:
        """`@stage(...)` says where and with what a stage runs."""
        node.decorator_list = [found for found in node.decorator_list if not _is_stage(found)]
        return self.generic_visit(node)


class _Wordless(ast.NodeTransformer):
    def visit_Constant(self, node: ast.Constant) -> Any:
        return ast.copy_location(ast.Constant(""), node) if isinstance(node.value, str) else node


def _is_stage(decorator: ast.expr) -> bool:
    return isinstance(decorator, ast.Call) and isinstance(decorator.func, ast.Name) and decorator.func.id == "stage"
