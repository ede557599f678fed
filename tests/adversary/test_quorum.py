"""Two values of one execution would tell their difference: one client's update, masks on and nobody colluding."""

import random
from pathlib import Path

import pytest

from privacy.statement import agreed
from tests.adversary.coordinator import Coordinator, Refused, counts_of
from tests.support import configured, homes_for


def federation(tmp_path: Path, dataset: Path, clients: int, least: int) -> Coordinator:
    config = configured(
        dataset,
        simulation__partition_by=None,
        simulation__clients=clients,
        simulation__lifetime_epsilon=1000.0,
        federation__min_cohort=least,
    )
    liar = Coordinator(homes_for(config, tmp_path / "clients"), config)
    liar.prepare()
    return liar


@pytest.mark.parametrize(("clients", "least"), [(4, 2), (5, 2), (6, 2), (6, 3), (7, 3), (9, 3)])
def test_no_schedule_reveals_two_values(tmp_path: Path, dataset: Path, clients: int, least: int) -> None:
    """The sum of all, and that of all but one who is said to have vanished: every client is shown one of them, some of
    them the other one afterwards, in any order, and certificates are made of whatever was signed."""
    liar = federation(tmp_path, dataset, clients, least)
    names = sorted(liar.homes)
    draw = random.Random(clients * 100 + least)
    for number in range(3):
        execution = f"e{number}"
        terms = liar.group(execution, "evaluate", names)
        whole = liar.evaluated(execution, terms, names)
        fewer = names[:-1]
        again = {name: liar.evaluate(execution, name, fewer) for name in fewer}
        part = liar.add(terms, 1, again, fewer, agreed(liar.basis, ""))
        signed: dict[str, dict[str, str]] = {}
        asked = [(name, total) for name in names for total in (whole, part)]
        draw.shuffle(asked)
        if number == 0:  # half of them first, as the attack did it
            asked = [(n, whole) for n in names[: clients // 2]] + [(n, part) for n in names[clients // 2 :]] + asked
        for name, total in asked:
            try:
                reply, _ = liar.reveal(name, execution, "counts", [total])
            except Refused:
                continue
            signed.setdefault(reply.digest, {})[name] = reply.signature
        assert all(len({d for d, who in signed.items() if name in who}) <= 1 for name in names), "one signature each"
        everything = {name: signature for of in signed.values() for name, signature in of.items()}
        values = set()
        for name in names:
            for certificate in (*signed.values(), everything):
                for total in (whole, part):
                    try:
                        _, blobs = liar.reveal(name, execution, "counts", [total], certificate)
                    except Refused:
                        continue
                    if "value" in blobs:
                        values.add(blobs["value"])
        assert len(values) <= 1


def test_an_honest_group_reveals(tmp_path: Path, dataset: Path) -> None:
    liar = federation(tmp_path, dataset, 6, 3)
    names = sorted(liar.homes)
    total = liar.evaluated("e1", liar.group("e1", "evaluate", names), names)
    certificate = {name: liar.reveal(name, "e1", "counts", [total])[0].signature for name in names[:4]}
    with pytest.raises(Refused, match="3 clients vouch for the result; of a group of 6 at least 4 must"):
        liar.reveal(names[0], "e1", "counts", [total], dict(list(certificate.items())[:3]))
    _, blobs = liar.reveal(names[0], "e1", "counts", [total], certificate)
    assert len(counts_of(blobs["value"])) == 2 * liar.config.evaluation.bins


def test_a_model_is_revealed_once_and_no_round_is_added_to_it(generous: Coordinator) -> None:
    """Asked for the model after one round, a client opens no second one and vouches for no other model."""
    names = sorted(generous.homes)
    terms = generous.group("e1", "train", names)
    first = generous.trained("e1", terms, names)
    second = generous.trained("e1", terms, names, 2, [first])
    early, _ = generous.reveal("east", "e1", "model", [first])
    late, _ = generous.reveal("east", "e1", "model", [first, second])
    assert early.digest == late.digest
    with pytest.raises(Refused, match="takes no further round"):
        generous.train("e1", "east", names, [first, second], round=3)


def test_a_digest_says_nothing_of_what_it_stands_for(liar: Coordinator) -> None:
    """Few small counts could be tried until their digest is met: it is salted with what the coordinator never had."""
    import hashlib

    names = sorted(liar.homes)
    total = liar.evaluated("e1", liar.group("e1", "evaluate", names), names)
    replies = {name: liar.reveal(name, "e1", "counts", [total])[0] for name in names}
    certificate = {name: reply.signature for name, reply in replies.items()}
    _, blobs = liar.reveal("east", "e1", "counts", [total], certificate)
    digest = replies["east"].digest
    assert digest != hashlib.sha256(blobs["value"]).hexdigest()
    assert digest == hashlib.sha256(blobs["salt"] + blobs["value"]).hexdigest()


def test_a_second_first_generation_is_refused(liar: Coordinator) -> None:
    """A smaller first roster would make a smaller quorum, and a recorded offer a second set of sums."""
    names = sorted(liar.homes)
    liar.group("e1", "evaluate", names)
    with pytest.raises(Refused, match="generation 1 was agreed on otherwise"):
        liar.group("e1", "evaluate", names[:5])
    again = liar.keys_request("e1", names, purpose="evaluate")
    offer = liar.offer(again)
    with pytest.raises(Refused, match="generation 1 was taken under another key"):
        liar.give("east", again, offer)
