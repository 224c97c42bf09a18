"""Errors of depth: by hand, over pixels and not images, by a slow reference, merged; label cost."""

import pickle
from math import e, inf, isnan, log, nan, sqrt

import pytest
import torch

from orchestrator.curves import mdsq
from tasks.classes import ClassMap
from tasks.depth import Depth, DepthError
from tasks.types import DepthMap, SegMap

CLASSES = ClassMap((), (), ())


def error_of(*pairs: tuple[list[list[float]], list[list[float]]]) -> DepthError:
    metric = Depth().metric(CLASSES)
    for i, (found, truth) in enumerate(pairs):
        metric.update([DepthMap(torch.tensor(found))], [torch.tensor(truth)], [str(i)])
    return metric


def test_two_by_two_with_pixels_that_do_not_count() -> None:
    """Errors 1 and -2 of truths 2 and 4; NaN, 0, negative and infinite truths are left out."""
    found = error_of(([[3.0, 2.0], [9.0, 9.0]], [[2.0, 4.0], [nan, 0.0]]), ([[1.0, 1.0]], [[-1.0, inf]])).compute()
    assert found["rmse"] == pytest.approx(sqrt((1 + 4) / 2))
    assert found["log_rmse"] == pytest.approx(sqrt((log(1.5) ** 2 + log(2) ** 2) / 2))
    assert found["mae"] == pytest.approx(1.5)
    assert found["abs_rel"] == pytest.approx(0.5)
    assert found["delta1"] == 0
    assert DepthError.main in found


def test_every_pixel_counts_alike_and_not_every_image() -> None:
    """Three right pixels in one image, one that is 2 m off in another: sqrt(4 / 4), where images give (0 + 2) / 2."""
    found = error_of(([[1.0, 1.0, 1.0]], [[1.0, 1.0, 1.0]]), ([[4.0, 7.0, 7.0]], [[2.0, nan, nan]])).compute()
    assert found["rmse"] == pytest.approx(1.0)
    assert found["log_rmse"] == pytest.approx(log(2) / 2)
    unequal = error_of(([[1.0] * 8], [[1.0] * 8]), ([[3.0]], [[1.0]])).compute()
    assert unequal["rmse"] == pytest.approx(2 / 3)  # the mean over images is 1
    assert unequal["delta1"] == pytest.approx(8 / 9)


def test_a_factor_of_e_is_a_log_error_of_one() -> None:
    truth = torch.rand(5, 7, generator=torch.Generator().manual_seed(0)) * 30 + 0.5
    metric = DepthError()
    metric.update([DepthMap(truth * e), DepthMap(truth / e)], [truth, truth], ["a", "b"])
    assert metric.compute()["log_rmse"] == pytest.approx(1.0, abs=1e-6)


def test_predictions_are_cut_at_a_millimetre() -> None:
    found = error_of(([[-5.0, 0.0]], [[1.0, 1.0]])).compute()
    assert found["log_rmse"] == pytest.approx(log(1000))
    assert found["rmse"] == pytest.approx(0.999)


def test_slow_reference_with_enlarged_predictions() -> None:
    generator = torch.Generator().manual_seed(1)
    small = torch.rand(5, 7, generator=generator) * 20
    truth = torch.rand(20, 28, generator=generator) * 20
    truth[:4] = nan
    metric = DepthError()
    metric.update([DepthMap(small)], [truth], ["a"])
    square, factor, count = 0.0, 0.0, 0
    for y in range(4, 20):
        for x in range(28):
            sy, sx = min(max((y + 0.5) / 4 - 0.5, 0), 4), min(max((x + 0.5) / 4 - 0.5, 0), 6)
            y0, x0 = int(sy), int(sx)
            y1, x1, fy, fx = min(y0 + 1, 4), min(x0 + 1, 6), sy - y0, sx - x0
            upper = float(small[y0, x0]) * (1 - fx) + float(small[y0, x1]) * fx
            lower = float(small[y1, x0]) * (1 - fx) + float(small[y1, x1]) * fx
            metres, real = max(upper * (1 - fy) + lower * fy, 1e-3), float(truth[y, x])
            square, factor, count = square + (metres - real) ** 2, factor + log(metres / real) ** 2, count + 1
    found = metric.compute()
    assert found["rmse"] == pytest.approx(sqrt(square / count), rel=1e-5)
    assert found["log_rmse"] == pytest.approx(sqrt(factor / count), rel=1e-4)


