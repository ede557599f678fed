"""Sums over a group of real clients: who leaves, who lies, who fails to open, and what that costs the others."""

from pathlib import Path

import numpy as np
import pytest
from flwr.app import Context, Error, Message
from flwr.common.constant import ErrorCode

from clients.execution import ExecutionState
from clients.home import Home
from pipeline.engine.progress import ClientExcluded, Event, GroupAgreed
from pipeline.federation.clients import Admitted
from pipeline.language.packing import pack, unpack
from pipeline.language.protocol import (
    EvaluateRequest,
    JoinReply,
    RevealReply,
    RevealRequest,
    TrainReply,
    TrainRequest,
    reveal_text,
)
from pipeline.lifecycle import run_lifecycle
from privacy.errors import CohortTooSmall, RevealDisagreement, StageFailed
from privacy.keys import Identity
from privacy.statement import Statement
from privacy.wire import SIGNATURE_BYTES, signed_text
from tests.support import Federation, Killed, configured, fails

pytestmark = pytest.mark.whole


def test_a_client_that_vanishes_with_masks_on_costs_one_repeat_and_no_charge(federation: Federation) -> None:
    calls: list[int] = []

    def silent_once(message: Message, context: Context) -> Message | None:
        calls.append(1)
        return None if len(calls) == 2 else federation.grid.app(message, context)

    federation.grid.faults[("north", "train")] = silent_once
    outcome = federation.run()
    assert [len(clients) for clients in outcome.model.rounds.values()] == [6, 5, 6]
    assert federation.grid.sent.count(("east", "train")) == 4
    assert federation.charges("east")["train"] == 3
    assert outcome.model.unconfirmed == ()


def leaves(federation: Federation, after: int) -> list[int]:
    """Let north answer `after` requests to train and then fall silent; the list grows with each request."""
    calls: list[int] = []

    def silent(message: Message, context: Context) -> Message | None:
        calls.append(1)
        return federation.grid.app(message, context) if len(calls) <= after else None

    federation.grid.faults[("north", "train")] = silent
    return calls


def test_who_has_left_gets_no_key_of_what_comes_after(tmp_path: Path, dataset: Path) -> None:
    federation = Federation(tmp_path, configured(dataset, training__rounds=4))
    calls = leaves(federation, after=1)
    outcome = federation.run()
    assert [len(clients) for clients in outcome.model.rounds.values()] == [6, 5, 5, 5]
    assert len(calls) == 3, "it is not waited for in the fourth round"
    assert outcome.model.unconfirmed == ("north",)
    (second,) = federation.homes["east"].glob("executions/*/group-2.key")
    first = second.with_name("group-1.key")
    assert not list(federation.homes["north"].glob("executions/*/group-2.key"))
    assert first.read_bytes()[:32] != second.read_bytes()[:32]
    assert second.stat().st_mode & 0o777 == 0o600


def test_who_loses_the_connection_for_a_while_catches_up(tmp_path: Path, dataset: Path) -> None:
    """Three missed rounds are a matter of seconds here; Flower needs up to sixty to let a node in again."""
    federation = Federation(tmp_path, configured(dataset, training__rounds=5))
    calls: list[int] = []

    def away(message: Message, context: Context) -> Message:
        calls.append(1)
        if 1 < len(calls) <= 4:
            return Message(Error(ErrorCode.NODE_UNAVAILABLE, "Node Unavailable"), reply_to=message)
        return federation.grid.app(message, context)

    federation.grid.faults[("north", "train")] = away
    outcome = federation.run()
    assert [len(clients) for clients in outcome.model.rounds.values()] == [6, 5, 5, 5, 6]
    assert outcome.model.unconfirmed == ()
    assert federation.charges("north")["train"] == 2


def test_a_coordinator_killed_at_a_new_group_key_keeps_the_round_before_it(tmp_path: Path, dataset: Path) -> None:
    """What clients made under the first key is checkpointed before the second is agreed, and never sealed under it."""
    federation = Federation(tmp_path, configured(dataset, training__rounds=4))
    leaves(federation, after=1)

    def die(event: Event) -> None:
        if isinstance(event, GroupAgreed) and event.generation == 2:
            raise Killed

    with pytest.raises(StageFailed):
        run_lifecycle(federation.config, federation.grid, federation.workspace, die)
    outcome = federation.run()
    assert [len(clients) for clients in outcome.model.rounds.values()] == [6, 5, 5, 5]
    assert federation.charges("east")["train"] == 4
    assert outcome.evaluation.metrics["roc_auc"] > 0.5


