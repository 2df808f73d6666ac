"""EDM's sampler, taken apart: solver, discretisation, clock, rho and churn (see README.md)."""

from __future__ import annotations

from dataclasses import replace

from diffjax.choices import pick
from diffjax.sweeps.claims import Claim, Value, ratio
from diffjax.sweeps.grid import AxisPlot, Choice, Sweep
from diffjax.sweeps.published import Published
from diffjax.sweeps.study import Study


def _ode(label: str, order: int, spacing: str, clock: str, **more: float) -> Choice:
    settings = {"sampler": "ode", "order": order, "spacing": spacing, "clock": clock, **more}
    return Choice(label, {f"eval.{k}": v for k, v in settings.items()})


def _churned(label: str, churn: float, low: float, high: float, noise: float) -> Choice:
    """Algorithm 2 with a row of table 5."""
    settings = {"sampler": "heun", "spacing": "karras", "churn": churn, "churn_min": low,
                "churn_max": high, "churn_noise": noise}  # fmt: skip
    return Choice(label, {f"eval.{k}": v for k, v in settings.items()})


OURS, EULER, LINEAR = "Heun, EDM", "Euler, EDM", "Heun, EDM, rho 1"
# From the solvers of Song et al. 2021b to EDM's, a choice at a time (section 3, figure 2).
SAMPLERS = (
    _ode("Euler, VP", 1, "vp", "vp"),
    _ode("Euler, VE", 1, "log_snr", "ve"),
    _ode(EULER, 1, "karras", "linear"),
    _ode("Heun, VP", 2, "vp", "vp"),
    _ode("Heun, EDM steps, VP clock", 2, "karras", "vp"),
    _ode(OURS, 2, "karras", "linear"),
    _ode(LINEAR, 2, "karras", "linear", rho=1.0),
    _churned("Heun, EDM, churn", 30.0, 0.01, 1.0, 1.007),
)


def _over(sampler: str, steps: int, under: int) -> Value:
    """Its Frechet distance over that of Euler by EDM's levels and clock."""
    at = {"sampler": sampler, "steps": steps}
    return ratio("frechet", at, {"sampler": EULER, "steps": under})


# Measured over seeds 0, 1 and 2 (README.md); a band holds each seed with room on both sides.
CLAIMS = (
    Claim(
        "more steps are better",
        _over(EULER, 5, 9),
        1.6,
        6.0,
        "Frechet distance at 5 steps over that at 9: Euler, EDM's levels and clock",
    ),
    Claim(
        "EDM's levels and clock beat VP's",
        _over("Euler, VP", 9, 9),
        1.5,
        6.0,
        "Frechet distance with VP's over that with EDM's: nine steps of Euler",
    ),
    Claim(
        "and VE's by far",
        _over("Euler, VE", 9, 9),
        30.0,
        1000.0,
        "Frechet distance with VE's over that with EDM's: nine steps of Euler",
    ),
    Claim(
        "more steps are better for Heun",
        ratio("frechet", {"sampler": OURS, "steps": 5}, {"sampler": OURS, "steps": 9}),
        2.0,
        10.0,
        "Frechet distance at 5 steps over that at 9: Heun, EDM's levels and clock",
    ),
    Claim(
        "levels must crowd where noise is least",
        ratio("frechet", {"sampler": LINEAR, "steps": 9}, {"sampler": OURS, "steps": 9}),
        10.0,
        100.0,
        "Frechet distance with rho 1 over that with rho 7: nine steps of Heun",
    ),
)


def _published(metric: str) -> tuple[Published, ...]:
    """The paper's FID by steps is a plot; the one number of it in a table is its last row."""
    source = "Karras et al. 2022, table 2, configuration F, VP, unconditional: 35 evaluations"
    at = ("sampler", "eval.steps")
    return (Published("CIFAR-10", source, metric, at, {(OURS, 18): 1.97}),)


def _sweep(name: str, run: str, metrics: tuple[str, ...], steps: tuple[int, ...]) -> Sweep:
    return Sweep(
        name=name,
        run=run,
        axes={"sampler": SAMPLERS, "eval.steps": steps},
        seeds=(0, 1, 2),
        metrics=metrics,
        baseline={"sampler": OURS},
        plots=(AxisPlot(metrics[0], "eval.steps", "sampler"),),
        published=_published(metrics[0]),
    )


def _digits() -> Study:
    sweep = _sweep(
        "edm_sampler",
        "runs/edm_digits",
        ("frechet", "precision", "recall", "class_accuracy"),
        (5, 9),
    )
    evaluator = {"type": "generation", "num_samples": 400, "groups": 0}
    return Study(sweep, evaluator, ema="slow", config="configs/edm/digits.py", claims=CLAIMS)


def _cifar10() -> Study:
    # The paper's protocol: the least of three draws of 50,000; the table has their mean.
    sweep = _sweep(
        "edm_sampler_cifar10", "edm-cifar10-32x32-uncond-vp.safetensors", ("fid",),
        (9, 18, 35, 128, 512),
    )  # fmt: skip
    evaluator = {"type": "fid", "metrics": ("fid",), "num_samples": 50_000}
    features = {"protocol": "tensorflow", "quantise": "edm"}
    return Study(sweep, evaluator, ema="paper", features=features, release="edm")


def _rho() -> Study:
    """The exponent of the discretisation (eq. 5), 7 in the paper."""
    study = _digits()
    sweep = replace(
        study.sweep,
        name="edm_rho",
        axes={"eval.rho": (1.0, 2.0, 3.0, 5.0, 7.0, 10.0), "eval.steps": (5, 9)},
        baseline={"eval.rho": 7.0},
        plots=(AxisPlot("frechet", "eval.rho", "eval.steps"),),
        published=(),
    )
    pred_kw = {"sampler": "heun", "spacing": "karras"}
    return replace(study, sweep=sweep, evaluator={**study.evaluator, "pred_kw": pred_kw}, claims=())


FORMS = {"digits": _digits, "rho": _rho, "cifar10": _cifar10}


def get_study(form: str | None = None) -> Study:
    return FORMS[pick("form of this study", form or "digits", FORMS)]()
