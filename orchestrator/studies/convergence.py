"""When runs have converged, to which error, and what can be said of methods that were each run many times.

The statistics of the paper on AuxNet (IROS 2018): section V and Tables I to III. Pure functions of arrays; no torch.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

Array = NDArray[np.float64]
ALPHA = 0.05
DEAD = 0.5  # share of dead answers at the end from which on a run counts as dead


# ---- one run ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Run:
    """One training: its errors on the whole validation split every so many steps."""

    method: str
    seed: int
    steps: NDArray[np.int64]  # [n] ascending
    errors: Mapping[str, Array]  # {"summed_error": [n], "distance_cm": [n], ...}
    dead: Array | None = None  # [n] share of the answers without activation; None = not known

    def __post_init__(self) -> None:
        lengths = {name: len(values) for name, values in self.errors.items()}
        if self.dead is not None:
            lengths["dead"] = len(self.dead)
        if wrong := {name: n for name, n in lengths.items() if n != len(self.steps)}:
            raise ValueError(f"run {self.method} {self.seed}: {wrong} values for {len(self.steps)} steps")
        if not len(self.steps) or (np.diff(self.steps) <= 0).any():
            raise ValueError(f"run {self.method} {self.seed}: expected at least one step, in ascending order")

    @property
    def is_dead(self) -> bool:
        """Whether most answers had died when the training ended."""
        return self.dead is not None and bool(self.dead[-1] >= DEAD)

    def error(self, name: str) -> Array:
        """One series; ValueError where there is none."""
        if name not in self.errors:
            raise ValueError(f"run {self.method} {self.seed} has no {name!r}; it has {', '.join(sorted(self.errors))}")
        return self.errors[name]


def run_of(table: pa.Table, method: str, seed: int, task: str = "pickup") -> Run:
    """A run from its validation record: a row for each ``step`` and ``metric`` ("pickup.summed_error") with ``value``.

    The share of dead answers is ``dead / queries`` of the task, where both are in it.
    """
    steps, series = series_of(table, "metric", "value")
    errors = {name.removeprefix(f"{task}."): values for name, values in series.items() if name.startswith(f"{task}.")}
    dead, queries = errors.pop("dead", None), errors.pop("queries", None)
    return Run(method, seed, steps, errors, None if dead is None or queries is None else dead / queries)


def series_of(table: pa.Table, name: str, value: str) -> tuple[NDArray[np.int64], dict[str, Array]]:
    """From long to wide: the steps, ascending, and for each name its values ``[n]``, NaN at steps that lack it."""
    steps, at = np.unique(table["step"].to_numpy(), return_inverse=True)
    coded = table[name].cast(pa.string()).combine_chunks().dictionary_encode()
    which, values = coded.indices.to_numpy(), table[value].to_numpy()
    series = {}
    for code, one in sorted(enumerate(coded.dictionary.to_pylist()), key=lambda pair: str(pair[1])):
        series[one] = np.full(len(steps), np.nan)
        series[one][at[which == code]] = values[which == code]
    return steps.astype(np.int64), series


@dataclass(frozen=True)
class Convergence:
    """The point from which on a series only fluctuates."""

    index: int
    step: int
    error: float  # the mean from there on
    sd: float


def convergence(steps: NDArray[np.int64], errors: Array, half_width: float = 0.5) -> Convergence:
    """Where a series ``[n]`` has converged (section V-B, Fig. 12): the earliest point that fits what comes after it.

    Points are removed from the front, one at a time, until the first one lies within mean +- ``half_width`` x standard
    deviation of those that remain. The paper found half a deviation to be best. It assumes that the series ends
    converged. On a series that was always flat the first point fits in only 38 % of the cases, so that the answer is
    late by a point or two. ValueError for an empty or not finite series.

    Removing all points before the first that fits at once, as the paper may be read, too, ends elsewhere where a series
    falls in one late step: there the window first touches the lower level at its outliers, or holds nothing at all.
    """
    if len(steps) != len(errors) or not len(errors):
        raise ValueError(f"convergence: {len(errors)} errors at {len(steps)} steps; expected as many, at least one")
    if not np.isfinite(errors).all():
        raise ValueError("convergence: the series holds NaN or infinity; expected a finite error at every step")
    level = errors - errors[-1]  # near 0 at the end, so that the sums of squares lose nothing
    counts = np.arange(len(level), 0, -1)
    means = level[::-1].cumsum()[::-1] / counts  # of each point and all after it
    deviations = np.sqrt(np.maximum((level**2)[::-1].cumsum()[::-1] / counts - means**2, 0))
    fits = np.abs(level - means) <= half_width * deviations
    fits |= counts < 3
    start = int(fits.argmax())
    rest = errors[start:]
    return Convergence(start, int(steps[start]), float(rest.mean()), float(rest.std()))


# ---- the runs of a method --------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Outcome:
    """What the runs of one method came to. Dead ones are counted and left out, as in the paper."""

    method: str
    steps: Array  # [R] where each converged
    errors: Array  # [R] to which error
    dead: int
    late: int = 0  # runs whose point lies in the last tenth of their record: they may not have converged


def outcomes(runs: Sequence[Run], name: str = "summed_error", half_width: float = 0.5) -> dict[str, Outcome]:
    """The outcome of every method, in the order in which they appear."""
    found = {}
    for method in dict.fromkeys(run.method for run in runs):
        own = [run for run in runs if run.method == method]
        alive = [run for run in own if not run.is_dead]
        points = [convergence(run.steps, run.error(name), half_width) for run in alive]
        found[method] = Outcome(
            method,
            np.array([p.step for p in points], dtype=np.float64),
            np.array([p.error for p in points], dtype=np.float64),
            len(own) - len(alive),
            sum(p.index >= 0.9 * len(run.steps) for run, p in zip(alive, points, strict=True)),
        )
    return found


@dataclass(frozen=True, eq=False)
class ErrorCurve:
    """An error over the steps, averaged over the runs of a method (Figs. 5 and 10)."""

    method: str
    steps: NDArray[np.int64]  # [n]
    mean: Array  # [n]
    sd: Array  # [n]
    runs: int


def error_curves(runs: Sequence[Run], name: str = "summed_error") -> list[ErrorCurve]:
    """One curve a method, of the runs that live. ValueError where runs of a method were looked at at other steps."""
    curves = []
    for method in dict.fromkeys(run.method for run in runs):
        own = [run for run in runs if run.method == method and not run.is_dead]
        if not own:
            continue
        if any(not np.array_equal(run.steps, own[0].steps) for run in own):
            raise ValueError(f"the runs of {method!r} were evaluated at different steps; expected the same ones")
        values = np.stack([run.error(name) for run in own])
        curves.append(ErrorCurve(method, own[0].steps, values.mean(0), values.std(0), len(own)))
    return curves


def improvements(
    found: Mapping[str, Outcome], ours: str, centre: Literal["mean", "median"] = "mean"
) -> dict[str, tuple[float, float]]:
    """Table II: ``{other: (share of steps saved, of error saved)}``, 1 - ours / theirs; NaN below 0, or without runs.

    The paper's text and abstract differ (23.1 and 24.5 % against KGC), perhaps as means and medians do: both are here.
    """
    if ours not in found:
        raise ValueError(f"improvements: no method is called {ours!r}; there is {', '.join(found)}")
    return {
        method: (_saved(found[ours].steps, other.steps, centre), _saved(found[ours].errors, other.errors, centre))
        for method, other in found.items()
        if method != ours
    }


def _saved(ours: Array, theirs: Array, centre: Literal["mean", "median"]) -> float:
    if not len(ours) or not len(theirs):
        return float("nan")
    middle = np.mean if centre == "mean" else np.median
    above, below = float(middle(ours)), float(middle(theirs))
    return 1 - above / below if above >= 0 and below > 0 else float("nan")  # of 1 - mDSQ below 0 there is no share


@dataclass(frozen=True, eq=False)
class PairwiseTests:
    """Two-sample Kolmogorov-Smirnov tests of each method against each other (Table III)."""

    methods: tuple[str, ...]  # M
    p: Array  # [M, M] symmetric, 1 on the diagonal; NaN where a method has no live run

    def differ(self, alpha: float = ALPHA) -> NDArray[np.bool_]:
        """``[M, M]``: where "both come from one distribution" is rejected."""
        return np.asarray(self.p < alpha)

    def holm(self) -> Array:
        """``[M, M]``: the p of all pairs after Holm's correction for their number; NaN pairs do not count."""
        first, second = np.tril_indices(len(self.methods), -1)
        values = self.p[first, second]
        order = np.argsort(values, kind="stable")[: int(np.isfinite(values).sum())]  # NaN comes last
        adjusted = np.maximum.accumulate(values[order] * np.arange(len(order), 0, -1)).clip(max=1)
        found = self.p.copy()
        found[first[order], second[order]] = found[second[order], first[order]] = adjusted
        return found


