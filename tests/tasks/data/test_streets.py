"""The synthetic streets: their truth agrees with itself and with geometry, and every knob does what it says."""

import hashlib
import os
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from itertools import islice, pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from pycocotools import mask as coco_mask
from scipy import ndimage

from tasks.data.manifest import Record
from tasks.data.street_canvas import NEAR, Camera, Canvas, Sprite, clip_near
from tasks.data.street_render import Frame, render
from tasks.data.street_scene import (
    BUS,
    CAR,
    CONDITIONS,
    CYCLIST,
    PEDESTRIAN,
    RARE_KINDS,
    ROAD,
    SEGMENTATION,
    SIDEWALK,
    SIGN,
    SKY,
    STREETS,
    TRUCK,
    VEGETATION,
    Building,
    Light,
    Person,
    Scene,
    Vehicle,
    plan,
)
from tasks.data.streets import Streets

ROOT = Path(__file__).parents[3]
SMALL = Streets(images=40, validation=12, test=12)


def _frames(streets: Streets, split: str, count: int) -> list[tuple[Scene, int, Frame]]:
    shots = islice(((s, shot) for s, shot in streets.shots() if s == split), count)
    scenes = [(streets.scene(s, shot), s, shot) for s, shot in shots]
    return [(scene, shot.frame, streets.frame(s, shot, scene)) for scene, s, shot in scenes]


@pytest.fixture(scope="module")
def frames() -> list[tuple[Scene, int, Frame]]:
    """A varied handful: one frame a scene, all kinds alike."""
    return _frames(Streets(images=60, redundancy=0, tail=1.0), "train", 60)


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Record]]:
    folder = tmp_path_factory.mktemp("streets")
    return folder, list(SMALL.records(folder))


@pytest.fixture
def empty() -> Scene:
    """A straight road of three lanes in clear weather, with nothing on or beside it."""
    streets = Streets(images=1)
    scene = streets.scene(*next(iter(streets.shots())))
    road = replace(scene.road, lanes=3, ego=1, bend=0.0, lane_width=3.5, parking=(False, False), zebra=None)
    scene = replace(scene, condition="clear", road=road, speed=0.0, buildings=(), trees=(), boards=())
    return replace(scene, vehicles=(), people=(), signs=(), light=replace(scene.light, gain=1.0))


def _read(path: Path) -> NDArray[np.uint8]:
    image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    assert image is not None
    return np.asarray(image, np.uint8)


def _rng() -> np.random.Generator:
    return np.random.default_rng(3)


def _car(x: float, z: float, yaw: float = 0.0) -> Vehicle:
    return Vehicle(CAR, "car", x, z, yaw, 4.2, 1.8, 1.5, (200.0, 200.0, 200.0), 0.0)


def _bus(x: float, z: float, length: float = 11.0) -> Vehicle:
    return Vehicle(BUS, "bus", x, z, 0.0, length, 2.55, 3.2, (200.0, 40.0, 40.0), 0.0)


# ---- truth agrees with itself --------------------------------------------------------------------------------------


def test_boxes_masks_instances_and_classes_agree(frames: list[tuple[Scene, int, Frame]]) -> None:
    seen = Counter[int]()
    for _, _, frame in frames:
        assert frame.instances.max(initial=0) == len(frame.things)
        for name, thing in enumerate(frame.things, start=1):
            rows, columns = np.nonzero(frame.instances == name)
            box = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
            assert thing.box == box
            assert (frame.semantic[rows, columns] == CAR + thing.label).all()
            assert len(rows) >= 14
            assert 0.25 <= thing.visible <= 1
            seen[thing.label] += 1
    assert set(seen) == set(range(6))  # every class occurred


def test_depth_is_missing_in_the_sky_alone(frames: list[tuple[Scene, int, Frame]]) -> None:
    for _, _, frame in frames:
        assert (np.isnan(frame.depth) == (frame.semantic == SKY)).all()
        assert np.nanmin(frame.depth) >= NEAR - 1e-3
        assert np.nanmax(frame.depth) <= 120.01


