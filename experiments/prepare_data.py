"""Write a data set as array_record, once, to be read by `dict(type="tfds", name=...)`.

    python -m experiments.prepare_data --source=digits  # or shapes, shapes64
    python -m experiments.prepare_data --source=emoji --font=NotoColorEmoji.ttf  # or emoji64
    python -m experiments.prepare_data --source=cifar10 --path=cifar-10-binary.tar.gz
    python -m experiments.prepare_data --source=folder --path=photos --name=photos64 --size=64
    python -m experiments.prepare_data --source=folder --path=photos --name=photos \\
        --splits=train,test --on_corrupt=skip
    python -m experiments.prepare_data --source=latents --of=imagenet256 --codec=FOLDER --size=256

The last keeps a codec's moments of a set that is prepared already, for latent diffusion; a codec is
a run of ours, a folder of diffusers', or the name of a pipeline or of its `vae` on the hub. With
--flips those of the mirrored pictures are kept too, for a `random_flip` (twice the disk).

Sets are written below --data_dir ($DIFFJAX_DATA, or ~/.cache/diffjax/data). No network is used:
archives are files that you downloaded, and their SHA-256 is checked.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

from absl import flags

from diffjax.assembly.stages import complete
from diffjax.choices import unknown
from diffjax.data.builders import cifar, folder
from diffjax.data.builders.base import CONTENT, RecordBuilder, prepare
from diffjax.data.captions import check_texts
from diffjax.data.folder import FolderSource
from diffjax.data.folder_files import shown
from diffjax.data.prepared import EMBEDDED, PreparedSource, default_data_dir, prepared_splits
from diffjax.data.tokenizer_files import load_tokenizer
from diffjax.data.transforms import make_transforms
from diffjax.launch.cli import run_main
from diffjax.launch.flag_types import define_path
from diffjax.pretrained.codec import load_codec
from diffjax.pretrained.latent_cache import latent_builder

FLAGS = flags.FLAGS

Make = Callable[[Path], RecordBuilder]


def define_flags() -> None:
    """The command line."""
    known = ", ".join([*EMBEDDED, *cifar.LAYOUTS])
    flags.DEFINE_string("source", None, f"{known}, folder or latents.", required=True)
    define_path("path", None, "The folder, or the archive.")
    define_path("font", None, "emoji: a colour emoji font; by default NotoColorEmoji.ttf, found.")
    define_path("data_dir", None, "Where data sets are kept.")
    flags.DEFINE_string(
        "name", None, "folder: name of the data set, by default the folder's. latents: by default "
        "that of the set, with _latents."
    )  # fmt: skip
    flags.DEFINE_list(
        "splits", [], "folder: folders inside it, one per split; none is all train. latents: of "
        "the set; all by default.",
    )  # fmt: skip
    flags.DEFINE_integer("size", None, "folder, latents: crop and resize to squares of this side.")
    flags.DEFINE_string("of", None, "latents: a prepared set, in --data_dir.")
    define_path("codec", None, "latents: a run's workdir, a folder, or a name on the hub.")
    flags.DEFINE_string("ema", None, "latents: which average of a run's weights.")
    flags.DEFINE_boolean("flips", False, "latents: keep those of the mirrored pictures too.")
    flags.DEFINE_integer("channels", 3, "folder: 3 for RGB, 1 for grey.")
    flags.DEFINE_list(
        "classes", [], "folder: the classes in the order of their labels; by default those found."
    )
    flags.DEFINE_enum("on_corrupt", "error", ["error", "skip"], "folder: on a corrupt image.")
    define_path(
        "tokenizer", None, "folder: refuse captions that this tokenizer, a file or folder, would."
    )
    flags.DEFINE_string("sha256", None, "cifar: of an archive that was packed again.")


def folder_recipe() -> tuple[str, Make]:
    """(name, builder) of a folder of images."""
    path = Path(FLAGS.path)
    name = FLAGS.name or path.resolve().name
    if not name.isidentifier():
        raise ValueError(f"--name={name}: use letters, digits and underscores alone")
    options = dict(size=FLAGS.size, channels=FLAGS.channels, on_corrupt=FLAGS.on_corrupt)
    options |= dict(class_names=tuple(FLAGS.classes) or None)
    sources = {
        split or "train": FolderSource(path, split, **options) for split in FLAGS.splits or [None]
    }
    tokenizer = load_tokenizer(FLAGS.tokenizer) if FLAGS.tokenizer else None
    for split, source in sources.items():
        if tokenizer is not None:
            check_texts(source, tokenizer)
        for file, reason in source.skipped:
            print(f"{split}: skipped {shown(file)} ({reason})")
    return name, lambda aside: folder.builder(name, sources, aside)


def cifar_recipe() -> tuple[str, Make]:
    """(name, builder) of a CIFAR archive."""
    name, path = FLAGS.source, Path(FLAGS.path)
    return name, lambda aside: cifar.builder(name, path, aside, FLAGS.sha256)


def latents_recipe(data_dir: Path) -> tuple[str, Make]:
    """(name, builder) of a codec's moments of a prepared set."""
    for flag in ("of", "codec"):
        if not FLAGS[flag].value:
            raise ValueError(f"--source=latents needs --{flag}")
    kind = "run" if (Path(FLAGS.codec) / "config.json").exists() and (
        Path(FLAGS.codec) / "checkpoints").exists() else "model"  # fmt: skip
    reference = {kind: FLAGS.codec} | ({"ema": FLAGS.ema} if FLAGS.ema else {})
    complete({"codec": reference}, data_dir, named=True)
    codec = load_codec(reference)
    splits = FLAGS.splits or prepared_splits(FLAGS.of, data_dir)
    sources = {s: PreparedSource(FLAGS.of, s, data_dir, size=FLAGS.size) for s in splits}
    name = FLAGS.name or f"{FLAGS.of.partition(':')[0]}_latents"
    to_float = make_transforms([{"type": "to_float"}])
    flips = FLAGS.flips
    return name, lambda aside: latent_builder(name, sources, to_float, codec, aside, flips)


