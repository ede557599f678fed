"""Flower's SuperNode, looking for messages eagerly while a run is under way.

    python -m clients.supernode ARGUMENTS OF flower-supernode

Flower looks every three seconds, which every request of a run would wait for. Here it looks four times a second for a
minute after the last message, and every three seconds otherwise (private API of flwr: start_client_internal).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from importlib import import_module
from typing import Any

from pipeline.environment import quiet_environment

EAGER_SECONDS, EAGER_PAUSE = 60.0, 0.25


class Pace:
    """Stands in for the module `time` where Flower waits between two looks."""

    def __init__(
        self, clock: Callable[[], float] = time.monotonic, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self._clock, self._sleep = clock, sleep
        self._heard = -EAGER_SECONDS

    def sleep(self, seconds: float) -> None:
        """Shorter than asked for while messages come."""
        eager = self._clock() - self._heard < EAGER_SECONDS
        self._sleep(min(seconds, EAGER_PAUSE) if eager else seconds)

    def watching(self, pull: Callable[..., Any]) -> Callable[..., Any]:
        """`pull`, whose results other than None are messages."""

        def watched(*arguments: Any, **named: Any) -> Any:
            if (found := pull(*arguments, **named)) is not None:
                self._heard = self._clock()
            return found

        return watched


def main() -> None:
    quiet_environment()
    internal = import_module("flwr.supernode.start_client_internal")
    pace = Pace()
    internal.time = pace  # type: ignore[attr-defined]
    internal._pull_and_store_message = pace.watching(internal._pull_and_store_message)  # type: ignore[attr-defined]
    import_module("flwr.supernode.cli.flower_supernode").flower_supernode()


if __name__ == "__main__":
    main()
