"""Rounds of federated averaging: sealed updates added one round after the other, then the model revealed.

In each round every client applies the sum of the one before, trains, and seals its update; the coordinator adds what it
cannot read. Finished rounds are checkpoints of the execution, so that whoever goes on with it begins after the last.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, cached_property, partial

from pipeline.engine.progress import RoundFinished
from pipeline.federation.clients import Clients
from pipeline.federation.membership import GroupMembers
from pipeline.federation.secure_sum import Revealed, SecureSum, Wanted, sum_blobs
from pipeline.language.noise import SumTerms
from pipeline.language.packing import Blobs
from pipeline.language.protocol import Action, Attempt, ClientName, RevealRequest, SumRef, TrainReply, TrainRequest
from pipeline.language.settings.encryption import EncryptionConfig
from pipeline.language.settings.privacy import Privacy
from pipeline.language.settings.training import TrainingConfig
from pipeline.learning.features import FeatureSpec
from pipeline.learning.models.model import Model
from pipeline.learning.models.net import Net
from pipeline.learning.models.summing import NORM, Summing
from pipeline.learning.tasks.task import Task
from pipeline.store.journal import Journal
from privacy.budget import Line
from privacy.errors import FederationError
from privacy.layout import Layout
from privacy.statement import agreed, basis_of, next_basis

LOST = b"lost"
"""Header of a checkpointed round without a sum."""


@dataclass(frozen=True)
class Assignment:
    """What is to be trained, on what, and how.

    features: keyed digest of each client's. holdout: share of the records that is held out. lines: of the
    run's budget.
    """

    features: Mapping[ClientName, str]
    spec: FeatureSpec
    holdout: float
    lines: tuple[Line, ...]
    privacy: Privacy
    encryption: EncryptionConfig
    model: Model
    training: TrainingConfig

    @cached_property
    def net(self) -> Net:
        """The model for these features and this task."""
        return self.model.net(self.spec.shape, self.spec.task.outputs, self.training.seed)


@dataclass(frozen=True)
class Trained:
    """The revealed model, and who is in the sum of each round; a lost round is empty."""

    revealed: Revealed
    rounds: dict[int, tuple[ClientName, ...]]


def train(clients: Clients, journal: Journal, keys: Mapping[ClientName, str], assignment: Assignment) -> Trained:
    """Train a model. keys: public keys of the cohort, hex. Interrupted, it goes on from the last checkpointed round.

    A sum that does not verify is dropped by every client alike: its round is lost, the next goes on from before it.
    Raises CohortTooSmall, RevealDisagreement, FederationError when every round was lost.
    """
    training, spec, model, net = assignment.training, assignment.spec, assignment.model, assignment.net
    noise = SumTerms.of(assignment.privacy, assignment.lines, assignment.encryption, clients.min_cohort)
    encryption = noise.encryption
    membership = GroupMembers(clients, journal, encryption, "train")
    membership.establish({name: keys[name] for name in assignment.features})
    group = SecureSum(clients, membership)
    initial = net.initial().astype("<f4").tobytes()
    rounds = Rounds(journal, initial)

    @cache
    def base(client: ClientName) -> TrainRequest:
        return TrainRequest(
            execution=journal.execution,
            features=assignment.features[client],
            spec=spec,
            model=model,
            frozen=net.frozen,
            privacy=assignment.privacy,
            shares=noise.shares,
            encryption=encryption,
            training=training,
            lines=assignment.lines,
            holdout=assignment.holdout,
            round=1,
            attempt=membership.attempt(),
            sums=(),
            seen=None,
        )

    def request(number: int, name: str, attempt: Attempt, again: bool) -> TrainRequest:
        sums = () if again else rounds.unseen_by(name)
        seen = clients.heads.head(name)
        return base(name).model_copy(update={"round": number, "attempt": attempt, "sums": sums, "seen": seen})

    def blobs(name: str, again: bool) -> Blobs:
        return {} if again else {**rounds.blobs_for(name), **({} if rounds.knows(name) else {"initial": initial})}

    last = model.sums or training.rounds
    while rounds.done < last:
        begun, number, members = time.monotonic(), rounds.done + 1, len(membership.members)
        total = group.collect(
            Wanted(
                action=Action.TRAIN,
                purpose="train",
                round=number,
                reply=TrainReply,
                request=partial(request, number),
                blobs=blobs,
                coefficients=partial(coefficients, net, spec.task, len(rounds.sums), number),
                terms=agreed(rounds.basis, noise.terms("training", NORM)),
                after_a_sum=bool(rounds.sums),
            )
        )
        if total.rejected:
            clients.progress(_report(rounds.drop_last(), last, (), members, 0.0))
            membership.renew()
            continue
        rounds.add(number, total.ref, total.sealed)
        if len(total.present) >= clients.min_cohort:
            # A new key comes after the checkpoint: what the old one sealed stays whole. Nobody is waited for when that
            # loses rounds, which are paid for.
            membership.note(total.ref.clients if total.ref else total.present, total.unreachable)
        seconds = time.monotonic() - begun
        clients.progress(_report(number, last, rounds.participants[number], members, seconds))

    revealed: Revealed | None = None
    while revealed is None:
        if not rounds.sums:
            raise FederationError("every round was lost: there is no model", remedy="Run the same command again.")
        revealed = group.reveal(
            lambda name, certificate: RevealRequest(
                execution=journal.execution,
                what="model",
                sums=rounds.unseen_by(name) or rounds.last(),
                count=1,
                certificate=dict(certificate),
            ),
            rounds.blobs_for,
        )
        if revealed is None:
            clients.progress(_report(rounds.drop_last(), last, (), len(membership.members), 0.0))
    return Trained(revealed, rounds.participants)


def coefficients(net: Net, task: Task, step: int, number: int, layout: Layout) -> int:
    """Of the vector of a client in round `number`, after so many sums."""
    if isinstance(net, Summing):
        return net.size(task, step, number)
    return layout.coefficients(net.parameters + 1)  # and the weight


def largest(net: Net, task: Task, layout: Layout) -> int:
    """Coefficients of the largest vector of any round."""
    steps = net.rounds if isinstance(net, Summing) else 1
    return max(coefficients(net, task, step, step + 1, layout) for step in range(steps))


def _report(number: int, rounds: int, clients: tuple[str, ...], members: int, seconds: float) -> RoundFinished:
    return RoundFinished(number, rounds, len(clients), members, seconds, lost=not clients)


class Rounds:
    """The sums so far, on disk and in memory, and which of them each client has been given."""

    def __init__(self, journal: Journal, initial: bytes) -> None:
        self._journal = journal
        self._bases = {0: basis_of(initial)}
        self.participants: dict[int, tuple[str, ...]] = {}
        self.sums: dict[int, SumRef] = {}
        self._sealed: dict[int, bytes] = {}
        self._given: dict[str, int] = {}
        while (content := journal.get(f"round-{self.done + 1}")) is not None:
            header, _, sealed = content.partition(b"\n")
            self._keep(self.done + 1, SumRef.model_validate_json(header) if header != LOST else None, sealed)

    @property
    def done(self) -> int:
        """The last round that was finished or lost."""
        return max(self.participants, default=0)

    def add(self, number: int, ref: SumRef | None, sealed: bytes) -> None:
        """Checkpoint a round, then keep it. Whoever is in its sum has applied all sums before it."""
        header = ref.model_dump_json().encode() if ref else LOST
        self._journal.put(f"round-{number}", header + b"\n" + sealed)
        for client in ref.clients if ref else ():
            self._given[client] = number - 1
        self._keep(number, ref, sealed)
        if self._given:
            for old in [k for k in self._sealed if k <= min(self._given.values()) and len(self._given) > 1]:
                del self._sealed[old]

    def _keep(self, number: int, ref: SumRef | None, sealed: bytes) -> None:
        self.participants[number] = ref.clients if ref else ()
        if ref:
            self.sums[number] = ref
            self._sealed[number] = sealed
            self._bases[number] = next_basis(self.basis, number, sealed)

    @property
    def basis(self) -> str:
        """Stands for the model after every sum so far, which no client has applied a part of only."""
        return self._bases[max(self._bases)]

    def drop_last(self) -> int:
        """Forget the newest sum, which did not verify, as if its round had been lost; returns the round."""
        number = max(self.sums)
        self._journal.put(f"round-{number}", LOST + b"\n")
        self.participants[number] = ()
        del self.sums[number], self._bases[number]
        self._sealed.pop(number, None)
        return number

    def knows(self, client: str) -> bool:
        """Whether this client is known to have the initial model."""
        return client in self._given

    def last(self) -> tuple[SumRef, ...]:
        return (self.sums[max(self.sums)],)

    def unseen_by(self, client: str) -> tuple[SumRef, ...]:
        """Sums that this client may not have applied yet."""
        return tuple(ref for number, ref in self.sums.items() if number > self._given.get(client, 0))

    def blobs_for(self, client: str) -> dict[str, bytes]:
        return (
            sum_blobs((ref, self._sum(ref.round)) for ref in self.unseen_by(client) or self.last()) if self.sums else {}
        )

    def _sum(self, number: int) -> bytes:
        if number not in self._sealed:
            content = self._journal.get(f"round-{number}") or b""
            self._sealed[number] = content.partition(b"\n")[2]
        return self._sealed[number]
