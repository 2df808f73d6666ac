"""Steps x eta on digits: the shape of the DDIM paper's table 1 (see README.md beside this)."""

from __future__ import annotations

from experiments.grid import AxisPlot, Choice, Sweep
from experiments.study import Study

ETAS = (
    Choice("0.0", {"eval.sampler": "ddim", "eval.eta": 0.0}),
    Choice("0.2", {"eval.sampler": "ddim", "eval.eta": 0.2}),
    Choice("0.5", {"eval.sampler": "ddim", "eval.eta": 0.5}),
    Choice("1.0", {"eval.sampler": "ddim", "eval.eta": 1.0}),
    Choice("fixedlarge", {"eval.sampler": "ddpm", "eval.variance": "large"}),
)


def get_study() -> Study:
    sweep = Sweep(
        name="sampler_steps",
        run="runs/digits",
        axes={"eta": ETAS, "eval.steps": (5, 10, 20, 50, 100)},
        seeds=(0, 1),
        metrics=("frechet", "kernel", "precision", "recall", "agreement"),
        baseline={"eta": "0.0"},
        plots=(
            AxisPlot("frechet", "eval.steps", "eta"),
            AxisPlot("agreement", "eval.steps", "eta"),
        ),
    )
    evaluator = {
        "type": "generation",
        "num_samples": 500,
        "pred_kw": {"guidance": 1.0, "spacing": "trailing", "clip": True},
    }
    return Study(sweep, evaluator, ema="slow")
