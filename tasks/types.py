"""What flows between the rooms: samples, batches, predictions, targets and the class map.

Conventions, obeyed everywhere (other conventions live only inside an adapter, and there the name says it):

* images are RGB float32 in 0..1, ``[3, H, W]``; a model normalises inside;
* boxes are xyxy float32 in pixels of the sample's image, continuous edges: pixel (i, j) covers ``[j, j+1) x [i, i+1)``;
* semantic maps are int64 ``[H, W]`` with 255 = ignore; depth is metres with NaN = no label;
* keypoints are ``[N, P, 3]`` (x, y, v) with v = 0 unlabeled, 1 hidden, 2 visible.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from tasks.classes import ClassMap as ClassMap

IGNORE = 255


# ---- targets: what was labeled -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Objects:
    """The labeled objects of one image: the target of detection (and of instances and keypoints)."""

    boxes: Tensor  # [N, 4] xyxy
    labels: Tensor  # [N] int64, 0-based
    crowd: Tensor  # [N] bool: a region of many objects; never trained on, ignored in evaluation
    rles: tuple[Mapping[str, object] | None, ...] = ()  # N masks as COCO RLE (size [H, W], counts bytes), or empty
    keypoints: Tensor | None = None  # [N, P, 3]


Target = Objects | Tensor  # a Tensor is a semantic map [H, W] int64 or a depth map [H, W] float32


@dataclass(frozen=True)
class Sample:
    """One image with the labels it has. A task that is missing from ``targets`` is not labeled."""

    id: str
    image: Tensor  # [3, H, W]
    targets: Mapping[str, Target] = field(default_factory=dict)
    inputs: Mapping[str, Tensor] = field(default_factory=dict)  # more sensors, or a teacher's labels: {name: [c, H, W]}


@dataclass(frozen=True)
class Batch:
    """Samples of one size, stacked. ``targets[task][b]`` is None where image b lacks that label."""

    ids: tuple[str, ...]
    images: Tensor  # [B, 3, H, W]
    targets: Mapping[str, Sequence[Target | None]]
    inputs: Mapping[str, Tensor] = field(default_factory=dict)  # {name: [B, c, H, W]}
    progress: float = 1.0  # share of this fit's steps already made (LL4AL stops its gradient by it)
    weights: Mapping[str, Tensor] = field(default_factory=dict)  # {task: [B]} what an image's losses count; {} = 1

    @staticmethod
    def of(
        samples: Sequence[Sample],
        tasks: Sequence[str],
        progress: float = 1.0,
        weights: Mapping[str, Tensor] | None = None,
    ) -> "Batch":
        """Stack samples; ValueError when their sizes differ (images are never padded to their batch mates)."""
        shapes = {tuple(s.image.shape) for s in samples}
        if len(shapes) > 1:
            raise ValueError(f"a batch holds images of sizes {sorted(shapes)}; expected one size: set data.size")
        names = samples[0].inputs.keys() if samples else ()
        return Batch(
            ids=tuple(s.id for s in samples),
            images=torch.stack([s.image for s in samples]),
            targets={t: tuple(s.targets.get(t) for s in samples) for t in tasks},
            inputs={n: torch.stack([s.inputs[n] for s in samples]) for n in names},
            progress=progress,
            weights=weights or {},
        )

    def to(self, device: torch.device) -> "Batch":
        """The same batch with its images and inputs on ``device``; targets move where they are used."""
        return replace(self, images=self.images.to(device), inputs={n: x.to(device) for n, x in self.inputs.items()})


# ---- outputs: what a model answered ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Detections:
    """The decoded detections of one image, best first; rows of all fields belong together."""

    boxes: Tensor  # [D, 4] xyxy
    scores: Tensor  # [D] descending
    labels: Tensor  # [D] int64, 0-based
    probs: Tensor  # [D, K] raw class vector: K = C sigmoids, or C + 1 softmax values with the background last
    masks: tuple[Mapping[str, object], ...] | None = None  # COCO RLE
    keypoints: Tensor | None = None  # [D, P, 3]
    keypoint_scores: Tensor | None = None  # [D, P]
    mask_probs: Tensor | None = None  # [D, m, m] 0..1, each spread over its box: what the masks are cut from

    def keep(self, rows: Tensor) -> "Detections":
        """The chosen rows (bool mask or indices) of every field."""
        index = rows.nonzero().flatten() if rows.dtype == torch.bool else rows
        return Detections(
            boxes=self.boxes[index],
            scores=self.scores[index],
            labels=self.labels[index],
            probs=self.probs[index],
            masks=None if self.masks is None else tuple(self.masks[i] for i in index.tolist()),
            keypoints=None if self.keypoints is None else self.keypoints[index],
            keypoint_scores=None if self.keypoint_scores is None else self.keypoint_scores[index],
            mask_probs=None if self.mask_probs is None else self.mask_probs[index],
        )


@dataclass(frozen=True)
class SegMap:
    """Log-probabilities of one image at the head's own resolution."""

    log_probs: Tensor  # [K, h, w] float32, log-softmax over K


