"""Draw: from a trained run by class or by text, or from a released Stable Diffusion.

    python -m experiments.sample --run=runs/digits --steps=25
    python -m experiments.sample --run=runs/latent_shapes --prompt="a red circle"
    python -m experiments.sample --model=stable-diffusion-v1-5/stable-diffusion-v1-5 \\
        --prompt="an astronaut riding a horse" --negative="blurry" --steps=30 --guidance=7.5
    python -m experiments.sample --model=FOLDER --prompt="..." --init_image=a.png --strength=0.6
    python -m experiments.sample --model=FOLDER --prompt="..." --init_image=a.png --mask=m.png

A PNG holds a grid of the images and, as text, the recipe that they were drawn by.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from absl import flags

from diffjax.diffusion.recipes import make_recipe
from diffjax.evals.pictures import tile_grid
from diffjax.evals.samples import caption
from diffjax.keys import seed_words
from diffjax.runs import TrainedRun
from diffjax.runs.config import read_config
from diffjax.tasks.diffusion import DiffusionTask
from diffjax.train.writer import encode_png
from experiments.cli import run_main
from experiments.flag_types import define_path, define_seed
from experiments.given_images import read_image, read_mask
from experiments.painter import Painter, drawn_by, painter_of_run, released_painter
from experiments.settings import assignments
from experiments.stages import opened

FLAGS = flags.FLAGS
# Options of the recipe that have a flag of their own; the others go by --set.
RECIPE = ("sampler", "steps", "guidance")


def define_flags() -> None:
    """The command line."""
    define_path("run", None, "Workdir of a trained run.")
    define_path("model", None, "Or a Stable Diffusion: a folder, a name on the hub, or a file.")
    define_path("tokenizer", None, "For --model: CLIP's, where it is a file.")
    define_path("out", None, "PNG to write; <run>/samples.png, or samples.png, by default.")
    define_seed("Seed; image n depends on it, n and what is asked for alone.")
    flags.DEFINE_integer("steps", None, "Steps of the sampler.", lower_bound=1)
    flags.DEFINE_string("sampler", None, "ddim, dpmpp_2m, euler, ...")
    flags.DEFINE_float("guidance", None, "Guidance scale; 1 is unguided.")
    flags.DEFINE_multi_string("set", [], "Another sampling option: eta=1, rescale=0.7, ...")
    flags.DEFINE_integer("step", None, "Of a run: its checkpoint; the latest by default.")
    flags.DEFINE_string(
        "ema", None, "Of a run: which average of the weights; by class the weights themselves, by "
        "text the one that the run's evaluators draw with."
    )  # fmt: skip
    flags.DEFINE_integer("columns", 10, "By class: samples of each.", lower_bound=1)
    flags.DEFINE_list("labels", [], "By class: classes to draw, by number; all by default.")
    flags.DEFINE_multi_string("prompt", [], "A text; several are rows of the grid.")
    flags.DEFINE_string("negative", "", "What is not wanted.")
    flags.DEFINE_integer("num", 4, "By text: images of each prompt.", lower_bound=1)
    flags.DEFINE_integer("batch_size", 4, "By text: images drawn at a time.", lower_bound=1)
    flags.DEFINE_integer("height", None, "By text: pixels; the model's own by default.")
    flags.DEFINE_integer("width", None, "By text: pixels.")
    flags.DEFINE_integer("clip_skip", 1, "For --model: 2 leaves out the text tower's last block.")
    define_path("init_image", None, "By text: an RGB image to start from.")
    flags.DEFINE_float("strength", None, "Share of the steps that are taken from --init_image.")
    define_path("mask", None, "Grey image: white where --init_image is drawn anew.")


def main() -> None:
    if (FLAGS.run is None) == (FLAGS.model is None):
        raise ValueError("give one of --run (a workdir) and --model (a Stable Diffusion)")
    if FLAGS.prompt or FLAGS.model:
        _by_text()
    else:
        _by_class(opened(Path(FLAGS.run), FLAGS.step, FLAGS.ema))


def _options() -> dict[str, Any]:
    named = {name: FLAGS[name].value for name in RECIPE if FLAGS[name].value is not None}
    return {**named, **assignments(FLAGS.set)}


def _write(picture: np.ndarray, described: dict[str, Any], default: Path) -> None:
    out = Path(FLAGS.out) if FLAGS.out else default
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_bytes(encode_png(picture, {"recipe": json.dumps(described, default=str)}))
    print(f"wrote {out}")


def _by_class(run: TrainedRun) -> None:
    task: Any = run.task
    told = [c.field for c in getattr(task, "conditions", ()) if c.field != "label"]
    if "sample" not in task.predict_fns():
        raise ValueError(f"{run.workdir} is a run of task {run.kind!r}, which draws nothing")
    if told:
        raise ValueError(f"{run.workdir} draws by {told[0]}: give --prompt")
    names = (getattr(task, "num_classes", True) and run.class_names) or ("all",)
    wanted = [int(k) for k in FLAGS.labels] or list(range(len(names)))
    for k in wanted:
        if not 0 <= k < len(names):
            raise ValueError(f"--labels={k} is no class: they are 0 to {len(names) - 1}")
    recipe = _options()
    label = np.tile(np.asarray(wanted, np.int32), FLAGS.columns)
    index = np.arange(len(label), dtype=np.int32)
    draw = task.predict_fns()["sample"]
    seed = np.asarray(seed_words(FLAGS.seed), np.uint32)
    images = np.asarray(draw(run.variables, seed, index, label, **recipe))
    tiles = images.reshape(FLAGS.columns, len(wanted), *images.shape[1:]).swapaxes(0, 1)
    described = {"run": str(FLAGS.run), "step": run.step, "ema": FLAGS.ema, "seed": FLAGS.seed,
                 **task.nfe(**recipe)}  # fmt: skip
    if isinstance(task, DiffusionTask):
        passes = make_recipe(**recipe).passes(task.schedule)
        described["network_passes"] = passes
    note = f"step {run.step:,} · seed {FLAGS.seed} · NFE {described['nfe']}"
    picture = tile_grid(tiles, rows=[names[k] for k in wanted], title="Samples", note=note)
    _write(picture, described, Path(FLAGS.run) / "samples.png")


def _by_text() -> None:
    if not FLAGS.prompt:
        raise ValueError("give --prompt, what is to be drawn")
    strength = _strength()
    image = None if FLAGS.init_image is None else read_image(Path(FLAGS.init_image))
    painter = _painter()
    size = _size(painter, image)
    mask = None if FLAGS.mask is None else read_mask(Path(FLAGS.mask), size)
    recipe = painter.make_recipe(**_options())
    taken = (painter.model.schedule, 1.0 if image is None else strength)
    how = {**recipe.describe(*taken), "network_passes": recipe.passes(*taken)}
    images = painter.draw(
        FLAGS.prompt, FLAGS.negative, recipe, FLAGS.seed, FLAGS.num, size, image, mask, strength,
        FLAGS.batch_size,
    )  # fmt: skip
    described = {
        **painter.facts,
        "prompt": FLAGS.prompt,
        "negative": FLAGS.negative,
        "seed": FLAGS.seed,
        "num": FLAGS.num,
        "height": size[0],
        "width": size[1],
        "clip_skip": FLAGS.clip_skip,
        **how,
    }
    if image is not None:
        described |= {"init_image": FLAGS.init_image, "strength": strength, "mask": FLAGS.mask}
    note = f"{caption(described)} · NFE {how['nfe']} · seed {FLAGS.seed}" + (
        f" · not: {FLAGS.negative}" if FLAGS.negative else ""
    )
    picture = tile_grid(images, rows=FLAGS.prompt, title="Drawn from text", note=note)
    _write(picture, described, Path(FLAGS.run or ".") / "samples.png")


def _strength() -> float:
    """Of image to image; what is given without an image is a mistake."""
    for name in ("strength", "mask"):
        if FLAGS[name].value is not None and FLAGS.init_image is None:
            raise ValueError(f"--{name} needs an image to start from: give --init_image")
    if FLAGS.strength is None:
        return 1.0 if FLAGS.mask else 0.8
    if not 0 <= FLAGS.strength <= 1:
        raise ValueError(f"--strength={FLAGS.strength} lies outside [0, 1]: 1 takes all steps")
    return FLAGS.strength


def _painter() -> Painter:
    if FLAGS.model is not None:
        for name in ("step", "ema"):
            if FLAGS[name].value is not None:
                raise ValueError(f"--{name} is of a run, not of --model")
        return released_painter(FLAGS.model, FLAGS.tokenizer, FLAGS.clip_skip)
    if FLAGS.clip_skip != 1 or FLAGS.tokenizer is not None:
        raise ValueError("--clip_skip and --tokenizer are for --model; a run has its own")
    run = Path(FLAGS.run)
    ema = FLAGS.ema if FLAGS.ema is not None else drawn_by(read_config(run))[1]
    return painter_of_run(opened(run, FLAGS.step, ema))


def _size(painter: Painter, image: np.ndarray | None) -> tuple[int, int]:
    """(height, width), checked: by flags, of the image, or the model's own."""
    given = (FLAGS.height, FLAGS.width)
    own = painter.size if image is None else image.shape[:2]
    height, width = (a if a is not None else b for a, b in zip(given, own, strict=True))
    if image is not None and (height, width) != own:
        raise ValueError(
            f"{FLAGS.init_image} is {own[1]} x {own[0]} pixels, but --width and --height say "
            f"{width} x {height}: resize it, or leave them out"
        )
    painter.model.latent_shape(height, width)
    return height, width


if __name__ == "__main__":
    define_flags()
    run_main(main)
