"""How fast ``prepare`` is on a data set in COCO's form: rows of the manifest a second, for each way to look at files.

    python tests/bench/bench_prepare.py [images] [objects] [way ...]

The JSON is made up: images of 480 x 640 px, each with some objects (polygons of 12 to 36 points, one in ten a
compressed mask, one in twenty an uncompressed crowd), its annotations shuffled. The images are links to a few real JPEG
files. "list" reads no image, "headers" the header of each, "pixels" all of each.
"""

import json
import os
import random
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
sys.path.insert(0, str(Path(__file__).parents[2]))

import numpy as np
from PIL import Image

from orchestrator.preparing import prepare
from tasks.data.checks import LOOKS
from tasks.data.coco import Coco
from tasks.geometry import rle_of_mask, run_lengths
from tests.bench.results import record

HEIGHT, WIDTH, CLASSES, FILES = 480, 640, 80, 20


def main(images: int, objects: int, ways: list[str]) -> None:
    with tempfile.TemporaryDirectory(prefix="mtal-bench-") as scratch:
        root = write_set(Path(scratch) / "set", images, objects)
        size = (root / "annotations.json").stat().st_size / 2**20
        for way in ways:
            start, work = time.perf_counter(), time.process_time()
            report = prepare(Coco(str(root), images="images"), Path(scratch) / way, look=way)  # type: ignore[arg-type]
            wall, work = time.perf_counter() - start, time.process_time() - work
            assert report.kept == images, report
            record(
                f"prepare, {images} images of COCO's form with {report.objects} objects ({size:.0f} MiB of JSON), "
                f"--look {way}: {images / wall:.0f} images/s ({images / work:.0f} a second of CPU)"
            )


def write_set(root: Path, images: int, objects: int) -> Path:
    """Write the data set and answer its root."""
    draw = random.Random(0)
    folder = root / "images"
    folder.mkdir(parents=True)
    for number in range(FILES):
        pixels = np.random.default_rng(number).integers(0, 255, (HEIGHT // 8, WIDTH // 8, 3), np.uint8)
        Image.fromarray(pixels).resize((WIDTH, HEIGHT)).save(folder / f"source{number}.jpg")
    listed, annotations = [], []
    for number in range(images):
        name = f"{number:012d}.jpg"
        os.link(folder / f"source{number % FILES}.jpg", folder / name)
        listed.append({"id": number, "file_name": name, "height": HEIGHT, "width": WIDTH})
        annotations += [annotation(draw, number, number * objects + i) for i in range(objects)]
    draw.shuffle(annotations)
    categories = [{"id": i + 1, "name": f"class{i}", "supercategory": "thing"} for i in range(CLASSES)]
    content = {"images": listed, "annotations": annotations, "categories": categories}
    (root / "annotations.json").write_text(json.dumps(content))
    return root


def annotation(draw: random.Random, image: int, id: int) -> dict[str, Any]:
    """An object in the form that its number asks for."""
    width, height = draw.randint(20, 200), draw.randint(20, 200)
    x, y = draw.randint(0, WIDTH - width), draw.randint(0, HEIGHT - height)
    found: dict[str, Any] = {"id": id, "image_id": image, "category_id": 1 + draw.randrange(CLASSES), "iscrowd": 0}
    found |= {"bbox": [x, y, width, height], "area": width * height}
    if id % 10 and id % 20 != 5:
        angles = np.linspace(0, 2 * np.pi, draw.randint(12, 36), endpoint=False)
        points = np.stack([x + width * (1 + np.cos(angles)) / 2, y + height * (1 + np.sin(angles)) / 2], 1)
        return {**found, "segmentation": [points.round(2).ravel().tolist()]}
    mask = np.zeros((HEIGHT, WIDTH), np.bool_)
    mask[y : y + height, x : x + width] = np.tri(height, width, width // 2, dtype=bool)
    counts = rle_of_mask(mask)["counts"]
    assert isinstance(counts, bytes)
    if id % 10:
        return {**found, "iscrowd": 1, "segmentation": {"size": [HEIGHT, WIDTH], "counts": run_lengths(counts)}}
    return {**found, "segmentation": {"size": [HEIGHT, WIDTH], "counts": counts.decode()}}


if __name__ == "__main__":
    given = [int(word) for word in sys.argv[1:] if word.isdecimal()]
    numbers = given + [20_000, 7][len(given) :]
    main(numbers[0], numbers[1], [word for word in sys.argv[1:] if not word.isdecimal()] or list(LOOKS[1:]))
