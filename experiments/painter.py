"""Text to image, ready to use: the networks of a released model or of a run, and how they draw."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np

from diffjax.data.tokenizer import Tokenizer
from diffjax.diffusion.recipes import Recipe, make_recipe, recipe_over
from diffjax.evals.batches import map_batches
from diffjax.generate.image2image import image2image
from diffjax.generate.inpaint import inpaint
from diffjax.generate.latent_model import LatentModel, Variables, draw_noise
from diffjax.generate.text2image import text2image
from diffjax.interop.scheduler import Sampling, own_recipe
from diffjax.interop.stable_diffusion import load_stable_diffusion
from diffjax.interop.stable_diffusion_original import load_original
from diffjax.keys import per_row, root, stream
from diffjax.runs import TrainedRun
from diffjax.tasks.diffusion import DiffusionTask
from experiments.encoders import tower_tokenizer
from experiments.released import sides, stable_diffusion

FILES = (".safetensors", ".ckpt")
# What a user's choice of another sampler keeps of a run's own recipe.
_KEPT = ("steps", "spacing", "offset", "final", "guidance")


@dataclass(frozen=True, eq=False)
class Painter:
    """Attributes:
    model, variables: the networks and their values.
    tokenizer: of the prompts; the empty one is allowed.
    recipe: what is drawn by unless a user says otherwise, options of `make_recipe`.
    size: (height, width) of the images that it was trained on.
    facts: where it comes from, for the metadata of pictures.
    sampling: of a released model, what another sampler reads its recipe from.
    """

    model: LatentModel
    variables: Variables
    tokenizer: Tokenizer
    recipe: Mapping[str, Any]
    size: tuple[int, int]
    facts: Mapping[str, Any]
    sampling: Sampling | None = None

    def make_recipe(self, **options: Any) -> Recipe:
        """The recipe with a user's options, those that are None left out."""
        given = {k: v for k, v in options.items() if v is not None}
        own = self.recipe
        if self.sampling is not None:
            own = own_recipe(self.sampling, own, given.get("sampler"))
        recipe = make_recipe(**recipe_over(own, given, _KEPT))
        if recipe.guidance.clip:
            raise ValueError("clip=True bounds pixels to [-1, 1]; latents have no such bounds")
        return recipe

    def draw(
        self,
        prompts: Sequence[str],
        negative: str,
        recipe: Recipe,
        seed: int,
        num: int,
        size: tuple[int, int],
        image: np.ndarray | None = None,
        mask: np.ndarray | None = None,
        strength: float = 1.0,
        batch_size: int = 4,
    ) -> np.ndarray:
        """`[prompts, num, H, W, 3] float32` in [-1, 1].

        Image n of a prompt depends on (seed, n, prompt) alone: prompts share their noise, and more
        images leave the first ones as they were.

        Args:
          prompts, negative: what is wanted, and what is not; "" says nothing.
          recipe: from `make_recipe`.
          size: (height, width).
          image, mask: `[H, W, 3]` in [-1, 1] and `[H, W, 1]`, see `image2image` and `inpaint`.
          strength: with an image, see `image2image`.

        Raises:
          ValueError: a prompt that is too long, or a size that the networks cannot take.
        """
        shape = self.model.latent_shape(*size)
        index = np.tile(np.arange(num, dtype=np.int32), len(prompts))
        rows = {
            "prompt": np.repeat(self.tokenizer.encode(prompts), num, axis=0),
            "negative": np.repeat(self.tokenizer.encode([negative]), len(index), axis=0),
            "n": index,
        }
        function: Callable[..., Any] = text2image
        options: dict[str, Any] = {"recipe": recipe}
        fixed: dict[str, np.ndarray] = {}
        if image is not None:
            function = image2image if mask is None else inpaint
            options["strength"] = strength
            fixed = {"image": image} | ({} if mask is None else {"mask": mask})

        @jax.jit
        def one(variables: Any, fixed: Any, prompt: Any, negative: Any, n: Any) -> Any:
            keys = per_row(stream(root(seed), "sample"), n)
            given = {k: jax.numpy.repeat(x[None], len(n), 0) for k, x in fixed.items()}
            draw = partial(function, self.model, variables, **given, **options)
            noise = draw_noise(keys, shape)
            return draw(prompt=prompt, negative=negative, noise=noise, keys=keys)

        images = map_batches(
            lambda b: one(self.variables, fixed, b["prompt"], b["negative"], b["n"]),
            rows,
            min(batch_size, len(index)),
        )
        return np.asarray(images, np.float32).reshape(len(prompts), num, *size, 3)


