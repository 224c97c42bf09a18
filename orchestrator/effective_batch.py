"""One optimiser step on a batch that is cut into equal parts: micro-batches, processes, or both.

A task's loss is the mean over the labeled images of the whole batch, and a weighting sees these means, once a step, so
the result does not depend on which process had which part:

1. sums and counts of every loss are added up over all parts, and divided: the means L;
2. the weighting makes a total T of L; dT/dL are the factors of this step, and what it learns gets its own gradient;
3. each part's backward pass starts from its sum times dT/dL over the count, and the gradients are added up.

A process with one part keeps that part's graph from 1 to 3. With several, memory would not shrink if all graphs were
kept: 1 runs without gradients, and 3 makes each part again (same layers' draws, same buffers), for one forward pass
more. Buffers (running statistics of batch norm) change by the mean of what the parts change them by. The batch norm
itself normalises within a part: only networks without it are those of the uncut batch. ``Losses.extra`` (ranking pairs
of loss prediction) is the mean over the parts, so pairs stay within a part.

A weighting that reads ``shared`` parameters needs the gradient of each mean by them before 2. It is added up over the
parts like the sums, and each mean leads to the shared parameters by a plane of this slope: whoever differentiates the
mean finds the gradient of the whole batch.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from orchestrator.errors import RunError
from orchestrator.training_group import Group
from orchestrator.weighing import Weigh
from tasks.types import Batch, Losses


@dataclass(frozen=True)
class Part:
    """A part of the batch of one step."""

    seed: int  # of what layers draw (dropout): the part's own, whichever process has it
    batch: Batch


def accumulate(
    model: nn.Module,
    weigh: Weigh,
    parts: Sequence[Part],
    group: Group,
    *,
    forward: Callable[[Batch], Losses],
    shared: Sequence[nn.Parameter] = (),
) -> bool:
    """Gradients of the whole batch in ``model`` and in what ``weigh`` learns, the same on every process of ``group``.

    ``parts`` are this process's, as many as any other's. False, without gradients, where the total is not finite.
    """
    count = len(parts) * group.world
    buffers = _Buffers(model)
    keep = len(parts) == 1
    first, slopes = [], []
    for part in parts:
        with torch.set_grad_enabled(keep or bool(shared)):
            losses = _run(part, forward, buffers)
        if shared:
            slopes.append(_slopes(losses, shared))
        first.append(losses if keep else _values(losses))
    means, counts, extra = _means(first, group, count)
    leading = _leading(means, counts, group.add(torch.stack(slopes).sum(0)), shared) if shared else means
    total = weigh(leading, counts, extra)
    if total is None:
        buffers.restore()
        return False
    if total.requires_grad:
        total.backward()  # type: ignore[no-untyped-call]
        for parameter in shared:  # the planes are for the weighting alone
            parameter.grad = None
    for part, losses in zip(parts, first, strict=True):
        again = losses if keep else _run(part, forward, buffers)
        _backward(again, means, counts, count)
        buffers.add()
    _add_gradients([p for p in model.parameters() if p.requires_grad], group)
    buffers.settle(group, count)
    return True


def _run(part: Part, forward: Callable[[Batch], Losses], buffers: "_Buffers") -> Losses:
    """The losses of a part, from the buffers that the step began with."""
    buffers.restore()
    torch.manual_seed(part.seed)
    return forward(part.batch)


def _values(losses: Losses) -> Losses:
    """The same without graphs, so that their memory is free."""
    values, extra = ({name: x.detach() for name, x in some.items()} for some in (losses.values, losses.extra))
    return Losses(values, losses.labeled, extra)


def _slopes(losses: Losses, shared: Sequence[nn.Parameter]) -> Tensor:
    """Gradients of the sum of each loss by the shared parameters, ``[T, P]`` float32; 0 where there is none."""
    rows = []
    for value in losses.values.values():
        total = value.sum()
        found: Sequence[Tensor | None] = [None] * len(shared)
        if total.requires_grad:
            found = torch.autograd.grad(total, list(shared), retain_graph=True, allow_unused=True)
        pairs = zip(shared, found, strict=True)
        rows.append(
            torch.cat([(torch.zeros_like(p) if g is None else g).detach().reshape(-1).float() for p, g in pairs])
        )
    return torch.stack(rows)


def _leading(
    means: Mapping[str, Tensor], counts: Mapping[str, Tensor], slopes: Tensor, shared: Sequence[nn.Parameter]
) -> dict[str, Tensor]:
    """The means, of the same values, each connected to the shared parameters by its slope ``[T, P]``."""
    at = torch.cat([p.reshape(-1).float() for p in shared])
    away = at - at.detach()  # 0, and leads to the parameters
    return {
        name: mean + (slopes[i] / counts[name].clamp(min=1) * away).sum()
        for i, (name, mean) in enumerate(means.items())
    }


def _means(found: Sequence[Losses], group: Group, count: int) -> tuple[dict[str, Tensor], dict[str, Tensor], Tensor]:
    """Means {"task.part": scalar, a leaf}, counts {"task.part": scalar} and the mean of the extras, over all parts."""
    names = tuple(found[0].values)
    if any(tuple(losses.values) != names for losses in found):
        raise RunError("model: the names of its losses change from batch to batch; expected the same: mend its forward")
    device = next(iter(found[0].values.values())).device
    rows = [
        [
            *(losses.values[name].detach().double().sum() for name in names),
            *(losses.labeled[_task(name)].double().sum().to(device) for name in names),
            sum((x.detach().double() for x in losses.extra.values()), torch.zeros((), device=device).double()),
        ]
        for losses in found
    ]
    sums = group.add(torch.stack([torch.stack(row) for row in rows]).sum(0)).float()
    size = len(names)
    counts = {name: sums[size + i] for i, name in enumerate(names)}
    means = {name: (sums[i] / counts[name].clamp(min=1)).requires_grad_() for i, name in enumerate(names)}
    return means, counts, sums[-1] / count


def _backward(losses: Losses, means: dict[str, Tensor], counts: dict[str, Tensor], count: int) -> None:
    """Add this part's share of the gradients."""
    terms = [x / count for x in losses.extra.values()]
    for name, mean in means.items():
        if mean.grad is not None:
            terms.append(losses.values[name].sum() * (mean.grad / counts[name].clamp(min=1)))
    share = torch.stack([term.float() for term in terms]).sum()
    if share.requires_grad:
        share.backward()  # type: ignore[no-untyped-call]


