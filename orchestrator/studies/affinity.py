"""Which task helps which: relative gains of students over those who learned without, and what may be said of them.

The papers on imbalanced multi-task learning teach a network that sees the image alone with labels from a teacher that
is shown another task's labels, too. Pure functions of arrays; no torch.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from orchestrator.curves import Curve
from orchestrator.statistics import Paired, bootstrap, paired

Word = Literal["helps", "hurts", "not shown"]
Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Gain:
    """How much better an arm is than another one, seed by seed, as shares of the other one's figure."""

    pair: Paired  # one point: the last one of both
    resampled: tuple[float, float]  # 95 % interval of the mean by bootstrap over seeds

    @property
    def values(self) -> Array:
        """``[S]``."""
        return np.asarray(self.pair.difference[:, 0])

    @property
    def mean(self) -> float:
        return float(self.pair.mean[0])

    @property
    def sd(self) -> float:
        """With n - 1; NaN with one seed."""
        return float(self.values.std(ddof=1)) if self.values.size > 1 else float("nan")

    @property
    def interval(self) -> tuple[float, float]:
        """95 %, paired t; NaN with one seed."""
        return float(self.pair.low[0]), float(self.pair.high[0])

    @property
    def word(self) -> Word:
        """What may be said: an effect whose interval holds 0, or that has none, is not shown."""
        low, high = self.interval
        return "helps" if low > 0 else "hurts" if high < 0 else "not shown"


def gain_over(arm: Curve, other: Curve, rises: bool) -> Gain | None:
    """The gain of an arm at its last point over another one's: sign (m - m_other) / m_other for each seed of both.

    ``rises``: whether more is better. Seeds where a figure is not known, or the other one's is not above 0, do not
    count; None where none is left.
    """
    seeds = np.intersect1d(arm.seeds, other.seeds)
    own, base = (curve.y[np.searchsorted(curve.seeds, seeds), -1] for curve in (arm, other))
    known = np.isfinite(own) & np.isfinite(base) & (base > 0)
    if not known.any():
        return None
    shares = (own[known] / base[known] - 1) * (1 if rises else -1)
    at = np.zeros(1)
    pair = paired(
        Curve(arm.arm, seeds[known], at, shares[:, None]),
        Curve(other.arm, seeds[known], at, np.zeros((len(shares), 1))),  # over itself nobody gains
    )
    assert pair is not None, "both have the same seeds"
    return Gain(pair, bootstrap(shares, np.random.default_rng(0)))


def condition(one: str, other: str, there: Gain | None, back: Gain | None) -> str:
    """The verdict on two tasks; ``there``: what ``other`` gains by ``one``, ``back``: the reverse; None = not known."""
    gains = {(one, other): there, (other, one): back}
    words = {pair: None if gain is None else gain.word for pair, gain in gains.items()}
    helpful = [pair for pair, word in words.items() if word == "helps"]
    tried = [pair for pair, word in words.items() if word is not None]
    if not tried:
        return f"{one} and {other}: neither direction is known."
    if len(helpful) == 2:
        return f"{one} and {other} help each other (Condition 1)."
    number = "2" if helpful else "3"
    if len(tried) == 1:
        number = f"{int(number) - 1} or {number}"
    told = [_direction(a, b, word) for (a, b), word in sorted(words.items(), key=lambda one: one[1] != "helps")]
    return f"{'; '.join(told)} (Condition {number})."


def _direction(a: str, b: str, word: Word | None) -> str:
    if word is None:
        return f"whether {a} helps {b} is not known"
    return f"that {a} helps {b} is not shown" if word == "not shown" else f"{a} {word} {b}"
