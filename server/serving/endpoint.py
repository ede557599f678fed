"""The HTTP endpoint on Ray Serve: predictions by the champion, which it follows without a restart.

One hop: the model lives in the ingress replica, because Serve's own cost per request exceeds the model's. A thread
asks the registry for the champion and swaps it in one assignment; a request sees one version from start to end.
(No postponed annotations here: Serve ships the class by value, and FastAPI could not resolve them in the replica.)
"""

import asyncio
import logging
from contextlib import suppress
from typing import Any

from fastapi import FastAPI, HTTPException
from pydantic import BaseModel, ConfigDict, Field
from ray import serve
from ray.serve._private import constants, replica

from pipeline.engine.cluster import restore_home
from pipeline.store.registry import Registered, Registry
from privacy.errors import SottovoceError
from server.serving.version import RowsRefused, ServedModel

logger = logging.getLogger(__name__)


def close_side_door() -> None:
    """Keep this replica from opening Serve's port for calls between deployments: it listens on every interface and
    unpickles what arrives. Nobody calls it, because Serve itself hands requests over by Ray.

    Private API of ray, 2.60: ray.serve._private.replica.add_port_to_grpc_server. A test looks at every socket.
    """
    if not constants.RAY_SERVE_USE_GRPC_BY_DEFAULT:
        replica.add_port_to_grpc_server = lambda server, address: 0


api = FastAPI(title="Sottovoce", description="Predictions of a privately trained model.")


class PredictRequest(BaseModel):
    """Rows of named raw columns."""

    model_config = ConfigDict(extra="forbid")
    rows: list[dict[str, Any]] = Field(min_length=1, description="Each row maps every column's name to its raw value.")


class PredictReply(BaseModel):
    """Predictions in the order of the rows."""

    model: str
    version: int
    predictions: list[dict[str, Any]] = Field(description="As the task answers; its schema is told by /models.")


@serve.deployment
@serve.ingress(api)
class Endpoint:
    """One replica."""

    def __init__(
        self, registry: Registry, name: str, champion: Registered | None, poll_seconds: float, max_rows: int
    ) -> None:
        """champion: what the registry says at this moment, so that the replica answers before it has opened it."""
        restore_home()
        close_side_door()
        self._registry = registry
        self._name = name
        self._poll_seconds = poll_seconds
        self._max_rows = max_rows
        self._served: ServedModel | None = None
        self._problem = f"no version of {name} is champion yet"
        self._serve(champion)
        self._follower = asyncio.get_event_loop().create_task(self._follow_forever())

    @api.post("/predict")
    async def predict(self, request: PredictRequest) -> PredictReply:
        """Predict every row with the champion of this moment."""
        served = self._champion()
        if len(request.rows) > self._max_rows:
            raise HTTPException(413, f"{len(request.rows)} rows; at most {self._max_rows} in one request")
        try:
            answers = served.predict(request.rows)
        except RowsRefused as error:
            raise HTTPException(422, str(error)) from None
        return PredictReply(
            model=served.registered.name,
            version=served.registered.version,
            predictions=answers,
        )

    @api.get("/models")
    async def models(self) -> dict[str, Any]:
        """The champion: metrics, privacy statement and schema; and all registered versions."""
        served = self._champion()
        versions = await asyncio.to_thread(self._registry.versions, self._name)
        return {"champion": served.description, "versions": [version.version for version in versions]}

    @api.get("/health")
    async def health(self) -> dict[str, Any]:
        """200 when a version answers, else 503 with the reason."""
        served = self._champion()
        return {"status": "ok", "model": served.registered.name, "version": served.registered.version}

    def _champion(self) -> ServedModel:
        if self._served is None:
            raise HTTPException(503, self._problem)
        return self._served

    async def _follow_forever(self) -> None:
        while True:
            await asyncio.sleep(self._poll_seconds)
            with suppress(Exception):  # a registry that is briefly away must not end the following
                self._serve(await asyncio.to_thread(self._registry.champion, self._name))

    def _serve(self, champion: Registered | None) -> None:
        """Load the champion if it is another version than the one that is served; keep the old one if it is refused."""
        if champion is None or (self._served and champion.version == self._served.registered.version):
            return
        try:
            self._served = ServedModel.load(champion)
        except SottovoceError as error:
            self._problem = error.cause
            logger.error("version %d refused: %s", champion.version, error.cause)
