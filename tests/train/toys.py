"""Small stand-ins for tasks and data, on which the laws of the train step show."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from diffjax.denoisers.conditions.class_label import ClassCondition
from diffjax.keys import normal
from diffjax.models import build_model
from diffjax.task import LossOutput, Variables
from diffjax.tasks import make_task
from diffjax.train.ema import EMA
from diffjax.train.optim import Optimizer
from diffjax.train.run import Run, TrainConfig
from diffjax.train.sharding import AXES

SHAPE = (2, 2, 2)


class Regression:
    """A linear map fitted to noisy inputs; the noise of an example is its row's own."""

    def init(self, key: jax.Array, batch_spec: Mapping[str, Any]) -> Variables:
        del batch_spec
        kernel = jax.random.normal(key, (8, 3))
        return Variables({"dense": {"kernel": kernel, "bias": jnp.zeros((3,))}}, {}, {})

    def loss(self, params, model_state, frozen, batch, rng, train) -> LossOutput:
        x = batch["image"].reshape(len(batch["image"]), -1)
        x = x + 0.1 * normal(rng.rowwise("noise"), x.shape[1:])
        out = x @ params["dense"]["kernel"] + params["dense"]["bias"]
        error = out - jax.nn.one_hot(batch["label"], 3)
        loss = jnp.mean(error**2, axis=-1)
        return LossOutput(loss, {"size": jnp.abs(out).mean(-1)}, model_state)

    def predict_fns(self):
        return {}


class Batches:
    """Random images; those of step `poisoned` hold a NaN in row 1."""

    def __init__(self, batch_size: int, shape=SHAPE, classes: int = 3, poisoned: int | None = None):
        self.size, self.shape, self.classes, self.poisoned = batch_size, shape, classes, poisoned

    def batch(self, step: int, rows: Any = None) -> dict[str, np.ndarray]:
        random = np.random.default_rng(step)
        image = random.uniform(-1, 1, (self.size, *self.shape)).astype(np.float32)
        label = random.integers(0, self.classes, self.size).astype(np.int32)
        if step == self.poisoned:
            image[1].flat[0] = np.nan
        rows = slice(None) if rows is None else rows
        return {"image": image[rows], "label": label[rows]}

    def iterate(self, start_step: int) -> Iterator[dict[str, np.ndarray]]:
        step = start_step
        while True:
            yield self.batch(step)
            step += 1

    def batch_spec(self) -> dict[str, jax.ShapeDtypeStruct]:
        batch = self.batch(0)
        return {k: jax.ShapeDtypeStruct(v.shape, v.dtype) for k, v in batch.items()}

    def fingerprint(self) -> dict[str, Any]:
        return {"size": self.size}


def diffusion(network: Mapping[str, Any], shape=(8, 8, 1)) -> Any:
    """A class-conditional diffusion task of 3 classes; its times are stratified over the batch."""
    section = {
        "type": "diffusion",
        "schedule": {"type": "cosine"},
        "prediction": {"type": "v"},
        "times": {"type": "uniform", "antithetic": True},
    }
    given = {"num_classes": 3, "out_channels": shape[-1]}
    conditions = {"conditions": (ClassCondition("label", 3, 0.1),)}
    return make_task(section, build_model(**{**given, **network}), shape, 3, conditions)


def autoencoder(network: Mapping[str, Any], shape=(8, 8, 1)) -> Any:
    """An autoencoder of two levels and its rival, whose adaptive weight is a microbatch's."""
    rival = {"type": "patch", "channels": 64, "layers": 1, "norm": "batch"}
    section = {"type": "autoencoder", "discriminator": rival, "disc_start": 1, "kl_weight": 1e-3}
    given = {"channel_mult": (1, 2), "blocks": 1, "norm_groups": 8, "image_channels": shape[-1]}
    return make_task(section, build_model(**{**given, **network}), shape, 0)


DIT = {"type": "dit", "width": 16, "depth": 2, "heads": 2, "patch": 4}
UNET = {
    "type": "unet",
    "channels": 8,
    "channel_mult": (1, 2),
    "blocks": 1,
    "attention_resolutions": (4,),
    "norm_groups": 4,
}


def make_run(
    workdir: Path,
    task: Any = None,
    loader: Any = None,
    mesh: jax.sharding.Mesh | None = None,
    optimizer: Optimizer | None = None,
    emas: Mapping[str, EMA] | None = None,
    **choices: Any,
) -> Run:
    """A run of 8 steps over batches of 8, changed by `choices`."""
    defaults = {"steps": 8, "batch_size": 8, "checkpoint_every": 4, "log_every": 4}
    chosen = TrainConfig(**{**defaults, **choices})
    if mesh is None:
        one = jax.devices()[:1]
        auto = (jax.sharding.AxisType.Auto,) * 3
        mesh = jax.make_mesh((1, 1, 1), AXES, axis_types=auto, devices=one)
    return Run(
        task=task or Regression(),
        loader=loader or Batches(chosen.batch_size),
        choices=chosen,
        optimizer=optimizer or Optimizer(type="sgd", lr=0.1),
        emas={"slow": EMA(half_life=50)} if emas is None else emas,
        mesh=mesh,
        seed=5,
        workdir=workdir,
        config={},
    )
