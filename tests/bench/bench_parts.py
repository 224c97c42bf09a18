"""From labels to placement, from scratch: python tests/bench/bench_parts.py [--out DIR] [--set key=value ...]

``mtal parts engine_parts --address none``: scenes are drawn and exported as Label Studio does, a network is trained on
them, and the rocker arms of the test images are judged, half of which lie wrong. What was missed, or has a status other
than ok, counts as wrong. Exit code 1 below 95 %. A folder that is there is carried on; the time is that of the rest.
"""

import argparse
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from orchestrator.store import read_json
from tests.bench.results import record

HOME = Path(__file__).resolve().parents[2]
TARGET = 0.95


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=HOME / "runs" / "bench_parts")
    parser.add_argument("--set", action="append", default=[])
    asked = parser.parse_args()
    begun = "the rest of it" if asked.out.exists() else "all of it"
    sets = [word for one in asked.set for word in ("--set", one)]
    words = [
        "-W",
        "ignore",
        "-m",
        "orchestrator",
        "parts",
        "engine_parts",
        "--out",
        str(asked.out),
        "--address",
        "none",
    ]
    start = time.monotonic()
    if subprocess.run([sys.executable, *words, *sets], cwd=HOME).returncode:
        raise SystemExit("the chain failed")
    minutes = (time.monotonic() - start) / 60
    found = read_json(asked.out / "placed" / "placement.json")
    share, missed = found["accuracy"], found["accuracy"] < TARGET
    turned = sum(found["confusion"]["wrong"].values())
    record(
        f"mtal parts engine_parts: {found['right']} of {found['labeled']} held-out parts ({turned} lie wrong) have the "
        f"verdict of their labels, {share:.1%} (target 95 %){' MISSED' * missed}; {found['missed']} were not found; "
        f"{begun} took {minutes:.0f} min"
    )
    raise SystemExit(int(missed))


if __name__ == "__main__":
    main()