def _add_gradients(parameters: list[nn.Parameter], group: Group) -> None:
    """Gradients summed over the processes; None stays only where no process has one."""
    if group.world == 1:
        return
    has = torch.tensor([p.grad is not None for p in parameters], dtype=torch.float32, device=group.device)
    grads = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
    flat = group.add(torch.cat([has, *(g.reshape(-1).float() for g in grads)]))
    anywhere, start = flat[: len(parameters)].tolist(), len(parameters)
    for parameter, grad, known in zip(parameters, grads, anywhere, strict=True):
        grad.copy_(flat[start : start + grad.numel()].view(grad.shape))
        parameter.grad = grad if known else None
        start += grad.numel()


@dataclass
class _Buffers:
    """The float buffers of a model as a step began with them, and what its parts have changed."""

    model: nn.Module
    _start: list[tuple[Tensor, Tensor]] = field(init=False)  # (buffer, its copy)
    _changes: list[Tensor] = field(init=False)

    def __post_init__(self) -> None:
        self._start = [(b, b.clone()) for b in self.model.buffers()]
        self._changes = [torch.zeros_like(b) for b, _ in self._floats()]

    def _floats(self) -> list[tuple[Tensor, Tensor]]:
        return [(b, old) for b, old in self._start if b.is_floating_point()]

    def restore(self) -> None:
        for buffer, old in self._start:
            buffer.copy_(old)

    def add(self) -> None:
        """Note what the part that ran last has changed."""
        for (buffer, old), change in zip(self._floats(), self._changes, strict=True):
            change += buffer - old

    def settle(self, group: Group, count: int) -> None:
        """The start plus the mean change over all parts; counters stay as one part has left them."""
        if not self._changes:
            return
        flat = group.add(torch.cat([c.reshape(-1).float() for c in self._changes])) / count
        place = 0
        for buffer, old in self._floats():
            buffer.copy_(old + flat[place : place + old.numel()].view(old.shape))
            place += old.numel()


def _task(part: str) -> str:
    return part.split(".", 1)[0]
