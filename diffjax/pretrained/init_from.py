"""Config section `init_from`: weights that a run begins from, of another run or a released CLIP."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import flax.linen as nn
import jax
import numpy as np

from diffjax.choices import construct
from diffjax.data.tokenizer_joint import AnyTokenizer
from diffjax.denoisers.conditions.base import PARAMS
from diffjax.denoisers.conditions.learned_text import LearnedTextCondition
from diffjax.fingerprints import fingerprint, to_host
from diffjax.interop.clip import load_clip
from diffjax.models import build_model
from diffjax.nn.attention import count_heads
from diffjax.nn.positions import resize_positions
from diffjax.pretrained.reference import Reference
from diffjax.ranges import Whole
from diffjax.runs.records import read_json
from diffjax.train.init_from import Collections, InitFrom
from diffjax.train.writer import replace_file

RECORD = "start.json"  # From when the section was called so: runs of then go on.
# What no shape shows: with these different, the same weights are another function.
SEMANTIC_ATTRIBUTES = ("activation", "eps", "pool", "stem_pool", "mean", "std")


@dataclass(frozen=True)
class InitFromConfig(Reference):
    """Config section `init_from`: a released CLIP, or another run (see `Reference`), which must
    stay where it is for as long as this one is trained with a locked tower of it.

    Attributes:
      clip: a folder, a file, or a name on the hub (see `load_clip`).
      step: of `run`: its checkpoint, by default the latest when this run first began.
      only: towers and other parameters of the network's top level that begin from these weights;
        empty for all.
      activation: of `clip`: see `load_clip`.
      widen: of `run`: the network is shown further channels than that one's, see
        `train.init_from.InitFrom`; the conditions that give them come last.
      resize: bring the position table of a vision transformer to this run's image size.
    """

    clip: str | None = None
    step: Whole | None = None
    only: tuple[str, ...] = ()
    activation: str | None = None
    resize: bool = False
    widen: bool = False
    section: ClassVar[str] = "init_from"
    released: ClassVar[tuple[str, ...]] = ("clip",)
    whole: ClassVar[bool] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        foreign, there = ("activation", "run") if self.clip is None else ("step", "clip")
        if getattr(self, foreign) is not None:
            raise ValueError(f"init_from.{foreign} is not read with init_from.{there}")


def make_init_from(
    section: Mapping[str, Any] | None, workdir: Path, network: Any, tokenizer: AnyTokenizer | None
) -> InitFrom | None:
    """The `init_from` of a run, None where its config has no such section; nothing is read yet.

    Args:
      workdir, network, tokenizer: of the run that begins.

    Raises:
      ValueError: at once, a wrong section; when the weights are read, whatever they lack, settings
        or a tokenizer under which they would mean something else, or weights that have changed
        since the run began from them.
    """
    if not section:
        return None
    choices: InitFromConfig = construct(InitFromConfig, "init_from", section)
    return InitFrom(
        partial(_load, choices, workdir, network, tokenizer),
        choices.origin,
        choices.only,
        widen=choices.widen,
    )


def _load(
    choices: InitFromConfig, workdir: Path, ours: Any, tokenizer: AnyTokenizer | None
) -> Collections:
    record, origin = workdir / RECORD, choices.origin
    known = read_json(record, missing={})
    words, step, learned = None, None, False
    if choices.clip is None:
        other = choices.open(choices.step if choices.step is not None else known.get("step"))
        held, step = other.variables, other.step
        weights = {"params": {**held.params, **held.frozen}, **held.model_state}
        weights = jax.tree.map(to_host, weights)
        theirs, words = other.network, other.tokenizer
        conditions = getattr(other.task, "conditions", ())
        learned = any(isinstance(c, LearnedTextCondition) for c in conditions)
    else:
        section, weights = load_clip(choices.clip, choices.activation)
        theirs = build_model(**section)
    names = choices.only or tuple(weights["params"])
    _check_settings(origin, theirs, ours, names)
    if ("text" in names or (learned and PARAMS in names)) and words is not None:
        _check_tokenizer(origin, words, tokenizer)
    if choices.resize and "image" in names:
        weights = {**weights, "params": _resized(weights["params"], ours)}
    taken = {c: {n: t for n, t in trees.items() if n in names} for c, trees in weights.items()}
    recorded(record, "init_from", {"origin": origin, "step": step}, taken)
    return taken


def recorded(record: Path, what: str, facts: Mapping[str, Any], taken: Any) -> None:
    """Keeps in the file `record` of a run which weights it was given, beside `facts` of them.

    Args:
      what: the config section that gave them.
      taken: arrays on the host.

    Raises:
      ValueError: the record knows others.
    """
    known = read_json(record, missing={})
    found = fingerprint(taken)
    if known.get("weights", found) != found:
        raise ValueError(
            f"{what}: {facts['origin']} has changed since {record.parent} began from it (weights "
            f"{known['weights']}, now {found}): put the old ones back, or take another --workdir"
        )
    if not known and jax.process_index() == 0:
        record.parent.mkdir(parents=True, exist_ok=True)
        replace_file(record, (json.dumps({**facts, "weights": found}, indent=2) + "\n").encode())


def _check_settings(origin: str, theirs: Any, ours: Any, names: Iterable[str]) -> None:
    """Raises ValueError where a taken tower would compute something else here."""
    a, b = _settings(theirs, names), _settings(ours, names)
    for key in a:
        if key in b and a[key] != b[key]:
            raise ValueError(
                f"start: {origin} was made with {key}={a[key]!r}, but this run's model has "
                f"{b[key]!r}: set --config.model.{key}"
            )


def _settings(network: Any, names: Iterable[str]) -> dict[str, Any]:
    parts = {f"{name}.": getattr(network, name, None) for name in names}
    parts = {name: part for name, part in parts.items() if isinstance(part, nn.Module)}
    if not parts or "image." in parts:
        parts[""] = network  # whose mean and std are the image tower's
    found: dict[str, Any] = {}
    for prefix, part in parts.items():
        found |= {
            prefix + key: getattr(part, key) for key in SEMANTIC_ATTRIBUTES if hasattr(part, key)
        }
        if prefix and hasattr(part, "heads"):
            # A residual network's attention is over its last level: bottlenecks are four times as
            # wide as they say, and every level doubles.
            levels = getattr(part, "layers", None)
            channels = part.width * (2 ** (len(levels) + 1) if levels else 1)
            found[f"{prefix}heads"] = part.heads or count_heads(channels, 1, 64)
        if getattr(part, "pool", None) == "first_eos":
            found[f"{prefix}eos"] = part.eos
    return found


def _check_tokenizer(origin: str, theirs: AnyTokenizer, ours: AnyTokenizer | None) -> None:
    if ours is None or theirs.spelling != ours.spelling:
        raise ValueError(
            f"start: the text tower of {origin} reads another tokenizer's ids: set "
            f"tokenizer=dict(type='load', path='{origin}/tokenizer'), or leave 'text' out of "
            "start.only"
        )


def _resized(params: Mapping[str, Any], network: Any) -> dict[str, Any]:
    image = dict(params["image"])
    if "positions" not in image or not hasattr(network.image, "patch"):
        raise ValueError("start.resize: the image tower is no vision transformer; leave it out")
    side = network.image.image_size // network.image.patch
    image["positions"] = np.asarray(resize_positions(image["positions"], side))
    return {**params, "image": image}
