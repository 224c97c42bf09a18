"""The embedded data set: its plan, its knobs, its files."""

import hashlib
import os
import subprocess
import sys
from collections import Counter
from itertools import islice, pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from pycocotools import mask as coco_mask
from torch import Tensor

from tasks.data.manifest import Manifest, Record, write_manifest
from tasks.data.samples import Samples
from tasks.data.street_render import Frame
from tasks.data.street_scene import (
    CAR,
    CONDITIONS,
    RARE_KINDS,
    SEGMENTATION,
    SKY,
    STREETS,
    Person,
    Scene,
    Vehicle,
    plan,
)
from tasks.data.streets import Streets

ROOT = Path(__file__).parents[3]
SMALL = Streets(images=40, validation=12, test=12)


def _frames(streets: Streets, count: int) -> list[tuple[Scene, Frame]]:
    pairs = [(streets.scene(split, shot), split, shot) for split, shot in islice(streets.shots(), count)]
    return [(scene, streets.frame(split, shot, scene)) for scene, split, shot in pairs]


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Record]]:
    folder = tmp_path_factory.mktemp("streets")
    return folder, list(SMALL.records(folder))


def _read(path: Path) -> NDArray[np.uint8]:
    image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    assert image is not None
    return np.asarray(image, np.uint8)


# ---- the plan ------------------------------------------------------------------------------------------------------


def test_a_shorter_plan_begins_a_longer_one() -> None:
    long = list(plan("train", 120, 0, 1.0, 0.0))
    assert list(plan("train", 50, 0, 1.0, 0.0)) == long[:50]
    assert len(long) == 120
    assert [s.frame for s in long if s.sequence == 0] == list(range(sum(s.sequence == 0 for s in long)))


def test_redundancy_sets_the_length_of_sequences() -> None:
    scenes = [len({s.sequence for s in plan("train", 300, 0, r, 0.0)}) for r in (0.0, 0.5, 1.0, 3.0)]
    assert scenes[0] == 300
    assert scenes == sorted(scenes, reverse=True)
    assert scenes[3] < 0.5 * scenes[2]


@pytest.mark.slow
@pytest.mark.parametrize("redundancy", [0.0, 1.0])
def test_shares_are_of_images_whatever_the_lengths(redundancy: float) -> None:
    shots = list(plan("train", 6000, 1, redundancy, 0.0))
    for name, kind in STREETS.items():
        assert sum(s.street == name for s in shots) / len(shots) == pytest.approx(kind.share, abs=0.04)
    for name, share in CONDITIONS.items():
        assert sum(s.condition == name for s in shots) / len(shots) == pytest.approx(share, abs=0.04)


@pytest.mark.slow
def test_tail_one_is_uniform() -> None:
    shots = list(plan("val", 3000, 0, 0.0, 1.0))
    for counts in (Counter(s.street for s in shots), Counter(s.condition for s in shots)):
        assert len(counts) == 6
        assert max(counts.values()) / min(counts.values()) < 1.25


@pytest.mark.slow
def test_frames_of_a_sequence_are_near_duplicates() -> None:
    frames = _frames(Streets(images=40), 40)
    small = [cv2.blur(f.image, (9, 9)).astype(float) for _, f in frames]
    apart = [np.abs(a - b).mean() for a, b in pairwise(small)]
    same = [frames[i][0] == frames[i + 1][0] for i in range(len(frames) - 1)]
    within = [d for d, s in zip(apart, same, strict=True) if s]
    between = [d for d, s in zip(apart, same, strict=True) if not s]
    assert np.median(within) < 0.35 * np.median(between)
    assert min(within) > 0  # noise and shake differ


# ---- the knobs -----------------------------------------------------------------------------------------------------


def _rare(difficulty: float) -> list[Vehicle | Person]:
    streets = Streets(images=160, redundancy=0, tail=1.0, rare_difficulty=difficulty)
    scenes = [streets.scene(split, shot) for split, shot in streets.shots() if split == "train"]
    things: list[Vehicle | Person] = [t for scene in scenes for t in scene.vehicles]
    things += [t for scene in scenes for t in scene.people]
    return [t for t in things if t.kind in RARE_KINDS]


