"""A bad network before the gateway: calls arrive twice, late and in another order, and messages come once more."""

from __future__ import annotations

import asyncio
import random
import ssl
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import TracebackType

import httpx
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from pipeline.host.services import free_port, listens
from server.coordinator import authority

TWICE = {"push-object", "confirm-message-received", "pull-object", "get-run"}
"""Not the announcement of a reply: Flower opens another session for each, and a node announces one after the other."""
MESSAGE_BYTES = 200
"""An answer to `pull-messages` that is longer than this holds a message."""


class Postman:
    """Relays calls to `gateway` while it is entered. counts: what was done to how many calls; lose: how many of the
    next messages are lost on their way.

    root: stem of the authority that clients trust; folder: where the postman's own certificate goes.
    """

    def __init__(self, gateway: int, root: Path, folder: Path, latest: float, seed: int = 0) -> None:
        self.port, self.counts, self.lose = free_port(), Counter[str](), 0
        self._gateway, self._latest, self._random = gateway, latest, random.Random(seed)
        self._again: list[tuple[int, bytes]] = []
        authority.issue(root, folder / "postman", ("localhost", "127.0.0.1"))
        app = Starlette(
            routes=[Route("/v1/fleet/{call:str}", self._carry, methods=["POST"])], lifespan=self._dialling(root)
        )
        settings = uvicorn.Config(
            app,
            host="127.0.0.1",
            port=self.port,
            ssl_certfile=folder / "postman.crt",
            ssl_keyfile=folder / "postman.key",
            log_level="error",
            ws="none",
        )
        self._server = uvicorn.Server(settings)
        self._thread = threading.Thread(target=self._server.run, daemon=True)

    def __enter__(self) -> Postman:
        self._thread.start()
        deadline = time.monotonic() + 20
        while not listens(self.port):
            assert time.monotonic() < deadline, "the postman does not come up"
            time.sleep(0.05)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._server.should_exit = self._server.force_exit = True
        self._thread.join(20)

    def _dialling(self, root: Path):  # type: ignore[no-untyped-def]
        @asynccontextmanager
        async def lifespan(app: Starlette) -> AsyncIterator[None]:
            trusted = ssl.create_default_context(cafile=str(root.with_suffix(".crt")))
            url = f"https://localhost:{self._gateway}"
            async with httpx.AsyncClient(base_url=url, verify=trusted, timeout=60, trust_env=False) as client:
                app.state.gateway = client
                yield

        return lifespan

    async def _carry(self, request: Request) -> Response:
        call, body = request.path_params["call"], await request.body()
        headers = [(name, value) for name, value in request.headers.items() if name not in ("host", "content-length")]
        if call == "pull-messages" and self._again:
            self.counts["a message once more"] += 1
            status, content = self._again.pop()
            return Response(content, status, media_type="application/protobuf")
        await asyncio.sleep(self._random.uniform(0, self._latest))
        answer = await request.app.state.gateway.post(f"/v1/fleet/{call}", content=body, headers=headers)
        if call in TWICE:
            await request.app.state.gateway.post(f"/v1/fleet/{call}", content=body, headers=headers)
            self.counts[f"{call} twice"] += 1
        if call == "pull-messages" and len(answer.content) > MESSAGE_BYTES:
            if self.lose:
                self.lose -= 1
                self.counts["a message lost"] += 1
                return Response(status_code=502)
            if self._random.random() < 0.5:
                self._again.append((answer.status_code, answer.content))
        return Response(answer.content, answer.status_code, media_type=answer.headers.get("content-type"))
