"""What goes into a network: the image, and the sensors (or labels of other tasks) that it reads beside it."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

CHANNELS = {"rgb": 3, "depth": 1}


def channels_of(names: Sequence[str], classes: int = 0) -> int:
    """How many channels these inputs have together; ValueError for unknown, repeated or no names.

    ``classes``: of pixels, for a network that may read the input "segmentation"; 0 where it may not.
    """
    known = CHANNELS | ({"segmentation": classes} if classes else {})
    if unknown := [name for name in names if name not in known]:
        raise ValueError(f"model.inputs: no input is called {unknown[0]!r}; expected some of {', '.join(known)}")
    if not names or len(set(names)) != len(names):
        raise ValueError(f"model.inputs: {list(names)}; expected at least one of {', '.join(known)}, each once")
    return sum(known[name] for name in names)


def one_hot(labels: Tensor, classes: int) -> Tensor:
    """``[B, classes, H, W]`` of a map ``[B, 1, H, W]`` that holds class + 1, and 0 where nothing is known."""
    wanted = torch.arange(1, classes + 1, device=labels.device).view(1, -1, 1, 1)
    return (labels == wanted).float()


def stacked(
    images: Tensor, inputs: Mapping[str, Tensor] | None, names: Sequence[str], depth_range: tuple[float, float]
) -> Tensor:
    """``[B, C, H, W]``: the inputs in the order of their names, each about -1..1.

    Images ``[B, 3, H, W]`` are RGB in 0..1. Depth is in metres: ``depth_range`` becomes -1..1, what lies outside is
    cut to -2..2, and a hole (0) becomes 0. ValueError where an input is missing.
    """
    parts = []
    for name in names:
        if name == "rgb":
            parts.append(images * 2 - 1)
            continue
        if inputs is None or name not in inputs:
            raise ValueError(f"the model reads {name!r}, which these images come without; change model.inputs")
        near, far = depth_range
        metres = inputs[name]
        level = ((2 * metres - near - far) / (far - near)).clamp(-2, 2)
        parts.append(torch.where(metres > 0, level, 0.0))
    return torch.cat(parts, 1)
