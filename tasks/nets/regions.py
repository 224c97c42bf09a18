"""The second stage of an R-CNN for one image: boxes, masks and keypoints of proposed regions (He et al. 2017)."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.models.detection.roi_heads import RoIHeads, fastrcnn_loss, heatmaps_to_keypoints, keypointrcnn_loss
from torchvision.models.detection.rpn import RegionProposalNetwork
from torchvision.ops import batched_nms, box_iou, roi_align

from tasks.geometry import Rle, box_area, clip_boxes
from tasks.mask_patches import pasted
from tasks.nets.decode import Decode
from tasks.nets.region_targets import Regions
from tasks.types import Detections

Maps = Mapping[str, Tensor]  # name -> [1, c, h, w]
Size = tuple[int, int]
IN_CROWD = 0.5  # share of a region that lies in a crowd from which on it says nothing about the background


class Proposals(RegionProposalNetwork):  # type: ignore[misc]
    """torchvision's proposal network, for which a crowd is not background; and losses that are 0 without any anchor."""

    def assign_targets_to_anchors(
        self, anchors: list[Tensor], targets: list[dict[str, Tensor]]
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Labels (1 object, 0 background, -1 neither) and boxes of each anchor, image by image."""
        labels, boxes = super().assign_targets_to_anchors(anchors, targets)
        for label, anchor, target in zip(labels, anchors, targets, strict=True):
            label[(label == 0) & in_crowd(anchor, target["crowd"])] = -1
        return labels, boxes

    def compute_loss(
        self, objectness: Tensor, deltas: Tensor, labels: list[Tensor], wanted: list[Tensor]
    ) -> tuple[Tensor, Tensor]:
        """The losses of objectness and boxes, scalars."""
        if not any(bool((label >= 0).any()) for label in labels):
            return objectness.sum() * 0, deltas.sum() * 0
        found: tuple[Tensor, Tensor] = super().compute_loss(objectness, deltas, labels, wanted)
        return found


def in_crowd(boxes: Tensor, crowd: Tensor) -> Tensor:
    """``[N]`` whether more than half of each box ``[N, 4]`` lies in one of the crowds ``[M, 4]``."""
    if not len(crowd):
        return torch.zeros(len(boxes), dtype=torch.bool, device=boxes.device)
    low = torch.maximum(boxes[:, None, :2], crowd[None, :, :2])
    high = torch.minimum(boxes[:, None, 2:], crowd[None, :, 2:])
    inside = (high - low).clamp(min=0).prod(-1).amax(1)
    return inside > IN_CROWD * box_area(boxes)


@dataclass(frozen=True)
class Wanted:
    """Which branches answer, and what they need to."""

    masks: bool
    keypoints: bool
    slots: Tensor  # [C, K] as of ``slots_of``
    points: int  # P, of the data set
    sure_point: float  # a keypoint below this score is said to be unlabeled (v = 0)


class RegionHeads(RoIHeads):  # type: ignore[misc]
    """torchvision's heads of regions, for one image at a time, where any object may lack its mask or its keypoints."""

    def losses(self, maps: Maps, proposals: Tensor, target: Regions, size: Size) -> dict[str, Tensor]:
        """Scalars "cls", "box", and "mask" and "kp" where there is such a branch; 0 and connected without any label.

        A mask is learned where an object has one, a keypoint where it is labeled and in its region.
        """
        matched_any = (box_iou(proposals, target.boxes) >= 0.5).any(1)
        proposals = proposals[matched_any | ~in_crowd(proposals, target.crowd)]
        given = [{"boxes": target.boxes, "labels": target.labels, "masks": target.masks}]
        regions, matched, labels, wanted = self.select_training_samples([proposals], given)
        logits, deltas = self.box_predictor(self.box_head(self.box_roi_pool(maps, regions, [size])))
        found: dict[str, Tensor] = {"cls": logits.sum() * 0, "box": deltas.sum() * 0}
        if len(regions[0]):
            found["cls"], found["box"] = fastrcnn_loss(logits, deltas, labels, wanted)
        positive, match = labels[0] > 0, matched[0]
        if self.has_mask():
            rows = positive & target.has_mask[match] if len(target.boxes) else positive & False
            found["mask"] = self._mask_loss(maps, regions[0][rows], labels[0][rows], match[rows], target, size)
        if self.has_keypoint():
            labeled = (target.keypoints[..., 2] > 0).any(1)
            rows = positive & labeled[match] if len(target.boxes) else positive & False
            pooled = self.keypoint_roi_pool(maps, [regions[0][rows]], [size])
            heat = self.keypoint_predictor(self.keypoint_head(pooled))
            found["kp"] = heat.sum() * 0
            if bool(rows.any()):
                found["kp"] = keypointrcnn_loss(heat, [regions[0][rows]], [target.keypoints], [match[rows]])
        return found

    def _mask_loss(
        self, maps: Maps, regions: Tensor, labels: Tensor, match: Tensor, target: Regions, size: Size
    ) -> Tensor:
        """The mean cross-entropy of the masks of the true classes; pixel centres at .5, as everywhere here."""
        logits = self.mask_predictor(self.mask_head(self.mask_roi_pool(maps, [regions], [size])))
        if not len(regions):
            zero: Tensor = logits.sum() * 0
            return zero
        rois = torch.cat([match[:, None].to(regions), regions], 1)
        truth = roi_align(target.masks[:, None].to(regions), rois, logits.shape[-2:], aligned=True)[:, 0]
        own = logits[torch.arange(len(labels), device=labels.device), labels]
        return F.binary_cross_entropy_with_logits(own.float(), truth.clamp(0, 1))

    def answer(self, maps: Maps, proposals: Tensor, size: Size, settings: Decode, wanted: Wanted) -> Detections:
        """The detections of the image; ``probs`` are a softmax ``[D, C + 1]`` with the background last."""
        logits, deltas = self.box_predictor(self.box_head(self.box_roi_pool(maps, [proposals], [size])))
        probs = logits.float().softmax(-1).roll(-1, dims=1)
        boxes = clip_boxes(self.box_coder.decode(deltas, [proposals])[:, 1:].float(), size)  # [N, C, 4]
        region, label = (probs[:, :-1] > settings.score).nonzero(as_tuple=True)
        box, score = boxes[region, label], probs[region, label]
        is_box = (box[:, 2:] - box[:, :2] > 0.01).all(1)
        region, label, box, score = region[is_box], label[is_box], box[is_box], score[is_box]
        # float64: the offsets that keep the classes apart cost no precision
        kept = batched_nms(box.double(), score.double(), label, settings.nms).sort().values
        kept = kept[score[kept].argsort(descending=True, stable=True)][: settings.top]
        region, label, box, score = region[kept], label[kept], box[kept], score[kept]
        masks, grids = self._masks(maps, box, label, size) if wanted.masks else (None, None)
        points, heat = self._points(maps, box, label, size, wanted) if wanted.keypoints else (None, None)
        return Detections(box, score, label, probs[region], masks, points, heat, grids)

    def _masks(self, maps: Maps, boxes: Tensor, labels: Tensor, size: Size) -> tuple[tuple[Rle, ...], Tensor]:
        """The masks in the image, and their probabilities ``[D, m, m]`` in the boxes."""
        logits = self.mask_predictor(self.mask_head(self.mask_roi_pool(maps, [boxes], [size])))
        own = logits[torch.arange(len(labels), device=labels.device), labels + 1].float().sigmoid()
        return tuple(pasted(one, box, size) for one, box in zip(own.cpu(), boxes.cpu(), strict=True)), own

    def _points(self, maps: Maps, boxes: Tensor, labels: Tensor, size: Size, wanted: Wanted) -> tuple[Tensor, Tensor]:
        """``[D, P, 3]`` and ``[D, P]``: the keypoints of each class in their places; all else is 0.

        A score is the probability of the best cell of its heat map: 1 / 56^2 says nothing.
        """
        logits = self.keypoint_predictor(self.keypoint_head(self.keypoint_roi_pool(maps, [boxes], [size]))).float()
        found, _ = heatmaps_to_keypoints(logits, boxes)
        best = logits.flatten(2).softmax(-1).amax(-1)
        mine = wanted.slots[labels]
        points = boxes.new_zeros(len(boxes), wanted.points + 1, 3)  # the last place takes the empty slots
        scores = boxes.new_zeros(len(boxes), wanted.points + 1)
        rows = torch.arange(len(boxes), device=boxes.device)[:, None].expand_as(mine)
        place = torch.where(mine >= 0, mine, wanted.points)
        found[..., 2] = torch.where(best >= wanted.sure_point, 2.0, 0.0)
        points[rows, place], scores[rows, place] = found * (found[..., 2:] > 0), best
        return points[:, :-1], scores[:, :-1]
