"""HRNet for GPUs. A file of its own: importing timm takes half a second, and the other networks do without."""

from collections.abc import Sequence
from pathlib import Path

import timm
from torch import Tensor, nn

from tasks.classes import ClassMap
from tasks.nets.checkpoint import file_of, load
from tasks.nets.decode import STANDARD, Decode
from tasks.nets.heads import outputs_of
from tasks.nets.lossnet import LossPrediction
from tasks.nets.model import MultiTaskNet
from tasks.nets.presets import large


class HrnetBody(nn.Module):
    """HRNet of timm (Wang et al. 2020) without its classification head: maps at strides 4, 8, 16, 32."""

    def __init__(self, variant: str, pretrained: bool, inputs: int = 3) -> None:
        super().__init__()
        # feature_location='': the branches themselves, not the wide "incre" maps; index 0 would be the stem
        self.body = timm.create_model(
            variant, pretrained=pretrained, in_chans=inputs, features_only=True, feature_location="",
            out_indices=(1, 2, 3, 4),
        )  # fmt: skip
        self.channels = tuple(self.body.feature_info.channels())

    def forward(self, images: Tensor) -> list[Tensor]:
        return list(self.body(images))


def hrnet_bodies(variant: str, weights: str | None, inputs: Sequence[int]) -> tuple[list[HrnetBody], Path | None]:
    """A body for each number of input channels, with the weights of timm that ``weights`` names; or its file."""
    tags = tuple(name.partition(".")[2] for name in timm.list_pretrained(f"{variant}.*"))
    names = ("imagenet", *tags)
    file = file_of(weights, names)
    chosen = f"{variant}.{weights}" if weights in tags else variant
    return [HrnetBody(chosen, weights in names, count) for count in inputs], file


def hrnet(
    classes: ClassMap,
    tasks: Sequence[str],
    *,
    weights: str | None = None,
    loss_prediction: LossPrediction | None = None,
    decode: Decode = STANDARD,
    width: int = 256,
    depth: int = 4,
    variant: str = "hrnet_w18",
) -> MultiTaskNet:
    """HRNet of timm with a pyramid of ``width`` channels; ``weights`` names: "imagenet" or a tag of the variant.

    What else ``weights`` may be, see ``presets``.
    """
    [body], file = hrnet_bodies(variant, weights, (3,))
    net = large(
        body, body.channels, outputs_of(classes, tasks), loss_prediction=loss_prediction, decode=decode, width=width,
        depth=depth, stride=32,
    )  # fmt: skip
    return load(net, file)
