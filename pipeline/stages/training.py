"""training: the round loop. Sealed updates are added as they stream in; each round's sum is checkpointed.

The sum of round k goes back with round k + 1: every client verifies, decrypts and applies it by itself. The
coordinator never sees an intermediate model; after the last round the clients reveal the final one.
"""

from __future__ import annotations

import json
import time
from functools import cache

from pipeline import model as models
from pipeline.config import EncryptionConfig, ModelConfig, Privacy, TrainingConfig
from pipeline.contract import DataContract
from pipeline.dag import stage
from pipeline.federation import Federation as Clients
from pipeline.journal import Journal
from pipeline.progress import RoundFinished
from pipeline.protocol import Action, RevealRequest, SumRef, TrainReply, TrainRequest
from pipeline.secure_sum import Revealed, SecureSum, sum_blobs
from pipeline.values import Cohort, FeatureSet, TrainedModel
from privacy.errors import FederationError


@stage(produces="trained_model", place="clients", charges=True)
def training(
    clients: Clients,
    journal: Journal,
    cohort: Cohort,
    feature_set: FeatureSet,
    data: DataContract,
    privacy: Privacy,
    encryption: EncryptionConfig,
    model: ModelConfig,
    training: TrainingConfig,
) -> TrainedModel:
    """Raises CohortTooSmall, RevealDisagreement. Interrupted, it goes on from the last checkpointed round.

    A sum that does not verify is dropped by every client alike: its round is lost, the next goes on from before it.
    """
    group = SecureSum(clients, journal, encryption)
    group.establish({name: cohort.members[name].public_key for name in feature_set.digests})
    spec = feature_set.spec
    rounds = _Rounds(journal)
    initial = models.initial_weights(model, spec.width, training.seed).astype("<f4").tobytes()

    @cache
    def base(client: str) -> TrainRequest:
        return TrainRequest(
            execution=journal.execution,
            features=feature_set.digests[client],
            spec=spec,
            model=model,
            privacy=privacy,
            evaluation_privacy=True,
            encryption=encryption,
            training=training,
            holdout=data.holdout,
            cohort=len(group.members),
            round=1,
            sums=(),
        )

    while rounds.done < training.rounds:
        begun, number = time.monotonic(), rounds.done + 1
        total = group.collect(
            Action.TRAIN,
            lambda name, number=number: base(name).model_copy(  # type: ignore[misc]
                update={"round": number, "sums": rounds.unseen_by(name)}
            ),
            TrainReply,
            lambda name: {**rounds.blobs_for(name), **({} if rounds.knows(name) else {"initial": initial})},
        )
        if total.rejected:
            clients.progress(_report(rounds.drop_last(), training.rounds, (), group, 0.0))
            continue
        rounds.add(number, total.clients, total.sealed)
        clients.progress(_report(number, training.rounds, total.clients, group, time.monotonic() - begun))

    revealed: Revealed | None = None
    while revealed is None:
        if not rounds.sums:
            raise FederationError("every round was lost: there is no model", remedy="Run the same command again.")
        revealed = group.reveal(
            lambda name, value: RevealRequest(
                execution=journal.execution,
                what="model",
                sums=rounds.unseen_by(name) or rounds.last(),
                bound=encryption.bound,
                count=1,
                value=value,
            ),
            rounds.blobs_for,
        )
        if revealed is None:
            clients.progress(_report(rounds.drop_last(), training.rounds, (), group, 0.0))
    return TrainedModel(
        weights=journal.put("weights", revealed.value),
        parameters=models.parameter_count(model, spec.width),
        rounds=rounds.participants,
        spent=revealed.spent,
        unconfirmed=revealed.unconfirmed,
    )


def _report(number: int, rounds: int, clients: tuple[str, ...], group: SecureSum, seconds: float) -> RoundFinished:
    return RoundFinished(number, rounds, len(clients), len(group.members), seconds, lost=not clients)


class _Rounds:
    """The sums so far, on disk and in memory, and which of them each client has been given."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self.participants: dict[int, tuple[str, ...]] = {}
        self.sums: dict[int, SumRef] = {}
        self._sealed: dict[int, bytes] = {}
        self._given: dict[str, int] = {}
        while (content := journal.get(f"round-{self.done + 1}")) is not None:
            header, _, sealed = content.partition(b"\n")
            self._keep(self.done + 1, tuple(json.loads(header)), sealed)

    @property
    def done(self) -> int:
        """The last round that was finished or lost."""
        return max(self.participants, default=0)

    def add(self, number: int, clients: tuple[str, ...], sealed: bytes) -> None:
        """Checkpoint a round, then keep it. Whoever is in its sum has applied all sums before it."""
        self._journal.put(f"round-{number}", json.dumps(clients).encode() + b"\n" + sealed)
        for client in clients:
            self._given[client] = number - 1
        self._keep(number, clients, sealed)
        if self._given:
            for old in [k for k in self._sealed if k <= min(self._given.values()) and len(self._given) > 1]:
                del self._sealed[old]

    def _keep(self, number: int, clients: tuple[str, ...], sealed: bytes) -> None:
        self.participants[number] = clients
        if clients:
            self.sums[number] = SumRef(round=number, clients=clients)
            self._sealed[number] = sealed

    def drop_last(self) -> int:
        """Forget the newest sum, which did not verify, as if its round had been lost; returns the round."""
        number = max(self.sums)
        self._journal.put(f"round-{number}", b"[]\n")
        self.participants[number] = ()
        del self.sums[number]
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
