"""Randomness that protects: AES-CTR keyed by the operating system, once per source, never by configuration.

`torch.normal` is neither cryptographic nor safe in floating point: with float32 noise an output may be possible
under one data set and impossible under its neighbour (Mironov 2012). Gaussian noise here is float64 and the
caller rounds the noisy result to a lattice; counts get the discrete Gaussian (Canonne, Kamath, Steinke 2020).
"""

from __future__ import annotations

import math
import os
import sys

import numpy as np
import numpy.typing as npt
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]


class SecureNoise:
    """A stream of random numbers from AES-256-CTR under a key from `os.urandom`."""

    def __init__(self) -> None:
        self._stream = Cipher(algorithms.AES(os.urandom(32)), modes.CTR(os.urandom(16))).encryptor()

    def uniform(self, count: int) -> Floats:
        """`count` float64 in [0, 1), 53 random bits each."""
        words = np.frombuffer(self._stream.update(bytes(8 * count)), dtype=np.uint64)
        return (words >> np.uint64(11)).astype(np.float64) * 2.0**-53

    def normal(self, count: int) -> Floats:
        """`count` standard normal float64 (Box-Muller)."""
        half = (count + 1) // 2
        if "torch" not in sys.modules:  # whoever has not paid for it has few numbers to draw
            radii, angles = np.sqrt(-2.0 * np.log1p(-self.uniform(half))), 2.0 * math.pi * self.uniform(half)
            return np.concatenate([radii * np.cos(angles), radii * np.sin(angles)])[:count]
        import torch  # its logarithm and sines are twice as fast as numpy's

        drawn = torch.from_numpy(self.uniform(2 * half))
        radius = torch.sqrt(torch.log1p(-drawn[:half]).mul_(-2.0))
        angle = drawn[half:].mul_(2.0 * math.pi)
        both: Floats = torch.cat([radius * torch.cos(angle), radius * torch.sin(angle)]).numpy()
        return both[:count]

    def poisson_sample(self, population: int, rate: float) -> Integers:
        """Indices of a Poisson sample: each of `population` records enters with probability `rate`."""
        return np.flatnonzero(self.uniform(population) < rate)

    def discrete_gaussian(self, scale: float, count: int) -> Integers:
        """`count` integers with P(x) proportional to exp(-x^2 / (2 scale^2)).

        Rejection from a discrete Laplace of scale t = floor(scale) + 1 (Canonne et al. 2020, algorithm 3).
        """
        t = math.floor(scale) + 1
        kept: list[Integers] = []
        missing = count
        while missing > 0:
            tries = 2 * missing + 64
            magnitude = np.floor(-t * np.log1p(-self.uniform(tries))).astype(np.int64)
            negative = self.uniform(tries) < 0.5
            laplace = np.where(negative, -magnitude, magnitude)
            accept = np.exp(-((np.abs(laplace) - scale**2 / t) ** 2) / (2 * scale**2))
            take = (self.uniform(tries) < accept) & ~(negative & (magnitude == 0))
            kept.append(laplace[take][:missing])
            missing -= len(kept[-1])
        return np.concatenate(kept) if kept else np.zeros(0, dtype=np.int64)
