"""Scored images that fit in memory, as a strategy's ``select`` sees them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from strategies.base import Budget
from strategies.selection import k_center, top_k


@dataclass(frozen=True)
class TableCandidates:
    """Candidates over an Arrow table: one row for each scored image.

    Columns: ``id`` string, ``key`` uint64, ``labeled`` bool, ``value`` float64, ``parts.<name>`` float,
    and, where the strategy keeps one, ``summary`` list<float32>.
    """

    scored: pa.Table
    budget: Budget
    tasks: tuple[str, ...]
    label_counts: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, dtype=np.int64))  # [C]
    labeled_images: int = 0

    def top_k(self, k: int | None = None, key: str = "value") -> list[str]:
        """Ids of the k best unlabeled images: value descending, then key; ValueError on NaN and +inf."""
        pool = unlabeled(self.scored)
        values = _numbers(pool, key)
        wrong = np.flatnonzero(np.isnan(values) | (values == np.inf))
        if len(wrong):
            id = pool["id"][int(wrong[0])].as_py()
            raise ValueError(f"column {key!r} is {values[wrong[0]]} for image {id!r}; expected finite values or -inf")
        return _ids(pool, top_k(values, _keys(pool), self._count(k)))

    def k_center(self, k: int | None = None, distance: Callable[..., NDArray[np.float64]] | None = None) -> list[str]:
        """Ids of k unlabeled images, farthest first over ``summary``; the labeled images are the first centres."""
        if "summary" not in self.scored.column_names:
            raise ValueError("k_center needs the column 'summary', which was not scored; let score() answer a summary")
        labeled = self.scored["labeled"].to_numpy().astype(bool)
        if labeled.all():
            return []
        column = self.scored["summary"].combine_chunks()
        features = pc.list_flatten(column).to_numpy(zero_copy_only=False)
        if column.null_count or len(features) % self.scored.num_rows:
            raise ValueError("column 'summary' has rows of different lengths; expected one length for all images")
        features = features.reshape(self.scored.num_rows, -1)
        return _ids(self.scored, k_center(features, labeled, self._count(k), _keys(self.scored), distance))

    def rows(self, ids: Sequence[str]) -> pa.Table:
        """The score rows of these ids, in this order; ValueError for an id that was not scored."""
        places = pc.index_in(pa.array(ids, pa.string()), value_set=self.scored["id"].combine_chunks())
        if places.null_count:
            missing = next(id for id, place in zip(ids, places.to_pylist(), strict=True) if place is None)
            raise ValueError(f"image {missing!r} was not scored; ask for ids of this pool")
        return self.scored.take(places)

    def table(self) -> pa.Table:
        """Every row."""
        return self.scored

    def _count(self, k: int | None) -> int:
        return int(self.budget.amount) if k is None else k


def unlabeled(table: pa.Table) -> pa.Table:
    """The rows that may be bought."""
    return table.filter(pc.invert(table["labeled"]))


def candidate_rows(rows: pa.Table, strategy: str, labeled: NDArray[np.bool_]) -> pa.Table:
    """One strategy's columns of a table of several (``<strategy>.value``, ...), as TableCandidates wants them."""
    columns = {"id": rows["id"], "key": rows["key"], "labeled": pa.array(labeled, pa.bool_())}
    for name in rows.column_names:
        owner, _, part = name.rpartition(".")
        if owner == strategy:
            columns[part if part in ("value", "summary") else f"parts.{part}"] = rows[name]
    if "value" not in columns:
        raise ValueError(f"strategy {strategy!r} has no scores here; columns are {', '.join(rows.column_names)}")
    return pa.table(columns)


def _numbers(table: pa.Table, column: str) -> NDArray[np.float64]:
    name = column if column in table.column_names else f"parts.{column}"
    if name not in table.column_names:
        raise ValueError(f"no score column {column!r}; there are {', '.join(table.column_names)}")
    values: NDArray[np.float64] = table[name].to_numpy().astype(np.float64)
    return values


def _keys(table: pa.Table) -> NDArray[np.uint64]:
    keys: NDArray[np.uint64] = table["key"].to_numpy().astype(np.uint64)
    return keys


def _ids(table: pa.Table, rows: NDArray[np.int64]) -> list[str]:
    ids: list[str] = table["id"].take(pa.array(rows, pa.int64())).to_pylist()
    return ids
