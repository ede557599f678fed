"""The one door to the outside: TLS, and nothing behind it but Flower's fleet API.

Flower's control and runtime APIs share the fleet API's port. The control API has no user authentication, and the
runtime API hands out tasks, so the SuperLink listens on loopback only and this proxy lets `/v1/fleet/` through.

    python -m server.gateway HOME
"""

from __future__ import annotations

import ssl
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import uvicorn
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from server.home import CoordinatorHome

SECONDS = 60.0
_HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "te", "trailer", "upgrade", "host", "content-length"}


def gateway(link: str, authority: Path) -> Starlette:
    """A proxy to the SuperLink at URL `link`, whose certificate is one of `authority`."""

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        trusted = ssl.create_default_context(cafile=str(authority))
        async with httpx.AsyncClient(base_url=link, verify=trusted, timeout=SECONDS, trust_env=False) as client:
            app.state.link = client
            yield

    async def forward(request: Request) -> Response:
        client: httpx.AsyncClient = request.app.state.link
        headers = [(name, value) for name, value in request.headers.items() if name not in _HOP_BY_HOP]
        passed = client.build_request(
            "POST", f"/v1/fleet/{request.path_params['call']}", headers=headers, content=request.stream()
        )
        try:
            answer = await client.send(passed, stream=True)
        except httpx.HTTPError:
            return PlainTextResponse("the coordinator does not answer", status_code=503)
        kept = {name: value for name, value in answer.headers.items() if name not in _HOP_BY_HOP}
        return StreamingResponse(
            answer.aiter_raw(), answer.status_code, headers=kept, background=BackgroundTask(answer.aclose)
        )

    return Starlette(routes=[Route("/v1/fleet/{call:str}", forward, methods=["POST"])], lifespan=lifespan)


def main(root: Path) -> None:
    home = CoordinatorHome(root)
    settings = home.settings
    uvicorn.run(
        gateway(f"https://127.0.0.1:{settings.link_port}", home.root / "ca.crt"),
        host=settings.host,
        port=settings.port,
        ssl_certfile=home.root / "gateway.crt",
        ssl_keyfile=home.root / "gateway.key",
        log_level="warning",
        access_log=False,
        server_header=False,
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
