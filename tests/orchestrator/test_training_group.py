"""Processes that train together: as one with the same batch, bit for bit alike, resumed, and never left hanging."""

from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from orchestrator.training_group import Group, joined
from orchestrator.workers import GroupLost, Seat
from tests.orchestrator.trained_together import HOST, TWO, Noisy, Trained, settings, together, trained

CPU = torch.device("cpu")


Pair = tuple[Path, Trained, Trained]


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    folder = tmp_path_factory.mktemp("pair")
    return folder, *together(folder)


@pytest.mark.slow
def test_two_processes_give_the_curve_of_one_with_the_same_batch(pair: Pair, tmp_path: Path) -> None:
    one, two = trained(tmp_path, settings(evaluations=2)), pair[1]
    assert one.curve.shape == two.curve.shape == (20, 5)
    known = np.abs(one.curve) > 0  # a loss that no image of a batch has a label for is 0 in both
    assert np.all(two.curve[~known] == 0)
    difference = np.abs(two.curve[known] / one.curve[known] - 1).max()
    assert difference <= 1e-4, difference
    assert np.ptp(one.curve[:, 0]) > 0.1  # the curve goes somewhere: equal by standing still it is not


@pytest.mark.slow
def test_all_hold_the_same_weights_and_the_first_one_judges(pair: Pair) -> None:
    folder, first, noisy = pair
    second = torch.load(folder / "rank_1.pt", weights_only=True)
    for kind, own in (("plain", first), ("noisy", noisy)):
        for name, value in own.state().items():
            assert torch.equal(value, second[kind][name]), (kind, name)
    assert first.best is not None
    assert first.best.step == first.kept[-1]
    assert first.best.figures == {"x": 1.0}


@pytest.mark.slow
@pytest.mark.parametrize("noisy", [False, True])
def test_one_process_makes_the_parts_of_two_within_rounding(pair: Pair, tmp_path: Path, noisy: bool) -> None:
    """Without Ray the same experiment runs in one process: dropout and batch norm included."""
    local, two = trained(tmp_path, settings(**TWO), noisy=noisy), pair[1 + noisy]
    assert np.allclose(local.curve, two.curve, rtol=1e-4, atol=1e-6, equal_nan=True)
    for name, value in local.state().items():
        assert torch.allclose(value.double(), two.state()[name].double(), atol=1e-4), name


@pytest.mark.slow
def test_a_loss_that_is_not_finite_on_one_process_skips_the_step_on_all(pair: Pair) -> None:
    noisy = pair[2]
    assert noisy.skipped == 20 - len(noisy.curve) == 6  # 20 steps of 4: 5.7 epochs of 14 images
    assert bool(np.isfinite(noisy.curve).all())  # a weighting sees no loss that is not finite
    assert all(bool(torch.isfinite(value).all()) for value in noisy.state().values())


@pytest.mark.slow
def test_what_no_process_uses_stays_as_it_is(pair: Pair) -> None:
    """No weight decay without a gradient, and no rounding of constants, as in one process."""
    for name in ("idle", "third"):
        assert torch.equal(pair[2].state()[name], Noisy().state_dict()[name])
    norm = next(one for one in pair[2].net.modules() if isinstance(one, nn.BatchNorm2d))
    assert int(norm.num_batches_tracked or 0) == 20 - pair[2].skipped  # one a step, however many parts


@pytest.mark.slow
def test_a_process_is_killed_and_the_next_group_ends_with_the_same_bits(pair: Pair, tmp_path: Path) -> None:
    with pytest.raises(GroupLost, match=r"train.processes: a process that trains with this one does not answer"):
        together(tmp_path, die_at=8)
    assert (tmp_path / "training.pt").is_file()
    again, _ = together(tmp_path)
    assert len(again.curve) == 14  # from step 6 on, the last checkpoint
    for name, value in pair[1].state().items():
        assert torch.equal(value, again.state()[name]), name
    assert np.array_equal(again.curve, pair[1].curve[6:])
    assert again.best == pair[1].best


@pytest.mark.slow
def test_who_does_not_come_is_not_waited_for_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orchestrator.training_group.MEETING", timedelta(seconds=1))
    with pytest.raises(GroupLost, match="does not answer"), joined(Seat(1, 2, HOST, (HOST, 9)), CPU):
        pass


def test_parts_are_shared_evenly_and_alone_nothing_is_sent() -> None:
    for world in (1, 2, 3, 4):
        shares = [Group(rank, world).share(12) for rank in range(world)]
        assert [part for share in shares for part in share] == list(range(12))
    values = torch.arange(3.0)
    assert Group().add(values) is values
    assert Group().from_first({"a": 1}) == {"a": 1}
