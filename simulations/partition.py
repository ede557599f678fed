"""Splitting one table into the clients of a simulation."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from pipeline.language.settings.simulation import SimulationConfig
from privacy.errors import ConfigError


def partition(frame: pd.DataFrame, config: SimulationConfig) -> Iterator[tuple[str, pd.DataFrame]]:
    """(client, its rows), ordered by name. Rows of values that no client claims are left out.

    Raises ConfigError for an unknown column, a value claimed twice, or fewer than two clients.
    """
    if config.partition_by is None:
        yield from _evenly(frame, config.clients)
        return
    if config.partition_by not in frame:
        raise ConfigError(
            f"simulation.partition_by: the data set has no column {config.partition_by}",
            remedy=f"Its columns: {', '.join(map(str, frame.columns))}.",
        )
    values = frame[config.partition_by].astype(str)
    groups = config.partitions or {client_name(value): (value,) for value in sorted(values.unique())}
    claimed = [value for members in groups.values() for value in members]
    if twice := sorted({value for value in claimed if claimed.count(value) > 1}):
        raise ConfigError(f"simulation.partitions: claimed twice: {', '.join(twice)}")
    if len(groups) < 2:
        raise ConfigError("simulation.partitions: at least two clients are needed")
    for name in sorted(groups):
        yield name, frame[values.isin(groups[name])].reset_index(drop=True)


def _evenly(frame: pd.DataFrame, clients: int) -> Iterator[tuple[str, pd.DataFrame]]:
    """Rows at random, the same for the same table: who gets which row is no secret in a simulation."""
    order = np.random.default_rng(0).permutation(len(frame))
    width = len(str(clients - 1))
    for number, rows in enumerate(np.array_split(order, clients)):
        yield f"client-{number:0{width}}", frame.iloc[np.sort(rows)].reset_index(drop=True)


def client_name(value: str) -> str:
    """A value as a client's name: lower case letters, digits and hyphens."""
    return "".join(c if c.isalnum() and c.isascii() else "-" for c in value.lower()).strip("-")[:60] or "unnamed"
