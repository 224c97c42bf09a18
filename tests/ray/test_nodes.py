"""Three kills at random moments on a cluster of several nodes; ``make soak`` does many more."""

import os
import random
import subprocess
from pathlib import Path

import pytest

from tests.ray.conftest import HOME, Command, wait_for
from tests.ray.nodes import nodes
from tests.ray.soak import Round, plan, soak

pytestmark = [pytest.mark.ray, pytest.mark.long, pytest.mark.timeout(1200)]


def seed_of_the_day() -> int:
    """Another one for each commit; ``MTAL_SOAK_SEED`` repeats one that failed."""
    if given := os.environ.get("MTAL_SOAK_SEED"):
        return int(given)
    commit = os.environ.get("GITHUB_SHA") or os.environ.get("CI_COMMIT_SHA")
    if not commit:
        words = ["git", "-C", str(HOME), "rev-parse", "HEAD"]
        commit = subprocess.run(words, capture_output=True, text=True, check=False).stdout.strip()
    return int(commit[:8] or "0", 16)


def test_three_kills_leave_no_trace(tmp_path: Path) -> None:
    seed = seed_of_the_day()
    print(f"MTAL_SOAK_SEED={seed}")
    with nodes() as cluster:
        outcome = soak(tmp_path, cluster, plan(3, seed), random.Random(seed), each=3, size=(1, 1))
    print(outcome.text())
    assert outcome.kills == 3


def test_nodes_that_are_to_come_and_nodes_that_are_lost_are_waited_for_with_a_message(tmp_path: Path) -> None:
    with nodes(workers=1) as cluster:
        wait = ("--set", "cluster.wait_minutes=5")
        one = Round(tmp_path, "short", cluster, random.Random(0), words=wait, size=(1, 1))
        running = one.type()
        try:
            _waits(running, "the cluster: waiting for room in the cluster, 0 of 5 minutes")
            cluster.workers = 2
            cluster.start()
            wait_for(lambda: one.log.stat().st_size or not running.is_running)
            assert running.is_running, running.text
            cluster.kill_raylet(0)
            _waits(running, "waiting for room in the cluster\n")  # the command says it, or a trial
            cluster.start()
            code, text = running.finish()
        finally:
            running.kill()
    assert code == 0, text
    assert not cluster.processes("")  # of those that were lost, neither


def _waits(running: Command, sentence: str) -> None:
    wait_for(lambda: sentence in running.text or not running.is_running)
    assert running.is_running, running.text
