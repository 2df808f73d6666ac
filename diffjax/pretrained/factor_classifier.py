"""Config section `factor_classifier`: the run that says what factors a drawn picture shows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from jax.sharding import Mesh

from diffjax.choices import construct
from diffjax.evals.factor_classifier import FactorClassifier
from diffjax.evals.features import FeatureExtractor
from diffjax.pretrained.clip import over_mesh
from diffjax.pretrained.reference import Reference
from diffjax.tasks.factors import FactorsTask


@dataclass(frozen=True)
class FactorClassifierConfig(Reference):
    """A run of the task `factors`, of the same data, see `Reference`."""

    section: ClassVar[str] = "factor_classifier"
    released: ClassVar[tuple[str, ...]] = ()


def factor_classifier(task: Any, variables: Any, name: str) -> FactorClassifier:
    """The classifier of a task and its variables, or their shapes, called `name`.

    Raises:
      ValueError: another task.
    """
    if not isinstance(task, FactorsTask):
        raise ValueError(
            f"factor_classifier: {name} is no run of task 'factors', which names several factors "
            "of a picture"
        )
    network = FeatureExtractor(task.features_and_logits, variables, name)
    return FactorClassifier(network, dict(zip(task.factors, task.words, strict=True)))


def make_factor_classifier(
    section: Mapping[str, Any] | None, mesh: Mesh
) -> FactorClassifier | None:
    """The classifier of a config's `factor_classifier` section, None where it has none.

    Args:
      mesh: of the run that is measured.

    Raises:
      ValueError: a wrong section, or a run that cannot be read or is of another task.
    """
    if not section:
        return None
    choices: FactorClassifierConfig = construct(
        FactorClassifierConfig, "factor_classifier", section
    )
    run = choices.open()
    return factor_classifier(run.task, over_mesh(run.variables, mesh), run.workdir.name)
