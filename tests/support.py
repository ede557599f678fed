"""A small federation for tests: a table nobody has seen, its configuration, and a grid that runs clients in-process."""

from __future__ import annotations

import atexit
import itertools
import json
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml
from flwr.app import Context, Error, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity

from clients.app import CLIENT_ERROR
from clients.app import app as client_app
from clients.home import Home
from pipeline.engine.progress import ClientExcluded, Event, StageFinished
from pipeline.host.environment import quiet_environment
from pipeline.language.config import Config
from pipeline.language.configfile import parse
from pipeline.language.protocol import Action
from pipeline.language.settings.simulation import SimulationConfig
from pipeline.lifecycle import WHOLE, Outcome, Part, run_lifecycle
from pipeline.store.workspace import Workspace
from simulations.homes import prepare_homes
from simulations.sources import MARK

WARDS = ("east", "north", "south", "west", "centre", "harbour")


def table(rows: int = 1800, seed: int = 0) -> pd.DataFrame:
    """Invented hospital stays: a label that age, ward habits and a lab value predict, with unknowns and duplicates."""
    draw = np.random.default_rng(seed)
    age = draw.integers(18, 95, rows)
    lab = draw.normal(5, 2, rows).clip(0, 12).round(1)
    unit = draw.choice(["medical", "surgical", "intensive"], rows, p=[0.5, 0.3, 0.2])
    risk = 0.05 * (age - 60) + 0.5 * (lab - 5) + np.where(unit == "intensive", 1.2, -0.2)
    died = draw.random(rows) < 1 / (1 + np.exp(-risk))
    return pd.DataFrame(
        {
            "ward": draw.choice(WARDS, rows),
            "age": age,
            "lab": np.where(draw.random(rows) < 0.05, -1, lab),
            "unit": unit,
            "shoe_size": draw.integers(36, 47, rows),
            "discharge": np.where(died, "morgue", "home"),
            "died": np.where(died, "yes", "no"),
        }
    )


def settings(dataset: Path, **changes: Any) -> dict[str, Any]:
    """A configuration tree for `table`, small enough for a test."""
    tree: dict[str, Any] = {
        "name": "stay",
        "privacy": {"unit": "record", "epsilon": 3.0, "delta": 1e-5},
        "federation": {"min_cohort": 4, "timeout": 60.0},
        "model": {"hidden": [8]},
        # so small a model under so much noise may be anything
        "registration": {"min_roc_auc": 0.0, "max_error": 10.0},
        "training": {"rounds": 3, "local_epochs": 2, "expected_batch": 64, "learning_rate": 0.5},
        "evaluation": {"bins": 10},
        "simulation": {"dataset": str(dataset), "partition_by": "ward", "lifetime_epsilon": 20.0, "workers": 2},
        "serving": {"poll_seconds": 0.2},
        "data": {
            "label": {"column": "died", "positive": ["yes"]},
            "min_rows": 50,
            "forbidden": {"discharge": "known only afterwards"},
            "columns": {
                "age": {"kind": "numeric", "low": 18, "high": 95},
                "lab": {"kind": "numeric", "low": 0, "high": 12, "unknown": [-1]},
                "unit": {"kind": "categorical", "categories": ["medical", "surgical", "intensive"]},
            },
        },
    }
    return change(tree, changes)


def ask(grid: LocalGrid, action: Action, content: RecordDict, client: int = 0) -> Message:
    """The reply of one client to one message."""
    node = sorted(grid.names)[client]
    (reply,) = grid.send_and_receive([Message(content, node, action.value)])
    return reply


def error(reply: Message) -> tuple[str, str]:
    """Code and message of an error reply."""
    assert reply.error.code == CLIENT_ERROR
    fields = json.loads(reply.error.reason or "")
    return fields["code"], fields["message"]


