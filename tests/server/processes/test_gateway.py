"""The gateway under people who want to fill it, stop it, or get past it; with the real SuperLink behind it."""

import base64
import json
import socket
import ssl
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import httpx
import psutil
import pytest
from cryptography.hazmat.primitives.serialization import load_ssh_private_key
from flwr.common.constant import TIMESTAMP_HEADER
from flwr.proto.heartbeat_pb2 import SendNodeHeartbeatRequest
from flwr.proto.node_pb2 import Node
from flwr.supercore.constant import FLEET_HTTP_PUBLIC_KEY_HEADER, FLEET_HTTP_SIGNATURE_HEADER
from flwr.supercore.primitives.asymmetric import public_key_to_bytes, sign_message

from pipeline.language.card import ClientCard
from server.coordinator.allowance import LARGEST
from server.coordinator.door import AN_ADDRESS, SECONDS
from server.coordinator.roster import NODES
from tests.deployment import Deployment, family, wait_for


@pytest.fixture
def trusted(deployment: Deployment) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(deployment.home / "ca.crt"))


@pytest.fixture
def stranger(deployment: Deployment, trusted: ssl.SSLContext) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=f"https://localhost:{deployment.port}", verify=trusted, timeout=30) as made:
        yield made


def signed(home: Path) -> dict[str, str]:
    """What a node with this home's key says of itself."""
    key = load_ssh_private_key((home / "node.key").read_bytes(), password=None)
    now = datetime.now(UTC).isoformat()
    return {
        FLEET_HTTP_PUBLIC_KEY_HEADER: base64.b64encode(public_key_to_bytes(key.public_key())).decode(),  # type: ignore[arg-type]
        FLEET_HTTP_SIGNATURE_HEADER: base64.b64encode(sign_message(key, now.encode())).decode(),  # type: ignore[arg-type]
        TIMESTAMP_HEADER: now,
        "content-type": "application/protobuf",
    }


def heartbeat(deployment: Deployment, name: str) -> bytes:
    """What this client's node says every half minute."""
    card = ClientCard.read(deployment.root / name / "card.json")
    number = int(json.loads((deployment.home / NODES).read_text())[card.node_key])
    return SendNodeHeartbeatRequest(node=Node(node_id=number), heartbeat_interval=30.0).SerializeToString()


def gateway_of(deployment: Deployment) -> psutil.Process:
    return next(
        p for p in family(deployment.processes["server"]) if "server.coordinator.gateway" in " ".join(p.cmdline())
    )


def test_no_body_is_read_before_a_signature(deployment: Deployment, trusted: ssl.SSLContext) -> None:
    """Ten connections with 120 MB each held 1.3 GB."""
    gateway = gateway_of(deployment)
    before = gateway.memory_info().rss
    head = b"POST /v1/fleet/push-object HTTP/1.1\r\nhost: x\r\ncontent-length: 120000000\r\n\r\n"
    largest = before
    for _ in range(10):
        with (
            socket.create_connection(("localhost", deployment.port), timeout=20) as plain,
            trusted.wrap_socket(plain, server_hostname="localhost") as stranger,
        ):
            stranger.sendall(head)
            try:
                for _ in range(20):
                    stranger.sendall(bytes(1_000_000))
                assert stranger.recv(20).startswith(b"HTTP/1.1 401")
            except OSError:  # it does not read on, and says so
                pass
        largest = max(largest, gateway.memory_info().rss)
    assert largest - before < 40e6


