"""The ledger: drawn by hash, bought once, counted by task."""

import numpy as np
import pytest
from numpy.typing import NDArray

from orchestrator.pool import HUMAN, PSEUDO, Pool, lowest
from orchestrator.workers import ranges
from tasks.seeding import key_of, uniforms

TASKS = ("detection", "segmentation")


def keys(count: int) -> NDArray[np.uint64]:
    return np.sort(np.array([key_of(f"image-{i}") for i in range(count)], np.uint64))


def test_the_initial_pool_depends_on_seed_and_keys_alone() -> None:
    pool = Pool.initial(keys(100), TASKS, 40, seed=3)
    assert pool.counts() == {"detection": 40, "segmentation": 40}
    assert np.array_equal(pool.source, Pool.initial(keys(100), TASKS, 40, seed=3).source)
    assert not np.array_equal(pool.source, Pool.initial(keys(100), TASKS, 40, seed=4).source)


def test_the_initial_pool_is_what_a_sort_by_draw_and_key_puts_first() -> None:
    pool = Pool.initial(keys(300), TASKS, 70, seed=5)
    order = np.lexsort((pool.keys, uniforms(pool.keys, 5, -1)))
    assert np.flatnonzero(pool.labeled).tolist() == sorted(order[:70].tolist())
    assert set(pool.cycle[pool.labeled].ravel()) == {0}


@pytest.mark.parametrize("count", range(-1, 14))
def test_the_lowest_are_the_first_of_a_stable_sort(count: int) -> None:
    values = np.array([0.5, 0.25, 0.5, 0.75, 0.25, 0.5, 0.5, 1.0, 0.0, 0.5, 0.25, 1.0])
    want = np.argsort(values, kind="stable")[: max(count, 0)]
    assert np.flatnonzero(lowest(values, count)).tolist() == sorted(want.tolist())


def test_a_larger_start_contains_a_smaller_one() -> None:
    small, large = Pool.initial(keys(50), TASKS, 10, 0), Pool.initial(keys(50), TASKS, 20, 0)
    assert np.all(large.labeled[small.labeled])


def test_buying_adds_the_tasks_asked_for_and_leaves_the_old_ledger() -> None:
    pool = Pool.empty(keys(5), TASKS)
    after = pool.buy({int(pool.keys[2]): ("segmentation",), int(pool.keys[4]): TASKS}, cycle=3)
    assert after.counts() == {"detection": 1, "segmentation": 2}
    assert pool.counts() == {"detection": 0, "segmentation": 0}
    assert after.cycle[2].tolist() == [-1, 3]
    assert after.labeled.tolist() == [False, False, False, False, True]


def test_buying_twice_or_from_elsewhere_is_refused() -> None:
    pool = Pool.initial(keys(5), TASKS, 5, 0)
    with pytest.raises(ValueError, match="already has a human label"):
        pool.buy({int(pool.keys[0]): ("detection",)}, 1)
    with pytest.raises(ValueError, match="is not of this pool"):
        pool.buy({1: ("detection",)}, 1)


def test_pseudo_labels_are_trained_on_but_not_counted() -> None:
    pool = Pool.initial(keys(3), TASKS, 1, 0)
    source = pool.source.copy()
    source[source != HUMAN] = 2
    pseudo = Pool(pool.keys, pool.tasks, source, pool.cycle)
    assert pseudo.has.all()
    assert pseudo.counts() == {"detection": 1, "segmentation": 1}


def test_the_ledger_survives_a_table() -> None:
    pool = Pool.initial(keys(7), TASKS, 3, 0)
    back = Pool.of_table(pool.table())
    assert back.tasks == pool.tasks
    assert np.array_equal(back.keys, pool.keys)
    assert np.array_equal(back.source, pool.source)
    assert np.array_equal(back.cycle, pool.cycle)
    assert pool.table(2, 5).equals(pool.table().slice(2, 3))


def test_ranges_cover_everything_once() -> None:
    assert ranges(7, 3) == [(0, 3), (3, 6), (6, 7)]
    assert ranges(0, 3) == []


def test_starts_of_several_tasks_are_nested() -> None:
    pool = Pool.initial(keys(100), TASKS, {"detection": 10, "segmentation": 40}, seed=3)
    assert pool.counts() == {"detection": 10, "segmentation": 40}
    assert bool(np.all(pool.human[pool.human[:, 0], 1]))
    assert np.array_equal(pool.source[:, 1], Pool.initial(keys(100), TASKS, 40, seed=3).source[:, 1])
    assert int(pool.labeled.sum()) == 10


def test_pseudo_labels_are_trained_on_and_never_counted_paid_for_or_in_the_way() -> None:
    start = Pool.initial(keys(20), TASKS, {"detection": 10, "segmentation": 4}, seed=0)
    pool = start.pretend({"segmentation": start.keys}, cycle=1)  # also of those that people labeled
    assert pool.counts() == start.counts()
    assert np.array_equal(pool.human, start.human)
    assert np.array_equal(pool.labeled, start.labeled)
    assert (int(pool.has[:, 1].sum()), int((pool.source == PSEUDO).sum())) == (20, 16)
    assert np.array_equal(pool.source[start.human], start.source[start.human])
    row = int(np.flatnonzero(pool.source[:, 1] == PSEUDO)[0])
    after = pool.buy({int(pool.keys[row]): ("segmentation",)}, 2)
    assert (after.source[row, 1], after.cycle[row, 1]) == (HUMAN, 2)
    assert Pool.of_table(pool.table()).source.tolist() == pool.source.tolist()


def test_what_can_be_bought_of_an_image() -> None:
    pool = Pool.initial(keys(20), TASKS, {"detection": 10, "segmentation": 4}, seed=0)
    both, one = np.flatnonzero(pool.labeled)[0], np.flatnonzero(pool.human[:, 0] & ~pool.human[:, 1])[0]
    assert pool.unknown(int(pool.keys[both]), TASKS) == ()
    assert pool.unknown(int(pool.keys[one]), TASKS) == ("segmentation",)
    assert pool.buy({int(pool.keys[both]): ()}, 1).counts() == pool.counts()


def test_only_what_the_data_set_knows_is_drawn() -> None:
    known = np.zeros((30, 2), bool)
    known[::3, 0] = known[:5, 1] = True
    pool = Pool.initial(keys(30), TASKS, {TASKS[0]: 4, TASKS[1]: 30}, 0, known)
    has = pool.source == HUMAN
    assert has.sum(0).tolist() == [4, 5]
    assert not (has & ~known).any()
    all_known = Pool.initial(keys(30), TASKS, 7, 0, np.ones((30, 2), bool))
    assert np.array_equal(all_known.source, Pool.initial(keys(30), TASKS, 7, 0).source)
