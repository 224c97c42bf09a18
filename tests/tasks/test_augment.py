"""Pixels, boxes, masks, keypoints and maps move together, exactly."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from tasks.augment import Augment, hflip_sample, relit, zoom_sample
from tasks.classes import ClassMap
from tasks.geometry import mask_box, mask_of_rle, rle_of_mask
from tasks.joint_augment import JointAugment
from tasks.recipe import Recipe
from tasks.seeding import rng_of
from tasks.types import Objects, Sample

CLASSES = ClassMap(("thing",), ("floor", "thing"), (1,), ("left", "right"), ((0, 1),))
HEIGHT, WIDTH = 24, 40


def sample_of(*boxes: tuple[int, int, int, int], crowd: bool = False) -> Sample:
    """An image whose first channel, semantic map, depth and masks all show the same rectangles."""
    shown = np.zeros((HEIGHT, WIDTH), np.uint8)
    masks = []
    for x1, y1, x2, y2 in boxes:
        mask = np.zeros_like(shown)
        mask[y1:y2, x1:x2] = 1
        shown |= mask
        masks.append(rle_of_mask(mask))
    points = [[[x1, y1, 2], [x2 - 1, y1, 1]] for x1, y1, x2, _ in boxes]
    objects = Objects(
        boxes=torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        labels=torch.zeros(len(boxes), dtype=torch.int64),
        crowd=torch.full((len(boxes),), crowd),
        rles=tuple(masks),
        keypoints=torch.tensor(points, dtype=torch.float32).reshape(-1, 2, 3),
    )
    noise = torch.from_numpy(np.random.default_rng(0).random((2, HEIGHT, WIDTH), np.float32))
    image = torch.cat([torch.from_numpy(shown).float()[None], noise])
    semantic = torch.from_numpy(shown.astype(np.int64))
    depth = torch.where(semantic == 1, 6.0, torch.nan)
    targets = {"detection": objects, "instances": objects, "segmentation": semantic, "depth": depth}
    return Sample("a", image, targets, {"sensor": image[:1, ::2, ::2]})


def objects_of(sample: Sample) -> Objects:
    objects = sample.targets["detection"]
    assert isinstance(objects, Objects)
    assert sample.targets["instances"] is objects
    return objects


def shown_boxes(sample: Sample) -> list[tuple[float, ...] | None]:
    """Where the rectangle is by the image, by the semantic map, by the depth map."""
    segmentation, depth = sample.targets["segmentation"], sample.targets["depth"]
    assert isinstance(segmentation, torch.Tensor)
    assert isinstance(depth, torch.Tensor)
    maps = (sample.image[0] > 0.5, segmentation == 1, depth.isfinite())
    return [mask_box(one.numpy()) for one in maps]


def test_a_flip_moves_everything_to_the_same_place() -> None:
    flipped = hflip_sample(sample_of((4, 6, 14, 18)), CLASSES)
    want = (26, 6, 36, 18)
    objects = objects_of(flipped)
    assert objects.boxes.tolist() == [list(want)]
    assert objects.rles[0] is not None
    assert [*shown_boxes(flipped), mask_box(mask_of_rle(objects.rles[0]))] == [want] * 4
    assert objects.keypoints is not None
    assert objects.keypoints.tolist() == [[[27, 6, 1], [36, 6, 2]]]
    assert torch.equal(flipped.inputs["sensor"], sample_of((4, 6, 14, 18)).inputs["sensor"].flip(-1))


def test_two_flips_are_none_bit_for_bit() -> None:
    sample = sample_of((4, 6, 14, 18), (0, 0, 40, 3))
    again = hflip_sample(hflip_sample(sample, CLASSES), CLASSES)
    before, after = objects_of(sample), objects_of(again)
    assert torch.equal(again.image, sample.image)
    assert torch.equal(after.boxes, before.boxes)
    assert after.keypoints is not None
    assert before.keypoints is not None
    assert torch.equal(after.keypoints, before.keypoints)
    assert after.rles == before.rles
    for task in ("segmentation", "depth"):
        one, other = again.targets[task], sample.targets[task]
        assert isinstance(one, torch.Tensor)
        assert isinstance(other, torch.Tensor)
        assert torch.equal(one.nan_to_num(-1), other.nan_to_num(-1))


def test_a_zoom_moves_everything_to_the_same_place() -> None:
    zoomed = zoom_sample(sample_of((12, 8, 18, 14)), 2.0, (0.5, 0.5))  # the window is 10..30, 6..18
    want = (4, 4, 16, 16)
    objects = objects_of(zoomed)
    assert zoomed.image.shape == (3, HEIGHT, WIDTH)
    assert objects.boxes.tolist() == [list(want)]
    assert objects.rles[0] is not None
    assert [*shown_boxes(zoomed), mask_box(mask_of_rle(objects.rles[0]))] == [want] * 4
    assert objects.keypoints is not None
    assert objects.keypoints.tolist() == [[[4, 4, 2], [14, 4, 1]]]
    depth = zoomed.targets["depth"]
    assert isinstance(depth, torch.Tensor)
    assert depth[8, 8] == 3.0  # twice as large is half as far
    assert mask_box((zoomed.inputs["sensor"][0] > 0.5).numpy()) == (2, 2, 8, 8)


def test_depth_of_a_sensor_is_zoomed_as_the_label_is() -> None:
    """What a teacher reads and what it is to say are the same metres; a hole stays 0."""
    plain = sample_of((12, 8, 18, 14))
    metres = plain.targets["depth"]
    assert isinstance(metres, torch.Tensor)
    sample = replace(plain, inputs={"depth": metres.nan_to_num(nan=0.0)[None]})
    recipe = Recipe(flip=0.0, crop=(0.5, 0.5))
    for made in (zoom_sample(sample, 2.0, (0.5, 0.5)), JointAugment(recipe).apply(sample, CLASSES, rng_of(0))):
        target = made.targets["depth"]
        assert isinstance(target, torch.Tensor)
        assert not torch.equal(target, metres)
        assert torch.equal(made.inputs["depth"][0], target.nan_to_num(nan=0.0))


def test_objects_that_a_zoom_cuts() -> None:
    boxes = [(28, 8, 36, 14), (22, 8, 30, 14), (27, 8, 35, 14), (32, 8, 38, 14), (0, 0, 10, 24)]
    objects = objects_of(zoom_sample(sample_of(*boxes), 2.0, (0.5, 0.5)))  # x 10..30 is seen
    assert objects.boxes.tolist() == [[36, 4, 40, 16], [24, 4, 40, 16], [34, 4, 40, 16]]
    assert objects.crowd.tolist() == [False, False, False]
    fewer = objects_of(zoom_sample(sample_of((29, 8, 37, 14), (29, 8, 32, 14)), 2.0, (0.5, 0.5)))
    assert fewer.crowd.tolist() == [True, False]  # 1 / 8 and 1 / 3 of them are seen
    assert len(fewer.rles) == len(fewer.labels) == 2
    assert fewer.keypoints is not None
    assert fewer.keypoints[:, 1].tolist() == [[0, 0, 0], [0, 0, 0]]
    assert objects_of(zoom_sample(sample_of((12, 8, 18, 14), crowd=True), 2.0, (0.5, 0.5))).crowd.tolist() == [True]


def test_the_window_reaches_every_border_and_a_zoom_of_one_is_nothing() -> None:
    sample = sample_of((4, 6, 14, 18))
    last = zoom_sample(sample, 2.0, (np.nextafter(1, 0), np.nextafter(1, 0)))
    assert torch.equal(last.inputs["sensor"][0, -1, -1], sample.inputs["sensor"][0, -1, -1])
    assert objects_of(zoom_sample(sample, 2.0, (0.0, 0.0))).boxes.tolist() == [[8, 12, 28, 24]]
    same = zoom_sample(sample, 1.0, (0.3, 0.9))
    assert torch.equal(same.image, sample.image)
    assert objects_of(same).boxes.tolist() == objects_of(sample).boxes.tolist()


def test_apply_draws_by_its_probabilities_and_leaves_the_sample() -> None:
    sample = sample_of((4, 6, 14, 18))
    before = sample.image.clone()
    flips = zooms = 0
    for seed in range(200):
        made = Augment(flip=0.3, zoom=0.6, zoom_range=(1.2, 1.5)).apply(sample, CLASSES, np.random.default_rng(seed))
        zoomed = made.inputs["sensor"].shape == sample.inputs["sensor"].shape and not (
            torch.equal(made.image, before) or torch.equal(made.image, before.flip(-1))
        )
        zooms += zoomed
        flips += not zoomed and not torch.equal(made.image, before)
    assert 90 < zooms < 150
    assert 8 < flips < 45
    assert torch.equal(sample.image, before)


def test_apply_is_a_function_of_its_generator() -> None:
    sample, augment = sample_of((4, 6, 14, 18)), Augment(zoom=1.0)
    one, other, third = (augment.apply(sample, CLASSES, np.random.default_rng(seed)).image for seed in (3, 3, 4))
    assert torch.equal(one, other)
    assert not torch.equal(one, third)
    still = Augment(flip=0.0).apply(sample, CLASSES, np.random.default_rng(3))
    assert still is sample
    rng = np.random.default_rng(3)
    Augment(flip=0.0).apply(sample, CLASSES, rng)
    assert rng.random() == np.random.default_rng(3).random(9)[8]


def test_images_without_objects_or_labels() -> None:
    empty = zoom_sample(hflip_sample(sample_of(), CLASSES), 1.5, (0.2, 0.2))
    assert objects_of(empty).boxes.shape == (0, 4)
    bare = Sample("a", sample_of().image)
    assert zoom_sample(hflip_sample(bare, CLASSES), 1.5, (0.2, 0.2)).targets == {}


def test_fields_are_checked() -> None:
    with pytest.raises(ValueError, match=r"augment.flip is 1.5; expected 0..1"):
        Augment(flip=1.5)
    with pytest.raises(ValueError, match=r"augment.zoom_range is \(0.5, 2.0\); expected 1 <= from <= to"):
        Augment(zoom_range=(0.5, 2.0))


def test_other_light_leaves_labels_and_range() -> None:
    image = torch.rand(3, 8, 8, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(relit(image, 1.0, 1.0, 1.0), image, atol=1e-6)
    assert torch.allclose(relit(image, 0.5, 1.0, 1.0), image / 2, atol=1e-6)
    grey = relit(image, 1.0, 1.0, 0.0)
    assert torch.allclose(grey[0], grey[2], atol=1e-6)
    assert float(relit(image, 1.25, 1.25, 1.25).max()) <= 1.0
    sample = sample_of((4, 6, 14, 18))
    changed = Augment(flip=0.0, colour=0.5).apply(sample, CLASSES, np.random.default_rng(1))
    assert not torch.equal(changed.image, sample.image)
    assert torch.equal(changed.targets["detection"].boxes, sample.targets["detection"].boxes)
