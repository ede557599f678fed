"""A coordinator that speaks the protocol to real clients and keeps to none of its rules.

It has what a real one has: the clients' public keys, every message, every sealed vector. It sends whatever a test wants
in whatever order, to the same ClientApp that a SuperNode runs.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from flwr.app import Message
from pydantic import BaseModel

from clients.home import Home
from pipeline.language.config import Config
from pipeline.language.lines import Lines
from pipeline.language.noise import SumTerms
from pipeline.language.packing import pack, unpack
from pipeline.language.protocol import (
    Action,
    Attempt,
    CountsReply,
    EvaluateRequest,
    IngestReply,
    IngestRequest,
    KeysReply,
    KeysRequest,
    PreprocessReply,
    PreprocessRequest,
    Purpose,
    RevealReply,
    RevealRequest,
    StatisticsRequest,
    SumRef,
    TrainReply,
    TrainRequest,
    ValidateReply,
    ValidateRequest,
)
from pipeline.learning.features import FeatureSpec
from privacy.group import Terms
from privacy.keys import PublicKeys
from privacy.layout import Layout
from privacy.statement import Statement, agreed, basis_of, next_basis
from privacy.sums import Adder
from tests.support import LocalGrid

Reply = TypeVar("Reply", bound=BaseModel)


class Refused(Exception):
    """What a client said instead of an answer."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(f"{code}: {text}")
        self.code, self.text = code, text


