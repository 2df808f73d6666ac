"""Search images by words or by another image, with a trained or a released CLIP.

    python -m experiments.search --run=runs/clip_shapes --split=compositions --text="a red circle"
    python -m experiments.search --run=runs/clip_shapes --folder=IMAGES --image=query.png
    python -m experiments.search --model=openai/clip-vit-base-patch32 --folder=IMAGES \\
        --text="a dog in the snow" --text="a harbour at night"

Leaves one HTML page. The images' embeddings are kept beside it, and only new or changed images are
encoded the next time.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from absl import flags
from PIL import UnidentifiedImageError

from diffjax.assembly.data import DataConfig
from diffjax.assembly.stages import opened
from diffjax.choices import construct, unknown
from diffjax.data.folder_files import read_file
from diffjax.data.images import CORRUPT, decode
from diffjax.data.sources import make_source
from diffjax.launch.cli import run_main
from diffjax.launch.flag_types import define_path, define_paths
from diffjax.pretrained.clip import Encoders, encoders_of_run, released_encoders
from diffjax.pretrained.search_index import Examples, Folder, index
from diffjax.reports.search import Query, best, write_page

FLAGS = flags.FLAGS


def define_flags() -> None:
    """The command line."""
    define_path("run", None, "Workdir of a trained run of the task clip.")
    flags.DEFINE_integer("step", None, "Checkpoint of the run; the latest by default.")
    flags.DEFINE_string("ema", None, "Which average of the weights; none: the weights themselves.")
    define_path("model", None, "Released weights: a folder, a file, or a name on the hub.")
    define_path("tokenizer", None, "Of the model; by default what lies with its weights.")
    flags.DEFINE_string("activation", None, "Of the model, where its files do not say it.")
    define_path("folder", None, "Images to search, in whatever folders below it.")
    flags.DEFINE_string("split", None, "Or a split of the run's own data: train, test, ...")
    flags.DEFINE_multi_string("text", [], "What to look for, in words; again for more.")
    define_paths("image", [], "What to look for, as an image file; again for more.")
    flags.DEFINE_integer("top", 24, "Images shown of each search.", lower_bound=1)
    define_path("out", None, "Page to write; by default <run>/search.html, search.html.")


def _one_of(first: str, second: str, why: str) -> None:
    if (FLAGS[first].value is None) == (FLAGS[second].value is None):
        raise ValueError(f"give one of --{first} and --{second}: {why}")


def _check_flags() -> None:
    """Refuses what it can before anything is loaded."""
    _one_of("run", "model", "what encodes the images")
    _one_of("folder", "split", "what is searched")
    of_run = ("split", "step", "ema")
    foreign = of_run if FLAGS.model else ("tokenizer", "activation")
    wrong = [name for name in foreign if FLAGS[name].value is not None]
    if wrong:
        raise ValueError(f"--{wrong[0]} is not read with --{'model' if FLAGS.model else 'run'}")
    if not FLAGS.text and not FLAGS.image:
        raise ValueError("nothing to look for: give --text='a red circle', or --image=query.png")


def split_of(config: Mapping[str, Any], name: str) -> Examples:
    """The images of a split of a run's data: `train`, `test`, or one of its others."""
    data = construct(DataConfig, "data", config["data"])
    tests = {} if data.test is None else {"test": data.test}
    sections = {"train": data.train, **tests, **data.others}
    if name not in sections:
        raise unknown("--split", name, sections)
    source = make_source(**sections[name])
    return Examples(f"{source.info.name}, {name}", source)


def _read_query(path: str) -> np.ndarray:
    try:
        return decode(read_file(path), 3)
    except FileNotFoundError:
        raise ValueError(f"--image={path}: no such file") from None
    except UnidentifiedImageError:
        raise ValueError(f"--image={path}: no image of a kind that can be read") from None
    except CORRUPT as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ValueError(f"--image={path}: cannot be read ({reason})") from None


def _queries(encoders: Encoders) -> list[Query]:
    found = [
        Query(text, None, row)
        for text, row in zip(
            FLAGS.text, encoders.texts(FLAGS.text) if FLAGS.text else (), strict=True
        )
    ]
    for path in FLAGS.image:
        pixels = _read_query(path)
        found.append(Query(Path(path).name, pixels, encoders.images([encoders.prepare(pixels)])[0]))
    return found


def main() -> None:
    _check_flags()
    images: Folder | Examples | None = Folder(Path(FLAGS.folder)) if FLAGS.folder else None
    for path in FLAGS.image:
        _read_query(path)
    if FLAGS.run:
        run = opened(Path(FLAGS.run), FLAGS.step, FLAGS.ema)
        images = images or split_of(run.config, FLAGS.split)
        encoders = encoders_of_run(run)
    else:
        encoders = released_encoders(FLAGS.model, FLAGS.tokenizer, FLAGS.activation)
    assert images is not None
    if isinstance(images, Folder) and images.left_out:
        print(f"left out {images.left_out}")
    out = Path(FLAGS.out) if FLAGS.out else Path(FLAGS.run or ".") / "search.html"
    queries = _queries(encoders)
    found = index(images, encoders, out.with_suffix(".index.npz"))
    for name, reason in found.skipped:
        print(f"skipped {name} ({reason})")
    results = best(queries, found, FLAGS.top)
    for result in results:
        first = images.names[int(found.places[result.rows[0]])]
        print(f"{result.query.name}: {first} {result.scores[0]:.3f}")
    print(f"wrote {write_page(out, encoders.name, images, found, results)}")


if __name__ == "__main__":
    define_flags()
    run_main(main)
