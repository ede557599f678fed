"""The engine: linted before anything runs, parallel, cached, resumed; on real Ray and real stores."""

import threading
import time
from pathlib import Path

import pytest
from pydantic import BaseModel

from pipeline.engine.graph import Dag, Inputs, stage
from pipeline.engine.progress import Event, StageFinished
from pipeline.store.artifacts import ArtifactStore
from pipeline.store.journal import Journal
from pipeline.store.metadata import Metadata
from privacy.errors import ColumnMissing, GraphInvalid, StageFailed, StageTimeout


class Number(BaseModel):
    value: int


@stage(produces="one", place="clients")
def first(start: int) -> Number:
    return Number(value=start)


@stage(produces="two", place="here")
def second(one: Number, factor: int) -> Number:
    return Number(value=one.value * factor)


@stage(produces="three", place="clients")
def third(one: Number, two: Number) -> Number:
    return Number(value=one.value + two.value)


class Bench:
    """Stores in a folder, and the events of the last run."""

    def __init__(self, folder: Path) -> None:
        self.store = ArtifactStore(str(folder / "artifacts"))
        self.metadata = Metadata(f"sqlite:///{folder / 'metadata.db'}")
        self.events: list[Event] = []

    def run(self, dag: Dag, sections: dict[str, object], **resources: object) -> dict[str, BaseModel]:
        self.events.clear()
        run = self.metadata.begin_run("test", {})
        inputs = Inputs(sections, resources)
        return dag.run(inputs, run=run, store=self.store, metadata=self.metadata, progress=self.events.append)

    @property
    def executed(self) -> list[str]:
        return [event.stage for event in self.events if isinstance(event, StageFinished) and not event.cached]


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def simple(*functions: object) -> Dag:
    return Dag(functions or (third, second, first), sections=("start", "factor"), resources=("journal", "lock"))  # type: ignore[arg-type]


def test_values_flow_along_parameter_names_and_nothing_runs_twice(engine: None, bench: Bench) -> None:
    assert bench.run(simple(), {"start": 2, "factor": 5})["three"] == Number(value=12)
    assert bench.executed == ["first", "second", "third"]
    assert bench.run(simple(), {"start": 2, "factor": 5})["three"] == Number(value=12)
    assert bench.executed == []
    assert bench.run(simple(), {"start": 2, "factor": 6})["three"] == Number(value=14)
    assert bench.executed == ["second", "third"]


def test_a_lost_artifact_is_made_again(engine: None, bench: Bench) -> None:
    bench.run(simple(), {"start": 2, "factor": 5})
    for execution in bench.metadata.executions_of(bench.metadata.runs()[0].id):
        if execution[0].stage == "second":
            digest = bench.metadata.output(execution[0].id, "two")
            assert digest
            Path(bench.store.location(digest)).unlink()
    bench.run(simple(), {"start": 2, "factor": 5})
    assert bench.executed == ["second"]


def test_the_graph_is_linted_before_anything_runs() -> None:
    @stage(produces="x", place="clients")
    def needs_y(y: Number) -> Number:
        return y

    @stage(produces="y", place="clients")
    def needs_x(x: Number) -> Number:
        return x

    @stage(produces="one", place="clients")
    def rival() -> Number:
        return Number(value=0)

    @stage(produces="start", place="clients")
    def shadow() -> Number:
        return Number(value=0)

    @stage(produces="z", place="here")
    def holds_driver(lock: object) -> Number:
        return Number(value=0)

    for functions, told in [
        ((needs_y,), "stage needs_y: nothing provides its parameter y"),
        ((needs_y, needs_x), "cycle"),
        ((first, rival), "one is produced by first and rival"),
        ((shadow,), "both an output"),
        ((holds_driver,), "cannot hold lock"),
        ((print,), "is not a stage"),
    ]:
        with pytest.raises(GraphInvalid, match=told):
            simple(*functions)


def test_independent_stages_run_at_once(bench: Bench) -> None:
    barrier = threading.Barrier(2, timeout=20)

    @stage(produces="left", place="clients")
    def left(lock: threading.Barrier) -> Number:
        return Number(value=lock.wait())

    @stage(produces="right", place="clients")
    def right(lock: threading.Barrier) -> Number:
        return Number(value=lock.wait())

    assert set(bench.run(simple(left, right), {}, lock=barrier)) == {"left", "right"}


def test_an_interrupted_execution_is_resumed_under_its_own_id(bench: Bench) -> None:
    seen: list[tuple[str, bytes | None]] = []

    @stage(produces="out", place="clients")
    def long(journal: Journal, start: int) -> Number:
        seen.append((journal.execution, journal.get("half")))
        journal.put("half", b"done so far")
        if len(seen) == 1:
            raise KeyboardInterrupt
        return Number(value=start)

    with pytest.raises(StageFailed):
        bench.run(simple(long), {"start": 1})
    assert bench.run(simple(long), {"start": 1})["out"] == Number(value=1)
    assert seen == [(seen[0][0], None), (seen[0][0], b"done so far")]


def test_a_failure_keeps_what_was_finished_and_names_its_stage(engine: None, bench: Bench) -> None:
    @stage(produces="bad", place="here")
    def bad(one: Number) -> Number:
        raise ZeroDivisionError("by zero")

    @stage(produces="named", place="here")
    def named(one: Number) -> Number:
        raise ColumnMissing("no column x", remedy="add it")

    @stage(produces="slow", place="here", timeout=0.5)
    def slow(one: Number) -> Number:
        time.sleep(30)
        return one

    for function, kind, told in [
        (bad, StageFailed, "stage bad: .*by zero"),
        (named, ColumnMissing, "no column x"),
        (slow, StageTimeout, "longer than"),
    ]:
        with pytest.raises(kind, match=told):
            bench.run(simple(first, function), {"start": 1})
    bench.run(simple(first), {"start": 1})
    assert bench.executed == []


def test_a_stage_whose_process_dies_is_retried_and_then_named(engine: None, bench: Bench, tmp_path: Path) -> None:
    marks = str(tmp_path / "marks")

    @stage(produces="flaky", place="here", retries=1)
    def flaky(start: str) -> Number:
        import os

        with open(start, "a") as out:
            out.write("x")
        if Path(start).stat().st_size < 2:
            os._exit(1)
        return Number(value=7)

    @stage(produces="dead", place="here")
    def dead(start: str) -> Number:
        import os

        os._exit(1)

    assert bench.run(simple(flaky), {"start": marks})["flaky"] == Number(value=7)
    with pytest.raises(StageFailed, match="its process died"):
        bench.run(simple(dead), {"start": marks})


def test_the_graph_prints_as_text_and_graphviz() -> None:
    dag = simple()
    assert "second  here     one -> two" in dag.as_text()
    assert '"first" -> "second" [label="one"];' in dag.as_graphviz()
