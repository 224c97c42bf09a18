"""A tiny CamVid of 6 images, in the real folder structure: annotations.json, classes.json, images/, semantic/."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

HEIGHT, WIDTH = 24, 32
FRAMES = (  # split, sequence
    ("train", "0001TP"),
    ("train", "0006R0"),
    ("train", "0016E5"),
    ("train", "0016E5"),
    ("val", "0016E5"),
    ("test", "0001TP"),
)
CLASSES = (
    *("sky", "building", "pole", "road", "pavement", "tree"),
    *("sign_symbol", "fence", "car", "pedestrian", "bicyclist"),
)
THINGS = {"car": 8, "pedestrian": 9, "bicyclist": 10, "sign_symbol": 6}


def write_camvid(root: Path) -> Path:
    """Write it and answer its root: each frame has sky, road, unlabeled pixels, and a car of 8 x 6 px."""
    images, annotations = [], []
    for number, (split, sequence) in enumerate(FRAMES):
        stem = f"{sequence}_{number:06d}"
        left = 2 + 3 * number
        semantic = np.full((HEIGHT, WIDTH), 3, np.uint8)
        semantic[:10], semantic[-2:] = 0, 255
        semantic[12:18, left : left + 8] = 8
        rgb = np.stack([semantic * 20, semantic * 7, np.full_like(semantic, 90 + number)], axis=-1)
        for folder in (root / "images" / split, root / "semantic" / split):
            folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rgb).save(root / "images" / split / f"{stem}.jpg", quality=95)
        palette = Image.fromarray(semantic).convert("P")
        palette.putdata(semantic.ravel().tolist())
        palette.save(root / "semantic" / split / f"{stem}.png")
        images.append(
            {
                "id": number + 1,
                "file_name": f"images/{split}/{stem}.jpg",
                "sem_file_name": f"semantic/{split}/{stem}.png",
                "height": HEIGHT,
                "width": WIDTH,
                "sequence": sequence,
                "split": split,
            }
        )
        annotations.append(
            {
                "id": number + 1,
                "image_id": number + 1,
                "category_id": 1,
                "bbox": [left, 12, 8, 6],
                "area": 48,
                "iscrowd": 0,
            }
        )
    categories = [{"id": i, "name": n, "sem_id": s} for i, (n, s) in enumerate(THINGS.items(), start=1)]
    content: dict[str, Any] = {"images": images, "annotations": annotations, "categories": categories}
    (root / "annotations.json").write_text(json.dumps(content))
    listed = [{"id": i, "name": name, "isthing": name in THINGS} for i, name in enumerate(CLASSES)]
    (root / "classes.json").write_text(json.dumps({"ignore_id": 255, "classes": listed}))
    return root
