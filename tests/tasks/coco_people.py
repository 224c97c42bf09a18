"""The real photos of COCO with persons as labels and as shaken detections, and pycocotools' figures of them."""

import contextlib
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from tasks.classes import ClassMap
from tasks.geometry import mask_of_rle, rle_area, rle_of, rle_of_mask
from tasks.types import Detections, Objects

POINTS = 17


class People:
    """The val photos of the set: every annotation as truth; as a detection moved, lost or invented, by a seed."""

    def __init__(self, folder: Path, seed: int = 0) -> None:
        self.data: dict[str, Any] = json.loads((folder / "annotations_val.json").read_text())
        rng = np.random.default_rng(seed)
        categories = self.data["categories"]
        self.index = {c["id"]: i for i, c in enumerate(categories)}
        points = next(tuple(c["keypoints"]) for c in categories if c.get("keypoints"))
        self.classes = ClassMap(tuple(c["name"] for c in categories), (), (-1,) * len(categories), points)
        self.targets: list[Objects] = []
        self.found: list[Detections] = []
        self.ids = [f"{image['id']:012d}" for image in self.data["images"]]
        for image in self.data["images"]:
            own = [a for a in self.data["annotations"] if a["image_id"] == image["id"]]
            size = (image["height"], image["width"])
            for a in own:
                a["segmentation"] = rle_of(a["segmentation"], size)
                a["area"] = rle_area(a["segmentation"])  # the truth that both count with
                a.setdefault("keypoints", [0.0] * 3 * POINTS)
                a.setdefault("num_keypoints", 0)
            self.targets.append(self._target(own))
            self.found.append(self._shaken(own, rng))

    def _target(self, own: Sequence[dict[str, Any]]) -> Objects:
        corner = torch.tensor([a["bbox"] for a in own], dtype=torch.float64).reshape(-1, 4)
        return Objects(
            torch.cat([corner[:, :2], corner[:, :2] + corner[:, 2:]], 1),
            torch.tensor([self.index[a["category_id"]] for a in own], dtype=torch.int64),
            torch.tensor([bool(a["iscrowd"]) for a in own], dtype=torch.bool),
            tuple(a["segmentation"] for a in own),
            torch.tensor([a["keypoints"] for a in own], dtype=torch.float64).reshape(-1, POINTS, 3),
        )

    def _shaken(self, own: Sequence[dict[str, Any]], rng: np.random.Generator) -> Detections:
        rows = []
        for a in own:
            if rng.random() < 0.15:
                continue
            side = max(a["area"], 1) ** 0.5
            points = np.array(a["keypoints"]).reshape(-1, 3)
            points[:, :2] += rng.normal(0, 0.08 * side, (POINTS, 2))
            points[:, 2] = 1
            mask = np.roll(mask_of_rle(a["segmentation"]), rng.integers(-3, 4, 2), (0, 1))
            x, y, w, h = np.array(a["bbox"]) + rng.normal(0, 2, 4)
            label = self.index[a["category_id"]] if rng.random() > 0.1 else int(rng.integers(0, len(self.index)))
            score = round(float(rng.random()) * 16) / 16  # ties
            rows.append((score, label, [x, y, x + w, y + h], points, rle_of_mask(mask)))
        rows.sort(key=lambda row: -row[0])
        return Detections(
            torch.tensor([row[2] for row in rows], dtype=torch.float64).reshape(-1, 4),
            torch.tensor([row[0] for row in rows], dtype=torch.float64),
            torch.tensor([row[1] for row in rows], dtype=torch.int64),
            torch.zeros(len(rows), len(self.index)),
            tuple(row[4] for row in rows),
            torch.from_numpy(np.array([row[3] for row in rows]).reshape(-1, POINTS, 3)),
            torch.ones(len(rows), POINTS),
        )

    def oracle(self, kind: str) -> tuple[list[float], dict[str, float]]:
        """pycocotools' statistics of "segm" or "keypoints", and the AP of each class."""
        ids = {i: c for c, i in self.index.items()}
        answers: list[dict[str, Any]] = []
        for image, found in zip(self.data["images"], self.found, strict=True):
            assert found.masks is not None
            assert found.keypoints is not None
            for row in range(len(found.boxes)):
                answers.append(
                    {
                        "image_id": image["id"],
                        "category_id": ids[int(found.labels[row])],
                        "score": float(found.scores[row]),
                        **(
                            {"segmentation": dict(found.masks[row])}
                            if kind == "segm"
                            else {"keypoints": found.keypoints[row].flatten().tolist()}
                        ),
                    }
                )
        with contextlib.redirect_stdout(io.StringIO()):
            truth = COCO()
            truth.dataset = self.data
            truth.createIndex()
            evaluation = COCOeval(truth, truth.loadRes(answers), kind)
            evaluation.evaluate()
            evaluation.accumulate()
            evaluation.summarize()
        aps = evaluation.eval["precision"][:, :, :, 0, -1].mean((0, 1))
        order = [self.index[c] for c in evaluation.params.catIds]
        return list(evaluation.stats), {
            self.classes.detection[i]: float(ap) for i, ap in zip(order, aps, strict=True) if ap >= 0
        }
