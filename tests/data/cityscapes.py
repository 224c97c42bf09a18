"""A tiny Cityscapes of 6 images, in the real folder structure: leftImg8bit, gtFine, disparity, camera."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

HEIGHT, WIDTH = 24, 48
FRAMES = (  # folder, city, sequence
    ("train", "aachen", 0),
    ("train", "aachen", 1),
    ("train", "bochum", 0),
    ("val", "munster", 0),
    ("val", "munster", 1),
    ("test", "berlin", 0),
)
ROAD, POLE, SIGN, SKY, PERSON, CAR, CARAVAN = 7, 17, 20, 23, 24, 26, 29  # ids
BASELINE, FX = 0.2, 2000.0  # metres, px


def write_cityscapes(root: Path) -> Path:
    """Write it and answer its root.

    Each frame has sky above road, a row that is out of roi, two persons at [4, 10, 8, 18] and [8, 10, 12, 18], a group
    of cars at [20, 12, 30, 16], a caravan at [32, 12, 40, 18], and a sign at [14, 2, 20, 6] whose last two columns are
    behind a pole. Labels of test are as they are given out: everything is out of roi.
    """
    for folder, city, sequence in FRAMES:
        stem = f"{city}_{sequence:06d}_000019"
        for name in ("leftImg8bit", "gtFine", "disparity", "camera"):
            (root / name / folder / city).mkdir(parents=True, exist_ok=True)
        rgb = np.random.default_rng(sequence).integers(0, 255, (HEIGHT, WIDTH, 3), np.uint8)
        Image.fromarray(rgb).save(root / "leftImg8bit" / folder / city / f"{stem}_leftImg8bit.png")
        ids = instance_ids() if folder != "test" else np.full((HEIGHT, WIDTH), 3, np.uint16)
        labels = np.where(ids >= 1000, ids // 1000, ids).astype(np.uint8)
        start = root / "gtFine" / folder / city / f"{stem}_gtFine"
        Image.fromarray(ids).save(f"{start}_instanceIds.png")
        Image.fromarray(labels).save(f"{start}_labelIds.png")
        Path(f"{start}_polygons.json").write_text(json.dumps(polygons()))
        Image.fromarray(disparity()).save(root / "disparity" / folder / city / f"{stem}_disparity.png")
        camera = {"extrinsic": {"baseline": BASELINE}, "intrinsic": {"fx": FX}}
        (root / "camera" / folder / city / f"{stem}_camera.json").write_text(json.dumps(camera))
    return root


def instance_ids() -> Any:
    ids = np.full((HEIGHT, WIDTH), ROAD, np.uint16)
    ids[:10], ids[-1] = SKY, 3
    ids[2:6, 14:20], ids[0:8, 18:20] = SIGN, POLE
    ids[10:18, 4:8], ids[10:18, 8:12] = PERSON * 1000, PERSON * 1000 + 1
    ids[12:16, 20:30], ids[12:18, 32:40] = CAR, CARAVAN * 1000
    return ids


def polygons() -> dict[str, Any]:
    """Corners are pixels that are drawn themselves."""
    shapes = {
        "sky": (-2, 0, 49, 9),
        "road": (0, 10, 48, 22),
        "traffic sign": (14, 2, 19, 5),
        "pole": (18, 0, 19, 7),
        "license plate": (14, 2, 15, 3),  # is not drawn
        "cargroup": (20, 12, 29, 15),
    }
    objects = [
        {"label": label, "polygon": [[x1, y1], [x2, y1], [x2, y2], [x1, y2]]}
        for label, (x1, y1, x2, y2) in shapes.items()
    ]
    return {"imgHeight": HEIGHT, "imgWidth": WIDTH, "objects": objects}


def disparity() -> Any:
    """40 px (10 m) in all rows, but for: no value, 0 px, 1 px (400 m) and 2 px (200 m) in the first ones."""
    values = np.full((HEIGHT, WIDTH), 40 * 256 + 1, np.uint16)
    values[0], values[1], values[2], values[3] = 0, 1, 257, 513
    return values
