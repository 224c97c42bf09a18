"""Which images have a label: none, an empty one, one of another task, over row groups and splits."""

from pathlib import Path

import numpy as np
import pytest

from tasks.classes import ClassMap
from tasks.data import manifest as room
from tasks.data.known_labels import known_labels
from tasks.data.manifest import NAME, Manifest, ObjectRecord, Record, write_manifest

CLASSES = ClassMap(("car",), ("road",), (-1,))
LUT = (0, *([-1] * 254), 255)


def test_what_is_labeled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "_GROUP", 3)
    car = ObjectRecord((0, 0, 4, 4), 0)
    kinds, maps = [None, (), (car,), (car, car)], [None, "a.png", "b.png"]
    records = [
        Record(f"i{i}", f"{i}.png", (8, 8), "train" if i else "val", "", kinds[i % 4], maps[i % 3]) for i in range(10)
    ]
    write_manifest(tmp_path / NAME, records, CLASSES, LUT, (8, 8))
    manifest = Manifest.open(tmp_path)
    tasks = ("segmentation", "detection", "keypoints", "depth")
    found = known_labels(manifest, "train", tasks)
    pool = manifest.records(manifest.rows("train"))
    objects = [one.objects is not None for one in pool]
    assert found[:, 0].tolist() == [one.segmentation is not None for one in pool]
    assert found[:, 1].tolist() == found[:, 2].tolist() == objects
    assert 0 < sum(objects) < 9
    assert not found[:, 3].any()
    assert known_labels(manifest, "val", ("detection",)).tolist() == [[False]]
    assert known_labels(manifest, "test", tasks).shape == (0, 4)
    assert found.dtype == np.bool_
    assert known_labels(manifest, "train", ("my_tasks:Own",)).all()
