"""Runs of a deployed federation: submitted to the SuperLink, followed by the lines their driver writes."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from pipeline.configfile import load_config
from privacy.errors import FederationError
from server.app import END
from server.home import LINK, CoordinatorHome
from server.roster import flwr

POLL_SECONDS, QUIET_SECONDS = 0.25, 15.0
"""Asking the SuperLink starts Flower's command line, a second of work: only at the end, or when nothing is heard."""


def submit(home: CoordinatorHome, config: Path) -> str:
    """Have the SuperLink run the lifecycle of `config`; the run's id. Raises ConfigError, FederationError."""
    load_config(config)  # a wrong setting is told here, not minutes later in a log
    if not home.running:
        raise FederationError(
            f"no coordinator runs on {home.root}", remedy=f"Start it: sottovoce server start {home.root}"
        )
    settings = f'config="{config.absolute()}" workspace="{home.workspace}" roster="{home.root / "roster.json"}"'
    return str(flwr(home, "run", str(home.root / "bundle"), LINK, "--run-config", settings)["run-id"])


def follow(home: CoordinatorHome, run: str, say: Callable[[str], None]) -> None:
    """Tell what the run's driver writes until it has ended. Raises FederationError when it failed."""
    log, at, heard, over = home.workspace / f"run-{run}.log", 0, time.monotonic(), False
    while True:
        content = log.read_bytes()[at:] if log.exists() else b""
        whole = content[: content.rfind(b"\n") + 1]
        at += len(whole)
        for line in whole.decode(errors="replace").splitlines():
            heard = time.monotonic()
            if line != END:
                say(line)
        ended = ""
        over = over or whole.endswith(f"{END}\n".encode())
        if over or time.monotonic() - heard > QUIET_SECONDS:
            heard = time.monotonic()
            ended = state(home, run)
        if ended == "finished:completed":
            return
        if ended.startswith("finished"):
            raise FederationError(
                f"run {run} ended as {ended.partition(':')[2]}",
                remedy="The same command goes on where it stopped. Its log: " + str(log),
            )
        time.sleep(POLL_SECONDS)


def state(home: CoordinatorHome, run: str) -> str:
    """`pending`, `running`, `finished:completed`, `finished:failed`, `finished:stopped`. Raises FederationError."""
    return str(flwr(home, "list", LINK, "--run-id", run)["runs"][0]["status"])


def stop(home: CoordinatorHome, run: str) -> None:
    """Raises FederationError."""
    flwr(home, "stop", run, LINK)
