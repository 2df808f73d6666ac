"""Records of a run: means over the steps since the last record, evaluations, and
the progress shown."""

from __future__ import annotations

import os
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax
import numpy as np

from diffjax.train.guard import Skips
from diffjax.train.optim import learning_rate
from diffjax.train.progress import Progress
from diffjax.train.run import Run
from diffjax.train.writer import Writer

# Dispatches that may be under way: more would only pile up batches on the device.
AHEAD = 8


class Recorder:
    """Writes a run's record and moves its progress bar; only process 0 does either.

    Args:
      start: the step that the run goes on from.
      unrecorded: from the checkpoint, what `unrecorded` said when it was saved, so that the next
        record is the mean over the same steps as that of a run that was not interrupted.
      skips: from the checkpoint, the updates left out up to its step.
    """

    def __init__(
        self,
        run: Run,
        start: int,
        unrecorded: Mapping[str, list[float]] | None = None,
        skips: Skips | None = None,
    ):
        self.skips = skips or Skips()
        self._skipping = run.choices.on_nonfinite == "skip"
        self._size = run.choices.batch_size
        self._rate = learning_rate(run.optimizer, run.choices.steps)
        active = jax.process_index() == 0
        self._writer = Writer(run.workdir, active=active)
        before = self._writer.truncate(start) or {}
        self._resumed = (start, self._writer.evaluated(start))
        self._silent = None if active else open(os.devnull, "w")  # noqa: SIM115 (see close)
        self._progress = Progress(run.choices.steps, start, self._silent or sys.stdout)
        if start:
            self._progress.note(f"resuming at step {start:,} of {run.choices.steps:,}")
        self._begun = time.monotonic() - before.get("seconds", 0.0)
        self._mark = (start, time.monotonic())
        self._running: deque[Mapping[str, jax.Array]] = deque()
        self._window: dict[str, list[float]] = {k: [*v] for k, v in (unrecorded or {}).items()}

    def add(self, metrics: Mapping[str, jax.Array]) -> None:
        """The metrics of one dispatch, [] or [k] each; waits for the one AHEAD before it."""
        self._running.append(metrics)
        if len(self._running) > AHEAD:
            self._fetch()

    def _fetch(self) -> None:
        metrics = jax.device_get(self._running.popleft())
        for name, values in metrics.items():
            self._window.setdefault(name, []).extend(map(float, np.atleast_1d(values)))
        self.skips.add(np.atleast_1d(metrics["nonfinite"]))

    def unrecorded(self) -> dict[str, list[float]]:
        """The metrics of each step since the last record; waits for the device."""
        while self._running:
            self._fetch()
        return self._window

    def scalars(self, step: int) -> None:
        """Means over the steps since the last record, those that were not finite left out."""
        window = self.unrecorded()
        good = np.asarray(window["nonfinite"]) == 0
        values = {
            f"train/{k}": float(np.mean(np.asarray(v)[good])) if good.any() else float("nan")
            for k, v in window.items()
        }
        values["train/nonfinite"] = float((~good).sum())
        if self._skipping:
            values["train/skipped"] = float(self.skips.total)
        values["train/learning_rate"] = float(np.asarray(self._rate(step - 1)))
        now, (marked, since) = time.monotonic(), self._mark
        values["train/images_per_second"] = (step - marked) * self._size / (now - since)
        self._mark, self._window = (step, now), {}
        head = {"images": step * self._size, "seconds": now - self._begun}
        self._writer.scalars(step, {**head, **values})
        self._progress.update(step, values)

    def evaluations(
        self,
        step: int,
        results: Iterable[tuple[str, str | None, Iterable[Any]]],
        check: Callable[[], None],
    ) -> None:
        """Writes what the evaluators yield, but for those that had finished before the run was
        resumed at this step; `check` is called between records and may raise."""

        def checked(records: Iterable[Any]) -> Iterable[Any]:
            for record in records:
                yield record
                check()

        for name, ema, records in results:
            if (at := self._resumed)[0] == step and name in at[1]:
                continue
            values = self._writer.evaluation(step, name, ema, checked(records))
            shown = "  ".join(f"{k} {v:.4g}" for k, v in values.items())
            self._progress.note(f"step {step:,}  {name}  {shown}")
        self._progress.pause()
        self._mark = (step, time.monotonic())

    def close(self) -> None:
        """Ends the bar and closes the files."""
        self._progress.close()
        self._writer.close()
        if self._silent is not None:
            self._silent.close()
