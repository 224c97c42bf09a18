"""What one process does with a model: fit, evaluate, score, select, explain. Both seams run exactly this."""

import pickle
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import nn

from orchestrator import fitting
from orchestrator.ahead import ahead
from orchestrator.blame import blamed
from orchestrator.checkpoints import Card, build, load, load_model, load_state, save_model
from orchestrator.components import Component, make
from orchestrator.errors import ConfigError, RunError
from orchestrator.evaluation import evaluate, figures, merged, selection_score
from orchestrator.gallery import GalleryEntry, panel, write_gallery
from orchestrator.meter import Meter, Reading
from orchestrator.pseudo_labels import Teaching, label_shard
from orchestrator.scored import ScoredShard
from orchestrator.scoring import Plan, explain_batch, needs_images, score_batch, score_rows
from orchestrator.store import read_metadata, shard_path, write_table
from orchestrator.training_group import joined, listen
from orchestrator.workers import (
    Bought,
    ExplainJob,
    FitJob,
    Fitted,
    Progress,
    PseudoJob,
    ScoreJob,
    Seat,
    SelectJob,
    Setup,
    ranges,
)
from strategies.base import Budget, Score, Strategy
from strategies.candidates import ShardCandidates
from tasks.base import Task, sensors_of
from tasks.data.files import Place, place, version
from tasks.data.manifest import Manifest
from tasks.data.samples import Cache, Samples
from tasks.seeding import rng_of, seed_of
from tasks.types import Batch, Sample


def quiet(phase: str, done: int, total: int) -> None:
    """Progress that nobody watches."""


@dataclass(frozen=True)
class Readable:
    """Samples whose faults (a file that went, or broke, after it was prepared) are errors that people can mend."""

    samples: Samples

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, row: int) -> Sample:
        try:
            return self.samples[row]
        except (ValueError, OSError) as error:
            raise RunError(f"data: {error}") from error

    def expect(self, rows: Sequence[int]) -> None:
        """These rows will be asked for next."""
        self.samples.expect(rows)


