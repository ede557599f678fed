"""Processes that have to be there: started in order, started again with a back-off, stopped by their process ids."""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import distribution
from pathlib import Path

from pipeline.host.environment import quiet_environment
from privacy.errors import ConfigError, FederationError, PortInUse

FIRST_PAUSE, LONGEST_PAUSE, HEALTHY = 0.5, 10.0, 60.0
"""Seconds: pause before a restart, doubled up to the longest; a process that ran for so long starts from the first."""
PATIENCE, COMING_UP = 10.0, 90.0
TAIL = 20_000
LOG_BYTES = 10_000_000
"""A service's log is put aside as NAME.log.1 when it is larger than this at a start."""


@dataclass(frozen=True)
class Service:
    """One process. port, host: where it listens; waited for before the next service starts.

    heard: a file that it touches while it does its work; without that for `silence` seconds it is started anew.
    meanings: what words in its log mean to a person, for libraries that speak to their developers.
    """

    name: str
    command: Sequence[str]
    env: Mapping[str, str]
    port: int | None = None
    host: str = "127.0.0.1"
    meanings: Mapping[str, str] = field(default_factory=dict)
    heard: Path | None = None
    silence: float = 600.0


@dataclass
class _Running:
    service: Service
    process: subprocess.Popen[bytes]
    begun: float
    pause: float = FIRST_PAUSE
    again: float = field(default=0.0)


class Services:
    """A family of processes with one log each. They end with this process, however it ends."""

    def __init__(self, services: Sequence[Service], logs: Path) -> None:
        self._services, self._logs = services, logs
        self._running: list[_Running] = []

    def run(self, stopped: threading.Event, ready: Callable[[], None], say: Callable[[str], None]) -> None:
        """Keep all of them running until `stopped`. Raises FederationError if one does not come up at first."""
        self._logs.mkdir(parents=True, exist_ok=True)
        try:
            for service in self._services:
                one = _Running(service, self._start(service), time.monotonic())
                self._running.append(one)
                self._wait_for(one, stopped)
            if not stopped.is_set():
                ready()
            while not stopped.wait(0.5):
                for one in self._running:
                    self._look_after(one, say)
        finally:
            self.stop()

    def stop(self) -> None:
        """End every process, the newest first."""
        for one in reversed(self._running):
            _signal_group(one.process, signal.SIGTERM)
        deadline = time.monotonic() + PATIENCE
        for one in reversed(self._running):
            try:
                one.process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                pass
            _signal_group(one.process, signal.SIGKILL)
            one.process.wait()
        self._running.clear()

    def _start(self, service: Service) -> subprocess.Popen[bytes]:
        path = self._logs / f"{service.name}.log"
        if path.exists() and path.stat().st_size > LOG_BYTES:
            path.replace(path.with_name(f"{path.name}.1"))
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "ab") as log:
            return subprocess.Popen(
                list(service.command),
                env=dict(service.env),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=_end_with_parent,
            )

    def _wait_for(self, one: _Running, stopped: threading.Event) -> None:
        port, deadline = one.service.port, time.monotonic() + COMING_UP
        while port is not None and not stopped.is_set():
            if time.monotonic() > deadline:
                raise FederationError(
                    f"{one.service.name} does not listen on port {port} after {COMING_UP:.0f} s",
                    remedy=f"See {self._logs / one.service.name}.log",
                )
            if one.process.poll() is not None:
                raise FederationError(
                    f"{one.service.name} ended with {one.process.returncode} before it listened on port {port}: "
                    f"{self._last_words(one.service)}",
                    remedy=f"See {self._logs / one.service.name}.log",
                )
            if listens(port, one.service.host):
                return
            stopped.wait(0.1)

    def _last_words(self, service: Service) -> str:
        lines = (self._logs / f"{service.name}.log").read_text(errors="replace").split("\n")
        return next((line.strip() for line in reversed(lines) if line.strip()), "it said nothing")[:300]

    def _look_after(self, one: _Running, say: Callable[[str], None]) -> None:
        now = time.monotonic()
        if one.process.poll() is None:
            if _silent(one, now):
                _signal_group(one.process, signal.SIGKILL)
                one.process.wait()
            else:
                return
        if not one.again:
            _signal_group(one.process, signal.SIGKILL)  # what it left behind
            one.pause = FIRST_PAUSE if now - one.begun > HEALTHY else min(LONGEST_PAUSE, 2 * one.pause)
            one.again = now + one.pause
            why = meaning(self._logs / f"{one.service.name}.log", one.service.meanings)
            reason = f", last known: {why}" if why else f" with {one.process.returncode}"
            say(f"{one.service.name} ended{reason}; started again in {one.pause:.0f} s")
        elif now >= one.again:
            one.process, one.begun, one.again = self._start(one.service), now, 0.0


def _silent(one: _Running, now: float) -> bool:
    """Whether it has long said nothing of its work, counted from its start."""
    heard, silence = one.service.heard, one.service.silence
    if heard is None or now - one.begun < silence:
        return False
    try:
        return time.time() - heard.stat().st_mtime > silence
    except FileNotFoundError:
        return True


def meaning(log: Path, meanings: Mapping[str, str]) -> str:
    """What the newest words of a log that are known mean; empty when there are none."""
    if not log.exists():
        return ""
    with open(log, "rb") as file:
        file.seek(max(0, log.stat().st_size - TAIL))
        text = file.read().decode(errors="replace")
    newest = max(meanings, key=text.rfind, default="")
    return meanings[newest] if newest and newest in text else ""


def listens(port: int, host: str = "127.0.0.1") -> bool:
    """Whether something accepts connections there; for all addresses of the machine, on loopback."""
    try:
        socket.create_connection(({"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host), port), timeout=1).close()  # noqa: S104
    except OSError:
        return False
    return True


def refuse_taken(host: str, port: int) -> None:
    """Raise PortInUse when nothing can listen there."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise PortInUse(
                f"port {port} of {host} cannot be used: {error.strerror}",
                remedy="Stop what uses it, or choose another.",
            ) from None


def refuse_odd(home: Path) -> None:
    """Raise ConfigError for a place that Flower's settings cannot name."""
    if set(str(home.absolute())) & set("\"'\\\n\r"):
        raise ConfigError(
            f"{home}: a home's path may hold no quotes, backslashes or line ends", remedy="Choose another."
        )


def free_port() -> int:
    """A port of loopback that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def program(name: str) -> str:
    """Where one of Flower's programs was installed, which is not always beside the interpreter. Raises ConfigError."""
    for file in distribution("flwr").files or ():
        if file.name == name:
            return os.path.normpath(file.locate())
    raise ConfigError(f"{name} is not installed", remedy="Install Sottovoce anew: its installation is not whole.")


def python_environment(flwr_home: Path) -> dict[str, str]:
    """The environment of Flower's processes: quiet, offline, with its programs first on the path."""
    quiet_environment()
    flwr_home.mkdir(parents=True, exist_ok=True, mode=0o700)
    binaries = Path(program("flwr")).parent
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_AUTH", "COV"))}
    for name in ("NO_PROXY", "no_proxy"):  # loopback is not for a proxy: it would see task tokens
        kept[name] = ",".join(filter(None, (kept.get(name), "127.0.0.1,localhost")))
    return {**kept, "FLWR_HOME": str(flwr_home), "PATH": f"{binaries}{os.pathsep}{kept.get('PATH', '')}"}


def _signal_group(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    try:
        os.killpg(process.pid, number)
    except ProcessLookupError:
        pass


def _end_with_parent() -> None:
    """Linux: SIGTERM when the parent dies, so that a killed supervisor leaves nobody behind."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGTERM)
