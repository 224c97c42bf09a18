"""Rows of images in any order and any shards; names and NaN. The figures themselves: see the tests of the tasks."""

import numpy as np
import pytest

from tasks.average_precision import KEYPOINT_STATS, STATS, CocoRows, named

TRUTH = {"category_id": 0, "bbox": [2.0, 2.0, 10.0, 10.0], "area": 100.0, "iscrowd": 0}
FOUND = {"category_id": 0, "bbox": [2.0, 2.0, 10.0, 10.0], "score": 0.5}


def test_rows_of_shards_add_up_and_are_not_changed() -> None:
    whole, first, second = (CocoRows("boxes", ["car", "never"]) for _ in range(3))
    for n, (truth, found) in enumerate((([TRUTH], [FOUND]), ([], [FOUND, FOUND]), ([TRUTH, TRUTH], []))):
        whole.add(f"im{n}", truth, found)
        (first if n == 1 else second).add(f"im{n}", truth, found)
    second.merge(first)
    figures = whole.figures("bbox")
    np.testing.assert_equal(second.figures("bbox"), figures)
    np.testing.assert_equal(whole.figures("bbox"), figures)
    assert figures["ap50"] == figures["ap/car"] == pytest.approx(34 / 101)  # recall 1/3 at full precision
    assert np.isnan(figures["ap/never"])
    assert "id" not in TRUTH
    with pytest.raises(ValueError, match="boxes metric: image 'im1' came twice"):
        whole.merge(first)
    with pytest.raises(ValueError, match="boxes metric: merging classes"):
        whole.merge(CocoRows("boxes", ["car"]))


def test_without_truth_every_figure_is_nan_under_its_name() -> None:
    rows = CocoRows("boxes", ["car"])
    rows.add("a", [], [FOUND])
    assert tuple(rows.figures("bbox")) == (*STATS, "ap/car")
    assert all(np.isnan(value) for value in rows.figures("bbox").values())
    assert tuple(named(None, "keypoints", ["car"])) == (*KEYPOINT_STATS, "ap/car")
