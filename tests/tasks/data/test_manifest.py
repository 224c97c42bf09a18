"""What is written comes back, sorted by key, in pieces, and refuses what would be confused."""

import pickle
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tasks.classes import ClassMap
from tasks.data import manifest as module
from tasks.data.manifest import Manifest, ObjectRecord, Record, write_manifest
from tasks.seeding import key_of

CLASSES = ClassMap(("car", "cat"), ("road", "car"), (1, -1), ("left", "right"), ((0, 1),))
LUT = tuple(range(2)) + (-1,) * 253 + (255,)


def records(count: int) -> list[Record]:
    """Records of every kind: no objects labeled, none there, a mask, polygons, keypoints, a crowd."""
    kinds: list[tuple[ObjectRecord, ...] | None] = [
        None,
        (),
        (ObjectRecord((1.5, 2, 3, 4), 0), ObjectRecord((0, 0, 9, 9), 1, crowd=True)),
        (
            ObjectRecord((0, 0, 2, 2), 1, rle={"size": [10, 5], "counts": b"0d0n0"}),
            ObjectRecord((0, 0, 2, 2), 1, polygons=((0, 0, 2, 0, 2, 2.25), (1, 1, 2, 1, 2, 2))),
            ObjectRecord((0, 0, 2, 2), 0, keypoints=(1, 1, 2, 0, 0, 0)),
        ),
    ]
    return [
        Record(
            id=f"image {i}",
            uri=f"images/{i}.jpg",
            size=(10, 5 + i),
            split=("train", "train", "val", "test")[i % 4],
            group=f"scene {i // 8}",
            objects=kinds[i % 4],
            segmentation=f"semantic/{i}.png" if i % 3 else None,
            depth=f"depth/{i}.npy" if i % 5 == 0 else None,
        )
        for i in range(count)
    ]


