"""The shards of scores on disk, as candidates of one strategy: a column is read when it is asked for."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pyarrow as pa

from orchestrator.store import read_schema, read_table


@dataclass(frozen=True)
class ScoredShard:
    """One strategy's columns of a file that holds those of several (``<strategy>.value``, ...)."""

    path: Path
    strategy: str

    @property
    def num_rows(self) -> int:
        return self._head[0]

    @property
    def column_names(self) -> list[str]:
        return list(self._names)

    def select(self, columns: Sequence[str]) -> pa.Table:
        """These columns of all rows, in this order; RunError when the file is damaged."""
        found = read_table(self.path, [self._names[column] for column in columns])
        return found.replace_schema_metadata(None).rename_columns(list(columns))

    @cached_property
    def _head(self) -> tuple[int, tuple[str, ...]]:
        return read_schema(self.path)

    @cached_property
    def _names(self) -> dict[str, str]:
        """What the columns are called for the candidates, and in the file."""
        names = {name: name for name in ("id", "key", "labeled")}
        for name in self._head[1]:
            owner, _, part = name.rpartition(".")
            if owner == self.strategy:
                names[part if part in ("value", "summary") else f"parts.{part}"] = name
        if "value" not in names:
            raise ValueError(
                f"{self.path}: strategy {self.strategy!r} has no scores here; columns are {', '.join(self._head[1])}"
            )
        return names
