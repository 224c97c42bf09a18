"""The truth of a rendered street agrees with itself and with geometry."""

from collections import Counter
from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from tasks.data.street_canvas import NEAR, Camera, Canvas, Sprite, clip_near
from tasks.data.street_render import Frame, render
from tasks.data.street_scene import (
    BUS,
    CAR,
    CONDITIONS,
    CYCLIST,
    PEDESTRIAN,
    ROAD,
    SIDEWALK,
    SIGN,
    SKY,
    TRUCK,
    VEGETATION,
    Building,
    Light,
    Person,
    Scene,
    Vehicle,
)
from tasks.data.streets import Streets


def _frames(streets: Streets, count: int) -> list[Frame]:
    return [streets.frame(split, shot, streets.scene(split, shot)) for split, shot in islice(streets.shots(), count)]


@pytest.fixture(scope="module")
def frames() -> list[Frame]:
    """A varied handful: one frame a scene, all kinds alike."""
    return _frames(Streets(images=60, redundancy=0, tail=1.0), 60)


@pytest.fixture
def empty() -> Scene:
    """A straight road of three lanes in clear weather, with nothing on or beside it."""
    streets = Streets(images=1)
    scene = streets.scene(*next(iter(streets.shots())))
    road = replace(scene.road, lanes=3, ego=1, bend=0.0, lane_width=3.5, parking=(False, False), zebra=None)
    scene = replace(scene, condition="clear", road=road, speed=0.0, buildings=(), trees=(), boards=())
    return replace(scene, vehicles=(), people=(), signs=(), light=replace(scene.light, gain=1.0))


def _rng() -> np.random.Generator:
    return np.random.default_rng(3)


def _car(x: float, z: float, yaw: float = 0.0) -> Vehicle:
    return Vehicle(CAR, "car", x, z, yaw, 4.2, 1.8, 1.5, (200.0, 200.0, 200.0), 0.0)


def _bus(x: float, z: float, length: float = 11.0) -> Vehicle:
    return Vehicle(BUS, "bus", x, z, 0.0, length, 2.55, 3.2, (200.0, 40.0, 40.0), 0.0)


# ---- truth agrees with itself --------------------------------------------------------------------------------------


def test_boxes_masks_instances_and_classes_agree(frames: list[Frame]) -> None:
    seen = Counter[int]()
    for frame in frames:
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


def test_depth_is_missing_in_the_sky_alone(frames: list[Frame]) -> None:
    for frame in frames:
        assert (np.isnan(frame.depth) == (frame.semantic == SKY)).all()
        assert np.nanmin(frame.depth) >= NEAR - 1e-3
        assert np.nanmax(frame.depth) <= 120.01


def test_depth_of_a_thing_is_near_its_distance(frames: list[Frame]) -> None:
    for frame in frames:
        for name, thing in enumerate(frame.things, start=1):
            depth = frame.depth[frame.instances == name]
            reach = 7.0 if thing.keypoints is not None else 0.01  # half a bus; people and signs are flat
            assert np.abs(depth - thing.distance).max() <= reach
            if thing.visible == 1 and thing.box[0] > 0 and thing.box[2] < frame.depth.shape[1]:
                assert depth.min() <= thing.distance + 0.01  # we see what is turned to us


def test_a_visible_keypoint_lies_at_its_vehicle(frames: list[Frame]) -> None:
    counts = Counter[int]()
    for frame in frames:
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
    for frame in _frames(Streets(images=4, redundancy=0, size=size), 4):
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
