"""What code a result depends on: the source of a module and of every module of the project it imports, in one digest."""

from __future__ import annotations

import ast
import hashlib
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

ROOMS = ("privacy", "pipeline", "clients", "server", "simulations")


@lru_cache(maxsize=256)
def code_digest(module: str) -> str:
    """SHA-256 over the sources of `module` and of all project modules it imports, directly or not."""
    sources: dict[str, bytes] = {}
    _collect(module, sources)
    digest = hashlib.sha256()
    for name in sorted(sources):
        digest.update(f"{name} {len(sources[name])}\n".encode() + sources[name])
    return digest.hexdigest()


def _collect(module: str, sources: dict[str, bytes]) -> None:
    if module in sources or module.partition(".")[0] not in ROOMS:
        return
    spec = find_spec(module)
    if spec is None or spec.origin is None:
        return
    sources[module] = Path(spec.origin).read_bytes()
    for node in ast.walk(ast.parse(sources[module])):
        if isinstance(node, ast.Import):
            for alias in node.names:
                _collect(alias.name, sources)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            _collect(node.module, sources)
            for alias in node.names:
                if _is_module(node.module, alias.name):
                    _collect(f"{node.module}.{alias.name}", sources)


def _is_module(package: str, name: str) -> bool:
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        return False
    folder = Path(next(iter(spec.submodule_search_locations)))
    return (folder / f"{name}.py").exists() or (folder / name / "__init__.py").exists()
