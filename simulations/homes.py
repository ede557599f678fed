"""The homes of simulated clients: made once per workspace, with real keys, real policies and real ledgers.

Their data is written only when the data set or its partition changed, so that an unchanged simulation finds every
client's source unchanged; their keys and ledgers are never touched.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from pathlib import Path

from clients.home import Home
from clients.policy import ClientPolicy, declared
from clients.sources.parquet import Parquet
from pipeline.host.files import write_atomically
from pipeline.kinds import kinds_in
from pipeline.language.config import Config
from pipeline.language.settings.simulation import SimulationConfig
from privacy.errors import ConfigError
from privacy.masks import DEFAULT_COHORT
from simulations.datasets import dataset_path
from simulations.sources import MARK, source_of, write_sources


def prepare_homes(config: Config, folder: Path) -> dict[str, Path]:
    """Client name -> home, ready for the run. Raises ConfigError, SourceMissing."""
    simulation = config.simulation
    if simulation is None:
        raise ConfigError(
            "the configuration has no section `simulation`", remedy="Name a data set: simulation.dataset."
        )
    identity = _identity(simulation)
    mark = folder / MARK
    rows: dict[str, tuple[int, int]]
    if mark.exists() and (known := json.loads(mark.read_text()))["identity"] == identity and "rows" in known:
        rows = known["rows"]
    else:
        rows = write_sources(simulation, folder)
        write_atomically(mark, json.dumps({"identity": identity, "rows": rows}).encode())
    _enough(config, len(rows))
    policies = {
        name: policy_of(config, name, source_of(folder, name), count, len(rows)) for name, count in rows.items()
    }
    homes = {name: _prepare(folder / name, policy) for name, policy in policies.items()}
    _introduce(homes)
    return homes


def _enough(config: Config, clients: int) -> None:
    """Raise ConfigError for a run that would wait for clients that are not there: in a simulation none come later."""
    for setting in ("min_cohort", "expected_clients"):
        wanted = getattr(config.federation, setting)
        if wanted is not None and clients < wanted:
            raise ConfigError(
                f"federation.{setting} is {wanted}, and the data set is divided among {clients} clients",
                remedy="Lower it, or divide the data set further: simulation.clients, simulation.partition_by.",
            )


def policy_of(config: Config, name: str, source: Path, size_of: tuple[int, int], clients: int) -> ClientPolicy:
    """The policy of a simulated client: it grants what the configuration asks for, and demands all of that.

    size_of: rows and persons of its source.
    """
    rows, persons = size_of
    simulation, encryption = config.simulation, config.encryption
    lifetime = simulation.lifetime_epsilon if simulation else math.inf
    encrypted = encryption.scheme != "none"
    masks = clients <= DEFAULT_COHORT if encryption.masks is None else encryption.masks
    size = declared(rows)
    delta = 1e-5 if config.privacy == "none" else max(1e-5, config.privacy.delta)
    return ClientPolicy(
        name=name,
        source=Parquet(path=source, key=simulation.key if simulation else ()),
        rows=size,
        subjects=declared(persons),
        lifetime_epsilon=lifetime,
        lifetime_delta=min(delta, 0.9 / size),
        run_epsilon=math.inf,  # one owner: the lifetime's is enough
        units=("record", "subject", "client", *(("none",) if math.isinf(lifetime) else ())),
        min_cohort=config.federation.min_cohort,
        min_rows=config.data.min_rows,
        allowed_kinds=tuple(sorted({kind.kind for kind in kinds_in(config) if ":" in kind.kind})),
        require_encryption=encrypted,
        require_masks=encrypted and masks,
    )


def told_policy(homes: Mapping[str, Path]) -> str:
    """What the simulated clients allow, in a line: what an owner would have decided."""
    policies = [Home(home).policy for home in homes.values()]
    one, rows = policies[0], sorted(policy.rows for policy in policies)
    demands = [
        *(["encryption"] if one.require_encryption else []),
        *(["masks"] if one.require_masks else []),
        *(["known clients only"] if one.known_clients_only else []),
    ]
    return (
        f"each simulated client declares {rows[0]:,} to {rows[-1]:,} rows, allows epsilon {one.lifetime_epsilon:g} in "
        f"its lifetime and sums of at least {one.min_cohort} clients, counts on {one.colluders} colluding, and demands "
        f"{', '.join(demands) or 'nothing more'}"
    )


def _prepare(root: Path, policy: ClientPolicy) -> Path:
    if not (root / "policy.yaml").exists():
        Home.create(root, policy)
    elif Home.written_policy(root) != policy:
        Home.write_policy(root, policy)
    return root


def _introduce(homes: Mapping[str, Path]) -> None:
    """Every client knows every other one's keys, as if their owners had compared fingerprints."""
    clients = {name: Home(root) for name, root in homes.items()}
    fingerprints = {name: home.identity.public.fingerprint for name, home in clients.items()}
    for home in clients.values():
        home.known_clients.pin(fingerprints)


def _identity(simulation: SimulationConfig) -> str:
    state = dataset_path(simulation.dataset).stat()
    shape = simulation.model_dump_json(include={"dataset", "partition_by", "partitions", "clients", "key"})
    return hashlib.sha256(f"{shape} {state.st_size} {state.st_mtime_ns}".encode()).hexdigest()
