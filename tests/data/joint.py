"""A tiny combined COCO data set: polygons in parts, run-length masks of both forms, a crowd, keypoints, maps, a box."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tasks.geometry import rle_of_mask, run_lengths

HEIGHT, WIDTH = 40, 60
SPLITS = ("train", "train", "train", "val")
CATEGORIES = [
    {"id": 3, "name": "arm", "keypoints": ["tip", "left", "right"], "skeleton": [], "flip_pairs": [[1, 2]]},
    {"id": 8, "name": "gear"},
]


def joint_annotations(image_id: int) -> list[dict[str, Any]]:
    """An object of each form, in image ``image_id``."""
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[20:32, 30:50] = True
    mask[24:28, 36:44] = False  # a hole
    counts: Any = rle_of_mask(mask)["counts"]
    crowd = np.zeros((HEIGHT, WIDTH), bool)
    crowd[:6, :30] = True
    runs: Any = rle_of_mask(crowd)["counts"]
    parts = [[5, 8, 15, 8, 15, 18, 5, 18], [18.5, 8, 22, 8, 22, 14.25]]
    forms = [
        {"category_id": 3, "segmentation": parts, "bbox": [5, 8, 17, 10], "area": 110.9375, "iscrowd": 0,
         "keypoints": [6, 9, 2, 14, 9, 1, 0, 0, 0], "num_keypoints": 2, "source": "human", "ls_box": [4, 7, 19, 12]},
        {"category_id": 8, "segmentation": {"size": [HEIGHT, WIDTH], "counts": counts.decode()},
         "bbox": [30, 20, 20, 12], "area": 208, "iscrowd": 0},
        {"category_id": 8, "segmentation": {"size": [HEIGHT, WIDTH], "counts": run_lengths(runs)},
         "bbox": [0, 0, 30, 6], "area": 180, "iscrowd": 1},
        {"category_id": 8, "segmentation": [], "bbox": [40, 3, 12, 10], "area": 120, "iscrowd": 0, "note": "kept"},
    ]  # fmt: skip
    return [{"id": 10 * image_id + i, "image_id": image_id, **form} for i, form in enumerate(forms)]


def write_joint(root: Path, kind: str = "png", splits: tuple[str | None, ...] = SPLITS) -> Path:
    """Write it and answer its annotations.json; ``splits`` with None = images without one."""
    rng, images, annotations = np.random.default_rng(0), [], []
    for folder in ("images", "semantic", "depth"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    for number, split in enumerate(splits, 1):
        stem = f"{number:03d}"
        pixels = rng.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(root / "images" / f"{stem}.{kind}", quality=95)
        Image.fromarray(rng.integers(0, 3, (HEIGHT, WIDTH), dtype=np.uint8)).save(root / "semantic" / f"{stem}.png")
        np.save(root / "depth" / f"{stem}.npy", rng.random((HEIGHT, WIDTH), np.float32) + 1)
        images.append(
            {"id": number, "file_name": f"images/{stem}.{kind}", "height": HEIGHT, "width": WIDTH, "licence": 4,
             "scene": f"s{number // 2}", "sem_file_name": f"semantic/{stem}.png", "depth_file": f"depth/{stem}.npy",
             **({} if split is None else {"split": split})}
        )  # fmt: skip
        annotations += joint_annotations(number)
    classes = [{"id": i, "name": name} for i, name in enumerate(("floor", "gear", "wall"))]
    (root / "classes.json").write_text(json.dumps({"classes": classes}))
    path = root / "annotations.json"
    content = {"info": {"version": "1"}, "images": images, "annotations": annotations, "categories": CATEGORIES}
    path.write_text(json.dumps(content))
    return path
