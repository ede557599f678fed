"""`POST /feedback`: what became of predictions. Late, repeated or out of order, it comes to the same."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

import numpy as np
from fastapi import FastAPI, Request, Response
from fastapi.concurrency import run_in_threadpool
from pydantic_core import from_json, to_json

from pipeline.learning.tasks.task import Task
from privacy.errors import SottovoceError
from server.evidence.outcomes import Outcome, Outcomes, Taken
from server.evidence.receipts import Receipt
from server.serving.gateway.asking import Desk
from server.serving.refusal import Refused

logger = logging.getLogger("sottovoce.serving")

KNOWN = {"id", "outcome", "outcomes", "at"}
LONGEST_ID = 2**23
"""Characters."""


def add_feedback(api: FastAPI, desk: Desk, outcomes: Outcomes) -> None:
    """The route."""

    async def feedback(request: Request) -> Response:
        request.scope["asked"] = "/feedback"
        body = await request.body()
        try:
            taken = await run_in_threadpool(_taken, desk, outcomes, body)
        except SottovoceError as error:
            logger.error("outcomes not taken", extra={"cause": error.cause})
            raise Refused(503, "outcomes cannot be taken now; say it again later") from None
        except Refused as refused:
            desk.measures.feedback.labels("foreign" if refused.status == 404 else "refused").inc()
            raise
        for what, count in vars(taken).items():
            desk.measures.feedback.labels(what).inc(count)
        return Response(to_json(vars(taken)), media_type="application/json")

    api.add_route("/feedback", feedback, methods=["POST"])


def _taken(desk: Desk, outcomes: Outcomes, body: bytes) -> Taken:
    """Raises Refused, SottovoceError."""
    tasks = {version: model.spec.task for version, model in desk.shelf.loaded.items()}
    if not tasks:
        raise Refused(503, "no version answers, so none can be judged")
    found = []
    for one in _outcomes(desk, _messages(body)):
        found.append(one)
        if len(found) > desk.max_rows:
            raise Refused(413, f"more than {desk.max_rows} outcomes in one request")
    newest = tasks[max(tasks)]
    return outcomes.take(_judged(found, {one.version: tasks.get(one.version, newest) for one in found}, tasks))


def _judged(found: list[Outcome], own: Mapping[int, Task], tasks: Mapping[int, Task]) -> list[Outcome]:
    """Each by the task of the version that answered, where that is still held. A shadow of another task is left out:
    there is nothing to compare. Raises Refused."""
    import pandas as pd

    judged: dict[int, Outcome] = {}
    for version, task in own.items():
        places = [at for at, one in enumerate(found) if one.version == version]
        targets = task.targets(pd.Series([found[at].outcome for at in places], dtype=object))
        for at, target in zip(places, targets, strict=True):
            one = found[at]
            if not np.isfinite(target):
                raise Refused(422, f"{str(one.outcome)[:60]!r} is no outcome: expected {task.said[:200]}")
            told = {
                other: numbers
                for other, numbers in one.told.items()
                if other == version or tasks.get(other, task).declared == task.declared
            }
            penalties = {other: _penalty(task, numbers, target) for other, numbers in told.items()}
            judged[at] = replace(one, told=told, target=float(target), penalties=penalties)
    return [judged[at] for at in range(len(found))]


def _penalty(task: Task, numbers: Sequence[float], target: np.float32) -> float:
    """What is no number is as wrong as can be."""
    found = float(task.penalties(np.array([numbers], dtype=np.float64), np.array([target]))[0])
    return found if np.isfinite(found) else 1.0


def _messages(body: bytes) -> list[dict[str, Any]]:
    """Raises Refused."""
    try:
        told = from_json(body)
    except ValueError as error:
        raise Refused(400, f"not JSON: {error}") from None
    messages = told if isinstance(told, list) else [told]
    for message in messages:
        if not isinstance(message, dict):
            raise Refused(422, 'expected an object, or a list of them: {"id": "...", "outcome": ...}')
        if more := sorted(set(message) - KNOWN):
            raise Refused(422, f"no such field: {more[0][:60]}; there are id, outcome, outcomes and at")
    if not messages:
        raise Refused(422, "nothing was said: expected at least one outcome")
    return messages


def _outcomes(desk: Desk, messages: list[dict[str, Any]]) -> Iterator[Outcome]:
    """Of each row that something is said of; not yet judged. Raises Refused."""
    now, name = time.time(), desk.shelf.lineup.name
    for message in messages:
        receipt = _receipt(desk, message.get("id"))
        at = _when(message.get("at"), now)
        for row, said in enumerate(_said(message, receipt)):
            if said is not None:
                yield Outcome(
                    id=receipt.id,
                    row=row,
                    model=name,
                    version=receipt.version,
                    unit=_unit(receipt, row),
                    experiment=receipt.experiment,
                    shares=receipt.shares,
                    told={version: numbers[row].tolist() for version, numbers in receipt.told.items()},
                    penalties={},
                    outcome=said,
                    target=0.0,
                    at=at,
                    asked=receipt.asked,
                    received=now,
                )


def _receipt(desk: Desk, id: object) -> Receipt:
    if not isinstance(id, str):
        raise Refused(422, "id: expected the id of a prediction, as text")
    receipt = desk.receipts.read(id) if len(id) <= LONGEST_ID else None
    if receipt is None:
        raise Refused(404, f"no prediction of this endpoint: {id[:20]!r}")
    return receipt


def _unit(receipt: Receipt, row: int) -> str:
    """Whose row it is. Rows about nobody are each their own, unless one draw decided who answers all of them."""
    if receipt.about or receipt.experiment:
        return receipt.unit
    return f"{(int(receipt.unit, 16) + row) % 2**64:016x}"


def _said(message: dict[str, Any], receipt: Receipt) -> list[Any]:
    """One outcome for each row; None where it is not known yet."""
    if ("outcome" in message) == ("outcomes" in message):
        raise Refused(422, "expected outcome, of a prediction of one row, or outcomes, one for each")
    said = message["outcomes"] if "outcomes" in message else [message["outcome"]]
    if not isinstance(said, list):
        raise Refused(422, "outcomes: expected a list, one for each row; null where it is not known yet")
    if len(said) != receipt.rows:
        raise Refused(422, f"{len(said)} outcomes of a prediction of {receipt.rows} rows")
    if "outcome" in message and said[0] is None:
        raise Refused(422, "outcome: null says nothing")
    for one in said:
        if one is not None and not isinstance(one, str | int | float | bool):
            raise Refused(422, "an outcome is a text, a number, true or false")
        if isinstance(one, str) and not one.isprintable():
            raise Refused(422, "an outcome of characters that are none")
        if (isinstance(one, float) and not np.isfinite(one)) or (isinstance(one, int) and abs(one) > 2**53):
            raise Refused(422, "an outcome beyond what is a number here")
    return said


def _when(told: object, now: float) -> float:
    if told is None:
        return now
    try:
        found = datetime.fromisoformat(str(told))
        if not isinstance(told, str) or found.tzinfo is None:
            raise ValueError
    except ValueError:
        raise Refused(422, "at: expected a time with its zone, such as 2026-05-01T12:00:00+00:00") from None
    if found.timestamp() > now + 300:
        raise Refused(422, "at: that has not been yet")
    return found.timestamp()
