"""Tests that cannot fail are found by breaking the code: one line at a time, in what a promise rests on.

python -m tests.mutants [--every N] [--only FILE]     prints what survived; exits with 1 if anything did

Each mutant is one changed operator, constant, condition or statement in a copy of the tree; the tests of its file have
to fail on it. What survives is a missing test, or it is listed below with the reason why nothing can tell.
"""

from __future__ import annotations

import argparse
import ast
import copy
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]

TESTS: dict[str, tuple[str, ...]] = {
    "privacy/accounting.py": ("tests/privacy/test_plan.py", "tests/privacy/test_ledger.py", "privacy/accounting.py"),
    "privacy/plan.py": ("tests/privacy/test_plan.py", "tests/privacy/test_shares.py", "privacy/plan.py"),
    "privacy/population.py": ("tests/privacy/test_ledger.py",),
    "privacy/ledger.py": ("tests/privacy/test_ledger.py",),
    "privacy/shares.py": ("tests/privacy/test_shares.py", "privacy/shares.py"),
    "privacy/noise.py": ("tests/privacy/test_noise.py",),
    "privacy/dpsgd.py": ("tests/privacy/test_conformance.py", "tests/privacy/test_dpsgd.py"),
    "privacy/conformance.py": ("tests/privacy/test_path.py",),
    "privacy/audit.py": ("tests/privacy/test_audit.py", "privacy/audit.py"),
    "privacy/canaries.py": ("tests/privacy/test_audit.py",),
    "privacy/tags.py": ("tests/privacy/test_sums.py",),
    "privacy/masks.py": ("tests/privacy/test_sums.py",),
    "privacy/sums.py": ("tests/privacy/test_sums.py", "tests/privacy/test_shares.py"),
    "privacy/group.py": ("tests/privacy/test_group.py",),
    "privacy/quantise.py": ("tests/privacy/test_quantise.py", "tests/privacy/test_shares.py"),
    "pipeline/language/spending.py": ("tests/pipeline/language/test_spending.py", "tests/adversary/test_owner.py"),
    "clients/release.py": (
        "tests/clients/test_evaluation.py",
        "tests/clients/test_training.py",
        "tests/adversary/test_owner.py",
    ),
    "clients/training.py": ("tests/adversary/test_owner.py", "tests/clients/test_training.py"),
    "clients/evaluation.py": ("tests/clients/test_evaluation.py", "tests/adversary/test_owner.py"),
    "clients/validation.py": ("tests/clients/test_validation.py",),
    "clients/membership.py": ("tests/clients/test_membership.py", "tests/adversary/test_oracle.py"),
    "clients/execution.py": ("tests/clients/test_membership.py", "tests/adversary"),
    "clients/reveal.py": ("tests/adversary/test_quorum.py", "clients/reveal.py"),
    "clients/snapshots.py": ("tests/adversary/test_owner.py",),
    "clients/policy.py": ("tests/clients/test_policy.py", "clients/policy.py"),
    "clients/roster.py": ("tests/clients/test_membership.py", "tests/adversary/test_owner.py"),
}
"""Where a promise is kept, and what would notice."""

NOT_TOLD: dict[str, str] = {
    "_COARSE": "where a search begins; the fine grid has the last word",
    "cost(noise, coarse)": "a search's first steps; the fine grid has the last word",
    "margin": "how a search steps; its end is checked",
    "slope": "how a search steps; its end is checked",
    "low[0] > 0": "how a search steps; its end is checked",
    "0 < high[1] < low[1]": "how a search steps; its end is checked",
    "middle": "how a search steps; its end is checked",
    "_TOLERANCE": "how close a calibration comes from below; never above",
    "maxsize": "size of a cache",
    "_CHUNK": "what is handled at a time",
    "remedy": "wording",
    ":.1g": "wording",
    "1e-06": "keeps a division from zero",
    "setLevel": "a library's chatter",
}
"""Part of a changed line -> why no test can see the change."""

