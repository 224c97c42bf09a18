"""The label ledger: which labels of which images are known, where they came from, and when they were bought."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from tasks.seeding import uniforms

NONE, HUMAN, PSEUDO = 0, 1, 2


@dataclass(frozen=True)
class Pool:
    """The images that may be labeled, and the state of their labels. Immutable: ``buy`` answers a new ledger."""

    keys: NDArray[np.uint64]  # [N] sorted
    tasks: tuple[str, ...]  # T names
    source: NDArray[np.uint8]  # [N, T] NONE, HUMAN or PSEUDO
    cycle: NDArray[np.int16]  # [N, T] the cycle in which the label came; -1 never

    @classmethod
    def empty(cls, keys: NDArray[np.uint64], tasks: Sequence[str]) -> Self:
        """A ledger without labels; keys ``[N]`` must be sorted and distinct."""
        assert bool(np.all(keys[1:] > keys[:-1])), "keys must be sorted and distinct"
        shape = (len(keys), len(tasks))
        return cls(keys, tuple(tasks), np.zeros(shape, np.uint8), np.full(shape, -1, np.int16))

    @classmethod
    def initial(
        cls,
        keys: NDArray[np.uint64],
        tasks: Sequence[str],
        count: int | Mapping[str, int],
        seed: int,
        known: NDArray[np.bool_] | None = None,
    ) -> Self:
        """The ledger of cycle 0: ``count`` images drawn by hash, the same for every arm of a seed.

        Of those that are ``known [N, T]`` to the data set; None: of all. With a number for each task the draws are
        nested where all are known: images that have the rarer label have the others, too.
        """
        pool = cls.empty(keys, tasks)
        values = uniforms(keys, seed, -1)
        for i, task in enumerate(pool.tasks):
            has = np.ones(len(keys), bool) if known is None else known[:, i]
            drawn = has.copy()
            drawn[has] = lowest(values[has], count if isinstance(count, int) else count[task])
            pool.source[drawn, i], pool.cycle[drawn, i] = HUMAN, 0
        return pool

    def buy(self, bought: Mapping[int, Sequence[str]], cycle: int) -> Self:
        """The ledger after a purchase: {key: tasks}. ValueError for unknown keys and labels that are known already."""
        rows = self.rows_of(np.fromiter(bought, np.uint64, len(bought)))
        pool = self
        for row, tasks in zip(rows.tolist(), bought.values(), strict=True):
            columns = np.array([self.tasks.index(t) for t in tasks], np.intp)
            if np.any(self.source[row, columns] == HUMAN):
                raise ValueError(f"image {self.keys[row]} already has a human label for one of {list(tasks)}")
            pool = pool if pool is not self else replace(self, source=self.source.copy(), cycle=self.cycle.copy())
            pool.source[row, columns], pool.cycle[row, columns] = HUMAN, cycle
        return pool

    def unknown(self, key: int, tasks: Sequence[str]) -> tuple[str, ...]:
        """Those of ``tasks`` for which this image has no human label: what can be bought of it."""
        known = self.source[self.rows_of(np.array([key], np.uint64))[0]] == HUMAN
        return tuple(task for task in tasks if not known[self.tasks.index(task)])

    def pretend(self, made: Mapping[str, NDArray[np.uint64]], cycle: int) -> Self:
        """The ledger with pseudo-labels {task: keys of images}. What people have labeled stays theirs."""
        pool = replace(self, source=self.source.copy(), cycle=self.cycle.copy())
        for task, keys in made.items():
            column, rows = self.tasks.index(task), self.rows_of(keys)
            rows = rows[self.source[rows, column] != HUMAN]
            pool.source[rows, column], pool.cycle[rows, column] = PSEUDO, cycle
        return pool

    def rows_of(self, keys: NDArray[np.uint64]) -> NDArray[np.int64]:
        """Rows of these keys ``[M]``; ValueError naming the first one that is not of this pool."""
        rows = np.searchsorted(self.keys, keys)
        found = self.keys[np.minimum(rows, len(self.keys) - 1)] == keys if len(self.keys) else np.zeros(len(keys), bool)
        if not bool(np.all(found)):
            raise ValueError(f"image {keys[~found][0]} is not of this pool")
        return rows.astype(np.int64)

    @property
    def labeled(self) -> NDArray[np.bool_]:
        """``[N]`` True where every task has a human label: nothing is left to buy."""
        return np.asarray(self.human.all(1))

    @property
    def human(self) -> NDArray[np.bool_]:
        """``[N, T]`` True where people gave the label: what was paid for."""
        return np.asarray(self.source == HUMAN)

    @property
    def has(self) -> NDArray[np.bool_]:
        """``[N, T]`` True where a label, human or pseudo, can be trained on."""
        return np.asarray(self.source != NONE)

    def counts(self) -> dict[str, int]:
        """Images with a human label, for each task (pseudo-labels do not count as labeled)."""
        return {t: int((self.source[:, i] == HUMAN).sum()) for i, t in enumerate(self.tasks)}

    def table(self, start: int = 0, stop: int | None = None) -> pa.Table:
        """The ledger, or these rows of it, as parquet columns: key, and source and cycle of each task."""
        part = slice(start, stop)
        columns = {"key": pa.array(self.keys[part])}
        for i, task in enumerate(self.tasks):
            columns[f"{task}.source"] = pa.array(self.source[part, i])
            columns[f"{task}.cycle"] = pa.array(self.cycle[part, i])
        return pa.table(columns)

    @classmethod
    def of_table(cls, table: pa.Table) -> Self:
        """The ledger that ``table()`` wrote."""
        tasks = tuple(n.removesuffix(".source") for n in table.column_names if n.endswith(".source"))
        return cls(
            table["key"].to_numpy(),
            tasks,
            np.stack([table[f"{t}.source"].to_numpy() for t in tasks], 1),
            np.stack([table[f"{t}.cycle"].to_numpy() for t in tasks], 1),
        )


def lowest(values: NDArray[np.float64], count: int) -> NDArray[np.bool_]:
    """``[N]`` True for the ``count`` lowest values (all, where there are fewer); of equal ones the first."""
    if count >= len(values):
        return np.ones(len(values), bool)
    if count <= 0:
        return np.zeros(len(values), bool)
    last = np.partition(values, count - 1)[count - 1]
    chosen: NDArray[np.bool_] = values < last
    chosen[np.flatnonzero(values == last)[: count - np.count_nonzero(chosen)]] = True
    return chosen
