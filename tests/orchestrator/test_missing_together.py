"""A task that no image of any process has a label for: processes that train together go on, and its head stays."""

import multiprocessing
import socket
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from orchestrator.fitting import fit
from orchestrator.training_group import joined, listen
from orchestrator.workers import Seat
from tasks.weighting.fixed import Equal
from tests.orchestrator.trained_together import HOST, TWO, images, network, settings

START = multiprocessing.get_context("spawn")


def member(seat: Seat, folder: str, door: socket.socket | None = None) -> nn.Module:
    """The network after some steps on images with boxes alone."""
    torch.set_num_threads(1)
    train, net, data = settings(**{**TWO, "steps": 3, "evaluations": 1, "weight_decay": 0.0}), network(), images()
    boxes = replace(data, has=data.has & np.array([True, False]))
    with joined(seat, torch.device("cpu"), door) as group:
        fit(
            net, Equal(), boxes, train, steps=3, seed=3, cycle=1, folder=Path(folder), judge=lambda model: (0.0, {}),
            keep=lambda model, step: None, progress=lambda *told: None, group=group,
        )  # fmt: skip
    return net


@pytest.mark.slow
def test_a_head_without_labels_stays_as_it_is_on_all_processes(tmp_path: Path) -> None:
    door = listen(HOST)
    meet = (HOST, int(door.getsockname()[1]))
    other = START.Process(target=member, args=(Seat(1, 2, HOST, meet), str(tmp_path)), daemon=True)
    other.start()
    try:
        after = member(Seat(0, 2, HOST, meet), str(tmp_path), door).state_dict()
        other.join(60)
        assert other.exitcode == 0
    finally:
        other.kill()
        other.join()
    before = network().state_dict()
    head = [name for name in before if name.startswith("heads.segmentation")]
    assert head
    assert all(torch.equal(before[name], after[name]) for name in head)
    assert any(not torch.equal(before[name], after[name]) for name in before if name.startswith("heads.detection"))
