"""A weighting in a fit: it is told the losses of each step, and what became of them is recorded."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from orchestrator.errors import RunError
from orchestrator.step_record import StepRecord
from tasks.base import NamedWeighting

# (means of all losses, counts of the images that have a label, the sum of what is not weighted) -> the total, or None
Weigh = Callable[[Mapping[str, Tensor], Mapping[str, Tensor], Tensor], Tensor | None]


class Weighing:
    """The weighting of one fit. ``seed`` is what it may draw from when it begins: the same on every process."""

    def __init__(
        self, weighting: nn.Module, optimizer: torch.optim.Optimizer, device: torch.device, steps: int, seed: int
    ) -> None:
        self.weighting: Any = weighting
        self.record = StepRecord(steps)
        self._optimizer, self._device, self._seed = optimizer, device, seed
        self._weighed = False

    def total(
        self,
        means: Mapping[str, Tensor],
        counts: Mapping[str, Tensor],
        extra: Tensor,
        *,
        step: int,
        epoch: int,
        shared: Sequence[nn.Parameter] = (),
    ) -> Tensor | None:
        """One scalar of the losses ``means``; None where one of them, ``extra`` or the total itself is not finite.

        ``counts``: of how many labeled images each is the mean. The total is connected to every loss, labeled or not,
        and leaves ``extra`` to the caller.
        """
        if not self.record.names:
            self.begin(tuple(means))
        self._weighed = False
        numbers = torch.stack([*(x.detach().double() for x in (*means.values(), *counts.values(), extra))]).tolist()
        values = {name: numbers[i] for i, name in enumerate(means) if numbers[len(means) + i] > 0}
        if not all(map(math.isfinite, numbers)):
            self.record.add(step, values, {})
            return None
        total = self._total({n: x for n, x in means.items() if n in values or not self._named}, step, epoch, shared)
        if self._named:
            total = torch.stack([total, *(x * 0 for n, x in means.items() if n not in values)]).sum()
        done = bool(torch.isfinite(total))
        self.record.add(step, values, self.weighting.weights() if done and self._weighed else {})
        return total if done else None

    def _total(self, losses: Mapping[str, Tensor], step: int, epoch: int, shared: Sequence[nn.Parameter]) -> Tensor:
        if not losses:
            return torch.zeros((), device=self._device)
        self._weighed = True
        try:
            total: Tensor = self.weighting.total(losses, shared=shared, step=step, epoch=epoch)
        except ValueError as error:  # an option that does not suit the losses of this model
            raise RunError(str(error)) from error
        return total

    @property
    def _named(self) -> bool:
        return isinstance(self.weighting, NamedWeighting)

    def begin(self, names: Sequence[str]) -> None:
        """The names of all losses are known: what the weighting makes of them to be learned joins the optimiser."""
        self.record.begin(names)
        if not self._named:
            return
        known = {id(p) for group in self._optimizer.param_groups for p in group["params"]}
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(self._seed)
            try:
                self.weighting.begin(names)
            except ValueError as error:
                raise RunError(str(error)) from error
        self.weighting.to(self._device)
        if new := [p for p in self.weighting.parameters() if id(p) not in known]:
            rate = self._optimizer.param_groups[0]["lr"]
            self._optimizer.add_param_group({"params": new, "lr": rate, "weight_decay": 0.0})

    def step(self) -> None:
        """The step of the last total has been taken."""
        if self._weighed:
            self.weighting.step()

    def state(self, step: int) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {"weighting": self.weighting.state_dict(), "losses": self.record.state(step)}

    def load(self, state: Mapping[str, Any]) -> None:
        """Go on from a checkpoint; before the state of the optimiser is loaded, for this makes its groups."""
        if state["losses"]["names"]:
            self.begin(state["losses"]["names"])
            self.record.load(state["losses"])
        self.weighting.load_state_dict(state["weighting"])
