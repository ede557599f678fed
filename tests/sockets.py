"""Who listens where, from /proc: every listening TCP socket of a process and of all that it started."""

from __future__ import annotations

import ipaddress
import os
import pickle
import socket
from dataclasses import dataclass
from pathlib import Path

import psutil

LISTENING = "0A"


@dataclass(frozen=True)
class Listening:
    """One socket."""

    pid: int
    command: str
    address: str
    port: int

    @property
    def on_loopback(self) -> bool:
        found = ipaddress.ip_address(self.address)
        mapped = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
        return (mapped or found).is_loopback


def listening(root: int) -> set[Listening]:
    """Of process `root` and its descendants."""
    inodes = _inodes()
    found = set()
    try:
        processes = [psutil.Process(root), *psutil.Process(root).children(recursive=True)]
    except psutil.NoSuchProcess:
        return set()
    for process in processes:
        try:
            for fd in Path(f"/proc/{process.pid}/fd").iterdir():
                target = str(fd.readlink())
                if target.startswith("socket:[") and (place := inodes.get(target[8:-1])):
                    command = " ".join(process.cmdline())[:120]
                    found.add(Listening(process.pid, command, *place))
        except (OSError, psutil.Error):  # it ended meanwhile
            continue
    return found


def _inodes() -> dict[str, tuple[str, int]]:
    places = {}
    for family, name in ((socket.AF_INET, "tcp"), (socket.AF_INET6, "tcp6")):
        for line in Path("/proc/net", name).read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == LISTENING:
                address, _, port = fields[1].partition(":")
                words = bytes.fromhex(address)
                packed = b"".join(words[at : at + 4][::-1] for at in range(0, len(words), 4))
                places[fields[9]] = (socket.inet_ntop(family, packed), int(port, 16))
    return places


EVIL = "import pathlib; pathlib.Path({trace!r}).touch()"


class Evil:
    """Unpickled, it leaves a trace."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[object, ...]:
        return exec, (EVIL.format(trace=str(self.trace)),)


def attack(places: set[Listening], trace: Path) -> None:
    """Pickled bytes, HTTP/2 frames, half a request, and noise, to every port."""
    pickled = pickle.dumps(Evil(trace))
    frame = len(pickled).to_bytes(4, "big") + pickled
    preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
    for place in places:
        family = socket.AF_INET6 if ":" in place.address else socket.AF_INET
        for content in (
            pickled,
            frame,
            preface + b"\x00" + frame,
            b"POST / HTTP/1.1\r\nhost: x\r\n",
            os.urandom(200_000),
        ):
            with socket.socket(family) as stranger:
                stranger.settimeout(2)
                try:
                    stranger.connect((place.address, place.port))
                    stranger.sendall(content)
                    stranger.shutdown(socket.SHUT_WR)
                    stranger.recv(100)
                except OSError:
                    pass
