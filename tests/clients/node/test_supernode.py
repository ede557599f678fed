"""The SuperNode's own additions: when it looks for messages, and how its replies arrive whole."""

import itertools
import subprocess
import sys
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import ArrayRecord, ConfigRecord, Message, RecordDict
from flwr.server.superlink.linkstate.sql_linkstate import SqlLinkState
from flwr.supercore.constant import NOOP_FEDERATION_ID, TaskType
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects, get_object_tree
from flwr.supercore.inflatable.inflatable_utils import ObjectPushError
from flwr.supercore.object_store import ObjectStoreFactory
from flwr.supercore.object_store.in_memory_object_store import InMemoryObjectStore
from flwr.supercore.state.schema.corestate_models import ObjectPushSession
from flwr.superlink.federation import NoOpFederationManager
from flwr.supernode.nodestate.in_memory_nodestate import InMemoryNodeState
from sqlalchemy import update

from clients.node.supernode import Heard, OneForOne, Resending, resending
from pipeline.host.pace import PEER_PAUSE, Pace
from tests.support import LocalGrid

pytestmark = pytest.mark.filterwarnings("ignore:No path_separator found:DeprecationWarning")
"""Flower's migrations, of which it need not know that Alembic would like them written otherwise."""


def test_a_supernode_looks_eagerly_only_while_messages_come() -> None:
    now, slept = [1000.0], []
    pace = Pace(PEER_PAUSE, clock=lambda: now[0], sleep=slept.append)
    pulled = iter([None, 7, None])
    pull = pace.watching(lambda: next(pulled))
    for later in (0.0, 1.0, 59.0, 61.0):
        now[0] = 1000.0 + later
        if later < 59:
            pull()
        pace.sleep(3)
    assert slept == [3, 0.25, 0.25, 3]
    pace.sleep(0.5)
    assert slept[-1] == 0.05, "its own processes are looked after all the time"


class SuperLink:
    """Flower's own state of a SuperLink with one node; `before` and `after` happen around the call of that number."""

    def __init__(self, database: Path) -> None:
        manager = NoOpFederationManager()
        self.state = SqlLinkState(str(database), manager, ObjectStoreFactory(str(database)).store())
        self.state.initialize()
        self.node = self.state.create_node("owner", "owner", b"key", heartbeat_interval=3600)
        self.state.activate_node(self.node, 3600)
        self.run = self.state.create_run(
            None, None, None, {}, NOOP_FEDERATION_ID, None, "owner", primary_task_type=TaskType.SERVER_APP
        )
        self.one, self.calls = threading.Lock(), itertools.count()
        self.before: dict[int, Callable[[], object]] = {}
        self.twice: set[int] = set()

    def ask(self) -> Message:
        """A message the node has received."""
        message = Message(RecordDict({"n": ConfigRecord({"n": 1})}), self.node, "query", ttl=3600)
        message.metadata.__dict__.update(_run_id=self.run, _src_node_id=1)
        message.metadata.__dict__["_message_id"] = message.object_id
        assert self.state.store_message_ins(message)
        self.calls, self.before, self.twice = itertools.count(), {}, set()
        return message

    def fetch(self, asked: Message) -> None:
        """The coordinator takes what there is of a reply."""
        if self.state.get_message_res({asked.metadata.message_id}, self.run):
            self.state.delete_messages({asked.metadata.message_id})

    def expire(self) -> None:
        """Nothing was pushed for longer than the SuperLink waits."""
        with self.state.session() as session:
            session.execute(update(ObjectPushSession).values(expires_at=datetime(2020, 1, 1, tzinfo=UTC)))

    def objects(self, reply: Message) -> list[bytes | None]:
        """What it has of each: nothing once it gave the reply up, and empty while it is missing."""
        names = get_all_nested_objects(reply)
        assert 5 < len(names) < CALLS
        return [self.state.get_object(self.run, name) for name in names]

    def send(self, reply: Message, tree: Any, _: float) -> tuple[set[str], str]:
        def announced() -> tuple[set[str], str]:
            session = self.state.start_session(self.run)
            _, missing = self.state.store_message_and_object_tree(reply, tree, session)
            return set(missing), session

        return self._called(announced)

    def push(self, run: int, session: str, name: str, content: bytes) -> None:
        if not self._called(lambda: self.state.store_object(run, session, name, content)):
            raise ObjectPushError(name, run, session)

    def _called(self, call: Callable[[], Any]) -> Any:
        with self.one:  # objects are pushed from two threads
            number = next(self.calls)
            self.before.get(number, lambda: None)()
            if number in self.twice:  # its answer was lost on the way, and Flower's connection asks again
                call()
            return call()


@pytest.fixture
def superlink(tmp_path: Path) -> SuperLink:
    LocalGrid({})  # gives this process a run, which a message wants
    return SuperLink(tmp_path / "state.db")


NUMBERS = itertools.count()


