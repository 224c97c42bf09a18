"""Running mean and variance of losses over the steps in which they were there, and the sum that divides by them."""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Moments:
    """Exponential moving averages, from zero, of values ``[T]`` and of their squares, and how many were averaged."""

    first: Tensor  # [T] float64
    second: Tensor  # [T] float64
    count: Tensor  # [T] int64
    beta: float

    def mean(self, corrected: bool) -> Tensor:
        """``[T]``; ``corrected`` divides by 1 - beta^n, so that the start from zero does not show."""
        return self._corrected[0] if corrected else self.first

    def variance(self, corrected: bool) -> Tensor:
        """``[T]``, at least 0: the mean of the squares less the square of the mean."""
        first, second = self._corrected if corrected else (self.first, self.second)
        return (second - first.square()).clamp(min=0)

    @cached_property
    def _corrected(self) -> tuple[Tensor, Tensor]:
        share = (1 - self.beta ** self.count.double()).clamp(min=1 - self.beta)
        return self.first / share, self.second / share


class RunningStatistics(nn.Module):
    """Keeps ``Moments`` of ``count`` values. float64: pixels squared less pixels squared lose too much in float32."""

    first: Tensor
    second: Tensor
    count: Tensor

    def __init__(self, count: int, beta: float) -> None:
        super().__init__()
        if not 0.0 < beta < 1.0:
            raise ValueError(f"weighting.beta: {beta}; expected more than 0 and less than 1")
        self.beta = beta
        self.register_buffer("first", torch.zeros(count, dtype=torch.float64))
        self.register_buffer("second", torch.zeros(count, dtype=torch.float64))
        self.register_buffer("count", torch.zeros(count, dtype=torch.int64))

    @property
    def now(self) -> Moments:
        return Moments(self.first, self.second, self.count, self.beta)

    def after(self, values: Tensor, present: Tensor) -> Moments:
        """What the moments become with these values ``[T]``; those that are not ``present`` stay as they are."""
        return Moments(
            torch.where(present, self.first.lerp(values, 1 - self.beta), self.first),
            torch.where(present, self.second.lerp(values.square(), 1 - self.beta), self.second),
            self.count + present,
            self.beta,
        )

    def keep(self, moments: Moments) -> None:
        """Go on from these."""
        self.first, self.second, self.count = moments.first, moments.second, moments.count


def divided(losses: Tensor, divisors: Tensor) -> Tensor:
    """``sum_i(L_i / W_i + ln W_i)`` of losses and divisors ``[T]``: AuxNet paper, Eq. 1 and 2. Minimum: W = L."""
    return (losses / divisors + divisors.log()).sum()
