"""The train loop, one for every task."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Generator, Mapping
from dataclasses import asdict
from typing import Any

import jax
import numpy as np

from diffjax.task import Params
from diffjax.train import sharding
from diffjax.train.checkpoint import Checkpoints
from diffjax.train.guard import NonFiniteError, Skips, diagnose, write_bundle
from diffjax.train.record import Recorder
from diffjax.train.run import Evaluations, Run, TrainConfig, build_state, compile_step
from diffjax.train.state import RUNNING, TrainState

__all__ = ["Evaluations", "Preempted", "Run", "TrainConfig", "build_state", "train"]


class Preempted(RuntimeError):
    """The run was told to stop (SIGTERM) and has saved its state."""


def train(run: Run, evaluations: Evaluations | None = None) -> TrainState:
    """Train to the last step, from the latest checkpoint of the workdir when there is one.

    Raises:
      ValueError: the choices, the mesh or the checkpoint do not fit.
      NonFiniteError, SaveError, Preempted: the run stopped early; the state on disk is good.
    """
    with jax.set_mesh(run.mesh), contextlib.ExitStack() as stack:
        checkpoints = Checkpoints(
            run.workdir / "checkpoints", run.choices.keep, run.choices.keep_every or None
        )
        stack.callback(checkpoints.close)
        state, frozen, places = build_state(run, replaced=bool(checkpoints.steps()))
        if run.begin is not None:
            with checkpoints.guarded():
                run.begin(frozen)
        state, unrecorded, skips = _resumed(run, checkpoints, state)
        sigterm = stack.enter_context(_Sigterm())
        with checkpoints.guarded():
            record = Recorder(run, int(state.step), unrecorded, skips)
        stack.callback(record.close)
        session = _Session(run, frozen, checkpoints, record, evaluations, sigterm)
        return session.train(state, compile_step(run, places))


def _resumed(
    run: Run, checkpoints: Checkpoints, fresh: TrainState
) -> tuple[TrainState, Mapping[str, list[float]], Skips]:
    """The state to go on from, the metrics of its steps that are in no record yet, and how many
    updates it has left out."""
    restored = checkpoints.restore(fresh)
    if restored is None:
        return fresh, {}, Skips()
    state, meta = restored
    here, there = dict(run.loader.fingerprint()), meta["data"]["fingerprint"]
    differ = [k for k in here if here[k] != there.get(k)]
    if differ:
        raise ValueError(
            f"the checkpoint in {run.workdir} was trained on other data: "
            + "; ".join(f"{k} was {there.get(k)!r}, is {here[k]!r}" for k in differ)
        )
    left, k = run.choices.steps - int(state.step), run.choices.steps_per_dispatch
    if left % k:
        raise ValueError(
            f"the checkpoint in {run.workdir} is of step {int(state.step)}, from where "
            f"train.steps_per_dispatch={k} does not lead to step {run.choices.steps}: take 1, or "
            f"another divisor of {left}"
        )
    return state, meta.get("unrecorded", {}), Skips(**meta.get("skips", {}))


class _Sigterm:
    """A flag raised by SIGTERM, where signals can be caught (the main thread). With several
    processes JAX catches it, for they must agree on the step that they save at."""

    def __init__(self) -> None:
        self.raised = False

    def __enter__(self) -> _Sigterm:
        main = threading.current_thread() is threading.main_thread()
        self._caught = main and jax.process_count() == 1
        if self._caught:
            self._before = signal.signal(signal.SIGTERM, self._note)
        return self

    def _note(self, *_: Any) -> None:
        self.raised = True

    def __exit__(self, *_: Any) -> None:
        if self._caught:
            signal.signal(signal.SIGTERM, self._before)


def _dispatches(run: Run, start: int) -> Generator[tuple[int, dict[str, jax.Array]], None, None]:
    """`(step after the dispatch, its batches on the devices)` from `start` to the end."""
    k, size = run.choices.steps_per_dispatch, run.choices.batch_size
    if start >= run.choices.steps:
        return
    batches = run.loader.iterate(start)
    try:
        for after in range(start + k, run.choices.steps + 1, k):
            if k == 1:
                local = next(batches)
            else:
                group = [next(batches) for _ in range(k)]
                local = {name: np.stack([b[name] for b in group]) for name in group[0]}
            yield after, sharding.to_devices(local, run.mesh, size, stacked=k > 1)
    finally:
        getattr(batches, "close", lambda: None)()


class _Session:
    """The steps, saves, records and evaluations of one process's part of a run."""

    def __init__(
        self,
        run: Run,
        frozen: Params,
        checkpoints: Checkpoints,
        record: Recorder,
        evaluations: Evaluations | None,
        sigterm: _Sigterm,
    ):
        self.run, self.frozen, self.checkpoints = run, frozen, checkpoints
        self.record, self.evaluations, self.sigterm = record, evaluations, sigterm
        self._saved: int | None = None

    def train(self, state: TrainState, step_fn: Any) -> TrainState:
        """All steps that are left."""
        choices, start = self.run.choices, int(state.step)
        self._saved = start or None
        if start:  # The run may have been killed during the evaluations of this very step.
            self.evaluate(start, state)
        with contextlib.closing(_dispatches(self.run, start)) as dispatches:
            for step, batch in dispatches:
                state, metrics = step_fn(state, self.frozen, batch)
                self.record.add(metrics)
                last = step == choices.steps
                stopping = self.sigterm.raised or self.checkpoints.reached_preemption(step)
                logs = step % choices.log_every == 0 or last
                saves = step % choices.checkpoint_every == 0 or last or stopping
                if logs or saves:
                    _check_halted(self.run, state, self.frozen)
                if logs:
                    with self.checkpoints.guarded():
                        self.record.scalars(step)
                    _check_skipped(self.run, state, self.frozen, step, self.record.skips)
                if saves:
                    self.save(step, state)
                if stopping and not last:
                    self.stop(step, state)
                self.evaluate(step, state)
        self.checkpoints.wait()
        return state

    def save(self, step: int, state: TrainState) -> None:
        """Starts to save this step."""
        meta = _meta(self.run, step, self.record.unrecorded(), self.record.skips)
        self.checkpoints.save(step, state, meta)
        self._saved = step

    def stop(self, step: int, state: TrainState) -> None:
        """Ends the run here, on disk."""
        if self._saved != step:
            _check_halted(self.run, state, self.frozen)
            self.save(step, state)
        self.checkpoints.wait()
        raise Preempted(
            f"stopped by SIGTERM at step {step} of {self.run.choices.steps}; saved in "
            f"{self.checkpoints.folder}: the same command goes on from there"
        )

    def evaluate(self, step: int, state: TrainState) -> None:
        """The work that is due after this step."""
        last = step == self.run.choices.steps
        if self.evaluations is None or not self.evaluations.due(step, last):
            return
        if last:
            self.checkpoints.wait()

        def check() -> None:
            if self.sigterm.raised:
                self.stop(step, state)

        with self.checkpoints.guarded():
            results = self.evaluations.run(step, state, self.frozen, last)
            self.record.evaluations(step, results, check)


