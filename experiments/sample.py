"""Draw: from a trained run by class or by text, or from a released model.

    python -m experiments.sample --run=runs/digits --steps=25
    python -m experiments.sample --run=runs/latent_shapes --prompt="a red circle"
    python -m experiments.sample --model=stable-diffusion-v1-5/stable-diffusion-v1-5 \\
        --prompt="an astronaut riding a horse" --negative="blurry" --steps=30 --guidance=7.5
    python -m experiments.sample --model=FOLDER --prompt="..." --init_image=a.png --strength=0.6
    python -m experiments.sample --model=FOLDER --prompt="..." --init_image=a.png --mask=m.png
    python -m experiments.sample --run=runs/unclip_shapes --embedding=variations --init_image=a.png
    python -m experiments.sample --run=runs/unclip_shapes --embedding=interpolate \\
        --init_image=a.png --other_image=b.png
    python -m experiments.sample --run=runs/unclip_shapes --embedding=text_difference \\
        --init_image=a.png --source="a red circle" --prompt="a blue circle"

A run draws by the `sampling` section of its config, as its evaluators do, and with the average of
the weights that it names. A PNG holds a grid of the images and, as text, the recipe that they were
drawn by.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from absl import flags

from diffjax.assembly.stages import opened
from diffjax.data.given_images import read_image, read_mask
from diffjax.evals.samples import drawn_note, sample_grid, sample_numbers
from diffjax.generate.pipeline import Pipeline
from diffjax.launch.cli import run_main
from diffjax.launch.flag_types import define_path, define_seed
from diffjax.launch.settings import assignments
from diffjax.pretrained.pipelines import Prior, drawn_by
from diffjax.pretrained.released import stable_diffusion_pipeline
from diffjax.runs.config import read_config
from diffjax.train.writer import encode_png
from experiments.sample_by_embedding import NEEDS, by_embedding, check_embedding

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
        "ema", None, "Of a run: which average of the weights; that of the config's `sampling` by "
        "default, 'none' for the weights themselves."
    )  # fmt: skip
    flags.DEFINE_integer("columns", 10, "By class: samples of each.", lower_bound=1)
    flags.DEFINE_list("labels", [], "By class: classes to draw, by number; all by default.")
    flags.DEFINE_multi_string("prompt", [], "A text; several are rows of the grid.")
    flags.DEFINE_string("negative", "", "By text: what is not wanted.")
    flags.DEFINE_integer("num", 4, "By text: images of each prompt.", lower_bound=1)
    flags.DEFINE_integer("batch_size", None, "Images drawn at a time.", lower_bound=1)
    flags.DEFINE_integer("height", None, "Pixels; the model's own by default.")
    flags.DEFINE_integer("width", None, "Pixels.")
    flags.DEFINE_integer("clip_skip", 1, "For --model: 2 leaves out the text tower's last block.")
    define_path("init_image", None, "An image to start from.")
    flags.DEFINE_float("strength", None, "Share of the steps that are taken from --init_image.")
    define_path("mask", None, "Grey image: white where --init_image is drawn anew.")
    flags.DEFINE_enum(
        "embedding", None, list(NEEDS), "Of a decoder of image embeddings: what is made of "
        "--init_image through its embedding, by ddim; --num images."
    )  # fmt: skip
    define_path("other_image", None, "Of --embedding=interpolate: the image at the other end.")
    flags.DEFINE_string("source", None, "Of --embedding=text_difference: what the image shows.")


def main() -> None:
    if (FLAGS.run is None) == (FLAGS.model is None):
        raise ValueError("give one of --run (a workdir) and --model (a Stable Diffusion)")
    if FLAGS.model and not FLAGS.prompt:
        raise ValueError("give --prompt, what is to be drawn")
    strength = _strength()
    check_embedding(FLAGS)
    pipeline = _pipeline()
    if FLAGS.embedding is not None:
        _write(*by_embedding(FLAGS, pipeline, _options()))
        return
    size, image, mask = _image(pipeline)
    cond, names, rows, columns = _asked(pipeline)
    options = _options()
    how = pipeline.describe(strength, **options)
    negative = None
    if FLAGS.negative:
        assert pipeline.tokenize is not None  # _asked refuses a negative without text
        ids = pipeline.tokenize([FLAGS.negative])
        negative = {"tokens": np.repeat(ids, rows * columns, axis=0)}
    index = sample_numbers(rows, columns, bool(FLAGS.prompt))
    images = pipeline.draw(
        cond, FLAGS.seed, index, negative, size, image, mask, strength,
        batch_size=FLAGS.batch_size or _batch_size(pipeline), **options,
    )  # fmt: skip
    described = {**pipeline.facts, **_described(size, columns), **how}
    tiles = images.reshape(columns, rows, *images.shape[1:]).swapaxes(0, 1)
    _write(tiles, names, described)


def _write(tiles: np.ndarray, names: Sequence[str], described: dict[str, Any]) -> None:
    """A grid of `tiles [R, C, H, W, channels]` with the recipe that they were drawn by."""
    picture = sample_grid(tiles, names, drawn_note(described, FLAGS.seed, FLAGS.negative))
    out = Path(FLAGS.out) if FLAGS.out else Path(FLAGS.run or ".") / "samples.png"
    out.parent.mkdir(parents=True, exist_ok=True)
    written = {"recipe": json.dumps(described, default=str)}
    out.write_bytes(encode_png(picture.image, written))
    print(f"wrote {out}")


def _batch_size(pipeline: Pipeline | Prior) -> int:
    """As many as evaluators draw at a time, of small images; few of large ones."""
    return 100 if max(pipeline.image_shape) <= 64 else 4


def _options() -> dict[str, Any]:
    named = {name: FLAGS[name].value for name in RECIPE if FLAGS[name].value is not None}
    return {**named, **assignments(FLAGS.set)}


def _described(size: tuple[int, int] | None, columns: int) -> dict[str, Any]:
    said: dict[str, Any] = {"seed": FLAGS.seed, "num": columns}
    if FLAGS.prompt:
        said |= {"prompt": FLAGS.prompt, "negative": FLAGS.negative, "clip_skip": FLAGS.clip_skip}
    if size is not None:
        said |= {"height": size[0], "width": size[1]}
    if FLAGS.init_image is not None:
        strength = _strength()
        said |= {"init_image": FLAGS.init_image, "strength": strength, "mask": FLAGS.mask}
    return said


def _asked(
    pipeline: Pipeline | Prior,
) -> tuple[dict[str, np.ndarray], Sequence[str], int, int]:
    """The conditions, `[rows * columns, ...]` by field, column after column of the grid; the
    names of its rows, none where it draws by nothing; and how many rows and columns there are.

    Raises:
      ValueError: flags that the model does not draw by.
    """
    where = FLAGS.run or FLAGS.model
    fields = pipeline.fields
    if FLAGS.prompt:
        if fields != ["tokens"] or pipeline.tokenize is None:
            raise ValueError(
                f"{where} draws by {' and '.join(fields) or 'nothing'}: --prompt needs a model "
                "that is conditioned by text alone"
            )
        ids = pipeline.tokenize(FLAGS.prompt)
        tokens = np.tile(ids, (FLAGS.num, 1))
        return {"tokens": tokens}, FLAGS.prompt, len(ids), FLAGS.num
    other = [f for f in fields if f != "label"]
    if other:
        how = "give --prompt" if other == ["tokens"] else "call diffjax.generate from Python"
        raise ValueError(f"{where} draws by {other[0]}: {how}")
    if FLAGS.negative:
        raise ValueError("--negative is of texts: give --prompt")
    if not fields:
        if FLAGS.labels:
            raise ValueError(f"--labels: {where} draws by no class")
        return {}, (), min(FLAGS.columns, 20), FLAGS.columns
    names = pipeline.class_names or tuple(map(str, range(pipeline.num_classes)))
    wanted = [int(k) for k in FLAGS.labels] or list(range(len(names)))
    for k in wanted:
        if not 0 <= k < len(names):
            raise ValueError(f"--labels={k} is no class: they are 0 to {len(names) - 1}")
    label = np.tile(np.asarray(wanted, np.int32), FLAGS.columns)
    return {"label": label}, [names[k] for k in wanted], len(wanted), FLAGS.columns


def _strength() -> float:
    """Of image to image; what is given without an image is a mistake."""
    for name in ("strength", "mask"):
        if FLAGS[name].value is not None and FLAGS.init_image is None:
            raise ValueError(f"--{name} needs an image to start from: give --init_image")
    if FLAGS.init_image is None or FLAGS.strength is None:
        return 1.0 if FLAGS.mask or FLAGS.init_image is None else 0.8
    if not 0 <= FLAGS.strength <= 1:
        raise ValueError(f"--strength={FLAGS.strength} lies outside [0, 1]: 1 takes all steps")
    return FLAGS.strength


def _pipeline() -> Pipeline | Prior:
    if FLAGS.model is not None:
        for name in ("step", "ema"):
            if FLAGS[name].value is not None:
                raise ValueError(f"--{name} is of a run, not of --model")
        return stable_diffusion_pipeline(FLAGS.model, FLAGS.tokenizer, FLAGS.clip_skip)
    if FLAGS.clip_skip != 1 or FLAGS.tokenizer is not None:
        raise ValueError("--clip_skip and --tokenizer are for --model; a run has its own")
    run = Path(FLAGS.run)
    ema = FLAGS.ema or read_config(run).get("sampling", {}).get("ema")
    return drawn_by(opened(run, FLAGS.step, None if ema == "none" else ema))


def _image(
    pipeline: Pipeline | Prior,
) -> tuple[tuple[int, int] | None, np.ndarray | None, np.ndarray | None]:
    """(height, width), image and mask, checked: by flags, of the image, or the model's own; None
    for data that have no height and width."""
    image = None if FLAGS.init_image is None else read_image(Path(FLAGS.init_image))
    size = (FLAGS.height, FLAGS.width)
    if isinstance(pipeline, Prior) or len(pipeline.image_shape) != 3:
        if image is not None or size != (None, None):
            raise ValueError(f"{FLAGS.run} draws from noise alone, images of one size")
        return None, None, None
    own = pipeline.image_shape[:2] if image is None else image.shape[:2]
    height, width = (a if a is not None else b for a, b in zip(size, own, strict=True))
    if image is not None and (height, width) != own:
        raise ValueError(
            f"{FLAGS.init_image} is {own[1]} x {own[0]} pixels, but --width and --height say "
            f"{width} x {height}: resize it, or leave them out"
        )
    pipeline.model.resized(height, width)  # Refuses what the networks cannot take.
    mask = None if FLAGS.mask is None else read_mask(Path(FLAGS.mask), (height, width))
    return (height, width), image, mask


if __name__ == "__main__":
    define_flags()
    run_main(main)