@pytest.fixture
def small_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several row groups and several sorted blocks from a few records."""
    monkeypatch.setattr(module, "_GROUP", 7)
    monkeypatch.setattr(module, "_SORTED_AT_ONCE", 14)


@pytest.mark.usefixtures("small_groups")
def test_records_come_back_in_key_order(tmp_path: Path) -> None:
    made = records(50)
    assert write_manifest(tmp_path / module.NAME, iter(made), CLASSES, LUT, (96, 160)) == 50
    assert [p.name for p in tmp_path.iterdir()] == ["manifest.parquet"]
    manifest = Manifest.open(tmp_path)
    assert (len(manifest), manifest.size, manifest.classes, manifest.lut) == (50, (96, 160), CLASSES, LUT)
    assert manifest.base == tmp_path
    want = sorted(made, key=lambda r: key_of(r.id))
    assert manifest.records(manifest.rows()) == want
    assert manifest.keys().tolist() == [key_of(r.id) for r in want]
    assert manifest.record(33) == want[33]
    assert manifest.ids(np.array([40, 3, 3])) == [want[40].id, want[3].id, want[3].id]
    assert manifest.records(np.zeros(0, np.int64)) == []


@pytest.mark.usefixtures("small_groups")
def test_splits_and_keys(tmp_path: Path) -> None:
    made = records(50)
    write_manifest(tmp_path / "m.parquet", made, CLASSES, LUT)
    manifest = Manifest.open(tmp_path / "m.parquet")
    assert manifest.size is None
    for split in ("train", "val", "test"):
        keys = manifest.keys(split)
        assert keys.tolist() == sorted(key_of(r.id) for r in made if r.split == split)
        assert np.array_equal(manifest.rows_of(keys), manifest.rows(split))
        assert manifest.count(split) == len(keys)
    with pytest.raises(ValueError, match=r"m.parquet: has no split 'valid'; expected one of train, val, test"):
        manifest.rows("valid")
    with pytest.raises(ValueError, match=r"1 of 2 keys are not in this manifest, e.g. 5; expected"):
        manifest.rows_of(np.array([manifest.keys()[0], 5], np.uint64))
    with pytest.raises(ValueError, match=r"rows 0..50 were asked; it has 50"):
        manifest.records(np.array([0, 50]))


@pytest.mark.usefixtures("small_groups")
def test_objects_are_counted_without_crowds(tmp_path: Path) -> None:
    write_manifest(tmp_path / "m.parquet", records(50), CLASSES, LUT)
    manifest = Manifest.open(tmp_path / "m.parquet")
    rows = manifest.rows()[5:40]
    classes, counts = manifest.object_counts(rows)
    found = [[o.label for o in r.objects or () if not o.crowd] for r in manifest.records(rows)]
    assert counts.tolist() == [len(labels) for labels in found]
    assert classes.tolist() == [sum(labels.count(c) for labels in found) for c in (0, 1)]
    assert counts.sum() > 10
    classes, counts = manifest.object_counts(rows[:0])
    assert (classes.tolist(), counts.tolist()) == ([0, 0], [])


def test_the_fingerprint_is_of_the_content_whatever_its_order(tmp_path: Path) -> None:
    made = records(9)
    prints = []
    for name, some in [("a", made), ("b", made[::-1]), ("c", [*made[:8], replace(made[8], group="other")])]:
        write_manifest(tmp_path / name, some, CLASSES, LUT)
        prints.append(Manifest.open(tmp_path / name).fingerprint)
    assert prints[0] == prints[1] != prints[2]
    assert pickle.loads(pickle.dumps(Manifest.open(tmp_path / "a"))).fingerprint == prints[0]


def test_the_same_id_twice_is_refused_and_writes_nothing(tmp_path: Path) -> None:
    made = records(3)
    twice = [*made, replace(made[1], uri="elsewhere.jpg")]
    with pytest.raises(ValueError, match=r"images images/1.jpg and elsewhere.jpg have the same id 'image 1'; expected"):
        write_manifest(tmp_path / "m.parquet", twice, CLASSES, LUT)
    assert list(tmp_path.iterdir()) == []


def test_two_ids_of_one_key_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "key_of", lambda id: 7 if id in ("image 0", "image 2") else key_of(id))
    with pytest.raises(ValueError, match=r"the ids 'image 0' and 'image 2' have the same 64-bit key; expected"):
        write_manifest(tmp_path / "m.parquet", records(3), CLASSES, LUT)


def test_a_failing_adapter_leaves_the_old_manifest(tmp_path: Path) -> None:
    path = tmp_path / module.NAME
    write_manifest(path, records(3), CLASSES, LUT)

    def broken():  # type: ignore[no-untyped-def]
        yield records(1)[0]
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        write_manifest(path, broken(), CLASSES, LUT)
    assert len(Manifest.open(path)) == 3
    assert [p.name for p in tmp_path.iterdir()] == [module.NAME]


def test_no_record_at_all(tmp_path: Path) -> None:
    assert write_manifest(tmp_path / "m.parquet", [], ClassMap(), LUT) == 0
    manifest = Manifest.open(tmp_path / "m.parquet")
    assert (manifest.records(manifest.rows()), manifest.keys("train").tolist()) == ([], [])
    assert manifest.object_counts(manifest.rows())[0].tolist() == []


def test_what_is_no_manifest_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"manifest.parquet: no such manifest; run prepare"):
        Manifest.open(tmp_path)
    (tmp_path / "manifest.parquet").write_bytes(b"no parquet, but long enough")
    with pytest.raises(ValueError, match=r"manifest.parquet: is no parquet file .*; run prepare again"):
        Manifest.open(tmp_path)
    module.pq.write_table(module.pa.table({"id": ["a"]}), tmp_path / "manifest.parquet")
    with pytest.raises(ValueError, match=r"has the format none; expected 1: run prepare again"):
        Manifest.open(tmp_path)
    with pytest.raises(ValueError, match=r"lut has 3 entries; expected 256"):
        write_manifest(tmp_path / "m.parquet", [], CLASSES, (0, 1, 2))


@pytest.mark.slow
def test_no_torch_is_imported() -> None:
    code = "import sys, tasks.data.manifest; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
