"""Depth heads: L1 by hand, without labels, at coarse cells; the dense networks with such a head."""

from collections.abc import Callable
from math import inf, nan

import pytest
import torch

from tasks.nets.depth_head import l1
from tasks.nets.model import MultiTaskNet
from tasks.nets.presets import small
from tasks.nets.salscheider import salscheider
from tasks.types import DepthMap
from tests.tasks.nets.shapes import CLASSES, batch_of, seeded, with_depth, without

TASKS = ("detection", "segmentation", "depth")


def test_l1_by_hand() -> None:
    metres = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]], [[[1.0, 2.0], [3.0, 4.0]]], [[[9.0, 9.0], [9.0, 9.0]]]])
    targets = [torch.tensor([[2.0, nan], [0.0, 8.0]]), None, torch.tensor([[nan, inf], [-1.0, 0.0]])]
    metres.requires_grad_()
    found = l1(metres, targets, (2, 2))
    assert found.tolist() == [2.5, 0.0, 0.0]
    found.sum().backward()  # type: ignore[no-untyped-call]
    assert metres.grad is not None
    assert metres.grad[0].flatten().tolist() == [-0.5, 0.0, 0.0, -0.5]
    assert metres.grad[1:].abs().sum() == 0


def test_a_coarse_cell_answers_for_all_of_its_pixels() -> None:
    truth = torch.tensor([[1.0, 2.0, 5.0, 5.0], [3.0, nan, 5.0, 5.0]])
    assert l1(torch.tensor([[[[2.0, 6.0]]]]), [truth], (2, 4), stride=2).item() == pytest.approx((1 + 0 + 1 + 4) / 7)
    with pytest.raises(ValueError, match=r"depth target is \(2, 4\); expected a map of \(4, 4\)"):
        l1(torch.ones(1, 1, 4, 4), [truth], (4, 4))


@pytest.mark.parametrize(("make", "width"), [(small, 8), (salscheider, 16)])
def test_dense_networks_have_a_depth_head(make: Callable[..., MultiTaskNet], width: int) -> None:
    model = seeded(lambda: make(CLASSES, TASKS, width=width))
    losses = model(batch_of([with_depth(0), without(with_depth(1), "depth")], TASKS))
    assert losses.values["depth.l1"][0] > 0
    assert losses.values["depth.l1"][1] == 0
    assert losses.labeled["depth"].tolist() == [True, False]
    nobody = model(batch_of([without(with_depth(1), "depth")], TASKS))
    torch.stack(list(nobody.means().values())).sum().backward()  # type: ignore[no-untyped-call]
    assert all(p.grad is not None and p.grad.abs().sum() == 0 for p in model.heads["depth"].parameters())
    answer = model.eval().predict(torch.rand(1, 3, 64, 64))[0]
    found = answer["depth"]
    assert isinstance(found, DepthMap)
    assert found.metres.shape == answer.log_probs.shape[1:]
    assert (found.metres > 0).all()


def test_depth_is_learnt() -> None:
    samples = [with_depth(i) for i in range(4)]
    model = seeded(lambda: small(CLASSES, ("depth",), width=8))
    optimizer, batch = torch.optim.Adam(model.parameters(), 1e-2), batch_of(samples, ("depth",))
    history = []
    for _ in range(40):
        optimizer.zero_grad()
        loss = model(batch).means()["depth.l1"]
        loss.backward()
        optimizer.step()
        history.append(loss.item())
    assert history[-1] < 0.3 * history[0]
