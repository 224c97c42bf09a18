"""Depth in grey PNGs: the uri of such a map says, behind a #, what its values mean.  @plugin-dev: see ``depth_uri``.

``a.png#per_metre=25.5`` is metres = value / 25.5. ``a.png#baseline_fx=473.5,cap=200.0`` is the 16-bit disparity of
Cityscapes: d = (value - 1) / 256 pixels, metres = baseline_fx / d. The value 0 is no label.

So PNGs stay what and where they are: as float32 maps, the depth of Cityscapes alone would take 40 GB.
"""

import re
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

_CODE = re.compile(r"(.+)#(?:per_metre=([^,#]+)|baseline_fx=([^,#]+),cap=([^,#]+))")


@dataclass(frozen=True)
class Scaled:
    """metres = value / per_metre."""

    per_metre: float

    def metres(self, values: NDArray[Any]) -> NDArray[np.float32]:
        """Metres ``[H, W]`` of the values of a PNG; NaN where there is no label."""
        return np.where(values > 0, values / self.per_metre, np.nan).astype(np.float32)

    def values(self, metres: NDArray[np.float32]) -> NDArray[np.uint16]:
        """The values ``[H, W]`` of a 16-bit PNG; 0, no label, for NaN and for metres that no value from 1 on means."""
        found = np.nan_to_num(metres.astype(np.float64) * self.per_metre, nan=0.0, posinf=0.0, neginf=0.0).round()
        return np.where((found >= 1) & (found <= 65535), found, 0).astype(np.uint16)


@dataclass(frozen=True)
class Disparity:
    """metres = baseline_fx / d with d = (value - 1) / 256: the coding of Cityscapes' disparity maps."""

    baseline_fx: float  # metres between the cameras x focal length in px
    cap: float  # metres beyond which there is no label

    def metres(self, values: NDArray[Any]) -> NDArray[np.float32]:
        """Metres ``[H, W]`` of the values of a PNG; NaN where the value or d is 0, and beyond the cap."""
        disparity = (values.astype(np.float64) - 1) / 256
        depth = self.baseline_fx / np.where(disparity > 0, disparity, np.nan)
        return np.where(depth <= self.cap, depth, np.nan).astype(np.float32)


Code: TypeAlias = Scaled | Disparity
MADE = Scaled(256.0)  # of the maps that we write, in 16 bits: 4 mm a step, up to 255 m


def depth_uri(uri: str, code: Code) -> str:
    """The uri of a grey PNG and of what its values mean, for ``Record.depth``."""
    if isinstance(code, Scaled):
        return f"{uri}#per_metre={code.per_metre!r}"
    return f"{uri}#baseline_fx={code.baseline_fx!r},cap={code.cap!r}"


def decoded_uri(uri: str) -> tuple[str, Code | None]:
    """The uri of the file, and what its values mean; None where the uri does not say. ValueError for no numbers."""
    found = _CODE.fullmatch(uri)
    if found is None:
        return uri, None
    file, per_metre, baseline_fx, cap = found.groups()
    try:
        return file, Scaled(float(per_metre)) if per_metre else Disparity(float(baseline_fx), float(cap))
    except ValueError:
        raise ValueError(f"{uri}: says no numbers behind the #; expected e.g. #per_metre=25.5: correct it") from None
