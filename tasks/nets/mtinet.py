"""MTI-Net: segmentation and depth that tell each other what they see, at four scales, from one modality or several.

Backbones of each modality give maps at strides 4, 8, 16, 32, which are added (FFM); for several tasks follow first
predictions at every scale, propagation from coarse to fine, distillation between tasks, and aggregation (see
``mtinet_parts``). For a single task, aggregation alone. A network that reads depth beside the image is a teacher.
"""

from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Literal, cast

import torch
from torch import Tensor, nn

from tasks.base import wanted_heads
from tasks.nets.backbones import Pyramid
from tasks.nets.checkpoint import file_of, load
from tasks.nets.depth_head import depth_maps, l1
from tasks.nets.heads import outputs_of
from tasks.nets.hrnet import HrnetBody, hrnet_bodies
from tasks.nets.inputs import channels_of, one_hot, stacked
from tasks.nets.model import IMAGENET_MEAN, IMAGENET_STD, last_stage
from tasks.nets.mtinet_parts import Aggregation, Interaction, Layout, PyramidBody
from tasks.nets.panoptic_fpn import cross_entropy, seg_maps
from tasks.types import Batch, ClassMap, Losses, Output, Prediction, Target

Backbone = Literal["pyramid", "hrnet_w18_small_v2", "hrnet_w18"]


class MtiNet(nn.Module):
    """Satisfies ``tasks.base.Model``; made by ``mtinet``, whose keys it explains.

    ``bodies`` read the inputs in ``groups``, one each, and give maps of ``channels``; ``outputs`` are numbers a cell.
    """

    mean_colour: Tensor  # [3] what views fill empty pixels with
    deviation: Tensor  # [3]

    def __init__(
        self,
        bodies: Sequence[nn.Module],
        groups: Sequence[Sequence[str]],
        outputs: Mapping[str, int],
        *,
        channels: Sequence[int],
        classes: int,
        stride: int,
        fpn: bool,
        layout: Layout,
        deep: bool,
        loss_stride: int,
        depth_range: tuple[float, float],
        depth_unit: float,
    ) -> None:
        super().__init__()
        self.backbone, self.beside = bodies[0], nn.ModuleList(bodies[1:])
        self.groups, self.inputs, self.tasks = groups, tuple(chain(*groups)), tuple(outputs)
        self.classes, self.stride, self.loss_stride = classes, stride, loss_stride
        self.depth_range, self.depth_unit = depth_range, depth_unit
        self.fpn = Pyramid(channels, channels[-1]) if fpn else None
        self.narrow = nn.ModuleList(nn.Conv2d(channels[-1], c, 1) for c in (channels if fpn else ()))
        counts = list(outputs.values())
        self.decoder = Interaction(channels, counts, layout, deep) if len(counts) > 1 else None
        self.single = Aggregation(channels, counts[0]) if len(counts) == 1 else None
        self.provides = frozenset(outputs) | {"features"}
        self.register_buffer("mean_colour", torch.tensor(IMAGENET_MEAN), persistent=False)
        self.register_buffer("deviation", torch.tensor(IMAGENET_STD), persistent=False)
        self.to(memory_format=torch.channels_last)

    @property
    def shared(self) -> tuple[nn.Parameter, ...]:
        """The parameters of the last layers that all tasks share: of the pyramid, or the backbones' last stages."""
        last = [self.narrow] if self.fpn is not None else [last_stage(body) for body in (self.backbone, *self.beside)]
        return tuple(parameter for module in last for parameter in module.parameters())

    def maps(self, images: Tensor, inputs: Mapping[str, Tensor] | None) -> list[Tensor]:
        """The fused maps of ``images [B, 3, H, W]``, RGB 0..1, and what is read beside them."""
        height, width = images.shape[-2:]
        if height % self.stride or width % self.stride:
            raise ValueError(
                f"images of {height}x{width}: expected multiples of {self.stride}, the stride of this model; "
                "set data.size accordingly"
            )
        found: list[Tensor] = []
        for body, names in zip((self.backbone, *self.beside), self.groups, strict=True):
            x = torch.cat([self._seen(name, images, inputs) for name in names], 1)
            own: list[Tensor] = body(x.contiguous(memory_format=torch.channels_last))
            found = [a + b for a, b in zip(found, own, strict=True)] if found else own
        if self.fpn is not None:
            found = [narrow(x) for narrow, x in zip(self.narrow, self.fpn(found), strict=True)]
        return found

    def forward(self, batch: Batch) -> Losses:
        """The losses of every task of this model, per image; a missing label counts 0, connected to the graph."""
        maps, size = self.maps(batch.images, batch.inputs), (batch.images.shape[-2], batch.images.shape[-1])
        values: dict[str, Tensor] = {}
        labeled: dict[str, Tensor] = {}
        for task, answers in self._answers(maps, deep=True).items():
            targets = batch.targets.get(task, (None,) * len(batch.images))
            part = "segmentation.ce" if task == "segmentation" else "depth.l1"
            values[part] = torch.stack([self._loss(task, x, targets, size) for x in answers]).sum(0)
            labeled[task] = torch.tensor([t is not None for t in targets], device=batch.images.device)
        return Losses(values, labeled)

    @torch.inference_mode()
    def predict(
        self, images: Tensor, heads: Sequence[str] | None = None, inputs: Mapping[str, Tensor] | None = None
    ) -> list[Prediction]:
        """One prediction an image. ValueError for a head that is not in ``provides``. Call ``eval()`` first."""
        assert not self.training, "predict() in training mode: call eval() first"
        wanted = wanted_heads(self.provides, heads)
        maps = self.maps(images, inputs)
        answers = self._answers(maps, deep=False) if wanted - {"features"} else {}
        outputs = {task: self._outputs(task, x[0]) for task, x in answers.items() if task in wanted}
        features = torch.cat([x.float().mean((2, 3)) for x in maps], 1)
        return [
            Prediction(
                outputs={task: found[b] for task, found in outputs.items()},
                features=features[b] if "features" in wanted else None,
            )
            for b in range(len(images))
        ]

    def _seen(self, name: str, images: Tensor, inputs: Mapping[str, Tensor] | None) -> Tensor:
        """One input as the network sees it."""
        if name == "rgb":
            return (images - self.mean_colour.view(3, 1, 1)) / self.deviation.view(3, 1, 1)
        if name == "segmentation" and inputs is not None and name in inputs:
            return one_hot(inputs[name], self.classes)
        return stacked(images, inputs, (name,), self.depth_range)

    def _answers(self, maps: Sequence[Tensor], deep: bool) -> dict[str, list[Tensor]]:
        """For each task its answer, and after it the first ones at all scales, where they are trained."""
        if self.decoder is None:
            return {self.tasks[0]: [cast(Aggregation, self.single)(maps)]}
        found: list[list[Tensor]] = self.decoder(maps, deep)
        return dict(zip(self.tasks, found, strict=True))

    def _loss(self, task: str, answer: Tensor, targets: Sequence[Target | None], size: tuple[int, int]) -> Tensor:
        if task == "segmentation":
            return cross_entropy(answer, targets, size, self.loss_stride)
        return l1(self.depth_unit * answer.float(), targets, size, self.loss_stride)

    def _outputs(self, task: str, answer: Tensor) -> Sequence[Output]:
        return seg_maps(answer) if task == "segmentation" else depth_maps(self.depth_unit * answer.float())


