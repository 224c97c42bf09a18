"""Jobs on a real cluster: a clone, strategies of others, two versions of the sources, verbs that look after jobs."""

import hashlib
import shutil
import signal
import subprocess
import time
from collections.abc import Sequence
from fcntl import LOCK_EX, flock
from functools import partial
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.ray.conftest import HOME, wait_for
from tests.ray.jobs_server import Server
from tests.tiny import write_tiny

pytestmark = [pytest.mark.ray, pytest.mark.long, pytest.mark.timeout(900)]

PLUGIN = """
import zlib
from dataclasses import dataclass

from strategies.base import Score, Strategy


@dataclass(frozen=True)
class ByName(Strategy):
    def score(self, seen, rng):
        return Score(float(zlib.crc32(seen.id.encode())))
"""


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A clean clone of mtal, with an experiment and a file of strategies in it."""
    if shutil.which("git") is None or not (HOME / ".git").exists():
        pytest.skip("needs git, and mtal as a repository, to make a clone")
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "--quiet", HOME, clone], check=True, capture_output=True)
    (clone / "my_strategies.py").write_text(PLUGIN)
    active = {"initial": 0.4, "budget": {"amount": 2}, "cycles": 1}
    write_tiny(clone / "mine.yaml", Path("runs"), arms={"mine": {"strategy": "my_strategies:ByName"}}, active=active)
    return clone


def test_a_clone_is_submitted_and_the_same_again_carries_on(jobs_server: Server, tree: Path, tmp_path: Path) -> None:
    sets = ["--set", f"output={tmp_path / 'runs'}"]
    done = jobs_server.ray_submits(tree, "python", "-m", "orchestrator", "run", "mine.yaml", "--address", "auto", *sets)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-2000:]
    folder = tmp_path / "runs" / "tiny"
    assert ">mine<" in (folder / "report.html").read_text()
    assert len(pq.read_table(folder / "mine" / "seed_0" / "cycle_0" / "bought.parquet")) == 2
    shipped = hashlib.sha256(PLUGIN.encode()).hexdigest()[:16]
    assert shipped in (folder / "mine" / "seed_0" / "cycle_1" / "cycle.json").read_text()

    mtal = jobs_server.python.with_name("mtal")
    submit = [mtal, "submit", "mine.yaml", "--address", jobs_server.address, *sets]
    with (folder / ".lock").open() as lock:
        flock(lock, LOCK_EX)  # another command, which is still at it
        done = jobs_server.types([*submit, "--name", "second"], tree)
    assert done.returncode == 2, done.stdout + done.stderr
    assert f"{folder}: another command is writing to this run" in done.stdout
    made = {path: path.stat().st_mtime_ns for path in folder.rglob("model.pt")}
    done = jobs_server.types(submit, tree)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"report: {folder / 'report.html'}" in done.stdout
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("model.pt")} == made
    listed = jobs_server.types([mtal, "status", "--address", jobs_server.address]).stdout
    assert "second" in listed
    assert "python -m orchestrator run mine.yaml" in " ".join(listed.split())


@pytest.mark.soak
def test_strategies_of_others_run_as_a_job_and_are_in_the_report(jobs_server: Server, tmp_path: Path) -> None:
    """A package that is installed, and a file beside the YAML."""
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


def test_two_versions_of_the_sources_do_not_make_one_run(jobs_server: Server, tree: Path, tmp_path: Path) -> None:
    """The installed command, and workers that find a tree of another version in the job's working directory.

    Ray puts that folder before what is installed, for workers by itself and for the command by PYTHONPATH.
    """
    with (tree / "orchestrator" / "report.py").open("a") as source:
        source.write("# another version\n")
    mtal = jobs_server.python.with_name("mtal")
    words = ["run", "mine.yaml", "--address", "auto", "--set", f"output={tmp_path / 'runs'}"]
    done = jobs_server.ray_submits(tree, "env", "-u", "PYTHONPATH", mtal, *words)
    assert done.returncode == 1  # that of ray job submit, for any failure
    told = " ".join(done.stdout.split())
    assert "a worker runs other sources" in told, done.stdout[-2000:] + done.stderr[-2000:]
    theirs, ours = told.split("a worker runs other sources", 1)[1].split("than the command", 1)
    assert "/working_dir_files/_ray_pkg_" in theirs
    assert str(jobs_server.python.parents[1]) in ours.split(";")[0]
    assert not list((tmp_path / "runs").rglob("model.pt"))


def test_jobs_are_followed_listed_and_stopped(jobs_server: Server) -> None:
    def mtal(*words: str) -> list[str]:
        return [str(jobs_server.python), "-m", "orchestrator", *words, "--address", jobs_server.address]

    def submit(name: str, entrypoint: str) -> None:
        made = f"Submission({name!r}, {entrypoint!r}, None, {{'NOTE': 'a note'}})"
        code = f"JobsServer({jobs_server.address!r}).submit({made})"
        imports = "from orchestrator.jobs import JobsServer; from orchestrator.submission import Submission"
        done = jobs_server.types([jobs_server.python, "-c", f"{imports}; {code}"])
        assert done.returncode == 0, done.stderr

    submit("three", "echo one; sleep 2; echo $NOTE; exit 3")
    submit("slow", "echo begun; sleep 500")
    done = jobs_server.types(mtal("status", "three", "--follow"))
    assert done.returncode == 3, done.stderr
    assert [line for line in done.stdout.splitlines() if line in ("one", "a note")] == ["one", "a note"]
    assert "three: failed" in done.stdout.splitlines()[-1]

    assert_ctrl_c_leaves_it(jobs_server, mtal("status", "slow", "--follow"))
    assert "slow: running" in jobs_server.types(mtal("status", "slow")).stdout
    assert "slow: stopped" in jobs_server.types(mtal("stop", "slow")).stdout
    assert jobs_server.types(mtal("status", "slow", "--follow")).returncode == 1
    assert "nobody: no job of this name" in jobs_server.types(mtal("status", "nobody", "--follow")).stderr

    other = {**jobs_server.env, "RAY_AUTH_TOKEN": "f" * 64}
    for env in (other, {k: v for k, v in other.items() if k != "RAY_AUTH_TOKEN"} | {"HOME": "/nonexistent"}):
        done = subprocess.run(mtal("status"), env=env, cwd="/", capture_output=True, text=True, check=False)
        assert done.returncode == 2
        assert "the cluster asks for a token" in done.stderr
        assert "Traceback" not in done.stderr
        assert "f" * 64 not in done.stdout + done.stderr


def assert_ctrl_c_leaves_it(server: Server, words: Sequence[str]) -> None:
    following = subprocess.Popen(
        words, env=server.env, cwd="/", stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),  # a shell's background ignores it
    )  # fmt: skip
    assert following.stdout is not None
    lines = iter(following.stdout.readline, b"")
    assert wait_for(lambda: b"begun" in next(lines), 60)
    time.sleep(0.5)
    following.send_signal(signal.SIGINT)
    rest = following.communicate(timeout=60)[0].decode()
    assert following.returncode == 130
    assert "slow: goes on without this command" in rest
    assert f"mtal stop slow --address {server.address}" in rest
    assert "carries on where" not in rest
