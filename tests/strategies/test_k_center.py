"""Farthest-first traversal: the golden picks, any split into shards, laziness, bounds."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from strategies.k_center import KCenterShard, SquaredL2, k_center, k_center_over


@pytest.mark.parametrize("case", ["a", "b", "c"])
def test_k_center_matches_the_reference(shared: Path, case: str) -> None:
    with np.load(shared / "golden" / "coreset.npz") as golden:
        features, labeled = golden["features"], np.zeros(600, dtype=bool)
        labeled[golden[f"{case}_labeled"]] = True
        expected = golden[f"{case}_selected_in_order"].tolist()
        left = golden[f"{case}_min_distances_after"]
    keys = np.arange(600, dtype=np.uint64)
    assert k_center(features, labeled, len(expected), keys).tolist() == expected
    labeled[expected] = True
    np.testing.assert_allclose(np.sqrt(SquaredL2()(features, features[labeled]).min(axis=1)), left, atol=1e-6)


@pytest.mark.slow
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


# ---- laziness and bounds ---------------------------------------------------------------------------------------------


def brute_force(features: NDArray[np.floating], mask: NDArray[np.bool_], keys: NDArray[np.uint64], k: int) -> list[int]:
    rows = features.astype(np.float64)
    open, picks = ~mask, []
    nearest = np.full(len(rows), np.inf)
    for centre in np.flatnonzero(mask):
        nearest = np.minimum(nearest, np.square(rows - rows[centre]).sum(axis=1))
    for _ in range(min(k, open.sum())):
        best = max(nearest[open])
        pick = min((keys[row], row) for row in np.flatnonzero(open & (nearest == best)))[1]
        picks.append(int(pick))
        open[pick] = False
        nearest = np.minimum(nearest, np.square(rows - rows[pick]).sum(axis=1))
    return picks


KINDS = ["far apart", "all alike", "one hot", "on a grid", "tiny", "huge", "far from zero"]


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("kept_as", [np.float32, np.float64])
@pytest.mark.parametrize("sorted", [True, False])
def test_lazy_picks_are_those_of_brute_force(
    kind: str, kept_as: type[np.floating], sorted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over many small blocks, where bounds are loose, where everything is a tie, and where squares overflow."""
    monkeypatch.setattr("strategies.k_center._BLOCK", 1)  # 64 rows a block
    monkeypatch.setattr("strategies.k_center._NUMBERS", 500)
    rng = np.random.default_rng(7)
    features = {
        "far apart": rng.normal(size=(700, 6)),
        "all alike": np.ones((700, 6)),
        "one hot": np.eye(6)[rng.integers(0, 6, 700)],
        "on a grid": np.round(rng.normal(size=(700, 6))),
        "tiny": rng.normal(size=(700, 6)) * 1e-25,
        "huge": rng.normal(size=(700, 6)) * 1e25,
        "far from zero": rng.normal(size=(700, 6)) + 3e4,
    }[kind].astype(kept_as)
    keys = np.arange(700, dtype=np.uint64) if sorted else rng.permutation(700).astype(np.uint64)
    mask = rng.random(700) < 0.02
    assert k_center(features, mask, 90, keys).tolist() == brute_force(features, mask, keys, 90)


@settings(derandomize=True, max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    width=st.sampled_from([1, 3, 64, 2048]),
    scale=st.sampled_from([1e-20, 1e-3, 1.0, 1e6]),
    shift=st.sampled_from([0.0, 1.0, 1e4]),
    kept_as=st.sampled_from([np.float32, np.float64]),
)
def test_bounds_hold(seed: int, width: int, scale: float, shift: float, kept_as: type[np.floating]) -> None:
    rng = np.random.default_rng(seed)
    rows = ((rng.normal(size=(40, width)) + shift) * scale).astype(kept_as)
    rows[:5] = rows[5:10]
    distance, centres = SquaredL2(), rows[3:30]
    exact = distance(rows.astype(np.float64), centres.astype(np.float64))
    assert (distance.bound(rows, distance.terms(rows), centres, distance.terms(centres), 1) >= exact).all()
    assert (distance.bound(rows, distance.terms(rows), centres, distance.terms(centres), -1) <= exact).all()


def test_what_cannot_be_picked_is_not_read_again() -> None:
    """Clusters in the order of the rows, as the scenes of a drive are: a block far below the top is left alone."""
    rng = np.random.default_rng(3)
    centres = rng.normal(size=(40, 32)) * 10
    features = (np.repeat(centres, 2000, axis=0) + rng.normal(size=(80_000, 32))).astype(np.float32)
    shard = KCenterShard(features, np.arange(80_000, dtype=np.uint64), np.ones(80_000, bool))
    k_center_over([shard], 40)  # one of each cluster: all is read
    before = shard.rows_read
    k_center_over([shard], 100)
    assert 0 < shard.rows_read - before < 100 * 80_000 / 3


def test_every_block_can_be_brought_up_to_date_at_once() -> None:
    features = np.random.default_rng(3).normal(size=(3000, 8)).astype(np.float32)
    keys = np.arange(3000, dtype=np.uint64)
    eager, lazy = (KCenterShard(features, keys, np.ones(3000, bool)) for _ in range(2))
    for row in (5, 900, 2999):
        for shard in (eager, lazy):
            shard.cover(features[row : row + 1])
        eager.settle()
    assert eager.farthest() == lazy.farthest()
    assert eager.rows_read >= 3 * 3000
    offer = lazy.farthest()
    assert offer is not None
    assert lazy.farthest((offer[0], offer[1] - 1, 0)) is None  # a rival of the same distance and a lower key
    assert lazy.farthest((offer[0] * 0.99, 0, 0)) == offer
    for row in range(3000):
        lazy.close(row)
    assert lazy.farthest() is None
