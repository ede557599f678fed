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
from pipeline.secure_sum import SecureSum, sum_blobs
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
    """Raises CohortTooSmall, RevealDisagreement. Interrupted, it goes on from the last checkpointed round."""
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

    for number in range(rounds.done + 1, training.rounds + 1):
        begun = time.monotonic()
        total = group.collect(
            Action.TRAIN,
            lambda name, number=number: base(name).model_copy(  # type: ignore[misc]
                update={"round": number, "sums": rounds.unseen_by(name)}
            ),
            TrainReply,
            lambda name: rounds.blobs_for(name) or {"initial": initial},
        )
        rounds.add(number, total.clients, total.sealed)
        clients.progress(
            RoundFinished(
                round=number,
                rounds=training.rounds,
                clients=len(total.clients),
                cohort=len(group.members),
                seconds=time.monotonic() - begun,
                lost=not total.clients,
            )
        )
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
    return TrainedModel(
        weights=journal.put("weights", revealed.value),
        parameters=models.parameter_count(model, spec.width),
        rounds=rounds.participants,
        spent=revealed.spent,
        unconfirmed=revealed.unconfirmed,
    )


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
