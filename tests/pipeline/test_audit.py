"""The stage `audit` and its command: every task, unit and model; a broken path fails the run and registers nothing."""

import json
from pathlib import Path
from typing import Any

import pytest

import sottovoce
from pipeline.language.config import Config
from pipeline.language.lines import Lines
from pipeline.learning.tasks.task import Task
from pipeline.stages import audit as stage
from pipeline.stages.values import AuditReport, Design
from pipeline.store.registry import Registry
from privacy.errors import ClaimRefuted, CohortTooSmall
from privacy.noise import SecureNoise
from tests.privacy import test_conformance as bugs
from tests.support import Federation, configured, write_config

QUICK = {
    "audit__enabled": True,
    "audit__canaries": 2000,
    "audit__shadows": 2,
    "audit__records": 40,
    "audit__rows": 2000,
}
CLASSES = {"kind": "classes", "column": "unit", "classes": ["medical", "surgical", "intensive"]}
VALUE = {"kind": "regression", "column": "lab", "low": 0, "high": 12}


def audited(config: Config) -> AuditReport:
    return stage.audit(
        Design(parameters=1, frozen=""),
        config.data,
        config.model,
        config.privacy,
        config.encryption,
        config.federation,
        config.training,
        Lines.of(config),
        config.audit,
    )


def test_nobody_who_asks_for_none_waits_for_one(dataset: Path) -> None:
    assert audited(configured(dataset)) == AuditReport()
    assert AuditReport().verdict == "NOT AUDITED"


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"privacy__unit": "subject"},
        {"privacy__epsilon": 8.0},
        {"privacy": {"unit": "client", "epsilon": 4.0}},
        {"training__optimizer": "adam", "training__learning_rate": 0.01},
        {"model": {"kind": "linear"}},
        {"model": {"kind": "tests.own.nets:Small", "width": 4}},
        {"statistics__epsilon_share": 0.3},
    ],
    ids=str,
)
def test_an_honest_job_is_not_refuted(dataset: Path, changes: dict[str, Any]) -> None:
    config = configured(dataset, **QUICK, **changes)
    report = audited(config)
    assert report.verdict == "NOT REFUTED"
    assert report.claim is not None
    assert 0 <= report.shown < report.claim <= config.privacy.epsilon  # type: ignore[union-attr]
    assert report.ceiling is not None
    assert (report.membership is None) == (report.unit == "client")
    assert AuditReport.model_validate_json(report.model_dump_json()) == report


def test_without_privacy_nothing_is_claimed_and_membership_is_attacked_all_the_same(dataset: Path) -> None:
    report = audited(configured(dataset, **QUICK, privacy="none"))
    assert (report.verdict, report.guesses, report.claim) == ("NOTHING IS CLAIMED", (), None)
    assert report.membership


@pytest.mark.parametrize("task", [{"kind": "binary", "column": "died", "positive": ["yes"]}, CLASSES, VALUE], ids=str)
def test_made_up_outcomes_are_outcomes(task: dict[str, Any]) -> None:
    import torch

    made = Task.of(task)
    targets = made.outcomes(SecureNoise().uniform(500))
    assert (targets.dtype, targets.shape) == ("float32", (500,))
    losses = made.losses(torch.zeros(500, made.outputs), torch.from_numpy(targets))
    assert losses.isfinite().all()
    assert len(set(targets.tolist())) >= 2


def noise_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def add_noise(self: Any) -> None:
        for p in self.params:
            p.grad, p.summed_grad._processed = p.summed_grad, True

    monkeypatch.setattr(bugs.Optimizer, "add_noise", add_noise)


def test_a_path_without_noise_is_refuted_with_its_figures(dataset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    noise_left_out(monkeypatch)
    with pytest.raises(ClaimRefuted, match=r"REFUTED: epsilon 2\.\d\d of training is claimed, [3-5]\.\d\d was shown"):
        audited(configured(dataset, **QUICK, training__local_epochs=6))


@pytest.mark.whole
def test_an_audited_run_says_so_in_its_version_and_a_refuted_one_registers_nothing(
    tmp_path: Path, dataset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    federation = Federation(tmp_path / "w", configured(dataset, **QUICK))
    outcome = federation.run()
    assert outcome
    assert outcome.audit.verdict == "NOT REFUTED"
    workspace = federation.workspace
    champion = Registry(workspace.registry_url, workspace.models).champion("stay")
    assert champion
    assert AuditReport.model_validate_json(champion.read("audit.json")) == outcome.audit
    noise_left_out(monkeypatch)
    broken = Federation(tmp_path / "other", configured(dataset, **QUICK))
    with pytest.raises((ClaimRefuted, CohortTooSmall)):
        broken.run()
    assert not Registry(broken.workspace.registry_url, broken.workspace.models).versions("stay")


@pytest.mark.whole
def test_clients_whose_path_is_broken_charge_nothing_and_say_why(
    tmp_path: Path, dataset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bugs.no_clipping(monkeypatch)
    federation = Federation(tmp_path / "w", configured(dataset))
    with pytest.raises(CohortTooSmall, match="more than the clipping norm"):
        federation.run()
    assert {"train" in federation.charges(name) for name in federation.homes} == {False}


def test_the_command_tells_claim_guesses_and_verdict(
    tmp_path: Path, dataset: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = write_config(tmp_path / "stay.yaml", dataset, **QUICK)

    def run(*words: str) -> tuple[int, str]:
        monkeypatch.setattr("sys.argv", ["sottovoce", *words])
        code = sottovoce.main()
        said = capsys.readouterr()
        return code, said.out + said.err

    code, said = run("audit", str(config))
    assert code == 0
    for word in ("claim", "replica", "guesses", "membership", "NOT REFUTED", "does not prove it"):
        assert word in said
    code, said = run("audit", str(config), "--json")
    assert json.loads(said.splitlines()[0])["verdict"] == "NOT REFUTED"
    assert run("audit")[0] == 2
    noise_left_out(monkeypatch)
    code, said = run("audit", str(config))
    assert (code, "an audit" in said or "REFUTED" in said) == (4, True)
