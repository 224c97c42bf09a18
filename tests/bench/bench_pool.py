"""What a pool of millions costs the process that directs.  Run: python tests/bench/bench_pool.py [--only NAME]

Manifests and scores are generated; no image is read and no network runs. ``pool`` plans the shards of 10^5, 10^6 and
10^7 records, chooses 1 % of them by the random strategy from scores on disk, and writes what is bought. ``driver`` runs
the loop of a trial over 10^4 and 10^6 records, with workers that answer at once, and tells how much more memory the
larger pool takes. Each size in a process of its own.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).parents[2]))

from orchestrator import cycle
from orchestrator.components import Component
from orchestrator.config import experiment_of
from orchestrator.pool import Pool
from orchestrator.store import RunFolder, shard_path, write_table
from orchestrator.worker import Worker
from orchestrator.workers import Bought, ExplainJob, FitJob, Fitted, Scored, ScoreJob, SelectJob, Setup, ranges
from tasks.classes import ClassMap
from tasks.data.manifest import NAME, Manifest, write_manifest
from tasks.seeding import uniforms
from tests.bench.results import record
from tests.tiny import tiny

SHARD, CHUNK = 16384, 1 << 16
CLASSES = ClassMap(("car",), ("road", "car"), (1,))


def peak() -> int:
    """Bytes of memory that this process held at its highest."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def write_records(folder: Path, count: int) -> None:
    """A manifest of ``count`` images without labels, one in a thousand of each of the other splits."""
    path = folder / NAME
    write_manifest(path, [], CLASSES, [255] * 256, (96, 160))
    schema, rng = pq.read_schema(path), np.random.default_rng(0)
    step = 2**64 // (count + 1)
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for start in range(0, count, CHUNK):
            rows = np.arange(start, min(start + CHUNK, count))
            ids = pa.array([f"drive/{row:08d}.jpg" for row in rows.tolist()])
            split = np.where(rows % 1000 == 998, "val", np.where(rows % 1000 == 999, "test", "train"))
            columns = {
                "id": ids,
                "key": pa.array(
                    rows.astype(np.uint64) * np.uint64(step) + rng.integers(step, size=len(rows), dtype=np.uint64)
                ),
                "uri": ids,
                "height": pa.array(np.full(len(rows), 96, np.int32)),
                "width": pa.array(np.full(len(rows), 160, np.int32)),
                "split": pa.array(split),
                "group": ids,
            }
            rest = {name: pa.nulls(len(rows), schema.field(name).type) for name in schema.names if name not in columns}
            writer.write_table(pa.table(columns | rest, schema), row_group_size=4096)


def write_scores(folder: Path, manifest: Manifest, labeled: NDArray[np.bool_]) -> None:
    """What a worker would have written: the unlabeled images of each shard with a value."""
    rows = manifest.rows("train")
    for shard, (start, stop) in enumerate(ranges(len(rows), SHARD)):
        chosen = rows[start:stop][~labeled[start:stop]]
        keys = manifest.keys()[chosen]
        columns = {
            "id": manifest.take(chosen, ["id"])["id"],
            "key": pa.array(keys),
            "random.value": pa.array(uniforms(keys, 0, 0)),
            "labeled": pa.array(np.zeros(len(chosen), bool)),
        }
        write_table(shard_path(str(folder), shard), pa.table(columns), sorted_by="key")