@dataclass(frozen=True)
class DepthMap:
    """Depth of one image at the head's own resolution."""

    metres: Tensor  # [h, w] float32


@dataclass(frozen=True)
class Pickups:
    """Where a gripper would take hold of each class, whether an object of it is in the image or not."""

    activations: Tensor  # [K, H, W] >= 0, a layer a class
    points: Tensor  # [K, 2] xy in pixels: the centres of the activations; of the image where a layer is dead
    angles: Tensor  # [K] radians: the line between the fingers, from x towards y; NaN where there is no axis
    dead: Tensor  # [K] bool: as good as no activation


Output = Detections | SegMap | DepthMap | Pickups


@dataclass(frozen=True)
class Prediction:
    """All a model answered about one image. It never leaves the process that made it: scores do."""

    outputs: Mapping[str, Output]
    features: Tensor | None = None  # [F] pooled shared features
    predicted_loss: Mapping[str, Tensor] = field(default_factory=dict)  # task -> scalar
    dense: Tensor | None = None  # [A, C] class logits of every cell, only when "detection.dense" was asked for

    def __getitem__(self, task: str) -> Output:
        return self.outputs[task]

    @property
    def detections(self) -> Detections:
        """The detection output; KeyError where the head was not asked for."""
        output = self.outputs["detection"]
        assert isinstance(output, Detections)
        return output

    @property
    def log_probs(self) -> Tensor:
        """The segmentation output ``[K, h, w]``; KeyError where the head was not asked for."""
        output = self.outputs["segmentation"]
        assert isinstance(output, SegMap)
        return output.log_probs


# ---- losses ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Losses:
    """Unweighted losses of one batch, per image, so that missing labels, many workers and LL4AL all reduce them alike.

    ``values["task.part"]`` is ``[B]``, connected to the graph, and 0 where ``labeled[task]`` is False.
    """

    values: Mapping[str, Tensor]  # {"detection.cls": [B], ...}
    labeled: Mapping[str, Tensor]  # {"detection": [B] bool, ...}
    extra: Mapping[str, Tensor] = field(default_factory=dict)  # scalars that no weighting touches: LL4AL's ranking

    def means(self) -> dict[str, Tensor]:
        """Each part's mean over the labeled images: a zero that is connected to the graph where none is."""
        return {
            part: value.sum() / self.labeled[part.split(".", 1)[0]].sum().clamp(min=1)
            for part, value in self.values.items()
        }

    def scaled(self, weights: Mapping[str, Tensor]) -> "Losses":
        """The same with the losses of a task times ``weights[task] [B]``; those of a task without weights stay."""
        if not weights:
            return self
        of = {part: weights.get(part.split(".", 1)[0]) for part in self.values}
        values = {part: x if (w := of[part]) is None else x * w.to(x) for part, x in self.values.items()}
        return replace(self, values=values)

    def of_task(self, task: str) -> Tensor:
        """The summed loss of one task for every image, ``[B]``."""
        return torch.stack([v for p, v in self.values.items() if p.split(".", 1)[0] == task]).sum(0)
