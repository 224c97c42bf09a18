"""Rows of a manifest with the labels that people gave later in place of their own."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from tasks.data.files import Place, local_file


def relabeled(
    table: Any, keys: NDArray[np.uint64], labels: Sequence[Place], columns: Sequence[str] | None = None
) -> Any:
    """The Arrow table of rows with these keys ``[n]``, where each row that a file of labels has, too, is the file's.

    ``labels`` have the columns of a manifest; of two files with the same image the later one counts. ``columns`` are
    those of ``table``, as they were asked for.
    """
    if not labels or not len(keys):
        return table
    order = np.argsort(keys, kind="stable")
    parts, chosen, start = [table], np.arange(len(keys)), len(keys)
    for path in labels:
        with pq.ParquetFile(str(local_file(path))) as file:
            given = file.read(["key"])["key"].to_numpy()
            part = file.read(None if columns is None else list(columns))
        at = np.searchsorted(keys[order], given)
        for row, (place, key) in enumerate(zip(at.tolist(), given.tolist(), strict=True)):
            while place < len(keys) and int(keys[order[place]]) == key:  # a row may be asked for twice
                chosen[order[place]] = start + row
                place += 1
        parts.append(part.cast(table.schema) if part.schema != table.schema else part)
        start += len(part)
    return pa.concat_tables(parts).combine_chunks().take(pa.array(chosen))
