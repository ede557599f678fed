"""The one place that talks to a grid: send an action, wait, tell replies from failures, hold the minimum cohort.

A client that fails is named and excluded from that request; the run goes on while the minimum cohort holds.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Generic, TypeVar

from flwr.app import Error, Message
from flwr.common.constant import ErrorCode
from flwr.serverapp import Grid
from pydantic import BaseModel

from pipeline.engine.progress import ClientExcluded, Progress, Traffic
from pipeline.federation.exchange import exchange
from pipeline.federation.failures import Failure, shortfall, told
from pipeline.language.packing import Blobs, Packer, size_of, unpack
from pipeline.language.protocol import Action, JoinReply, JoinRequest, own_version
from pipeline.store.heads import Heads
from privacy.errors import SottovoceError

Reply = TypeVar("Reply", bound=BaseModel)


@dataclass(frozen=True)
class Answer(Generic[Reply]):
    """What one client answered."""

    client: str
    reply: Reply
    blobs: dict[str, bytes]


@dataclass(frozen=True)
class Admitted:
    """A client of the roster: its public keys, hex, and the node the transport knows it by."""

    public_keys: str
    node: int


UNREACHABLE = f"flower-{ErrorCode.NODE_UNAVAILABLE}"
"""Code of a client that is not connected; it may come back."""


@dataclass
class Asked(Generic[Reply]):
    """Everything that came of one request."""

    answers: list[Answer[Reply]] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)

    @property
    def clients(self) -> list[str]:
        return sorted(answer.client for answer in self.answers)


Request = BaseModel | Callable[[str], BaseModel]
"""The same request for everyone, or one by client name. Likewise blobs."""


class Clients:
    """The clients of one run behind one Flower grid."""

    sendable: ClassVar[bool] = False

    def __init__(
        self,
        grid: Grid,
        *,
        min_cohort: int,
        timeout: float,
        progress: Progress,
        heads: Heads,
        admitted: Mapping[str, Admitted] | None = None,
    ) -> None:
        """admitted: who may join, by name; None: whoever the transport lets in."""
        self.grid = grid
        self._admitted = admitted
        self.heads = heads
        self.min_cohort = min_cohort
        self.timeout = timeout
        self.progress = progress
        self._joined: dict[str, Admitted] = {}
        self._strangers: set[str] = set()

    @property
    def clients(self) -> list[str]:
        """Names of the clients that joined."""
        return sorted(self._joined)

    def join(self, expected: int | None = None, wanted: JoinRequest | None = None) -> dict[str, JoinReply]:
        """Ask every connected node who it is, and whether it can what is wanted.

        Waits for `expected` nodes, or at least for the minimum cohort.

        A node that was lost on the way, and may come back, is waited for as well. Raises CohortTooSmall when fewer
        than the minimum joined. Two nodes with one name: both are excluded.
        """
        enough, deadline = expected or self.min_cohort, time.monotonic() + self.timeout
        request = wanted or JoinRequest(version=own_version())
        known = {who.node: name for name, who in (self._admitted or {}).items()}
        labels: dict[str, int] = {}
        asked: Asked[JoinReply] = Asked()
        while True:
            nodes = {known.get(node, f"node {node}"): node for node in self._wait_for_nodes(enough, deadline)}
            labels |= nodes
            again = {label: node for label, node in nodes.items() if label not in asked.clients}
            asked.failures.clear()
            for item in self._send(Action.JOIN, request, JoinReply, again, {}):
                self._sort(item, asked)
            lost = any(failure.code.startswith("flower-") for failure in asked.failures)
            if len(asked.answers) >= enough or not lost or time.monotonic() > deadline:
                break
            time.sleep(1.0)
        by_name: dict[str, list[Answer[JoinReply]]] = {}
        self._joined.clear()
        for answer in asked.answers:
            name = answer.reply.name
            who = Admitted(answer.reply.public_keys, labels[answer.client])
            if self._admitted is not None and self._admitted.get(name) != who:
                self.exclude(asked, Failure(name, "not-admitted", "the roster has no such client at this node"))
            else:
                by_name.setdefault(name, []).append(answer)
        for name, answers in by_name.items():
            if len(answers) > 1:
                self.exclude(asked, Failure(name, "duplicate-name", f"{len(answers)} nodes use this name"))
            else:
                self._joined[name] = Admitted(answers[0].reply.public_keys, labels[answers[0].client])
        self._demand("joining", self.clients, asked.failures)
        return {name: by_name[name][0].reply for name in self.clients}

    def meet(self, keys: Mapping[str, str]) -> None:
        """Make sure that the clients with these public keys (hex, by name) can be asked, also in a process that has
        not enrolled them. Raises CohortTooSmall.

        Who shows other keys than at its enrolment is somebody else, and is not asked. Who is away now is like one that
        has left.
        """
        if not self._joined:
            self.join()
        for name, key in keys.items():
            if name in self._joined and self._joined[name].public_keys != key:
                del self._joined[name]
                self._strangers.add(name)
            known = (self._admitted or {}).get(name)
            if name not in self._joined and known and known.public_keys == key:
                self._joined[name] = known  # its messages wait for it
        strangers = [_stranger(name) for name in sorted(self._strangers)]
        self._demand("joining again", [name for name in self.clients if name in keys], strangers)

    def ask(
        self,
        action: Action,
        request: Request,
        reply: type[Reply],
        *,
        clients: Iterable[str],
        blobs: Blobs | Callable[[str], Blobs] | None = None,
        at_least: int | None = None,
    ) -> Asked[Reply]:
        """Ask `clients` and wait for all. Raises CohortTooSmall below `at_least` (default: the minimum cohort)."""
        asked: Asked[Reply] = Asked()
        for item in self.stream(action, request, reply, clients=clients, blobs=blobs):
            self._sort(item, asked)
        self._demand(action.value, asked.clients, asked.failures, at_least)
        return asked

    def stream(
        self,
        action: Action,
        request: Request,
        reply: type[Reply],
        *,
        clients: Iterable[str],
        blobs: Blobs | Callable[[str], Blobs] | None = None,
    ) -> Iterator[Answer[Reply] | Failure]:
        """Answers and failures as they arrive; whoever is silent at the deadline comes last, as a failure."""
        asked = list(clients)
        for name in asked:
            if name in self._strangers:
                yield _stranger(name)
            elif name not in self._joined:
                yield Failure(name, UNREACHABLE, "it is not connected")
        nodes = {name: self._joined[name].node for name in asked if name in self._joined}
        yield from self._send(action, request, reply, nodes, blobs or {})

    def exclude(self, asked: Asked[Reply], failure: Failure) -> None:
        """Name a client that has no usable answer."""
        asked.failures.append(failure)
        self.progress(ClientExcluded(failure.client, failure.code, failure.text))

    def demand(self, what: str, asked: Asked[Reply], *, charged: bool = False) -> None:
        """Raise CohortTooSmall unless the minimum cohort answered. charged: whoever answered was charged for it."""
        self._demand(what, asked.clients, asked.failures, charged=charged)

    def _sort(self, item: Answer[Reply] | Failure, asked: Asked[Reply]) -> None:
        if isinstance(item, Failure):
            self.exclude(asked, item)
        else:
            asked.answers.append(item)

    def _demand(
        self,
        what: str,
        clients: list[str],
        failures: list[Failure],
        at_least: int | None = None,
        *,
        charged: bool = False,
    ) -> None:
        least = self.min_cohort if at_least is None else at_least
        if len(clients) < least:
            missing = told(failures) or "not enough clients are connected"
            paid = f" It was charged at {', '.join(clients)}, and will not be again." if charged and clients else ""
            raise shortfall(
                f"{what}: {len(clients)} of {len(clients) + len(failures)} clients answered, at least {least} must. "
                f"Missing: {missing}. Nothing was applied.{paid}",
                failures,
            )

    def _wait_for_nodes(self, least: int, deadline: float) -> list[int]:
        while True:
            nodes = sorted(self.grid.get_node_ids())
            if len(nodes) >= least or time.monotonic() > deadline:
                return nodes
            time.sleep(0.25)

    def _send(
        self,
        action: Action,
        request: Request,
        reply: type[Reply],
        nodes: Mapping[str, int],
        blobs: Blobs | Callable[[str], Blobs],
    ) -> Iterator[Answer[Reply] | Failure]:
        packer = Packer()
        names = list(nodes)
        messages = [
            Message(
                packer.pack(request(name) if callable(request) else request, blobs(name) if callable(blobs) else blobs),
                nodes[name],
                action.value,
            )
            for name in names
        ]
        silent = set(names)
        down = sum(size_of(message.content) for message in messages)
        up = 0
        for index, message in exchange(self.grid, messages, self.timeout):
            client = names[index]
            silent.discard(client)
            if message.has_error():
                yield _failure(client, message.error)
                continue
            up += size_of(message.content)
            try:
                document, out = unpack(reply, message.content)
            except SottovoceError as error:
                yield Failure(client, error.code, error.cause)
                continue
            yield Answer(client, document, out)
        for client in sorted(silent):
            yield Failure(client, "no-answer", f"no answer in {self.timeout:.0f} s")
        self.progress(Traffic(up=up, down=down))


def _stranger(name: str) -> Failure:
    return Failure(name, "not-the-cohort", "it shows other keys than at its enrolment")


def printable(text: str) -> str:
    """What a client says, for a terminal: no control characters, which could move its cursor or hide lines."""
    return "".join(character if character.isprintable() else " " for character in text)


def _failure(client: str, error: Error) -> Failure:
    """The failure a Flower error stands for. Text is shown only if it came sanitised from our own handler."""
    try:
        fields = json.loads(error.reason or "")
        return Failure(client, printable(str(fields["code"])[:80]), printable(str(fields["message"])[:500]))
    except (ValueError, KeyError, TypeError):
        code = f"flower-{error.code}"
        text = "it is not connected" if code == UNREACHABLE else "its process died or its app raised; see its own log"
        return Failure(client, code, text)
