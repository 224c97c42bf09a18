"""Pickup points: errors by hand and by their gradients, dead layers, the angle of a grasp, the metric, merged."""

import math
import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from tasks.classes import ClassMap
from tasks.geometry import rle_of_mask
from tasks.pickup import (
    Pickup,
    askable,
    centroid,
    decode,
    grasp_angle,
    pickup_error,
    point_distance,
    query,
    soft_iou_error,
)
from tasks.types import Objects, SegMap

CLASSES = ClassMap(("nut", "bolt", "box"), (), (-1, -1, -1), ("pickup",))
SIZE = (12, 16)


def square(left: int, top: int, side: int = 4) -> np.ndarray:
    mask = np.zeros(SIZE, bool)
    mask[top : top + side, left : left + side] = True
    return mask


def truth(*places: tuple[int, int, int], v: float = 2.0) -> Objects:
    """Objects (class, left, top) of 4 x 4 px, their points in the middle."""
    return Objects(
        boxes=torch.tensor([[x, y, x + 4, y + 4] for _, x, y in places], dtype=torch.float32).reshape(-1, 4),
        labels=torch.tensor([c for c, _, _ in places], dtype=torch.int64),
        crowd=torch.zeros(len(places), dtype=torch.bool),
        rles=tuple(rle_of_mask(square(x, y)) for _, x, y in places),
        keypoints=torch.tensor([[[x + 2.0, y + 2.0, v]] for _, x, y in places]).reshape(-1, 1, 3),
    )


def layer(mask: np.ndarray, value: float = 1.0) -> Tensor:
    return torch.from_numpy(mask).float() * value


# ---- the errors ------------------------------------------------------------------------------------------------------


def test_soft_iou_by_hand() -> None:
    mask, moved = layer(square(2, 2)), layer(square(4, 2))
    assert soft_iou_error(mask, mask).item() == 0
    assert soft_iou_error(moved, mask).item() == pytest.approx(1 - 8 / 24)
    assert soft_iou_error(0.5 * mask, mask).item() == pytest.approx(1 - 8 / 16)
    assert soft_iou_error(torch.zeros(SIZE), mask).item() == 1


def test_activations_above_one_gain_nothing() -> None:
    """I / U of a = k m is k without the cut; the literal form needs none: k / (k + 1)."""
    mask = layer(square(2, 2))
    assert soft_iou_error(5 * mask, mask).item() == 0
    assert soft_iou_error(5 * mask, mask, "literal").item() == pytest.approx(1 - 5 / 6)
    assert soft_iou_error(mask, mask, "literal").item() == pytest.approx(1 / 2)


def test_saturated_activations_beside_the_object_are_stuck_and_the_distance_is_not() -> None:
    activations = layer(square(10, 6), 3.0).requires_grad_()
    mask, point = layer(square(2, 2)), torch.tensor([[4.0, 4.0]])
    soft_iou_error(activations, mask).backward()
    assert activations.grad is not None
    outside = activations.grad[layer(square(2, 2)) == 0]
    assert not outside[torch.from_numpy(square(10, 6))[layer(square(2, 2)) == 0]].any()
    activations.grad = None
    point_distance(centroid(activations)[0], point).backward()
    assert activations.grad.abs().sum() > 0


def test_the_centre_is_at_pixel_centres_and_scale_changes_nothing() -> None:
    for scale in (0.01, 1.0, 300.0):
        found, dead = centroid(layer(square(3, 5), scale))
        assert found.tolist() == pytest.approx([5.0, 7.0], abs=1e-4)
        assert not dead
    one = torch.zeros(SIZE)
    one[4, 9] = 0.7
    assert centroid(one)[0].tolist() == pytest.approx([9.5, 4.5])


def test_a_dead_layer_answers_the_middle_without_gradient() -> None:
    activations = torch.full((2, *SIZE), 1e-7, requires_grad=True)
    found, dead = centroid(activations)
    assert dead.tolist() == [True, True]
    assert found.tolist() == [[8.0, 6.0]] * 2
    point_distance(found, torch.zeros(2, 1, 2)).sum().backward()
    assert activations.grad is not None
    assert not activations.grad.any()
    assert torch.isfinite(activations.grad).all()


def test_no_gradient_is_nan_where_the_distance_is_zero() -> None:
    activations = layer(square(3, 5)).requires_grad_()
    point_distance(centroid(activations)[0], torch.tensor([[5.0, 7.0]])).backward()
    assert activations.grad is not None
    assert torch.isfinite(activations.grad).all()


def test_the_nearest_of_several_points_counts() -> None:
    points = torch.tensor([[[0.0, 0.0], [3.0, 4.0]]])
    assert point_distance(torch.tensor([[3.0, 3.0]]), points).tolist() == [1.0]


def test_pickup_error_at_the_papers_distances() -> None:
    assert [pickup_error(cm) for cm in (0.0, 1.0, 3.0)] == [0.0, 0.5, 0.9]
    assert pickup_error(1e6) == pytest.approx(1.0)


# ---- the angle -------------------------------------------------------------------------------------------------------


def bar(turn: float, length: float = 40, width: float = 10, size: int = 64) -> Tensor:
    y, x = torch.meshgrid(torch.arange(size) + 0.5 - size / 2, torch.arange(size) + 0.5 - size / 2, indexing="ij")
    along, across = x * math.cos(turn) + y * math.sin(turn), y * math.cos(turn) - x * math.sin(turn)
    return ((along.abs() <= length / 2) & (across.abs() <= width / 2)).float()


