"""Guidance scale on digits: what it buys and what it costs (see README.md beside this)."""

from __future__ import annotations

from experiments.grid import AxisPlot, Sweep, TradeOff
from experiments.study import Study


def get_study() -> Study:
    sweep = Sweep(
        name="guidance_scale",
        run="runs/digits",
        axes={"eval.guidance": (0.0, 1.0, 1.5, 2.0, 3.0, 5.0, 8.0)},
        seeds=(0, 1, 2),
        metrics=("frechet", "kernel", "precision", "recall", "coverage", "agreement",
                 "inception_score"),
        baseline={"eval.guidance": 1.0},
        plots=(
            AxisPlot("frechet", "eval.guidance"),
            AxisPlot("agreement", "eval.guidance"),
            TradeOff("recall", "precision", "eval.guidance"),
            TradeOff("inception_score", "frechet", "eval.guidance"),
        ),
    )  # fmt: skip
    evaluator = {
        "type": "generation",
        "num_samples": 500,
        "pred_kw": {"sampler": "ddim", "steps": 25},
    }
    return Study(sweep, evaluator, ema="slow")
