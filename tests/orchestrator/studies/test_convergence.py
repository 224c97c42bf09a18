"""The convergence point on known series, outcomes of methods, exact tests, extremes and shares of weights, boxes."""

import numpy as np
import pyarrow as pa
import pytest
from scipy.special import comb
from scipy.stats import ks_2samp

from orchestrator.studies.convergence import (
    Outcome,
    PairwiseTests,
    Run,
    Weights,
    box,
    convergence,
    divisor_extremes,
    error_curves,
    exact_p,
    improvements,
    ks_tests,
    outcomes,
    run_of,
    smallest_p,
    thinned,
    weight_shares,
    weights_of,
)

STEPS = np.arange(1, 201) * 500
REPEATS = 300


def indices(shape: np.ndarray, noise: float, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.array([convergence(STEPS, shape + rng.normal(0, noise, 200)).index for _ in range(REPEATS)])


# ---- one series ------------------------------------------------------------------------------------------------------


def test_a_constant_series_has_converged_at_once() -> None:
    found = convergence(STEPS, np.full(200, 0.1 + 0.2))
    assert (found.index, found.step) == (0, 500)
    assert found.error == pytest.approx(0.3)


def test_by_hand() -> None:
    """From 2 on the mean is .15 and the deviation .05; from 3 on .13 and .05; from 4 on all is equal."""
    steps, errors = np.arange(6) * 10, np.array([1.0, 0.8, 0.2, 0.2, 0.1, 0.1])
    found = convergence(steps, errors)
    assert (found.index, found.step, found.error) == (4, 40, pytest.approx(0.1))
    assert convergence(steps, errors, half_width=2.0).index == 0


def test_a_step_is_found() -> None:
    """From 1 to 0 at 40 of 200 with noise .01: median 42, 95 % at 47, at most 54 (measured for the specification)."""
    found = indices((np.arange(200) < 40).astype(float), 0.01)
    assert np.median(found) == pytest.approx(42, abs=1)
    assert found.min() >= 40
    assert np.quantile(found, 0.95) <= 48
    assert found.max() <= 60


def test_slower_decays_converge_later() -> None:
    """Time constants of 5, 15, 40 of 200: medians 15, 38, 78 (measured for the specification)."""
    at = np.arange(200)
    medians = [np.median(indices(np.exp(-at / tau), 0.05)) for tau in (5, 15, 40)]
    assert medians == sorted(medians)
    assert medians == pytest.approx([15, 38, 78], abs=2)


@pytest.mark.parametrize("at", [80, 120])
def test_a_late_step_is_found(at: int) -> None:
    """Nothing lies near the mean of all, and the first that do are outliers of the lower level."""
    found = indices(np.where(np.arange(200) < at, 1.0, 0.4), 0.01)
    assert found.min() >= at
    assert np.median(found) <= at + 2


def test_a_flat_noisy_series_is_late_by_a_point_or_two() -> None:
    found = indices(np.zeros(200), 0.01)
    assert 1.0 < found.mean() < 2.5
    assert (found == 0).mean() == pytest.approx(0.38, abs=0.08)


def test_the_order_of_the_tail_does_not_matter() -> None:
    rng = np.random.default_rng(3)
    errors = np.exp(-np.arange(200) / 10) + rng.normal(0, 0.01, 200)
    first = convergence(STEPS, errors)
    shuffled = np.concatenate([errors[: first.index + 1], rng.permutation(errors[first.index + 1 :])])
    assert convergence(STEPS, shuffled).index == first.index


def test_series_that_cannot_be_judged_are_refused() -> None:
    for steps, errors, says in (
        (STEPS, np.zeros(3), "3 errors at 200 steps"),
        (STEPS[:0], np.zeros(0), "at least one"),
        (STEPS[:3], np.array([1, np.nan, 1]), "NaN or infinity"),
    ):
        with pytest.raises(ValueError, match=says):
            convergence(steps, errors)
    assert convergence(STEPS[:1], np.ones(1)).index == 0


# ---- methods ---------------------------------------------------------------------------------------------------------


def run(method: str, seed: int, at: int, level: float, dead: float = 0.0) -> Run:
    """A step function with a little noise."""
    noise = np.random.default_rng([seed, at]).normal(0, 0.01, 200)
    errors = np.where(np.arange(200) < at, 1.0, level) + noise
    return Run(method, seed, STEPS, {"summed_error": errors}, np.linspace(0, dead, 200))


RUNS = [
    *(run("auxnet", s, 40 + s, 0.2 + 0.01 * s) for s in range(4)),
    *(run("kgc", s, 80 + s, 0.4) for s in range(4)),
    *(run("kgc", s, 80, 0.9, dead=1.0) for s in range(4, 6)),
]


def test_outcomes_count_the_dead_and_leave_them_out() -> None:
    found = outcomes(RUNS)
    assert {m: (len(o.steps), o.dead) for m, o in found.items()} == {"auxnet": (4, 0), "kgc": (4, 2)}
    assert found["kgc"].errors == pytest.approx([0.4] * 4, abs=0.01)
    assert (found["auxnet"].steps >= 500 * 41).all()
    assert (outcomes(RUNS, half_width=1.0)["auxnet"].steps <= found["auxnet"].steps).all()
    with pytest.raises(ValueError, match="has no 'distance_cm'; it has summed_error"):
        outcomes(RUNS, "distance_cm")


def test_improvements_by_mean_and_median() -> None:
    found = {
        "ours": Outcome("ours", np.array([10.0, 10, 40]), np.array([0.3, 0.3, 0.3]), 0),
        "theirs": Outcome("theirs", np.array([40.0, 40, 40]), np.array([0.4, 0.4, 0.4]), 0),
        "nobody": Outcome("nobody", np.zeros(0), np.zeros(0), 3),
        "below": Outcome("below", np.array([20.0]), np.array([-0.1]), 0),  # 1 - mDSQ of what beats the reference
    }
    assert improvements(found, "ours")["below"] == pytest.approx((0.0, float("nan")), nan_ok=True)
    assert np.isnan(improvements(found, "below")["ours"][1])
    assert improvements(found, "ours")["theirs"] == pytest.approx((0.5, 0.25))
    assert improvements(found, "ours", "median")["theirs"] == pytest.approx((0.75, 0.25))
    assert np.isnan(improvements(found, "ours")["nobody"]).all()
    with pytest.raises(ValueError, match="no method is called 'mine'"):
        improvements(found, "mine")


def test_the_papers_numbers_against_kgc() -> None:
    """26,800 steps beside 34,850 are 23.1 % less, which the text calls nearly 25 %."""
    found = {m: Outcome(m, np.array([s]), np.array([1.0]), 0) for m, s in (("auxnet", 26_800), ("kgc", 34_850))}
    assert improvements(found, "auxnet")["kgc"][0] == pytest.approx(0.231, abs=5e-4)


def test_exact_tests() -> None:
    """Twenty against twenty, fully apart: 2 of all orders are as extreme, p = 1.5e-11."""
    low, high = np.arange(20.0), np.arange(20.0) + 100
    found = ks_tests({"a": low, "b": high, "c": low + 0.5, "none": np.zeros(0)})
    assert found.methods == ("a", "b", "c", "none")
    assert found.p[0, 1] == found.p[1, 0] == pytest.approx(2 / comb(40, 20), rel=1e-6)
    assert found.p[0, 1] == pytest.approx(1.5e-11, rel=0.05)
    assert found.p[0, 0] == 1
    assert np.isnan(found.p[3, :3]).all()
    assert found.differ().tolist()[0] == [False, True, False, False]
    assert not found.differ(alpha=1e-12).any()


def test_curves_average_the_living_runs() -> None:
    found = error_curves(RUNS)
    assert [(c.method, c.runs) for c in found] == [("auxnet", 4), ("kgc", 4)]
    assert found[1].mean[-1] == pytest.approx(0.4, abs=0.02)
    assert (found[0].sd >= 0).all()
    short = Run("kgc", 9, STEPS[:5], {"summed_error": np.ones(5)})
    with pytest.raises(ValueError, match="different steps"):
        error_curves([*RUNS, short])
    assert error_curves([run("x", 0, 4, 0.1, dead=1.0)]) == []


def test_a_run_is_checked() -> None:
    with pytest.raises(ValueError, match=r"\{'e': 2\} values for 3 steps"):
        Run("m", 0, STEPS[:3], {"e": np.zeros(2)})
    with pytest.raises(ValueError, match="ascending"):
        Run("m", 0, STEPS[:3][::-1], {"e": np.zeros(3)})
    assert not Run("m", 0, STEPS[:3], {"e": np.zeros(3)}).is_dead


def test_holm_and_the_smallest_p() -> None:
    """Four pairs: .01 x 4, .02 x 3, .03 x 2, and .04, which is raised to the one before; NaN is no pair."""
    p = np.ones((4, 4))
    pairs = {(0, 1): 0.01, (0, 2): 0.02, (0, 3): 0.04, (1, 2): 0.03, (1, 3): np.nan, (2, 3): np.nan}
    for (i, j), value in pairs.items():
        p[i, j] = p[j, i] = value
    found = PairwiseTests(("a", "b", "c", "d"), p).holm()
    assert [found[i, j] for i, j in list(pairs)[:4]] == pytest.approx([0.04, 0.06, 0.06, 0.06])
    assert np.isnan(found[1, 3])
    assert np.array_equal(found, found.T, equal_nan=True)
    apart = ks_tests({"a": np.arange(5.0), "b": 9 + np.arange(5.0)})
    assert apart.p[0, 1] == pytest.approx(smallest_p(5, 5))
    assert smallest_p(1, 1) == 1.0


@pytest.mark.parametrize(("n", "m"), [(5, 5), (5, 4), (20, 20), (7, 13), (1, 3)])
@pytest.mark.filterwarnings("ignore:ks_2samp. Exact calculation unsuccessful")
def test_p_is_exact(n: int, m: int) -> None:
    """As scipy has it, ties too, where scipy does not fall back on an approximation."""
    rng = np.random.default_rng(n)
    for shift in (0.0, 0.5, 1.0, 2.0):
        a, b = rng.normal(0, 1, n).round(1), rng.normal(shift, 1, m).round(1)
        expected = ks_2samp(a, b, method="exact")
        if expected.statistic > 1 / min(n, m):
            assert exact_p(a, b) == pytest.approx(expected.pvalue, rel=1e-9)
    assert exact_p(np.array([1.0, 2, 3, 4, 5]), np.array([1.5, 2.5, 3.5, 4.5, 5.5])) == 1.0
    assert exact_p(np.ones(n), np.ones(m)) == 1.0


def test_runs_that_come_to_rest_at_the_end_are_counted() -> None:
    falling = Run("m", 0, STEPS[:20], {"e": np.linspace(1, 0, 20) ** 0.2})
    resting = Run("m", 1, STEPS[:20], {"e": np.zeros(20)})
    assert outcomes([falling, resting], "e")["m"].late == 1


# ---- weights and boxes -----------------------------------------------------------------------------------------------


def weights(method: str, seed: int, dist: list[float], iou: list[float]) -> Weights:
    return Weights(method, seed, STEPS[: len(dist)], {"dist": np.array(dist), "iou": np.array(iou)})


def test_extremes_are_those_of_the_divisors() -> None:
    runs = [weights("kgc", 0, [4, 2], [1, 0.5]), weights("kgc", 1, [10, 5], [0.25, 8]), weights("sum", 0, [1], [1])]
    found = divisor_extremes(runs)
    assert found == {"kgc": {"dist": (0.1, 0.5), "iou": (0.125, 4.0)}, "sum": {"dist": (1, 1), "iou": (1, 1)}}
    assert divisor_extremes([weights("zero", 0, [0.0], [1.0])])["zero"]["dist"] == (np.inf, np.inf)


def test_steps_without_known_weights_are_left_out() -> None:
    """A skipped step has none; a weighting of one's own may never say."""
    gap = weights("a", 0, [1, np.nan, 1], [3, np.nan, 1])
    assert divisor_extremes([gap])["a"]["iou"] == (pytest.approx(1 / 3), 1.0)
    steps, shares = weight_shares([gap])
    assert steps.tolist() == [500, 1500]
    assert shares.tolist() == [[0.25, 0.5], [0.75, 0.5]]
    silent = weights("a", 0, [np.nan], [np.nan])
    assert divisor_extremes([silent]) == {"a": {}}
    assert len(weight_shares([silent])[0]) == 0


def test_a_long_history_is_thinned_to_means() -> None:
    long = Weights("a", 0, np.array([0, 1, 2, 5, 9]), {"iou": np.array([1.0, 3.0, np.nan, 7.0, 9.0])})
    found = thinned(long, 5, 9)
    assert found.steps.tolist() == [0, 2, 4, 6, 8]
    assert found.multipliers["iou"][[0, 2, 4]].tolist() == [2.0, 7.0, 9.0]
    assert np.isnan(found.multipliers["iou"][[1, 3]]).all()
    assert thinned(long, 99, 9).multipliers["iou"][[0, 1, 5, 9]].tolist() == [1.0, 3.0, 7.0, 9.0]


def test_shares_of_weights_add_up() -> None:
    runs = [weights("a", 0, [1, 1], [3, 1]), weights("a", 1, [1, 0], [1, 1])]
    steps, shares = weight_shares(runs)
    assert steps.tolist() == [500, 1000]
    assert shares.tolist() == [[0.375, 0.25], [0.625, 0.75]]
    _, scaled = weight_shares(runs[:1], {"dist": 100.0})
    assert scaled[0] == pytest.approx([100 / 103, 100 / 101])
    with pytest.raises(ValueError, match="other steps or losses"):
        weight_shares([*runs, weights("a", 2, [1], [1])])


def test_a_box_and_its_whiskers() -> None:
    found = box(np.array([1.0, 2, 3, 4, 5, 30]))
    assert (found.low, found.first, found.median, found.third, found.high) == (1, 2.25, 3.5, 4.75, 5)
    lonely = box(np.array([0.0, 10, 10, 10]))
    assert lonely.low <= lonely.first
    with pytest.raises(ValueError, match="no values"):
        box(np.zeros(0))


# ---- from records ----------------------------------------------------------------------------------------------------


def test_runs_and_weights_from_long_tables() -> None:
    """Rows in any order; a loss that a step lacked (no image had its label) counts nowhere."""
    record = pa.table(
        {
            "step": [1000, 500, 500, 1000, 500, 1000, 500],
            "metric": ["pickup.summed_error"] * 2 + ["pickup.dead"] * 2 + ["pickup.queries"] * 2 + ["depth.rmse"],
            "value": [0.5, 1.0, 0.0, 6.0, 8.0, 8.0, 3.0],
        }
    )
    found = run_of(record, "kgc", 3)
    assert found.steps.tolist() == [500, 1000]
    assert {name: values.tolist() for name, values in found.errors.items()} == {"summed_error": [1.0, 0.5]}
    assert found.is_dead
    steps = pa.table({"step": [1, 1, 2], "loss": ["iou", "dist", "iou"], "value": [1.0] * 3, "weight": [2.0, 4.0, 5.0]})
    history = weights_of(steps, "kgc", 3)
    assert divisor_extremes([history]) == {"kgc": {"dist": (0.25, 0.25), "iou": (0.2, 0.5)}}
    assert weight_shares([history])[1].tolist() == [[pytest.approx(2 / 3), 0.0], [pytest.approx(1 / 3), 1.0]]