class Coordinator:
    """Of the clients with these homes."""

    def __init__(self, homes: Mapping[str, Path], config: Config) -> None:
        self.homes, self.config = dict(homes), config
        self.grid = LocalGrid(homes)
        self.spec = FeatureSpec.of(config.data)
        self.nodes = {name: node for node, name in self.grid.names.items()}
        self.keys = {name: Home(home).identity.public for name, home in homes.items()}
        self.features: dict[str, str] = {}
        self.snapshots: dict[str, str] = {}
        self.net = config.model.net(self.spec.shape, self.spec.task.outputs, 0)
        self.initial = self.net.initial().astype("<f4").tobytes()
        self.basis = basis_of(self.initial)

    def home(self, name: str) -> Home:
        return Home(self.homes[name])

    def ask(
        self,
        name: str,
        action: Action,
        request: BaseModel,
        reply: type[Reply],
        blobs: Mapping[str, bytes] | None = None,
    ) -> tuple[Reply, dict[str, bytes]]:
        """One message to one client. Raises Refused."""
        message = Message(pack(request, blobs or {}), self.nodes[name], action.value)
        (answer,) = self.grid.send_and_receive([message])
        if answer.has_error():
            told = json.loads(answer.error.reason or "{}")
            raise Refused(told["code"], told["message"])
        return unpack(reply, answer.content)

    # -- data ------------------------------------------------------------------------------------------------------
    def prepare(self, *names: str) -> None:
        """Snapshots and features, without checks."""
        data = self.config.data
        for name in names or self.homes:
            taken, _ = self.ask(name, Action.INGEST, IngestRequest(contract=data), IngestReply)
            made = PreprocessRequest(spec=self.spec, snapshot=taken.snapshot, holdout=data.holdout)
            self.snapshots[name] = taken.snapshot
            self.features[name] = self.ask(name, Action.PREPROCESS, made, PreprocessReply)[0].features

    def validate(self, name: str, **changes: Any) -> ValidateReply:
        fields = {
            "contract": self.config.data,
            "checks": self.config.validation,
            "privacy": self.config.privacy,
            "lines": Lines.of(self.config).lines,
        }
        request = ValidateRequest.model_validate({**fields, "snapshot": self.snapshots[name], **changes})
        return self.ask(name, Action.VALIDATE, request, ValidateReply)[0]

    # -- groups ----------------------------------------------------------------------------------------------------
    def keys_request(self, execution: str, names: Sequence[str], **changes: Any) -> KeysRequest:
        fields: dict[str, Any] = {
            "execution": execution,
            "purpose": "train",
            "generation": 1,
            "scheme": "bfv",
            "masks": True,
            "roster": {name: self.keys[name].hex() for name in names},
            "leader": min(names),
        }
        return KeysRequest.model_validate({**fields, **changes})

    def offer(self, request: KeysRequest) -> dict[str, bytes]:
        """What the leader makes."""
        return self.ask(request.leader, Action.KEYS, request, KeysReply)[1]

    def give(self, name: str, request: KeysRequest, made: Mapping[str, bytes]) -> None:
        """A member's part of an offer."""
        parts = {"signature": made["signature"], "key": made["key"], "wrapped": made[f"wrapped-{name}"]}
        self.ask(name, Action.KEYS, request, KeysReply, parts)

    def group(self, execution: str, purpose: Purpose, names: Sequence[str], **changes: Any) -> Terms:
        """A generation that all of `names` have taken."""
        request = self.keys_request(execution, names, purpose=purpose, **changes)
        made = self.offer(request)
        for name in names:
            self.give(name, request, made)
        roster = {name: PublicKeys.from_hex(text) for name, text in request.roster.items()}
        return Terms(execution, purpose, request.generation, request.scheme, request.masks, roster)

    # -- vectors ---------------------------------------------------------------------------------------------------
    def _asked(self, execution: str, name: str, cohort: Sequence[str]) -> dict[str, Any]:
        """What every request for a vector says."""
        config = self.config
        noise = SumTerms.of(config.privacy, Lines.of(config).lines, config.encryption, config.federation.min_cohort)
        return {
            "execution": execution,
            "features": self.features[name],
            "spec": self.spec,
            "model": config.model,
            "privacy": config.privacy,
            "shares": noise.shares,
            "encryption": noise.encryption,
            "training": config.training,
            "lines": Lines.of(config).lines,
            "holdout": config.data.holdout,
            "attempt": Attempt(generation=1, cohort=tuple(sorted(cohort))),
            "seen": None,
        }

    def train_request(self, execution: str, name: str, cohort: Sequence[str], **changes: Any) -> TrainRequest:
        own = {"round": 1, "sums": ()}
        return TrainRequest.model_validate({**self._asked(execution, name, cohort), **own, **changes})

    def train(
        self,
        execution: str,
        name: str,
        cohort: Sequence[str],
        sums: Sequence[tuple[SumRef, bytes]] = (),
        **changes: Any,
    ) -> bytes:
        """A client's sealed update."""
        request = self.train_request(execution, name, cohort, sums=tuple(ref for ref, _ in sums), **changes)
        blobs = {f"sum-{ref.round}": sealed for ref, sealed in sums}
        return self.ask(name, Action.TRAIN, request, TrainReply, {**blobs, "initial": self.initial})[1]["sealed"]

    def statistics_request(self, execution: str, name: str, cohort: Sequence[str], **changes: Any) -> StatisticsRequest:
        asked = self._asked(execution, name, cohort)
        own = {key: asked[key] for key in ("execution", "privacy", "shares", "lines", "attempt", "seen")}
        own |= {"contract": self.config.data, "snapshot": self.snapshots[name], "statistics": self.config.statistics}
        return StatisticsRequest.model_validate({**own, **changes})

    def statistics(self, execution: str, name: str, cohort: Sequence[str], **changes: Any) -> bytes:
        """A client's sealed statistics."""
        request = self.statistics_request(execution, name, cohort, **changes)
        return self.ask(name, Action.STATISTICS, request, CountsReply)[1]["sealed"]

    def evaluate_request(self, execution: str, name: str, cohort: Sequence[str], **changes: Any) -> EvaluateRequest:
        own = {"evaluation": self.config.evaluation, "basis": self.basis}
        return EvaluateRequest.model_validate({**self._asked(execution, name, cohort), **own, **changes})

    def evaluate(self, execution: str, name: str, cohort: Sequence[str], **changes: Any) -> bytes:
        """A client's sealed counts."""
        request = self.evaluate_request(execution, name, cohort, **changes)
        return self.ask(name, Action.EVALUATE, request, CountsReply, {"weights": self.initial})[1]["sealed"]

    def add(
        self, terms: Terms, number: int, uploads: Mapping[str, bytes], cohort: Sequence[str], agreed_on: str
    ) -> tuple[SumRef, bytes]:
        """An honest sum of what arrived."""
        statement = Statement(terms.execution, terms.purpose, number, tuple(sorted(cohort)), agreed_on)
        adder = Adder(terms.scheme, terms.layout, statement, self.coefficients(terms.layout, terms.purpose))
        for name, sealed in uploads.items():
            adder.add(sealed, name, terms.roster[name])
        ref = SumRef(
            round=number,
            generation=terms.generation,
            clients=tuple(sorted(uploads)),
            terms=agreed_on,
            absent=tuple(sorted(set(cohort) - set(uploads))),
        )
        return ref, adder.total()

    def coefficients(self, layout: Layout, purpose: str) -> int:
        values = self.net.parameters + 1
        return layout.coefficients(values) if purpose == "train" else 2 * self.config.evaluation.bins

    def trained(
        self,
        execution: str,
        terms: Terms,
        names: Sequence[str],
        number: int = 1,
        sums: Sequence[tuple[SumRef, bytes]] = (),
        **changes: Any,
    ) -> tuple[SumRef, bytes]:
        """The sum of a whole round."""
        basis = self.basis
        for ref, sealed in sums:
            basis = next_basis(basis, ref.round, sealed)
        told = {**changes, "round": number}
        uploads = {name: self.train(execution, name, names, sums, **told) for name in names}
        return self.add(terms, number, uploads, names, agreed(basis, ""))

    def evaluated(self, execution: str, terms: Terms, names: Sequence[str]) -> tuple[SumRef, bytes]:
        """The sum of all counts."""
        uploads = {name: self.evaluate(execution, name, names) for name in names}
        return self.add(terms, 1, uploads, names, agreed(self.basis, ""))

    def reveal(
        self,
        name: str,
        execution: str,
        what: str,
        sums: Sequence[tuple[SumRef, bytes]],
        certificate: Mapping[str, str] | None = None,
    ) -> tuple[RevealReply, dict[str, bytes]]:
        request = RevealRequest.model_validate(
            {
                "execution": execution,
                "what": what,
                "sums": [ref for ref, _ in sums],
                "count": 2 * self.config.evaluation.bins,
                "certificate": dict(certificate or {}),
            }
        )
        return self.ask(name, Action.REVEAL, request, RevealReply, {f"sum-{ref.round}": sealed for ref, sealed in sums})


def altered(sealed: bytes, at: int = 40) -> bytes:
    """A total with one coefficient moved a little: what homomorphic addition invites to."""
    content = bytearray(sealed)
    content[at] ^= 1
    return bytes(content)


def counts_of(value: bytes) -> np.ndarray[Any, np.dtype[np.int64]]:
    return np.frombuffer(value, dtype="<i8")
