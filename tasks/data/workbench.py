"""Synthetic RGB-D scenes of a work-bench with the 13 parts of RoboCup@Work: boxes, masks, pickup points and depth.

An embedded stand-in for the data of the paper on AuxNet (35,000 images of an Intel SR300, of which 14,000 have pickup
points). Of the public set the paper says what was recorded and labeled, but nothing of its folders and files: so there
is no adapter for it here; ``coco`` reads it once it is written in COCO's form with one keypoint an object.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from math import isfinite
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from tasks.classes import ClassMap
from tasks.data.manifest import ObjectRecord, Record
from tasks.data.tabletop import write_maps
from tasks.data.workbench_parts import NAMES
from tasks.data.workbench_render import WIDE, Bench, Placed, View, draw_bench, render
from tasks.geometry import mask_box, rle_of_mask
from tasks.seeding import rng_of

_NARROWEST = 48  # px: below that the smallest parts have no pixels
_LOWEST = 14.0  # cm of the bench that the image's height shows at least


@dataclass(frozen=True)
class Workbench:
    """The adapter. Every file is a pure function of seed, split, number of the image, size and the knobs below.

    A pixel is 51.2 cm / width of the bench: ``tasks.pickup.cm_per_px`` is 0.2 at a width of 256.
    """

    images: int = 400  # of the pool ("train")
    validation: int = 80  # "val"
    test: int = 240
    size: tuple[int, int] = (192, 256)  # H, W; the paper's
    seed: int = 0
    objects: tuple[int, int] = (1, 5)  # parts of an image, fewest and most, each of another kind
    kinds: tuple[str, ...] = NAMES  # the parts that there are: fewer are learned sooner
    holes: float = 1.0  # how much of the depth is missing; 0 = nothing
    mask_error: float = 0.0  # cm that the border of a mask is off, about: the paper's masks are approximate

    def __post_init__(self) -> None:
        for name in ("images", "validation", "test"):
            if getattr(self, name) < 1:
                raise ValueError(f"Workbench.{name} is {getattr(self, name)}; expected at least 1 image")
        if len(self.size) != 2 or min(self.size) < _NARROWEST:
            raise ValueError(
                f"Workbench.size is {self.size}; expected (height, width), each of {_NARROWEST} or more, as (192, 256)"
            )
        if WIDE * self.size[0] / self.size[1] < _LOWEST:
            raise ValueError(
                f"Workbench.size is {self.size}; expected at least {_LOWEST / WIDE:.2f} of the width as the height, so "
                "that the longest parts find room"
            )
        if not self.kinds or len(set(self.kinds)) != len(self.kinds) or not set(self.kinds) <= set(NAMES):
            raise ValueError(
                f"Workbench.kinds is {list(self.kinds)}; expected one or more of {', '.join(NAMES)}, each once"
            )
        if not 1 <= self.objects[0] <= self.objects[1] <= len(self.kinds):
            raise ValueError(
                f"Workbench.objects is {self.objects}; expected the fewest and the most, from 1 to {len(self.kinds)}"
            )
        for name in ("holes", "mask_error"):
            if not (isfinite(getattr(self, name)) and getattr(self, name) >= 0):
                raise ValueError(f"Workbench.{name} is {getattr(self, name)}; expected a number of 0 or more")

    def classes(self) -> ClassMap:
        """The kinds of parts, boxes and pixels; pixels may also be bench. One keypoint: the pickup point."""
        return ClassMap(
            detection=self.kinds,
            segmentation=("bench", *self.kinds),
            det_to_seg=tuple(range(1, len(self.kinds) + 1)),
            keypoints=("pickup",),
        )

    def semantic_lut(self) -> tuple[int, ...]:
        """Pixel value to class: the identity, and 255 = ignore for what never occurs."""
        return tuple(value if value <= len(self.kinds) else 255 for value in range(256))

    def counts(self) -> dict[str, int]:
        """Images of each split."""
        return {"train": self.images, "val": self.validation, "test": self.test}

    def bench(self, split: str, index: int) -> Bench:
        """What stands in an image."""
        rng = rng_of("workbench", self.seed, split, index, "scene")
        return draw_bench(rng, WIDE * self.size[0] / self.size[1], self.objects, self.kinds)

    def view(self, split: str, index: int) -> View:
        """An image and its truth; masks are exact here."""
        return render(
            self.bench(split, index), self.size, rng_of("workbench", self.seed, split, index, "camera"), self.holes
        )

    def records(self, folder: Path) -> Iterator[Record]:
        """Every image of every split, written to ``images/``, ``semantic/`` and ``depth/`` under ``folder``.

        A file appears under its name only when it is complete. All are made anew each time: files that lie there may
        be those of another seed or size.
        """
        for split, count in self.counts().items():
            for index in range(count):
                yield self._record(folder, split, index)

    def _record(self, folder: Path, split: str, index: int) -> Record:
        bench, view, id = self.bench(split, index), self.view(split, index), f"{split}-{index:06d}"
        labels = np.array([0, *(self._label(part) + 1 for part in bench.parts)], np.uint8)
        semantic: NDArray[np.uint8] = labels[view.instances]
        uris = write_maps(folder, id, {"images": view.image, "semantic": semantic, "depth": view.depth})
        objects = tuple(self._objects(bench, view, rng_of("workbench", self.seed, split, index, "masks")))
        return Record(id, uris["images"], self.size, split, id, objects, uris["semantic"], uris["depth"])

    def _objects(self, bench: Bench, view: View, rng: np.random.Generator) -> Iterator[ObjectRecord]:
        for index, (part, (x, y)) in enumerate(zip(bench.parts, view.points, strict=True)):
            mask = view.instances == index + 1
            rough = _roughened(mask, self.mask_error * self.size[1] / WIDE, rng) if self.mask_error else mask
            box = mask_box(mask)
            assert box is not None, f"{NAMES[part.label]} has no pixel"
            yield ObjectRecord(box, self._label(part), rle=rle_of_mask(rough), keypoints=(x, y, 2.0))

    def _label(self, part: Placed) -> int:
        return self.kinds.index(NAMES[part.label])


def _roughened(mask: NDArray[np.bool_], pixels: float, rng: np.random.Generator) -> NDArray[np.bool_]:
    """The mask with a border that is off by about so many pixels, out and in; itself where nothing would be left."""
    inside, outside = (cv2.distanceTransform(m.astype(np.uint8), cv2.DIST_L2, 5) for m in (mask, ~mask))
    cells = rng.normal(0, 1, (max(2, mask.shape[0] // 8), max(2, mask.shape[1] // 8)))
    off = pixels * cv2.resize(cells, (mask.shape[1], mask.shape[0]), interpolation=cv2.INTER_CUBIC)
    rough: NDArray[np.bool_] = np.where(mask, inside - 0.5, 0.5 - outside) + off > 0
    rough &= outside < 3 * pixels + 1  # no islands far away
    return rough if rough.any() else mask
