"""Sockets that several replicas share, and connections that must say something."""

from __future__ import annotations

import asyncio
import errno
import socket
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from privacy.errors import PortInUse

LOOPBACK = ("127.0.0.1", "::1", "localhost")


def check_port(host: str, port: int) -> None:
    """Raise PortInUse when somebody listens there, or the address is none of this machine's."""
    with socket.socket(_family(host)) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise _taken(host, port, error) from None


def _taken(host: str, port: int, error: OSError) -> PortInUse:
    remedy = "Choose another: --set serving.port=PORT (or grpc_port), or 0 for a free one."
    if error.errno == errno.EADDRNOTAVAIL:
        remedy = "Name an address of this machine, such as 127.0.0.1; 0.0.0.0 is all of them."
    return PortInUse(f"{host}:{port} cannot be used: {error.strerror}", remedy=remedy)


def reserved(host: str, port: int) -> socket.socket:
    """A socket that holds a port, 0 for a free one, for those who share it. Raises PortInUse."""
    if port:
        check_port(host, port)
    return shared_socket(host, port)


def shared_socket(host: str, port: int) -> socket.socket:
    """For one replica to listen on, beside the others. Raises PortInUse."""
    made = socket.socket(_family(host))
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        made.bind((host, port))
    except OSError as error:
        made.close()
        raise _taken(host, port, error) from None
    made.setblocking(False)
    return made


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


class Patient(HttpToolsProtocol):
    """Cuts who does not say within `seconds` what it wants: a connection that waits costs a descriptor."""

    seconds = 10.0

    @classmethod
    def within(cls, seconds: float) -> type[Patient]:
        return type("Patient", (cls,), {"seconds": seconds})

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._late: asyncio.TimerHandle | None = None
        self._wait()

    def on_message_begin(self) -> None:
        self._wait()
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._heard()
        super().on_headers_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        self._heard()
        super().connection_lost(exc)

    def _wait(self) -> None:
        self._heard()
        self._late = self.loop.call_later(self.seconds, self.transport.close)

    def _heard(self) -> None:
        if self._late:
            self._late.cancel()
            self._late = None
