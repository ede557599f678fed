"""The boundary to Microsoft SEAL, by TenSEAL's low-level bindings: BFV, symmetric, seeded, one prime, no key switching.

SEAL makes the key, samples every encryption of zero and decrypts. A plaintext is added to an encryption of zero in
numpy: coefficient by coefficient, `(q - 1) / t * m` modulo q. The second polynomial of a fresh ciphertext is the
expansion of a 64-byte seed, so only the seed travels. SEAL reads only messages whose every byte before the
coefficients is written here: it never sees a header, a size or a flag that somebody sent.

Objects of SEAL belong to one process and one thread.
"""

from __future__ import annotations

import os
import struct
import tempfile
import weakref
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa

from privacy.errors import SumRejected
from privacy.layout import DEGREE, MODULUS, SEED_BYTES
from privacy.stream import Words

_HEADER = struct.Struct("<HBBBBHQ")
_MAGIC, _HEADER_SIZE, _ZSTD = 0xA15E, 16, 2
_META = struct.Struct("<32sBQQQdQ")
"""Identity of the parameters, NTT form, polynomials, degree, primes, scale, correction factor."""
_POLYNOMIAL = 8 * DEGREE
_SEED_KIND = b"\x01"
_CODEC = pa.Codec("zstd")


class Scratch:
    """An anonymous file: SEAL's bindings save to and load from paths only, and nothing may stay on disk."""

    def __init__(self) -> None:
        if hasattr(os, "memfd_create"):
            self.file = os.memfd_create("seal")
            self.path = f"/proc/self/fd/{self.file}"
        else:
            self.file, self.path = tempfile.mkstemp(prefix="seal-")
            weakref.finalize(self, os.unlink, self.path)
        weakref.finalize(self, os.close, self.file)

    def write(self, *parts: Any) -> None:
        os.lseek(self.file, 0, os.SEEK_SET)
        os.writev(self.file, parts)

    def read(self, size: int) -> memoryview:
        """What SEAL saved: its header taken off, decompressed to exactly `size` bytes."""
        content = os.pread(self.file, os.fstat(self.file).st_size, 0)
        magic, header, _, _, compression, _, length = _HEADER.unpack_from(content)
        if (magic, header, compression, length) != (_MAGIC, _HEADER_SIZE, _ZSTD, len(content)):
            raise SumRejected("SEAL saved an object in a layout that is not the one expected")
        return memoryview(_CODEC.decompress(content[_HEADER_SIZE:], decompressed_size=size))


