"""Sending messages over a Flower grid and taking the replies as they arrive.

A grid that can stream (the simulation's) is waited on without polling; any other Flower grid is asked for its replies
every quarter second. (Flower's own `send_and_receive` sleeps three seconds between two looks.)

The SuperLink hands a message out once. When the connection breaks while it passes, nobody ever gets it; so whoever has
not answered after half of the time is sent a copy. A client that has both answers both alike.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterator, Sequence
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
    with _Puller(grid, messages) as puller:
        begun = time.monotonic()
        for patience in (timeout / 2, timeout):
            if puller.waiting:
                puller.send()
            while puller.waiting and (left := begun + patience - time.monotonic()) > 0:
                yield from puller.next(left)


class _Puller:
    """Asks a grid for replies from a thread of its own: a reply whose sender died in the middle of its upload holds a
    call up for three minutes, and nobody waits for that beyond the deadline."""

    def __init__(self, grid: Grid, messages: Sequence[Message]) -> None:
        self._grid, self._messages = grid, messages
        self.waiting = set(range(len(messages)))
        """Indices of the messages that are not answered."""
        self._sent: dict[str, int] = {}
        self._arrived: queue.SimpleQueue[Message | Exception] = queue.SimpleQueue()
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._pull, daemon=True, name="replies")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._closed.set()

    def send(self) -> None:
        """Send whatever is not answered, the second time as a copy."""
        silent = sorted(self.waiting)
        messages = [self._messages[index] for index in silent]
        if self._sent:
            messages = [
                Message(message.content, message.metadata.dst_node_id, message.metadata.message_type)
                for message in messages
            ]
        identifiers = self._grid.push_messages(messages)
        sent = {identifier: index for identifier, index in zip(identifiers, silent, strict=False) if identifier}
        self._sent = self._sent | sent  # a new one, for the thread goes through the old one
        self.waiting &= set(self._sent.values())
        if not self._thread.ident:
            self._thread.start()

    def next(self, seconds: float) -> Iterator[tuple[int, Message]]:
        """The next reply with its index, if one comes in time. Raises what the grid raised."""
        try:
            item = self._arrived.get(timeout=seconds)
        except queue.Empty:
            return
        if isinstance(item, Exception):
            raise item
        index = self._sent.get(item.metadata.reply_to_message_id)
        if index in self.waiting:
            self.waiting.remove(index)
            yield index, item

    def _pull(self) -> None:
        seen: set[str] = set()
        while not self._closed.is_set():
            asked = [name for name, index in self._sent.items() if name not in seen and index in self.waiting]
            try:
                replies = list(self._grid.pull_messages(asked)) if asked else []
            except Exception as error:  # whoever waits raises it
                self._arrived.put(error)
                return
            for reply in replies:
                seen.add(reply.metadata.reply_to_message_id)
                self._arrived.put(reply)
            if not replies:
                self._closed.wait(POLL_SECONDS)
