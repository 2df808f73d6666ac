"""Pictures changed through their image embeddings: variations, ways between two, text differences
(Ramesh et al. 2022, section 3); of generated scenes judged by the oracle."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import jax
import numpy as np

from diffjax.batches import map_batches
from diffjax.data import oracle
from diffjax.data.factors import COLOURS, Scene, Thing, caption, scene_at
from diffjax.data.scene_score import said, score_scene
from diffjax.evals import trial
from diffjax.evals.base import Picture
from diffjax.evals.context import EvalContext
from diffjax.evals.embeddings import sample_rows
from diffjax.evals.features import to_uint8
from diffjax.evals.pictures import tile_grid
from diffjax.fingerprints import fingerprint
from diffjax.keys import check_seed, seed_words
from diffjax.metrics.classification import share
from diffjax.ranges import Amount, Integer, NonNegative, Probability, Seed, Tiles
from diffjax.results import Result, protocol
from diffjax.task import Variables

TEMPLATE = "short"  # "a red circle": what a text difference says


def _next_colour(thing: Thing) -> Thing:
    return replace(thing, colour=(thing.colour + 1) % len(COLOURS))


@dataclass(frozen=True, eq=False)
class Variations:
    """Draws variations of a split's images, ways between them, and changes by texts.

    A scene is asked to take the next colour, by the difference of "a red circle" and "a green
    circle"; other data have no text differences.

    Attributes:
      split, where: whose images; of generated scenes those of one object.
      count: images that numbers are over, drawn from the split.
      pred_kw: the recipe, of ddim; see `generate.variations`.
      eta: of ddim, of the variations.
      shares: of the way to a text difference.
      rows, columns: of the pictures; a row is an image, or a pair.
      seed: of the fresh noise of variations.
    """

    context: EvalContext
    split: str = "test"
    where: Mapping[str, Integer] = field(default_factory=dict)
    count: Amount = 100
    pred_kw: Mapping[str, Any] = field(default_factory=dict)
    eta: NonNegative = 1.0
    shares: Sequence[Probability] = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5)
    rows: Tiles = 6
    columns: Tiles = 8
    seed: Seed = 0
    batch_size: Amount = 25

    def __post_init__(self) -> None:
        check_seed(self.seed)
        for name in ("variations", "interpolate", *["text_difference"] * self._spoken):
            self.context.bind(name)
        self.context.recipe({"sampler": "ddim", **self.pred_kw}, {})
        if self._spoken and any(len(s.things) != 1 for s in self._scenes):
            raise ValueError(
                "variations: a text difference is of one object: set where=dict(num_objects=1)"
            )
        if min(self.rows, self.columns, len(self.shares)) < 1:
            raise ValueError("variations: rows, columns and shares must be at least one")

    @property
    def _spoken(self) -> bool:
        """Whether the data are generated scenes, and the run reads text."""
        return "shape" in self.context.factors and self.context.tokenize is not None

    @cached_property
    def _chosen(self) -> dict[str, np.ndarray]:
        arrays = self.context.chosen(self.split, self.where)
        rows = sample_rows(len(arrays["image"]), self.count)
        return {k: v[rows] for k, v in arrays.items()}

    @cached_property
    def _scenes(self) -> list[Scene]:
        scenes = [scene_at(self._chosen, i) for i in range(len(self._chosen["image"]))]
        return [said(scene, TEMPLATE) for scene in scenes]

    @cached_property
    def _wanted(self) -> list[Scene]:
        """The scenes in their next colours."""
        return [replace(s, things=(_next_colour(s.things[0]),)) for s in self._scenes]

    @cached_property
    def _texts(self) -> dict[str, np.ndarray]:
        assert self.context.tokenize is not None
        both = {"source": self._scenes, "tokens": self._wanted}
        return {
            name: self.context.tokenize([caption(s, TEMPLATE) for s in scenes])
            for name, scenes in both.items()
        }

    def trial(self, variables: Variables) -> None:
        """See `Evaluator.trial`."""
        c, image = self.context, self._chosen["image"]
        batch = trial.batch_of(c, {"image": image}, self.batch_size)
        image, kw, size = batch["image"], dict(self.pred_kw), self.batch_size
        got = c.shapes("variations", kw, variables, trial.SEED, batch["index"], image)
        drawn = trial.images(got, size, "variations")
        trial.same_images(c, drawn, self.split)
        shares = jax.ShapeDtypeStruct((len(self.shares),), np.float32)
        ways: dict[str, tuple[Any, ...]] = {"interpolate": (image, image)}
        if self._spoken:
            oracle.check_images(drawn.shape, np.dtype(np.uint8))
            texts = trial.batch_of(c, self._texts, size)
            ways["text_difference"] = (image, texts["tokens"], texts["source"])
        for name, given in ways.items():
            found = c.shapes(name, kw, variables, *given, shares)
            if found.shape != (size, len(self.shares), *drawn.shape[1:]):
                raise ValueError(f"{name} gives {found.shape}, not images [{size}, T, H, W, C]")

    def run(self, variables: Variables) -> Iterator[Result | Picture]:
        """Pictures "variations", "interpolations", "text_differences". Of scenes also the results
        "variation", the share of variations that show the object, shape and colour, of their image,
        and "changed_<n>", the share of images that n % of the way to the text difference show the
        colour that was asked for, in the shape that they had."""
        yield self._varied_picture(variables)
        yield self._interpolated_picture(variables)
        if not self._spoken:
            return
        how = protocol(
            split=self.split,
            where=self.where,
            recipe={"sampler": "ddim", **self.pred_kw},
            data=fingerprint({"image": self._chosen["image"]}),
            num_images=len(self._scenes),
        )
        varied = self._varied(variables, self._chosen["image"], 1)[:, 0]
        yield self._share("variation", varied, self._scenes, {**how, "eta": self.eta})
        changed = self._changed(variables)
        for j, way in enumerate(self.shares):
            name = f"changed_{100 * way:.0f}"
            yield self._share(name, changed[:, j], self._wanted, {**how, "share": way})
        yield self._changed_picture(changed)

    def _share(
        self, name: str, images: np.ndarray, scenes: Sequence[Scene], how: Mapping[str, Any]
    ) -> Result:
        read = oracle.read_batch(to_uint8(images))
        right = [score_scene(s, d)["objects"] for s, d in zip(scenes, read, strict=True)]
        got = share(right, clusters=np.array([s.things[0].pair for s in self._scenes]))
        return Result(name, got.value, got.std, how)

    def _mapped(self, name: str, variables: Variables, arrays: Any, **options: Any) -> np.ndarray:
        """The predict function `name` over rows of `arrays`, its arguments by name."""
        fn, size = self.context.predict_fns[name], len(arrays["image"])
        kw = {**self.pred_kw, **options}
        # Batches have an `index` of their own, of rows.
        names = {("number" if k == "index" else k): k for k in arrays}
        return map_batches(
            lambda b: fn(variables, **{k: b[name] for name, k in names.items()}, **kw),
            {name: arrays[k] for name, k in names.items()},
            min(self.batch_size, size), self.context.batch_sharding,
        )  # fmt: skip

    def _varied(self, variables: Variables, image: np.ndarray, columns: int) -> np.ndarray:
        """`columns` variations of each `image [N, H, W, C]`, `[N, columns, H, W, C]`."""
        words = np.asarray(seed_words(self.seed), np.uint32)
        count = len(image)
        drawn = [
            self._mapped(
                "variations", variables,
                {"image": image, "index": np.arange(j * count, (j + 1) * count, dtype=np.int32)},
                seed=words, eta=self.eta,
            )
            for j in range(columns)
        ]  # fmt: skip
        return np.stack(drawn, axis=1)

    def _changed(self, variables: Variables) -> np.ndarray:
        shares = np.asarray(self.shares, np.float32)
        arrays = {"image": self._chosen["image"], **self._texts}
        return self._mapped("text_difference", variables, arrays, shares=shares)

    def _varied_picture(self, variables: Variables) -> Picture:
        image = self._chosen["image"][: self.rows]
        tiles = np.concatenate([image[:, None], self._varied(variables, image, self.columns)], 1)
        note = f"of an image of {self.split}, on the left · eta {self.eta:g}"
        names = ["image", *[""] * self.columns]
        picture = tile_grid(tiles, columns=names, title="Variations", note=note)
        return Picture("variations", picture, f"Variations {note}.")

    def _interpolated_picture(self, variables: Variables) -> Picture:
        image = self._chosen["image"]
        pairs = min(self.rows, len(image) // 2)
        a, b = image[:pairs], image[pairs : 2 * pairs]
        shares = np.linspace(0, 1, self.columns, dtype=np.float32)
        z = self._mapped("interpolate", variables, {"image": a, "other": b}, shares=shares)
        tiles = np.concatenate([a[:, None], z, b[:, None]], axis=1)
        names = ["image", *(f"{100 * s:.0f} %" for s in shares), "image"]
        note = "embeddings and noises on their great circles"
        picture = tile_grid(tiles, columns=names, title="Interpolations", note=note)
        return Picture("interpolations", picture, f"Between two images: {note}.")

    def _changed_picture(self, changed: np.ndarray) -> Picture:
        rows = range(min(self.rows, len(changed)))
        tiles = np.concatenate([self._chosen["image"][: len(rows), None], changed[: len(rows)]], 1)
        texts = [[caption(s[i], TEMPLATE) for s in (self._scenes, self._wanted)] for i in rows]
        names = ["image", *(f"{100 * s:.0f} %" for s in self.shares)]
        note = "of the way from the image's embedding to the difference of two texts"
        picture = tile_grid(tiles, rows=[f"{a} → {b}" for a, b in texts], columns=names,
                            title="Text differences", note=note)  # fmt: skip
        return Picture("text_differences", picture, f"Shares {note}.")
