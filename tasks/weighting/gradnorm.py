"""GradNorm: factors under which the gradients of all losses have norms that fit their pace (Chen et al. 2018)."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from tasks.weighting.naming import key_of, spread


class GradNorm(nn.Module):
    """``w = T softmax(v)``; v minimises ``sum_i |G_i - mean(G) r_i^alpha|`` (Eq. 2), the targets held constant.

    ``G_i = ||gradient of w_i L_i by the last shared layers||``, ``r_i = (L_i / L_i(0)) / mean``, and means are over the
    losses that are there. The softmax takes the place of the paper's scaling to a sum of T after each step. The
    optimiser of the network learns v. A loss that is not there has a share of the softmax, and is not changed.
    """

    reads_shared = True
    start: Tensor  # [T] the first value of each loss; NaN = not seen yet

    def __init__(self, alpha: float = 1.5) -> None:
        super().__init__()
        if not alpha >= 0:
            raise ValueError(f"weighting.alpha: {alpha}; expected 0 or more")
        self.alpha = alpha
        self.learned = nn.ParameterDict()
        self._names: tuple[str, ...] = ()
        self._next: Tensor | None = None
        self._last: dict[str, Tensor] = {}
        self.begin(())

    def begin(self, names: Sequence[str]) -> None:
        """Equal factors."""
        self._names = tuple(names)
        self.learned = nn.ParameterDict({key_of(name): nn.Parameter(torch.zeros(())) for name in names})
        self.register_buffer("start", torch.full((len(names),), torch.nan, dtype=torch.float64))

    def total(
        self, losses: Mapping[str, Tensor], *, shared: Sequence[nn.Parameter] = (), step: int = 0, epoch: int = 0
    ) -> Tensor:
        """The weighted sum and the error of the norms, a scalar; ValueError without shared parameters."""
        if not shared:
            raise ValueError("weighting: gradnorm compares gradients of shared parameters; expected some, found none")
        values, present = spread(losses, self._names)
        self._next = torch.where(present & self.start.isnan(), values, self.start)
        pace = (values / self._next.clamp(min=1e-12))[present]
        weights = self._weights(losses)
        order = [name for name in self._names if name in losses]
        norms = torch.stack([_norm(losses[name], shared) for name in order])
        scaled = torch.stack([weights[name] for name in order]) * norms
        targets = scaled.detach().mean() * (pace / pace.mean().clamp(min=1e-12)).to(scaled.dtype) ** self.alpha
        self._last = {name: weights[name].detach() for name in losses}
        weighted = torch.stack([self._last[name] * loss for name, loss in losses.items()]).sum()
        return weighted + (scaled - targets).abs().sum()

    def _weights(self, losses: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The factor of every loss; only those of losses that are there have a gradient."""
        learned = [self.learned[key_of(n)] if n in losses else self.learned[key_of(n)].detach() for n in self._names]
        return dict(zip(self._names, len(learned) * torch.softmax(torch.stack(learned), 0), strict=True))

    def step(self) -> None:
        """The first value of a loss is known from now on."""
        assert self._next is not None
        self.start = self._next

    def weights(self) -> dict[str, float]:
        """The factor of each loss in the last total()."""
        return {name: float(weight) for name, weight in self._last.items()}


def _norm(loss: Tensor, shared: Sequence[nn.Parameter]) -> Tensor:
    """The norm of a loss's gradient by the shared parameters, without a graph of its own; 0 where there is none."""
    if not loss.requires_grad:
        return torch.zeros((), device=loss.device)
    found = torch.autograd.grad(loss, list(shared), retain_graph=True, allow_unused=True)
    squares = [grad.detach().float().square().sum() for grad in found if grad is not None]
    return torch.stack(squares).sum().sqrt() if squares else torch.zeros((), device=loss.device)
