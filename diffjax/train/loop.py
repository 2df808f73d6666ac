"""The train loop, one for every task."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import jax
import numpy as np
from absl import logging

from diffjax.tasks.base import Params, Task
from diffjax.train import sharding
from diffjax.train.checkpoint import Checkpoints, SaveError
from diffjax.train.ema import EMA
from diffjax.train.guard import NonFiniteError, diagnose, write_bundle
from diffjax.train.optim import Optimizer, learning_rate, make_optimizer
from diffjax.train.state import RUNNING, TrainState
from diffjax.train.step import StepChoices, init_state, make_train_step, several
from diffjax.train.writer import Progress, Writer


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
      eval_every: updates between evaluations, 0 for one at the end alone.
      steps_per_dispatch: updates run by one call into the device.
      grad_accum: microbatches per update.
      on_nonfinite: stop or skip.
      keep: checkpoints kept; keep_every: steps divisible by it are kept for good, 0 for none.
    """

    steps: int
    batch_size: int
    checkpoint_every: int = 1000
    log_every: int = 100
    eval_every: int = 0
    steps_per_dispatch: int = 1
    grad_accum: int = 1
    on_nonfinite: str = "stop"
    keep: int = 2
    keep_every: int = 0

    def __post_init__(self) -> None:
        k = self.steps_per_dispatch
        for name in ("steps", "checkpoint_every", "log_every", "eval_every", "keep_every"):
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


# (step, state, frozen) -> None: runs the evaluators and records what they yield.
Evaluate = Callable[[int, TrainState, Params], None]


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


def train(run: Run, evaluate: Evaluate | None = None) -> TrainState:
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
            return _loop(run, state, frozen, places, checkpoints, evaluate)
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
    evaluate: Evaluate | None,
) -> TrainState:
    choices, start = run.choices, int(state.step)
    step_fn = compile_step(run, places)
    rate = learning_rate(run.optimizer, choices.steps)
    writer = Writer(run.workdir)
    writer.truncate(start)
    progress = Progress(choices.steps, start, choices.batch_size)
    window: list[Mapping[str, jax.Array]] = []
    saved = start if checkpoints.steps() else -1
    try:
        with _Sigterm() as sigterm:
            for step, batch in _dispatches(run, start):
                state, metrics = step_fn(state, frozen, batch)
                window.append(metrics)
                if step % choices.log_every == 0:
                    record = _summary(window)
                    window = []
                    _check_halted(run, state, frozen, checkpoints)
                    record["learning_rate"] = float(rate(step - 1))
                    progress.update(step, record)
                    writer.scalars(step, progress.record(record))
                last = step == choices.steps
                stopping = sigterm.raised or checkpoints.reached_preemption(step)
                if step % choices.checkpoint_every == 0 or last or stopping:
                    _check_halted(run, state, frozen, checkpoints)
                    checkpoints.save(step, state, _meta(run, step))
                    saved = step
                if stopping and not last:
                    checkpoints.wait()
                    raise Preempted(
                        f"stopped by SIGTERM at step {step} of {choices.steps}; saved in "
                        f"{checkpoints.folder}: the same command goes on from there"
                    )
                due = choices.eval_every and step % choices.eval_every == 0
                if evaluate is not None and due and not last:
                    progress.pause()
                    evaluate(step, state, frozen)
                    progress.resume()
        checkpoints.wait()
        progress.close()
        if saved != choices.steps and start < choices.steps:
            raise SaveError(f"the last step {choices.steps} was not saved")
        if evaluate is not None:
            evaluate(choices.steps, state, frozen)
        return state
    finally:
        progress.close()
        writer.close()


def _summary(window: list[Mapping[str, jax.Array]]) -> dict[str, float]:
    fetched = jax.device_get(window)
    mean = {k: float(np.mean([m[k] for m in fetched])) for k in fetched[0]}
    mean["nonfinite"] = float(np.sum([m["nonfinite"] for m in fetched]))
    return mean


def _check_halted(run: Run, state: TrainState, frozen: Params, checkpoints: Checkpoints) -> None:
    """Raises NonFiniteError, with a replay bundle on disk, when the state has halted."""
    step = int(state.halted_at)
    if step == RUNNING:
        return
    batch = run.loader.batch(step)
    key = jax.random.key(run.seed)
    leaves = diagnose(run.task, state, frozen, batch, run.choices.step_choices(), key)
    bundle = write_bundle(run.workdir / "nonfinite", step, batch, leaves, run.seed)
    Checkpoints(bundle / "state").save(step, state, _meta(run, step))
    named = "; ".join(leaves[:3]) or "not seen again when the step was replayed"
    raise NonFiniteError(
        f"step {step}: a loss or gradient is not finite ({named}). The state before it and the "
        f"batch are in {bundle}; train.on_nonfinite='skip' leaves such updates out"
    )