def answer(superlink: SuperLink, asked: Message) -> Message:
    """A reply of several objects, sent by Flower's own code with ours around it."""
    internal = import_module("flwr.supernode.start_client_internal")
    number = next(NUMBERS)  # else the SuperLink has most of it from the reply before
    content = {"n": ConfigRecord({"n": number}), "a": ArrayRecord([np.full(3, number)])}
    reply = Message(RecordDict(content), reply_to=asked)
    store = InMemoryObjectStore()
    state = InMemoryNodeState(store)
    internal._insert_message(reply, state, store)
    resending(internal._push_messages, Heard(None).noting)(
        state=state, object_store=store, send=superlink.send, push_object=superlink.push
    )
    return reply


CALLS = 8
"""More than a reply takes when nothing happens."""


def test_a_reply_arrives_whole_whatever_call_is_answered_to_nobody(superlink: SuperLink) -> None:
    for twice, more in itertools.combinations_with_replacement(range(CALLS), 2):
        asked = superlink.ask()
        superlink.twice = {twice, more}
        assert all(superlink.objects(answer(superlink, asked)))


def test_a_reply_arrives_whole_while_it_is_being_fetched(superlink: SuperLink) -> None:
    for twice, fetched in itertools.product(range(CALLS), range(1, CALLS)):
        asked = superlink.ask()
        superlink.twice, superlink.before = {twice}, {fetched: partial(superlink.fetch, asked)}
        assert all(superlink.objects(answer(superlink, asked)))


def test_a_reply_arrives_whole_after_a_pause(superlink: SuperLink) -> None:
    for twice, expired in itertools.product(range(CALLS), range(1, CALLS)):
        asked = superlink.ask()
        superlink.twice, superlink.before = {twice}, {expired: superlink.expire}
        assert all(superlink.objects(answer(superlink, asked)))


def test_a_reply_that_is_fetched_and_then_pauses_is_whole_or_known_to_be_lost(superlink: SuperLink) -> None:
    """Then the coordinator asks again (pipeline.federation.exchange)."""
    for fetched, expired in itertools.product(range(1, CALLS), repeat=2):
        asked = superlink.ask()
        superlink.before = {expired: superlink.expire}
        superlink.before[fetched] = partial(superlink.fetch, asked)
        assert b"" not in superlink.objects(answer(superlink, asked))


def test_a_reply_that_cannot_be_sent_is_given_up_in_the_end(superlink: SuperLink) -> None:
    def never(run: int, session: str, name: str, content: bytes) -> None:
        raise ObjectPushError(name, run, session)

    again = Resending(superlink.send, never)
    reply = Message(RecordDict(), reply_to=superlink.ask())
    reply.metadata.__dict__["_message_id"] = reply.object_id
    names, session = again.send(reply, get_object_tree(reply), 1.5)
    with pytest.raises(ObjectPushError):
        again.push(superlink.run, session, min(names), b"content")


def test_a_late_answer_to_another_message_does_not_leave_the_node_one_reply_behind() -> None:
    internal = import_module("flwr.supernode.start_client_internal")
    LocalGrid({})  # gives this process a run, which a message wants
    store = InMemoryObjectStore()
    state = InMemoryNodeState(store)
    asked = [Message(RecordDict({"n": ConfigRecord({"n": number})}), 1, "query") for number in range(3)]
    for message in asked:
        message.metadata.__dict__.update(_message_id=message.object_id, _src_node_id=2)
    answered: list[str] = []

    def send(reply: Message, *_: object) -> tuple[set[str], str]:
        answered.append(reply.metadata.reply_to_message_id)
        return set(), "session"

    def answer(message: Message) -> None:
        internal._insert_message(Message(RecordDict(), reply_to=message), state, store)

    both = OneForOne(lambda receive: 7 if receive() else None, internal._push_messages)
    answer(asked[0])  # by the task that was ended
    for message in asked[1:]:
        assert both.pull(receive=partial(tuple, [message, "tree"])) == 7
        later = threading.Timer(0.2, answer, [message])
        later.start()
        both.push(state=state, object_store=store, send=send, push_object=lambda *_: None)
        later.join()
        assert answered[-1] == message.metadata.message_id
    assert answered == [message.metadata.message_id for message in asked]
    assert both.pull(receive=lambda: None) is None


def test_what_was_answered_is_noted_and_what_was_not_is_none(tmp_path: Path) -> None:
    path = tmp_path / "heard"

    def away() -> None:
        raise ConnectionError

    with pytest.raises(ConnectionError):
        Heard(path).noting(away)()
    assert not path.exists()
    assert Heard(path).noting(lambda word: word.upper())("a") == "A"
    assert path.exists()
    assert Heard(None).noting(len)("ab") == 2


@pytest.mark.processes
@pytest.mark.parametrize(
    ("ends", "code"), [("raise ValueError", 1), ("sys.exit(7)", 7), ("sys.exit('no')", 1), ("pass", 0)]
)
def test_a_process_ends_with_its_main_thread_whatever_threads_it_has_left(ends: str, code: int) -> None:
    script = f"""
import sys, threading, time
from clients.node.supernode import to_the_end
threading.Thread(target=time.sleep, args=(600,)).start()
def work():
    {ends}
to_the_end(work)
"""
    done = subprocess.run([sys.executable, "-c", script], timeout=60, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stderr
    assert ("ValueError" in done.stderr) == ("ValueError" in ends)
