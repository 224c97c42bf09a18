"""What the tests with a real local Ray cluster share: commands in processes of their own, eyes on what they start."""

import importlib
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.once import once
from tests.tiny import write_tiny
from tests.typed import Running, start

HOME = Path(__file__).resolve().parents[2]


@dataclass
class Command:
    """A command that runs, and the file it prints to (a pipe would be held open by what it leaves behind)."""

    process: Running
    log: Path

    @property
    def is_running(self) -> bool:
        return self.process.poll() is None

    @property
    def text(self) -> str:
        return self.log.read_text()

    def finish(self, seconds: float = 400) -> tuple[int, str]:
        """Exit code and output."""
        return self.process.wait(timeout=seconds), self.text

    def kill(self) -> None:
        """SIGKILL, and no questions asked."""
        self.process.kill()
        self.process.wait()


def command(*words: str, env: Mapping[str, str] | None = None) -> Command:
    """``mtal ...`` started in a session of its own; ``env`` replaces this process's environment."""
    handle, name = tempfile.mkstemp(suffix=".log")
    os.close(handle)
    return Command(start(words, HOME, Path(name), env=env), Path(name))


def descendants(command: Command, word: str) -> list[psutil.Process]:
    """Processes below a command whose title or command line holds a word (Ray names actors ``ray::Class``)."""
    found = []
    try:
        below = psutil.Process(command.process.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []
    for one in below:
        try:
            if word in " ".join(one.cmdline()):
                found.append(one)
        except psutil.Error:
            continue
    return found


def is_alive(one: psutil.Process) -> bool:
    """Whether a process runs (a dead one that nobody has waited for does not)."""
    try:
        return one.is_running() and one.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def wait_for(what: Callable[[], Any], seconds: float = 480, every: float = 0.05) -> Any:
    """The first true answer; fails when there is none in time."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        answer = what()
        if answer:
            return answer
        time.sleep(every)
    pytest.fail(f"waited {seconds} s in vain")


ARM = {"strategy": {"name": "boxmask", "crop_size": 32, "min_score": 0.05}}


def write_short(path: Path, output: Path, **changes: Any) -> Path:
    """The tiny experiment with one arm and one purchase: every process that it starts costs seconds."""
    active = {"initial": 0.4, "budget": {"amount": 2}, "cycles": 1}
    return write_tiny(path, output, **{"active": active, "arms": {"boxmask": ARM}, **changes})


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny experiment, run with ``--address none`` and never disturbed: what all the others must equal."""

    def run(place: Path) -> None:
        code, text = command("run", str(write_short(place / "tiny.yaml", place)), "--address", "none").finish()
        assert code == 0, text

    return once(tmp_path_factory, "undisturbed", run) / "tiny"


@pytest.fixture(scope="session")
def jobs_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A cluster with a jobs server, whose environment has mtal's wheel: a ``jobs_server.Server``."""
    shared = importlib.import_module("tests.ray.jobs_server")  # it imports this file
    with shared.started(shared.made_python(tmp_path_factory.mktemp("jobs"))) as server:
        yield server
