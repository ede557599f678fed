"""`sottovoce-kubeflow EXECUTOR_INPUT COMMAND...`: a command as a Kubeflow task that has outputs.

The command's report is told in Kubeflow's terms: its metrics as `system.Metrics`, the version as `system.Model`.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any


def outputs(asked: dict[str, Any], report: dict[str, Any]) -> dict[str, Any]:
    """What an executor writes: the artifacts that it was asked for, with what is known of them."""
    known = {
        "metrics": (None, {**report["metrics"], **{f"{name} error": v for name, v in report["errors"].items()}}),
        "version": (
            Path(report["files"]).absolute().as_uri(),
            {"model": report["model"], "version": report["version"], "privacy": report["privacy"]["text"]},
        ),
    }
    artifacts = {}
    for name, wanted in asked.get("outputs", {}).get("artifacts", {}).items():
        place, told = known[name]
        artifact = wanted["artifacts"][0]
        artifacts[name] = {"artifacts": [{**artifact, "uri": place or artifact.get("uri", ""), "metadata": told}]}
    return {"artifacts": artifacts}


def main() -> int:
    """Run the command; its exit code is this one's."""
    asked, report = json.loads(sys.argv[1]), None
    with subprocess.Popen(sys.argv[2:], stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout or ():
            sys.stdout.write(line)
            sys.stdout.flush()
            if line.startswith("{") and (said := json.loads(line)).get("event") == "Report":
                report = said
    if process.returncode == 0 and report is not None:
        path = Path(asked["outputs"]["outputFile"])
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(outputs(asked, report)))
    return process.returncode


def run() -> None:
    """The `sottovoce-kubeflow` command."""
    sys.exit(main())
