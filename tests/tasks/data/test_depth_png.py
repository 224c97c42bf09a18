"""Depth in PNGs: what the uri says is what the values mean."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tasks.data.decoding import read_depth
from tasks.data.depth_png import Disparity, Scaled, decoded_uri, depth_uri


@pytest.mark.parametrize("code", [Scaled(25.5), Scaled(1e-7), Disparity(0.209313 * 2262.52, 200.0)])
@pytest.mark.parametrize("uri", ["a.png", "/data/a b#1.png", "s3://bucket/a.png"])
def test_uri_and_code_come_back(uri: str, code: Scaled | Disparity) -> None:
    assert decoded_uri(depth_uri(uri, code)) == (uri, code)


def test_other_uris_are_files() -> None:
    assert decoded_uri("depth/a.npy") == ("depth/a.npy", None)
    assert decoded_uri("depth/a#2.npy") == ("depth/a#2.npy", None)
    with pytest.raises(ValueError, match=r"a.png#per_metre=x: says no numbers behind the #; expected e.g."):
        decoded_uri("a.png#per_metre=x")


def test_metres() -> None:
    values = np.array([[0, 1, 255]], np.uint8)
    np.testing.assert_allclose(Scaled(25.5).metres(values), [[np.nan, 1 / 25.5, 10]], rtol=1e-6)
    values = np.array([[0, 1, 257, 513, 65535]], np.uint16)
    expected = [[np.nan, np.nan, np.nan, 200, 400 / (65534 / 256)]]
    np.testing.assert_allclose(Disparity(400.0, 200.0).metres(values), expected, rtol=1e-6)


def test_pngs_of_8_and_16_bits_are_read(tmp_path: Path) -> None:
    for values in (np.array([[0, 200]], np.uint8), np.array([[0, 40000]], np.uint16)):
        Image.fromarray(values).save(tmp_path / "a.png")
        metres = read_depth("a.png#per_metre=100.0", tmp_path)
        assert metres.dtype == np.float32
        np.testing.assert_array_equal(metres, [[np.nan, values[0, 1] / 100]])
    Image.new("RGB", (2, 1)).save(tmp_path / "a.png")
    with pytest.raises(ValueError, match=r"a.png: is a depth map of mode RGB; expected grey"):
        read_depth("a.png#per_metre=100.0", tmp_path)
    with pytest.raises(FileNotFoundError, match=r"b.png: no such file"):
        read_depth("b.png#per_metre=100.0", tmp_path)
