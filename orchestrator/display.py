"""How far the work is: live bars in a terminal, a line now and then in a log file."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

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

WORDS = {"fit": "training", "evaluate": "evaluating", "score": "scoring", "explain": "drawing", "prepare": "reading"}
EVERY = 10.0  # seconds between lines of a log file


class Display:
    """Progress of several units at a time; safe to call from any thread."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self._bars: dict[str, TaskID] = {}
        self._lines: dict[str, tuple[float, str]] = {}
        self._last: dict[str, tuple[str, int]] = {}
        self._lock = threading.Lock()
        self._progress = Progress(
            TextColumn("{task.fields[unit]:<28}", markup=False),
            TextColumn("{task.fields[phase]:<11}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
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
        self.console.print(f"  done in {time.monotonic() - start:.0f} s")

    def update(self, unit: str, phase: str, done: int, total: int) -> None:
        """Unit ``unit`` has done ``done`` of ``total`` (0 = not known) steps or images of a phase."""
        word = WORDS.get(phase, phase)
        with self._lock:
            if self._last.get(unit) == (phase, done):
                return
            self._last[unit] = (phase, done)
            if self.console.is_terminal:
                if unit not in self._bars:
                    self._bars[unit] = self._progress.add_task("", unit=unit, phase=word)
                bar = self._bars[unit]
                if self._progress.tasks[self._progress.task_ids.index(bar)].fields["phase"] != word:
                    self._progress.reset(bar, total=total or None)
                self._progress.update(bar, phase=word, completed=done, total=total or None)
                return
            now = time.monotonic()
            then, ended = self._lines.setdefault(unit, (now, ""))  # a last line, and the phase that ended with it
            ends = done == total and ended != word
            if ends or now - then >= EVERY:
                self._lines[unit] = (now, word if ends else ended)
                line = f"  {unit}: {word} {done}{f'/{total}' if total else ''}"
                self.console.print(line, highlight=False, markup=False, soft_wrap=True)
