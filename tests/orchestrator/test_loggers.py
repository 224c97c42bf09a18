"""Loggers: each cycle once, also after a command that was typed again; a server that is away stops nothing."""

import time
from pathlib import Path
from typing import Any

import pytest
from tensorboardX.proto.event_pb2 import Event

from orchestrator import loggers
from orchestrator.config import experiment_of
from orchestrator.errors import ConfigError
from orchestrator.store import commit
from orchestrator.trials import Plan, Unit
from tests.tiny import tiny

UNIT = Unit("arm", "random", 0)


def plan_of(output: Path, *names: str) -> Plan:
    experiment = experiment_of(tiny(output, loggers=list(names)), "tiny.yaml")
    return Plan(experiment, str(output / "tiny"), manifest="", code="")


def end_cycle(plan: Plan, index: int) -> None:
    """A committed cycle of the first arm."""
    record = {
        "labeled": {"detection": 6 + 2 * index}, "total": 16, "cost": {"seconds": 9.0}, "mdsq": 0.5 + index / 10,
        "metrics": {"detection.map": 0.25, "segmentation.miou": float("nan")}, "checkpoint": "model.pt",
        "best_step": 3, "skipped": 0, "seconds": {"fit": 1.5},
    }  # fmt: skip
    commit(plan.folder.cycle("random", 0, index) / "cycle.json", record)


def run_twice(plan: Plan) -> None:
    """Two commands: the first ends one cycle, the second finds it and ends another one."""
    for index in range(2):
        with loggers.opened(plan) as tell:
            tell(Unit("initial", "random", 0))  # has no cycles: nothing is told of it
            end_cycle(plan, index)
            tell(UNIT)
            tell(UNIT)


def events(folder: Path) -> list[tuple[str, int, float]]:
    """(name, step, value) of all event files below a folder, in the format that TensorBoard reads."""
    found = []
    for path in folder.rglob("events.out.*"):
        data, at = path.read_bytes(), 0
        while at < len(data):
            size = int.from_bytes(data[at : at + 8], "little")  # then its checksum, the event, the event's checksum
            event = Event.FromString(data[at + 12 : at + 12 + size])
            found += [(one.tag, event.step, one.simple_value) for one in event.summary.value]
            at += size + 16
    return found


def test_tensorboard_has_each_cycle_once(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, "tensorboard")
    run_twice(plan)
    found = events(tmp_path / "tiny" / "tensorboard" / "random" / "seed_0")
    assert sorted(found) == sorted(set(found))
    assert [(step, round(value, 3)) for name, step, value in sorted(found) if name == "mdsq"] == [(0, 0.5), (1, 0.6)]
    assert {name for name, _, _ in found} == {
        "mdsq", "detection.map", "labeled/detection", "cost/seconds", "seconds/fit", "forwards",
    }  # fmt: skip


def test_without_loggers_nothing_is_written(tmp_path: Path) -> None:
    plan = plan_of(tmp_path)
    run_twice(plan)
    assert {p.name for p in (tmp_path / "tiny").iterdir()} == {"random"}


def test_a_logger_that_fails_is_told_once_and_stops_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = plan_of(tmp_path, "tensorboard")
    (tmp_path / "tiny").mkdir()
    (tmp_path / "tiny" / "tensorboard").write_text("a file is in the way")
    run_twice(plan)
    warnings = capsys.readouterr().err.splitlines()
    assert len(warnings) == 2  # one a command
    assert all(line.startswith("warning: loggers: tensorboard took no more figures (") for line in warnings)


def test_a_package_that_is_missing_is_named_before_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(loggers.PACKAGES, "mlflow", "no_such_package")
    with pytest.raises(ConfigError, match=r"'no_such_package' is not installed; type pip install 'mtal\[mlflow\]'"):
        loggers.check(("tensorboard", "mlflow"))


def test_unknown_loggers_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="loggers"):
        plan_of(tmp_path, "neptune")


@pytest.mark.slow
def test_mlflow_has_one_run_for_a_trial_with_each_cycle_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mlflow: Any = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"file://{tmp_path}/tracked")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    run_twice(plan_of(tmp_path, "mlflow"))
    client = mlflow.MlflowClient()
    [run] = client.search_runs([client.get_experiment_by_name("tiny").experiment_id])
    assert run.info.run_name == "random seed 0"
    assert run.info.status == "FINISHED"
    assert run.data.params == {"arm": "random", "seed": "0"}
    history = client.get_metric_history(run.info.run_id, "mdsq")
    assert [(one.step, round(one.value, 3)) for one in history] == [(0, 0.5), (1, 0.6)]
    assert "segmentation.miou" not in run.data.metrics


@pytest.mark.slow
def test_wandb_writes_offline_what_can_be_sent_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wandb: Any = pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    plan = plan_of(tmp_path, "wandb")
    end_cycle(plan, 0)
    with loggers.opened(plan) as tell:
        tell(UNIT)
    [file] = (tmp_path / "tiny" / "wandb").glob("offline-run-*/run-*.wandb")
    end = time.monotonic() + 60  # a process of its own writes it
    while b"detection.map" not in file.read_bytes() and time.monotonic() < end:
        time.sleep(0.2)
    assert b"detection.map" in file.read_bytes()
    assert b"random seed 0" in file.read_bytes()
    assert wandb.run is None  # closed
