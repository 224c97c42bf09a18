"""Pixels of every mode and depth, and files that are none."""

from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tasks.data.decoding import read_depth, read_image, read_semantic


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "LA", "1", "CMYK"])
def test_every_mode_becomes_rgb(tmp_path: Path, mode: str) -> None:
    grey = Image.fromarray(np.where(np.arange(24).reshape(4, 6) % 2, 255, 0).astype(np.uint8))
    name = "a.jpg" if mode == "CMYK" else "a.png"
    grey.convert("RGB").convert(mode).save(tmp_path / name, quality=100)
    pixels = read_image(name, tmp_path)
    assert pixels.dtype == np.uint8
    assert pixels.shape == (4, 6, 3)
    assert np.abs(pixels.astype(int) - np.asarray(grey)[..., None]).max() <= (40 if mode == "CMYK" else 0)


def test_sixteen_bits_keep_their_contrast(tmp_path: Path) -> None:
    Image.fromarray(np.array([[0, 257, 65535]], np.uint16)).save(tmp_path / "a.png")
    assert read_image("a.png", tmp_path)[0, :, 0].tolist() == [0, 1, 255]


def test_images_are_turned_as_their_exif_says(tmp_path: Path) -> None:
    image = Image.fromarray(np.zeros((4, 6, 3), np.uint8))
    exif = image.getexif()
    exif[0x0112] = 6
    image.save(tmp_path / "a.jpg", exif=exif)
    assert read_image("a.jpg", tmp_path).shape == (6, 4, 3)


def test_broken_files_are_named(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    buffer = BytesIO()
    Image.fromarray(noise).save(buffer, "JPEG")
    for name, data in [("cut.jpg", buffer.getvalue()[:2000]), ("text.jpg", b"hello"), ("empty.jpg", b"")]:
        (tmp_path / name).write_bytes(data)
        with pytest.raises(
            ValueError, match=rf"{name}: cannot be decoded .* {len(data)} bytes\); expected a whole JPEG"
        ):
            read_image(name, tmp_path)
    Image.fromarray(noise).save(tmp_path / "a.png")
    png = (tmp_path / "a.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(png[: len(png) // 2])
    with pytest.raises(ValueError, match=r"cut.png: cannot be decoded"):
        read_image("cut.png", tmp_path)


def test_maps_that_are_none_are_named(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((2, 2, 3), np.uint8)).save(tmp_path / "a.png")
    with pytest.raises(ValueError, match=r"a.png: is a semantic map of mode RGB; expected an 8-bit PNG"):
        read_semantic("a.png", tmp_path)
    (tmp_path / "bad.npy").write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"bad.npy: is no .npy file .*; expected a float32 map"):
        read_depth("bad.npy", tmp_path)
    np.save(tmp_path / "int.npy", np.zeros((2, 2), np.int32))
    with pytest.raises(ValueError, match=r"int.npy: holds int32 \(2, 2\); expected a float32 map"):
        read_depth("int.npy", tmp_path)
