"""Compare two sets of images as the papers do: FID and its relatives.

    python -m experiments.fid samples/ cifar10:train --weights=pt_inception-2015-12-05-6726825d.pth
    python -m experiments.fid samples.npz VIRTUAL_imagenet256_labeled.npz --protocol=tensorflow \\
        --weights=FILE --metrics=fid,sfid,inception_score,precision_recall
    python -m experiments.fid seed0/,seed1/,seed2/ reference.npz --weights=FILE
    python -m experiments.fid drawn/ photos/ --metrics=cmmd,clip_score \\
        --clip=openai/clip-vit-base-patch32
    python -m experiments.fid digits:test digits:train --weights=runs/classifier_digits

The first argument is the samples, the second the reference: folders of images, data sets
`name:split`, or `.npz` files (mu and sigma of pytorch-fid, guided-diffusion or edm, or images in
arr_0). Several samples, with commas, are several draws. Statistics are kept by the content of the
images, the weights and the protocol, and found again the next time. Several processes, started
with --coordinator and its like, share the images out.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import jax
from absl import flags

from diffjax.assembly.stages import opened
from diffjax.choices import pick
from diffjax.data.prepared import default_data_dir
from diffjax.evals.compare import METRICS, Settings, compare
from diffjax.evals.features import DEQUANTISE, FeatureExtractor
from diffjax.evals.reference import write_reference
from diffjax.evals.released_features import PROTOCOLS, SCALES, clip_features
from diffjax.evals.resample import METHODS
from diffjax.evals.sides import FeatureSet
from diffjax.launch import distributed
from diffjax.launch.cli import arguments, run_main
from diffjax.launch.flag_types import define_path, expand
from diffjax.pretrained.clip import Encoders, released_encoders
from diffjax.pretrained.features import InceptionFeatures, features_of_run, over_local_devices
from diffjax.pretrained.fid_sets import ImageSet, captions, images_of, open_set, side_of
from diffjax.reports.comparison import comparison_lines
from diffjax.results import Result
from diffjax.train.progress import Progress
from diffjax.train.writer import replace_file

FLAGS = flags.FLAGS
ARGUMENTS = ("SAMPLES", "[REFERENCE]")
EVERY = 10.0  # seconds between lines of progress in a log


def define_flags() -> None:
    """The command line."""
    flags.DEFINE_list("metrics", ["fid"], f"Of {', '.join(METRICS)}.")
    define_path("weights", None, "InceptionV3 as a file, a folder or a name on the hub; or "
                        "the workdir of a classifier of ours.")  # fmt: skip
    define_path("clip", None, "Released CLIP weights: a folder, a file, a name on the hub.")
    flags.DEFINE_string("activation", None, "Of the CLIP, where its files do not say it.")
    flags.DEFINE_enum("protocol", "pytorch_fid", list(PROTOCOLS), "How images reach InceptionV3.")
    flags.DEFINE_enum("resize", None, list(METHODS), "Another resize than the protocol's.")
    flags.DEFINE_enum("scale", None, list(SCALES), "Another scale than the protocol's.")
    flags.DEFINE_enum("dequantise", "none", list(DEQUANTISE), "Noise on the levels of 8 bits.")
    flags.DEFINE_integer("width", 2048, "Features: 2048, or 64, 192, 768 of earlier layers.")
    flags.DEFINE_boolean("logits_bias", False, "Keep the bias in the logits of inception_score.")
    flags.DEFINE_integer("batch_size", 64, "Images at a time.", lower_bound=1)
    for name, value in asdict(Settings()).items():
        text = "See diffjax.evals.compare.Settings."
        flags.DEFINE_integer(name, value, text, lower_bound=0)
    define_path("cache", None, "Where statistics are kept; '' keeps none.")
    define_path("save", None, "Write the statistics of the reference to this .npz.")
    flags.DEFINE_boolean("save_images", False, "And its images beside them, in arr_0.")
    define_path("out", None, "Write the numbers and their protocols to this JSON.")
    distributed.define_flags()


def _extractor(kind: str) -> tuple[FeatureExtractor | None, Encoders | None]:
    """The extractor of a metric's kind, None where no weights are given; with a CLIP's towers."""
    if kind == "clip":
        if FLAGS.clip is None:
            raise ValueError("these metrics compare CLIP embeddings: give --clip")
        towers = released_encoders(FLAGS.clip, None, FLAGS.activation)
        sharding, batch = over_local_devices(FLAGS.batch_size)
        encode = towers.task.encode_image
        options = {"batch_size": batch, "sharding": sharding, "dequantise": FLAGS.dequantise}
        return clip_features(encode, towers.variables, towers.size, "CLIP", **options), towers
    if FLAGS.weights is None:
        return None, None
    if (Path(FLAGS.weights) / "config.json").is_file():
        own = features_of_run(opened(Path(FLAGS.weights)))
        return replace(own, batch_size=FLAGS.batch_size, dequantise=FLAGS.dequantise), None
    names = ("protocol", "resize", "scale", "width", "logits_bias", "batch_size", "dequantise")
    return InceptionFeatures(FLAGS.weights, **_given(names)).load(), None


def _given(names: Iterable[str]) -> dict[str, Any]:
    return {name: FLAGS[name].value for name in names}


def _cache() -> Path | None:
    if FLAGS.cache is None:
        return default_data_dir().parent / "features"
    return Path(FLAGS.cache) if FLAGS.cache else None


def _measured(
    image_set: ImageSet, extract: FeatureExtractor | None, how: Mapping[str, Any], keep_rows: bool
) -> FeatureSet:
    """One side, with progress on stderr."""
    images = 0 if image_set.source is None else len(image_set.source)
    if not images:
        return side_of(image_set, None, how, keep_rows, None, lambda done: None)
    own = images // jax.process_count()
    began = shown = time.monotonic()
    with Progress(own, stream=sys.stderr, unit=f"{image_set.name}: image") as progress:

        def say(done: int) -> None:
            nonlocal shown
            now = time.monotonic()
            due = now - shown > (0.2 if sys.stderr.isatty() else EVERY)
            pace = {"train/images_per_second": done / max(now - began, 1e-9)}
            progress.update(done, pace if due and jax.process_index() == 0 else None)
            shown = now if due else shown

        return side_of(image_set, extract, how, keep_rows, _cache(), say)


def _with_texts(side: FeatureSet, image_set: ImageSet, towers: Encoders | None) -> FeatureSet:
    if towers is None or image_set.source is None or "clip_score" not in FLAGS.metrics:
        return side
    return replace(side, texts=towers.texts(captions(image_set.source, image_set.name)))


def _compared(
    kind: str, names: list[str], samples: list[str], reference: str | None, settings: Settings
) -> list[list[Result]]:
    """The numbers of one extractor, for each of the samples."""
    extract, towers = _extractor(kind)
    channels = 3 if extract is None else extract.channels
    # Files hold levels of 8 bits already: how they were rounded, nobody knows here.
    drawn = [open_set(name, channels) for name in samples]
    against = None if reference is None else open_set(reference, channels)
    if extract is not None:
        how: dict[str, Any] = {**extract.protocol, "quantise": "as the files are"}
    else:
        files = [g.reference for g in (*drawn, against) if g is not None and g.reference]
        how = next((f.protocol for f in files if f.protocol), {"features": "unknown"})
    said = dict(how)
    if against is not None and against.reference is not None and not against.reference.protocol:
        said["reference_protocol"] = "not stated"
    kept = {s: any(s in METRICS[n].rows for n in names) for s in ("a", "b")}
    kept["a"] |= bool(settings.groups)
    b = None if against is None else _measured(against, extract, how, kept["b"])
    if b is not None and FLAGS.save and jax.process_index() == 0:
        if b.moments is None:
            raise ValueError(f"--save: {b.name} holds no mean and covariance")
        write_reference(
            FLAGS.save, b.moments, b.spatial, images_of(against) if FLAGS.save_images else None, how
        )
    found = []
    for image_set in drawn:
        a = _with_texts(_measured(image_set, extract, how, kept["a"]), image_set, towers)
        found.append(list(compare(names, settings, a, b or a, said)))
    return found


def main() -> None:
    names = [pick("metric", name, METRICS) for name in dict.fromkeys(FLAGS.metrics)]
    settings = Settings(**_given(asdict(Settings())))
    first, *rest = arguments()
    samples, reference = [expand(s) for s in first.split(",")], expand(rest[0]) if rest else None
    if reference is None and any(METRICS[n].reference for n in names):
        first = next(n for n in names if METRICS[n].reference)
        raise ValueError(f"{first} compares with a reference: give it as the second argument")
    if FLAGS.save and (reference is None or all(METRICS[n].extractor == "clip" for n in names)):
        raise ValueError("--save writes the reference's Inception statistics: there are none here")
    distributed.join()
    numbers: list[list[Result]] = [[] for _ in samples]
    for kind in ("inception", "clip"):
        own = [n for n in names if METRICS[n].extractor == kind]
        if own:
            more = _compared(kind, own, samples, reference, settings)
            numbers = [a + b for a, b in zip(numbers, more, strict=True)]
    if jax.process_index() == 0:
        print("\n".join(comparison_lines(numbers, samples)), flush=True)
        if FLAGS.out:
            found = {n: [asdict(s) for s in each] for n, each in zip(samples, numbers, strict=True)}
            replace_file(Path(FLAGS.out), (json.dumps(found, indent=2) + "\n").encode())


if __name__ == "__main__":
    define_flags()
    run_main(main, ARGUMENTS)
