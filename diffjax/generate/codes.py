"""Sampling image embeddings from an autoregressive model of their codes (Ramesh et al. 2022,
section 2.2)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.core import Tracer

from diffjax.choices import construct
from diffjax.compiler import compiler_options
from diffjax.denoisers.autoregressive import AutoregressiveModel, Prefix
from diffjax.denoisers.codes import CODES
from diffjax.denoisers.conditions.base import by_name, check_cond, check_null, negative_cond
from diffjax.denoisers.embeddings import scaled
from diffjax.keys import per_row, root, stream, uniform
from diffjax.ranges import Guided, NonNegative, Share
from diffjax.task import Variables


@dataclass(frozen=True)
class CodeRecipe:
    """How codes are drawn, one after another.

    Attributes:
      guidance: s in `uncond + s (cond - uncond)` of the logits; 1 for no guidance.
      temperature: by which logits are divided; 0 takes the most probable code.
      top: share of the training set's cosines of text and image, the highest, that the cosine's
        bucket is drawn from; half in the paper, for a higher cosine is of a text that says more of
        its image.
    """

    guidance: Guided = 1.0
    temperature: NonNegative = 1.0
    top: Share = 0.5


def make_code_recipe(**options: Any) -> CodeRecipe:
    """The recipe of flat options.

    Raises:
      ValueError: an option that does not exist, or a value outside its range.
    """
    return construct(CodeRecipe, "sampling", options)


def mix(cond: Array, uncond: Array, scale: Any) -> Array:
    """Guided logits `[B, V]`: `uncond + scale (cond - uncond)`, at scale 1 `cond` itself."""
    return cond + (scale - 1) * (cond - uncond)


def describe_codes(model: AutoregressiveModel, **options: Any) -> dict[str, Any]:
    """The protocol of a recipe, every default and the evaluations of the network spelled out.

    Raises:
      ValueError: a recipe that the model cannot follow.
    """
    recipe = make_code_recipe(**options)
    _check_guidance(model, recipe, False)
    return {**asdict(recipe), "nfe": model.codes.components}


def sample_codes(
    model: AutoregressiveModel,
    variables: Variables,
    seed: Array,
    index: Array,
    cond: Any = None,
    negative: Any = None,
    **recipe: Any,
) -> Array:
    """Embeddings `[B, E] float32`, scaled (see `embeddings.scaled`).

    Compiled here, once for all recipes that differ in numbers alone.

    Args:
      seed, index, cond, negative: see `generate.sample.sample`.
      **recipe: see `CodeRecipe`.
    """
    choice = make_code_recipe(**recipe)
    _check_guidance(model, choice, negative is not None)
    args = (variables, seed, index, cond, negative)
    static = (model, choice.guidance != 1, "sample")
    if any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(args)):
        return draw_codes(*static, numbers(choice), *args)  # the caller compiles
    return _compiled()(*static, numbers(choice), *args)


def numbers(recipe: CodeRecipe) -> dict[str, Any]:
    """The numbers of a recipe, arguments of a jitted function."""
    return {name: np.float32(value) for name, value in asdict(recipe).items()}


def draw_codes(
    model: AutoregressiveModel,
    guided: bool,
    stream_name: str,
    recipe: Mapping[str, Any],
    variables: Variables,
    seed: Array,
    index: Array,
    cond: Any,
    negative: Any = None,
) -> Array:
    """Sampling as `sample_codes` and decoders share it; `recipe` are its `numbers`, and all chance
    is of the stream of this name."""
    keys = per_row(stream(root(seed), stream_name), index)
    of = lambda name: jax.vmap(lambda k: stream(k, name))(keys)  # noqa: E731
    dots = model.codes.top_dots(uniform(of("dot")), recipe["top"])
    branches = _branches(model, variables, guided, cond, negative, dots)
    scale = recipe["guidance"] if guided else None
    chosen = _scan(model, variables, branches, scale, partial(_choose, of("codes"), recipe))
    return scaled(model.codes.decode(variables.frozen[CODES], chosen))


@cache
def _compiled() -> Callable[..., Any]:
    return jax.jit(draw_codes, static_argnums=(0, 1, 2), compiler_options=compiler_options())


def _branches(
    model: AutoregressiveModel,
    variables: Variables,
    guided: bool,
    cond: Any,
    negative: Any,
    dots: Array,
) -> Prefix:
    """The prefixes of the wanted and, where there is guidance, behind them of the unwanted."""
    cond = check_cond(model.conditions, cond)
    named = [by_name(model.conditions, cond)]
    if guided:
        other = {} if negative is None else check_cond(model.conditions, negative, True)
        named.append(negative_cond(model.conditions, cond, other))
    made = [model.prefix(variables.params, variables.frozen, one, dots) for one in named]
    return jax.tree.map(lambda *parts: jnp.concatenate(parts), *made)


def _scan(
    model: AutoregressiveModel,
    variables: Variables,
    prefix: Prefix,
    scale: Any,
    choose: Callable[[Any, Array], Array],
) -> Array:
    """Codes `[B, K] int32`, each chosen by logits `[B, V]` that are guided where there is a
    `scale`."""
    rows = len(prefix.dots)

    def mixed(logits: Array) -> Array:
        if scale is None:
            return logits
        cond, uncond = jnp.split(logits, 2)
        return mix(cond, uncond, scale)

    def step(carry: tuple[Any, Array], at: Array) -> tuple[tuple[Any, Array], Array]:
        state, logits = carry
        code = choose(at, mixed(logits))
        both = jnp.tile(code, rows // len(code))  # Branches go on with one and the same code.
        return model.further(variables.params, state, both[:, None], prefix, at), code

    first = model.further(variables.params, {}, jnp.zeros((rows, 0), jnp.int32), prefix)
    last = model.codes.components - 1
    if not last:  # No code follows another.
        return choose(last, mixed(first[1]))[:, None]
    (_, logits), codes = jax.lax.scan(step, first, jnp.arange(last))
    return jnp.concatenate([codes.T, choose(last, mixed(logits))[:, None]], axis=1)


def _choose(keys: Array, recipe: Mapping[str, Any], at: Any, logits: Array) -> Array:
    """Codes `[B] int32` by logits `[B, V]`, each row's by its own key and the code's number."""
    t = recipe["temperature"]
    own = jax.vmap(jax.random.fold_in, (0, None))(keys, at)
    drawn = jax.vmap(jax.random.categorical)(own, logits / jnp.where(t > 0, t, 1.0))
    return jnp.where(t > 0, drawn, logits.argmax(-1)).astype(jnp.int32)


def _check_guidance(model: AutoregressiveModel, recipe: CodeRecipe, negative: bool) -> None:
    """Raises ValueError for guidance without a null to move away from."""
    if recipe.guidance != 1 and not negative:
        check_null(model.conditions)
