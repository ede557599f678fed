"""A client tries its own training path: it passes as it is, for any model, and each known bug is told."""

from collections.abc import Callable

import pytest
import torch

from privacy.conformance import conform
from privacy.errors import PathBroken
from privacy.noise import Floats, SecureNoise
from privacy.parameters import flat
from privacy.plan import DPPlan
from tests.privacy import test_conformance as bugs
from tests.privacy.conformance import WIDTH, losses, network


class Reading(torch.nn.Module):
    """Layers whose gradients only hooks, or single records, get right."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.cells = torch.nn.Embedding(50, 4), torch.nn.LSTM(4, 4, batch_first=True)
        self.last = torch.nn.Linear(4, 1)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        made, _ = self.cells(self.words(features.nan_to_num().abs().clamp(max=49).long()))
        said: torch.Tensor = self.last(made[:, -1])
        return said


MODELS: dict[str, Callable[[], torch.nn.Module]] = {
    "perceptron": network,
    "one number": lambda: torch.nn.Linear(WIDTH, 1, bias=False),
    "reading": Reading,
}


def plan(unit: str = "record", epsilon: float = 2.0, clip: float = 0.5, batch: int = 100) -> DPPlan:
    made = DPPlan.record_level(
        epsilon=epsilon,
        delta=1e-5,
        examples=800,
        expected_batch=batch,
        epochs=1,
        rounds=3,
        clipping_norm=clip,
        unit=unit,
    )
    assert made.unit == unit
    return made


def tried(model: torch.nn.Module, using: DPPlan) -> None:
    torch.manual_seed(5)
    conform(model, losses, using, torch.rand(5, WIDTH), torch.tensor([0.0, 1.0, 0.0, 1.0, 1.0]))


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize(
    "using", [plan(), plan("subject"), plan(clip=50.0), plan(epsilon=200.0, clip=1e-3), plan(batch=800)]
)
def test_the_path_is_as_accounting_assumes_and_the_model_is_left_as_it_was(name: str, using: DPPlan) -> None:
    model = MODELS[name]()
    before = flat(model)
    for _ in range(5):
        tried(model, using)
    assert (flat(model) == before).all()


def test_noise_that_is_small_by_chance_is_no_alarm(monkeypatch: pytest.MonkeyPatch) -> None:
    """Noise is on a lattice, so one number of it is zero once in forty times, and both of two once in 1,600: a client
    would leave the run for that. That it is always zero is still told."""
    real, drawn = SecureNoise.normal, []

    def unlucky(self: SecureNoise, count: int, often: int) -> Floats:
        found = real(self, count)
        drawn.append(count)
        if len(drawn) <= often:
            found[-1] = 0.0  # of the bias of the last layer
        return found

    monkeypatch.setattr(SecureNoise, "normal", lambda self, count: unlucky(self, count, 2))
    tried(network(), plan())
    drawn.clear()
    monkeypatch.setattr(SecureNoise, "normal", lambda self, count: unlucky(self, count, 10**9))
    with pytest.raises(PathBroken, match="the noise of a step"):
        tried(network(), plan())


@pytest.mark.parametrize(
    ("bug", "told"),
    [
        (bugs.noise_divided_by_batch_size, "the noise of a step"),
        (bugs.noise_on_the_last_layer_only, "the noise of a step"),
        (bugs.dropped_empty_batch, "the noise of a step"),
        (bugs.repeated_seed, "the same"),
        (bugs.batch_level_clipping, "clipping norm"),
        (bugs.no_clipping, "clipping norm"),
        (bugs.divided_by_the_actual_batch, "clipping norm"),
        (bugs.shuffled_loader, "Poisson"),
    ],
)
def test_a_known_bug_is_told(bug: bugs.Bug, told: str, monkeypatch: pytest.MonkeyPatch) -> None:
    bug(monkeypatch)
    with pytest.raises(PathBroken, match=told):
        tried(network(), plan())


@pytest.mark.parametrize("bug", [bugs.no_clipping, bugs.batch_level_clipping, bugs.noise_on_the_last_layer_only])
def test_a_model_that_drops_by_chance_is_tried_all_the_same(bug: bugs.Bug, monkeypatch: pytest.MonkeyPatch) -> None:
    layers = torch.nn.Linear(WIDTH, 16), torch.nn.Dropout(0.5), torch.nn.Linear(16, 8), torch.nn.Dropout(0.2)
    model = torch.nn.Sequential(*layers, torch.nn.Linear(8, 1))
    for _ in range(10):
        tried(model, plan())
    bug(monkeypatch)
    with pytest.raises(PathBroken):
        tried(model, plan())
