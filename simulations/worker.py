"""The Ray actor that runs a ClientApp for one message at a time."""

from __future__ import annotations

import os
from collections import OrderedDict
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import ray
from flwr.app import ArrayRecord, ConfigRecord, Context, Error, Message, MetricRecord, RecordDict
from flwr.app.metadata import Metadata
from flwr.clientapp import ClientApp
from flwr.common.constant import ErrorCode

from pipeline.engine.cluster import restore_home

Record = ArrayRecord | ConfigRecord | MetricRecord

CACHED_RECORDS = 4
"""Records a worker keeps: what one round shares among all clients, and a little of the last."""


@dataclass(frozen=True)
class Parcel:
    """A message on its way: records that several messages share are references into the object store."""

    metadata: Metadata
    records: tuple[tuple[str, Any], ...]


class Worker:
    """Loads the app once. Shared records are fetched once a worker, not once a message."""

    def __init__(self, app: ClientApp | str) -> None:
        # Many workers on few cores: one thread each, set before the app imports anything that starts threads.
        os.environ["OMP_NUM_THREADS"] = "1"
        restore_home()
        self._app = load_app(app) if isinstance(app, str) else app
        self._cache: OrderedDict[str, Record] = OrderedDict()

    def ready(self) -> bool:
        """Answers once the app is loaded."""
        return True

    def handle(self, parcel: Parcel, context: Context) -> tuple[Message, Context]:
        """Run the app. What it raises becomes an error reply, as on a SuperNode."""
        content = RecordDict({name: self._record(part) for name, part in parcel.records})
        message = delivered(content, parcel.metadata)
        try:
            reply = self._app(message, context)
        except Exception as error:  # what an app raises is its reply
            reason = f"{type(error)}:<'{error}'>"
            return Message(Error(ErrorCode.CLIENT_APP_RAISED_EXCEPTION, reason), reply_to=message), context
        return reply, context

    def _record(self, part: Any) -> Record:
        if not isinstance(part, ray.ObjectRef):
            return part  # type: ignore[no-any-return]
        key = part.hex()
        if key not in self._cache:
            self._cache[key] = ray.get(part)
            while len(self._cache) > CACHED_RECORDS:
                self._cache.popitem(last=False)
        self._cache.move_to_end(key)
        record = self._cache[key]
        return type(record)(dict(record))  # type: ignore[arg-type]  # an app may change its record, not the cached one


def delivered(content: RecordDict, metadata: Metadata) -> Message:
    """A message as its receiver sees it. Flower has no public constructor that takes metadata."""
    return Message(content=content, metadata=metadata)  # type: ignore[call-overload,no-any-return]


def load_app(reference: str) -> ClientApp:
    """`module:attribute`, as Flower writes it."""
    module, _, attribute = reference.partition(":")
    app: ClientApp = getattr(import_module(module), attribute)
    return app
