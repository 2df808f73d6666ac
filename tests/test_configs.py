"""Every config builds its run, and every key of it is read.

No data are read: a stand-in of the shape that the config names takes the place of the set, and a
batch of generated scenes that of `shapes`, whose captions and factors a run is built from.
"""

import dataclasses
import importlib
import inspect
import re
from pathlib import Path

import jax
import numpy as np
import pytest
from drawings import drawings
from ml_collections import ConfigDict
from scenes import scenes

from diffjax.assembly import experiment as assemble
from diffjax.assembly.experiment import Experiment
from diffjax.assembly.frozen import Frozen
from diffjax.assembly.stages import outline_scorers
from diffjax.choices import build, construct, unknown
from diffjax.data import tokenizer_files
from diffjax.data.arrays import ArraySource
from diffjax.data.builders.shapes import folder_name
from diffjax.data.evaluation import as_arrays
from diffjax.data.factor_label import FactorLabelSource
from diffjax.data.factors import PAIR_NAMES
from diffjax.data.schema import DatasetInfo
from diffjax.data.sources import SOURCES
from diffjax.data.tokenizer import EOT, SOT, alphabet
from diffjax.data.tokenizer_training import train_tokenizer
from diffjax.denoisers.conditions import make_conditions
from diffjax.denoisers.conditions.text import FrozenTower
from diffjax.denoisers.embeddings import EmbeddingSpace, ImageTower
from diffjax.denoisers.model import DiffusionModel
from diffjax.denoisers.spaces import DataSpace
from diffjax.diffusion.predictions import V
from diffjax.diffusion.schedules import Cosine
from diffjax.evals.features import Extracted
from diffjax.keys import Rng
from diffjax.launch.settings import load_config
from diffjax.models import build_model
from diffjax.models.perceptual import Perceptual
from diffjax.pretrained.cascade import BaseConfig, LoadedBase
from diffjax.pretrained.codec import Codec, CodecConfig
from diffjax.pretrained.features import FEATURES
from diffjax.pretrained.guide import Guide, GuideConfig
from diffjax.pretrained.image_tower import EmbeddingConfig, ImageTowerConfig, LoadedImageTower
from diffjax.pretrained.perceptual import PerceptualConfig, make_perceptual
from diffjax.pretrained.prior import LoadedPrior, PriorConfig
from diffjax.pretrained.text import TextTower, TextTowerConfig
from diffjax.runs.config import flat
from diffjax.runs.resolved import Resolved
from diffjax.train.optim import make_optimizer
from diffjax.train.step import init_state

ROOT = Path(__file__).resolve().parent.parent
FILES = sorted(
    p.relative_to(ROOT).as_posix()
    for p in (ROOT / "configs").rglob("*.py")
    if p.name not in ("__init__.py", "common.py", "networks.py")
)
LARGE = (
    "configs/adm/imagenet.py",
    "configs/autoencoder/imagenet256.py",
    "configs/ddpm/lsun256.py",
    "configs/ddim/celeba64.py",
    "configs/dit/imagenet256.py",
    "configs/edm/cifar10.py",
    "configs/iddpm/cifar10.py",
    "configs/released/cifar10.py",
)
DEFAULT_SHAPE = (8, 8, 1)  # of the embedded digits
SHAPES = {"shapes": (32, 32, 3)}


def arguments(file: str) -> list:
    """`file`, or `file:name` for each argument that it takes: it lists them when asked wrongly."""
    module = importlib.import_module(file.removesuffix(".py").replace("/", "."))
    try:
        module.get_config("no such argument")
    except ValueError as error:
        listed = re.search(r"known: (.*)\)?$", str(error))
        names = re.split(r",\s*", listed[1].rstrip(")")) if listed else []
        # Other sizes of the same network differ in numbers alone, and take long to trace.
        first = pytest.param(file, marks=pytest.mark.heavy) if file in LARGE else file
        return [first, *(pytest.param(f"{file}:{n}", marks=pytest.mark.heavy) for n in names)]
    raise AssertionError(f"{file} takes any argument")


