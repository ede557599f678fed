"""The one door to the outside: TLS, and nothing behind it but Flower's fleet API.

Flower's control and runtime APIs share the fleet API's port. The control API has no user authentication, and the
runtime API hands out tasks, so the SuperLink listens on loopback only and this proxy lets `/v1/fleet/` through.

    python -m server.gateway HOME
"""

from __future__ import annotations

import asyncio
import ssl
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import uvicorn
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from server.home import CoordinatorHome

SECONDS = 60.0
LARGEST = 128 * 1024 * 1024
"""Bytes of one call. Flower cuts messages into objects far smaller; who sends more has other things in mind."""
CONNECTIONS = 512
CALLS = frozenset(
    {
        *("activate-node", "deactivate-node", "register-node", "unregister-node", "send-node-heartbeat"),
        *("pull-messages", "push-messages", "get-run", "get-fab", "pull-object", "push-object"),
        "confirm-message-received",
    }
)
"""Flower's fleet API, 1.41."""
_HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "te", "trailer", "upgrade", "host", "content-length"}


class _TooLarge(Exception):
    pass


async def _limited(request: Request) -> AsyncIterator[bytes]:
    size = 0
    async for part in request.stream():
        size += len(part)
        if size > LARGEST:
            raise _TooLarge
        yield part


def gateway(link: str, authority: Path) -> Starlette:
    """A proxy to the SuperLink at URL `link`, whose certificate is one of `authority`."""

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        limits = httpx.Limits(max_connections=CONNECTIONS)
        trusted = ssl.create_default_context(cafile=str(authority))
        async with httpx.AsyncClient(
            base_url=link, verify=trusted, timeout=SECONDS, trust_env=False, limits=limits
        ) as client:
            app.state.link = client
            yield

    async def forward(request: Request) -> Response:
        client: httpx.AsyncClient = request.app.state.link
        call = request.path_params["call"]
        if call not in CALLS:
            return PlainTextResponse("no such call", status_code=404)
        headers = [(name, value) for name, value in request.headers.items() if name not in _HOP_BY_HOP]
        try:
            async with asyncio.timeout(SECONDS):
                body = b"".join([part async for part in _limited(request)])
                passed = client.build_request("POST", f"/v1/fleet/{call}", headers=headers, content=body)
                answer = await client.send(passed, stream=True)
        except _TooLarge:
            return PlainTextResponse("the message is too large", status_code=413)
        except (httpx.HTTPError, TimeoutError, ClientDisconnect):
            return PlainTextResponse("the coordinator does not answer", status_code=503)
        except (ValueError, httpx.InvalidURL):
            return PlainTextResponse("malformed", status_code=400)
        kept = {name: value for name, value in answer.headers.items() if name not in _HOP_BY_HOP}
        return StreamingResponse(
            answer.aiter_raw(), answer.status_code, headers=kept, background=BackgroundTask(answer.aclose)
        )

    return Starlette(routes=[Route("/v1/fleet/{call:str}", forward, methods=["POST"])], lifespan=lifespan)


def main(root: Path) -> None:
    home = CoordinatorHome(root)
    settings = home.settings
    uvicorn.run(
        gateway(f"https://127.0.0.1:{settings.link_port}", home.root / "link-ca.crt"),
        host=settings.host,
        port=settings.port,
        ssl_certfile=home.root / "gateway.crt",
        ssl_keyfile=home.root / "gateway.key",
        log_level="warning",
        limit_concurrency=CONNECTIONS,
        access_log=False,
        server_header=False,
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
