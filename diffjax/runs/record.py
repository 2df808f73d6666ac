"""Record by which a run is opened again, written into its workdir when its training begins."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax

from diffjax.data.tokenizer_joint import AnyTokenizer
from diffjax.runs.frozen import describe_frozen, write_frozen
from diffjax.runs.pieces import UNREAD
from diffjax.runs.resolved import Resolved, check_resolved, fields_of, write_resolved
from diffjax.runs.tokenizer import keep_tokenizer
from diffjax.task import Params

Sections = Callable[[str], Mapping[str, Any] | None]
# Section -> its field that names released weights -> their reader, of `released`.
RELEASED = {
    "codec": {"model": "autoencoder"},
    "tower": {"clip": "clip", "model": "text_encoder", "t5": "t5", "bert": "bert"},
    "embedding": {"clip": "clip_image"},
    "init_from": {"clip": "clip"},
}


def describe_run(
    config: Mapping[str, Any],
    model: Mapping[str, Any],
    pieces: Mapping[str, Any],
    data: tuple[str, int, Sequence[str]],
    batch_spec: Mapping[str, Any],
    emas: tuple[str, ...],
) -> Resolved:
    """Resolved sections of a run, but for its tokenizer and its frozen networks.

    Args:
      config: its sections.
      model: that of its network, as it was built.
      pieces: what its task is given beside it, see `describe_pieces`.
      data: the name of the data set, how many classes it has, and their names.
      batch_spec: name -> shape and dtype of a batch's arrays.
      emas: names of its averages.
    """
    name, num_classes, class_names = data
    return Resolved(
        data=name,
        image_shape=batch_spec["image"].shape[1:],
        num_classes=num_classes,
        class_names=tuple(class_names),
        batch=fields_of(batch_spec),
        model=model,
        task=config["task"],
        pieces=pieces,
        emas=emas,
    )


def record_run(
    workdir: Path,
    resolved: Resolved,
    frozen: Mapping[str, Params],
    sections: Sections,
    tokenizer: AnyTokenizer | None,
) -> None:
    """Writes the tokenizer, `frozen/` and `resolved.json` of a run, or holds it against those that
    are there; every process calls this.

    Args:
      resolved: see `describe_run`.
      frozen: name -> variables.
      sections: the config's, by name.

    Raises:
      ValueError: the run was built otherwise before.
    """
    frozen = {name: tree for name, tree in frozen.items() if name not in UNREAD}
    networks = {k: describe_frozen(k, v, _origin(sections, k)) for k, v in frozen.items()}
    words = None if tokenizer is None else tokenizer.fingerprint
    resolved = dataclasses.replace(resolved, frozen=networks, tokenizer=words)
    there = check_resolved(workdir, resolved)
    for name, network in networks.items():
        write_frozen(workdir, network, frozen[name])
    if jax.process_index() == 0:
        if tokenizer is not None:
            keep_tokenizer(tokenizer, workdir)
        if not there:
            write_resolved(workdir, resolved)


def _origin(sections: Sections, name: str) -> Mapping[str, Any]:
    """The origin of a frozen network, by its section or, of a locked tower, `init_from`; {} for a
    tower that stays as it was drawn."""
    own, where = "tower", f"conditions.{name}.tower"
    if name in ("codec", "embedding", "guide", "prior", "base"):
        own = where = name
    elif (sections(f"conditions.{name}") or {}).get("type") == "image_embedding":
        own = "embedding"
    section = sections(where)
    if not section:
        own, section = "init_from", sections("init_from") or {}
    if section.get("run"):
        return {k: section[k] for k in ("run", "step", "ema") if section.get(k) is not None}
    for field, reader in RELEASED.get(own, {}).items():
        if section.get(field):
            part = {"part": "text" if own == "tower" else name} if reader == "clip" else {}
            activation = {k: section[k] for k in ("activation",) if section.get(k) is not None}
            return {reader: section[field], **part, **activation}
    return {}