class Ring:
    """The parameters for one plain modulus, and the messages SEAL reads. It holds no key."""

    def __init__(self, plain_modulus: int) -> None:
        import tenseal.sealapi as seal

        self.seal = seal
        self.plain_modulus = plain_modulus
        parameters = seal.EncryptionParameters(seal.SCHEME_TYPE.BFV)
        parameters.set_poly_modulus_degree(DEGREE)
        parameters.set_coeff_modulus([seal.Modulus(MODULUS)])
        parameters.set_plain_modulus(seal.Modulus(plain_modulus))
        self.context = seal.SEALContext(parameters, True, seal.SEC_LEVEL_TYPE.TC128)
        if not self.context.parameters_set():
            raise SumRejected(f"SEAL refuses the parameters: {self.context.parameters_error_message()}")
        self.scratch = Scratch()
        seal.Plaintext().save(self.scratch.path)
        _, _, self._major, self._minor, *_ = _HEADER.unpack(os.pread(self.scratch.file, _HEADER_SIZE, 0))
        identity = struct.pack("<4Q", *self.context.first_parms_id())
        meta = _META.pack(identity, 0, 2, DEGREE, 1, 1.0, 1)
        self._whole = self._message(meta, 2 * _POLYNOMIAL, 0)
        self._seeded = self._message(meta, _POLYNOMIAL, _HEADER_SIZE + 1 + SEED_BYTES)
        self._seed_head = self._header(_HEADER_SIZE + 1 + SEED_BYTES) + _SEED_KIND

    def _header(self, size: int) -> bytes:
        return _HEADER.pack(_MAGIC, _HEADER_SIZE, self._major, self._minor, 0, 0, size)

    def _message(self, meta: bytes, polynomials: int, after: int) -> bytes:
        inner = self._header(_HEADER_SIZE + 8 + polynomials) + struct.pack("<Q", polynomials // 8)
        return self._header(_HEADER_SIZE + len(meta) + len(inner) + polynomials + after) + meta + inner

    def load_whole(self, target: Any, first: Words, second: Words) -> None:
        """A ciphertext from the coefficients of its two polynomials, all below q."""
        self.scratch.write(self._whole, first, second)
        target.load(self.context, self.scratch.path)

    def load_seeded(self, target: Any, first: Words, seed: bytes) -> None:
        """A ciphertext from its first polynomial and the seed of its second."""
        self.scratch.write(self._seeded, first, self._seed_head, seed)
        target.load(self.context, self.scratch.path)

    def read_seeded(self, saved: Any) -> tuple[Words, bytes]:
        """First polynomial and seed of a fresh seeded ciphertext."""
        saved.save(self.scratch.path)
        start = len(self._seeded) - _HEADER_SIZE
        content = self.scratch.read(start + _POLYNOMIAL + len(self._seed_head) + SEED_BYTES)
        if bytes(content[start + _POLYNOMIAL : -SEED_BYTES]) != self._seed_head:
            raise SumRejected("SEAL saved a seed in a layout that is not the one expected")
        return np.frombuffer(content, dtype="<u8", count=DEGREE, offset=start), bytes(content[-SEED_BYTES:])

    def read_second(self, ciphertext: Any) -> Words:
        """The second polynomial of a ciphertext."""
        ciphertext.save(self.scratch.path)
        start = len(self._whole) - _HEADER_SIZE
        content = self.scratch.read(start + 2 * _POLYNOMIAL)
        return np.frombuffer(content, dtype="<u8", count=DEGREE, offset=start + _POLYNOMIAL)


class SecretKey:
    """What encrypts and decrypts. Its bytes are SEAL's own, and are loaded only after they were authenticated."""

    def __init__(self, ring: Ring, key: bytes) -> None:
        seal = ring.seal
        self._ring = ring
        secret = seal.SecretKey()
        ring.scratch.write(key)
        try:
            secret.load(ring.context, ring.scratch.path)
        except (ValueError, RuntimeError):
            raise SumRejected("the cipher key of the group is not one", travels=True) from None
        finally:
            ring.scratch.write(bytes(len(key)))
        self._encryptor = seal.Encryptor(ring.context, secret)
        self._decryptor = seal.Decryptor(ring.context, secret)
        self._ciphertext = seal.Ciphertext()
        self._plaintext = seal.Plaintext()
        self._step = np.uint64((MODULUS - 1) // ring.plain_modulus)

    @staticmethod
    def generate(ring: Ring) -> bytes:
        """A fresh key, as bytes."""
        ring.seal.KeyGenerator(ring.context).secret_key().save(ring.scratch.path)
        key = os.pread(ring.scratch.file, 4 * _POLYNOMIAL, 0)
        ring.scratch.write(bytes(len(key)))
        return key

    def encrypt(self, block: Words) -> tuple[Words, bytes]:
        """First polynomial and seed of the encryption of one block of integers below t."""
        zero, seed = self._ring.read_seeded(self._encryptor.encrypt_zero_symmetric())
        return (zero + block * self._step) % np.uint64(MODULUS), seed

    def decrypt(self, first: Words, second: Words) -> Words:
        """The block that the two polynomials encrypt."""
        self._ring.load_whole(self._ciphertext, first, second)
        self._decryptor.decrypt(self._ciphertext, self._plaintext)
        used = self._plaintext.coeff_count()  # SEAL drops zeros at the end
        self._plaintext.save(self._ring.scratch.path)
        content = self._ring.scratch.read(32 + 8 + 8 + _HEADER_SIZE + 8 + 8 * used)
        block = np.zeros(DEGREE, dtype=np.uint64)
        block[:used] = np.frombuffer(content, dtype="<u8", count=used, offset=len(content) - 8 * used)
        return block


class SeedSum:
    """The sum of the second polynomials of many seeded ciphertexts: all that the one who adds asks of SEAL."""

    def __init__(self, ring: Ring, blocks: int) -> None:
        self._ring = ring
        self._evaluator = ring.seal.Evaluator(ring.context)
        self._totals = [ring.seal.Ciphertext() for _ in range(blocks)]
        self._one = ring.seal.Ciphertext()
        self._zeros = np.zeros(DEGREE, dtype=np.uint64)
        self._empty = True

    def add(self, seeds: bytes) -> None:
        """One client's seeds, block by block."""
        for number, total in enumerate(self._totals):
            seed = seeds[number * SEED_BYTES : (number + 1) * SEED_BYTES]
            if self._empty:
                self._ring.load_seeded(total, self._zeros, seed)
                continue
            self._ring.load_seeded(self._one, self._zeros, seed)
            self._evaluator.add_inplace(total, self._one)
        self._empty = False

    def totals(self) -> Iterator[Words]:
        """uint64 [N] for each block."""
        for total in self._totals:
            yield self._ring.read_second(total)