def test_a_key_that_the_coordinator_swapped_is_noticed_by_every_client(federation: Federation) -> None:

    def swapped(message: Message, context: Context) -> Message:
        told, blobs = unpack(JoinReply, federation.grid.app(message, context).content)
        keys = Identity(bytes([7]) * 64).public.hex()
        return Message(pack(told.model_copy(update={"public_keys": keys}), blobs), reply_to=message)

    federation.grid.faults[("north", "query.join")] = swapped
    with pytest.raises(CohortTooSmall, match="group key"):
        federation.run()
    assert federation.excluded == dict.fromkeys(federation.homes, "key-mismatch") | {"north": "protocol"}


def test_a_client_that_takes_another_s_name_is_left_out_and_harms_nobody(federation: Federation) -> None:
    east = Home(federation.homes["east"]).identity.public.hex()

    def posing(message: Message, context: Context) -> Message:
        told, blobs = unpack(JoinReply, federation.grid.app(message, context).content)
        return Message(pack(told.model_copy(update={"name": "east", "public_keys": east}), blobs), reply_to=message)

    federation.grid.faults[("north", "query.join")] = posing
    keys = {name: Home(home).identity.public.hex() for name, home in federation.homes.items()}
    admitted = {name: Admitted(keys[name], node) for node, name in federation.grid.names.items()}
    outcome = run_lifecycle(
        federation.config, federation.grid, federation.workspace, federation.events.append, admitted
    )
    assert federation.excluded == {"east": "not-admitted"}
    assert outcome.evaluation.clients == ("centre", "east", "harbour", "south", "west")


def forged(message: Message, reply: Message, federation: Federation) -> Message:
    """The reply with an upload that its client signed although it is not what it should be: a client that lies."""

    request, _ = unpack(TrainRequest, message.content)
    told, blobs = unpack(TrainReply, reply.content)
    good = blobs["sealed"]
    unsigned = bytearray(good[:-SIGNATURE_BYTES])
    unsigned[-4] ^= 1  # the tag of the last block
    home = Home(federation.homes["north"])
    model = ExecutionState(home, request.execution).model()
    assert model
    statement = Statement(request.execution, "train", request.round, request.attempt.cohort, model.basis)
    signature = home.identity.sign(signed_text(statement, "north", bytes(unsigned)))
    sealed = bytes(unsigned) + signature
    return Message(pack(told, {"sealed": sealed}), reply_to=message)


@pytest.mark.parametrize("when", [2, 3])
def test_a_lying_client_costs_its_round_and_is_never_applied(federation: Federation, when: int) -> None:
    calls: list[int] = []

    def lie(message: Message, context: Context) -> Message:
        calls.append(1)
        reply = federation.grid.app(message, context)
        return forged(message, reply, federation) if len(calls) == when else reply

    federation.grid.faults[("north", "train")] = lie
    outcome = federation.run()
    assert [len(clients) for clients in outcome.model.rounds.values()] == [0 if n == when else 6 for n in (1, 2, 3)]
    assert federation.charges("east")["train"] == 3
    assert outcome.model.unconfirmed == ()


def test_a_malformed_upload_excludes_its_client_only(federation: Federation) -> None:
    def truncate(message: Message, context: Context) -> Message:
        told, blobs = unpack(TrainReply, federation.grid.app(message, context).content)
        return Message(pack(told, {"sealed": blobs["sealed"][:-7]}), reply_to=message)

    federation.grid.faults[("north", "train")] = truncate
    outcome = federation.run()
    assert federation.excluded["north"] == "upload-rejected"
    assert all(len(clients) == 5 for clients in outcome.model.rounds.values())


