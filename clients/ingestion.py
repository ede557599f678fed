"""ingest: the contract's columns of the data source as an immutable Parquet snapshot.

Every record gets its place in [0, 1): a keyed hash of its whole source row. Its place decides its split (held-out
below `holdout`, training above) and nothing about any other record does, so that the two splits are disjoint under
add/remove and stay so in every later snapshot.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from clients.home import Home
from pipeline.contract import DataContract, Numeric
from pipeline.files import read_json, write_atomically
from pipeline.packing import Blobs
from pipeline.protocol import IngestReply, IngestRequest
from privacy.errors import ColumnMissing, ContractViolated, SourceMissing, TooFewRows

PLACE = "__place__"


@dataclass(frozen=True)
class Snapshot:
    """A snapshot on disk. `basis` names the columns that the places were computed from."""

    frame: pd.DataFrame
    basis: str


def ingest(home: Home, request: IngestRequest, blobs: Blobs) -> tuple[IngestReply, Blobs]:
    """Raises ForbiddenColumn, ContractRefused, SourceMissing, ColumnMissing, TooFewRows."""
    contract = request.contract
    home.permit_data(contract)
    source = read_source(home.policy.source)
    check_columns(source, contract)
    frame = _typed(source, contract)
    frame[PLACE] = _places(source, home.place_key)
    least = max(contract.min_rows, home.policy.min_rows)
    if len(frame) < least:
        raise TooFewRows(f"{len(frame)} rows, at least {least} are needed")
    frame = frame.sort_values(PLACE, kind="stable", ignore_index=True)
    snapshot = home.digest(
        pd.util.hash_pandas_object(frame, index=False).to_numpy().tobytes(), repr(list(frame)).encode()
    )
    folder = home.snapshot_folder(snapshot)
    if not (folder / "manifest.json").exists():
        folder.mkdir(parents=True, exist_ok=True)
        temporary = folder / ".data.parquet"
        frame.to_parquet(temporary, compression="zstd", index=False)
        temporary.rename(folder / "data.parquet")
        manifest = {"rows": len(frame), "columns": list(frame), "basis": _basis(source)}
        write_atomically(folder / "manifest.json", json.dumps(manifest).encode())
    return IngestReply(snapshot=snapshot), {}


def check_columns(source: pd.DataFrame, contract: DataContract) -> None:
    """Raise ColumnMissing unless the source has every column of the contract."""
    missing = [name for name in (*contract.columns, contract.label.column) if name not in source]
    if missing:
        raise ColumnMissing(
            f"the data source has no column {', '.join(missing)}",
            remedy="Add it to the source, or take it out of data.columns.",
            travels=True,
        )


def load_snapshot(home: Home, snapshot: str) -> Snapshot:
    """Raises SourceMissing when the snapshot is not here, ForbiddenColumn when the owner no longer allows it."""
    folder = home.snapshot_folder(snapshot)
    try:
        manifest = read_json(folder / "manifest.json")
        home.policy.permit_columns(manifest["columns"])
        return Snapshot(pd.read_parquet(folder / "data.parquet"), str(manifest["basis"]))
    except FileNotFoundError:
        raise SourceMissing("this client does not have that snapshot", travels=True) from None


def read_source(path: Path) -> pd.DataFrame:
    """A CSV (everything as text) or Parquet file. Raises SourceMissing, ContractViolated."""
    try:
        if path.suffix == ".parquet":
            return pd.read_parquet(path)
        return pd.read_csv(path, dtype=str, keep_default_na=False, skipinitialspace=True)
    except (OSError, ValueError) as error:
        if isinstance(error, OSError) and not path.is_file():
            raise SourceMissing(f"{path} cannot be read") from None
        raise ContractViolated(f"{path} is not a readable {path.suffix.lstrip('.') or 'CSV'} table") from None


def as_text(values: pd.Series) -> pd.Series:
    """Values as the names a contract can list: 3.0 as `3`, missing as the empty name."""
    if pd.api.types.is_float_dtype(values):
        whole = values.dropna().mod(1).eq(0).all()
        values = values.astype("Int64") if whole else values
    return values.astype("str").where(values.notna(), "")


def _typed(source: pd.DataFrame, contract: DataContract) -> pd.DataFrame:
    columns = {
        name: pd.to_numeric(source[name], errors="coerce").astype(np.float64)
        if isinstance(column, Numeric)
        else as_text(source[name])
        for name, column in contract.columns.items()
    }
    return pd.DataFrame({**columns, contract.label.column: as_text(source[contract.label.column])})


def _places(source: pd.DataFrame, key: bytes) -> npt.NDArray[np.float64]:
    """Each row's place in [0, 1): AES of a hash of the row. pandas hashes numbers without any key, and a place that
    anyone can compute would tell, through counts of intervals, who is in the data."""
    blocks = np.zeros((len(source), 2), dtype="<u8")
    blocks[:, 0] = pd.util.hash_pandas_object(source, index=False).to_numpy()
    cipher = Cipher(algorithms.AES(key), modes.ECB())  # noqa: S305  # one block a row: a pseudorandom function
    words = np.frombuffer(cipher.encryptor().update(blocks.tobytes()), dtype="<u8")[::2]
    return (words >> np.uint64(11)).astype(np.float64) * 2.0**-53


def _basis(source: pd.DataFrame) -> str:
    return hashlib.sha256(repr(["aes", *((name, str(source[name].dtype)) for name in source)]).encode()).hexdigest()[
        :16
    ]