def mtinet(
    classes: ClassMap,
    tasks: Sequence[str],
    *,
    backbone: Backbone = "pyramid",
    weights: str | None = None,
    inputs: tuple[str, ...] = ("rgb",),
    fusion: Literal["sum", "stem"] = "sum",
    fpn: bool = False,
    fpm_layout: Layout = "tasks",
    deep_supervision: bool = True,
    loss_stride: int = 1,
    depth_range: tuple[float, float] = (0.0, 10.0),
    depth_unit: float = 1.0,
) -> MtiNet:
    """MTI-Net for segmentation, depth, or both; "pyramid" is for CPUs, the others are timm's.

    * ``inputs``: "rgb", "depth", "segmentation" (a label as input, one channel a class). ``fusion="sum"`` has a
      backbone for each and adds their maps, "stem" shows them all to one backbone;
    * ``weights``: null, a file, or for HRNet "imagenet" or a tag of timm, then for every backbone (a stem of one
      channel takes the sum over RGB); a file of a backbone alone goes to that of the first input;
    * ``deep_supervision`` adds the losses of the first predictions at all four scales; ``loss_stride`` is the grid of
      the losses in pixels;
    * ``depth_range``: metres that depth as an input is scaled by; ``depth_unit``: metres that an answer of 1 means.
    """
    if unfit := sorted(set(tasks) - {"segmentation", "depth"}):
        raise ValueError(f"tasks: mtinet has no head for {unfit[0]!r}; expected segmentation, depth, or both")
    if not tasks:
        raise ValueError("tasks: none is named; expected segmentation, depth, or both")
    if loss_stride not in (1, 2, 4):
        raise ValueError(f"model.loss_stride: {loss_stride}; expected 1, 2 or 4 pixels")
    if not 0 <= depth_range[0] < depth_range[1] < float("inf"):
        raise ValueError(f"model.depth_range: {list(depth_range)}; expected [nearest, farthest] in metres")
    if not 0 < depth_unit < float("inf"):
        raise ValueError(f"model.depth_unit: {depth_unit}; expected metres, more than 0")
    count = len(classes.segmentation)
    channels_of(inputs, count)
    groups = [inputs] if fusion == "stem" else [(name,) for name in inputs]
    bodies, file, stride = _bodies(backbone, weights, [channels_of(names, count) for names in groups])
    net = MtiNet(
        bodies, groups, outputs_of(classes, tasks), channels=bodies[0].channels, classes=count,
        stride=stride, fpn=fpn, layout=fpm_layout, deep=deep_supervision, loss_stride=loss_stride,
        depth_range=depth_range, depth_unit=depth_unit,
    )  # fmt: skip
    return load(net, file)


def _bodies(
    backbone: Backbone, weights: str | None, inputs: Sequence[int]
) -> tuple[Sequence[PyramidBody | HrnetBody], Path | None, int]:
    """A body for each number of input channels, the file of weights, and what sides must be multiples of."""
    if backbone == "pyramid":
        return [PyramidBody(count) for count in inputs], file_of(weights, names=()), 4
    bodies, file = hrnet_bodies(backbone, weights, inputs)
    return bodies, file, 32