def pool(count: int) -> dict[str, float]:
    """Seconds of each step, and the peak of memory in GiB."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        words = [sys.executable, __file__, "--write", str(count), "--folder", place]
        subprocess.run(words, check=True)  # its memory is not that of the product
        clock = [time.perf_counter()]
        manifest = Manifest.open(folder)
        ledger = Pool.initial(manifest.keys("train"), ("detection", "segmentation"), count // 100, 0)
        shards = ranges(len(ledger.keys), SHARD)
        clock.append(time.perf_counter())
        setup = Setup(
            place,
            {"detection": {}, "segmentation": {}},
            Component("small"),
            Component("equal"),
            16,
            SHARD,
            1,
            0,
            False,
            "",
        )
        worker = Worker(setup)
        clock.append(time.perf_counter())
        job = SelectJob(str(folder / "scores"), "random", Component("random"), count // 100, 0, 0, ledger.labeled)
        bought = worker.select(job)
        clock.append(time.perf_counter())
        after = ledger.buy({pick.key: pick.tasks for pick in bought}, 1)
        write_table(folder / "bought.parquet", cycle.bought_table(bought))
        clock.append(time.perf_counter())
        assert len(bought) == count // 100
        assert len(shards) == -(-len(ledger.keys) // SHARD)
        assert after.labeled.sum() == 2 * (count // 100)
        plan, start, select, write = np.diff(clock).tolist()
        return {"plan": plan, "start": start, "select": select, "write": write, "peak": peak() / 2**30}


class Ready:
    """Workers that answer at once: what is left is the process that directs them."""

    def fit(self, job: FitJob) -> Fitted:
        return Fitted(f"{job.folder}/model.pt", job.steps, 0, {})

    def evaluate(self, checkpoint: str, split: str) -> dict[str, float]:
        return {"detection.map": 0.5, "segmentation.miou": 0.5}

    def score(self, job: ScoreJob) -> Scored:
        return Scored(len(job.labeled), 1.0)

    def select(self, job: SelectJob) -> list[Bought]:
        rows = np.flatnonzero(~job.labeled)[: job.budget].tolist()
        return [Bought(str(row), int(self.keys[row]), ("detection", "segmentation"), 0.0, {}) for row in rows]

    def explain(self, job: ExplainJob) -> None: ...

    def label_cost(
        self, rows: NDArray[np.int64], has: NDArray[np.bool_], labels: tuple[str, ...] = ()
    ) -> dict[str, float]:
        return {"seconds": float(len(rows))}

    def close(self) -> None: ...

    keys: NDArray[np.uint64]


def driver(count: int) -> dict[str, float]:
    """The peak of memory in bytes of a trial's own process, over three cycles."""
    with tempfile.TemporaryDirectory() as place:
        subprocess.run([sys.executable, __file__, "--write", str(count), "--folder", place, "--bare"], check=True)
        changes = {"active": {"initial": 100, "budget": {"amount": 100}, "cycles": 3}}
        experiment = experiment_of(tiny(Path(place) / "runs", **changes), "generated")
        reference = {
            "metrics": {"detection.map": 0.6, "segmentation.miou": 0.6},
            "higher_is_better": {"detection.map": True, "segmentation.miou": True},
        }
        manifest, workers = Manifest.open(Path(place)), Ready()
        workers.keys = manifest.keys("train")
        trial = cycle.Trial(experiment, "random", 0, RunFolder(Path(place) / "runs" / "tiny"), manifest, reference)
        assert [one.index for one in cycle.run(trial, workers)] == [0, 1, 2, 3]
        return {"peak": peak()}


def asked(what: str, count: int) -> dict[str, float]:
    done = subprocess.run(
        [sys.executable, __file__, f"--{what}", str(count)], check=True, capture_output=True, text=True
    )
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def report_pool(sizes: Sequence[int]) -> None:
    parts = []
    for count in sizes:
        found = asked("pool", count)
        each = sum(found[step] for step in ("plan", "select", "write")) / count * 1e6
        parts.append(
            f"{count:,} records: plan {found['plan']:.2f} s, choose 1 % {found['select']:.2f} s, write "
            f"{found['write']:.2f} s = {each:.2f} s a million, peak {found['peak']:.2f} GiB"
        )
    record("; ".join(parts) + " (target: minutes, below 4 GiB, linear) [manifest and scores generated]")


def report_driver() -> None:
    small, large = (asked("driver", count)["peak"] for count in (10**4, 10**6))
    record(
        f"a trial's own process: {(large - small) / (10**6 - 10**4):.1f} bytes a record more with 10^6 records than "
        f"with 10^4 ({small / 2**20:.0f} -> {large / 2**20:.0f} MiB) (target: at most 64) "
        "[manifest generated, workers stubbed; memory does not depend on the load]"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=("pool", "driver"))
    parser.add_argument("--pool", type=int)
    parser.add_argument("--driver", type=int)
    parser.add_argument("--write", type=int)
    parser.add_argument("--bare", action="store_true", help="without scores")
    parser.add_argument("--folder", type=Path)
    words = parser.parse_args()
    if words.write is not None:
        write_records(words.folder, words.write)
        if not words.bare:
            manifest = Manifest.open(words.folder)
            ledger = Pool.initial(manifest.keys("train"), ("detection", "segmentation"), words.write // 100, 0)
            write_scores(words.folder / "scores", manifest, ledger.labeled)
    elif words.pool is not None or words.driver is not None:
        print(json.dumps(pool(words.pool) if words.pool is not None else driver(words.driver)))
    else:
        if words.only != "driver":
            report_pool((10**5, 10**6, 10**7))
        if words.only != "pool":
            report_driver()


if __name__ == "__main__":
    main()
