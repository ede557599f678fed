"""The group of one execution as the coordinator sees it: who is in it, and the keys it relays and cannot open."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Mapping, Sequence

from pipeline.engine.progress import GroupAgreed
from pipeline.federation.clients import Clients
from pipeline.kinds import Frozen
from pipeline.language.protocol import Action, Attempt, ClientName, KeysReply, KeysRequest, Purpose
from pipeline.language.settings.encryption import EncryptionConfig
from pipeline.store.journal import Journal
from privacy.errors import CohortTooSmall
from privacy.group import Terms
from privacy.keys import PublicKeys, PublicRoster
from privacy.layout import Layout
from privacy.masks import DEFAULT_COHORT

PATIENCE = 2
"""A client that is missing from so many sums in a row has left: it would cost every round its deadline."""
GRACE = 90.0
"""Seconds for which a client that lost its connection has not left: Flower lets a killed node in again after up to
sixty. It costs the others one repeated upload a round, and no deadline."""


class GroupMembers:
    """Ages by generations. A resumed execution keeps the last one, because its sums are sealed under that key."""

    def __init__(
        self,
        federation: Clients,
        journal: Journal,
        encryption: EncryptionConfig,
        purpose: Purpose,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """purpose: what the sums of the group are for."""
        self._clock, self._purpose = clock, purpose
        self._federation, self._journal, self._encryption = federation, journal, encryption
        self._missed: dict[ClientName, int] = {}
        self._lost_at: dict[ClientName, float] = {}
        self.generation = 0
        self.masks = False
        self.roster: PublicRoster = {}
        self.members: tuple[ClientName, ...] = ()
        self.everyone: tuple[ClientName, ...] = ()
        while earlier := journal.get(f"group-{self.generation + 1}"):
            self._take(_Generation.model_validate_json(earlier))

    def establish(self, keys: Mapping[ClientName, str]) -> None:
        """Have one of `keys` (public keys, hex, by client) make the group key and all take it; once per execution.

        Raises CohortTooSmall.
        """
        if self.generation == 0:
            self._agree(keys)

    def terms(self, attempt: Attempt) -> Terms:
        """The terms of this generation's group."""
        execution, scheme = self._journal.execution, self._encryption.scheme
        return Terms(execution, self._purpose, attempt.generation, scheme, self.masks, self.roster)

    def attempt(self, cohort: Sequence[ClientName] | None = None) -> Attempt:
        """An attempt over `cohort`, by default all members."""
        return Attempt(generation=self.generation, cohort=tuple(sorted(cohort or self.members)))

    def note(self, present: Collection[ClientName], unreachable: Collection[ClientName] = ()) -> None:
        """Who was in a sum, and who lost its connection and may come back. Whoever has left costs the group its key:
        the rest agrees on a new one.

        Not below the minimum cohort: then the run stops there, and goes on when clients are back.
        """
        now = self._clock()
        self._lost_at = {name: self._lost_at.get(name, now) for name in unreachable}
        for name in self.members:
            if name in present:
                self._missed[name] = 0
            elif now - self._lost_at.get(name, -math.inf) >= GRACE:
                self._missed[name] = self._missed.get(name, 0) + 1
        staying = [name for name in self.members if self._missed[name] < PATIENCE]
        if self._federation.min_cohort <= len(staying) < len(self.members):
            self._agree({name: self.roster[name].hex() for name in staying})

    def renew(self) -> None:
        """A new key for the same members: a sum did not open, so no client opens anything more under the old one."""
        self._agree({name: self.roster[name].hex() for name in self.members})

    def _agree(self, keys: Mapping[ClientName, str]) -> None:
        offer = self._offer(keys)
        request, wrapped = offer.request, offer.wrapped
        taken = self._federation.ask(
            Action.KEYS,
            request,
            KeysReply,
            clients=sorted(request.roster),
            blobs=lambda name: {
                "signature": bytes.fromhex(offer.signature),
                "key": bytes.fromhex(offer.key),
                "wrapped": bytes.fromhex(wrapped[name]),
            },
        )
        state = _Generation(members=tuple(taken.clients), masks=request.masks, roster=dict(request.roster))
        self._journal.put(f"group-{request.generation}", state.model_dump_json().encode())
        self._take(state)
        layout = Layout.for_cohort(len(self.roster))
        self._federation.progress(GroupAgreed(self.generation, len(self.members), self.masks, str(layout)))

    def _offer(self, keys: Mapping[ClientName, str]) -> _Offer:
        """What a leader made for the next generation. Kept before anyone is given it: a client takes one offer of a
        generation and no other, so a run that is cut off in between has to bring the same again."""
        name = f"offer-{self.generation + 1}"
        if earlier := self._journal.get(name):
            return _Offer.model_validate_json(earlier)
        candidates = sorted(keys)
        masks = self._encryption.masks if self._encryption.masks is not None else len(candidates) <= DEFAULT_COHORT
        for leader in candidates:
            request = KeysRequest(
                execution=self._journal.execution,
                purpose=self._purpose,
                generation=self.generation + 1,
                scheme=self._encryption.scheme,
                masks=masks and self._encryption.scheme != "none",
                roster=dict(keys),
                leader=leader,
            )
            made = self._federation.ask(Action.KEYS, request, KeysReply, clients=[leader], at_least=0)
            if made.answers:
                break
        else:
            raise CohortTooSmall(
                f"no client could make the group key: {made.failures[0].text}",
                remedy="See each client's log, then run the same command again.",
            )
        blobs = made.answers[0].blobs
        if missing := [
            blob for blob in ("signature", "key", *(f"wrapped-{name}" for name in keys)) if blob not in blobs
        ]:
            raise CohortTooSmall(f"{leader} made a group key without {missing[0]}", remedy="See its log.")
        offer = _Offer(
            request=request,
            signature=blobs["signature"].hex(),
            key=blobs["key"].hex(),
            wrapped={name: blobs[f"wrapped-{name}"].hex() for name in keys},
        )
        self._journal.put(name, offer.model_dump_json().encode())
        return offer

    def _take(self, state: _Generation) -> None:
        self.generation += 1
        self.members = state.members
        self.everyone = self.everyone or self.members
        self.masks = state.masks
        self.roster = {name: PublicKeys.from_hex(text) for name, text in state.roster.items()}


class _Generation(Frozen):
    """What the coordinator keeps of a generation."""

    members: tuple[ClientName, ...]
    masks: bool
    roster: dict[ClientName, str]


class _Offer(Frozen):
    """What a leader made for the members of a generation; the coordinator can open none of it. Hex."""

    request: KeysRequest
    signature: str
    key: str
    wrapped: dict[ClientName, str]
