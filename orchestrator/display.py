"""How far the work is: live bars in a terminal, a line now and then in a log file."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

WORDS = {
    **{"fit": "training", "evaluate": "evaluating", "score": "scoring", "explain": "drawing", "prepare": "reading"},
    **{"export": "writing", "augment": "augmenting", "show": "drawing", "place": "placing"},
}
COUNTED = {"fit": "steps"}  # what a phase counts; images, where nothing is said
EVERY = 10.0  # seconds between lines of a log file


class Display:
    """Progress of several units at a time; safe to call from any thread."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self._bars: dict[str, TaskID] = {}
        self._lines: dict[str, tuple[float, str]] = {}
        self._last: dict[str, tuple[str, int]] = {}
        self._begun: dict[str, tuple[str, float, int]] = {}  # unit: its phase, since when, and with how much done
        self._lock = threading.Lock()
        self._progress = Progress(
            TextColumn("{task.fields[unit]:<28}", markup=False),
            TextColumn("{task.fields[phase]:<11}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]:>14}", markup=False),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
            transient=True,
        )

    @contextmanager
    def shown(self, title: str) -> Iterator[None]:
        """Show bars while the block runs, under a printed title."""
        self.console.print(f"[bold]{escape(title)}[/bold]", highlight=False)
        start = time.monotonic()
        if not self.console.is_terminal:
            yield
        else:
            with self._progress:
                yield
            for bar in self._bars.values():
                self._progress.remove_task(bar)
            self._bars.clear()
        self._lines.clear()
        self._last.clear()
        self._begun.clear()
        self.console.print(f"  done in {time.monotonic() - start:.0f} s")

    def update(self, unit: str, phase: str, done: int, total: int) -> None:
        """Unit ``unit`` has done ``done`` of ``total`` (0 = not known) steps or images of a phase."""
        with self._lock:
            if self._last.get(unit) == (phase, done):
                return
            self._last[unit] = (phase, done)
            speed = self._speed(unit, phase, done)
            if self.console.is_terminal:
                self._draw(unit, phase, done, total, speed)
            else:
                self._write(unit, phase, done, total, speed)

    def _speed(self, unit: str, phase: str, done: int) -> float:
        """Steps or images a second since the phase began; 0 as long as that is not known."""
        now = time.monotonic()
        last, since, before = self._begun.get(unit, ("", now, 0))
        if last != phase or done < before:
            self._begun[unit] = (phase, now, done)
            return 0.0
        return (done - before) / (now - since) if now > since else 0.0

    def _draw(self, unit: str, phase: str, done: int, total: int, speed: float) -> None:
        """Move the bar of a unit."""
        word = WORDS.get(phase, phase)
        if unit not in self._bars:
            self._bars[unit] = self._progress.add_task("", unit=unit, phase=word, rate="")
        bar = self._bars[unit]
        if self._progress.tasks[self._progress.task_ids.index(bar)].fields["phase"] != word:
            self._progress.reset(bar, total=total or None)
        self._progress.update(bar, phase=word, rate=_rate(phase, speed), completed=done, total=total or None)

    def _write(self, unit: str, phase: str, done: int, total: int, speed: float) -> None:
        """A line now and then, and at the end of each phase."""
        word, now = WORDS.get(phase, phase), time.monotonic()
        then, ended = self._lines.setdefault(unit, (now, ""))  # a last line, and the phase that ended with it
        ends = done == total and ended != word
        if ends or now - then >= EVERY:
            self._lines[unit] = (now, word if ends else ended)
            count = f" {done}/{total}" if total else f" {done}" if done else ""
            parts = [f"  {unit}: {word}{count}"]
            if speed:
                parts.append(_rate(phase, speed))
            if speed and total > done:
                parts.append(f"{timedelta(seconds=round((total - done) / speed))} left")
            self.console.print(", ".join(parts), highlight=False, markup=False, soft_wrap=True)


def _rate(phase: str, speed: float) -> str:
    """``84 images/s``; "" where it is not known."""
    return f"{speed:.{0 if speed >= 10 else 1}f} {COUNTED.get(phase, 'images')}/s" if speed else ""
