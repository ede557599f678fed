"""The Open Inference Protocol over HTTP, so that stock clients work unchanged.

github.com/kserve/open-inference-protocol, version 2, with Triton's binary tensors and repository index.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from pydantic_core import from_json, to_json

from pipeline.language.protocol import own_version
from server.serving.gateway.asking import Desk
from server.serving.gateway.tensors import Tensor, answers_of, listed, metadata, packed, rows_of, unpacked
from server.serving.refusal import Refused
from server.serving.version import ServedModel

LENGTH = "Inference-Header-Content-Length"
"""Bytes of JSON before the tensors, in a request or an answer that has some in binary form."""
PREDICTION = "prediction_id"
"""The parameter of an answer that says what to give to `POST /feedback`."""
EXTENSIONS = ["binary_tensor_data", "model_repository"]


def add_inference(api: FastAPI, desk: Desk) -> None:
    """The routes under /v2."""

    @api.get("/v2/health/live")
    async def live() -> dict[str, bool]:
        return {"live": True}

    @api.get("/v2/health/ready")
    async def ready() -> Response:
        good = answering(desk)
        return JSONResponse({"ready": good}, 200 if good else 503)

    @api.get("/v2")
    async def server() -> dict[str, Any]:
        return {"name": "sottovoce", "version": own_version(), "extensions": EXTENSIONS}

    @api.get("/v2/models/{name}")
    @api.get("/v2/models/{name}/versions/{version}")
    async def model(name: str, version: str | None = None) -> dict[str, Any]:
        return metadata(named(desk, name, version), name, sorted(desk.shelf.served))

    @api.get("/v2/models/{name}/ready")
    @api.get("/v2/models/{name}/versions/{version}/ready")
    async def model_ready(name: str, version: str | None = None) -> dict[str, Any]:
        named(desk, name, version)
        return {"name": name, "ready": True}

    @api.post("/v2/repository/index")
    async def index() -> list[dict[str, str]]:
        name = desk.shelf.lineup.name
        return [{"name": name, "version": str(version), "state": "READY"} for version in sorted(desk.shelf.served)]

    @api.post("/v2/models/{name}/infer")
    @api.post("/v2/models/{name}/versions/{version}/infer")
    async def infer(request: Request, name: str, version: str | None = None) -> Response:
        told, binary = _split(await request.body(), request.headers.get(LENGTH))
        _known(desk, name)
        inputs = told.get("inputs")
        if not isinstance(inputs, list):
            raise Refused(400, "inputs: expected a list of tensors")
        rows = rows_of(_tensors(inputs, binary))
        answered = desk.ask(rows, version, subject_of(told.get("parameters")))
        wanted = told.get("outputs") or []
        if not isinstance(wanted, list) or not all(
            isinstance(one, dict) and isinstance(one.get("name"), str) for one in wanted
        ):
            raise Refused(400, "outputs: expected a list of names")
        tensors = answers_of(answered.model, answered.predictions, [one["name"] for one in wanted])
        reply: dict[str, Any] = {
            "model_name": name,
            "model_version": str(answered.model.number),
            "parameters": {PREDICTION: answered.id},
        }
        if told.get("id"):
            reply["id"] = str(told["id"])[:256]
        return _answer(reply, tensors, _in_binary(told, wanted))


def answering(desk: Desk) -> bool:
    """Whether a version answers."""
    desk.shelf.look()
    return any(version in desk.shelf.served for version in desk.shelf.lineup.shares)


def named(desk: Desk, name: str, version: str | None) -> ServedModel:
    """Raises Refused."""
    _known(desk, name)
    return desk.shelf.chosen(version, "")


def subject_of(parameters: Any) -> str | None:
    """Whom a request says it is about: the parameter `sticky_key`. Others are other people's. Raises Refused."""
    told = parameters.get("sticky_key") if isinstance(parameters, Mapping) else None
    if told is not None and not isinstance(told, str):
        raise Refused(400, "sticky_key: expected text")
    return told


def _known(desk: Desk, name: str) -> None:
    desk.shelf.look()
    if name != desk.shelf.lineup.name:
        raise Refused(404, f"no such model: {name[:60]}; served is {desk.shelf.lineup.name}")


def _split(body: bytes, length: str | None) -> tuple[dict[str, Any], memoryview]:
    """The JSON of a request, and what follows it. Raises Refused."""
    at = len(body)
    if length is not None:
        if not (length.isascii() and length.isdecimal() and len(length) < 12 and int(length) <= at):
            raise Refused(400, f"{LENGTH}: expected a number of bytes within the body")
        at = int(length)
    try:
        told = from_json(body[:at])
    except ValueError as error:
        raise Refused(400, f"not JSON: {error}") from None
    if not isinstance(told, dict):
        raise Refused(400, "expected an object with inputs")
    return told, memoryview(body)[at:]


def _tensors(inputs: Sequence[Any], binary: memoryview) -> list[Tensor]:
    found, at = [], 0
    for told in inputs:
        if not isinstance(told, dict) or not isinstance(told.get("name"), str):
            raise Refused(400, "inputs: each has a name, a datatype and a shape")
        name, datatype, shape = told["name"], told.get("datatype"), told.get("shape")
        if not isinstance(datatype, str) or not isinstance(shape, list):
            raise Refused(400, f"input {name[:60]}: expected a datatype and a shape")
        parameters = told.get("parameters")
        size = parameters.get("binary_data_size") if isinstance(parameters, dict) else None
        if size is None:
            if not isinstance(told.get("data"), list):
                raise Refused(400, f"input {name[:60]}: no data")
            found.append(listed(name, datatype, shape, told["data"]))
        else:
            if isinstance(size, bool) or not isinstance(size, int) or not 0 <= size <= len(binary) - at:
                raise Refused(400, f"input {name[:60]}: binary_data_size is beyond the body")
            found.append(unpacked(name, datatype, shape, binary[at : at + size]))
            at += size
    if at != len(binary):
        raise Refused(400, f"{len(binary) - at} bytes after the last tensor")
    return found


def _in_binary(told: Mapping[str, Any], wanted: Sequence[Mapping[str, Any]]) -> set[str] | None:
    """Names of outputs to be answered in binary form; None: all of them."""
    parameters = told.get("parameters")
    if isinstance(parameters, dict) and parameters.get("binary_data_output") is True and not wanted:
        return None
    return {
        one["name"]
        for one in wanted
        if isinstance(one.get("parameters"), dict) and one["parameters"].get("binary_data") is True
    }


def _answer(reply: dict[str, Any], tensors: Sequence[Tensor], binary: set[str] | None) -> Response:
    outputs, tail = [], []
    for tensor in tensors:
        told: dict[str, Any] = {"name": tensor.name, "datatype": tensor.datatype, "shape": list(tensor.shape)}
        if binary is None or tensor.name in binary:
            tail.append(packed(tensor))
            told["parameters"] = {"binary_data_size": len(tail[-1])}
        else:
            told["data"] = list(tensor.values)
        outputs.append(told)
    head = to_json({**reply, "outputs": outputs})
    if not tail:
        return Response(head, media_type="application/json")
    return Response(head + b"".join(tail), media_type="application/octet-stream", headers={LENGTH: str(len(head))})
