"""The Ray grid with stock Flower apps and strategies, and with processes that die."""

import os
import time
from pathlib import Path

import numpy as np
import pytest
from flwr.app import ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.common.constant import ErrorCode
from flwr.serverapp.strategy import FedAvg

from pipeline.engine.cluster import ray_engine
from privacy.errors import EngineUnavailable
from simulations.grid import RayGrid

pytestmark = pytest.mark.usefixtures("engine")


def stock_app() -> ClientApp:
    """As Flower's documentation writes one: it counts its calls in the context's state."""
    app = ClientApp()

    @app.train()
    def train(message: Message, context: Context) -> Message:
        calls = context.state.config_records.setdefault("calls", ConfigRecord({"n": 0}))
        calls["n"] = int(calls["n"]) + 1  # type: ignore[arg-type]
        arrays = [array + float(context.node_config["step"]) for array in message.content["arrays"].to_numpy_ndarrays()]
        message.content["arrays"].clear()  # an app may do with its message what it likes
        metrics = MetricRecord({"num-examples": 1, "calls": int(calls["n"])})
        return Message(RecordDict({"arrays": ArrayRecord(arrays), "metrics": metrics}), reply_to=message)

    @app.query()
    def query(message: Message, context: Context) -> Message:
        match str(message.content["do"]["what"]):
            case "die":
                os._exit(1)
            case "raise":
                raise ValueError("on purpose")
            case "sleep":
                time.sleep(float(context.node_config["step"]) * 20)
        return Message(RecordDict({"pid": ConfigRecord({"pid": os.getpid()})}), reply_to=message)

    @app.evaluate()
    def evaluate(message: Message, context: Context) -> Message:
        return Message(RecordDict({"m": MetricRecord({"num-examples": 1, "loss": 0.5})}), reply_to=message)

    return app


@pytest.fixture
def grid():  # type: ignore[no-untyped-def]
    with RayGrid(stock_app(), [{"step": step} for step in range(5)], workers=2) as made:
        yield made


def asking(grid: RayGrid, *whats: str) -> list[Message]:
    return [
        grid.create_message(RecordDict({"do": ConfigRecord({"what": what})}), "query", node, "")
        for node, what in zip(sorted(grid.get_node_ids()), whats, strict=False)
    ]


def test_a_stock_strategy_runs_unchanged_and_contexts_last(grid: RayGrid) -> None:
    strategy = FedAvg(fraction_train=1.0, fraction_evaluate=1.0, min_available_nodes=5)
    result = strategy.start(grid=grid, initial_arrays=ArrayRecord([np.zeros(3)]), num_rounds=3)
    assert np.allclose(result.arrays.to_numpy_ndarrays()[0], 3 * np.mean(range(5)))
    assert result.train_metrics_clientapp[3]["calls"] == pytest.approx(3)


def test_push_and_pull_like_any_grid(grid: RayGrid) -> None:
    waiting = set(grid.push_messages(asking(grid, *["ok"] * 5)))
    seen = []
    deadline = time.monotonic() + 60
    while waiting and time.monotonic() < deadline:
        for reply in grid.pull_messages(list(waiting)):
            waiting.discard(reply.metadata.reply_to_message_id)
            seen.append(reply.metadata.src_node_id)
        time.sleep(0.01)
    assert sorted(seen) == sorted(grid.get_node_ids())


def test_a_dead_worker_costs_one_message(grid: RayGrid) -> None:
    replies = dict(grid.stream(asking(grid, "ok", "die", "ok", "ok", "ok"), timeout=60))
    assert sorted(replies) == [0, 1, 2, 3, 4]
    assert replies[1].error.code == ErrorCode.CLIENT_APP_CRASHED
    assert not any(replies[index].has_error() for index in (0, 2, 3, 4))
    assert not any(reply.has_error() for _, reply in grid.stream(asking(grid, *["ok"] * 5), timeout=60))


def test_what_an_app_raises_is_its_reply(grid: RayGrid) -> None:
    replies = dict(grid.stream(asking(grid, "raise", "ok"), timeout=60))
    assert replies[0].error.code == ErrorCode.CLIENT_APP_RAISED_EXCEPTION
    assert not replies[1].has_error()


def test_replies_stream_and_a_silent_node_does_not_hold_up_what_follows(grid: RayGrid) -> None:
    list(grid.stream(asking(grid, *["ok"] * 5), timeout=60))
    begun = time.monotonic()
    answered = [index for index, _ in grid.stream(asking(grid, "ok", "sleep", "ok"), timeout=3)]
    assert sorted(answered) == [0, 2]
    assert time.monotonic() - begun < 10
    assert not any(reply.has_error() for _, reply in grid.stream(asking(grid, *["ok"] * 3), timeout=60))


def test_an_unreachable_cluster_is_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    begun = time.monotonic()
    with pytest.raises(EngineUnavailable, match=r"nothing answers at RAY_ADDRESS 127\.0\.0\.1:1"), ray_engine():
        pass
    assert time.monotonic() - begun < 10


def test_apps_can_be_named_by_reference(tmp_path: Path) -> None:
    with RayGrid("clients.app:app", [{"home": str(tmp_path)}], workers=1) as grid:
        message = grid.create_message(RecordDict(), "query.join", sorted(grid.get_node_ids())[0], "")
        (reply,) = grid.send_and_receive([message])
    assert "client home" in (reply.error.reason or "")
