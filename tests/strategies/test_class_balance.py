"""The second stage of CALD against the authors' function; ties, empty images, bounded memory."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import jensenshannon

from strategies.base import Budget
from strategies.candidates import ShardCandidates
from strategies.class_balance import balanced_ids, candidate_count, class_balance, js_divergence, mean_counts, softmax
from tests.golden import label_counts


@dataclass(frozen=True)
class Counted(ShardCandidates):
    """Candidates that refuse to hand out everything."""

    most: int = 10**9

    def rows(self, ids: Sequence[str]) -> pa.Table:
        assert len(ids) <= self.most, "more rows than the second stage needs"
        return super().rows(ids)

    def table(self, columns: Sequence[str] | None = None) -> pa.Table:
        raise AssertionError("the whole table was asked for")


def candidates(
    values: np.ndarray, vectors: np.ndarray, budget: int, counts: np.ndarray, images: int, most: int = 10**9
) -> Counted:
    count = len(values)
    columns = {
        "id": pa.array([f"im{i}" for i in range(count)], pa.string()),
        "key": pa.array(range(count), pa.uint64()),
        "labeled": pa.array([False] * count, pa.bool_()),
        "value": pa.array(values, pa.float64()),
        "summary": pa.array(list(vectors.astype(np.float32)), pa.list_(pa.float32())),
    }
    return Counted((pa.table(columns),), Budget(budget), ("detection",), counts, images, most)


def keys(count: int) -> np.ndarray:
    return np.arange(count, dtype=np.uint64)


@pytest.mark.parametrize("case", ["a", "b", "c", "d"])
@pytest.mark.parametrize(("target", "column"), [("labeled", "default"), ("uniform", "uniform")])
def test_the_choice_is_that_of_the_authors(shared: Path, case: str, target: str, column: str) -> None:
    with np.load(shared / "golden" / "cald_second_stage.npz") as golden:
        counts, images = label_counts(golden, f"{case}_")
        vectors, budget = golden[f"{case}_cls_corrs"], int(golden[f"{case}_budget"])
        expected = golden[f"{case}_selected_{column}"]
    chosen = class_balance(vectors, counts / images, keys(len(vectors)), budget, target)
    assert chosen.tolist() == expected[:budget].tolist()  # theirs exceeds the budget where many images are empty


def test_both_stages_are_those_of_the_authors(shared: Path) -> None:
    with np.load(shared / "golden" / "cald_selection.npz") as golden:
        counts, images = label_counts(golden)
        budget, surplus = int(golden["budget"]), float(golden["mr"])
        some = candidates(-golden["uncertainty"], golden["cls_corrs"], budget, counts, images, most=60)
        names = [f"im{i}" for i in golden["stage1_positions"]]
        assert some.top_k(candidate_count(budget, surplus)) == names
        expected = [names[i] for i in golden["stage2_positions"]]
        assert golden["subset_ids"][[int(id[2:]) for id in expected]].tolist() == golden["selected_ids"].tolist()
    assert balanced_ids(some, surplus) == expected


def test_the_surplus_is_rounded_down() -> None:
    assert [candidate_count(n) for n in (0, 1, 4, 5, 50)] == [0, 1, 4, 6, 60]
    assert candidate_count(100, 1.15) == 115  # 114.99999999999999 in binary
    assert candidate_count(3, 1.0) == 3


@settings(derandomize=True, max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32), classes=st.integers(1, 90), scale=st.sampled_from([0.1, 1.0, 1000.0]))
def test_the_divergence_is_scipys(seed: int, classes: int, scale: float) -> None:
    rng = np.random.default_rng(seed)
    p, q = softmax(rng.random((2, 5, classes)) * scale)
    with np.errstate(invalid="ignore"):  # scipy takes the root of -1e-17, and halves the least number to 0
        tiny = np.finfo(np.float64).tiny
        expected = np.nan_to_num(jensenshannon(np.where(p < tiny, 0, p), np.where(q < tiny, 0, q), axis=1)) ** 2
    np.testing.assert_allclose(js_divergence(p, q), expected, atol=1e-12)
    np.testing.assert_array_equal(js_divergence(p, q), js_divergence(q, p))
    assert (js_divergence(p, q) <= np.log(2) + 1e-12).all()


@settings(derandomize=True, max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    count=st.integers(0, 30),
    budget=st.integers(0, 40),
    target=st.sampled_from(["labeled", "uniform"]),
    empty=st.sampled_from(["first", "last"]),
)
def test_picks_are_distinct_and_the_same_in_any_order(
    seed: int, count: int, budget: int, target: str, empty: str
) -> None:
    rng = np.random.default_rng(seed)
    vectors = rng.integers(0, 2, (count, 3)) * rng.integers(0, 2, (count, 1)) / 2.0  # many ties, many empty ones
    names, labeled = rng.permutation(count).astype(np.uint64), rng.random(3)
    chosen = class_balance(vectors, labeled, names, budget, target, empty)
    assert len(set(chosen.tolist())) == len(chosen) == min(budget, count)
    order = rng.permutation(count)
    turned = class_balance(vectors[order], labeled, names[order], budget, target, empty)
    assert names[chosen].tolist() == names[order][turned].tolist()
    nothing = ~vectors[chosen].any(1)
    assert sorted(nothing.tolist(), reverse=empty == "first") == nothing.tolist()
    whole = class_balance(vectors, labeled, names, count, target, empty)
    assert chosen.tolist() == whole[:budget].tolist()  # a larger budget only adds


def test_rare_classes_come_first() -> None:
    labeled = np.array([6.0, 0.5, 0.0])
    assert class_balance(np.eye(3) * 0.9, labeled, keys(3), 3).tolist() == [2, 1, 0]
    assert class_balance(np.eye(3) * 0.9, labeled, keys(3), 3, "uniform")[-1] == 0


def test_one_class_leaves_the_order_to_the_keys() -> None:
    vectors = np.array([[0.3], [0.9], [0.0]])
    assert class_balance(vectors, np.array([4.0]), np.array([9, 2, 5], np.uint64), 3).tolist() == [2, 1, 0]


def test_huge_counts_are_no_nan() -> None:
    least = np.array([np.nextafter(0.0, 1.0), 1.0])
    assert abs(js_divergence(least, np.array([0.0, 1.0]))) < 1e-12
    chosen = class_balance(np.eye(2), np.array([1e6, 0.0]), keys(2), 2)
    assert chosen.tolist() == [1, 0]


def test_only_the_best_values_are_balanced() -> None:
    rng = np.random.default_rng(4)
    values, vectors = rng.random(200), rng.random((200, 5))
    some = candidates(values, vectors, 20, np.arange(5), 7, most=30)
    chosen = balanced_ids(some, 1.5)
    assert len(chosen) == 20
    assert set(chosen) < set(some.top_k(30))
    assert set(balanced_ids(some, 1.0)) == set(some.top_k(20))
    names = some.shards[0].column_names
    assert balanced_ids(some, 1.5) == balanced_ids(replace(some, shards=(some.shards[0].select(names)[::-1],)), 1.5)


def test_images_that_come_last_stay_last() -> None:
    vectors = np.array([[0.0, 0.0], [0.5, 0.1], [0.0, 0.0], [0.1, 0.5]])
    values = np.array([-np.inf, -0.5, -np.inf, -0.4])
    some = candidates(values, vectors, 3, np.array([5, 1]), 2)
    assert balanced_ids(some, 1.2, empty="last") == ["im3", "im1", "im0"]
    assert balanced_ids(some, 1.2, empty="first")[0] == "im0"


def test_an_empty_pool_and_no_budget_are_answered() -> None:
    some = candidates(np.zeros(2), np.ones((2, 3)), 0, np.ones(3), 1)
    assert balanced_ids(some) == []
    empty = candidates(np.zeros(0), np.zeros((0, 3)), 4, np.ones(3), 1)
    assert balanced_ids(empty) == []


def test_counts_become_means() -> None:
    some = candidates(np.zeros(1), np.ones((1, 2)), 1, np.array([6, 2]), 4)
    assert mean_counts(some, 2).tolist() == [1.5, 0.5]
    assert mean_counts(ShardCandidates(some.shards, Budget(1), ()), 2).tolist() == [0.0, 0.0]
    assert mean_counts(ShardCandidates(some.shards, Budget(1), (), np.zeros(2, np.int64)), 2).tolist() == [0.0, 0.0]
    with pytest.raises(ValueError, match="2 label counts for class vectors of 3"):
        mean_counts(some, 3)


def test_vectors_of_different_lengths_are_refused() -> None:
    some = candidates(np.zeros(2), np.ones((2, 3)), 2, np.ones(3), 1)
    ragged = (
        some.shards[0]
        .select(some.shards[0].column_names)
        .set_column(4, "summary", pa.array([[1.0], None], pa.list_(pa.float32())))
    )
    with pytest.raises(ValueError, match="different lengths"):
        balanced_ids(Counted((ragged,), Budget(2), (), np.ones(3), 1))
