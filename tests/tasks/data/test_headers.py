"""The size of an image from its header is that of its pixels, and what has none is told."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tasks.data.decoding import read_image
from tasks.data.headers import header_size

PIXELS = np.random.default_rng(0).integers(0, 255, (6, 9, 3), np.uint8)


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.webp", "a.tif"])
@pytest.mark.parametrize("turn", [None, 1, 3, 6, 8])
def test_it_is_the_size_as_shown(tmp_path: Path, name: str, turn: int | None) -> None:
    exif = Image.Exif()
    options: dict[str, Any] = {}
    if turn is not None:
        exif[0x0112] = turn
        options["exif"] = exif
    Image.fromarray(PIXELS).save(tmp_path / name, **options)
    assert header_size(name, tmp_path) == read_image(name, tmp_path).shape[:2] == ((9, 6) if turn in (6, 8) else (6, 9))


def test_only_the_header_is_read(tmp_path: Path) -> None:
    Image.fromarray(PIXELS).save(tmp_path / "a.png")
    data = (tmp_path / "a.png").read_bytes()
    (tmp_path / "a.png").write_bytes(data[: len(data) // 2])
    assert header_size("a.png", tmp_path) == (6, 9)
    with pytest.raises(ValueError, match="cannot be decoded"):
        read_image("a.png", tmp_path)


def test_what_is_no_image_is_told(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"\xff\xd8")
    (tmp_path / "b.jpg").write_bytes(b"")
    Image.fromarray(PIXELS).save(tmp_path / "c.png")
    for name in ("a.jpg", "b.jpg"):
        with pytest.raises(ValueError, match=rf"{name}: has no header that can be read .*; expected a JPEG or PNG"):
            header_size(name, tmp_path)
    with pytest.raises(ValueError, match=r"c.png: is of mode RGB; expected L or P: convert it"):
        header_size("c.png", tmp_path, ("L", "P"))
    with pytest.raises(FileNotFoundError, match=r"d.png: no such file"):
        header_size("d.png", tmp_path)
