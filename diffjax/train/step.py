"""The train step: one pure function for every task."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import Array

from diffjax.keys import Rng, stream
from diffjax.task import Batch, Params, Task
from diffjax.train.ema import EMA
from diffjax.train.state import RUNNING, TrainState, counter

Metrics = Mapping[str, Array]
Step = Callable[[TrainState, Params, Batch], tuple[TrainState, Metrics]]

POLICIES = ("stop", "skip")


@dataclass(frozen=True)
class StepConfig:
    """Attributes:
    batch_size: images per update, over all devices.
    grad_accum: microbatches that one update is split into.
    on_nonfinite: "stop" freezes the state at the faulty step, "skip" leaves its update out.
    """

    batch_size: int
    grad_accum: int = 1
    on_nonfinite: str = "stop"

    def __post_init__(self) -> None:
        if self.on_nonfinite not in POLICIES:
            raise ValueError(
                f"train.on_nonfinite={self.on_nonfinite!r} is unknown; known: {', '.join(POLICIES)}"
            )
        if self.grad_accum < 1 or self.batch_size % self.grad_accum:
            raise ValueError(
                f"train.batch_size={self.batch_size} is not divisible by "
                f"train.grad_accum={self.grad_accum}"
            )


def init_state(
    task: Task,
    optimizer: optax.GradientTransformation,
    emas: Mapping[str, EMA],
    key: Array,
    batch_spec: Mapping[str, jax.ShapeDtypeStruct],
) -> tuple[TrainState, Params]:
    """A fresh state and the frozen towers."""
    params, model_state, frozen = task.init(stream(key, "init"), batch_spec)
    state = TrainState(
        step=counter(0),
        params=params,
        ema={name: jax.tree.map(jnp.copy, params) for name in emas},
        opt_state=optimizer.init(params),
        model_state=model_state,
        halted_at=counter(RUNNING),
    )
    return state, frozen


def make_train_step(
    task: Task,
    optimizer: optax.GradientTransformation,
    emas: Mapping[str, EMA],
    choices: StepConfig,
    key: Array,
) -> Step:
    """`train_step(state, frozen, batch) -> (state, metrics)`, pure.

    The noise of update i depends on the run's key, i, and an example's row in the global batch:
    not on microbatches, devices, or whether the run was resumed.
    """
    train_key = stream(key, "train")

    def train_step(state: TrainState, frozen: Params, batch: Batch) -> tuple[TrainState, Metrics]:
        step_key = jax.random.fold_in(train_key, state.step)
        grads, metrics, model_state = gradients(task, state, frozen, batch, step_key, choices)
        norm = optax.tree.norm(grads)
        metrics = {**metrics, "grad_norm": norm}
        finite = jnp.isfinite(metrics["loss"]) & jnp.isfinite(norm)
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        ema = {
            name: rule.update(state.ema[name], params, state.step, choices.batch_size)
            for name, rule in emas.items()
        }
        after = state.replace(
            step=state.step + 1,
            params=params,
            ema=ema,
            opt_state=opt_state,
            model_state=model_state,
        )
        return _guarded(state, after, finite, choices.on_nonfinite), {
            **metrics,
            "nonfinite": 1 - finite.astype(jnp.float32),
        }

    return train_step


def _guarded(before: TrainState, after: TrainState, finite: Array, policy: str) -> TrainState:
    running = before.halted_at == RUNNING
    accept = finite & running
    state = jax.tree.map(lambda a, b: jnp.where(accept, b, a), before, after)
    if policy == "skip":
        return state.replace(step=before.step + 1)
    halted = jnp.where(running & ~finite, before.step, before.halted_at)
    return state.replace(halted_at=halted)


def gradients(
    task: Task, state: TrainState, frozen: Params, batch: Batch, key: Array, choices: StepConfig
) -> tuple[Params, dict[str, Array], Params]:
    """Mean gradient, mean metrics and new model state of one global batch, in microbatches."""

    def objective(params: Params, model_state: Params, part: Batch, rows: Array) -> Any:
        rng = Rng(key, rows, choices.batch_size, state.step)
        out = task.loss(params, model_state, frozen, part, rng, True)
        metrics = {"loss": out.loss, **out.metrics}
        return out.loss.mean(), ({k: jnp.mean(v) for k, v in metrics.items()}, out.model_state)

    gradient = jax.grad(objective, has_aux=True)
    rows = jnp.arange(choices.batch_size, dtype=jnp.int32)
    n = choices.grad_accum
    if n == 1:
        grads, (metrics, model_state) = gradient(state.params, state.model_state, batch, rows)
        return grads, metrics, model_state

    # Microbatch i takes rows i, i + n, ...: every device keeps its own rows.
    parts = jax.tree.map(
        lambda a: jnp.moveaxis(a.reshape(len(a) // n, n, *a.shape[1:]), 1, 0), (batch, rows)
    )

    def body(carry: Any, part: Any) -> Any:
        total, model_state = carry
        grads, (metrics, model_state) = gradient(state.params, model_state, *part)
        return (jax.tree.map(jnp.add, total, grads), model_state), metrics

    zero = jax.tree.map(jnp.zeros_like, state.params)
    (total, model_state), metrics = jax.lax.scan(body, (zero, state.model_state), parts)
    mean = jax.tree.map(lambda g: g / n, total)
    return mean, {k: v.mean() for k, v in metrics.items()}, model_state


def scan_steps(step: Step) -> Step:
    """The step over a stack of batches `[k, B, ...]`, in one dispatch; metrics are `[k]` each."""

    def steps(state: TrainState, frozen: Params, batches: Batch) -> tuple[TrainState, Metrics]:
        return jax.lax.scan(lambda s, b: step(s, frozen, b), state, batches)

    return steps
