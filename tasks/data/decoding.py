"""Pixels from bytes: images, semantic maps and depth, decoded to their end. Errors name the file."""

import struct
import zlib
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from tasks.data.depth_png import decoded_uri
from tasks.data.files import Place, read_bytes

# What Pillow raises on broken files, beside OSError.
BROKEN = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    IndexError,
    zlib.error,
    struct.error,
    Image.DecompressionBombError,
)


def read_image(uri: str, base: Place) -> NDArray[np.uint8]:
    """The pixels ``[H, W, 3]`` of an image: RGB, turned as its EXIF says; alpha is dropped, 16 bits become 8.

    FileNotFoundError, or ValueError when it cannot be decoded to its end; both name the file.
    """
    image = ImageOps.exif_transpose(opened_image(uri, base))
    if image.mode.startswith("I"):  # 16-bit grey, which convert() would clip at 255
        grey = (np.asarray(image).astype(np.int64).clip(0, 65535) // 257).astype(np.uint8)
        return np.repeat(grey[..., None], 3, axis=2)
    if image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")
    return np.asarray(image.convert("RGB"))


def read_semantic(uri: str, base: Place) -> NDArray[np.uint8]:
    """The values ``[H, W]`` of an 8-bit PNG, as stored (palette indices, not colours). ValueError names the file."""
    image = opened_image(uri, base)
    if image.mode not in ("L", "P"):
        raise ValueError(
            f"{uri}: is a semantic map of mode {image.mode}; expected an 8-bit PNG of class ids (mode L or P): "
            f"convert it"
        )
    return np.asarray(image)


def read_depth(uri: str, base: Place) -> NDArray[np.float32]:
    """The metres ``[H, W]`` of a .npy file, or of a PNG whose uri says how (``depth_png``). ValueError names it."""
    file, code = decoded_uri(uri)
    if code is not None:
        image = opened_image(file, base)
        if image.mode not in ("L", "I", "I;16"):
            raise ValueError(f"{file}: is a depth map of mode {image.mode}; expected grey, 8 or 16 bits: convert it")
        return code.metres(np.asarray(image))
    try:
        depth = np.load(BytesIO(read_bytes(uri, base)), allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise ValueError(
            f"{uri}: is no .npy file ({error}); expected a float32 map in metres: write it again"
        ) from None
    if depth.ndim != 2 or depth.dtype.kind != "f":
        raise ValueError(f"{uri}: holds {depth.dtype} {depth.shape}; expected a float32 map [H, W]: convert it")
    metres: NDArray[np.float32] = depth.astype(np.float32, copy=False)
    return metres


def opened_image(uri: str, base: Place) -> Image.Image:
    """An image as it is stored, decoded to its end. FileNotFoundError, or ValueError where it is broken, name it."""
    data = read_bytes(uri, base)
    try:
        image = Image.open(BytesIO(data))
        image.load()
    except BROKEN as error:
        raise ValueError(
            f"{uri}: cannot be decoded ({broken_by(error)}; {len(data)} bytes); expected a whole JPEG or "
            f"PNG: copy it again or leave it out"
        ) from None
    return image


def broken_by(error: Exception) -> str:
    """Why an image cannot be read: Pillow's words, but for those that name a place in memory."""
    return "no known format" if isinstance(error, UnidentifiedImageError) else str(error) or type(error).__name__
