"""No process of ours opens a door that nobody asked for: every listening socket of every command, from /proc.

Serve's replica once listened on all interfaces and unpickled what arrived: whoever reached the machine ran code on it.
"""

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.deployment import environment
from tests.sockets import Listening, attack, listening
from tests.support import write_config, write_table

pytestmark = pytest.mark.processes

SOTTOVOCE = str(Path(sys.executable).parent / "sottovoce")


def watched(process: subprocess.Popen[bytes], until: str, seconds: float = 240) -> tuple[set[Listening], str]:
    """Every socket that was ever seen until the process has said `until`, and what it said."""
    assert process.stdout
    os.set_blocking(process.stdout.fileno(), False)
    seen: set[Listening] = set()
    said, deadline = "", time.monotonic() + seconds
    while until not in said:
        assert time.monotonic() < deadline, said
        ended = process.poll() is not None
        try:
            said += os.read(process.stdout.fileno(), 65_536).decode(errors="replace")
        except BlockingIOError:
            assert not ended, said
        assert not ended or until in said, said
        if not ended:
            seen |= listening(process.pid)
        time.sleep(0.1)
    os.set_blocking(process.stdout.fileno(), True)
    return seen, said


@pytest.fixture
def served(tmp_path: Path) -> tuple[Path, Path]:
    """A configuration, and a workspace deep enough that Ray's sockets need a short name for it."""
    config = write_config(tmp_path / "stay.yaml", write_table(tmp_path), serving__port=0)
    deep = tmp_path / "a-rather-long-name-for-a-folder" / "and-another-one" / "workspace"
    deep.parent.mkdir(parents=True)
    return config, deep


def start(*arguments: object) -> subprocess.Popen[bytes]:
    command = [SOTTOVOCE, *map(str, arguments)]
    return subprocess.Popen(command, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def test_a_simulation_and_an_endpoint_listen_on_loopback_only(served: tuple[Path, Path], tmp_path: Path) -> None:
    config, workspace = served
    trace = tmp_path / "trace"
    with start("simulate", config, "--workspace", workspace, "--ask") as process:
        seen, _ = watched(process, "answered   v1")
        scratch = list((workspace / "scratch").glob("ray-*"))
        assert all(folder.stat().st_mode & 0o077 == 0 for folder in scratch)
        process.wait(60)
    assert len(seen) > 8, "Ray and Serve were seen"
    assert {place for place in seen if not place.on_loopback} == set()
    assert not list((workspace / "scratch").glob("*")), "what Ray wrote is gone with it"

    with start("serve", "--workspace", workspace, "--port", 0) as process:
        seen, said = watched(process, "Ctrl-C stops it")
        seen |= listening(process.pid)
        assert {place for place in seen if not place.on_loopback} == set()
        assert list((workspace / "scratch").glob("ray-*")), "its files are in the workspace"
        attack(seen, trace)
        url = said.split("answers at ")[1].split("/predict")[0]
        port = int(url.rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port), timeout=30) as asking:
            asking.sendall(b"GET /readyz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
            assert b"200 OK" in asking.recv(100), "it answers as before"
        process.terminate()
        process.wait(60)
    assert not trace.exists(), "nothing that was sent was unpickled"
    assert not list((workspace / "scratch").glob("*"))
