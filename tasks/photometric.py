"""Changes of light, noise and sharpness: an allow-list of albumentations' transforms that leave every pixel's place.

A step is a mapping with ``name`` and the keyword arguments of that class, as albumentations 2.0 spells them; ``p`` is
its probability. What moves pixels is not in the list: labels move in ``joint_transform`` only, where they move exactly.
"""

import importlib
import json
import os
import warnings
from collections.abc import Mapping, Sequence
from functools import cache, lru_cache
from threading import get_ident
from typing import Any

import numpy as np
from numpy.typing import NDArray

Step = Mapping[str, Any]
ALLOWED = (
    "AdditiveNoise", "AdvancedBlur", "AutoContrast", "Blur", "CLAHE", "ChannelDropout", "ChannelShuffle", "ColorJitter",
    "Defocus", "Emboss", "Equalize", "FancyPCA", "GaussNoise", "GaussianBlur", "HueSaturationValue",
    "ISONoise", "Illumination", "ImageCompression", "InvertImg", "MedianBlur", "MotionBlur", "MultiplicativeNoise",
    "PlanckianJitter", "PlasmaBrightnessContrast", "PlasmaShadow", "Posterize", "RGBShift", "RandomBrightnessContrast",
    "RandomFog", "RandomGamma", "RandomRain", "RandomShadow", "RandomSnow", "RandomSunFlare", "RandomToneCurve",
    "SaltAndPepper", "Sharpen", "ShotNoise", "Solarize", "ToGray", "ToSepia", "UnsharpMask",
)  # fmt: skip
# albumentations' own defaults let the blur push the picture to one side, which its labels would not follow
_STAY = {"MotionBlur": {"allow_shifted": False, "direction_range": (0.0, 0.0)}}


def check_steps(steps: Sequence[Step]) -> None:
    """ValueError where a step is not of the allow-list, or has arguments that albumentations does not take."""
    for i, step in enumerate(steps):
        name = step.get("name")
        if name not in ALLOWED:
            raise ValueError(f"photometric[{i}]: {_why(name)}")
        for key in _STAY.get(str(name), {}):
            if key in step:
                raise ValueError(
                    f"photometric[{i}]: {name} has {key}, which moves the image under its labels; expected it to be "
                    "left out: delete it"
                )
        try:
            _made(json.dumps([dict(step)]), 0)
        except (TypeError, ValueError) as error:
            said = " ".join(str(error).split("For further information")[0].split())
            raise ValueError(
                f"photometric[{i}]: {name} cannot be made ({said[:200]}); expected the arguments of albumentations "
                f"2.0: correct them"
            ) from None


def relight(image: NDArray[np.uint8], steps: Sequence[Step], seed: int) -> NDArray[np.uint8]:
    """The image ``[H, W, 3]`` after the steps; a pure function of the image, the steps and the seed."""
    if not steps:
        return image
    pipeline = _kept(json.dumps([dict(step) for step in steps]), get_ident())
    pipeline.set_random_seed(seed % (1 << 32))
    changed: NDArray[np.uint8] = pipeline(image=image)["image"]
    return changed


@lru_cache(maxsize=16)
def _kept(steps: str, thread: int) -> Any:
    """A pipeline to be seeded before each image: one costs as much to make as to use. Threads do not share them."""
    return _made(steps, 0)


def _made(steps: str, seed: int) -> Any:
    """A pipeline with generators of its own (it looks at no global one)."""
    library = _library()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what it warns of, ``strict`` refuses
        made = [_step(library, **step) for step in json.loads(steps)]
        return library.Compose(made, seed=seed, strict=True)


def _step(library: Any, name: str, **arguments: Any) -> Any:
    listed = {key: tuple(value) if isinstance(value, list) else value for key, value in arguments.items()}
    return getattr(library, name)(**{**_STAY.get(name, {}), **listed})


def _why(name: object) -> str:
    known = hasattr(_library(), name) if isinstance(name, str) and name.isidentifier() else False
    if known:
        return (
            f"{name} is not a change of light alone (it moves pixels, or needs other images); expected one of "
            f"{', '.join(ALLOWED)}: use flip, rotate, scale, shift, shear, perspective and crop for geometry"
        )
    return f"name is {name!r}; expected one of {', '.join(ALLOWED)}: correct it"


@cache
def _library() -> Any:
    """albumentations, imported when a step is there: it takes seconds, and most runs need none of it."""
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # it would ask the network whether it is new
    return importlib.import_module("albumentations")
