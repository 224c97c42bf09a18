"""LL4AL: which losses are read, what the pool-wide sum does, and that rows may come in any order."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from strategies.base import Budget, Seen
from strategies.candidates import ShardCandidates
from strategies.conformance import assert_conforms
from strategies.ll4al import LL4AL, zscored_sum
from tasks.classes import ClassMap
from tasks.seeding import rng_of
from tasks.types import Prediction

TASKS = ("detection", "segmentation")


def seen(**losses: float) -> Seen:
    predicted = {task: torch.tensor(loss) for task, loss in losses.items()}
    return Seen("a", 1, (4, 4), ClassMap(), 0.5, Prediction({}, predicted_loss=predicted))


def pool(losses: np.ndarray, keys: np.ndarray, labeled: np.ndarray, budget: int) -> ShardCandidates:
    columns = {"id": [str(key) for key in keys], "key": keys.astype(np.uint64), "labeled": labeled.astype(bool)}
    columns |= {"value": losses.sum(1)} | {f"parts.{task}": losses[:, i] for i, task in enumerate(TASKS)}
    return ShardCandidates((pa.table(columns),), Budget(budget), TASKS)


def picked(strategy: LL4AL, candidates: ShardCandidates) -> list[str]:
    return [pick.id for pick in strategy.select(candidates, rng_of(0))]


def test_the_value_is_the_sum_of_the_losses_asked_for() -> None:
    one = seen(detection=-1.5, segmentation=4.0, depth=100.0)
    (both,), (det,), (seg,) = (LL4AL(tasks).score_batch([one], []) for tasks in ("both", "det", "seg"))
    assert (both.value, dict(both.parts)) == (2.5, {"detection": -1.5, "segmentation": 4.0})
    assert (det.value, dict(det.parts)) == (-1.5, {"detection": -1.5})
    assert (seg.value, dict(seg.parts)) == (4.0, {"segmentation": 4.0})


def test_half_precision_is_added_in_full() -> None:
    losses = {"detection": torch.tensor([2048.0], dtype=torch.float16), "segmentation": torch.tensor(1.0).bfloat16()}
    one = replace(seen(), plain=Prediction({}, predicted_loss=losses))
    assert LL4AL().score_batch([one], [])[0].value == 2049.0


def test_a_task_without_a_module_is_named() -> None:
    assert LL4AL("det").score_batch([seen(detection=1.0)], [])[0].value == 1.0
    with pytest.raises(ValueError, match=r"image 'a' has no predicted loss of 'segmentation' \(there is detection\)"):
        LL4AL().score_batch([seen(detection=1.0)], [])


def test_the_zscored_sum_matches_plain_arithmetic() -> None:
    values = rng_of("zscore").normal([3.0, -200.0], [0.01, 50.0], (300, 2))
    expected = np.zeros(300)
    for task in range(2):
        mean = sum(float(v) for v in values[:, task]) / 300
        variance = sum((float(v) - mean) ** 2 for v in values[:, task]) / 300
        expected += [(float(v) - mean) / variance**0.5 for v in values[:, task]]
    found = zscored_sum(values, np.arange(300, dtype=np.uint64))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-11)
    assert abs(found.mean()) < 1e-11


@settings(derandomize=True, max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32), scale=st.floats(1e-3, 1e3), shift=st.floats(-1e3, 1e3), shards=st.integers(1, 9))
def test_neither_scale_nor_shards_matter(seed: int, scale: float, shift: float, shards: int) -> None:
    rng = np.random.default_rng(seed)
    values, keys = rng.normal(size=(40, 2)), rng.permutation(40).astype(np.uint64)
    found = zscored_sum(values, keys)
    np.testing.assert_allclose(zscored_sum(values * [scale, 1.0] + [shift, 0.0], keys), found, atol=1e-9)
    order = np.concatenate([np.arange(40)[start::shards] for start in range(shards)])
    assert zscored_sum(values[order], keys[order]).tolist() == found[order].tolist()  # to the last bit


def test_constant_and_last_values() -> None:
    keys = np.arange(4, dtype=np.uint64)
    constant = np.array([[0.1, 1.0], [0.1, 2.0], [0.1, 3.0], [0.1, 4.0]])
    assert zscored_sum(constant, keys).tolist() == zscored_sum(constant[:, 1:], keys).tolist()
    last = zscored_sum(np.array([[-np.inf, 9.0], [1.0, 0.0], [2.0, 0.0], [3.0, 0.0]]), keys)
    assert last[0] == -np.inf
    assert last[1] < last[2] < last[3] < np.inf
    assert zscored_sum(np.full((4, 2), -np.inf), keys).tolist() == [-np.inf] * 4
    assert zscored_sum(np.zeros((0, 2)), keys[:0]).tolist() == []
    assert zscored_sum(np.ones((1, 2)), keys[:1]).tolist() == [0.0]
    for bad in (np.nan, np.inf):
        with pytest.raises(ValueError, match="NaN or"):
            zscored_sum(np.array([[bad, 0.0], [1.0, 1.0]]), keys[:2])


def test_a_loud_task_drowns_the_other_only_in_the_raw_sum() -> None:
    keys = np.arange(6)
    losses = np.array([[100.0, 0.1], [90.0, 0.9], [10.0, 1.0], [0.0, 0.0], [5.0, 0.2], [1000.0, 9.0]])
    labeled = np.array([0, 0, 0, 0, 0, 1])
    assert picked(LL4AL(), pool(losses, keys, labeled, 2)) == ["0", "1"]
    assert picked(LL4AL(sum="zscore"), pool(losses, keys, labeled, 2)) == ["1", "2"]
    quiet = losses * [1.0, 1e-6]
    assert picked(LL4AL(sum="zscore"), pool(quiet, keys, labeled, 9)) == ["1", "2", "0", "4", "3"]


def test_labeled_images_do_not_move_the_scale() -> None:
    rng = rng_of("labeled images")
    losses, keys, labeled = rng.normal(size=(50, 2)), np.arange(50), np.arange(50) % 3 == 0
    wild = np.where(labeled[:, None], losses * [1e6, 1.0], losses)
    strategy = LL4AL(sum="zscore")
    first, second = (picked(strategy, pool(table, keys, labeled, 20)) for table in (losses, wild))
    assert first == second
    assert not {int(id) for id in first} & set(np.flatnonzero(labeled).tolist())


def test_one_task_alone_needs_no_scale() -> None:
    losses = rng_of("one task").normal(size=(30, 2))
    candidates = pool(losses, np.arange(30), np.zeros(30), 7)
    expected = picked(LL4AL("det"), candidates)
    assert picked(LL4AL("det", sum="zscore"), candidates) == expected


def test_a_pool_value_that_is_missing_is_refused() -> None:
    losses = np.array([[1.0, 2.0], [np.nan, 1.0]])
    with pytest.raises(ValueError, match="NaN"):
        picked(LL4AL(sum="zscore"), pool(losses, np.arange(2), np.zeros(2), 1))


@pytest.mark.parametrize("strategy", [LL4AL(), LL4AL("det"), LL4AL("seg"), LL4AL(sum="zscore")])
def test_conforms(strategy: LL4AL) -> None:
    assert strategy.reads == ("predicted_loss",)
    assert_conforms(strategy)
