"""Clipped sums equal Opacus's own for every kind of model, and a record that is not finite contributes nothing."""

from collections.abc import Callable

import pytest
import torch
from opacus import GradSampleModule
from torch import nn

from privacy.bookkeeping import Bookkeeper, LayerReused
from privacy.gradients import ClippedGradients, Hooked, Losses, OneByOne


def each(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return nn.functional.binary_cross_entropy_with_logits(outputs.squeeze(1), targets, reduction="none")


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


def grouped() -> nn.Module:
    return nn.Sequential(
        nn.Unflatten(1, (2, 6, 6)), nn.Conv2d(2, 6, 3), nn.GroupNorm(3, 6), nn.Tanh(), nn.Flatten(), nn.Linear(96, 1)
    )


class Words(nn.Module):
    """An embedding of words, some of which come twice."""

    def __init__(self, padding: int | None = None) -> None:
        super().__init__()
        self.table, self.norm, self.head = (
            nn.Embedding(5, 4, padding_idx=padding),
            nn.LayerNorm((3, 4)),
            nn.Linear(4, 1),
        )

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        ids = (features.nan_to_num(0.0, 0.0, 0.0).abs() % 5).long()
        out: torch.Tensor = self.head(torch.tanh(self.norm(self.table(ids)) + (0 * features).unsqueeze(2)).mean(1))
        return out


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
    "layer norm": (normed, 6, True),
    "group norm": (grouped, 72, True),
    "embedding": (Words, 3, True),
    "reused layer": (Reused, 6, False),
}


def data(width: int, rows: int = 24) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(7)
    features = torch.randn(rows, width, generator=generator) * torch.rand(rows, 1, generator=generator) * 4
    return features, (torch.rand(rows, generator=generator) > 0.5).float()


def clip_and_add(
    model: nn.Module, clip: float, examples: torch.Tensor, features: torch.Tensor, labels: torch.Tensor, losses: Losses
) -> None:
    """Sets the gradients, and leaves the model as it was."""
    gradients = ClippedGradients(model, clip, examples)
    gradients.clipped_sum(features, labels, losses)
    gradients.close()


def opacus_sum(model: nn.Module, features: torch.Tensor, labels: torch.Tensor, clip: float) -> list[torch.Tensor]:
    wrapped = GradSampleModule(model, loss_reduction="sum")
    each(wrapped(features), labels).sum().backward()
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
    features, labels = data(width)
    gradients = ClippedGradients(model, 0.5, features[:5])
    assert type(gradients.way) is (Bookkeeper if supported else Hooked)
    gradients.close()
    for clip in (0.05, 0.5, 1e6):
        clip_and_add(model, clip, data(width)[0][:5], features, labels, each)
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
    clip_and_add(model, 0.5, data(width)[0][:5], features, labels, each)
    without = [p.grad.clone() for p in model.parameters() if p.grad is not None]
    spoilt = torch.cat([features, torch.full((1, width), bad)]), torch.cat([labels, torch.ones(1)])
    clip_and_add(model, 0.5, data(width)[0][:5], *spoilt, each)
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
        clip_and_add(model, clip, torch.rand(3, 1), torch.tensor([[1e19]]), torch.zeros(1), each)
        assert model[0].weight.grad is not None
        assert abs(model[0].weight.grad.item()) <= clip * 1.001


def test_padding_is_not_learned() -> None:
    """As PyTorch has it; Opacus 1.6 gives padding a gradient."""
    torch.manual_seed(3)
    model = Words(padding=0)
    features, labels = data(3)
    clip_and_add(model, 0.01, features[:5], features, labels, each)
    found = [p.grad.clone() for p in model.parameters() if p.grad is not None]
    assert not found[0][0].any()
    OneByOne(model, 0.01).clipped_sum(features, labels, each)
    for mine, slow in zip(found, [p.grad for p in model.parameters()], strict=True):
        assert torch.allclose(mine, slow, atol=1e-6)


def test_an_empty_batch_gives_zeros() -> None:
    model = mlp()
    clip_and_add(model, 0.5, torch.rand(3, 6), torch.zeros(0, 6), torch.zeros(0), each)
    assert all(p.grad is not None and not p.grad.any() for p in model.parameters())


def test_a_layer_used_twice_is_noticed_and_shared_parameters_are_not_supported() -> None:
    model = Reused()
    with pytest.raises(LayerReused):
        Bookkeeper(model, 1.0).clipped_sum(*data(6), each)
    assert all(p.requires_grad for p in model.parameters())
    tied = nn.Sequential(nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 1))
    tied[1].weight = tied[0].weight
    assert not Bookkeeper.supports(tied)
    assert not Bookkeeper.supports(nn.Sequential(nn.Conv2d(4, 4, 3, groups=2)))
