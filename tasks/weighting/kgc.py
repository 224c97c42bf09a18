"""Division by the running variance of a loss: "KGC" and its two repairs (AuxNet paper, IROS 2018, Eq. 1, section V-A).

This is not the method of Kendall, Gal and Cipolla after whom that paper names it: nothing is learned by gradient here.
Their method is ``kendall``.
"""

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from tasks.weighting.naming import check_factors, factors_of, spread
from tasks.weighting.running_statistics import Moments, RunningStatistics, divided

Form = Literal["zero_init", "corrected"]
PAPER = 1e-12  # as good as no epsilon: what the paper's runs died of must be repeatable
WARM = 20  # plain steps of the corrected form


class Kgc(nn.Module):
    """``L / W + ln W`` with W the running variance of L plus ``epsilon``; ``by_mean``: the variance over the mean.

    ``zero_init``: moving averages that start at zero and are not corrected for it. It is the form of the paper, for
    only it has the largest W of its Table I (.22; the bound is .25), and its slow start warms up. ``corrected``: true
    means and variances from the first step on. The first variance is then 0, the first factor 1 / epsilon, and Adam's
    memory of that gradient stops the network for good; so its first ``warm_up`` steps divide by 1. ``scale`` says by
    which factor a loss, or a task, is brought to 0..1 first: 0.01 for pixels in the paper.
    """

    def __init__(
        self,
        *,
        form: Form = "zero_init",
        epsilon: float = PAPER,
        by_mean: bool = False,
        warm_up: int | None = None,
        beta: float = 0.99,
        scale: dict[str, float] | None = None,
    ) -> None:
        super().__init__()
        if not 0.0 < epsilon < float("inf"):
            raise ValueError(f"weighting.epsilon: {epsilon}; expected more than 0")
        self.form, self.epsilon, self.by_mean, self.scale = form, epsilon, by_mean, dict(scale or {})
        self.warm_up = (WARM if form == "corrected" else 0) if warm_up is None else warm_up
        if self.warm_up < 0:
            raise ValueError(f"weighting.warm_up: {self.warm_up}; expected 0 or more steps")
        check_factors(self.scale, "scale")
        self.statistics = RunningStatistics(0, beta)
        self._names: tuple[str, ...] = ()
        self._scales: dict[str, float] = {}
        self._next: Moments | None = None
        self._last: dict[str, Tensor] = {}

    def begin(self, names: Sequence[str]) -> None:
        """Nothing is known of any loss. ValueError where a scale names none."""
        self._names = tuple(names)
        self._scales = factors_of(self.scale, names, "scale")
        self.statistics = RunningStatistics(len(names), self.statistics.beta)

    def total(
        self, losses: Mapping[str, Tensor], *, shared: Sequence[nn.Parameter] = (), step: int = 0, epoch: int = 0
    ) -> Tensor:
        """The divided sum, a scalar; the variances have no gradient, and count these losses already."""
        scaled = {name: self._scales[name] * loss for name, loss in losses.items()}
        self._next = self.statistics.after(*spread(scaled, self._names))
        divisors = dict(zip(self._names, self._divisors(self._next), strict=True))
        self._last = {name: self._scales[name] / divisors[name] for name in losses}
        values = torch.stack(list(scaled.values()))
        return divided(values, torch.stack([divisors[name] for name in losses]).to(values.dtype))

    def _divisors(self, moments: Moments) -> Tensor:
        corrected = self.form == "corrected"
        found = moments.variance(corrected)
        if self.by_mean:
            found = found / moments.mean(corrected).abs().clamp(min=PAPER)
        return torch.where(moments.count <= self.warm_up, 1.0, found + self.epsilon)

    def step(self) -> None:
        """The losses of the last total() count from now on."""
        assert self._next is not None
        self.statistics.keep(self._next)

    def weights(self) -> dict[str, float]:
        """``scale / W`` of each loss in the last total()."""
        return {name: float(factor) for name, factor in self._last.items()}


def kgc_plus(
    form: Form = "zero_init",
    epsilon: float = 1e-3,
    warm_up: int | None = None,
    beta: float = 0.99,
    scale: dict[str, float] | None = None,
) -> Kgc:
    """KGC+: the variance plus 1e-3, so that a loss that stands still does not count without bound."""
    return Kgc(form=form, epsilon=epsilon, warm_up=warm_up, beta=beta, scale=scale)


def kgc_mean(form: Form = "zero_init", warm_up: int | None = None, beta: float = 0.99) -> Kgc:
    """KGC/Mean: the variance over the mean. The units of a loss do not matter, so that nothing need be scaled."""
    return Kgc(form=form, by_mean=True, warm_up=warm_up, beta=beta)
