"""The Open Inference Protocol over gRPC: the service that Triton's and KServe's clients call."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from functools import wraps
from pathlib import Path
from typing import Any

import grpc
from open_inference.grpc import protocol
from open_inference.grpc.service import GRPCInferenceServiceServicer, add_GRPCInferenceServiceServicer_to_server

from pipeline.language.protocol import own_version
from server.serving.gateway.asking import Desk
from server.serving.gateway.door import admit
from server.serving.gateway.limiting import Limits
from server.serving.gateway.oip import EXTENSIONS, PREDICTION, answering, named, subject_of
from server.serving.gateway.tensors import Tensor, answers_of, listed, metadata, packed, rows_of, unpacked
from server.serving.keys.keyring import Keyring
from server.serving.refusal import Refused

logger = logging.getLogger("sottovoce.serving")

_LISTS = {
    "BOOL": "bool_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}


def _asked(answer: Callable[[Any, Any], Any]) -> Callable[[Any, Any, Any], Awaitable[Any]]:
    """Keys first; what is refused becomes gRPC's code; what goes wrong is told by its name alone."""

    @wraps(answer)
    async def answered(self: Inference, request: Any, context: Any) -> Any:
        route = f"grpc {answer.__name__}"
        try:
            if not answer.__name__.startswith("Server"):
                who = context.peer().rpartition(":")[0]
                if self.keyring.closed:
                    told = dict(context.invocation_metadata() or ())
                    who = admit(self.keyring, str(told.get("authorization", "")), "predict")
                self.limits.permit(who)
            reply = answer(self, request)
        except Refused as refused:
            self.desk.measures.requests.labels(route, refused.grpc).inc()
            await context.abort(getattr(grpc.StatusCode, refused.grpc), str(refused))
        except Exception as error:
            logger.error("failed", extra={"route": route, "cause": type(error).__name__})
            self.desk.measures.requests.labels(route, "INTERNAL").inc()
            await context.abort(grpc.StatusCode.INTERNAL, "something went wrong here")
        self.desk.measures.requests.labels(route, "OK").inc()
        return reply

    return answered


class Inference(GRPCInferenceServiceServicer):  # type: ignore[misc]
    """The service."""

    def __init__(self, desk: Desk, keyring: Keyring, limits: Limits) -> None:
        self.desk, self.keyring, self.limits = desk, keyring, limits

    @_asked
    def ServerLive(self, request: Any) -> Any:  # noqa: N802
        return protocol.ServerLiveResponse(live=True)

    @_asked
    def ServerReady(self, request: Any) -> Any:  # noqa: N802
        return protocol.ServerReadyResponse(ready=answering(self.desk))

    @_asked
    def ServerMetadata(self, request: Any) -> Any:  # noqa: N802
        return protocol.ServerMetadataResponse(name="sottovoce", version=own_version(), extensions=EXTENSIONS)

    @_asked
    def ModelReady(self, request: Any) -> Any:  # noqa: N802
        try:
            named(self.desk, request.name, request.version or None)
        except Refused:
            return protocol.ModelReadyResponse(ready=False)
        return protocol.ModelReadyResponse(ready=True)

    @_asked
    def ModelMetadata(self, request: Any) -> Any:  # noqa: N802
        model = named(self.desk, request.name, request.version or None)
        told = metadata(model, request.name, sorted(self.desk.shelf.served))
        inputs, outputs = told.pop("inputs"), told.pop("outputs")
        tensor = protocol.ModelMetadataResponse.TensorMetadata
        return protocol.ModelMetadataResponse(
            **told, inputs=[tensor(**one) for one in inputs], outputs=[tensor(**one) for one in outputs]
        )

    @_asked
    def ModelInfer(self, request: Any) -> Any:  # noqa: N802
        named(self.desk, request.model_name, request.model_version or None)
        parameters = {
            name: value.string_param if value.WhichOneof("parameter_choice") == "string_param" else None
            for name, value in request.parameters.items()
        }
        rows = rows_of(_tensors(request))
        answered = self.desk.ask(rows, request.model_version or None, subject_of(parameters))
        tensors = answers_of(answered.model, answered.predictions, [one.name for one in request.outputs])
        output = protocol.ModelInferResponse.InferOutputTensor
        return protocol.ModelInferResponse(
            model_name=request.model_name,
            model_version=str(answered.model.number),
            id=request.id[:256],
            parameters={PREDICTION: protocol.InferParameter(string_param=answered.id)},
            outputs=[output(name=one.name, datatype=one.datatype, shape=one.shape) for one in tensors],
            raw_output_contents=[packed(one) for one in tensors],
        )


def _tensors(request: Any) -> list[Tensor]:
    """Raises Refused."""
    raw = request.raw_input_contents
    if raw and len(raw) != len(request.inputs):
        raise Refused(400, f"{len(raw)} raw contents for {len(request.inputs)} inputs; all of them, or none")
    found = []
    for at, told in enumerate(request.inputs):
        if raw:
            found.append(unpacked(told.name, told.datatype, list(told.shape), raw[at]))
        elif told.datatype in _LISTS:
            values = list(getattr(told.contents, _LISTS[told.datatype]))
            found.append(listed(told.name, told.datatype, list(told.shape), values))
        else:
            raise Refused(400, f"input {told.name[:60]}: {told.datatype[:20] or 'no datatype'} comes as raw contents")
    return found


async def start_grpc(
    inference: Inference, address: str, max_bytes: int, certificate: Path | None, key: Path | None
) -> Any:
    """A server on an address that several processes may share. Raises OSError."""
    server = grpc.aio.server(
        options=[
            ("grpc.so_reuseport", 1),
            ("grpc.max_receive_message_length", max_bytes),
            ("grpc.max_send_message_length", -1),
        ]
    )
    add_GRPCInferenceServiceServicer_to_server(inference, server)
    try:
        if certificate and key:
            pair = grpc.ssl_server_credentials([(key.read_bytes(), certificate.read_bytes())])
            server.add_secure_port(address, pair)
        else:
            server.add_insecure_port(address)
    except RuntimeError as error:
        raise OSError(str(error)) from None
    await server.start()
    return server
