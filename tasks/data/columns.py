"""One column of a parquet file, a row group at a time: what is held is what is asked for, not the file."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray


def blocks(source: Any, name: str, metadata: Any = None, codes: bool = False) -> Iterator[tuple[int, Any]]:
    """(first row, Arrow array) of the parts of a column, in order; text as a dictionary where ``codes``.

    ``source`` is the name of a file, or an open file that can seek. ``metadata`` is its foot, where that was read.
    """
    with pq.ParquetFile(source, metadata=metadata, read_dictionary=[name] if codes else None) as file:
        start = 0
        for group in range(file.num_row_groups):
            for part in file.read_row_group(group, columns=[name], use_threads=False).column(0).chunks:
                yield start, part
                start += len(part)


def numbers(source: Any, name: str, count: int, kind: Any, metadata: Any = None) -> NDArray[Any]:
    """A column of ``count`` numbers as an array of type ``kind``."""
    found = np.empty(count, kind)
    for start, part in blocks(source, name, metadata):
        found[start : start + len(part)] = part.to_numpy()
    return found


def places(source: Any, name: str, count: int, words: Sequence[str], metadata: Any = None) -> NDArray[np.int8]:
    """A column of ``count`` texts as their places in ``words``; -1 for any other text."""
    found = np.empty(count, np.int8)
    for start, part in blocks(source, name, metadata, codes=True):
        known = [words.index(word) if word in words else -1 for word in part.dictionary.to_pylist()]
        found[start : start + len(part)] = np.array(known, np.int8)[part.indices.to_numpy()]
    return found
