"""``mtal`` commands in processes of their own, forked from one that has imported everything: each starts at once."""

import multiprocessing
import os
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path

from orchestrator.cli import main

_FORK = multiprocessing.get_context("forkserver")
_FORK.set_forkserver_preload(["orchestrator.running", "orchestrator.worker", "tasks.nets.presets", __name__])


def typed(words: Sequence[str], folder: Path, seconds: float = 300) -> tuple[int, str, str]:
    """Exit code, output and errors of a command that is typed in ``folder``."""
    out, err = folder / "typed.out", folder / "typed.err"
    process = _FORK.Process(target=_command, args=(list(words), folder, out, err))
    process.start()
    process.join(seconds)
    if process.is_alive():
        process.kill()
        process.join()
        raise TimeoutError(f"{words}: not done in {seconds:.0f} s: {err.read_text()[-2000:]}")
    assert process.exitcode is not None
    return process.exitcode, out.read_text(), err.read_text()


def _command(words: list[str], folder: Path, out: Path, err: Path) -> None:
    """What ``python -m orchestrator`` does, with its output in files."""
    os.chdir(folder)
    os.environ["OMP_NUM_THREADS"] = "1"
    for stream, path in ((1, out), (2, err)):
        with path.open("wb") as file:
            os.dup2(file.fileno(), stream)
    sys.path.insert(0, str(folder))
    sys.argv = ["mtal", *words]
    warnings.simplefilter("ignore")
    main(words)
