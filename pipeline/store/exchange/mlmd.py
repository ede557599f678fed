"""Runs as ML Metadata takes them: a JSON file, and a program that loads it where ML Metadata is installed.

Its wheel needs a protobuf of its own, so it lives in an environment of its own.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pipeline.store.exchange.story import Story

LOADER = Path(__file__).with_name("load_mlmd.py")


def tree(story: Story) -> dict[str, Any]:
    """What the loader reads."""
    executions = {execution.id: vars(execution) for found in story.executions.values() for execution, _ in found}
    return {
        "runs": [
            {**vars(run), "executions": [execution.id for execution, _ in story.executions[run.id]]}
            for run in story.runs
        ],
        "executions": list(executions.values()),
        "artifacts": [
            {"digest": digest, "type": kind, "uri": story.uris[digest]} for digest, kind in story.types.items()
        ],
        "events": [vars(link) for links in story.links.values() for link in links],
    }
