"""The network of Salscheider 2020 (simultaneous object detection and semantic segmentation), for faithful comparisons.

A dilated residual net of separable convolutions at stride 8, a decoder of full resolution, and an anchor head whose
class softmax knows no background: it is the class distribution of a box given that there is an object. The published
code is followed where the paper is silent; the factors of its losses are part of the heads.
"""

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tasks.classes import ClassMap
from tasks.nets.anchors import PER_CELL, anchors_of, boxes_of, encode, feature_nms, match
from tasks.nets.checkpoint import file_of, load
from tasks.nets.decode import STANDARD, Candidates, Decode, decode
from tasks.nets.depth_head import DepthHead
from tasks.nets.heads import Answers, Size, outputs_of
from tasks.nets.lossnet import LossPrediction
from tasks.nets.model import MultiTaskNet
from tasks.nets.panoptic_fpn import cross_entropy, seg_maps
from tasks.types import Objects, Target

EMBEDDING = 64  # numbers an anchor
PAIRED = 128  # positive anchors of an image that the embedding loss compares
OBJECTNESS, CLASS, BOX, SEGMENTATION, MARGIN = 0.1, 50.0, 100.0, 50.0, 2.0  # factors of the losses


class Block(nn.Module):
    """Pre-activation residual block of two separable 3x3 convolutions."""

    def __init__(self, inputs: int, outputs: int, dilation: int = 1) -> None:
        super().__init__()
        self.enter = nn.Sequential(nn.BatchNorm2d(inputs), nn.ReLU())
        self.shortcut = nn.Conv2d(inputs, outputs, 1, bias=False) if inputs != outputs else nn.Identity()
        self.body = nn.Sequential(
            *_separable(inputs, outputs, dilation),
            nn.BatchNorm2d(outputs),
            nn.ReLU(),
            *_separable(outputs, outputs, dilation),
        )

    def forward(self, x: Tensor) -> Tensor:
        active = self.enter(x)
        found: Tensor = self.body(active) + self.shortcut(active)
        return found


class Body(nn.Module):
    """Maps after each stage: stride 4, then three at stride 8, the last one with 8 ``width`` channels."""

    def __init__(self, width: int) -> None:
        super().__init__()
        w = width
        self.channels = (2 * w, 2 * w, 4 * w, 8 * w)
        stem = nn.Sequential(nn.Conv2d(3, w, 7, 2, 3, bias=False), nn.ReLU(), nn.BatchNorm2d(w))
        half = nn.MaxPool2d(2)
        self.stages = nn.ModuleList(
            [
                nn.Sequential(stem, Block(w, w), Block(w, w), half, Block(w, w), Block(w, 2 * w)),
                nn.Sequential(half, Block(2 * w, 2 * w), Block(2 * w, 2 * w), Block(2 * w, 2 * w)),
                nn.Sequential(Block(2 * w, 4 * w, 2), Block(4 * w, 4 * w, 2), Block(4 * w, 4 * w, 2)),
                nn.Sequential(Block(4 * w, 8 * w, 4), Block(8 * w, 8 * w, 8), Block(8 * w, 8 * w, 4)),
            ]
        )

    def forward(self, images: Tensor) -> list[Tensor]:
        maps, x = [], images
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return maps


