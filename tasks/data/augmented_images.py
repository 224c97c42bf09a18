"""One image of a combined COCO file and its augmented copies: files and entries.

A copy's entry says in ``augmentation`` what it was made from: the id of the original, the number of the copy, the
matrix that points went by (source xy to copy xy, continuous edges), and the objects that it lost, with the reason.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tasks.data.files import Place, read_bytes, write_bytes
from tasks.data.joint_coco import Annotation, annotation_of, joint_object
from tasks.data.samples import read_depth, read_image, read_semantic
from tasks.joint_augment import augment_scene
from tasks.joint_transform import Removed, Scene
from tasks.recipe import Recipe
from tasks.transform import Transform

FILES = ("file_name", "sem_file_name", "depth_file")  # keys of an image that name files
_JPEG = {"quality": 95, "subsampling": 0}  # as little as JPEG can lose


@dataclass(frozen=True)
class Original:
    """An image of a combined file with its annotations."""

    root: Place  # the folder that its names are relative to
    where: str  # the file that lists it, for errors
    image: Mapping[str, Any]
    annotations: tuple[Annotation, ...]
    categories: Mapping[int, Mapping[str, Any]]  # by id
    first_id: int | None  # of its copies; None = ids are texts

    def name_of(self, copy: int, key: str = "file_name") -> str:
        """Where a copy's file is: ``a/b.jpg`` becomes ``a/b_aug0003.jpg``."""
        path = PurePosixPath(self.image[key])
        return str(path.with_name(f"{path.stem}_aug{copy:04d}{path.suffix}"))

    def id_of(self, copy: int) -> int | str:
        """The id of a copy."""
        return f"{self.image['id']}_aug{copy:04d}" if self.first_id is None else self.first_id + copy


def check_names(original: Original) -> None:
    """ValueError where a file of an image lies outside of its folder, or could not be written again."""
    for key in FILES:
        name = original.image.get(key)
        if not name:
            continue
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts or "://" in name:
            raise ValueError(
                f"{original.where}: the {key} {name} leads out of the folder; expected a path below it: move the file"
            )
        known = {"file_name": (".jpg", ".jpeg", ".png"), "sem_file_name": (".png",), "depth_file": (".npy",)}[key]
        if path.suffix.lower() not in known:
            raise ValueError(
                f"{original.where}: the {key} {name} is of a kind that copies cannot have; expected "
                f"{', '.join(known)}: convert the file"
            )


def take_over(original: Original, folder: Place) -> None:
    """Copy the files of an original, byte for byte; one that is there stays."""
    for key in FILES:
        name = original.image.get(key)
        if name and not (folder / name).is_file():
            write_bytes(name, folder, read_bytes(name, original.root))


def read_scene(original: Original) -> Scene:
    """The image with all its labels; ValueError or OSError name the file or the annotation that cannot be used."""
    image = original.image
    size = image["height"], image["width"]
    pixels = read_image(image["file_name"], original.root)
    semantic = image.get("sem_file_name") and read_semantic(image["sem_file_name"], original.root)
    depth = image.get("depth_file") and read_depth(image["depth_file"], original.root)
    for key, found in zip(FILES, (pixels, semantic, depth), strict=True):
        if isinstance(found, np.ndarray) and found.shape[:2] != size:
            raise ValueError(
                f"{image[key]}: is {found.shape[0]} x {found.shape[1]} px (H x W); expected {size[0]} x {size[1]}, the "
                "size its image is listed with: correct the file or the list"
            )
    objects = tuple(
        joint_object(one, original.categories[one["category_id"]], size, original.where) for one in original.annotations
    )
    if len({one.id for one in objects}) < len(objects):
        raise ValueError(f"{original.where}: image {image['id']} has two annotations of one id; expected one each")
    return Scene(pixels, objects, semantic if semantic is not None else None, depth if depth is not None else None)


def make_copy(
    original: Original, scene: Scene, folder: Place, recipe: Recipe, seed: int, copy: int
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Write the files of a copy; its entry and its annotations. A pure function of (seed, file name, copy)."""
    changed, transform, removed = augment_scene(scene, recipe, seed, original.image["file_name"], copy)
    files = {"file_name": _picture(changed.image, original.image["file_name"])}
    if changed.semantic is not None:
        files["sem_file_name"] = _encoded(changed.semantic, "PNG")
    if changed.depth is not None:
        files["depth_file"] = _array(changed.depth)
    for key, data in files.items():
        write_bytes(original.name_of(copy, key), folder, data)
    before = {one["id"]: one for one in original.annotations}
    annotations = [annotation_of(one, before[one.id], transform) for one in changed.objects]
    for one in annotations:
        one["image_id"] = original.id_of(copy)
    return _entry(original, copy, transform, removed, tuple(files)), annotations


def _entry(
    original: Original, copy: int, transform: Transform, removed: list[Removed], files: tuple[str, ...]
) -> dict[str, Any]:
    height, width = transform.target
    return {
        **original.image,
        **{key: original.name_of(copy, key) for key in files},
        "id": original.id_of(copy),
        "height": height,
        "width": width,
        "augmentation": {
            "of": original.image["id"],
            "copy": copy,
            "matrix": transform.matrix.tolist(),
            "removed": [{"id": one.id, "reason": one.reason, "visible": round(one.visible, 6)} for one in removed],
        },
    }


def _picture(pixels: NDArray[np.uint8], name: str) -> bytes:
    return _encoded(pixels, "PNG") if name.lower().endswith(".png") else _encoded(pixels, "JPEG", **_JPEG)


def _encoded(pixels: NDArray[np.uint8], kind: str, **options: Any) -> bytes:
    data = BytesIO()
    Image.fromarray(pixels).save(data, kind, **options)
    return data.getvalue()


def _array(values: NDArray[np.float32]) -> bytes:
    data = BytesIO()
    np.save(data, values, allow_pickle=False)
    return data.getvalue()