CONFIGS = [config for file in FILES for config in arguments(file)]


class StandIn:
    """As many black images as one batch needs, with captions where a tokenizer reads them."""

    def __init__(
        self, name: str, shape: tuple[int, ...], classes: int, size: int, captions: bool,
        codec: str | None = None,
    ):  # fmt: skip
        self.captions = captions
        self.info = DatasetInfo(name, "train", size, shape, classes, (), "stand-in", codec)

    def __len__(self) -> int:
        return self.info.num_examples

    def __getitem__(self, index: int) -> dict:
        kind = np.float32 if self.info.codec else np.uint8
        record = {"image": np.zeros(self.info.image_shape, kind)}
        record |= {"caption": "nothing"} if self.captions else {}
        return record | ({"label": np.int32(0)} if self.info.num_classes else {})


def stage_before(data: dict) -> LoadedBase:
    """A base of a cascade on a config's `data`, of half the size, without its weights."""
    name = data["train"]["type"]
    of_scenes = name == "shapes"
    whole, channels, classes = (64, 3, len(PAIR_NAMES)) if of_scenes else (8, 1, 10)
    side = data["transforms"][0].get("size", whole) // 2
    shape = (side, side, channels)
    network = build_model("dit", width=8, depth=1, heads=2, patch=2, out_channels=channels)
    model = DiffusionModel(network, DataSpace(shape), Cosine(), V())
    name = folder_name(data["train"]["size"]) if of_scenes else name
    resolved = Resolved(name, shape, classes, (), {}, {}, {})
    return LoadedBase(model, (("steps", 2),), {}, resolved, None)


def prior_of(encoder) -> LoadedPrior:
    """A prior in the embeddings of `encoder`, without its weights."""
    words = train_tokenizer(["a red circle"], 520, context=20)
    tokenizer = dataclasses.replace(words, overlong="truncate")
    text = build_model("text", embed=16, width=8, depth=2, heads=2, context=20, vocab=520)
    tower = FrozenTower(text, tuple(tokenizer.null_ids.tolist()))
    space = EmbeddingSpace(ImageTower(encoder))
    section = {"caption": dict(type="text", tower={}, to="both", drop=0.1)}
    conditions = make_conditions(section, 0, space, {"caption": tower})
    network = build_model("prior", out_channels=16, width=8, depth=1, heads=2, context_length=20,
                          vector_dim=16)  # fmt: skip
    model = DiffusionModel(network, space, Cosine(), V(), conditions)
    resolved = Resolved("shapes", (32, 32, 3), 0, (), {}, {}, {})
    return LoadedPrior(model, (("steps", 2),), {}, resolved, tokenizer)