def released_painter(name: str, tokenizer: str | None = None, clip_skip: int = 1) -> Painter:
    """The painter of a Stable Diffusion 1 or 2.

    Args:
      name: a folder of diffusers', a name on the hub, or a `.safetensors` or `.ckpt` file in the
        original layout, which comes without a tokenizer.
      tokenizer: a folder or a file, for a file.
      clip_skip: as other programs count: 1 reads the text tower to its end, 2 leaves one block out.

    Raises:
      ValueError: whatever is wrong with the files, one line.
    """
    if Path(name).suffix in FILES:
        held = load_original(name)
        if tokenizer is None:
            raise ValueError(f"{name} holds no tokenizer: give CLIP's by --tokenizer")
    else:
        held = load_stable_diffusion(name)
    model, variables = stable_diffusion(held)
    depth = model.text.depth  # type: ignore[attr-defined]
    if not 1 <= clip_skip <= depth - model.skip:
        raise ValueError(f"--clip_skip={clip_skip} of a tower of {depth - model.skip} blocks")
    model = dataclasses.replace(model, skip=model.skip + clip_skip - 1)
    words = tower_tokenizer(tokenizer or str(held.tokenizer), model.text, empty="allow")
    height, width = sides(held.unet.facts.get("sample_size")) or (64, 64)
    size = (height * model.vae.factor, width * model.vae.factor)
    recipe = {**held.sampling.recipe, "guidance": 7.5}
    return Painter(model, variables, words, recipe, size, {"model": name}, held.sampling)


def painter_of_run(run: TrainedRun) -> Painter:
    """The painter of a run of latent diffusion that reads text; it draws by `drawn_by`'s recipe.

    Raises:
      ValueError: a run of another kind.
    """
    task, held = run.task, run.variables
    told = [c.field for c in getattr(task, "conditions", ())]
    if not isinstance(task, DiffusionTask) or task.latents is None or told != ["tokens"]:
        raise ValueError(
            f"{run.workdir} is a run of task {run.kind!r} that draws by "
            f"{' and '.join(told) or 'nothing'}; --prompt needs latent diffusion by text alone"
        )
    if task.learned_variance:
        raise ValueError(f"{run.workdir}: --prompt draws with no network of learned variance")
    assert task.text is not None and run.tokenizer is not None
    model = LatentModel(
        task.network, task.latents.codec, task.text.tower, task.schedule, task.prediction,
        task.text.skip,
    )  # fmt: skip
    variables = {
        "unet": {"params": held.params},
        "vae": held.frozen["codec"],
        "text": held.frozen["text"],
    }
    height, width, _ = task.shape
    f = task.latents.codec.factor
    facts = {"run": str(run.workdir), "step": run.step, "ema": run.ema}
    words = dataclasses.replace(run.tokenizer, empty="allow")
    recipe, _ = drawn_by(run.config)
    return Painter(model, variables, words, recipe, (height * f, width * f), facts)


def drawn_by(config: Mapping[str, Any]) -> tuple[dict[str, Any], str | None]:
    """The recipe, and the average of the weights, of the first of a run's evaluators that draws."""
    for section in config.get("evals", {}).values():
        if "sampler" in section.get("pred_kw", {}):
            return dict(section["pred_kw"]), section.get("ema")
    return {}, None
