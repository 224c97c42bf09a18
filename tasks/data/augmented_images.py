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

from tasks.data.decoding import read_depth, read_image, read_semantic
from tasks.data.files import Place, read_bytes, write_bytes
from tasks.data.joint_coco import Annotation, annotation_of, joint_object
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
    images: str = ""  # the folder below the root that file_name is relative to
    semantic: str = ""  # the folder of semantic maps named as the images; "" = sem_file_name, where there is one

    @property
    def files(self) -> dict[str, str]:
        """Its files by the key of the image that names them, relative to the root."""
        found = {key: str(self.image[key]) for key in FILES if self.image.get(key)}
        if self.semantic:
            found["sem_file_name"] = f"{self.semantic}/{PurePosixPath(found['file_name']).with_suffix('.png')}"
        return {**found, "file_name": f"{self.images}/{found['file_name']}" if self.images else found["file_name"]}

    def name_of(self, copy: int, key: str = "file_name") -> str:
        """What the entry of a copy calls its file."""
        return named(self.image[key], copy)

    def id_of(self, copy: int) -> int | str:
        """The id of a copy."""
        return f"{self.image['id']}_aug{copy:04d}" if self.first_id is None else self.first_id + copy


def named(path: str, copy: int) -> str:
    """Where the file of a copy is: ``a/b.jpg`` becomes ``a/b_aug0003.jpg``."""
    name = PurePosixPath(path)
    return str(name.with_name(f"{name.stem}_aug{copy:04d}{name.suffix}"))


def check_names(original: Original) -> None:
    """ValueError where a file of an image lies outside of its folder, or could not be written again."""
    for key, name in original.files.items():
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
    for name in original.files.values():
        if not (folder / name).is_file():
            write_bytes(name, folder, read_bytes(name, original.root))


def read_scene(original: Original) -> Scene:
    """The image with all its labels; ValueError or OSError name the file or the annotation that cannot be used."""
    image, files = original.image, original.files
    size = image["height"], image["width"]
    pixels = read_image(files["file_name"], original.root)
    semantic = read_semantic(files["sem_file_name"], original.root) if "sem_file_name" in files else None
    depth = read_depth(files["depth_file"], original.root) if "depth_file" in files else None
    for key, found in zip(FILES, (pixels, semantic, depth), strict=True):
        if found is not None and found.shape[:2] != size:
            raise ValueError(
                f"{files[key]}: is {found.shape[0]} x {found.shape[1]} px (H x W); expected {size[0]} x {size[1]}, the "
                "size its image is listed with: correct the file or the list"
            )
    objects = tuple(
        joint_object(one, original.categories[one["category_id"]], size, original.where) for one in original.annotations
    )
    if len({one.id for one in objects}) < len(objects):
        raise ValueError(f"{original.where}: image {image['id']} has two annotations of one id; expected one each")
    return Scene(pixels, objects, semantic, depth)


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
        write_bytes(named(original.files[key], copy), folder, data)
    before = {one["id"]: one for one in original.annotations}
    annotations = [annotation_of(one, before[one.id], transform) for one in changed.objects]
    for one in annotations:
        one["image_id"] = original.id_of(copy)
    return _entry(original, copy, transform, removed), annotations


def _entry(original: Original, copy: int, transform: Transform, removed: list[Removed]) -> dict[str, Any]:
    height, width = transform.target
    return {
        **original.image,
        **{key: original.name_of(copy, key) for key in FILES if original.image.get(key)},
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
