"""PartMask: do the mask, the box and the keypoints of an object tell the same story?

After the idea of BoxMask (Hekimoglu et al. 2023) that heads which contradict each other want a label, for networks that
answer masks and keypoints of the same detections. No paper describes it; the terms are ours. Of an instance

* S_box is 1 - IoU of its box and the bounds of its mask;
* S_points is the mean of S_out, the share of its visible keypoints that are off its mask, and of S_away, their mean
  distance from it in tenths of the box's diagonal, 1 at most;
* S_axis is the squared sine of the angle between the principal axes of mask and keypoints, times how clear each of the
  two axes is: 0 of a disc or a single point, 1 of a line.

The score of an image is the largest S_box + S_points + S_axis of an instance, or their mean over the instances.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import sqrt
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from strategies.base import Direction, Score, Seen, Strategy
from strategies.partmask_terms import SEEN, Rules, Terms, in_pixels, terms_of
from tasks.geometry import Rle, Size, Window, mask_of_rle
from tasks.placement import Axis
from tasks.types import Detections

Term = Literal["box", "points", "axis"]
Map = NDArray[np.float32]
POINTS = ("points", "axis")  # the terms that look at keypoints
PARTS = ("s_box", "s_out", "s_away", "s_axis", "angle", "instances", "no_mask", "no_points")


@dataclass(frozen=True)
class PartMask(Strategy):
    """The inconsistency between masks, boxes and keypoints, in 0..3: each of the three terms has at most 1.

    What cannot be compared contradicts nothing. An image without detections has 0, hence comes last; an instance
    without a visible keypoint has S_box alone, and one whose mask or keypoints have no clear axis no S_axis. A mask
    without a pixel contradicts its box and its keypoints as much as can be (``empty``). S_axis wants keypoints that lie
    along their object: where those of a class lie across it, leave ``axis`` out. A keypoint that the network doubts
    counts as well, unless it leaves it out (``model.sure_point``). ``terms: [box]`` needs no keypoints.
    """

    terms: tuple[Term, ...] = ("box", "points", "axis")
    over: Literal["max", "mean"] = "max"  # of the instances of an image
    empty: Literal["one", "zero"] = "one"  # S_box, S_out and S_away of an instance without a mask pixel
    slack: float = 0.02  # of the box's diagonal: a keypoint that near to the mask is on it
    far: float = 0.1  # of the box's diagonal: from here on S_away is 1
    min_score: float = 0.3  # detections below are ignored
    max_boxes: int = 50  # an image, best first

    def __post_init__(self) -> None:
        if not self.terms or set(self.terms) - {"box", *POINTS} or len(set(self.terms)) != len(self.terms):
            raise ValueError(f"PartMask.terms is {self.terms}; expected some of 'box', 'points', 'axis', each once")
        if not (0 <= self.slack < float("inf") and 0 < self.far < float("inf")):
            raise ValueError(
                f"PartMask: slack {self.slack}, far {self.far}; expected shares of the box's diagonal, far above 0"
            )
        if self.max_boxes < 1:
            raise ValueError(f"PartMask.max_boxes is {self.max_boxes}; expected 1 or more: correct it")

    @property
    def reads(self) -> tuple[str, ...]:
        return ("detection", "instances", "keypoints") if set(self.terms) & set(POINTS) else ("detection", "instances")

    @property
    def prefers(self) -> Direction:
        return "unsure"

    @property
    def rules(self) -> Rules:
        return Rules(self.empty, self.slack, self.far)

    def score(self, seen: Seen, rng: np.random.Generator) -> Score:
        terms, totals = self._compared(seen)
        if not terms:
            return Score(0.0, dict.fromkeys(PARTS, 0.0))
        worst = terms[totals.index(max(totals))]
        shown = [worst] if self.over == "max" else terms
        means = (_mean([getattr(one, name) for one in shown]) for name in ("box", "out", "away", "axis"))
        counts = len(terms), sum(one.bounds is None for one in terms), sum(not one.points for one in terms)
        value = max(totals) if self.over == "max" else _mean(totals)
        return Score(value, dict(zip(PARTS, (*means, worst.angle, *map(float, counts)), strict=True)))

    def explain(self, seen: Seen) -> Mapping[str, Tensor]:
        terms, totals = self._compared(seen)
        masks, boxes, off, axes = (np.zeros(seen.size, np.float32) for _ in range(4))
        worst = totals.index(max(totals)) if totals else -1
        for row, ((rle, box, _), one) in enumerate(zip(self._instances(seen), terms, strict=True)):
            np.maximum(masks, mask_of_rle(rle) * np.float32(1.0 if row == worst else 0.4), out=masks)
            _mark_points(off, one.off)
            if row == worst:
                boxes = abs(_filled(in_pixels(box, seen.size), seen.size) - _filled(one.bounds, seen.size))
                for axis, shade in zip(one.axes, (1.0, 0.5), strict=False):
                    _mark_axis(axes, axis, shade)
        return {
            "masks, the worst instance bright": torch.from_numpy(masks),
            "S_box: box or mask's bounds alone": torch.from_numpy(boxes),
            "S_out: keypoints off masks": torch.from_numpy(off),
            "S_axis: mask 1, keypoints 0.5": torch.from_numpy(axes),
        }

    def _compared(self, seen: Seen) -> tuple[list[Terms], list[float]]:
        """The terms of the image's instances, and each one's sum of those that count."""
        found = [terms_of(*one, seen.size, self.rules) for one in self._instances(seen)]
        return found, [
            sum({"box": one.box, "points": one.parts, "axis": one.axis}[term] for term in self.terms) for one in found
        ]

    def _instances(self, seen: Seen) -> list[tuple[Rle, NDArray[np.float64], NDArray[np.float64]]]:
        """Mask, box and keypoints ``[P, 3]`` of each confident detection."""
        found = _rows_of(seen, self.reads)
        first, masks = found["detection"], found["instances"].masks
        rows = (first.scores >= self.min_score).nonzero().flatten()[: self.max_boxes].tolist()
        boxes = first.boxes.detach().cpu().double().numpy()
        points = np.zeros((len(boxes), 0, 3))
        if "keypoints" in found:
            given = found["keypoints"].keypoints
            if given is None:
                raise ValueError(f"PartMask: the keypoints of image {seen.id!r} are None; expected [D, P, 3]")
            points = given.detach().cpu().double().numpy()
        if masks is None:
            raise ValueError(f"PartMask: the masks of image {seen.id!r} are None; expected one for each detection")
        for row in rows:
            seen_points = points[row][points[row, :, 2] >= SEEN]
            if not (np.isfinite(boxes[row]).all() and np.isfinite(seen_points).all()):
                raise ValueError(
                    f"PartMask: a box or a keypoint of image {seen.id!r} is not finite; mend what the model answers"
                )
            if tuple(masks[row]["size"]) != tuple(seen.size):
                raise ValueError(
                    f"PartMask: a mask of image {seen.id!r} is of {masks[row]['size']}; expected the size of the "
                    f"image, {list(seen.size)}"
                )
        return [(masks[row], boxes[row], points[row]) for row in rows]


def _rows_of(seen: Seen, heads: Sequence[str]) -> dict[str, Detections]:
    """The detections that each head answers; ValueError where their rows are not the same boxes."""
    found: dict[str, Detections] = {}
    for head in heads:
        output = seen.plain[head]
        first = next(iter(found.values()), output)
        if not isinstance(output, Detections) or not isinstance(first, Detections):
            raise ValueError(f"PartMask: {head!r} of image {seen.id!r} is a {type(output).__name__}, not Detections")
        if output is not first and not torch.equal(output.boxes, first.boxes):
            raise ValueError(
                f"PartMask: {head!r} of image {seen.id!r} has other boxes than 'detection'; expected the same rows"
            )
        found[head] = output
    return found


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


# ---- maps of the gallery ---------------------------------------------------------------------------------------------


def _filled(window: Window | None, size: Size) -> Map:
    filled = np.zeros(size, np.float32)
    if window is not None:
        x1, y1, x2, y2 = map(int, window)
        filled[y1:y2, x1:x2] = 1
    return filled


def _mark_points(drawn: Map, points: NDArray[np.float64] | None) -> None:
    """A square a point, a fiftieth of the picture's height wide."""
    around = max(1, drawn.shape[0] // 100)
    for x, y in () if points is None else points.tolist():
        left, top = max(int(x) - around, 0), max(int(y) - around, 0)
        drawn[top : max(int(y) + around + 1, 0), left : max(int(x) + around + 1, 0)] = 1


def _mark_axis(drawn: Map, axis: Axis, shade: float) -> None:
    """A line as long as a rectangle with these moments."""
    rows, columns = np.mgrid[: drawn.shape[0], : drawn.shape[1]] + 0.5
    x, y = columns - axis.centre[0], rows - axis.centre[1]
    along = x * axis.direction[0] + y * axis.direction[1]
    across = x * axis.direction[1] - y * axis.direction[0]
    width = max(1.0, drawn.shape[0] / 100)
    drawn[(abs(across) <= width / 2) & (abs(along) <= sqrt(3 * axis.major))] = shade
