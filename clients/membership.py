"""This client's place in the group of one execution: the keys of each generation, and the sums it has opened.

Whoever adds may send any ciphertext and hear whether it opens, and from answers to a few thousand questions about one
key that key follows (a constant added to one polynomial, then steps of the noise bound to a coefficient of the other).
So a client answers one question a round: what a question is about is on disk before anything is decrypted, another
one is refused unseen, and a key that failed to open once opens nothing more. Both say the same: the sum does not open.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from clients.home import Home
from pipeline.host.files import read_json, write_atomically
from pipeline.language.protocol import Attempt, SumRef
from privacy.errors import CohortTooSmall, PlanInvalid, ProtocolError, SumRejected
from privacy.group import Group, Terms
from privacy.keys import KEY_BYTES, PublicKeys, PublicRoster, read_secret, write_secret
from privacy.shares import NoiseShares
from privacy.statement import Statement
from privacy.sums import Holder

Opened = TypeVar("Opened")


class Membership:
    """Key files have mode 0600. A generation never changes once it was taken."""

    def __init__(self, home: Home, execution: str, folder: Path) -> None:
        self.home, self.execution, self._folder = home, execution, folder
        self._holders: dict[int, Holder] = {}  # not a cached method: a cycle would keep the cipher's memory for long

    @property
    def generation(self) -> int:
        """The latest one; 0: none."""
        found = [int(path.stem.partition("-")[2]) for path in self._folder.glob("group-*.json")]
        return max(found, default=0)

    def permit(self, terms: Terms) -> None:
        """Raise ProtocolError unless `terms` are those of a generation that was taken, or of the next: for the purpose
        of the first, with nobody new."""
        latest = self.generation
        if not 1 <= terms.generation <= latest + 1:
            raise ProtocolError(f"generation {terms.generation} of the group after {latest}", travels=True)
        if terms.generation <= latest:
            if self._terms(terms.generation) != terms:
                raise ProtocolError(f"generation {terms.generation} was agreed on otherwise", travels=True)
            return
        if latest:
            before = self._terms(latest)
            if strangers := sorted(name for name, keys in terms.roster.items() if before.roster.get(name) != keys):
                raise ProtocolError(f"not in the group before: {', '.join(strangers)}", travels=True)
            if (before.purpose, before.scheme, before.masks) != (terms.purpose, terms.scheme, terms.masks):
                raise ProtocolError("the group before was for something else", travels=True)

    def join(self, group: Group) -> None:
        """Keep the keys of a generation. Raises ProtocolError when it was taken under other keys."""
        terms = group.terms
        secret = self._folder / f"group-{terms.generation}.key"
        if terms.generation <= self.generation:
            if read_secret(secret) != group.master + group.key:
                raise ProtocolError(f"generation {terms.generation} was taken under another key", travels=True)
            return
        write_secret(secret, group.master + group.key)
        roster = {name: keys.hex() for name, keys in terms.roster.items()}
        listing = {"purpose": terms.purpose, "scheme": terms.scheme, "masks": terms.masks, "roster": roster}
        write_atomically(self._folder / f"group-{terms.generation}.json", json.dumps(listing).encode())

    def roster(self, generation: int) -> PublicRoster:
        """Raises ProtocolError when the keys action did not come first."""
        return {name: PublicKeys.from_hex(keys) for name, keys in self._listing(generation)["roster"].items()}

    def statement(self, purpose: str, number: int, attempt: Attempt, terms: str = "") -> Statement:
        """What an upload to this attempt is for. Raises CohortTooSmall, PlanInvalid by this client's own policy,
        ProtocolError for a purpose that the group is not for."""
        self.home.policy.permit_cohort(len(set(attempt.cohort)))
        self._permit_purpose(attempt.generation, purpose)
        return Statement(self.execution, purpose, number, attempt.cohort, terms)

    def agreed_noise(self, attempt: Attempt, shares: NoiseShares | None) -> str:
        """The terms of a sum with shared noise. Raises CohortTooSmall, PlanInvalid when it would not protect the sum.

        Only clients that the owner of this one knows add noise for sure, less those assumed to collude: any other name
        may be the coordinator's own. Only with masks is it sure that the sum is opened over the whole attempt or not
        at all.
        """
        if shares is None:
            return ""
        cohort, own = set(attempt.cohort), {self.home.policy.name}
        present, known = len(cohort), self.home.known_clients.pinned(cohort - own) + len(cohort & own)
        if present < shares.cohort:
            raise CohortTooSmall(f"{present} clients, the noise was divided among {shares.cohort}", travels=True)
        if known - self.home.policy.colluders < shares.honest:
            raise CohortTooSmall(
                f"the noise is divided among {shares.honest} honest clients; of those asked this client's owner knows "
                f"{known}, of whom {self.home.policy.colluders} may collude",
                remedy="Raise privacy.colluders, or have owners compare fingerprints: sottovoce client roster.",
                travels=True,
            )
        listing = self._listing(attempt.generation)
        if not listing["masks"] or listing["scheme"] == "none":
            raise PlanInvalid(
                "noise that clients share needs encryption and pairwise masks",
                remedy="Set encryption.scheme: bfv and encryption.masks: true.",
                travels=True,
            )
        return shares.text

    def purpose(self, generation: int) -> str:
        """What the sums of a generation are for. Raises ProtocolError when the keys action did not come first."""
        return str(self._listing(generation)["purpose"])

    def referred(self, purpose: str, ref: SumRef) -> Statement:
        """What a sum is said to be. Raises CohortTooSmall, PlanInvalid by this client's own policy, ProtocolError."""
        self.home.policy.permit_cohort(len(set(ref.clients)))
        self._permit_purpose(ref.generation, purpose)
        if strangers := sorted(set(ref.cohort) - set(self.roster(ref.generation))):
            raise ProtocolError(f"the sum names clients outside the group: {', '.join(strangers)}", travels=True)
        return Statement(self.execution, purpose, ref.round, ref.cohort, ref.terms)

    def open(self, statement: Statement, ref: SumRef, sealed: bytes, form: str, opener: Callable[[], Opened]) -> Opened:
        """What `opener` makes of `sealed`, if this is the one question about the round. form: what else decides about
        the answer. Raises SumRejected, in the same words, whether it does not open or may not be opened."""
        asked = [statement.digest, ref.generation, sorted(ref.clients), form, hashlib.sha256(sealed).hexdigest()]
        claim = hashlib.sha256(json.dumps(asked).encode()).hexdigest()
        path, number = self._folder / f"opened-{statement.purpose}.json", str(statement.round)
        claims = read_json(path) if path.exists() else {}
        burnt = self._folder / f"burnt-{ref.generation}"
        refusal = SumRejected("the sum does not open", travels=True)
        if burnt.exists() or claims.get(number, claim) != claim:
            self.home.log(
                f"{statement.purpose} {statement.round}: another sum than the one asked about, or a burnt key"
            )
            raise refusal
        if number not in claims:
            write_atomically(path, json.dumps({**claims, number: claim}).encode())
        try:
            return opener()
        except SumRejected as error:
            write_atomically(burnt, b"")
            raise refusal from error

    def holder(self, generation: int) -> Holder:
        """This client's holder in one generation of the group."""
        if generation not in self._holders:
            secret = read_secret(self._folder / f"group-{generation}.key")
            group = Group(self._terms(generation), secret[:KEY_BYTES], secret[KEY_BYTES:])
            self._holders[generation] = Holder(group, self.home.identity, self.home.policy.name)
        return self._holders[generation]

    def _permit_purpose(self, generation: int, purpose: str) -> None:
        listing = self._listing(generation)
        self.home.policy.permit_group(listing["scheme"], listing["masks"])
        if listing["purpose"] != purpose:
            raise ProtocolError(f"the group is for {listing['purpose']}, not for {purpose}", travels=True)

    def _terms(self, generation: int) -> Terms:
        listing = self._listing(generation)
        roster = {name: PublicKeys.from_hex(keys) for name, keys in listing["roster"].items()}
        return Terms(self.execution, listing["purpose"], generation, listing["scheme"], listing["masks"], roster)

    def _listing(self, generation: int) -> dict[str, Any]:
        try:
            return read_json(self._folder / f"group-{generation}.json")
        except FileNotFoundError:
            raise ProtocolError("this client has no such group key for the execution", travels=True) from None
