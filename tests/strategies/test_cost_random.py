"""Random matched to the objects: plain Random where weights are equal, and the right chances where they are not."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from strategies.base import Seen
from strategies.conformance import assert_conforms
from strategies.cost_random import CostRandom, draw_priority
from strategies.sample_pool import SampleNetwork, sample_seen
from strategies.selection import top_k
from tasks.classes import ClassMap
from tasks.seeding import uniforms
from tasks.types import Detections, Prediction


def seen_of(scores: Sequence[float], u: float = 0.5) -> Seen:
    count = len(scores)
    found = Detections(
        torch.zeros(count, 4), torch.tensor(scores), torch.zeros(count, dtype=torch.int64), torch.ones(count, 1)
    )
    return Seen("a", 1, (8, 8), ClassMap(("x",), (), (-1,)), u, Prediction({"detection": found}))


@pytest.mark.parametrize("count", [0, 1, 3, 100])
def test_equal_weights_pick_what_random_picks(shared: Path, count: int) -> None:
    keys = np.arange(1000, dtype=np.uint64)
    one = seen_of([0.9] * count)
    values = [s.value for s in CostRandom().score_batch([replace(one, u=u) for u in uniforms(keys, 3, 2).tolist()], [])]
    with np.load(shared / "golden" / "random_scores.npz") as golden:
        assert top_k(np.array(values), keys, 100).tolist() == golden["top_seed3_cycle2_n1000_k100"].tolist()


def test_a_large_base_is_random_again(shared: Path) -> None:
    keys = np.arange(1000, dtype=np.uint64)
    weights = 1e9 + keys % 7
    values = [draw_priority(u, w) for u, w in zip(uniforms(keys, 3, 2).tolist(), weights.tolist(), strict=True)]
    with np.load(shared / "golden" / "random_scores.npz") as golden:
        assert top_k(np.array(values), keys, 100).tolist() == golden["top_seed3_cycle2_n1000_k100"].tolist()


def test_the_first_pick_falls_by_weight() -> None:
    """Of images with 1, 2 and 5 objects, each is first in 1/8, 2/8 and 5/8 of all draws."""
    weights, draws = (1.0, 2.0, 5.0), 4000
    u = rng_draws(draws * 3).reshape(draws, 3)
    first = np.array([[draw_priority(x, w) for x, w in zip(row, weights, strict=True)] for row in u.tolist()]).argmax(1)
    share = np.bincount(first, minlength=3) / draws
    np.testing.assert_allclose(share, np.array(weights) / 8, atol=4 * 0.5 / draws**0.5)  # four deviations


def rng_draws(count: int) -> np.ndarray:
    return uniforms(np.arange(count, dtype=np.uint64), 11, 0)


def test_a_picked_set_holds_more_objects_than_a_plain_draw() -> None:
    keys = np.arange(4000, dtype=np.uint64)
    objects = (uniforms(keys, 5, 5) * 20).astype(int)
    u = uniforms(keys, 1, 0)
    weighted = np.array([draw_priority(x, n) for x, n in zip(u.tolist(), objects.tolist(), strict=True)])
    picked = objects[top_k(weighted, keys, 200)].mean()
    expected = (objects**2).mean() / objects.mean()  # a draw by weight, of a small share
    assert picked == pytest.approx(expected, rel=0.06)
    assert objects[top_k(u, keys, 200)].mean() < 0.85 * picked


@settings(derandomize=True, max_examples=100, deadline=None)
@given(u=st.floats(0, 1, exclude_max=True), v=st.floats(0, 1, exclude_max=True), w=st.integers(1, 1000))
def test_more_objects_and_a_higher_draw_come_first(u: float, v: float, w: int) -> None:
    assert -1000 < draw_priority(u, w) <= draw_priority(u, w + 1) < 0
    assert draw_priority(min(u, v), w) <= draw_priority(max(u, v), w)
    assert draw_priority(u, 0.0) < draw_priority(v, w)  # nothing detected: last
    assert draw_priority(min(u, v), 0.0) <= draw_priority(max(u, v), 0.0)


def test_only_confident_detections_count() -> None:
    one = seen_of([0.9, 0.31, 0.3, 0.29, 0.06])
    (score,) = CostRandom().score_batch([one], [])
    assert score.parts == {"objects": 3.0}
    assert score.value == draw_priority(0.5, 3.0)
    assert CostRandom(min_score=0.5).score_batch([one], [])[0].parts == {"objects": 1.0}
    assert CostRandom(base=2.5).score_batch([one], [])[0].value == draw_priority(0.5, 5.5)


def test_images_without_objects_are_drawn_among_themselves() -> None:
    seen = sample_seen(CostRandom(), network=SampleNetwork(min_score=2.0))
    values = [score.value for score in CostRandom().score_batch(seen, [])]
    assert np.argsort(values).tolist() == np.argsort([one.u for one in seen]).tolist()
    assert max(values) < draw_priority(0.0, 1.0)


def test_bad_settings_are_refused() -> None:
    for base in (-1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="base"):
            CostRandom(base=base)


@pytest.mark.parametrize("strategy", [CostRandom(), CostRandom(base=1.0, min_score=0.5)])
def test_conforms(strategy: CostRandom) -> None:
    assert strategy.views == ()
    assert_conforms(strategy)
