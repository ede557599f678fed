"""What an owner fixed holds, whoever asks: known clients, a declared size, encryption, units, what was withdrawn."""

import json
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from clients.execution import ExecutionState
from clients.forgetting import forget_all
from clients.home import Home
from pipeline.language.lines import Lines
from pipeline.language.protocol import SumRef
from pipeline.language.settings.privacy import RecordPrivacy
from pipeline.language.settings.statistics import StatisticsConfig
from privacy.accounting import epsilon_of
from privacy.keys import Identity
from privacy.plan import DPPlan
from tests.adversary.coordinator import Coordinator, Refused
from tests.support import configured, homes_for

CLIENT_LEVEL = {"unit": "client", "epsilon": 6.0, "delta": 1e-5, "clipping_norm": 1.0}


def invented(count: int) -> dict[str, str]:
    made = (Identity(number.to_bytes(4, "big") * 16) for number in range(1, count + 1))
    return {f"made-up-{number}": identity.public.hex() for number, identity in enumerate(made)}


def grant(liar: Coordinator, name: str, **changes: object) -> None:
    home = liar.home(name)
    Home.write_policy(home.root, home.policy.model_copy(update=changes))


# -- whom the client knows ----------------------------------------------------------------------------------------
def test_invented_clients_are_no_cohort(liar: Coordinator) -> None:
    """Five names that nobody knows would hide east among themselves, that is, not at all."""
    roster = {"east": liar.keys["east"].hex(), **invented(5)}
    with pytest.raises(Refused, match="client-unknown: its owner has not compared the fingerprint of made-up-0"):
        liar.offer(liar.keys_request("e1", ["east"], roster=roster, leader="east"))
    home = liar.home("east")
    assert not home.execution_folder("e1").exists(), "nothing was begun"
    assert "made-up-0" not in home.known_clients.entries(), "who only asks leaves nothing behind"
    assert "made-up-0" in (home.root / "client.log").read_text(), "its owner can see who was offered"
    assert any(alert.code == "client-unknown" for alert in home.alerts.every())


def test_invented_clients_make_no_noise(dataset: Path, tmp_path: Path) -> None:
    """2,000 names divide the noise of a sum by 2,000: the ledger said 4.65 where the truth was 1,310."""
    config = configured(dataset, privacy=CLIENT_LEVEL, training__rounds=2, simulation__lifetime_epsilon=8.0)
    liar = Coordinator(homes_for(config, tmp_path / "clients"), config)
    liar.prepare()
    grant(liar, "east", known_clients_only=False)
    made_up = invented(400)
    roster = {name: keys.hex() for name, keys in liar.keys.items()} | made_up
    request = liar.keys_request("e1", sorted(liar.homes), roster=roster, leader="east")
    liar.give("east", request, liar.offer(request))
    many = liar.config.model_copy(
        update={"federation": liar.config.federation.model_copy(update={"min_cohort": len(roster)})}
    )
    greedy = Coordinator(liar.homes, many)
    greedy.features = liar.features
    with pytest.raises(Refused, match="cohort-too-small: the noise is divided among 405 honest clients"):
        greedy.train("e1", "east", sorted(roster))
    assert not [row for row in liar.home("east").ledger.rows() if row.kind == "reserve"]


def test_a_name_is_pinned_only_after_the_leader_has_signed(liar: Coordinator) -> None:
    grant(liar, "east", known_clients_only=False)
    roster = {name: keys.hex() for name, keys in liar.keys.items()} | invented(1)
    request = liar.keys_request("e1", sorted(liar.homes), roster=roster, leader="west")
    forged = {"signature": bytes(64), "key": bytes(16), "wrapped-east": bytes(80)}
    with pytest.raises(Refused, match="not signed by its leader"):
        liar.give("east", request, forged)
    assert "made-up-0" not in liar.home("east").known_clients.entries()


