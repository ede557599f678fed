"""Waiting for replies over a grid that has to be asked for them."""

import threading
import time
from collections.abc import Iterable

import pytest
from flwr.app import ConfigRecord, Message, RecordDict

from pipeline.exchange import exchange
from tests.support import LocalGrid


class AskedGrid(LocalGrid):
    """Replies that were pushed lie ready under their message's number; one of them is stuck in the middle of itself."""

    stream = None  # type: ignore[assignment]

    def __init__(self, stuck: str = "", fails: bool = False) -> None:
        super().__init__({})
        self.stuck, self.fails, self.released = stuck, fails, threading.Event()
        self.ready: dict[str, Message] = {}

    def push_messages(self, messages: Iterable[Message]) -> list[str]:
        for number, message in enumerate(messages):
            message.metadata.__dict__["_message_id"] = str(number)
            self.ready[str(number)] = Message(RecordDict(), reply_to=message)
        return list(self.ready)

    def pull_messages(self, message_ids: Iterable[str]) -> list[Message]:
        if self.fails:
            raise ConnectionError("the SuperLink is gone")
        first = next((number for number in message_ids if number in self.ready and number != self.stuck), None)
        if first is not None:
            return [self.ready.pop(first)]
        if self.stuck in message_ids:
            self.released.wait(60)
        return []


def messages(count: int) -> list[Message]:
    return [Message(RecordDict({"m": ConfigRecord({"n": number})}), 1, "query") for number in range(count)]


def test_every_reply_comes_with_the_index_of_its_message() -> None:
    assert sorted(index for index, _ in exchange(AskedGrid(), messages(5), 20)) == [0, 1, 2, 3, 4]


def test_a_reply_that_is_stuck_holds_nobody_up_beyond_the_deadline() -> None:
    grid, begun = AskedGrid(stuck="1"), time.monotonic()
    try:
        assert sorted(index for index, _ in exchange(grid, messages(3), 1.0)) == [0, 2]
        assert time.monotonic() - begun < 20
    finally:
        grid.released.set()


def test_what_the_grid_raises_is_raised_where_it_is_waited_for() -> None:
    with pytest.raises(ConnectionError, match="gone"):
        list(exchange(AskedGrid(fails=True), messages(1), 20))