def test_a_grasp_stands_across_the_object() -> None:
    for turn in np.linspace(-1.5, 1.5, 13).tolist():
        found = grasp_angle(bar(turn)).item()
        assert -math.pi / 2 - 1e-6 < found < math.pi / 2
        apart = (found - turn - math.pi / 2) % math.pi
        assert min(apart, math.pi - apart) < math.radians(1)
    assert grasp_angle(bar(0.0)).item() == pytest.approx(-math.pi / 2)
    assert grasp_angle(bar(math.pi / 2)).item() == pytest.approx(0.0, abs=1e-6)


def test_what_has_no_axis_has_no_angle() -> None:
    round_one = bar(0.0, 20, 20)
    assert math.isnan(grasp_angle(round_one).item())
    assert math.isnan(grasp_angle(torch.zeros(8, 8)).item())
    assert torch.isnan(grasp_angle(torch.stack([bar(0.3), round_one]))).tolist() == [False, True]


# ---- what is asked for -----------------------------------------------------------------------------------------------


def test_a_class_is_asked_for_where_it_has_a_mask_and_a_point() -> None:
    objects = truth((2, 0, 0), (0, 6, 0), (0, 10, 6))
    assert askable(objects) == [0, 2]
    asked = query(objects, 0)
    assert asked.mask.sum() == 32
    assert asked.points.tolist() == [[8.0, 2.0], [12.0, 8.0]]
    assert askable(replace(objects, rles=(None, *objects.rles[1:]))) == [0]
    assert askable(replace(objects, crowd=torch.tensor([False, True, True]))) == [2]
    assert askable(truth((1, 0, 0), v=0.0)) == []
    assert askable(replace(objects, keypoints=None)) == askable(replace(objects, rles=())) == askable(truth()) == []


# ---- the metric ------------------------------------------------------------------------------------------------------


def test_the_metric_by_hand() -> None:
    """Nut: found exactly. Bolt: 5 px off, without overlap. Box: a dead layer."""
    objects = truth((0, 2, 2), (1, 8, 4), (2, 0, 8))
    answer = decode(torch.stack([layer(square(2, 2)), layer(square(4, 7)), torch.zeros(SIZE)]))
    metric = Pickup(cm_per_px=0.2).metric(CLASSES)
    metric.update([answer], [objects], ["a"])
    found = metric.compute()
    away = [0.0, 5.0, math.hypot(8 - 2, 6 - 10)]
    fails = [pickup_error(0.2 * px) for px in away]
    assert found["pickup_rate/bolt"] == pytest.approx(0.5)
    assert found["pickup_rate"] == pytest.approx(1 - np.mean(fails))
    assert found["pickup_error"] == pytest.approx(1 - found["pickup_rate"])
    assert found["iou_error"] == pytest.approx(2 / 3)
    assert found["summed_error"] == pytest.approx(np.mean(fails) + 2 / 3)
    assert found["distance_px"] == pytest.approx(np.mean(away))
    assert found["distance_cm"] == pytest.approx(0.2 * np.mean(away))
    assert (found["queries"], found["dead"]) == (3, 1)
    assert metric.main in found


def test_the_options_change_the_figures() -> None:
    objects, answer = truth((0, 2, 2)), decode(torch.stack([layer(square(3, 2))] * 3))
    figures = []
    for task in (Pickup(), Pickup(cm_per_px=1.0), Pickup(iou="literal")):
        metric = task.metric(CLASSES)
        metric.update([answer], [objects], ["a"])
        figures.append(metric.compute())
    assert figures[0]["pickup_rate"] > figures[1]["pickup_rate"] == pytest.approx(0.5)
    assert figures[2]["iou_error"] == pytest.approx(1 - 12 / 32)
    assert Pickup(point_seconds=2.0).label_cost(objects) == {"seconds": 2.0, "points": 1.0}


def test_merged_shards_are_one_metric() -> None:
    generator = torch.Generator().manual_seed(0)
    answers = [decode(torch.rand(3, *SIZE, generator=generator)) for _ in range(4)]
    targets = [truth((i % 3, i, 2), ((i + 1) % 3, 8, 6)) for i in range(4)]
    ids = ["d", "b", "a", "c"]
    whole, left, right = (Pickup().metric(CLASSES) for _ in range(3))
    whole.update(answers, targets, ids)
    left.update(answers[:1], targets[:1], ids[:1])
    right.update(answers[1:], targets[1:], ids[1:])
    right = pickle.loads(pickle.dumps(right))
    right.merge(left)
    assert right.compute() == whole.compute()
    with pytest.raises(ValueError, match="came twice"):
        right.merge(left)
    with pytest.raises(ValueError, match="other classes or scale"):
        right.merge(Pickup(cm_per_px=1.0).metric(CLASSES))


def test_without_queries_figures_are_not_defined() -> None:
    metric = Pickup().metric(CLASSES)
    metric.update([decode(torch.zeros(3, *SIZE))], [truth()], ["a"])
    found = metric.compute()
    assert math.isnan(found["pickup_rate"])
    assert found["queries"] == 0


def test_foreign_answers_and_sizes_are_refused() -> None:
    metric, answer = Pickup().metric(CLASSES), decode(torch.ones(3, 6, 8))
    with pytest.raises(ValueError, match=r"'a' has a SegMap .*expected Pickups"):
        metric.update([SegMap(torch.zeros(1, 2, 2))], [truth()], ["a"])
    with pytest.raises(ValueError, match=r"\(6, 8\) for a mask of \(12, 16\)"):
        metric.update([answer], [truth((0, 2, 2))], ["a"])
    with pytest.raises(ValueError, match="cm_per_px is 0"):
        Pickup(cm_per_px=0)
    with pytest.raises(ValueError, match="expected Objects or Pickups"):
        Pickup().label_cost(torch.zeros(2, 2))
    assert Pickup().label_cost(answer)["points"] == 3
