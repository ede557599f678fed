"""The state of one running execution in a client's home: group key, global model, and the replies already given.

A reply is stored before it is sent. The same request after a crash is answered from the store: nothing is computed,
and nothing charged, twice.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np

from clients.home import Home, read_json, write_atomically
from pipeline.protocol import SumRef
from privacy.cipher import Group, Holder, Scheme, Statement
from privacy.errors import ProtocolError, ReplayRefused
from privacy.keys import Roster, read_secret, write_secret
from privacy.plan import DPPlan
from privacy.quantise import Quantiser

KEPT_EXECUTIONS = 8

Weights = np.ndarray[tuple[int], np.dtype[np.float32]]


@dataclass(frozen=True)
class GlobalModel:
    """The global model as far as this client has applied the revealed sums."""

    weights: Weights
    applied: int


class ExecutionState:
    """Everything one client keeps about one execution."""

    def __init__(self, home: Home, execution: str) -> None:
        self.home = home
        self.id = execution
        self.folder = home.execution_folder(execution)

    # -- the group ---------------------------------------------------------------------------------------------------
    def join_group(self, group: Group, roster: Roster) -> None:
        """Keep the group's key and who is in it. The key file has mode 0600."""
        write_secret(self.folder / "group.key", group.master + group.context)
        listing = {"scheme": group.scheme, "roster": {name: key.hex() for name, key in roster.items()}}
        write_atomically(self.folder / "group.json", json.dumps(listing).encode())
        self._prune()

    @cached_property
    def _listing(self) -> dict[str, Any]:
        try:
            return read_json(self.folder / "group.json")
        except FileNotFoundError:
            raise ProtocolError("this client has no group key for the execution", travels=True) from None

    @cached_property
    def group(self) -> Group:
        """Raises ProtocolError when the keys action did not come first."""
        scheme: Scheme = "bfv" if self._listing["scheme"] == "bfv" else "none"
        secret = read_secret(self.folder / "group.key")
        return Group(scheme, secret[:32], secret[32:])

    @cached_property
    def roster(self) -> dict[str, bytes]:
        return {name: bytes.fromhex(key) for name, key in self._listing["roster"].items()}

    @cached_property
    def holder(self) -> Holder:
        return self.group.holder()

    def open_sum(
        self, ref: SumRef, sealed: bytes, purpose: str, count: int
    ) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        """The slots of a sum, after the checks that are this client's own. Raises CohortTooSmall, SumRejected."""
        self.home.policy.permit_cohort(len(ref.clients))
        if strangers := sorted(set(ref.clients) - set(self.roster)):
            raise ProtocolError(f"the sum names clients outside the group: {', '.join(strangers)}", travels=True)
        return self.holder.open(sealed, Statement(self.id, purpose, ref.round), ref.clients, count)

    # -- the plan ----------------------------------------------------------------------------------------------------
    def plan(self) -> DPPlan | None:
        """The plan fixed in this execution's first round."""
        path = self.folder / "plan.json"
        return DPPlan(**json.loads(path.read_text())) if path.exists() else None

    def fix_plan(self, plan: DPPlan) -> None:
        write_atomically(self.folder / "plan.json", json.dumps(asdict(plan)).encode())

    # -- the global model --------------------------------------------------------------------------------------------
    def model(self) -> GlobalModel | None:
        path = self.folder / "model.f4"
        if not path.exists():
            return None
        content = path.read_bytes()
        return GlobalModel(np.frombuffer(content[8:], dtype="<f4").copy(), int.from_bytes(content[:8], "little"))

    def save_model(self, model: GlobalModel) -> None:
        content = model.applied.to_bytes(8, "little") + model.weights.astype("<f4").tobytes()
        write_atomically(self.folder / "model.f4", content)

    def advance(
        self, model: GlobalModel, sums: Sequence[SumRef], blobs: dict[str, bytes], quantiser: Quantiser
    ) -> GlobalModel:
        """`model` after the mean update of every sum it has not seen; saved. Raises SumRejected, CohortTooSmall."""
        for ref in sums:
            if ref.round <= model.applied:
                continue
            count = len(model.weights)
            slots = self.open_sum(ref, blob(blobs, f"sum-{ref.round}"), "train", (count + 1) // 2)
            mean = quantiser.decode_mean(slots, len(ref.clients), count)
            model = GlobalModel((model.weights.astype(np.float64) + mean).astype(np.float32), ref.round)
            self.save_model(model)
        return model

    # -- replies -----------------------------------------------------------------------------------------------------
    def stored_reply(self, key: str) -> dict[str, bytes] | None:
        """The blobs of the reply given for `key`, if one was."""
        path = self.folder / f"reply-{key}.bin"
        return {"sealed": path.read_bytes()} if path.exists() else None

    def store_reply(self, key: str, sealed: bytes) -> None:
        """Keep a reply so that a repeated request gets the same one; those of earlier keys are dropped."""
        write_atomically(self.folder / f"reply-{key}.bin", sealed)
        for old in self.folder.glob("reply-*.bin"):
            if old.name != f"reply-{key}.bin":
                old.unlink()

    # -- the end -----------------------------------------------------------------------------------------------------
    def refuse_if_closed(self) -> None:
        """Raise ReplayRefused once the model of this execution was revealed: no round follows a reveal."""
        if (self.folder / "revealed").exists():
            raise ReplayRefused("the model of this execution was revealed; it takes no further round", travels=True)

    def close(self) -> None:
        write_atomically(self.folder / "revealed", b"")
        for reply in self.folder.glob("reply-*.bin"):
            reply.unlink()

    def _prune(self) -> None:
        others = sorted(self.folder.parent.iterdir(), key=lambda folder: folder.stat().st_mtime, reverse=True)
        for old in others[KEPT_EXECUTIONS:]:
            shutil.rmtree(old, ignore_errors=True)


def blob(blobs: dict[str, bytes], name: str) -> bytes:
    """Raises ProtocolError when the message lacks it."""
    try:
        return blobs[name]
    except KeyError:
        raise ProtocolError(f"the message lacks its blob {name}", travels=True) from None
