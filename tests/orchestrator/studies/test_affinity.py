"""Gains by hand, what may be said of them, and the verdict on two tasks."""

import numpy as np
import pytest
from scipy import stats

from orchestrator.studies.affinity import Gain, condition, gain_over
from tests.orchestrator.test_curves import curve


def gain(values: list[float], rises: bool = True) -> Gain:
    """That of an arm whose figures are 1 + value, over one whose figures are 1."""
    signed = np.array(values) if rises else -np.array(values)
    found = gain_over(curve([[1 + v] for v in signed]), curve([[1.0]] * len(values), arm="b"), rises)
    assert found is not None
    return found


HELPS, HURTS, NEITHER = gain([0.1, 0.12, 0.11]), gain([-0.1, -0.12, -0.11]), gain([0.1, -0.12, 0.02])


def test_a_gain_by_hand() -> None:
    """.55 beside .5 is 10 % more; of an error 10 % less is the gain."""
    arm, other = curve([[9, 0.55], [9, 0.44]]), curve([[7, 0.5], [7, 0.4]], arm="b")
    found = gain_over(arm, other, rises=True)
    assert found is not None
    assert found.values == pytest.approx([0.1, 0.1])
    fall = gain_over(other, arm, rises=False)
    assert fall is not None
    assert fall.values == pytest.approx([1 - 0.5 / 0.55] * 2)


def test_the_interval_is_students_and_the_bootstrap_lies_within() -> None:
    values = [0.1, 0.02, 0.07, 0.12, -0.01]
    found = gain(values)
    assert (found.mean, found.sd) == pytest.approx((np.mean(values), np.std(values, ddof=1)))
    expected = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert found.interval == pytest.approx((expected.low, expected.high))
    low, high = found.resampled
    assert expected.low < low < found.mean < high < expected.high
    assert found.resampled == gain(values).resampled


def test_only_an_interval_without_zero_is_called_an_effect() -> None:
    assert (HELPS.word, HURTS.word, NEITHER.word) == ("helps", "hurts", "not shown")
    assert gain([0.1, 0.12, 0.11], rises=False).word == "helps"
    one = gain([5.0])
    assert one.word == "not shown", "one seed has no interval, whatever its gain"
    assert np.isnan([one.sd, *one.interval, *one.resampled]).all()


def test_seeds_without_a_figure_do_not_count() -> None:
    arm = curve([[0.5], [0.6], [np.nan], [0.7]], seeds=[0, 1, 2, 3])
    other = curve([[0.0], [0.5], [0.5], [0.5]], seeds=[0, 1, 2, 4], arm="b")
    found = gain_over(arm, other, rises=True)
    assert found is not None
    assert found.pair.seeds.tolist() == [1]
    assert gain_over(arm, curve([[1.0]], seeds=[9], arm="b"), rises=True) is None


@pytest.mark.parametrize(
    ("there", "back", "said"),
    [
        (HELPS, HELPS, "A and B help each other (Condition 1)."),
        (HELPS, NEITHER, "A helps B; that B helps A is not shown (Condition 2)."),
        (HURTS, HELPS, "B helps A; A hurts B (Condition 2)."),
        (NEITHER, HURTS, "that A helps B is not shown; B hurts A (Condition 3)."),
        (HELPS, None, "A helps B; whether B helps A was not tried (Condition 1 or 2)."),
        (None, NEITHER, "whether A helps B was not tried; that B helps A is not shown (Condition 2 or 3)."),
        (None, None, "A and B: neither direction was tried."),
    ],
)
def test_verdicts(there: Gain | None, back: Gain | None, said: str) -> None:
    assert condition("A", "B", there, back) == said
