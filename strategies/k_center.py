"""Farthest-first traversal (k-centre greedy), exact and lazy: the same picks for any split of the pool into shards.

The distance of a row to its nearest centre only falls, so a stale value is an upper bound: a block of rows is read
again only when its bound is the highest of all. Matrix products, whose last bits depend on the shapes they are called
with, give bounds only; what is compared in the end are exact distances, of the few rows that are in question.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import inf
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]
Distance = Callable[[NDArray[np.float64], NDArray[np.float64]], NDArray[np.float64]]
Offer = tuple[float, int, int]  # distance to the nearest centre, key, row
_BLOCK = 1 << 18  # bytes of features that are read at once
_RUN = 16  # blocks that are, where none is left out
_NUMBERS = 1 << 21  # in a temporary array


@runtime_checkable
class BoundedDistance(Protocol):
    """A distance >= 0 that can also be bounded by something faster.

    ``distance(rows [n, S], centres [m, S]) -> [n, m]`` float64 gives the same bits for a pair whatever else is asked
    with it; so must every distance that is not bounded.
    """

    def __call__(self, rows: NDArray[np.float64], centres: NDArray[np.float64]) -> NDArray[np.float64]: ...

    def terms(self, rows: Floats) -> Floats:
        """What of a row alone enters its bounds, ``[n, T]``: kept, so that it is worked out once."""
        ...

    def bound(self, rows: Floats, terms: Floats, centres: Floats, centre_terms: Floats, side: int) -> Floats:
        """Bounds ``[n, m]`` of what the distance returns: from above with ``side`` 1, from below with -1."""
        ...


@dataclass(frozen=True)
class SquaredL2:
    """Squared Euclidean distances."""

    def __call__(self, rows: NDArray[np.float64], centres: NDArray[np.float64]) -> NDArray[np.float64]:
        found = np.empty((len(rows), len(centres)))
        for column, centre in enumerate(centres):
            found[:, column] = np.square(rows - centre).sum(axis=1)  # row by row: no bit depends on the other rows
        return found

    def terms(self, rows: Floats) -> Floats:
        with np.errstate(over="ignore"):  # an infinite bound is one
            found: Floats = np.square(rows, dtype=np.float64).sum(axis=1, keepdims=True).astype(rows.dtype)
        return found

    def bound(self, rows: Floats, terms: Floats, centres: Floats, centre_terms: Floats, side: int) -> Floats:
        # An inner product of S numbers errs by at most S roundings of |x||c| <= (|x|^2 + |c|^2) / 2, however it is
        # summed up; what underflows is less than the least number of full precision, each time.
        number = np.finfo(rows.dtype)
        slack = (rows.shape[1] / 2 + 16) * float(number.eps)
        with np.errstate(over="ignore", invalid="ignore"):
            found: Floats = rows @ (-2 * centres.T)
            found += terms
            slack = slack * (centre_terms.T + terms.max(initial=0)) + rows.shape[1] * 8 * float(number.tiny)
            found += centre_terms.T + side * slack
        return found


class KCenterShard:
    """One shard of a farthest-first traversal: its rows, and how far each is from the nearest centre so far.

    Beside the features ``[n, S]`` (an array in memory, or mapped from a file) it holds 12 bytes a row, the terms of the
    distance, and the centres.
    """

    def __init__(
        self,
        features: Floats,  # [n, S]
        keys: NDArray[np.uint64],  # [n]
        open: NDArray[np.bool_],  # [n]: may be picked (not labeled)
        distance: Distance = SquaredL2(),
    ) -> None:
        self.features, self.keys, self.distance = features, keys, distance
        self.rows_read = 0
        size, width = features.shape
        self._step = max(64, _BLOCK // max(1, width * features.itemsize))
        blocks = -(-size // self._step)
        self._centres = features[:0]  # room for more of them
        self._count = 0  # of centres
        self._bound = np.where(open, inf, -inf)  # never below the distance to the nearest centre; -inf: not open
        self._known = np.zeros(size, np.int32)  # it is that distance, for the first so many centres
        self._applied = np.zeros(blocks, np.int32)  # centres that a block's bounds take into account
        self._top, self._row = np.full(blocks, -inf), np.zeros(blocks, np.int64)  # its first row in order, its bound
        self._bounded = distance if isinstance(distance, BoundedDistance) else None
        self._terms = self._all_terms()
        self._centre_terms = self._terms[:0]
        self._ascending = bool((keys[1:] > keys[:-1]).all())
        self._rank(0, blocks)

    def cover(self, centres: Floats) -> None:
        """Take further centres ``[m, S]`` into account."""
        self._centres = _grown(self._centres, self._count, centres)
        self._centre_terms = _grown(self._centre_terms, self._count, self._terms_of(centres))
        self._count += len(centres)

    def close(self, row: int) -> None:
        """The row is not to be picked any more."""
        self._bound[row] = -inf
        self._rank(row // self._step, row // self._step + 1)

    def farthest(self, rival: Offer | None = None) -> Offer | None:
        """The open row farthest from the centres, lowest key first; None if none is, or none comes before the rival."""
        while len(self._top):
            ties = np.flatnonzero(self._top == self._top.max())
            block = int(ties[np.argmin(self.keys[self._row[ties]])])
            row, value = int(self._row[block]), float(self._top[block])
            offer = (value, int(self.keys[row]), row)
            if value == -inf or (rival is not None and not _before(offer, rival)):
                return None
            if self._applied[block] < self._count:
                self._settle(block, block + 1)
            elif self._bounded is not None and self._known[row] < self._count and value > 0:
                self._resolve(block, row)
            else:
                return offer
        return None

    def settle(self) -> None:
        """Bring every block up to date, without laziness."""
        first = 0
        changes = np.flatnonzero(np.diff(self._applied)) + 1
        for last in [*changes.tolist(), len(self._applied)]:
            for start in range(first, last, _RUN):
                self._settle(start, min(start + _RUN, last))
            first = last

    def _all_terms(self) -> Floats:
        starts = range(0, max(1, len(self.features)), self._step)
        return np.concatenate([self._terms_of(self.features[at : at + self._step]) for at in starts])

    def _terms_of(self, rows: Floats) -> Floats:
        return np.zeros((len(rows), 0), rows.dtype) if self._bounded is None else self._bounded.terms(rows)

    def _settle(self, first: int, last: int) -> None:
        """Apply to blocks, all of which lack the same, the centres they lack."""
        part = slice(first * self._step, last * self._step)
        rows, terms, bound = self.features[part], self._terms[part], self._bound[part]
        few = max(1, _NUMBERS // max(1, len(rows)))
        for start in range(int(self._applied[first]), self._count, few):
            some = slice(start, min(start + few, self._count))
            centres = self._centres[some]
            found: Floats
            if self._bounded is None:
                found = self.distance(np.asarray(rows, np.float64), np.asarray(centres, np.float64))
            else:
                found = self._bounded.bound(rows, terms, centres, self._centre_terms[some], 1)
            np.fmin(bound, found[:, 0] if len(centres) == 1 else np.fmin.reduce(found, axis=1), out=bound)
        self.rows_read += len(rows)
        self._applied[first:last] = self._count
        self._rank(first, last)

    def _rank(self, first: int, last: int) -> None:
        """Find the first row in order of each of these blocks."""
        bound = self._bound[first * self._step : last * self._step]
        whole = len(bound) // self._step
        rows = np.arange(first, last) * self._step
        rows[:whole] += bound[: whole * self._step].reshape(whole, self._step).argmax(axis=1)
        if whole < len(rows):
            rows[whole] += bound[whole * self._step :].argmax()
        self._row[first:last], self._top[first:last] = rows, self._bound[rows]
        if not self._ascending:  # else the first of equals has the lowest key
            for block in range(first, last):
                part = slice(block * self._step, (block + 1) * self._step)
                ties = part.start + np.flatnonzero(self._bound[part] == self._top[block])
                self._row[block] = ties[np.argmin(self.keys[ties])]

    def _resolve(self, block: int, row: int) -> None:
        """Find out the exact distance of a block's first row, and of all that come before it then."""
        self._exactly(np.array([row]))
        start = block * self._step
        part = slice(start, start + self._step)
        rows = start + np.flatnonzero((self._bound[part] >= self._bound[row]) & (self._known[part] < self._count))
        few = max(1, _NUMBERS // max(1, self._count))
        for at in range(0, len(rows), few):
            self._exactly(rows[at : at + few])
        self._rank(block, block + 1)

    def _exactly(self, rows: NDArray[np.int64]) -> None:
        assert self._bounded is not None
        new = slice(int(self._known[rows].min()), self._count)
        centres = self._centres[new]
        given = self.features[rows], self._terms[rows], centres, self._centre_terms[new]
        within = np.fmin(np.fmin.reduce(self._bounded.bound(*given, 1), axis=1), self._bound[rows])
        # "not beyond", since a bound that overflowed is NaN: one of these centres may be the nearest
        near = (~(self._bounded.bound(*given, -1) > within[:, None])).any(axis=0)
        if near.any():
            found = self.distance(np.asarray(given[0], np.float64), np.asarray(centres[near], np.float64)).min(axis=1)
            self._bound[rows] = np.minimum(self._bound[rows], found)
        self._known[rows] = self._count
        self.rows_read += len(rows)


def k_center_over(shards: Sequence[KCenterShard], k: int) -> list[tuple[int, int]]:
    """``(shard, row)`` of k picks by farthest-first traversal, in order: the same picks for any split into shards.

    The first pick is the farthest from the centres already covered; where there are none, the lowest key (a hash).
    Greedy solver of core-set selection (Sener & Savarese 2018); their mixed-integer refinement is not used.
    """
    picks: list[tuple[int, int]] = []
    while len(picks) < k:
        best: Offer | None = None
        for number, shard in enumerate(shards):
            offer = shard.farthest(best)
            if offer is not None:
                best, place = offer, number
        if best is None:
            break
        row = best[2]
        centre = shards[place].features[row : row + 1]
        shards[place].close(row)
        for shard in shards:
            shard.cover(centre)
        picks.append((place, row))
    return picks


def k_center(
    features: Floats,
    labeled_mask: NDArray[np.bool_],
    k: int,
    keys: NDArray[np.uint64],
    distance: Distance | None = None,
) -> NDArray[np.int64]:
    """Rows of k unlabeled points, each the farthest from the labeled and from the picks before it; L2 by default.

    ``distance(rows [n, S], centres [m, S]) -> [n, m]``, better a BoundedDistance. ValueError where a feature is not
    finite.
    """
    if not np.isfinite(features.sum()) and not np.isfinite(features).all():
        raise ValueError("k_center: a feature is NaN or infinite; expected finite features [N, S]")
    shard = KCenterShard(features, keys, ~labeled_mask, distance or SquaredL2())
    shard.cover(features[labeled_mask])
    return np.array([row for _, row in k_center_over([shard], k)], dtype=np.int64)


def _grown(held: Floats, count: int, new: Floats) -> Floats:
    """The first ``count`` of the rows held, then the new ones, then room: it doubles, so that adding stays cheap."""
    if count + len(new) > len(held):
        room = np.empty((max(count + len(new), 2 * len(held)), new.shape[1]), new.dtype)
        room[:count] = held[:count]
        held = room
    held[count : count + len(new)] = new
    return held


def _before(offer: Offer, rival: Offer) -> bool:
    return offer[0] > rival[0] or (offer[0] == rival[0] and offer[1] < rival[1])
