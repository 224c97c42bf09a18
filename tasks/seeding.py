"""Randomness without streams: a draw is a pure function of what it is for; shards, order and kills do not matter."""

from collections.abc import Sequence
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

_MASK = (1 << 64) - 1
_AT_ONCE = 1 << 14


def key_of(id: str) -> int:
    """The 64-bit key of an image id (blake2b-64): what hashing, ties and Random use."""
    return int.from_bytes(blake2b(id.encode(), digest_size=8).digest(), "big")


def seed_of(*parts: object) -> int:
    """A 63-bit seed from any printable parts; equal parts, equal seed, on every machine."""
    text = "\x1f".join(str(part) for part in parts)
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def rng_of(*parts: object) -> np.random.Generator:
    """A generator that depends on the parts alone."""
    return np.random.default_rng(seed_of(*parts))


class Rngs(Sequence[np.random.Generator]):
    """One generator per image key, made when it is asked for (most strategies never do)."""

    def __init__(self, parts: Sequence[object], keys: Sequence[int]) -> None:
        self._parts, self._keys = tuple(parts), tuple(keys)

    def __len__(self) -> int:
        return len(self._keys)

    def __getitem__(self, index):  # type: ignore[no-untyped-def]
        if isinstance(index, slice):
            return Rngs(self._parts, self._keys[index])
        return rng_of(*self._parts, self._keys[index])


def _splitmix(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    with np.errstate(over="ignore"):
        z = x + np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return z ^ (z >> np.uint64(31))


def uniforms(keys: NDArray[np.uint64], seed: int, cycle: int) -> NDArray[np.float64]:
    """u in [0, 1) for each key ``[N]``: splitmix64 of seed, cycle and key, top 53 bits."""
    found = np.empty(len(keys), np.float64)
    base = _splitmix(np.array([seed & _MASK], dtype=np.uint64))
    with np.errstate(over="ignore"):
        base = _splitmix(base + np.uint64(cycle & _MASK))
        for start in range(0, len(keys), _AT_ONCE):  # a block at a time: its terms stay in the processor's cache
            part = slice(start, start + _AT_ONCE)
            mixed = _splitmix(base + keys[part].astype(np.uint64))
            found[part] = (mixed >> np.uint64(11)).astype(np.float64) * 2.0**-53
    return found
