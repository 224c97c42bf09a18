"""What the original paper's script does wrong when it augments, fault by fault: its arithmetic, and ours beside it."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tasks import transform as t
from tasks.data.augmented_images import Original, make_copy, named, read_scene
from tasks.data.joint_coco import annotation_of, joint_object
from tasks.geometry import mask_of_rle, polygon_area, rle_of_mask
from tasks.joint_transform import JointObject, Limits, Scene, transform_objects
from tasks.outlines import corners_of, points_box
from tasks.photometric import check_steps
from tasks.recipe import Recipe
from tasks.resampling import Resampling
from tests.data.joint import CATEGORIES, HEIGHT, WIDTH, joint_annotations, write_joint

SIZE = (HEIGHT, WIDTH)
BY_ID: dict[Any, Any] = {one["id"]: one for one in CATEGORIES}
SQUARE = corners_of((4, 4, 16, 14))
TRIANGLE = np.array([(30, 8), (50, 8), (40, 30)], np.float64)


def thing(id: int, ring: NDArray[np.float64], **more: Any) -> JointObject:
    return replace(JointObject(id=id, box=points_box(ring), polygons=(ring,)), **more)


def moved(change: t.Transform, *objects: JointObject) -> dict[Any, JointObject]:
    """By id."""
    return {one.id: one for one in transform_objects(objects, change, Resampling(change), Limits())[0]}


def annotations_after(change: t.Transform) -> dict[Any, dict[str, Any]]:
    before = {one["id"]: one for one in joint_annotations(1)}
    objects = [joint_object(one, BY_ID[one["category_id"]], SIZE, "x.json") for one in before.values()]
    found = moved(change, *objects)
    return {id: annotation_of(one, before[id], change) for id, one in found.items()}


def test_1_the_area_is_the_polygons_and_not_a_slip_of_precedence() -> None:
    x1, y1, x2, y2 = points_box(TRIANGLE)
    assert (x2 - x1) * y2 - y1 == 592.0  # the script's, without brackets
    assert (x2 - x1) * (y2 - y1) == 440.0  # what it meant: the box's
    assert moved(t.identity(SIZE), thing(1, TRIANGLE))[1].area == polygon_area(TRIANGLE) == 220.0


def test_2_the_area_is_made_anew_after_the_change() -> None:
    before = {"area": 592.0, "bbox": [30, 8, 20, 22]}
    stale = {**before, "bbox": [60, 16, 40, 44]}  # the script's copy of the annotation, at twice the size
    assert stale["area"] == before["area"]
    assert moved(t.resized(SIZE, (80, 120)), thing(1, TRIANGLE))[1].area == 4 * 220.0
    assert annotations_after(t.resized(SIZE, (80, 120)))[10]["area"] == 4 * 110.9375


def test_3_each_object_has_its_own_keypoints() -> None:
    points = {1: np.array([(5, 5, 2), (9, 9, 1)], np.float64), 2: np.array([(35, 10, 2), (0, 0, 0)], np.float64)}
    all_of_the_image = [xy for own in points.values() for xy in own[own[:, 2] > 0][:, :2].tolist()]
    script = dict.fromkeys(points, all_of_the_image)
    assert [len(own) for own in script.values()] == [3, 3]  # of two and of one: every object has all of them
    ours = moved(t.mirrored(SIZE), *(thing(i, SQUARE, keypoints=own) for i, own in points.items()))
    assert ours[1].keypoints is not None
    assert ours[2].keypoints is not None
    assert ours[1].keypoints.tolist() == [[55, 5, 2], [51, 9, 1]]
    assert ours[2].keypoints.tolist() == [[25, 10, 2], [0, 0, 0]]


def test_4_visibility_and_the_number_of_keypoints_stay() -> None:
    points = np.array([(5, 5, 2), (9, 9, 1), (0, 0, 0)], np.float64)
    script = [(x, y, 2) for x, y, v in points.tolist() if v]
    assert [v for *_, v in script] == [2, 2]  # hidden points become visible, and the third slot is gone
    for change in (t.mirrored(SIZE), t.moved(SIZE, degrees=20), t.cropped(SIZE, 6, 0, (40, 40))):
        found = moved(change, thing(1, SQUARE, keypoints=points))[1].keypoints
        assert found is not None
        assert found.shape == (3, 3)
        assert set(found[:, 2].tolist()) <= {0, 1, 2}
        assert found[1, 2] == 1


def test_5_a_vertex_that_leaves_shifts_no_others() -> None:
    rings, change = [SQUARE, TRIANGLE], t.cropped(SIZE, 10, 0, (40, 50))
    points = change.points(np.concatenate(rings))
    seen = points[((points >= 0) & (points < (50, 40))).all(1)]  # the library drops what it cannot show
    first, second = seen[:4], seen[4:]  # the script gives points back by the old counts
    assert len(first) == 4
    assert np.array_equal(first[2:], change.points(TRIANGLE)[:2])  # the square has the triangle's corners
    assert len(second) == 1
    ours = moved(change, *(thing(i, ring) for i, ring in enumerate(rings)))
    assert points_box(ours[0].polygons[0]) == (0, 4, 6, 14)
    assert np.array_equal(ours[1].polygons[0], change.points(TRIANGLE))


def test_6_an_object_that_leaves_shifts_no_categories() -> None:
    change, categories = t.cropped(SIZE, 25, 0, (40, 35)), {7: "arm", 8: "gear"}
    objects = [thing(7, SQUARE), thing(8, TRIANGLE)]
    kept = [box for box in (change.points(np.reshape(one.box, (2, 2))) for one in objects) if (box >= 0).all()]
    script = dict(zip(categories.values(), kept, strict=False))
    assert "arm" in script  # the gear, under the name of what is gone
    assert "gear" not in script
    ours = moved(change, *objects)
    assert {categories[id] for id in ours} == {"gear"}
    assert ours[8].box == (5, 8, 25, 30)


def test_7_all_parts_of_an_object_move() -> None:
    before = joint_annotations(1)[0]
    first = np.reshape(before["segmentation"][0], (-1, 2))  # the script's only one
    assert polygon_area(first.astype(float)) < before["area"]
    after = annotations_after(t.mirrored(SIZE))[10]
    assert len(after["segmentation"]) == len(before["segmentation"]) == 2
    assert after["area"] == before["area"]


def test_8_masks_stay_masks_and_crowds_crowds() -> None:
    painted, crowd = joint_annotations(1)[1:3]
    for one in (painted, crowd):
        with pytest.raises((KeyError, TypeError)):
            one["segmentation"][0]  # how the script reads an outline
    after = annotations_after(t.mirrored(SIZE))
    mask = joint_object(painted, CATEGORIES[1], SIZE, "x").rle
    again = joint_object(after[11], CATEGORIES[1], SIZE, "x").rle
    assert mask is not None
    assert again is not None
    assert np.array_equal(mask_of_rle(again), mask_of_rle(mask)[:, ::-1])  # with its hole
    assert [after[id]["iscrowd"] for id in (10, 11, 12)] == [0, 0, 1]  # the script: 0 always


def test_9_categories_keep_their_numbers() -> None:
    script = {name: number for number, name in enumerate(one["name"] for one in CATEGORIES)}
    assert script == {"arm": 0, "gear": 1}  # 0 is the background of whoever trains on it
    after = annotations_after(t.mirrored(SIZE))
    assert [one["category_id"] for one in after.values()] == [3, 8, 8, 8]


def test_10_a_box_has_four_numbers_however_often_it_moves() -> None:
    script: list[Any] = [4, 4, 12, 10]
    for _ in range(3):
        script = [*script, "arm"]  # the label that albumentations wants behind the numbers, once a transform
    assert len(script) == 7
    one = thing(1, SQUARE)
    for _ in range(3):
        one = moved(t.mirrored(SIZE), one)[1]
    assert one.box == (44, 4, 56, 14)


def test_11_the_entry_has_the_size_of_the_copy(tmp_path: Path) -> None:
    original = original_of(write_joint(tmp_path / "from"))
    assert (original.image["height"], original.image["width"]) == SIZE  # what the script's entries keep
    entry, annotations = make_copy(original, read_scene(original), tmp_path / "to", Recipe(flip=0, size=(20, 90)), 0, 0)
    assert (entry["height"], entry["width"]) == (20, 90)
    sizes = [one["segmentation"]["size"] for one in annotations if isinstance(one["segmentation"], dict)]
    assert sizes == [[20, 90], [20, 90]]


def test_12_left_and_right_change_places_in_a_mirror() -> None:
    points = np.array([(5, 5, 2), (6, 9, 2), (14, 9, 2)], np.float64)  # tip, left, right: left lies left
    script = np.abs(points - (WIDTH, 0, 0))
    assert script[1, 0] > script[2, 0]  # "left" lies right
    one = thing(1, SQUARE, keypoints=points, flip_pairs=((1, 2),))
    mirrored, turned = moved(t.mirrored(SIZE), one)[1].keypoints, moved(t.quarter_turned(SIZE, 2), one)[1].keypoints
    assert mirrored is not None
    assert turned is not None
    assert mirrored[1:, 0].tolist() == [46, 54]
    assert turned[1:, 0].tolist() == [54, 46]  # a turn is no mirror: the left hand stays the left hand


@pytest.mark.parametrize("name", ["images/12-a-b.png", "plain.jpg", "deep/er/x.y-z.jpeg"])
def test_13_any_file_name_will_do(name: str) -> None:
    script = name.split("-")[1:2]  # what Label Studio's prefix leaves, where there is one
    assert script != [name]
    assert named(name, 3).endswith(f"_aug0003{Path(name).suffix}")
    assert Path(named(name, 3)).parent == Path(name).parent


def test_14_a_recipe_is_read_and_never_run() -> None:
    text = "__import__('pathlib').Path('x')"
    assert eval(text) == Path("x")  # the script runs whatever its text file says
    with pytest.raises(ValueError, match="expected one of AdditiveNoise"):
        check_steps([{"name": text}])


def test_15_vertices_stay_on_their_own_mask() -> None:
    """albumentations mirrors keypoints about the centres of pixels, W - 1 - x, and masks about their edges, W - x."""
    mask = np.zeros(SIZE, bool)
    mask[4:14, 4:16] = True
    script = (WIDTH - 1 - SQUARE[:, 0]).min(), (WIDTH - 1 - SQUARE[:, 0]).max()
    assert script == (43, 55)
    assert np.flatnonzero(mask[:, ::-1].any(0))[[0, -1]].tolist() == [44, 55]  # edges at 44 and 56
    ours = moved(t.mirrored(SIZE), thing(1, SQUARE), JointObject(id=2, box=(0, 0, 1, 1), rle=rle_of_mask(mask)))
    assert ours[1].box == ours[2].box == (44, 4, 56, 14)


def test_16_an_image_without_objects_is_augmented_too() -> None:
    scene = Scene(np.zeros((*SIZE, 3), np.uint8))
    with pytest.raises(ValueError, match="need at least one array"):
        np.concatenate([one.polygons[0] for one in scene.objects])  # the script's list of all vertices
    assert moved(t.mirrored(SIZE), *scene.objects) == {}


def original_of(path: Path) -> Original:
    content = json.loads(path.read_text())
    image = content["images"][0]
    own = tuple(one for one in content["annotations"] if one["image_id"] == image["id"])
    return Original(path.parent, str(path), image, own, BY_ID, 100)
