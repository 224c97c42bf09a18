"""Dynamic weight average: a loss that falls slowly counts more (Liu, Johns and Davison 2019, Eq. 7)."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from tasks.weighting.naming import spread


class Dwa(nn.Module):
    """``w_i = T softmax_i(r_i / temperature)``, ``r_i`` the mean loss of the last epoch over that of the one before.

    An epoch counts for a loss if one of its batches had a label; r is 1 until a loss has two of them.
    """

    sums: Tensor  # [T] of the epoch that runs
    counts: Tensor  # [T] batches of it
    last: Tensor  # [T] the mean of the last epoch; NaN = there was none
    before: Tensor  # [T] that of the one before
    epoch: Tensor  # [] the epoch that runs

    def __init__(self, temperature: float = 2.0) -> None:
        super().__init__()
        if not temperature > 0:
            raise ValueError(f"weighting.temperature: {temperature}; expected more than 0")
        self.temperature = temperature
        self._names: tuple[str, ...] = ()
        self._next: dict[str, Tensor] = {}
        self._last: dict[str, Tensor] = {}
        self.begin(())

    def begin(self, names: Sequence[str]) -> None:
        """No epoch is over."""
        self._names = tuple(names)
        for name in ("sums", "counts"):
            self.register_buffer(name, torch.zeros(len(names), dtype=torch.float64))
        for name in ("last", "before"):
            self.register_buffer(name, torch.full((len(names),), torch.nan, dtype=torch.float64))
        self.register_buffer("epoch", torch.zeros((), dtype=torch.int64))

    def total(
        self, losses: Mapping[str, Tensor], *, shared: Sequence[nn.Parameter] = (), step: int = 0, epoch: int = 0
    ) -> Tensor:
        """The weighted sum, a scalar."""
        values, present = spread(losses, self._names)
        state = self._at(epoch)
        ratios = (state["last"] / state["before"].clamp(min=1e-12)).nan_to_num(nan=1.0)
        weights = len(self._names) * torch.softmax(ratios / self.temperature, 0)
        self._next = {**state, "sums": state["sums"] + values, "counts": state["counts"] + present}
        self._last = {name: weights[i] for i, name in enumerate(self._names) if name in losses}
        found = torch.stack(list(losses.values()))
        return (found * torch.stack([self._last[name] for name in losses]).to(found.dtype)).sum()

    def _at(self, epoch: int) -> dict[str, Tensor]:
        """What is kept, in this epoch: where a new one begins, the old one becomes the last."""
        state = {name: getattr(self, name) for name in ("sums", "counts", "last", "before", "epoch")}
        if epoch == int(self.epoch):
            return state
        known = self.counts > 0
        return {
            "sums": torch.zeros_like(self.sums),
            "counts": torch.zeros_like(self.counts),
            "last": torch.where(known, self.sums / self.counts, self.last),
            "before": torch.where(known, self.last, self.before),
            "epoch": torch.full_like(self.epoch, epoch),
        }

    def step(self) -> None:
        """The losses of the last total() count from now on."""
        for name, value in self._next.items():
            setattr(self, name, value)

    def weights(self) -> dict[str, float]:
        """The factor of each loss in the last total()."""
        return {name: float(weight) for name, weight in self._last.items()}
