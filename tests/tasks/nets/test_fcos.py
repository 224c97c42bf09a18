"""FCOS: which location answers for which object, the losses per image, the head."""

from math import inf

import pytest
import torch
from torch.nn import functional as F
from torchvision.ops import generalized_box_iou_loss, sigmoid_focal_loss

from tasks.nets.decode import Decode
from tasks.nets.fcos import Dense, FcosHead, assign, boxes_of, centerness_of, fcos_losses, grid_of, padded, sides_of
from tasks.nets.heads import Norm, batch_norm, group_norm
from tasks.types import Detections, Objects
from tests.tasks.nets.shapes import objects, seeded

STRIDES = (4, 8, 16)
MAPS = [torch.zeros(2, 6, 64 // s, 64 // s) for s in STRIDES]
GRID = grid_of(MAPS, STRIDES, reach=4.0)


def test_grid_lists_the_centres_of_cells_row_by_row() -> None:
    assert GRID.cells == (256, 64, 16)
    assert GRID.points[:2].tolist() == [[2.0, 2.0], [6.0, 2.0]]
    assert GRID.points[16].tolist() == [2.0, 6.0]
    assert GRID.points[256].tolist() == [4.0, 4.0]
    assert GRID.reach[[0, 256, 320]].tolist() == [[0.0, 16.0], [16.0, 32.0], [32.0, inf]]


def slowly(target: Objects) -> tuple[list[int], list[bool]]:
    """The object of each location, and whether a crowd hides it: loops, as the paper tells it."""
    found, ignored = [], []
    for (x, y), stride, (low, high) in zip(
        GRID.points.tolist(), GRID.stride.tolist(), GRID.reach.tolist(), strict=True
    ):
        best, area, hidden = -1, inf, False
        for n, (x1, y1, x2, y2) in enumerate(target.boxes.tolist()):
            sides = (x - x1, y - y1, x2 - x, y2 - y)
            if min(sides) <= 0:
                continue
            if target.crowd[n]:
                hidden = True
                continue
            near = max(abs(x - (x1 + x2) / 2), abs(y - (y1 + y2) / 2)) < 1.5 * stride
            if near and low < max(sides) <= high and (x2 - x1) * (y2 - y1) < area:
                best, area = n, (x2 - x1) * (y2 - y1)
        found.append(best)
        ignored.append(hidden and best < 0)
    return found, ignored


def test_assignment_is_the_slow_reference() -> None:
    many = objects(
        [[3, 3, 15, 13], [0, 0, 40, 30], [20, 20, 64, 64], [30, 5, 35, 11], [40, 40, 60, 60]],
        [0, 1, 0, 1, 0],
        [False, False, False, False, True],
    )
    few = objects([[10, 10, 18, 18]], [1])
    boxes, _, crowd = padded([many, few], torch.device("cpu"))
    matched = assign(GRID, boxes, crowd)
    for b, target in enumerate((many, few)):
        found, ignored = slowly(target)
        assert matched.object[b].tolist() == found
        assert matched.ignored[b].tolist() == ignored
    assert {0, 1, 2, 3} <= set(matched.object[0].tolist())
    assert matched.ignored[0].any()


def test_sides_and_boxes_are_inverse_and_centerness_is_one_in_the_middle() -> None:
    points, box = torch.tensor([[10.0, 10.0], [12.0, 10.0]]), torch.tensor([4.0, 6.0, 16.0, 14.0])
    sides = sides_of(points, box.expand(2, 4))
    assert torch.equal(boxes_of(points, sides), box.expand(2, 4))
    assert centerness_of(sides).tolist() == pytest.approx([1.0, (4 / 8) ** 0.5])


def dense(requires_grad: bool = False) -> Dense:
    generator = torch.Generator().manual_seed(0)
    count = len(GRID.points)
    logits = torch.randn(2, count, 3, generator=generator)
    sides = torch.rand(2, count, 4, generator=generator) * 20 + 1
    central = torch.randn(2, count, generator=generator)
    return Dense(logits.requires_grad_(requires_grad), sides, central, GRID)


def test_losses_of_an_image_are_its_own() -> None:
    """Each image by itself, with plain formulas: focal over all locations, the rest over its positives."""
    raw = dense()
    targets = [objects([[3, 3, 15, 13], [20, 20, 64, 64]], [2, 0]), objects([[10, 10, 18, 18]], [1])]
    losses = fcos_losses(raw, targets)
    for b, target in enumerate(targets):
        found = torch.tensor(slowly(target)[0])
        positive = (found >= 0).nonzero().flatten()
        truth = torch.zeros(len(found), 3)
        truth[positive, target.labels[found[positive]]] = 1
        box = target.boxes[found[positive]]
        expected = {
            "cls": sigmoid_focal_loss(raw.logits[b], truth, reduction="sum"),
            "box": generalized_box_iou_loss(raw.boxes[b, positive], box, reduction="sum"),
            "centerness": F.binary_cross_entropy_with_logits(
                raw.centerness[b, positive], centerness_of(sides_of(GRID.points[positive], box)), reduction="sum"
            ),
        }
        for part, value in expected.items():
            assert losses[part][b].item() == pytest.approx(value.item() / len(positive), rel=1e-5), part


def test_locations_in_a_crowd_get_no_gradient() -> None:
    raw = dense(requires_grad=True)
    crowd = objects([[0, 0, 32, 64]], [0], [True])
    fcos_losses(raw, [crowd, objects([], [])])["cls"].sum().backward()  # type: ignore[no-untyped-call]
    assert raw.logits.grad is not None
    inside = GRID.points[:, 0] < 32
    assert raw.logits.grad[0, inside].abs().sum() == 0
    assert (raw.logits.grad[0, ~inside].abs().sum(-1) > 0).all()
    assert (raw.logits.grad[1].abs().sum(-1) > 0).all()


def test_a_target_of_another_task_is_refused() -> None:
    with pytest.raises(ValueError, match="detection target is a Tensor; expected Objects"):
        fcos_losses(dense(), [torch.zeros(64, 64), None])


@pytest.mark.parametrize(("shared", "norm"), [(True, batch_norm), (False, group_norm)])
def test_head_reads_its_own_levels(shared: bool, norm: Norm) -> None:
    settings = Decode(top=3)
    head = seeded(lambda: FcosHead(8, 3, (8, 16), norm=norm, first=1, depth=1, shared=shared, settings=settings)).eval()
    maps = [torch.randn(2, 8, 64 // s, 64 // s, generator=torch.Generator().manual_seed(s)) for s in STRIDES]
    answers = head.answers(maps, (64, 64), outputs=True, dense=True)
    assert answers.dense is not None
    assert answers.dense.shape == (2, 64 + 16, 3)
    first = answers.outputs[0]
    assert isinstance(first, Detections)
    assert len(first.scores) == 3
    assert len(head.towers) == (1 if shared else 2)
    assert answers.dense.sigmoid().mean().item() == pytest.approx(0.01, abs=0.005)  # the prior of the focal loss
    assert set(head.losses(maps, [None, None], (64, 64))) == set(head.parts)


def test_reach_moves_objects_between_levels() -> None:
    boxes, _, crowd = padded([objects([[4, 4, 40, 40]], [0])], torch.device("cpu"))
    levels = []
    for reach in (2.0, 8.0):
        grid = grid_of([m[:1] for m in MAPS], STRIDES, reach)
        levels.append({int(grid.stride[a]) for a in (assign(grid, boxes, crowd).object[0] >= 0).nonzero().flatten()})
    assert levels == [{16}, {4}]
