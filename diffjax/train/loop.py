"""The train loop, one for every task."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import jax
import numpy as np
from absl import logging

from diffjax.tasks.base import Params, Task
from diffjax.train import sharding
from diffjax.train.checkpoint import Checkpoints
from diffjax.train.ema import EMA
from diffjax.train.guard import NonFiniteError, diagnose, write_bundle
from diffjax.train.optim import Optimizer, learning_rate, make_optimizer
from diffjax.train.progress import Progress
from diffjax.train.state import RUNNING, TrainState
from diffjax.train.step import StepChoices, init_state, make_train_step, several
from diffjax.train.writer import Writer


class Preempted(RuntimeError):
    """The run was told to stop (SIGTERM) and has saved its state."""


class Loader(Protocol):
    """Batches as a function of the step; see `diffjax.data.loader`."""

    def iterate(self, start_step: int) -> Iterator[Mapping[str, np.ndarray]]: ...

    def batch(self, step: int) -> Mapping[str, np.ndarray]: ...

    def batch_spec(self) -> Mapping[str, jax.ShapeDtypeStruct]: ...

    def fingerprint(self) -> Mapping[str, Any]: ...


@dataclass(frozen=True)
class TrainChoices:
    """Config section `train`.

    Attributes:
      steps: updates of the whole run.
      batch_size: images per update, over all devices.
      checkpoint_every: updates between checkpoints.
      log_every: updates between records.
      steps_per_dispatch: updates run by one call into the device.
      grad_accum: microbatches per update.
      on_nonfinite: stop or skip.
      keep: checkpoints kept; keep_every: steps divisible by it are kept for good, 0 for none.
    """

    steps: int
    batch_size: int
    checkpoint_every: int = 1000
    log_every: int = 100
    steps_per_dispatch: int = 1
    grad_accum: int = 1
    on_nonfinite: str = "stop"
    keep: int = 2
    keep_every: int = 0

    def __post_init__(self) -> None:
        k = self.steps_per_dispatch
        for name in ("steps", "checkpoint_every", "log_every", "keep_every"):
            if getattr(self, name) % k:
                raise ValueError(
                    f"train.{name}={getattr(self, name)} is not a multiple of "
                    f"train.steps_per_dispatch={k}: the run could not stop there"
                )
        for name in ("steps", "batch_size", "checkpoint_every", "log_every", "keep"):
            if getattr(self, name) < 1:
                raise ValueError(f"train.{name}={getattr(self, name)} must be at least 1")
        self.step_choices()

    def step_choices(self) -> StepChoices:
        return StepChoices(self.batch_size, self.grad_accum, self.on_nonfinite)


class Evaluations(Protocol):
    """What is measured along the way; the loop writes down whatever it yields."""

    def due(self, step: int, last: bool) -> bool:
        """Whether anything is measured after `step` updates."""
        ...

    def run(
        self, step: int, state: TrainState, frozen: Params, last: bool
    ) -> Iterator[tuple[str, str | None, Iterable[Any]]]:
        """`(evaluator's name, which average of the weights, its records)`, one after another."""
        ...


@dataclass(frozen=True)
class Run:
    """Everything a run is made of."""

    task: Task
    loader: Loader
    choices: TrainChoices
    optimizer: Optimizer
    emas: Mapping[str, EMA]
    mesh: jax.sharding.Mesh
    seed: int
    workdir: Path
    config: Mapping[str, Any]


def build_state(run: Run) -> tuple[TrainState, Params, Any]:
    """Fresh, sharded state and frozen towers, and the state's shardings."""
    sharding.check_batch(run.choices.batch_size, run.choices.grad_accum, run.mesh)
    optimizer = make_optimizer(run.optimizer, run.choices.steps)

    def init(key: jax.Array) -> tuple[TrainState, Params]:
        return init_state(run.task, optimizer, run.emas, key, run.loader.batch_spec())

    key = jax.random.key(run.seed)
    places = sharding.shardings(jax.eval_shape(init, key), run.mesh)
    options = None
    if jax.default_backend() == "cpu":
        # Initialisation runs once: compiling it well costs more than it could save.
        options = {
            "xla_backend_optimization_level": 0,
            "xla_llvm_disable_expensive_passes": True,
        }
    state, frozen = jax.jit(init, out_shardings=places, compiler_options=options)(key)
    return state, frozen, places


