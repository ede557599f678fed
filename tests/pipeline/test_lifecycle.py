"""The whole lifecycle over real clients in this process: results, charges, faults, resume."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Context, Error, Message

from clients.forgetting import forget_all
from clients.home import Home
from pipeline.engine.progress import Event, RoundFinished
from pipeline.lifecycle import run_lifecycle
from pipeline.store.registry import Registry
from privacy.errors import BudgetExhausted, CohortTooSmall, StageFailed
from tests.conftest import Trained
from tests.support import Federation, Killed, configured, fails, write_table

pytestmark = pytest.mark.whole


def test_a_run_trains_evaluates_registers_and_promotes(trained: Trained) -> None:
    outcome: Any = trained.outcome
    workspace: Any = trained.workspace
    assert outcome.deployment.promoted
    assert outcome.version.version == 1
    assert outcome.evaluation.metrics["roc_auc"] > 0.5, "0.68 +- 0.05 over fourteen runs: the noise is real"
    assert set(outcome.model.rounds) == {1, 2, 3}
    assert all(len(clients) == 6 for clients in outcome.model.rounds.values())
    assert all(2.9 <= spent <= 3.0 for spent in outcome.model.spent.values())
    assert all(spent <= 3.0 for spent in outcome.evaluation.lifetime.values())
    champion = Registry(workspace.registry_url, workspace.models).champion("stay")
    assert champion
    lineage = json.loads(champion.read("lineage.json"))
    assert set(lineage["clients"]) == {"centre", "east", "harbour", "north", "south", "west"}
    assert json.loads(champion.read("privacy.json"))["epsilon"] == 3.0


def test_the_coordinator_s_files_hold_no_key(trained: Trained) -> None:
    workspace: Any = trained.workspace
    secrets = [path.read_bytes() for path in workspace.clients.rglob("*") if path.suffix == ".key" and path.is_file()]
    assert len(secrets) >= 18
    for path in workspace.root.rglob("*"):
        if path.is_file() and workspace.clients not in path.parents:
            content = path.read_bytes()
            assert not any(secret[:32] in content or secret[:32].hex().encode() in content for secret in secrets), path


def test_nothing_of_a_row_is_in_any_file_of_the_coordinator(tmp_path: Path) -> None:
    """Words and numbers that stand in every row and nowhere else: in no artifact, database, version or log."""
    import pandas as pd

    path = write_table(tmp_path)
    frame = pd.read_csv(path, dtype=str)
    frame["lab"] = "7.10398"
    frame["ward_phone"] = "canary-column"
    frame.loc[::3, "unit"] = "canary-unit"
    frame.to_csv(path, index=False)
    federation = Federation(tmp_path / "w", configured(path, validation__unknown_categories=1.0))
    federation.run()
    number = np.float64(7.10398)
    scaled = (number / 12).astype(np.float32)
    canaries = (b"canary", b"7.10398", number.tobytes(), np.float32(number).tobytes(), scaled.tobytes())
    looked_at = 0
    for file in federation.workspace.root.rglob("*"):
        if file.is_file() and federation.workspace.clients not in file.parents:
            looked_at += 1
            content = file.read_bytes()
            assert not [canary for canary in canaries if canary in content], file
    assert looked_at > 20
    home = Home(federation.homes["east"])
    assert any(b"canary" in found.read_bytes() for found in home.root.rglob("*.parquet")), (
        "it is found where it belongs"
    )


def test_unchanged_runs_nothing_and_charges_nothing(federation: Federation) -> None:
    first = federation.run()
    before = federation.charges()
    again = federation.run()
    assert federation.executed == {"enrolment", "blessing", "deployment"}, "who looks at the world"
    assert {kind for _, kind in federation.grid.sent} == {"query.join"}
    assert federation.charges() == before == {"validate": 1, "train": 3, "evaluate": 1}
    assert again.version == first.version


def test_a_changed_setting_runs_only_what_depends_on_it(federation: Federation, dataset: Path) -> None:
    federation.run()
    federation.run(configured(dataset, evaluation__bins=12))
    assert federation.executed == {"enrolment", "evaluation", "blessing", "registration", "deployment"}
    assert federation.charges() == {"validate": 1, "train": 3, "evaluate": 2}


def test_changed_data_at_one_client_is_noticed(federation: Federation) -> None:
    federation.run()
    import pandas as pd

    source = Home(federation.homes["east"]).policy.source.path
    pd.read_parquet(source).iloc[:-1].to_parquet(source)
    federation.run()
    assert "training" in federation.executed
    assert federation.charges("east")["train"] == 6


@pytest.mark.parametrize("scheme", ["bfv", "none"])
def test_encryption_changes_nothing_but_rounding(tmp_path: Path, dataset: Path, scheme: str) -> None:
    free = {"privacy": "none", "simulation__lifetime_epsilon": float("inf"), "training__rounds": 8}
    config = configured(dataset, encryption__scheme=scheme, **free)
    outcome = Federation(tmp_path, config).run()
    assert outcome.evaluation.metrics["roc_auc"] > 0.65
    assert outcome.version.privacy.text.startswith("NOT PRIVATE")
    assert ("WITHOUT ENCRYPTION" in outcome.version.privacy.text) == (scheme == "none")
    assert outcome.model.spent["east"] is None
    exact = sum(outcome.evaluation.counts)
    assert 0.15 < exact / 1800 < 0.25


@pytest.mark.parametrize("kind", ["query.ingest", "query.validate", "train", "evaluate"])
def test_one_failing_client_is_named_and_excluded(federation: Federation, kind: str) -> None:
    federation.grid.faults[("north", kind)] = fails("Jane Doe, age 34")
    outcome = federation.run()
    assert "north" in federation.excluded
    assert "Jane" not in str(federation.events)
    assert outcome.deployment.promoted
    assert ("north" in outcome.evaluation.clients) == (kind == "train")


def test_a_client_that_never_answers_is_named(federation: Federation) -> None:
    federation.grid.faults[("north", "train")] = lambda message, context: None
    federation.run()
    assert "no answer in 60 s" in str(federation.events)


def test_below_the_minimum_cohort_nothing_is_applied_and_the_run_resumes(federation: Federation) -> None:
    for name in ("north", "south", "west"):
        federation.grid.faults[(name, "train")] = fails()
    with pytest.raises(
        CohortTooSmall, match=r"train, round \d: 3 of 6 clients answered, at least 4 must\. Missing: north"
    ):
        federation.run()
    assert federation.charges("east") == {"validate": 1, "train": 1}
    federation.grid.faults.clear()
    outcome = federation.run()
    assert federation.executed == {"enrolment", "training", "evaluation", "blessing", "registration", "deployment"}
    assert federation.charges("east") == {"validate": 1, "train": 3, "evaluate": 1}, "round 1 was not charged twice"
    assert set(outcome.model.rounds) == {1, 2, 3}


def test_a_run_killed_between_rounds_goes_on_from_the_last_round(federation: Federation) -> None:
    def die(event: Event) -> None:
        if isinstance(event, RoundFinished) and event.round == 2:
            raise Killed

    with pytest.raises(StageFailed):
        run_lifecycle(federation.config, federation.grid, federation.workspace, die)
    federation.run()
    assert federation.grid.count("train") == 6, "only round 3 was asked"
    assert federation.charges() == {"validate": 1, "train": 3, "evaluate": 1}


def test_clients_killed_between_reserve_and_commit_lose_that_round_only(
    federation: Federation, monkeypatch: Any
) -> None:
    from clients import training

    real = training.train_round
    calls: list[int] = []

    def killed_in_round_two(*arguments: Any) -> None:
        calls.append(1)
        if 7 <= len(calls) <= 9:
            raise Killed
        real(*arguments)

    monkeypatch.setattr(training, "train_round", killed_in_round_two)
    for _ in range(3):
        with pytest.raises((StageFailed, Killed)):
            federation.run()
    outcome = federation.run()
    assert [len(outcome.model.rounds[number]) for number in (1, 2, 3)] == [6, 0, 6]
    assert federation.charges("east")["train"] == 3
    assert any(isinstance(event, RoundFinished) and event.lost for event in federation.events)


def test_a_budget_that_does_not_suffice_stops_before_data_is_touched(tmp_path: Path, dataset: Path) -> None:
    federation = Federation(tmp_path, configured(dataset, simulation__lifetime_epsilon=2.0))
    with pytest.raises(BudgetExhausted, match=r"the policy allows 2\.00; spent so far 0\.00"):
        federation.run()
    assert federation.charges() == {}
    with pytest.raises(CohortTooSmall, match="does not allow privacy none"):
        federation.run(configured(dataset, simulation__lifetime_epsilon=2.0, privacy="none"))
    assert federation.charges() == {}


def test_two_runs_share_one_budget(federation: Federation, dataset: Path) -> None:
    federation.run()
    outcome = federation.run(configured(dataset, training__seed=1))
    assert all(3.0 < spent < 6.0 for spent in outcome.evaluation.lifetime.values() if spent)
    with pytest.raises(BudgetExhausted, match="would bring the records"):
        federation.run(configured(dataset, training__seed=2, privacy__epsilon=19))


def test_a_worse_model_is_registered_but_not_promoted(federation: Federation, dataset: Path) -> None:
    """At epsilon 10 v1 reaches 0.66 +- 0.03 and v2, which learns nothing, stays at the 0.42 of its first weights."""
    assert federation.run(configured(dataset, privacy__epsilon=10.0)).deployment.promoted
    idle: dict[str, Any] = {"training__learning_rate": 1e-6, "training__seed": 9, "registration__min_roc_auc": 0.0}
    outcome = federation.run(configured(dataset, privacy__epsilon=10.0, **idle))
    assert not outcome.deployment.promoted
    assert outcome.version.version == 2
    assert outcome.deployment.version == 1
    assert "worse than v1's" in outcome.verdict.reasons[0]
    outcome = federation.run(configured(dataset, privacy__epsilon=10.0, registration__min_roc_auc=0.999))
    assert "worse than registration asks for" in outcome.verdict.reasons[0]


def test_one_class_at_one_client_excludes_it(tmp_path: Path) -> None:
    import pandas as pd

    path = write_table(tmp_path, rows=9000)
    frame = pd.read_csv(path, dtype=str)
    frame.loc[frame["ward"] == "west", "died"] = "no"
    frame.to_csv(path, index=False)
    federation = Federation(tmp_path / "w", configured(path, privacy__epsilon=6.0))
    outcome = federation.run()
    assert federation.excluded == {"west": "validation-failed"}
    assert "west" not in outcome.evaluation.clients


def test_an_evaluation_cut_off_at_its_reveal_goes_on_there(federation: Federation) -> None:
    """Clients that have vouched make their counts no second time: the collected sum is kept."""
    calls: list[str] = []

    def die_at_the_fourth(message: Message, context: Context) -> Message:
        calls.append(message.metadata.message_type)
        if len(calls) == 4:
            raise Killed
        return federation.grid.app(message, context)

    def armed(message: Message, context: Context) -> Message:
        for name in federation.homes:
            federation.grid.faults[(name, "query.reveal")] = die_at_the_fourth
        return federation.grid.app(message, context)

    federation.grid.faults[("east", "evaluate")] = armed
    with pytest.raises((StageFailed, Killed)):
        federation.run()
    federation.grid.faults.clear()
    outcome = federation.run()
    assert outcome.evaluation.clients == tuple(sorted(federation.homes))
    assert federation.grid.count("evaluate") == 0, "nothing was evaluated again"
    assert federation.charges()["evaluate"] == 1


def test_who_forgets_takes_part_in_the_next_run_again(federation: Federation) -> None:
    federation.run()
    for name in ("east", "north", "south"):
        forget_all(Home(federation.homes[name]), unfinished=False)
    outcome = federation.run()
    assert federation.excluded == {}
    assert len(outcome.evaluation.clients) == 6


def test_a_source_that_changes_and_comes_back_is_no_dead_end(federation: Federation) -> None:
    import pandas as pd

    source = Home(federation.homes["east"]).policy.source.path
    before = pd.read_parquet(source)
    for frame in (before, before.iloc[1:], before):
        frame.to_parquet(source)
        outcome = federation.run()
        assert federation.excluded == {}
        assert "east" in outcome.evaluation.clients


def test_a_line_of_a_policy_spends_nothing_and_another_size_does(federation: Federation) -> None:
    """What was paid for depends on snapshots and declared sizes, not on a policy that still permits it."""
    federation.run()
    home = Home(federation.homes["east"])
    charged = federation.charges()
    Home.write_policy(home.root, home.policy.model_copy(update={"max_parameters": 12_345, "forbidden_columns": ("x",)}))
    federation.run()
    assert federation.executed == {"enrolment", "ingestion", "registration", "blessing", "deployment"}
    assert federation.charges() == charged
    Home.write_policy(home.root, home.policy.model_copy(update={"rows": 2 * home.policy.rows}))
    federation.run()
    assert {"training", "evaluation"} <= federation.executed, "its plan follows from it"
    Home.write_policy(home.root, home.policy.model_copy(update={"forbidden_columns": ("age",)}))
    federation.run()
    assert federation.excluded["east"] == "forbidden-column", "what it no longer permits is not used"


def test_one_client_that_refuses_every_sum_is_excluded_and_drops_nothing(federation: Federation) -> None:
    reason = json.dumps({"code": "sum-rejected", "message": "the sum does not open"})

    def refuse(message: Message, context: Context) -> Message:
        return Message(Error(1000, reason), reply_to=message)

    federation.grid.faults[("east", "train")] = refuse
    outcome = federation.run()
    assert [len(clients) for clients in outcome.model.rounds.values()] == [5, 5, 5]
    for name in federation.homes:
        federation.grid.faults[(name, "train")] = refuse
    other = federation.config.model.model_copy(update={"hidden": (9,)})
    with pytest.raises(CohortTooSmall, match="the sum does not open"):
        federation.run(federation.config.model_copy(update={"model": other}))


def test_a_home_that_lost_its_state_is_named(federation: Federation, monkeypatch: Any) -> None:
    import shutil

    def lose(message: Message, context: Context) -> Message:
        shutil.rmtree(federation.homes["north"] / "executions", ignore_errors=True)
        return federation.grid.app(message, context)

    federation.grid.faults[("north", "train")] = lose
    federation.run()
    assert federation.excluded["north"] == "protocol"
