"""A data set as somebody's own would be: one COCO JSON, a folder of images, one of masks, a list of classes."""

import json
import shutil
from pathlib import Path
from typing import Any

from tasks.data.streets import Streets


def write_site(root: Path, train: int = 24, held_out: int = 12) -> Path:
    """Write street scenes of 64 x 96 px in that form, and answer its root. No image has a split; each has its drive."""
    adapter = Streets(images=train, validation=held_out, test=held_out, size=(64, 96))
    classes = adapter.classes()
    ids = dict(enumerate(classes.det_to_seg))  # class of a box -> id of the class of its pixels
    images: list[Any] = []
    annotations: list[Any] = []
    for folder in ("images", "masks"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    for number, record in enumerate(adapter.records(root / "drawn")):
        name, (height, width) = f"{record.id}.png", record.size
        shutil.move(root / "drawn" / record.uri, root / "images" / name)
        shutil.move(root / "drawn" / str(record.segmentation), root / "masks" / name)
        images.append({"id": number, "file_name": name, "height": height, "width": width, "drive": record.group})
        for one in record.objects or ():
            x1, y1, x2, y2 = one.box
            box_xywh = [x1, y1, x2 - x1, y2 - y1]
            annotations.append(
                {"id": len(annotations), "image_id": number, "category_id": ids[one.label], "bbox": box_xywh}
            )
    shutil.rmtree(root / "drawn")
    names = classes.segmentation
    things = [{"id": i, "name": names[i]} for i in classes.det_to_seg]
    content = {"images": images, "annotations": annotations, "categories": things}
    (root / "annotations.json").write_text(json.dumps(content))
    (root / "classes.json").write_text(json.dumps({"classes": [{"id": i, "name": n} for i, n in enumerate(names)]}))
    return root
