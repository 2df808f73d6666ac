"""A run's parts, its state and its compiled step."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import jax
import numpy as np

from diffjax.compiler import compiler_options, once_options
from diffjax.keys import root
from diffjax.ranges import Amount, Count, Seed, Whole
from diffjax.task import Params, Task, Variables
from diffjax.train import sharding
from diffjax.train.ema import EMA
from diffjax.train.optim import Optimizer, make_optimizer
from diffjax.train.state import TrainState
from diffjax.train.step import StepConfig, init_state, make_train_step, scan_steps


class Loader(Protocol):
    """Batches as a function of the step; see `diffjax.data.loader`."""

    def iterate(self, start_step: int) -> Iterator[Mapping[str, np.ndarray]]:
        """The rows that this process holds of each batch, in step order; may have a `close`."""
        ...

    def batch(self, step: int, rows: Any = None) -> Mapping[str, np.ndarray]:
        """Some `rows` of one global batch; by default those of this process."""
        ...

    def batch_spec(self) -> Mapping[str, jax.ShapeDtypeStruct]:
        """Shape and dtype of every array of the global batch."""
        ...

    def fingerprint(self) -> Mapping[str, Any]:
        """Equal for two loaders exactly if their global batches are."""
        ...


class Evaluations(Protocol):
    """Evaluations along the way; the loop writes down whatever they yield."""

    def due(self, step: int, last: bool) -> bool:
        """Whether anything is measured after `step` updates."""
        ...

    def run(
        self, step: int, state: TrainState, frozen: Params, last: bool
    ) -> Iterator[tuple[str, str | None, Iterable[Any]]]:
        """`(evaluator's name, which average of the weights, its records)`, one after another;
        nothing is computed before the records are asked for."""
        ...


@dataclass(frozen=True)
class TrainConfig:
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

    steps: Count
    batch_size: Amount
    checkpoint_every: Count = 1000
    log_every: Count = 100
    steps_per_dispatch: Count = 1
    grad_accum: Amount = 1
    on_nonfinite: str = "stop"
    keep: Count = 2
    keep_every: Whole = 0

    def __post_init__(self) -> None:
        k = self.steps_per_dispatch
        for name in ("steps", "batch_size", "checkpoint_every", "log_every", "keep",
                     "steps_per_dispatch", "grad_accum"):  # fmt: skip
            if getattr(self, name) < 1:
                raise ValueError(f"train.{name}={getattr(self, name)} must be at least 1")
        for name in ("steps", "checkpoint_every", "log_every", "keep_every"):
            if getattr(self, name) % k:
                raise ValueError(
                    f"train.{name}={getattr(self, name)} is not a multiple of "
                    f"train.steps_per_dispatch={k}: the run could not stop there"
                )
        self.step_choices()

    def step_choices(self) -> StepConfig:
        """The part of it that the step itself needs."""
        return StepConfig(self.batch_size, self.grad_accum, self.on_nonfinite)


@dataclass(frozen=True)
class Run:
    """Everything a run is made of.

    Attributes:
      init_from: puts given weights in the place of fresh ones.
      begin: called by every process with the frozen towers, before the first step or a further one.
    """

    task: Task
    loader: Loader
    choices: TrainConfig
    optimizer: Optimizer
    emas: Mapping[str, EMA]
    mesh: jax.sharding.Mesh
    seed: Seed
    workdir: Path
    config: Mapping[str, Any]
    init_from: Callable[[Variables], Variables] | None = None
    begin: Callable[[Params], None] | None = None


def build_state(run: Run, replaced: bool = False) -> tuple[TrainState, Params, Any]:
    """Fresh, sharded state and frozen towers, and the shardings of both.

    Averages begin as the parameters do. Where the state is only to be `replaced` by a checkpoint's,
    `run.init_from` is asked for the frozen towers' sake alone: no checkpoint holds those.
    """
    sharding.check_batch(run.choices.batch_size, run.choices.grad_accum, run.mesh)
    optimizer = make_optimizer(run.optimizer, run.choices.steps)

    def init(key: jax.Array) -> tuple[TrainState, Params]:
        return init_state(run.task, optimizer, run.emas, key, run.loader.batch_spec())

    key = root(run.seed)
    places = sharding.shardings(jax.eval_shape(init, key), run.mesh)
    state, frozen = jax.jit(init, out_shardings=places, compiler_options=once_options())(key)
    if run.init_from is not None and (frozen or not replaced):
        params, model_state, frozen = run.init_from(state.variables(frozen))
        averages = {name: jax.tree.map(_copy, params) for name in state.ema}
        state = state.replace(params=params, model_state=model_state, ema=averages)
    return state, frozen, places


def _copy(x: jax.Array) -> jax.Array:
    """A second buffer in the same place: the step gives each of its inputs away."""
    return jax.device_put(x, x.sharding, may_alias=False)


def compile_step(run: Run, places: Any) -> Callable:
    """The jitted step (of `steps_per_dispatch` updates), its state donated."""
    optimizer = make_optimizer(run.optimizer, run.choices.steps)
    step = make_train_step(
        run.task, optimizer, run.emas, run.choices.step_choices(), root(run.seed)
    )
    stacked = run.choices.steps_per_dispatch > 1
    state_places, _ = places
    return jax.jit(
        scan_steps(step) if stacked else step,
        donate_argnums=0,
        out_shardings=(state_places, sharding.replicated(run.mesh)),
        compiler_options=compiler_options(),
    )
