"""Plans and what a ledger can afford, from declared numbers alone."""

from pathlib import Path

import pytest

from pipeline.language.lines import Lines, training_line, validation_line
from pipeline.language.noise import SumTerms
from pipeline.language.protocol import AskedShares
from pipeline.language.settings.privacy import ClientPrivacy, Privacy, RecordPrivacy
from pipeline.language.spending import Spending, training_rows
from privacy.accounting import Release, calibrate, epsilon_of
from privacy.budget import Line
from privacy.errors import BudgetExhausted, ProtocolError
from privacy.ledger import Budget, Ledger
from privacy.population import EVERYONE, Population
from tests.support import configured

RECORD, CLIENT = RecordPrivacy(unit="record", epsilon=2.0), ClientPrivacy(unit="client", epsilon=6.0)
CONFIG = configured(Path("stays.csv"), training__rounds=2)


def spending(privacy: Privacy, shares: AskedShares | None = None) -> Spending:
    config = CONFIG.model_copy(update={"privacy": privacy})
    lines = Lines.of(config).lines
    if shares is None and privacy == CLIENT:
        shares = SumTerms.of(privacy, lines, config.encryption, 5).shares
    return Spending(privacy, lines, 800, shares)


def test_declared_rows_are_divided_as_the_records_are() -> None:
    assert [training_rows(rows, holdout) for rows, holdout in ((1000, 0.2), (10, 0.25), (1, 0.9))] == [800, 8, 1]


def test_checks_cost_their_share_and_nothing_where_nothing_may_be_asked() -> None:
    def checks(privacy: Privacy, share: float) -> Line | None:
        return validation_line(privacy, CONFIG.data, share)

    touched = len(CONFIG.data.columns) + 2
    assert checks(RECORD, 0.3) == Line("validation", "everyone", share=0.3, touched=touched)
    assert checks(RECORD, 0.0) is None
    assert checks(CLIENT, 0.3) is None
    release = spending(RECORD).release("validation")
    assert (release.mechanism, release.count) == ("discrete-gaussian", touched)
    assert epsilon_of([release], RECORD.delta) == pytest.approx(0.6, rel=0.01)
    assert spending("none").release("validation").mechanism == "none"


def test_shared_noise_has_to_be_shared_by_somebody_honest() -> None:
    for shares in (None, AskedShares(noise_multiplier=5.0, cohort=2)):
        with pytest.raises(ProtocolError, match="honest cohort"):
            spending(CLIENT.model_copy(update={"colluders": 2}), shares).plan(CONFIG.training, CONFIG.model)


def test_what_stands_beside_is_paid_from_the_same_epsilon() -> None:
    made = spending(RECORD)
    checks = made.beside("training")
    assert checks == made.beside("evaluation") == (made.release("validation"),)
    plan = made.plan(CONFIG.training, CONFIG.model)
    assert plan.run() == made.release("training")
    for release in (plan.run(), made.release("evaluation")):
        assert 1.98 <= epsilon_of([release, *checks], RECORD.delta) <= 2.0
        assert epsilon_of([release], RECORD.delta) < 1.99


def test_what_is_asked_is_what_the_budget_says() -> None:
    made = spending(RECORD)
    made.demand(training_line(RECORD, CONFIG.training, CONFIG.model))
    made.demand(None)
    more = CONFIG.training.model_copy(update={"rounds": CONFIG.training.rounds + 1})
    for asked in (training_line(RECORD, more, CONFIG.model), training_line(CLIENT, CONFIG.training, CONFIG.model)):
        with pytest.raises(ProtocolError, match="not what the budget of the run says"):
            made.demand(asked)


def test_the_rest_of_a_run_is_charged_from_where_it_stands() -> None:
    made = spending(RECORD)
    whole = made.charges(0.2, "b")
    assert [charge.population for charge in whole] == [
        EVERYONE,
        Population(0.2, 1.0, "b"),
        Population(0.0, 0.2, "b"),
    ]
    assert made.charges(0.2, "b", since="training") == whole[1:]


@pytest.mark.parametrize("privacy", [RECORD, CLIENT])
def test_the_largest_epsilon_that_is_left_is_found(tmp_path: Path, privacy: Privacy) -> None:
    assert privacy != "none"
    ledger = Ledger(tmp_path / "l.jsonl", Budget(3.0, 1e-5))
    ledger.create()
    spending(privacy).at(2.9).afford(ledger, 0.2, "b")
    for charge in spending(privacy).at(2.0).charges(0.2, "b"):
        ledger.reserve(f"e/{charge.population.low}/{charge.releases[0].count}", *charge)
    wanted = spending(privacy).at(2.9)
    with pytest.raises(BudgetExhausted) as caught:
        wanted.afford(ledger, 0.2, "b")
    left = float((caught.value.remedy or "").split("to ")[1].split(",")[0])
    assert 1.5 < left < 2.9
    assert ledger.after(wanted.at(left).charges(0.2, "b")) <= 3.0
    assert ledger.after(wanted.at(left + 0.2).charges(0.2, "b")) > 3.0
    spent = Ledger(tmp_path / "spent.jsonl", Budget(2.0, 1e-5))
    spent.create()
    spent.reserve("e/train/1", [Release("gaussian", calibrate(2.0, 1e-5, 1.0, 1))], EVERYONE)
    with pytest.raises(BudgetExhausted) as caught:
        wanted.afford(spent, 0.2, "b")
    assert "epsilon to" not in (caught.value.remedy or ""), "nothing would do"
