"""Whatever is asked, an answer or a refusal that names what is wrong: the application in this process."""

import asyncio
import gzip
import json
import os
import struct
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.store.registry import Registry
from pipeline.store.traffic import Traffic, share_of
from privacy.errors import NotFound
from server.evidence.outcomes import Outcomes
from server.evidence.receipts import Receipts
from server.serving.gateway.api import application
from server.serving.gateway.asking import Desk
from server.serving.gateway.door import Door
from server.serving.gateway.measures import Measures
from server.serving.gateway.tensors import Tensor, listed, packed, unpacked
from server.serving.keys.keyring import Keyring
from server.serving.refusal import Refused
from server.serving.traffic.lineup import Board, Held, Lineup
from server.serving.traffic.shelf import Shelf
from tests.conftest import Trained

ROW = {"age": 70, "lab": 6.5, "unit": "intensive"}
Asked = tuple[int, dict[bytes, bytes], bytes]
Ask = Callable[..., Asked]


@pytest.fixture
def ask(trained: Trained, tmp_path: Path) -> Ask:
    """One request through the door: path, body, headers."""
    workspace: Any = trained.workspace
    registered = Registry(workspace.registry_url, workspace.models).champion("stay")
    assert registered
    board = Board(tmp_path)
    board.publish(Lineup(number=1, name="stay", held=(Held.of(registered),), shares={1: 1.0}, champion=1))
    shelf = Shelf(board)
    shelf.look()
    shelf.load()
    assert not shelf.refused
    measures = Measures("one", board)
    desk = Desk(shelf, measures, Receipts(tmp_path / "r.key", "stay"), 20, None)
    app = application(desk, Outcomes(f"sqlite:///{tmp_path}/feedback.db"))
    return partial(through, Door(app, Keyring(tmp_path / "keys.json"), measures, 4096, 5.0))


def through(door: Door, path: str, body: bytes | None = None, **headers: str) -> Asked:
    """One request."""
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body or b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "http_version": "1.1",
        "method": "GET" if body is None else "POST",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": [(name.replace("_", "-").lower().encode(), text.encode()) for name, text in headers.items()],
    }
    asyncio.run(door(scope, receive, send))
    content = b"".join(message.get("body", b"") for message in sent[1:])
    return sent[0]["status"], dict(sent[0]["headers"]), content


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=9) | st.just(10**400),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
FIELDS = st.sampled_from(["rows", "version", "subject", "inputs", "outputs", "parameters", "id", "x"])
CELLS = st.dictionaries(st.sampled_from(["age", "lab", "unit", "x"]), JSON, max_size=4)
TENSORS = st.fixed_dictionaries(
    {},
    optional={
        "name": st.sampled_from(["age", "lab", "unit", "x"]) | JSON,
        "datatype": st.sampled_from(["FP64", "BYTES", "BOOL", "INT64", "??"]) | JSON,
        "shape": st.just([1, 1]) | JSON,
        "data": st.lists(JSON, max_size=2) | JSON,
        "parameters": st.fixed_dictionaries({}, optional={"binary_data_size": st.integers(-1, 20) | JSON}) | JSON,
    },
)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    told=st.dictionaries(FIELDS, JSON | st.lists(CELLS, max_size=2) | st.lists(TENSORS, max_size=4), max_size=4) | JSON,
    path=st.sampled_from(["/predict", "/v2/models/stay/infer", "/v2/models/stay/versions/1/infer"]),
    tail=st.binary(max_size=20),
)
def test_no_question_is_too_odd_for_an_answer(ask: Ask, told: Any, path: str, tail: bytes) -> None:
    body = json.dumps(told).encode()
    status, headers, content = ask(path, body + tail, Inference_Header_Content_Length=str(len(body)))
    assert status in (200, 400, 413, 422, 404, 503), content
    assert headers[b"x-request-id"]
    if status != 200:
        assert len(content) < 600
        assert set(json.loads(content)) == {"error" if path.startswith("/v2") else "detail"}


def test_a_row_is_a_row_by_either_protocol(ask: Ask) -> None:
    status, _, content = ask("/predict", json.dumps({"rows": [ROW]}).encode())
    assert status == 200
    (expected,) = json.loads(content)["predictions"]
    inputs = [
        {"name": "age", "datatype": "INT64", "shape": [1], "data": [70]},
        {"name": "lab", "datatype": "FP64", "shape": [1, 1], "parameters": {"binary_data_size": 8}},
        {"name": "unit", "datatype": "BYTES", "shape": [1], "data": ["intensive"]},
    ]
    body = json.dumps({"id": "a", "inputs": inputs, "parameters": {"content_type": "pd"}}).encode()
    whole = gzip.compress(body + np.float64(6.5).tobytes())
    status, _, content = ask(
        "/v2/models/stay/infer", whole, Inference_Header_Content_Length=str(len(body)), Content_Encoding="gzip"
    )
    assert status == 200, content
    said = {one["name"]: one["data"][0] for one in json.loads(content)["outputs"]}
    assert said == expected


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (b"{" * 5000, {}, 413),
        (gzip.compress(b" " * 100_000), {"Content_Encoding": "gzip"}, 413),
        (gzip.compress(b"{}")[:-3], {"Content_Encoding": "gzip"}, 400),
        (b"{}", {"Content_Encoding": "gzip"}, 400),
        (b"{}", {"Content_Encoding": "br"}, 415),
        (b"{}", {"Content_Length": "99999999999999999999"}, 413),
    ],
    ids=["long", "unpacked", "cut", "not packed", "unknown", "said to be long"],
)
def test_bodies_are_bounded_before_they_are_read(ask: Ask, body: bytes, headers: dict[str, str], status: int) -> None:
    assert ask("/predict", body, **headers)[0] == status


