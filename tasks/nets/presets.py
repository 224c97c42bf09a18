"""The networks that a YAML may name: a small one for CPUs, ResNet-50 and HRNet for GPUs."""

from collections.abc import Sequence

from torch import nn

from tasks.classes import ClassMap
from tasks.nets.backbones import HrnetBody, Pyramid, ResNetBody, SmallBody
from tasks.nets.decode import Decode
from tasks.nets.fcos import FcosHead
from tasks.nets.heads import batch_norm, group_norm
from tasks.nets.lossnet import LossPrediction
from tasks.nets.model import MultiTaskNet
from tasks.nets.panoptic_fpn import PanopticHead


def small(
    classes: ClassMap,
    tasks: Sequence[str],
    *,
    weights: str | None = None,
    loss_prediction: LossPrediction | None = None,
    decode: Decode = Decode(),
    width: int = 32,
) -> MultiTaskNet:
    neck = width * 5 // 4
    body = SmallBody(width)
    heads: dict[str, nn.Module] = {}
    heads["detection"] = FcosHead(neck, len(classes.detection), (4, 8, 16, 32), norm=batch_norm, depth=2, shared=True, settings=decode)
    heads["segmentation"] = PanopticHead(neck, len(classes.segmentation), (4, 8, 16, 32), width=neck, norm=batch_norm, loss_stride=2)
    return MultiTaskNet(body, Pyramid(body.channels, neck, smooth=False), heads, channels=(neck,) * 4, stride=32, loss_prediction=loss_prediction)
