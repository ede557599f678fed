"""The endpoint on real Ray Serve, over real HTTP."""

import socket
import threading
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest

from pipeline.language.settings.serving import ServingConfig
from pipeline.store.registry import Registry
from pipeline.store.workspace import Workspace
from privacy.errors import PortInUse, ServingError
from server.serving.gateway.listening import check_port
from server.serving.running import Endpoint, call, start_endpoint, wait_for
from tests.conftest import Trained

ROW = {"age": 70, "lab": 6.5, "unit": "intensive"}


@pytest.fixture(scope="module")
def space(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return Workspace(tmp_path_factory.mktemp("served"))


@pytest.fixture(scope="module")
def registry(trained: Trained, space: Workspace) -> Registry:
    """A registry of its own that starts without a champion and holds copies of the trained version."""
    workspace: Any = trained.workspace
    source = Registry(workspace.registry_url, workspace.models).champion("stay")
    assert source
    made = Registry(space.registry_url, space.models)
    files = {path.name: path.read_bytes() for path in source.folder.iterdir()}
    for number in (1, 2, 3):
        made.register("stay", {**files, "note.json": str(number).encode()}, source.metrics, {})
    return made


@pytest.fixture(scope="module")
def endpoint(engine: None, space: Workspace, registry: Registry) -> Iterator[Endpoint]:
    """Two replicas."""
    from ray import serve

    config = ServingConfig(
        port=0, grpc_port=0, poll_seconds=0.05, max_rows=50, replicas=2, body_seconds=2, max_bytes=65536
    )
    endpoint = start_endpoint(config, space, "stay")
    yield endpoint
    endpoint.stop()
    serve.shutdown()
    assert not list(space.scratch.glob("serving-*"))


@pytest.fixture(scope="module")
def url(endpoint: Endpoint) -> str:
    return endpoint.url


def test_without_a_champion_it_says_so_and_then_follows_it_without_a_restart(url: str, registry: Registry) -> None:
    with pytest.raises(ServingError, match=r"503.*no version of stay is champion yet"):
        call(f"{url}/predict", {"rows": [ROW]})
    registry.promote("stay", 1)
    wait_for(url, 1, seconds=20)
    answer = call(f"{url}/predict", {"rows": [ROW, ROW]})
    assert (answer["model"], answer["version"], len(answer["predictions"])) == ("stay", 1, 2)
    assert answer["predictions"][0] == answer["predictions"][1]

    stop, failures, seen = threading.Event(), [], set()

    def keep_asking() -> None:
        while not stop.is_set():
            try:
                seen.add(call(f"{url}/predict", {"rows": [ROW]})["version"])
            except ServingError as error:
                failures.append(error)

    asking = threading.Thread(target=keep_asking)
    asking.start()
    while not seen and not failures:
        stop.wait(0.01)
    registry.promote("stay", 2)
    wait_for(url, 2, seconds=20)
    stop.set()
    asking.join()
    assert not failures
    assert seen == {1, 2}


def test_a_refused_version_leaves_the_old_one_serving(url: str, registry: Registry) -> None:
    registry.promote("stay", 2)
    wait_for(url, 2, seconds=20)
    third = registry.versions("stay")[0]
    weights = third.folder / "weights.safetensors"
    kept = weights.read_bytes()
    weights.write_bytes(kept[:-4] + b"\0\0\0\1")
    registry.promote("stay", 3)
    with pytest.raises(
        ServingError, match=r"does not serve version 3.*version 3 refused: .*altered after registration"
    ):
        wait_for(url, 3, seconds=1.5)
    assert call(f"{url}/predict", {"rows": [ROW]})["version"] == 2
    weights.write_bytes(kept)
    wait_for(url, 3, seconds=20)


def test_models_and_health(url: str, registry: Registry) -> None:
    registry.promote("stay", 1)
    wait_for(url, 1, seconds=20)
    models = call(f"{url}/models")
    assert models["versions"] == [1]
    assert models["champion"]["schema"]["required"] == ["age", "lab", "unit"]
    assert models["champion"]["version"] == 1
    assert call(f"{url}/healthz")["status"] == "ok"


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ({"rows": [{**ROW, "x": 1}]}, "422.*row 0: no such column: x"),
        ({"rows": []}, "422"),
        ({"rows": [ROW], "more": 1}, "422"),
        ({"rows": [ROW] * 51}, "413.*at most 50"),
        ({"rows": "all"}, "422.*rows: expected a list"),
        ({}, "422.*rows: expected a list"),
        ({"rows": [1] * 9000}, "422.*row 0: expected an object"),
        ({"rows": [{**ROW, "age": 10**400}]}, "422.*row 0, column age: expected a number"),
        ({"rows": [{f"c{number}": 1 for number in range(2000)}]}, "422.*no such column: c0, c1, c10 and 1997 more"),
        ({"rows": [ROW], "version": "9"}, "404.*version 9 of stay is not served"),
        ({"rows": [ROW], "version": "../x"}, "404"),
        ({"rows": [ROW], "version": True}, "422.*version: expected"),
        ({"rows": [ROW], "subject": 7}, "422.*subject: expected text"),
        ({"rows": [ROW], "explain": "yes"}, "422.*explain: expected true or false"),
        ({"rows": [ROW], "explain": True}, "422.*it is no additive model"),
        ({"rows": [{**ROW, "unit": "x" * 70000}]}, "413.*at most 65536"),
    ],
)
def test_bad_requests_are_explained(url: str, registry: Registry, body: dict[str, Any], told: str) -> None:
    registry.promote("stay", 1)
    wait_for(url, 1, seconds=20)
    with pytest.raises(ServingError, match=told):
        call(f"{url}/predict", body)


def test_junk_is_refused_not_crashed(url: str) -> None:
    for body in (b"\xff\x00{", b"[" * 50000, b'{"rows":[{"unit":"\\ud800"}]}', b"", b"1", b'{"rows":[{"age":1e999}]}'):
        request = urllib.request.Request(f"{url}/predict", body)
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(request, timeout=10)
        assert caught.value.code in (400, 422)
        told = caught.value.read()
        assert len(told) < 600
        assert b"/" not in told
        caught.value.close()


def test_it_listens_on_loopback_only(url: str) -> None:
    port = int(url.rpartition(":")[2])
    addresses = {info[4][0] for info in socket.getaddrinfo(socket.gethostname(), None, socket.AF_INET)}
    for address in addresses - {"127.0.0.1"}:
        if not str(address).startswith("127."):
            with pytest.raises(OSError), socket.create_connection((address, port), timeout=2):  # type: ignore[arg-type]
                pass


def test_a_taken_port_is_named() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(PortInUse, match="cannot be used"):
            check_port("127.0.0.1", taken.getsockname()[1])
