"""Records and the manifest: one parquet row an image.  @plugin-dev: an adapter yields Records."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tasks.classes import ClassMap


@dataclass(frozen=True)
class ObjectRecord:
    """One labeled object, in pixels of the stored image (continuous edges)."""

    box: tuple[float, float, float, float]  # xyxy
    label: int  # index into ClassMap.detection
    crowd: bool = False
    rle: Mapping[str, object] | None = None  # COCO RLE {"size": [H, W], "counts": bytes}
    polygons: tuple[tuple[float, ...], ...] = ()  # parts, each x1, y1, x2, y2, ...
    keypoints: tuple[float, ...] = ()  # P x (x, y, v), flat


@dataclass(frozen=True)
class Record:
    """One image and the labels it has; None = that task is not labeled (an empty tuple = labeled, nothing there)."""

    id: str
    uri: str  # where the bytes are: a path or s3://; relative to the manifest's folder
    size: tuple[int, int]  # H, W of the stored image
    split: str  # "train" (the pool), "val" or "test"
    group: str = ""  # scene: frames of one group must not straddle splits
    objects: tuple[ObjectRecord, ...] | None = None
    segmentation: str | None = None  # uri of an 8-bit PNG of class ids
    depth: str | None = None  # uri of a .npy float32 map in metres, NaN = no label


class Adapter(Protocol):
    """A data set. A frozen dataclass: its fields are the YAML keys of ``data``."""

    @property
    def size(self) -> tuple[int, int] | None:
        """H, W to which images are resized on reading; None = as stored."""
        ...

    def classes(self) -> ClassMap: ...

    def semantic_lut(self) -> tuple[int, ...]:
        """256 entries: value of a semantic PNG -> class id (255 = ignore)."""
        ...

    def records(self, folder: Path) -> Iterator[Record]:
        """Every image of every split. Files that the adapter must make (streets, panoptic) go under ``folder``."""
        ...
