"""Every example runs, and says something better than a guess."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

import sottovoce
from clients.sources.source import Source

EXAMPLES = Path(sottovoce.__file__).parent / "examples"


@pytest.mark.processes
@pytest.mark.parametrize(
    ("command", "metric", "least"),
    [
        (("regression.py",), "r2", 0.3),
        (("shapes.py",), "roc_auc", 0.9),
        (("words.py",), "accuracy", 0.9),
        (("digits.py", "4"), "accuracy", 0.4),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else None,
)
def test_a_script(command: tuple[str, ...], metric: str, least: float, tmp_path: Path) -> None:
    script, *more = command
    arguments = [sys.executable, str(EXAMPLES / script), str(tmp_path / "workspace"), *more]
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=300, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    found = re.search(rf"<run .*{metric} (-?[\d.]+) \+-", done.stdout)
    assert found, done.stdout
    assert float(found[1]) > least


@pytest.mark.processes
def test_a_model_of_one_s_own(tmp_path: Path) -> None:
    command = ["sottovoce", "simulate", str(EXAMPLES / "own_model.yaml"), "--workspace", str(tmp_path / "w"), "--json"]
    done = subprocess.run(
        [str(Path(sys.executable).parent / command[0]), *command[1:]],
        capture_output=True,
        text=True,
        timeout=300,
        cwd=tmp_path,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert '"event": "Report"' in done.stdout
    found = re.search(r'"roc_auc": (0\.\d+)', done.stdout)
    assert found
    assert float(found[1]) > 0.65


def test_a_source_of_one_s_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(EXAMPLES))
    source = Source.of({"kind": "callable", "function": "own_source:read", "key": ["patient"]})
    frame = source.read()
    assert list(source.persons(frame)["patient"]) == [1, 1, 2, 3]


def test_no_example_is_left_out() -> None:
    named = set(re.findall(r"\((\w+\.\w+)\)", (EXAMPLES / "README.md").read_text()))
    assert {path.name for path in EXAMPLES.iterdir() if path.suffix in (".py", ".yaml")} == named
