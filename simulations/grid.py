"""A Flower grid on Ray: any ServerApp, strategy and ClientApp runs on it unchanged.

Against Flower's own simulation engine: no polling, no start of a backend per message, records that a round shares are
put into the object store once, replies stream, and a dead worker costs one message.
"""

from __future__ import annotations

import itertools
import queue
import secrets
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Self

import ray
from flwr.app import ArrayRecord, Context, Message, RecordDict
from flwr.app.metadata import Metadata
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity

from simulations.pool import Job, WorkerPool
from simulations.worker import Parcel

SERVER_NODE = 1
FIRST_NODE = 1000

NodeConfig = Mapping[str, str | int | float | bool]


class RayGrid(Grid):
    """One node for each entry of `nodes`, whose value is its node config. Use as a context manager, inside Ray.

    app: a ClientApp, or `module:attribute` to be imported by each worker. workers: processes that run the nodes.
    """

    def __init__(self, app: ClientApp | str, nodes: Sequence[NodeConfig], *, workers: int) -> None:
        self._run = Run.create_empty(secrets.randbits(62))
        TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = self._run.run_id, SERVER_NODE, 1
        contexts = {
            FIRST_NODE + index: Context(self._run.run_id, FIRST_NODE + index, dict(config), RecordDict(), {})
            for index, config in enumerate(nodes)
        }
        self._nodes = list(contexts)
        self._pool = WorkerPool(app, max(1, min(workers, len(contexts))), contexts)
        self._numbers = itertools.count(1)
        self._replies: dict[str, Message] = {}
        self._arrived: queue.SimpleQueue[tuple[str, Message]] = queue.SimpleQueue()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.close()

    # -- Flower's interface ------------------------------------------------------------------------------------------
    def set_run(self, run: Run) -> None:
        self._run = run
        TaskIdentity.run_id = run.run_id

    @property
    def run(self) -> Run:
        return self._run

    def create_message(
        self, content: RecordDict, message_type: str, dst_node_id: int, group_id: str, ttl: float | None = None
    ) -> Message:
        return Message(content, dst_node_id, message_type, ttl=ttl, group_id=group_id)

    def get_node_ids(self) -> Iterable[int]:
        return list(self._nodes)

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        parcels = self._parcels(list(messages))
        for parcel in parcels:
            identifier = parcel.metadata.message_id
            self._pool.submit(Job(parcel.metadata.dst_node_id, parcel, self._keeper(identifier)))
        return [parcel.metadata.message_id for parcel in parcels]

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        while not self._arrived.empty():
            identifier, reply = self._arrived.get()
            self._replies[identifier] = reply
        return [self._replies.pop(identifier) for identifier in message_ids if identifier in self._replies]

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterable[Message]:
        return [reply for _, reply in self.stream(list(messages), timeout)]

    # -- streaming ---------------------------------------------------------------------------------------------------
    def stream(self, messages: Sequence[Message], timeout: float | None = None) -> Iterator[tuple[int, Message]]:
        """Replies as they arrive, each with the index of its message. At the deadline unanswered work is stopped."""
        arrived: queue.SimpleQueue[tuple[int, Message]] = queue.SimpleQueue()
        jobs = [
            Job(parcel.metadata.dst_node_id, parcel, lambda reply, index=index: arrived.put((index, reply)))  # type: ignore[misc]
            for index, parcel in enumerate(self._parcels(messages))
        ]
        for job in jobs:
            self._pool.submit(job)
        deadline = None if timeout is None else time.monotonic() + timeout
        try:
            for _ in jobs:
                left = None if deadline is None else max(0.0, deadline - time.monotonic())
                yield arrived.get(timeout=left)
        except queue.Empty:
            return
        finally:
            for job in jobs:
                self._pool.abandon(job)

    def _keeper(self, identifier: str) -> Any:
        return lambda reply: self._arrived.put((identifier, reply))

    def _parcels(self, messages: Sequence[Message]) -> list[Parcel]:
        """Messages ready to send: each array record that several of them hold goes into the object store once."""
        uses = Counter(
            id(record) for message in messages for record in message.content.values() if isinstance(record, ArrayRecord)
        )
        stored: dict[int, Any] = {}
        parcels = []
        for message in messages:
            records: list[tuple[str, Any]] = []
            for name, record in message.content.items():
                if uses[id(record)] > 1:
                    if id(record) not in stored:
                        stored[id(record)] = ray.put(record)
                    records.append((name, stored[id(record)]))
                else:
                    records.append((name, record))
            parcels.append(Parcel(self._addressed(message), tuple(records)))
        return parcels

    def _addressed(self, message: Message) -> Metadata:
        sent = message.metadata
        return Metadata(
            run_id=self._run.run_id,
            message_id=f"{next(self._numbers):016x}",
            src_node_id=SERVER_NODE,
            dst_node_id=sent.dst_node_id,
            reply_to_message_id="",
            group_id=sent.group_id,
            created_at=sent.created_at,
            ttl=sent.ttl,
            message_type=sent.message_type,
            src_task_id=1,
            dst_task_id=sent.dst_task_id,
        )
