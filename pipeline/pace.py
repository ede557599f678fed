"""How often Flower looks whether something has come: often while a run is under way, seldom otherwise.

Flower waits three seconds between two looks for a message, half a second for a reply of its own process, and one, two,
four seconds for the parts of a message that is just arriving. A round is four such waits.

Private API of flwr: flwr.supercore.inflatable.inflatable_utils, and the module `time` of its loops.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from importlib import import_module
from typing import Any

EAGER_SECONDS, EAGER_PAUSE = 60.0, 0.25
"""For so long after the last message a peer is asked so often."""
OWN_WAIT, OWN_PAUSE = 1.0, 0.05
"""A wait below the first is one for this machine's own processes, and costs nobody else anything."""
FIRST_BACKOFF = 0.1


class Pace:
    """Stands in for the module `time` where Flower waits between two looks."""

    def __init__(
        self, clock: Callable[[], float] = time.monotonic, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self._clock, self._sleep = clock, sleep
        self._heard = -EAGER_SECONDS

    def sleep(self, seconds: float) -> None:
        """Shorter than asked for while messages come."""
        if seconds < OWN_WAIT:
            self._sleep(min(seconds, OWN_PAUSE))
        else:
            eager = self._clock() - self._heard < EAGER_SECONDS
            self._sleep(min(seconds, EAGER_PAUSE) if eager else seconds)

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
