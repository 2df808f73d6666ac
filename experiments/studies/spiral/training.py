"""Trains the spiral's denoiser: the diffusion task and the train loop of every other run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from jax import Array
from ml_collections import ConfigDict

from configs.common import make
from diffjax.choices import construct
from diffjax.denoisers.conditions import make_conditions
from diffjax.denoisers.spaces import DataSpace
from diffjax.diffusion.levels import Level
from diffjax.diffusion.sampling import Estimate
from diffjax.launch.settings import apply_override
from diffjax.models import build_model
from diffjax.models.conditioning import Conditioning
from diffjax.runs.config import check_workdir, plain
from diffjax.tasks import make_task
from diffjax.tasks.diffusion import DiffusionTask
from diffjax.train import sharding
from diffjax.train.ema import EMA
from diffjax.train.loop import Run, TrainConfig, train
from diffjax.train.optim import Optimizer
from experiments.studies.spiral.points import ARMS, PointDenoiser, PointLoader, Spiral


def get_config() -> ConfigDict:
    """The study's run; less than a minute on two CPU cores."""
    return make(
        data=dict(turns=1.25, inner=0.15, noise=0.04),
        model=dict(type="mlp", width=96, depth=2, octaves=4, out_channels=2),
        conditions=dict(label=dict(type="class", drop=0.4)),
        task=dict(
            type="diffusion",
            schedule=dict(type="cosine"),
            prediction=dict(type="v"),
            weighting=dict(type="v_mse"),
            times=dict(type="uniform", antithetic=True),
        ),
        optim=dict(type="adam", lr=4e-3, decay="cosine", warmup_steps=100, clip_norm=1.0),
        ema=dict(slow=dict(half_life=100_000, ramp=0.1)),
        train=dict(
            steps=4000,
            batch_size=256,
            checkpoint_every=2000,
            log_every=500,
            steps_per_dispatch=50,
        ),
    )


def train_spiral(
    workdir: Path, changes: Sequence[str] = ()
) -> tuple[Spiral, DiffusionTask, PointDenoiser]:
    """The data, the task, and its denoiser `(z, level, label) -> Estimate` trained in `workdir`.

    Args:
      workdir: of the run; one that holds it already is not trained again.
      changes: `train.steps=100` and the like.
    """
    sections = get_config()
    for change in changes:
        apply_override(sections, change)
    config = plain(sections)
    spiral = construct(Spiral, "data", config["data"])
    network = build_model(**config["model"], num_classes=ARMS)
    conditions = make_conditions(config["conditions"], ARMS, DataSpace((2,)), {})
    task = make_task(config["task"], network, (2,), ARMS, {"conditions": conditions})
    assert isinstance(task, DiffusionTask)
    choices = construct(TrainConfig, "train", config["train"])
    run = Run(
        task=task,
        loader=PointLoader(spiral, choices.batch_size, config["seed"]),
        choices=choices,
        optimizer=construct(Optimizer, "optim", config["optim"]),
        emas={k: construct(EMA, f"ema.{k}", v) for k, v in config["ema"].items()},
        mesh=construct(sharding.make_mesh, "mesh", config["mesh"]),
        seed=config["seed"],
        workdir=workdir,
        config=config,
    )
    check_workdir(config, workdir)
    state = train(run)
    params = state.variables({}, "slow").params

    def denoise(z: Array, level: Level, label: Array) -> Estimate:
        return task.model.estimate(params, z, level, Conditioning(label=label))

    return spiral, task, denoise
