"""Stages, executed: parallel, cached, resumed, one alone; on real Ray and real stores."""

import threading
import time
from pathlib import Path

import pytest
from pydantic import BaseModel

from pipeline.engine.graph import Resources, stage
from pipeline.store.journal import Journal
from privacy.errors import ArtifactMissing, ColumnMissing, ConfigError, StageFailed, StageTimeout
from tests.pipeline.engine.bench import Bench, Number, first, simple


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


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


def test_a_volatile_stage_looks_at_the_world_once_in_a_run(bench: Bench) -> None:
    world = [1]

    @stage(produces="seen", place="clients", volatile=True)
    def look() -> Number:
        return Number(value=world[0])

    @stage(produces="told", place="clients")
    def tell(seen: Number) -> Number:
        return seen

    dag = simple(look, tell)
    assert bench.run(dag, {}, of="0000000a")["told"] == Number(value=1)
    world[0] = 2
    assert bench.run(dag, {}, of="0000000a")["told"] == Number(value=1)
    assert bench.executed == []
    assert bench.run(dag, {}, of="0000000b")["told"] == Number(value=2)
    world[0] = 1
    assert bench.run(dag, {}, of="0000000c")["told"] == Number(value=1)
    assert bench.executed == ["look"], "what follows from the same is the same"


def test_what_was_paid_for_is_not_made_again_silently(bench: Bench) -> None:
    made: list[int] = []

    @stage(produces="bought", place="clients", charges=True)
    def paid(journal: Journal, start: int) -> BaseModelWithPart:
        made.append(start)
        return BaseModelWithPart(part=journal.put("part", b"large"))

    def lose(name: str) -> None:
        for execution, _ in bench.metadata.executions_of(bench.metadata.runs()[0].id):
            digest = bench.metadata.output(execution.id, name)
            assert digest
            Path(bench.store.location(digest)).unlink()

    for lost in ("bought", "part"):
        bench.run(simple(paid), {"start": len(made)})
        lose(lost)
        with pytest.raises(ArtifactMissing, match=r"paid was done and charged before, .* again \(epsilon 1\)"):
            bench.run(simple(paid), {"start": made[-1]})
    assert made == [0, 1]


class BaseModelWithPart(BaseModel):
    part: str


def test_a_run_is_gone_on_with_in_its_own_configuration_only(bench: Bench) -> None:
    metadata = bench.metadata
    metadata.end_run(metadata.begin_run("test", {"a": 1}, "0000000a"), waiting=True)
    assert metadata.run("0000000a").state == "WAITING"
    metadata.begin_run("test", {"a": 1}, "0000000a")
    assert metadata.run("0000000a").state == "RUNNING"
    with pytest.raises(ConfigError, match="run 0000000a was begun with another configuration"):
        metadata.begin_run("test", {"a": 2}, "0000000a")
    assert metadata.accepts("0000000b", {"a": 2}) is False
    assert metadata.run("0000000a").state == "RUNNING", "a refusal changes nothing"


def test_a_part_of_a_stage_has_an_execution_of_its_own(bench: Bench) -> None:
    seen: list[str] = []

    @stage(produces="best", place="clients")
    def search(journal: Journal, start: int) -> Number:
        for trial in range(2):
            with journal.child(f"trial-{trial}", {"rate": trial}) as part:
                seen.append(part.execution)
                if part.get("score") is None:
                    part.put("score", str(trial).encode())
                    if trial == 1 and len(seen) == 2:
                        raise KeyboardInterrupt
        return Number(value=start)

    with pytest.raises(StageFailed):
        bench.run(simple(search), {"start": 1})
    bench.run(simple(search), {"start": 1})
    assert len(seen) == 4
    assert seen[:2] == seen[2:]
    assert len(set(seen)) == 2
    found = {execution.stage: execution for execution, _ in bench.metadata.executions_of(bench.metadata.runs()[0].id)}
    assert {stage: execution.state for stage, execution in found.items()} == dict.fromkeys(
        ("search", "search/trial-0", "search/trial-1"), "COMPLETE"
    )
    assert found["search/trial-1"].parameters == {"rate": 1}
    assert found["search"].id not in seen


def test_a_task_gets_the_resources_it_declares(engine: None, bench: Bench) -> None:
    @stage(produces="given", place="here", resources=Resources(cpus=0.5, memory=10_000_000))
    def taking(start: int) -> Taken:
        import ray

        return Taken(resources=dict(ray.get_runtime_context().get_assigned_resources()))

    given = bench.run(simple(taking), {"start": 1})["given"]
    assert given == Taken(resources={"CPU": 0.5, "memory": 10_000_000})


class Taken(BaseModel):
    resources: dict[str, float]
