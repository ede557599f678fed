"""The audit: what it shows is never more than the truth, and what is grossly broken is refuted."""

import numpy as np
import pytest
import torch

from privacy.accounting import Release, epsilon_of
from privacy.audit import Guesses, guess, most, shown
from privacy.canaries import released_by_steps, released_by_sums
from privacy.dpsgd import Optimisation
from privacy.noise import SecureNoise
from privacy.plan import DPPlan
from privacy.shadows import infer
from privacy.shares import NoiseShares
from tests.privacy import test_conformance as bugs
from tests.privacy.conformance import WIDTH, losses, network

MANY, DELTA = 10_000, 1e-5


def plan(epsilon: float = 3.0) -> DPPlan:
    return DPPlan.record_level(
        epsilon=epsilon, delta=DELTA, examples=2000, expected_batch=500, epochs=2, rounds=3, clipping_norm=1.0
    )


def attacked(using: DPPlan) -> float:
    """The largest epsilon that four guessers show of a run, all together with a confidence of 99 %."""
    seen = released_by_steps(network(), losses, using, torch.rand(5, WIDTH), MANY)
    return max(
        shown(guess(scores, included, part), DELTA, 0.9975)
        for included, scores in seen
        for part in (MANY // 2, MANY // 40)
    )


@pytest.mark.parametrize(("epsilon", "delta"), [(0.5, 0.0), (1.0, 1e-5), (4.0, 1e-4)])
def test_whoever_guesses_as_well_as_epsilon_allows_shows_no_more_than_it(epsilon: float, delta: float) -> None:
    """Of randomised response guessers know most; at a confidence of 90 % at most a tenth is wrong."""
    draw = np.random.default_rng(3)
    likely = 1 / (1 + np.exp(-epsilon))
    found = [shown(Guesses(500, 500, int(draw.binomial(500, likely))), delta, 0.9) for _ in range(400)]
    assert np.mean(np.array(found) > epsilon) < 0.1 + 3 * np.sqrt(0.1 * 0.9 / 400)
    assert np.mean(found) > 0.6 * epsilon - 0.2, "and it shows most of it"


def test_what_can_be_shown_grows_with_canaries_and_falls_with_delta() -> None:
    tops = [most(count, 0.0, 0.95) for count in (10, 100, 1000, 10_000)]
    assert tops == sorted(tops)
    assert tops[-1] == pytest.approx(np.log(10_000 / -np.log(0.05)), abs=0.01)
    assert most(10_000, 1e-4, 0.95) < most(10_000, 1e-6, 0.95) < tops[-1]


@pytest.mark.parametrize("epsilon", [1.0, 6.0])
def test_an_honest_path_is_not_refuted_but_something_is_shown(epsilon: float) -> None:
    using = plan(epsilon)
    claim = epsilon_of([using.run()], DELTA)
    found = attacked(using)
    assert found < claim
    assert found > 0.05 * claim, "an attacker that sees nothing shows nothing"


def noise_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def add_noise(self: object) -> None:
        for p in self.params:  # type: ignore[attr-defined]
            p.grad, p.summed_grad._processed = p.summed_grad, True

    monkeypatch.setattr(bugs.Optimizer, "add_noise", add_noise)


@pytest.mark.parametrize(
    "bug",
    [
        noise_left_out,
        bugs.noise_divided_by_batch_size,
        bugs.noise_on_the_last_layer_only,
        bugs.no_clipping,
    ],
)
def test_what_is_grossly_broken_is_refuted(bug: bugs.Bug, monkeypatch: pytest.MonkeyPatch) -> None:
    using = plan(3.0)
    bug(monkeypatch)
    assert attacked(using) > 3.0


def test_at_client_level_a_sum_with_too_little_noise_is_refuted() -> None:
    honest = NoiseShares(noise_multiplier=1.5, clipping_norm=2.0, cohort=4, colluders=1)
    claim = epsilon_of([Release("gaussian", 1.5, 1.0, 1, "client")], DELTA)
    included, scores = released_by_sums(honest, 2000)
    truth = shown(guess(scores, included, 2000), DELTA, 0.99)
    assert 0.1 < truth < claim
    quiet = NoiseShares(noise_multiplier=0.15, clipping_norm=2.0, cohort=4, colluders=1)
    included, scores = released_by_sums(quiet, 2000)
    assert shown(guess(scores, included, 2000), DELTA, 0.99) > claim


def learned(using: DPPlan, optimisation: Optimisation, rows: int = 60) -> float:
    draw = torch.Generator().manual_seed(1)
    features = torch.rand(rows, WIDTH, generator=draw) * 4
    targets = (torch.rand(rows, generator=draw) < 0.5).float()
    return infer(network, losses, using, optimisation, features, targets, 12, SecureNoise()).auc


def test_members_are_told_from_others_where_nothing_protects_them_and_not_where_something_does() -> None:
    loud = Optimisation(learning_rate=0.05, momentum=0.9, optimizer="adam")
    bare = DPPlan("none", 60, 0.5, 15, 60, 4, float("inf"), 0.0, float("inf"), 0.0)
    assert learned(bare, loud) > 0.6
    covered = DPPlan("record", 60, 0.5, 15, 60, 4, 1.0, 12.0, 1.0, 1e-5)
    assert 0.4 < learned(covered, loud) < 0.6
