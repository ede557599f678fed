"""Lines of a budget, from a configuration: what each stage depends on of them, and what is told."""

from pathlib import Path
from typing import Any

import pytest

from pipeline.language.lines import Lines
from pipeline.lifecycle import lifecycle_dag
from privacy.budget import check
from tests.support import configured

PAID = {"statistics__epsilon_share": 0.3}
CLIENT = {"unit": "client", "epsilon": 6.0}


def lines(**changes: Any) -> Lines:
    return Lines.of(configured(Path("stays.csv"), **changes))


@pytest.mark.parametrize(
    "changes", [{}, {"privacy": "none"}, {"privacy": CLIENT}, {"validation__epsilon_share": 0.0}, PAID]
)
def test_every_stage_that_charges_has_a_line(changes: dict[str, Any]) -> None:
    made = lines(**changes)
    check(made.lines)
    purposes = [line.purpose for line in made.lines]
    order = lifecycle_dag().order
    assert sorted(purposes, key=order.index) == purposes, "in the order in which they spend"
    idle = set() if changes.get("statistics__epsilon_share") else {"statistics"}
    assert {name for name, stage in lifecycle_dag().stages.items() if stage.charges} - idle <= {*purposes}
    assert set(made.prices(configured(Path("stays.csv"), **changes).privacy)) == {*purposes}


def test_a_stage_depends_on_the_lines_that_move_its_own_noise() -> None:
    made, slow = lines(), lines(training__rounds=9)
    assert [line.purpose for line in made.narrowed("training").lines] == ["validation", "training"]
    assert [line.purpose for line in made.narrowed("evaluation").lines] == ["validation", "evaluation"]
    assert [line.purpose for line in made.narrowed("validation").lines] == ["validation"]
    assert made.narrowed("registration") == made
    assert made.narrowed("validation") == slow.narrowed("validation")
    assert made.narrowed("evaluation") == slow.narrowed("evaluation")
    assert made.narrowed("training") != slow.narrowed("training")
    clients = lines(privacy=CLIENT)
    assert clients.narrowed("evaluation") == clients, "all of them share one noise"


def test_what_is_charged_is_told() -> None:
    record = lines().prices(configured(Path("stays.csv")).privacy)
    assert record["validation"].endswith("alone, within that of training and evaluation")
    assert record["training"].endswith("with validation, training rows")
    assert record["evaluation"].endswith("with validation, held-out rows (disjoint)")
    client = lines(privacy=CLIENT).prices(configured(Path("stays.csv"), privacy=CLIENT).privacy)
    assert client["evaluation"] == "one round more, in training's epsilon"
    assert client["training"].endswith("every client, with evaluation")
    assert set(lines(privacy="none").prices("none").values()) == {"NOT PRIVATE"}
