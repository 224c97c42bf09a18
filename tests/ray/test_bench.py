"""mtal bench on a real cluster: one worker and two of the same actors, in turns, and two that train together."""

import csv
from pathlib import Path

import pytest

from tests.ray.conftest import command
from tests.tiny import write_tiny

pytestmark = pytest.mark.ray


@pytest.mark.soak
def test_one_worker_and_two(tmp_path: Path) -> None:
    config = write_tiny(tmp_path / "tiny.yaml", tmp_path)
    words = ["--images", "12", "--shards", "4", "--runs", "1", "--steps", "2", "--out", str(tmp_path / "out")]
    code, text = command("bench", str(config), "--workers", "1,2", *words).finish()
    assert code == 0, text
    with (tmp_path / "out" / "bench.csv").open() as file:
        one, two = csv.DictReader(file)
    assert (one["workers"], two["workers"], two["address"]) == ("1", "2", "local")
    assert all(float(row["images_per_s"]) > 0 and float(row["step_s"]) > 0 for row in (one, two))
    assert float(two["worker_rss_mib"]) > 100
    assert "did not choose the same images" not in text
    assert sorted(path.suffix for path in (tmp_path / "out").iterdir()) == ["", ".csv", ".svg"]

    code, text = command("bench", str(config), "--workers", "1,999", *words).finish()
    assert code == 2, text
    assert "--workers 999: there is room for" in text
