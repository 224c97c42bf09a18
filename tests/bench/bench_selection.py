"""What choosing costs beside reading what is chosen from.  Run: python tests/bench/bench_selection.py [--only NAME]

``top`` takes the best 100,000 of 10 million scores in parquet shards, against reading the column of scores alone.
``k_center`` makes picks among a million features of 64 numbers in clusters: one pick with every block brought up to
date against one streaming read of the features, and the bytes that a lazy pick reads. ``cdal`` does so with CDAL's
distance over 200,000 contexts of 13 classes. Each in a process of its own, whose peak of memory is told; clusters are
shuffled, keys in order as in a manifest. BLAS has one thread, as has the read. Times are the best of several rounds.
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")  # read when numpy is imported

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

sys.path.insert(0, str(Path(__file__).parents[2]))

from orchestrator.scored import ScoredShard
from orchestrator.store import write_table
from strategies.base import Budget
from strategies.candidates import ShardCandidates, leaders
from strategies.cdal_terms import Block, ContextDistance
from strategies.k_center import Distance, KCenterShard, SquaredL2, k_center_over
from strategies.selection import top_k_over
from tests.bench.results import record

POOL, SHARDS, BEST = 10_000_000, 64, 100_000
MEGA, GIGA = 2**20, 2**30


def best(work: Callable[[], object], rounds: int) -> float:
    """Seconds of the quickest round."""
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)


def resident() -> int:
    """The process's peak of memory so far, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def write_pool(folder: Path) -> list[Path]:
    """Scores as the product writes them: one strategy, sorted by key, ids of a usual length."""
    rng, paths = np.random.default_rng(0), []
    rows, keys = POOL // SHARDS, np.sort(rng.integers(2**64, size=POOL, dtype=np.uint64))  # hashes
    for number in range(SHARDS):
        first = number * rows
        table = {
            "id": pa.array([f"drive/{i:08d}.jpg" for i in range(first, first + rows)]),
            "key": pa.array(keys[first : first + rows]),
            "s.value": pa.array(rng.beta(2, 5, rows)),
            "labeled": pa.array(np.zeros(rows, bool)),
        }
        paths.append(folder / f"shard_{number:05d}.parquet")
        write_table(paths[-1], pa.table(table), sorted_by="key")
    return paths


def top() -> None:
    with tempfile.TemporaryDirectory() as folder:
        words = [sys.executable, __file__, "--only", "write", "--folder", folder]
        subprocess.run(words, check=True)  # its memory is not that of choosing
        paths = sorted(Path(folder).glob("*.parquet"))
        read = best(lambda: [pq.ParquetFile(path).read(["s.value"]) for path in paths], 7)

        def choose() -> np.ndarray:
            return top_k_over([leaders([ScoredShard(path, "s") for path in paths], BEST)], BEST)[1]

        def choose_ids() -> list[str]:
            return ShardCandidates([ScoredShard(path, "s") for path in paths], Budget(BEST), ()).top_k()

        took, to_ids = best(choose, 7), best(choose_ids, 3)
        peak = resident()
        values = np.concatenate([pq.read_table(path, columns=["s.value"])["s.value"].to_numpy() for path in paths])
        expected = np.argsort(-values, kind="stable")[:BEST]
        assert choose_ids() == [f"drive/{i:08d}.jpg" for i in expected]
    record(
        f"top {BEST:,} of {POOL:,} from {SHARDS} parquet shards: {took:.3f} s = {took / read:.1f} times reading the "
        f"score column ({read:.3f} s) (target: at most 3); with the ids, a column of text, {to_ids:.2f} s; "
        f"peak {peak / GIGA:.2f} GiB (target: 1.5)"
    )


def traversal(name: str, features: np.ndarray, distance: Distance, picks: int, target: str) -> None:
    count, size = len(features), features.nbytes
    keys, before = np.arange(count, dtype=np.uint64), resident()
    read = best(lambda: [features[start : start + 16384].max() for start in range(0, count, 16384)], 9)
    shard = KCenterShard(features, keys, np.ones(count, bool), distance)
    shard.farthest()

    def eager() -> None:
        shard.cover(features[shard.rows_read % count][None])
        shard.settle()
        shard.farthest()

    eager()
    took = best(eager, 9)
    shard = KCenterShard(features, keys, np.ones(count, bool), distance)
    k_center_over([shard], 1)
    first, start = shard.rows_read, time.perf_counter()
    chosen = k_center_over([shard], picks)
    lazy = (time.perf_counter() - start) / picks
    share = (shard.rows_read - first) / picks / count
    assert len({row for _, row in chosen}) == picks
    above = (resident() - before) / GIGA
    record(
        f"{name}, {count:,} x {features.shape[1]} float32: one pick without laziness {took * 1e3:.1f} ms = "
        f"{took / read:.2f} times one streaming read ({read * 1e3:.1f} ms){target}; {picks:,} lazy picks "
        f"{lazy * 1e3:.1f} ms each, each reads {share * size / MEGA:.1f} of {size / MEGA:.0f} MiB = 1/{1 / share:.0f} "
        f"(target: at most 1/3); peak {above:.2f} GiB above the features (target: below 1)"
    )


def k_center() -> None:
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((200, 64), dtype=np.float32) * 4
    features = rng.standard_normal((1_000_000, 64), dtype=np.float32)
    for start in range(0, len(features), 65536):
        part = features[start : start + 65536]
        part += centres[rng.integers(0, len(centres), len(part))]
    traversal("k-centre", features, SquaredL2(), 1000, " (target: at most 1.5)")


def cdal() -> None:
    """Contexts of 13 classes around one of 100 scenes, a third of the classes absent."""
    rng, count, classes = np.random.default_rng(0), 200_000, 13
    scenes = rng.dirichlet(np.ones(classes), (100, classes)).astype(np.float32)
    features = np.empty((count, 2 * classes * classes), np.float32)
    for start in range(0, count, 8192):
        part = features[start : start + 8192]
        means = scenes[rng.integers(0, 100, len(part))] * rng.uniform(0.7, 1.3, (len(part), classes, classes))
        means = np.maximum(means / means.sum(-1, keepdims=True), 1e-8)
        means[rng.random((len(part), classes)) < 1 / 3] = 0
        part[:, : classes * classes] = means.reshape(len(part), -1)
        part[:, classes * classes :] = np.log(np.where(means > 0, means, 1)).reshape(len(part), -1)
    traversal("CDAL", features, ContextDistance((Block(0, classes, classes),)), 300, "")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=["top", "k_center", "cdal", "write"])
    parser.add_argument("--folder", type=Path)
    words = parser.parse_args()
    if words.only == "write":
        write_pool(words.folder)
    elif words.only:
        {"top": top, "k_center": k_center, "cdal": cdal}[words.only]()
    else:
        for name in ("top", "k_center", "cdal"):
            subprocess.run([sys.executable, __file__, "--only", name], check=True)


if __name__ == "__main__":
    main()
