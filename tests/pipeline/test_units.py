"""Client-level privacy, FedProx and personal layers through the whole lifecycle; and ledgers that went back in time."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Context, Message

from clients.home import Home
from pipeline.language.config import Config
from pipeline.language.packing import pack, unpack
from pipeline.language.protocol import TrainRequest
from privacy.accounting import epsilon_of
from privacy.errors import BudgetExhausted, CohortTooSmall
from privacy.population import EVERYONE
from tests.support import Federation, configured, fails

pytestmark = pytest.mark.whole

CLIENT_LEVEL = {"unit": "client", "epsilon": 6.0, "delta": 1e-5, "clipping_norm": 1.0}


def private(dataset: Path, **changes: Any) -> Config:
    return configured(dataset, privacy=CLIENT_LEVEL, training__rounds=2, **changes)


def test_client_level_privacy_charges_rounds_and_evaluation_together(tmp_path: Path, dataset: Path) -> None:
    federation = Federation(tmp_path, private(dataset))
    outcome = federation.run()
    assert federation.charges() == {"train": 2, "evaluate": 1}
    rows = [row for row in Home(federation.homes["east"]).ledger.rows() if row.kind == "reserve"]
    assert all(row.population == EVERYONE for row in rows), "a client is one: its splits are not disjoint"
    releases = [release for row in rows for release in row.releases]
    assert all((release.unit, release.sampling_rate) == ("client", 1.0) for release in releases)
    assert 5.9 <= epsilon_of(releases, 1e-5) <= 6.0
    assert all(5.9 <= spent <= 6.0 for spent in outcome.evaluation.lifetime.values() if spent)
    assert "every client: epsilon 6" in outcome.version.privacy.text
    assert outcome.version.privacy.adjacency == "all of one client's data against none (zero-out)"
    assert outcome.evaluation.errors["roc_auc"] > 0.05, "six clients are too few, and the report says so"


def test_with_enough_budget_a_client_level_model_learns(tmp_path: Path, dataset: Path) -> None:
    """What six clients can afford is noise; at an epsilon that nobody should choose the path has to train a model."""
    generous = {**CLIENT_LEVEL, "epsilon": 1000.0, "clipping_norm": 2.0}
    changes: dict[str, Any] = {"simulation__lifetime_epsilon": float("inf"), "training__local_epochs": 5}
    outcome = Federation(tmp_path, configured(dataset, privacy=generous, **changes)).run()
    assert outcome.evaluation.metrics["roc_auc"] > 0.65
    assert outcome.evaluation.errors["roc_auc"] < 0.05


def test_below_the_cohort_the_noise_was_divided_among_nobody_takes_part(tmp_path: Path, dataset: Path) -> None:
    """The coordinator may hold its own minimum lower than it told the clients; they count for themselves."""
    federation = Federation(tmp_path, private(dataset))

    def told_six(message: Message, context: Context) -> Message:
        request, blobs = unpack(TrainRequest, message.content)
        assert request.shares
        changed = request.model_copy(update={"shares": request.shares.model_copy(update={"cohort": 6})})
        again = Message(pack(changed, blobs), message.metadata.dst_node_id, message.metadata.message_type)
        again.metadata.__dict__["_message_id"] = "m"
        return federation.grid.app(again, context)

    for name in federation.homes:
        federation.grid.faults[(name, "train")] = told_six
    federation.grid.faults[("north", "query.keys")] = fails()
    with pytest.raises(CohortTooSmall, match="the noise was divided among 6"):
        federation.run()
    assert federation.charges() == {}


def test_a_client_told_of_less_noise_spoils_the_sum_and_nothing_opens(tmp_path: Path, dataset: Path) -> None:
    """Two rounds are lost to it, then the others go on without."""
    federation = Federation(tmp_path, configured(dataset, privacy=CLIENT_LEVEL, training__rounds=3))

    def told_less(message: Message, context: Context) -> Message:
        request, blobs = unpack(TrainRequest, message.content)
        assert request.shares
        assert request.privacy != "none"
        changed = request.model_copy(
            update={
                "shares": request.shares.model_copy(update={"noise_multiplier": request.shares.noise_multiplier * 0.6}),
                "privacy": request.privacy.model_copy(update={"epsilon": 19.0}),
                "encryption": request.encryption.model_copy(update={"bound": 100.0}),
            }
        )
        again = Message(pack(changed, blobs), message.metadata.dst_node_id, message.metadata.message_type)
        again.metadata.__dict__["_message_id"] = "m"
        return federation.grid.app(again, context)

    federation.grid.faults[("north", "train")] = told_less
    outcome = federation.run()
    assert federation.excluded["north"] == "upload-rejected", "it signed other terms than were announced"
    assert [len(clients) for clients in outcome.model.rounds.values()] == [0, 0, 5]
    assert federation.charges("east")["train"] == 3


def test_a_client_that_vanishes_costs_the_round_because_nothing_is_sealed_twice(tmp_path: Path, dataset: Path) -> None:
    """Two sums over cohorts that differ by one client would tell its update with one share of noise."""
    federation = Federation(tmp_path, private(dataset))
    calls: list[int] = []

    def silent_once(message: Message, context: Context) -> Message | None:
        calls.append(1)
        return None if len(calls) == 1 else federation.grid.app(message, context)

    federation.grid.faults[("north", "train")] = silent_once
    outcome = federation.run()
    assert [len(clients) for clients in outcome.model.rounds.values()] == [0, 6]
    assert federation.charges("east")["train"] == 2


def test_a_plan_is_held_to_whatever_a_later_request_says(tmp_path: Path, dataset: Path) -> None:
    """The second round without shares: the client refuses it, and what it spent stays as it was."""
    federation = Federation(tmp_path, private(dataset))
    rounds: list[int] = []

    def weakened(message: Message, context: Context) -> Message:
        request, blobs = unpack(TrainRequest, message.content)
        rounds.append(request.round)
        if request.round == 2:
            changed = request.model_copy(update={"shares": None})
            message = Message(pack(changed, blobs), message.metadata.dst_node_id, message.metadata.message_type)
            message.metadata.__dict__["_message_id"] = "m"
        return federation.grid.app(message, context)

    federation.grid.faults[("north", "train")] = weakened
    federation.run()
    releases = [row.releases[0] for row in Home(federation.homes["north"]).ledger.rows() if row.kind == "reserve"]
    assert federation.excluded["north"] == "protocol"
    assert [release.unit for release in releases] == ["client"] * 2
    assert len({release.noise_multiplier for release in releases}) == 1


def test_noise_that_costs_more_than_was_promised_is_refused(tmp_path: Path, dataset: Path) -> None:
    federation = Federation(tmp_path, private(dataset))

    def too_little(message: Message, context: Context) -> Message:
        request, blobs = unpack(TrainRequest, message.content)
        assert request.shares
        less = request.shares.model_copy(update={"noise_multiplier": request.shares.noise_multiplier / 2})
        again = Message(
            pack(request.model_copy(update={"shares": less}), blobs),
            message.metadata.dst_node_id,
            message.metadata.message_type,
        )
        again.metadata.__dict__["_message_id"] = "m"
        return federation.grid.app(again, context)

    for name in federation.homes:
        federation.grid.faults[(name, "train")] = too_little
    with pytest.raises(CohortTooSmall, match="costs more than epsilon 6"):
        federation.run()
    assert federation.charges() == {}


@pytest.mark.parametrize("unit", ["record", "client"])
def test_fedprox_and_personal_layers_work_with_both_units(tmp_path: Path, dataset: Path, unit: str) -> None:
    changes: dict[str, Any] = {"training__proximal": 0.5, "model__personal_layers": 1, "training__rounds": 2}
    if unit == "client":
        changes["privacy"] = CLIENT_LEVEL
    federation = Federation(tmp_path, configured(dataset, **changes))
    outcome = federation.run()
    assert outcome.model.unconfirmed == ()
    assert set(outcome.model.rounds) == {1, 2}
    own = [np.frombuffer(_personal(home), dtype="<f4") for home in federation.homes.values()]
    assert {len(weights) for weights in own} == {8 + 1}
    assert all(not np.allclose(own[0], other) for other in own[1:]), "each client keeps its own"
    assert outcome.evaluation.clients


def test_personal_layers_go_on_from_where_the_client_left_them(tmp_path: Path, dataset: Path) -> None:
    changes: dict[str, Any] = {"training__learning_rate": 1e-6, "model__personal_layers": 1, "training__rounds": 2}
    federation = Federation(tmp_path, configured(dataset, **changes))
    rounds: list[int] = []

    def mark(message: Message, context: Context) -> Message:
        rounds.append(1)
        if len(rounds) == 2:
            (path,) = federation.homes["north"].glob("executions/*/personal.f4")
            path.write_bytes(np.full(9, 0.25, dtype="<f4").tobytes())
        return federation.grid.app(message, context)

    federation.grid.faults[("north", "train")] = mark
    federation.run()
    assert np.allclose(np.frombuffer(_personal(federation.homes["north"]), dtype="<f4"), 0.25, atol=1e-3)


def test_a_client_level_run_is_affordable_with_its_evaluation_or_not_at_all(tmp_path: Path, dataset: Path) -> None:
    federation = Federation(tmp_path, private(dataset, simulation__lifetime_epsilon=5.9))
    with pytest.raises(BudgetExhausted, match=r"the policy allows 5\.90"):
        federation.run()
    assert federation.charges() == {}


def _personal(home: Path) -> bytes:
    (path,) = home.glob("executions/*/personal.f4")
    return path.read_bytes()


def test_a_ledger_restored_with_its_head_is_noticed_by_who_saw_it(federation: Federation, dataset: Path) -> None:
    """Both files together are sound in themselves: only the head that was published before gives it away."""
    ledgers = federation.homes["north"] / "ledgers"
    shutil.copytree(ledgers, federation.homes["north"] / "backup")
    federation.run()
    shutil.rmtree(ledgers)
    shutil.copytree(federation.homes["north"] / "backup", ledgers)
    outcome = federation.run(configured(dataset, training__seed=1))
    assert federation.excluded == {"north": "ledger-rolled-back"}
    assert "north" not in outcome.evaluation.clients
    assert federation.charges("north") == {}, "nothing was charged to a ledger nobody believes"
    assert federation.charges("east") == {"validate": 1, "train": 6, "evaluate": 2}


def test_a_budget_that_is_too_small_names_an_epsilon_that_would_do(federation: Federation, dataset: Path) -> None:
    federation.run()
    with pytest.raises(BudgetExhausted, match=r"Lower privacy\.epsilon to (1[5-9]\.?\d?)") as caught:
        federation.run(configured(dataset, training__seed=1, privacy__epsilon=19.5))
    epsilon = float(str(caught.value).split("privacy.epsilon to ")[1].split(",")[0])
    federation.run(configured(dataset, training__seed=1, privacy__epsilon=epsilon))
