"""The questions that HTTP takes: `POST /predict`, what there is, and how it goes."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse
from pydantic_core import from_json, to_json
from starlette.exceptions import HTTPException

from server.evidence.outcomes import Outcomes
from server.serving.gateway.asking import Desk
from server.serving.gateway.door import refusal
from server.serving.gateway.hearing import add_feedback
from server.serving.gateway.oip import add_inference
from server.serving.gateway.openapi import document, page
from server.serving.refusal import Refused
from server.serving.version import ServedModel

KNOWN = {"rows", "version", "subject", "explain"}


def application(desk: Desk, outcomes: Outcomes) -> FastAPI:
    """Everything behind the door."""
    api = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)  # its pages would load scripts from elsewhere
    shelf = desk.shelf

    @api.exception_handler(Refused)
    def refused(request: Request, error: Refused) -> Response:
        return JSONResponse(refusal(request.url.path, str(error)), error.status)

    @api.exception_handler(HTTPException)
    def unknown(request: Request, error: HTTPException) -> Response:
        return JSONResponse(refusal(request.url.path, str(error.detail)), error.status_code, error.headers)

    async def predict(request: Request) -> Response:
        request.scope["asked"] = "/predict"
        rows, version, subject, explained = _question(await request.body())
        answered = desk.ask(rows, version, subject, explained=explained)
        reply = {
            "model": answered.model.registered.name,
            "version": answered.model.number,
            "id": answered.id,
            "predictions": answered.predictions,
        }
        return Response(to_json(reply), media_type="application/json")

    # Without FastAPI's injection, of which nothing is used here and which costs a third of an answer.
    api.add_route("/predict", predict, methods=["POST"])

    @api.get("/models")
    async def models() -> dict[str, Any]:
        """What is served; the card of the champion."""
        shelf.look()
        lineup = shelf.lineup
        told = {
            "model": lineup.name,
            "versions": sorted(shelf.served, reverse=True),
            "shares": {str(version): share for version, share in lineup.shares.items()},
            "shadow": list(lineup.shadow),
            "problem": lineup.problem,
        }
        champion = shelf.served.get(lineup.champion or 0)
        return {**told, "champion": champion.description if champion else None}

    @api.get("/models/{version}")
    async def model(version: str) -> dict[str, Any]:
        """The card of one: metrics with errors, privacy statement, schemas."""
        return dict(shelf.chosen(version, None).description)

    @api.get("/healthz")
    async def alive() -> dict[str, str]:
        """200: the process answers."""
        return {"status": "ok"}

    @api.get("/readyz")
    async def ready() -> Response:
        """200 when a version answers, and which; else 503 with the reason."""
        shelf.look()
        lineup = shelf.lineup
        answering = [version for version in lineup.shares if version in shelf.served]
        told = {
            "status": "ok" if answering else "no version answers",
            "model": lineup.name,
            "version": lineup.champion,
            "shares": {str(version): lineup.shares[version] for version in answering},
            "problem": lineup.problem
            if answering or lineup.problem
            else f"no version of {lineup.name} is champion yet",
        }
        return JSONResponse(told, 200 if answering else 503)

    @api.get("/metrics")
    async def metrics() -> Response:
        return Response(desk.measures.page(), media_type="text/plain; version=0.0.4")

    def documented() -> ServedModel | None:
        shelf.look()
        return shelf.served.get(next(iter(shelf.lineup.shares), 0))

    @api.get("/openapi.json")
    async def openapi() -> dict[str, Any]:
        return document(documented(), desk.max_rows)

    @api.get("/docs")
    async def docs(request: Request) -> HTMLResponse:
        return HTMLResponse(page(document(documented(), desk.max_rows), str(request.base_url)))

    add_inference(api, desk)
    add_feedback(api, desk, outcomes)
    return api


def _question(body: bytes) -> tuple[list[dict[str, Any]], str | None, str | None, bool]:
    """Rows, version, subject, and whether to explain. Raises Refused."""
    try:
        told = from_json(body)
    except ValueError as error:
        raise Refused(400, f"not JSON: {error}") from None
    if not isinstance(told, dict):
        raise Refused(422, 'expected an object: {"rows": [...]}')
    if more := sorted(set(told) - KNOWN):
        raise Refused(422, f"no such field: {more[0][:60]}; there are rows, version, subject and explain")
    rows = told.get("rows")
    if not isinstance(rows, list):
        raise Refused(422, "rows: expected a list of objects, each from column to value")
    for number, row in enumerate(rows):
        if not isinstance(row, dict):
            raise Refused(422, f"row {number}: expected an object from column to value")
    version, subject = told.get("version"), told.get("subject")
    if version is not None and (isinstance(version, bool) or not isinstance(version, str | int)):
        raise Refused(422, "version: expected a number, or champion")
    if subject is not None and not isinstance(subject, str):
        raise Refused(422, "subject: expected text")
    explained = told.get("explain", False)
    if not isinstance(explained, bool):
        raise Refused(422, "explain: expected true or false")
    return rows, None if version is None else str(version), subject, explained
