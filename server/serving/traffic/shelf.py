"""The versions that a replica holds, and the lineup by which it chooses among them."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Mapping
from concurrent.futures import Executor
from typing import Any

from pipeline.store.traffic import CHAMPION, share_of
from privacy.errors import SottovoceError
from server.serving.refusal import Refused
from server.serving.traffic.lineup import Board, Held, Lineup
from server.serving.version import ServedModel

logger = logging.getLogger("sottovoce.serving")


class Shelf:
    """One replica's versions. A question sees one lineup from start to end."""

    def __init__(self, board: Board) -> None:
        self._board = board
        self._stamp = (0, 0)
        self._models: dict[int, ServedModel] = {}
        self._kept: dict[int, Held] = {}
        self.refused: dict[int, str] = {}
        self.loaded_for = 0
        self.lineup = Lineup(number=0, name="")

    def look(self) -> bool:
        """Take the newest lineup; whether it is another one. Costs a look at a file where it is not."""
        if (stamp := self._board.stamp()) == self._stamp:
            return False
        self.lineup, self._stamp = self._board.read(), stamp
        return True

    def load(self) -> None:
        """Have in memory what the lineup holds, and nothing else. What is refused is written down, once a lineup."""
        lineup, refused = self.lineup, {}
        wanted = {held.version: held for held in lineup.held}
        for version, held in wanted.items():
            if self._kept.get(version) == held and version in self._models:
                continue
            try:
                made = ServedModel.load(held.registered(lineup.name))
                made.predict([made.example])  # whatever is made on first use is made now
                self._models = {**self._models, version: made}
                self._kept[version] = held
                logger.info("loaded", extra={"version": version})
            except (SottovoceError, ValueError) as error:
                refused[version] = _told(error)
                logger.error("refused", extra={"version": version, "cause": str(error)})
        self._models = {version: model for version, model in self._models.items() if version in wanted}
        self.refused, self.loaded_for = refused, lineup.number

    async def load_aside(self, loop: Any, aside: Executor) -> None:
        """`load`, while questions go on being answered."""
        await loop.run_in_executor(aside, self.load)

    @property
    def loaded(self) -> Mapping[int, ServedModel]:
        """In memory; for a moment also what the lineup holds no more."""
        return self._models

    @property
    def served(self) -> Mapping[int, ServedModel]:
        """What the lineup holds, as far as it is in memory."""
        models = self._models
        return {held.version: models[held.version] for held in self.lineup.held if held.version in models}

    def chosen(self, wanted: str | None, subject: str | None) -> ServedModel:
        """The version that answers: the one that is named, else the one whose share the subject is in.

        Without a subject it is anybody's. Raises Refused.
        """
        self.look()
        lineup = self.lineup
        if wanted is None:
            if not lineup.shares:
                raise Refused(503, lineup.problem or f"no version of {lineup.name} is champion yet")
            who = secrets.token_hex(8) if subject is None and len(lineup.shares) > 1 else subject or ""
            return self._held(share_of(lineup.shares, lineup.salt, who))
        if wanted == CHAMPION:
            if lineup.champion is None:
                raise Refused(503, lineup.problem or f"no version of {lineup.name} is champion yet")
            return self._held(lineup.champion)
        served = self.served
        if not (wanted.isascii() and wanted.isdecimal() and len(wanted) < 10) or int(wanted) not in served:
            live = ", ".join(str(version) for version in sorted(served)) or "none"
            raise Refused(404, f"version {wanted[:20]} of {lineup.name} is not served; served are: {live}")
        return served[int(wanted)]

    def shadows(self, answering: int) -> list[ServedModel]:
        """The versions that are asked too."""
        return [
            self._models[version] for version in self.lineup.shadow if version in self._models and version != answering
        ]

    def _held(self, version: int) -> ServedModel:
        try:
            return self._models[version]
        except KeyError:
            raise Refused(503, f"version {version} of {self.lineup.name} is being loaded") from None


def _told(error: Exception) -> str:
    """Without the folder, which is nobody's business who only asks."""
    if isinstance(error, SottovoceError):
        return error.cause.partition(" from /")[0]
    return f"does not answer its own example: {type(error).__name__}"
