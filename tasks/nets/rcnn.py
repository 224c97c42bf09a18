"""One R-CNN with a branch each for boxes, masks and keypoints (He et al. 2017, on torchvision)."""

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models import ResNet50_Weights
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.keypoint_rcnn import KeypointRCNNHeads, KeypointRCNNPredictor
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.models.detection.rpn import RPNHead
from torchvision.ops import MultiScaleRoIAlign

from tasks.base import wanted_heads
from tasks.classes import ClassMap
from tasks.nets.backbones import Pyramid, ResNetBody, SmallBody
from tasks.nets.checkpoint import file_of, load
from tasks.nets.decode import STANDARD, Decode
from tasks.nets.model import IMAGENET_MEAN, IMAGENET_STD
from tasks.nets.region_targets import regions_of, slots_of
from tasks.nets.regions import Maps, Proposals, RegionHeads, Wanted
from tasks.types import Batch, Detections, Losses, Prediction, Target

HEADS = ("detection", "instances", "keypoints")
LEVELS = ("0", "1", "2", "3")  # the maps that regions are read from; the proposals have one more
STRIDES = (4, 8, 16, 32, 64)
PARTS = {
    "detection.objectness": "loss_objectness", "detection.rpn_box": "loss_rpn_box_reg", "detection.cls": "cls",
    "detection.box": "box", "instances.mask": "mask", "keypoints.kp": "kp",
}  # fmt: skip


