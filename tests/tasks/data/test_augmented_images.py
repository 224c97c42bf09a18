"""One image and its copies: files and entries, exactly."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tasks.data.augmented_images import Original, check_names, make_copy, read_scene, take_over
from tasks.data.combined import CombinedFile
from tasks.recipe import Recipe
from tests.data.joint import CATEGORIES, write_joint


def original(root: Path, kind: str = "png", **changes: Any) -> Original:
    path = write_joint(root, kind)
    image, annotations = next(iter(CombinedFile(path)))
    categories = {int(str(one["id"])): one for one in CATEGORIES}
    return Original(root, str(path), {**image, **changes}, tuple(annotations), categories, 100)


def pixels(path: Path) -> np.ndarray[Any, Any]:
    return np.asarray(Image.open(path))


def test_a_mirrored_copy_is_exact_in_all_its_files(tmp_path: Path) -> None:
    one, made = original(tmp_path / "from"), tmp_path / "to"
    entry, annotations = make_copy(one, read_scene(one), made, Recipe(flip=1.0), 0, 7)
    names = [entry[key] for key in ("file_name", "sem_file_name", "depth_file")]
    assert names == ["images/001_aug0007.png", "semantic/001_aug0007.png", "depth/001_aug0007.npy"]
    for before, after in zip(("images/001.png", "semantic/001.png"), names[:2], strict=True):
        assert np.array_equal(pixels(made / after), pixels(one.root / before)[:, ::-1])
    assert np.array_equal(np.load(made / names[2]), np.load(one.root / "depth/001.npy")[:, ::-1])
    assert (entry["id"], entry["licence"], entry["split"], entry["scene"]) == (107, 4, "train", "s0")
    told = entry["augmentation"]
    assert (told["of"], told["copy"], told["removed"]) == (1, 7, [])
    assert told["matrix"] == [[-1, 0, 60], [0, 1, 0], [0, 0, 1]]
    assert {one["image_id"] for one in annotations} == {107}


def test_what_is_lost_is_told_by_id(tmp_path: Path) -> None:
    one = original(tmp_path / "from")
    entry, annotations = make_copy(one, read_scene(one), tmp_path / "to", Recipe(flip=0, crop=(0.3, 0.3)), 1, 0)
    lost = {told["id"] for told in entry["augmentation"]["removed"]}
    assert lost
    assert sorted(lost | {a["augmented_from"] for a in annotations}) == [10, 11, 12, 13]
    assert (entry["height"], entry["width"]) == (12, 18)
    assert all(told["reason"] == "outside" or told["visible"] > 0 for told in entry["augmentation"]["removed"])


def test_files_are_taken_over_byte_for_byte_and_never_overwritten(tmp_path: Path) -> None:
    one, made = original(tmp_path / "from", "jpg"), tmp_path / "to"
    take_over(one, made)
    assert (made / "images/001.jpg").read_bytes() == (one.root / "images/001.jpg").read_bytes()
    (made / "images/001.jpg").write_bytes(b"other")
    take_over(one, made)
    assert (made / "images/001.jpg").read_bytes() == b"other"


def test_a_jpeg_copy_is_a_jpeg(tmp_path: Path) -> None:
    one = original(tmp_path / "from", "jpg")
    entry, _ = make_copy(one, read_scene(one), tmp_path / "to", Recipe(flip=0), 0, 0)
    with Image.open(tmp_path / "to" / entry["file_name"]) as image:
        assert image.format == "JPEG"


def test_an_image_without_maps_or_numbers_is_fine(tmp_path: Path) -> None:
    one = original(tmp_path / "from")
    bare = {key: value for key, value in one.image.items() if key not in ("sem_file_name", "depth_file")}
    texts = replace(one, image={**bare, "id": "abc"}, annotations=(), first_id=None)
    entry, annotations = make_copy(texts, read_scene(texts), tmp_path / "to", Recipe(), 0, 2)
    assert (entry["id"], annotations) == ("abc_aug0002", [])
    assert sorted(p.name for p in (tmp_path / "to").rglob("*.*")) == ["001_aug0002.png"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"file_name": "../x.png"}, "the file_name ../x.png leads out of the folder"),
        ({"file_name": "/x.png"}, "leads out of the folder"),
        ({"file_name": "a.tif"}, "a.tif is of a kind that copies cannot have; expected .jpg, .jpeg, .png"),
        ({"depth_file": "d.png"}, r"the depth_file d.png is of a kind .* expected .npy"),
    ],
)
def test_names_that_cannot_be_copied_are_told(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_names(original(tmp_path, **change))


def test_files_of_another_size_are_told(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"images/001.png: is 40 x 60 px \(H x W\); expected 41 x 60"):
        read_scene(original(tmp_path, height=41))
    one = original(tmp_path)
    Image.fromarray(np.zeros((5, 5), np.uint8)).save(tmp_path / "semantic/001.png")
    with pytest.raises(ValueError, match=r"semantic/001.png: is 5 x 5 px"):
        read_scene(one)
