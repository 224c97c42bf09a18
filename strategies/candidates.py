"""Scored images in shards, as a strategy's ``select`` sees them: never more of them in memory than is asked for."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Protocol, runtime_checkable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from strategies.base import Budget
from strategies.k_center import k_center
from strategies.selection import Leaders, top_k_over


class Shard(Protocol):
    """Some rows of scores; an Arrow table is one.

    Columns: ``id`` string, ``key`` uint64, ``labeled`` bool, ``value`` float64, ``parts.<name>`` float64, and, where
    the strategy keeps one, ``summary`` list<float32>.
    """

    @property
    def num_rows(self) -> int: ...

    @property
    def column_names(self) -> list[str]: ...

    def select(self, columns: Sequence[str]) -> pa.Table:
        """These columns of all rows, in this order."""
        ...


@runtime_checkable
class Ordered(Protocol):
    """A shard that may know the order of its rows, beside the rest."""

    @property
    def key_range(self) -> tuple[int, int] | None:
        """The first and the last key, where rows are in the order of their keys; None where they may not be."""
        ...


@dataclass(frozen=True)
class ShardCandidates:
    """Candidates over shards: one row for each scored image. Shards are read one at a time, and only what is needed."""

    shards: Sequence[Shard]
    budget: Budget
    tasks: tuple[str, ...]
    label_counts: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, dtype=np.int64))  # [C]
    labeled_images: int = 0
    # where the ids lie that were given out: (shard, row)
    _places: dict[str, tuple[int, int]] = field(default_factory=dict, init=False, repr=False, compare=False)

    def top_k(self, k: int | None = None, key: str = "value") -> list[str]:
        """Ids of the k best unlabeled images: value descending, then key; ValueError on NaN and +inf."""
        k = self._count(k)
        return self._given_out(top_k_over([leaders(self.shards, k, key)], k)[1])

    def k_center(self, k: int | None = None, distance: Callable[..., NDArray[np.float64]] | None = None) -> list[str]:
        """Ids of k unlabeled images, farthest first over ``summary``; the labeled images are the first centres.

        Holds the summaries of all images, and little more.
        """
        starts = _starts(self.shards)
        labeled, keys = np.zeros(starts[-1], bool), np.zeros(starts[-1], np.uint64)
        features = np.zeros((0, 0), np.float32)
        for number, table in _tables(self.shards, lambda shard: [_summary(shard), "key", "labeled"]):
            numbers = summaries(table["summary"])
            if not features.size:
                features = np.empty((starts[-1], numbers.shape[1]), np.float32)
            if numbers.shape[1] != features.shape[1]:
                raise ValueError(_LENGTHS)
            part = slice(starts[number], starts[number + 1])
            features[part], keys[part] = numbers, _array(table["key"], np.uint64)
            labeled[part] = _array(table["labeled"], np.bool_)
        if labeled.all():
            return []
        return self._given_out(k_center(features, labeled, self._count(k), keys, distance))

    def rows(self, ids: Sequence[str]) -> pa.Table:
        """The score rows of these ids, in this order; ValueError for an id that was not scored."""
        if any(id not in self._places for id in ids):
            self._find(ids)
        places = np.array([self._places[id] for id in ids], np.int64).reshape(-1, 2)
        parts: list[pa.Table] = []
        order = np.zeros(len(ids), np.int64)
        for number in np.unique(places[:, 0]).tolist() or [0][: len(self.shards)]:
            mine = np.flatnonzero(places[:, 0] == number)
            order[mine] = np.arange(len(mine)) + sum(part.num_rows for part in parts)
            shard = self.shards[number]
            parts.append(shard.select(shard.column_names).take(places[mine, 1]))
        return _concat(parts).take(order)

    def table(self, columns: Sequence[str] | None = None) -> pa.Table:
        """These columns (else all) of every row, for pools that fit in memory."""
        return _concat(
            [
                shard.select([name for name in columns or shard.column_names if name in shard.column_names])
                for shard in self.shards
            ]
        )

    def _count(self, k: int | None) -> int:
        return int(self.budget.amount) if k is None else k

    def _given_out(self, places: NDArray[np.int64]) -> list[str]:
        """The ids at these places of the whole, in this order; remembered."""
        starts = _starts(self.shards)
        number = np.searchsorted(starts, places, side="right") - 1
        rows = places - starts[number]
        ids = np.empty(len(places), object)
        for shard in np.unique(number).tolist():
            mine = number == shard
            ids[mine] = _ids(self.shards[shard], rows[mine])
        self._places.update(zip(ids.tolist(), zip(number.tolist(), rows.tolist(), strict=True), strict=True))
        return ids.tolist()

    def _find(self, ids: Sequence[str]) -> None:
        wanted = set(ids) - self._places.keys()
        for number, shard in _filled(self.shards):
            found = shard.select(["id"])["id"].to_pylist()
            self._places.update((id, (number, row)) for row, id in enumerate(found) if id in wanted)
        if missing := wanted - self._places.keys():
            raise ValueError(f"image {min(missing)!r} was not scored; ask for ids of this pool")


def leaders(shards: Sequence[Shard], k: int, key: str = "value") -> Leaders:
    """The k best unlabeled rows of these shards, by their numbers over all of them; ValueError on NaN and +inf."""
    found, starts = Leaders(k), _starts(shards)
    keys = [] if _in_order(shards) else ["key"]  # else a row's number tells as much
    for number, table in _tables(shards, lambda shard: [_named(shard, key), "labeled", *keys]):
        values, labeled = _array(table.column(0), np.float64), table["labeled"].combine_chunks()
        open = ~_array(table["labeled"], np.bool_) if labeled.true_count else None
        if not values.max() < np.inf:  # a NaN or +inf, perhaps of an image that is labeled
            wrong = np.flatnonzero(~(values < np.inf) & (True if open is None else open))
            if len(wrong):
                value, id = values[wrong[0]], _ids(shards[number], wrong[:1])[0]
                raise ValueError(f"column {key!r} is {value} for image {id!r}; expected finite values or -inf")
        first, last = starts[number : number + 2].tolist()
        found.offer(values, _array(table["key"], np.uint64) if keys else np.arange(first, last), first, open)
    return found


_LENGTHS = "column 'summary' has rows of different lengths; expected one length for all images"


def summaries(column: pa.ChunkedArray) -> NDArray[np.float32]:
    """A column of lists as numbers ``[N, S]``; ValueError where they differ in length."""
    lists = column.combine_chunks()
    flat = pc.list_flatten(lists).to_numpy(zero_copy_only=False)
    if lists.null_count or (len(lists) and len(flat) % len(lists)):
        raise ValueError(_LENGTHS)
    numbers: NDArray[np.float32] = flat.reshape(len(lists), -1)
    return numbers


def unlabeled(table: pa.Table) -> pa.Table:
    """The rows that may be bought."""
    return table.filter(pc.invert(table["labeled"]))


def _starts(shards: Sequence[Shard]) -> NDArray[np.int64]:
    """The number of each shard's first row over all of them; last, how many rows there are."""
    return np.cumsum([0, *(shard.num_rows for shard in shards)], dtype=np.int64)


