"""Splitting one table into the clients of a simulation."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import numpy as np
import pandas as pd

from pipeline.language.settings.simulation import SimulationConfig
from pipeline.learning.cells import text_of, texts
from privacy.errors import ConfigError

TOLD = 20
"""Values that are told, at most."""


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
    values = pd.Series(texts(frame[config.partition_by]), index=frame.index)
    if without := int((values == "").sum()):
        raise ConfigError(
            f"simulation.partition_by: {without} rows say nothing in {config.partition_by}",
            remedy="Complete that column, or take those rows out.",
        )
    declared = {name: tuple(map(text_of, members)) for name, members in (config.partitions or {}).items()}
    groups = declared or _named(sorted(values.unique()))
    claimed = [value for members in groups.values() for value in members]
    if twice := sorted({value for value in claimed if claimed.count(value) > 1}):
        raise ConfigError(f"simulation.partitions: claimed twice: {', '.join(twice)}")
    if len(groups) < 2:
        raise ConfigError("simulation.partitions: at least two clients are needed")
    if unknown := sorted(set(claimed) - set(values)):
        raise ConfigError(
            f"simulation.partitions: no row has {', '.join(unknown)} in {config.partition_by}",
            remedy=f"What occurs there: {', '.join(sorted(values.unique())[:TOLD])}.",
        )
    for name in sorted(groups):
        yield name, frame[values.isin(groups[name])].reset_index(drop=True)


def _evenly(frame: pd.DataFrame, clients: int) -> Iterator[tuple[str, pd.DataFrame]]:
    """Rows at random, the same for the same table: who gets which row is no secret in a simulation."""
    order = np.random.default_rng(0).permutation(len(frame))
    width = len(str(clients - 1))
    for number, rows in enumerate(np.array_split(order, clients)):
        yield f"client-{number:0{width}}", frame.iloc[np.sort(rows)].reset_index(drop=True)


def _named(values: list[str]) -> dict[str, tuple[str, ...]]:
    """A client for each value. Where two would have one name, each carries a digest of its value: none is lost."""
    plain = [client_name(value) for value in values]
    return {
        name if plain.count(name) == 1 else f"{name[:50]}-{hashlib.sha256(value.encode()).hexdigest()[:8]}": (value,)
        for name, value in zip(plain, values, strict=True)
    }


def client_name(value: str) -> str:
    """A value as a client's name: lower case letters, digits and hyphens."""
    return "".join(c if c.isalnum() and c.isascii() else "-" for c in value.lower()).strip("-")[:60] or "unnamed"
