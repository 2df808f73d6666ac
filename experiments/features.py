"""The feature extractor that a config names: a classifier trained by a config of ours."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from absl import logging

from diffjax.choices import construct
from diffjax.evals.features import FeatureExtractor, from_classifier
from diffjax.train.loop import train
from experiments.assemble import Assembly
from experiments.settings import check_workdir, load_config


@dataclass(frozen=True)
class ClassifierFeatures:
    """Config section `features`.

    Attributes:
      config: the classifier's config file.
      ema: which average of its weights; None for the weights themselves.
      quantise: how images become 8 bits first, see `evals.features`.
      overrides: `a.b=value` changes of its config.
    """

    config: str
    ema: str | None = None
    quantise: str = "round"
    overrides: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """`configs/classifier/digits.py` is the run `classifier_digits`."""
        path = Path(self.config.partition(":")[0]).with_suffix("")
        return "_".join(path.parts[-2:])

    def load(self, runs: Path) -> FeatureExtractor:
        """The extractor, from `runs/<name>`; trained there first where it is not finished."""
        workdir = runs / self.name
        assembly = Assembly(load_config(self.config, self.overrides), workdir)
        check_workdir(assembly.config, workdir)
        finished = workdir / "checkpoints" / str(assembly.choices.steps)
        if not finished.exists():
            logging.info("Training the feature extractor %s in %s", self.config, workdir)
            train(assembly.run, assembly.evaluations(None))
        _, state, frozen = assembly.trained()
        variables = state.variables(frozen, self.ema)
        return from_classifier(
            assembly.task.predict_fns(), variables, self.name, quantise=self.quantise
        )


def make_features(assembly: Assembly) -> FeatureExtractor | None:
    """The extractor of the config's `features` section, None where it has none. Its run lies
    beside this one's."""
    section = assembly.config.get("features")
    if not section:
        return None
    source: ClassifierFeatures = construct(ClassifierFeatures, "features", section)
    return source.load(assembly.workdir.parent)
