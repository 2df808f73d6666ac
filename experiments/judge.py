"""What evaluators measure with: a feature extractor, and a CLIP that says how images fit texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from diffjax.choices import construct
from diffjax.evals.features import FeatureExtractor, to_uint8
from experiments.assemble import Assembly
from experiments.encoders import Encoders, encoders_of_run, released_encoders
from experiments.features import make_features
from experiments.prerequisites import open_finished


@dataclass(frozen=True)
class JudgeChoices:
    """Config section `judge`: a CLIP; evaluators that compare features take its image tower where
    the config has no `features`.

    Attributes:
      run: workdir of a CLIP of ours.
      config: of `run`: the config file that a missing run is trained from.
      ema: of `run`: which average of the weights; None for the weights themselves.
      clip: a released CLIP instead, see `interop.clip.load_clip`.
    """

    run: str | None = None
    config: str | None = None
    ema: str | None = None
    clip: str | None = None

    def __post_init__(self) -> None:
        if (self.run is None) == (self.clip is None):
            raise ValueError("judge needs one of run (a workdir) and clip (released weights)")
        for name in ("config", "ema"):
            if self.run is None and getattr(self, name) is not None:
                raise ValueError(f"judge.{name} is not read with judge.clip")


@dataclass(frozen=True, eq=False)
class ClipJudge:
    """The towers of `encoders` as evaluators take them; see `evals.context.Judge`."""

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


def make_judge(section: Mapping[str, Any] | None) -> ClipJudge | None:
    """The CLIP of a config's `judge` section, None where it has none.

    Raises:
      ValueError: a wrong section, or a CLIP that cannot be read.
    """
    if not section:
        return None
    choices: JudgeChoices = construct(JudgeChoices, "judge", section)
    if choices.clip is not None:
        return ClipJudge(released_encoders(choices.clip, None, None))
    assembly = open_finished("judge", Path(str(choices.run)), choices.config)
    return ClipJudge(encoders_of_run(assembly, None, choices.ema))


def make_judges(assembly: Assembly) -> dict[str, Any]:
    """`features` and `judge` of `Assembly.context`, as the config says."""
    judge = make_judge(assembly.config.get("judge"))
    features = make_features(assembly)
    if features is None and judge is not None:
        features = judge.features()
    return {"features": features, "judge": judge}
