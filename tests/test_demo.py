"""The demonstration, whole: it learns, it buys, and its report is complete."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

HOME = Path(__file__).resolve().parents[1]


@pytest.mark.soak  # ``mtal run demo`` as it is; test_readme runs it with few steps
@pytest.mark.timeout(1200)
def test_the_demonstration_learns_and_reports(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "orchestrator", "run", "demo", "--set", f"output={tmp_path}"]
    done = subprocess.run(words, cwd=HOME, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = pq.read_table(tmp_path / "demo" / "cycles.parquet").to_pylist()
    assert len(rows) == 3 * 2 * 4
    last = [row for row in rows if row["cycle"] == 3]
    assert np.mean([row["detection.ap50"] for row in last]) >= 0.25
    assert np.mean([row["segmentation.miou"] for row in last]) >= 0.40
    first = [row for row in rows if row["cycle"] == 0]
    assert np.mean([row["mdsq"] for row in last]) > np.mean([row["mdsq"] for row in first])
    page = (tmp_path / "demo" / "report.html").read_text()
    assert page.count("data:image/") >= 3 * 2 * 6
    assert all(arm in page for arm in ("random", "equal", "boxmask"))
    assert "mDSQ" in done.stdout, done.stdout[-3000:]
    assert "report:" in done.stdout, done.stdout[-3000:]
