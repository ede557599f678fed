"""The whole lifecycle over real clients in this process: results, charges, faults, resume."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, Context, Message

from clients.home import Home
from pipeline.config import Config
from pipeline.lifecycle import Outcome, run_lifecycle
from pipeline.progress import ClientExcluded, Event, RoundFinished, StageFinished
from pipeline.registry import Registry
from pipeline.workspace import Workspace
from privacy.errors import CohortTooSmall, RevealDisagreement, StageFailed
from tests.conftest import Trained
from tests.support import LocalGrid, configured, fails, homes_for, write_table

pytestmark = pytest.mark.usefixtures("engine")


class Federation:
    """A workspace, its clients, and the events of the last run."""

    parameters = 7 * 8 + 8 + 8 + 1

    def __init__(self, folder: Path, config: Config) -> None:
        self.config = config
        self.workspace = Workspace(folder, config.storage)
        self.homes = homes_for(config, self.workspace.clients)
        self.grid = LocalGrid(self.homes)
        self.events: list[Event] = []

    def run(self, config: Config | None = None) -> Outcome:
        self.events.clear()
        self.grid.sent.clear()
        return run_lifecycle(config or self.config, self.grid, self.workspace, self.events.append)

    @property
    def executed(self) -> set[str]:
        return {event.stage for event in self.events if isinstance(event, StageFinished) and not event.cached}

    @property
    def excluded(self) -> dict[str, str]:
        return {event.client: event.code for event in self.events if isinstance(event, ClientExcluded)}

    def charges(self, client: str = "east") -> dict[str, int]:
        """Reservations in a client's ledger by purpose."""
        rows = [row.id.split("/")[1] for row in Home(self.homes[client]).ledger.rows() if row.kind == "reserve"]
        return {purpose: rows.count(purpose) for purpose in set(rows)}


@pytest.fixture
def federation(tmp_path: Path, config: Config) -> Federation:
    return Federation(tmp_path, config)


def test_a_run_trains_evaluates_registers_and_promotes(trained: Trained) -> None:
    outcome: Any = trained.outcome
    workspace: Any = trained.workspace
    assert outcome.deployment.promoted
    assert outcome.version.version == 1
    assert outcome.evaluation.metrics["roc_auc"] > 0.6
    assert set(outcome.model.rounds) == {1, 2, 3}
    assert all(len(clients) == 6 for clients in outcome.model.rounds.values())
    assert all(2.9 <= spent <= 3.0 for spent in outcome.model.spent.values())
    assert all(spent <= 3.0 for spent in outcome.evaluation.lifetime.values())
    champion = Registry(workspace.registry_url, workspace.models).champion("stay")
    assert champion
    lineage = json.loads(champion.read("lineage.json"))
    assert set(lineage["clients"]) == {"centre", "east", "harbour", "north", "south", "west"}
    assert json.loads(champion.read("privacy.json"))["epsilon"] == 3.0


def test_the_coordinator_s_files_hold_no_key_and_no_row(trained: Trained) -> None:
    workspace: Any = trained.workspace
    secrets = [path.read_bytes() for path in workspace.clients.rglob("*") if path.suffix == ".key" and path.is_file()]
    assert len(secrets) >= 18
    for path in workspace.root.rglob("*"):
        if path.is_file() and workspace.clients not in path.parents:
            content = path.read_bytes()
            assert not any(secret[:32] in content or secret[:32].hex().encode() in content for secret in secrets), path
            assert (
                b"intensive" not in content
                or path.name in ("features.json", "schema.json")
                or path.suffix == ".db"
                or (workspace.root / "artifacts" in path.parents)
            )


def test_unchanged_runs_nothing_and_charges_nothing(federation: Federation) -> None:
    first = federation.run()
    before = federation.charges()
    again = federation.run()
    assert federation.executed == {"enrolment"}
    assert {kind for _, kind in federation.grid.sent} == {"query.join"}
    assert federation.charges() == before == {"train": 3, "evaluate": 1}
    assert again.version == first.version


def test_a_changed_setting_runs_only_what_depends_on_it(federation: Federation, dataset: Path) -> None:
    federation.run()
    federation.run(configured(dataset, evaluation__bins=12))
    assert federation.executed == {"enrolment", "evaluation", "blessing", "registration", "deployment"}
    assert federation.charges() == {"train": 3, "evaluate": 2}


