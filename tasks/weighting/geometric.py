"""The product of the losses in place of their sum: no loss matters for its units."""

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

LEAST = 1e-12  # a loss below it counts as this one, and has no gradient


class Geometric(nn.Module):
    """``log``: ``sum ln L``. ``gls``: ``(prod L)^(1/T)``, over the losses that are there (MultiNet++, Chennupati 2019).

    What AuxNet is after when its W have come to L: ``sum(L / W)`` has the gradient of ``sum ln L`` there.
    """

    def __init__(self, form: Literal["log", "gls"] = "log") -> None:
        super().__init__()
        self.form = form
        self._last: dict[str, Tensor] = {}

    def begin(self, names: Sequence[str]) -> None:
        """Nothing to prepare; it asks for the losses that are there, because one that is not would be 0."""

    def total(
        self, losses: Mapping[str, Tensor], *, shared: Sequence[nn.Parameter] = (), step: int = 0, epoch: int = 0
    ) -> Tensor:
        """A scalar."""
        values = torch.stack(list(losses.values()))
        logs = values.clamp(min=LEAST).log()
        total = logs.sum() if self.form == "log" else logs.mean().exp()
        share = 1.0 if self.form == "log" else total.detach() / len(losses)
        factors = torch.where(values.detach() >= LEAST, share / values.detach(), 0.0)
        self._last = dict(zip(losses, factors, strict=True))
        return total

    def step(self) -> None:
        """Nothing: there is nothing to learn."""

    def weights(self) -> dict[str, float]:
        """The derivative of the last total() by each of its losses."""
        return {name: float(factor) for name, factor in self._last.items()}


def log() -> Geometric:
    """The sum of the logarithms."""
    return Geometric("log")


def gls() -> Geometric:
    """The geometric mean."""
    return Geometric("gls")
