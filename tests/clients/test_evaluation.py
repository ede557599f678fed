"""The evaluation's counts: noisy as charged, in every cell, and of one record one cell. The twin of the conformance
suite for this question: with the noise deleted it fails."""

from pathlib import Path

import numpy as np
import pytest

from clients.asking import ONE_CLIENT, of_one_client
from clients.execution import ExecutionState
from clients.preprocessing import find_features
from pipeline.language.packing import weights_from
from pipeline.learning.queries.query import Rows
from pipeline.learning.queries.scores import score_counts
from privacy.population import Population
from tests.adversary.coordinator import Coordinator, Refused
from tests.support import configured, homes_for

DRAWS = 60


@pytest.fixture
def liar(dataset: Path, tmp_path: Path) -> Coordinator:
    config = configured(dataset, simulation__lifetime_epsilon=1000.0)
    made = Coordinator(homes_for(config, tmp_path / "clients"), config)
    made.prepare("east")
    return made


def made_counts(liar: Coordinator, execution: str) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """What east sealed for an evaluation of its own."""
    names = sorted(liar.homes)
    request = liar.keys_request(execution, names, purpose="evaluate", leader="east")
    liar.give("east", request, liar.offer(request))
    liar.evaluate(execution, "east", names)
    state = ExecutionState(liar.home("east"), execution)
    holder = state.membership.holder(1)
    stored = state.stored(f"evaluate-1-{liar.basis}", holder)
    assert stored is not None
    return stored.astype(np.int64) - holder._layout.largest_integer


def exact_counts(liar: Coordinator) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    config = liar.config
    split = find_features(liar.home("east"), liar.features["east"], liar.spec, 0.2).split("held-out", 0.2)
    outputs = liar.net.outputs(weights_from(liar.initial, liar.net.parameters), split.features)
    task = liar.spec.task
    return task.question(config.evaluation.bins).count(Rows(split.targets), task.predictions(outputs))


def test_counts_carry_the_noise_that_was_charged(liar: Coordinator) -> None:
    exact = exact_counts(liar)
    drawn = np.array([made_counts(liar, f"e{number}") for number in range(DRAWS)]) - exact
    rows = [row for row in liar.home("east").ledger.rows() if row.kind == "reserve"]
    assert len(rows) == DRAWS
    release = rows[0].releases[0]
    assert (release.mechanism, release.count, release.unit) == ("discrete-gaussian", 1, "record")
    assert rows[0].population == Population(0.0, 0.2, rows[0].population.basis)
    assert drawn.std() == pytest.approx(release.noise_multiplier, rel=0.06)
    assert abs(drawn.mean()) < release.noise_multiplier * 0.12
    assert drawn.std(axis=0).min() > 0.6 * release.noise_multiplier, "no cell goes without"
    assert abs(np.corrcoef(drawn[:-1].reshape(-1), drawn[1:].reshape(-1))[0, 1]) < 0.1


def test_a_request_that_comes_again_gets_the_same_counts_and_costs_nothing(liar: Coordinator) -> None:
    names = sorted(liar.homes)
    first = made_counts(liar, "e1")
    liar.evaluate("e1", "east", names)
    state = ExecutionState(liar.home("east"), "e1")
    holder = state.membership.holder(1)
    again = state.stored(f"evaluate-1-{liar.basis}", holder)
    assert again is not None
    assert np.array_equal(again.astype(np.int64) - holder._layout.largest_integer, first)
    assert len([row for row in liar.home("east").ledger.rows() if row.kind == "reserve"]) == 1
    request = liar.keys_request("e2", names, purpose="evaluate", leader="east")
    liar.give("east", request, liar.offer(request))
    with pytest.raises(Refused, match="not those that the request names"):
        liar.evaluate("e2", "east", names, basis="0" * 32)


def test_one_record_changes_one_count_by_one() -> None:
    draw = np.random.default_rng(0)
    scores, labels = draw.random(50), draw.integers(0, 2, 50).astype(np.float32)
    before = score_counts(scores, labels, 10)
    for score in (0.0, 1.0, 0.5, np.nan, np.inf, -np.inf):
        for label in (0.0, 1.0):
            more = score_counts(np.append(scores, score), np.append(labels, np.float32(label)), 10) - before
            assert np.abs(more).sum() == 1


def test_one_client_s_counts_have_a_bounded_norm() -> None:
    draw = np.random.default_rng(1)
    for size in (0, 1, 10, 100_000):
        counts = draw.integers(0, size + 1, 40)
        assert np.linalg.norm(of_one_client(counts, ONE_CLIENT)) <= ONE_CLIENT
    assert of_one_client(np.array([3, 4]), ONE_CLIENT).tolist() == [600, 800], "however few rows it has"
