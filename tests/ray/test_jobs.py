"""Strategies of other people through Ray's jobs server: a package that is installed, and a file beside the YAML."""

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.ray.conftest import wait_for
from tests.test_wheel import HOME, environment, run
from tests.tiny import write_tiny

pytestmark = [pytest.mark.ray, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment with mtal's wheel, and that of a package which offers a strategy."""
    place = tmp_path_factory.mktemp("jobs")
    found = environment(place / "venv")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", place / "dist"]
    install = [sys.executable, "-m", "pip", "--python", found, "install", "--quiet", "--no-deps", "--no-index"]
    run(build, HOME)
    run([*install, *sorted((place / "dist").glob("*.whl"))], Path("/"))
    run([found.with_name("mtal"), "new-strategy", "least-sure"], place)
    run(build, place / "least-sure")
    run([*install, *(place / "dist").glob("least_sure*.whl")], Path("/"))
    return found


@pytest.fixture
def server(python: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """The address of a jobs server on loopback, and the environment of who may talk to it."""
    gcs, jobs, agent = _free_ports(3)
    hidden = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "RAY_ADDRESS")
    env = {k: v for k, v in os.environ.items() if k not in hidden}
    env |= {"OMP_NUM_THREADS": "1", "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    with tempfile.TemporaryDirectory(prefix="r", ignore_cleanup_errors=True) as folder:  # socket names are short
        words = [
            *(python, "-m", "ray.scripts.scripts", "start", "--head", "--block", "--num-cpus", "2"),
            *("--port", str(gcs), "--dashboard-host", "127.0.0.1", "--dashboard-port", str(jobs)),
            *("--dashboard-agent-listen-port", str(agent)),  # else a fixed one, which another cluster may have
            *("--temp-dir", folder, "--object-store-memory", str(2**28), "--disable-usage-stats"),
        ]
        log = Path(folder) / "head.log"
        with log.open("wb") as out:
            head = subprocess.Popen(words, env=env, stdout=out, stderr=subprocess.STDOUT, start_new_session=True)
        try:
            wait_for(lambda: head.poll() is not None or _answers(jobs), 120, 0.2)
            assert head.poll() is None, log.read_text()[-2000:]
            yield f"http://127.0.0.1:{jobs}", env
        finally:
            head.send_signal(signal.SIGTERM)  # stops the processes that it started, and no other cluster's
            head.wait(60)


def _free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        open = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in open:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in open]


def _answers(port: int) -> bool:
    with socket.socket() as one:
        return one.connect_ex(("127.0.0.1", port)) == 0


def _submitted(words: Sequence[str | Path], env: Mapping[str, str]) -> "subprocess.CompletedProcess[str] | None":
    """The finished command; None where the server answers, but has nobody yet to give the job to."""
    done = subprocess.run(words, env=env, cwd="/", capture_output=True, text=True, timeout=400, check=False)
    return None if "No available agent" in done.stdout + done.stderr else done


def test_strategies_of_others_run_as_a_job_and_are_in_the_report(
    python: Path, server: tuple[str, dict[str, str]], tmp_path: Path
) -> None:
    address, env = server
    shipped = tmp_path / "shipped"  # all that the job gets: nothing of mtal is in it
    shipped.mkdir()
    shutil.copyfile(python.parents[2] / "least-sure" / "least_sure.py", shipped / "my_strategies.py")
    arms = {"package": {"strategy": "least-sure"}, "file": {"strategy": "my_strategies:LeastSure"}}
    active = {"initial": 0.4, "budget": {"amount": 2}, "cycles": 1}
    write_tiny(shipped / "mine.yaml", tmp_path / "runs", arms=arms, active=active)
    submit = [python, "-m", "ray.scripts.scripts", "job", "submit", "--address", address, "--working-dir", shipped]
    words = [*submit, "--", python.with_name("mtal"), "run", "mine.yaml", "--address", "auto"]
    done = wait_for(lambda: _submitted(words, env), 400, 2)
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
