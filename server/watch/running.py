"""Runs as processes of their own, with what the command line says of them: the same code, locks and exit codes."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

WORKSPACE_BUSY = 8
INTERRUPTED = 130


@dataclass
class Ended:
    """How a command ended. sources: by client, where it was asked; unable: who could not pay, and why."""

    code: int
    error: str = ""
    error_code: str = ""
    report: dict[str, Any] = field(default_factory=dict)
    sources: dict[str, str] = field(default_factory=dict)
    unable: dict[str, str] = field(default_factory=dict)


@dataclass
class Command:
    """`simulate CONFIG ...` or `run CONFIG ...`, without what a run is named by."""

    arguments: Sequence[str]
    _child: subprocess.Popen[str] | None = None
    _stopped: threading.Event = field(default_factory=threading.Event)

    def call(self, *more: str) -> Ended:
        """Run it to its end. The working folder is not on its path."""
        command = [sys.executable, "-P", "-m", "sottovoce", *self.arguments, *more, "--json"]
        if self._stopped.is_set():
            return Ended(INTERRUPTED)
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as child:
            self._child, ended, last = child, Ended(0), [""]
            reading = threading.Thread(target=_tail, args=(child, last), daemon=True)
            reading.start()
            for line in child.stdout or ():
                _hear(ended, line)
            reading.join()
            ended.code = child.wait()
        self._child = None
        if ended.code and not ended.error:
            ended.error = last[0] or f"exit code {ended.code}"
        return ended

    def stop(self) -> None:
        """End what runs now, as Ctrl-C would: what is finished is kept."""
        self._stopped.set()
        if self._child:
            self._child.send_signal(signal.SIGINT)


def _hear(ended: Ended, line: str) -> None:
    try:
        told = json.loads(line)
    except ValueError:
        return
    match told.get("event") if isinstance(told, dict) else None:
        case "Error":
            ended.error, ended.error_code = str(told["cause"]), str(told["code"])
        case "Report":
            ended.report = told
        case "BudgetAsked":
            ended.sources[told["client"]] = told["source"]
            if told["cause"]:
                ended.unable[told["client"]] = told["cause"]


def _tail(child: subprocess.Popen[str], last: list[str]) -> None:
    """The last line that it says on stderr."""
    for line in child.stderr or ():
        if line.strip():
            last[0] = line.strip()[:300]
