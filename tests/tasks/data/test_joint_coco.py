"""Annotations go into joint objects and come back in their form, with all that they held."""

from typing import Any

import pytest

from tasks.data.joint_coco import annotation_of, joint_object
from tasks.joint_transform import Limits, transform_objects
from tasks.resampling import Resampling
from tasks.transform import Transform, identity, mirrored
from tests.data.joint import CATEGORIES, HEIGHT, WIDTH, joint_annotations

SIZE = (HEIGHT, WIDTH)
BY_ID = {one["id"]: one for one in CATEGORIES}


def moved(transform: Transform, given: list[dict[str, Any]] | None = None) -> list[dict[str, Any]]:
    before = given or joint_annotations(1)
    objects = [joint_object(one, BY_ID[one["category_id"]], SIZE, "x.json") for one in before]
    after, removed = transform_objects(objects, transform, Resampling(transform), Limits())
    assert removed == []
    known = {one["id"]: one for one in before}
    return [annotation_of(one, known[one.id], transform) for one in after]


def test_nothing_changes_when_nothing_moves() -> None:
    for before, after in zip(joint_annotations(1), moved(identity(SIZE)), strict=True):
        assert after.pop("augmented_from") == before["id"]
        assert after == before


def test_a_mirror_moves_all_of_it_and_twice_gives_it_back() -> None:
    once = moved(mirrored(SIZE))
    parts, painted, crowd, boxed = once
    assert parts["segmentation"] == [[55, 8, 45, 8, 45, 18, 55, 18], [41.5, 8, 38, 8, 38, 14.25]]
    assert parts["keypoints"] == [54, 9, 2, 0, 0, 0, 46, 9, 1]  # left and right change places
    assert (parts["bbox"], parts["area"], parts["num_keypoints"]) == ([38, 8, 17, 10], 110.9375, 2)
    assert parts["ls_box"] == [37, 7, 19, 12]
    assert isinstance(painted["segmentation"]["counts"], str)
    assert isinstance(crowd["segmentation"]["counts"], list)
    assert crowd["iscrowd"] == 1
    assert (boxed["bbox"], boxed["segmentation"], boxed["note"]) == ([8, 3, 12, 10], [], "kept")
    for before, again in zip(joint_annotations(1), moved(mirrored(SIZE), once), strict=True):
        again.pop("augmented_from")
        assert again == before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"bbox": [1, 2, 3]}, r"x.json: annotation 10: has the bbox \[1, 2, 3\]; expected x, y and a width"),
        ({"bbox": [1, 2, 0, 3]}, "expected x, y and a width and height above 0"),
        ({"bbox": [1, 2, None, 3]}, "expected x, y"),
        ({"segmentation": [[1, 2, 3, 4]]}, "annotation 10: a polygon has the 4 values .*: correct the mask"),
        ({"segmentation": [["a"] * 6]}, "annotation 10: .*: correct the mask"),
        ({"segmentation": {"size": [4, 4], "counts": [16]}}, "is of 4 x 4 px; expected the image's 40 x 60"),
        ({"keypoints": [1, 2, 2]}, "expected 3 times x, y, v, as its category 'arm' lists them"),
        ({"keypoints": "none"}, "has the keypoints none"),
    ],
)
def test_bad_annotations_are_named(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        joint_object({**joint_annotations(1)[0], **change}, CATEGORIES[0], SIZE, "x.json")