def test_request_ids_are_given_back_when_they_are_ids(ask: Ask) -> None:
    assert ask("/healthz", None, X_Request_Id="trace-1")[1][b"x-request-id"] == b"trace-1"
    assert b"\n" not in ask("/healthz", None, X_Request_Id="a\nb")[1][b"x-request-id"]


@given(
    share=st.floats(0.05, 0.5),
    grown=st.floats(0.0, 0.5),
    salt=st.text(min_size=1, max_size=8),
    subjects=st.lists(st.text(max_size=8), min_size=1, max_size=50, unique=True),
)
def test_a_share_that_grows_keeps_its_subjects(share: float, grown: float, salt: str, subjects: list[str]) -> None:
    before = {subject: share_of({1: 1 - share, 2: share}, salt, subject) for subject in subjects}
    after = {subject: share_of({1: 1 - share - grown, 2: share + grown}, salt, subject) for subject in subjects}
    assert all(after[subject] == 2 for subject in subjects if before[subject] == 2)


def test_shares_are_what_they_say() -> None:
    shares = {1: 0.5, 2: 0.2, 3: 0.3}
    drawn = [share_of(shares, "salt", f"subject {number}") for number in range(20_000)]
    for version, share in shares.items():
        assert drawn.count(version) / len(drawn) == pytest.approx(share, abs=0.015)


@pytest.mark.parametrize(
    ("told", "why"),
    [
        ({"shares": {"champion": 0.5}}, "0.5 together"),
        ({"shares": {}}, "a share from 0 to 1"),
        ({"shares": {"champion": 1.5, "2": -0.5}}, "a share from 0 to 1"),
        ({"shares": {"best": 1.0}}, "no version"),
        ({"shadow": ["../x"]}, "no version"),
        ({"live": ["0"]}, "no version"),
        ({"shares": {"champion": float("nan")}}, "a share from 0 to 1"),
    ],
)
def test_traffic_that_means_nothing_is_refused(told: dict[str, Any], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        Traffic.model_validate(told)


def test_keys_are_kept_as_digests(tmp_path: Path) -> None:
    keyring = Keyring(tmp_path / "serving" / "keys.json")
    assert not keyring.closed
    one, two = keyring.add("app", ("predict",)), keyring.add("ops", ("operate", "predict"))
    assert one != two
    found = keyring.who(one)
    assert found
    assert (found.name, found.roles) == ("app", ("predict",))
    assert keyring.who(one[:-1]) is None
    with pytest.raises(NotFound, match="no key other"):
        keyring.remove("other", but_newest=False)
    assert keyring.remove("app", but_newest=False) == 1
    assert keyring.who(one) is None
    assert keyring.remove("ops", but_newest=False) == 1
    assert keyring.closed, "without keys nobody comes in, rather than everybody"
    gone = Keyring(tmp_path / "nowhere" / "keys.json", always=True)
    assert gone.closed, "where strangers come by, also when the file is removed"
    assert gone.who(one) is None
    assert {path.name for path in (tmp_path / "serving").iterdir()} == {"keys.json", ".keys.lock"}


@given(st.sampled_from(["FP64", "FP32", "INT64", "UINT8", "BOOL"]), st.lists(st.integers(0, 1), max_size=5))
def test_tensors_survive_the_wire(datatype: str, values: list[int]) -> None:
    raw = packed(Tensor("t", datatype, (len(values), 1), values))
    assert unpacked("t", datatype, [len(values), 1], raw).values == values


@pytest.mark.parametrize(
    ("datatype", "shape", "raw"),
    [
        ("FP64", [1], b"1234567"),
        ("FP64", [2], bytes(8)),
        ("BYTES", [1], struct.pack("<I", 2**31) + b"x"),
        ("BYTES", [1], b"\1\0"),
        ("FP8", [1], b"1"),
        ("INT8", [1, 2], b"12"),
        ("INT8", [-1], b""),
        ("INT8", [True], b"1"),
    ],
)
def test_tensors_that_do_not_fit_are_refused(datatype: str, shape: list[int], raw: bytes) -> None:
    with pytest.raises(Refused):
        unpacked("t", datatype, shape, raw)
    with pytest.raises(Refused):
        listed("t", "INT8", [2**62], [1])


def test_counts_are_summed_over_replicas(tmp_path: Path) -> None:
    from server.serving.traffic.lineup import Report

    board = Board(tmp_path)
    one, two = Measures("one", board), Measures("two", board)
    one.answered("/predict", "200", 0.002)
    two.answered("/predict", "200", 0.2)
    two.answered("/predict", "422", 0.2)
    board.report(Report(replica="two"), two.samples())
    page = one.page().decode()
    assert 'sottovoce_requests_total{route="/predict",status="200"} 2.0' in page
    assert 'sottovoce_requests_total{route="/predict",status="422"} 1.0' in page
    assert 'sottovoce_request_seconds_bucket{le="0.0025",route="/predict"} 1.0' in page
    assert 'sottovoce_request_seconds_count{route="/predict"} 3.0' in page
    assert set(board.reports()) == {"two"}
    os.utime(tmp_path / "two.report", (0, 0))
    assert not board.reports(), "who says nothing is gone"