def recipe(data_dir: Path) -> tuple[str, Make]:
    """(name, builder) of what the flags ask for."""
    if FLAGS.source == "latents":
        return latents_recipe(data_dir)
    if FLAGS.font and not FLAGS.source.startswith("emoji"):
        raise ValueError(f"--font is read by --source=emoji, not by {FLAGS.source}")
    if FLAGS.source in EMBEDDED:
        font = {"font": FLAGS.font} if FLAGS.font else {}
        return FLAGS.source, lambda aside: EMBEDDED[FLAGS.source](data_dir=aside, **font)
    if FLAGS.source != "folder" and FLAGS.source not in cifar.LAYOUTS:
        raise unknown("--source", FLAGS.source, [*EMBEDDED, "folder", "latents", *cifar.LAYOUTS])
    if not FLAGS.path:
        raise ValueError(f"--source={FLAGS.source} needs --path")
    return folder_recipe() if FLAGS.source == "folder" else cifar_recipe()


def main() -> None:
    """Prepares the set, or finds it prepared from the same data, and says how to read it."""
    data_dir = Path(FLAGS.data_dir) if FLAGS.data_dir else default_data_dir()
    name, make = recipe(data_dir)
    prepared: list[RecordBuilder] = []

    def kept(aside: Path) -> RecordBuilder:
        prepared.append(make(aside))
        return prepared[0]

    final = prepare(kept, name, data_dir, progress=sys.stderr.isatty())
    if not prepared and (FLAGS.source in ("folder", "latents") or FLAGS.font):
        # Nothing was written: make sure that what is there is what was asked for.
        stored = json.loads((final / CONTENT).read_text())
        if stored != make(data_dir).fingerprints:
            raise ValueError(
                f"{final}: holds other data than {FLAGS.path or FLAGS.of or FLAGS.font}; choose "
                "another --name, or remove it"
            )
    for split in json.loads((final / CONTENT).read_text()):
        source = PreparedSource(name, split, data_dir)
        shape = "x".join("?" if s is None else str(s) for s in source.info.image_shape)
        what = "latents" if source.info.codec else "images"
        print(f"{split}: {len(source)} {what} {shape}, {source.info.num_classes} classes")
    print(f"{final}\nread it with dict(type='tfds', name='{name}', split=...)")


if __name__ == "__main__":
    define_flags()
    run_main(main)
