"""Clipped sums equal Opacus's own for every kind of model, and a record that is not finite contributes nothing."""

from collections.abc import Callable

import pytest
import torch
from opacus import GradSampleModule
from torch import nn

from privacy.bookkeeping import Bookkeeper, LayerReused
from privacy.dpsgd import ClippedGradients

EACH = nn.BCEWithLogitsLoss(reduction="none")


class Reused(nn.Module):
    """One layer twice in a pass."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.head = nn.Linear(6, 6), nn.Linear(6, 1)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.head(torch.tanh(self.inner(torch.tanh(self.inner(features)))))
        return out


class Sequence(nn.Module):
    """A Linear layer over positions."""

    def __init__(self, width: int, height: int) -> None:
        super().__init__()
        self.width = width
        self.inner, self.head = nn.Linear(width, height), nn.Linear(height, 1)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.head(torch.tanh(self.inner(features.reshape(len(features), -1, self.width))).mean(1))
        return out


def mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 9), nn.ReLU(), nn.Linear(9, 4, bias=False), nn.Tanh(), nn.Linear(4, 1))


def cnn() -> nn.Module:
    return nn.Sequential(
        nn.Unflatten(1, (2, 6, 6)),
        nn.Conv2d(2, 5, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(5, 3, 2, bias=False),
        nn.Flatten(),
        nn.Linear(12, 1),
    )


def normed() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 8), nn.LayerNorm(8), nn.ReLU(), nn.Linear(8, 1))


def frozen() -> nn.Module:
    model = mlp()
    for p in model[0].parameters():  # type: ignore[index]
        p.requires_grad_(False)
    return model


MODELS: dict[str, tuple[Callable[[], nn.Module], int, bool]] = {
    "mlp": (mlp, 6, True),
    "cnn": (cnn, 72, True),
    "few wide positions": (lambda: Sequence(20, 30), 60, True),
    "many narrow positions": (lambda: Sequence(2, 3), 60, True),
    "frozen first layer": (frozen, 6, True),
    "layer norm": (normed, 6, False),
    "reused layer": (Reused, 6, True),
}


def data(width: int, rows: int = 24) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(7)
    features = torch.randn(rows, width, generator=generator) * torch.rand(rows, 1, generator=generator) * 4
    return features, (torch.rand(rows, generator=generator) > 0.5).float()


def opacus_sum(model: nn.Module, features: torch.Tensor, labels: torch.Tensor, clip: float) -> list[torch.Tensor]:
    wrapped = GradSampleModule(model, loss_reduction="sum")
    EACH(wrapped(features).squeeze(1), labels).sum().backward()
    trained = [p for p in model.parameters() if p.requires_grad]
    samples: list[torch.Tensor] = [p.grad_sample for p in trained]  # type: ignore[attr-defined]
    norms = torch.stack([each.flatten(1).norm(dim=1) for each in samples]).norm(dim=0)
    factors = (clip / (norms + 1e-6)).clamp(max=1.0)
    wrapped.to_standard_module()
    return [torch.einsum("i,i...", factors, each) for each in samples]


@pytest.mark.filterwarnings("ignore:Full backward hook")
@pytest.mark.parametrize("name", MODELS)
def test_clipped_sums_equal_opacus(name: str) -> None:
    make, width, supported = MODELS[name]
    torch.manual_seed(3)
    model = make()
    assert Bookkeeper.supports(model) is supported
    features, labels = data(width)
    for clip in (0.05, 0.5, 1e6):
        ClippedGradients(model, clip).clipped_sum(features, labels, EACH)
        ours = [p.grad.clone() for p in model.parameters() if p.requires_grad and p.grad is not None]
        model.zero_grad()
        theirs = opacus_sum(model, features, labels, clip)
        for mine, other in zip(ours, theirs, strict=True):
            assert torch.allclose(mine, other, rtol=1e-5, atol=1e-5)
    assert all(p.requires_grad for p in model.parameters()) is (name != "frozen first layer")


@pytest.mark.filterwarnings("ignore:Full backward hook")
@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), 1e38])
def test_a_record_that_is_not_finite_contributes_nothing(name: str, bad: float) -> None:
    make, width, _ = MODELS[name]
    torch.manual_seed(3)
    model = make()
    features, labels = data(width)
    ClippedGradients(model, 0.5).clipped_sum(features, labels, EACH)
    without = [p.grad.clone() for p in model.parameters() if p.grad is not None]
    spoilt = torch.cat([features, torch.full((1, width), bad)]), torch.cat([labels, torch.ones(1)])
    ClippedGradients(model, 0.5).clipped_sum(*spoilt, EACH)
    after = [p.grad for p in model.parameters() if p.grad is not None]
    grown = [now - before for now, before in zip(after, without, strict=True)]
    moved = torch.cat([each.flatten() for each in grown]).norm()
    assert torch.isfinite(moved)
    assert moved <= 0.5 * 1.001
    if bad != 1e38:
        assert moved < 1e-5


def test_a_norm_whose_parts_vanish_in_float32_is_still_clipped() -> None:
    """A gradient of 1e-23 squared is zero in float32; times an input of 1e19 it is a norm of 1e-4, and has to count."""
    model = nn.Sequential(nn.Linear(1, 1))
    with torch.no_grad():
        model[0].weight.zero_()
        model[0].bias.fill_(-52.2)
    for clip in (1e-6, 1e-5):
        ClippedGradients(model, clip).clipped_sum(torch.tensor([[1e19]]), torch.zeros(1), EACH)
        assert model[0].weight.grad is not None
        assert abs(model[0].weight.grad.item()) <= clip * 1.001


def test_an_empty_batch_gives_zeros() -> None:
    model = mlp()
    ClippedGradients(model, 0.5).clipped_sum(torch.zeros(0, 6), torch.zeros(0), EACH)
    assert all(p.grad is not None and not p.grad.any() for p in model.parameters())


def test_a_layer_used_twice_is_noticed_and_shared_parameters_are_not_supported() -> None:
    model = Reused()
    with pytest.raises(LayerReused):
        Bookkeeper(model, 1.0).clipped_sum(*data(6), EACH)
    assert all(p.requires_grad for p in model.parameters())
    tied = nn.Sequential(nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 1))
    tied[1].weight = tied[0].weight
    assert not Bookkeeper.supports(tied)
    assert not Bookkeeper.supports(nn.Sequential(nn.Conv2d(4, 4, 3, groups=2)))