def smallest_p(one: int, other: int) -> float:
    """The least that an exact two-sided test of so many runs each can give: that of samples which do not overlap."""
    return min(1.0, 2 / math.comb(one + other, one))


def ks_tests(samples: Mapping[str, Array]) -> PairwiseTests:
    """Exact two-sided tests; ``samples`` holds, say, the steps at which the runs of each method converged."""
    names = tuple(samples)
    p = np.eye(len(names))
    for i, one in enumerate(names):
        for j, other in enumerate(names[:i]):
            a, b = samples[one], samples[other]
            both = len(a) and len(b)
            p[i, j] = p[j, i] = exact_p(a, b) if both else float("nan")
    return PairwiseTests(names, p)


def exact_p(a: Array, b: Array) -> float:
    """Of the two-sided Kolmogorov-Smirnov test: the share of all orders of ``a`` and ``b`` that lie as far apart.

    An order is a path of n steps to the right and m up; those that keep nearer than the largest distance found are
    counted, in whole numbers. (scipy answers an approximation where rounding brings its exact p above 1.)
    """
    n, m = len(a), len(b)
    at = np.concatenate([a, b])
    ranks = [np.searchsorted(np.sort(one), at, side="right") for one in (a, b)]
    farthest = int(np.abs(ranks[0] * m - ranks[1] * n).max())
    paths = [0] * (m + 1)
    for i in range(n + 1):
        for j in range(m + 1):
            came = int(i == j == 0) + (paths[j] if i else 0) + (paths[j - 1] if j else 0)
            paths[j] = came if abs(i * m - j * n) < farthest else 0
    orders = math.comb(n + m, n)
    return (orders - paths[m]) / orders