def test_changed_data_at_one_client_is_noticed(federation: Federation) -> None:
    federation.run()
    import pandas as pd

    source = Home(federation.homes["east"]).policy.source
    pd.read_parquet(source).iloc[:-1].to_parquet(source)
    federation.run()
    assert "training" in federation.executed
    assert federation.charges("east")["train"] == 6


@pytest.mark.parametrize("scheme", ["bfv", "none"])
def test_encryption_changes_nothing_but_rounding(tmp_path: Path, dataset: Path, scheme: str) -> None:
    config = configured(dataset, privacy="none", encryption__scheme=scheme, simulation__lifetime_epsilon=float("inf"))
    outcome = Federation(tmp_path, config).run()
    assert outcome.evaluation.metrics["roc_auc"] > 0.65
    assert outcome.version.privacy.text.startswith("NOT PRIVATE")
    assert ("WITHOUT ENCRYPTION" in outcome.version.privacy.text) == (scheme == "none")
    assert outcome.model.spent["east"] is None
    exact = sum(outcome.evaluation.negative) + sum(outcome.evaluation.positive)
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


def test_a_client_that_misses_a_round_catches_up(federation: Federation) -> None:
    calls: list[int] = []

    def second_round_lost(message: Message, context: Context) -> Message | None:
        calls.append(1)
        return None if len(calls) == 2 else federation.grid.app(message, context)

    federation.grid.faults[("north", "train")] = second_round_lost
    outcome = federation.run()
    assert ["north" in outcome.model.rounds[number] for number in (1, 2, 3)] == [True, False, True]
    assert outcome.model.unconfirmed == ()


def test_a_client_that_vanishes_with_masks_on_costs_one_repeat_and_no_charge(federation: Federation) -> None:
    calls: list[int] = []

    def silent_once(message: Message, context: Context) -> Message | None:
        calls.append(1)
        return None if len(calls) == 2 else federation.grid.app(message, context)

    federation.grid.faults[("north", "train")] = silent_once
    outcome = federation.run()
    assert [len(clients) for clients in outcome.model.rounds.values()] == [6, 5, 6]
    assert federation.grid.sent.count(("east", "train")) == 4
    assert federation.charges("east")["train"] == 3
    assert outcome.model.unconfirmed == ()


def test_who_has_left_gets_no_key_of_what_comes_after(tmp_path: Path, dataset: Path) -> None:
    federation = Federation(tmp_path, configured(dataset, training__rounds=4))
    calls: list[int] = []

    def leave(message: Message, context: Context) -> Message | None:
        calls.append(1)
        return federation.grid.app(message, context) if len(calls) == 1 else None

    federation.grid.faults[("north", "train")] = leave
    outcome = federation.run()
    assert [len(clients) for clients in outcome.model.rounds.values()] == [6, 5, 5, 5]
    assert len(calls) == 3, "it is not waited for in the fourth round"
    assert outcome.model.unconfirmed == ("north",)
    (second,) = federation.homes["east"].glob("executions/*/group-2.key")
    first = second.with_name("group-1.key")
    assert not list(federation.homes["north"].glob("executions/*/group-2.key"))
    assert first.read_bytes()[:32] != second.read_bytes()[:32]
    assert second.stat().st_mode & 0o777 == 0o600


def test_a_key_that_the_coordinator_swapped_is_noticed_by_every_client(federation: Federation) -> None:
    from pipeline.protocol import JoinReply, pack, unpack
    from privacy.keys import Identity

    def swapped(message: Message, context: Context) -> Message:
        told, blobs = unpack(JoinReply, federation.grid.app(message, context).content)
        keys = Identity(bytes([7]) * 64).public.hex()
        return Message(pack(told.model_copy(update={"public_keys": keys}), blobs), reply_to=message)

    federation.grid.faults[("north", "query.join")] = swapped
    with pytest.raises(CohortTooSmall, match="group key"):
        federation.run()
    assert federation.excluded == dict.fromkeys(federation.homes, "key-mismatch") | {"north": "protocol"}


def test_below_the_minimum_cohort_nothing_is_applied_and_the_run_resumes(federation: Federation) -> None:
    for name in ("north", "south", "west"):
        federation.grid.faults[(name, "train")] = fails()
    with pytest.raises(CohortTooSmall, match=r"train: 3 of 6 clients answered, at least 4 must\. Missing: north"):
        federation.run()
    assert federation.charges("east") == {"train": 1}
    federation.grid.faults.clear()
    outcome = federation.run()
    assert federation.executed == {"enrolment", "training", "evaluation", "blessing", "registration", "deployment"}
    assert federation.charges("east") == {"train": 3, "evaluate": 1}, "the first round was not charged twice"
    assert set(outcome.model.rounds) == {1, 2, 3}


