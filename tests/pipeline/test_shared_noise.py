"""Noise that clients share at record level: less of it, and nobody is told otherwise than the others."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from flwr.app import Context, Message

from clients.home import Home
from pipeline.language.noise import LEVELS
from pipeline.language.packing import pack, unpack
from pipeline.language.protocol import AskedShares, EvaluateRequest, TrainRequest
from pipeline.learning.models.model import Model
from pipeline.learning.models.summing import NORM
from privacy.budget import Line
from privacy.errors import CohortTooSmall
from tests.pipeline.test_sums import SHARED, added, reserved
from tests.support import Federation

pytestmark = pytest.mark.whole


def test_noise_that_is_shared_is_less(tmp_path: Path, dataset: Path) -> None:
    """Of four honest clients each adds half of what it would need alone; and the evaluation says so."""
    errors = {}
    for noise in ("own", "shared"):
        federation = Federation(tmp_path / noise, added(dataset, privacy={**SHARED, "noise": noise}))
        errors[noise] = federation.run().evaluation.noise
        assert math.isfinite(errors[noise])
    honest = 3
    assert errors["own"] / errors["shared"] == pytest.approx(math.sqrt(honest), rel=0.1)


def _tampering(federation: Federation, change: Callable[[TrainRequest], TrainRequest]) -> Callable[..., Message | None]:
    def tampered(message: Message, context: Context) -> Message | None:
        request, blobs = unpack(TrainRequest, message.content)
        again = Message(pack(change(request), blobs), message.metadata.dst_node_id, message.metadata.message_type)
        again.metadata.__dict__["_message_id"] = "m"
        return federation.grid.app(again, context)

    return tampered


@pytest.mark.parametrize("cohort", [2, 40])
def test_a_cohort_that_is_not_there_shares_no_noise(tmp_path: Path, dataset: Path, cohort: int) -> None:
    """Told that forty share it each would add a sixth of what it has to; told of two, it would spoil nobody's."""
    federation = Federation(tmp_path, added(dataset))

    def told(request: TrainRequest) -> TrainRequest:
        assert request.shares
        return request.model_copy(update={"shares": request.shares.model_copy(update={"cohort": cohort})})

    for name in federation.homes:
        federation.grid.faults[(name, "train")] = _tampering(federation, told)
    with pytest.raises(CohortTooSmall):
        federation.run()
    assert federation.charges().get("train", 0) in (0, 1)
    if cohort == 40:
        assert federation.charges().get("train", 0) == 0


def test_one_client_that_is_told_otherwise_is_not_in_the_sum(tmp_path: Path, dataset: Path) -> None:
    federation = Federation(tmp_path, added(dataset))

    def told(request: TrainRequest) -> TrainRequest:
        assert request.privacy != "none"
        return request.model_copy(update={"privacy": request.privacy.model_copy(update={"epsilon": 15.0})})

    federation.grid.faults[("north", "train")] = _tampering(federation, told)
    outcome = federation.run()
    assert federation.excluded["north"] in ("upload-rejected", "protocol")
    assert all("north" not in clients for clients in outcome.model.rounds.values())


def test_a_line_that_would_make_shares_unequal_is_refused(tmp_path: Path, dataset: Path) -> None:
    """What steps leave of epsilon depends on the rows that a client declares: each would add another share."""
    federation = Federation(tmp_path, added(dataset))
    steps = Line("bogus", "training", share=0.9, batch=1000, epochs=1)
    told = _tampering(federation, lambda request: request.model_copy(update={"lines": (steps, *request.lines)}))
    for name in federation.homes:
        federation.grid.faults[(name, "train")] = told
    with pytest.raises(CohortTooSmall, match="beside a line that is not of sums"):
        federation.run()
    assert "train" not in federation.charges()


def test_a_second_line_of_one_purpose_shares_nobody_s_noise(tmp_path: Path, dataset: Path) -> None:
    """A run that says `own` beside a line that says shared: an owner was asked about the one, and noise would follow
    the other."""
    config = added(dataset, privacy={**SHARED, "noise": "own"})
    federation = Federation(tmp_path, config)

    def told(message: Message, context: Context) -> Message | None:
        request, blobs = unpack(EvaluateRequest, message.content)
        (line,) = [line for line in request.lines if line.purpose == "evaluation"]
        lines = (*request.lines, replace(line, shared=True))
        changed = request.model_copy(update={"lines": lines, "shares": AskedShares(cohort=4)})
        again = Message(pack(changed, blobs), message.metadata.dst_node_id, message.metadata.message_type)
        again.metadata.__dict__["_message_id"] = "m"
        return federation.grid.app(again, context)

    for name in federation.homes:
        federation.grid.faults[(name, "evaluate")] = told
    with pytest.raises(CohortTooSmall, match="two lines of the budget have one purpose"):
        federation.run()
    assert "evaluate" not in federation.charges()


def test_an_owner_can_insist_on_noise_of_its_own(tmp_path: Path, dataset: Path) -> None:
    federation = Federation(tmp_path, added(dataset))
    home = Home(federation.homes["north"])
    Home.write_policy(home.root, home.policy.model_copy(update={"shared_noise": False}))
    outcome = federation.run()
    assert federation.excluded["north"] == "action-forbidden"
    assert all("north" not in clients for clients in outcome.model.rounds.values())
    assert not [row for row in reserved(federation, "north") if "/train/" in row.id]


def test_too_few_pause_the_run_and_it_goes_on_when_they_are_back(tmp_path: Path, dataset: Path) -> None:
    federation = Federation(tmp_path, added(dataset))
    calls: list[int] = []

    def away(message: Message, context: Context) -> Message | None:
        calls.append(1)
        return federation.grid.app(message, context) if len(calls) < 10 else None

    for name in ("north", "south", "west"):
        federation.grid.faults[(name, "train")] = away
    with pytest.raises(CohortTooSmall):
        federation.run()
    federation.grid.faults.clear()
    outcome = federation.run()
    assert outcome.evaluation.clients
    assert federation.charges("east")["train"] <= 8


def test_counts_are_fine_enough_to_be_noised_in_shares() -> None:
    """A share of less than some levels would not add up to the noise that is accounted for."""
    assert NORM >= LEVELS
    assert Model.of({"kind": "additive"}).sums == 40
