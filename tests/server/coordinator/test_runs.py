"""Following a run by what its driver has written, without any process: order, resumption, ends, torn lines."""

import io
import json
import threading
from pathlib import Path
from typing import Any

import pytest

from pipeline.engine.progress import (
    BudgetAsked,
    ClientExcluded,
    ClientWarned,
    Event,
    GroupAgreed,
    Notice,
    RoundFinished,
    RunPlanned,
    StageBroken,
    StageFinished,
    StageStarted,
    Traffic,
    event_of,
)
from pipeline.reporting.console import JsonLines, PlainLines
from pipeline.reporting.report import ClientEpsilon, Report
from pipeline.stages.values import PrivacyStatement
from privacy import errors
from privacy.errors import BudgetExhausted, CohortTooSmall, FederationError, NotFound, SottovoceError, coded
from server.coordinator.following import Follower
from server.coordinator.home import CoordinatorHome, ServerSettings
from server.coordinator.runlog import END, ERROR, REPORT, RunLog, log_of
from server.coordinator.runs import Runs, Submission

EVENTS: list[Event] = [
    RunPlanned("0123abcd", "stay", (("ingestion", "clients", "-"), ("training", "clients", "epsilon 1"))),
    StageStarted("ingestion"),
    StageFinished("ingestion", cached=False, seconds=1.5),
    GroupAgreed(1, 3, masks=True, layout="2 x 20 bits"),
    Traffic(10, 20),
    RoundFinished(1, 2, 3, 3, 0.5),
    RoundFinished(2, 2, 0, 3, 0.5, lost=True),
    ClientExcluded("east", "no-answer", "no answer in 60 s"),
    ClientWarned("east", "duplicates"),
    BudgetAsked("east", "too little is left", "0" * 32),
    StageBroken("training", "boom"),
    Notice("resumed as run 4567ef01"),
]
REPORTED = Report(
    run="0123abcd",
    model="stay",
    version=1,
    champion=1,
    promoted=True,
    reasons=(),
    rival=(1, 0.8),
    metrics={"roc_auc": 0.8, "pr_auc": 0.7, "accuracy": 0.7, "precision": 0.7, "recall": 0.7},
    errors={"roc_auc": 0.01},
    clients=3,
    sums=3,
    privacy=PrivacyStatement(
        unit="record", adjacency="a", epsilon=1.0, delta=1e-5, clipping_norm=1.0, aggregation="bfv", text="every record"
    ),
    epsilon={"east": ClientEpsilon(training=1.0, evaluation=None, lifetime=None)},
    workspace="/w",
    files="/w/models",
)


@pytest.fixture
def runs(tmp_path: Path) -> Runs:
    home = CoordinatorHome.create(tmp_path / "server", ServerSettings(name="lab"))
    (home.root / "runs").mkdir()
    home.workspace.mkdir()
    return Runs(home)


def note(runs: Runs, run: str, **fields: Any) -> None:
    (runs.home.root / "runs" / f"{run}.json").write_text(Submission(config="c.yaml", **fields).model_dump_json())


def write(runs: Runs, run: str, *events: Event, then: dict[str, dict[str, Any]] | None = None) -> None:
    with open(log_of(runs.home.workspace, run), "a") as log:
        lines = JsonLines(log, clock=lambda: 1_000_000.0)
        for event in events:
            lines(event)
        for name, fields in (then or {}).items():
            lines.tell(name, fields)


def test_every_event_comes_back_as_it_was_written() -> None:
    out = io.StringIO()
    for event in EVENTS:
        JsonLines(out)(event)
    read = [event_of(json.loads(line)) for line in out.getvalue().splitlines()]
    assert read == EVENTS
    assert {type(event) for event in EVENTS} == set(Event.__args__)
    assert event_of({"event": "Nonsense"}) is None


def test_every_error_comes_back_under_its_code() -> None:
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, SottovoceError)]
    assert len(kinds) > 30
    for kind in kinds:
        again = coded(kind("").code, "cause", "remedy")
        assert (again.code, again.exit_code, again.cause) == (kind("").code, kind.exit_code, "cause")
    assert type(coded("budget-exhausted", "", "")) is BudgetExhausted
    assert type(coded("of-tomorrow", "", "")) is SottovoceError


