"""Waiting for replies over a grid that has to be asked for them."""

import threading
import time
from collections.abc import Iterable, Sequence

import pytest
from flwr.app import ConfigRecord, Error, Message, RecordDict
from flwr.common.constant import ErrorCode
from flwr.supercore.inflatable.inflatable_utils import ObjectPushError

from pipeline.federation.exchange import exchange
from tests.support import LocalGrid


class AskedGrid(LocalGrid):
    """Replies lie ready under their message's number. Those to numbers `stuck` are stuck in the middle of themselves,
    with all that are asked for beside them; number `lost` never reaches its client, and number `late` is answered only
    after its copy."""

    stream = None  # type: ignore[assignment]

    def __init__(self, stuck: Sequence[str] = (), lost: str = "", late: str = "", fails: bool = False) -> None:
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
        asked = list(message_ids)
        if any(number in self.stuck for number in asked):
            self.released.wait(60)
        return [self.ready.pop(number) for number in asked if number in self.ready]


def messages(count: int) -> list[Message]:
    return [Message(RecordDict({"m": ConfigRecord({"n": number})}), 1, "query") for number in range(count)]


def test_every_reply_comes_with_the_index_of_its_message() -> None:
    assert sorted(index for index, _ in exchange(AskedGrid(), messages(5), 20)) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(("stuck", "heard"), [(["1"], [0, 1, 2]), (["1", "4"], [])])
def test_a_reply_that_is_stuck_holds_nobody_up_beyond_the_copies(stuck: list[str], heard: list[int]) -> None:
    grid, begun = AskedGrid(stuck), time.monotonic()
    try:
        assert sorted(index for index, _ in exchange(grid, messages(3), 1.0)) == heard
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


class Forgetful(AskedGrid):
    """Has nothing any more of the first `times` messages it is asked about, in Flower's words."""

    def __init__(self, times: int, code: int = ErrorCode.MESSAGE_UNAVAILABLE) -> None:
        super().__init__()
        self.times, self.code = times, code

    def pull_messages(self, message_ids: Iterable[str]) -> list[Message]:
        replies = super().pull_messages(message_ids)
        for place, reply in enumerate(replies):
            if self.times:
                self.times -= 1
                asked = self.pushed[int(reply.metadata.reply_to_message_id)]
                replies[place] = Message(Error(self.code, "gone"), reply_to=asked)
        return replies


@pytest.mark.parametrize("code", [ErrorCode.MESSAGE_UNAVAILABLE, ErrorCode.REPLY_MESSAGE_UNAVAILABLE])
def test_what_the_superlink_has_lost_is_sent_again_at_once(code: int) -> None:
    begun = time.monotonic()
    replies = list(exchange(Forgetful(3, code), messages(3), 60))
    assert sorted(index for index, _ in replies) == [0, 1, 2]
    assert not any(reply.has_error() for _, reply in replies)
    assert time.monotonic() - begun < 20


def test_what_the_superlink_loses_for_ever_is_a_failure() -> None:
    grid = Forgetful(1000)
    [(_, reply)] = exchange(grid, messages(1), 60)
    assert reply.has_error()
    assert 1 < len(grid.pushed) < 20


def test_any_other_error_is_an_answer() -> None:
    grid = Forgetful(1, ErrorCode.CLIENT_APP_RAISED_EXCEPTION)
    [(_, reply)] = exchange(grid, messages(1), 60)
    assert reply.has_error()
    assert len(grid.pushed) == 1


class Restarted(AskedGrid):
    """Breaks the first `breaks` uploads off."""

    def __init__(self, breaks: int) -> None:
        super().__init__()
        self.breaks = breaks
        self.announced: list[list[Message]] = []

    def push_messages(self, messages: Iterable[Message]) -> list[str]:
        self.announced.append(list(messages))
        if len(self.announced) > self.breaks:
            return super().push_messages(self.announced[-1])
        raise ObjectPushError("object", 1, "session")


def test_an_upload_that_breaks_off_is_begun_again_with_the_same_messages() -> None:
    grid, asked = Restarted(2), messages(3)
    assert sorted(index for index, _ in exchange(grid, asked, 20)) == [0, 1, 2]
    assert all(one is other for sent in grid.announced for one, other in zip(sent, asked, strict=True))


def test_an_upload_that_breaks_off_for_ever_is_given_up() -> None:
    with pytest.raises(ObjectPushError):
        list(exchange(Restarted(100), messages(1), 20))


def test_who_cannot_be_sent_to_is_not_waited_for() -> None:
    class Full(AskedGrid):
        def push_messages(self, messages: Iterable[Message]) -> list[str]:
            return []

    begun = time.monotonic()
    assert list(exchange(Full(), messages(2), 60)) == []
    assert time.monotonic() - begun < 20
