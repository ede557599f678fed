"""Who could pay for a run is asked before anything is spent."""

from pathlib import Path

import pytest

from clients.home import Home
from pipeline.engine.progress import BudgetAsked
from pipeline.lifecycle import BUDGET, Part
from privacy.errors import BudgetExhausted
from tests.support import Federation, configured


def asked(federation: Federation) -> dict[str, str]:
    """Why each client could not, by name. Asking leaves no trace."""
    before = {name: len(Home(home).ledger.rows()) for name, home in federation.homes.items()}
    try:
        assert federation.work(Part(until=BUDGET)) is None
    finally:
        assert before == {name: len(Home(home).ledger.rows()) for name, home in federation.homes.items()}
        assert not federation.executed
    return {event.client: event.cause for event in federation.events if isinstance(event, BudgetAsked)}


def change(federation: Federation, name: str, **policy: float) -> None:
    home = Home(federation.homes[name])
    Home.write_policy(home.root, home.policy.model_copy(update=policy))


def test_all_can_until_their_budgets_are_spent(tmp_path: Path, dataset: Path) -> None:
    federation = Federation(tmp_path, configured(dataset, simulation__lifetime_epsilon=4.0))
    assert set(asked(federation).values()) == {""}
    federation.run()
    with pytest.raises(BudgetExhausted, match=r"0 of 6 clients could pay for this run, at least 4 must. centre: "):
        asked(federation)
    told = {event.client: event.cause for event in federation.events if isinstance(event, BudgetAsked)}
    assert len(told) == 6
    assert all("4" in why for why in told.values())


def test_it_goes_on_while_enough_can(federation: Federation) -> None:
    change(federation, "east", run_epsilon=1.0)
    change(federation, "north", lifetime_epsilon=0.5)
    told = asked(federation)
    assert [name for name, why in told.items() if why] == ["east", "north"]
    change(federation, "south", lifetime_epsilon=0.5)
    with pytest.raises(BudgetExhausted, match="3 of 6 clients could pay"):
        asked(federation)


def test_a_source_that_changed_is_seen_by_its_digest(federation: Federation) -> None:
    def sources() -> dict[str, str]:
        asked(federation)
        return {event.client: event.source for event in federation.events if isinstance(event, BudgetAsked)}

    before = sources()
    assert sources() == before
    source = Home(federation.homes["east"]).policy.source
    import pandas as pd

    path = Path(source.files[0])
    pd.read_parquet(path).iloc[:-1].to_parquet(path)
    after = sources()
    assert [name for name in after if after[name] != before[name]] == ["east"]


@pytest.mark.parametrize("unit", ["client", "none"])
def test_every_unit_has_a_price(tmp_path: Path, dataset: Path, unit: str) -> None:
    privacy = "none" if unit == "none" else {"unit": "client", "epsilon": 3.0, "delta": 1e-5, "colluders": 1}
    federation = Federation(
        tmp_path, configured(dataset, privacy=privacy, simulation__lifetime_epsilon=20.0, federation__min_cohort=4)
    )
    if unit == "none":
        with pytest.raises(BudgetExhausted, match="does not allow privacy none"):
            asked(federation)
    else:
        assert set(asked(federation).values()) == {""}
