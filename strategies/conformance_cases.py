"""What the conformance suite shows to a strategy: pools of scored images, and images that are made to differ."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor
from torch.nn.functional import avg_pool2d

from strategies.base import Budget, Candidates, Direction, Score, Seen, Strategy
from strategies.candidates import ShardCandidates
from strategies.sample_pool import SampleNetwork, sample_seen, seen_of
from tasks.classes import ClassMap
from tasks.geometry import Size, rle_of_patch
from tasks.seeding import Rngs
from tasks.types import Detections, Prediction, SegMap

TASKS = ("detection", "segmentation")
_CLASSES = ClassMap(("thing", "other"), ("ground", "thing", "other"), (1, 2), ("left", "middle", "right"))
_HEIGHT, _WIDTH, _STRIDE = 128, 192, 4


# ---- pools of scored images ------------------------------------------------------------------------------------------


def scores_of(strategy: Strategy, seen: Sequence[Seen]) -> list[Score]:
    """What it answers, as a run would ask it."""
    with torch.inference_mode():
        return list(strategy.score_batch(seen, Rngs(("conformance",), [one.key for one in seen])))


@dataclass(frozen=True)
class ScoredPool:
    """Scored images, and what is known of the labeled ones among them."""

    rows: pa.Table  # as ShardCandidates wants them
    label_counts: NDArray[np.int64]  # [C]

    @staticmethod
    def of(seen: Sequence[Seen], scores: Sequence[Score], labeled: Sequence[bool]) -> "ScoredPool":
        """Seen images with their scores."""
        table = {
            "id": pa.array([one.id for one in seen], pa.string()),
            "key": pa.array([one.key for one in seen], pa.uint64()),
            "labeled": pa.array(list(labeled), pa.bool_()),
            "value": pa.array([score.value for score in scores], pa.float64()),
        }
        for part in dict.fromkeys(part for score in scores for part in score.parts):
            table[f"parts.{part}"] = pa.array([score.parts.get(part) for score in scores], pa.float64())
        if scores[0].summary is not None:
            table["summary"] = pa.array([score.summary for score in scores], pa.list_(pa.float32()))
        return ScoredPool(pa.table(table), np.arange(1, 1 + len(seen[0].classes.detection), dtype=np.int64))

    def offered(self, amount: float = 5, shards: int = 1) -> Candidates:
        """What ``select`` is given; with more shards than one, in another order of the rows and with an empty shard."""
        tables = [self.rows]
        if shards > 1:
            backwards = np.arange(self.rows.num_rows)[::-1]
            tables = [self.rows.take(pa.array(backwards[i::shards])) for i in range(shards)] + [self.rows.slice(0, 0)]
        return _candidates(tables, amount, self.label_counts)


def _candidates(tables: Sequence[pa.Table], amount: float, label_counts: NDArray[np.int64]) -> Candidates:
    labeled = sum(sum(table["labeled"].to_pylist()) for table in tables)
    return ShardCandidates(tuple(tables), Budget(amount), TASKS, label_counts.copy(), labeled)


def scored_pool(strategy: Strategy, network: SampleNetwork | None = None) -> ScoredPool:
    """21 images, 3 in a row with equal scores, every third labeled."""
    seen = sample_seen(strategy, network=network)
    scores = scores_of(strategy, seen)
    copies = [
        replace(one, id=f"{one.id}/{copy}", key=(one.key + copy * 0x9E3779B97F4A7C15) % 2**64)
        for copy in range(3)
        for one in seen
    ]
    return ScoredPool.of(copies, scores * 3, [place % 3 == 2 for place in range(len(copies))])


# ---- images that are made to differ ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class PaintedNetwork:
    """Sees what is painted: red is a thing, and any green in an image makes it unsure of the whole image.

    Where it is sure it is right, and answers alike however the image is turned. Where it is not, its segmentation is
    decided by the column, it finds each thing twice, once as two classes at a time and once with a low score, with half
    of its mask and with keypoints across it, and it expects a high loss. All scores but that one are near 1, so that no
    threshold decides what comes first.
    """

    classes: ClassMap = _CLASSES
    provides: frozenset[str] = SampleNetwork().provides

    def predict(
        self, images: Tensor, heads: Sequence[str] | None = None, inputs: Mapping[str, Tensor] | None = None
    ) -> list[Prediction]:
        """One prediction an image of ``[B, 3, H, W]``."""
        wanted = self.provides if heads is None else heads
        unsure = (images[:, 1].flatten(1).amax(1) > 0.75).tolist()
        return [self._answer(image, doubt, wanted) for image, doubt in zip(images, unsure, strict=True)]

    def _answer(self, image: Tensor, unsure: bool, wanted: Sequence[str] | frozenset[str]) -> Prediction:
        outputs: dict[str, Detections | SegMap] = {}
        found = _things(image[0] > 0.75)
        if boxes := [head for head in ("detection", "instances", "keypoints") if head in wanted]:
            detections = _parts(_detections(found, unsure), (image.shape[-2], image.shape[-1]), unsure)
            outputs |= dict.fromkeys(boxes, detections)
        if "segmentation" in wanted:
            outputs["segmentation"] = SegMap(_segmentation(avg_pool2d(image[None, 0], _STRIDE)[0], unsure))
        loss = torch.tensor(2.0 if unsure else 0.1)
        logits = torch.tensor([[1.0, 0.0]] if unsure else [[8.0, -8.0]])
        return Prediction(
            outputs,
            features=torch.tensor([unsure, not unsure, len(found) / 8]).float() if "features" in wanted else None,
            predicted_loss=dict.fromkeys(TASKS, loss) if "predicted_loss" in wanted else {},
            dense=logits.repeat(6, 1) if "detection.dense" in wanted else None,
        )


def _things(mask: Tensor) -> list[list[float]]:
    """The boxes (xyxy) of all connected red areas."""
    areas = ndimage.find_objects(ndimage.label(mask.numpy())[0])
    return [[float(edge) for edge in (x.start, y.start, x.stop, y.stop)] for y, x in areas]


def _detections(found: Sequence[Sequence[float]], unsure: bool) -> Detections:
    boxes = torch.tensor(found, dtype=torch.float32).view(-1, 4)
    probs = torch.tensor([[0.999, 0.5 if unsure else 0.001]]).repeat(len(boxes), 1)
    if unsure:
        half = boxes.clone()
        half[:, 2] -= 0.4 * (boxes[:, 2] - boxes[:, 0])  # the left part of it: another one, once it is mirrored
        faint = torch.tensor([[0.4, 0.3]]).repeat(len(boxes), 1)
        boxes, probs = torch.cat([half, boxes]), torch.cat([probs, faint])
    return Detections(boxes, probs[:, 0], torch.zeros(len(boxes), dtype=torch.int64), probs)


def _parts(found: Detections, size: Size, unsure: bool) -> Detections:
    """With a mask that fills each box and three keypoints along it; half of it and across where it is unsure."""
    masks, points = [], []
    for x1, y1, x2, y2 in found.boxes.round().int().tolist():
        patch = np.ones((y2 - y1, x2 - x1), np.bool_)
        patch[:, : (x2 - x1) // 2] = not unsure
        masks.append(rle_of_patch(patch, y1, x1, size)[0])
        middle = (x1 + x2) / 2, (y1 + y2) / 2
        ends = (
            [(middle[0], y1 - 8.0), (middle[0], y2 + 8.0)] if unsure else [(x1 + 4.0, middle[1]), (x2 - 4.0, middle[1])]
        )
        points.append([(*ends[0], 2.0), (*middle, 2.0), (*ends[1], 2.0)])
    return replace(found, masks=tuple(masks), keypoints=torch.tensor(points).view(-1, 3, 3))


def _segmentation(red: Tensor, unsure: bool) -> Tensor:
    """Log-probabilities ``[3, h, w]``."""
    thing = (red - 0.75) * 48
    if unsure:
        thing = (red - 0.5) * 0.6 + torch.linspace(-4.0, 4.0, red.shape[-1]).expand_as(red)
    return torch.log_softmax(torch.stack([torch.zeros_like(red), thing, torch.full_like(red, -12.0)]), 0)


Look = str  # "sure", "unsure" or "crowded"

# what comes first, what comes last, and what is labeled already
CASES: Mapping[Direction, Sequence[tuple[Look, Look, Sequence[Look]]]] = {
    "unsure": [("unsure", "sure", ("unsure", "sure"))],
    "crowded": [("crowded", "sure", ("crowded", "sure"))],
    "novel": [("unsure", "sure", ("sure", "sure")), ("sure", "unsure", ("unsure", "unsure"))],
}


def painted(looks: Sequence[Look]) -> Tensor:
    """Images ``[B, 3, 128, 192]`` of one large thing, or of eight small ones where they are "crowded"."""
    images = torch.zeros(len(looks), 3, _HEIGHT, _WIDTH)
    for row, look in enumerate(looks):
        shift = 4 * (row % 4)  # no two alike
        if look == "crowded":
            for top in (8, 72):
                for left in (8, 56, 104, 152):
                    images[row, 0, top : top + 24 + shift, left : left + 24] = 1
        else:  # so large that no view hides a whole side of it
            images[row, 0, 32 + shift : 96 + shift, 16 + shift : 112 + shift] = 1
        images[row, 1] = float(look == "unsure")
    return images


def first_pick(strategy: Strategy, first: Look, last: Look, labeled: Sequence[Look]) -> Look | None:
    """What the one image looks like that is bought of four that look like ``first`` and four like ``last``."""
    looks = [first, last] * 4 + list(labeled)
    network = PaintedNetwork()
    seen = [replace(one, u=0.5) for one in seen_of(strategy, painted(looks), network)]  # luck decides nothing
    pool = ScoredPool.of(seen, scores_of(strategy, seen), [row >= 8 for row in range(len(looks))])
    picks = strategy.select(pool.offered(1), Rngs(("conformance",), [0])[0])
    return looks[[one.id for one in seen].index(picks[0].id)] if picks else None
