"""Which images have a label, for each task: read from the manifest alone. No torch."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tasks.data.manifest import Manifest

OBJECT_TASKS = ("detection", "instances", "keypoints", "pickup")  # tasks whose target is Objects
_COLUMNS = {"segmentation": "segmentation", "depth": "depth"} | dict.fromkeys(
    OBJECT_TASKS, "objects.list.element.label"
)


def known_labels(manifest: Manifest, split: str, tasks: Sequence[str]) -> NDArray[np.bool_]:
    """``[n, T]``: which rows of a split have a label of each task; an image without objects may be labeled, too.

    Of a task that the manifest knows nothing of (somebody's own) all count as labeled.
    """
    columns = {name: manifest.has(name, split) for name in {_COLUMNS[task] for task in tasks if task in _COLUMNS}}
    everything = np.ones(manifest.count(split), bool)
    return np.stack([columns.get(_COLUMNS.get(task, ""), everything) for task in tasks], axis=1)
