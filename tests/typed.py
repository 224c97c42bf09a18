"""``mtal`` commands in processes of their own, forked from one that has imported everything: each starts at once."""

import multiprocessing
import os
import signal
import sys
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from subprocess import TimeoutExpired

import torch

from orchestrator.cli import main

_FORK = multiprocessing.get_context("forkserver")
_FORK.set_forkserver_preload(["orchestrator.running", "orchestrator.worker", "tasks.nets.presets", __name__])


class Running:
    """A command that was started, with what ``subprocess.Popen`` offers and tests need."""

    def __init__(self, words: Sequence[str], *arguments: object) -> None:
        self._words = words
        self._process = _FORK.Process(target=_command, args=(list(words), *arguments))
        self._process.start()
        assert self._process.pid is not None
        self.pid = self._process.pid

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        """Its exit code, once it has ended; TimeoutExpired where it does not in time."""
        self._process.join(timeout)
        if self._process.exitcode is None:
            raise TimeoutExpired(self._words, timeout or 0.0)
        return self._process.exitcode

    def kill(self) -> None:
        """SIGKILL; nothing where it has ended."""
        self._process.kill()


def start(
    words: Sequence[str], folder: Path, out: Path, err: Path | None = None, env: Mapping[str, str] | None = None
) -> Running:
    """``mtal`` with these words in ``folder``, in a session of its own, its output appended to ``out`` and ``err``.

    Without ``err`` errors go into ``out``, too. ``env`` replaces this process's environment.
    """
    return Running(words, folder, out, err, dict(os.environ if env is None else env))


def typed(words: Sequence[str], folder: Path, seconds: float = 300) -> tuple[int, str, str]:
    """Exit code, output and errors of a command that is typed in ``folder``."""
    out, err = folder / "typed.out", folder / "typed.err"
    for path in (out, err):
        path.unlink(missing_ok=True)
    running = start(words, folder, out, err)
    try:
        code = running.wait(seconds)
    except TimeoutExpired:
        running.kill()
        running.wait()
        raise
    return code, out.read_text(), err.read_text()


def _command(words: list[str], folder: Path, out: Path, err: Path | None, env: dict[str, str]) -> None:
    """What ``python -m orchestrator`` does, with its output in files."""
    os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # the process it is forked from ignores it
    os.environ.clear()
    os.environ.update(env | {"OMP_NUM_THREADS": "1"})
    torch.set_num_threads(1)
    os.chdir(folder)
    for stream, path in ((1, out), (2, err or out)):
        with path.open("ab") as file:
            os.dup2(file.fileno(), stream)
    sys.path.insert(0, str(folder))
    sys.argv = ["mtal", *words]
    warnings.simplefilter("ignore")
    main(words)