def change(tree: dict[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """`tree` with `a__b=c` for each change."""
    for path, value in changes.items():
        node = tree
        *parents, last = path.split("__")
        for name in parents:
            node = node.setdefault(name, {})
        node[last] = value
    return tree


def configured(dataset: Path, **changes: Any) -> Config:
    """`settings` as a configuration; `a__b=c` changes one."""
    return parse(Config, settings(dataset, **changes), "test.yaml")


def write_config(path: Path, dataset: Path, **changes: Any) -> Path:
    path.write_text(yaml.safe_dump(settings(dataset, **changes), sort_keys=False))
    return path


def write_table(folder: Path, **arguments: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "stays.csv"
    table(**arguments).to_csv(path, index=False)
    return path


Fault = Callable[[Message, Context], Message | None]
"""What happens to one message at one client instead of the app's own work; None: no reply at all."""


class LocalGrid(Grid):
    """Runs the real ClientApp in this process, one message after the other. `faults` go by (client, message type)."""

    def __init__(self, homes: Mapping[str, Path], app: ClientApp = client_app) -> None:
        quiet_environment()
        TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = 1, 1, 1
        self.run_info = Run.create_empty(1)
        self.app = app
        self.names = {100 + index: name for index, name in enumerate(sorted(homes))}
        self.contexts = {
            node: Context(1, node, {"home": str(homes[name])}, RecordDict(), {}) for node, name in self.names.items()
        }
        self.faults: dict[tuple[str, str], Fault] = {}
        self.sent: list[tuple[str, str]] = []
        self.replies: list[tuple[str, Message]] = []
        self._numbers = itertools.count(1)

    def set_run(self, run: Run) -> None:
        self.run_info = run

    @property
    def run(self) -> Run:
        return self.run_info

    def create_message(
        self, content: RecordDict, message_type: str, dst_node_id: int, group_id: str, ttl: float | None = None
    ) -> Message:
        return Message(content, dst_node_id, message_type, ttl=ttl, group_id=group_id)

    def get_node_ids(self) -> list[int]:
        return list(self.names)

    def push_messages(self, messages: Any) -> list[str]:
        raise NotImplementedError

    def pull_messages(self, message_ids: Any) -> list[Message]:
        raise NotImplementedError

    def send_and_receive(self, messages: Any, *, timeout: float | None = None) -> list[Message]:
        return [reply for _, reply in self.stream(list(messages), timeout or 60.0)]

    def stream(self, messages: Sequence[Message], timeout: float) -> Iterator[tuple[int, Message]]:
        for index, message in enumerate(messages):
            node, kind = message.metadata.dst_node_id, message.metadata.message_type
            name = self.names[node]
            self.sent.append((name, kind))
            fault = self.faults.get((name, kind))
            reply = (fault or self.app)(message, self.contexts[node])
            if reply is not None:
                self.replies.append((name, reply))
                yield index, reply

    def count(self, kind: str) -> int:
        return sum(sent == kind for _, sent in self.sent)


def fails(text: str = "boom") -> Fault:
    """The reply of an app that raised, as Flower makes it, data and all."""
    return lambda message, context: Message(Error(2, f"<class 'ValueError'>:<'{text}'>"), reply_to=message)


def homes_for(config: Config, folder: Path) -> dict[str, Path]:
    """Homes of the clients of a simulation. The same data set is divided once for all tests: that takes a process."""
    shape = config.simulation
    if shape and not (folder / MARK).exists() and Path(shape.dataset).exists():
        divided = _divided(shape.model_dump_json(exclude={"lifetime_epsilon"}), Path(shape.dataset).stat().st_mtime_ns)
        for file in (*divided.rglob("source/*"), divided / MARK):
            (folder / file.relative_to(divided)).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(file, folder / file.relative_to(divided))
    return prepare_homes(config, folder)


@lru_cache(maxsize=64)
def _divided(shape: str, changed: int) -> Path:
    """The folder of a data set that is divided so. changed: when the data set was."""
    simulation = json.loads(shape)
    folder = Path(tempfile.mkdtemp(prefix="sottovoce-divided-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    config = configured(Path(simulation["dataset"]))
    prepare_homes(config.model_copy(update={"simulation": SimulationConfig.model_validate(simulation)}), folder)
    return folder


class Killed(KeyboardInterrupt):
    """Stands for the end of the process; anything else is answered."""


class Federation:
    """A workspace, its clients, and the events of the last run."""

    parameters = 7 * 8 + 8 + 8 + 1

    def __init__(self, folder: Path, config: Config) -> None:
        self.config = config
        self.workspace = Workspace(folder, config.storage)
        self.homes = homes_for(config, self.workspace.clients)
        self.grid = LocalGrid(self.homes)
        self.events: list[Event] = []

    def run(self, config: Config | None = None) -> Outcome:
        outcome = self.work(WHOLE, config)
        assert outcome
        return outcome

    def work(self, part: Part, config: Config | None = None) -> Outcome | None:
        """A part of a run, as a process of its own would do it: nothing is kept but what is stored."""
        self.events.clear()
        self.grid.sent.clear()
        return run_lifecycle(config or self.config, self.grid, self.workspace, self.events.append, part=part)

    @property
    def executed(self) -> set[str]:
        return {event.stage for event in self.events if isinstance(event, StageFinished) and not event.cached}

    @property
    def excluded(self) -> dict[str, str]:
        return {event.client: event.code for event in self.events if isinstance(event, ClientExcluded)}

    def charges(self, client: str = "east") -> dict[str, int]:
        """Reservations in a client's ledger by purpose."""
        rows = [row.id.split("/")[1] for row in Home(self.homes[client]).ledger.rows() if row.kind == "reserve"]
        return {purpose: rows.count(purpose) for purpose in set(rows)}
