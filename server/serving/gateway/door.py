"""What every request passes before anything of it is read as a question: who asks, how large, how long it takes.

A plain ASGI application around another. It reads the whole body, bounded and in time, so that a request that is still
arriving holds nothing but its connection; it gives each request an id, and counts it.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
import secrets
import time
import zlib
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from server.serving.gateway.limiting import Limits
from server.serving.gateway.measures import Measures
from server.serving.keys.keyring import Keyring, Role
from server.serving.refusal import Refused

logger = logging.getLogger("sottovoce.serving")

_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")
OPEN = ("/healthz", "/readyz", "/v2/health/live", "/v2/health/ready")
"""What a supervisor asks, without a key."""
OPERATE = ("/metrics",)


class Door:
    """In front of `app`."""

    def __init__(
        self,
        app: ASGIApp,
        keyring: Keyring,
        measures: Measures,
        max_bytes: int,
        body_seconds: float,
        limits: Limits | None = None,
    ) -> None:
        self._app, self._keyring, self._measures = app, keyring, measures
        self._limits = limits or Limits(None)
        self._max_bytes, self._body_seconds = max_bytes, body_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun = time.perf_counter()
        headers = dict(scope["headers"])
        given = headers.get(b"x-request-id", b"")
        name = given if _REQUEST_ID.fullmatch(given) else secrets.token_hex(8).encode()
        status = 0

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), (b"x-request-id", name)]
            await send(message)

        try:
            self._admit(scope, headers)
            body = await self._body(headers, receive) if scope["method"] in ("POST", "PUT", "PATCH") else b""
            await self._app(scope, _once(body), answer)
        except Refused as refused:
            await _refuse(scope["path"], refused.status, str(refused), answer, refused.after)
        except Exception as error:
            # By its name alone: what it says may quote rows.
            logger.error("failed", extra={"request": name.decode(), "cause": type(error).__name__})
            if not status:
                await _refuse(scope["path"], 500, f"something went wrong here; request {name.decode()}", answer)
        route = scope.get("asked") or (scope["route"].path if "route" in scope else "other")
        self._measures.answered(route, str(status), time.perf_counter() - begun)
        if status >= 400:
            logger.warning("refused", extra={"request": name.decode(), "route": route, "status": status})

    def _admit(self, scope: Scope, headers: dict[bytes, bytes]) -> None:
        path = scope["path"]
        if path in OPEN:
            return
        who = (scope.get("client") or ("somebody",))[0]
        if self._keyring.closed:
            who = admit(self._keyring, headers.get(b"authorization", b"").decode("latin-1"), role_of(path))
        self._limits.permit(who)

    async def _body(self, headers: dict[bytes, bytes], receive: Receive) -> bytes:
        """Raises Refused."""
        most = self._max_bytes
        length = headers.get(b"content-length", b"0")
        if length.isdigit() and int(length[:12]) > most:
            raise Refused(413, f"a body of {int(length[:12])} bytes; at most {most}")
        whole = bytearray()
        try:
            async with asyncio.timeout(self._body_seconds):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise Refused(400, "the request ended before its body")
                    whole += message.get("body", b"")
                    if len(whole) > most:
                        raise Refused(413, f"a body of more than {most} bytes")
                    if not message.get("more_body"):
                        break
        except TimeoutError:
            raise Refused(408, f"the body did not arrive within {self._body_seconds:g} s") from None
        return _unpacked(bytes(whole), headers.get(b"content-encoding", b""), most)


def role_of(path: str) -> Role:
    """What a key must be for."""
    return "operate" if path in OPERATE else "feedback" if path == "/feedback" else "predict"


def admit(keyring: Keyring, authorization: str, role: Role) -> str:
    """Whose key it is. Raises Refused."""
    kind, _, told = authorization.partition(" ")
    key = keyring.who(told.strip()) if kind.lower() == "bearer" else None
    if key is None:
        raise Refused(401, "expected a key that is known here: Authorization: Bearer KEY")
    if role not in key.roles:
        raise Refused(403, f"the key {key.name} is for {', '.join(key.roles)}, not for {role}")
    return key.name


def _once(body: bytes) -> Receive:
    async def receive() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    return receive


def _unpacked(body: bytes, encoding: bytes, most: int) -> bytes:
    if encoding in (b"", b"identity"):
        return body
    if encoding not in (b"gzip", b"deflate"):
        raise Refused(415, "a body is plain, gzip or deflate")
    try:
        packed = zlib.decompressobj(wbits=47)  # tells gzip from zlib by itself
        plain = packed.decompress(body, most + 1)
        whole = packed.eof
    except zlib.error:
        raise Refused(400, "the body is not what its content-encoding says") from None
    if len(plain) > most:
        raise Refused(413, f"a body of more than {most} bytes, unpacked")
    if not whole:
        raise Refused(400, "the body is not what its content-encoding says")
    return plain


async def _refuse(path: str, status: int, cause: str, send: Send, after: int | None = None) -> None:
    body = json.dumps(refusal(path, cause)).encode()
    headers: list[tuple[bytes, bytes]] = [(b"content-type", b"application/json")]
    headers.append((b"content-length", str(len(body)).encode()))
    if after is not None:
        headers.append((b"retry-after", str(after).encode()))
    if status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def refusal(path: str, cause: str) -> dict[str, Any]:
    """As the Open Inference Protocol wants it under /v2, as FastAPI says it elsewhere."""
    return {"error": cause} if path.startswith("/v2") else {"detail": cause}