def compile_step(run: Run, places: Any) -> Callable:
    """The jitted step (of `steps_per_dispatch` updates), its state donated."""
    optimizer = make_optimizer(run.optimizer, run.choices.steps)
    step = make_train_step(
        run.task, optimizer, run.emas, run.choices.step_choices(), jax.random.key(run.seed)
    )
    stacked = run.choices.steps_per_dispatch > 1
    state_places, _ = places
    return jax.jit(
        several(step) if stacked else step,
        donate_argnums=0,
        out_shardings=(state_places, sharding.replicated(run.mesh)),
    )


def train(run: Run, evaluations: Evaluations | None = None) -> TrainState:
    """Train to the last step, from the latest checkpoint of the workdir when there is one.

    Raises:
      ValueError: the choices, the mesh or the checkpoint do not fit.
      NonFiniteError, SaveError, Preempted: the run stopped early; the state on disk is good.
    """
    with jax.set_mesh(run.mesh):
        state, frozen, places = build_state(run)
        checkpoints = Checkpoints(
            run.workdir / "checkpoints", run.choices.keep, run.choices.keep_every or None
        )
        try:
            state = _resumed(run, checkpoints, state)
            return _loop(run, state, frozen, places, checkpoints, evaluations)
        finally:
            checkpoints.close()


def _resumed(run: Run, checkpoints: Checkpoints, fresh: TrainState) -> TrainState:
    restored = checkpoints.restore(fresh)
    if restored is None:
        return fresh
    state, meta = restored
    here, there = dict(run.loader.fingerprint()), meta["data"]["fingerprint"]
    differ = [k for k in here if here[k] != there.get(k)]
    if differ:
        raise ValueError(
            f"the checkpoint in {run.workdir} was trained on other data: "
            + "; ".join(f"{k} was {there.get(k)!r}, is {here[k]!r}" for k in differ)
        )
    logging.info("Resuming at step %d of %d", int(state.step), run.choices.steps)
    return state


def _meta(run: Run, step: int) -> dict[str, Any]:
    data = {"next_index": step, "fingerprint": dict(run.loader.fingerprint())}
    return {"config": dict(run.config), "data": data, "seed": run.seed}


class _Sigterm:
    """A flag raised by SIGTERM, where signals can be caught (the main thread)."""

    def __init__(self) -> None:
        self.raised = False

    def __enter__(self) -> _Sigterm:
        self._main = threading.current_thread() is threading.main_thread()
        if self._main:
            self._before = signal.signal(signal.SIGTERM, self._note)
        return self

    def _note(self, *_: Any) -> None:
        self.raised = True

    def __exit__(self, *_: Any) -> None:
        if self._main:
            signal.signal(signal.SIGTERM, self._before)


def _dispatches(run: Run, start: int) -> Iterator[tuple[int, dict[str, jax.Array]]]:
    """`(step after the dispatch, its batches on the devices)` from `start` to the end."""
    k, size = run.choices.steps_per_dispatch, run.choices.batch_size
    batches = run.loader.iterate(start)
    for after in range(start + k, run.choices.steps + 1, k):
        if k == 1:
            local = next(batches)
        else:
            group = [next(batches) for _ in range(k)]
            local = {name: np.stack([b[name] for b in group]) for name in group[0]}
        yield after, sharding.to_devices(local, run.mesh, size, stacked=k > 1)


