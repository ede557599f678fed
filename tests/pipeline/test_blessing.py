"""Who may become champion: nobody of whom noise decides, nobody who is clearly worse, nobody who promises less."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.language.config import Config
from pipeline.language.lines import Lines
from pipeline.language.settings.encryption import EncryptionConfig
from pipeline.language.settings.registration import RegistrationConfig
from pipeline.learning.queries.scores import Scores
from pipeline.stages.blessing import blessing
from pipeline.stages.registration import privacy_statement
from pipeline.stages.values import AuditReport, EvaluationReport, Verdict
from pipeline.store.registry import Registry
from tests.support import configured

pytestmark = pytest.mark.whole

RULES = RegistrationConfig(min_roc_auc=0.5)
Play = Callable[..., Verdict]


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(f"sqlite:///{tmp_path}/registry.db", tmp_path / "models")


@pytest.fixture
def play(registry: Registry) -> Play:
    """A run's end: a version is judged, registered, and champion if it was blessed."""
    count = iter(range(100))

    def played(score: float, error: float, rules: RegistrationConfig = RULES, **changes: Any) -> Verdict:
        config: Config = configured(Path("stays.csv"), **changes)
        scores = {"roc_auc": score, "pr_auc": 0.5, "accuracy": 0.5, "precision": 0.5, "recall": 0.5}
        errors = dict.fromkeys(scores, error)
        report = EvaluationReport(
            clients=("a",),
            question=Scores(bins=10),
            counts=(),
            noise=0.0,
            metrics=scores,
            errors=errors,
            spent={},
            lifetime={},
        )
        verdict = blessing(registry, report, AuditReport(), config.data, config.privacy, "stay", rules)
        statement = privacy_statement(config.privacy, EncryptionConfig(), Lines.of(config))
        files = {"n": str(next(count)).encode(), "privacy.json": statement.model_dump_json().encode()}
        made = registry.register("stay", files, scores, {}, errors)
        registry.note("stay", made.version, {"blessed": str(verdict.blessed).lower()})
        if verdict.blessed:
            registry.promote("stay", made.version)
        return verdict

    return played


def champion(registry: Registry) -> int | None:
    found = registry.champion("stay")
    return found.version if found else None


def test_noise_makes_no_champion_and_locks_nobody_out(play: Play, registry: Registry) -> None:
    """0.882 +- 0.298 was the worst and became champion, and the best, 0.810, was refused against it."""
    lucky = play(0.882, 0.298)
    assert not lucky.blessed
    assert "roc_auc is unknown: its error 0.3 is above 0.1" in lucky.reasons[0]
    assert champion(registry) is None
    assert play(0.810, 0.02).blessed
    assert champion(registry) == 2
    assert not play(1.0, 0.55).blessed


def test_worse_is_what_is_worse_by_more_than_the_error(play: Play, registry: Registry) -> None:
    assert play(0.83, 0.04).blessed
    assert play(0.79, 0.02).blessed, "0.04 is within the error of the difference"
    refused = play(0.70, 0.02)
    assert not refused.blessed
    assert "worse than v1's 0.8300 by more than 0.01 and the error of the difference" in " ".join(refused.reasons)
    assert refused.champion == 2


def test_a_little_is_not_lost_with_every_version_for_ever(play: Play, registry: Registry) -> None:
    scores = [0.83 - 0.009 * step for step in range(12)]
    blessed = [play(score, 0.001).blessed for score in scores]
    assert blessed[0]
    assert not any(blessed[3:]), "each is within 0.01 of the one before, none of the best"


def test_less_is_promised_only_by_a_person_s_word(play: Play, registry: Registry) -> None:
    strict = {"unit": "record", "epsilon": 1.0}
    assert play(0.80, 0.01, privacy="none").blessed
    assert play(0.80, 0.01, privacy={**strict, "epsilon": 3.0}).blessed, "more than nothing"
    assert play(0.80, 0.01, privacy=strict).blessed
    for weaker in ("none", {**strict, "epsilon": 2.0}, {**strict, "delta": 1e-3}):
        refused = play(0.95, 0.01, privacy=weaker)
        assert not refused.blessed
        assert "promises less than the champion v3 (every record: epsilon 1" in refused.reasons[0]
    said = RegistrationConfig(weaker_privacy=True)
    assert play(0.95, 0.01, said, privacy={**strict, "epsilon": 2.0}).blessed
    assert play(0.95, 0.01, privacy={"unit": "subject", "epsilon": 5.0}).blessed, "another unit, that protects more"
    assert not play(0.95, 0.01, privacy=strict).blessed, "a record, where it was a person"


def test_a_version_of_another_tool_is_compared_by_what_it_says(play: Play, registry: Registry) -> None:
    foreign = registry.register("stay", {"weights": b"w"}, {"roc_auc": 0.9}, {})
    registry.promote("stay", foreign.version)
    assert not play(0.8, 0.01).blessed
    assert play(0.9, 0.01).blessed
    assert json.loads(registry.versions("stay")[0].read("privacy.json"))["unit"] == "record"
    assert foreign.errors == {}
