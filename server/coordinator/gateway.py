"""The one door to the outside: TLS, and nothing behind it but Flower's fleet API, for admitted node keys.

Flower's control and runtime APIs share the fleet API's port. The control API has no user authentication, and the
runtime API hands out tasks, so the SuperLink listens on loopback only and this proxy lets `/v1/fleet/` through. It asks
for the signature of an admitted node key before it reads a body, passes a body on as it comes, and bounds its size by
what the call and the run can need (allowance.py). Connections are kept in bounds by door.py.

    python -m server.coordinator.gateway HOME

Private API of flwr: flwr.supercore.primitives.asymmetric, header names of flwr.supercore.constant.
"""

from __future__ import annotations

import asyncio
import base64
import ssl
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import uvicorn
from cryptography.hazmat.primitives import serialization
from flwr.common.constant import TIMESTAMP_HEADER
from flwr.supercore.constant import FLEET_HTTP_PUBLIC_KEY_HEADER, FLEET_HTTP_SIGNATURE_HEADER
from flwr.supercore.primitives.asymmetric import bytes_to_public_key, verify_signature
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from server.coordinator.allowance import LARGEST, LARGEST_CALL, Allowance
from server.coordinator.door import CONNECTIONS, Door
from server.coordinator.home import CoordinatorHome
from server.coordinator.roster import Roster

SECONDS = 60.0
CALLS = frozenset(
    {
        *("activate-node", "deactivate-node", "register-node", "unregister-node", "send-node-heartbeat"),
        *("pull-messages", "push-messages", "get-run", "get-fab", "pull-object", "push-object"),
        "confirm-message-received",
    }
)
"""Flower's fleet API, 1.41."""
SAYS = "! "
"""Begins a line of the gateway's log that `server start` tells its operator."""
_HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "te", "trailer", "upgrade", "host", "content-length"}
_OPENSSH = (serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)


class _TooLarge(Exception):
    pass


class Admitted:
    """The node keys of admitted clients, as the roster has them at this moment."""

    def __init__(self, roster: Path) -> None:
        self._path = roster
        self._seen: tuple[int, int] | None = None
        self._names: dict[str, str] = {}

    def name(self, request: Request) -> str | None:
        """Whose admitted key has signed the request; None: nobody's."""
        try:
            pem, signature = (
                base64.b64decode(request.headers[header], validate=True)
                for header in (FLEET_HTTP_PUBLIC_KEY_HEADER, FLEET_HTTP_SIGNATURE_HEADER)
            )
            key = bytes_to_public_key(pem)
            name = self._known().get(key.public_bytes(*_OPENSSH).decode())
            if name and verify_signature(key, request.headers[TIMESTAMP_HEADER].encode("ascii"), signature):
                return name
        except (KeyError, ValueError, TypeError, AttributeError):
            pass
        return None

    def _known(self) -> dict[str, str]:
        state = self._path.stat()
        if self._seen != (state.st_mtime_ns, state.st_ino):
            entries = Roster(self._path).entries()
            self._names = {entry.card.node_key: name for name, entry in entries.items() if not entry.revoked}
            self._seen = (state.st_mtime_ns, state.st_ino)
        return self._names


def gateway(link: str, authority: Path, admitted: Admitted, allowance: Allowance, door: Door) -> Starlette:
    """A proxy to the SuperLink at URL `link`, whose certificate is one of `authority`."""

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        async def sweep() -> None:
            while True:
                await asyncio.sleep(1.0)
                door.sweep()

        limits = httpx.Limits(max_connections=CONNECTIONS)
        trusted = ssl.create_default_context(cafile=str(authority))
        sweeping = asyncio.create_task(sweep())
        async with httpx.AsyncClient(
            base_url=link, verify=trusted, timeout=SECONDS, trust_env=False, limits=limits
        ) as client:
            app.state.link = client
            yield
        sweeping.cancel()

    async def bounded(request: Request, name: str, call: str) -> AsyncIterator[bytes]:
        size = 0
        async for part in request.stream():
            size += len(part)
            if size > LARGEST.get(call, LARGEST_CALL) or not allowance.take(name, call, len(part)):
                raise _TooLarge
            yield part

    async def forward(request: Request) -> Response:
        call = request.path_params["call"]
        if call not in CALLS:
            return PlainTextResponse("no such call", status_code=404)
        who = admitted.name(request)
        if who is None:
            return JSONResponse({"detail": "Invalid SuperNode authentication"}, status_code=401)
        name = who
        if request.client:
            door.prove((request.client.host, request.client.port), name)
        if not allowance.begin(name, call):
            return _refused(name, allowance)
        client: httpx.AsyncClient = request.app.state.link
        headers = [(name, value) for name, value in request.headers.items() if name not in _HOP_BY_HOP]
        try:
            async with asyncio.timeout(SECONDS):
                passed = client.build_request(
                    "POST", f"/v1/fleet/{call}", headers=headers, content=bounded(request, name, call)
                )
                answer = await client.send(passed, stream=True)
        except _TooLarge:
            return _refused(name, allowance)
        except (httpx.HTTPError, TimeoutError, ClientDisconnect):
            return PlainTextResponse("the coordinator does not answer", status_code=503)
        except (ValueError, httpx.InvalidURL):
            return PlainTextResponse("malformed", status_code=400)
        if (
            answer.status_code >= 500
        ):  # a database that is locked, for one: Flower asks again after a 503, and only then
            await answer.aclose()
            return PlainTextResponse("the coordinator does not answer", status_code=503)
        kept = {name: value for name, value in answer.headers.items() if name not in _HOP_BY_HOP}
        return StreamingResponse(
            answer.aiter_raw(), answer.status_code, headers=kept, background=BackgroundTask(answer.aclose)
        )

    return Starlette(routes=[Route("/v1/fleet/{call:str}", forward, methods=["POST"])], lifespan=lifespan)


def _refused(name: str, allowance: Allowance) -> Response:
    say(f"client {name} sends more than a reply of this run can need ({allowance.reply / 1e6:.0f} MB): refused")
    return PlainTextResponse("the message is too large", status_code=413)


def say(text: str) -> None:
    """To the log, and so to whoever runs `server start`."""
    sys.stderr.write(f"{SAYS}{text}\n")
    sys.stderr.flush()


def main(root: Path) -> None:
    home = CoordinatorHome(root)
    settings = home.settings

    def crowded(address: str, connections: int) -> None:
        say(f"{address} holds {connections} connections without showing an admitted key: the oldest are cut")

    door = Door(settings.host, settings.port, crowded)
    proxy = gateway(
        f"https://127.0.0.1:{settings.link_port}",
        home.root / "link-ca.crt",
        Admitted(home.root / "roster.json"),
        Allowance(home.root),
        door,
    )
    config = uvicorn.Config(
        proxy,
        loop="asyncio",  # its own accepts through the door
        ssl_certfile=home.root / "gateway.crt",
        ssl_keyfile=home.root / "gateway.key",
        log_level="warning",
        access_log=False,
        server_header=False,
    )
    uvicorn.Server(config).run(sockets=[door])


if __name__ == "__main__":
    main(Path(sys.argv[1]))