SWAPS: dict[type[ast.AST], type[ast.AST]] = {
    ast.Lt: ast.GtE,
    ast.LtE: ast.Gt,
    ast.Gt: ast.LtE,
    ast.GtE: ast.Lt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.And: ast.Or,
    ast.Or: ast.And,
}


def mutants(source: str) -> Iterator[tuple[int, str, str]]:
    """Line, what was changed in words, and the changed module."""
    tree = ast.parse(source)
    sites = [node for node in ast.walk(tree) if _changes(node)]
    for number, site in enumerate(sites):
        for change in _changes(site):
            changed = copy.deepcopy(tree)
            target = [node for node in ast.walk(changed) if _changes(node)][number]
            line = getattr(site, "lineno", 0)
            before = ast.unparse(site)
            change(target)
            after = ast.unparse(target)
            if before != after:
                yield line, f"{_short(before)} -> {_short(after)}", ast.unparse(ast.fix_missing_locations(changed))


def _short(text: str) -> str:
    return text.splitlines()[0][:90]


def _changes(node: ast.AST) -> list[object]:
    found: list[object] = []
    if isinstance(node, ast.Compare) and type(node.ops[0]) in SWAPS:
        found.append(lambda n: n.ops.__setitem__(0, SWAPS[type(n.ops[0])]()))
    if isinstance(node, ast.BinOp) and type(node.op) in SWAPS and not isinstance(node.left, ast.JoinedStr):
        found.append(lambda n: setattr(n, "op", SWAPS[type(n.op)]()))
    if isinstance(node, ast.BoolOp):
        found.append(lambda n: setattr(n, "op", SWAPS[type(n.op)]()))
    if isinstance(node, ast.If) and any(isinstance(part, ast.Raise) for part in node.body):
        found.append(lambda n: setattr(n, "test", ast.Constant(False)))
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call) and _guards(node.value):
        found.append(lambda n: setattr(n, "value", ast.Constant(None)))
    return found


def _guards(call: ast.Call) -> bool:
    name = ast.unparse(call.func).rpartition(".")[2]
    return name.startswith(("permit", "refuse", "reserve", "check", "afford", "show_ledger", "commit", "fix_", "keep"))


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--every", type=int, default=1, help="Try one mutant in so many.")
    parser.add_argument("--only", default="", help="Files whose path has this in it.")
    asked = parser.parse_args()
    survived, tried = [], 0
    with tempfile.TemporaryDirectory() as folder:
        copied = Path(folder, "tree")
        ignored = shutil.ignore_patterns(".git", ".venv*", "*workspace*", ".mypy_cache", ".pytest_cache", ".ruff_cache")
        shutil.copytree(ROOT, copied, ignore=ignored)
        for name, tests in TESTS.items():
            if asked.only not in name:
                continue
            source = (copied / name).read_text()
            for line, what, changed in list(mutants(source))[:: asked.every]:
                if any(part in source.splitlines()[line - 1] or part in what for part in NOT_TOLD):
                    continue
                (copied / name).write_text(changed)
                begun = time.monotonic()
                command = [sys.executable, "-m", "pytest", "-x", "-q", "--no-cov", "-p", "no:cacheprovider", *tests]
                done = subprocess.run(command, cwd=copied, capture_output=True, check=False, timeout=900)
                tried += 1
                if done.returncode == 0:
                    survived.append(f"{name}:{line}  {what}")
                state = "SURVIVED" if done.returncode == 0 else "killed"
                print(f"{state:9} {time.monotonic() - begun:5.1f} s  {name}:{line}  {what}", flush=True)  # noqa: T201
            (copied / name).write_text(source)
    print(f"\n{tried} mutants, {len(survived)} survived", *survived, sep="\n  ")  # noqa: T201
    return 1 if survived else 0


if __name__ == "__main__":
    sys.exit(main())