def test_depth_of_a_thing_is_near_its_distance(frames: list[tuple[Scene, int, Frame]]) -> None:
    for _, _, frame in frames:
        for name, thing in enumerate(frame.things, start=1):
            depth = frame.depth[frame.instances == name]
            reach = 7.0 if thing.keypoints is not None else 0.01  # half a bus; people and signs are flat
            assert np.abs(depth - thing.distance).max() <= reach
            if thing.visible == 1 and thing.box[0] > 0 and thing.box[2] < frame.depth.shape[1]:
                assert depth.min() <= thing.distance + 0.01  # we see what is turned to us


def test_a_visible_keypoint_lies_at_its_vehicle(frames: list[tuple[Scene, int, Frame]]) -> None:
    counts = Counter[int]()
    for _, _, frame in frames:
        height, width = frame.semantic.shape
        for name, thing in enumerate(frame.things, start=1):
            if thing.keypoints is None:
                assert CAR + thing.label in (PEDESTRIAN, CYCLIST, SIGN)
                continue
            assert CAR + thing.label in (CAR, TRUCK, BUS)
            away = ndimage.distance_transform_edt(frame.instances != name)
            for x, y, v in thing.keypoints:
                counts[int(v)] += 1
                if v == 0:
                    assert (x, y) == (0, 0)
                    continue
                assert 0 <= x < width
                assert 0 <= y < height
                if v == 2:
                    assert away[int(y), int(x)] <= 1.5
    assert min(counts[0], counts[1], counts[2]) > 20


@pytest.mark.parametrize("size", [(32, 32), (64, 224), (256, 128)])
def test_any_size_renders(size: tuple[int, int]) -> None:
    for _, _, frame in _frames(Streets(images=4, redundancy=0, size=size), "train", 4):
        assert frame.image.shape == (*size, 3)
        assert frame.image.dtype == frame.semantic.dtype == np.uint8
        assert frame.depth.shape == frame.instances.shape == frame.semantic.shape == size
        assert (frame.semantic == ROAD).mean() > 0.02


# ---- truth agrees with geometry ------------------------------------------------------------------------------------


def test_ground_depth_follows_the_pinhole(empty: Scene) -> None:
    still = np.random.default_rng(0)
    frame = render(empty, 0, (96, 160), still)
    shake = np.random.default_rng(0).normal(0, (0.003, 0.004))
    camera = Camera.of(empty, (96, 160), (shake[0], shake[1]))
    for column in (20, 80, 140):
        rows = np.flatnonzero(frame.semantic[:, column] == ROAD)
        assert (np.diff(frame.depth[rows, column]) < 0).all()  # grows towards the horizon
        np.testing.assert_allclose(
            frame.depth[rows, column], camera.focal * camera.height / (rows + 0.5 - camera.horizon), rtol=1e-4
        )


def test_depth_of_a_slanted_face_is_where_the_ray_meets_it() -> None:
    camera = Camera(focal=190.0, centre=80.0, horizon=40.0, height=1.6, bend=0.0)
    canvas, sprite = Canvas(camera, (96, 160)), Sprite(CAR)
    corners = [(-4.0, 0.0, 8.0), (5.0, 0.0, 20.0), (5.0, 4.0, 20.0), (-4.0, 4.0, 8.0)]
    sprite.face(corners, (1.0, 2.0, 3.0))
    assert canvas.stand(sprite, owner=1) > 500
    rows, columns = np.nonzero(canvas.surface[1::2, 1::2])
    slope = (columns + 0.5 - camera.centre) / camera.focal  # x / z of the ray
    z = (8.0 + 4.0 * 12 / 9) / (1 - slope * 12 / 9)  # the wall: z = 8 + (x + 4) · 12 / 9
    inner = (z > 8.2) & (z < 19.5)
    np.testing.assert_allclose(1 / canvas.inverse[1::2, 1::2][rows, columns][inner], z[inner], rtol=1e-4)
    assert inner.mean() > 0.9


def test_clipping_keeps_what_is_ahead() -> None:
    square = np.array([(0, 0, -1), (1, 0, -1), (1, 0, 3), (0, 0, 3)], float)
    part = clip_near(square)
    assert part[:, 2].min() == pytest.approx(NEAR)
    assert part[:, 2].max() == 3
    assert len(clip_near(square - np.array((0, 0, 9)))) == 0
    assert len(clip_near(square + np.array((0, 0, 9)))) == 4


