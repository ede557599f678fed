"""The order of the sums from which shapes are learned."""

from __future__ import annotations

from typing import Literal, NamedTuple

COUNTING = 2
"""Sums of counts."""
LEVELLING = 2
"""Sums by which the whole is moved up or down."""
BEFORE_PAIRS = 0.28
"""Of the other sums, those before pairs are looked for."""


class Stage(NamedTuple):
    """What a sum is for: counts of bins; residuals in bins; products, by which pairs are found; counts in the cells of
    pairs; residuals in both; and in the end the level, of which clipping knows little. Of so many of its kind, so many
    were before it.
    """

    what: Literal["counts", "shapes", "screen", "cells", "both", "level"]
    number: int
    of: int


def stage_of(step: int, number: int, rounds: int, *, pairs: bool, declared: bool) -> Stage:
    """What the sum after `step` others is for, in round `number`: where rounds were lost that is later, and the level
    is set in the last rounds all the same. pairs: there are some; declared: which, is known."""
    rest, at = rounds - COUNTING - LEVELLING, step - COUNTING
    if number > rounds - LEVELLING:
        return Stage("level", number - 1 - (rounds - LEVELLING), LEVELLING)
    if at < 0:
        return Stage("counts", step, COUNTING)
    if not pairs:
        return Stage("shapes", at, rest)
    before = 0 if declared else round(BEFORE_PAIRS * (rest - 2))
    if at < before:
        return Stage("shapes", at, before)
    at, rest = at - before, rest - before
    if not declared:
        if at == 0:
            return Stage("screen", 0, 1)
        at, rest = at - 1, rest - 1
    return Stage("cells", 0, 1) if at == 0 else Stage("both", at - 1, rest - 1)
