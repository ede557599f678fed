"""Checks of the data: what warns, what fails, what it costs, and that nothing but noisy counts decides."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from clients import validation
from clients.home import Home
from clients.ingestion import ingest
from clients.validation import validate
from pipeline.language.config import Config
from pipeline.language.lines import Lines
from pipeline.language.protocol import CheckOutcome, IngestRequest, ValidateRequest
from pipeline.language.settings.privacy import Privacy, RecordPrivacy
from pipeline.language.settings.validation import ValidationConfig
from privacy.errors import BudgetExhausted, ConfigError, SourceChanged
from privacy.noise import SecureNoise
from tests.support import configured, homes_for

PRIVATE = RecordPrivacy(unit="record", epsilon=8.0)


@pytest.fixture
def home(dataset: Path, tmp_path: Path) -> Home:
    """Of a client that may also answer without privacy."""
    config = configured(dataset, simulation__lifetime_epsilon=float("inf"))
    return Home(homes_for(config, tmp_path / "clients")["east"])


def taken(home: Home, config: Config, frame: pd.DataFrame) -> str:
    frame.to_parquet(home.policy.source.path)
    return ingest(home, IngestRequest(contract=config.data), {})[0].snapshot


def asked(
    home: Home, config: Config, snapshot: str, privacy: Privacy, checks: ValidationConfig | None = None
) -> tuple[CheckOutcome, ...]:
    told = config.model_copy(update={"privacy": privacy, "validation": checks or config.validation})
    request = ValidateRequest(
        contract=told.data, checks=told.validation, privacy=privacy, lines=Lines.of(told).lines, snapshot=snapshot
    )
    reply, blobs = validate(home, request, {})
    assert blobs == {}
    return reply.outcomes


def outcomes(
    home: Home, config: Config, frame: pd.DataFrame, privacy: Privacy = "none"
) -> dict[tuple[str, str | None], str]:
    told = asked(home, config, taken(home, config, frame), privacy)
    return {(outcome.check, outcome.column): outcome.status for outcome in told if outcome.status != "ok"}


def charges(home: Home) -> list[str]:
    return [row.id for row in home.ledger.rows() if row.kind == "reserve"]


def source(home: Home) -> pd.DataFrame:
    return pd.read_parquet(home.policy.source.path)


@pytest.mark.parametrize("privacy", ["none", PRIVATE])
def test_good_data_has_nothing_to_say(home: Home, config: Config, privacy: Privacy) -> None:
    assert outcomes(home, config, source(home).drop_duplicates(["age", "lab", "unit", "died"]), privacy) == {}


def test_each_fault_has_its_check(home: Home, config: Config) -> None:
    frame = source(home)
    some, most = frame.index[:1], frame.index[:100]

    def changed(column: str, rows: pd.Index, value: object) -> dict[tuple[str, str | None], str]:
        other = frame.astype({column: object})
        other.loc[rows, column] = value
        return outcomes(home, config, other.astype({column: str}))

    assert changed("age", some, "200")[("bounds", "age")] == "warn"
    assert changed("age", most, "200")[("bounds", "age")] == "fail"
    assert changed("age", most, "not a number")[("bounds", "age")] == "fail"
    assert changed("lab", some, "5,3")[("bounds", "lab")] == "warn", "it holds something, and no number"
    assert changed("lab", frame.index, "5,3")[("bounds", "lab")] == "fail"
    assert ("bounds", "lab") not in changed("lab", some, "")
    assert changed("lab", frame.index, "")[("missing", "lab")] == "fail"
    assert changed("died", some, "")[("categories", "died")] == "warn", "an outcome that nobody knows"
    assert changed("died", most, "")[("categories", "died")] == "fail"
    assert changed("unit", some, "garden")[("categories", "unit")] == "warn"
    assert changed("unit", most, "garden")[("categories", "unit")] == "fail"
    assert changed("died", frame.index, "no")[("label-balance", "died")] == "fail"
    assert changed("died", frame.index[5:], "no")[("label-balance", "died")] == "warn"
    assert outcomes(home, config, pd.concat([frame, frame]))[("duplicates", None)] == "warn"


def test_an_outcome_that_nobody_declared_is_told(home: Home, dataset: Path) -> None:
    """Where the negative values are declared, `yes ` and `perhaps` are neither."""
    config = configured(dataset, data__label={"column": "died", "positive": ["yes"], "negative": ["no"]})
    frame = source(home)
    assert ("categories", "died") not in outcomes(home, config, frame)
    for odd in ("yes ", "Yes", "perhaps", ""):
        other = frame.copy()
        other.loc[other.index[:100], "died"] = odd
        assert outcomes(home, config, other)[("categories", "died")] == "fail", odd
    with pytest.raises(ConfigError, match="a value cannot be positive and negative: yes"):
        configured(dataset, data__label={"column": "died", "positive": ["yes"], "negative": ["no", "yes"]})


def test_what_is_plain_is_seen_through_the_noise(home: Home, config: Config) -> None:
    frame = pd.concat([source(home)] * 4, ignore_index=True)
    frame.loc[frame.index[::3], "unit"] = "garden"
    told = asked(home, config, taken(home, config, frame), PRIVATE)
    found = {(outcome.check, outcome.column): outcome for outcome in told}
    assert found[("categories", "unit")].status == "fail"
    assert found[("categories", "unit")].measured == pytest.approx(1 / 3, abs=0.05)
    assert found[("duplicates", None)].status == "warn"
    assert found[("bounds", "age")].status == "ok"


def test_a_column_that_tells_the_label_fails(home: Home, dataset: Path) -> None:
    leaking = {"discharge": {"kind": "categorical", "categories": ["home", "morgue"]}}
    contract = configured(dataset, data__columns=leaking, data__forbidden={})
    frame = source(home)
    for privacy in ("none", PRIVATE):
        assert outcomes(home, contract, frame, privacy) == {  # type: ignore[arg-type]
            ("leakage", "discharge"): "fail",
            ("duplicates", None): "warn",
        }
    numeric = {"shoe_size": {"kind": "numeric", "low": 0, "high": 100}}
    frame["shoe_size"] = (frame["died"] == "yes").map({True: "10", False: "20"})
    assert outcomes(home, configured(dataset, data__columns=numeric), frame)[("leakage", "shoe_size")] == "fail"


def test_a_snapshot_is_charged_once_whatever_the_limits(home: Home, config: Config) -> None:
    snapshot = taken(home, config, source(home))
    first = asked(home, config, snapshot, PRIVATE)
    assert len(charges(home)) == 1
    release = next(row for row in home.ledger.rows() if row.kind == "reserve").releases[0]
    assert (release.mechanism, release.count) == ("discrete-gaussian", len(config.data.columns) + 2)
    assert home.ledger.spent() == pytest.approx(0.3 * 8.0, rel=0.01)
    assert asked(home, config, snapshot, PRIVATE) == first, "the same question is answered from the store"
    stricter = config.validation.model_copy(update={"duplicates": 0.0, "leakage": 0.6})
    assert [o.measured for o in asked(home, config, snapshot, PRIVATE, stricter)] == [o.measured for o in first]
    looser = RecordPrivacy(unit="record", epsilon=0.5)
    assert asked(home, config, snapshot, looser) == first, "what was paid for with less noise serves"
    assert len(charges(home)) == 1
    asked(home, config, snapshot, RecordPrivacy(unit="record", epsilon=9.0))
    assert len(charges(home)) == 2, "less noise is another release"


def test_the_order_of_columns_and_names_is_no_part_of_the_question(home: Home, config: Config) -> None:
    snapshot = taken(home, config, source(home))
    first = {(o.check, o.column): o.measured for o in asked(home, config, snapshot, PRIVATE)}
    unit = config.data.columns["unit"]
    turned = unit.model_copy(update={"categories": tuple(reversed(unit.categories))})
    columns = {"unit": turned, "lab": config.data.columns["lab"], "age": config.data.columns["age"]}
    data = config.data.model_copy(update={"columns": columns})
    again = asked(home, config.model_copy(update={"data": data}), snapshot, PRIVATE)
    assert {(o.check, o.column): o.measured for o in again} == first
    assert len(charges(home)) == 1


@pytest.mark.processes
def test_a_question_is_the_same_in_every_process(config: Config, tmp_path: Path) -> None:
    """Python orders a set otherwise in each; the answer would be paid for again after every restart."""
    program = (
        "import sys; from pipeline.learning.contract import DataContract; from clients.validation import Question\n"
        "print(Question(DataContract.model_validate_json(sys.argv[1])).digest)"
    )
    digests = {
        subprocess.check_output(
            [sys.executable, "-c", program, config.data.model_dump_json()],
            env={**os.environ, "PYTHONHASHSEED": str(seed)},
        )
        for seed in (1, 2, 3)
    }
    assert len(digests) == 1


def test_a_check_that_was_interrupted_is_charged_again(
    home: Home, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    snapshot = taken(home, config, source(home))
    with monkeypatch.context() as broken:
        broken.setattr(validation, "write_atomically", lambda *_: (_ for _ in ()).throw(OSError(28, "full")))
        with pytest.raises(OSError, match="full"):
            asked(home, config, snapshot, PRIVATE)
    asked(home, config, snapshot, PRIVATE)
    assert [charge.rpartition("/")[2] for charge in charges(home)] == ["1", "2"]


def test_questions_end_with_the_budget(config: Config, tmp_path: Path, dataset: Path) -> None:
    """The attack: shifting bounds until a count jumps. Each snapshot and contract is paid for."""
    home = Home(homes_for(configured(dataset, simulation__lifetime_epsilon=3.0), tmp_path / "clients")["east"])
    snapshot = taken(home, config, source(home))
    answered = 0
    for low in range(512):
        age = config.data.columns["age"].model_copy(update={"low": float(low - 1000)})
        data = config.data.model_copy(update={"columns": {**config.data.columns, "age": age}})
        try:
            asked(home, config.model_copy(update={"data": data}), snapshot, RecordPrivacy(unit="record", epsilon=3.0))
        except BudgetExhausted:
            break
        answered += 1
    assert 0 < answered < 25
    assert home.ledger.spent() <= 3.0


def test_at_client_level_no_client_answers_for_itself(dataset: Path, tmp_path: Path) -> None:
    config = configured(dataset, privacy={"unit": "client", "epsilon": 4.0})
    home = Home(homes_for(config, tmp_path / "clients")["east"])
    assert asked(home, config, taken(home, config, source(home)), config.privacy) == ()
    assert charges(home) == []


def test_a_snapshot_of_another_source_is_not_checked(home: Home, config: Config) -> None:
    snapshot = taken(home, config, source(home))
    source(home).iloc[1:].to_parquet(home.policy.source.path)
    with pytest.raises(SourceChanged):
        asked(home, config, snapshot, PRIVATE)
    assert charges(home) == []


def test_counts_carry_the_noise_that_was_charged(home: Home, config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    """The twin of the conformance suite for this question: over many draws the stored counts less the exact ones have
    the deviation that the ledger was charged for, in every cell; and one record changes as many cells as it said."""
    frame = source(home)
    snapshot = taken(home, config, frame)
    question = validation.Question(config.data)
    exact = question.count(home, snapshot)
    drawn = []
    for number in range(60):
        privacy = RecordPrivacy(unit="record", epsilon=4.0 + number / 1000)  # each less noise, so each its own release
        asked(home, config, snapshot, privacy)
        counts, noise = validation._answered(
            home.snapshots.folder(snapshot), question, home.ledger.rows()[-2].releases[0]
        ) or (exact, 0.0)
        drawn.append((counts - exact) / noise)
    assert np.std(drawn) == pytest.approx(1.0, abs=0.05)
    assert abs(np.mean(drawn)) < 0.05
    assert np.std(drawn, axis=0).min() > 0.6, "no cell goes without"
    touched = question.count(home, taken(home, config, pd.concat([frame, frame.iloc[:1]]))) - exact
    assert np.abs(touched).max() == 1
    assert np.abs(touched).sum() <= home.ledger.rows()[-2].releases[0].count


def test_noise_is_drawn_from_the_secure_source(home: Home, config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    """Deleting the noise must be seen by somebody: with a source that draws nothing, the counts are the exact ones."""
    monkeypatch.setattr(SecureNoise, "discrete_gaussian", lambda self, scale, count: np.zeros(count, dtype=np.int64))
    snapshot = taken(home, config, source(home))
    asked(home, config, snapshot, PRIVATE)
    question = validation.Question(config.data)
    kept = validation._answered(home.snapshots.folder(snapshot), question, home.ledger.rows()[1].releases[0])
    assert kept is not None
    assert np.array_equal(kept[0], question.count(home, snapshot))


def test_numbers_stay_in_the_client_s_own_log(home: Home, config: Config) -> None:
    outcomes(home, config, source(home))
    assert "label-balance" in (home.root / "client.log").read_text()
