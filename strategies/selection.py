"""The k best of a pool: pure, exact, and the same for any split of the pool into shards.

Rows are ordered by (value descending, key ascending); NaN comes after everything, -inf included. As numbers: the bits
of the value, turned so that less is better, then those of the key, 128 bits that differ from row to row.
"""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

_DIGITS = 8  # of 16 bits each: four of the value, four of the key
_SLACK = 1 << 16  # rows a worker holds beyond what it has to, so that it cuts them down rarely


def top_k(values: NDArray[np.floating], keys: NDArray[np.uint64], k: int) -> NDArray[np.int64]:
    """Rows of the k best, best first."""
    words, keys = value_words(values), np.asarray(keys)
    rows = _best(words, keys, k)
    return rows[np.lexsort((keys[rows], words[rows]))]


def value_words(values: NDArray[np.floating]) -> NDArray[np.uint64]:
    """Values as unsigned integers: a better value is a smaller one, equal values are equal."""
    bits = (np.asarray(values, dtype=np.float64) + 0.0).view(np.uint64)  # + 0.0: there is one zero
    sign = np.uint64(1 << 63)
    words: NDArray[np.uint64] = np.where(bits >= sign, bits, ~(bits | sign))
    words[np.isnan(values)] = np.uint64(2**64 - 1)
    return words


def _best(words: NDArray[np.uint64], keys: NDArray[np.uint64], k: int) -> NDArray[np.int64]:
    """Rows of the k best, in no order, in linear time."""
    k = max(0, min(k, len(words)))
    if k in (0, len(words)):
        return np.arange(k, dtype=np.int64)
    last = np.partition(words, k - 1)[k - 1]
    rows, ties = np.flatnonzero(words < last), np.flatnonzero(words == last)
    left = k - len(rows)
    if left < len(ties):
        ties = ties[np.argpartition(keys[ties], left - 1)[:left]]
    return np.concatenate([rows, ties]).astype(np.int64)


class Leaders:
    """The k best rows of one worker's shards, which pass by once: about 4 k rows of 24 bytes are held at most.

    Threshold selection: what is worse than the k-th best so far is dropped at once.
    """

    def __init__(self, k: int) -> None:
        self.k = max(0, k)
        self._last = np.nan  # the k-th best value so far; NaN: nothing is worse
        self._values, self._keys, self._places = np.zeros(0), np.zeros(0, np.uint64), np.zeros(0, np.int64)
        self._new: list[tuple[NDArray[np.float64], NDArray[np.uint64], NDArray[np.int64]]] = []

    def offer(
        self,
        values: NDArray[np.floating],
        keys: NDArray[np.uint64],
        first: int = 0,
        open: NDArray[np.bool_] | None = None,
    ) -> None:
        """Take the ``open`` rows of the next shard into account; the place of its first row is ``first``."""
        numbers: NDArray[np.float64] = np.asarray(values, dtype=np.float64)
        wanted = ~(numbers < self._last)  # not "at least": a NaN is neither
        rows = np.flatnonzero(wanted if open is None else wanted & open)
        self._new.append((numbers[rows], np.asarray(keys, dtype=np.uint64)[rows], rows + first))
        if sum(len(values) for values, _, _ in self._new) > 3 * self.k + _SLACK:
            self._cut()

    def count(self, prefix: Sequence[int] = ()) -> NDArray[np.int64]:
        """How many of the held rows begin with these digits, by their next digit, ``[65536]``."""
        self._cut()
        words = value_words(self._values)
        rows = np.arange(len(words))
        for place, digit in enumerate(prefix):
            rows = rows[_digit(words[rows], self._keys[rows], place) == digit]
        return np.bincount(_digit(words[rows], self._keys[rows], len(prefix)), minlength=1 << 16)

    def until(self, last: Sequence[int]) -> tuple[NDArray[np.float64], NDArray[np.uint64], NDArray[np.int64]]:
        """Values, keys and places of the held rows whose first digits are not after ``last``, in no order."""
        self._cut()
        words = value_words(self._values)
        inside, same = np.zeros(len(words), bool), np.ones(len(words), bool)
        for place, digit in enumerate(last):
            own = _digit(words, self._keys, place)
            inside |= same & (own < digit)
            same &= own == digit
        inside |= same
        return self._values[inside], self._keys[inside], self._places[inside]

    def _cut(self) -> None:
        """Hold no more than the k best."""
        if not self._new:
            return
        held = [(self._values, self._keys, self._places), *self._new]
        self._values, self._keys, self._places = (np.concatenate(column) for column in zip(*held, strict=True))
        self._new = []
        words = value_words(self._values)
        rows = _best(words, self._keys, self.k)
        self._values, self._keys, self._places = self._values[rows], self._keys[rows], self._places[rows]
        if self.k and len(rows) == self.k:
            self._last = self._values[np.argmax(words[rows])]


def top_k_over(workers: Sequence[Leaders], k: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The k best rows of all workers, best first: which worker holds each ``[k]``, and its place ``[k]``.

    Radix selection: each round adds up 65,536 counters of each worker, until the k-th row is known; then every worker
    gives out what is not after it, k rows in all. What travels does not grow with the pool or the number of workers.
    """
    last = last_digits(lambda prefix: np.sum([one.count(prefix) for one in workers], axis=0), k) if workers else None
    if last is None:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    found = [one.until(last) for one in workers]
    values, keys, places = (np.concatenate(column) for column in zip(*found, strict=True))
    owners = np.repeat(np.arange(len(found)), [len(values) for values, _, _ in found])
    order = top_k(values, keys, k)
    return owners[order], places[order]


def last_digits(count: Callable[[tuple[int, ...]], NDArray[np.int64]], k: int) -> tuple[int, ...] | None:
    """The first digits of the k-th row, as many as tell the k best from the others; None for k = 0 or no rows.

    ``count(prefix)``: rows of all shards that begin with these digits, by their next digit ``[65536]``. With fewer than
    k rows, the last row's.
    """
    prefix: tuple[int, ...] = ()
    while len(prefix) < _DIGITS:
        until = np.cumsum(count(prefix))
        k = min(k, int(until[-1]))
        if k <= 0:
            return None
        digit = int(np.searchsorted(until, k))
        prefix += (digit,)
        if until[digit] == k:  # all rows with these digits are taken
            break
        k -= int(until[digit - 1]) if digit else 0
    return prefix


def _digit(words: NDArray[np.uint64], keys: NDArray[np.uint64], place: int) -> NDArray[np.int64]:
    shift = np.uint64(48 - 16 * (place % 4))
    found: NDArray[np.int64] = ((words if place < 4 else keys) >> shift & np.uint64(0xFFFF)).astype(np.int64)
    return found
