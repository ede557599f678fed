"""Where the outcomes of a model are: what the endpoint was told last, so that other commands need not be."""

from __future__ import annotations

from pathlib import Path

from pipeline.host.files import write_atomically
from pipeline.language.settings.serving import FeedbackConfig
from server.evidence.outcomes import Outcomes


def _file(root: Path, model: str) -> Path:
    return root / "serving" / f"{model}.feedback"


def note_place(root: Path, model: str, config: FeedbackConfig) -> None:
    """root: of the workspace. Only what is not the default is written down."""
    path = _file(root, model)
    if config.store == FeedbackConfig().store:
        path.unlink(missing_ok=True)
        return
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    write_atomically(path, config.store.encode())


def outcomes_of(root: Path, model: str) -> Outcomes:
    """Looking makes nothing."""
    path = _file(root, model)
    config = FeedbackConfig(store=path.read_text()) if path.exists() else FeedbackConfig()
    return Outcomes(config.url(root))