# -- the number of rows -------------------------------------------------------------------------------------------
def test_a_plan_comes_from_what_is_declared(liar: Coordinator) -> None:
    names = sorted(liar.homes)
    liar.group("e1", "train", names)
    declared = liar.home("east").policy.rows
    source = liar.home("east").policy.source.path
    pd.concat([pd.read_parquet(source)] * 7).to_parquet(source)
    liar.prepare("east")
    liar.train("e1", "east", names)
    plan = json.loads((liar.home("east").execution_folder("e1") / "plan.json").read_text())["plan"]
    assert plan["examples"] == round(declared * 0.8)
    ledger = liar.home("east").ledger.path.read_text()
    assert str(7 * declared) not in ledger


def test_every_digest_that_leaves_is_keyed(liar: Coordinator) -> None:
    """A bare hash of the ledger's last row gave the number of rows after 717,113 guesses."""
    names = sorted(liar.homes)
    liar.validate("east")
    liar.group("e1", "train", names)
    request = liar.train_request("e1", "east", names)
    liar.ask("east", *_train(liar, request))
    home = liar.home("east")
    heads = [json.loads(line)["hash"] for line in home.ledger.path.read_text().splitlines()]
    said = "".join(str(dict(reply.content.config_records["message"])) for _, reply in liar.grid.replies)
    assert home.published_head in said
    assert not any(head in said or head[:32] in said for head in heads)


def _train(liar: Coordinator, request: object) -> tuple[object, ...]:
    from pipeline.language.protocol import Action, TrainReply

    return Action.TRAIN, request, TrainReply, {"initial": liar.initial}


# -- encryption, units, epsilon a run -----------------------------------------------------------------------------
@pytest.mark.parametrize("choice", [{"scheme": "none", "masks": False}, {"scheme": "none"}, {"masks": False}])
def test_encryption_and_masks_are_the_owner_s(liar: Coordinator, choice: dict[str, object]) -> None:
    with pytest.raises(Refused, match="plan-invalid: this client's policy demands"):
        liar.group("e1", "train", sorted(liar.homes), **choice)


def test_what_was_agreed_before_the_owner_changed_his_mind_is_refused_too(liar: Coordinator) -> None:
    names = sorted(liar.homes)
    for name in names:
        grant(liar, name, require_encryption=False, require_masks=False)
    liar.group("e1", "train", names, scheme="none", masks=False)
    liar.group("e2", "evaluate", names, scheme="none", masks=False)
    grant(liar, "east", require_encryption=True)
    with pytest.raises(Refused, match="demands encrypted sums"):
        liar.train("e1", "east", names)
    with pytest.raises(Refused, match="demands encrypted sums"):
        liar.evaluate("e2", "east", names)
    assert not [row for row in liar.home("east").ledger.rows() if row.kind == "reserve"]


def test_units_and_the_epsilon_of_a_run_are_the_owner_s(liar: Coordinator) -> None:
    names = sorted(liar.homes)
    grant(liar, "east", run_epsilon=2.0, units=("client",))
    liar.group("e1", "train", names)
    liar.group("e2", "evaluate", names)
    asked = (
        lambda **told: liar.validate("east", **told),
        lambda **told: liar.train("e1", "east", names, **told),
        lambda **told: liar.evaluate("e2", "east", names, **told),
    )
    for ask in asked:
        with pytest.raises(Refused, match="action-forbidden: this client's policy does not allow privacy record"):
            ask()
    grant(liar, "east", run_epsilon=2.0, units=("record",))
    for ask in asked:
        with pytest.raises(Refused, match="a run of epsilon 3; this client's policy allows a run 2"):
            ask()
        with pytest.raises(Refused, match="does not allow privacy none"):
            ask(privacy="none")
        with pytest.raises(Refused, match=r"delta 0\.9; this client's policy states its epsilon at 1e-05"):
            ask(privacy=RecordPrivacy(unit="record", epsilon=1.0, delta=0.9))
    assert not [row for row in liar.home("east").ledger.rows() if row.kind == "reserve"]