@pytest.mark.slow
def test_rare_difficulty_makes_rare_things_far_and_dark() -> None:
    easy, hard = _rare(0.0), _rare(2.0)
    assert min(len(easy), len(hard)) > 100

    def mean_z(things: list[Vehicle | Person]) -> float:
        return float(np.mean([t.z for t in things]))

    def brightness(things: list[Vehicle | Person]) -> float:
        return float(np.mean([np.mean(t.colour if isinstance(t, Vehicle) else t.shirt) for t in things]))

    assert mean_z(hard) > 1.2 * mean_z(easy)
    assert brightness(hard) < 0.75 * brightness(easy)


@pytest.mark.slow
def test_rare_difficulty_hides_rare_things() -> None:
    def hidden(difficulty: float) -> float:
        streets = Streets(images=50, redundancy=0, tail=1.0, rare_difficulty=difficulty)
        things = [t for _, f in _frames(streets, 50) for t in f.things if CAR + t.label in RARE_KINDS]
        return float(np.mean([1 - t.visible for t in things]))

    assert hidden(4.0) > 1.3 * hidden(0.0)


@pytest.mark.slow
@pytest.mark.parametrize(
    "change",
    [
        {"images": 5},
        {"validation": 5},
        {"test": 5},
        {"seed": 1},
        {"redundancy": 0.0},
        {"tail": 1.0},
        {"held_out_tail": 0.0},
    ],
)
def test_every_knob_changes_the_plan_or_its_scenes(change: dict[str, float]) -> None:
    def scenes(streets: Streets) -> list[Scene]:
        return [streets.scene(split, shot) for split, shot in streets.shots()]

    base = Streets(images=20, validation=10, test=10)
    changed = Streets(**{"images": 20, "validation": 10, "test": 10, **change})  # type: ignore[arg-type]
    assert scenes(changed) != scenes(base)
    assert scenes(Streets(images=20, validation=10, test=10)) == scenes(base)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": 0}, "Streets.images is 0"),
        ({"validation": -1}, "Streets.validation is -1"),
        ({"test": 0}, "Streets.test is 0"),
        ({"size": (96, 150)}, "multiples of 32"),
        ({"size": (0, 32)}, "multiples of 32"),
        ({"redundancy": -0.5}, "Streets.redundancy is -0.5"),
        ({"redundancy": float("nan")}, "Streets.redundancy is nan"),
        ({"tail": 1.5}, "Streets.tail is 1.5"),
        ({"held_out_tail": -0.1}, "Streets.held_out_tail is -0.1"),
        ({"rare_difficulty": -1.0}, "Streets.rare_difficulty is -1.0"),
    ],
)
def test_bad_values_are_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Streets(**change)  # type: ignore[arg-type]


# ---- the adapter ---------------------------------------------------------------------------------------------------


def test_classes() -> None:
    classes = SMALL.classes()
    assert classes.detection == ("car", "truck", "bus", "pedestrian", "cyclist", "sign")
    assert [classes.segmentation[c] for c in classes.det_to_seg] == list(classes.detection)
    for left, right in classes.flip_pairs:
        assert classes.keypoints[left].replace("left", "right") == classes.keypoints[right]
    lut = SMALL.semantic_lut()
    assert len(lut) == 256
    assert lut[:12] == (*range(11), 255)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # pycocotools' own, in decode
def test_records_describe_the_files(stored: tuple[Path, list[Record]]) -> None:
    folder, records = stored
    assert Counter(r.split for r in records) == {"train": 40, "val": 12, "test": 12}
    assert len({r.id for r in records}) == len(records)
    for record in records:
        assert record.id.startswith(record.group + "-")
        assert record.group.startswith(record.split + "-")
        assert _read(folder / record.uri).shape == (96, 160, 3)
        semantic = _read(folder / str(record.segmentation))
        depth = np.load(folder / str(record.depth))
        assert depth.dtype == np.float32
        assert (np.isnan(depth) == (semantic == SKY)).all()
        assert record.objects is not None
        for thing in record.objects:
            mask = coco_mask.decode(thing.rle).astype(bool)
            assert (semantic[mask] == CAR + thing.label).all()
            x, y, w, h = coco_mask.toBbox(thing.rle)
            assert thing.box == (x, y, x + w, y + h)
            assert len(thing.keypoints) == (24 if thing.label < 3 else 0)


