"""Kills at random moments: the results of a run on a cluster of several nodes must not show them.

``python -m tests.ray.soak --kills 20 --seed 7`` starts a cluster of this machine (a head and two nodes), runs an
experiment of 2 strategies x 2 seeds x 2 cycles undisturbed, and then again and again while it kills what it finds: the
command, a trial, a worker that scores, one that trains, a raylet, the head. Where the command ends badly it is typed
again. With ``--s3`` the runs lie on an S3 server of this machine, which is killed as well, and comes back.
"""

import argparse
import os
import random
import sys
import tempfile
import time
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from shutil import copy
from typing import Any, Literal

import psutil
import torch

from tasks.data.files import Place
from tasks.data.manifest import Manifest
from tasks.data.objects import S3Path
from tasks.data.samples import Cache, Samples
from tests.bench.results import record
from tests.ray import counted
from tests.ray.conftest import Command, command
from tests.ray.nodes import Nodes, nodes
from tests.s3.weed import BUCKET, Weed
from tests.tiny import results, write_tiny

Kind = Literal["driver", "trial", "scorer", "trainer", "raylet", "head", "server"]
KINDS: tuple[Kind, ...] = ("driver", "trial", "scorer", "trainer", "raylet", "head")  # and "server", on S3
SHARD, CHECKPOINT, WORKERS, TRIALS = 5, 3, 2, 1  # images; steps; workers of a trial; trials at a time, at most
PAUSE = 20.0  # seconds before a kill, at most: a run takes a minute
LIMIT = 400.0  # seconds that a command may take
WHAT = ("steps", "scores", "evaluations")
AFFECTED = {
    "driver": TRIALS,
    "trial": 1,
    "scorer": 1,
    "trainer": 1,
    "raylet": TRIALS,
    "head": TRIALS,
    "server": TRIALS,
}  # trials


@dataclass(frozen=True)
class Kill:
    """What was killed, when, and how the command took it."""

    kind: Kind
    after: float  # seconds since the command was typed
    victim: str


@dataclass(frozen=True)
class Work:
    """What was computed: how often each step of a fit, each score, each prediction of a test image."""

    steps: Counter[str]
    scores: Counter[str]
    evaluations: Counter[str]

    @staticmethod
    def of(log: Path, test: frozenset[str]) -> "Work":
        found: dict[str, Counter[str]] = {"fit": Counter(), "score": Counter(), "predict": Counter()}
        for line in log.read_text().splitlines():
            kind, _pid, _time, key = line.split(" ", 3)
            found[kind][key] += 1
        tested = Counter({key: count for key, count in found["predict"].items() if key in test})
        return Work(found["fit"], found["score"], tested)

    def twice(self, other: "Work") -> dict[str, int]:
        """What this did more than the other, by kind."""
        return {what: (getattr(self, what) - getattr(other, what)).total() for what in WHAT}

    def missing(self, other: "Work") -> int:
        """What the other did and this did not: 0, where both ended with the same."""
        return sum((getattr(other, n) - getattr(self, n)).total() for n in WHAT)


def allowed(kills: Sequence[Kill], test: int) -> dict[str, int]:
    """The most that these kills may cause to be computed again."""
    affected = sum(AFFECTED[kill.kind] for kill in kills)
    return {
        "steps": affected * CHECKPOINT,
        "scores": affected * WORKERS * SHARD,
        "evaluations": affected * test,
    }


