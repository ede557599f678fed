"""From Python, and in a notebook: the same run as `sottovoce simulate`, and what it made as values to look at."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.language.config import Config
from pipeline.language.configfile import parse, read_yaml, with_own_code
from pipeline.learning.contract import DataContract
from pipeline.reporting.page.page import leave_page
from pipeline.reporting.report import Report
from pipeline.store.registry import Registered, Registry
from pipeline.store.workspace import DEFAULT, Workspace
from privacy.errors import ConfigError, NotFound

if TYPE_CHECKING:
    import pandas as pd

    from pipeline.lifecycle import Outcome
    from server.serving.version import ServedModel


@dataclass(frozen=True)
class Model:
    """One version, ready to predict."""

    registered: Registered

    def predict(self, frame: pd.DataFrame) -> pd.DataFrame:
        """What it says of each row, under the index of `frame`. Columns that it does not use are left aside.

        Raises RowsRefused naming the row and the column; VersionRefused when a file of it is missing or altered.
        """
        return self._asked(frame, explained=False)

    def explain(self, frame: pd.DataFrame) -> pd.DataFrame:
        """What each column adds to the outputs of each row, of an additive version; they add up to the outputs.

        Raises as `predict` does; RowsRefused for a version whose columns do not add up.
        """
        return self._asked(frame, explained=True)

    def _asked(self, frame: pd.DataFrame, *, explained: bool) -> pd.DataFrame:
        import pandas as pd

        served = self._served
        missing = [name for name in served.spec.columns if name not in frame]
        rows = [
            {str(name): _plain(value) for name, value in row.items()}
            for row in frame[[name for name in served.spec.columns if name not in missing]].to_dict("records")
        ]
        said = served.said(rows, explained=explained) if rows else None
        answers = (said.added if explained else said.answers) or [] if said else []
        return pd.DataFrame([_flat(answer) for answer in answers], index=frame.index)

    @property
    def name(self) -> str:
        return self.registered.name

    @property
    def version(self) -> int:
        return self.registered.version

    @property
    def privacy(self) -> dict[str, Any]:
        """What is promised to every record or client."""
        told: dict[str, Any] = json.loads(self.registered.read("privacy.json"))
        return told

    @property
    def _served(self) -> ServedModel:
        from server.serving.version import ServedModel

        return ServedModel.load(self.registered)

    def __repr__(self) -> str:
        return f"<model {self.name} v{self.version}: predict(frame)>"


@dataclass(frozen=True)
class Run:
    """What a run made."""

    outcome: Outcome
    report: Report
    model: Model

    @property
    def metrics(self) -> dict[str, float]:
        """Every metric of the held-out rows; the headline is the first of `report.metrics`."""
        return self.outcome.evaluation.metrics

    @property
    def errors(self) -> dict[str, float]:
        """One standard error of each metric: of sampling and of privacy noise."""
        return self.outcome.evaluation.errors

    @property
    def curves(self) -> pd.DataFrame:
        """What lies behind the metrics, by threshold, class or bin."""
        import numpy as np
        import pandas as pd

        evaluation = self.outcome.evaluation
        return pd.DataFrame(evaluation.question.curves(np.array(evaluation.counts, dtype=np.int64)))

    @property
    def budget(self) -> pd.DataFrame:
        """Epsilon that each client was charged in this run, and in its lifetime; NaN: infinite, or not known."""
        import pandas as pd

        rows = {client: spent.model_dump() for client, spent in self.report.epsilon.items()}
        return pd.DataFrame.from_dict(rows, orient="index").astype(float).rename_axis("client")

    def __repr__(self) -> str:
        headline = next(iter(self.report.metrics))
        return (
            f"<run {self.report.run}: {self.model.name} v{self.model.version}, {headline} "
            f"{self.metrics[headline]:.3f} +- {self.errors[headline]:.2g}, {self.report.privacy.text}>"
        )


def simulate(
    what: str | Path | Config | Mapping[str, Any] | pd.DataFrame,
    contract: DataContract | Mapping[str, Any] | None = None,
    *,
    workspace: str | Path = DEFAULT,
    **changes: Any,
) -> Run:
    """Run a whole federation on this machine, and leave no process behind.

    what: a configuration (its file, a Config, or the tree of one); or a table, with the `contract` of its columns.
    changes: sections or settings that replace those of the configuration: `privacy={"epsilon": 3}`.

    What did not change since an earlier run in the workspace is not run again and not charged again.

    Raises ConfigError, and whatever SottovoceError the failing stage raised.
    """
    from pipeline.host.environment import quiet_environment

    quiet_environment()
    from pipeline.engine.cluster import ray_engine
    from pipeline.reporting.console import showing
    from simulations.homes import prepare_homes
    from simulations.simulate import simulate as run

    root = Path(workspace)
    config = _config(what, contract, changes, root)
    space = Workspace(root, config.storage)
    with space.locked():
        prepare_homes(config, space.clients)
        with ray_engine(space.scratch), showing(as_json=False) as progress:
            outcome = run(config, space, progress)
        if outcome is None:
            raise ConfigError("only a part of the run was asked for")
        registry = Registry(space.registry_url, space.models)
        made = _version(registry, outcome.version.name, str(outcome.version.version))
        return Run(outcome, Report.of(outcome, space, leave_page(space, outcome.run)), Model(made))


def load(name: str, *, workspace: str | Path = DEFAULT) -> Model:
    """A version by name: `crash-fatality@champion`, which is also meant by the name alone, or `crash-fatality@3`.

    Raises NotFound.
    """
    model, _, version = name.partition("@")
    space = Workspace.existing(Path(workspace))
    return Model(_version(Registry(space.registry_url, space.models), model, version or "champion"))


def models(*, workspace: str | Path = DEFAULT) -> pd.DataFrame:
    """All registered versions, newest first: their metrics, and which is champion. Raises NotFound."""
    import pandas as pd

    space = Workspace.existing(Path(workspace))
    registry = Registry(space.registry_url, space.models)
    rows = []
    for name in registry.names():
        champion = registry.champion(name)
        rows += [
            {
                "name": name,
                "version": version.version,
                "champion": champion is not None and champion.version == version.version,
                **version.metrics,
            }
            for version in registry.versions(name)
        ]
    return pd.DataFrame(rows, columns=None if rows else ["name", "version", "champion"])


def _version(registry: Registry, name: str, version: str) -> Registered:
    if version == "champion":
        found = registry.champion(name)
    else:
        found = next((one for one in registry.versions(name) if str(one.version) == version), None)
    if found is None:
        known = ", ".join(registry.names()) or "none"
        raise NotFound(f"there is no version {version} of {name}", remedy=f"Models in this workspace: {known}.")
    return found


def _config(what: Any, contract: Any, changes: Mapping[str, Any], workspace: Path) -> Config:
    import pandas as pd

    folder, told = Path(), "the configuration"
    if isinstance(what, pd.DataFrame):
        tree = _of_table(what, contract, workspace)
    elif contract is not None:
        raise ConfigError("a contract goes with a table", remedy="A configuration has one: change it by data={...}.")
    elif isinstance(what, Config):
        tree = what.model_dump(mode="json")
    elif isinstance(what, Mapping):
        tree = dict(what)
    else:
        tree, folder, told = read_yaml(Path(what)), Path(what).parent, Path(what).name
    return parse(Config, with_own_code(_merged(tree, changes), folder), told)


def _of_table(table: pd.DataFrame, contract: Any, workspace: Path) -> dict[str, Any]:
    """A configuration of a table, which is kept in the workspace: the run's source has to be there when it goes on."""
    if contract is None:
        raise ConfigError("a table needs its contract", remedy="simulate(table, {'task': ..., 'columns': ...}, ...)")
    path = workspace / "table.parquet"
    workspace.mkdir(parents=True, exist_ok=True)
    table.to_parquet(path, index=False)
    data = contract.model_dump(mode="json") if isinstance(contract, DataContract) else dict(contract)
    return {"name": "model", "data": data, "simulation": {"dataset": str(path.absolute())}}


def _merged(tree: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """`changes` over `tree`, section by section."""
    merged = dict(tree)
    for name, value in changes.items():
        below = merged.get(name)
        both = isinstance(below, Mapping) and isinstance(value, Mapping)
        merged[name] = _merged(below, value) if both else value  # type: ignore[arg-type]
    return merged


def _plain(value: Any) -> Any:
    """A cell as a request has it: numbers of Python's own, and None where there is nothing."""
    import base64

    import pandas as pd

    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if value is None or (pd.api.types.is_scalar(value) and pd.isna(value)):
        return None
    if isinstance(value, pd.Timestamp):
        return value.isoformat()
    return value.item() if hasattr(value, "item") else value


def _flat(answer: Mapping[str, Any]) -> dict[str, Any]:
    """One column a number: `probabilities` of three classes are three columns."""
    flat: dict[str, Any] = {}
    for name, value in answer.items():
        if isinstance(value, Mapping):
            flat |= {f"{name}[{key}]": part for key, part in value.items()}
        elif isinstance(value, list):
            flat |= {f"{name}[{key}]": part for key, part in enumerate(value)}
        else:
            flat[name] = value
    return flat
