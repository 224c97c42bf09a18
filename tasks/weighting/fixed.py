"""Sums of losses whose factors are given."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from tasks.weighting.naming import check_factors, factors_of


class Fixed(nn.Module):
    """The sum of the losses, each times its factor; a factor names a loss ("detection.box") or a task ("detection").

    A loss that is named twice takes the factor of its own name; one that is not named counts once.
    """

    def __init__(self, factors: dict[str, float]) -> None:
        super().__init__()
        check_factors(factors, "factors")
        self.factors = dict(factors)
        self._last: dict[str, float] = {}

    def total(
        self, losses: Mapping[str, Tensor], *, shared: Sequence[nn.Parameter] = (), step: int = 0, epoch: int = 0
    ) -> Tensor:
        """The weighted sum, a scalar. ValueError where a factor names no loss."""
        self._last = factors_of(self.factors, tuple(losses), "factors")
        return torch.stack([self._last[part] * loss for part, loss in losses.items()]).sum()

    def step(self) -> None:
        """Nothing: the factors do not change."""

    def weights(self) -> dict[str, float]:
        """The factor of each loss in the last total()."""
        return dict(self._last)


class Equal(nn.Module):
    """The plain sum of the losses."""

    def __init__(self) -> None:
        super().__init__()
        self._parts: tuple[str, ...] = ()

    def total(
        self, losses: Mapping[str, Tensor], *, shared: Sequence[nn.Parameter] = (), step: int = 0, epoch: int = 0
    ) -> Tensor:
        """The sum, a scalar."""
        self._parts = tuple(losses)
        return torch.stack(list(losses.values())).sum()

    def step(self) -> None:
        """Nothing: there is nothing to learn."""

    def weights(self) -> dict[str, float]:
        """1 for each loss of the last total()."""
        return dict.fromkeys(self._parts, 1.0)
