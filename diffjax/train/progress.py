"""Progress of a run: a bar on a terminal, one plain line per log interval in a file or pipe."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from typing import Any, TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn
from rich.progress import Progress as Bar


def duration(seconds: float) -> str:
    """`75` as `1:15`, `3700` as `1:01:40`."""
    minutes, secs = divmod(round(max(seconds, 0)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{secs:02d}" if hours else f"{minutes}:{secs:02d}"


class Progress:
    """Shows loss, images per second and time left of a run of `total` steps begun at `start`, or
    of something else that is counted in `unit`.

    Call `update(step)` after every dispatch; give it the scalars when they are on the host.
    """

    def __init__(
        self,
        total: int,
        start: int = 0,
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
        unit: str = "step",
    ):
        self.total = total
        self._unit = unit
        self._stream = stream or sys.stdout
        self._clock = clock
        self._last = (start, clock())
        self._pace: float | None = None  # seconds per step
        self._first = True
        self._bar: Bar | None = None
        self._task = TaskID(0)
        if self._stream.isatty():
            bar = Bar(
                TextColumn(f"[bold]{unit}"),
                MofNCompleteColumn(),
                BarColumn(bar_width=None),
                TextColumn("{task.fields[state]}"),
                console=Console(file=self._stream),
                expand=True,
            )
            self._task = bar.add_task("", total=total, completed=start, state="compiling")
            bar.start()
            self._bar = bar

    def update(self, step: int, scalars: Mapping[str, Any] | None = None) -> None:
        """Moves to `step`; `scalars` may hold `train/loss` and `train/images_per_second`."""
        self._measure(step)
        if self._bar is not None:
            self._bar.update(self._task, completed=step)
            if scalars:
                self._bar.update(self._task, state=self._state(step, scalars))
        elif scalars:
            width = len(f"{self.total:,}")
            line = f"{self._unit} {step:>{width},}/{self.total:,}  {self._state(step, scalars)}"
            print(line, file=self._stream, flush=True)

    def note(self, text: str) -> None:
        """One line of text, above the bar where there is one."""
        if self._bar is not None:
            self._bar.console.print(text, markup=False, highlight=False)
        else:
            print(text, file=self._stream, flush=True)

    def _measure(self, step: int) -> None:
        now = self._clock()
        last_step, last_time = self._last
        if step <= last_step:
            return
        pace = (now - last_time) / (step - last_step)
        # The first interval is compilation. Later ones are averaged over about ten updates.
        if not self._first:
            self._pace = pace if self._pace is None else 0.9 * self._pace + 0.1 * pace
        self._first = False
        self._last = (step, now)

    def pause(self) -> None:
        """Restarts the clock, so that an evaluation or a save does not count as training time."""
        self._last = (self._last[0], self._clock())

    def _state(self, step: int, scalars: Mapping[str, Any]) -> str:
        parts = []
        if "train/loss" in scalars:
            parts.append(f"loss {float(scalars['train/loss']):.4f}")
        if "train/images_per_second" in scalars:
            parts.append(f"{float(scalars['train/images_per_second']):,.0f} images/s")
        if self._pace is not None:
            parts.append(f"{duration(self._pace * (self.total - step))} left")
        return "  ".join(parts)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