@dataclass
class Round:
    """One run of the experiment in a folder of its own, until it ends well."""

    place: Path
    name: str
    cluster: Nodes
    rng: random.Random
    address: str = ""  # the cluster's, where nothing is said
    words: tuple[str, ...] = ()  # further words of the command
    size: tuple[int, int] = (2, 2)  # seeds, cycles
    server: Weed | None = None  # where the runs lie; None = on this disk
    typed: int = 0
    kills: list[Kill] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.log = self.place / f"{self.name}.log"
        self.log.touch()
        copy(counted.__file__, self.place / "counted.py")  # a user's own module, beside the YAML
        self.began = 0.0

    @property
    def output(self) -> Place:
        return self.place if self.server is None else S3Path(BUCKET, "runs")

    @property
    def folder(self) -> Place:
        return self.output / self.name

    def config(self) -> Path:
        log, (seeds, cycles) = str(self.log), self.size
        arms = {
            "random": {"strategy": {"name": "counted:CountedRandom", "log": log}},
            "boxmask": {
                "strategy": {
                    "name": "counted:CountedBoxMask", "log": log, "crop_size": 32, "min_score": 0.05,
                }
            },
        }  # fmt: skip
        return write_tiny(
            self.place / f"{self.name}.yaml", self.output, name=self.name, arms=arms, seeds=list(range(seeds)),
            data={"name": "streets", "images": 28, "validation": 4, "test": 12, "size": [64, 96]},
            model={"name": "counted:counted_small", "log": log, "width": 16},
            weighting={"name": "counted:CountedWeighting", "log": log},
            train={"steps": 8, "first_steps": 10, "batch": 4, "checkpoint_steps": CHECKPOINT},
            active={"initial": 0.25, "budget": {"amount": 3}, "cycles": cycles}, reference={"steps": 14, "seeds": [0]},
            cluster={"shard": SHARD, "score_batch": 4, "workers_per_trial": WORKERS},
        )  # fmt: skip

    def type(self) -> Command:
        """Type the command, the same each time."""
        self.typed, self.began = self.typed + 1, time.monotonic()
        address = self.address or self.cluster.address
        return command("run", str(self.config()), "--address", address, *self.words, env=self.cluster.env)

    def carry_out(self, kinds: "deque[Kind]", pause: float, tries: int) -> None:
        """Type the command until it ends well, killing what ``kinds`` say meanwhile, with a pause before each.

        The pause is random, ``pause`` seconds at most.
        """
        for _ in range(tries):
            running = self.type()
            try:
                while kinds and self.sleep(running, self.rng.uniform(0, pause)):
                    if self.strike(running, kinds[0]):
                        kinds.popleft()
                code, text = running.finish(LIMIT)
            finally:
                running.kill()  # where it hangs, or this is told to end
            self.cluster.mend()
            if code == 0:
                return
            said = [line for line in text.splitlines() if line.startswith("error")]
            self.notes.append(f"exit {code} after {time.monotonic() - self.began:.0f} s: {' '.join(said)[:300]}")
        raise AssertionError(f"{self.name}: did not end well in {tries} tries: {self.notes}")

    def sleep(self, running: Command, seconds: float) -> bool:
        """Wait while the command runs; whether it still does."""
        end = time.monotonic() + seconds
        while running.is_running and time.monotonic() < end:
            time.sleep(0.05)
        return running.is_running

    def strike(self, running: Command, kind: Kind) -> bool:
        """Kill one of this kind as soon as there is one; False where the command ended before."""
        while running.is_running:
            at = round(time.monotonic() - self.began, 1)
            victim = self.victim(running, kind)
            if victim:
                self.kills.append(Kill(kind, at, victim))
                print(f"  {self.name}: {kind} ({victim}) after {self.kills[-1].after} s", flush=True)
                return True
            time.sleep(0.02)
        return False

    def victim(self, running: Command, kind: Kind) -> str:
        """Kill one of this kind; what it was, or "" where there is none just now."""
        match kind:
            case "driver":
                running.kill()
                return "the command"
            case "trial":
                found = self.cluster.processes("ray::ResourceTrainable")
                return _killed(self.rng.choice(found).pid) if found else ""
            case "scorer" | "trainer":
                killed = (_killed(pid) for pid in self.busy("score" if kind == "scorer" else "fit"))
                return next((name for name in killed if name), "")
            case "raylet":
                index = self.rng.randrange(len(self.cluster.others))
                self.cluster.kill_raylet(index)
                self.sleep(running, self.rng.uniform(0, 10))
                self.cluster.start()  # another node in its place, as an autoscaler would
                return f"of node {index + 1}"
            case "server":
                assert self.server is not None
                self.server.kill()
                self.sleep(running, self.rng.uniform(0, 5))
                self.server.start()
                return "weed"
            case "head":
                self.cluster.kill_head()
                running.finish(LIMIT)
                self.cluster.stop()
                return "gcs_server"

    def busy(self, word: str) -> list[int]:
        """The processes that have done this kind of work in the last half second, the latest first."""
        with self.log.open("rb") as handle:
            handle.seek(max(0, self.log.stat().st_size - 4000))
            lines = [line.split() for line in handle.read().decode().splitlines()[1:]]
        since = time.time() - 0.5
        return list(dict.fromkeys(int(line[1]) for line in lines[::-1] if line[0] == word and float(line[2]) > since))


def _killed(pid: int) -> str:
    """SIGKILL to a process of the cluster: its title, "" where it is gone already."""
    try:
        one = psutil.Process(pid)
        name = one.name()
        if not name.startswith("ray::"):
            return ""
        one.kill()
    except psutil.NoSuchProcess:
        return ""
    return name


def pictures(output: Place) -> frozenset[str]:
    """The names of the pixels of the test images."""
    manifest = Manifest.open(next((output / "data").glob("*/manifest.parquet")).parent)
    rows = manifest.rows("test")
    samples = Samples(manifest, (), rows, Cache(0))
    return frozenset(counted.picture(samples[int(row)].image) for row in rows)


