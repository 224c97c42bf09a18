"""Models on disk: weights beside all that is needed to build the network again. Loaded with ``weights_only=True``."""

import io
import json
import zipfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import nn

from orchestrator.components import Component, make
from orchestrator.errors import RunError
from orchestrator.store import replacing
from tasks.classes import ClassMap
from tasks.data.files import Place
from tasks.data.objects import S3Path

_EXPECTED = "expected a whole model.pt that a run has written: restore it, give another, or run again with --fresh ARM"


@dataclass(frozen=True)
class Card:
    """What a checkpoint says of itself."""

    model: Component
    tasks: tuple[str, ...]
    classes: ClassMap
    size: tuple[int, int] | None  # H, W of the images it was trained on
    step: int


def save(path: Place, content: Mapping[str, Any]) -> None:
    """Write tensors and plain values, atomically."""
    with replacing(path) as temporary, temporary.open("wb") as file:
        try:
            torch.save(dict(content), file)
        except RuntimeError as error:  # torch's own words for a disk that refuses
            raise OSError(None, "the disk refused it (it may be full)", str(path)) from error


def load(path: Place, device: torch.device | str = "cpu", remedy: str = _EXPECTED) -> dict[str, Any]:
    """The content of a checkpoint; RunError when it is missing, damaged or holds more than tensors and plain values.

    ``remedy`` ends the sentence: what was expected, and what to do.
    """
    if not path.is_file():
        raise RunError(f"{path}: no such checkpoint; {remedy}")
    source = io.BytesIO(path.read_bytes()) if isinstance(path, S3Path) else path
    try:
        if not zipfile.is_zipfile(source):
            raise zipfile.BadZipFile(str(path))
        if isinstance(source, io.BytesIO):
            source.seek(0)
        content = torch.load(source, map_location=device, weights_only=True)
    except Exception as error:  # what unpickling raises on broken bytes is not to be foreseen
        raise RunError(f"{path}: is not a readable checkpoint; {remedy}") from error
    if not isinstance(content, dict):
        raise RunError(f"{path}: holds a {type(content).__name__}; {remedy}")
    return content


def save_model(path: Place, model: nn.Module, card: Card) -> None:
    """Write a model with its card."""
    save(path, {"model": model.state_dict(), "card": json.dumps(asdict(card))})


def load_model(path: Place, device: torch.device | str = "cpu") -> tuple[nn.Module, Card]:
    """The network of a checkpoint in evaluation mode, and its card; RunError for NaN weights and foreign files."""
    content = load(path, device)
    try:
        raw = json.loads(content["card"])
        card = Card(
            model=Component(**raw["model"]),
            tasks=tuple(raw["tasks"]),
            classes=classes_of(raw["classes"]),
            size=tuple(raw["size"]) if raw["size"] else None,
            step=raw["step"],
        )
        state = content["model"]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise RunError(f"{path}: has no card that says which network it is ({error}); {_EXPECTED}") from error
    model = build(card.model, card.classes, card.tasks, f"{path}: model").to(device)
    load_state(model, state, path)
    return model.eval(), card


def load_state(model: nn.Module, state: Mapping[str, torch.Tensor], path: Place) -> None:
    """Put weights into a model; RunError when they do not fit or are not finite."""
    if not isinstance(state, Mapping) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise RunError(f"{path}: holds no weights; {_EXPECTED}")
    for name, value in state.items():
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            raise RunError(
                f"{path}: the weight {name!r} holds NaN or infinity; expected finite weights: use another checkpoint"
            )
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        detail = str(error).splitlines()[-1].strip().partition(": copying")[0]
        raise RunError(
            f"{path}: does not fit the network that it is for ({detail[:160]}); expected the weights of the "
            "same model: give that model, or another checkpoint"
        ) from error


def build(component: Component, classes: ClassMap, tasks: tuple[str, ...], where: str = "model") -> nn.Module:
    """The network that a configuration names."""
    model = make("model", component, where, classes, tasks)
    for need in ("provides", "predict"):
        if not hasattr(model, need):
            raise RunError(f"{where}: {component.name!r} has no {need!r}; a model needs provides, forward and predict")
    if not isinstance(model, nn.Module):
        raise RunError(
            f"{where}: {component.name!r} is a {type(model).__name__}; expected a torch.nn.Module: make it one"
        )
    return model


def classes_of(raw: Mapping[str, Any]) -> ClassMap:
    """A ClassMap from JSON."""
    return ClassMap(
        detection=tuple(raw["detection"]),
        segmentation=tuple(raw["segmentation"]),
        det_to_seg=tuple(raw["det_to_seg"]),
        keypoints=tuple(raw["keypoints"]),
        flip_pairs=tuple((int(a), int(b)) for a, b in raw["flip_pairs"]),
        skeleton=tuple((int(a), int(b)) for a, b in raw.get("skeleton", ())),
    )
