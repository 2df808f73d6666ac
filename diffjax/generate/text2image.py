"""Text to image: prompts, negative prompts and noise in, images out."""

from __future__ import annotations

from jax import Array

from diffjax.diffusion.recipes import Recipe
from diffjax.generate.latent_model import LatentModel, Variables, run


def text2image(
    model: LatentModel,
    variables: Variables,
    prompt: Array,
    negative: Array,
    noise: Array,
    keys: Array,
    recipe: Recipe,
) -> Array:
    """Images `[B, H, W, 3] float32` in [-1, 1].

    Args:
      model, variables: the networks, and their values.
      prompt, negative: token ids `[B, L] int32`; the empty text is the usual negative prompt.
      noise: `[B, h, w, C]`, standard normal, see `draw_noise` and `LatentModel.latent_shape`.
      keys: `[B]`, of the noise that the sampler adds.
      recipe: sampler, steps, guidance, see `make_recipe`.
    """
    denoise = model.denoiser(variables, prompt, negative, recipe)
    return model.decode(variables, run(model, denoise, recipe, noise, keys))