@dataclass
class Outcome:
    rounds: list[Round]
    twice: Counter[str]
    allowed: Counter[str]
    seconds: float
    size: tuple[int, int] = (2, 2)  # seeds, cycles
    storage: str = ""

    @property
    def kills(self) -> int:
        return sum(len(one.kills) for one in self.rounds)

    def text(self) -> str:
        """One line that says what was done and what came of it."""
        kinds = Counter(kill.kind for one in self.rounds for kill in one.kills)
        typed, (seeds, cycles) = sum(one.typed for one in self.rounds), self.size
        again = ", ".join(f"{self.twice[what]} {what} (at most {self.allowed[what]})" for what in WHAT)
        killed = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common())
        return (
            f"{self.kills} kills ({killed}) in {len(self.rounds)} runs of 2 strategies x {seeds} seeds x {cycles} "
            f"cycles on a head and 2 nodes{self.storage}; typed {typed} times; every cycles.parquet and "
            f"every purchase equal to those of an undisturbed process; computed twice: {again}; {self.seconds:.0f} s"
        )


def soak(
    place: Path,
    cluster: Nodes,
    kinds: "deque[Kind]",
    rng: random.Random,
    each: int,
    server: Weed | None = None,
    size: tuple[int, int] = (2, 2),
) -> Outcome:
    """Kill all of these, ``each`` a run; AssertionError where a run differs from one in one process, undisturbed."""
    torch.set_num_threads(1)
    started = time.monotonic()
    calm = Round(place, "undisturbed", cluster, rng, address="none", size=size)  # on this disk
    calm.carry_out(deque(), 0.0, 1)
    print(f"undisturbed: {time.monotonic() - started:.0f} s", flush=True)
    test = pictures(calm.output)
    expected, work = results(calm.folder), Work.of(calm.log, test)
    outcome = Outcome([], Counter(), Counter(), 0.0, size, " with the runs on an S3 server" if server else "")
    while kinds:
        now: deque[Kind] = deque(kinds.popleft() for _ in range(min(each, len(kinds))))
        one = Round(place, f"run_{len(outcome.rounds)}", cluster, rng, server=server, size=size)
        one.carry_out(now, PAUSE, 2 * each + 3)
        kinds.extendleft(reversed(now))  # those that found nothing to kill any more
        outcome.rounds.append(one)
        assert results(one.folder) == expected, f"{one.name}: differs after {one.kills}"
        done, bound = Work.of(one.log, test), allowed(one.kills, len(test))
        assert done.missing(work) == 0, f"{one.name}: did less than the undisturbed run"
        twice = done.twice(work)
        print(f"  {one.name}: twice {twice}, at most {bound}; {one.notes}", flush=True)
        outcome.twice.update(twice)
        outcome.allowed.update(bound)
        assert all(twice[what] <= bound[what] for what in bound), f"{one.name}: {one.kills} caused {twice} > {bound}"
    outcome.seconds = time.monotonic() - started
    return outcome


def plan(kills: int, seed: int, further: tuple[Kind, ...] = ()) -> "deque[Kind]":
    """As many kinds, each kind as often as the others, in a random order."""
    rng, kinds = random.Random(seed), [*KINDS, *further]
    found: list[Kind] = []
    while len(found) < kills:
        found += rng.sample(kinds, len(kinds))
    return deque(found[:kills])


@contextmanager
def serving(place: Path) -> Iterator[Weed]:
    """A server, and the variables in this process's environment that make it the one to talk to."""
    server = Weed(place / "weed")
    try:
        server.start()
        os.environ.update(server.environment)
        yield server
    finally:
        server.kill()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--each", type=int, default=4, help="kills a run")
    parser.add_argument("--s3", action="store_true", help="keep the runs on an S3 server, and kill that, too")
    parser.add_argument("--only", choices=[*KINDS, "server"], nargs="*", help="these kinds alone")
    parser.add_argument("--record", action="store_true", help="append the outcome to tests/bench/RESULTS.md")
    words = parser.parse_args()
    kinds: Any = plan(words.kills, words.seed, ("server",) if words.s3 else ())
    if words.only:
        kinds = deque(words.only[i % len(words.only)] for i in range(words.kills))
    with tempfile.TemporaryDirectory(prefix="soak-") as place, ExitStack() as stack:
        server = stack.enter_context(serving(Path(place))) if words.s3 else None
        cluster = stack.enter_context(nodes())
        summary = soak(Path(place), cluster, kinds, random.Random(words.seed), words.each, server).text()
    (record if words.record else print)(f"{summary} [seed {words.seed}]")


if __name__ == "__main__":
    sys.exit(main())