@pytest.fixture
def without_data(monkeypatch):
    """Experiment reads no data: sources are stand-ins whose options are checked all the same."""
    seen: dict = {}

    def vocabulary(path):
        """Of the released size, in place of the file."""
        tokens = [*alphabet(), SOT, EOT]
        words = [f"word {i}" for i in range(49408 - len(tokens))]
        return {token: i for i, token in enumerate([*words, *tokens])}, ()

    def source(type, **options):
        if type not in SOURCES:
            raise unknown("source", type, SOURCES)
        known = inspect.signature(SOURCES[type]).parameters
        for key in options:
            if key not in known:
                raise unknown("key of source", key, known)
        config = seen["config"]
        if type == "shapes":
            size = config["train"]["batch_size"]
            return scenes(options.get("split", "train"), size, options.get("size", 32))
        if type == "emoji":
            split, label = options.get("split", "train"), options.get("label", "concept")
            return drawings(split, config["train"]["batch_size"], label)
        shape = config["data"].get("image_shape") or DEFAULT_SHAPE
        label = config.get("conditions", {}).get("label", {})
        classes = label.get("classes") or config["model"].get("num_classes", 10)
        size = config["train"]["batch_size"]
        codec = "stand-in" if "codec" in config else None
        return StandIn(type, tuple(shape), classes, size, "tokenizer" in config, codec)

    def frozen(reference, conditions):
        """Networks of the released sizes, without their weights."""
        codec, towers, section = None, {}, reference("codec")
        if section:
            construct(CodecConfig, "codec", section)
            mult = (1, 2, 2) if "run" in section else (1, 2, 4, 4)
            codec = Codec(
                build_model("autoencoder", channels=32, channel_mult=mult), {}, "stand-in"
            )
        encoder = build_model("clip_image", embed=16, image=dict(type="vit", width=8, depth=1,
                              heads=2, patch=8, image_size=32))  # fmt: skip
        for name in [n for n, c in conditions.items() if "tower" in c]:
            if conditions[name].get("type") == "image_embedding":
                construct(ImageTowerConfig, name, conditions[name]["tower"])
                towers[name] = LoadedImageTower(ImageTower(encoder), {}, "stand-in")
                continue
            choices = construct(TextTowerConfig, name, conditions[name]["tower"])
            words = train_tokenizer(["a red circle"], 520, context=20)
            tokenizer = dataclasses.replace(words, overlong="truncate")
            tower = build_model("text", embed=16, width=96, depth=2, heads=2, context=20, vocab=520)
            blank = tuple(tokenizer.null_ids.tolist())
            read = FrozenTower(tower, blank, choices.skip)
            towers[name] = TextTower(read, {}, tokenizer, "stand-in")
        embedding = reference("embedding")
        if embedding:
            construct(EmbeddingConfig, "embedding", embedding)
            embedding = LoadedImageTower(ImageTower(encoder), {}, "stand-in")
        guide = reference("guide")
        if guide:
            construct(GuideConfig, "guide", guide)
            shape = seen["config"]["data"].get("image_shape") or DEFAULT_SHAPE
            network = build_model("dit", width=8, depth=1, heads=2, patch=2, out_channels=shape[-1])
            model = DiffusionModel(network, DataSpace(tuple(shape)), Cosine(), V())
            guide = Guide(model, {}, None)
        base = reference("base")
        if base:
            construct(BaseConfig, "base", base)
            base = stage_before(seen["config"]["data"])
        origins = dict.fromkeys(("codec", "embedding", "guide", "base", *towers), "stand-in")
        prior = reference("prior")
        if prior:
            construct(PriorConfig, "prior", prior)
            prior = prior_of(encoder)
            origins["prior"] = "stand-in"
        return Frozen(codec, towers, origins, guide, embedding, prior, base=base)

    def perceptual(section, workdir):
        """A classifier's network without its weights."""
        if not section or "vgg" in section:
            return make_perceptual(section, workdir)
        construct(PerceptualConfig, "perceptual", section)
        network = build_model("convnet", num_classes=2)
        return Perceptual(network, heads=False), None

    def moments(data, source, codec, pictures, towers):
        if not data.cache_latents:
            return source
        if codec is None and "image" not in towers:
            raise ValueError("data.cache_latents=True without a codec section")
        columns = dict(source.columns)
        shape = (8, 8, 8) if codec else (towers["image"].tower.width,)
        latents = np.zeros((len(source), *shape), np.float32)
        captions, made_by = columns["caption"], codec or towers["image"]
        others = {field: np.zeros((len(source), tower.tower.width), np.float32)
                  for field, tower in towers.items() if field != "image"}  # fmt: skip
        return ArraySource(latents, columns["label"], captions, others,
                           codec=made_by.fingerprint,
                           num_classes=source.info.num_classes)  # fmt: skip

    def arrays(source, transforms, limit=None):
        if isinstance(source, ArraySource | FactorLabelSource):
            return as_arrays(source, transforms, limit)
        classes = source.info.num_classes
        found = {"image": np.zeros((40, *source.info.image_shape), np.float32)}
        if source.captions:
            found["tokens"] = np.ones((40, 20), np.int32)
        if source.info.name.startswith("shapes"):
            found |= {
                name: np.tile([1, 2], 20) for name in ("num_objects", "relation", "background")
            }
            found |= {name: np.zeros((40, 2), np.int64) for name in ("shape", "colour", "size")}
        return found | ({"label": np.arange(40) % classes} if classes else {})

    monkeypatch.setattr(assemble, "make_source", source)
    monkeypatch.setattr(assemble, "load_frozen", frozen)
    monkeypatch.setattr(assemble, "trained_on", moments)
    monkeypatch.setattr(assemble, "make_perceptual", perceptual)
    monkeypatch.setattr(tokenizer_files, "_read", vocabulary)
    monkeypatch.setattr(assemble, "as_arrays", arrays)

    def assembled(config: ConfigDict, workdir: Path) -> Experiment:
        seen["config"] = config.to_dict()
        if isinstance(config.get("data"), ConfigDict):
            seen["config"]["data"]["cache"] = config.data.cache = False
        return Experiment(config, workdir)

    return assembled


