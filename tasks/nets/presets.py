"""The networks that a YAML may name: a small one for CPUs, ResNet-50 for GPUs (HRNet has a file of its own).

``weights`` of every preset: None starts from random values; the path of a file with a state dict loads that, either
of the whole model (keys start with "backbone."; it must fit exactly) or of the backbone alone (a classification head
in it is left out); any other name is one of the library's, which downloads them.
"""

from collections.abc import Mapping, Sequence

from torch import nn
from torchvision.models import ResNet50_Weights

from tasks.classes import ClassMap
from tasks.nets.backbones import Pyramid, ResNetBody, SmallBody
from tasks.nets.checkpoint import file_of, load
from tasks.nets.decode import STANDARD, Decode
from tasks.nets.depth_head import DepthHead
from tasks.nets.fcos import FcosHead
from tasks.nets.heads import batch_norm, group_norm, outputs_of
from tasks.nets.lossnet import LossPrediction
from tasks.nets.model import MultiTaskNet
from tasks.nets.panoptic_fpn import PanopticHead


def small(
    classes: ClassMap,
    tasks: Sequence[str],
    *,
    weights: str | None = None,
    loss_prediction: LossPrediction | None = None,
    decode: Decode = STANDARD,
    width: int = 32,
) -> MultiTaskNet:
    """A net for one CPU core and images of about 96x160 to 240x320; 0.6 M parameters at width 32, 1.7 M at 52.

    Detection and segmentation work at strides 4 to 32, since objects of a few pixels count at such sizes.
    """
    if width < 8 or width % 4:
        raise ValueError(f"model.width: {width}; expected a multiple of 4, from 8 on")
    file = file_of(weights, names=())
    body, strides = SmallBody(width), (4, 8, 16, 32)
    heads: dict[str, nn.Module] = {}
    for task, count in outputs_of(classes, tasks).items():
        if task == "detection":
            heads[task] = FcosHead(width, count, strides, norm=batch_norm, depth=2, shared=True, settings=decode)
        else:
            pixels = PanopticHead(width, count, strides, width=width, norm=batch_norm, loss_stride=2)
            heads[task] = pixels if task == "segmentation" else DepthHead(pixels, loss_stride=2)
    pyramid = Pyramid(body.channels, width, smooth=False)
    return load(
        MultiTaskNet(body, pyramid, heads, channels=(width,) * 4, stride=4, loss_prediction=loss_prediction), file
    )


def resnet50(
    classes: ClassMap,
    tasks: Sequence[str],
    *,
    weights: str | None = None,
    loss_prediction: LossPrediction | None = None,
    decode: Decode = STANDARD,
    width: int = 256,
    depth: int = 4,
    frozen_norm: bool = False,
) -> MultiTaskNet:
    """ResNet-50 with a pyramid of ``width`` channels; ``weights`` names: those of torchvision, e.g. "IMAGENET1K_V2".

    ``frozen_norm`` keeps the batch norms of the backbone as they are loaded: for batches of one or two images.
    """
    names = tuple(ResNet50_Weights.__members__)
    file = file_of(weights, names)
    body = ResNetBody(weights if weights in names else None, frozen_norm)
    net = large(
        body, body.channels, outputs_of(classes, tasks), loss_prediction=loss_prediction, decode=decode, width=width,
        depth=depth,
    )  # fmt: skip
    return load(net, file)


def large(
    body: nn.Module,
    channels: Sequence[int],
    outputs: Mapping[str, int],
    *,
    loss_prediction: LossPrediction | None,
    decode: Decode,
    width: int,
    depth: int,
    stride: int = 4,
) -> MultiTaskNet:
    """A net for GPUs on a body whose maps have ``channels``; ``outputs {task: numbers a cell}``.

    Detection works at strides 8 to 128 as in FCOS, segmentation and depth at strides 4 to 32 as in Panoptic-FPN.
    """
    heads: dict[str, nn.Module] = {}
    for task, count in outputs.items():
        if task == "detection":
            strides = (8, 16, 32, 64, 128)
            heads[task] = FcosHead(width, count, strides, norm=group_norm, first=1, depth=depth, settings=decode)
        else:
            pixels = PanopticHead(width, count, (4, 8, 16, 32), width=width // 2, norm=group_norm)
            heads[task] = pixels if task == "segmentation" else DepthHead(pixels)
    pyramid = Pyramid(channels, width, extra=2)
    return MultiTaskNet(body, pyramid, heads, channels=(width,) * 6, stride=stride, loss_prediction=loss_prediction)
