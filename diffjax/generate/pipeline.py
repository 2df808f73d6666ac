"""A pipeline: a diffusion model with its weights, its own recipe and its words, ready to draw."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import jax.numpy as jnp
import numpy as np

from diffjax.batches import map_batches
from diffjax.denoisers.chain import check_augmentation
from diffjax.denoisers.clip_guide import NO_CLIP, ClipGuide
from diffjax.denoisers.conditions.image import MaskedImageCondition
from diffjax.denoisers.model import DiffusionModel
from diffjax.diffusion.recipes import Recipe, make_recipe, recipe_over
from diffjax.generate.known import Known, make_known
from diffjax.generate.predict import DRAWING, describe_recipe, noise_levels, predict_fns
from diffjax.generate.sample import draw
from diffjax.keys import seed_words
from diffjax.task import Variables

# What another sampler than the model's own takes over of its recipe, unless files say it.
KEPT = ("steps", "spacing", "offset", "final", "guidance", "clip_guidance", "cutouts",
        "cutout_power")  # fmt: skip


@dataclass(frozen=True, eq=False)
class Pipeline:
    """Attributes:
    model, variables: the networks and their values.
    recipe: what is drawn by unless a user says otherwise, options of `make_recipe`.
    facts: where it comes from, for the metadata of pictures.
    tokenize: texts -> `tokens [N, L] int32`, "" allowed; None for a model without text.
    class_names: one per class; empty where it draws by none, or they have no names.
    kept: options of `recipe` that another sampler takes over.
    recipe_of: the model's own recipe under another sampler, where its files say it.
    sections: of a config that says the same, for the record of evaluations.
    clip_guide: gives the CLIP of `clip_guidance`, opened where a recipe asks for it; None where
      there is none.
    """

    model: DiffusionModel
    variables: Variables
    recipe: Mapping[str, Any]
    facts: Mapping[str, Any]
    tokenize: Callable[[Sequence[str]], np.ndarray] | None = None
    class_names: tuple[str, ...] = ()
    kept: tuple[str, ...] = KEPT
    recipe_of: Callable[[str | None], Mapping[str, Any]] | None = None
    sections: Mapping[str, Any] = field(default_factory=dict)
    clip_guide: Callable[[], ClipGuide | None] | None = None

    @property
    def fields(self) -> list[str]:
        """Fields that it draws by: label, tokens, ...; but for what inpainting itself gives."""
        masks = {c.field for c in self.model.conditions if isinstance(c, MaskedImageCondition)}
        return [field for field in self.model.fields if field not in masks]

    @property
    def num_classes(self) -> int:
        """Number of classes of the labels that it draws by; 0 for none."""
        found = [getattr(c, "classes", 0) for c in self.model.conditions if c.field == "label"]
        return found[0] if found else 0

    @property
    def image_shape(self) -> tuple[int, ...]:
        """(H, W, C) of what it draws."""
        return self.model.space.image_shape

    def full(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """`options` of a recipe over the model's own, those that are None left out; what is one
        sampler's alone does not reach another."""
        chosen = {k: v for k, v in options.items() if v is not None}
        own = self.recipe
        if self.recipe_of is not None:
            own = self.recipe_of(chosen.get("sampler"))
        return recipe_over(own, chosen, self.kept)

    def make_recipe(self, **options: Any) -> Recipe:
        """The recipe of `full`."""
        return make_recipe(**self.full(options))

    def describe(self, strength: float = 1.0, **options: Any) -> dict[str, Any]:
        """Settings of drawing by the recipe of `full`: every default spelled out, the network
        evaluations (`nfe`) and how often the network sees one image (`network_passes`).

        Raises:
          ValueError: an option that does not exist, or that the model cannot follow.
        """
        recipe = self.make_recipe(**options)
        self.model.check_guidance(recipe.guidance, self.tokenize is not None)
        check_augmentation(self.model.conditions, recipe.augmentation)
        taken = self.model.schedule, strength
        said = {**recipe.describe(*taken), "network_passes": recipe.passes(*taken)}
        return said | ({"clip_guide": self._guide(said).name} if recipe.clip.on else {})

    def _guide(self, recipe: Mapping[str, Any]) -> ClipGuide:
        """The CLIP of a recipe that asks for one.

        Raises:
          ValueError: there is none.
        """
        guide = None if self.clip_guide is None else self.clip_guide()
        if guide is None:
            raise ValueError(NO_CLIP.format(recipe["clip_guidance"]))
        return guide

    def draw(
        self,
        cond: Mapping[str, np.ndarray],
        seed: int,
        index: np.ndarray,
        negative: Mapping[str, np.ndarray] | None = None,
        size: tuple[int, int] | None = None,
        image: np.ndarray | None = None,
        mask: np.ndarray | None = None,
        strength: float = 1.0,
        batch_size: int = 4,
        **options: Any,
    ) -> np.ndarray:
        """`[N, H, W, C] float32` in about [-1, 1].

        Image n depends on (seed, index n, cond n) alone: rows of one index share their noise.

        Args:
          cond, negative: by field, `[N, ...]` each.
          seed: any whole number below 2^63; index: `[N] int32`.
          size: (height, width); the model's own by default.
          image, mask: `[H, W, C]` in [-1, 1] and `[H, W, 1]`, see `image2image` and `inpaint`.
          strength: with an image, the share of the steps that are taken; below 1 an error without.
          options: of the recipe, see `full`.

        Raises:
          ValueError: what does not fit the model, before anything is drawn.
        """
        model = self.model if size is None else self.model.resized(*size)
        recipe = self.full(options)
        if recipe.get("clip_guidance"):
            recipe["clip_guide"] = self._guide(recipe)
        words = jnp.asarray(np.asarray(seed_words(seed), np.uint32))
        rows = {"number": np.asarray(index, np.int32), "cond": cond, "negative": negative}

        def known(count: int) -> Known | None:
            if image is None:
                return None
            images, masks = (
                None if a is None else jnp.repeat(jnp.asarray(a)[None], count, 0)
                for a in (image, mask)
            )
            start = mask is None or strength < 1
            return make_known(model, images, masks, start)  # type: ignore[arg-type]

        def one(batch: dict[str, Any]) -> Any:
            number, cond, negative = batch["number"], batch["cond"], batch["negative"]
            held = known(len(number))
            return draw(
                model, recipe, self.variables, words, number, cond, negative, None, held, strength
            )

        # Whole batches alone, so that one program serves all.
        return map_batches(one, rows, min(batch_size, len(index))).astype(np.float32)

    # As evaluators take it, see `tasks.diffusion.DiffusionTask`.

    def nfe(self, **options: Any) -> dict[str, Any]:
        """The protocol of a recipe, see `describe_recipe`."""
        return describe_recipe(self.model, **self.full(options))

    def noise_levels(self, which: str = "states", **options: Any) -> np.ndarray:
        """See `generate.predict.noise_levels`."""
        return noise_levels(self.model, which, **self.full(options))

    def predict_fns(self) -> Mapping[str, Callable[..., Any]]:
        """Those of the model; it is drawn from by its own recipe."""
        fns = predict_fns(self.model)
        drawn = {name: partial(_by_recipe, self, fns[name]) for name in DRAWING}
        return {**fns, **drawn}


def _by_recipe(
    pipeline: Pipeline,
    fn: Callable[..., Any],
    variables: Variables,
    seed: Any,
    index: Any,
    cond: Any = None,
    negative: Any = None,
    **options: Any,
) -> Any:
    return fn(variables, seed, index, cond, negative, **pipeline.full(options))