class Killed(BaseException):
    """Stands for the end of the process."""


def test_a_run_killed_between_rounds_goes_on_from_the_last_round(federation: Federation) -> None:
    def die(event: Event) -> None:
        if isinstance(event, RoundFinished) and event.round == 2:
            raise Killed

    with pytest.raises(StageFailed):
        run_lifecycle(federation.config, federation.grid, federation.workspace, die)
    federation.run()
    assert federation.grid.count("train") == 6, "only round 3 was asked"
    assert federation.charges() == {"train": 3, "evaluate": 1}


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


def forged(message: Message, reply: Message, federation: Federation) -> Message:
    """The reply with an upload that its client signed although it is not what it should be: a client that lies."""
    from pipeline.protocol import TrainRequest, unpack
    from privacy.statement import Statement
    from privacy.wire import SIGNATURE_BYTES, signed_text

    request, _ = unpack(TrainRequest, message.content)
    good = reply.content.array_records["blobs"]["sealed"].numpy().tobytes()
    unsigned = bytearray(good[:-SIGNATURE_BYTES])
    unsigned[-4] ^= 1  # the tag of the last block
    statement = Statement(request.execution, "train", request.round, request.attempt.cohort)
    signature = Home(federation.homes["north"]).identity.sign(signed_text(statement, "north", bytes(unsigned)))
    sealed = bytes(unsigned) + signature
    reply.content["blobs"] = ArrayRecord({"sealed": Array(np.frombuffer(sealed, dtype=np.uint8))})
    return reply


@pytest.mark.parametrize("when", [2, 3])
def test_a_lying_client_costs_its_round_and_is_never_applied(federation: Federation, when: int) -> None:
    calls: list[int] = []

    def lie(message: Message, context: Context) -> Message:
        calls.append(1)
        reply = federation.grid.app(message, context)
        return forged(message, reply, federation) if len(calls) == when else reply

    federation.grid.faults[("north", "train")] = lie
    outcome = federation.run()
    assert [len(clients) for clients in outcome.model.rounds.values()] == [0 if n == when else 6 for n in (1, 2, 3)]
    assert federation.charges("east")["train"] == 3
    assert outcome.model.unconfirmed == ()


def test_a_malformed_upload_excludes_its_client_only(federation: Federation) -> None:
    def truncate(message: Message, context: Context) -> Message:
        reply = federation.grid.app(message, context)
        content = reply.content.array_records["blobs"]["sealed"].numpy()[:-7]
        reply.content["blobs"] = ArrayRecord({"sealed": Array(content)})
        return reply

    federation.grid.faults[("north", "train")] = truncate
    outcome = federation.run()
    assert federation.excluded["north"] == "upload-rejected"
    assert all(len(clients) == 5 for clients in outcome.model.rounds.values())


def test_a_client_that_opens_another_model_is_named(federation: Federation) -> None:
    def lie(message: Message, context: Context) -> Message:
        from pipeline.protocol import RevealReply, RevealRequest, pack, reveal_text, unpack

        told, blobs = unpack(RevealReply, federation.grid.app(message, context).content)
        asked, _ = unpack(RevealRequest, message.content)
        identity = Home(federation.homes["west"]).identity
        signature = identity.sign(reveal_text(asked.execution, asked.what, "0" * 64)).hex()
        changed = told.model_copy(update={"digest": "0" * 64, "signature": signature})
        return Message(pack(changed, blobs), reply_to=message)

    federation.grid.faults[("west", "query.reveal")] = lie
    with pytest.raises(RevealDisagreement, match="west opened another result"):
        federation.run()


def test_a_digest_that_its_client_did_not_sign_does_not_count(federation: Federation) -> None:
    def lie(message: Message, context: Context) -> Message:
        from pipeline.protocol import RevealReply, pack, unpack

        told, blobs = unpack(RevealReply, federation.grid.app(message, context).content)
        return Message(pack(told.model_copy(update={"digest": "0" * 64}), blobs), reply_to=message)

    federation.grid.faults[("west", "query.reveal")] = lie
    outcome = federation.run()
    assert outcome.model.unconfirmed == ("west",)
    assert "west" not in outcome.model.attested
    assert len(outcome.model.attested) == 5


