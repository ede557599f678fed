"""ingest: the contract's columns of the data source as an immutable Parquet snapshot.

Every record gets its place in [0, 1): a keyed digest of its whole source row, or of the key that says whose it is. Its
place decides its split (held-out below `holdout`, training above) and nothing about any other record does, so that the
two splits are disjoint under add/remove and stay so in every later snapshot. How many rows there are decides about
nothing here.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

import pandas as pd

from clients.home import Home
from clients.places import basis_of_places, places
from clients.sources.source import LEFT_OUT, Source
from pipeline.host.files import read_json, write_atomically
from pipeline.language.packing import Blobs
from pipeline.language.protocol import IngestReply, IngestRequest
from pipeline.learning.cells import texts
from pipeline.learning.contract import DataContract
from privacy.errors import ColumnMissing, ConfigError, SourceMissing

PLACE = "__place__"


@dataclass(frozen=True)
class Snapshot:
    """A snapshot on disk. `basis` names the columns that the places were computed from."""

    frame: pd.DataFrame
    basis: str


def ingest(home: Home, request: IngestRequest, blobs: Blobs) -> tuple[IngestReply, Blobs]:
    """Raises ForbiddenColumn, ContractRefused, ContractViolated, TooFewRows, SourceMissing, ColumnMissing."""
    contract = request.contract
    home.permit_data(contract, contract.holdout)
    home.policy.permit_rows(contract.min_rows)
    epoch = home.snapshots.refresh()
    source = home.policy.source.read()
    if LEFT_OUT in source.attrs:
        home.log(f"left out: {source.attrs[LEFT_OUT]}")
    if home.snapshots.refresh() != epoch:
        raise home.snapshots.outdated()
    check_columns(source, contract)
    frame = _typed(source, contract)
    persons = home.policy.source.persons(source)
    if without := len(source) - len(persons):
        home.log(f"{without} rows do not say whose they are, and are left out")
    frame = frame.loc[persons.index].reset_index(drop=True)
    frame[PLACE] = places(persons, home.place_key)
    frame = frame.sort_values(PLACE, kind="stable", ignore_index=True)
    snapshot = home.digest(epoch.encode(), _content(frame), repr(list(frame)).encode())
    folder = home.snapshots.folder(snapshot)
    if not (folder / "manifest.json").exists():
        folder.mkdir(parents=True, exist_ok=True)
        temporary = folder / ".data.parquet"
        frame.to_parquet(temporary, compression="zstd", index=False)
        temporary.rename(folder / "data.parquet")
        manifest = {"rows": len(frame), "columns": list(frame), "basis": basis_of_places(persons)}
        write_atomically(folder / "manifest.json", json.dumps(manifest).encode())
    home.snapshots.keep(snapshot, source)
    return IngestReply(snapshot=snapshot), {}


def check_columns(source: pd.DataFrame, contract: DataContract) -> None:
    """Raise ColumnMissing unless the source has every column of the contract."""
    missing = [name for name in (*contract.columns, contract.task.column) if name not in source]
    if missing:
        raise ColumnMissing(
            f"the data source has no column {', '.join(missing)}",
            remedy="Add it to the source, or take it out of data.columns.",
            travels=True,
        )


def check_forbidden(source: Source, names: Sequence[str], where: str) -> None:
    """Raise ConfigError for a prohibition that names no column: it was misspelt, and protects nothing.

    Raises SourceMissing, ContractViolated.
    """
    columns = source.columns() if names else []
    for name in names:
        if name not in columns:
            close = get_close_matches(name, columns, n=1)
            raise ConfigError(
                f"{where} names {name!r}, which is no column of the source",
                remedy=f"Did you mean {close[0]!r}?" if close else f"Its columns: {', '.join(columns)}.",
            )


def load_snapshot(home: Home, snapshot: str) -> Snapshot:
    """Raises SourceMissing when the snapshot is not here, SourceChanged when it is not of the source as it is now,
    ForbiddenColumn when the owner no longer allows it."""
    folder = home.snapshots.current(snapshot)
    try:
        manifest = read_json(folder / "manifest.json")
        home.policy.permit_columns(manifest["columns"])
        return Snapshot(pd.read_parquet(folder / "data.parquet"), str(manifest["basis"]))
    except FileNotFoundError:
        raise SourceMissing("this client does not have that snapshot", travels=True) from None


def basis_of_snapshot(folder: Path) -> str:
    """The columns that its places were computed from; nothing of the data is read."""
    return str(read_json(folder / "manifest.json")["basis"])


def _typed(source: pd.DataFrame, contract: DataContract) -> pd.DataFrame:
    columns: dict[str, object] = {name: column.typed(source[name]) for name, column in contract.columns.items()}
    columns[contract.task.column] = texts(source[contract.task.column])
    frame = pd.DataFrame(columns)
    words = {name: "str" for name in frame if not pd.api.types.is_numeric_dtype(frame[name].dtype)}
    return frame.astype(words)


def _content(frame: pd.DataFrame) -> bytes:
    return bytes(pd.util.hash_pandas_object(frame, index=False).to_numpy().tobytes())