def test_a_client_that_opens_another_model_is_named(federation: Federation) -> None:
    def lie(message: Message, context: Context) -> Message:

        told, blobs = unpack(RevealReply, federation.grid.app(message, context).content)
        asked, _ = unpack(RevealRequest, message.content)
        identity = Home(federation.homes["west"]).identity
        signature = identity.sign(reveal_text(asked.execution, asked.what, "0" * 64)).hex()
        changed = told.model_copy(update={"digest": "0" * 64, "signature": signature})
        return Message(pack(changed, blobs), reply_to=message)

    federation.grid.faults[("west", "query.reveal")] = lie
    with pytest.raises(RevealDisagreement, match="west opened another result"):
        federation.run()


def test_a_digest_that_its_client_did_not_sign_does_not_count(federation: Federation) -> None:
    def lie(message: Message, context: Context) -> Message:

        told, blobs = unpack(RevealReply, federation.grid.app(message, context).content)
        return Message(pack(told.model_copy(update={"digest": "0" * 64}), blobs), reply_to=message)

    federation.grid.faults[("west", "query.reveal")] = lie
    outcome = federation.run()
    assert outcome.model.unconfirmed == ("west",)
    assert "west" not in outcome.model.attested
    assert len(outcome.model.attested) == 5


def test_no_value_is_handed_over_without_a_quorum_s_signatures(federation: Federation) -> None:

    refused: list[Message] = []

    def too_few(message: Message, context: Context) -> Message:
        asked, blobs = unpack(RevealRequest, message.content)
        if asked.certificate:
            some = dict(list(asked.certificate.items())[:2])
            again = {**some, **dict.fromkeys(list(asked.certificate)[2:], "00" * 64)}
            content = pack(asked.model_copy(update={"certificate": again}), blobs)
            message = Message(content, message.metadata.dst_node_id, message.metadata.message_type)
            message.metadata.__dict__["_message_id"] = "m"
        reply = federation.grid.app(message, context)
        if asked.certificate:
            refused.append(reply)
        return reply

    for name in federation.homes:
        federation.grid.faults[(name, "query.reveal")] = too_few
    with pytest.raises(CohortTooSmall, match="no client hands the result over: 2 clients vouch"):
        federation.run()
    assert all("vouch" in reply.error.reason for reply in refused)


def test_the_value_comes_from_another_client_when_the_first_is_gone(federation: Federation) -> None:
    federation.grid.faults[("centre", "query.reveal")] = fails()
    outcome = federation.run()
    assert outcome.model.unconfirmed == ("centre",)
    assert outcome.deployment.promoted


def test_the_leader_of_the_group_key_may_fail(federation: Federation) -> None:
    federation.grid.faults[("centre", "query.keys")] = fails()
    outcome = federation.run()
    assert outcome.deployment.promoted
    assert "centre" not in outcome.evaluation.clients


@pytest.mark.parametrize("blob", ["initial", "sum-1"])
def test_a_coordinator_that_gives_one_client_another_model_gets_no_sum_with_it(
    federation: Federation, blob: str
) -> None:
    """Updates of two models must not add up: their difference would tell of one client."""

    def other_model(message: Message, context: Context) -> Message:
        request, blobs = unpack(TrainRequest, message.content)
        if blob == "initial" and "initial" in blobs:
            blobs["initial"] = np.frombuffer(blobs["initial"], "<f4").copy().__iadd__(1).tobytes()
            message.content = pack(request, blobs)
        elif blob == "sum-1" and request.sums:
            message.content = pack(request.model_copy(update={"sums": request.sums[1:]}), {})
        return federation.grid.app(message, context)

    federation.grid.faults[("north", "train")] = other_model
    outcome = federation.run()
    codes = [event.code for event in federation.events if isinstance(event, ClientExcluded)]
    assert codes[0] == "upload-rejected"
    assert all(
        "north" not in clients for number, clients in outcome.model.rounds.items() if number > (blob != "initial")
    )


def test_all_clients_evaluate_the_weights_the_request_names(federation: Federation) -> None:
    def other_weights(message: Message, context: Context) -> Message:
        request, blobs = unpack(EvaluateRequest, message.content)
        if blobs:
            message.content = pack(request, {"weights": bytes(len(blobs["weights"]))})
        return federation.grid.app(message, context)

    federation.grid.faults[("north", "evaluate")] = other_weights
    outcome = federation.run()
    assert "north" not in outcome.evaluation.clients
    assert federation.charges("north") == {"validate": 1, "train": 3}