# -- what was withdrawn -------------------------------------------------------------------------------------------
def test_who_left_the_source_is_not_trained_on(liar: Coordinator) -> None:
    """Yesterday's digest, named again after rows were withdrawn: at once, after the next snapshot, and for a check."""
    names = sorted(liar.homes)
    liar.group("e1", "train", names)
    liar.group("e2", "evaluate", names)
    source = liar.home("east").policy.source.path
    pd.read_parquet(source).iloc[40:].to_parquet(source)
    asked = (
        lambda: liar.train("e1", "east", names),
        lambda: liar.evaluate("e2", "east", names),
        lambda: liar.validate("east"),
    )
    for ask in asked:
        with pytest.raises(Refused, match="source-changed"):
            ask()
    yesterday = (dict(liar.features), dict(liar.snapshots))
    liar.prepare("east")
    assert len(list((liar.home("east").root / "snapshots").iterdir())) == 1, "the old one is gone from the disk"
    now, (liar.features, liar.snapshots) = (liar.features, liar.snapshots), yesterday
    for ask in asked:
        with pytest.raises(Refused, match="source-changed"):
            ask()
    liar.features, liar.snapshots = now
    liar.train("e1", "east", names)


def test_a_source_that_was_only_touched_is_the_same(liar: Coordinator) -> None:
    names = sorted(liar.homes)
    liar.group("e1", "train", names)
    liar.home("east").policy.source.path.touch()
    liar.train("e1", "east", names)


def test_an_owner_who_forgets_keeps_nothing_but_the_ledger(generous: Coordinator) -> None:
    names = sorted(generous.homes)
    terms = generous.group("e1", "train", names)
    total = generous.trained("e1", terms, names)
    digest = generous.reveal("east", "e1", "model", [total])[0].digest
    home = generous.home("east")
    spent = home.ledger.spent()
    snapshots, made = forget_all(home, unfinished=False)
    assert snapshots == 1
    assert [(one.execution, one.digest) for one in made] == [("e1", digest)]
    assert not list(home.root.glob("snapshots/*"))
    assert generous.home("east").ledger.spent() == spent
    with pytest.raises(Refused, match="source-changed: this client does not have that"):
        generous.train("e1", "east", names)


# -- probes -------------------------------------------------------------------------------------------------------
def test_who_only_probes_leaves_nothing_behind(liar: Coordinator) -> None:
    """A plan that was fixed by a refused request would hold the honest one to it."""
    names = sorted(liar.homes)
    liar.group("e1", "train", names)
    before = sorted(path.name for path in liar.home("east").execution_folder("e1").iterdir())
    for probe in (
        {"round": 99},
        {"attempt": {"generation": 1, "cohort": ("east", "west")}},
        {"attempt": {"generation": 7, "cohort": names}},
        {"attempt": {"generation": 1, "cohort": names[1:]}} if names[0] == "east" else {"round": 100},
        {"privacy": RecordPrivacy(unit="record", epsilon=19.9, delta=0.5)},
    ):
        with pytest.raises(Refused):
            liar.train("e1", "east", names, **probe)
    assert sorted(path.name for path in liar.home("east").execution_folder("e1").iterdir()) == before
    assert not [row for row in liar.home("east").ledger.rows() if row.kind == "reserve"]
    liar.train("e1", "east", names)


def test_settings_stay_what_they_were_in_the_first_round(liar: Coordinator) -> None:
    names = sorted(liar.homes)
    liar.group("e1", "train", names)
    liar.train("e1", "east", names)
    training = liar.config.training.model_copy(update={"learning_rate": 9.0})
    with pytest.raises(Refused, match="other settings than in the first round"):
        liar.train("e1", "east", names, round=2, training=training)


def test_the_ledger_is_charged_for_what_the_plan_does(generous: Coordinator) -> None:
    """Checks, all rounds and the evaluation together cost each record the epsilon of the run, and no more."""
    names = sorted(generous.homes)
    generous.validate("east")
    terms = generous.group("e1", "train", names)
    sums: list[tuple[SumRef, bytes]] = []
    for number in range(1, generous.config.training.rounds + 1):
        sums.append(generous.trained("e1", terms, names, number, sums))
    generous.evaluated("g1", generous.group("g1", "evaluate", names), names)
    home = generous.home("east")
    privacy = generous.config.privacy
    assert privacy != "none"
    assert 0.98 * privacy.epsilon <= home.ledger.spent() <= privacy.epsilon
    state = ExecutionState(home, "e1")
    assert 0.98 * privacy.epsilon <= state.spent() <= privacy.epsilon
    fixed = json.loads((state.folder / "plan.json").read_text())["plan"]
    plan = DPPlan(**fixed)
    assert epsilon_of([plan.run()], privacy.delta) < privacy.epsilon, "it leaves room for the checks"


