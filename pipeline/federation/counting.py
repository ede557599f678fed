"""A question to the clients of one execution: their answers added, the sum opened by them, each step kept."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from pydantic import BaseModel

from pipeline.federation.clients import Clients
from pipeline.federation.membership import GroupMembers
from pipeline.federation.secure_sum import SealedSum, SecureSum, Wanted, sum_blobs
from pipeline.language.noise import SumTerms
from pipeline.language.packing import Blobs
from pipeline.language.protocol import Action, Attempt, ClientName, CountsReply, Purpose, RevealRequest, SumRef
from pipeline.learning.queries.query import Query
from pipeline.store.journal import Journal
from privacy.errors import CohortTooSmall, ProtocolError, SumRejected
from privacy.noise import Integers
from privacy.statement import agreed

COLLECTED = "counts"
ROUNDED = 12**-0.5
"""Deviation of what rounding takes."""


@dataclass(frozen=True)
class Question:
    """What is asked. request(client, attempt) and blobs(client) make the messages; basis: what all clients of the sum
    must have agreed upon. line: purpose of the line of the budget that pays for it. remedy: what to do about an answer
    that was interrupted after it was charged."""

    action: Action
    purpose: Purpose
    query: Query
    basis: str
    line: str
    request: Callable[[ClientName, Attempt], BaseModel]
    blobs: Callable[[ClientName], Blobs]
    remedy: str


@dataclass(frozen=True)
class Counted:
    """The opened sum. noise: deviation of the noise in each count. spent, lifetime: epsilon of this execution, and of
    each client's ledger after it."""

    clients: tuple[ClientName, ...]
    counts: Integers
    noise: float
    spent: dict[ClientName, float | None]
    lifetime: dict[ClientName, float | None]


def count(
    clients: Clients, journal: Journal, keys: Mapping[ClientName, str], noise: SumTerms, question: Question
) -> Counted:
    """Ask every client of `keys` (public keys, hex). Interrupted, it goes on with the sum that was collected.

    Raises CohortTooSmall, RevealDisagreement, SumRejected.
    """
    membership = GroupMembers(clients, journal, noise.encryption, question.purpose)
    membership.establish(keys)
    group, size = SecureSum(clients, membership), question.query.size
    levels = noise.levels(question.line, question.query.norm)
    total = _collected(journal) or group.collect(
        Wanted(
            action=question.action,
            purpose=question.purpose,
            round=1,
            reply=CountsReply,
            request=lambda name, attempt, again: question.request(name, attempt),
            blobs=lambda name, again: {} if again else question.blobs(name),
            coefficients=lambda layout: size,
            terms=agreed(question.basis, noise.terms(question.line, levels * question.query.norm)),
        )
    )
    ref = total.ref
    if ref is None:
        raise CohortTooSmall(
            f"the {question.action.name.lower()} answer was interrupted after it was charged at "
            f"{', '.join(total.lost)}; it is not made twice",
            remedy=question.remedy,
        )
    _keep(journal, total)  # before anyone opens it: it is not made again
    revealed = group.reveal(
        lambda name, certificate: RevealRequest(
            execution=journal.execution, what="counts", sums=(ref,), count=size, certificate=dict(certificate)
        ),
        lambda name: sum_blobs([(ref, total.sealed)]),
    )
    if revealed is None:
        raise SumRejected("the summed counts do not verify", remedy="A client sent an upload that is not its own.")
    if len(revealed.value) != 8 * size:
        raise ProtocolError("the revealed counts have the wrong length")
    counts, deviation = np.frombuffer(revealed.value, dtype="<i8"), total.noise
    if levels > 1:  # rounding adds to the noise
        counts, deviation = np.rint(counts / levels).astype(np.int64), math.hypot(deviation / levels, ROUNDED)
    return Counted(ref.clients, counts, deviation, revealed.spent, revealed.lifetime)


def _collected(journal: Journal) -> SealedSum | None:
    """The sum that an earlier attempt of this execution had collected."""
    if (content := journal.get(COLLECTED)) is None:
        return None
    header, _, sealed = content.partition(b"\n")
    fields = json.loads(header)
    return SealedSum(SumRef.model_validate(fields["ref"]), sealed, noise=float(fields["noise"]))


def _keep(journal: Journal, total: SealedSum) -> None:
    if total.ref:
        header = json.dumps({"ref": total.ref.model_dump(mode="json"), "noise": total.noise}).encode()
        journal.put(COLLECTED, header + b"\n" + total.sealed)
