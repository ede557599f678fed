"""sottovoce new: a project to begin with, whose configuration a person completes."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from privacy.errors import ConfigError

_QUANTITIES = {
    *("age", "amount", "cost", "count", "height", "lab", "number", "price", "rate", "score", "value", "weight"),
}
_SPECIAL = {"false", "no", "null", "off", "on", "true", "yes"}
"""Names that YAML takes for something else."""
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")

_CONFIG = """\
# {name}: what stands below is proposed from the names of the columns, and from nothing else of the data.
# Everything that says EDIT is for people who know the field. Then: sottovoce simulate {name}.yaml
name: {name}
model: {{kind: "model.py:Net", width: 32}}       # yours, beside this file; or {{kind: linear}}, {{kind: mlp}}
privacy: {{unit: record, epsilon: 3.0}}
data:
  task: {task}
  columns:
{columns}
training: {{rounds: 5, local_epochs: 2, expected_batch: 256, learning_rate: 0.3}}
simulation: {{dataset: {dataset}, clients: 5}}
"""

_MODEL = '''\
"""The model of {name}."""

from __future__ import annotations

import torch
from torch import nn

from pipeline.learning.models.model import Model
from pipeline.learning.shape import Shape


class Net(Model):
    """Its settings are those of `model` in {name}.yaml."""

    kind: str
    width: int = 32

    def module(self, shape: Shape, outputs: int) -> nn.Module:
        """float32 features [rows, shape.width] to [rows, outputs]. What it says of a row depends on that row alone."""
        return nn.Sequential(nn.Linear(shape.width, self.width), nn.ReLU(), nn.Linear(self.width, outputs))
'''

_TEST = '''\
"""Is the configuration sound, and can its model be trained record by record, and served?"""

from pathlib import Path

from pipeline.language.configfile import load_config
from pipeline.stages.design import design


def test_the_model_can_be_trained_and_served() -> None:
    config = load_config(Path(__file__).parent / "{name}.yaml")
    assert design(config.data, config.model, config.training).parameters > 0
'''

_README = """\
# {name}

```
sottovoce config check {name}.yaml      what is wrong with the configuration
python -m pytest                        can the model be trained and served
sottovoce budget plan {name}.yaml       what a run will spend, before anything is spent
sottovoce simulate {name}.yaml          a whole federation on this machine
sottovoce serve                         the champion at http://127.0.0.1:8000
```

The bounds and names in `{name}.yaml` are proposals. Complete them from what people know, not from what the data
hold: a bound that was looked up in the data tells of it.
"""


def new(
    name: Annotated[str, typer.Argument(help="Name of the project, and of its model.")],
    table: Annotated[
        Path | None, typer.Option("--from", metavar="TABLE", help="CSV or Parquet file: its columns are proposed.")
    ] = None,
    target: Annotated[str | None, typer.Option(help="Column to predict; default: the last one.")] = None,
) -> None:
    """Write a project to begin with: configuration, a model of your own with its test, README."""
    from clients.sources.source import Source, as_tree

    if not _NAME.fullmatch(name):
        raise ConfigError(f"{name!r} is no name of a model", remedy="Lower case letters, digits and hyphens.")
    folder = Path(name)
    if folder.exists():
        raise ConfigError(f"{folder} is there already", remedy="Choose another name.")
    names = Source.of(as_tree(table)).columns() if table else ["INJURY_SEVERITY", "AGE", "SEX"]
    outcome = target or (names[-1] if table else names[0])
    if outcome not in names:
        raise ConfigError(f"the table has no column {outcome}", remedy=f"Its columns: {', '.join(names)}.")
    files = dict(_files(name, [column for column in names if column != outcome], outcome, table))
    folder.mkdir()
    for file, content in files.items():
        (folder / file).write_text(content, encoding="utf-8")
    typer.echo(f"  {folder}/    {', '.join(files)}")
    typer.echo(
        f"  next       edit {folder / name}.yaml where it says EDIT, then: sottovoce simulate {folder / name}.yaml"
    )


def _files(name: str, columns: list[str], outcome: str, table: Path | None) -> Iterator[tuple[str, str]]:
    if not columns:
        raise ConfigError("the table has no column beside the one to predict")
    values, note = ("[Fatal_Injury]", "")
    if table:  # any other value is told, and taken for neither
        values, note = '["yes"], negative: ["no"]', "   # EDIT: the values that count as yes, and as no"
    task = f"{{kind: binary, column: {_quoted(outcome)}, positive: {values}}}{note}"
    proposed = "\n".join(f"    {_quoted(column)}: {_proposed(column, table is None)}" for column in columns)
    dataset = _quoted(str(table.absolute())) if table else "fars"
    yield f"{name}.yaml", _CONFIG.format(name=name, task=task, columns=proposed, dataset=dataset)
    yield "model.py", _MODEL.format(name=name)
    yield "test_model.py", _TEST.format(name=name)
    yield "README.md", _README.format(name=name)


def _proposed(column: str, known: bool) -> str:
    """By its name alone: nothing of the data is looked at."""
    if known:
        return {"AGE": "{kind: numeric, low: 0, high: 97, unknown: [99]}"}.get(column, "{kind: hashed, buckets: 8}")
    words = set(re.split(r"[^a-z]+", column.lower()))
    if words & _QUANTITIES:
        return "{kind: numeric, low: 0, high: 100}   # EDIT: bounds"
    if words & {"date", "time", "day", "admitted", "at"}:
        return "{kind: time, earliest: 2000-01-01, latest: 2030-01-01, zone: UTC}   # EDIT: bounds, zone"
    if words & {"note", "text", "comment", "description", "report"}:
        return "{kind: text, buckets: 256}"
    return "{kind: hashed, buckets: 64}   # EDIT: numeric with its bounds, or categorical with its names"


def _quoted(text: str) -> str:
    """As YAML reads it."""
    plain = re.fullmatch(r"[A-Za-z_][\w-]*", text) and text.lower() not in _SPECIAL
    return text if plain else json.dumps(text)


def register(app: typer.Typer) -> None:
    """Add this room's command."""
    app.command()(new)
