"""How much one caller may ask: who asks too much is told when to come again, and the others notice nothing."""

from __future__ import annotations

import math
import time

from limits import RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import SlidingWindowCounterRateLimiter

from server.serving.refusal import Refused


class Limits:
    """Of one replica: questions a minute of each caller, who is known by the key, or else by the address.

    The system divides connections among replicas, and each allows its part: who keeps one connection open is held to
    that part.
    """

    def __init__(self, per_minute: int | None, replicas: int = 1) -> None:
        """None: no limit."""
        self._item = RateLimitItemPerMinute(max(1, math.ceil(per_minute / replicas))) if per_minute else None
        self._limiter = SlidingWindowCounterRateLimiter(MemoryStorage()) if per_minute else None

    def permit(self, who: str) -> None:
        """Raises Refused."""
        if self._item is None or self._limiter is None or self._limiter.hit(self._item, who):
            return
        wait = max(1, math.ceil(self._limiter.get_window_stats(self._item, who).reset_time - time.time()))
        raise Refused(429, f"more than {self._item.amount} questions a minute; come again in {wait} s", after=wait)