class Worker:
    """Holds the data and the last used model of one process."""

    def __init__(self, setup: Setup, progress: Progress = quiet) -> None:
        self.setup, self.progress = setup, progress
        torch.set_num_threads(setup.threads)
        self.device = torch.device("cuda" if setup.gpu else "cpu")
        if setup.gpu and not torch.cuda.is_available():
            raise ConfigError(
                "cluster.gpus_per_worker: this process sees no GPU; expected one: set it to 0, or run where a GPU is"
            )
        if setup.gpu:
            torch.backends.cudnn.deterministic = True
            torch.backends.cudnn.benchmark = False
        self.manifest = Manifest.open(place(setup.manifest))
        self.classes = self.manifest.classes
        self.names = tuple(setup.tasks)
        self.tasks: dict[str, Task] = {
            name: make("task", Component(name, options), f"tasks.{name}") for name, options in setup.tasks.items()
        }
        self.cache = Cache(setup.cache)
        self.meter = Meter()
        self._held: tuple[tuple[str, str], nn.Module] | None = None
        self._door: socket.socket | None = None

    # ---- fit and evaluate ------------------------------------------------------------------------------------------

    def meet(self, host: str) -> int:
        """The port, on this address of the node, at which the first process of a training group waits for the others.

        The next ``fit`` with the first seat uses it.
        """
        if self._door is not None:
            self._door.close()
        self._door = listen(host)
        return int(self._door.getsockname()[1])

    def fit(self, job: FitJob, seat: Seat | None = None) -> Fitted:
        """Train for one cycle; ``model.pt`` in the job's folder is the best checkpoint.

        With a ``seat``: together with others that are given the same job; the first one's answer counts.
        """
        folder = place(job.folder)
        folder.mkdir(parents=True, exist_ok=True)
        torch.manual_seed(seed_of(job.seed, "weights"))  # fresh weights depend on the seed alone: arms share them
        component = job.model or self.setup.model
        model = build(component, self.classes, self.names).to(self.device)
        weighting = make("weighting", self.setup.weighting, "weighting").to(self.device)
        if job.start is not None:
            load_state(model, load(place(job.start), self.device)["model"], place(job.start))
        split = self.rows(job.split)
        validation = self.samples(split, sensors=sensors_of(model))

        def judge(candidate: nn.Module) -> tuple[float, dict[str, float]]:
            metrics = evaluate(candidate, validation, split.tolist(), self.tasks, self.classes, self.setup.batch)
            return selection_score(metrics, job.denominators), figures(metrics)

        def keep(candidate: nn.Module, step: int) -> None:
            card = Card(component, self.names, self.classes, self.manifest.size, step)
            save_model(folder / "model.pt", candidate, card)

        first = seat is None or seat.rank == 0
        labeled = self.samples(job.rows, sensors=sensors_of(model), labels=job.labels)
        data = fitting.Data(
            labeled, job.rows, job.has, self.names, self.classes, labeled.expect, job.pseudo, job.weight
        )
        door, self._door = self._door, None
        self.meter.fit()
        with joined(seat, self.device, door) as group:
            best, skipped = fitting.fit(
                model, weighting, data, job.train, steps=job.steps, seed=job.seed, cycle=job.cycle, folder=folder,
                judge=judge if first else _unjudged, keep=keep if first else _unkept,
                progress=self._stepped if first else quiet, group=group,
                note=(lambda name, table: write_table(folder / f"{name}.parquet", table)) if first else fitting.unnoted,
            )  # fmt: skip
        if first:
            (folder / "training.pt").unlink(missing_ok=True)
        return Fitted(str(folder / "model.pt"), best.step, skipped, best.figures)

    def _stepped(self, phase: str, done: int, total: int) -> None:
        self.meter.step()
        self.progress(phase, done, total)

    def count(self, split: str) -> int:
        """Images of a split."""
        return len(self.rows(split))

    def evaluate_shard(self, checkpoint: str, split: str, shard: int) -> bytes:
        """The metrics of one shard of a split, pickled: another worker merges them, the loop only carries them."""
        rows = self.rows(split)
        start, stop = ranges(len(rows), self.setup.shard)[shard]
        model = self.model(checkpoint)
        samples, chosen = self.samples(rows[start:stop], sensors=sensors_of(model)), rows[start:stop].tolist()
        told = self._told(start, len(rows))
        return pickle.dumps(evaluate(model, samples, chosen, self.tasks, self.classes, self.setup.batch, told))

    def combine(self, *parts: bytes) -> dict[str, float]:
        """The figures of all shards together."""
        return figures(merged([pickle.loads(part) for part in parts]))

    # ---- score, select, explain ------------------------------------------------------------------------------------

    def score_shard(self, job: ScoreJob, shard: int) -> tuple[int, float]:
        """Score one shard and write it; (images, forward passes). A shard that is there from the same inputs stays."""
        with self.meter.phase("shard"):
            return self._score_shard(job, shard, shard_path(job.folder, shard))

    def _score_shard(self, job: ScoreJob, shard: int, path: Place) -> tuple[int, float]:
        if path.is_file():
            meta = read_metadata(path).metadata or {}
            if meta.get(b"inputs", b"").decode() == job.inputs:
                return int(meta[b"images"]), float(meta[b"forwards"])
        plan = self.plan(job.strategies, job.seed, job.cycle)
        rows = self.rows(job.split)
        start, stop = ranges(len(rows), self.setup.shard)[shard]
        both = any(strategy.scores_labeled for strategy in plan.strategies.values())
        skipped = np.zeros_like(job.labeled) if both else job.labeled
        if job.left_out is not None:
            skipped = skipped | job.left_out
        wanted = ~skipped[start:stop]
        told = self._told(int((~skipped[:start]).sum()), int((~skipped).sum()))
        table, forwards = self._scored(plan, job.checkpoint, rows[start:stop][wanted], told)
        table = table.append_column("labeled", pa.array(job.labeled[start:stop][wanted]))
        meta = {"inputs": job.inputs, "images": str(len(table)), "forwards": str(forwards)}
        meta["batch"] = str(self.setup.batch)  # smaller than the configured one after a worker ran out of memory
        with self.meter.phase("write"):
            write_table(path, table.replace_schema_metadata(meta), sorted_by="key")
        return len(table), forwards

    def _told(self, before: int, total: int) -> Progress:
        """Progress of a shard as that of the whole: ``before`` images lie in front of it."""
        return lambda phase, done, _: self.progress(phase, before + done, total)

    def _scored(self, plan: Plan, checkpoint: str, rows: NDArray[np.int64], told: Progress) -> tuple[pa.Table, float]:
        """Scores of these rows, in batches of consecutive rows read one ahead; the forward passes they took."""
        ids, keys = self.manifest.ids(rows), self.manifest.keys()[rows].tolist()
        scores: dict[str, list[Score]] = {name: [] for name in plan.strategies}
        forwards, look = 0.0, needs_images(plan)
        model = self.model(checkpoint)
        images = self.samples(rows, tasks=(), sensors=sensors_of(model))  # no label is in reach of a strategy
        parts = [slice(start, start + self.setup.batch) for start in range(0, len(rows), self.setup.batch)]

        def read(part: slice) -> Batch | None:
            with self.meter.phase("read"):
                return Batch.of([images[int(row)] for row in rows[part]], ()) if look else None

        with ahead(read, parts) as batches:
            for part, batch in self.meter.waiting("wait", batches):
                batch = None if batch is None else batch.to(self.device)
                pixels, inputs = (None, {}) if batch is None else (batch.images, batch.inputs)
                with blamed(plan.active):
                    answer = score_batch(
                        model, pixels, inputs, ids[part], keys[part], self.classes, plan, phase=self._phase
                    )
                forwards += answer.forwards
                for name, found in answer.scores.items():
                    scores[name] += found
                told("score", min(part.stop, len(rows)), len(rows))
        return score_rows(scores, ids, keys), forwards

    @contextmanager
    def _phase(self, name: str) -> Iterator[None]:
        """A phase of the meter that ends when the device has done its work."""
        with self.meter.phase(name):
            yield
            if self.device.type == "cuda":
                torch.cuda.synchronize()

    def pseudo_shard(self, job: PseudoJob, shard: int) -> int:
        """Label one shard and write it; the images looked at. A shard that is there from the same inputs stays."""
        start, stop = ranges(len(job.wanted), self.setup.shard)[shard]
        wanted, before = job.wanted[start:stop], int(job.wanted[:start].any(1).sum())
        told = self._told(before, int(job.wanted.any(1).sum()))
        rows = self.rows(job.split)[start:stop]

        def teaching(chosen: NDArray[np.int64]) -> Teaching:
            model = self.model(job.checkpoint)
            images = self.samples(chosen, tasks=(), sensors=sensors_of(model), labels=job.labels)
            return Teaching(model, self.tasks, images, self.manifest, self.setup.batch, self.device, told)

        with self.meter.phase("shard"):
            return label_shard(job, shard, rows, wanted, teaching)

    def select(self, job: SelectJob) -> list[Bought]:
        """What the strategy buys, from the shards that were scored."""
        count = len(ranges(len(job.labeled), self.setup.shard))
        shards = [ScoredShard(shard_path(job.folder, i), job.name) for i in range(count)]
        images = int(job.labeled.sum())
        candidates = ShardCandidates(shards, Budget(job.budget), self.names, job.label_counts, images)
        strategy = self.strategy(job.strategy, job.cycle)
        with blamed({job.strategy.name: strategy}):
            picks = strategy.select(candidates, rng_of(job.seed, job.cycle, "select", job.name))
        rows = self._checked([p.id for p in picks], candidates, job).to_pylist()
        return [
            Bought(p.id, row["key"], tuple(p.tasks), row["value"], _parts(row))
            for p, row in zip(picks, rows, strict=True)
        ]

    def _checked(self, ids: Sequence[str], candidates: ShardCandidates, job: SelectJob) -> pa.Table:
        """The rows of the picks; ConfigError where they are not what may be picked."""
        who = f"strategy {job.strategy.name!r}: select picked"
        if len(set(ids)) != len(ids):
            raise ConfigError(f"{who} an image twice; expected distinct picks: mend its select")
        if len(ids) > job.budget:
            raise ConfigError(f"{who} {len(ids)} images; the budget pays for {job.budget}: mend its select")
        try:
            rows = candidates.rows(ids)
        except ValueError as error:
            raise ConfigError(f"{who} what the candidates do not offer ({error}): mend its select") from error
        if labeled := rows.filter(rows["labeled"])["id"].to_pylist():
            raise ConfigError(
                f"{who} {min(labeled)!r}, which is labeled already; expected ids that the candidates offer: mend its "
                "select"
            )
        return rows.drop_columns([name for name in rows.column_names if name == "summary"])

    def explain(self, job: ExplainJob) -> None:
        """Pictures of the picks: predictions, and the maps that the strategy explains itself with."""
        plan = self.plan({job.strategy.name: job.strategy}, job.seed, job.cycle)
        model = self.model(job.checkpoint)
        rows = self.manifest.rows_of(np.array([pick.key for pick in job.picks], np.uint64))
        samples = self.samples(rows, tasks=(), sensors=sensors_of(model))
        samples.expect(rows.tolist())
        entries = []
        for rank, (pick, row) in enumerate(zip(job.picks, rows.tolist(), strict=True)):
            batch = Batch.of([samples[row]], ()).to(self.device)
            image, inputs = batch.images[0], batch.inputs
            prediction = model.predict(batch.images, self.names, inputs)[0]
            with blamed(plan.active):
                shown = explain_batch(model, batch.images, inputs, [pick.id], [pick.key], self.classes, plan)[0]
            maps = shown.maps[job.strategy.name]
            title = f"{rank + 1}. {pick.id}"
            picture = panel(image, prediction, maps, self.classes, Score(pick.value, pick.parts), title)
            entries.append(GalleryEntry(pick.id, rank, pick.value, pick.parts, picture))
            self.progress("explain", rank + 1, len(job.picks))
        write_gallery(place(job.folder), entries)

    # ---- what the jobs share ----------------------------------------------------------------------------------------

    def rows(self, split: str) -> NDArray[np.int64]:
        """Manifest rows of a split, in key order."""
        return self.manifest.rows(split)

    def samples(
        self,
        rows: NDArray[np.int64],
        tasks: Sequence[str] | None = None,
        sensors: Sequence[str] = (),
        labels: Sequence[str] = (),
    ) -> Readable:
        """Images, labels and a model's other inputs, decoded once while they fit the cache; ``labels``: see FitJob."""
        manifest = Manifest(self.manifest.path, [place(path) for path in labels]) if labels else self.manifest
        return Readable(Samples(manifest, self.names if tasks is None else tasks, rows, self.cache, sensors))

    def model(self, checkpoint: str) -> Any:
        """The network of a checkpoint, kept until another one is asked for."""
        path = place(checkpoint)
        mark = (checkpoint, version(path))
        if self._held is None or self._held[0] != mark:
            self._held = (mark, load_model(path, self.device)[0])
        return self._held[1]

    def begin(self, checkpoint: str) -> None:
        """Have the network and the keys ready, and let the meter begin."""
        self.model(checkpoint)
        self.manifest.keys()
        self.rows("train")
        self.meter.begin()

    def measured(self) -> Reading:
        """What this process took since then."""
        return self.meter.reading()

    def strategy(self, component: Component, cycle: int) -> Strategy:
        strategy = make("strategy", component, "strategy")
        assert isinstance(strategy, Strategy)
        return strategy.at(cycle)

    def plan(self, strategies: Mapping[str, Component], seed: int, cycle: int) -> Plan:
        return Plan({name: self.strategy(c, cycle) for name, c in strategies.items()}, seed=seed, cycle=cycle)

    def label_cost(
        self, rows: NDArray[np.int64], has: NDArray[np.bool_], labels: tuple[str, ...] = ()
    ) -> dict[str, float]:
        """What the labels of these rows cost, from their truth."""
        total: dict[str, float] = {}
        samples = self.samples(rows, labels=labels)
        for row, known in zip(rows.tolist(), has, strict=True):
            targets = samples[row].targets
            for i, name in enumerate(self.names):
                if known[i] and name in targets:
                    for unit, amount in self.tasks[name].label_cost(targets[name]).items():
                        total[unit] = total.get(unit, 0.0) + amount
        return total


def _unjudged(model: nn.Module) -> tuple[float, dict[str, float]]:
    """No score: the first process of a training group judges."""
    return 0.0, {}


def _unkept(model: nn.Module, step: int) -> None:
    """Nothing is written: the first process of a training group does."""


def _parts(row: Mapping[str, Any]) -> dict[str, float]:
    return {n.removeprefix("parts."): float(v) for n, v in row.items() if n.startswith("parts.") and v is not None}
