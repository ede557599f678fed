"""Why clients have no answer: once, and under the name of what it is."""

from pathlib import Path

import pytest

from pipeline.federation.failures import Failure, told
from privacy.errors import BudgetExhausted, ConfigError
from simulations.homes import prepare_homes
from tests.support import Federation, configured, homes_for


def test_what_several_say_alike_is_said_once() -> None:
    spent = [Failure(name, "budget-exhausted", f"the records of {name} would reach 8") for name in ("east", "west")]
    gone = Failure("north", "no-answer", "no answer in 60 s")
    assert told([*spent, gone]) == (
        "east, west (each alike; east: the records of east would reach 8), north (no answer in 60 s)"
    )
    many = [Failure(f"c{number}", "no-answer", "no answer in 60 s") for number in range(400)]
    assert told(many) == "c0, c1, c2, c3, c4, c5, c6, c7 and 392 more (each alike; no answer in 60 s)"
    assert told([]) == ""


@pytest.mark.whole
def test_a_budget_that_nobody_has_is_no_small_cohort(tmp_path: Path, dataset: Path) -> None:
    federation = Federation(tmp_path, configured(dataset, simulation__lifetime_epsilon=1.0))
    with pytest.raises(BudgetExhausted, match=r"0 of 6 clients answered, .* \(each alike; centre: this would bring"):
        federation.run()
    assert federation.charges() == {}


@pytest.mark.parametrize("setting", ["min_cohort", "expected_clients"])
def test_clients_that_a_simulation_does_not_have_are_not_waited_for(
    tmp_path: Path, dataset: Path, setting: str
) -> None:
    homes_for(configured(dataset), tmp_path)
    with pytest.raises(ConfigError, match=f"federation.{setting} is 9, and the data set is divided among 6 clients"):
        prepare_homes(configured(dataset, **{f"federation__{setting}": 9}), tmp_path)
