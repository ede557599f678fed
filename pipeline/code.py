"""What code a result depends on: the sources of a module and of every project module it imports, in one digest."""

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
    seen: dict[str, str] = {}
    waiting = [module]
    while waiting:
        name = waiting.pop()
        if name not in seen:
            seen[name], imports = _read(name)
            waiting.extend(imports)
    return hashlib.sha256(repr(sorted(seen.items())).encode()).hexdigest()


@lru_cache(maxsize=1024)
def _read(module: str) -> tuple[str, frozenset[str]]:
    """Digest of one module's source, and the project modules it names in its imports."""
    spec = find_spec(module)
    if spec is None or spec.origin is None:
        return "", frozenset()
    source = Path(spec.origin).read_bytes()
    imports: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            imports.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            imports.add(node.module)
            imports.update(f"{node.module}.{alias.name}" for alias in node.names if _is_module(node.module, alias.name))
    return hashlib.sha256(source).hexdigest(), frozenset(i for i in imports if i.partition(".")[0] in ROOMS)


@lru_cache(maxsize=1024)
def _is_module(package: str, name: str) -> bool:
    if package.partition(".")[0] not in ROOMS:
        return False
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        return False
    folder = Path(next(iter(spec.submodule_search_locations)))
    return (folder / f"{name}.py").exists() or (folder / name / "__init__.py").exists()