def test_keys_that_are_not_admitted_or_not_his_get_nothing(deployment: Deployment, stranger: httpx.Client) -> None:
    honest = signed(deployment.root / "east")
    beat = heartbeat(deployment, "east")
    assert stranger.post("/v1/fleet/send-node-heartbeat", headers=honest, content=beat).status_code == 200
    other = signed(deployment.root / "south")
    mixed = {**honest, FLEET_HTTP_SIGNATURE_HEADER: other[FLEET_HTTP_SIGNATURE_HEADER]}
    late = {**honest, TIMESTAMP_HEADER: "2020-01-01T00:00:00+00:00"}
    for headers in ({}, mixed, late, {**honest, FLEET_HTTP_PUBLIC_KEY_HEADER: "?"}, {TIMESTAMP_HEADER: "now"}):
        assert stranger.post("/v1/fleet/send-node-heartbeat", headers=headers, content=beat).status_code == 401
    as_south = stranger.post("/v1/fleet/send-node-heartbeat", headers=other, content=beat)
    assert as_south.status_code == 401, "an admitted key speaks for its own node only"


def test_silent_connections_shut_nobody_out(deployment: Deployment, stranger: httpx.Client) -> None:
    """530 idle ones from one address did; the honest nodes here have the same address."""
    held: list[socket.socket] = []
    try:
        held += [socket.create_connection(("localhost", deployment.port), timeout=20) for _ in range(530)]
        begun = time.monotonic()
        beat = heartbeat(deployment, "east")
        answer = stranger.post("/v1/fleet/send-node-heartbeat", headers=signed(deployment.root / "east"), content=beat)
        assert answer.status_code == 200
        assert time.monotonic() - begun < 5
        gateway = gateway_of(deployment)
        assert len(gateway.net_connections("tcp")) < AN_ADDRESS + 100
        said = (deployment.root / "server.out").read_text
        wait_for(lambda: "without showing an admitted key" in said(), 10, "the operator to hear of it")
        deployment.command("run", deployment.config(31), "--home", deployment.home)
    finally:
        for one in held:
            one.close()


def test_who_says_nothing_is_cut(deployment: Deployment, trusted: ssl.SSLContext) -> None:
    """In the handshake, before the first byte, and in the middle of a request."""
    with (
        socket.create_connection(("localhost", deployment.port), timeout=3 * SECONDS) as silent,
        socket.create_connection(("localhost", deployment.port), timeout=3 * SECONDS) as plain,
        socket.create_connection(("localhost", deployment.port), timeout=3 * SECONDS) as half,
        trusted.wrap_socket(plain, server_hostname="localhost") as greeted,
        trusted.wrap_socket(half, server_hostname="localhost") as begun,
    ):
        begun.sendall(b"POST /v1/fleet/pull-messages HTTP/1.1\r\nhost: x\r\n")
        started = time.monotonic()
        for one in (silent, greeted, begun):
            try:
                assert one.recv(1) == b""
            except OSError:  # cut without the farewell of TLS
                pass
        assert time.monotonic() - started < 2 * SECONDS


def test_one_client_s_reply_cannot_fill_the_superlink(deployment: Deployment, stranger: httpx.Client) -> None:
    """600 MB of one admitted client locked its database and ended the federation."""
    home = deployment.root / "centre"
    state = sum(path.stat().st_size for path in deployment.home.glob("state.db*"))
    assert stranger.post("/v1/fleet/push-messages", headers=signed(home), content=b"").status_code != 413
    sent = 0
    for _ in range(100):
        answer = stranger.post("/v1/fleet/push-object", headers=signed(home), content=bytes(6_000_000))
        if answer.status_code == 413:
            break
        sent += 6_000_000
    assert sent < 60e6
    assert stranger.post("/v1/fleet/push-object", headers=signed(home), content=b"x").status_code == 413
    whole = stranger.post("/v1/fleet/push-object", headers=signed(home), content=bytes(LARGEST["push-object"] + 1))
    assert whole.status_code == 413
    small = stranger.post("/v1/fleet/pull-messages", headers=signed(home), content=bytes(1_000_000))
    assert small.status_code == 413, "each call has what it can need"
    said = (deployment.root / "server.out").read_text
    wait_for(lambda: "client centre sends more than a reply" in said(), 10, "the operator to hear who it was")
    assert sum(path.stat().st_size for path in deployment.home.glob("state.db*")) < state + 100e6
    assert "round 2/2  3/3 clients" in deployment.command("run", deployment.config(32), "--home", deployment.home)
