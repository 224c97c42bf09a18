"""The shards of scores on disk, as candidates of one strategy: a column is read when it is asked for."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from orchestrator.store import read_metadata, read_table
from tasks.data.files import Place


@dataclass(frozen=True)
class ScoredShard:
    """One strategy's columns of a file that holds those of several (``<strategy>.value``, ...)."""

    path: Place
    strategy: str

    @property
    def num_rows(self) -> int:
        return self._head.rows

    @property
    def column_names(self) -> list[str]:
        return list(self._names)

    @property
    def key_range(self) -> tuple[int, int] | None:
        return self._head.key_range

    def select(self, columns: Sequence[str]) -> pa.Table:
        """These columns of all rows, in this order; RunError when the file is damaged."""
        known = {"labeled": _all_false(self.num_rows)} if self._head.none_labeled else {}
        wanted = [column for column in columns if column not in known]
        found = read_table(self.path, [self._names[column] for column in wanted]) if wanted else pa.table({})
        read = dict(zip(wanted, found.columns, strict=True))
        return pa.table({column: known.get(column, read.get(column)) for column in columns})

    @cached_property
    def _head(self) -> "_Head":
        return _head(self.path)

    @cached_property
    def _names(self) -> dict[str, str]:
        """What the columns are called for the candidates, and in the file."""
        names = {name: name for name in ("id", "key", "labeled")}
        for name in self._head.columns:
            owner, _, part = name.rpartition(".")
            if owner == self.strategy:
                names[part if part in ("value", "summary") else f"parts.{part}"] = name
        if "value" not in names:
            columns = ", ".join(self._head.columns)
            raise ValueError(f"{self.path}: strategy {self.strategy!r} has no scores here; columns are {columns}")
        return names


def _all_false(rows: int) -> pa.Array:
    return pa.BooleanArray.from_buffers(pa.bool_(), rows, [None, pa.py_buffer(bytes(rows // 8 + 1))])


@dataclass(frozen=True)
class _Head:
    """What the foot of the file says, so that columns need not be read."""

    rows: int
    columns: tuple[str, ...]
    none_labeled: bool
    key_range: tuple[int, int] | None


def _head(path: Place) -> _Head:
    meta = read_metadata(path)
    groups = [meta.row_group(i) for i in range(meta.num_row_groups)]
    bounds = {name: [_bounds(group, name) for group in groups] for name in ("labeled", "key")}
    none_labeled = bool(groups) and all(one is not None and not one[1] for one in bounds["labeled"])
    names = tuple(meta.schema.to_arrow_schema().names)
    return _Head(meta.num_rows, names, none_labeled, _range(groups, [one for one in bounds["key"] if one is not None]))


def _bounds(group: pq.RowGroupMetaData, column: str) -> tuple[Any, Any] | None:
    """The least and the greatest value of a column; None where they are not known."""
    chunks = [group.column(i) for i in range(group.num_columns) if group.column(i).path_in_schema == column]
    found = chunks[0].statistics if chunks else None
    return (found.min, found.max) if found is not None and found.has_min_max and not found.null_count else None


def _range(groups: Sequence[pq.RowGroupMetaData], keys: Sequence[tuple[int, int]]) -> tuple[int, int] | None:
    """The first and the last key where all rows are in their order, as the file says."""
    orders = [
        [(group.column(by.column_index).path_in_schema, by.descending) for by in group.sorting_columns]
        for group in groups
    ]
    if (
        not groups
        or any(order[:1] != [("key", False)] for order in orders)
        or len(keys) < len(groups)
        or any(a[1] >= b[0] for a, b in pairwise(keys))
    ):
        return None
    return keys[0][0], keys[-1][1]
