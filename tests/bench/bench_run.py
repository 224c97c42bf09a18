"""A whole experiment as a user types it: wall time, memory, and what was learned.

python tests/bench/bench_run.py demo
python tests/bench/bench_run.py camvid --set data.root=/data/camvid11
"""

import sys
import tempfile
import time
from pathlib import Path

import psutil

HOME = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(HOME))

from orchestrator.curves import Results  # noqa: E402
from tests.bench.results import record  # noqa: E402


def pss(process: psutil.Process) -> int:
    """Bytes that a process and all below it hold, shared pages divided among those that share them."""
    total = 0
    for one in [process, *process.children(recursive=True)]:
        try:
            total += one.memory_full_info().pss
        except psutil.Error:
            continue
    return total


def main() -> None:
    name, *more = [word for word in sys.argv[1:] if word != "--keep"]
    with tempfile.TemporaryDirectory() as scratch:
        output = "runs" if "--keep" in sys.argv else scratch
        words = [sys.executable, "-W", "ignore", "-m", "orchestrator", "run", name, *more, "--set", f"output={output}"]
        start, peak = time.perf_counter(), 0
        running = psutil.Popen(words, cwd=HOME)
        while running.poll() is None:
            try:
                peak = max(peak, pss(running))
            except psutil.NoSuchProcess:
                break
            time.sleep(5)  # looking at pages costs time, of the run too
        wall = time.perf_counter() - start
        if running.wait() != 0:
            raise SystemExit(f"the run failed: {' '.join(words)}")
        folder = next(p.parent for p in (HOME / output).glob(f"{name}/report.html"))
        record(f"{wall:.0f} s, {peak / 2**30:.2f} GiB (PSS); {learned(Results.load(folder))}")


def learned(results: Results) -> str:
    """The last cycle of each arm, mean over seeds, and the reference."""
    parts = []
    for metric in ("mdsq", "detection.map", "detection.ap50", "segmentation.miou"):
        ends = ", ".join(f"{c.arm} {c.mean[-1]:.3f}" for c in results.curves(metric))
        parts.append(f"{metric}: {ends}")
    full = ", ".join(f"{k} {v:.3f}" for k, v in results.reference.metrics.items()) if results.reference else "none"
    return f"last cycle, {'; '.join(parts)}; fully trained: {full}"


if __name__ == "__main__":
    main()
