"""A Ray cluster with its jobs server, in an environment that has mtal's wheel: what tests of jobs share."""

import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.ray.conftest import wait_for
from tests.test_wheel import HOME, environment, run

HIDDEN = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "RAY_ADDRESS", "RAY_API_SERVER_ADDRESS")


@dataclass(frozen=True)
class Server:
    """The cluster, and how to talk to it."""

    address: str  # of the jobs server, http
    python: Path  # of the environment that the cluster runs in; mtal's wheel is in it
    env: Mapping[str, str] = field(repr=False)  # of who may talk to it: the cluster's token is in here

    def types(self, words: Sequence[str | Path], cwd: Path = Path("/")) -> "subprocess.CompletedProcess[str]":
        """The finished command."""
        return subprocess.run(
            [str(word) for word in words], cwd=cwd, env=self.env, capture_output=True, text=True, timeout=400,
            check=False,
        )  # fmt: skip

    def ray_submits(self, folder: Path, *words: str | Path) -> "subprocess.CompletedProcess[str]":
        """``ray job submit`` with a folder, once the server takes jobs: it answers before it has all its parts."""
        submit = ("-m", "ray.scripts.scripts", "job", "submit", "--address", self.address, "--working-dir", folder)

        def submitted() -> "subprocess.CompletedProcess[str] | None":
            done = self.types([self.python, *submit, "--", *words])
            return done if "submitted successfully" in done.stdout else None

        return wait_for(submitted, 400, 2)  # type: ignore[no-any-return]


def made_python(place: Path) -> Path:
    """The Python of an environment with mtal's wheel, and that of a package which offers a strategy."""
    found = environment(place / "venv")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", place / "dist"]
    install = [sys.executable, "-m", "pip", "--python", found, "install", "--quiet", "--no-deps", "--no-index"]
    run(build, HOME)
    run([*install, *sorted((place / "dist").glob("*.whl"))], Path("/"))
    run([found.with_name("mtal"), "new-strategy", "least-sure"], place)
    run(build, place / "least-sure")
    run([*install, *(place / "dist").glob("least_sure*.whl")], Path("/"))
    return found


@contextmanager
def started(python: Path) -> Iterator[Server]:
    """A head node as the README starts one, on ports of its own and on loopback."""
    gcs, jobs, agent = _free_ports(3)
    env = {k: v for k, v in os.environ.items() if k not in HIDDEN}
    env |= {"OMP_NUM_THREADS": "1", "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    env["PATH"] = f"{python.parent}:{env['PATH']}"  # jobs find python and mtal there
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
            yield Server(f"http://127.0.0.1:{jobs}", python, env)
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
