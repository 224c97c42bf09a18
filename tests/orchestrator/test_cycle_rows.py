"""cycles.parquet: a row for each committed cycle, a column for each figure that some cycle has."""

from pathlib import Path

import pyarrow.parquet as pq
import yaml

from orchestrator.config import Experiment, experiment_of
from orchestrator.cycle_rows import write_cycles
from orchestrator.store import commit
from orchestrator.trials import Plan
from tests.tiny import tiny

RECORD = {
    "labeled": {"detection": 4}, "total": 9, "cost": {"seconds": 3.5}, "metrics": {"detection.map": 0.5}, "mdsq": 0.7,
    "checkpoint": "model.pt", "best_step": 3, "skipped": 0, "seconds": {"fit": 1.0},
}  # fmt: skip
TEACHER = {"metrics": {"depth.rmse": 2.0}, "made": {"depth": 5}, "coverage": {"depth": 0.9}}


def plan(output: Path) -> Plan:
    tree = yaml.safe_load(yaml.safe_dump(tiny(output, arms={"random": {}, "equal": {}}, seeds=[3])))
    experiment: Experiment = experiment_of(tree, "tiny.yaml")
    return Plan(experiment, str(output / "tiny"), manifest="", code="")


def test_cycles_of_all_arms_stand_in_one_table(tmp_path: Path) -> None:
    made = plan(tmp_path)
    commit(made.folder.cycle("random", 3, 0) / "cycle.json", RECORD)
    commit(made.folder.cycle("random", 3, 0) / "purchase.json", {"seconds": {"score": 2.0}, "forwards": 1.5})
    commit(made.folder.cycle("random", 3, 1) / "cycle.json", {**RECORD, "teacher": TEACHER})
    commit(made.folder.cycle("equal", 3, 1) / "cycle.json", RECORD)  # its cycle 0 is not committed
    rows = write_cycles(made).to_pylist()
    assert rows == pq.read_table(str(made.folder.cycles)).to_pylist()
    assert [(row["arm"], row["seed"], row["cycle"], row["forwards"]) for row in rows] == [
        ("random", 3, 0, 1.5),
        ("random", 3, 1, 0.0),
    ]
    first, second = rows
    assert (first["labeled.detection"], first["cost.seconds"], first["detection.map"]) == (4, 3.5, 0.5)
    assert (first["seconds.fit"], first["seconds.score"], second["seconds.score"]) == (1.0, 2.0, None)
    assert (first["pseudo.depth"], second["pseudo.depth"], second["coverage.depth"]) == (None, 5, 0.9)
    assert second["teacher.depth.rmse"] == 2.0


def test_a_run_without_a_cycle_has_no_rows(tmp_path: Path) -> None:
    assert write_cycles(plan(tmp_path)).num_rows == 0
