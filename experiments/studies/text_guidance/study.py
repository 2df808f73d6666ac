"""Guidance and steps of text to image, judged by truth (see README.md beside this)."""

from __future__ import annotations

from diffjax.sweeps.grid import AxisPlot, Sweep, TradeOff
from diffjax.sweeps.study import Study


def get_study() -> Study:
    guidance = "eval.guidance"
    sweep = Sweep(
        name="text_guidance",
        run="runs/latent_shapes",
        axes={guidance: (1.0, 1.5, 2.0, 3.0, 5.0), "eval.steps": (10, 25, 50)},
        seeds=(0, 1),
        metrics=("objects", "all", "shape", "colour", "size", "clip_score", "frechet"),
        baseline={guidance: 1.5, "eval.steps": 50},
        plots=(
            TradeOff("objects", "frechet", guidance, right="clip_score"),
            AxisPlot("objects", guidance, lines="eval.steps"),
            AxisPlot("frechet", guidance, lines="eval.steps"),
            AxisPlot("clip_score", guidance, lines="eval.steps"),
        ),
    )
    evaluator = {
        "type": "prompts",
        "where": {"num_objects": 1},
        "template": "every",
        "num_prompts": 196,
        "rows": 4,
        "pred_kw": {"sampler": "heun", "churn": 40.0},
    }
    return Study(sweep, evaluator, ema="slow")