class Extractor:
    """Features of nothing: evaluators are built, not run."""

    name, resize, quantise, fingerprint = "none", "none", "round", "none"

    def __call__(self, images, real=False):
        return Extracted(np.zeros((len(images), 4)), None)


@pytest.mark.parametrize("path", CONFIGS)
def test_a_config_builds_its_run(path, tmp_path, without_data):
    config = load_config(path)
    experiment = without_data(config, tmp_path)
    run, spec = experiment.run, experiment.loader.batch_spec()
    optimizer = make_optimizer(run.optimizer, run.choices.steps)
    state, frozen = jax.eval_shape(
        lambda k: init_state(run.task, optimizer, run.emas, k, spec), jax.random.key(0)
    )
    few = {n: jax.ShapeDtypeStruct((2, *s.shape[1:]), s.dtype) for n, s in spec.items()}
    rng = Rng(jax.random.key(0), np.arange(2), 2)

    def loss(state, frozen, batch):
        return run.task.loss(state.params, state.model_state, frozen, batch, rng, True)

    out = jax.eval_shape(loss, state, frozen, few)
    assert out.loss.shape == (2,) and out.loss.dtype == np.float32
    assert {leaf.dtype for leaf in jax.tree.leaves(state.params)} == {np.dtype(np.float32)}
    if config.get("features"):
        section = {"type": "classifier", **config.features.to_dict()}
        features = build(FEATURES, "features", section)
        assert section["type"] != "classifier" or (ROOT / features.config).exists()
    if config.get("perceptual", {}).get("config"):
        assert (ROOT / config.perceptual.config).exists()
    judged = outline_scorers(experiment) if config.get("factor_classifier") else {}
    judged["features"] = Extractor() if config.get("features") else None
    experiment.evaluations(**judged)


@pytest.mark.parametrize(
    "path",
    [
        "configs/ddpm/digits.py",
        "configs/classifier/digits.py",
        "configs/clip/shapes.py",
        "configs/clip/lit_shapes.py",
        "configs/vae/digits.py",
        "configs/latent/shapes.py",
    ],
)
def test_every_section_refuses_a_key_that_nobody_reads(path, tmp_path, without_data):
    plain = load_config(path).to_dict()
    sections = [
        key.rpartition(".")[0] + "." for key in flat(plain) if not key.startswith("expected")
    ]
    for section in sorted(set(sections)):
        config = load_config(path)
        at = config
        for name in filter(None, section.split(".")):
            at = at[name]
        # Sections whose keys are names that the user chooses, or that are read later.
        named = section in ("ema.", "evals.")
        if named or section.startswith(("features", "clip_scorer", "evals.")):
            continue
        with config.unlocked():
            at["surplus"] = 1
        with pytest.raises(ValueError, match="surplus"):
            without_data(config, tmp_path).arrays  # noqa: B018 (the test set is read here)
