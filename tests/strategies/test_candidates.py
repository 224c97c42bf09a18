"""Candidates over a table: who is taken, and what is refused."""

import numpy as np
import pyarrow as pa
import pytest

from orchestrator.scoring import score_rows
from strategies.base import Budget, Score
from strategies.candidates import TableCandidates, candidate_rows


def candidates(values: list[float], **more: object) -> TableCandidates:
    count = len(values)
    table = {
        "id": pa.array([f"im{i}" for i in range(count)]),
        "key": pa.array(range(count, 0, -1), pa.uint64()),
        "labeled": pa.array([i == 0 for i in range(count)]),
        "value": pa.array(values, pa.float64()),
        "parts.area": pa.array([float(i) for i in range(count)], pa.float32()),
    }
    return TableCandidates(pa.table({**table, **more}), Budget(2), ("detection",), np.array([4, 0]))


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


def test_one_strategy_of_a_table_of_several() -> None:
    scores = {
        "random": [Score(0.5), Score(0.25)],
        "core": [Score(1.0, {"a": 2.0}, np.ones(3, np.float32)), Score(2.0, {"a": 3.0}, np.zeros(3, np.float32))],
    }
    rows = score_rows(scores, ["x", "y"], [2**64 - 1, 4])
    assert rows.column_names == ["id", "key", "random.value", "core.value", "core.a", "core.summary"]
    core = candidate_rows(rows, "core", np.array([False, False]))
    assert core.column_names == ["id", "key", "labeled", "value", "parts.a", "summary"]
    assert TableCandidates(core, Budget(1), ()).top_k(key="a") == ["y"]
    assert candidate_rows(rows, "random", np.array([False, True])).column_names == ["id", "key", "labeled", "value"]
    with pytest.raises(ValueError, match="'other' has no scores"):
        candidate_rows(rows, "other", np.array([False, False]))
    with pytest.raises(ValueError, match="part 'value'"):
        score_rows({"s": [Score(1.0, {"value": 1.0})]}, ["x"], [1])
