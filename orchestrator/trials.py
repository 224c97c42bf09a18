"""What a trial is, as plain data that travels: a unit of a checked plan.  No torch and no Ray here."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from orchestrator import cycle, identity
from orchestrator.config import Experiment, arm
from orchestrator.store import RunFolder, fingerprint, read_json
from orchestrator.workers import Setup, Workers
from tasks.data.files import Place, place
from tasks.data.manifest import Manifest

Kind = Literal["reference", "initial", "arm"]


@dataclass(frozen=True)
class Unit:
    """What a trial of Ray Tune carries out: a shared fit of a seed, or an arm under a seed."""

    kind: Kind
    arm: str  # "" for the reference
    seed: int

    @property
    def name(self) -> str:
        return f"{self.arm or 'reference'}{' cycle 0' if self.kind == 'initial' else ''}, seed {self.seed}"


@dataclass(frozen=True)
class Failure:
    """A unit that could not finish, and why, in one sentence."""

    arm: str
    seed: int
    why: str


@dataclass(frozen=True)
class Plan:
    """A run that was checked and may start: plain data that travels to every trial."""

    experiment: Experiment
    root: str  # absolute path or uri of the run folder
    manifest: str  # absolute path or uri of the prepared data
    code: str
    paths: tuple[str, ...] = ()  # folders of the user's own modules
    home: str = ""  # where the sources of the command lie

    @property
    def folder(self) -> RunFolder:
        return RunFolder(place(self.root))

    def trial(self, unit: Unit) -> cycle.Trial:
        """The trial of a unit, with its arm's own configuration."""
        own = arm(self.experiment, unit.arm) if unit.arm else self.experiment
        reference = read_json(self.folder.reference) if self.folder.reference.is_file() else None
        manifest = Manifest.open(place(self.manifest))
        return cycle.Trial(own, unit.arm, unit.seed, self.folder, manifest, reference)

    def setup(self, unit: Unit) -> Setup:
        """What the workers of a unit are built from."""
        own = self.trial(unit).experiment
        return Setup(
            manifest=self.manifest,
            tasks=own.tasks,
            model=own.model,
            weighting=own.weighting,
            batch=own.cluster.score_batch,
            shard=own.cluster.shard,
            threads=own.cluster.cpus_per_worker,
            cache=own.cluster.cache_mib << 20,
            gpu=own.cluster.gpus_per_worker > 0,
            code=self.code,
            home=self.home,
        )


def carry_out(plan: Plan, unit: Unit, workers: Workers) -> Iterator[cycle.Cycle]:
    """Do one unit's work: each cycle of an arm when it is finished; a shared fit ends without one."""
    trial = plan.trial(unit)
    if unit.kind == "reference":
        cycle.reference(trial, workers)
    elif unit.kind == "initial":
        cycle.initial(trial, workers)
    else:
        yield from cycle.run(trial, workers)


def waits(plan: Plan) -> list[str]:
    """For each trial that waits for people's labels, a sentence that says what to do."""
    found = []
    for name in plan.experiment.arms:
        for seed in plan.experiment.seeds:
            if (waiting := cycle.waiting(plan.folder, name, seed)) is not None:
                of = f"{plan.folder.root} --arm {name} --seed {seed}"
                found.append(
                    f"{name}, seed {seed}: {waiting[1]} images of cycle {waiting[0]} wait for labels: type mtal label "
                    f"push {of}, have them labeled, type mtal label pull {of}, then the same command again"
                )
    return found


def initial_folder(plan: Plan, name: str, seed: int) -> Place:
    trial = plan.trial(Unit("initial", name, seed))
    inputs = identity.initial_inputs(trial.experiment, trial.manifest.fingerprint, trial.denominators)
    return plan.folder.initial_fit(fingerprint(inputs), seed)


def is_done(plan: Plan, unit: Unit) -> bool:
    trial = plan.trial(unit)
    if unit.kind == "reference":
        inputs = identity.reference_inputs(trial.experiment, trial.manifest.fingerprint)
        return (plan.folder.reference_fit(fingerprint(inputs), unit.seed) / "fit.json").is_file()
    if unit.kind == "initial":
        return (initial_folder(plan, unit.arm, unit.seed) / "fit.json").is_file()
    return cycle.is_complete(plan.folder, unit.arm, unit.seed, trial.experiment.active.cycles)
