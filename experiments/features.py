"""The feature extractor that a config names: a classifier trained by a config of ours."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from diffjax.choices import construct
from diffjax.evals.features import FeatureExtractor, from_classifier
from experiments.assemble import Assembly
from experiments.prerequisites import finished_run
from experiments.settings import run_name


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

    def load(self, runs: Path) -> FeatureExtractor:
        """The extractor, from `runs/<name>`; trained there first where it is not finished."""
        name = run_name(self.config)
        assembly = finished_run(self.config, self.overrides, runs / name)
        _, state, frozen = assembly.trained()
        variables = state.variables(frozen, self.ema)
        return from_classifier(assembly.task.predict_fns(), variables, name, quantise=self.quantise)


def make_features(assembly: Assembly) -> FeatureExtractor | None:
    """The extractor of the config's `features` section, None where it has none. Its run lies
    beside this one's."""
    section = assembly.config.get("features")
    if not section:
        return None
    source: ClassifierFeatures = construct(ClassifierFeatures, "features", section)
    return source.load(assembly.workdir.parent)
