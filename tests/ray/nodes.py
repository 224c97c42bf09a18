"""A Ray cluster of several raylets on this machine, started and killed by recorded process ids, never by name."""

import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil

START = 120.0  # seconds that a busy machine may take to start a node
# Ray binds loopback alone where it takes the machine for one that cannot have a second node; its command then refuses
# to start one. Only the command is told otherwise.
RAY = """
from types import SimpleNamespace
from ray.scripts import scripts
scripts.ray_constants = SimpleNamespace(**{**vars(scripts.ray_constants), "ENABLE_RAY_CLUSTER": True})
scripts.main()
"""


def free_port() -> int:
    """A port of loopback that nothing listens on."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
    return port


def environment() -> dict[str, str]:
    """What every process of one cluster shares: loopback, a token of its own, one thread."""
    hidden = ("RAY_ADDRESS", "RAY_AUTH_TOKEN_PATH")
    return {k: v for k, v in os.environ.items() if k not in hidden} | {
        "OMP_NUM_THREADS": "1",
        "NO_ALBUMENTATIONS_UPDATE": "1",
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        "RAY_gcs_rpc_server_reconnect_timeout_s": "20",  # for a head that does not come back
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
    }


def family(root: psutil.Process) -> list[psutil.Process]:
    """A process and all below it."""
    try:
        return [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def titled(processes: list[psutil.Process], word: str) -> list[psutil.Process]:
    """Those whose command line holds a word (Ray names actors ``ray::Class``), dead ones left out."""
    found = []
    for one in processes:
        try:
            if word in " ".join(one.cmdline()) and one.status() != psutil.STATUS_ZOMBIE:
                found.append(one)
        except psutil.Error:
            continue
    return found


@dataclass
class Node:
    """A ``ray start --block`` and what it started. Ray puts its daemons and workers into sessions of their own."""

    process: "subprocess.Popen[bytes]"
    log: Path
    seen: dict[int, psutil.Process] = field(default_factory=dict)

    def processes(self) -> list[psutil.Process]:
        """All that live; those seen before are remembered, because orphans have no parent to be found by."""
        roots = [psutil.Process(self.process.pid)] if self.process.poll() is None else []
        for root in [*roots, *self.seen.values()]:
            for one in family(root):
                self.seen.setdefault(one.pid, one)
        self.seen = {pid: one for pid, one in self.seen.items() if one.is_running()}
        return list(self.seen.values())

    def daemon(self, name: str) -> psutil.Process:
        """The node's ``raylet`` or ``gcs_server``."""
        [one] = [p for p in self.processes() if _name(p) == name]
        return one

    def kill(self) -> None:
        """SIGKILL to everything of the node at once, as when its power goes."""
        for one in self.processes():
            _kill(one)
        for one in self.processes():  # what was started meanwhile
            _kill(one)
        self.process.wait()


@dataclass
class Nodes:
    """A head that runs no trial, and ``workers`` nodes of ``cpus`` each."""

    workers: int
    cpus: int
    folder: Path  # a short path: sockets lie below it
    settings: Mapping[str, str] = field(default_factory=dict)  # further variables of the environment

    def __post_init__(self) -> None:
        self.env = {**environment(), **self.settings}
        self.port = free_port()
        self.head: Node | None = None
        self.others: list[Node] = []

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start what is not there: the head first."""
        if self.head is None:
            self.head = self._start("--head", "--port", str(self.port), "--num-cpus", "0", "--include-dashboard=false")
        self.others += [
            self._start("--address", self.address, "--num-cpus", str(self.cpus))
            for _ in range(self.workers - len(self.others))
        ]

    def mend(self) -> None:
        """Start again what was killed, so that the cluster is as large as it was."""
        if self.head is not None and self.head.process.poll() is not None:
            self.stop()
        self.start()

    def _start(self, *words: str, tries: int = 3) -> Node:
        """A node; Ray gives each half a minute, which a busy machine may not keep once."""
        for left in reversed(range(tries)):
            node, ready = self._started(*words)
            if ready:
                return node
            said = node.log.read_text()[-2000:]
            node.kill()
            if not left:
                raise RuntimeError(f"ray start {' '.join(words)}: {said}")
        raise AssertionError("expected at least one try")

    def _started(self, *words: str) -> tuple[Node, bool]:
        """A node, and whether it is ready; it is not where its process ended, or took too long."""
        name = secrets.token_hex(2)
        log, ready = self.folder / f"{name}.log", b"Ray runtime started"
        common = [
            *("--block", "--disable-usage-stats", "--object-store-memory", str(80 * 2**20)),
            *("--node-ip-address", "127.0.0.1", "--temp-dir", str(self.folder / name)),
            *("--min-worker-port", "0", "--max-worker-port", "0"),
        ]
        with log.open("wb") as out:
            process = subprocess.Popen(
                [sys.executable, "-W", "ignore", "-c", RAY, "start", *words, *common],
                env=self.env, stdout=out, stderr=subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip
        end, node = time.monotonic() + START, Node(process, log)
        while ready not in log.read_bytes():
            node.processes()
            if process.poll() is not None or time.monotonic() > end:
                return node, False
            time.sleep(0.2)
        node.processes()
        return node, True

    def processes(self, word: str) -> list[psutil.Process]:
        """Living processes of all nodes whose title holds a word."""
        nodes = [*([self.head] if self.head else []), *self.others]
        return titled([p for node in nodes for p in node.processes()], word)

    def kill_raylet(self, index: int) -> None:
        """SIGKILL to the raylet of a node, and to nothing else: its workers must find out by themselves."""
        node = self.others.pop(index)
        node.processes()
        node.daemon("raylet").kill()
        self._gone.append(node)

    def kill_node(self, index: int) -> None:
        """SIGKILL to all of a node at once."""
        self.others.pop(index).kill()

    def kill_head(self) -> None:
        """SIGKILL to the cluster's store of state, and to nothing else."""
        assert self.head is not None
        self.head.processes()
        self.head.daemon("gcs_server").kill()

    def stop(self) -> None:
        """End every process of every node, those of nodes that were lost too."""
        for node in [*self._gone, *self.others, *([self.head] if self.head else [])]:
            node.kill()
        self.head, self.others, self._gone = None, [], []

    _gone: list[Node] = field(default_factory=list)


def _name(one: psutil.Process) -> str:
    try:
        return one.name()
    except psutil.Error:
        return ""


def _kill(one: psutil.Process) -> None:
    try:
        one.kill()
    except psutil.NoSuchProcess:
        return


def _end(signum: int, frame: object) -> None:
    raise SystemExit(128 + signum)


@contextmanager
def nodes(workers: int = 2, cpus: int = 1, **settings: str) -> Iterator[Nodes]:
    """A cluster for the time of the block; nothing of it is left afterwards, also when the block is told to end."""
    with tempfile.TemporaryDirectory(prefix="r", ignore_cleanup_errors=True) as folder:
        made = Nodes(workers, cpus, Path(folder), settings)
        before = signal.signal(signal.SIGTERM, _end)
        try:
            made.start()
            yield made
        finally:
            made.stop()
            signal.signal(signal.SIGTERM, before)
