"""A batch in which a task has no label: exactly no loss, and exactly no gradient for what only that task uses."""

from collections.abc import Callable, Sequence

import pytest
import torch
from torch import nn

from tasks.nets.mtinet import mtinet
from tasks.nets.presets import small
from tests.tasks.nets.shapes import CLASSES, batch_of, seeded, with_depth, without

BOTH = ("segmentation", "depth")
SAMPLES = [with_depth(i) for i in range(2)]
Make = Callable[[], nn.Module]


def gradients(net: nn.Module, total: torch.Tensor) -> dict[str, float]:
    """The largest gradient of each parameter; 0 where there is none."""
    net.zero_grad()
    total.backward()  # type: ignore[no-untyped-call]
    return {n: 0.0 if p.grad is None else float(p.grad.abs().max()) for n, p in net.named_parameters()}


@pytest.mark.parametrize("make", [lambda: mtinet(CLASSES, BOTH), lambda: small(CLASSES, BOTH, width=16)])
@pytest.mark.parametrize("missing", BOTH)
def test_no_label_no_loss_no_gradient(make: Make, missing: str) -> None:
    net = seeded(make)
    batch = batch_of([without(sample, missing) for sample in SAMPLES], BOTH)
    losses = net(batch)
    own = [name for name in losses.values if name.startswith(missing)]
    assert all(float(losses.means()[name].detach()) == 0.0 for name in own)
    assert not bool(losses.labeled[missing].any())
    total = sum((losses.means()[name] for name in own), torch.zeros(()))
    assert total.requires_grad  # connected, so that processes which train together do not wait for each other
    assert set(gradients(net, total).values()) == {0.0}


def test_the_other_task_learns_as_if_it_had_been_alone_in_the_batch() -> None:
    net = seeded(lambda: mtinet(CLASSES, BOTH))
    full: Sequence[float]
    full, half = (
        list(gradients(net, net(batch_of(samples, BOTH)).means()["segmentation.ce"]).values())
        for samples in (SAMPLES, [without(sample, "depth") for sample in SAMPLES])
    )
    assert full == half
    assert max(full) > 0
