"""A tiny COCO 2017 of 6 images, in the real folder structure: images by split, instances and panoptic annotations."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from pycocotools import mask as coco_mask

HEIGHT, WIDTH = 20, 30
SPLITS = {"train": 4, "val": 2}
CATEGORIES = [
    {
        "id": 1,
        "name": "person",
        "supercategory": "person",
        "isthing": 1,
        "keypoints": ["nose", "left_eye", "right_eye"],
        "skeleton": [[1, 2], [1, 3]],
    },
    {"id": 3, "name": "car", "supercategory": "vehicle", "isthing": 1},
    {"id": 8, "name": "truck", "supercategory": "vehicle", "isthing": 1},
    {"id": 149, "name": "road", "supercategory": "ground", "isthing": 0},
]


def write_coco(root: Path) -> Path:
    """Write it and answer its root.

    Each image has a person (polygon, keypoints) at [2, 3, 8, 13], a car (compressed RLE) at [12, 5, 20, 11], a crowd of
    trucks (uncompressed RLE) at [22, 0, 26, 4], and road below row 15; the panoptic PNG has the same segments.
    """
    number = 0
    for split, count in SPLITS.items():
        images: list[Any] = []
        annotations: list[Any] = []
        panoptic: list[Any] = []
        for folder in (root / f"{split}2017", root / "annotations" / f"panoptic_{split}2017"):
            folder.mkdir(parents=True, exist_ok=True)
        for _ in range(count):
            number += 1
            stem = f"{number:012d}"
            images.append({"id": number, "file_name": f"{stem}.jpg", "height": HEIGHT, "width": WIDTH})
            annotations += _annotations(number)
            panoptic.append({"image_id": number, "file_name": f"{stem}.png", "segments_info": _segments()})
            rgb = np.random.default_rng(number).integers(0, 255, (HEIGHT, WIDTH, 3), np.uint8)
            Image.fromarray(rgb).save(root / f"{split}2017" / f"{stem}.jpg", quality=95)
            Image.fromarray(_panoptic_png()).save(root / "annotations" / f"panoptic_{split}2017" / f"{stem}.png")
        things = [{k: v for k, v in one.items() if k != "isthing"} for one in CATEGORIES[:3]]
        for name, entries, categories in [("instances", annotations, things), ("panoptic", panoptic, CATEGORIES)]:
            content = {"images": images, "annotations": entries, "categories": categories}
            (root / "annotations" / f"{name}_{split}2017.json").write_text(json.dumps(content))
    return root


def _annotations(image: int) -> list[dict[str, Any]]:
    car = np.zeros((HEIGHT, WIDTH), np.uint8, order="F")
    car[5:11, 12:20] = 1
    rle = coco_mask.encode(car)
    trucks = np.zeros((HEIGHT, WIDTH), np.uint8)
    trucks[:4, 22:26] = 1
    person = {"bbox": [2, 3, 6, 10], "segmentation": [[2, 3, 8, 3, 8, 13, 2, 13]], "category_id": 1, "iscrowd": 0}
    person |= {"keypoints": [5, 4, 2, 6, 4, 1, 0, 0, 0], "num_keypoints": 2}
    return [
        {"id": 10 * image, "image_id": image, **person},
        {
            "id": 10 * image + 1,
            "image_id": image,
            "bbox": [12, 5, 8, 6],
            "segmentation": {"size": [HEIGHT, WIDTH], "counts": rle["counts"].decode()},
            "category_id": 3,
            "iscrowd": 0,
        },
        {
            "id": 10 * image + 2,
            "image_id": image,
            "bbox": [22, 0, 4, 4],
            "segmentation": {"size": [HEIGHT, WIDTH], "counts": _runs(trucks)},
            "category_id": 8,
            "iscrowd": 1,
        },
    ]


def _runs(mask: Any) -> list[int]:
    """Column-major runs, zeros first."""
    flat = mask.T.ravel()
    edges = np.flatnonzero(np.diff(flat)) + 1
    return np.diff([0, *([0] if flat[0] else []), *edges, flat.size]).tolist()


def _segments() -> list[dict[str, Any]]:
    ids = {1: 1000, 3: 70000, 8: 256, 149: 7}
    return [{"id": ids[c], "category_id": c, "iscrowd": int(c == 8)} for c in ids]


def _panoptic_png() -> Any:
    ids = np.zeros((HEIGHT, WIDTH), np.int64)
    ids[15:] = 7
    ids[3:13, 2:8], ids[5:11, 12:20], ids[:4, 22:26] = 1000, 70000, 256
    return np.stack([ids % 256, ids // 256 % 256, ids // 65536], axis=-1).astype(np.uint8)
