"""Flower's SuperNode, looking for messages eagerly while a run is under way, and not held up by a run that ended.

    python -m clients.node.supernode ARGUMENTS OF flower-supernode

It looks four times a second for a minute after the last message, and every three seconds otherwise
(pipeline.host.pace).

A run that ends while a node is still receiving its message would leave the node's task waiting two hours for the rest
of it, and no other message is worked on meanwhile. Here such a message counts as not received, which ends the task.

A reply whose upload was interrupted, or took longer than the SuperLink waits, would be thrown away, with all the work
and the budget in it. Here it is announced once more, and what is missing of it is sent.

A task that was ended may still answer. The node would take that for the reply to its next message, pull another one,
and from then on be one reply behind: every reply would lie there until the next message comes. Here the node goes on
sending until the message it has pulled is answered.

Its liveness is the last call that was answered, not its process. At some errors of TLS or of the SuperLink the main
thread gives up while others keep the process; here it ends with it, whoever looks after it (pipeline.host.services)
starts another one, and a node that heard nothing for long is taken for dead.

Private API of flwr: flwr.supernode.start_client_internal, flwr.supercore.run, flwr.supercore.inflatable.
"""

from __future__ import annotations

import os
import sys
import threading
import time
import traceback
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

from pipeline.host.environment import quiet_environment
from pipeline.host.pace import PEER_PAUSE, Pace, pull_eagerly

HEARD = "SOTTOVOCE_HEARD"
"""Names the file whose time is that of the last call that was answered."""
ATTEMPTS = 5
"""How often one reply is announced again."""


def heeding_ends(pull: Callable[..., Any], heard: Callable[..., Any]) -> Callable[..., Any]:
    """`pull`, in whose downloads the end of the run is a failure like any other. heard: notes that one was answered."""
    from flwr.supercore.run import RunNotRunningException

    def failing(download: Callable[..., Any]) -> Callable[..., Any]:
        def one(*arguments: Any) -> Any:
            try:
                return heard(download)(*arguments)
            except RunNotRunningException:
                raise ConnectionAbortedError("the run has ended") from None

        return one

    def heeded(*arguments: Any, **named: Any) -> Any:
        for name in ("pull_object", "confirm_message_received"):
            named[name] = failing(named[name])
        return pull(*arguments, **named)

    return heeded


class Resending:
    """Flower's two calls that send a reply: its announcement, and each object of it under the session that opened.

    The SuperLink takes an announcement as long as nobody fetches the reply. Then it asks for nothing, and what is
    still missing arrives only without the name of a session, as from a node that knows no sessions yet.
    """

    def __init__(self, send: Callable[..., Any], push: Callable[..., None]) -> None:
        self._send, self._push = send, push
        self._lock = threading.Lock()  # objects are pushed from two threads
        self._announced: tuple[Any, ...] = ()
        self._session = ""
        self._handed: dict[str, bytes] = {}

    def send(self, *announced: Any) -> tuple[set[str], str]:
        """Announce a reply; which of its objects to push, and the session to push them in."""
        self._announced, self._handed = announced, {}
        return self._announce(), self._session

    def push(self, run: int, _: str, object: str, content: bytes) -> None:
        """Send one object, in a new session if need be. Raises Flower's ObjectPushError after so many."""
        self._handed[object] = content
        session = self._session
        if not self._put(run, session, object):
            with self._lock:
                if session == self._session:  # else the other thread has begun again, and sent this one too
                    self._begin_again(run)

    def _announce(self) -> set[str]:
        from flwr.supercore.inflatable.inflatable_object import iterate_object_tree

        missing, self._session = self._send(*self._announced)
        if missing:
            return set(missing)
        self._session = ""
        return {node.object_id for node in iterate_object_tree(self._announced[1])}

    def _begin_again(self, run: int) -> None:
        """Announce the reply once more and send what is missing of what was handed over."""
        from flwr.supercore.inflatable.inflatable_utils import ObjectPushError

        for _ in range(ATTEMPTS):
            handed = self._announce() & self._handed.keys()
            refused = [object for object in sorted(handed) if not self._put(run, self._session, object)]
            if not refused:
                return
        raise ObjectPushError(refused[0], run, self._session)

    def _put(self, run: int, session: str, object: str) -> bool:
        """Send one object. Whether it is there now; without a session, what is not taken is not missing."""
        from flwr.supercore.inflatable.inflatable_utils import ObjectPushError

        try:
            self._push(run, session, object, self._handed[object])
            return True
        except ObjectPushError:
            return not session


def resending(push_messages: Callable[..., None], heard: Callable[..., Any]) -> Callable[..., None]:
    """`push_messages`, with a reply announced again when sending it fails. heard: notes that a call was answered."""

    def patient(*, send: Callable[..., Any], push_object: Callable[..., None], **rest: Any) -> None:
        again = Resending(heard(send), heard(push_object))
        push_messages(send=again.send, push_object=again.push, **rest)

    return patient


class OneForOne:
    """Flower's pull of one message and push of what lies ready, the latter until it has answered the former."""

    def __init__(self, pull: Callable[..., Any], push: Callable[..., None]) -> None:
        self._pull, self._push = pull, push
        self._open = ""
        """Id of the message that was pulled and is not answered."""

    def pull(self, *, receive: Callable[[], Any], **rest: Any) -> Any:
        def noted() -> Any:
            if (found := receive()) is not None:
                self._open = found[0].metadata.message_id
            return found

        return self._pull(receive=noted, **rest)

    def push(self, *, send: Callable[..., Any], **rest: Any) -> None:
        def noted(reply: Any, *more: Any) -> Any:
            if reply.metadata.reply_to_message_id == self._open:
                self._open = ""
            return send(reply, *more)

        self._push(send=noted, **rest)
        while self._open:
            self._push(send=noted, **rest)


class Heard:
    """When the coordinator answered last: the time of a file, not more often than once a second."""

    def __init__(self, path: Path | None) -> None:
        """None: nobody looks."""
        self._path, self._noted = path, -1.0

    def noting(self, call: Callable[..., Any]) -> Callable[..., Any]:
        """`call`, which comes back when it was answered."""

        def noted(*arguments: Any, **named: Any) -> Any:
            found = call(*arguments, **named)
            if self._path and time.monotonic() - self._noted > 1:
                self._path.touch()
                self._noted = time.monotonic()
            return found

        return noted


def to_the_end(work: Callable[[], object]) -> None:
    """Do it, and end the process, whatever threads it has left."""
    code = 0
    try:
        work()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
        code = 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def main() -> None:
    quiet_environment()
    pull_eagerly()
    internal = import_module("flwr.supernode.start_client_internal")
    pace = Pace(PEER_PAUSE)
    internal.time = pace  # type: ignore[attr-defined]
    heard = Heard(Path(os.environ[HEARD]) if HEARD in os.environ else None).noting
    pull, push = internal._pull_and_store_message, internal._push_messages
    both = OneForOne(heeding_ends(pull, heard), resending(push, heard))
    internal._pull_and_store_message = pace.watching(heard(both.pull))  # type: ignore[attr-defined]
    internal._push_messages = both.push  # type: ignore[attr-defined]
    to_the_end(import_module("flwr.supernode.cli.flower_supernode").flower_supernode)


if __name__ == "__main__":
    main()
