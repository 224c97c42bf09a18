"""Label Studio's brushes: exact there and back, against a slow reader that goes bit by bit."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.data.brush_rle import brush_of_mask, mask_of_brush, unpack_runs


def read_slowly(rle: list[int]) -> list[int]:
    """The format as its definition says it, a bit at a time."""
    bits, at = "".join(f"{byte:08b}" for byte in rle), 0

    def take(count: int) -> int:
        nonlocal at
        at += count
        return int(bits[at - count : at], 2)

    count, word, sizes = take(32), take(5) + 1, [0, 0, 0, 0]
    sizes = [take(4) + 1 for _ in sizes]
    words: list[int] = []
    while len(words) < count:
        repeated = take(1)
        length = take(sizes[take(2)]) + 1
        words += [take(word)] * length if repeated else [take(word) for _ in range(length)]
    return words


@given(st.integers(1, 12), st.integers(1, 12), st.integers(0, 2**32), st.sampled_from([0.0, 0.02, 0.5, 1.0]))
@settings(max_examples=60, deadline=None)
def test_there_and_back(height: int, width: int, seed: int, share: float) -> None:
    mask = np.random.default_rng(seed).random((height, width)) < share
    rle = brush_of_mask(mask)
    assert (mask_of_brush(rle, mask.shape) == mask).all()
    assert read_slowly(rle) == unpack_runs(rle).tolist() == np.repeat(mask.ravel() * np.uint8(255), 4).tolist()


def test_runs_of_every_length() -> None:
    """Runs at the borders of the four sizes, and longer than the longest."""
    for length in (1, 2, 3, 4, 5, 63, 64, 65, 16383, 16384, 16385, 40000):
        mask = np.zeros((1, length + 2), bool)
        mask[0, 1:-1] = True
        assert (mask_of_brush(brush_of_mask(mask), mask.shape) == mask).all()


def test_words_that_differ_in_one_run() -> None:
    """Flag 0: a run of words that are all told, not at the border of a byte."""
    words = [3, 250, 0, 17, 17, 17, 17, 255]
    bits = f"{8:032b}{7:05b}" + "".join(f"{s - 1:04b}" for s in (3, 4, 8, 16))
    bits += f"000{2:03b}" + "".join(f"{w:08b}" for w in words[:3])
    bits += f"100{3:03b}{17:08b}" + f"000{0:03b}{255:08b}"
    bits += "0" * (-len(bits) % 8)
    rle = [int(bits[i : i + 8], 2) for i in range(0, len(bits), 8)]
    assert unpack_runs(rle).tolist() == read_slowly(rle) == words
    assert mask_of_brush(rle, (1, 2)).tolist() == [[True, True]]  # alpha 17 and 255


def test_a_real_brush(shared: Path) -> None:
    folder = shared / "data" / "labelstudio" / "joint"
    expected = {one["file_upload"]: one for one in json.loads((folder / "expected.json").read_text())}
    seen = 0
    for task in json.loads((folder / "export.json").read_text()):
        for one in task["annotations"][0]["result"]:
            if one["type"] == "brushlabels":
                mask = mask_of_brush(one["value"]["rle"], (one["original_height"], one["original_width"]))
                assert mask.sum() == expected[task["file_upload"]]["brush"]["area"]
                assert read_slowly(one["value"]["rle"])[3::4] == (mask.ravel() * 255).tolist()
                assert read_slowly(brush_of_mask(mask)) == read_slowly(one["value"]["rle"])
                seen += 1
    assert seen == 2


@pytest.mark.parametrize(
    ("rle", "words"),
    [
        ([0, 0, 0, 8, 57], "end after 5 bytes"),
        ([1, 2, 300], "expected a list of bytes"),
        (["a"], "expected a list of bytes"),
        ([0, 0, 0, 4, 121, 27, 255, 255, 0, 0], "words of 16 bits"),
        (brush_of_mask(np.ones((2, 3), bool))[:-1], "inside of a run"),
        (brush_of_mask(np.ones((2, 4), bool)), "holds 32 values; expected 4 for each of 2 x 3 px"),
    ],
)
def test_what_is_no_brush(rle: list[int], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        mask_of_brush(rle, (2, 3))
