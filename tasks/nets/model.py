"""One network, several tasks: a shared backbone and pyramid, a head per task, and loss prediction on top."""

from collections.abc import Mapping, Sequence
from typing import cast

import torch
from torch import Tensor, nn

from tasks.base import wanted_heads
from tasks.nets.heads import Answers, Head
from tasks.nets.lossnet import LossNet, LossPrediction, ranking_loss
from tasks.types import Batch, Losses, Prediction

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class MultiTaskNet(nn.Module):
    """Backbone -> neck -> a head per task; satisfies ``tasks.base.Model``.

    ``channels`` are the widths of the maps that the neck gives; sides of images must be multiples of ``stride``.
    """

    mean_colour: Tensor  # [3] RGB in 0..1: what views fill empty pixels with
    deviation: Tensor  # [3]

    def __init__(
        self,
        backbone: nn.Module,
        neck: nn.Module,
        heads: Mapping[str, nn.Module],
        *,
        channels: Sequence[int],
        stride: int,
        loss_prediction: LossPrediction | None = None,
    ) -> None:
        super().__init__()
        if not heads:
            raise ValueError("tasks: the model has no head; expected at least one of 'detection', 'segmentation'")
        self.backbone, self.neck, self.stride = backbone, neck, stride
        self.heads = nn.ModuleDict(dict(heads))
        self.loss_prediction = loss_prediction
        self.lossnets = nn.ModuleDict()
        extra = {"features"} | ({"detection.dense"} if "detection" in heads else set())
        if loss_prediction is not None:
            if loss_prediction.levels > len(channels):
                raise ValueError(
                    f"loss_prediction.levels: {loss_prediction.levels}; expected at most {len(channels)}, "
                    "the maps that this model has"
                )
            widths = channels[: loss_prediction.levels]
            self.lossnets.update({task: LossNet(widths, loss_prediction.width) for task in heads})
            extra.add("predicted_loss")
        self.provides = frozenset(heads) | extra
        self.register_buffer("mean_colour", torch.tensor(IMAGENET_MEAN), persistent=False)
        self.register_buffer("deviation", torch.tensor(IMAGENET_STD), persistent=False)
        self.to(memory_format=torch.channels_last)

    @property
    def shared(self) -> tuple[nn.Parameter, ...]:
        """The parameters of the last layers that all heads share: the neck, or the last stage of the backbone."""
        last = self.neck if any(True for _ in self.neck.parameters()) else last_stage(self.backbone)
        return tuple(parameter for parameter in last.parameters() if parameter.requires_grad)

    def maps(self, images: Tensor) -> list[Tensor]:
        """The shared maps of ``images [B, 3, H, W]``, RGB 0..1. ValueError where the stride does not divide a side."""
        height, width = images.shape[-2:]
        if height % self.stride or width % self.stride:
            raise ValueError(
                f"images of {height}x{width}: expected multiples of {self.stride}, the stride of this model; "
                "set data.size accordingly"
            )
        x = (images - self.mean_colour.view(3, 1, 1)) / self.deviation.view(3, 1, 1)
        found: list[Tensor] = self.neck(self.backbone(x.contiguous(memory_format=torch.channels_last)))
        return found

    def forward(self, batch: Batch) -> Losses:
        """The losses of every task of this model, per image; a missing label counts 0, connected to the graph."""
        maps, size = self.maps(batch.images), (batch.images.shape[-2], batch.images.shape[-1])
        values: dict[str, Tensor] = {}
        labeled: dict[str, Tensor] = {}
        for task, module in self.heads.items():
            targets = batch.targets.get(task, (None,) * len(batch.images))
            found = cast(Head, module).losses(maps, targets, size)
            values.update({f"{task}.{part}": value for part, value in found.items()})
            labeled[task] = torch.tensor([t is not None for t in targets], device=batch.images.device)
        losses = Losses(values, labeled)
        return Losses(values, labeled, self._ranking(maps, losses, batch.progress))

    @torch.inference_mode()
    def predict(
        self, images: Tensor, heads: Sequence[str] | None = None, inputs: Mapping[str, Tensor] | None = None
    ) -> list[Prediction]:
        """One prediction an image; ``heads`` limits the work, None = all but "detection.dense". Call ``eval()`` first.

        ``inputs`` is part of the contract; this model looks at images alone. ValueError for a head it does not have.
        """
        assert not self.training, "predict() in training mode: call eval() first"
        wanted = self.provides - {"detection.dense"} if heads is None else wanted_heads(self.provides, heads)
        maps, size = self.maps(images), (images.shape[-2], images.shape[-1])
        answers = self._answers(maps, size, wanted)
        pooled = [x.float().mean((2, 3)) for x in maps]
        features = torch.cat(pooled, 1) if "features" in wanted else None
        predicted = self._predicted(pooled) if "predicted_loss" in wanted else {}
        dense = answers["detection"].dense if "detection" in answers else None
        return [
            Prediction(
                outputs={task: answer.outputs[b] for task, answer in answers.items() if answer.outputs},
                features=None if features is None else features[b],
                predicted_loss={task: values[b] for task, values in predicted.items()},
                dense=None if dense is None else dense[b],
            )
            for b in range(len(images))
        ]

    def _answers(self, maps: Sequence[Tensor], size: tuple[int, int], wanted: frozenset[str]) -> dict[str, Answers]:
        found = {}
        for task, module in self.heads.items():
            dense = f"{task}.dense" in wanted
            if task in wanted or dense:
                found[task] = cast(Head, module).answers(maps, size, outputs=task in wanted, dense=dense)
        return found

    def _predicted(self, pooled: Sequence[Tensor]) -> dict[str, Tensor]:
        """``{task: [B]}`` predicted losses; float32, for their order is all that they are for."""
        with torch.autocast(pooled[0].device.type, enabled=False):
            return {task: net(pooled[: len(net.levels)]) for task, net in self._lossnets()}

    def _lossnets(self) -> list[tuple[str, LossNet]]:
        return [(task, cast(LossNet, net)) for task, net in self.lossnets.items()]

    def _ranking(self, maps: Sequence[Tensor], losses: Losses, progress: float) -> dict[str, Tensor]:
        """The ranking loss of each task, among the images labeled for it."""
        if self.loss_prediction is None:
            return {}
        settings = self.loss_prediction
        pooled = [x.float().mean((2, 3)) for x in maps]
        if progress >= settings.detach_at:
            pooled = [x.detach() for x in pooled]
        return {
            f"{task}.ranking": settings.weight
            * ranking_loss(predicted[losses.labeled[task]], losses.of_task(task)[losses.labeled[task]], settings.margin)
            for task, predicted in self._predicted(pooled).items()
        }


def last_stage(body: nn.Module) -> nn.Module:
    """The last child with parameters; of a list of stages the last one, and of a wrapped body its own."""
    children = [child for child in body.children() if any(True for _ in child.parameters())]
    if not children:
        return body
    is_wrapped = len(children) == 1 and not isinstance(body, nn.Sequential | nn.ModuleList)
    return last_stage(children[-1]) if is_wrapped or isinstance(children[-1], nn.ModuleList) else children[-1]