class LabelHead(nn.Module):
    """Semantic segmentation at full resolution: three blocks, three transposed convolutions, a 1x1 convolution."""

    parts = ("ce",)

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        layers: list[nn.Module] = [Block(channels, channels) for _ in range(3)]
        inputs = channels
        for outputs in (channels // 4, channels // 8, channels // 16):
            layers += [nn.BatchNorm2d(inputs), nn.ConvTranspose2d(inputs, outputs, 4, 2, 1), nn.ReLU()]
            inputs = outputs
        self.layers = nn.Sequential(*layers, nn.Conv2d(inputs, classes, 1))

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Logits ``[B, K, H, W]``."""
        logits: Tensor = self.layers(maps[-1])
        return logits

    def losses(self, maps: Sequence[Tensor], targets: Sequence[Target | None], size: Size) -> dict[str, Tensor]:
        """``{"ce": [B]}``, 50 times the mean over the valid pixels (the original divides by all pixels)."""
        return {"ce": SEGMENTATION * cross_entropy(self(maps), targets, size)}

    def answers(self, maps: Sequence[Tensor], size: Size, *, outputs: bool, dense: bool) -> Answers:
        """The log-probabilities of each image at full resolution."""
        return Answers(seg_maps(self(maps)))


class AnchorHead(nn.Module):
    """145 anchors a cell of stride 8: objectness, class without background, box code, and an optional embedding.

    ``embedded`` trains embeddings and suppresses by feature NMS; the paper's own results use plain NMS, the default.
    """

    def __init__(self, channels: int, classes: int, settings: Decode, embedded: bool) -> None:
        super().__init__()
        self.settings, self.embedded = settings, embedded
        self.parts = ("objectness", "cls", "box", "embedding") if embedded else ("objectness", "cls", "box")
        self.trunk = nn.Sequential(*(Block(channels, channels) for _ in range(3)))
        self.objectness = _decoder(channels, channels // 4, 2)
        self.classify = _decoder(channels, channels // 4, classes)
        self.regress = _decoder(channels, channels // 4, 4)
        self.embed = _decoder(channels, channels, EMBEDDING) if embedded else None

    def losses(self, maps: Sequence[Tensor], targets: Sequence[Target | None], size: Size) -> dict[str, Tensor]:
        """``{part: [B]}`` with the original's factors: objectness a sum over anchors, the others means."""
        x = self.trunk(maps[-1])
        objectness, logits, code = _rows(self.objectness(x)), _rows(self.classify(x)), _rows(self.regress(x))
        embedding = None if self.embed is None else F.normalize(_rows(self.embed(x)), dim=-1)
        anchors = anchors_of(size, x.device)
        found: list[dict[str, Tensor]] = []
        for b, target in enumerate(targets):
            boxes, labels, crowd = _objects(target, x.device)
            matched = match(anchors, boxes, crowd)
            positive = (matched >= 0).nonzero().flatten()
            row = matched[positive]
            number = max(1, len(positive))
            wanted = encode(boxes[row], anchors[positive])
            losses = {
                "objectness": OBJECTNESS * focal_sum(objectness[b], matched),
                "cls": CLASS * F.cross_entropy(logits[b, positive], labels[row], reduction="sum") / number,
                "box": BOX * F.smooth_l1_loss(code[b, positive], wanted, reduction="sum") / (4 * number),
            }
            if embedding is not None:
                losses["embedding"] = MARGIN * margin_loss(embedding[b, positive], row)
            found.append(losses)
        return {part: torch.stack([losses[part] for losses in found]) for part in self.parts}

    def answers(self, maps: Sequence[Tensor], size: Size, *, outputs: bool, dense: bool) -> Answers:
        """Detections, each with the softmax over the object classes; ``dense``: the class logits of every anchor."""
        x = self.trunk(maps[-1])
        logits = _rows(self.classify(x))
        if not outputs:
            return Answers([], logits)
        probs = logits.softmax(-1)
        objectness = _rows(self.objectness(x)).softmax(-1)[..., 1]
        best = probs.argmax(-1, keepdim=True)
        scores = torch.zeros_like(probs).scatter(-1, best, objectness.unsqueeze(-1))  # an anchor is of one class
        boxes = boxes_of(_rows(self.regress(x)), anchors_of(size, x.device))
        suppress = None
        if self.embed is not None:
            embedding = F.normalize(_rows(self.embed(x)), dim=-1)

            def suppress(box: Tensor, found: Candidates) -> Tensor:
                return by_feature(box, found, embedding[found.image, found.location], self.settings.top)

        found = decode(scores, probs, boxes, (logits.shape[1],), size, self.settings, suppress)
        return Answers(found, logits if dense else None)


def by_feature(boxes: Tensor, found: Candidates, embeddings: Tensor, top: int) -> Tensor:
    """Indices of the candidates that feature NMS keeps, image by image."""
    kept = [torch.zeros(0, dtype=torch.int64, device=boxes.device)]
    for image in torch.unique(found.image).tolist():
        rows = (found.image == image).nonzero().flatten()
        kept.append(rows[feature_nms(boxes[rows], found.score[rows], embeddings[rows], top)])
    return torch.cat(kept)


def focal_sum(objectness: Tensor, matched: Tensor) -> Tensor:
    """The focal loss (gamma 2) of the logits ``[A, 2]``, summed over the anchors that are not ignored ``[A]``."""
    log_probs = F.log_softmax(objectness, -1)
    true = log_probs.gather(1, (matched >= 0).long().unsqueeze(1)).squeeze(1)
    return -((1 - true.exp()).square() * true * (matched >= -1)).sum()


def margin_loss(embeddings: Tensor, objects: Tensor, alpha: float = 0.2, beta: float = 1.0) -> Tensor:
    """The mean over pairs of ``max(0, alpha + y (d - beta))``: y = 1 for one object, -1 for two; d squared distance.

    ``embeddings [P, E]`` of positive anchors, ``objects [P]``. At most 128 of them, evenly spaced, are compared.
    """
    step = max(1, -(-len(objects) // PAIRED))
    embeddings, objects = embeddings[::step], objects[::step]
    distance = (embeddings[:, None] - embeddings[None]).square().sum(-1)
    sign = torch.where(objects[:, None] == objects[None], 1.0, -1.0)
    pairs = F.relu(alpha + sign * (distance - beta)).triu(1)
    return pairs.sum() / max(1, len(objects) * (len(objects) - 1) // 2)


def salscheider(
    classes: ClassMap,
    tasks: Sequence[str],
    *,
    weights: str | None = None,
    loss_prediction: LossPrediction | None = None,
    decode: Decode = STANDARD,
    width: int = 64,
    feature_nms: bool = False,
) -> MultiTaskNet:
    """Salscheider 2020 with 8 ``width`` channels at stride 8 (published: 512); ``weights``: null or a file."""
    file = file_of(weights, names=())
    if width < 16 or width % 2:
        raise ValueError(f"model.width: {width}; expected an even number from 16 on")
    body, heads = Body(width), dict[str, nn.Module]()
    for task, count in outputs_of(classes, tasks).items():
        if task == "detection":
            heads[task] = AnchorHead(8 * width, count, decode, feature_nms)
        else:
            pixels = LabelHead(8 * width, count)
            heads[task] = pixels if task == "segmentation" else DepthHead(pixels)
    model = MultiTaskNet(body, nn.Identity(), heads, channels=body.channels, stride=8, loss_prediction=loss_prediction)
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
    if "depth" in heads:
        last = [module for module in heads["depth"].modules() if isinstance(module, nn.Conv2d)][-1]
        nn.init.zeros_(last.weight)  # with such weights as the others' it begins with kilometres
    return load(model, file)


def _separable(inputs: int, outputs: int, dilation: int) -> tuple[nn.Module, nn.Module]:
    depth = nn.Conv2d(inputs, inputs, 3, padding=dilation, dilation=dilation, groups=inputs, bias=False)
    return depth, nn.Conv2d(inputs, outputs, 1, bias=False)


def _decoder(inputs: int, width: int, outputs: int) -> nn.Sequential:
    """Two blocks and a 1x1 convolution: ``outputs`` numbers for each anchor of a cell."""
    return nn.Sequential(Block(inputs, width), Block(width, width), nn.Conv2d(width, outputs * PER_CELL, 1))


def _rows(x: Tensor) -> Tensor:
    """``[B, 145 n, h, w]`` to float32 ``[B, h w 145, n]``."""
    return x.float().permute(0, 2, 3, 1).reshape(len(x), -1, x.shape[1] // PER_CELL)


def _objects(target: Target | None, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Boxes ``[N, 4]``, labels ``[N]`` and crowd ``[N]``; nothing where there is no label."""
    if target is None:
        empty = torch.zeros(0, dtype=torch.int64, device=device)
        return torch.zeros(0, 4, device=device), empty, empty.bool()
    objects = cast(Objects, target)
    return objects.boxes.float().to(device), objects.labels.to(device), objects.crowd.to(device)