def test_merged_shards_equal_the_whole_to_the_last_bit_in_any_order() -> None:
    generator = torch.Generator().manual_seed(2)
    truth = [torch.rand(3, 4, generator=generator) * 10**i for i in range(-3, 4)]
    maps = [DepthMap(x + torch.rand(3, 4, generator=generator)) for x in truth]
    ids = [str(i) for i in range(7)]
    whole, first, second = DepthError(), DepthError(), DepthError()
    whole.update(maps, truth, ids)
    first.update(maps[4:], truth[4:], ids[4:])
    second.update(maps[:4], truth[:4], ids[:4])
    first.merge(pickle.loads(pickle.dumps(second)))
    assert first.compute() == whole.compute()
    with pytest.raises(ValueError, match="image '0' came twice"):
        first.merge(second)


def test_less_error_is_better() -> None:
    half, double = ({"depth.rmse": rmse} for rmse in (0.5, 2.0))
    lower = {"depth.rmse": DepthError.higher_is_better}
    assert mdsq(half, {"depth.rmse": 1.0}, lower) == 2.0
    assert mdsq(double, {"depth.rmse": 1.0}, lower) == 0.5


def test_nothing_counted_is_nan_and_bad_values_are_named() -> None:
    assert all(isnan(value) for value in DepthError().compute().values())
    assert all(isnan(value) for value in error_of(([[1.0]], [[nan]])).compute().values())
    assert isnan(error_of(([[nan]], [[1.0]])).compute()["rmse"])
    with pytest.raises(ValueError, match="image 'x' has a SegMap and a Tensor; expected a DepthMap"):
        DepthError().update([SegMap(torch.zeros(1, 2, 2))], [torch.ones(2, 2)], ["x"])
    with pytest.raises(ValueError, match="map of metres"):
        DepthError().update([DepthMap(torch.ones(2, 2))], [torch.ones(2, 2, dtype=torch.int64)], ["x"])


def test_label_cost() -> None:
    assert Depth().label_cost(torch.ones(2, 2)) == {"seconds": 0.0}
    assert Depth(map_seconds=60.0).label_cost(DepthMap(torch.ones(2, 2))) == {"seconds": 60.0}
    with pytest.raises(ValueError, match=r"depth.label_cost: SegMap"):
        Depth().label_cost(SegMap(torch.zeros(1, 2, 2)))
    with pytest.raises(ValueError, match="map_seconds is -1"):
        Depth(map_seconds=-1)


def test_a_pseudo_label_is_all_metres_or_those_that_the_mirror_image_gives_too() -> None:
    metres = torch.tensor([[1.0, 2.0, -1.0, 4.0]])
    found = Depth().pseudo(DepthMap(metres), (1, 4), 0.9)
    assert found is not None
    assert torch.equal(found.nan_to_num(nan=0.0), metres.clamp(min=0.0))
    mirrored = DepthMap(torch.tensor([[4.5, 1.0, 1.9, 1.05]]))  # of the image turned over
    found = Depth().pseudo(DepthMap(metres), (1, 4), 0.9, mirrored)
    assert found is not None
    assert found.nan_to_num(nan=0.0).tolist() == [[1.0, 2.0, 0.0, 0.0]]
    assert Depth().pseudo(DepthMap(-metres.abs()), (1, 4), 0.0) is None
    with pytest.raises(ValueError, match=r"depth.pseudo: Tensor; expected a DepthMap"):
        Depth().pseudo(metres, (1, 4), 0.5)  # type: ignore[arg-type]
