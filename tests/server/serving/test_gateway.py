"""The gateway in real processes: traffic, stock clients, keys, and requests that never end."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.language.settings.serving import ServingConfig
from pipeline.store.registry import Registry
from pipeline.store.traffic import Traffic
from pipeline.store.workspace import Workspace
from privacy.errors import ConfigError, ServingError
from server.serving.keys.keyring import Keyring
from server.serving.running import Endpoint, call, checked, start_endpoint, wait_for
from server.serving.traffic.lineup import boards
from server.serving.traffic.status import Status
from tests.conftest import Trained

ROW = {"age": 70, "lab": 6.5, "unit": "intensive"}


@pytest.fixture(scope="module")
def space(trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """Three versions, of which the third answers otherwise; the first is champion."""
    import numpy as np
    from safetensors.numpy import load, save

    workspace = Workspace(tmp_path_factory.mktemp("gateway"))
    old: Workspace = trained.workspace  # type: ignore[assignment]
    source = Registry(old.registry_url, old.models).champion("stay")
    assert source
    registry = Registry(workspace.registry_url, workspace.models)
    files = {path.name: path.read_bytes() for path in source.folder.iterdir()}
    other = {name: np.zeros_like(tensor) for name, tensor in load(files["weights.safetensors"]).items()}
    for number, weights in enumerate((files["weights.safetensors"], files["weights.safetensors"], save(other))):
        made = {**files, "weights.safetensors": weights, "note.json": str(number).encode()}
        registry.register("stay", made, source.metrics, {})
    registry.promote("stay", 1)
    return workspace


@pytest.fixture(scope="module")
def endpoint(engine: None, space: Workspace) -> Iterator[Endpoint]:
    from ray import serve

    config = ServingConfig(port=0, grpc_port=0, poll_seconds=0.05, replicas=2, body_seconds=1)
    made = start_endpoint(config, space, "stay")
    yield made
    made.stop()
    serve.shutdown()


def direct(space: Workspace, traffic: Traffic) -> None:
    """Move the traffic, and wait until the endpoint says that it has followed."""
    registry = Registry(space.registry_url, space.models)
    registry.direct("stay", traffic)
    champion = registry.champion("stay")
    assert champion
    wanted = {champion.version if name == "champion" else int(name): share for name, share in traffic.shares.items()}
    deadline = time.monotonic() + 20
    while True:
        told = [Status.read(board.folder) for board in boards(space.scratch).values()]
        if told and all(
            one and (one.shares, set(one.shadow)) == (wanted, set(map(int, traffic.shadow))) for one in told
        ):
            return
        assert time.monotonic() < deadline, told
        time.sleep(0.02)


def asked(url: str, **question: object) -> int:
    version: int = call(f"{url}/predict", {"rows": [ROW], **question})["version"]
    return version


def test_traffic_is_divided_and_a_subject_stays(endpoint: Endpoint, space: Workspace) -> None:
    url = endpoint.url
    direct(space, Traffic(shares={"champion": 0.7, "3": 0.3}, live=("2",), salt="a"))
    subjects = [f"person {number}" for number in range(200)]
    first = {subject: asked(url, subject=subject) for subject in subjects}
    assert 30 <= Counter(first.values())[3] <= 90
    assert {subject: asked(url, subject=subject) for subject in subjects[:40]} == dict(list(first.items())[:40])
    assert asked(url, version=2) == asked(url, version="2") == 2
    assert asked(url, version="champion") == 1
    direct(space, Traffic(shares={"champion": 0.4, "3": 0.6}, salt="a"))
    grown = {subject: asked(url, subject=subject) for subject in subjects}
    assert all(grown[subject] == 3 for subject in subjects if first[subject] == 3), "who had it keeps it"
    assert {asked(url) for _ in range(60)} == {1, 3}, "without a subject it is anybody's"
    with pytest.raises(ServingError, match=r"404.*version 2 of stay is not served; served are: 1, 3"):
        asked(url, version=2)


def test_a_shadow_is_asked_and_not_heard(endpoint: Endpoint, space: Workspace) -> None:
    direct(space, Traffic(shadow=("2", "3")))
    for _ in range(5):
        assert call(f"{endpoint.url}/predict", {"rows": [ROW, {**ROW, "age": 30}]})["version"] == 1
    deadline = time.monotonic() + 10
    while True:
        with urllib.request.urlopen(f"{endpoint.url}/metrics", timeout=10) as page:
            told = page.read().decode()
        if 'sottovoce_shadow_rows_total{version="3"} 10.0' in told and 'differing_rows_total{version="3"} 10.0' in told:
            break
        assert time.monotonic() < deadline, told
        time.sleep(0.2)
    assert 'sottovoce_shadow_rows_total{version="2"} 10.0' in told
    assert 'differing_rows_total{version="2"} 0.0' in told
    direct(space, Traffic())


def test_after_a_switch_nothing_is_answered_by_the_old_one(endpoint: Endpoint, space: Workspace) -> None:
    """Two replicas, questions all the while, seven switches: no failure, and none late."""
    url, stop, failures = endpoint.url, threading.Event(), []
    answers: list[tuple[float, int]] = []

    def keep_asking() -> None:
        while not stop.is_set():
            begun = time.monotonic()
            try:
                answers.append((begun, asked(url)))
            except ServingError as error:
                failures.append(error)

    threads = [threading.Thread(target=keep_asking) for _ in range(3)]
    for thread in threads:
        thread.start()
    switches = []
    for version in (3, 1, 2, 3, 2, 1, 3):
        direct(space, Traffic(shares={str(version): 1.0}))
        switches.append((time.monotonic(), version))
        time.sleep(0.3)
    stop.set()
    for thread in threads:
        thread.join()
    assert not failures
    assert len(answers) > 100
    for (since, version), (until, _) in zip(switches, [*switches[1:], (time.monotonic() + 1, 0)], strict=True):
        late = [told for begun, told in answers if since <= begun < until - 0.3 and told != version]
        assert not late
    direct(space, Traffic())


def test_stock_clients_work_unchanged(endpoint: Endpoint, space: Workspace) -> None:
    wait_for(endpoint.url, 1, 20)
    plain = call(f"{endpoint.url}/predict", {"rows": [ROW, {"age": None, "lab": 2.0, "unit": None}]})
    expected = [said["probability"] for said in plain["predictions"]]
    script = Path(__file__).with_name("stock.py")
    assert endpoint.grpc
    command = [sys.executable, "-W", "ignore", str(script), endpoint.url.removeprefix("http://"), endpoint.grpc]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode == 0, ended.stderr
    said = json.loads(ended.stdout)
    for kind in ("http", "grpc", "http json", "grpc aio"):
        assert said[kind] == expected, kind
    for kind, codes in (
        ("http", ("404", "404", "400", "400")),
        ("grpc", ("NOT_FOUND", "NOT_FOUND", "INVALID", "INVALID")),
    ):
        assert said[f"{kind} inputs"] == {"age": "FP64", "lab": "FP64", "unit": "BYTES"}
        assert said[f"{kind} version"] == "1"
        assert said[f"{kind} id"] == "seven"
        assert said[f"{kind} positive"] == [chance >= 0.5 for chance in expected]
        for text, code in zip(said[f"{kind} refused"], codes, strict=True):
            assert code in text or "missing column: unit" in text, text
        assert "missing column: unit" in said[f"{kind} refused"][2]
        assert "age comes twice" in said[f"{kind} refused"][3]


def test_requests_that_never_end_hold_up_nobody(endpoint: Endpoint) -> None:
    host, _, port = endpoint.url.removeprefix("http://").rpartition(":")
    half = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 500\r\n\r\n{"
    silent = []
    for number in range(120):
        made = socket.create_connection((host, int(port)), timeout=10)
        made.sendall(half if number % 2 else b"POST /predict HTTP/1.1\r\nX-Slow: ")
        silent.append(made)
    begun = time.monotonic()
    assert asked(endpoint.url) == 1
    assert time.monotonic() - begun < 0.8, "before any of them is cut"
    ends = Counter()
    for made in silent:
        made.settimeout(10)
        ends[made.recv(4096)[:12]] += 1
        made.close()
    assert ends == {b"HTTP/1.1 408": 60, b"": 60}


def test_keys_open_what_they_are_for_and_are_replaced_without_a_restart(endpoint: Endpoint, space: Workspace) -> None:
    wait_for(endpoint.url, 1, 20)
    with pytest.raises(ConfigError, match="nobody would be asked for a key"):
        checked(ServingConfig(host="0.0.0.0", port=0), Keyring(space.root / "serving" / "keys.json"))
    keyring = Keyring(space.root / "serving" / "keys.json")
    try:
        key = keyring.add("app", ("predict",))
        path = space.root / "serving" / "keys.json"
        assert path.stat().st_mode & 0o777 == 0o600
        assert key not in path.read_text()
        question = {"rows": [ROW]}
        for wrong, told in (("", "401"), ("sv_x", "401"), ("\u00e9", "401")):
            with pytest.raises(ServingError, match=told):
                call(f"{endpoint.url}/predict", question, key=wrong)
        assert call(f"{endpoint.url}/predict", question, key=key)["version"] == 1
        assert call(f"{endpoint.url}/readyz")["status"] == "ok"
        with pytest.raises(ServingError, match=r"403.*for predict, not for operate"):
            call(f"{endpoint.url}/metrics", key=key)
        newer = keyring.add("app", ("predict",))
        assert call(f"{endpoint.url}/predict", question, key=key)["version"] == 1
        assert keyring.remove("app", but_newest=True) == 1
        with pytest.raises(ServingError, match="401"):
            call(f"{endpoint.url}/predict", question, key=key)
        assert call(f"{endpoint.url}/predict", question, key=newer)["version"] == 1
        path.write_text("{")
        with pytest.raises(ServingError, match="401"):
            call(f"{endpoint.url}/predict", question, key=newer)
    finally:
        (space.root / "serving" / "keys.json").unlink(missing_ok=True)
    assert asked(endpoint.url) == 1


def test_what_is_served_is_documented_without_another_site(endpoint: Endpoint) -> None:
    document = call(f"{endpoint.url}/openapi.json")
    question = document["paths"]["/predict"]["post"]["requestBody"]["content"]["application/json"]["example"]
    assert call(f"{endpoint.url}/predict", question)["version"] == 1
    with urllib.request.urlopen(f"{endpoint.url}/docs", timeout=10) as page:
        text = page.read().decode()
    assert "http://" not in text.replace(endpoint.url, ""), "nothing is loaded from anywhere"
    assert "https://" not in text
    tensors = document["paths"]["/v2/models/{name}/infer"]["post"]["requestBody"]["content"]["application/json"][
        "example"
    ]
    assert call(f"{endpoint.url}/v2/models/stay/infer", tensors)["model_version"] == "1"
    assert "intensive" in text or "medical" in text
    for path, key in (("/nowhere", "detail"), ("/v2/nowhere", "error"), ("/v2/models/x/infer", "error")):
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(f"{endpoint.url}{path}", timeout=10)
        assert key in json.loads(caught.value.read())
        assert caught.value.headers["x-request-id"]
        caught.value.close()


def test_a_killed_replica_is_replaced_and_the_other_goes_on(endpoint: Endpoint, space: Workspace) -> None:
    board = next(iter(boards(space.scratch).values()))
    before = set(board.reports())
    assert len(before) == 2
    victim = next(iter(before))
    failures, answered = 0, 0
    os.kill(int(victim.partition("-")[0]), signal.SIGKILL)
    deadline = time.monotonic() + 60
    while len(set(board.reports()) - {victim}) < 2:
        try:
            answered += asked(endpoint.url)
        except ServingError:
            failures += 1
        assert time.monotonic() < deadline
    assert failures <= 2, "those that were in its hands"
    assert answered > 20
    direct(space, Traffic(shares={"3": 1.0}))
    assert {asked(endpoint.url) for _ in range(20)} == {3}, "the new one knows what the other knows"
    direct(space, Traffic())
