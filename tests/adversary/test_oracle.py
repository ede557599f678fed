"""Decryption as an oracle: whoever adds may send any ciphertext and hear whether it opens.

From answers to 3,421 questions about one key the key followed, and with it every sum of its run. A client answers one
question about a round, and a key that failed to open once opens nothing more.
"""

import json
from collections.abc import Callable

import pytest

from pipeline.language.protocol import SumRef
from tests.adversary.coordinator import Coordinator, Refused, altered

Sum = tuple[SumRef, bytes]
Opening = Callable[[Coordinator, Sum], object]

NAMES = ("centre", "east", "harbour", "north", "south", "west")


def next_round(liar: Coordinator, total: Sum) -> object:
    return liar.train("e1", "east", NAMES, [total], round=2)


def reveal_model(liar: Coordinator, total: Sum) -> object:
    return liar.reveal("east", "e1", "model", [total])


def reveal_counts(liar: Coordinator, total: Sum) -> object:
    return liar.reveal("east", "e1", "counts", [total])


def made(liar: Coordinator, purpose: str) -> Sum:
    terms = liar.group("e1", "train" if purpose == "train" else "evaluate", NAMES)
    return liar.trained("e1", terms, NAMES) if purpose == "train" else liar.evaluated("e1", terms, NAMES)


OPENINGS = [("train", next_round), ("train", reveal_model), ("evaluate", reveal_counts)]


@pytest.mark.parametrize(("purpose", "opening"), OPENINGS)
def test_after_a_sum_that_does_not_open_no_other_is_decrypted(
    liar: Coordinator, purpose: str, opening: Opening, monkeypatch: pytest.MonkeyPatch
) -> None:
    from privacy.cipher import Bfv

    ref, honest = made(liar, purpose)
    decrypted: list[object] = []
    real = Bfv.decrypt

    def counted(self: Bfv, body: memoryview, form: object) -> object:
        decrypted.append(body)
        return real(self, body, form)  # type: ignore[arg-type]

    monkeypatch.setattr(Bfv, "decrypt", counted)
    refusals = []
    for sealed in (altered(honest), honest, altered(honest, 1000), altered(honest)):
        with pytest.raises(Refused) as refused:
            opening(liar, (ref, sealed))
        refusals.append(str(refused.value))
    assert len(decrypted) == 1, "one question, ever"
    assert set(refusals) == {"sum-rejected: the sum does not open"}, "the same words whatever the reason"
    alert = next(alert for alert in liar.home("east").alerts.every() if alert.code == "sum-rejected")
    assert alert.times == 4, "its owner sees it"


@pytest.mark.parametrize(("purpose", "opening"), OPENINGS)
def test_after_a_sum_that_opened_no_other_is_decrypted(liar: Coordinator, purpose: str, opening: Opening) -> None:
    ref, honest = made(liar, purpose)
    opening(liar, (ref, honest))
    if opening is next_round:
        liar.train("e1", "east", NAMES, [(ref, honest)], round=2)  # a copy of the message is no question
        return
    first = liar.reveal("east", "e1", "counts" if purpose == "evaluate" else "model", [(ref, honest)])
    again = liar.reveal("east", "e1", "counts" if purpose == "evaluate" else "model", [(ref, altered(honest))])
    assert first[0].digest == again[0].digest, "it vouches for what it vouched for, and looks at nothing else"


@pytest.mark.parametrize(
    "changed",
    [
        {"clients": NAMES[:5], "absent": NAMES[5:]},
        {"clients": NAMES[:5]},
        {"terms": "0" * 32},
    ],
)
def test_the_same_bytes_under_another_claim_are_another_question(
    liar: Coordinator, changed: dict[str, tuple[str, ...]]
) -> None:
    ref, honest = made(liar, "evaluate")
    with pytest.raises(Refused, match="sum-rejected: the sum does not open"):
        liar.reveal("east", "e1", "counts", [(ref.model_copy(update=changed), honest)])
    with pytest.raises(Refused, match="sum-rejected: the sum does not open"):
        liar.reveal("east", "e1", "counts", [(ref, honest)])


def test_rounds_that_never_were_are_no_way_round(liar: Coordinator) -> None:
    """Each round would be one more question: after the first that fails, the key opens nothing."""
    ref, honest = made(liar, "train")
    for number in range(2, 12):
        claim = ref.model_copy(update={"round": number})
        with pytest.raises(Refused, match="sum-rejected: the sum does not open"):
            liar.train("e1", "east", NAMES, [(claim, altered(honest, 40 + number))], round=number + 1)
    opened = liar.home("east").execution_folder("e1") / "opened-train.json"
    assert list(json.loads(opened.read_text())) == ["2"]


def test_an_honest_run_goes_on_under_a_new_key(liar: Coordinator) -> None:
    ref, honest = made(liar, "train")
    with pytest.raises(Refused, match="sum-rejected"):
        next_round(liar, (ref, altered(honest)))
    request = liar.keys_request("e1", NAMES, generation=2)
    offer = liar.offer(request)
    for name in NAMES:
        liar.give(name, request, offer)
    attempt = {"generation": 2, "cohort": NAMES}
    liar.train("e1", "east", NAMES, round=2, attempt=attempt)


def test_a_key_for_one_purpose_opens_nothing_else(liar: Coordinator) -> None:
    ref, honest = made(liar, "train")
    with pytest.raises(Refused, match="the group is for train, not for counts"):
        liar.reveal("east", "e1", "counts", [(ref, honest)])
    with pytest.raises(Refused, match="the group is for train, not for evaluate"):
        liar.evaluate("e1", "east", NAMES)
    with pytest.raises(Refused, match="was agreed on otherwise"):
        liar.group("e1", "evaluate", NAMES)
