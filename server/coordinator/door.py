"""Who may stand at the gateway's door: connections that have not shown an admitted key are few, and not for long.

A connection costs a file and some memory before a byte of it was read. So one that has shown nothing is cut after some
seconds, whether it hangs in the handshake, before its first byte or between two; and when there are too many of them,
the oldest of the address that has most makes room for the newest. Who has a key is in within milliseconds.
"""

from __future__ import annotations

import socket
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

SECONDS = 10.0
"""For how long a connection may show nothing."""
AN_ADDRESS, STRANGERS, CONNECTIONS = 32, 256, 1024
A_KEY = 16
"""Connections that have shown nothing: of one address, of all; connections in all; and those of one admitted key."""

Peer = tuple[str, int]


class _Guest(socket.socket):
    """An accepted connection; leaves the door's book when it is closed."""

    left: Callable[[], None] | None = None

    def close(self) -> None:
        if self.left is not None:
            self.left()
            self.left = None
        super().close()


class Door(socket.socket):
    """A listening socket that keeps the book. Belongs to one thread."""

    def __init__(self, host: str, port: int, turned_away: Callable[[str, int], None]) -> None:
        """turned_away(address, connections): called when an address has too many, once a minute at most."""
        super().__init__(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
        self.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.bind((host, port))
        self._turned_away, self._told = turned_away, -60.0
        self._guests: dict[Peer, tuple[_Guest, float]] = {}
        self._proven: dict[Peer, str] = {}

    def accept(self) -> tuple[socket.socket, Any]:
        """As any socket; who is one too many is let in in another's place."""
        plain, address = super().accept()
        guest, peer = _Guest(fileno=plain.detach()), (str(address[0]), int(address[1]))
        guest.left = lambda: self._forget(peer)
        self._guests[peer] = (guest, time.monotonic())
        self._make_room(peer[0])
        return guest, address

    def prove(self, peer: Peer, name: str) -> None:
        """This connection has shown the admitted key of client `name`, of which the oldest go when it has too many."""
        if peer in self._guests:
            self._proven[peer] = name
            own = [other for other in self._guests if self._proven.get(other) == name]
            for old in own[: max(0, len(own) - A_KEY)]:
                self._cut(old)

    def sweep(self) -> None:
        """Cut who has shown nothing for too long; to be called every second or so."""
        now = time.monotonic()
        for peer in [peer for peer in self._strangers() if now - self._guests[peer][1] > SECONDS]:
            self._cut(peer)

    @property
    def guests(self) -> int:
        return len(self._guests)

    def _make_room(self, address: str) -> None:
        strangers = self._strangers()
        counts = Counter(peer[0] for peer in strangers)
        if counts[address] > AN_ADDRESS:
            crowded = address
        elif len(strangers) > STRANGERS or len(self._guests) > CONNECTIONS:
            crowded = (counts.most_common(1) or [(address, 0)])[0][0]
        else:
            return
        if time.monotonic() - self._told > 60:
            self._told = time.monotonic()
            self._turned_away(crowded, counts[crowded])
        for peer in [peer for peer in strangers if peer[0] == crowded][:1]:
            self._cut(peer)

    def _strangers(self) -> list[Peer]:
        """Oldest first."""
        return [peer for peer in self._guests if peer not in self._proven]

    def _cut(self, peer: Peer) -> None:
        guest, _ = self._guests[peer]
        self._forget(peer)
        try:
            guest.shutdown(socket.SHUT_RDWR)  # whoever reads it sees its end, and closes it
        except OSError:
            pass

    def _forget(self, peer: Peer) -> None:
        self._guests.pop(peer, None)
        self._proven.pop(peer, None)