# ---- the weights -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Weights:
    """What each loss was multiplied by during one run, step by step: 1 / W in the paper's words."""

    method: str
    seed: int
    steps: NDArray[np.int64]  # [n]
    multipliers: Mapping[str, Array]  # {"pickup.dist": [n], "pickup.iou": [n]}; NaN where a step lacked the loss


def weights_of(table: pa.Table, method: str, seed: int) -> Weights:
    """The weights of a run from its record: a row for each ``step`` and ``loss`` with ``weight``, its multiplier."""
    steps, multipliers = series_of(table, "loss", "weight")
    return Weights(method, seed, steps, multipliers)


def divisor_extremes(runs: Sequence[Weights]) -> dict[str, dict[str, tuple[float, float]]]:
    """Table I: ``{method: {loss: (smallest W, largest W)}}`` over all runs; a multiplier of 0 is an infinite W.

    A loss of which no weight is known is left out.
    """
    found: dict[str, dict[str, tuple[float, float]]] = {}
    for run in runs:
        mine = found.setdefault(run.method, {})
        for loss, values in run.multipliers.items():
            known = np.asarray(values, np.float64)[~np.isnan(values)]
            if not known.size:
                continue
            with np.errstate(divide="ignore"):
                divisors = 1 / known
            low, high = mine.get(loss, (np.inf, -np.inf))
            mine[loss] = min(low, float(divisors.min())), max(high, float(divisors.max()))
    return found


def weight_shares(runs: Sequence[Weights], units: Mapping[str, float] | None = None) -> tuple[NDArray[np.int64], Array]:
    """Fig. 9: ``steps [n]`` and each loss's share ``[T, n]`` of the multipliers, mean over the runs of one method.

    Steps at which a run knows no multiplier above 0 are left out.

    ``units`` multiplies those of a loss that was trained in another unit, so that methods can be compared: 100 for raw
    pixels beside the paper's distance / 100. ValueError where the runs have other steps or losses.
    """
    first = runs[0]
    names = tuple(first.multipliers)
    if any(tuple(run.multipliers) != names or not np.array_equal(run.steps, first.steps) for run in runs):
        raise ValueError(f"the runs of {first.method!r} have other steps or losses; expected the same ones")
    factors = np.array([(units or {}).get(name, 1.0) for name in names])[:, None]
    shares = []
    for run in runs:
        values = factors * np.nan_to_num(np.stack([run.multipliers[name] for name in names]))
        with np.errstate(invalid="ignore"):
            shares.append(values / values.sum(0))
    mean = np.mean(shares, axis=0)
    known = np.isfinite(mean).all(0)
    return first.steps[known], mean[:, known]


def thinned(run: Weights, points: int, last: int) -> Weights:
    """The same with at most so many points, evenly spread over the steps 0 to ``last``: means of those around each."""
    points = min(points, last + 1)
    which = run.steps * points // (last + 1)
    means = {}
    for loss, values in run.multipliers.items():
        known = ~np.isnan(values)
        counts = np.bincount(which[known], minlength=points)
        with np.errstate(invalid="ignore"):
            means[loss] = np.bincount(which[known], values[known], minlength=points) / counts
    return Weights(run.method, run.seed, np.arange(points) * (last + 1) // points, means)


# ---- boxes -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Box:
    """The five numbers of a box plot."""

    low: float  # the smallest value within 1.5 interquartile ranges of the box
    first: float
    median: float
    third: float
    high: float


def box(values: Array) -> Box:
    """Quartiles (linear interpolation) and whiskers; ValueError without values."""
    if not len(values):
        raise ValueError("box: no values; expected at least one")
    first, median, third = np.quantile(values, (0.25, 0.5, 0.75)).tolist()
    reach = 1.5 * (third - first)
    near = values[(values >= first - reach) & (values <= third + reach)]
    return Box(min(float(near.min()), first), first, median, third, max(float(near.max()), third))
