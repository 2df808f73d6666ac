"""A trained run, opened from its workdir alone."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax

from diffjax.data.tokenizer_joint import AnyTokenizer
from diffjax.interop.sizes import blamed_on
from diffjax.runs.config import read_config
from diffjax.runs.frozen import read_frozen
from diffjax.runs.pieces import build_task
from diffjax.runs.released import read_released
from diffjax.runs.resolved import FILE, Resolved, read_resolved
from diffjax.runs.tokenizer import read_tokenizer
from diffjax.task import Task, Variables
from diffjax.train.weights import Weights, check_shapes, read_weights


@dataclass(frozen=True, eq=False)
class TrainedRun:
    """Attributes:
    workdir: its folder.
    config: its `config.json`.
    resolved: how it was built.
    step: of the checkpoint.
    ema: the average that its parameters are; None for the trained parameters themselves.
    task: but for what training's loss alone reads (a perceptual network).
    variables: of the task, on the default device.
    tokenizer: of its texts; None without one.
    """

    workdir: Path
    config: Mapping[str, Any]
    resolved: Resolved
    step: int
    ema: str | None
    task: Task
    variables: Variables
    tokenizer: AnyTokenizer | None

    @property
    def kind(self) -> str:
        """The type of its task."""
        return str(self.resolved.task.get("type"))

    @property
    def network(self) -> nn.Module:
        """The network that was trained."""
        return self.task.network  # type: ignore[attr-defined]

    @property
    def image_shape(self) -> tuple[int, ...]:
        """Shape of one `image` of a batch, see `Resolved`."""
        return self.resolved.image_shape

    @property
    def class_names(self) -> tuple[str, ...]:
        """One per class of the data, or empty."""
        return self.resolved.class_names


def open_run(workdir: Path | str, step: int | None = None, ema: str | None = None) -> TrainedRun:
    """The run in `workdir`, whatever machine it was trained on and wherever it has been moved.

    Of the checkpoint the parameters or one average are read and nothing else; no data, no other run
    and no code of a config is looked for.

    Args:
      step: of the checkpoint; by default the latest good one.
      ema: an average of the parameters; by default the trained ones themselves.

    Raises:
      ValueError: one line: no run, or one of before `resolved.json`; no such checkpoint or average;
        whatever is damaged.
    """
    workdir = Path(workdir)
    config = read_config(workdir)
    resolved = read_resolved(workdir)
    _check_average(workdir, resolved, ema)
    task, expected = _built(workdir, resolved)
    shapes = Weights(0, expected.params, expected.model_state)
    weights = read_weights(workdir / "checkpoints", step, ema, shapes)
    if weights is None:
        raise ValueError(f"{workdir} holds no checkpoint: train it first")
    frozen = {}
    for name, network in resolved.frozen.items():
        like = expected.frozen[name]
        frozen[name] = (
            read_released(name, network, like)
            if network.file is None
            else read_frozen(workdir, name, network)
        )
        check_shapes(f"{workdir}: frozen.{name}", frozen[name], like)
    tokenizer = resolved.tokenizer and read_tokenizer(workdir, resolved.tokenizer)
    variables = jax.device_put(Variables(weights.params, weights.model_state, frozen))
    return TrainedRun(
        workdir, config, resolved, weights.step, ema, task, variables, tokenizer or None
    )


def _check_average(workdir: Path, resolved: Resolved, ema: str | None) -> None:
    if ema is not None and ema not in resolved.emas:
        known = ", ".join(resolved.emas) or "none"
        raise ValueError(f"ema={ema!r} is not kept by {workdir}; kept: {known}")


def _built(workdir: Path, resolved: Resolved) -> tuple[Task, Variables]:
    """The task and the shapes of its variables."""
    with blamed_on(workdir / FILE), _uncollected():
        task = build_task(resolved)
        batch = {
            name: jax.ShapeDtypeStruct((1, *field.shape), field.dtype)
            for name, field in resolved.batch.items()
        }
        expected = jax.eval_shape(lambda key: task.init(key, batch), jax.random.key(0))
        if set(expected.frozen) != set(resolved.frozen):
            raise ValueError(
                f"it has the frozen networks {', '.join(resolved.frozen) or 'none'}, but its task "
                f"has {', '.join(expected.frozen) or 'none'}"
            )
    return task, expected


@contextlib.contextmanager
def _uncollected() -> Iterator[None]:
    """Tracing makes many objects and little garbage: looking for it takes a fifth of the time."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()
