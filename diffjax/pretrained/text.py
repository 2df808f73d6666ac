"""A frozen text tower for text-to-image: of a run of ours, or of a released model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from diffjax.choices import construct
from diffjax.data.tokenizer_fast import FILES as FAST_FILES
from diffjax.data.tokenizer_fast import load_fast_tokenizer
from diffjax.data.tokenizer_files import CONTEXT
from diffjax.data.tokenizer_joint import AnyTokenizer
from diffjax.denoisers.conditions.text import FrozenTower
from diffjax.fingerprints import fingerprint, to_host
from diffjax.interop.bert import load_bert
from diffjax.interop.hub import fetch_parts, locate, locate_encoder
from diffjax.interop.t5 import load_t5
from diffjax.interop.text_tower import load_text
from diffjax.models import build_model
from diffjax.pretrained.clip import TOKENIZER_FILES, released_encoders, tower_tokenizer
from diffjax.pretrained.reference import Reference
from diffjax.ranges import Length, MaybeDepth


@dataclass(frozen=True, eq=False)
class TextTower:
    """Attributes:
    tower: as a condition reads it.
    variables: of the tower, arrays on the host, those alone that are read.
    tokenizer: of its texts.
    fingerprint: of the variables.
    """

    tower: FrozenTower
    variables: Mapping[str, Any]
    tokenizer: AnyTokenizer
    fingerprint: str


@dataclass(frozen=True)
class TextTowerConfig(Reference):
    """The `tower` of a text condition: that of a run (see `Reference`) or a released one.

    Attributes:
      clip: a released CLIP, see `interop.clip.load_clip`.
      model: a Stable Diffusion, of whose folder the tower and the tokenizer are read.
      t5, bert: a folder of transformers', or its name on the hub, with its tokenizer; see
        `interop.t5.load_t5` and `interop.bert.load_bert`.
      length: ids of a text that T5 or BERT reads, padding among them; by default 77, as CLIP's.
      skip: blocks left out at the end of the tower.
    """

    clip: str | None = None
    model: str | None = None
    t5: str | None = None
    bert: str | None = None
    length: Length | None = None
    skip: MaybeDepth = 0
    section: ClassVar[str] = "tower"
    released: ClassVar[tuple[str, ...]] = ("clip", "model", "t5", "bert")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.length is not None and self.t5 is None and self.bert is None:
            raise ValueError("tower.length is of t5 and bert: the texts of CLIP's have their own")


def load_text_tower(
    reference: Mapping[str, Any], what: str = "tower", pooled: bool = False
) -> TextTower:
    """The tower of a config section, see `TextTowerConfig`.

    Args:
      what: where the section stands, for errors.
      pooled: whether the embedding of the whole text is read, with its projection.

    Raises:
      ValueError: no such run and no `config` to train it from, a run without a text tower, or
        whatever is wrong with released weights.
    """
    choices: TextTowerConfig = construct(TextTowerConfig, what, reference)
    if choices.run is not None:
        network, params, tokenizer = _of_run(choices)
    elif choices.clip is not None:
        encoders = released_encoders(choices.clip, None, None)
        network, params = encoders.task.network.text, encoders.variables.params["text"]
        tokenizer = encoders.tokenizer
    elif choices.model is None:
        network, params, tokenizer = _encoder(choices)
    else:
        folder = _folder(str(choices.model))
        part = load_text(folder / "text_encoder")
        network, params = build_model(**part.section), part.variables["params"]
        tokenizer = tower_tokenizer(folder / "tokenizer", network)
    if tokenizer is None:
        raise ValueError(
            f"{what}.clip={choices.clip} came without a tokenizer: put its files there"
        )
    return text_tower(network, {"params": params}, tokenizer, choices.skip, pooled)


def text_tower(
    network: nn.Module,
    variables: Mapping[str, Any],
    tokenizer: AnyTokenizer,
    skip: int,
    pooled: bool = False,
) -> TextTower:
    """The tower of a network and its variables, of which those of a projection, or of blocks left
    out, are not kept."""
    ids = jnp.zeros((1, tokenizer.context), jnp.int32)
    init = lambda ids: network.init(jax.random.key(0), ids, pooled=pooled, skip=skip)  # noqa: E731
    read = flatten_dict(dict(jax.eval_shape(init, ids)), sep="/")
    arrays = flatten_dict(dict(variables), sep="/")
    lacks = [path for path in read if path not in arrays]
    if lacks:
        raise ValueError(f"the text tower's weights lack {lacks[0]}: they are another network's")
    kept = unflatten_dict({path: np.asarray(arrays[path]) for path in read}, sep="/")
    tower = FrozenTower(network, tuple(tokenizer.null_ids.tolist()), skip)
    return TextTower(tower, kept, tokenizer, fingerprint(kept))


def _of_run(choices: TextTowerConfig) -> tuple[nn.Module, Mapping[str, Any], AnyTokenizer]:
    run = choices.open()
    tower = getattr(run.network, "text", None)
    if tower is None or run.tokenizer is None:
        raise ValueError(
            f"tower.run={choices.run} is a run of task {run.kind!r}, without a text tower"
        )
    params = {**run.variables.params, **run.variables.frozen}["text"]
    return tower.clone(), jax.tree.map(to_host, params), run.tokenizer


def _encoder(choices: TextTowerConfig) -> tuple[nn.Module, Mapping[str, Any], AnyTokenizer]:
    """A released T5 or BERT."""
    name, load = (str(choices.bert), load_bert) if choices.t5 is None else (choices.t5, load_t5)
    folder = locate_encoder(name, FAST_FILES)
    part = load(folder)
    network: Any = build_model(**part.section)
    words = load_fast_tokenizer(folder, choices.length or CONTEXT, network.pad)
    if words.vocab_size > network.vocab:
        raise ValueError(
            f"{name}: its tokenizer has {words.vocab_size:,} tokens, its table {network.vocab:,}"
        )
    return network, part.variables["params"], words


def _folder(name: str) -> Path:
    def download(owner_name: str) -> Path:
        parts = {"text_encoder": ("config.json",), "tokenizer": TOKENIZER_FILES}
        return fetch_parts(owner_name, "model_index.json", parts)

    return locate(name, download, "stable-diffusion-v1-5/stable-diffusion-v1-5")
