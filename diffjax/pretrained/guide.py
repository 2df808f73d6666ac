"""Config section `guide`: the run whose network autoguidance moves away from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from diffjax.choices import construct
from diffjax.denoisers.model import DiffusionModel
from diffjax.pretrained.reference import Reference
from diffjax.pretrained.stage import held_variables
from diffjax.runs.resolved import Resolved
from diffjax.tasks.diffusion import DiffusionTask


@dataclass(frozen=True)
class GuideConfig(Reference):
    """A smaller or less trained run of the same data (Karras et al. 2024a), see `Reference`."""

    section: ClassVar[str] = "guide"
    released: ClassVar[tuple[str, ...]] = ()


@dataclass(frozen=True, eq=False)
class Guide:
    """Attributes:
    model: the diffusion model of the run.
    variables: its `params` and `frozen`, on the host.
    resolved: how it was built.
    """

    model: DiffusionModel
    variables: Mapping[str, Any]
    resolved: Resolved


def load_guide(reference: Mapping[str, Any]) -> Guide:
    """The guide of a config section, see `GuideConfig`.

    Raises:
      ValueError: no such run, or one of another task.
    """
    choices: GuideConfig = construct(GuideConfig, "guide", reference)
    run = choices.open()
    if not isinstance(run.task, DiffusionTask):
        raise ValueError(f"guide.run={choices.run} is a run of task {run.kind!r}, not of diffusion")
    return Guide(run.task.model, held_variables(run), run.resolved)
