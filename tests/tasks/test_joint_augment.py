"""The recipe on training samples and on stored scenes: one arithmetic, one draw for one key."""

import numpy as np
import torch

from tasks.augment import hflip_sample
from tasks.geometry import mask_box, mask_of_rle
from tasks.joint_augment import JointAugment, augment_scene
from tasks.recipe import Recipe
from tasks.types import Objects, Sample
from tests.tasks.test_augment import CLASSES, HEIGHT, WIDTH, objects_of, sample_of, shown_boxes
from tests.tasks.test_joint_transform import RECTANGLE, scene_of, thing


def changed(sample: Sample, recipe: Recipe, seed: int = 0) -> Sample:
    return JointAugment(recipe).apply(sample, CLASSES, np.random.default_rng(seed))


def byte_exact(sample: Sample) -> Sample:
    return Sample(sample.id, sample.image.mul(255).round().div(255), sample.targets, sample.inputs)


def test_a_mirror_is_the_mirror_of_the_plain_keys_bit_for_bit() -> None:
    sample = byte_exact(sample_of((4, 6, 14, 18), (0, 0, 40, 3)))
    joint, plain = changed(sample, Recipe(flip=1.0)), hflip_sample(sample, CLASSES)
    assert torch.equal(joint.image, plain.image)
    assert torch.equal(joint.inputs["sensor"], plain.inputs["sensor"])
    a, b = objects_of(joint), objects_of(plain)
    assert torch.equal(a.boxes, b.boxes)
    assert torch.equal(a.labels, b.labels)
    assert torch.equal(a.crowd, b.crowd)
    assert a.rles == b.rles
    assert a.keypoints is not None
    assert b.keypoints is not None
    assert torch.equal(a.keypoints, b.keypoints)
    for task in ("segmentation", "depth"):
        one, other = joint.targets[task], plain.targets[task]
        assert isinstance(one, torch.Tensor)
        assert isinstance(other, torch.Tensor)
        assert one.dtype == other.dtype
        assert torch.equal(one.nan_to_num(-1), other.nan_to_num(-1))


def test_everything_stays_together_whatever_is_drawn() -> None:
    recipe = Recipe(rotate=40, scale=(0.8, 1.3), shear=10, perspective=0.1, crop=(0.8, 1.0), min_visible=0.0)
    for seed in range(25):
        after = changed(sample_of((12, 8, 26, 18)), recipe, seed)
        assert after.image.shape == (3, HEIGHT, WIDTH)
        objects = objects_of(after)
        assert objects.rles[0] is not None
        mask = mask_of_rle(objects.rles[0])
        semantic, depth = after.targets["segmentation"], after.targets["depth"]
        assert isinstance(semantic, torch.Tensor)
        assert isinstance(depth, torch.Tensor)
        assert np.array_equal(mask, (semantic == 1).numpy())
        assert np.array_equal(mask, depth.isfinite().numpy())
        assert mask_box(mask) == tuple(objects.boxes[0].tolist())
        image_box, mask_area = shown_boxes(after)[0], mask_box(mask)
        assert image_box is not None
        assert mask_area is not None
        known = (semantic != 255).numpy()
        shown = (after.image[0] > 0.5).numpy() & known
        assert (shown ^ mask).sum() <= 2 * (WIDTH + HEIGHT) * 0.25  # the linear rim
        assert objects.keypoints is not None
        assert objects.keypoints.shape == (1, 2, 3)


def test_what_is_hardly_visible_is_ignored_and_what_is_gone_goes() -> None:
    recipe = Recipe(flip=0.0, crop=(0.5, 0.5), min_visible=0.9)
    kinds = set()
    for seed in range(30):
        objects = objects_of(changed(sample_of((4, 6, 14, 18)), recipe, seed))
        kinds.add(tuple(objects.crowd.tolist()))
        assert objects.keypoints is not None
        assert len(objects.boxes) == len(objects.labels) == len(objects.rles) == len(objects.keypoints)
    assert kinds == {(), (True,), (False,)}


def test_bare_samples_and_boxes_alone() -> None:
    sample = sample_of((4, 6, 14, 18))
    bare = Objects(objects_of(sample).boxes, objects_of(sample).labels, objects_of(sample).crowd)
    after = changed(Sample("a", sample.image, {"detection": bare}), Recipe(rotate=30.0))
    objects = after.targets["detection"]
    assert isinstance(objects, Objects)
    assert objects.rles == ()
    assert objects.keypoints is None
    assert len(objects.boxes) == 1
    assert changed(Sample("a", sample.image), Recipe(rotate=30.0)).targets == {}
    none = changed(sample_of(), Recipe(rotate=30.0))
    assert objects_of(none).boxes.shape == (0, 4)
    assert objects_of(none).keypoints is not None


def test_light_is_changed_and_labels_are_not() -> None:
    sample = byte_exact(sample_of((4, 6, 14, 18)))
    recipe = Recipe(flip=0.0, photometric=({"name": "RandomBrightnessContrast", "p": 1.0},))
    after = changed(sample, recipe)
    assert not torch.equal(after.image, sample.image)
    assert torch.equal(objects_of(after).boxes, objects_of(sample).boxes)
    assert torch.equal(after.image, changed(sample, recipe).image)


def test_a_copy_is_a_function_of_its_key() -> None:
    recipe = Recipe(rotate=30.0, photometric=({"name": "GaussNoise", "p": 1.0},))
    scene = scene_of(thing(RECTANGLE))
    first, again = (augment_scene(scene, recipe, 0, "a.jpg", 3)[0] for _ in range(2))
    assert np.array_equal(first.image, again.image)
    assert first.objects[0].box == again.objects[0].box
    other = augment_scene(scene, recipe, 0, "a.jpg", 4)[0]
    assert not np.array_equal(first.image, other.image)