class MultiHeadRcnn(nn.Module):
    """Backbone -> pyramid -> proposals -> boxes, masks and keypoints in one pass; satisfies ``tasks.base.Model``.

    The maps are made for a batch; from there on each image is by itself: its losses, its samples, its detections.
    Losses are means over the samples of an image, as torchvision's are over those of a batch.
    """

    mean_colour: Tensor  # [3] RGB in 0..1: what views fill empty pixels with
    deviation: Tensor  # [3]
    slots: Tensor  # [C, K]

    def __init__(
        self,
        backbone: nn.Module,
        neck: nn.Module,
        rpn: Proposals,
        roi_heads: RegionHeads,
        classes: ClassMap,
        tasks: Sequence[str],
        decode: Decode,
        *,
        around_points: bool,
        sure_point: float,
    ) -> None:
        super().__init__()
        self.backbone, self.neck, self.rpn, self.roi_heads = backbone, neck, rpn, roi_heads
        self.tasks, self.decode, self.points = tuple(tasks), decode, len(classes.keypoints)
        self.around_points, self.sure_point = around_points, sure_point
        self.provides = frozenset(tasks) | {"features"}
        self.register_buffer("mean_colour", torch.tensor(IMAGENET_MEAN), persistent=False)
        self.register_buffer("deviation", torch.tensor(IMAGENET_STD), persistent=False)
        self.register_buffer("slots", slots_of(classes), persistent=False)

    @property
    def shared(self) -> tuple[nn.Parameter, ...]:
        """The parameters of the last layers that all branches share: the pyramid."""
        return tuple(parameter for parameter in self.neck.parameters() if parameter.requires_grad)

    def maps(self, images: Tensor) -> list[Tensor]:
        """The five shared maps of ``images [B, 3, H, W]``, RGB 0..1; the last is the fourth at half its resolution."""
        x = (images - self.mean_colour.view(3, 1, 1)) / self.deviation.view(3, 1, 1)
        found: list[Tensor] = self.neck(self.backbone(x))
        return [*found, F.max_pool2d(found[-1], 1, 2)]

    def forward(self, batch: Batch) -> Losses:
        """The losses of every branch, per image; a missing label counts 0, connected to the graph."""
        maps, device = self.maps(batch.images), batch.images.device
        parts = [part for part in PARTS if part.split(".")[0] in self.tasks]
        rows: dict[str, list[Tensor]] = {part: [] for part in parts}
        labeled = {
            task: [target is not None for target in batch.targets.get(task, (None,) * len(batch.images))]
            for task in self.tasks
        }
        for b in range(len(batch.images)):
            own = {task: batch.targets[task][b] if labeled[task][b] else None for task in self.tasks}
            found = self._losses(maps, b, batch.images, own)
            for part in parts:
                value = found[PARTS[part]]
                rows[part].append(value if labeled[part.split(".")[0]][b] else value * 0)
        return Losses(
            {part: torch.stack(values).float() for part, values in rows.items()},
            {task: torch.tensor(flags, device=device) for task, flags in labeled.items()},
        )

    def _losses(
        self, maps: Sequence[Tensor], b: int, images: Tensor, own: Mapping[str, Target | None]
    ) -> dict[str, Tensor]:
        size = (images.shape[-2], images.shape[-1])
        target = regions_of(
            own.get("detection"),
            own.get("instances"),
            own.get("keypoints"),
            self.slots,
            size,
            images.device,
            around_points=self.around_points,
        )
        named = _of_image(maps, b)
        given = [{"boxes": target.boxes, "crowd": target.crowd}]
        proposals, first = self.rpn(ImageList(images[b : b + 1], [size]), named, given)
        found: dict[str, Tensor] = first | self.roi_heads.losses(named, proposals[0], target, size)
        return found

    @torch.inference_mode()
    def predict(
        self, images: Tensor, heads: Sequence[str] | None = None, inputs: Mapping[str, Tensor] | None = None
    ) -> list[Prediction]:
        """One prediction an image; ``heads`` limits the work, None = all. Call ``eval()`` first.

        Boxes, masks and keypoints are rows of the same detections. ValueError for a head it does not have.
        """
        assert not self.training, "predict() in training mode: call eval() first"
        wanted = wanted_heads(self.provides, heads)
        maps, tasks = self.maps(images), [task for task in self.tasks if task in wanted]
        pooled = torch.cat([x.float().mean((2, 3)) for x in maps[: len(LEVELS)]], 1)
        found = []
        for b in range(len(images)):
            output = self._answer(maps, b, images, frozenset(tasks)) if tasks else None
            found.append(
                Prediction(
                    outputs={} if output is None else dict.fromkeys(tasks, output),
                    features=pooled[b] if "features" in wanted else None,
                )
            )
        return found

    def _answer(self, maps: Sequence[Tensor], b: int, images: Tensor, tasks: frozenset[str]) -> Detections:
        size, named = (images.shape[-2], images.shape[-1]), _of_image(maps, b)
        proposals, _ = self.rpn(ImageList(images[b : b + 1], [size]), named)
        branches = Wanted("instances" in tasks, "keypoints" in tasks, self.slots, self.points, self.sure_point)
        return self.roi_heads.answer(named, proposals[0], size, self.decode, branches)


def _of_image(maps: Sequence[Tensor], b: int) -> Maps:
    return {str(level): x[b : b + 1] for level, x in enumerate(maps)}


def rcnn(
    classes: ClassMap,
    tasks: Sequence[str],
    *,
    backbone: Literal["resnet50", "small"] = "resnet50",
    weights: str | None = None,
    decode: Decode = STANDARD,
    width: int = 256,
    anchor: float = 8.0,
    proposals: int = 1000,
    samples: int = 512,
    frozen_norm: bool = False,
    around_points: bool = False,
    sure_point: float = 0.0,
) -> MultiHeadRcnn:
    """The multi-head R-CNN for boxes and, where they are among the tasks, instance masks and keypoints.

    ``backbone: small`` with ``width: 64`` is for a CPU. ``anchor`` is the side of an anchor in strides (4 to 64 px);
    ``proposals`` go into the second stage, twice as many in training, of which ``samples`` are learned from.
    ``frozen_norm`` is resnet50's. ``around_points`` makes the boxes of training hold their keypoints: those outside
    are not learned. ``sure_point`` is the score (0..1) below which a keypoint is said not to be there.
    """
    _check(classes, tasks, width, anchor, proposals, samples, sure_point)
    names = tuple(ResNet50_Weights.__members__) if backbone == "resnet50" else ()
    file = file_of(weights, names)
    if backbone == "small":
        body: SmallBody | ResNetBody = SmallBody(32)
    else:
        body = ResNetBody(weights if weights in names else None, frozen_norm)
    model = MultiHeadRcnn(
        body,
        Pyramid(body.channels, width),
        _proposals(width, anchor, proposals),
        _regions(width, classes, tasks, samples),
        classes,
        tasks,
        decode,
        around_points=around_points,
        sure_point=sure_point,
    )
    return load(model, file)


