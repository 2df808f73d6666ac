"""Evaluators: run a task's predict functions over data, yield results and pictures."""

from __future__ import annotations

from functools import partial
from typing import Any

from diffjax.choices import construct, unknown
from diffjax.evals.base import Evaluator
from diffjax.evals.cascade import Cascade
from diffjax.evals.classification import Classification
from diffjax.evals.context import EvalContext
from diffjax.evals.drawn_factors import DrawnFactors
from diffjax.evals.factor_accuracy import FactorAccuracy
from diffjax.evals.factors import Arithmetic, Questions
from diffjax.evals.fid import FID
from diffjax.evals.generation import Generation
from diffjax.evals.latents import Latents
from diffjax.evals.likelihood import Likelihood
from diffjax.evals.linear_probe import LinearProbe
from diffjax.evals.prior import Prior
from diffjax.evals.prompts import Prompts
from diffjax.evals.reconstruction import Reconstruction
from diffjax.evals.retrieval import Neighbours, Retrieval
from diffjax.evals.samples import Samples
from diffjax.evals.trajectory import Trajectory
from diffjax.evals.variations import Variations
from diffjax.evals.zero_shot import ZeroShot

EVALUATORS: dict[str, Any] = {
    "arithmetic": Arithmetic,
    "cascade": Cascade,
    "classification": Classification,
    "drawn_factors": DrawnFactors,
    "factor_accuracy": FactorAccuracy,
    "fid": FID,
    "generation": Generation,
    "latents": Latents,
    "likelihood": Likelihood,
    "linear_probe": LinearProbe,
    "neighbours": Neighbours,
    "prior": Prior,
    "prompts": Prompts,
    "questions": Questions,
    "reconstruction": Reconstruction,
    "retrieval": Retrieval,
    "samples": Samples,
    "trajectory": Trajectory,
    "variations": Variations,
    "zero_shot": ZeroShot,
}


def make_evaluator(type: str, context: EvalContext, **kw: Any) -> Evaluator:
    """The evaluator called `type` with the options of its config section.

    Raises:
      ValueError: for a type, an option or a predict function that does not exist.
    """
    if type not in EVALUATORS:
        raise unknown("evaluator", type, EVALUATORS)
    return construct(partial(EVALUATORS[type], context), f"evaluator {type!r}", kw)
