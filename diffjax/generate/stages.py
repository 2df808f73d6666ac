"""What stages before a model draw for it: image embeddings by a prior, low-resolution images by a
base. Each is given to the model as if a user had given it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax.numpy as jnp
from jax import Array

from diffjax.denoisers.autoregressive import AutoregressiveModel
from diffjax.denoisers.chain import low_resolution_of
from diffjax.denoisers.conditions.base import check_cond, fields_of
from diffjax.denoisers.conditions.image_embedding import ImageEmbeddingCondition
from diffjax.denoisers.conditions.low_resolution import LOW_RESOLUTION
from diffjax.denoisers.embeddings import scaled
from diffjax.denoisers.frozen import variables_of
from diffjax.denoisers.model import DiffusionModel
from diffjax.denoisers.prior import EmbeddingModel
from diffjax.diffusion.gradient_guidance import ClipGuidance
from diffjax.diffusion.recipes import make_recipe
from diffjax.generate.codes import draw_codes, make_code_recipe, numbers
from diffjax.generate.embeddings import encode_text
from diffjax.keys import stage_seed
from diffjax.task import Variables

# How `sample` draws of one model, traced; the stages are drawn in the same way.
DrawOne = Callable[..., Any]


def from_stages(
    draw_one: DrawOne,
    model: DiffusionModel,
    variables: Variables,
    seed: Array,
    index: Array,
    cond: Any,
) -> Any:
    """`cond` as the model's own conditions read it, what stages before it draw drawn."""
    if model.prior is None and model.base is None:
        return cond
    given = by_field(model, cond)
    if model.prior is not None:
        given = _with_embedding(draw_one, model, variables, seed, index, given)
    if model.base is not None and LOW_RESOLUTION not in given:
        given[LOW_RESOLUTION] = draw_base(draw_one, model, variables, seed, index, given)
    return {f: v for f, v in given.items() if f in fields_of(model.conditions)}


def augmented(model: DiffusionModel, level: Any, keys: Array, cond: Any) -> Any:
    """`cond` with the low-resolution image of an upsampler noised to `level` []."""
    low = low_resolution_of(model.conditions)
    if low is None:
        return cond
    cond = dict(check_cond(model.conditions, cond))
    low.check(cond[LOW_RESOLUTION])
    if low.noise:
        levels = jnp.broadcast_to(jnp.asarray(level, jnp.float32), keys.shape)
        cond[LOW_RESOLUTION] = low.augmented(cond[LOW_RESOLUTION], levels, keys)
    return cond


def by_field(model: DiffusionModel, cond: Any) -> dict[str, Any]:
    """`cond` of a model with stages before it, by field."""
    if isinstance(cond, Mapping):
        return dict(cond)
    fields = model.fields
    if len(fields) > 1 or (not fields and jnp.ndim(cond) > 1):
        raise ValueError(f"this model draws by {' and '.join(fields) or 'nothing'}: give by name "
                         "what it is to draw by")  # fmt: skip
    return dict.fromkeys(fields, cond)


def _wanted(stage: DiffusionModel | EmbeddingModel, cond: Mapping[str, Array]) -> dict[str, Array]:
    """Fields of `cond` that a stage before the model draws by."""
    for field in stage.fields:
        if field not in cond:
            raise ValueError(
                f"this model draws by {' and '.join(stage.fields)}: what is given lacks {field}"
            )
    return {field: cond[field] for field in stage.fields}


def draw_base(
    draw_one: DrawOne,
    model: DiffusionModel,
    variables: Variables,
    seed: Array,
    index: Array,
    cond: dict[str, Array],
) -> Array:
    """See `sample.sample_base`. What a base draws is what `sample` draws of it by `stage_seed`."""
    base = model.base
    assert base is not None
    args = (stage_seed(seed, "base"), index, _wanted(base, cond), "sample")
    drawer = _drawer(draw_one, base, dict(model.base_recipe))
    return jnp.clip(drawer(variables_of(variables.frozen["base"]), *args), -1.0, 1.0)


def _with_embedding(
    draw_one: DrawOne,
    model: DiffusionModel,
    variables: Variables,
    seed: Array,
    index: Array,
    cond: dict[str, Array],
) -> dict[str, Array]:
    """`cond` with the image embeddings that are not given, drawn by the prior, of `best_of` those
    most like their texts (Ramesh et al. 2022, section 2.2)."""
    prior, recipe = model.prior, dict(model.prior_recipe)
    assert prior is not None
    missing = [c.field for c in model.conditions
               if isinstance(c, ImageEmbeddingCondition) and c.field not in cond]  # fmt: skip
    if missing:
        weights = variables_of(variables.frozen["prior"])
        best_of = recipe.pop("best_of", 2)
        args = (weights, seed, index, _wanted(prior, cond))
        one = partial(_drawer(draw_one, prior, recipe), *args)
        drawn = jnp.stack([one(f"prior {k}") for k in range(best_of)], axis=1)
        if best_of > 1:
            text = scaled(encode_text(prior, weights, cond["tokens"]))
            best = jnp.einsum("bke,be->bk", drawn, text).argmax(axis=1)
            drawn = jnp.take_along_axis(drawn, best[:, None, None], axis=1)
        cond |= dict.fromkeys(missing, drawn[:, 0])
    return cond


def _drawer(
    draw_one: DrawOne, stage: DiffusionModel | EmbeddingModel, recipe: Mapping[str, Any]
) -> Callable[..., Array]:
    """`(variables, seed, index, cond, stream's name) -> [B, ...]`, samples of a base, or of a prior
    of either kind, by a recipe of its own."""
    if isinstance(stage, AutoregressiveModel):
        codes = make_code_recipe(**recipe)
        return lambda weights, seed, index, cond, name: draw_codes(
            stage, codes.guidance != 1, name, numbers(codes), weights, seed, index, cond
        )
    assert isinstance(stage, DiffusionModel)
    choice = make_recipe(**recipe)
    plan = choice.plan(stage.schedule)
    choices = (choice.guidance.static, ClipGuidance())
    static = (stage, choices, plan.rows.stochastic, False)
    return lambda weights, seed, index, cond, name: draw_one(
        *static, name, plan, weights, seed, index, cond, None, None, None
    )