def test_a_part_of_a_run_ends_without_a_report(runs: Runs) -> None:
    note(runs, "0123abcd", of="4567ef01", until="training")
    write(runs, "0123abcd", *EVENTS, then={END: {}})
    heard: list[Event] = []
    assert Follower(runs, "0123abcd").follow(heard.append) is None
    assert heard == EVENTS


def test_a_run_is_told_to_its_end_with_the_times_of_what_happened(runs: Runs) -> None:
    note(runs, "0123abcd")
    write(runs, "0123abcd", *EVENTS, then={REPORT: REPORTED.model_dump(mode="json"), END: {}})
    out = io.StringIO()
    follower = Follower(runs, runs.known("01"))
    assert follower.follow(PlainLines(out, lambda: follower.time)) == REPORTED
    lines = out.getvalue().splitlines()
    assert len({line[:8] for line in lines}) == 1, "all at the time at which they happened"
    assert any("round 1/2  3/3 clients" in line for line in lines)
    assert runs.over("0123abcd")


def test_a_run_that_goes_on_as_another_is_followed_there(runs: Runs) -> None:
    note(runs, "0123abcd", followed_by="4567ef01")
    note(runs, "4567ef01")
    write(runs, "0123abcd", StageStarted("ingestion"))
    write(runs, "4567ef01", StageStarted("training"), then={REPORT: REPORTED.model_dump(mode="json"), END: {}})
    told: list[Event] = []
    Follower(runs, "0123abcd").follow(told.append)
    assert told == [StageStarted("ingestion"), Notice("resumed as run 4567ef01"), StageStarted("training")]
    assert runs.stop("0123") == "4567ef01", "who stops a run means the one that goes on with it"
    assert runs.submission("4567ef01").over


def test_an_error_is_the_driver_s_own_and_says_how_to_go_on(runs: Runs) -> None:
    note(runs, "0123abcd")
    write(runs, "0123abcd", then={ERROR: {"code": "cohort-too-small", "cause": "2 of 3", "remedy": "Mend."}, END: {}})
    with pytest.raises(CohortTooSmall, match="2 of 3") as caught:
        Follower(runs, "0123abcd").follow(lambda event: None)
    assert "Mend. Resume with: sottovoce run --resume 0123abcd" in caught.value.remedy


def test_a_stopped_run_and_a_coordinator_that_stays_away_are_told(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    note(runs, "0123abcd", over=True)
    with pytest.raises(FederationError, match="was stopped"):
        Follower(runs, "0123abcd").follow(lambda event: None)
    note(runs, "4567ef01")
    monkeypatch.setattr("server.coordinator.following.PATIENCE", 0.3)
    told: list[Event] = []
    with pytest.raises(FederationError, match="not running"):
        Follower(runs, "4567ef01").follow(told.append)
    assert told == [Notice("the coordinator is not running; the run goes on when it is started")]


def test_lines_are_heard_once_whole_and_torn_ones_never(tmp_path: Path) -> None:
    log = RunLog(tmp_path / "run.jsonl")
    assert list(log.news()) == []
    assert not log.ended
    with log.path.open("a", buffering=1) as out:
        out.write('{"event": "a"}\n{"event": ')
        out.flush()
        assert list(log.news()) == [{"event": "a"}]
        out.write('"b"}\n{"torn\n[]\n')
        assert list(log.news()) == [{"event": "b"}]
        JsonLines(out).tell(END, {})
    assert log.ended
    assert len(list(log.news())) == 1


def test_followers_of_a_run_that_is_still_being_written_miss_nothing(
    runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("server.coordinator.following.POLL_SECONDS", 0.001)
    note(runs, "0123abcd")
    rounds = [RoundFinished(number, 300, 3, 3, 0.0) for number in range(1, 301)]

    def drive() -> None:
        for event in rounds:
            write(runs, "0123abcd", event)
        write(runs, "0123abcd", then={REPORT: REPORTED.model_dump(mode="json"), END: {}})

    driver = threading.Thread(target=drive)
    driver.start()
    told: list[Event] = []
    Follower(runs, "0123abcd").follow(told.append)
    driver.join()
    assert [event for event in told if isinstance(event, RoundFinished)] == rounds


def test_a_run_is_known_by_the_beginning_of_its_id(runs: Runs) -> None:
    note(runs, "0123abcd")
    note(runs, "0145abcd")
    assert runs.known("012") == "0123abcd"
    for prefix in ("01", "", "7"):
        with pytest.raises(NotFound, match="runs begin with"):
            runs.known(prefix)
