"""What DP-SGD has to do for a person with all records: the twin of the conformance suite for records."""

import numpy as np
import pytest
import torch

from privacy.accounting import Release
from privacy.dpsgd import LATTICE, train_round
from privacy.noise import Integers, SecureNoise
from privacy.parameters import flat
from privacy.plan import DPPlan
from privacy.sampling import one_of_each, sample
from tests.privacy.conformance import STEP, WIDTH, Everybody, Nobody, losses, network

PERSONS = np.array([1, 3, 2, 1, 5, 2, 1, 1])


def plan(noise: float = 2.0, clip: float = 0.5) -> DPPlan:
    return DPPlan("subject", 64, 0.25, 16, 1, 1, clip, noise, 1.0, 1e-5)


class First(Everybody):
    """Everybody enters, with the first of their records."""

    def uniform(self, count: int) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
        return np.zeros(count)


class Last(Everybody):
    def uniform(self, count: int) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
        return np.full(count, np.nextafter(1, 0))


def moved(
    features: torch.Tensor, labels: torch.Tensor, persons: Integers, using: DPPlan, source: SecureNoise
) -> torch.Tensor:
    model = network()
    before = torch.from_numpy(flat(model))
    train_round(model, features, labels, losses, using, STEP, source, torch.rand(5, WIDTH), persons)
    return (torch.from_numpy(flat(model)) - before).double()


def test_noise_is_that_of_records() -> None:
    features, labels = torch.zeros(16, WIDTH), torch.zeros(16)
    expected = 2.0 * 0.5 / 16
    noise = torch.stack([moved(features, labels, PERSONS, plan(), Nobody()) for _ in range(300)])
    assert (noise / expected).square().mean().sqrt().item() == pytest.approx(1.0, abs=0.03)
    cells = noise / (expected / LATTICE)
    assert (cells - cells.round()).abs().max() < 1e-3


@pytest.mark.parametrize("source", [First, Last])
@pytest.mark.parametrize("records", [1, 2, 7, 40])
def test_a_person_moves_at_most_the_clipping_norm_whatever_the_records(source: type[SecureNoise], records: int) -> None:
    generator = torch.Generator().manual_seed(3)
    features, labels = torch.rand(16, WIDTH, generator=generator), torch.zeros(16)
    using = plan(noise=1e-6)
    without = moved(features, labels, PERSONS, using, source()) * using.expected_batch
    for extreme in (0.0, 1e6, float("inf"), float("nan"), None):
        more = torch.randn(records, WIDTH) * 3 if extreme is None else torch.full((records, WIDTH), extreme)
        for at in (0, 16, 4):  # persons stand in the order of their places
            person = {0: 0, 16: len(PERSONS), 4: 2}[at]
            joined = torch.cat([features[:at], more, features[at:]])
            truth = torch.cat([labels[:at], torch.ones(records), labels[at:]])
            who = np.insert(PERSONS, person, records)
            difference = moved(joined, truth, who, using, source()) * using.expected_batch - without
            assert torch.isfinite(difference).all()
            assert torch.linalg.vector_norm(difference) <= using.clipping_norm * 1.001


def test_persons_are_sampled_and_each_gives_one_record_drawn_anew() -> None:
    source, starts = SecureNoise(), np.cumsum(PERSONS) - PERSONS
    sizes, seen = [], np.zeros(PERSONS.sum(), dtype=int)
    for _ in range(4000):
        drawn = sample(int(PERSONS.sum()), 0.4, source, PERSONS)
        who = np.searchsorted(starts, drawn, side="right") - 1
        assert len(set(who)) == len(who), "one a person"
        sizes.append(len(drawn))
        np.add.at(seen, drawn, 1)
    n, q = len(PERSONS), 0.4
    assert np.mean(sizes) == pytest.approx(n * q, abs=5 * np.sqrt(n * q * (1 - q) / 4000))
    assert 0.85 < np.var(sizes) / (n * q * (1 - q)) < 1.15
    expected = np.repeat(4000 * q / PERSONS, PERSONS)
    assert (np.abs(seen - expected) < 5 * np.sqrt(expected)).all(), "each record of a person as often as the others"


def test_counts_take_one_record_a_person() -> None:
    source = SecureNoise()
    drawn = np.array([one_of_each(PERSONS, source) for _ in range(200)])
    assert drawn.shape == (200, len(PERSONS))
    starts = np.cumsum(PERSONS) - PERSONS
    assert ((drawn >= starts) & (drawn < starts + PERSONS)).all()
    assert len(set(drawn[:, 4])) == 5


def test_the_ledger_says_who_was_protected() -> None:
    made = DPPlan.record_level(
        epsilon=2.0, delta=1e-5, examples=500, expected_batch=50, epochs=1, rounds=3, clipping_norm=1.0, unit="subject"
    )
    record = DPPlan.record_level(
        epsilon=2.0, delta=1e-5, examples=500, expected_batch=50, epochs=1, rounds=3, clipping_norm=1.0
    )
    assert made.round() == Release("sampled-gaussian", record.noise_multiplier, 0.1, 10, "subject")
    assert made.adjacency == "add/remove one person with all records"
