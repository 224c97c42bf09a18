"""A tiny nuImages of 4 key frames in the real form: ten tables a version, images under samples/ and sweeps/."""

import json
from base64 import b64encode
from hashlib import md5
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tasks.data.nuimages import OBJECTS
from tasks.geometry import rle_of_mask

HEIGHT, WIDTH = 24, 32
CATEGORIES = (*OBJECTS, "animal", "static_object.bicycle_rack", "flat.driveable_surface", "vehicle.ego")
FRAMES = (  # version, drive, camera; each has a sweep before it
    ("v1.0-train", "drive-a", "CAM_FRONT"),
    ("v1.0-train", "drive-b", "CAM_FRONT"),
    ("v1.0-train", "drive-b", "CAM_BACK"),
    ("v1.0-val", "drive-c", "CAM_FRONT"),
)
Tables = dict[str, list[dict[str, Any]]]


def token_of(*parts: object) -> str:
    """32 hex digits, as the tables have them."""
    return md5(repr(parts).encode(), usedforsecurity=False).hexdigest()


def mask_of(top: int, left: int, bottom: int, right: int) -> dict[str, Any]:
    """A rectangle as nuImages stores masks: base64 of COCO's compressed RLE."""
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[top:bottom, left:right] = 1
    counts = rle_of_mask(mask)["counts"]
    assert isinstance(counts, bytes)
    return {"size": [HEIGHT, WIDTH], "counts": b64encode(counts).decode()}


def write_nuimages(root: Path) -> Path:
    """Write it and answer its root.

    Each frame has road in its lower half, the ego car below, a car of 8 x 6 px (token "f..."), a rider before it
    (token "0...": painted earlier), an animal, and a cone without a mask.
    """
    for version in ("v1.0-train", "v1.0-val"):
        tables: Tables = {name: [] for name in ("attribute", "ego_pose", "sample", "sample_data")}
        tables |= {"object_ann": [], "surface_ann": []}
        tables["category"] = [{"token": token_of(name), "name": name, "description": ""} for name in CATEGORIES]
        cameras = ("CAM_FRONT", "CAM_BACK")
        tables["sensor"] = [{"token": token_of(name), "channel": name, "modality": "camera"} for name in cameras]
        tables["calibrated_sensor"] = [
            {"token": token_of("on car", name), "sensor_token": token_of(name)} for name in cameras
        ]
        drives = dict.fromkeys(drive for of, drive, _ in FRAMES if of == version)
        tables["log"] = [{"token": token_of(drive), "logfile": drive, "location": "x"} for drive in drives]
        for number, (of, drive, camera) in enumerate(FRAMES):
            if of == version:
                _frame(root, tables, number, drive, camera)
        write_tables(root / version, tables)
    return root


def write_tables(folder: Path, tables: Tables) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in tables.items():
        (folder / f"{name}.json").write_text(json.dumps(content, indent=0))


def read_tables(folder: Path) -> Tables:
    return {path.stem: json.loads(path.read_text()) for path in folder.glob("*.json")}


def _frame(root: Path, tables: Tables, number: int, drive: str, camera: str) -> None:
    sample, left = token_of("sample", number), 2 + 3 * number
    tables["sample"].append({"token": sample, "log_token": token_of(drive), "key_camera_token": token_of(number)})
    for place, is_key in (("sweeps", False), ("samples", True)):
        name = f"{place}/{camera}/{drive}__{number:06d}.jpg"
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        pixels = np.full((HEIGHT, WIDTH, 3), 40 + 20 * number, np.uint8)
        pixels[12:18, left : left + 8] = (200, 30, 30)
        Image.fromarray(pixels).save(root / name, quality=95)
        tables["sample_data"].append(
            {
                "token": token_of(number) if is_key else token_of("sweep", number),
                "sample_token": sample,
                "calibrated_sensor_token": token_of("on car", camera),
                "filename": name,
                "width": WIDTH,
                "height": HEIGHT,
                "is_key_frame": is_key,
            }
        )
    for category, token, box, mask in (
        ("vehicle.car", "f", [left, 12, left + 8, 18], mask_of(12, left, 18, left + 8)),
        ("vehicle.bicycle", "0", [left + 6, 10, left + 10, 20], mask_of(10, left + 6, 20, left + 10)),
        ("animal", "8", [0, 20, 2, 22], mask_of(20, 0, 22, 2)),
        ("movable_object.trafficcone", "9", [28, 14, 30, 18], None),
    ):
        row = {"token": token + token_of(number, category)[1:], "sample_data_token": token_of(number)}
        tables["object_ann"].append({**row, "category_token": token_of(category), "bbox": box, "mask": mask})
    for category, mask in (("flat.driveable_surface", mask_of(12, 0, 24, 32)), ("vehicle.ego", mask_of(22, 0, 24, 32))):
        row = {"token": token_of(number, category), "sample_data_token": token_of(number)}
        tables["surface_ann"].append({**row, "category_token": token_of(category), "mask": mask})
