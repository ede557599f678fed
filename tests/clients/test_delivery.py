"""What a network does to messages: they come twice, late, and in another order."""

import numpy as np
import pytest
from flwr.app import Context, Message

from pipeline.language.protocol import Action
from tests.support import Federation

pytestmark = pytest.mark.whole


def test_messages_that_come_twice_change_nothing(federation: Federation) -> None:
    def twice(message: Message, context: Context) -> Message:
        federation.grid.app(message, context)
        return federation.grid.app(message, context)

    for name in federation.homes:
        for action in Action:
            federation.grid.faults[(name, action.value)] = twice
    outcome = federation.run()
    assert all(len(clients) == 6 for clients in outcome.model.rounds.values())
    assert federation.charges() == {"validate": 1, "train": 3, "evaluate": 1}
    assert federation.excluded == {}


def test_all_messages_of_a_run_once_more_in_any_order_cost_and_tell_nothing_new(federation: Federation) -> None:
    heard: list[tuple[Message, Context]] = []

    def noted(message: Message, context: Context) -> Message:
        heard.append((message, context))
        return federation.grid.app(message, context)

    for name in federation.homes:
        for action in Action:
            federation.grid.faults[(name, action.value)] = noted
    federation.run()
    before = {name: federation.charges(name) for name in federation.homes}
    models = {
        path: path.read_bytes() for home in federation.homes.values() for path in home.glob("executions/*/model*")
    }
    for seed in range(2):
        for number in np.random.default_rng(seed).permutation(len(heard)):
            message, context = heard[number]
            reply = federation.grid.app(message, context)
            if message.metadata.message_type == Action.TRAIN:
                assert reply.has_error(), "the model was revealed: no round is sealed once more"
    assert {name: federation.charges(name) for name in federation.homes} == before
    assert {path: path.read_bytes() for path in models} == models


def test_a_round_that_is_delivered_late_is_none_of_the_next(federation: Federation) -> None:
    kept: list[Message] = []

    def late(message: Message, context: Context) -> Message:
        kept.append(message)
        return federation.grid.app(kept[0] if len(kept) == 2 else message, context)

    federation.grid.faults[("north", "train")] = late
    outcome = federation.run()
    assert federation.charges("north")["train"] <= 3
    assert "north" not in outcome.model.rounds[2]
    assert federation.excluded["north"] == "upload-rejected"
