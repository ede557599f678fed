"""Sending messages over a Flower grid and taking the replies as they arrive.

A grid that can stream (the simulation's) is waited on without polling; any other Flower grid is asked for its replies
every quarter second. (Flower's own `send_and_receive` sleeps three seconds between two looks.)
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol, Self, runtime_checkable

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
    waiting = {identifier: index for index, identifier in enumerate(grid.push_messages(messages)) if identifier}
    with _Puller(grid, waiting) as puller:
        deadline = time.monotonic() + timeout
        while waiting and (left := deadline - time.monotonic()) > 0:
            reply = puller.next(left)
            index = waiting.pop(reply.metadata.reply_to_message_id, None) if reply else None
            if reply and index is not None:
                yield index, reply


class _Puller:
    """Asks a grid for replies from a thread of its own: a reply whose sender died in the middle of its upload holds a
    call up for three minutes, and nobody waits for that beyond the deadline."""

    def __init__(self, grid: Grid, identifiers: Iterable[str]) -> None:
        self._grid, self._waiting = grid, set(identifiers)
        self._arrived: queue.SimpleQueue[Message | Exception] = queue.SimpleQueue()
        self._closed = threading.Event()

    def __enter__(self) -> Self:
        threading.Thread(target=self._pull, daemon=True, name="replies").start()
        return self

    def __exit__(self, *error: object) -> None:
        self._closed.set()

    def next(self, seconds: float) -> Message | None:
        """The next reply, if one comes in time. Raises what the grid raised."""
        try:
            item = self._arrived.get(timeout=seconds)
        except queue.Empty:
            return None
        if isinstance(item, Exception):
            raise item
        return item

    def _pull(self) -> None:
        while self._waiting and not self._closed.is_set():
            try:
                replies = list(self._grid.pull_messages(list(self._waiting)))
            except Exception as error:  # whoever waits raises it
                self._arrived.put(error)
                return
            for reply in replies:
                self._waiting.discard(reply.metadata.reply_to_message_id)
                self._arrived.put(reply)
            if not replies:
                self._closed.wait(POLL_SECONDS)
