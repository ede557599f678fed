"""Sums over the clients of one execution that the coordinator adds but cannot read, and their reveal."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from pydantic import BaseModel

from pipeline.federation.clients import UNREACHABLE, Answer, Asked, Clients
from pipeline.federation.failures import Failure
from pipeline.federation.membership import GroupMembers
from pipeline.language.packing import Blobs
from pipeline.language.protocol import (
    Action,
    Attempt,
    ClientName,
    CountsReply,
    RevealReply,
    RevealRequest,
    SumRef,
    TrainReply,
    result_digest,
    reveal_text,
)
from privacy.errors import CohortTooSmall, RevealDisagreement, SumRejected
from privacy.layout import Layout
from privacy.statement import Statement
from privacy.sums import Adder

Replies = TrainReply | CountsReply


@dataclass(frozen=True)
class Wanted:
    """What a sum is asked for.

    request(client, attempt, again) and blobs(client, again) make the messages; `again` is true when the client has
    made its vector already and only seals it for a smaller cohort. coefficients: of the vector, under a layout.
    terms: what else all clients of the sum must have agreed upon. after_a_sum: the request brings one to open; when
    most clients say that it does not, it is dropped. One client that says so is excluded.
    """

    action: Action
    purpose: str
    round: int
    reply: type[TrainReply] | type[CountsReply]
    request: Callable[[ClientName, Attempt, bool], BaseModel]
    blobs: Callable[[ClientName, bool], Blobs]
    coefficients: Callable[[Layout], int]
    terms: str = ""
    after_a_sum: bool = False


@dataclass(frozen=True)
class SealedSum:
    """A sum nobody has opened yet; `ref` None: there is none, because of `lost` or `rejected`.

    lost: clients that were charged for it but had been interrupted. rejected: clients for which the sum before it did
    not verify; they did nothing and were charged nothing. present: who answered at first. unreachable: who was not
    connected. noise: deviation of the noise in each of its values, where the clients say so.
    """

    ref: SumRef | None
    sealed: bytes
    lost: tuple[ClientName, ...] = ()
    rejected: tuple[ClientName, ...] = ()
    present: tuple[ClientName, ...] = ()
    unreachable: tuple[ClientName, ...] = ()
    noise: float = 0.0


@dataclass(frozen=True)
class Revealed:
    """What the group agreed on. attested: each client's signature of the digest of salt and value, hex."""

    value: bytes
    salt: bytes
    spent: dict[ClientName, float | None]
    lifetime: dict[ClientName, float | None]
    attested: dict[ClientName, str]
    unconfirmed: tuple[ClientName, ...]


