"""A column read a row group at a time is that of the whole table, from a file and from an object."""

import io
from collections.abc import Iterator
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tasks.data import ranges
from tasks.data.columns import blocks, numbers, places
from tasks.data.ranges import RangedFile
from tests.tasks.data.answering import Answer, Answering, Asked

COUNT, GROUP = 1000, 64
WORDS = ("train", "val", "test")
SPLITS = [("train", "val", "elsewhere", "test", "train")[i * i % 5] for i in range(COUNT)]


def written(count: int = COUNT) -> bytes:
    """A table of several row groups, the last one smaller."""
    rng = np.random.default_rng(0)
    table = pa.table({
        "key": pa.array(rng.integers(2**63, 2**64 - 1, count, np.uint64)),
        "split": pa.array(SPLITS[:count], pa.string()),
        "other": pa.array([str(i) * 9 for i in range(count)], pa.string()),
    })  # fmt: skip
    sink = io.BytesIO()
    pq.write_table(table, sink, row_group_size=GROUP, compression="zstd")
    return sink.getvalue()


@pytest.fixture(params=["file", "open file", "object"])
def source(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The same parquet file in three ways."""
    data = written()
    if request.param != "object":
        (tmp_path / "a.parquet").write_bytes(data)
        with (tmp_path / "a.parquet").open("rb") as opened:
            yield str(tmp_path / "a.parquet") if request.param == "file" else opened
        return

    def answer(asked: list[Asked]) -> Answer:
        first, _, last = asked[-1][2]["range"].removeprefix("bytes=").partition("-")
        start, stop = (int(first), int(last) + 1) if first else (max(len(data) - int(last), 0), len(data))
        return Answer(206, data[start:stop], {"Content-Range": f"bytes {start}-{stop - 1}/{len(data)}"})

    monkeypatch.setattr(ranges, "BLOCK", 512)  # the file is many blocks
    server = Answering(*[answer] * 200)
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    try:
        with RangedFile("bucket", "a.parquet") as file:
            yield file
        assert len(server.asked) > 10  # it was read in pieces
    finally:
        server.shutdown()
        server.server_close()


@pytest.mark.slow
def test_numbers_are_those_of_the_whole_table(source: Any) -> None:
    whole = pq.read_table(io.BytesIO(written()))
    keys = numbers(source, "key", COUNT, np.uint64)
    assert (keys.dtype, keys.flags.owndata) == (np.uint64, True)
    assert np.array_equal(keys, whole["key"].to_numpy())


@pytest.mark.slow
def test_words_are_their_places(source: Any) -> None:
    found = places(source, "split", COUNT, WORDS)
    assert found.dtype == np.int8
    assert found.tolist() == [WORDS.index(word) if word in WORDS else -1 for word in SPLITS]


def test_parts_follow_each_other_and_none_is_larger_than_a_row_group(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_bytes(written())
    metadata = pq.read_metadata(tmp_path / "a.parquet")
    found = [(start, len(part)) for start, part in blocks(str(tmp_path / "a.parquet"), "key", metadata)]
    assert found == [(start, min(GROUP, COUNT - start)) for start in range(0, COUNT, GROUP)]


def test_a_file_without_rows_is_an_empty_column(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_bytes(written(0))
    assert numbers(str(tmp_path / "a.parquet"), "key", 0, np.uint64).tolist() == []
    assert places(str(tmp_path / "a.parquet"), "split", 0, WORDS).tolist() == []
