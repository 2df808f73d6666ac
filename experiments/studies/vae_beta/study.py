"""Rate against distortion of the digits VAE: beta x seeds, every cell a training run."""

from __future__ import annotations

from diffjax.sweeps.grid import AxisPlot, Sweep, TradeOff
from diffjax.sweeps.study import Study

BETA = "config.task.beta"


def get_study() -> Study:
    sweep = Sweep(
        name="vae_beta",
        run="configs/vae/digits.py",
        axes={BETA: (0.5, 1.0, 2.0, 4.0)},
        seeds=(0, 1, 2),
        metrics=("elbo/nats", "elbo/kl", "elbo/log_likelihood"),
        baseline={BETA: 1.0},
        plots=(
            AxisPlot("elbo/nats", BETA),
            TradeOff("elbo/kl", "elbo/log_likelihood", BETA),
        ),
    )
    evaluator = {"type": "likelihood", "pred": "elbo", "pred_kw": {"samples": 16}}
    return Study(sweep, evaluator, ema="slow")
