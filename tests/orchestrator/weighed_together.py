"""Fits under weightings of every kind, alone or by two processes: losses and multipliers of each step."""

import socket
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from torch import nn

from orchestrator.components import Component, make
from orchestrator.config import Train
from orchestrator.fitting import Data, fit
from orchestrator.training_group import Group, joined
from orchestrator.workers import Seat
from tests.orchestrator.trained_together import images, network, settings

KINDS = ("kendall", "kgc", "auxnet", "dwa", "gradnorm")


def few_maps() -> Data:
    """Four images with boxes, of which one has a map, so that every second batch has none."""
    return replace(images(4), has=np.array([[True, True]] + [[True, False]] * 3))


def weighed(
    folder: Path, kind: str, train: Train, group: Group | None = None, net: nn.Module | None = None
) -> tuple[pa.Table, dict[str, torch.Tensor]]:
    """``steps.parquet`` of a fit under a weighting, and the weights of both networks."""
    torch.set_num_threads(1)
    folder.mkdir(parents=True, exist_ok=True)
    model, weighting = net or network(), make("weighting", Component(kind), "weighting")
    tables: list[pa.Table] = []
    fit(
        model, weighting, few_maps(), train, steps=train.steps, seed=3, cycle=1, folder=folder,
        judge=lambda candidate: (0.0, {}), keep=lambda candidate, step: None, progress=lambda *told: None,
        group=group or Group(), note=lambda name, table: tables.append(table),
    )  # fmt: skip
    (table,) = tables
    return table, {**model.state_dict(), **{f"weighting.{k}": v for k, v in weighting.state_dict().items()}}


def six(**changes: object) -> Train:
    """Six steps of two images: three epochs."""
    return settings(**{"steps": 6, "batch": 2, "checkpoint_steps": 99, "zoom": 0.0, "colour": 0.0, **changes})


def every_kind(folder: Path, seat: Seat, door: socket.socket | None = None) -> None:
    """What one of two processes comes to, in a file of its own."""
    found = {}
    with joined(seat, torch.device("cpu"), door) as group:
        for kind in KINDS:
            table, state = weighed(folder / kind, kind, six(processes=2), group)
            found[kind] = {"state": state, "rows": repr(table.to_pylist())}
    torch.save(found, folder / f"rank_{seat.rank}.pt")
