"""Real steps and passes of a small network, timed."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from orchestrator.components import Component, make
from orchestrator.config import Train
from orchestrator.measuring import OBJECTS, Invented, measured
from strategies.sample_pool import CLASSES
from tasks.pickup import askable
from tasks.types import Objects

TASKS = ("detection", "segmentation")


def test_invented_images_have_labels_of_the_right_classes() -> None:
    sample = Invented((40, 72), CLASSES, TASKS)[3]
    boxes, labels = sample.targets["detection"].boxes, sample.targets["detection"].labels  # type: ignore[union-attr]
    assert sample.image.shape == (3, 40, 72)
    assert (boxes.shape, labels.shape) == ((OBJECTS, 4), (OBJECTS,))
    assert bool((boxes[:, :2] < boxes[:, 2:]).all() and (boxes[:, 2] <= 72).all() and (boxes[:, 3] <= 40).all())
    assert int(labels.max()) < len(CLASSES.detection)
    seg = sample.targets["segmentation"]
    assert isinstance(seg, torch.Tensor)
    assert seg.shape == (40, 72)
    assert set(np.unique(seg)) <= set(range(len(CLASSES.segmentation)))
    assert set(Invented((40, 72), CLASSES, ("segmentation",))[0].targets) == {"segmentation"}


def test_invented_images_can_be_picked_up_from_and_have_sensors() -> None:
    sample = Invented((32, 48), CLASSES, ("pickup",), ("depth",))[0]
    objects = sample.targets["pickup"]
    assert isinstance(objects, Objects)
    assert askable(objects)
    assert sample.inputs["depth"].shape == (1, 32, 48)


def test_it_says_what_was_measured_where_and_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    model = make("model", Component("small", {"width": 16}), "model", CLASSES, TASKS)
    weighting = make("weighting", Component("equal"), "weighting")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    told: list[tuple[str, int, int]] = []
    train, images = Train(steps=1, batch=4, processes=2), Invented((64, 96), CLASSES, TASKS)
    speed = measured(
        model, weighting, train, images, processes=2, batch=3, threads=1, wants_gpu=True,
        progress=lambda *said: told.append(said),
    )  # fmt: skip
    assert told == [(phase, done, 4) for phase in ("fit", "evaluate") for done in (1, 2, 3, 4)]
    assert speed.step > 0
    assert speed.image > 0
    assert "s a step of 2 images a process" in speed.source
    assert "measured on " in speed.source
    assert ("while a trial asks for GPUs" in speed.source) == (not torch.cuda.is_available())
    assert any(not torch.equal(before[name], value.cpu()) for name, value in model.state_dict().items()), "real steps"
    assert os.listdir(tmp_path) == []
