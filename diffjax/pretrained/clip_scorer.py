"""Scorers of evaluators: a feature extractor, a CLIP that says how images fit texts, a classifier
that says what they show."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from jax.sharding import Mesh

from diffjax.choices import construct
from diffjax.evals.features import FeatureExtractor, to_uint8
from diffjax.pretrained.clip import Encoders, encoders_of_run, released_encoders
from diffjax.pretrained.factor_classifier import make_factor_classifier
from diffjax.pretrained.features import make_features
from diffjax.pretrained.reference import Reference


@dataclass(frozen=True)
class ClipScorerConfig(Reference):
    """Config section `clip_scorer`: a CLIP, of a run (see `Reference`) or released; evaluators that
    compare features take its image tower where the config has no `features`.

    Attributes:
      clip: a released CLIP, see `interop.clip.load_clip`.
    """

    clip: str | None = None
    section: ClassVar[str] = "clip_scorer"
    released: ClassVar[tuple[str, ...]] = ("clip",)


@dataclass(frozen=True, eq=False)
class TowersClipScorer:
    """The towers of `encoders` as evaluators take them; see `evals.context.ClipScorer`."""

    encoders: Encoders

    @property
    def name(self) -> str:
        return f"{self.encoders.name} ({self.encoders.fingerprint})"

    def images(self, images: np.ndarray) -> np.ndarray:
        return self.encoders.images([self.encoders.prepare(x) for x in to_uint8(images)])

    def texts(self, texts: Sequence[str]) -> np.ndarray:
        return self.encoders.texts(texts)

    def features(self) -> FeatureExtractor:
        """The image tower, of images of its own size."""
        task = self.encoders.task

        def apply(weights: Any, image: Any) -> tuple[Any, None]:
            return task.encode_image(weights, image), None

        return FeatureExtractor(apply, self.encoders.variables, f"image tower of {self.name}")


def make_clip_scorer(section: Mapping[str, Any] | None, mesh: Mesh) -> TowersClipScorer | None:
    """The CLIP of a config's `clip_scorer` section, None where it has none.

    Args:
      mesh: of the run that is measured.

    Raises:
      ValueError: a wrong section, or a CLIP that cannot be read.
    """
    if not section:
        return None
    choices: ClipScorerConfig = construct(ClipScorerConfig, "clip_scorer", section)
    if choices.clip is not None:
        return TowersClipScorer(released_encoders(choices.clip, None, None))
    return TowersClipScorer(encoders_of_run(choices.open(), mesh))


def make_scorers(
    reference: Callable[[str], Mapping[str, Any] | None], mesh: Mesh
) -> dict[str, Any]:
    """`features`, `clip_scorer` and `factor_classifier` of `Experiment.context`, as the config
    says.

    Args:
      reference: gives a section by its name, see `Experiment.reference`.
      mesh: of the run that is measured.
    """
    clip_scorer = make_clip_scorer(reference("clip_scorer"), mesh)
    features = make_features(reference("features"), mesh)
    if features is None and clip_scorer is not None:
        features = clip_scorer.features()
    judge = make_factor_classifier(reference("factor_classifier"), mesh)
    return {"features": features, "clip_scorer": clip_scorer, "factor_classifier": judge}
