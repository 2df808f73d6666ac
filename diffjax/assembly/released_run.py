"""A released model in a trained run's place: a config's data, features and evaluators around it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from diffjax.assembly.evaluations import draws
from diffjax.assembly.experiment import Experiment
from diffjax.generate.pipeline import Pipeline
from diffjax.runs.config import check_workdir, plain


class ReleasedRun(Experiment):
    """The assembly of `config` with a released model for its network and its task.

    Evaluators that draw do so by the model's own recipe, changed by `recipe`, whatever `pred_kw`
    says, for that was written for the network which the config trains; averages of the weights
    there are none.

    Args:
      config: of a run on the data that the model is compared with.
      workdir: where samples are kept; the features' run lies beside it.
      model: the released model.
      origin: what the model was opened by, for the record.
      recipe: options of `make_recipe`.

    Raises:
      ValueError: from `Experiment`, or data of another size or other classes than the model draws.
    """

    def __init__(
        self,
        config: ConfigDict,
        workdir: Path,
        model: Pipeline,
        origin: Mapping[str, Any],
        recipe: Mapping[str, Any],
    ):
        sections = {**plain(config), **plain(model.sections)}
        for name, section in sections.get("evals", {}).items():
            sections["evals"][name] = _by_the_model(section, recipe)
        for name in ("init_from", "sampling"):
            sections.pop(name, None)
        super().__init__(ConfigDict(sections), workdir, named=True)
        self.origin, self.released = dict(origin), model
        shape = self.loader.batch_spec()["image"].shape[1:]
        if shape != model.image_shape:
            raise ValueError(
                f"the model draws images {model.image_shape}, but those of "
                f"{self.source.info.name} are {shape}: give a --config whose data are of that size"
            )
        classes = self.source.info.num_classes
        if model.num_classes and model.num_classes != classes:
            raise ValueError(
                f"the model draws {model.num_classes} classes, but {self.source.info.name} has "
                f"{classes}"
            )
        # From here on it is what evaluators are built from.
        self.task: Any = model

    def write_config(self) -> None:
        """Writes `config.json`, or refuses a workdir that another model has been evaluated in."""
        check_workdir({**self.config, "released": plain(self.origin)}, self.workdir)


def _by_the_model(section: Mapping[str, Any], recipe: Mapping[str, Any]) -> dict[str, Any]:
    kept = {k: v for k, v in section.items() if k not in ("ema", "every")}
    return {**kept, "pred_kw": dict(recipe)} if draws(section) else kept
