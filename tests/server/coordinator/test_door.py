"""The door's book: who is cut when there are too many, and who never is."""

import socket
from collections.abc import Callable, Iterator

import pytest

from server.coordinator import door as doors
from server.coordinator.door import Door

Connection = tuple[socket.socket, socket.socket, tuple[str, int]]
"""Its far end, its near end, and where it comes from."""
Arrive = Callable[..., Connection]


@pytest.fixture
def said() -> list[tuple[str, int]]:
    return []


@pytest.fixture
def door(said: list[tuple[str, int]]) -> Iterator[Door]:
    with Door("127.0.0.1", 0, lambda address, connections: said.append((address, connections))) as made:
        made.listen(100)
        yield made


@pytest.fixture
def arrive(door: Door) -> Iterator[Arrive]:
    """One more connection."""
    made: list[Connection] = []

    def come(source: str = "127.0.0.1") -> Connection:
        far = socket.socket()
        far.bind((source, 0))
        far.connect(door.getsockname())
        near, peer = door.accept()
        made.append((far, near, peer))
        return made[-1]

    yield come
    for far, near, _ in made:
        far.close()
        near.close()


def is_cut(far: socket.socket) -> bool:
    far.setblocking(False)
    try:
        return far.recv(1) == b""
    except BlockingIOError:
        return False


def test_of_a_crowded_address_the_oldest_stranger_goes(door: Door, arrive: Arrive) -> None:
    lonely = arrive("127.0.0.9")
    proven = arrive()
    door.prove(proven[2], "east")
    crowd = [arrive() for _ in range(doors.AN_ADDRESS + 5)]
    assert [is_cut(far) for far, _, _ in crowd] == [True] * 5 + [False] * doors.AN_ADDRESS
    assert not is_cut(proven[0])
    assert not is_cut(lonely[0])


def test_one_admitted_key_does_not_fill_the_house(door: Door, arrive: Arrive) -> None:
    own = []
    for _ in range(doors.A_KEY + 4):
        own.append(arrive())
        door.prove(own[-1][2], "east")
    assert sum(is_cut(far) for far, _, _ in own) == 4
    other = arrive()
    door.prove(other[2], "south")
    assert not is_cut(other[0])


def test_who_leaves_is_forgotten(door: Door, arrive: Arrive) -> None:
    _, near, _ = arrive()
    assert door.guests == 1
    near.close()
    near.close()
    assert door.guests == 0


def test_who_shows_nothing_for_too_long_goes(door: Door, arrive: Arrive, monkeypatch: pytest.MonkeyPatch) -> None:
    stranger, known = arrive(), arrive()
    door.prove(known[2], "east")
    monkeypatch.setattr(doors, "SECONDS", -1.0)
    door.sweep()
    assert (is_cut(stranger[0]), is_cut(known[0])) == (True, False)


def test_that_it_is_crowded_is_said_once(arrive: Arrive, said: list[tuple[str, int]]) -> None:
    for _ in range(doors.AN_ADDRESS + 20):
        arrive()
    assert said == [("127.0.0.1", doors.AN_ADDRESS + 1)]
