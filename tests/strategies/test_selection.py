"""Exact choices: the golden order, any split into shards, greedy k-centre."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strategies.selection import KCenterShard, k_center, k_center_over, merge_top_k, top_k


def test_the_total_order_of_the_reference(shared: Path) -> None:
    with np.load(shared / "golden" / "selection_rules.npz") as golden:
        ids, scores, k = golden["ids"].astype(np.uint64), golden["scores"], int(golden["k"])
        assert ids[top_k(scores, ids, k)].tolist() == golden["top_k_high"].tolist()
        assert ids[top_k(-scores, ids, k)].tolist() == golden["top_k_low"].tolist()
        order = golden["shard"]
        shards = [np.flatnonzero(order == s) for s in np.unique(order)]
        kept = [rows[top_k(scores[rows], ids[rows], k)] for rows in shards]
        merged = merge_top_k([(scores[rows], ids[rows]) for rows in kept], k)
        assert [int(ids[kept[s][r]]) for s, r in merged] == golden["top_k_high"].tolist()


def test_nan_is_after_minus_infinity_and_ties_go_by_key() -> None:
    values = np.array([np.nan, -np.inf, 1.0, 1.0, np.inf, np.nan])
    keys = np.array([0, 9, 2**64 - 1, 3, 7, 5], dtype=np.uint64)
    assert top_k(values, keys, 99).tolist() == [4, 3, 2, 1, 0, 5]
    assert top_k(values, keys, 0).tolist() == []
    assert top_k(values[:0], keys[:0], 3).tolist() == []
    assert merge_top_k([], 3) == []


VALUES = st.lists(st.sampled_from([0.0, -0.0, 0.5, 1.0, -np.inf, np.nan, 0.25]), min_size=0, max_size=90)


@settings(derandomize=True, max_examples=40, deadline=None)
@given(values=VALUES, k=st.integers(0, 40), shards=st.sampled_from([1, 2, 7, 64]), seed=st.integers(0, 2**32))
def test_any_number_of_shards_gives_the_same_ids(values: list[float], k: int, shards: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    scores = np.array(values, dtype=np.float64)
    keys = rng.permutation(len(values)).astype(np.uint64) + np.uint64(2**63)
    brute = sorted(range(len(scores)), key=lambda i: (np.isnan(scores[i]), -np.nan_to_num(scores[i]), keys[i]))[:k]
    home = rng.integers(0, shards, len(values))
    rows = [np.flatnonzero(home == s) for s in range(shards)]
    kept = [r[top_k(scores[r], keys[r], k)] for r in rows]
    merged = merge_top_k([(scores[r], keys[r]) for r in kept], k)
    assert [int(kept[s][r]) for s, r in merged] == brute
    assert top_k(scores, keys, k).tolist() == brute


@pytest.mark.parametrize("case", ["a", "b", "c"])
def test_k_center_matches_the_reference(shared: Path, case: str) -> None:
    with np.load(shared / "golden" / "coreset.npz") as golden:
        features, labeled = golden["features"], np.zeros(600, dtype=bool)
        labeled[golden[f"{case}_labeled"]] = True
        expected = golden[f"{case}_selected_in_order"].tolist()
        left = golden[f"{case}_min_distances_after"]
    keys = np.arange(600, dtype=np.uint64)
    assert k_center(features, labeled, len(expected), keys).tolist() == expected
    shard = KCenterShard(features, keys, ~labeled)
    shard.cover(features[labeled])
    k_center_over([shard], len(expected))
    np.testing.assert_allclose(np.sqrt(shard.nearest), left, atol=1e-6)


@settings(derandomize=True, max_examples=12, deadline=None)
@given(seed=st.integers(0, 2**32), labeled=st.sampled_from([0, 1, 9]), duplicates=st.booleans())
def test_k_center_is_the_same_for_any_number_of_shards(seed: int, labeled: int, duplicates: bool) -> None:
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(120, 5)).astype(np.float32)
    if duplicates:
        features = np.round(features)
    keys = rng.permutation(120).astype(np.uint64)
    mask = np.zeros(120, dtype=bool)
    mask[:labeled] = True
    expected = k_center(features, mask, 20, keys).tolist()
    assert len(set(expected)) == 20
    assert not mask[expected].any()
    for count in (2, 7, 64):
        home = rng.integers(0, count, 120)
        rows = [np.flatnonzero(home == s) for s in range(count)]
        shards = [KCenterShard(features[r], keys[r], ~mask[r]) for r in rows]
        for shard in shards:
            shard.cover(features[mask])
        assert [int(rows[s][r]) for s, r in k_center_over(shards, 20)] == expected


def test_k_center_takes_a_distance_and_stops_when_nothing_is_left() -> None:
    features = np.array([[0.0], [1.0], [4.0], [9.0]])
    keys = np.array([3, 2, 1, 0], dtype=np.uint64)
    mask = np.array([True, False, False, False])
    closest = lambda rows, centres: -np.abs(rows - centres[:, 0])  # noqa: E731 - the nearest first
    assert k_center(features, mask, 9, keys).tolist() == [3, 2, 1]
    assert k_center(features, mask, 1, keys, closest).tolist() == [1]
    with pytest.raises(ValueError, match="finite"):
        k_center(features * np.nan, mask, 1, keys)
