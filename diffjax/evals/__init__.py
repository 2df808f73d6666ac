"""Evaluators: run a task's predict functions over data, yield scalars and pictures."""

from __future__ import annotations

import dataclasses
from typing import Any

from diffjax.evals.base import Evaluator
from diffjax.evals.classification import Classification
from diffjax.evals.context import EvalContext, nearest
from diffjax.evals.generation import Generation
from diffjax.evals.likelihood import Likelihood
from diffjax.evals.reconstruction import Reconstruction
from diffjax.evals.samples import Samples
from diffjax.evals.trajectory import Trajectory

EVALUATORS: dict[str, Any] = {
    "classification": Classification,
    "generation": Generation,
    "likelihood": Likelihood,
    "reconstruction": Reconstruction,
    "samples": Samples,
    "trajectory": Trajectory,
}


def make_evaluator(type: str, context: EvalContext, **kw: Any) -> Evaluator:
    """The evaluator called `type` with the options of its config section.

    Raises:
      ValueError: for a type, an option or a predict function that does not exist.
    """
    if type not in EVALUATORS:
        raise ValueError(f"evaluator '{type}' is not known; choose from {sorted(EVALUATORS)}")
    options = [f.name for f in dataclasses.fields(EVALUATORS[type]) if f.name != "context"]
    for key in kw:
        if key not in options:
            raise ValueError(
                f"'{key}' is no option of evaluator '{type}'; the nearest is "
                f"'{nearest(key, options)}'"
            )
    return EVALUATORS[type](context, **kw)
