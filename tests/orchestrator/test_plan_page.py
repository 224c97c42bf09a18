"""The plan as people read it."""

from io import StringIO

import pytest
from rich.console import Console

from orchestrator.config import Cluster
from orchestrator.plan_page import hours_text, plan_lines, plan_table, size_text
from orchestrator.planning import Network, Outlook, Scoring, Speed, Work
from orchestrator.trials import Unit

NETWORK = Network(parameters=1_500_000, kept=6_000_000, training=18_000_000)
PLAN = Outlook(
    images={"train": 1000, "val": 50, "test": 0},
    size=(64, 96),
    works=(
        Work(Unit("reference", "", 0), steps=900, fits=1, judged=0, evaluated=50),
        Work(Unit("initial", "a", 0), steps=100, fits=1, judged=0, evaluated=50),
        Work(
            Unit("arm", "a", 0), 200, 2, 0, 100, (Scoring(600, 1, 2.5, 600), Scoring(500, 1, 2.5, 500)), 400, (100, 100)
        ),
        Work(Unit("arm", "[b]", 0), 200, 2, 0, 100, (Scoring(600, 2, 2, 6000),), 400, (100, 99)),
    ),
    networks={"": NETWORK, "a": NETWORK, "[b]": NETWORK},
    shared_by={Unit("initial", "a", 0): ("a", "[b]")},
)


def text_of(*parts: object) -> str:
    console = Console(width=120, file=StringIO())
    console.print(*parts)
    assert isinstance(console.file, StringIO)
    return console.file.getvalue()


def lines(speed: Speed | None = None, at_a_time: int = 2, needs: Cluster | None = None) -> str:
    needs = needs or Cluster(workers_per_trial=2, gpus_per_worker=1)
    return text_of(plan_lines(PLAN, "as typed", needs, "this machine", at_a_time, 2, speed))


def test_the_table_sums_up() -> None:
    text = text_of(plan_table("mine", PLAN))
    rows = {
        row[0]: row[1:] for row in ([c.strip() for c in line.split("│")[1:-1]] for line in text.splitlines()) if row
    }
    assert rows["reference"] == ["1", "900", "0", "0", "50", "0"]
    assert rows["cycle 0 of all arms"] == ["1", "100", "0", "0", "50", "0"]
    assert rows["a"] == ["1", "200", "1,100", "1,100 to 2,750", "100", "200"]
    assert rows["[b]"] == ["1", "200", "600", "1,200", "100", "199"], "brackets are no markup"
    assert rows["in all"] == ["4", "1,400", "1,700", "2,300 to 3,950", "300", "399"]


def test_the_lines_say_what_it_needs() -> None:
    text = lines()
    assert "1,000 in the pool, 50 val, 0 test (as typed); 64 x 96 px" in text
    assert "a starts with 400, buys 100 x 2 and ends with 600 of 1,000" in text
    assert "[b] starts with 400, buys 100, then 99 and ends with 599 of 1,000" in text
    assert "1.5 M parameters; 6 trainings in all" in text
    assert "2 workers of 1 CPU and 1 GPU" in text
    assert "2 trials on this machine" in text
    assert "36 MB of checkpoints and at most 7.1 kB of scores are kept; up to 36 MB more while trainings run" in text


def test_hours_are_shown_only_when_they_are_known() -> None:
    assert "not known: add --measure, or --step-seconds and --image-seconds" in lines()
    text = " ".join(lines(Speed(36.0, 0.0, "as typed")).split())
    assert "14.0 hours of trials, 28.0 hours of one GPU; done after 11.0 hours (as typed)" in text
    assert "no trial fits here" in lines(Speed(1.0, 1.0, "x"), at_a_time=0)
    assert "no trial: it is too small for one on this machine" in lines(at_a_time=0)
    assert "of one GPU" not in lines(Speed(1.0, 1.0, "x"), needs=Cluster())
    assert "of one GPU" not in lines(Speed(1.0, 1.0, "x", is_of_gpu=False))


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1 kB"), (4_050_000_000, "4.05 GB"), (3 * 10**15, "3e+03 TB")],
)
def test_sizes(count: int, text: str) -> None:
    assert size_text(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(90, "1.5 minutes"), (3600, "1.0 hours"), (864_000, "240 hours (10.0 days)")]
)
def test_times(seconds: float, text: str) -> None:
    assert hours_text(seconds) == text
