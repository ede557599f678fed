"""Waiting for replies over a grid that has to be asked for them."""

import threading
import time
from collections.abc import Iterable

import pytest
from flwr.app import ConfigRecord, Message, RecordDict

from pipeline.exchange import exchange
from tests.support import LocalGrid


class AskedGrid(LocalGrid):
    """Replies lie ready under their message's number. That to number `stuck` is stuck in the middle of itself; number
    `lost` never reaches its client, and number `late` is answered only after its copy."""

    stream = None  # type: ignore[assignment]

    def __init__(self, stuck: str = "", lost: str = "", late: str = "", fails: bool = False) -> None:
        super().__init__({})
        self.stuck, self.lost, self.late, self.fails = stuck, lost, late, fails
        self.released = threading.Event()
        self.ready: dict[str, Message] = {}
        self.pushed: list[Message] = []

    def push_messages(self, messages: Iterable[Message]) -> list[str]:
        numbers = []
        for message in messages:
            number = str(len(self.pushed))
            message.metadata.__dict__["_message_id"] = number
            self.pushed.append(message)
            numbers.append(number)
            if number not in (self.lost, self.late):
                self.ready[number] = Message(RecordDict(), reply_to=message)
        return numbers

    def pull_messages(self, message_ids: Iterable[str]) -> list[Message]:
        if self.fails:
            raise ConnectionError("the SuperLink is gone")
        if self.late and any(self.late != number for number in message_ids if number in self.ready):
            self.ready.setdefault(self.late, Message(RecordDict(), reply_to=self.pushed[int(self.late)]))
        ready = [number for number in message_ids if number in self.ready and number != self.stuck]
        if ready:
            return [self.ready.pop(number) for number in ready]
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


def test_a_message_that_was_lost_is_sent_once_more() -> None:
    grid = AskedGrid(lost="1")
    assert sorted(index for index, _ in exchange(grid, messages(3), 2.0)) == [0, 1, 2]
    assert len(grid.pushed) == 4
    asked, copy = grid.pushed[1], grid.pushed[3]
    assert copy.content is asked.content
    assert copy.metadata.dst_node_id == asked.metadata.dst_node_id
    assert copy.metadata.message_type == asked.metadata.message_type


def test_who_answers_both_is_heard_once() -> None:
    grid = AskedGrid(late="0", lost="1")
    assert [index for index, _ in exchange(grid, messages(2), 2.0)] == [0, 1]
    assert len(grid.pushed) == 4


def test_who_cannot_be_sent_to_is_not_waited_for() -> None:
    class Full(AskedGrid):
        def push_messages(self, messages: Iterable[Message]) -> list[str]:
            return []

    begun = time.monotonic()
    assert list(exchange(Full(), messages(2), 60)) == []
    assert time.monotonic() - begun < 20
