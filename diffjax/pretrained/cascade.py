"""Config section `base`: the run that draws the low-resolution images of an upsampler."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from diffjax.choices import construct
from diffjax.data.schema import DatasetInfo
from diffjax.data.tokenizer_joint import AnyTokenizer
from diffjax.denoisers.chain import check_augmentation
from diffjax.denoisers.model import DiffusionModel
from diffjax.diffusion.recipes import make_recipe
from diffjax.pretrained.reference import Reference
from diffjax.pretrained.stage import held_variables, stage_recipe
from diffjax.runs.resolved import Resolved
from diffjax.tasks.diffusion import DiffusionTask


@dataclass(frozen=True)
class BaseConfig(Reference):
    """The stage before in a cascade (Ho et al. 2021), which may have a base too, see `Reference`.

    Attributes:
      recipe: options of `make_recipe`; by default those of the run's `sampling`.
    """

    recipe: Mapping[str, Any] = field(default_factory=dict)
    section: ClassVar[str] = "base"
    released: ClassVar[tuple[str, ...]] = ()


@dataclass(frozen=True, eq=False)
class LoadedBase:
    """Attributes:
    model: the diffusion model of the run.
    recipe: its recipe, see `DiffusionModel.base_recipe`.
    variables: its `params` and `frozen`, on the host.
    resolved: how it was built.
    tokenizer: of the texts that it draws by; None where it draws by none.
    """

    model: DiffusionModel
    recipe: tuple[tuple[str, Any], ...]
    variables: Mapping[str, Any]
    resolved: Resolved
    tokenizer: AnyTokenizer | None

    def check_data(self, info: DatasetInfo) -> None:
        """Refuses a base of other data than an upsampler of the data `info`.

        Raises:
          ValueError: says both.
        """
        own = self.resolved
        if own.data != info.name or own.num_classes != info.num_classes:
            raise ValueError(
                f"the base was trained on {own.data} of {own.num_classes} classes, but this run is "
                f"of {info.name} of {info.num_classes}: take a base of the same data"
            )


def load_base(reference: Mapping[str, Any]) -> LoadedBase:
    """The base of a config section, see `BaseConfig`.

    Raises:
      ValueError: no such run, one of another task, one that draws no images, or a recipe that it
        cannot follow.
    """
    choices: BaseConfig = construct(BaseConfig, "base", reference)
    run = choices.open()
    task = run.task
    if not isinstance(task, DiffusionTask):
        raise ValueError(f"base.run={choices.run} is a run of task {run.kind!r}, not of diffusion")
    if len(task.model.shape) != 3:
        raise ValueError(f"base.run={choices.run} draws states of {task.model.shape}, no images")
    recipe = stage_recipe("base", run, choices.recipe)
    chosen = make_recipe(**recipe)
    task.model.check_guidance(chosen.guidance, False)
    check_augmentation(task.model.conditions, chosen.augmentation)
    said = tuple(sorted(recipe.items()))
    return LoadedBase(task.model, said, held_variables(run), run.resolved, run.tokenizer)