def _in_order(shards: Sequence[Shard]) -> bool:
    """Whether the rows of all shards, one after the other, are known to be in the order of their keys."""
    ranges = [shard.key_range if isinstance(shard, Ordered) else None for _, shard in _filled(shards)]
    known = [one for one in ranges if one is not None]
    return len(known) == len(ranges) and all(a[1] < b[0] for a, b in pairwise(known))


def _filled(shards: Sequence[Shard]) -> list[tuple[int, Shard]]:
    return [(number, shard) for number, shard in enumerate(shards) if shard.num_rows]


def _tables(shards: Sequence[Shard], columns: Callable[[Shard], list[str]]) -> Iterator[tuple[int, pa.Table]]:
    """These columns of each shard that has rows, with its number; the next one is read meanwhile."""
    filled = _filled(shards)
    with ThreadPoolExecutor(1) as reader:
        coming = [reader.submit(shard.select, columns(shard)) for _, shard in filled[:1]]
        for place, (number, _) in enumerate(filled):
            table = coming.pop().result()
            coming = [reader.submit(shard.select, columns(shard)) for _, shard in filled[place + 1 : place + 2]]
            yield number, table


def _summary(shard: Shard) -> str:
    if "summary" not in shard.column_names:
        raise ValueError("k_center needs the column 'summary', which was not scored; let score() answer a summary")
    return "summary"


def _named(shard: Shard, column: str) -> str:
    names = shard.column_names
    name = column if column in names else f"parts.{column}"
    if name not in names:
        raise ValueError(f"no score column {column!r}; there are {', '.join(names)}")
    return name


def _array(column: pa.ChunkedArray, kind: type[np.generic]) -> NDArray[Any]:
    whole = column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()  # one chunk is not copied
    numbers: NDArray[Any] = whole.to_numpy(zero_copy_only=False).astype(kind, copy=False)
    return numbers


def _ids(shard: Shard, rows: NDArray[np.int64]) -> list[str]:
    return shard.select(["id"])["id"].take(pa.array(rows, pa.int64())).to_pylist()  # type: ignore[no-any-return]


def _concat(tables: Sequence[pa.Table]) -> pa.Table:
    return pa.concat_tables(tables, promote_options="default")
