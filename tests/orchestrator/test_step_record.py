"""The record of a fit's steps: rows, gaps, and the way through a checkpoint."""

import io
import math

import torch

from orchestrator.step_record import StepRecord


def filled() -> StepRecord:
    record = StepRecord(5)
    record.begin(("a.x", "b.y"))
    record.add(0, {"a.x": 1.0, "b.y": 2.0}, {"a.x": 0.5, "b.y": 1.0})
    record.add(1, {"b.y": 3.0}, {"b.y": 4.0})
    record.add(2, {"a.x": math.nan}, {})
    return record


def test_rows_are_the_losses_that_had_labels() -> None:
    found = filled().table().to_pylist()
    assert [(r["step"], r["loss"], r["weight"]) for r in found] == [
        (0, "a.x", 0.5),
        (0, "b.y", 1.0),
        (1, "b.y", 4.0),
        (2, "a.x", None),
    ]
    assert [r["value"] for r in found[:3]] == [1.0, 2.0, 3.0]
    assert math.isnan(found[3]["value"])
    assert len(StepRecord(3).table()) == 0


def test_a_checkpoint_brings_back_the_steps_before_it() -> None:
    packed = io.BytesIO()
    torch.save(filled().state(2), packed)
    packed.seek(0)
    again = StepRecord(5)
    again.load(torch.load(packed, weights_only=True))
    assert again.names == ("a.x", "b.y")
    assert again.table().equals(filled().table().slice(0, 3))
