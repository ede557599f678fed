"""How often Flower looks whether something has come: often while a run is under way, seldom otherwise.

Flower waits three seconds between two looks for a message, one for a task, half a second for a reply of its own
process, and one, two, four seconds for the parts of a message that is just arriving. A round is five such waits.

Private API of flwr: flwr.supercore.inflatable.inflatable_utils, and the module `time` of its loops.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from importlib import import_module
from typing import Any

EAGER_SECONDS = 60.0
"""For so long after the last message it is looked for often."""
PEER_PAUSE, TASK_PAUSE = 0.25, 0.1
"""Between two looks meanwhile: at a peer, and at this home's own list of tasks."""
OWN_WAIT, OWN_PAUSE = 1.0, 0.05
"""A wait below the first is one for this machine's own processes, and costs nobody else anything."""
FIRST_BACKOFF = 0.1


class Pace:
    """Stands in for the module `time` where Flower waits between two looks."""

    def __init__(
        self,
        pause: float,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """pause: seconds between two looks while messages come."""
        self._pause, self._clock, self._sleep = pause, clock, sleep
        self._heard = -EAGER_SECONDS

    def sleep(self, seconds: float) -> None:
        """Shorter than asked for while messages come."""
        if seconds < OWN_WAIT:
            self._sleep(min(seconds, OWN_PAUSE))
        else:
            eager = self._clock() - self._heard < EAGER_SECONDS
            self._sleep(min(seconds, self._pause) if eager else seconds)

    def watching(self, pull: Callable[..., Any]) -> Callable[..., Any]:
        """`pull`, whose results other than None are messages."""

        def watched(*arguments: Any, **named: Any) -> Any:
            if (found := pull(*arguments, **named)) is not None:
                self._heard = self._clock()
            return found

        return watched


def pull_eagerly() -> None:
    """Parts of a message that are not there yet are asked for again after a tenth of a second, then two tenths, ..."""
    utils = import_module("flwr.supercore.inflatable.inflatable_utils")
    for name in ("pull_objects", "pull_and_inflate_object_from_tree"):
        getattr(utils, name).__kwdefaults__["initial_backoff"] = FIRST_BACKOFF