def _loop(
    run: Run,
    state: TrainState,
    frozen: Params,
    places: Any,
    checkpoints: Checkpoints,
    evaluations: Evaluations | None,
) -> TrainState:
    choices, start = run.choices, int(state.step)
    step_fn = compile_step(run, places)
    record = Recorder(run, start)
    window: list[Mapping[str, jax.Array]] = []
    try:
        with _Sigterm() as sigterm:
            for step, batch in _dispatches(run, start):
                state, metrics = step_fn(state, frozen, batch)
                window.append(metrics)
                last = step == choices.steps
                stopping = sigterm.raised or checkpoints.reached_preemption(step)
                logs = step % choices.log_every == 0 or last
                saves = step % choices.checkpoint_every == 0 or last or stopping
                if logs or saves:
                    _check_halted(run, state, frozen)
                if logs:
                    record.scalars(step, window)
                    window = []
                if saves:
                    checkpoints.save(step, state, _meta(run, step))
                if stopping and not last:
                    checkpoints.wait()
                    raise Preempted(
                        f"stopped by SIGTERM at step {step} of {choices.steps}; saved in "
                        f"{checkpoints.folder}: the same command goes on from there"
                    )
                if evaluations is not None and not last and evaluations.due(step, False):
                    record.evaluations(step, evaluations.run(step, state, frozen, False))
        checkpoints.wait()
        if evaluations is not None and evaluations.due(choices.steps, True):
            record.evaluations(choices.steps, evaluations.run(choices.steps, state, frozen, True))
        return state
    finally:
        record.close()


class Recorder:
    """Writes a run's record and moves its progress bar."""

    def __init__(self, run: Run, start: int):
        self._size = run.choices.batch_size
        self._rate = learning_rate(run.optimizer, run.choices.steps)
        self._writer = Writer(run.workdir, active=jax.process_index() == 0)
        before = self._writer.truncate(start) or {}
        self._progress = Progress(run.choices.steps, start)
        self._begun = time.monotonic() - before.get("seconds", 0.0)
        self._mark = (start, time.monotonic())

    def scalars(self, step: int, window: list[Mapping[str, jax.Array]]) -> None:
        """Means over the window since the last record; waits for the device."""
        fetched = jax.device_get(window)
        values = {f"train/{k}": float(np.mean([m[k] for m in fetched])) for k in fetched[0]}
        values["train/nonfinite"] = float(np.sum([m["nonfinite"] for m in fetched]))
        values["train/learning_rate"] = float(self._rate(step - 1))
        now, (marked, since) = time.monotonic(), self._mark
        values["train/images_per_second"] = (step - marked) * self._size / (now - since)
        self._mark = (step, now)
        head = {"images": step * self._size, "seconds": now - self._begun}
        self._writer.scalars(step, {**head, **values})
        self._progress.update(step, values)

    def evaluations(
        self, step: int, results: Iterable[tuple[str, str | None, Iterable[Any]]]
    ) -> None:
        for name, ema, records in results:
            values = self._writer.evaluation(step, name, ema, records)
            shown = "  ".join(f"{k} {v:.4g}" for k, v in values.items())
            self._progress.note(f"step {step:,}  {name}  {shown}")
        self._progress.pause()
        self._mark = (step, time.monotonic())

    def close(self) -> None:
        self._progress.close()
        self._writer.close()


def _check_halted(run: Run, state: TrainState, frozen: Params) -> None:
    """Raises NonFiniteError, with a replay bundle on disk, when the state has halted."""
    step = int(state.halted_at)
    if step == RUNNING:
        return
    batch = run.loader.batch(step)
    key = jax.random.key(run.seed)
    leaves = diagnose(run.task, state, frozen, batch, run.choices.step_choices(), key)
    bundle = write_bundle(run.workdir / "nonfinite", step, batch, leaves, run.seed)
    kept = Checkpoints(bundle / "state")
    kept.save(step, state, _meta(run, step))
    kept.wait()
    kept.close()
    named = "; ".join(leaves[:3]) or "not seen again when the step was replayed"
    raise NonFiniteError(
        f"step {step}: a loss or gradient is not finite ({named}). The state before it and the "
        f"batch are in {bundle}; train.on_nonfinite='skip' leaves such updates out"
    )
