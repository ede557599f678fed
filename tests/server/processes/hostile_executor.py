"""The coordinator's executor with a lie built in: one client is given another model than the others.

python -m tests.server.processes.hostile_executor CLIENT RUNTIME_ADDRESS SECRET_FILE CA_FILE HOME
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.federation.clients import Clients
from pipeline.language.packing import Blobs
from pipeline.language.protocol import Action
from server import executor

_stream = Clients.stream


def _told(client: str, honest: Callable[[str], Blobs], name: str) -> Blobs:
    blobs = honest(name)
    if name != client or "initial" not in blobs:
        return blobs
    return {**blobs, "initial": (np.frombuffer(blobs["initial"], "<f4") + 1).tobytes()}


def lie_to(client: str) -> None:
    """Add one to each weight of the initial model that this client gets."""

    def lying(self: Clients, action: Action, *rest: Any, **named: Any) -> Iterator[Any]:
        if action is Action.TRAIN:
            named["blobs"] = partial(_told, client, named["blobs"])
        return _stream(self, action, *rest, **named)

    Clients.stream = lying  # type: ignore[method-assign, assignment]


if __name__ == "__main__":
    lie_to(sys.argv[1])
    executor.main(sys.argv[2], *map(Path, sys.argv[3:6]))
