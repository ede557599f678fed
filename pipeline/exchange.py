"""Sending messages over a Flower grid and taking the replies as they arrive.

A grid that can stream (the simulation's) is waited on without polling; any other Flower grid is asked for its replies
every quarter second. (Flower's own `send_and_receive` sleeps three seconds between two looks.)
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Protocol, runtime_checkable

from flwr.app import Message
from flwr.serverapp import Grid

POLL_SECONDS = 0.25


@runtime_checkable
class StreamingGrid(Protocol):
    """A grid that yields each reply the moment it is there."""

    def stream(self, messages: Sequence[Message], timeout: float) -> Iterator[tuple[int, Message]]:
        """Replies in the order of arrival, each with the index of its message, until all are in or time is up."""


def exchange(grid: Grid, messages: Sequence[Message], timeout: float) -> Iterator[tuple[int, Message]]:
    """Send `messages`; yield each reply as it arrives with the index of the message it answers; stop at the deadline.

    A missing reply is simply absent. Replies are matched by message, not by node: when a node is gone, Flower answers
    in its own name.
    """
    if isinstance(grid, StreamingGrid):
        yield from grid.stream(messages, timeout)
        return
    deadline = time.monotonic() + timeout
    waiting = {identifier: index for index, identifier in enumerate(grid.push_messages(messages)) if identifier}
    while waiting and time.monotonic() < deadline:
        replies = list(grid.pull_messages(list(waiting)))
        for reply in replies:
            index = waiting.pop(reply.metadata.reply_to_message_id, None)
            if index is not None:
                yield index, reply
        if not replies:
            time.sleep(POLL_SECONDS)
