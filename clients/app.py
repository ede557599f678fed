"""The Flower ClientApp: one handler an action, each delegating to one module.

The same app runs in a simulation and on a SuperNode. The home is named by the node's config (`home="PATH"`). No
exception leaves a handler: its full text goes to the client's own log, and the coordinator gets a code and a fixed
headline.
"""

from __future__ import annotations

import json
import logging
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from flwr.app import Context, Error, Message
from flwr.clientapp import ClientApp
from pydantic import BaseModel

from clients.home import Home
from pipeline.kinds import check_codes
from pipeline.language import protocol
from pipeline.language.packing import Blobs, pack, unpack
from pipeline.language.protocol import Action
from privacy.errors import (
    ClientFailed,
    CohortTooSmall,
    ContractRefused,
    ForbiddenColumn,
    PrivacyError,
    ProtocolError,
    named,
)

logger = logging.getLogger(__name__)

CLIENT_ERROR = 1000
"""Flower error code of a named error; its reason is JSON with `code` and `message`."""

ALERTING = (PrivacyError, CohortTooSmall, ContractRefused, ForbiddenColumn, ProtocolError)
"""What an honest coordinator seldom runs into, and its owner wants to know of."""

app = ClientApp()

Handler = Callable[[Home, Any, dict[str, bytes]], tuple[BaseModel, Blobs]]


def handler_of(action: Action) -> tuple[type[BaseModel], Handler]:
    """The request of an action, and what answers it.

    Imported when first asked for: torch costs seconds that `join` must not pay.
    """
    match action:
        case Action.JOIN:
            from clients.enrolment import join

            return protocol.JoinRequest, join
        case Action.KEYS:
            from clients.keyring import keys

            return protocol.KeysRequest, keys
        case Action.INGEST:
            from clients.ingestion import ingest

            return protocol.IngestRequest, ingest
        case Action.VALIDATE:
            from clients.validation import validate

            return protocol.ValidateRequest, validate
        case Action.STATISTICS:
            from clients.statistics import statistics

            return protocol.StatisticsRequest, statistics
        case Action.PREPROCESS:
            from clients.preprocessing import preprocess

            return protocol.PreprocessRequest, preprocess
        case Action.TRAIN:
            from clients.rounds import train

            return protocol.TrainRequest, train
        case Action.EVALUATE:
            from clients.evaluation import evaluate

            return protocol.EvaluateRequest, evaluate
        case Action.REVEAL:
            from clients.reveal import reveal

            return protocol.RevealRequest, reveal


def handle(action: Action, message: Message, context: Context) -> Message:
    """Answer one message; every failure becomes a sanitised error reply."""
    home: Home | None = None
    try:
        home = Home(Path(str(context.node_config.get("home", ""))))
        home.policy.permit_action(action.name.lower())
        kind, answer = handler_of(action)
        with home.locked():
            request, blobs = unpack(kind, message.content, home.policy.allowed_kinds)
            check_codes(request, getattr(request, "code", {}) if "code" in request.model_fields_set else {})
            reply, out = answer(home, request, blobs)
        return Message(pack(reply, out), reply_to=message)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # the trust boundary: whatever was raised may quote data; a panic is no Exception
        if home is not None:
            _log(home, action, message, error)
        code, text = (named(error) or ClientFailed("")).travelling()
        return Message(Error(CLIENT_ERROR, json.dumps({"code": code, "message": text})), reply_to=message)


def _log(home: Home, action: Action, message: Message, error: BaseException) -> None:
    """For the owner: the full text, and a count of what was refused on privacy grounds."""
    try:
        home.log(f"{action}: {''.join(traceback.format_exception(error))}")
        if isinstance(found := named(error), ALERTING):
            home.alerts.note(found.code, action.name.lower(), f"run {message.metadata.run_id:x}", found.cause)
    except OSError:
        logger.warning("the client log cannot be written")


def _handler(action: Action) -> Callable[[Message, Context], Message]:
    def answer(message: Message, context: Context) -> Message:
        return handle(action, message, context)

    return answer


for _action in Action:
    _category, _, _name = _action.value.partition(".")
    _register = {"query": app.query, "train": app.train, "evaluate": app.evaluate}[_category]
    _register(*([_name] if _name else []))(_handler(_action))
