"""Steps x eta: the DDIM paper's table 1, on digits or with released weights (see README.md)."""

from __future__ import annotations

from typing import Any

from diffjax.choices import pick
from diffjax.sweeps.claims import Claim, ratio
from diffjax.sweeps.grid import AxisPlot, Choice, Sweep
from diffjax.sweeps.published import table_of
from diffjax.sweeps.study import Study

STEPS = (10, 20, 50, 100, 1000)
# Song et al. 2021a, table 1; fixedlarge is its sigma-hat.
CIFAR10 = {
    "0.0": (13.36, 6.84, 4.67, 4.16, 4.04),
    "0.2": (14.04, 7.11, 4.77, 4.25, 4.09),
    "0.5": (16.66, 8.35, 5.25, 4.46, 4.29),
    "1.0": (41.07, 18.36, 8.01, 5.78, 4.73),
    "fixedlarge": (367.43, 133.37, 32.72, 9.99, 3.17),
}
CELEBA = {
    "0.0": (17.33, 13.73, 9.17, 6.53, 3.51),
    "0.2": (17.66, 14.11, 9.51, 6.79, 3.64),
    "0.5": (19.86, 16.06, 11.01, 8.09, 4.28),
    "1.0": (33.12, 26.03, 18.48, 13.93, 5.98),
    "fixedlarge": (299.71, 183.83, 71.71, 45.20, 3.26),
}


def etas(clip: bool) -> tuple[Choice, ...]:
    """The rows of the table. The paper's code clips x_hat in its DDPM alone."""
    rows = [
        Choice(f"{eta:.1f}", {"eval.sampler": "ddim", "eval.eta": eta, "eval.clip": clip})
        for eta in (0.0, 0.2, 0.5, 1.0)
    ]
    large = {"eval.sampler": "ddpm", "eval.variance": "large", "eval.clip": True}
    return (*rows, Choice("fixedlarge", large))


def _at(eta: str, steps: int) -> dict[str, Any]:
    return {"eta": eta, "steps": steps}


# Measured over seeds 0, 1 and 2 (README.md); a band holds each seed with room on both sides.
CLAIMS = (
    Claim(
        "more steps are better without noise",
        ratio("frechet", _at("0.0", 3), _at("0.0", 10)),
        2.5,
        10.0,
        "Frechet distance at 3 steps over that at 10, eta = 0",
    ),
    Claim(
        "and with it",
        ratio("frechet", _at("1.0", 3), _at("1.0", 10)),
        1.8,
        8.0,
        "the same, eta = 1",
    ),
    Claim(
        "noise costs at few steps",
        ratio("frechet", _at("1.0", 5), _at("0.0", 5)),
        1.2,
        3.0,
        "Frechet distance at eta = 1 over that at eta = 0, 5 steps",
    ),
    Claim(
        "the fixed-large variance is a catastrophe there",
        ratio("frechet", _at("fixedlarge", 5), _at("0.0", 5)),
        5.0,
        40.0,
        "its Frechet distance over that at eta = 0, 5 steps",
    ),
    Claim(
        "and less of one at more steps",
        ratio("frechet", _at("fixedlarge", 3), _at("fixedlarge", 10)),
        5.0,
        40.0,
        "its Frechet distance at 3 steps over that at 10",
    ),
)


def _digits() -> Study:
    sweep = Sweep(
        name="sampler_steps",
        run="runs/digits",
        axes={"eta": etas(clip=True), "eval.steps": (3, 5, 10)},
        seeds=(0, 1, 2),
        metrics=("frechet", "precision", "recall", "class_accuracy"),
        baseline={"eta": "0.0"},
        plots=(
            AxisPlot("frechet", "eval.steps", "eta"),
            AxisPlot("class_accuracy", "eval.steps", "eta"),
        ),
        published=(_published("CIFAR-10", CIFAR10, "frechet", "eval.steps"),),
    )
    evaluator = {
        "type": "generation",
        "num_samples": 400,
        "groups": 0,
        "pred_kw": {"guidance": 1.0, "spacing": "linspace"},
    }
    return Study(sweep, evaluator, ema="slow", config="configs/ddpm/digits.py", claims=CLAIMS)


def _published(name: str, rows: dict, metric: str, steps: str):
    source = f"Song et al. 2021a, table 1, {name}: FID of 50,000 samples"
    return table_of(metric, name, source, ("eta", steps), rows, STEPS)


def _table1(name: str, title: str, run: str, spacing: str, rows: dict) -> Study:
    steps = [
        Choice(n, {"eval.steps": n, "eval.spacing": spacing if n < 1000 else "leading"})
        for n in STEPS
    ]
    sweep = Sweep(
        name=f"ddim_table1_{name}",
        run=run,
        axes={"eta": etas(clip=False), "steps": steps},
        metrics=("fid",),
        baseline={"eta": "0.0"},
        plots=(AxisPlot("fid", "steps", "eta"),),
        published=(_published(title, rows, "fid", "steps"),),
    )
    evaluator = {"type": "fid", "metrics": ("fid",), "num_samples": 50_000}
    # The averages of a run of configs/ddim; released weights are averages already.
    return Study(sweep, evaluator, ema="paper", features={"protocol": "tensorflow"})


FORMS = {
    "digits": _digits,
    # Quadratic steps for CIFAR-10, linear ones elsewhere (section D.2).
    "cifar10": lambda: _table1(
        "cifar10", "CIFAR-10", "google/ddpm-cifar10-32", "quadratic", CIFAR10
    ),
    "celeba64": lambda: _table1(
        "celeba64", "CelebA 64 x 64", "runs/ddim_celeba64", "leading", CELEBA
    ),
}


def get_study(form: str | None = None) -> Study:
    return FORMS[pick("form of this study", form or "digits", FORMS)]()
