"""Sending messages over a Flower grid and taking the replies as they arrive.

A grid that can stream (the simulation's) is waited on without polling; any other Flower grid is asked for its replies
every quarter second. (Flower's own `send_and_receive` sleeps three seconds between two looks.)

The SuperLink hands a message out once, and a reply too. When the connection breaks while one passes, nobody ever gets
it; so whoever has not answered after half of the time is sent a copy, and at once when the SuperLink says that it has
nothing any more. A client that has both answers both alike.

A SuperLink that is started again in the middle of an upload does not know what it has of it. The same messages are then
sent again: it knows them by their identifiers, and asks for what it lacks.

Private API of flwr: flwr.common.constant, flwr.supercore.inflatable.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from typing import Protocol, Self, runtime_checkable

from flwr.app import Message
from flwr.common.constant import ErrorCode
from flwr.serverapp import Grid
from flwr.supercore.inflatable.inflatable_utils import ObjectPushError

POLL_SECONDS = 0.25
ATTEMPTS = 5
"""How often a message is sent that is lost, and an upload begun that is interrupted."""

LOST = (ErrorCode.MESSAGE_UNAVAILABLE, ErrorCode.REPLY_MESSAGE_UNAVAILABLE)


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
                puller.send(puller.waiting)
            while puller.waiting and (left := begun + patience - time.monotonic()) > 0:
                yield from puller.next(left)


class _Puller:
    """Asks a grid for replies, those to each sending from a thread of its own: a reply whose sender died in the middle
    of its upload holds a call up for three minutes, and the replies to the copies need not wait for that."""

    def __init__(self, grid: Grid, messages: Sequence[Message]) -> None:
        self._grid, self._messages = grid, messages
        self.waiting = set(range(len(messages)))
        """Indices of the messages that are not answered."""
        self._sent: dict[str, int] = {}
        self._arrived: queue.SimpleQueue[list[Message] | Exception] = queue.SimpleQueue()
        self._closed = threading.Event()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._closed.set()

    def send(self, indices: Iterable[int]) -> None:
        """Send these messages, the second time as copies."""
        silent = sorted(indices)
        messages = [self._messages[index] for index in silent]
        if self._sent:
            messages = [
                Message(message.content, message.metadata.dst_node_id, message.metadata.message_type)
                for message in messages
            ]
        identifiers = self._push(messages)
        sent = {identifier: index for identifier, index in zip(identifiers, silent, strict=False) if identifier}
        self._sent |= sent
        self.waiting &= set(self._sent.values())
        threading.Thread(target=self._pull, args=[sent], daemon=True, name="replies").start()

    def _push(self, messages: list[Message]) -> list[str]:
        for _ in range(ATTEMPTS - 1):
            with suppress(ObjectPushError):
                return list(self._grid.push_messages(messages))
        return list(self._grid.push_messages(messages))

    def next(self, seconds: float) -> Iterator[tuple[int, Message]]:
        """The next replies with their indices, if any come in time. Raises what the grid raised."""
        try:
            replies = self._arrived.get(timeout=seconds)
        except queue.Empty:
            return
        if isinstance(replies, Exception):
            raise replies
        lost = []
        for reply in replies:
            index = self._sent.get(reply.metadata.reply_to_message_id)
            if index not in self.waiting:
                continue
            if reply.has_error() and reply.error.code in LOST and self._times(index) < ATTEMPTS:
                lost.append(index)
            else:
                self.waiting.remove(index)
                yield index, reply
        if lost:
            self.send(lost)

    def _times(self, index: int) -> int:
        return list(self._sent.values()).count(index)

    def _pull(self, sent: dict[str, int]) -> None:
        while not self._closed.is_set():
            asked = [name for name, index in sent.items() if index in self.waiting]
            if not asked:
                return
            try:
                replies = list(self._grid.pull_messages(asked))
            except Exception as error:  # whoever waits raises it
                self._arrived.put(error)
                return
            for reply in replies:
                sent.pop(reply.metadata.reply_to_message_id, None)
            if replies:
                self._arrived.put(replies)
            else:
                self._closed.wait(POLL_SECONDS)
