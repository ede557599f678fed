"""Every simulated client's part of the data set, as the source file in its home.

It is written by a process of its own: a large table would stay in the run's memory for as long as that lasts.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from pipeline.language.settings.simulation import SimulationConfig
from privacy.errors import ConfigError, SottovoceError, coded, named

MARK = "dataset.json"
"""Says of which data set the sources are."""


def source_of(folder: Path, name: str) -> Path:
    """A client's source file; folder: of all homes."""
    return folder / name / "source" / "data.parquet"


def write_sources(simulation: SimulationConfig, folder: Path) -> dict[str, tuple[int, int]]:
    """Rows and persons by client. Raises ConfigError, SourceMissing."""
    asked = json.dumps({"simulation": simulation.model_dump(mode="json"), "folder": str(folder.absolute())})
    # Not by multiprocessing, which runs the script of whoever calls once more.
    done = subprocess.run(
        [sys.executable, "-P", "-m", __name__], input=asked, capture_output=True, text=True, check=False
    )
    told = json.loads(done.stdout.splitlines()[-1]) if done.stdout.strip() else {}
    if "rows" in told:
        return {str(name): (int(rows), int(persons)) for name, (rows, persons) in told["rows"].items()}
    if "code" in told:
        raise coded(told["code"], told["cause"], told["remedy"])
    raise SottovoceError(f"the data set could not be divided: {(done.stderr.splitlines() or ['no word'])[-1]}")


def _write(simulation: SimulationConfig, folder: Path) -> dict[str, tuple[int, int]]:
    """A file is replaced only when it differs."""
    from clients.sources.parquet import Parquet
    from simulations.datasets import load_dataset
    from simulations.partition import partition

    (folder / MARK).unlink(missing_ok=True)
    rows = {}
    for name, frame in partition(load_dataset(simulation.dataset), simulation):
        source = source_of(folder, name)
        source.parent.mkdir(parents=True, exist_ok=True)
        temporary = source.with_suffix(".new")
        frame.to_parquet(temporary, compression="zstd", index=False)
        if not source.exists() or source.read_bytes() != temporary.read_bytes():
            temporary.replace(source)
        else:
            temporary.unlink()
        if missing := [column for column in simulation.key if column not in frame]:
            raise ConfigError(
                f"simulation.key: the data set has no column {', '.join(missing)}",
                remedy=f"Its columns: {', '.join(map(str, frame.columns))}.",
            )
        persons = frame.groupby(list(simulation.key)).ngroups if simulation.key else len(frame)
        if simulation.key:
            Parquet(path=source, key=simulation.key).check()
        rows[name] = len(frame), persons
    return rows


def main() -> None:
    """Reads what is asked, writes one line of JSON: the rows, or a named error."""
    asked = json.loads(sys.stdin.read())
    try:
        told: dict[str, object] = {"rows": _write(SimulationConfig(**asked["simulation"]), Path(asked["folder"]))}
    except Exception as error:
        if (found := named(error)) is None:
            raise
        told = {"code": found.code, "cause": found.cause, "remedy": found.remedy}
    sys.stdout.write(json.dumps(told) + "\n")


if __name__ == "__main__":
    main()
