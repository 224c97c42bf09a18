"""A table with parts: what lies on top is seen, light falls as it is told, files are whole."""

from pathlib import Path

import numpy as np

from tasks.data.decoding import read_depth, read_image
from tasks.data.tabletop import (
    Laid,
    Look,
    Part,
    Setting,
    Surface,
    at_place,
    draw_setting,
    painted,
    photo,
    sensed,
    write_maps,
)
from tasks.seeding import rng_of

FLAT = Setting((0.5, 0.5, 0.5), (0.0, 0.0), (0.3, 0.2), (1.0, 0.0, 0.0))


def slab(height: float, half: float) -> Part:
    def look(
        u: np.ndarray[tuple[int, ...], np.dtype[np.float64]], v: np.ndarray[tuple[int, ...], np.dtype[np.float64]]
    ) -> Look:
        return painted(np.where((np.abs(u) <= half) & (np.abs(v) <= half / 2), height, 0), (0.8, 0.2, 0.2))

    return Part(look, 2 * half, 0.0)


def test_the_last_part_lies_on_top_and_as_high_as_it_is_lifted() -> None:
    surface = Surface.bare(FLAT.colour, (20, 30))
    surface.put([Laid(slab(1.0, 6), 15, 10, 0.0), Laid(slab(2.0, 4), 15, 10, np.pi / 2, lift=1.0)], 1.0)
    assert surface.instances[10, 15] == 2
    assert surface.height[10, 15] == 3.0
    assert surface.instances[10, 20] == 1
    assert surface.height[10, 20] == 1.0
    assert surface.instances[0, 0] == 0
    assert (surface.instances == 2).sum() == 8 * 4
    assert at_place(1.0, 0.0, 15, 10, np.pi / 2) == (15.0, 11.0)


def test_a_photo_and_its_depth() -> None:
    fine, exact = Surface.bare(FLAT.colour, (40, 60)), Surface.bare(FLAT.colour, (20, 30))
    parts = [Laid(slab(2.0, 6), 15, 10, 0.0)]
    fine.put(parts, 0.5)
    exact.put(parts, 1.0)
    image = photo(fine, FLAT, 0.5, rng_of("a"))
    assert image.shape == (20, 30, 3)
    assert image[10, 15, 0] > image[10, 15, 1] + 60
    depth = sensed(FLAT, exact, [0.0], 1.0, rng_of("b"), holes=0.0)
    assert abs(float(depth[10, 15]) - 0.48) < 0.004
    assert abs(float(depth[0, 0]) - 0.50) < 0.004
    shiny = sensed(FLAT, exact, [1.0], 1.0, rng_of("b"), holes=3.0)
    assert np.isnan(shiny[exact.instances == 1]).mean() > 0.9
    assert draw_setting(rng_of("c")) == draw_setting(rng_of("c"))


def test_maps_are_written_and_read_back(tmp_path: Path) -> None:
    image = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    depth = np.array([[0.5, np.nan]], np.float32)
    uris = write_maps(tmp_path, "a", {"images": image, "depth": depth})
    assert uris == {"images": "images/a.png", "depth": "depth/a.npy"}
    assert np.array_equal(read_image(uris["images"], tmp_path), image)
    assert np.array_equal(read_depth(uris["depth"], tmp_path), depth, equal_nan=True)