class SecureSum:
    """The sums of one group."""

    def __init__(self, federation: Clients, membership: GroupMembers) -> None:
        self._federation = federation
        self._membership = membership

    def collect(self, wanted: Wanted) -> SealedSum:
        """Ask every member and add what arrives, one reply at a time.

        With masks a client that vanished leaves its peers' masks in the sum: those who answered seal the same vectors
        once more, for each other. Raises CohortTooSmall when too few answered, unless that is explained by interrupted
        clients (the sum is lost) or by clients that rejected the sum before (it has to be dropped).
        """
        attempt, again = self._membership.attempt(), False
        failures: list[Failure] = []
        present: tuple[ClientName, ...] = ()
        while True:
            adder, asked = self._try(wanted, attempt, again)
            present = present or tuple(asked.clients)
            failures += asked.failures
            least = self._federation.min_cohort
            if len(asked.answers) < least or not self._membership.masks or not asked.failures:
                break
            attempt, again = self._membership.attempt(asked.clients), True
        lost = tuple(failure.client for failure in failures if failure.code == "round-lost")
        rejected = tuple(failure.client for failure in failures if failure.code == "sum-rejected")
        if len(asked.answers) < least <= len(asked.answers) + len(lost):
            return SealedSum(None, b"", lost, present=present)
        if wanted.after_a_sum and len(rejected) >= least and len(rejected) > len(asked.answers):
            return SealedSum(None, b"", rejected=rejected, present=present)
        asked.failures = failures
        self._federation.demand(f"{wanted.purpose}, round {wanted.round}", asked, charged=True)
        ref = SumRef(
            round=wanted.round,
            generation=attempt.generation,
            clients=tuple(asked.clients),
            terms=wanted.terms,
            absent=tuple(sorted(set(attempt.cohort) - set(asked.clients))),
        )
        shares = [answer.reply.noise for answer in asked.answers if isinstance(answer.reply, CountsReply)]
        unreachable = tuple(failure.client for failure in failures if failure.code == UNREACHABLE)
        total = adder.total()
        return SealedSum(ref, total, lost, present=present, unreachable=unreachable, noise=math.hypot(*shares))

    def _try(self, wanted: Wanted, attempt: Attempt, again: bool) -> tuple[Adder, Asked[Replies]]:
        terms = self._membership.terms(attempt)
        statement = Statement(terms.execution, wanted.purpose, wanted.round, attempt.cohort, wanted.terms)
        adder = Adder(terms.scheme, terms.layout, statement, wanted.coefficients(terms.layout))
        asked: Asked[Replies] = Asked()
        for item in self._federation.stream(
            wanted.action,
            lambda name: wanted.request(name, attempt, again),
            wanted.reply,
            clients=attempt.cohort,
            blobs=lambda name: wanted.blobs(name, again),
        ):
            if isinstance(item, Failure):
                self._federation.exclude(asked, item)
                continue
            try:
                adder.add(item.blobs.get("sealed", b""), item.client, terms.roster[item.client])
            except SumRejected as error:
                self._federation.exclude(asked, Failure(item.client, "upload-rejected", error.cause))
                continue
            asked.answers.append(Answer(item.client, item.reply, {}))
        self._federation.heads.note({answer.client: answer.reply.head for answer in asked.answers})
        return adder, asked

    def reveal(
        self, request: Callable[[ClientName, Mapping[ClientName, str]], RevealRequest], blobs: Callable[[str], Blobs]
    ) -> Revealed | None:
        """Let every member open the result; publish it if all that answer, at least the minimum cohort, agree.

        `request(client, certificate)` makes the request. None: the last sum did not verify at that many clients.
        Raises CohortTooSmall, RevealDisagreement naming who disagrees.
        """
        asked: Asked[RevealReply] = Asked()
        members = self._membership.members
        for item in self._federation.stream(
            Action.REVEAL, lambda name: request(name, {}), RevealReply, clients=members, blobs=blobs
        ):
            failure = item if isinstance(item, Failure) else self._unsigned(item, request(item.client, {}))
            if failure is not None:
                self._federation.exclude(asked, failure)
            elif isinstance(item, Answer):
                asked.answers.append(item)
        rejected = [failure for failure in asked.failures if failure.code == "sum-rejected"]
        if len(asked.answers) < self._federation.min_cohort <= len(rejected):
            return None
        self._federation.demand(Action.REVEAL.value, asked)
        digest = self._agreed(asked)
        certificate = {answer.client: answer.reply.signature for answer in asked.answers}
        value, salt = self._value(asked.clients, digest, lambda name: request(name, certificate), blobs)
        return Revealed(
            value=value,
            salt=salt,
            spent={answer.client: answer.reply.spent for answer in asked.answers},
            lifetime={answer.client: answer.reply.lifetime for answer in asked.answers},
            attested=certificate,
            unconfirmed=tuple(sorted(set(self._membership.everyone) - set(asked.clients))),
        )

    def _unsigned(self, answer: Answer[RevealReply], request: RevealRequest) -> Failure | None:
        text = reveal_text(request.execution, request.what, answer.reply.digest)
        if self._membership.roster[answer.client].verify(bytes.fromhex(answer.reply.signature), text):
            return None
        return Failure(answer.client, "protocol", "its digest of the result is not signed by its key")

    def _value(
        self,
        clients: Iterable[ClientName],
        digest: str,
        request: Callable[[ClientName], RevealRequest],
        blobs: Callable[[str], Blobs],
    ) -> tuple[bytes, bytes]:
        """The value that the digest stands for and its salt, from the first client that hands them over."""
        refusals = []
        for name in clients:
            told = self._federation.ask(Action.REVEAL, request, RevealReply, clients=[name], blobs=blobs, at_least=0)
            refusals += [failure for failure in told.failures if failure.code == "cohort-too-small"]
            for answer in told.answers:
                value, salt = answer.blobs.get("value", b""), answer.blobs.get("salt", b"")
                if result_digest(salt, value) == digest:
                    return value, salt
        if refusals:
            raise CohortTooSmall(
                f"no client hands the result over: {refusals[0].text}",
                remedy="Bring back clients that were in the group and run the same command again: it goes on there.",
            )
        raise RevealDisagreement("no client sent the value that the group's digest stands for")

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
