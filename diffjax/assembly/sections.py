"""The sections of a config, each checked where it stands before anything is read or built of it.

What builds a section later looks at it again: here a misspelt `type`, a number outside its range or
a list in a section's place is answered by its own name, whatever else would stumble over it first.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Mapping
from functools import partial
from typing import Any

from diffjax.assembly.data import DataConfig
from diffjax.assembly.evaluations import EvalConfig
from diffjax.assembly.tokenizer import TOKENIZERS
from diffjax.choices import (
    LINEN,
    as_section,
    check,
    check_values,
    chosen,
    construct,
    unknown,
)
from diffjax.data.captions import tokenize
from diffjax.data.oversampling import Oversample
from diffjax.data.sources import SOURCES
from diffjax.data.transforms import TRANSFORMS
from diffjax.denoisers.conditions import CONDITIONS, HIDDEN
from diffjax.denoisers.conditions.learned_text import TEXT_ENCODERS
from diffjax.diffusion.recipes import make_recipe
from diffjax.evals import EVALUATORS
from diffjax.generate.codes import make_code_recipe
from diffjax.models import MODELS
from diffjax.models.clip import IMAGE_TOWERS
from diffjax.models.text import TextTransformer
from diffjax.models.vae import DECODERS, ENCODERS
from diffjax.pretrained.cascade import BaseConfig
from diffjax.pretrained.clip_guide import ClipGuideConfig
from diffjax.pretrained.clip_scorer import ClipScorerConfig
from diffjax.pretrained.codec import CodecConfig
from diffjax.pretrained.codes import AUTOREGRESSIVE
from diffjax.pretrained.factor_classifier import FactorClassifierConfig
from diffjax.pretrained.features import FEATURES
from diffjax.pretrained.guide import GuideConfig
from diffjax.pretrained.image_tower import EmbeddingConfig, ImageTowerConfig
from diffjax.pretrained.init_from import InitFromConfig
from diffjax.pretrained.perceptual import PerceptualConfig
from diffjax.pretrained.prior import PriorConfig
from diffjax.pretrained.text import TextTowerConfig
from diffjax.ranges import Seed
from diffjax.runs.migrate import RENAMED
from diffjax.tasks import PARTS, TASKS
from diffjax.train import sharding
from diffjax.train.ema import EMA
from diffjax.train.optim import Optimizer
from diffjax.train.run import TrainConfig

SECTIONS = ("seed", "data", "tokenizer", "codec", "embedding", "conditions", "guide", "prior",
            "base", "model", "init_from", "task", "optim", "ema", "mesh", "train", "sampling",
            "evals", "features", "perceptual", "clip_scorer", "clip_guide", "factor_classifier",
            "expected")  # fmt: skip
NEEDED = ("data", "model", "task", "optim", "train")
# What a run gives its task and its evaluators itself.
GIVEN = ("network", "image_shape", "conditions", "space", "guide", "prior",
         "prior_recipe", "base", "base_recipe", "perceptual", "words")  # fmt: skip
CONTEXT = ("context",)
# Keys of a diffusion task that conditions have taken over, and where they are now.
MOVED = {
    "num_classes": "label=dict(type='class', classes=...), 0 for none",
    "label_drop": "label=dict(type='class', drop=...)",
    "caption_drop": "caption=dict(type='text', tower=..., drop=...)",
    "hint": "NAME=dict(type='image', to='concat' or 'context')",
    "hint_drop": "NAME=dict(type='image', drop=...)",
}
TABLE_OF_TRANSFORMS = {**TRANSFORMS, "tokenize": partial(tokenize, None)}


def _typed(table: Mapping[str, Any], what: str, section: Any, hidden: Collection[str] = ()) -> None:
    kind, maker, rest = chosen(table, what, section)
    check(maker, what, rest, hidden, kind, whole=False)


def _model(section: Any) -> None:
    kind, maker, rest = chosen(MODELS, "model", section)
    check(maker, "model", rest, LINEN, kind, whole=False)
    if kind == "clip":
        _typed(IMAGE_TOWERS, "model.image", rest.get("image", {}), LINEN)
        check(TextTransformer, "model.text", rest.get("text", {}), LINEN, whole=False)
    if kind == "vae":
        _typed(ENCODERS, "model.encoder", rest.get("encoder", {}), LINEN)
        _typed(DECODERS, "model.decoder", rest.get("decoder", {}), LINEN)


def _task(section: Any) -> None:
    kind, maker, rest = chosen(TASKS, "task", section)
    for key in rest:
        if kind == "diffusion" and key in MOVED:
            raise ValueError(f"task.{key} is now in the section conditions: {MOVED[key]}")
    known = inspect.signature(maker).parameters
    parts = {k: rest.pop(k) for k in PARTS if k in rest and k in known}
    for name, part in parts.items():
        _typed(PARTS[name], f"task.{name}", part, LINEN)
    check(maker, "task", rest, GIVEN, kind, whole=False)


def _data(section: Any) -> None:
    data: DataConfig = construct(DataConfig, "data", section)
    splits = {"train": data.train, **{f"others.{k}": v for k, v in data.others.items()}}
    splits |= {} if data.test is None else {"test": data.test}
    for name, split in splits.items():
        _typed(SOURCES, f"data.{name}", split)
    for name in ("transforms", "eval_transforms"):
        for i, transform in enumerate(getattr(data, name)):
            _typed(TABLE_OF_TRANSFORMS, f"data.{name}[{i}]", transform)
    for i, rule in enumerate(data.oversample):
        construct(Oversample, f"data.oversample[{i}]", rule)


def _eval(what: str, section: Any) -> None:
    own = EvalConfig.__dataclass_fields__
    section = as_section(what, section)
    construct(EvalConfig, what, {k: v for k, v in section.items() if k in own})
    rest = {k: v for k, v in section.items() if k not in own}
    _typed(EVALUATORS, what, rest, CONTEXT)


def _conditions(sections: Any) -> None:
    for name, section in as_section("conditions", sections).items():
        what = f"conditions.{name}"
        _typed(CONDITIONS, what, section, HIDDEN)
        if section.get("type") == "learned_text" and "encoder" in section:
            _typed(TEXT_ENCODERS, f"{what}.encoder", section["encoder"], LINEN)
        if "tower" in section:
            embeds = section.get("type") == "image_embedding"
            kind = ImageTowerConfig if embeds else TextTowerConfig
            construct(kind, f"{what}.tower", section["tower"])


def _sampling(what: str, section: Any, kind: Any) -> None:
    rest = dict(as_section(what, section))
    check_values(what, {"ema": rest.pop("ema", None)}, {"ema": str | None})
    (make_code_recipe if kind == AUTOREGRESSIVE else make_recipe)(**rest)


def _features(what: str, section: Any) -> None:
    _typed(FEATURES, what, {"type": "classifier", **as_section(what, section)})


OPTIONAL: dict[str, Callable[[str, Any], Any]] = {
    "tokenizer": partial(_typed, TOKENIZERS, hidden=("captions",)),
    "init_from": partial(construct, InitFromConfig),
    "perceptual": partial(construct, PerceptualConfig),
    "codec": partial(construct, CodecConfig),
    "embedding": partial(construct, EmbeddingConfig),
    "guide": partial(construct, GuideConfig),
    "prior": partial(construct, PriorConfig),
    "base": partial(construct, BaseConfig),
    "clip_scorer": partial(construct, ClipScorerConfig),
    "clip_guide": partial(construct, ClipGuideConfig),
    "factor_classifier": partial(construct, FactorClassifierConfig),
    "features": _features,
}


def check_sections(config: Mapping[str, Any]) -> None:
    """Raises ValueError for the first section of a config (as `settings.plain` gives it) that is
    none, or has a type, a key or a value that what it describes cannot take."""
    if "text" in config:
        raise ValueError(
            "the section `text` is now the tower of a condition: conditions=dict(caption="
            "dict(type='text', tower=dict(...), drop=...))"
        )
    for key in config:
        if key in RENAMED:
            raise ValueError(f"the section `{key}` is called `{RENAMED[key]}` now")
        if key not in SECTIONS:
            raise unknown("config section", key, SECTIONS)
    if config.get("codec") and config.get("embedding"):
        raise ValueError("codec and embedding are two spaces of diffusion: leave one out")
    missing = [k for k in NEEDED if k not in config]
    if missing:
        raise ValueError(f"the config has no section {', '.join(missing)}")
    check_values("config", {"seed": config.get("seed", 0)}, {"seed": Seed})
    construct(TrainConfig, "train", config["train"])
    construct(Optimizer, "optim", config["optim"])
    check(sharding.make_mesh, "mesh", config.get("mesh", {}))
    for name, section in as_section("ema", config.get("ema", {})).items():
        construct(EMA, f"ema.{name}", section)
    _data(config["data"])
    _model(config["model"])
    _task(config["task"])
    _conditions(config.get("conditions", {}))
    _sampling("sampling", config.get("sampling", {}), config["task"].get("type"))
    for name, section in as_section("evals", config.get("evals", {})).items():
        _eval(f"evals.{name}", section)
    for name, one in OPTIONAL.items():
        section = config.get(name)
        if section is not None and as_section(name, section):
            one(name, section)
    expected = as_section("expected", config.get("expected", {}))
    check_values("expected", expected, dict.fromkeys(expected, tuple[float, float]))
