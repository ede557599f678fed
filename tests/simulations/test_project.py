"""A new project is sound as it is written, and says nothing of the data but the names of its columns."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

import sottovoce
from pipeline.language.configfile import load_config
from tests.support import write_table


def new(folder: Path, *arguments: str) -> str:
    before = Path.cwd()
    os.chdir(folder)
    try:
        made = CliRunner().invoke(sottovoce.app, ["new", *arguments], catch_exceptions=False)
    finally:
        os.chdir(before)
    return made.output


@pytest.fixture(autouse=True)
def _nothing_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOTTOVOCE_OWN_CODE", "")
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.delitem(sys.modules, "model", raising=False)


@pytest.mark.processes
def test_a_project_is_checked_and_its_own_test_passes(tmp_path: Path) -> None:
    table = write_table(tmp_path / "data", rows=900)
    told = new(tmp_path, "stays", "--from", str(table), "--target", "died")
    assert "edit stays/stays.yaml where it says EDIT" in told
    text = (tmp_path / "stays" / "stays.yaml").read_text()
    values = {cell for line in table.read_text().splitlines()[1:] for cell in line.split(",") if len(cell) > 3}
    assert not any(cell in text for cell in values), "names of columns, and nothing that stands in them"
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path / "stays")],
        capture_output=True,
        text=True,
        cwd=tmp_path / "stays",
        check=False,
    )
    assert done.returncode == 0, done.stdout


def test_without_a_table_it_is_about_the_crash_registries(tmp_path: Path) -> None:
    new(tmp_path, "first")
    config = load_config(tmp_path / "first" / "first.yaml")
    assert config.model.kind == "model:Net"
    assert config.data.task.column == "INJURY_SEVERITY"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("Bad Name",), "no name of a model"),
        (("there",), "is there already"),
        (("p", "--from", "absent.csv"), "absent.csv cannot be read"),
        (("p", "--from", "table.csv", "--target", "dead"), "no column dead"),
    ],
)
def test_what_cannot_be_is_refused_and_nothing_is_written(
    tmp_path: Path, arguments: tuple[str, ...], told: str
) -> None:
    from privacy.errors import SottovoceError

    (tmp_path / "there").mkdir()
    (tmp_path / "table.csv").write_text("a,b\n1,2\n")
    with pytest.raises(SottovoceError, match=told):
        new(tmp_path, *arguments)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["table.csv", "there"]
