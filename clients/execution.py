"""The state of one running execution in a client's home: group keys, global model, and what was made for a sum.

What goes into a sum is stored before it is sealed. The same request after a crash, or with another cohort because a
client vanished, is answered from the store: nothing is computed, and nothing charged, twice.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel

from clients.home import Home
from clients.membership import Membership
from pipeline.host.files import read_json, write_atomically
from pipeline.language.protocol import SumRef
from pipeline.language.stepping import Moments
from pipeline.learning.models.net import Weights
from privacy.accounting import Release
from privacy.errors import ProtocolError, ReplayRefused
from privacy.group import Group
from privacy.noise import Floats, Integers
from privacy.plan import DPPlan
from privacy.shares import NoiseShares
from privacy.statement import Statement, next_basis
from privacy.stream import Words
from privacy.sums import Holder

SALT_BYTES = 32
KEPT_EXECUTIONS = 8
"""Executions whose end is kept, so that they can be asked for their result again."""
OPEN_EXECUTIONS, IDLE_SECONDS = 256, 30 * 24 * 3600
"""Executions that have not ended: how many there may be, and for how long one may rest before it is over."""


@dataclass(frozen=True)
class GlobalModel:
    """The global model as far as this client has applied the revealed sums.

    basis: stands for the initial model and every sum that was applied (privacy.statement). moments: what the server's
    optimizer keeps from step to step.
    """

    weights: Weights
    applied: int
    basis: str
    moments: Moments = ()


Applied = Callable[[GlobalModel, SumRef, bytes], tuple[Weights, Moments]]
"""What a model becomes by one sum, which it opens."""


class ExecutionState:
    """Everything one client keeps about one execution."""

    def __init__(self, home: Home, execution: str) -> None:
        self.home = home
        self.id = execution
        self.folder = home.execution_folder(execution)

    # -- the group ---------------------------------------------------------------------------------------------------
    @cached_property
    def membership(self) -> Membership:
        return Membership(self.home, self.id, self.folder)

    def begin(self) -> None:
        """Raise ReplayRefused for an execution that is over, or that was charged and has lost its keys: under a second
        set of keys a second sum of it could be opened."""
        if self.membership.generation:
            return
        if self.id in self.home.ended or any(row.id.startswith(f"{self.id}/") for row in self.home.ledger.rows()):
            raise ReplayRefused("this execution is over at this client; it is not begun again", travels=True)
        others = [folder for folder in self._others() if not (folder / "result").exists()]
        if len(others) >= OPEN_EXECUTIONS:
            raise ProtocolError(
                f"{len(others)} executions have not ended here",
                remedy="The data owner can end them: sottovoce client forget --executions.",
                travels=True,
            )

    def join(self, group: Group) -> None:
        """Keep the keys of a group, and let go of executions long past."""
        self.membership.join(group)
        self._prune()

    def open_values(self, ref: SumRef, sealed: bytes, purpose: str, count: int, bound: float) -> Floats:
        """The verified sum of `count` real values. Raises CohortTooSmall, SumRejected, ProtocolError."""
        statement = self.membership.referred(purpose, ref)
        holder = self.membership.holder(ref.generation)
        return self.membership.open(
            statement,
            ref,
            sealed,
            f"values {count} {bound!r}",
            lambda: holder.open_values(sealed, statement, ref.clients, count, bound),
        )

    def open_counts(self, ref: SumRef, sealed: bytes, purpose: str, count: int) -> Integers:
        """The verified sum of `count` integers. Raises CohortTooSmall, SumRejected, ProtocolError."""
        statement = self.membership.referred(purpose, ref)
        holder = self.membership.holder(ref.generation)
        return self.membership.open(
            statement,
            ref,
            sealed,
            f"integers {count}",
            lambda: holder.open_integers(sealed, statement, ref.clients, count),
        )

    # -- what the first round fixed ----------------------------------------------------------------------------------
    def plan(self, settings: str) -> DPPlan | None:
        """The plan fixed in this execution's first round. Raises ProtocolError for other `settings` than it had."""
        path = self.folder / "plan.json"
        if not path.exists():
            return None
        fixed = read_json(path)
        if fixed["settings"] != settings:
            raise ProtocolError("other settings than in the first round of this execution", travels=True)
        return DPPlan(**fixed["plan"])

    def fix_plan(self, plan: DPPlan, settings: str, opening: BaseModel) -> None:
        """After the first charge: who only probes leaves nothing behind. opening: how sums are opened and applied from
        then on."""
        content = {"settings": settings, "plan": asdict(plan), "opening": opening.model_dump(mode="json")}
        write_atomically(self.folder / "plan.json", json.dumps(content).encode())

    def opening(self) -> dict[str, Any]:
        """How sums are opened, as it was fixed in the first round. Raises ProtocolError where none was trained."""
        path = self.folder / "plan.json"
        if not path.exists():
            raise ProtocolError("this client has trained no round of the execution", travels=True)
        opening: dict[str, Any] = read_json(path)["opening"]
        return opening

    def note_beside(self, releases: Sequence[Release]) -> None:
        """What else of the run has read the records of this execution."""
        content = [asdict(release) for release in releases]
        write_atomically(self.folder / "beside.json", json.dumps(content).encode())

    @property
    def noted(self) -> bool:
        """Whether that is known."""
        return (self.folder / "beside.json").exists()

    def spent(self) -> float:
        """Epsilon of this execution and of what stands beside it, for its most exposed record."""
        path = self.folder / "beside.json"
        beside = [Release(**fields) for fields in json.loads(path.read_text())] if path.exists() else []
        return self.home.ledger.spent(f"{self.id}/", beside)

    # -- the global model --------------------------------------------------------------------------------------------
    def model(self) -> GlobalModel | None:
        path = self.folder / "model.f4"
        if not path.exists():
            return None
        content = path.read_bytes()
        applied, moments, basis = int.from_bytes(content[:7], "little"), content[7], content[8:24].hex()
        weights, *kept = np.frombuffer(content[24:], dtype="<f4").copy().reshape(1 + moments, -1)
        return GlobalModel(weights, applied, basis, tuple(kept))

    def save_model(self, model: GlobalModel) -> None:
        head = model.applied.to_bytes(7, "little") + bytes([len(model.moments)]) + bytes.fromhex(model.basis)
        vectors = b"".join(vector.astype("<f4").tobytes() for vector in (model.weights, *model.moments))
        write_atomically(self.folder / "model.f4", head + vectors)

    def advance(
        self, model: GlobalModel, sums: Sequence[SumRef], blobs: dict[str, bytes], applied: Applied, *, keep: bool
    ) -> GlobalModel:
        """`model` after every sum it has not seen. keep: it is saved; before a first charge fixed how sums are opened
        nothing is, or sums of one model would become the beginning of another.

        Raises CohortTooSmall, SumRejected, ProtocolError.
        """
        for ref in sorted(sums, key=lambda ref: ref.round):
            if ref.round > model.applied:
                sealed = blob(blobs, f"sum-{ref.round}")
                weights, moments = applied(model, ref, sealed)
                model = GlobalModel(weights, ref.round, next_basis(model.basis, ref.round, sealed), moments)
                if keep:
                    self.save_model(model)
        return model

    def personal(self) -> Weights | None:
        """This client's own last layers, as it trained them last."""
        path = self.folder / "personal.f4"
        return np.frombuffer(path.read_bytes(), dtype="<f4").copy() if path.exists() else None

    def save_personal(self, weights: Weights) -> None:
        write_atomically(self.folder / "personal.f4", weights.astype("<f4").tobytes())

    # -- what was made for a sum -------------------------------------------------------------------------------------
    def stored(self, key: str, holder: Holder) -> Words | None:
        """The coefficients made for `key` in this group, if they were: sealed again, and nothing charged."""
        path = self._made(key, holder)
        return np.frombuffer(path.read_bytes(), dtype="<u8") if path.exists() else None

    def store(self, key: str, holder: Holder, coefficients: Words) -> None:
        """Keep them until the next ones are made."""
        path = self._made(key, holder)
        write_atomically(path, coefficients.astype("<u8").tobytes())
        for old in self.folder.glob("made-*.u8"):
            if old != path:
                old.unlink()

    def _made(self, key: str, holder: Holder) -> Path:
        return self.folder / f"made-{key}-{holder.mark}.u8"

    # -- the end -----------------------------------------------------------------------------------------------------
    def refuse_if_closed(self) -> None:
        """Raise ReplayRefused once this client vouched for a result of this execution: no round follows it."""
        if (self.folder / "result").exists():
            raise ReplayRefused("the model of this execution was revealed; it takes no further round", travels=True)

    def result(self) -> bytes | None:
        """Salt and value of the one result this client vouches for."""
        path = self.folder / "result"
        return path.read_bytes() if path.exists() else None

    def close(self, salt: bytes, value: bytes) -> None:
        """This is the result; there is no other one ever."""
        write_atomically(self.folder / "result", salt + value)
        for made in self.folder.glob("made-*.u8"):
            made.unlink()

    def _others(self) -> list[Path]:
        folders = [folder for folder in self.folder.parent.glob("*") if folder.name != self.id]
        return sorted(folders, key=lambda folder: folder.stat().st_mtime, reverse=True)

    def _prune(self) -> None:
        closed = [folder for folder in self._others() if (folder / "result").exists()]
        rested = [folder for folder in self._others() if time.time() - folder.stat().st_mtime > IDLE_SECONDS]
        for old in {*closed[KEPT_EXECUTIONS:], *rested}:
            end_execution(self.home, old)


def end_execution(home: Home, folder: Path) -> None:
    """Remove all that is kept of an execution; it is over for ever."""
    home.ended.add(folder.name)
    shutil.rmtree(folder, ignore_errors=True)


def sealed_once(key: str, statement: Statement, shares: NoiseShares | None) -> str:
    """The name under which a vector is kept to be sealed again.

    With noise of its own a client may seal it for a smaller cohort. With a share only it may not: two sums over
    cohorts that differ by one client would tell that client's update with one share of noise.
    """
    return key if shares is None else f"{key}-{statement.digest}"


def blob(blobs: dict[str, bytes], name: str) -> bytes:
    """Raises ProtocolError when the message lacks it."""
    try:
        return blobs[name]
    except KeyError:
        raise ProtocolError(f"the message lacks its blob {name}", travels=True) from None
