"""How several losses become one."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn


class Fixed(nn.Module):
    """The sum of the losses, each times its factor; a factor names a loss ("detection.box") or a task ("detection").

    A loss that is named twice takes the factor of its own name; one that is not named counts once.
    """

    def __init__(self, factors: dict[str, float]) -> None:
        super().__init__()
        if wrong := {name: f for name, f in factors.items() if not 0.0 <= f < float("inf")}:
            raise ValueError(f"weighting.factors: {wrong}; expected finite factors of at least 0")
        self.factors = dict(factors)
        self._last: dict[str, float] = {}

    def total(
        self, losses: Mapping[str, Tensor], *, shared: Sequence[nn.Parameter] = (), step: int = 0, epoch: int = 0
    ) -> Tensor:
        """The weighted sum, a scalar. ValueError where a factor names no loss."""
        named = {part: _names(part) for part in losses}
        if unknown := set(self.factors) - {name for names in named.values() for name in names}:
            raise ValueError(f"weighting.factors: {sorted(unknown)} name no loss; the losses are {sorted(losses)}")
        self._last = {
            part: next((self.factors[name] for name in names if name in self.factors), 1.0)
            for part, names in named.items()
        }
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


def _names(part: str) -> tuple[str, str]:
    """The names by which a factor may call a loss, the more exact one first."""
    return part, part.split(".", 1)[0]
