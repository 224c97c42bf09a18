"""Losses by name: "task.part", and the options that name a loss or a whole task."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor


def factors_of(factors: Mapping[str, float], parts: Sequence[str], key: str) -> dict[str, float]:
    """The factor of each loss: that of its own name ("detection.box"), else of its task ("detection"), else 1.

    ValueError where a factor names no loss; ``key`` is the option that the message names.
    """
    names = {part: (part, part.split(".", 1)[0]) for part in parts}
    if unknown := set(factors) - {name for both in names.values() for name in both}:
        raise ValueError(f"weighting.{key}: {sorted(unknown)} name no loss; the losses are {sorted(parts)}")
    return {part: next((factors[name] for name in both if name in factors), 1.0) for part, both in names.items()}


def check_factors(factors: Mapping[str, float], key: str) -> None:
    """ValueError for factors that no loss can have."""
    if wrong := {name: factor for name, factor in factors.items() if not 0.0 <= factor < float("inf")}:
        raise ValueError(f"weighting.{key}: {wrong}; expected finite factors of at least 0")


def key_of(part: str) -> str:
    """The name of a loss as a key of ``nn.ParameterDict``, which takes no dots."""
    return part.replace(".", "/")


def spread(losses: Mapping[str, Tensor], names: Sequence[str]) -> tuple[Tensor, Tensor]:
    """The values of all losses ``[T]`` float64, without gradients, and which of them there are ``[T]`` bool.

    ``losses`` are those of this step, a part of ``names``; the value of one that is not there is 0.
    """
    if len(losses) == len(names):
        values = torch.stack([losses[name].detach() for name in names]).double()
        return values, torch.ones_like(values, dtype=torch.bool)
    present = torch.tensor([name in losses for name in names])
    found = torch.stack([losses[name].detach().double() for name in names if name in losses])
    values = found.new_zeros(len(names))
    values[present.to(found.device)] = found
    return values, present.to(found.device)
