"""Two machines of their own on this one: network namespaces joined by one link, whose speed can be set.

Needs root and Debian's iproute2. Addresses are private to the two namespaces.
"""

import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

needs_machines = pytest.mark.skipif(
    os.geteuid() != 0 or not shutil.which("tc"), reason="network namespaces need root, ip and tc"
)


@dataclass(frozen=True)
class Machine:
    """Commands prefixed with `inside` run on it."""

    name: str
    address: str

    @property
    def inside(self) -> tuple[str, ...]:
        return "ip", "netns", "exec", self.name

    def limit(self, bits_per_second: int | None) -> None:
        """What it sends from now on; None: as fast as it goes."""
        ip(*self.inside, "tc", "qdisc", "del", "dev", "wire", "root", check=False)
        if bits_per_second:
            shape = ("tbf", "rate", f"{bits_per_second}bit", "burst", "64kbit", "latency", "500ms")
            ip(*self.inside, "tc", "qdisc", "add", "dev", "wire", "root", *shape)


def ip(*command: str, check: bool = True) -> None:
    subprocess.run(command, check=check, capture_output=not check)


@contextmanager
def two_machines(names: Mapping[str, int] | None = None) -> Iterator[tuple[Machine, Machine]]:
    """names: host names that both know, each with the number (0 or 1) of the machine it stands for."""
    pair = tuple(Machine(f"sottovoce-{os.getpid()}-{number}", f"10.77.0.{number + 1}") for number in (0, 1))
    hosts = "".join(f"{pair[number].address} {name}\n" for name, number in (names or {}).items())
    try:
        for machine in pair:
            ip("ip", "netns", "add", machine.name)
            ip("ip", "-n", machine.name, "link", "set", "lo", "up")
            folder = Path("/etc/netns", machine.name)
            folder.mkdir(parents=True)
            (folder / "hosts").write_text(f"127.0.0.1 localhost\n{hosts}")
        one, other = pair
        ends = ("type", "veth", "peer", "name", "wire", "netns", other.name)
        ip("ip", "-n", one.name, "link", "add", "name", "wire", *ends)
        for machine in pair:
            ip("ip", "-n", machine.name, "address", "add", f"{machine.address}/24", "dev", "wire")
            ip("ip", "-n", machine.name, "link", "set", "wire", "up")
        yield one, other
    finally:
        for machine in pair:
            ip("ip", "netns", "del", machine.name, check=False)
            shutil.rmtree(Path("/etc/netns", machine.name), ignore_errors=True)
