"""Flower's SuperNode, looking for messages eagerly while a run is under way, and not held up by a run that ended.

    python -m clients.supernode ARGUMENTS OF flower-supernode

Flower looks every three seconds, which every request of a run would wait for. Here it looks four times a second for a
minute after the last message, and every three seconds otherwise.

A run that ends while a node is still receiving its message would leave the node's task waiting two hours for the rest
of it, and no other message is worked on meanwhile. Here such a message counts as not received, which ends the task.

Private API of flwr: flwr.supernode.start_client_internal, flwr.supercore.run.
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


def heeding_ends(pull: Callable[..., Any]) -> Callable[..., Any]:
    """`pull`, in whose downloads the end of the run is a failure like any other."""
    from flwr.supercore.run import RunNotRunningException

    def failing(download: Callable[..., Any]) -> Callable[..., Any]:
        def one(*arguments: Any) -> Any:
            try:
                return download(*arguments)
            except RunNotRunningException:
                raise ConnectionAbortedError("the run has ended") from None

        return one

    def heeded(*arguments: Any, **named: Any) -> Any:
        for name in ("pull_object", "confirm_message_received"):
            named[name] = failing(named[name])
        return pull(*arguments, **named)

    return heeded


def main() -> None:
    quiet_environment()
    internal = import_module("flwr.supernode.start_client_internal")
    pace = Pace()
    internal.time = pace  # type: ignore[attr-defined]
    internal._pull_and_store_message = pace.watching(heeding_ends(internal._pull_and_store_message))  # type: ignore[attr-defined]
    import_module("flwr.supernode.cli.flower_supernode").flower_supernode()


if __name__ == "__main__":
    main()
