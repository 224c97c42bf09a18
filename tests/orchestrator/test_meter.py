"""Seconds by phase from several threads, steps of training, memory and bytes of this very process."""

import time
from pathlib import Path
from threading import Thread

import pytest

from orchestrator.meter import Meter


def test_phases_add_up_over_threads_and_errors() -> None:
    meter = Meter()

    def work() -> None:
        with meter.phase("work"):
            time.sleep(0.02)

    threads = [Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    with pytest.raises(ZeroDivisionError), meter.phase("failed"):
        _ = 1 // 0
    for thread in threads:
        thread.join()
    found = meter.reading().seconds
    assert set(found) == {"work", "failed"}
    assert found["work"] >= 0.06
    meter.begin()
    assert meter.reading().seconds == {}


def test_waiting_passes_every_item_on() -> None:
    meter = Meter()

    def slow() -> list[int | None]:
        time.sleep(0.02)
        return [1, None, 0]

    assert list(meter.waiting("wait", (item for item in slow()))) == [1, None, 0]
    assert list(meter.waiting("nothing", [])) == []
    assert set(meter.reading().seconds) == {"wait", "nothing"}


def test_the_first_step_of_each_fit_is_not_counted() -> None:
    meter = Meter()
    for steps in (3, 1, 2):
        meter.fit()
        for _ in range(steps):
            meter.step()
    assert len(meter.reading().steps) == 2 + 0 + 1


def test_memory_and_bytes_are_those_of_this_process(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x" * 300_000)
    meter = Meter()
    (tmp_path / "a").read_bytes()
    (tmp_path / "b").write_bytes(b"x" * 200_000)
    found = meter.reading()
    assert found.rss > 2**20
    assert found.pss is None or 0 < found.pss <= found.rss
    assert found.read is None or found.read >= 300_000
    assert found.written is None or 200_000 <= found.written < 300_000
