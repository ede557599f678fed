"""Pairwise masks: what one client sealed stays hidden even from whoever holds the group's key.

Every two clients of an attempt share a secret that nobody else has (X25519 of their long-term keys). Both draw the same
numbers from it; the one whose name sorts first adds them, the other subtracts them, modulo t. Over the whole cohort
they cancel; over any smaller set they do not. (Bonawitz et al. 2017, section 4, without the recovery of a
client that vanished: the others seal again, for each other only.)
"""

from __future__ import annotations

import numpy as np

from privacy.keys import Identity, PublicRoster
from privacy.layout import DEGREE
from privacy.statement import Statement
from privacy.stream import Words, derive, words

DEFAULT_COHORT = 64
"""Masks are on by default up to this many clients: their cost grows with the cohort, and 63 peers cost less than
sealing itself does (benchmarks/encryption.py)."""


def mask(blocks: Words, identity: Identity, client: str, roster: PublicRoster, statement: Statement) -> None:
    """Add `client`'s masks for the statement's cohort to its blocks [n, N], in place, modulo 2^64.

    The caller reduces modulo t, which divides 2^64.
    """
    for peer in statement.cohort:
        if peer == client:
            continue
        secret = identity.exchange(roster[peer].exchange)
        drawn = words(derive(secret, "mask", statement.digest), blocks.size).reshape(-1, DEGREE)
        if client < peer:
            np.add(blocks, drawn, out=blocks)
        else:
            np.subtract(blocks, drawn, out=blocks)
