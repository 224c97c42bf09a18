"""Labels that came later: their rows count, all others stay, whatever columns and rows are asked for."""

import pickle
from pathlib import Path

import numpy as np
import pytest

from tasks.classes import ClassMap
from tasks.data.manifest import NAME, Manifest, ObjectRecord, Record, write_manifest

CLASSES = ClassMap(("arm", "bolt"), (), (-1, -1), (), ())


def write(path: Path, objects: dict[str, tuple[ObjectRecord, ...] | None]) -> Path:
    records = [Record(id, f"{id}.png", (50, 60), "train", objects=found) for id, found in objects.items()]
    write_manifest(path, records, CLASSES, [255] * 256, None)
    return path


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    """Four images; people relabeled b, c (twice) and d, which had no label at all."""
    arm, bolt = ObjectRecord((0, 0, 9, 9), 0), ObjectRecord((1, 1, 5, 5), 1)
    write(tmp_path / NAME, {"a": (arm,), "b": (arm,), "c": (arm,), "d": None})
    first = write(tmp_path / "first.parquet", {"b": (bolt, bolt), "c": (bolt, bolt), "d": (bolt,)})
    second = write(tmp_path / "second.parquet", {"c": ()})
    return Manifest(tmp_path / NAME, [first, second])


def test_the_later_labels_count_and_the_others_stay(manifest: Manifest) -> None:
    rows = manifest.rows()
    found = {one.id: None if one.objects is None else [o.label for o in one.objects] for one in manifest.records(rows)}
    assert found == {"a": [0], "b": [1, 1], "c": [], "d": [1]}
    per_class, per_row = manifest.object_counts(rows)
    assert per_class.tolist() == [1, 3]
    assert dict(zip(manifest.ids(rows), per_row.tolist(), strict=True)) == {"a": 1, "b": 2, "c": 0, "d": 1}


def test_any_rows_in_any_order_and_twice(manifest: Manifest) -> None:
    row = {id: int(r) for r, id in zip(manifest.rows(), manifest.ids(manifest.rows()), strict=True)}
    asked = ["b", "a", "b", "d"]
    table = manifest.take(np.array([row[id] for id in asked]), ["id", "objects.list.element.label"])
    assert table["id"].to_pylist() == asked
    assert [len(found) for found in table["objects"].to_pylist()] == [2, 1, 2, 1]
    assert len(manifest.take(np.zeros(0, np.int64))) == 0


def test_it_travels_and_is_the_same_data_set(manifest: Manifest) -> None:
    again = pickle.loads(pickle.dumps(manifest))
    assert again.labels == manifest.labels
    assert again.object_counts(again.rows())[0].tolist() == [1, 3]
    assert again.fingerprint == Manifest.open(manifest.path).fingerprint
    assert Manifest.open(manifest.path).object_counts(manifest.rows())[0].tolist() == [3, 0]
