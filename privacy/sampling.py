"""Which records take part in a step: a Poisson sample of them, or one record of each person in a Poisson sample."""

from __future__ import annotations

import numpy as np

from privacy.noise import Integers, SecureNoise


def sample(rows: int, rate: float, source: SecureNoise, persons: Integers | None) -> Integers:
    """Numbers of the rows. persons: rows of each person, who follow one another; None: each row enters by itself.

    A person that enters gives one of its rows, drawn anew each time: what a person adds to a step is one record.
    """
    if persons is None:
        return source.poisson_sample(rows, rate)
    entered = source.poisson_sample(len(persons), rate)
    return _drawn(persons, entered, source)


def one_of_each(persons: Integers, source: SecureNoise) -> Integers:
    """The number of one row of each person."""
    return _drawn(persons, np.arange(len(persons)), source)


def _drawn(persons: Integers, entered: Integers, source: SecureNoise) -> Integers:
    first = np.cumsum(persons) - persons
    sizes = persons[entered]
    among = np.minimum((source.uniform(len(entered)) * sizes).astype(np.int64), sizes - 1)
    return np.asarray(first[entered] + among)
