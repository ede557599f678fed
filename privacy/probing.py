"""Whether a model can be trained record by record: tried on made-up records, not believed by its name."""

from __future__ import annotations

import torch
from torch import nn

from privacy.errors import PlanInvalid

_SAME = 1e-4
"""How far two gradients of one record may be apart, relative to the larger of 1 and their size."""


def probe(model: nn.Module, examples: torch.Tensor, outputs: int) -> None:
    """Raise PlanInvalid unless `model` says [rows, outputs] finite numbers of made-up features [rows, width], and what
    it says and learns of a record depends on no other. At least three examples."""
    trained = [p for p in model.parameters() if p.requires_grad]
    if not trained:
        raise _refused("has no parameter that is trained", "Let some parameter require a gradient.")
    if not all(torch.isfinite(p).all() for p in model.parameters()):
        raise _refused("has parameters that are not finite from the start", "Correct how they are made.")
    model.train()
    with torch.random.fork_rng(devices=[]):
        _probe(model, trained, examples, outputs)
    for p in model.parameters():
        p.grad = None


def _probe(model: nn.Module, trained: list[nn.Parameter], examples: torch.Tensor, outputs: int) -> None:
    kept = {name: buffer.clone() for name, buffer in model.named_buffers()}
    given = examples.clone()
    first = _run(model, given)
    if not isinstance(first, torch.Tensor) or tuple(first.shape) != (len(examples), outputs):
        shape = list(first.shape) if isinstance(first, torch.Tensor) else type(first).__name__
        raise _refused(
            f"returns {shape} for {len(examples)} rows; the task asks for {[len(examples), outputs]}",
            "Return one row of outputs for each row of features.",
        )
    if not torch.isfinite(first).all():
        raise _refused("returns numbers that are not finite", "Correct its layers, or how its parameters are made.")
    if not first.requires_grad:
        raise _refused("returns what no trained parameter has a part in", "Do not detach what it learns by.")
    if not torch.equal(given, examples):
        raise _refused("changes the features that it is given", "Copy them before working in place.")
    for name, buffer in model.named_buffers():
        if not torch.equal(buffer, kept[name]):
            raise _refused(
                f"changes its buffer {name} while it is trained: what is kept there is outside of the budget",
                "Replace BatchNorm by GroupNorm or LayerNorm; keep no running statistics.",
            )
    for row in (0, len(examples) - 1):
        others = examples.flip(0).roll(1, 0)
        others[row] = examples[row]
        said, learned = _of(model, trained, examples, row)
        said_beside, learned_beside = _of(model, trained, others, row)
        if _apart(said, said_beside) or any(map(_apart, learned, learned_beside)):
            raise _refused(
                "has layers that mix records: what it says of one moves when another does",
                "Replace BatchNorm by GroupNorm or LayerNorm, and take no mean over the rows.",
            )


def _run(model: nn.Module, features: torch.Tensor) -> torch.Tensor:
    torch.manual_seed(11)  # the same dropout
    try:
        made: torch.Tensor = model(features)
    except Exception as error:
        raise _refused(
            f"fails on {len(features)} rows of {features.shape[1]} features: {type(error).__name__}",
            "It is given float32 [rows, width], and rows of its own only.",
        ) from error
    return made


def _of(
    model: nn.Module, trained: list[nn.Parameter], features: torch.Tensor, row: int
) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """What the model says of a row, and the gradient of that."""
    said = _run(model, features)[row]
    weighed = (said * torch.linspace(1.0, 2.0, len(said))).sum()
    try:
        found = torch.autograd.grad(weighed, trained, allow_unused=True)
    except RuntimeError as error:
        raise _refused(
            f"has no gradient: {type(error).__name__}", "Work in place on nothing that a gradient goes through."
        ) from error
    return said.detach(), [torch.zeros(()) if g is None else g for g in found]


def _apart(a: torch.Tensor, b: torch.Tensor) -> bool:
    return not bool(((a - b).abs() <= _SAME * a.abs().clamp(min=1.0)).all())


def _refused(what: str, remedy: str) -> PlanInvalid:
    return PlanInvalid(f"the model {what}", remedy=remedy, travels=True)
