"""Synthetic street scenes whose truth is known exactly: the embedded data set, of any size, with no download.

It is made to be uneven, as recorded streets are: a few kinds of street fill long, nearly repeating sequences, the rest
is rare, short and harder, and validation and test are flatter than the pool. **This favours strategies that look for
the unusual.** ``redundancy``, ``tail``, ``held_out_tail`` and ``rare_difficulty`` set how much: name them beside any
result. Truth is exact, for it is looked up where the image is: see ``street_canvas``.
"""

import io
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from math import isfinite
from pathlib import Path

import cv2
import numpy as np
from pycocotools import mask as coco_mask

from tasks.classes import ClassMap
from tasks.data.manifest import ObjectRecord, Record
from tasks.data.street_layout import draw_scene
from tasks.data.street_render import Frame, render
from tasks.data.street_scene import CAR, SEGMENTATION, Scene, Shot, plan
from tasks.data.street_things import FLIP_PAIRS, KEYPOINTS
from tasks.seeding import rng_of

_STRIDE = 32  # the coarsest level of the networks


@dataclass(frozen=True)
class Streets:
    """The adapter. Every file is a pure function of seed, split, sequence, frame, size and the knobs below."""

    images: int = 400  # of the pool ("train")
    validation: int = 80  # "val": one frame a scene
    test: int = 240  # one frame a scene
    size: tuple[int, int] = (96, 160)  # H, W
    seed: int = 0
    redundancy: float = 1.0  # length of the pool's sequences: 0 = one frame a scene, 2 = twice as many near-duplicates
    tail: float = 0.0  # mix of the pool: 0 = long-tailed, 1 = all kinds of street and conditions equally often
    held_out_tail: float = 0.6  # the same of validation and test
    rare_difficulty: float = 1.0  # how much farther, darker, more hidden trucks, buses, cyclists are; 0 = like others

    def __post_init__(self) -> None:
        for name in ("images", "validation", "test"):
            if getattr(self, name) < 1:
                raise ValueError(f"Streets.{name} is {getattr(self, name)}; expected at least 1 image")
        if len(self.size) != 2 or any(side < _STRIDE or side % _STRIDE for side in self.size):
            raise ValueError(
                f"Streets.size is {self.size}; expected (height, width), both multiples of {_STRIDE}, as in (96, 160)"
            )
        for name in ("redundancy", "rare_difficulty"):
            if not (isfinite(getattr(self, name)) and getattr(self, name) >= 0):
                raise ValueError(f"Streets.{name} is {getattr(self, name)}; expected a number of 0 or more")
        for name in ("tail", "held_out_tail"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"Streets.{name} is {getattr(self, name)}; expected a number from 0 to 1")

    def classes(self) -> ClassMap:
        """11 segmentation classes; the last six are also detected, and vehicles have 8 keypoints."""
        things = SEGMENTATION[CAR:]
        return ClassMap(
            detection=things,
            segmentation=SEGMENTATION,
            det_to_seg=tuple(range(CAR, CAR + len(things))),
            keypoints=KEYPOINTS,
            flip_pairs=FLIP_PAIRS,
        )

    def semantic_lut(self) -> tuple[int, ...]:
        """Pixel value to class: the identity, and 255 = ignore for what never occurs."""
        return tuple(value if value < len(SEGMENTATION) else 255 for value in range(256))

    def counts(self) -> dict[str, int]:
        """Images of each split."""
        return {"train": self.images, "val": self.validation, "test": self.test}

    def shots(self) -> Iterator[tuple[str, Shot]]:
        """All (split, shot) pairs in order; those of one scene follow each other."""
        for split, count, redundancy, tail in (
            ("train", self.images, self.redundancy, self.tail),
            ("val", self.validation, 0.0, self.held_out_tail),
            ("test", self.test, 0.0, self.held_out_tail),
        ):
            for shot in plan(split, count, self.seed, redundancy, tail):
                yield split, shot

    def scene(self, split: str, shot: Shot) -> Scene:
        """The scene of a shot, the same for all frames of its sequence."""
        rng = rng_of("streets", self.seed, split, "scene", shot.sequence)
        return draw_scene(rng, shot.street, shot.condition, self.rare_difficulty)

    def frame(self, split: str, shot: Shot, scene: Scene) -> Frame:
        """The image of a shot and its truth."""
        rng = rng_of("streets", self.seed, split, "frame", shot.sequence, shot.frame)
        return render(scene, shot.frame, self.size, rng)

    def records(self, folder: Path) -> Iterator[Record]:
        """Every image of every split, written to ``images/``, ``semantic/`` and ``depth/`` under ``folder``.

        A file appears under its name only when it is complete, so a killed run leaves nothing broken. All images are
        made anew each time (a few milliseconds each): files that lie there may be those of another seed or size.
        Things too small or too hidden to be labeled (see ``Frame``) are no objects, but stay in the maps.
        """
        for name in ("images", "semantic", "depth"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        for (split, _), shots in groupby(self.shots(), key=lambda pair: (pair[0], pair[1].sequence)):
            scene: Scene | None = None
            for _, shot in shots:
                scene = scene or self.scene(split, shot)
                yield _record(folder, split, shot, self.frame(split, shot, scene))


def _record(folder: Path, split: str, shot: Shot, frame: Frame) -> Record:
    """Writes the files of one frame and describes it."""
    group = f"{split}-{shot.sequence:05d}"
    id = f"{group}-{shot.frame:03d}"
    uri, semantic, depth = f"images/{id}.png", f"semantic/{id}.png", f"depth/{id}.npy"
    _write(folder / uri, _png(cv2.cvtColor(frame.image, cv2.COLOR_RGB2BGR)))
    _write(folder / semantic, _png(frame.semantic))
    buffer = io.BytesIO()
    np.save(buffer, frame.depth)
    _write(folder / depth, buffer.getvalue())
    height, width = frame.semantic.shape
    return Record(id, uri, (height, width), split, group, _objects(frame), semantic, depth)


def _png(image: cv2.typing.MatLike) -> bytes:
    made, encoded = cv2.imencode(".png", image)
    assert made
    return encoded.tobytes()


def _write(path: Path, content: bytes) -> None:
    """Puts a whole file under its name, or nothing."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    part.write_bytes(content)
    os.replace(part, path)


def _objects(frame: Frame) -> tuple[ObjectRecord, ...]:
    names = np.arange(1, len(frame.things) + 1, dtype=np.uint8)
    masks = np.asfortranarray(frame.instances[..., None] == names).astype(np.uint8, order="F")
    rles: list[Mapping[str, object]] = coco_mask.encode(masks) if len(names) else []
    return tuple(
        ObjectRecord(
            box=thing.box,
            label=thing.label,
            rle={"size": list(frame.semantic.shape), "counts": rle["counts"]},
            keypoints=() if thing.keypoints is None else tuple(float(v) for v in thing.keypoints.ravel()),
        )
        for thing, rle in zip(frame.things, rles, strict=True)
    )
