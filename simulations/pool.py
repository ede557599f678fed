"""A pool of worker actors: gives each waiting job to the next free worker and hands its reply to whoever waits.

Nothing polls: Ray calls back when a reply is there. A worker that dies costs the one message it was handling, which
is answered with an error; a new worker takes its place. A node handles one message at a time, in order, because its
context is handed from one to the next.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import ray
from flwr.app import Context, Error, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.common.constant import ErrorCode

from simulations.worker import Parcel, Worker, delivered

Deliver = Callable[[Message | None], None]


@dataclass
class Job:
    """One message for one node. deliver is called once, from any thread; with None when the job was given up."""

    node: int
    parcel: Parcel
    deliver: Deliver
    done: bool = False


class WorkerPool:
    """`size` workers; jobs wait in one line."""

    def __init__(self, app: ClientApp | str, size: int, contexts: dict[int, Context]) -> None:
        self._app = app if isinstance(app, str) else ray.put(app)
        self._size = size
        self._contexts: dict[int, Any] = dict(contexts)
        self._lock = threading.RLock()
        self._idle: list[Any] = [self._new_worker() for _ in range(size)]
        self._waiting: deque[Job] = deque()
        self._running: dict[int, tuple[Job, Any]] = {}
        self._closed = False

    def _new_worker(self) -> Any:
        # Workers take no CPU from Ray's account: their number is what bounds them, and stages must find a CPU free.
        return ray.remote(Worker).options(num_cpus=0, scheduling_strategy="SPREAD").remote(self._app)

    def submit(self, job: Job) -> None:
        with self._lock:
            self._waiting.append(job)
            self._dispatch()

    def abandon(self, job: Job) -> None:
        """Give a job up. If it is running its worker is stopped, so that it cannot hold up what comes after."""
        with self._lock:
            if job.done:
                return
            job.done = True
            if job in self._waiting:
                self._waiting.remove(job)
                return
            running = self._running.get(job.node)
            if running and running[0] is job:
                ray.kill(running[1])

    def close(self) -> None:
        """Stop all workers."""
        with self._lock:
            self._closed = True
            for worker in [*self._idle, *(worker for _, worker in self._running.values())]:
                ray.kill(worker)
            self._idle.clear()
            self._waiting.clear()

    def _dispatch(self) -> None:
        for job in list(self._waiting):
            if not self._idle:
                return
            if job.node in self._running:
                continue
            self._waiting.remove(job)
            worker = self._idle.pop()
            self._running[job.node] = (job, worker)
            reply, context = worker.handle.options(num_returns=2).remote(job.parcel, self._contexts[job.node])
            reply.future().add_done_callback(
                lambda future, job=job, worker=worker, context=context: self._finish(job, worker, context, future)
            )

    def _finish(self, job: Job, worker: Any, context: Any, future: Any) -> None:
        error = future.exception()
        with self._lock:
            self._running.pop(job.node, None)
            if self._closed:
                return
            if error is None:
                self._contexts[job.node] = context
                self._idle.append(worker)
            else:
                ray.kill(worker)
                self._idle.append(self._new_worker())
            given_up, job.done = job.done, True
            self._dispatch()
        if not given_up:
            job.deliver(future.result() if error is None else _crashed(job.parcel))


def _crashed(parcel: Parcel) -> Message:
    message = delivered(RecordDict(), parcel.metadata)
    return Message(Error(ErrorCode.CLIENT_APP_CRASHED, "the client's process died"), reply_to=message)
