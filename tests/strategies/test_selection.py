"""The k best: the golden order, any split into shards and workers."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from strategies.selection import Leaders, last_digits, top_k, top_k_over, value_words

Floats, Keys, Rows = NDArray[np.float64], NDArray[np.uint64], NDArray[np.int64]


def over_shards(values: Floats, keys: Keys, shards: list[Rows], k: int, workers: int = 3) -> Rows:
    """Rows of the k best, each shard passing by one of the workers."""
    held = [Leaders(k) for _ in range(workers)]
    for number, shard in enumerate(shards):
        first, stop = (shard.min(), shard.max() + 1) if len(shard) else (0, 0)
        inside = np.isin(np.arange(first, stop), shard)  # of a range of rows, those that are open
        held[number % workers].offer(values[first:stop], keys[first:stop], first, inside)
    owners, places = top_k_over(held, k)
    home = np.zeros(len(values), np.int64)
    for number, shard in enumerate(shards):
        home[shard] = number % workers
    assert (home[places] == owners).all()
    return places


def test_the_total_order_of_the_reference(shared: Path) -> None:
    with np.load(shared / "golden" / "selection_rules.npz") as golden:
        ids, scores, k = golden["ids"].astype(np.uint64), golden["scores"], int(golden["k"])
        assert ids[top_k(scores, ids, k)].tolist() == golden["top_k_high"].tolist()
        assert ids[top_k(-scores, ids, k)].tolist() == golden["top_k_low"].tolist()
        order = golden["shard"]
        shards = [np.flatnonzero(order == s) for s in np.unique(order)]
        assert ids[over_shards(scores, ids, shards, k)].tolist() == golden["top_k_high"].tolist()


def test_nan_is_after_minus_infinity_and_ties_go_by_key() -> None:
    values = np.array([np.nan, -np.inf, 1.0, 1.0, np.inf, np.nan])
    keys = np.array([0, 9, 2**64 - 1, 3, 7, 5], dtype=np.uint64)
    assert top_k(values, keys, 99).tolist() == [4, 3, 2, 1, 0, 5]
    assert top_k(values, keys, 0).tolist() == []
    assert top_k(values[:0], keys[:0], 3).tolist() == []
    assert [len(found) for found in top_k_over([], 3)] == [0, 0]
    assert [len(found) for found in top_k_over([Leaders(3)], 3)] == [0, 0]


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
    assert over_shards(scores, keys, rows, k, workers=1 + seed % 5).tolist() == brute
    assert top_k(scores, keys, k).tolist() == brute


def test_a_worker_forgets_what_cannot_be_among_the_best(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("strategies.selection._SLACK", 10)
    rng = np.random.default_rng(1)
    values, keys = rng.random(5000), rng.permutation(5000).astype(np.uint64)
    values[::7] = 0.99  # ties across the threshold
    leaders, held = Leaders(20), []
    for start in range(0, 5000, 50):
        leaders.offer(values[start : start + 50], keys[start : start + 50], start)
        held.append(len(leaders._values) + sum(len(new) for new, _, _ in leaders._new))
    assert max(held) <= 4 * 20 + 10 + 50
    assert top_k_over([leaders], 20)[1].tolist() == top_k(values, keys, 20).tolist()


def test_rounds_stop_when_the_best_are_told_from_the_rest() -> None:
    leaders = Leaders(3)
    leaders.offer(np.array([4.0, 2.0, 1.0]), np.arange(3, dtype=np.uint64))
    asked = []

    def count(prefix: tuple[int, ...]) -> NDArray[np.int64]:
        asked.append(prefix)
        return leaders.count(prefix)

    assert last_digits(count, 2) is not None
    assert asked == [()]  # the first digit tells 2 from 1
    leaders = Leaders(3)
    leaders.offer(np.full(3, 0.5), np.array([2**64 - 1, 2**64 - 2, 1], dtype=np.uint64))
    assert len(last_digits(leaders.count, 2) or ()) == 8  # equal values, keys that differ in the last bit
    assert last_digits(leaders.count, 0) is None


@settings(derandomize=True, max_examples=60, deadline=None)
@given(st.lists(st.floats(), min_size=2, max_size=20))
def test_words_are_in_the_order_of_the_values(values: list[float]) -> None:
    numbers = np.array(values)
    words = value_words(numbers).tolist()
    places = [(np.isnan(v), -np.nan_to_num(v, neginf=-np.inf, posinf=np.inf)) for v in values]
    for a, place in zip(words, places, strict=True):
        assert [a < b for b in words] == [place < other for other in places]
