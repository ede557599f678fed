"""What a data owner takes back: every snapshot, and all that was made from it here."""

from __future__ import annotations

from dataclasses import dataclass

from clients.execution import SALT_BYTES, ExecutionState, end_execution
from clients.home import Home
from pipeline.language.protocol import result_digest


@dataclass(frozen=True)
class Made:
    """What an execution made from this client's data: digest of the model it vouched for, empty while there is none."""

    execution: str
    time: float
    digest: str


def forget_all(home: Home, *, unfinished: bool) -> tuple[int, list[Made]]:
    """Remove every snapshot and what was made from them: how many, and the executions that trained on them.

    Own layers of personal models go too. unfinished: end executions that have no result yet.
    """
    made = []
    folders = sorted((home.root / "executions").glob("*"), key=lambda folder: folder.stat().st_mtime)
    trained = {row.id.split("/")[0]: row.time for row in home.ledger.rows() if "/train/" in row.id}
    for execution, when in trained.items():
        state = ExecutionState(home, execution)
        result = state.result()
        digest = result_digest(result[:SALT_BYTES], result[SALT_BYTES:]) if result else ""
        made.append(Made(execution, when, digest))
    for folder in folders:
        (folder / "personal.f4").unlink(missing_ok=True)
        if unfinished and not (folder / "result").exists():
            end_execution(home, folder)
    return home.snapshots.forget(), made
