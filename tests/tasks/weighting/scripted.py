"""Losses that follow a script, under any weighting, as a fit presents them."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from orchestrator.components import attribute
from tasks import WEIGHTINGS

NAMES = ("a.x", "b.y")
LEARN = sorted(set(WEIGHTINGS) - {"equal", "fixed"})


def begun(name: str, names: Sequence[str] = NAMES, **options: Any) -> Any:
    """A weighting of this name that knows its losses; what it draws is the same each time."""
    made = attribute(WEIGHTINGS[name])(**options)
    torch.manual_seed(0)
    made.begin(names)
    return made


def shared_losses(values: Mapping[str, float]) -> tuple[dict[str, Tensor], nn.Parameter]:
    """Losses of these values, with gradients of different sizes by one shared parameter ``[2]``."""
    shared = nn.Parameter(torch.tensor([1.0, -1.0]))
    away = shared - shared.detach()
    slopes = {name: torch.tensor([1.0 + i, 2.0]) * value for i, (name, value) in enumerate(values.items())}
    return {name: torch.tensor(value) + (slopes[name] * away).sum() for name, value in values.items()}, shared


def descend(
    weighting: Any,
    script: Sequence[Mapping[str, float]],
    rate: float = 1e-2,
    epoch_of: Callable[[int], int] = lambda step: step // 3,
) -> list[dict[str, float]]:
    """The multipliers of each step; one Adam learns what the weighting has to learn."""
    learned = list(weighting.parameters())
    optimizer = torch.optim.Adam(learned, lr=rate) if learned else None
    found = []
    for step, values in enumerate(script):
        weighting.zero_grad(set_to_none=True)
        losses, shared = shared_losses(values)
        weighting.total(losses, shared=[shared], step=step, epoch=epoch_of(step)).backward()
        if optimizer is not None:
            optimizer.step()
        weighting.step()
        found.append(weighting.weights())
    return found
