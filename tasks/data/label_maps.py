"""From the labels of a data set to classes, by maps ``{label: class}`` that a YAML may override."""

from collections.abc import Callable, Collection, Mapping

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import find_objects

from tasks.classes import ClassMap
from tasks.data.manifest import ObjectRecord
from tasks.geometry import rle_of_mask


def class_map(detection: Mapping[str, str], segmentation: Mapping[str, str], pixels: Mapping[str, str]) -> ClassMap:
    """The classes in the order in which the maps name them.

    ``pixels`` is the class of pixels of a label of objects. A class of boxes belongs to the one class of pixels that
    all its labels have; where there is none, or several, to none.
    """
    names = tuple(dict.fromkeys(segmentation.values()))
    to: dict[str, set[str | None]] = {name: set() for name in detection.values()}
    for label, name in detection.items():
        to[name].add(pixels.get(label))
    single = [found.pop() if len(found) == 1 else None for found in to.values()]
    return ClassMap(tuple(to), names, tuple(-1 if one is None else names.index(one) for one in single))


def semantic_lut(labels: Mapping[int, str], segmentation: Mapping[str, str]) -> tuple[int, ...]:
    """The 256 entries of a lut, of what label each value of a PNG stands for.

    A label without a class is ignored (255), a value without a label must not occur (-1).
    """
    names = list(dict.fromkeys(segmentation.values()))
    lut = [-1] * 255 + [255]
    for value, label in labels.items():
        lut[value] = names.index(segmentation[label]) if label in segmentation else 255
    return tuple(lut)


def check_labels(where: str, chosen: Collection[str], known: Collection[str]) -> None:
    """ValueError, naming ``where``, for a label that the data set does not have."""
    for label in chosen:
        if label not in known:
            raise ValueError(f"{where}: {label!r} is no label; expected some of {', '.join(known)}: correct it")


def objects_of(ids: NDArray[np.int64], kind: Callable[[int], tuple[int, bool] | None]) -> tuple[ObjectRecord, ...]:
    """The objects of a map of numbers >= 0 ``[H, W]``, with their masks and tight boxes, in the order of the numbers.

    ``kind`` answers the class of a number, and whether it is a crowd; None = that number is no object.
    """
    kinds = {value: kind(value) for value in np.flatnonzero(np.bincount(ids.ravel())).tolist()}
    found = {value: one for value, one in kinds.items() if one is not None}
    numbers = np.zeros(int(ids.max()) + 1, np.int32)
    numbers[list(found)] = np.arange(1, len(found) + 1)
    objects, mask = [], np.zeros(ids.shape, np.uint8, order="F")
    for (value, (label, crowd)), window in zip(found.items(), find_objects(numbers[ids]), strict=True):
        mask[window] = ids[window] == value
        rows, columns = window
        box = (float(columns.start), float(rows.start), float(columns.stop), float(rows.stop))
        objects.append(ObjectRecord(box, label, crowd, rle_of_mask(mask)))
        mask[window] = 0
    return tuple(objects)
