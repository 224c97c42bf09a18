"""Slots of keypoints by class; objects as tensors; crowds, empty boxes, missing labels."""

from dataclasses import replace

import pytest
import torch

from tasks.classes import ClassMap
from tasks.geometry import mask_of_rle
from tasks.nets.region_targets import Regions, regions_of, slots_of
from tasks.types import Objects, Target
from tests.tasks.nets.parts import CLASSES, SIZE, part_sample

CPU = torch.device("cpu")
OBJECTS = part_sample(0).targets["detection"]
assert isinstance(OBJECTS, Objects)


def regions(
    detection: Target | None, instances: Target | None, keypoints: Target | None, around_points: bool = False
) -> Regions:
    return regions_of(detection, instances, keypoints, slots_of(CLASSES), SIZE, CPU, around_points=around_points)


def test_slots_by_class_or_for_all() -> None:
    assert slots_of(CLASSES).tolist() == [[0, 1], [2, -1]]
    shared = ClassMap(("a", "b"), (), (-1, -1), ("x", "y", "z"))
    assert slots_of(shared).tolist() == [[0, 1, 2], [0, 1, 2]]
    assert slots_of(ClassMap(("a",), (), (-1,))).shape == (1, 0)
    assert slots_of(ClassMap()).shape == (0, 0)


def test_each_object_has_its_points_in_the_slots_of_its_class() -> None:
    found = regions(OBJECTS, OBJECTS, OBJECTS)
    assert OBJECTS.keypoints is not None
    assert found.labels.tolist() == [1, 2]
    assert torch.equal(found.keypoints[0], OBJECTS.keypoints[0, :2])
    assert torch.equal(found.keypoints[1], torch.stack([OBJECTS.keypoints[1, 2], torch.zeros(3)]))
    for mask, rle in zip(found.masks, OBJECTS.rles, strict=True):
        assert rle is not None
        assert (mask.numpy() == mask_of_rle(rle)).all()
    assert found.has_mask.tolist() == [True, True]


def test_what_is_not_labeled_is_not_there() -> None:
    found = regions(OBJECTS, None, None)
    assert found.has_mask.tolist() == [False, False]
    assert not found.keypoints.any()
    assert regions(OBJECTS, replace(OBJECTS, rles=(None, OBJECTS.rles[1])), None).has_mask.tolist() == [False, True]
    none = regions(None, None, None)
    assert (none.boxes.shape, none.keypoints.shape, none.crowd.shape) == ((0, 4), (0, 2, 3), (0, 4))
    assert regions(None, OBJECTS, None).boxes.shape == (2, 4)


def test_crowds_and_empty_boxes_are_no_objects() -> None:
    odd = replace(OBJECTS, crowd=torch.tensor([True, False]))
    found = regions(odd, odd, odd)
    assert torch.equal(found.boxes, OBJECTS.boxes[1:])
    assert torch.equal(found.crowd, OBJECTS.boxes[:1])
    assert len(found.masks) == len(found.has_mask) == len(found.keypoints) == 1
    flat = replace(OBJECTS, boxes=torch.tensor([[5.0, 5.0, 5.0, 9.0], [5.0, 5.0, 9.0, 9.0]]))
    assert regions(flat, flat, flat).labels.tolist() == [2]


def test_a_box_may_be_made_to_hold_its_points() -> None:
    points = torch.tensor([[[1.0, 60.0, 2.0], [30.0, 2.0, 1.0], [0.0, 0.0, 0.0]]]).repeat(2, 1, 1)
    given = replace(OBJECTS, boxes=torch.tensor([[10.0, 10.0, 20.0, 20.0]] * 2), keypoints=points)
    assert regions(given, given, given).boxes.tolist() == [[10, 10, 20, 20]] * 2
    assert regions(given, given, given, around_points=True).boxes.tolist() == [[1, 2, 30, 60], [10, 10, 20, 20]]


def test_targets_of_other_objects_or_sizes_are_refused() -> None:
    one = replace(OBJECTS, boxes=OBJECTS.boxes[:1])
    with pytest.raises(ValueError, match="of \\[2, 1\\] objects; expected the same"):
        regions(OBJECTS, one, None)
    with pytest.raises(ValueError, match="'Objects', 'Tensor'"):
        regions(OBJECTS, torch.zeros(2, 2), None)
    with pytest.raises(ValueError, match=r"a mask of \(64, 80\); expected \(32, 80\)"):
        regions_of(OBJECTS, OBJECTS, None, slots_of(CLASSES), (32, 80), CPU, around_points=False)