def test_no_value_is_handed_over_without_a_quorum_s_signatures(federation: Federation) -> None:
    from pipeline.protocol import RevealRequest, pack, unpack

    refused: list[Message] = []

    def too_few(message: Message, context: Context) -> Message:
        asked, blobs = unpack(RevealRequest, message.content)
        if asked.certificate:
            some = dict(list(asked.certificate.items())[:2])
            again = {**some, **dict.fromkeys(list(asked.certificate)[2:], "00" * 64)}
            content = pack(asked.model_copy(update={"certificate": again}), blobs)
            message = Message(content, message.metadata.dst_node_id, message.metadata.message_type)
            message.metadata.__dict__["_message_id"] = "m"
        reply = federation.grid.app(message, context)
        if asked.certificate:
            refused.append(reply)
        return reply

    for name in federation.homes:
        federation.grid.faults[(name, "query.reveal")] = too_few
    with pytest.raises(RevealDisagreement, match="no client sent"):
        federation.run()
    assert all("vouch" in reply.error.reason for reply in refused)


def test_the_value_comes_from_another_client_when_the_first_is_gone(federation: Federation) -> None:
    federation.grid.faults[("centre", "query.reveal")] = fails()
    outcome = federation.run()
    assert outcome.model.unconfirmed == ("centre",)
    assert outcome.deployment.promoted


def test_the_leader_of_the_group_key_may_fail(federation: Federation) -> None:
    federation.grid.faults[("centre", "query.keys")] = fails()
    outcome = federation.run()
    assert outcome.deployment.promoted
    assert "centre" not in outcome.evaluation.clients


def test_a_budget_that_does_not_suffice_stops_before_data_is_touched(tmp_path: Path, dataset: Path) -> None:
    federation = Federation(tmp_path, configured(dataset, simulation__lifetime_epsilon=2.0))
    with pytest.raises(CohortTooSmall, match=r"the policy allows 2\.00; spent so far 0\.00"):
        federation.run()
    assert federation.charges() == {}
    with pytest.raises(CohortTooSmall, match="allows 2"):
        federation.run(configured(dataset, simulation__lifetime_epsilon=2.0, privacy="none"))
    assert federation.charges() == {}


def test_two_runs_share_one_budget(federation: Federation, dataset: Path) -> None:
    federation.run()
    outcome = federation.run(configured(dataset, training__seed=1))
    assert all(3.0 < spent < 6.0 for spent in outcome.evaluation.lifetime.values() if spent)
    with pytest.raises(CohortTooSmall, match="would bring the records"):
        federation.run(configured(dataset, training__seed=2, privacy__epsilon=19))


def test_a_worse_model_is_registered_but_not_promoted(federation: Federation, dataset: Path) -> None:
    assert federation.run().deployment.promoted
    worse = configured(dataset, training__learning_rate=1e-6, training__seed=5, registration__min_roc_auc=0.0)
    outcome = federation.run(worse)
    assert not outcome.deployment.promoted
    assert outcome.version.version == 2
    assert outcome.deployment.version == 1
    assert "below the champion's" in outcome.verdict.reasons[0]
    outcome = federation.run(configured(dataset, registration__min_roc_auc=0.999))
    assert "below registration.min_roc_auc" in outcome.verdict.reasons[0]


def test_one_class_at_one_client_excludes_it(tmp_path: Path) -> None:
    import pandas as pd

    path = write_table(tmp_path)
    frame = pd.read_csv(path, dtype=str)
    frame.loc[frame["ward"] == "west", "died"] = "no"
    frame.to_csv(path, index=False)
    federation = Federation(tmp_path / "w", configured(path))
    outcome = federation.run()
    assert federation.excluded == {"west": "validation-failed"}
    assert "west" not in outcome.evaluation.clients


def test_a_home_that_lost_its_state_is_named(federation: Federation, monkeypatch: Any) -> None:
    import shutil

    def lose(message: Message, context: Context) -> Message:
        shutil.rmtree(federation.homes["north"] / "executions", ignore_errors=True)
        return federation.grid.app(message, context)

    federation.grid.faults[("north", "train")] = lose
    federation.run()
    assert federation.excluded["north"] == "protocol"