def test_records_are_the_frames(stored: tuple[Path, list[Record]]) -> None:
    folder, records = stored
    split, shot = next(iter(SMALL.shots()))
    frame = SMALL.frame(split, shot, SMALL.scene(split, shot))
    assert records[0].id == "train-00000-000"
    assert (_read(folder / records[0].uri)[..., ::-1] == frame.image).all()
    np.testing.assert_array_equal(np.load(folder / str(records[0].depth)), frame.depth)
    assert [o.box for o in records[0].objects or ()] == [t.box for t in frame.things]


def test_depth_comes_through_the_manifest_exactly(tmp_path: Path) -> None:
    """As the label of the task and as what a teacher reads: metres, NaN (0) for sky."""
    records, path = list(Streets(images=4, validation=1, test=1).records(tmp_path)), tmp_path / "manifest.parquet"
    write_manifest(path, records, SMALL.classes(), SMALL.semantic_lut())
    found = Samples(Manifest.open(path), ("segmentation", "depth"), sensors=("depth",))[0]
    metres, truth = found.targets["depth"], np.load(tmp_path / f"depth/{found.id}.npy")
    assert isinstance(metres, Tensor)
    np.testing.assert_array_equal(metres.numpy(), truth)
    np.testing.assert_array_equal(found.inputs["depth"][0].numpy(), np.nan_to_num(truth, nan=0.0))
    assert np.isnan(truth).any()


def test_splits_share_no_scene(stored: tuple[Path, list[Record]]) -> None:
    groups = {split: {r.group for r in stored[1] if r.split == split} for split in ("train", "val", "test")}
    assert not groups["train"] & groups["val"] | groups["train"] & groups["test"] | groups["val"] & groups["test"]
    assert len(groups["val"]) == len(groups["test"]) == 12  # one frame a scene
    assert len(groups["train"]) < 40
    scenes = [SMALL.scene(split, shot) for split, shot in SMALL.shots() if shot.frame == 0]
    assert len({s.texture for s in scenes}) == len(scenes)


def test_nothing_but_whole_files_is_left(stored: tuple[Path, list[Record]]) -> None:
    folder, records = stored
    files = {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}
    assert files == {uri for r in records for uri in (r.uri, str(r.segmentation), str(r.depth))}


def test_a_run_killed_while_writing_leaves_no_broken_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(source: object, target: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        next(SMALL.records(tmp_path))
    assert not list(tmp_path.rglob("*.png"))
    monkeypatch.undo()
    record = next(SMALL.records(tmp_path))
    assert _read(tmp_path / record.uri).shape == (96, 160, 3)


@pytest.mark.slow
def test_two_processes_make_the_same_pixels(stored: tuple[Path, list[Record]]) -> None:
    script = (
        "import hashlib, sys; from itertools import islice, pairwise; from tasks.data.streets import Streets\n"
        "streets, hashed = Streets(images=40, validation=12, test=12), hashlib.sha256()\n"
        "for split, shot in islice(streets.shots(), 8):\n"
        "    frame = streets.frame(split, shot, streets.scene(split, shot))\n"
        "    for part in (frame.image, frame.semantic, frame.instances, frame.depth): hashed.update(part.tobytes())\n"
        "print(hashed.hexdigest())"
    )
    there = subprocess.run(
        [sys.executable, "-c", script],
        cwd=ROOT,
        env={**os.environ, "PYTHONHASHSEED": "77", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    ).stdout.strip()
    here = hashlib.sha256()
    for split, shot in islice(SMALL.shots(), 8):
        frame = SMALL.frame(split, shot, SMALL.scene(split, shot))
        for part in (frame.image, frame.semantic, frame.instances, frame.depth):
            here.update(part.tobytes())
    assert there == here.hexdigest()


@pytest.mark.slow
def test_the_long_tail_is_long() -> None:
    scenes = [Streets().scene(split, shot) for split, shot in Streets().shots() if split == "train"]
    counts = Counter(SEGMENTATION[t.kind] for s in scenes for t in s.vehicles)
    assert counts["car"] > 4 * counts["truck"]
    assert counts["car"] > 8 * counts["bus"]
