"""Divisors from a small network that learns along: Converge-Fast-AuxNet (IROS 2018, Eq. 2 and 3)."""

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from tasks.weighting.naming import spread
from tasks.weighting.running_statistics import Moments, RunningStatistics

WIDEST = 15.0  # of ln W
GUARD = 0.1  # added to |reference|
NEVER_ZERO = 1e-12

Reference = Literal["ema_const", "literal", "current_weights"]


class AuxNet(nn.Module):
    """``A = sum_i(L_i / W_i + ln W_i)`` (Eq. 2), W = exp of a net of ``[L, mean, deviation]`` of all losses.

    The network descends A with W constant; the net descends ``(A - reference) / denominator`` (Eq. 3) with L constant.
    The paper does not say how the mean of A in Eq. 3 is differentiated, so that its reading is an option:

    ``ema_const``: the moving average of A, a constant; the denominator is its size plus 0.1. The default.
    ``literal``: the same with the average itself as denominator. The best A is ``sum(1 + ln L)``, below 0 once the
    losses are below 1/e: the sign of the gradient then turns, A is held near 0, and W leaves L.
    ``current_weights``: the mean losses under the current W, differentiated as well.

    The minimum of A over W is W = L: it learns to be ``log``. Adam works on each number by itself, so the optimiser of
    the network, without weight decay for this, is the paper's second Adam with the same settings. Statistics: averages
    with ``beta``, corrected for their start. Of a loss that is not there the last value is read, and W is not learned.
    """

    last: Tensor  # [T] the last value of each loss

    def __init__(self, reference: Reference = "ema_const", hidden: int = 24, beta: float = 0.99) -> None:
        super().__init__()
        if hidden < 1:
            raise ValueError(f"weighting.hidden: {hidden}; expected at least 1")
        self.reference, self.hidden = reference, hidden
        self.statistics, self.totals = RunningStatistics(0, beta), RunningStatistics(1, beta)
        self.net: nn.Module = nn.Identity()
        self._names: tuple[str, ...] = ()
        self._next: tuple[Tensor, Moments, Moments] | None = None
        self._last: dict[str, Tensor] = {}
        self.register_buffer("last", torch.zeros(0, dtype=torch.float64))

    def begin(self, names: Sequence[str]) -> None:
        """A fresh net from the global generator; W starts near 1."""
        self._names = tuple(names)
        out = nn.Linear(self.hidden, len(names))
        nn.init.zeros_(out.bias)
        with torch.no_grad():
            out.weight.mul_(0.1)
        self.net = nn.Sequential(nn.Linear(3 * len(names), self.hidden), nn.ReLU(), out)
        self.statistics = RunningStatistics(len(names), self.statistics.beta)
        self.last = torch.zeros(len(names), dtype=torch.float64)

    def total(
        self, losses: Mapping[str, Tensor], *, shared: Sequence[nn.Parameter] = (), step: int = 0, epoch: int = 0
    ) -> Tensor:
        """A as the network sees it plus Eq. 3 as the net sees it, a scalar: each gets its own gradient only."""
        values, present = spread(losses, self._names)
        moments = self.statistics.after(values, present)
        last = torch.where(present, values, self.last)
        mean, deviation = moments.mean(corrected=True), moments.variance(corrected=True).sqrt()
        features = torch.cat([last, mean, deviation]).float()
        index = [self._names.index(name) for name in losses]
        rows: slice | list[int] = slice(None) if index == list(range(len(self._names))) else index
        logs: Tensor = self.net(features).clamp(-WIDEST, WIDEST)[rows]
        factors = (-logs).exp()
        error = (values[rows].float() * factors + logs).sum()
        totals = self.totals.after(
            error.detach().double().view(1), torch.ones_like(self.totals.count, dtype=torch.bool)
        )
        self._next = (last, moments, totals)
        self._last = dict(zip(losses, factors.detach(), strict=True))
        seen = (torch.stack(list(losses.values())) * factors.detach() + logs.detach()).sum()
        now = self.reference == "current_weights"
        return seen + self.eq3(error, (mean[rows].float() * factors + logs).sum() if now else None)

    def eq3(self, error: Tensor, average: Tensor | None) -> Tensor:
        """Eq. 3: ``error`` is A now, ``average`` the sum of the mean losses under the W of now, where that is read."""
        if average is not None:
            return (error - average) / _not_zero(average)
        past = self.totals.now.mean(corrected=True)[0].to(error.dtype) if self.totals.count else error.detach()
        return (error - past) / (past.abs() + GUARD if self.reference == "ema_const" else _not_zero(past))

    def step(self) -> None:
        """The losses of the last total() count from now on."""
        assert self._next is not None
        self.last, moments, totals = self._next
        self.statistics.keep(moments)
        self.totals.keep(totals)

    def weights(self) -> dict[str, float]:
        """``1 / W`` of each loss in the last total()."""
        return {name: float(factor) for name, factor in self._last.items()}


def _not_zero(value: Tensor) -> Tensor:
    """The value, kept off 0 on its own side."""
    return torch.where(value < 0, value.clamp(max=-NEVER_ZERO), value.clamp(min=NEVER_ZERO))
