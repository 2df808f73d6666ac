"""Draw samples of a trained run: `python -m experiments.sample --run=runs/digits --steps=25`."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from absl import flags

from diffjax.evals.pictures import tile_grid
from diffjax.train.writer import encode_png
from experiments.assemble import open_run
from experiments.cli import run_main
from experiments.settings import assignments

FLAGS = flags.FLAGS


def define_flags() -> None:
    """The command line."""
    flags.DEFINE_string("run", None, "Workdir of a trained run.", required=True)
    flags.DEFINE_string("out", None, "PNG to write; <run>/samples.png by default.")
    flags.DEFINE_integer("columns", 10, "Samples of each class.", lower_bound=1)
    flags.DEFINE_list("labels", [], "Classes to draw, by number; all by default.")
    flags.DEFINE_integer("seed", 0, "Seed; sample n depends on it and n alone.")
    flags.DEFINE_integer("step", None, "Checkpoint; the latest by default.")
    flags.DEFINE_string("ema", None, "Which average of the weights; none: the weights themselves.")
    flags.DEFINE_multi_string("set", [], "Sampling option, name=value: sampler=heun, steps=20, ...")


def main() -> None:
    assembly = open_run(Path(FLAGS.run))
    step, state, frozen = assembly.trained(FLAGS.step)
    names = (assembly.conditional and assembly.source.info.class_names) or ("all",)
    wanted = [int(k) for k in FLAGS.labels] or list(range(len(names)))
    for k in wanted:
        if not 0 <= k < len(names):
            raise ValueError(f"--labels={k} is no class: they are 0 to {len(names) - 1}")
    recipe = assignments(FLAGS.set)
    label = np.tile(np.asarray(wanted, np.int32), FLAGS.columns)
    index = np.arange(len(label), dtype=np.int32)
    draw = assembly.task.predict_fns()["sample"]
    images = np.asarray(
        draw(state.variables(frozen, FLAGS.ema), np.int32(FLAGS.seed), index, label, **recipe)
    )
    tiles = images.reshape(FLAGS.columns, len(wanted), *images.shape[1:]).swapaxes(0, 1)
    described = {"run": str(FLAGS.run), "step": step, "ema": FLAGS.ema, "seed": FLAGS.seed,
                 **assembly.task.nfe(**recipe)}  # type: ignore[attr-defined]  # fmt: skip
    note = f"step {step:,} · seed {FLAGS.seed} · NFE {described['nfe']}"
    picture = tile_grid(tiles, rows=[names[k] for k in wanted], title="Samples", note=note)
    out = Path(FLAGS.out) if FLAGS.out else Path(FLAGS.run) / "samples.png"
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_bytes(encode_png(picture, {"recipe": json.dumps(described, default=str)}))
    print(f"wrote {out}")


if __name__ == "__main__":
    define_flags()
    run_main(main)
