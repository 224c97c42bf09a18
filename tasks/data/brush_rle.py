"""Label Studio's run-length form of a brush: not COCO's.

Source: the rle-pack format that Label Studio's front end writes (32 bits: how many words; 5 bits: bits of a word - 1;
4 x 4 bits: bits of the four run sizes - 1; then runs until all words are there: a flag, 2 bits that choose a run size,
the run's length - 1 in that size, and one word that is repeated (flag 1) or each word of the run (flag 0)). The words
are the RGBA bytes of the image, row by row; a pixel is painted where its alpha is above 0.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tasks.geometry import Size

_SIZES = (3, 4, 8, 16)  # bits of a run's length, as the front end writes them
_LONGEST = 1 << _SIZES[-1]
_CHANNELS = 4


def mask_of_brush(rle: Sequence[int], size: Size) -> NDArray[np.bool_]:
    """The painted pixels ``[H, W]`` of a brush of an image of H, W. ValueError when the runs are not those of one."""
    words = unpack_runs(rle)
    if words.size != size[0] * size[1] * _CHANNELS:
        raise ValueError(
            f"a brush holds {words.size} values; expected {_CHANNELS} for each of {size[0]} x {size[1]} px (H x W)"
        )
    alpha: NDArray[np.bool_] = words.reshape(*size, _CHANNELS)[..., 3] > 0
    return alpha


def brush_of_mask(mask: NDArray[np.bool_]) -> list[int]:
    """The bytes of a brush that paints the pixels of a mask ``[H, W]``; ``mask_of_brush`` gives the same mask back."""
    flat = np.ascontiguousarray(mask, np.uint8).ravel()
    starts = np.concatenate([[0], np.flatnonzero(np.diff(flat)) + 1]) if flat.size else np.zeros(0, np.int64)
    lengths = np.diff(np.append(starts, flat.size)) * _CHANNELS
    bits = [f"{flat.size * _CHANNELS:032b}", f"{8 - 1:05b}", *(f"{size - 1:04b}" for size in _SIZES)]
    for start, length in zip(starts.tolist(), lengths.tolist(), strict=True):
        value = 255 * int(flat[start])
        for _ in range((length - 1) // _LONGEST):
            bits.append(_run(_LONGEST, value))
            length -= _LONGEST
        bits.append(_run(length, value))
    text = "".join(bits)
    count = -(-len(text) // 8)
    return list(int(text.ljust(8 * count, "0"), 2).to_bytes(count, "big"))


def unpack_runs(rle: Sequence[int]) -> NDArray[np.uint8]:
    """All words of the runs, flat. ValueError when these are no bytes, end too early, or run over their number."""
    try:
        bits = _Bits(bytes([*rle]))
    except (TypeError, ValueError):
        raise ValueError(f"a brush's runs are {str(rle)[:40]!r}; expected a list of bytes 0..255") from None
    count, width = bits.read(32), bits.read(5) + 1
    if width != 8:
        raise ValueError(f"a brush has words of {width} bits; expected 8, a byte for each channel")
    sizes = [bits.read(4) + 1 for _ in range(4)]
    parts: list[NDArray[np.uint8]] = []
    done = 0
    while done < count:
        repeated = bits.read(1)
        length = bits.read(sizes[bits.read(2)]) + 1
        parts.append(np.full(length, bits.read(8), np.uint8) if repeated else bits.read_bytes(length))
        done += length
    if done > count:
        raise ValueError(f"a brush's runs add up to {done} values; expected {count}")
    return np.concatenate(parts) if parts else np.zeros(0, np.uint8)


def _run(length: int, value: int) -> str:
    """The bits of one value, repeated."""
    index = next(i for i, size in enumerate(_SIZES) if length <= 1 << size)
    return f"1{index:02b}{length - 1:0{_SIZES[index]}b}{value:08b}"


class _Bits:
    """Numbers out of bytes, the highest bit first."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def read(self, count: int) -> int:
        first, end = self._at >> 3, self._at + count
        self._advance(end)
        value = int.from_bytes(self._data[first : (end + 7) >> 3], "big") >> (-end & 7)
        return value & ((1 << count) - 1)

    def read_bytes(self, count: int) -> NDArray[np.uint8]:
        """``count`` bytes, which need not begin at the border of one."""
        first, shift, end = self._at >> 3, self._at & 7, self._at + 8 * count
        self._advance(end)
        data = np.frombuffer(self._data[first : (end + 7) >> 3], np.uint8)
        return np.packbits(np.unpackbits(data)[shift : shift + 8 * count])

    def _advance(self, end: int) -> None:
        if end > 8 * len(self._data):
            raise ValueError(f"a brush's runs end after {len(self._data)} bytes, inside of a run; expected all of it")
        self._at = end