def _meta(
    run: Run, step: int, unrecorded: Mapping[str, list[float]], skips: Skips
) -> dict[str, Any]:
    data = {"next_index": step, "fingerprint": dict(run.loader.fingerprint())}
    return {
        "config": dict(run.config),
        "data": data,
        "seed": run.seed,
        "unrecorded": dict(unrecorded),
        "skips": asdict(skips),
    }


def _check_halted(run: Run, state: TrainState, frozen: Params) -> None:
    """Raises NonFiniteError, with a replay bundle on disk, when the state has halted."""
    step = int(state.halted_at)
    if step == RUNNING:
        return
    leaves = diagnose(run, state, frozen, step)
    folder = run.workdir / "nonfinite"
    bundle = write_bundle(folder, run, step, leaves)
    kept = Checkpoints(bundle / "state")
    if step not in kept.steps():
        kept.save(step, state, _meta(run, step, {}, Skips()))
    kept.wait()
    kept.close()
    named = "; ".join(leaves[:3]) or "not seen again when the step was replayed"
    raise NonFiniteError(
        f"step {step}: a loss or gradient is not finite ({named}). The state before it and the "
        f"batch are in {bundle}: `python -m experiments.replay {bundle}` runs the step again; the "
        "same command with --config.train.on_nonfinite=skip goes on and leaves such updates out"
    )


def _check_skipped(run: Run, state: TrainState, frozen: Params, step: int, skips: Skips) -> None:
    """Raises NonFiniteError where so many updates were left out that nothing is trained."""
    why = skips.excess(step, run.choices.steps) if run.choices.on_nonfinite == "skip" else ""
    if not why:
        return
    leaves = diagnose(run, state, frozen, step - 1) if skips.in_a_row else []
    named = f" ({'; '.join(leaves[:3])})" if leaves else ""
    raise NonFiniteError(
        f"{why}: their loss or gradient is not finite{named}. Lower optim.lr or mend the data; the "
        "same command with --config.train.on_nonfinite=stop stops at such a step and keeps it to "
        "be run again"
    )
