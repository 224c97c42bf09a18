"""Gains by hand, what may be said of them, and the verdict on two tasks."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy import stats

from orchestrator.studies.affinity import Gain, condition, gain_over
from orchestrator.studies.toy import f1, f2
from orchestrator.studies.toy_networks import Examples, Networks, Training, answers, fit
from tasks.seeding import rng_of
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
        (HELPS, None, "A helps B; whether B helps A is not known (Condition 1 or 2)."),
        (None, NEITHER, "whether A helps B is not known; that B helps A is not shown (Condition 2 or 3)."),
        (None, None, "A and B: neither direction is known."),
    ],
)
def test_verdicts(there: Gain | None, back: Gain | None, said: str) -> None:
    assert condition("A", "B", there, back) == said


@pytest.mark.slow
def test_tasks_that_share_what_is_hidden_help_each_other_and_an_independent_one_does_not() -> None:
    """f1 and f2 of the toy example, of one hidden direction of eight inputs; and f2 of another direction.

    64 labels do not tell the direction, but they tell how f2 hangs on f1. All networks are trained for equally many
    steps. (Of z itself, as in the paper, 160 labels tell each function alone, and nothing is left to help with.)
    """
    seeds = tuple(range(8))
    inputs = np.stack([rng_of("x", seed).normal(0, 1, (1280, 8)) for seed in seeds])
    tasks = {"f1": f1(_hidden(inputs, "u")), "f2": f2(_hidden(inputs, "u")), "other": f2(_hidden(inputs, "v"))}
    words = {}
    for helper, task in (("f1", "f2"), ("f2", "f1"), ("other", "f1"), ("f1", "other")):
        plain, student, control = _errors(seeds, inputs, tasks[helper], tasks[task])
        found = gain_over(curve(student), curve(plain, arm="plain"), rises=False)
        over = gain_over(curve(student), curve(control, arm="control"), rises=False)
        assert found is not None
        assert over is not None
        words[helper, task] = found.word
        if "other" not in (helper, task):
            assert over.word == "helps", "it is more than pseudo-labels as such do"
        else:
            assert found.interval[0] < 0 < found.interval[1]
    assert list(words.values()) == ["helps", "helps", "not shown", "not shown"]


def _hidden(inputs: NDArray[np.float64], name: str) -> NDArray[np.float64]:
    """``[S, N]`` in 0..1: where the inputs lie along one direction of each seed."""
    ways = np.stack([rng_of(name, seed).normal(0, 1, inputs.shape[2]) for seed in range(len(inputs))])
    along = np.einsum("snd,sd->sn", inputs, ways / np.linalg.norm(ways, axis=1, keepdims=True))
    return np.asarray(1 / (1 + np.exp(-2 * along)))


def _errors(
    seeds: tuple[int, ...], inputs: NDArray[np.float64], helper: NDArray[np.float64], task: NDArray[np.float64]
) -> list[list[list[float]]]:
    """On the second half of the examples, ``[S, 1]`` each: without a teacher, of the student, of the control."""
    training, few, half = Training("relu", (32, 32), rate=2e-3), 64, inputs.shape[1] // 2
    x = torch.from_numpy(inputs).float()
    shown, y = (
        torch.from_numpy((v - v.mean(1)[:, None]) / v.std(1)[:, None]).float()[..., None] for v in (helper, task)
    )

    def trained(role: str, x: torch.Tensor, y: torch.Tensor) -> Networks:
        return fit(Examples(x, y), seeds, role, training, 300)

    def taught(seen: torch.Tensor) -> Networks:
        given = answers(trained("teacher", seen[:, :few], y[:, :few]), seen[:, :half])
        return trained("student", x[:, :half], torch.cat([y[:, :few], given[:, few:]], 1))

    networks = [trained("student", x[:, :few], y[:, :few]), taught(torch.cat([x, shown], 2)), taught(x)]
    squares = [(answers(one, x[:, half:]) - y[:, half:]).square() for one in networks]
    return [square.mean(1).double().tolist() for square in squares]
