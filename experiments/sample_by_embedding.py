"""`experiments.sample --embedding`: what a decoder makes of a picture through its image embedding
(Ramesh et al. 2022, section 3)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from absl import flags

from diffjax.data.given_images import read_image
from diffjax.generate.pipeline import Pipeline
from diffjax.keys import seed_words
from diffjax.pretrained.pipelines import Prior

# What each needs beside --init_image.
NEEDS: dict[str, tuple[str, ...]] = {
    "variations": (),
    "interpolate": ("other_image",),
    "text_difference": ("prompt", "source"),
}


def check_embedding(values: flags.FlagValues) -> None:
    """Raises ValueError for flags that --embedding lacks, or does not read."""
    what = values.embedding
    needs = NEEDS.get(what, ())
    for name in ("other_image", "source"):
        if values[name].value is not None and name not in needs:
            raise ValueError(f"--{name} is of another --embedding than {what or 'none'}")
    if what is None:
        return
    for name in ("init_image", *needs):
        if not values[name].value:
            raise ValueError(f"--embedding={what} needs --{name}")
    unread = {"mask", "strength", "negative", "labels", "height", "width", "prompt"} - {*needs}
    for name in sorted(unread):
        if values[name].value:
            raise ValueError(f"--embedding={what} does not read --{name}: leave it out")
    if len(values.prompt) > 1:
        raise ValueError(f"--embedding={what} takes one --prompt, not {len(values.prompt)}")


def by_embedding(
    values: flags.FlagValues, pipeline: Pipeline | Prior, options: dict[str, Any]
) -> tuple[np.ndarray, Sequence[str], dict[str, Any]]:
    """The tiles `[1, num, H, W, 3]` of --embedding, the name of their row, how they were drawn.

    Raises:
      ValueError: a model that does not have it, or an image of another size than its own.
    """
    what, fns = values.embedding, {}
    if isinstance(pipeline, Pipeline):
        fns = pipeline.predict_fns()
    if what not in fns:
        raise ValueError(
            f"{values.run or values.model} has no {what}: that is of runs with a condition of type "
            "image_embedding, for texts of those that also have a section `prior`"
        )
    image, num = _image(values.init_image, pipeline), values.num
    given: dict[str, Any] = {}
    if what == "variations":
        image = np.repeat(image, num, axis=0)
        words = np.asarray(seed_words(values.seed), np.uint32)
        given = {"seed": words, "index": np.arange(num, dtype=np.int32)}
    elif what == "interpolate":
        given = {"other": _image(values.other_image, pipeline)}
        given["shares"] = np.linspace(0, 1, num, dtype=np.float32)
    else:
        assert pipeline.tokenize is not None  # what has text differences reads text
        given = {"tokens": pipeline.tokenize(values.prompt),
                 "source": pipeline.tokenize([values.source]),
                 "shares": np.linspace(0, 0.5, num, dtype=np.float32)}  # fmt: skip
    options = {"sampler": "ddim", "steps": 50, **options}
    tiles = np.asarray(fns[what](pipeline.variables, image=image, **given, **options))
    said = {name: values[name].value for name in ("init_image", *NEEDS[what])}
    described = {**pipeline.facts, "embedding": what, "seed": values.seed, **options, **said}
    name = " → ".join([values.source, *values.prompt]) if values.source else what
    return tiles if tiles.ndim == 5 else tiles[None], [name], described


def _image(path: str, pipeline: Pipeline | Prior) -> np.ndarray:
    """`[1, H, W, 3]` in [-1, 1]."""
    image = read_image(Path(path))
    if image.shape != pipeline.image_shape:
        raise ValueError(
            f"{path} is {image.shape}, but the run's images are {pipeline.image_shape}"
        )
    return image[None]
