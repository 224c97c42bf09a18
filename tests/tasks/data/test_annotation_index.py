"""A COCO file is read an image at a time, in its own order, and never held as a whole."""

import json
import random
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tasks.data import json_lists
from tasks.data.annotation_index import AnnotationIndex, check_entries
from tasks.data.coco import Coco, index_of
from tests.tasks.data.changed import put


def content(images: int = 5) -> dict[str, Any]:
    """Ids of every kind; image i has i annotations, which stand mixed."""
    ids = [7, "x1", "7", -3, 1 << 80, *range(100, 95 + images)][:images]
    annotations = [{"id": 10 * i + j, "image_id": id, "n": "ü" * j} for i, id in enumerate(ids) for j in range(i)]
    random.Random(0).shuffle(annotations)
    return {"annotations": annotations, "info": {"a": 1}, "images": [{"id": id, "n": i} for i, id in enumerate(ids)]}


def unchecked(name: str, number: int, entry: dict[str, Any]) -> None:
    assert entry["image_id" if name == "annotations" else "id"] is not None


def written(path: Path, value: Any) -> Path:
    path.write_text(json.dumps(value, ensure_ascii=False), encoding="utf-8")
    return path


def test_every_image_with_its_annotations_in_the_order_of_the_file(tmp_path: Path) -> None:
    value = content(9)
    index = AnnotationIndex(written(tmp_path / "a.json", value), unchecked)
    assert (index.images, index.annotations, index.head) == (9, 36, {"info": {"a": 1}})
    found = list(index)
    assert [image for image, _ in found] == value["images"]
    for image, annotations in found:
        assert annotations == [one for one in value["annotations"] if one["image_id"] == image["id"]]
        assert index.of(image["id"]) == annotations
    assert index.of("nobody") == []


def test_empty_lists_are_lists(tmp_path: Path) -> None:
    index = AnnotationIndex(written(tmp_path / "a.json", {"images": [], "annotations": []}), unchecked)
    assert (list(index), index.of(1)) == ([], [])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda c: c.pop("images"), r"a.json: has the keys info, annotations; expected 'images' \(list\)"),
        (put("annotations", 3), r"a.json: 'annotations' is '3'; expected list"),
        (put("images", 1, "id", "x2"), r"annotations\[\d\]: annotation 10 is of image 'x1'; expected the id of one of"),
        (put("images", 2, "id", 7), r"images\[2\] has the id of an image before it; expected one id each"),
        (put("images", 2, 5), r"images\[2\]: has 5; expected 'id' \(int or str\)"),
        (put("images", 2, "id", True), r"images\[2\]: 'id' is 'True'; expected int or str"),
        (put("annotations", 0, "image_id", None), r"annotations\[0\]: 'image_id' is 'None'; expected int or str"),
        (put("images", []), r"annotations\[\d\]: annotation \d+ is of image"),
    ],
)
def test_what_is_wrong_is_told(tmp_path: Path, change: Callable[[dict[str, Any]], None], words: str) -> None:
    value = content()
    change(value)
    with pytest.raises(ValueError, match=words):
        AnnotationIndex(written(tmp_path / "a.json", value), unchecked)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"keypoints": 5}, r"'keypoints' is '5'; expected list or NoneType"),
        ({"keypoints": ["a", 5]}, r"has the keypoints .*; expected a list of names"),
        ({"keypoints": ["a"], "flip_pairs": [[0, 1]]}, r"has the flip_pairs .*; expected pairs of places"),
        ({"flip_pairs": 5}, r"'flip_pairs' is '5'; expected list"),
        ({"name": 5}, r"categories\[0\]: 'name' is '5'; expected str"),
    ],
)
def test_categories_that_are_wrong_are_told(fields: dict[str, Any], words: str) -> None:
    assert check_entries({"categories": [{"id": 1, "name": "a"}]}, "a.json") == [{"id": 1, "name": "a"}]
    with pytest.raises(ValueError, match=words):
        check_entries({"categories": [{"id": 1, "name": "a", **fields}]}, "a.json")


@pytest.mark.slow
@pytest.mark.parametrize("is_sorted", [True, False])
def test_a_large_file_does_not_fill_the_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_sorted: bool
) -> None:
    """What is held for an annotation is 20 bytes, not its polygon; as large again while the file is read."""
    monkeypatch.setattr(json_lists, "_BLOCK", 1 << 13)
    count = 600
    polygon = [[round(0.37 * i % 90, 2) for i in range(60)]]
    images = [{"id": i, "file_name": f"{i}.jpg", "height": 100, "width": 100} for i in range(count)]
    annotations = [
        {"id": i, "image_id": i // 4, "category_id": 1, "bbox": [1, 2, 3, 4], "segmentation": polygon}
        for i in range(4 * count)
    ]
    if not is_sorted:
        random.Random(1).shuffle(annotations)
    value = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "a"}]}
    path = written(tmp_path / "annotations.json", value)
    del value, images, annotations
    index_of(path)  # what is loaded once does not count
    tracemalloc.start()
    records = sum(len(one.objects or ()) for one in Coco(str(tmp_path), splits={"train": "train"}).records(tmp_path))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert records == 4 * count
    assert path.stat().st_size > 1_000_000
    assert peak < 100_000 + 60 * 5 * count  # some blocks of the file, and the index
