"""What the tests with a real local Ray cluster share: commands in processes of their own, eyes on what they start."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pyarrow.parquet as pq
import pytest

from tests.tiny import write_tiny

HOME = Path(__file__).resolve().parents[2]


def command(*words: str) -> "subprocess.Popen[str]":
    """``python -m orchestrator ...`` started in a session of its own."""
    return subprocess.Popen(
        [sys.executable, "-W", "ignore", "-m", "orchestrator", *words],
        cwd=HOME,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def finish(process: "subprocess.Popen[str]", seconds: float = 400) -> tuple[int, str]:
    """Exit code and output."""
    text, _ = process.communicate(timeout=seconds)
    return process.returncode, text


def results(folder: Path) -> dict[str, Any]:
    """All that two runs must agree on: what was bought and every figure (clocks apart)."""
    table = pq.read_table(folder / "cycles.parquet")
    kept: dict[str, Any] = {
        n: [repr(v) for v in table[n].to_pylist()] for n in table.column_names if not n.startswith("seconds.")
    }
    for path in sorted(folder.glob("*/seed_*/cycle_*/bought.parquet")):
        kept[str(path.relative_to(folder))] = pq.read_table(path).to_pylist()
    return kept


def descendants(process: "subprocess.Popen[str]", word: str) -> list[psutil.Process]:
    """Processes below a command whose title or command line holds a word (Ray names actors ``ray::Class``)."""
    found = []
    try:
        below = psutil.Process(process.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []
    for one in below:
        try:
            if word in " ".join(one.cmdline()):
                found.append(one)
        except psutil.Error:
            continue
    return found


def wait_for(what: Callable[[], Any], seconds: float = 240, every: float = 0.05) -> Any:
    """The first true answer; fails when there is none in time."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        answer = what()
        if answer:
            return answer
        time.sleep(every)
    pytest.fail(f"waited {seconds} s in vain")


def kill(pid: int) -> None:
    """SIGKILL, and no questions asked."""
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def write_short(path: Path, output: Path, **changes: Any) -> Path:
    """The tiny experiment with one purchase."""
    active = {"initial": 0.4, "budget": {"amount": 2}, "cycles": 1}
    return write_tiny(path, output, **{"active": active, **changes})


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny experiment, run with ``--address none`` and never disturbed: what all the others must equal."""
    place = tmp_path_factory.mktemp("undisturbed")
    code, text = finish(command("run", str(write_short(place / "tiny.yaml", place)), "--address", "none"))
    assert code == 0, text
    return place / "tiny"
