"""Differences between arms, seed by seed."""

import numpy as np
import pytest
from scipy import stats

from orchestrator.statistics import paired
from tests.orchestrator.test_curves import curve


def test_paired_interval_agrees_with_scipy() -> None:
    a, b = curve([[1, 3.0], [2, 5.0], [4, 4.5], [3, 6.0]]), curve([[1, 2.0], [2, 4.5], [4, 4.0], [3, 3.0]], arm="b")
    pair = paired(a, b)
    assert pair is not None
    assert pair.difference.tolist() == [[0, 1.0], [0, 0.5], [0, 0.5], [0, 3.0]]
    expected = stats.ttest_rel(a.y[:, 1], b.y[:, 1]).confidence_interval(0.95)
    assert (pair.low[1], pair.high[1]) == pytest.approx((expected.low, expected.high))
    assert pair.low[0] == pair.high[0] == 0


def test_pairs_are_made_of_shared_seeds_only() -> None:
    a, b = curve([[1.0], [2.0], [3.0]], seeds=[0, 2, 5]), curve([[10.0], [30.0]], seeds=[1, 5], arm="b")
    pair = paired(a, b)
    assert pair is not None
    assert pair.seeds.tolist() == [5]
    assert pair.difference.tolist() == [[-27.0]]
    assert np.isnan(pair.low).all(), "one seed has no interval"
    assert paired(a, curve([[1.0]], seeds=[7])) is None
