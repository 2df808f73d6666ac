"""Sampler x steps x guidance x seeds on digits: the grid to copy for an ablation of your own."""

from __future__ import annotations

from diffjax.sweeps.grid import AxisPlot, Sweep, TradeOff
from diffjax.sweeps.study import Study


def get_study() -> Study:
    sweep = Sweep(
        name="digits_grid",
        run="runs/digits",
        axes={
            "eval.sampler": ("ddim", "ddpm", "dpmpp_2m"),
            "eval.steps": (5, 10, 20, 40),
            "eval.guidance": (1.0, 2.0, 4.0),
        },
        seeds=(0, 1),
        metrics=("frechet", "precision", "recall", "class_accuracy"),
        baseline={"eval.sampler": "ddim"},
        plots=(
            AxisPlot("frechet", "eval.steps", "eval.sampler", "eval.guidance"),
            AxisPlot("class_accuracy", "eval.steps", "eval.sampler", "eval.guidance"),
            TradeOff("recall", "precision", "eval.guidance", "eval.sampler"),
        ),
    )
    return Study(sweep, {"type": "generation", "num_samples": 200}, ema="slow")
