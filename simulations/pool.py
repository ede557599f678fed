"""A pool of worker actors: gives each waiting job to the next free worker and hands its reply to whoever waits.

Nothing polls: Ray calls back when a reply is there. A worker that dies costs the one message it was handling, which
is answered with an error; a new worker takes its place. A node handles one message at a time, in order, because its
context is handed from one to the next. Workers are started when there is work, at most as many at once as are up
already (seven short messages are answered before a second one is), and stopped when there was none for a while: one
that has imported PyTorch holds half a gigabyte.

One thread owns all state and makes all calls to Ray; everyone else only puts notes into its queue. (A callback runs on
Ray's own thread, where a call to Ray would wait for itself.)
"""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import ray
from flwr.app import Context, Error, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.common.constant import ErrorCode

from simulations.worker import Parcel, Worker, delivered

IDLE_SECONDS = 1.0
"""Shorter than it takes Ray to start the process of the next stage: their memory must not add up."""


@dataclass(eq=False)
class Job:
    """One message for one node. deliver is called at most once, from the pool's thread."""

    node: int
    parcel: Parcel
    deliver: Callable[[Message], None]
    done: bool = False


class WorkerPool:
    """`size` workers; jobs wait in one line."""

    def __init__(self, app: ClientApp | str, size: int, contexts: dict[int, Context]) -> None:
        self._app = app if isinstance(app, str) else ray.put(app)
        self._contexts: dict[int, Any] = dict(contexts)
        self._size = size
        self._idle: list[Any] = []
        self._starting: set[Any] = set()
        self._waiting: deque[Job] = deque()
        self._running: dict[int, tuple[Job, Any]] = {}
        self._notes: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="worker-pool", daemon=True)
        self._thread.start()

    def submit(self, job: Job) -> None:
        self._notes.put(partial(self._waiting.append, job))

    def abandon(self, job: Job) -> None:
        """Give a job up. If it is running its worker is stopped, so that it cannot hold up what comes after."""
        if not job.done:
            self._notes.put(partial(self._give_up, job))

    def close(self) -> None:
        """Stop all workers; returns when they were told."""
        self._notes.put(None)
        self._thread.join()

    def _work(self) -> None:
        while True:
            try:
                note = self._notes.get(timeout=None if self._running or not self._idle else IDLE_SECONDS)
            except queue.Empty:
                while self._idle:
                    ray.kill(self._idle.pop())
                continue
            if note is None:
                break
            note()
            self._dispatch()
        for worker in [*self._idle, *(worker for _, worker in self._running.values())]:
            ray.kill(worker)

    def _new_worker(self) -> Any:
        # Workers take no CPU from Ray's account: their number is what bounds them, and stages must find a CPU free.
        worker = ray.remote(Worker).options(num_cpus=0, scheduling_strategy="SPREAD").remote(self._app)
        self._starting.add(worker)
        up = worker.ready.remote().future()
        up.add_done_callback(lambda _: self._notes.put(partial(self._starting.discard, worker)))
        return worker

    def _may_start(self) -> bool:
        busy = len(self._running)
        return busy < self._size and len(self._starting) < max(1, busy - len(self._starting))

    def _dispatch(self) -> None:
        for job in [job for job in self._waiting if job.node not in self._running]:
            if not self._idle and not self._may_start():
                return
            if job.node in self._running:
                continue
            self._waiting.remove(job)
            worker = self._idle.pop() if self._idle else self._new_worker()
            self._running[job.node] = (job, worker)
            reply, context = worker.handle.options(num_returns=2).remote(job.parcel, self._contexts[job.node])
            reply.future().add_done_callback(partial(self._note_reply, job, worker, context))

    def _note_reply(self, job: Job, worker: Any, context: Any, future: Any) -> None:
        self._notes.put(partial(self._finish, job, worker, context, future))

    def _finish(self, job: Job, worker: Any, context: Any, future: Any) -> None:
        del self._running[job.node]
        alive = future.exception() is None
        if alive:
            self._contexts[job.node] = context
            self._idle.append(worker)
        else:
            ray.kill(worker)
        if not job.done:
            job.done = True
            job.deliver(future.result() if alive else _crashed(job.parcel))

    def _give_up(self, job: Job) -> None:
        if job.done:
            return
        job.done = True
        if job in self._waiting:
            self._waiting.remove(job)
        elif (running := self._running.get(job.node)) and running[0] is job:
            ray.kill(running[1])


def _crashed(parcel: Parcel) -> Message:
    message = delivered(RecordDict(), parcel.metadata)
    return Message(Error(ErrorCode.CLIENT_APP_CRASHED, "the client's process died"), reply_to=message)
