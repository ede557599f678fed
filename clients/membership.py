"""This client's place in the group of one execution: the keys of each generation, and the sums it has opened."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from clients.home import Home
from pipeline.files import read_json, write_atomically
from pipeline.protocol import Attempt, SumRef
from privacy.errors import CohortTooSmall, PlanInvalid, ProtocolError, ReplayRefused
from privacy.group import Group, Terms
from privacy.keys import KEY_BYTES, PublicKeys, Roster, read_secret, write_secret
from privacy.shares import NoiseShares
from privacy.statement import Statement
from privacy.sums import Holder


class Membership:
    """Key files have mode 0600. A generation never changes once a later one exists."""

    def __init__(self, home: Home, execution: str, folder: Path) -> None:
        self.home, self.execution, self._folder = home, execution, folder
        self._holders: dict[int, Holder] = {}  # not a cached method: a cycle would keep the cipher's memory for long

    @property
    def generation(self) -> int:
        """The latest one; 0: none."""
        found = [int(path.stem.partition("-")[2]) for path in self._folder.glob("group-*.json")]
        return max(found, default=0)

    def permit(self, terms: Terms) -> None:
        """Raise ProtocolError unless `terms` may be the next generation: nobody new, no older generation again."""
        latest = self.generation
        if terms.generation not in (latest, latest + 1) or terms.generation < 1:
            raise ProtocolError(f"generation {terms.generation} of the group after {latest}", travels=True)
        if terms.generation > 1:
            before = self.roster(terms.generation - 1)
            if strangers := sorted(name for name, keys in terms.roster.items() if before.get(name) != keys):
                raise ProtocolError(f"not in the group before: {', '.join(strangers)}", travels=True)

    def join(self, group: Group) -> None:
        """Keep the keys of a generation."""
        terms = group.terms
        write_secret(self._folder / f"group-{terms.generation}.key", group.master + group.key)
        roster = {name: keys.hex() for name, keys in terms.roster.items()}
        listing = {"scheme": terms.scheme, "masks": terms.masks, "roster": roster}
        write_atomically(self._folder / f"group-{terms.generation}.json", json.dumps(listing).encode())

    def roster(self, generation: int) -> Roster:
        """Raises ProtocolError when the keys action did not come first."""
        return {name: PublicKeys.from_hex(keys) for name, keys in self._listing(generation)["roster"].items()}

    def statement(self, purpose: str, number: int, attempt: Attempt, terms: str = "") -> Statement:
        """What an upload to this attempt is for. Raises CohortTooSmall by this client's own policy."""
        self.home.policy.permit_cohort(len(set(attempt.cohort)))
        return Statement(self.execution, purpose, number, attempt.cohort, terms)

    def agreed_noise(self, attempt: Attempt, shares: NoiseShares | None) -> str:
        """The terms of a sum with shared noise. Raises CohortTooSmall, PlanInvalid when it would not protect the sum.

        Only with masks is it sure that the sum is opened over the whole attempt or not at all.
        """
        if shares is None:
            return ""
        present = len(set(attempt.cohort))
        if present < shares.cohort:
            raise CohortTooSmall(f"{present} clients, the noise was divided among {shares.cohort}", travels=True)
        listing = self._listing(attempt.generation)
        if not listing["masks"] or listing["scheme"] == "none":
            raise PlanInvalid(
                "client-level privacy needs encryption and pairwise masks",
                remedy="Set encryption.scheme: bfv and encryption.masks: true.",
                travels=True,
            )
        return shares.text

    def referred(self, purpose: str, ref: SumRef) -> Statement:
        """What a sum is said to be. Raises CohortTooSmall by this client's own policy, ProtocolError."""
        self.home.policy.permit_cohort(len(set(ref.clients)))
        if strangers := sorted(set(ref.cohort) - set(self.roster(ref.generation))):
            raise ProtocolError(f"the sum names clients outside the group: {', '.join(strangers)}", travels=True)
        return Statement(self.execution, purpose, ref.round, ref.cohort, ref.terms)

    def note_opening(self, statement: Statement, total: bytes) -> None:
        """One opening per round: raise ReplayRefused if another sum of it was opened before, also before a restart.

        Two sums over different cohorts would tell their difference: one client's update. Rounds are opened in order,
        so the last one is all there is to remember.
        """
        path = self._folder / f"opened-{statement.purpose}.json"
        last: dict[str, Any] = read_json(path) if path.exists() else {"round": 0, "sum": ""}
        opened = {"round": statement.round, "sum": hashlib.sha256(total).hexdigest()}
        if opened == last:
            return
        if statement.round <= last["round"]:
            raise ReplayRefused(
                f"{statement.purpose} {statement.round} was opened here before, or is past; a round is opened once",
                travels=True,
            )
        write_atomically(path, json.dumps(opened).encode())

    def holder(self, generation: int) -> Holder:
        """This client's holder in one generation of the group."""
        if generation not in self._holders:
            listing = self._listing(generation)
            terms = Terms(self.execution, generation, listing["scheme"], listing["masks"], self.roster(generation))
            secret = read_secret(self._folder / f"group-{generation}.key")
            group = Group(terms, secret[:KEY_BYTES], secret[KEY_BYTES:])
            self._holders[generation] = Holder(group, self.home.identity, self.home.policy.name)
        return self._holders[generation]

    def _listing(self, generation: int) -> dict[str, Any]:
        try:
            return read_json(self._folder / f"group-{generation}.json")
        except FileNotFoundError:
            raise ProtocolError("this client has no such group key for the execution", travels=True) from None
