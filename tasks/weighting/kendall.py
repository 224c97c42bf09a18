"""Homoscedastic uncertainty: a learned variance for each loss (Kendall, Gal and Cipolla 2018)."""

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from tasks.weighting.naming import key_of

FLOOR = 1e-6  # of a squared deviation: one that crosses 0 stays finite


class Kendall(nn.Module):
    """``variance``: ``L e^-s / 2 + s / 2`` with s = ln sigma^2 from 0; ``deviation``: ``L / (2 sigma^2) + ln sigma``.

    The second is what Salscheider 2020 trained with, sigma itself learned, from 1 (the formula that its paper prints
    has a misprint; the authors' code says so). Both have their minimum at sigma^2 = L. The optimiser of the network
    learns them, without weight decay; a loss that a batch has no label for leaves its own as it is.
    """

    def __init__(self, form: Literal["variance", "deviation"] = "variance", start: float | None = None) -> None:
        super().__init__()
        self.form = form
        self.start = (0.0 if form == "variance" else 1.0) if start is None else start
        if form == "deviation" and not self.start > 0:
            raise ValueError(f"weighting.start: {self.start}; expected a deviation of more than 0")
        self.learned = nn.ParameterDict()
        self._last: dict[str, Tensor] = {}

    def begin(self, names: Sequence[str]) -> None:
        """A number to learn for each loss."""
        self.learned = nn.ParameterDict({key_of(name): nn.Parameter(torch.tensor(self.start)) for name in names})

    def total(
        self, losses: Mapping[str, Tensor], *, shared: Sequence[nn.Parameter] = (), step: int = 0, epoch: int = 0
    ) -> Tensor:
        """The weighted sum with its regularisers, a scalar; the gradient reaches what is learned, too."""
        variances = {name: self._log_variance(self.learned[key_of(name)]) for name in losses}
        factors = {name: (-s).exp() / 2 for name, s in variances.items()}
        self._last = {name: factor.detach() for name, factor in factors.items()}
        return torch.stack([factors[name] * loss + variances[name] / 2 for name, loss in losses.items()]).sum()

    def _log_variance(self, learned: Tensor) -> Tensor:
        return learned if self.form == "variance" else (learned.square() + FLOOR).log()

    def step(self) -> None:
        """Nothing: the optimiser of the network takes it."""

    def weights(self) -> dict[str, float]:
        """``1 / (2 sigma^2)`` of each loss in the last total()."""
        return {name: float(factor) for name, factor in self._last.items()}
