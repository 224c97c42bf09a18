"""Weights of a model: from a file, of the whole model or of its backbone alone."""

from collections.abc import Sequence
from pathlib import Path
from pickle import UnpicklingError
from typing import TypeVar

import torch
from torch import nn

Net = TypeVar("Net", bound=nn.Module)
CLASSIFIERS = ("fc.", "classifier.", "head.")  # what a classification checkpoint has beyond its backbone


def file_of(weights: str | None, names: Sequence[str]) -> Path | None:
    """The file that ``weights`` means; None for no weights or one of the library's ``names``; else ValueError."""
    if weights is None or weights in names:
        return None
    if Path(weights).is_file():
        return Path(weights)
    known = f" or one of {sorted(names)}" if names else ""
    raise ValueError(f"model.weights: no file {weights!r}; expected the path of a state dict{known}, or null")


def load(model: Net, file: Path | None) -> Net:
    """The model itself, or its ``backbone``, with the weights of ``file``, which must fit exactly; else ValueError."""
    if file is None:
        return model
    try:
        state = torch.load(file, map_location="cpu", weights_only=True)
    except (UnpicklingError, RuntimeError, EOFError, KeyError) as error:
        raise ValueError(f"model.weights: {file} cannot be read as weights; expected a saved state dict") from error
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise ValueError(f"model.weights: {file} holds no state dict; expected names and tensors")
    whole = any(key.startswith("backbone.") for key in state)
    if not whole:
        state = {key: value for key, value in state.items() if not key.startswith(CLASSIFIERS)}
    try:
        (model if whole else model.get_submodule("backbone")).load_state_dict(state)
    except RuntimeError as error:
        what = "whole model" if whole else "backbone"
        first = " ".join(str(error).split())[:300]
        message = f"model.weights: {file} does not fit the {what}; expected weights of this preset: {first}"
        raise ValueError(message) from error
    return model
