"""Config section `prior`: the run by which a decoder draws image embeddings of texts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from diffjax.choices import construct
from diffjax.data.tokenizer_joint import AnyTokenizer
from diffjax.denoisers.embeddings import EmbeddingSpace
from diffjax.denoisers.prior import EmbeddingModel
from diffjax.pretrained.reference import Reference
from diffjax.pretrained.stage import held_variables, stage_recipe
from diffjax.ranges import Amount
from diffjax.runs.resolved import Resolved
from diffjax.tasks.autoregressive import AutoregressivePriorTask
from diffjax.tasks.diffusion import DiffusionTask


@dataclass(frozen=True)
class PriorConfig(Reference):
    """A run of a prior, of diffusion in embeddings or an autoregressive one of their codes (Ramesh
    et al. 2022, section 2.2), see `Reference`.

    Attributes:
      best_of: of so many embeddings the one most like the text's is taken; two in the paper.
      recipe: how it draws, options of `make_recipe` or `CodeRecipe`; by default those of the run's
        `sampling`.
    """

    best_of: Amount = 2
    recipe: Mapping[str, Any] = field(default_factory=dict)
    section: ClassVar[str] = "prior"
    released: ClassVar[tuple[str, ...]] = ()


@dataclass(frozen=True, eq=False)
class LoadedPrior:
    """Attributes:
    model: of the run.
    recipe: its recipe, see `DiffusionModel.prior_recipe`.
    variables: its `params` and `frozen`, on the host.
    resolved: how it was built.
    tokenizer: of the texts that it draws by.
    """

    model: EmbeddingModel
    recipe: tuple[tuple[str, Any], ...]
    variables: Mapping[str, Any]
    resolved: Resolved
    tokenizer: AnyTokenizer


def load_prior(reference: Mapping[str, Any]) -> LoadedPrior:
    """The prior of a config section, see `PriorConfig`.

    Raises:
      ValueError: no such run, one of another task or space, or a recipe that it cannot follow.
    """
    choices: PriorConfig = construct(PriorConfig, "prior", reference)
    run = choices.open()
    task = run.task
    if not isinstance(task, DiffusionTask | AutoregressivePriorTask) or not isinstance(
        task.model.space, EmbeddingSpace
    ):
        raise ValueError(
            f"prior.run={choices.run} is a run of task {run.kind!r} that draws no embeddings: name "
            "one whose config has a section `embedding`"
        )
    if run.tokenizer is None:
        raise ValueError(f"prior.run={choices.run} reads no text: give it a text condition")
    recipe = stage_recipe("prior", run, choices.recipe)
    task.nfe(**recipe)  # Refuses what it cannot follow.
    said = tuple(sorted({**recipe, "best_of": choices.best_of}.items()))
    return LoadedPrior(task.model, said, held_variables(run), run.resolved, run.tokenizer)
