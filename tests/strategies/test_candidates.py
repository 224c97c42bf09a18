"""Candidates over shards: who is taken, what is read, and what is refused."""

from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest

from strategies.base import Budget
from strategies.candidates import ShardCandidates


def candidates(values: list[float], **more: object) -> ShardCandidates:
    count = len(values)
    table = {
        "id": pa.array([f"im{i}" for i in range(count)]),
        "key": pa.array(range(count, 0, -1), pa.uint64()),
        "labeled": pa.array([i == 0 for i in range(count)]),
        "value": pa.array(values, pa.float64()),
        "parts.area": pa.array([float(i) for i in range(count)], pa.float32()),
    }
    return ShardCandidates((pa.table({**table, **more}),), Budget(2), ("detection",), np.array([4, 0]))


def test_top_k_takes_the_best_unlabeled_within_the_budget() -> None:
    some = candidates([9.0, 1.0, 3.0, 3.0, -np.inf])
    assert some.top_k() == ["im3", "im2"]  # a tie: the lower key first
    assert some.top_k(99) == ["im3", "im2", "im1", "im4"]
    assert some.top_k(1, key="parts.area") == some.top_k(1, key="area") == ["im4"]
    assert some.label_counts.tolist() == [4, 0]


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_top_k_refuses_what_is_no_number(bad: float) -> None:
    with pytest.raises(ValueError, match=r"'value' is (nan|inf) for image 'im2'"):
        candidates([1.0, 2.0, bad]).top_k()
    assert candidates([bad, 2.0, 1.0]).top_k() == ["im1", "im2"]  # the labeled one does not compete


def test_k_center_starts_from_the_labeled() -> None:
    summary = pa.array([[0.0, 0.0], [1.0, 0.0], [5.0, 0.0], [4.5, 0.0]], pa.list_(pa.float32()))
    some = candidates([0.0] * 4, summary=summary)
    assert some.k_center() == ["im2", "im1"]
    assert some.k_center(1, lambda rows, centres: -np.abs(rows[:, :1] - centres[:, 0])) == ["im1"]
    with pytest.raises(ValueError, match="summary"):
        candidates([0.0]).k_center()
    with pytest.raises(ValueError, match="different lengths"):
        candidates([0.0, 0.0], summary=pa.array([[1.0], None], pa.list_(pa.float32()))).k_center()


def test_rows_come_in_the_order_asked_for() -> None:
    some = candidates([1.0, 2.0, 3.0])
    assert some.rows(["im2", "im0"])["value"].to_pylist() == [3.0, 1.0]
    assert some.table().num_rows == 3
    with pytest.raises(ValueError, match="'imX' was not scored"):
        some.rows(["im1", "imX"])
    with pytest.raises(ValueError, match="no score column 'nothing'"):
        some.top_k(key="nothing")


class Noted:
    """A shard that notes which columns were read of it."""

    def __init__(self, table: pa.Table) -> None:
        self.table, self.read = table, set[str]()
        self.num_rows, self.column_names = table.num_rows, table.column_names

    def select(self, columns: list[str]) -> pa.Table:
        self.read |= set(columns)
        return self.table.select(columns)


def split(whole: pa.Table, count: int) -> list[Noted]:
    cuts = np.linspace(0, whole.num_rows, count + 1).astype(int)
    return [Noted(whole.slice(a, b - a)) for a, b in pairwise(cuts)]


@pytest.mark.parametrize("count", [1, 2, 7, 64])
def test_choices_do_not_depend_on_the_shards(count: int) -> None:
    rng = np.random.default_rng(5)
    summary = np.round(rng.normal(size=(90, 3)), 1).astype(np.float32)
    table = pa.table(
        {
            "id": pa.array([f"im{i}" for i in range(90)]),
            "key": pa.array(rng.permutation(90), pa.uint64()),
            "labeled": pa.array(rng.random(90) < 0.3),
            "value": pa.array(np.round(rng.normal(size=90)), pa.float64()),
            "summary": pa.array(list(summary), pa.list_(pa.float32())),
        }
    )
    whole = ShardCandidates((table,), Budget(20), ())
    some = ShardCandidates(split(table, count), Budget(20), ())
    ids = some.top_k()
    assert ids == whole.top_k()
    assert some.k_center() == whole.k_center()
    assert some.rows(ids).equals(whole.rows(ids))
    assert some.rows(["im7", "im80", "im7"])["id"].to_pylist() == ["im7", "im80", "im7"]  # never given out: looked up
    assert some.table(["id", "value"]).equals(table.select(["id", "value"]))
    assert some.rows([]).num_rows == 0


def test_the_best_are_found_without_reading_what_is_not_asked_for() -> None:
    some = candidates([1.0, 2.0, 3.0, 4.0], summary=pa.array([[1.0]] * 4, pa.list_(pa.float32())))
    shards = split(some.table(), 4)
    assert ShardCandidates(shards, Budget(1), ()).top_k() == ["im3"]
    assert [sorted(shard.read) for shard in shards] == [["key", "labeled", "value"]] * 3 + [
        ["id", "key", "labeled", "value"]
    ]


def test_nothing_to_choose_from() -> None:
    for shards in ((), (candidates([]).table(),), (candidates([1.0]).table(),)):
        none = ShardCandidates(shards, Budget(2), ())
        assert none.top_k() == []
        assert none.top_k(0) == []
    assert ShardCandidates((), Budget(2), ()).k_center() == []
    with pytest.raises(ValueError, match="different lengths"):
        lengths = [pa.array([[1.0, 2.0]], pa.list_(pa.float32())), pa.array([[1.0]], pa.list_(pa.float32()))]
        ShardCandidates([candidates([0.0], summary=one).table() for one in lengths], Budget(1), ()).k_center()
