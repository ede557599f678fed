"""Sums over the clients of one execution that the coordinator adds but cannot read, and their reveal."""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from pipeline.config import EncryptionConfig
from pipeline.federation import Asked, Failure, Federation, Request
from pipeline.journal import Journal
from pipeline.protocol import (
    Action,
    Blobs,
    ClientName,
    EvaluateReply,
    KeysReply,
    KeysRequest,
    RevealReply,
    RevealRequest,
    SumRef,
    TrainReply,
)
from privacy.cipher import new_adder
from privacy.errors import CohortTooSmall, RevealDisagreement, SumRejected


@dataclass(frozen=True)
class SealedSum:
    """A sum nobody has opened yet; empty `clients`: there is none, because of `lost` or `rejected`.

    lost: clients that were charged for it but had been interrupted. rejected: clients for which the sum before it did
    not verify; they did nothing and were charged nothing. noise: deviation of the noise in each of its values, where
    the clients say so.
    """

    clients: tuple[ClientName, ...]
    sealed: bytes
    lost: tuple[ClientName, ...] = ()
    rejected: tuple[ClientName, ...] = ()
    noise: float = 0.0


@dataclass(frozen=True)
class Revealed:
    """What the group agreed on."""

    value: bytes
    spent: dict[ClientName, float | None]
    lifetime: dict[ClientName, float | None]
    unconfirmed: tuple[ClientName, ...]


class SecureSum:
    """The group of one execution and its sums."""

    def __init__(self, federation: Federation, journal: Journal, encryption: EncryptionConfig) -> None:
        self._federation = federation
        self._journal = journal
        self._encryption = encryption
        self.members: tuple[ClientName, ...] = ()

    def establish(self, keys: Mapping[ClientName, str]) -> None:
        """Have one of `keys` (public keys by client) make the group key and all take it; once per execution.

        Raises CohortTooSmall. A resumed execution keeps its group: its sums are sealed under that key.
        """
        if earlier := self._journal.get("group"):
            self.members = tuple(json.loads(earlier))
            return
        candidates = sorted(keys)
        for leader in candidates:
            request = KeysRequest(
                execution=self._journal.execution, scheme=self._encryption.scheme, roster=dict(keys), leader=leader
            )
            made = self._federation.ask(Action.KEYS, request, KeysReply, clients=[leader], at_least=0)
            if made.answers:
                bundle = made.answers[0].blobs
                break
        else:
            raise CohortTooSmall(
                "no client could make the group key", remedy="See each client's log, then run the same command again."
            )
        taken = self._federation.ask(
            Action.KEYS,
            request,
            KeysReply,
            clients=candidates,
            blobs=lambda name: {"context": bundle["context"], "wrapped": bundle[f"wrapped-{name}"]},
        )
        self.members = tuple(taken.clients)
        self._journal.put("group", json.dumps(self.members).encode())

    def collect(
        self,
        action: Action,
        request: Request,
        reply: type[TrainReply] | type[EvaluateReply],
        blobs: Blobs | Callable[[str], Blobs],
    ) -> SealedSum:
        """Ask every member and add what arrives, one reply at a time.

        Raises CohortTooSmall when too few answered, unless that is explained by interrupted clients (the sum is lost)
        or by clients that rejected the sum before (it has to be dropped): then `clients` is empty.
        """
        adder = new_adder(self._encryption.scheme)
        asked: Asked[TrainReply | EvaluateReply] = Asked()
        for item in self._federation.stream(action, request, reply, clients=self.members, blobs=blobs):
            if isinstance(item, Failure):
                self._federation.exclude(asked, item)
                continue
            try:
                adder.add(item.blobs.get("sealed", b""))
            except SumRejected as error:
                self._federation.exclude(asked, Failure(item.client, error.code, error.cause))
                continue
            item.blobs.clear()
            asked.answers.append(item)
        lost = tuple(failure.client for failure in asked.failures if failure.code == "round-lost")
        rejected = tuple(failure.client for failure in asked.failures if failure.code == "sum-rejected")
        least = self._federation.min_cohort
        if len(asked.answers) < least <= len(asked.answers) + max(len(lost), len(rejected)):
            return SealedSum((), b"", lost, rejected)
        self._federation.demand(action.value, asked)
        shares = [answer.reply.noise for answer in asked.answers if isinstance(answer.reply, EvaluateReply)]
        return SealedSum(tuple(asked.clients), adder.total(), lost, noise=math.hypot(*shares))

    def reveal(
        self, request: Callable[[ClientName, bool], RevealRequest], blobs: Callable[[str], Blobs]
    ) -> Revealed | None:
        """Let every member open the result; publish it if all that answer, at least the minimum cohort, agree.

        `request(client, value)` makes the request. None: the last sum did not verify at that many clients. Raises
        CohortTooSmall, RevealDisagreement naming who disagrees.
        """
        asked: Asked[RevealReply] = Asked()
        value: bytes | None = None
        speaker = self.members[0]
        for item in self._federation.stream(
            Action.REVEAL,
            lambda name: request(name, name == speaker),
            RevealReply,
            clients=self.members,
            blobs=blobs,
        ):
            if isinstance(item, Failure):
                self._federation.exclude(asked, item)
                continue
            asked.answers.append(item)
            value = item.blobs.get("value", value)
        rejected = [failure for failure in asked.failures if failure.code == "sum-rejected"]
        if len(asked.answers) < self._federation.min_cohort <= len(rejected):
            return None
        self._federation.demand(Action.REVEAL.value, asked)
        digest = self._agreed(asked)
        for name in asked.clients:
            if value is not None and hashlib.sha256(value).hexdigest() == digest:
                break
            again = self._federation.ask(
                Action.REVEAL, request(name, True), RevealReply, clients=[name], blobs=blobs, at_least=0
            )
            value = next((answer.blobs.get("value") for answer in again.answers), None)
        if value is None or hashlib.sha256(value).hexdigest() != digest:
            raise RevealDisagreement("no client sent the value that the group's digest stands for")
        return Revealed(
            value=value,
            spent={answer.client: answer.reply.spent for answer in asked.answers},
            lifetime={answer.client: answer.reply.lifetime for answer in asked.answers},
            unconfirmed=tuple(sorted(set(self.members) - set(asked.clients))),
        )

    @staticmethod
    def _agreed(asked: Asked[RevealReply]) -> str:
        votes = Counter(answer.reply.digest for answer in asked.answers)
        digest, _ = votes.most_common(1)[0]
        if odd := sorted(answer.client for answer in asked.answers if answer.reply.digest != digest):
            raise RevealDisagreement(
                f"{', '.join(odd)} opened another result than the other clients; nothing was released",
                remedy="Compare the versions and logs of those clients before running again.",
            )
        return digest


def sum_blobs(sums: Iterable[tuple[SumRef, bytes]]) -> dict[str, bytes]:
    """Sealed sums as the blobs of a message."""
    return {f"sum-{ref.round}": sealed for ref, sealed in sums}
