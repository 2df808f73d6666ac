"""Image to image by strength (Meng et al. 2022): noise an image half-way, and draw it anew."""

from __future__ import annotations

from jax import Array

from diffjax.diffusion.recipes import Recipe
from diffjax.generate.latent_model import LatentModel, Variables, run


def image2image(
    model: LatentModel,
    variables: Variables,
    image: Array,
    prompt: Array,
    negative: Array,
    noise: Array,
    keys: Array,
    recipe: Recipe,
    strength: float = 0.8,
) -> Array:
    """Images `[B, H, W, 3] float32` in [-1, 1]; arguments as `text2image`.

    `image [B, H, W, 3]` in [-1, 1] enters by the mode of its posterior; `strength` in [0, 1] is the
    share of the steps that are taken: 1 keeps little of the image, less keeps more of it. One that
    leaves no step is an error.
    """
    check_image(image, noise, model)
    denoise = model.denoiser(variables, prompt, negative, recipe)
    start = model.encode(variables, image)
    z = run(model, denoise, recipe, noise, keys, start, strength)
    return model.decode(variables, z)


def check_image(image: Array, noise: Array, model: LatentModel) -> None:
    """Refuses an image that does not fit the noise.

    Raises:
      ValueError: no `[B, H, W, 3]`, or of another size; one line.
    """
    if image.ndim != 4 or image.shape[-1] != model.vae.image_channels:
        raise ValueError(
            f"images of shape {image.shape}: they must be [B, H, W, {model.vae.image_channels}]"
        )
    wanted = (len(image), *model.latent_shape(*image.shape[1:3]))
    if noise.shape != wanted:
        raise ValueError(f"images {image.shape} need noise {wanted}, not {noise.shape}")
