"""Choosing from scores: pure, exact, and the same for any split of the pool into shards."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Distance = Callable[[NDArray[np.float64], NDArray[np.float64]], NDArray[np.float64]]
_BLOCK = 1 << 22  # numbers in a temporary array (32 MB)


def top_k(values: NDArray[np.floating], keys: NDArray[np.uint64], k: int) -> NDArray[np.int64]:
    """Rows of the k best: value descending, then key ascending; NaN after everything, -inf included."""
    values, keys = np.asarray(values), np.asarray(keys)
    k = max(0, min(k, len(values)))
    rows = np.arange(len(values), dtype=np.int64)
    if 4 * k < len(values):  # a cheap cut first: all that is not worse than the k-th best
        order = np.where(np.isnan(values), np.inf, -values)
        rows = np.flatnonzero(order <= np.partition(order, k)[k]).astype(np.int64)
    order = np.lexsort((keys[rows], -values[rows], np.isnan(values[rows])))
    return rows[order[:k]]


def merge_top_k(shards: Sequence[tuple[NDArray[np.floating], NDArray[np.uint64]]], k: int) -> list[tuple[int, int]]:
    """``(shard, row)`` of the k best over shards; each may be cut to its own k best before."""
    sizes = [len(values) for values, _ in shards]
    if not sum(sizes):
        return []
    values = np.concatenate([np.asarray(values, dtype=np.float64) for values, _ in shards])
    keys = np.concatenate([np.asarray(keys, dtype=np.uint64) for _, keys in shards])
    shard = np.repeat(np.arange(len(sizes)), sizes)
    row = np.concatenate([np.arange(size) for size in sizes])
    return [(int(shard[i]), int(row[i])) for i in top_k(values, keys, k)]


def squared_l2(rows: NDArray[np.float64], centres: NDArray[np.float64]) -> NDArray[np.float64]:
    """Squared Euclidean distances ``[n, m]``. Row by row, so that no bit depends on how the rows are blocked."""
    return np.stack([np.square(rows - centre).sum(axis=1) for centre in centres], axis=1)


@dataclass
class KCenterShard:
    """One shard of a farthest-first traversal: its rows, and how far each is from the nearest centre so far."""

    features: NDArray[np.floating]  # [n, S]
    keys: NDArray[np.uint64]  # [n]
    open: NDArray[np.bool_]  # [n]: may be picked (not labeled, not picked yet)
    distance: Distance = squared_l2
    nearest: NDArray[np.float64] = field(init=False)  # [n]; +inf before the first centre

    def __post_init__(self) -> None:
        self.open = self.open.copy()
        self.nearest = np.full(len(self.keys), np.inf)

    def cover(self, centres: NDArray[np.floating]) -> None:
        """Take further centres ``[m, S]`` into account; temporary memory is bounded."""
        width = max(1, self.features.shape[1])
        for first in range(0, len(centres), 64):
            some = np.asarray(centres[first : first + 64], dtype=np.float64)
            step = max(1, _BLOCK // (width + len(some)))
            for low in range(0, len(self.keys), step):
                part = slice(low, low + step)
                found = self.distance(np.asarray(self.features[part], dtype=np.float64), some).min(axis=1)
                np.minimum(self.nearest[part], found, out=self.nearest[part])

    def farthest(self) -> tuple[float, int, int] | None:
        """``(distance, key, row)`` of the open row farthest from the centres, lowest key first; None if none is."""
        rows = np.flatnonzero(self.open)
        if not len(rows):
            return None
        row = int(rows[top_k(self.nearest[rows], self.keys[rows], 1)[0]])
        return float(self.nearest[row]), int(self.keys[row]), row


def k_center_over(shards: Sequence[KCenterShard], k: int) -> list[tuple[int, int]]:
    """``(shard, row)`` of k picks by farthest-first traversal, in order: the same picks for any split into shards.

    The first pick is the farthest from the centres already covered; where there are none, the lowest key (a hash).
    Greedy solver of core-set selection (Sener & Savarese 2018); their mixed-integer refinement is not used.
    """
    picks: list[tuple[int, int]] = []
    while len(picks) < k:
        offers = [(offer, place) for place, shard in enumerate(shards) if (offer := shard.farthest()) is not None]
        if not offers:
            break
        (_, _, row), place = min(offers, key=lambda offer: (-offer[0][0], offer[0][1]))
        centre = shards[place].features[row : row + 1]
        shards[place].open[row] = False
        for shard in shards:
            shard.cover(centre)
        picks.append((place, row))
    return picks


def k_center(
    features: NDArray[np.floating],
    labeled_mask: NDArray[np.bool_],
    k: int,
    keys: NDArray[np.uint64],
    distance: Distance | None = None,
) -> NDArray[np.int64]:
    """Rows of k unlabeled points, each the farthest from the labeled and from the picks before it; L2 by default.

    ``distance(rows [n, S], centres [m, S]) -> [n, m]``. ValueError where a feature is not finite.
    """
    if not np.isfinite(features).all():
        raise ValueError("k_center: a feature is NaN or infinite; expected finite features [N, S]")
    shard = KCenterShard(features, keys, ~labeled_mask, distance or squared_l2)
    shard.cover(features[labeled_mask])
    return np.array([row for _, row in k_center_over([shard], k)], dtype=np.int64)