def _proposals(width: int, anchor: float, count: int) -> Proposals:
    anchors = AnchorGenerator(tuple((anchor * s,) for s in STRIDES), ((0.5, 1.0, 2.0),) * len(STRIDES))
    kept = {"training": 2 * count, "testing": count}
    return Proposals(anchors, RPNHead(width, 3), 0.7, 0.3, 256, 0.5, kept, kept, 0.7)


def _regions(width: int, classes: ClassMap, tasks: Sequence[str], samples: int) -> RegionHeads:
    """Heads of torchvision's sizes at a width of 256, smaller ones below it."""
    outputs, representation = len(classes.detection) + 1, 4 * width
    branches: dict[str, nn.Module] = {}
    if "instances" in tasks:
        branches["mask_roi_pool"] = MultiScaleRoIAlign(list(LEVELS), 14, 2)
        branches["mask_head"] = MaskRCNNHeads(width, (width,) * 4, 1)
        branches["mask_predictor"] = MaskRCNNPredictor(width, width, outputs)
    if "keypoints" in tasks:
        branches["keypoint_roi_pool"] = MultiScaleRoIAlign(list(LEVELS), 14, 2)
        branches["keypoint_head"] = KeypointRCNNHeads(width, (2 * width,) * 8)
        branches["keypoint_predictor"] = KeypointRCNNPredictor(2 * width, slots_of(classes).shape[1])
    return RegionHeads(
        MultiScaleRoIAlign(list(LEVELS), 7, 2),
        TwoMLPHead(width * 7**2, representation),
        FastRCNNPredictor(representation, outputs),
        fg_iou_thresh=0.5,
        bg_iou_thresh=0.5,
        batch_size_per_image=samples,
        positive_fraction=0.25,
        bbox_reg_weights=None,
        score_thresh=0.0,  # ``answer`` has its own Decode
        nms_thresh=0.5,
        detections_per_img=1,
        **branches,
    )


def _check(
    classes: ClassMap,
    tasks: Sequence[str],
    width: int,
    anchor: float,
    proposals: int,
    samples: int,
    sure_point: float,
) -> None:
    """ValueError for what this network cannot be made from."""
    if unknown := [task for task in tasks if task not in HEADS]:
        raise ValueError(f"tasks: this model has no head for {unknown[0]!r}; it has {', '.join(HEADS)}")
    if "detection" not in tasks:
        raise ValueError(
            f"tasks: {list(tasks)}; expected 'detection' among them: masks and keypoints are those of boxes"
        )
    if not classes.detection:
        raise ValueError("tasks: the data set names no classes for 'detection'; expected classes of boxes")
    if "keypoints" in tasks and not classes.keypoints:
        raise ValueError("tasks: the data set names no keypoints; leave the task 'keypoints' out")
    if width < 8 or width % 4:
        raise ValueError(f"model.width: {width}; expected a multiple of 4, from 8 on")
    if not 0 < anchor < float("inf"):
        raise ValueError(f"model.anchor: {anchor}; expected strides, more than 0")
    if proposals < 1 or samples < 4:
        raise ValueError(f"model: proposals {proposals}, samples {samples}; expected at least 1 and 4")
    if not 0 <= sure_point <= 1:
        raise ValueError(f"model.sure_point: {sure_point}; expected a probability, 0..1")
