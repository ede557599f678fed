"""The homes of simulated clients: made once per workspace, with real keys, real policies and real ledgers.

Their data is written only when the data set or its partition changed, so that an unchanged simulation finds every
client's source unchanged; their keys and ledgers are never touched.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

from clients.home import Home
from clients.policy import ClientPolicy
from pipeline.config import Config, SimulationConfig
from pipeline.files import write_atomically
from privacy.errors import ConfigError
from simulations.datasets import dataset_path

MARK = "dataset.json"


def prepare_homes(config: Config, folder: Path) -> dict[str, Path]:
    """Client name -> home, ready for the run. Raises ConfigError, SourceMissing."""
    simulation = config.simulation
    if simulation is None:
        raise ConfigError(
            "the configuration has no section `simulation`", remedy="Name a data set: simulation.dataset."
        )
    identity = _identity(simulation)
    mark = folder / MARK
    names: list[str]
    if mark.exists() and (known := json.loads(mark.read_text()))["identity"] == identity:
        names = known["clients"]
    else:
        # In a process of its own: a large table would stay in this one's memory for the whole run.
        with ProcessPoolExecutor(max_workers=1, mp_context=get_context("spawn")) as aside:
            names = aside.submit(_write_sources, simulation, folder).result()
        write_atomically(mark, json.dumps({"identity": identity, "clients": names}).encode())
    homes = {name: _prepare(folder, name, config, simulation) for name in names}
    _introduce(homes)
    return homes


def _write_sources(simulation: SimulationConfig, folder: Path) -> list[str]:
    """Every client's part of the data set as its source file, replaced only when it differs; the clients' names."""
    from simulations.datasets import load_dataset
    from simulations.partition import partition

    (folder / MARK).unlink(missing_ok=True)
    names = []
    for name, frame in partition(load_dataset(simulation.dataset), simulation):
        source = _source(folder, name)
        source.parent.mkdir(parents=True, exist_ok=True)
        temporary = source.with_suffix(".new")
        frame.to_parquet(temporary, compression="zstd", index=False)
        if not source.exists() or source.read_bytes() != temporary.read_bytes():
            temporary.replace(source)
        else:
            temporary.unlink()
        names.append(name)
    return names


def _prepare(folder: Path, name: str, config: Config, simulation: SimulationConfig) -> Path:
    root = folder / name
    policy = ClientPolicy(
        name=name,
        source=_source(folder, name),
        lifetime_epsilon=simulation.lifetime_epsilon,
        min_cohort=config.federation.min_cohort,
        min_rows=config.data.min_rows,
    )
    if not (root / "policy.yaml").exists():
        Home.create(root, policy)
    elif Home(root).policy != policy:
        Home.write_policy(root, policy)
    return root


def _introduce(homes: Mapping[str, Path]) -> None:
    """Every client knows every other one's keys, as if their owners had compared fingerprints."""
    clients = {name: Home(root) for name, root in homes.items()}
    fingerprints = {name: home.identity.public.fingerprint for name, home in clients.items()}
    for home in clients.values():
        home.known_clients.pin(fingerprints)


def _source(folder: Path, name: str) -> Path:
    return folder / name / "source" / "data.parquet"


def _identity(simulation: SimulationConfig) -> str:
    state = dataset_path(simulation.dataset).stat()
    shape = simulation.model_dump_json(include={"dataset", "partition_by", "partitions", "clients"})
    return hashlib.sha256(f"{shape} {state.st_size} {state.st_mtime_ns}".encode()).hexdigest()