# -- the lines of the budget ----------------------------------------------------------------------------------------
def test_lines_that_say_less_than_is_asked_are_refused(liar: Coordinator) -> None:
    """Each is a way to be charged less than what leaves."""
    names = sorted(liar.homes)
    checks, training, evaluation = Lines.of(liar.config).lines
    liar.group("e1", "train", names)
    liar.group("g1", "evaluate", names)
    for told in (
        (checks, replace(training, rounds=1), evaluation),
        (checks, replace(training, batch=1), evaluation),
        (checks, replace(training, reads="held-out"), evaluation),
        (checks, evaluation),
        (checks, training, replace(training, purpose="tuning"), evaluation),
        (checks, training, training),
        (replace(checks, share=0.9), replace(checks, purpose="more", share=0.9), training),
    ):
        with pytest.raises(Refused, match=r"not what the budget|all that is left|one purpose|nothing is left"):
            liar.train("e1", "east", names, lines=told)
    for told in (
        (checks, training),
        (checks, replace(evaluation, norm=0.01)),
        (replace(evaluation, reads="everyone"),),
    ):
        with pytest.raises(Refused, match="not what the budget"):
            liar.evaluate("g1", "east", names, lines=told)
    for told in ((replace(checks, touched=1), training), (replace(checks, share=0.01), training), (training,)):
        with pytest.raises(Refused, match="not what the budget"):
            liar.validate("east", lines=told)
    assert not [row for row in liar.home("east").ledger.rows() if row.kind == "reserve"]


def test_lines_that_are_left_out_are_charged_when_they_are_asked(generous: Coordinator) -> None:
    """A run that hides its checks from its training has more than its epsilon in the ledger, as it has spent more."""
    names = sorted(generous.homes)
    checks, training, _ = Lines.of(generous.config).lines
    generous.validate("east")
    before = generous.home("east").ledger.spent()
    terms = generous.group("e1", "train", names)
    sums: list[tuple[SumRef, bytes]] = []
    for number in range(1, generous.config.training.rounds + 1):
        sums.append(generous.trained("e1", terms, names, number, sums, lines=(training,)))
    privacy = generous.config.privacy
    assert privacy != "none"
    assert checks.share is not None
    assert before == pytest.approx(checks.share * privacy.epsilon, rel=0.02)
    assert generous.home("east").ledger.spent() > privacy.epsilon * 1.02


def test_statistics_are_the_contract_s_and_paid_for(dataset: Path, tmp_path: Path) -> None:
    """Not for another share, not of more bins than were priced otherwise, not twice, not of what an owner forbids."""
    config = configured(dataset, statistics__epsilon_share=0.3)
    liar = Coordinator(homes_for(config, tmp_path / "clients"), config)
    liar.prepare()
    names = sorted(liar.homes)
    liar.group("s1", "statistics", names)
    checks, paid, training, evaluation = Lines.of(config).lines
    for changes, told in (
        ({"lines": (checks, training, evaluation)}, "not what the budget"),
        ({"lines": (replace(paid, norm=1e-6), training)}, "not what the budget"),
        ({"lines": (replace(paid, reads="held-out"), training)}, "not what the budget"),
        ({"statistics": StatisticsConfig(epsilon_share=0.1)}, "not what the budget"),
        ({"statistics": StatisticsConfig()}, "does not pay for"),
    ):
        with pytest.raises(Refused, match=told):
            liar.statistics("s1", "east", names, **changes)
    assert not [row for row in liar.home("east").ledger.rows() if row.kind == "reserve"]
    liar.statistics("s1", "east", names)
    liar.statistics("s1", "east", names)  # the same vector, sealed again
    with pytest.raises(Refused, match="charged and then interrupted"):
        liar.statistics("s1", "east", names, statistics=StatisticsConfig(epsilon_share=0.3, bins=8))
    grant(liar, "west", forbidden_columns=("age",))
    with pytest.raises(Refused, match="column age may not be used"):
        liar.statistics("s1", "west", names)
    assert [row.id for row in liar.home("east").ledger.rows() if row.kind == "reserve"] == ["s1/statistics/1"]
