"""Where each record lies in [0, 1): its place decides its split; the places of all of them are what a table holds."""

from __future__ import annotations

import hashlib
import json

import numpy as np
import numpy.typing as npt
import pandas as pd
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from pipeline.learning.cells import words_of


def places(source: pd.DataFrame, key: bytes) -> npt.NDArray[np.float64]:
    """Each row's place in [0, 1): AES-CBC-MAC of its cells in the order of the columns' names.

    Keyed, because a place that anyone can compute would tell, through counts of intervals, who is in the data; of the
    cells' values alone, because one added record may change the type of a whole column. All rows have as many cells,
    for which CBC-MAC is a pseudorandom function (Bellare, Kilian and Rogaway 1994).
    """

    def hashed(text: str) -> int:
        return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8, key=key).digest())

    names = sorted(source.columns, key=str)
    words = np.zeros((len(source), max(2, len(names) + len(names) % 2)), dtype="<u8")
    for number, name in enumerate(names):
        words[:, number] = words_of(source[name], hashed)
    state = np.zeros((len(source), 2), dtype="<u8")
    for at in range(0, words.shape[1], 2):
        state ^= words[:, at : at + 2]
        encryptor = Cipher(algorithms.AES(key), modes.ECB()).encryptor()  # noqa: S305  # one block a row: CBC-MAC
        state = np.frombuffer(encryptor.update(state.tobytes()), dtype="<u8").reshape(-1, 2).copy()
    return (state[:, 0] >> np.uint64(11)).astype(np.float64) * 2.0**-53


def basis_of_places(source: pd.DataFrame) -> str:
    """Names of the columns that places are computed from: under others a record may lie elsewhere."""
    names = sorted(map(str, source.columns))
    return hashlib.sha256(json.dumps(["cells", *names]).encode()).hexdigest()
