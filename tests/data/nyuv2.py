"""Tiny copies of NYU Depth V2 of 6 frames: the official file with its mapping and lists, and a folder."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

HEIGHT, WIDTH, COUNT = 12, 16, 6
NAMES = {"wall": 1, "armchair": 5, "door knob": 40, "floor": 2}  # labels of the file, from 1: NYU-40
SCENES = ("kitchen_0001", "kitchen_0001", "kitchen_0002", "office_0001", "office_0001", "kitchen_0001")
TRAIN, TEST = (1, 2, 3, 4), (5, 6)  # numbers from 1


def write_mat(root: Path) -> Path:
    """Write nyu_depth_v2_labeled.mat, classMapping40.mat and splits.mat, and answer their folder; skips without h5py.

    Each frame has wall above floor, no label in its first column, and two armchairs at [4, 2, 8, 8] and [8, 2, 12, 8];
    depth grows with the row, and its sensor saw nothing in the last row.
    """
    h5py = pytest.importorskip("h5py")
    root.mkdir(parents=True, exist_ok=True)
    labels, instances = label_maps()
    depth = np.repeat(1 + np.arange(HEIGHT, dtype=np.float32)[:, None] / 4, WIDTH, axis=1)
    raw = np.where(np.arange(HEIGHT)[:, None] < HEIGHT - 1, depth, 0).astype(np.float32)
    with h5py.File(root / "nyu_depth_v2_labeled.mat", "w", userblock_size=512) as file:
        file["images"] = np.stack([photo(i).transpose(2, 1, 0) for i in range(COUNT)])
        for name, one in {"labels": labels, "instances": instances, "depths": depth, "rawDepths": raw}.items():
            file[name] = np.stack([one.T] * COUNT)
        for name, texts in {"names": tuple(NAMES), "scenes": SCENES}.items():
            file[name] = np.array([[text(file, f"#refs#/{name}{i}", one) for i, one in enumerate(texts)]], object)
    mapping = {"mapClass": np.array([list(NAMES.values())], np.uint8), "allClassName": np.array(list(NAMES), object)}
    savemat(root / "classMapping40.mat", mapping)
    savemat(root / "splits.mat", {f"{k}Ndxs": np.array(v)[:, None] for k, v in (("train", TRAIN), ("test", TEST))})
    return root


def text(file: Any, name: str, letters: str) -> Any:
    """A reference to characters, as MATLAB keeps a cell of strings."""
    file[name] = np.array([[ord(letter)] for letter in letters], np.uint16)
    return file[name].ref


def photo(frame: int) -> Any:
    return np.random.default_rng(frame).integers(0, 255, (HEIGHT, WIDTH, 3), np.uint8)


def label_maps() -> tuple[Any, Any]:
    """Labels from 1, and numbers of instances within a label."""
    labels = np.full((HEIGHT, WIDTH), 1, np.uint16)
    labels[8:], labels[2:8, 4:12], labels[:, 0] = 4, 2, 0
    instances = (labels > 0).astype(np.uint8)
    instances[2:8, 8:12] = 2
    return labels, instances


def write_folder(root: Path) -> Path:
    """Write the folder form, and answer its root: the same scene; armchairs are chairs, of COCO's form."""
    labels = label_maps()[0]
    to13, to40 = np.array([255, 11, 3, 255, 4], np.uint8), np.array([255, 0, 4, 255, 1], np.uint8)
    images, annotations = [], []
    for index in range(COUNT):
        files = {
            key: f"{folder}/train/nyu_{index:04d}.{end}"
            for key, folder, end in (
                ("file_name", "images", "jpg"),
                ("sem_file_name", "semantic", "png"),
                ("sem40_file_name", "semantic40", "png"),
                ("depth_file_name", "depth", "png"),
            )
        }
        for name in files.values():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(photo(index)).save(root / files["file_name"])
        Image.fromarray(to13[labels]).save(root / files["sem_file_name"])
        Image.fromarray(to40[labels]).save(root / files["sem40_file_name"])
        Image.fromarray(np.full((HEIGHT, WIDTH), 51 * (index > 0), np.uint8)).save(root / files["depth_file_name"])
        images.append({"id": index, **files, "width": WIDTH, "height": HEIGHT, "split": "train", "nyu_index": index})
        for left in (4, 8):
            annotations.append({"id": 2 * index + left // 8, "image_id": index, "bbox": [left, 2, 4, 6]})
            annotations[-1] |= {"category_id": 2, "iscrowd": 0}
    categories = [{"id": 2, "name": "chair"}, {"id": 5, "name": "desk"}]
    content: dict[str, Any] = {"images": images, "annotations": annotations, "categories": categories}
    (root / "annotations.json").write_text(json.dumps(content))
    fine = {0: "wall", 1: "floor", 4: "chair", 13: "desk"}
    coarse = {3: "chair", 4: "floor", 9: "table", 11: "wall"}
    listed: dict[str, Any] = {"depth": {"metres": "value / 25.5"}}
    for key, names in (("classes", coarse), ("classes40", fine)):
        listed[key] = [{"id": id, "name": name} for id, name in names.items()]
    (root / "classes.json").write_text(json.dumps(listed))
    return root
