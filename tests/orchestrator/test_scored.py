"""One strategy's columns of a file of several."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from orchestrator.errors import RunError
from orchestrator.scored import ScoredShard
from orchestrator.scoring import score_rows
from orchestrator.store import write_table
from strategies.base import Budget, Score
from strategies.candidates import ShardCandidates

SCORES = {
    "random": [Score(0.5), Score(0.25)],
    "core": [Score(1.0, {"a": 2.0}, np.ones(3, np.float32)), Score(2.0, {"a": 3.0}, np.zeros(3, np.float32))],
}


def test_one_strategy_of_a_file_of_several(tmp_path: Path) -> None:
    rows = score_rows(SCORES, ["x", "y"], [2**64 - 1, 4])
    assert rows.column_names == ["id", "key", "random.value", "core.value", "core.a", "core.summary"]
    path = tmp_path / "shard.parquet"
    write_table(path, rows.append_column("labeled", pa.array([False, False])))
    core = ScoredShard(path, "core")
    assert core.column_names == ["id", "key", "labeled", "value", "parts.a", "summary"]
    assert core.num_rows == 2
    assert ShardCandidates((core,), Budget(1), ()).top_k(key="a") == ["y"]
    assert core.select(["value", "id"]).to_pydict() == {"value": [1.0, 2.0], "id": ["x", "y"]}
    assert ScoredShard(path, "random").column_names == ["id", "key", "labeled", "value"]
    with pytest.raises(ValueError, match="'other' has no scores"):
        ScoredShard(path, "other").select(["value"])
    with pytest.raises(ValueError, match="part 'value'"):
        score_rows({"s": [Score(1.0, {"value": 1.0})]}, ["x"], [1])


def test_what_is_labeled_is_read_where_anything_is(tmp_path: Path) -> None:
    rows = score_rows(SCORES, ["x", "y"], [7, 4])
    for name, labeled in (("none", [False, False]), ("one", [True, False]), ("empty", [])):
        path = tmp_path / name
        write_table(path, rows.slice(0, len(labeled)).append_column("labeled", pa.array(labeled, pa.bool_())))
        shard = ScoredShard(path, "core")
        assert shard.select(["labeled"]).to_pydict() == {"labeled": labeled}
        assert shard.select(["key", "labeled", "id"]).column_names == ["key", "labeled", "id"]
        assert ShardCandidates((shard,), Budget(2), ()).top_k() == {"none": ["y", "x"], "one": ["y"], "empty": []}[name]


def test_equal_values_go_by_key_whether_or_not_the_file_tells_their_order(tmp_path: Path) -> None:
    def shard(name: str, keys: list[int], sorted_by: str | None) -> ScoredShard:
        scores = {"s": [Score(0.5)] * len(keys)}
        rows = score_rows(scores, [str(key) for key in keys], keys)
        write_table(tmp_path / name, rows.append_column("labeled", pa.array([False] * len(keys))), sorted_by)
        return ScoredShard(tmp_path / name, "s")

    low, high = shard("low", [1, 3, 5], "key"), shard("high", [7, 2**64 - 1], "key")
    assert (low.key_range, high.key_range) == ((1, 5), (7, 2**64 - 1))
    plain, across = shard("plain", [9, 8], None), shard("across", [4, 6], "key")
    empty = shard("empty", [], "key")
    assert (plain.key_range, empty.key_range) == (None, None)
    assert shard("other", [1, 2], "id").key_range is None
    for shards in ([low, high], [high, low], [low, across], [low, plain], [low, empty, high]):
        keys = sorted(int(id) for one in shards for id in one.select(["id"])["id"].to_pylist())
        assert ShardCandidates(shards, Budget(9), ()).top_k() == [str(key) for key in keys]


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "shard.parquet"
    path.write_bytes(b"PAR1 and then nothing")
    with pytest.raises(RunError, match=r"shard.parquet: is not readable as parquet"):
        _ = ScoredShard(path, "core").num_rows