def test_the_nearer_thing_wins_everywhere_and_the_order_of_drawing_does_not_matter(empty: Scene) -> None:
    front, back = _car(0.2, 9.0), _bus(0.0, 24.0)
    one = render(replace(empty, vehicles=(front, back)), 0, (96, 160), _rng())
    two = render(replace(empty, vehicles=(back, front)), 0, (96, 160), _rng())
    alone = render(replace(empty, vehicles=(back,)), 0, (96, 160), _rng())
    assert [t.label for t in one.things] == [0, BUS - CAR]
    hidden = (alone.instances == 1) & (one.instances == 1)
    assert hidden.sum() > 30
    assert (one.semantic[hidden] == CAR).all()
    assert (one.depth[hidden] < alone.depth[hidden]).all()
    assert one.things[0].visible == 1
    assert one.things[1].visible < 1
    assert (one.semantic == two.semantic).all()
    assert (one.image == two.image).all()
    np.testing.assert_array_equal(one.depth, two.depth)


def test_a_long_bus_hides_the_car_beyond_it_though_the_cars_middle_is_nearer(empty: Scene) -> None:
    bus, car = _bus(4.0, 16.5, length=13.0), _car(6.8, 16.0)
    with_car = render(replace(empty, vehicles=(bus, car)), 0, (96, 160), _rng())
    bus_alone = render(replace(empty, vehicles=(bus,)), 0, (96, 160), _rng())
    assert (with_car.semantic[bus_alone.semantic == BUS] == BUS).all()


def test_a_mostly_hidden_car_is_no_object_but_stays_in_the_map(empty: Scene) -> None:
    scene = replace(empty, vehicles=(_bus(0.0, 14.0), _car(2.7, 24.0)))
    frame = render(scene, 0, (96, 160), _rng())
    assert [t.label for t in frame.things] == [BUS - CAR]
    assert 0 < (frame.semantic == CAR).sum() < 60
    assert (frame.instances[frame.semantic == CAR] == 0).all()


def test_keypoints_of_one_car(empty: Scene) -> None:
    def points(*vehicles: Vehicle) -> NDArray[np.float32]:
        things = render(replace(empty, vehicles=vehicles), 0, (96, 160), _rng()).things
        found = min((t for t in things if t.label == 0), key=lambda t: -t.distance).keypoints
        assert found is not None
        return found

    away, towards = points(_car(0.0, 12.0)), points(_car(0.0, 12.0, np.pi))
    assert away[0, 0] < away[1, 0]  # its left is our left
    assert towards[0, 0] > towards[1, 0]
    assert (away[:2, 2] == 2).all()  # the rear wheels and roof corners face us
    assert (away[4:6, 2] == 2).all()
    assert (away[2:4, 2] == 1).all()  # the front wheels do not
    assert (towards[2:4, 2] == 2).all()
    assert away[0, 1] > away[2, 1] > away[4, 1]  # nearer ground, farther ground, roof
    behind = points(_car(0.0, 20.0), _car(-0.9, 9.0))
    assert behind[0, 2] == 1  # the near car hides the left
    assert behind[5, 2] == 2
    cut = points(_car(-3.4, 7.5))
    assert (cut[:, 2] == 0).any()
    assert (cut[:, 2] == 2).any()


def test_shadows_fall_on_the_ground_alone(empty: Scene) -> None:
    wall = Building(1, 4.5, 6.0, 40.0, 9.0, (150.0, 150.0, 150.0), (60.0, 60.0, 60.0), ((False,),))
    scene = replace(empty, vehicles=(_car(0.0, 11.0), _car(3.4, 17.0)), buildings=(wall,))
    walker = Person(PEDESTRIAN, -2.0, 9.0, 1.7, 0.5, (200.0,) * 3, (90.0,) * 3, (220.0,) * 3, 0.3, 0.0, 0.0)
    scene = replace(scene, people=(walker,))

    def image(shadow: tuple[float, float]) -> Frame:
        light = Light((1.0, 0.0), shadow, 1.0, (1.0, 1.0, 1.0))
        return render(replace(scene, light=light), 0, (96, 160), _rng())

    long, none = image((-1.2, 0.1)), image((0.0, 0.0))
    changed = (long.image != none.image).any(-1)
    ground = np.isin(long.semantic, (ROAD, SIDEWALK, VEGETATION))
    inside = ndimage.binary_erosion(~ground)  # the lens mixes the rim of a thing with its neighbours
    assert inside[long.instances > 0].sum() > 200
    assert not changed[inside].any()
    darker = none.image.astype(int).sum(-1) - long.image.astype(int).sum(-1)
    assert (darker[long.semantic == ROAD] > 60).sum() > 500
    assert (long.semantic == none.semantic).all()


