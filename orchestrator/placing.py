"""What a network's answer says of parts: how each lies, whether it lies right, how far away it is; and how often so.

A part is an object of a class with three keypoints. Its verdict is compared with that which the labels give by the same
arithmetic, where there are labels.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import cos, isfinite, radians, sin
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from orchestrator.checkpoints import Card
from orchestrator.errors import ConfigError, RunError
from tasks.classes import ClassMap
from tasks.data.decoding import read_depth
from tasks.data.depth_png import Scaled, depth_uri
from tasks.data.files import Place
from tasks.data.manifest import Manifest, ObjectRecord, Record
from tasks.data.samples import read_sample
from tasks.geometry import box_overlaps, mask_of_rle, resize_nearest, rle_area, rle_of_polygons
from tasks.mask_patches import owners
from tasks.nets.region_targets import slots_of
from tasks.placement import Depth, Mask, MaskDepth, Placement, PointDepth, depth_at, depth_of_mask, placement
from tasks.types import Detections

NEEDS = ("detection", "instances", "keypoints")  # tasks of a network that parts are read off
KEPT = 0.5  # share of its mask that a detection keeps where others claim it, too
SAME = 0.5  # IoU of boxes from which on a detection may be a labeled part
MISSED, CORRECT, WRONG = "missed", "correct", "wrong"


@dataclass(frozen=True)
class Rules:
    """How parts are judged."""

    reference: float = -90.0  # degrees from x towards y: where outer sides point; -90 is up
    score: float = 0.5  # of a detection that counts
    erosion: int = 0  # pixels that a mask loses at its rim before depth is read under it
    depth: Place | None = None  # a folder of depth maps named as the images; None = those of the data, if any
    per_metre: float = 1000.0  # values of a depth PNG in that folder for a metre

    def __post_init__(self) -> None:
        if not isfinite(self.reference):
            raise ConfigError(f"--reference {self.reference}: expected degrees, such as -90 for upwards")
        if not 0 <= self.score <= 1:
            raise ConfigError(f"--score {self.score}: expected a share, 0 to 1")
        if self.erosion < 0:
            raise ConfigError(f"--erosion {self.erosion}: expected pixels, 0 or more")
        if not 0 < self.per_metre < float("inf"):
            raise ConfigError(f"--per-metre {self.per_metre}: expected a number above 0, such as 1000 for millimetres")
        if self.depth is not None and not self.depth.is_dir():
            raise ConfigError(
                f"--depth {self.depth}: no such folder; expected one of depth maps, .npy or .png: give it"
            )

    @property
    def direction(self) -> tuple[float, float]:
        """The reference as a unit vector, x to the right and y down."""
        return cos(radians(self.reference)), sin(radians(self.reference))


@dataclass(frozen=True)
class Part:
    """One object, in pixels of the stored image."""

    label: int
    box: tuple[float, float, float, float]
    placement: Placement
    verdict: str  # "correct", "wrong", or the status that gives none
    points: NDArray[np.float64]  # [3, 3] x, y, v
    mask: Mask  # [H, W]
    score: float = 1.0
    point_scores: tuple[float, ...] = ()
    mask_depth: MaskDepth | None = None
    point_depths: tuple[PointDepth | None, ...] = (None, None, None)
    truth: str = ""  # the verdict of the labels; "none" where nothing is labeled there, "" where they say nothing

    @property
    def point_spread(self) -> float | None:
        """Half of what lies between the nearest and the farthest keypoint, metres; None with fewer than two."""
        found = [one.metres for one in self.point_depths if one is not None]
        return (max(found) - min(found)) / 2 if len(found) > 1 else None


@dataclass(frozen=True)
class Placed:
    """The parts of an image, found and missed."""

    record: Record
    parts: tuple[Part, ...]
    missed: tuple[Part, ...]

    @property
    def is_right(self) -> bool:
        """Whether every labeled part was found with its verdict, and nothing else was."""
        return not self.missed and all(part.truth in ("", part.verdict) for part in self.parts)


@dataclass
class Tally:
    """Counts over images."""

    images: int = 0
    verdicts: Counter[str] = field(default_factory=Counter)  # of what was found
    confusion: Counter[tuple[str, str]] = field(default_factory=Counter)  # (truth, verdict or "missed")
    unjudged: Counter[str] = field(default_factory=Counter)  # labeled parts whose labels give no verdict, by status
    extra: int = 0  # found where no part is labeled
    mask_spreads: list[float] = field(default_factory=list)  # metres: half-ranges of parts with both depths
    point_spreads: list[float] = field(default_factory=list)

    def add(self, placed: Placed) -> None:
        """Count an image."""
        self.images += 1
        for part in placed.parts:
            self.verdicts[part.verdict] += 1
            self._judge(part.truth, part.verdict)
            if part.mask_depth is not None and part.point_spread is not None:
                self.mask_spreads.append(part.mask_depth.half_range)
                self.point_spreads.append(part.point_spread)
        for part in placed.missed:
            self._judge(part.verdict, MISSED)

    def _judge(self, truth: str, verdict: str) -> None:
        if truth in (CORRECT, WRONG):
            self.confusion[truth, verdict] += 1
        elif truth == "none":
            self.extra += 1
        elif truth:
            self.unjudged[truth] += 1

    @property
    def labeled(self) -> int:
        """Parts whose labels give a verdict."""
        return self.confusion.total()

    @property
    def right(self) -> int:
        """Those of them that were found with the same verdict."""
        return self.confusion[CORRECT, CORRECT] + self.confusion[WRONG, WRONG]

    @property
    def missed(self) -> int:
        """Those of them that were not found."""
        return self.confusion[CORRECT, MISSED] + self.confusion[WRONG, MISSED]

    @property
    def without_verdict(self) -> int:
        """Those of them that were found with a status other than "ok"."""
        known = (CORRECT, WRONG, MISSED)
        return sum(count for (_, verdict), count in self.confusion.items() if verdict not in known)

    @property
    def accuracy(self) -> float | None:
        """The share that is right of all labeled parts: missed ones and those without a verdict count as wrong."""
        return self.right / self.labeled if self.labeled else None


def trios(classes: ClassMap) -> dict[int, tuple[int, ...]]:
    """The classes with exactly three keypoints, and which these are."""
    own = {label: tuple(i for i in row if i >= 0) for label, row in enumerate(slots_of(classes).tolist())}
    return {label: points for label, points in own.items() if len(points) == 3}


def check_card(card: Card, where: str) -> None:
    """ConfigError where a network does not say what parts are read off."""
    lacking = [task for task in NEEDS if task not in card.tasks]
    if lacking:
        raise ConfigError(
            f"{where}: has no task {lacking[0]} (its tasks are {', '.join(card.tasks)}); expected a network with "
            f"{', '.join(NEEDS)}, such as rcnn of configs/engine_parts.yaml: give another checkpoint"
        )
    if not trios(card.classes):
        raise ConfigError(
            f"{where}: no class has three keypoints (they are {', '.join(card.classes.keypoints) or 'none'}); expected "
            "one, whose outer side three keypoints tell: train on such labels"
        )


# ---- an image -------------------------------------------------------------------------------------------------------


def placed_in(
    model: Any, card: Card, manifest: Manifest, rows: NDArray[np.int64], rules: Rules, at_once: int = 8
) -> Iterator[Placed]:
    """The parts of each image, in order. RunError for an image or a depth map that cannot be read."""
    chosen, size = trios(card.classes), manifest.size
    for start in range(0, len(rows), at_once):
        records = manifest.records(rows[start : start + at_once])
        try:
            images = [read_sample(one, manifest.base, size, manifest.lut, (), card.classes).image for one in records]
        except (ValueError, OSError) as error:
            raise RunError(f"data: {error}") from error
        whole = len({image.shape for image in images}) == 1
        groups = [torch.stack(images)] if whole else [image[None] for image in images]
        found = [one.outputs["instances"] for group in groups for one in model.predict(group, NEEDS)]
        for record, output, image in zip(records, found, images, strict=True):
            frame = int(image.shape[-2]), int(image.shape[-1])
            depth = _depth_of(record, manifest.base, rules)
            parts = parts_found(output, frame, record.size, chosen, rules, depth)
            yield matched(record, parts, parts_labeled(record, chosen, rules))


def parts_found(
    found: Detections,
    frame: tuple[int, int],
    size: tuple[int, int],
    chosen: Mapping[int, Sequence[int]],
    rules: Rules,
    depth: Depth | None,
) -> list[Part]:
    """The parts among the detections of an image that the network saw at ``frame`` H, W and is stored at ``size``.

    A pixel that several detections claim counts for the surest alone, of whatever class: a mask that takes in the next
    object has another axis. One that loses more than half of its mask so is no object of its own (the rule that
    Kirillov et al. 2019 merge instances by), but a second look at others.
    """
    across, down = size[1] / frame[1], size[0] / frame[0]
    found = found.keep(found.scores >= rules.score)
    assert found.masks is not None, "no masks"
    assert found.keypoints is not None, "no keypoints"
    assert found.keypoint_scores is not None, "no scores of keypoints"
    owner = None if found.mask_probs is None else owners(found.mask_probs, found.boxes, frame)
    parts = []
    for i, (label, score) in enumerate(zip(found.labels.tolist(), found.scores.tolist(), strict=True)):
        if label not in chosen:
            continue
        own = list(chosen[label])
        points = found.keypoints[i, own].cpu().double().numpy() * np.array([across, down, 1.0])
        x1, y1, x2, y2 = found.boxes[i].tolist()
        mask = mask_of_rle(found.masks[i]) if owner is None else owner == i
        if mask.sum() < KEPT * rle_area(found.masks[i]):
            continue
        sure = tuple(found.keypoint_scores[i, own].tolist())
        box = (x1 * across, y1 * down, x2 * across, y2 * down)
        parts.append(_read(label, box, resize_nearest(mask, size), points, rules, depth, score, sure))
    return parts


def parts_labeled(record: Record, chosen: Mapping[int, Sequence[int]], rules: Rules) -> list[Part] | None:
    """The labeled parts of an image, crowds apart; None where nobody labeled its objects.

    One without a mask or without keypoints has the status "missing_kp".
    """
    if record.objects is None:
        return None
    return [_labeled(one, record, chosen, rules) for one in record.objects if one.label in chosen and not one.crowd]


def _labeled(one: ObjectRecord, record: Record, chosen: Mapping[int, Sequence[int]], rules: Rules) -> Part:
    own = list(chosen[one.label])
    rle = rle_of_polygons(one.polygons, record.size) if one.rle is None and one.polygons else one.rle
    points, mask = np.zeros((3, 3)), np.zeros(record.size, np.bool_)
    if rle is not None and one.keypoints:
        points, mask = np.reshape(np.array(one.keypoints, np.float64), (-1, 3))[own], mask_of_rle(rle)
    return _read(one.label, one.box, mask, points, rules, None)


def _read(
    label: int,
    box: tuple[float, float, float, float],
    mask: Mask,
    points: NDArray[np.float64],
    rules: Rules,
    depth: Depth | None,
    score: float = 1.0,
    sure: tuple[float, ...] = (),
) -> Part:
    found = placement(mask, points)
    is_correct = found.is_correct(rules.direction)
    verdict = found.status if is_correct is None else CORRECT if is_correct else WRONG
    if depth is None:
        return Part(label, box, found, verdict, points, mask, score, sure)
    under = depth_of_mask(depth, mask, erosion=rules.erosion)
    at = tuple(depth_at(depth, x, y) if v > 0 else None for x, y, v in points.tolist())
    return Part(label, box, found, verdict, points, mask, score, sure, under, at)


def matched(record: Record, parts: Sequence[Part], labeled: Sequence[Part] | None) -> Placed:
    """The parts with the verdicts of the labels. Detections, best first, take the free one of largest IoU (from .5)."""
    if labeled is None:
        return Placed(record, tuple(parts), ())
    free, found = list(labeled), []
    for part in sorted(parts, key=lambda one: -one.score):
        near = [_overlap(part, one) if one.label == part.label else 0.0 for one in free]
        best = int(np.argmax(near)) if near else -1
        truth = free.pop(best).verdict if near and near[best] >= SAME else "none"
        found.append(replace(part, truth=truth))
    return Placed(record, tuple(found), tuple(free))


def _overlap(one: Part, other: Part) -> float:
    boxes = torch.tensor([one.box, other.box], dtype=torch.float64)
    return float(box_overlaps(boxes[:1], boxes[1:])[0])


def _depth_of(record: Record, base: Place, rules: Rules) -> Depth | None:
    """The depth map of an image; None where there is none. RunError where it cannot be read."""
    uri: str | None = record.depth
    if rules.depth is not None:
        uri, base = _named(record, rules.depth, rules.per_metre), rules.depth
    if uri is None:
        return None
    try:
        metres = read_depth(uri, base)
    except (ValueError, OSError) as error:
        raise RunError(f"data: {error}") from error
    if metres.shape != record.size:
        raise RunError(
            f"{uri}: is {metres.shape[0]} x {metres.shape[1]} px (H x W); expected {record.size[0]} x "
            f"{record.size[1]}, as its image {record.id}: align the two"
        )
    return metres


def _named(record: Record, folder: Place, per_metre: float) -> str:
    """The uri below a folder of the depth map that is named as an image."""
    for stem in (PurePosixPath(record.id), PurePosixPath(PurePosixPath(record.uri).name)):
        plain = stem.with_suffix("") if stem.suffix.lower() in (".png", ".jpg", ".jpeg") else stem
        if (folder / f"{plain}.npy").is_file():
            return f"{plain}.npy"
        if (folder / f"{plain}.png").is_file():
            return depth_uri(f"{plain}.png", Scaled(per_metre))
    raise RunError(
        f"--depth {folder}: has no depth map of {record.id}; expected {plain}.npy (metres) or {plain}.png: add it, or "
        "leave --depth out"
    )
