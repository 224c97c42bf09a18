"""Strategies of other people through Ray's jobs server: a package that is installed, and a file beside the YAML."""

import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.ray.jobs_server import Server
from tests.tiny import write_tiny

pytestmark = [pytest.mark.ray, pytest.mark.timeout(600)]


def test_strategies_of_others_run_as_a_job_and_are_in_the_report(jobs_server: Server, tmp_path: Path) -> None:
    python = jobs_server.python
    shipped = tmp_path / "shipped"  # all that the job gets: nothing of mtal is in it
    shipped.mkdir()
    shutil.copyfile(python.parents[2] / "least-sure" / "least_sure.py", shipped / "my_strategies.py")
    arms = {"package": {"strategy": "least-sure"}, "file": {"strategy": "my_strategies:LeastSure"}}
    active = {"initial": 0.4, "budget": {"amount": 2}, "cycles": 1}
    write_tiny(shipped / "mine.yaml", tmp_path / "runs", arms=arms, active=active)
    done = jobs_server.ray_submits(shipped, python.with_name("mtal"), "run", "mine.yaml", "--address", "auto")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-2000:]
    cycles = pq.read_table(tmp_path / "runs" / "tiny" / "cycles.parquet")
    assert set(cycles["arm"].to_pylist()) == set(arms)
    report = (tmp_path / "runs" / "tiny" / "report.html").read_text()
    assert all(f">{arm}<" in report for arm in arms)
    picks = [
        pq.read_table(bought)["id"].to_pylist()
        for bought in sorted((tmp_path / "runs" / "tiny").glob("*/seed_0/cycle_*/bought.parquet"))
    ]
    assert len(picks) == 2
    assert picks[0] == picks[1]  # one strategy, wherever it comes from
    assert len(picks[0]) == 2
