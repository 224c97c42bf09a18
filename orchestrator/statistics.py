"""What can be said of the differences between arms. Read by the report; nothing that runs a trial needs it."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from orchestrator.curves import Curve

DRAWS = 10_000  # of seeds, for a bootstrap interval


@dataclass(frozen=True, eq=False)
class Paired:
    """Differences of an arm to a baseline, seed by seed (shared initial pools and cycle 0), at each cycle."""

    arm: str
    baseline: str
    seeds: NDArray[np.int64]  # [S] the seeds that both have
    difference: NDArray[np.float64]  # [S, P]
    mean: NDArray[np.float64]  # [P]
    low: NDArray[np.float64]  # [P] paired t interval of the mean; NaN with one seed
    high: NDArray[np.float64]  # [P]


def paired(curve: Curve, baseline: Curve, level: float = 0.95) -> Paired | None:
    """The paired differences with a t interval of the mean; None where the two share no seed."""
    seeds = np.intersect1d(curve.seeds, baseline.seeds)
    if seeds.size == 0:
        return None
    points = min(curve.x.size, baseline.x.size)
    rows = [np.searchsorted(c.seeds, seeds) for c in (curve, baseline)]
    difference = curve.y[rows[0], :points] - baseline.y[rows[1], :points]
    mean = difference.mean(axis=0)
    half = np.full(points, np.nan)
    if seeds.size > 1:
        half = stdtrit(seeds.size - 1, 0.5 + level / 2) * difference.std(axis=0, ddof=1) / math.sqrt(seeds.size)
    return Paired(curve.arm, baseline.arm, seeds, difference, mean, mean - half, mean + half)


def bootstrap(values: NDArray[np.float64], rng: np.random.Generator, level: float = 0.95) -> tuple[float, float]:
    """The interval of the mean of ``values [S]`` when seeds are drawn anew with replacement; NaN for fewer than two."""
    if values.size < 2:
        return math.nan, math.nan
    means = values[rng.integers(values.size, size=(DRAWS, values.size))].mean(axis=1)
    low, high = np.quantile(means, (0.5 - level / 2, 0.5 + level / 2))
    return float(low), float(high)
