"""Plans and what a ledger can afford, from declared numbers alone."""

from pathlib import Path

import pytest

from clients.planning import affordable, checks_of, evaluation_of, make_plan, training_rows, whole_run
from pipeline.language.protocol import AskedShares
from pipeline.language.settings.privacy import ClientPrivacy, RecordPrivacy
from pipeline.language.settings.training import TrainingConfig
from privacy.accounting import Release, epsilon_of
from privacy.errors import ProtocolError
from privacy.ledger import Budget, Ledger

RECORD, CLIENT = RecordPrivacy(unit="record", epsilon=2.0), ClientPrivacy(unit="client", epsilon=6.0)
TRAINING = TrainingConfig(rounds=2, local_epochs=1, expected_batch=64)


def test_declared_rows_are_divided_as_the_records_are() -> None:
    assert [training_rows(rows, holdout) for rows, holdout in ((1000, 0.2), (10, 0.25), (1, 0.9))] == [800, 8, 1]


def test_checks_cost_their_share_and_nothing_where_nothing_may_be_asked() -> None:
    (release,) = checks_of(RECORD, 0.3, 3)
    assert (release.mechanism, release.count) == ("discrete-gaussian", 5)
    assert epsilon_of([release], RECORD.delta) == pytest.approx(0.6, rel=0.01)
    assert checks_of(RECORD, 0.0, 3) == ()
    assert checks_of(CLIENT, 0.3, 3) == ()
    assert checks_of("none", 0.3, 3) == (Release("none", 0.0),)


def test_shared_noise_has_to_be_shared_by_somebody_honest() -> None:
    for shares in (None, AskedShares(noise_multiplier=5.0, cohort=2)):
        with pytest.raises(ProtocolError, match="honest cohort"):
            make_plan(CLIENT.model_copy(update={"colluders": 2}), TRAINING, 100, shares)


def test_what_stands_beside_is_paid_from_the_same_epsilon() -> None:
    beside = checks_of(RECORD, 0.3, 3)
    plan = make_plan(RECORD, TRAINING, 800, None, beside)
    evaluation, shares = evaluation_of(RECORD, TRAINING, None, beside, 1.0)
    assert shares is None
    for release in (plan.run(), evaluation):
        assert 1.98 <= epsilon_of([release, *beside], RECORD.delta) <= 2.0
        assert epsilon_of([release], RECORD.delta) < 1.99
    assert evaluation == plan.evaluation()


def test_the_largest_epsilon_that_is_left_is_found(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "l.jsonl", Budget(3.0, 1e-5))
    ledger.create()
    asked = RecordPrivacy(unit="record", epsilon=2.9)
    assert affordable(ledger, asked.model_copy(update={"epsilon": 50.0}), whole_run) == pytest.approx(3.0, abs=0.2)
    ledger.reserve("e/train/1", *whole_run(RecordPrivacy(unit="record", epsilon=2.0))[0])
    left = affordable(ledger, asked, whole_run)
    assert left is not None
    assert 1.5 < left < 2.9
    assert ledger.after(whole_run(asked.model_copy(update={"epsilon": left}))) <= 3.0
    assert ledger.after(whole_run(asked.model_copy(update={"epsilon": left + 0.2}))) > 3.0
    spent = Ledger(tmp_path / "spent.jsonl", Budget(2.0, 1e-5))
    spent.create()
    spent.reserve("e/train/1", *whole_run(RecordPrivacy(unit="record", epsilon=2.0))[0])
    assert affordable(spent, RecordPrivacy(unit="record", epsilon=2.0), whole_run) is None
