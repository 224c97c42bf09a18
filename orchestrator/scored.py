"""The shards of scores on disk, as candidates of one strategy: a column is read when it is asked for."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pyarrow as pa

from orchestrator.store import read_metadata, read_table


@dataclass(frozen=True)
class ScoredShard:
    """One strategy's columns of a file that holds those of several (``<strategy>.value``, ...)."""

    path: Path
    strategy: str

    @property
    def num_rows(self) -> int:
        return self._head.rows

    @property
    def column_names(self) -> list[str]:
        return list(self._names)

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
    rows: int
    columns: tuple[str, ...]
    none_labeled: bool  # as the statistics say: that column need not be read


def _head(path: Path) -> _Head:
    meta = read_metadata(path)
    groups = [meta.row_group(i) for i in range(meta.num_row_groups)]
    chunks = [group.column(i) for group in groups for i in range(group.num_columns)]
    labeled = [chunk.statistics for chunk in chunks if chunk.path_in_schema == "labeled"]
    none = all(one is not None and one.has_min_max and not one.max and not one.null_count for one in labeled)
    return _Head(meta.num_rows, tuple(meta.schema.to_arrow_schema().names), none and bool(labeled))
