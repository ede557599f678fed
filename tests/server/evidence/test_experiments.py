"""What outcomes are evidence for."""

from dataclasses import replace

import numpy as np
import pytest

from pipeline.learning.tasks.task import Task
from pipeline.store.traffic import share_of
from server.evidence.experiments import comparisons
from server.evidence.outcomes import Outcome
from server.evidence.quality import decayed, qualities
from tests.server.evidence.test_outcomes import ONE


def drawn(count: int, shares: dict[int, float], good: dict[int, float], seed: int = 3) -> list[Outcome]:
    """Outcomes of subjects that the traffic divided; a version is off by less, the better it is."""
    source, found = np.random.default_rng(seed), []
    for number in range(count):
        version = share_of(shares, "salt", f"subject {number}")
        target = float(source.random() < 0.3)
        told = min(max(abs(target - abs(source.normal(0, good[version]))), 0.0), 1.0)
        found.append(
            replace(
                ONE,
                number=number + 1,
                id=f"{number:024x}",
                unit=f"{number:016x}",
                version=version,
                experiment="0badcafe",
                shares=shares,
                told={version: [told]},
                penalties={version: (told - target) ** 2},
                target=target,
                received=1000.0 + number,
            )
        )
    return found


SHARES = {1: 0.8, 2: 0.2}


def test_a_better_version_is_promoted_a_worse_one_kept_out_and_an_equal_one_undecided() -> None:
    for good, verdict in (({1: 0.6, 2: 0.2}, "promote"), ({1: 0.2, 2: 0.6}, "keep"), ({1: 0.4, 2: 0.4}, "undecided")):
        [one] = comparisons(drawn(4000, SHARES, good))
        assert (one.kind, one.champion, one.challenger, one.verdict) == ("split", 1, 2, verdict)
        assert sum(one.subjects.values()) == 4000
        assert one.why
    assert one.more(0.05) is not None
    assert one.more(0.5) == 0


def test_a_subject_counts_once_with_its_first_outcome() -> None:
    found = drawn(200, SHARES, {1: 0.4, 2: 0.4})
    twice = [*found, *(replace(one, number=300, penalties={one.version: 1.0}) for one in found)]
    assert comparisons(twice)[0].difference == comparisons(found)[0].difference


def test_outcomes_that_come_back_from_one_version_alone_are_no_evidence() -> None:
    found = [one for one in drawn(6000, SHARES, {1: 0.6, 2: 0.2}) if one.version == 1 or one.target == 0.0]
    [one] = comparisons(found)
    assert one.verdict == "broken"
    assert "by their shares" in one.why


def test_three_versions_are_two_comparisons_each_the_surer_for_it() -> None:
    found = comparisons(drawn(3000, {1: 0.5, 2: 0.25, 3: 0.25}, {1: 0.5, 2: 0.2, 3: 0.5}))
    assert {one.challenger: one.verdict for one in found} == {2: "promote", 3: "undecided"}
    assert all(one.alpha == pytest.approx(0.025) for one in found)


def test_a_version_that_is_asked_too_needs_far_fewer() -> None:
    found = []
    for one in drawn(400, {1: 1.0}, {1: 0.6}):
        better = 0.7 * one.told[1][0] + 0.3 * one.target
        penalties = {**one.penalties, 2: (better - one.target) ** 2}
        found.append(replace(one, experiment="", penalties=penalties, told={**one.told, 2: [better]}))
    [one] = comparisons(found)
    assert (one.kind, one.name, one.verdict) == ("shadow", "v1-v2", "promote")


def test_no_outcome_is_evidence_for_nothing() -> None:
    assert comparisons([]) == []
    assert comparisons([replace(ONE, experiment="")]) == []


def test_live_metrics_are_those_of_the_evaluation() -> None:
    from sklearn.metrics import accuracy_score, roc_auc_score

    from pipeline.store.registry import Registered

    task = Task.of({"kind": "binary", "column": "outcome", "positive": ["yes"]})
    source = np.random.default_rng(1)
    targets = (source.random(3000) < 0.3).astype(float)
    scores = 1 / (1 + np.exp(-(2 * targets - 1 + source.normal(0, 1.5, 3000))))
    found = [
        replace(ONE, number=at, told={1: [float(score)]}, penalties={1: (score - target) ** 2}, target=float(target))
        for at, (score, target) in enumerate(zip(scores, targets, strict=True))
    ]
    quality = qualities({1: task}, found)[1]
    assert quality.measured["roc_auc"].value == pytest.approx(roc_auc_score(targets, scores), abs=0.003)
    assert quality.measured["accuracy"].value == pytest.approx(accuracy_score(targets, scores >= 0.5), abs=1e-9)
    assert quality.bias == pytest.approx(scores.mean() - targets.mean(), abs=1e-6)

    def registered(auc: float) -> Registered:
        from pathlib import Path

        return Registered("stay", 1, Path(), {}, {"roc_auc": auc}, {"roc_auc": 0.005})

    now = quality.measured["roc_auc"].value
    assert decayed(task, registered(now + 0.01), quality, 0.0) == ""
    assert "worse by more than" in decayed(task, registered(now + 0.1), quality, 0.02)
    few = qualities({1: task}, [one for one in found if one.target == 0.0])[1]
    assert decayed(task, registered(0.8), few, 0.02) == "", "outcomes that are all the same say nothing"
    assert qualities({}, found) == {}
