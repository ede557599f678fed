"""Flower's SuperNode, looking for messages eagerly while a run is under way, and not held up by a run that ended.

    python -m clients.supernode ARGUMENTS OF flower-supernode

It looks four times a second for a minute after the last message, and every three seconds otherwise (pipeline.pace).

A run that ends while a node is still receiving its message would leave the node's task waiting two hours for the rest
of it, and no other message is worked on meanwhile. Here such a message counts as not received, which ends the task.

Private API of flwr: flwr.supernode.start_client_internal, flwr.supercore.run.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

from pipeline.environment import quiet_environment
from pipeline.pace import Pace, pull_eagerly


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
    pull_eagerly()
    internal = import_module("flwr.supernode.start_client_internal")
    pace = Pace()
    internal.time = pace  # type: ignore[attr-defined]
    internal._pull_and_store_message = pace.watching(heeding_ends(internal._pull_and_store_message))  # type: ignore[attr-defined]
    import_module("flwr.supernode.cli.flower_supernode").flower_supernode()


if __name__ == "__main__":
    main()
