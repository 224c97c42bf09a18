"""Progress: lines in a log file, bars in a terminal, nothing twice."""

from io import StringIO

import pytest
from rich.console import Console

from orchestrator import display
from orchestrator.display import Display


class Clock:
    """A clock that a test sets."""

    now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(display, "time", clock)
    return clock


def log() -> tuple[Display, StringIO]:
    file = StringIO()
    return Display(Console(file=file, width=120)), file


def lines(file: StringIO) -> list[str]:
    return [line for line in file.getvalue().splitlines() if not line.startswith("  done in")]


def test_a_log_gets_a_line_at_the_end_of_each_phase_and_no_control_characters(clock: Clock) -> None:
    shown, file = log()
    with shown.shown("the arms: 1 to do"):
        for phase in ("fit", "evaluate", "score", "fit"):
            for done in range(1, 6):
                shown.update("random, seed 0", phase, done, 5)
    assert lines(file) == [
        "the arms: 1 to do",
        "  random, seed 0: training 5/5",
        "  random, seed 0: evaluating 5/5",
        "  random, seed 0: scoring 5/5",
        "  random, seed 0: training 5/5",
    ]
    assert "\x1b" not in file.getvalue()
    assert "\r" not in file.getvalue()


def test_a_long_phase_tells_every_few_seconds(clock: Clock) -> None:
    shown, file = log()
    with shown.shown("reading"):
        for done in range(1, 51):
            clock.now += 1.0
            shown.update("streets", "prepare", done, 0)
    assert lines(file) == ["reading", *(f"  streets: reading {n}, 1.0 images/s" for n in (11, 21, 31, 41))]


def test_a_long_phase_tells_how_fast_it_is_and_what_is_left(clock: Clock) -> None:
    shown, file = log()
    with shown.shown("the arms"):
        for done in (500, 600, 1100, 2100):  # the first 500 were there: they count for nothing
            shown.update("boxmask, seed 0", "score", done, 10_000)
            clock.now += 10.0
        shown.update("boxmask, seed 0", "fit", 1, 2000)
        clock.now += 12.5
        shown.update("boxmask, seed 0", "fit", 11, 2000)
    assert lines(file)[1:] == [
        "  boxmask, seed 0: scoring 600/10000, 10 images/s, 0:15:40 left",
        "  boxmask, seed 0: scoring 1100/10000, 30 images/s, 0:04:57 left",
        "  boxmask, seed 0: scoring 2100/10000, 53 images/s, 0:02:28 left",
        "  boxmask, seed 0: training 1/2000",
        "  boxmask, seed 0: training 11/2000, 0.8 steps/s, 0:41:26 left",
    ]


def test_what_counts_nothing_is_told_at_once(clock: Clock) -> None:
    shown, file = log()
    with shown.shown("the arms"):
        for minute in (0, 0, 1):
            shown.update("the cluster", f"waiting for room, {minute} of 5 minutes", 0, 0)
    assert lines(file)[1:] == [f"  the cluster: waiting for room, {minute} of 5 minutes" for minute in (0, 1)]


def test_the_same_state_is_told_once(clock: Clock) -> None:
    shown, file = log()
    with shown.shown("the arms"):
        for _ in range(40):  # a watcher asks again and again
            clock.now += 1.0
            shown.update("random, seed 0", "fit", 5, 5)
            shown.update("boxmask, seed 0", "fit", 3, 5)
    assert lines(file) == ["the arms", "  random, seed 0: training 5/5"]


def test_several_shards_of_one_phase_are_one_line(clock: Clock) -> None:
    shown, file = log()
    with shown.shown("the arms"):
        for total in (5, 5, 2):
            for done in range(1, total + 1):
                shown.update("random, seed 0", "evaluate", done, total)
    assert lines(file) == ["the arms", "  random, seed 0: evaluating 5/5"]


def test_brackets_in_names_are_no_markup(clock: Clock) -> None:
    shown, file = log()
    with shown.shown("scoring photos[/red]"):
        shown.update("photos[/red]", "score", 1, 1)
    assert lines(file) == ["scoring photos[/red]", "  photos[/red]: scoring 1/1"]


def test_an_error_ends_the_block_without_a_word_of_success() -> None:
    shown, file = log()
    with pytest.raises(ValueError, match="broken"), shown.shown("the arms"):
        raise ValueError("broken")
    assert "done" not in file.getvalue()


def test_a_terminal_gets_bars_that_go_when_the_block_ends() -> None:
    file = StringIO()
    shown = Display(Console(file=file, width=120, force_terminal=True))
    for _ in range(2):
        with shown.shown("the [arms]"):
            shown.update("photos[/red]", "fit", 1, 2)
            shown.update("photos[/red]", "fit", 2, 2)
            shown.update("photos[/red]", "score", 1, 0)
    text = file.getvalue()
    assert "the [arms]" in text
    assert "photos[/red]" in text
    assert text.rstrip().endswith("s")
    assert text.count("done in") == 2
