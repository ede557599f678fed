"""A process that answers: it listens by itself, and Ray Serve sees to it that it lives.

Serve's own proxy costs ten times what a prediction does (docs/adr/0019). So the replica opens HTTP and gRPC on ports
that all replicas share, and Serve starts, watches and replaces replicas.
(No postponed annotations here: Serve ships the class by value.)
"""

import asyncio
import os
import secrets
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import uvicorn
from ray import serve
from ray.serve._private import constants, replica

from pipeline.engine.cluster import restore_home
from pipeline.language.settings.serving import ServingConfig
from server.evidence.outcomes import Outcomes
from server.evidence.receipts import Receipts
from server.serving.gateway.api import application
from server.serving.gateway.asking import Desk
from server.serving.gateway.door import Door
from server.serving.gateway.intake import Intake
from server.serving.gateway.limiting import Limits
from server.serving.gateway.listening import LOOPBACK, Patient, shared_socket
from server.serving.gateway.logs import to_file
from server.serving.gateway.measures import Measures
from server.serving.gateway.remembering import Memory
from server.serving.keys.keyring import Keyring
from server.serving.traffic.lineup import Board, Report
from server.serving.traffic.shelf import Shelf

GLANCE = 0.02
"""Seconds between two looks at the lineup by a replica that nobody asks."""
BEAT = 1.0
"""Seconds between two reports."""


def close_side_door() -> None:
    """Keep this replica from opening Serve's port for calls between deployments: it listens on every interface and
    unpickles what arrives. Nobody calls it, because Serve itself hands requests over by Ray.

    Private API of ray, 2.60: ray.serve._private.replica.add_port_to_grpc_server. A test looks at every socket.
    """
    if not constants.RAY_SERVE_USE_GRPC_BY_DEFAULT:
        replica.add_port_to_grpc_server = lambda server, address: 0


@serve.deployment
class Replica:
    """One replica. `config` has the ports that were chosen."""

    async def __init__(  # type: ignore[misc]  # Serve awaits it
        self, board: Board, config: ServingConfig, house: Path
    ) -> None:
        """house: the folder of keys and logs."""
        restore_home()
        close_side_door()
        self._name = f"{os.getpid()}-{secrets.token_hex(3)}"
        self._board, self._shelf = board, Shelf(board)
        self._aside = ThreadPoolExecutor(1, "loading")
        self._beaten = 0.0
        to_file(house / "logs" / f"replica-{self._name}.jsonl")
        measures = Measures(self._name, board)
        self._measures = measures
        self._shelf.look()
        name, outcomes = self._shelf.lineup.name, Outcomes(config.feedback.url(house.parent))
        receipts = Receipts(house / "receipts.key", name)
        self._memory = Memory(outcomes, name, measures) if config.feedback.keep_rows else None
        self._intake = Intake()
        desk = Desk(self._shelf, measures, receipts, config.max_rows, config.decimals, self._memory, self._intake)
        keyring = Keyring(house / "keys.json", always=config.host not in LOOPBACK)
        self._shelf.load()
        app = application(desk, outcomes)
        limits = Limits(config.per_minute, config.replicas)
        door = Door(app, keyring, measures, config.max_bytes, config.body_seconds, limits)
        self._http = uvicorn.Server(
            uvicorn.Config(
                door,
                http=Patient.within(config.body_seconds),
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                timeout_keep_alive=30,
                timeout_graceful_shutdown=5,
                ssl_certfile=config.certificate,
                ssl_keyfile=config.key,
            )
        )
        self._serving = asyncio.create_task(self._http.serve([shared_socket(config.host, config.port)]))
        self._grpc: Any = None
        if config.grpc_port is not None:
            from server.serving.gateway.oip_grpc import Inference, start_grpc

            address = f"[{config.host}]" if ":" in config.host else config.host
            self._grpc = await start_grpc(
                Inference(desk, keyring, limits),
                f"{address}:{config.grpc_port}",
                config.max_bytes,
                config.certificate,
                config.key,
            )
        self._report()
        self._following = asyncio.create_task(self._follow())

    def check_health(self) -> None:
        """Serve replaces a replica for which this raises, or that does not answer."""
        if not self._shelf.lineup.stopping and (self._serving.done() or self._following.done()):
            raise RuntimeError("it stopped listening")

    async def _follow(self) -> None:
        loop = asyncio.get_running_loop()
        loaded = self._shelf.lineup.number
        while True:
            await asyncio.sleep(GLANCE)
            with suppress(OSError):
                self._shelf.look()
                if self._shelf.lineup.number != loaded:
                    await self._shelf.load_aside(loop, self._aside)
                    loaded = self._shelf.loaded_for
                    self._report()
                if self._shelf.lineup.stopping:
                    await self._close()
                    self._report(stopped=True)
                    return await asyncio.Event().wait()  # type: ignore[return-value]
                if loop.time() - self._beaten > BEAT:
                    self._beaten = loop.time()
                    await loop.run_in_executor(self._aside, self._intake.count, self._shelf.loaded)
                    self._report()

    async def _close(self) -> None:
        """Answer what was asked, and take no more."""
        self._http.should_exit = True
        if self._grpc:
            await self._grpc.stop(5)
        await self._serving
        if self._memory:
            await asyncio.to_thread(self._memory.close)

    def _report(self, stopped: bool = False) -> None:
        report = Report(
            replica=self._name,
            number=self._shelf.loaded_for,
            loaded=tuple(sorted(self._shelf.loaded)),
            refused=self._shelf.refused,
            stopped=stopped,
        )
        with suppress(OSError):  # a full disk is no reason not to answer
            self._board.report(report, self._measures.samples(), self._intake.counted)