def test_every_condition_looks_its_part(empty: Scene) -> None:
    scene = replace(empty, vehicles=(_car(0.0, 12.0), _car(3.5, 30.0)))
    images = {c: render(replace(scene, condition=c), 0, (96, 160), _rng()).image.astype(float) for c in CONDITIONS}
    mean = {c: image.mean() for c, image in images.items()}
    assert mean["night"] < 0.5 * mean["clear"]
    assert mean["dusk"] < 0.85 * mean["clear"]
    assert images["dusk"][..., 0].mean() > 1.15 * images["dusk"][..., 2].mean()  # red
    skyline = {c: render(replace(empty, condition=c), 0, (96, 160), _rng()).image[24:48] for c in ("clear", "fog")}
    assert skyline["fog"].std() < 0.5 * skyline["clear"].std()  # what is far fades
    assert images["rain"].std() < images["clear"].std()
    blue = {c: (images[c][:20, ..., 2] - images[c][:20, ..., 0]).mean() for c in images}
    assert blue["overcast"] < 0.5 * blue["clear"]


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


@pytest.mark.parametrize("redundancy", [0.0, 1.0])
def test_shares_are_of_images_whatever_the_lengths(redundancy: float) -> None:
    shots = list(plan("train", 6000, 1, redundancy, 0.0))
    for name, kind in STREETS.items():
        assert sum(s.street == name for s in shots) / len(shots) == pytest.approx(kind.share, abs=0.04)
    for name, share in CONDITIONS.items():
        assert sum(s.condition == name for s in shots) / len(shots) == pytest.approx(share, abs=0.04)


def test_tail_one_is_uniform() -> None:
    shots = list(plan("val", 3000, 0, 0.0, 1.0))
    for counts in (Counter(s.street for s in shots), Counter(s.condition for s in shots)):
        assert len(counts) == 6
        assert max(counts.values()) / min(counts.values()) < 1.25


def test_frames_of_a_sequence_are_near_duplicates() -> None:
    frames = _frames(Streets(images=40), "train", 40)
    small = [cv2.blur(f.image, (9, 9)).astype(float) for _, _, f in frames]
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


def test_rare_difficulty_makes_rare_things_far_and_dark() -> None:
    easy, hard = _rare(0.0), _rare(2.0)
    assert min(len(easy), len(hard)) > 100

    def mean_z(things: list[Vehicle | Person]) -> float:
        return float(np.mean([t.z for t in things]))

    def brightness(things: list[Vehicle | Person]) -> float:
        return float(np.mean([np.mean(t.colour if isinstance(t, Vehicle) else t.shirt) for t in things]))

    assert mean_z(hard) > 1.2 * mean_z(easy)
    assert brightness(hard) < 0.75 * brightness(easy)


def test_rare_difficulty_hides_rare_things() -> None:
    def hidden(difficulty: float) -> float:
        streets = Streets(images=50, redundancy=0, tail=1.0, rare_difficulty=difficulty)
        things = [t for _, _, f in _frames(streets, "train", 50) for t in f.things if CAR + t.label in RARE_KINDS]
        return float(np.mean([1 - t.visible for t in things]))

    assert hidden(4.0) > 1.3 * hidden(0.0)


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


def test_the_long_tail_is_long() -> None:
    scenes = [Streets().scene(split, shot) for split, shot in Streets().shots() if split == "train"]
    counts = Counter(SEGMENTATION[t.kind] for s in scenes for t in s.vehicles)
    assert counts["car"] > 4 * counts["truck"]
    assert counts["car"] > 8 * counts["bus"]
