"""What a run needs to be opened again, written into its workdir: see `diffjax.runs`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import jax

from diffjax.runs.frozen import describe_frozen, write_frozen
from diffjax.runs.pieces import UNREAD, describe_pieces
from diffjax.runs.resolved import Field, Resolved, check_resolved, write_resolved
from diffjax.runs.tokenizer import keep_tokenizer
from diffjax.task import Params
from experiments import distributed

if TYPE_CHECKING:
    from experiments.assemble import Assembly

# Section -> its field that names released weights -> their reader, of `diffjax.runs.released`.
RELEASED = {
    "codec": {"model": "autoencoder"},
    "tower": {"clip": "clip", "model": "text_encoder"},
    "start": {"clip": "clip"},
}


def record_run(assembly: Assembly, frozen: Params) -> None:
    """Writes the tokenizer, `frozen/` and `resolved.json` of a run, or holds it against those that
    are there; every process calls this.

    Args:
      frozen: the variables of its frozen networks.

    Raises:
      ValueError: the run was built otherwise before.
    """
    kept = {name: tree for name, tree in frozen.items() if name not in UNREAD}
    networks = {k: describe_frozen(k, tree, _origin(assembly, k)) for k, tree in kept.items()}
    info, tokenizer = assembly.source.info, assembly.tokenizer
    resolved = Resolved(
        data=info.name,
        image_shape=assembly.task.image_shape,  # type: ignore[attr-defined]
        num_classes=info.num_classes,
        class_names=tuple(info.class_names or ()),
        batch={
            name: Field(spec.shape[1:], spec.dtype.name)
            for name, spec in assembly.loader.batch_spec().items()
        },
        model=assembly.model,
        task=assembly.config["task"],
        pieces=_pieces(assembly),
        emas=tuple(assembly.emas),
        tokenizer=None if tokenizer is None else tokenizer.fingerprint,
        frozen=networks,
    )
    there = distributed.by_first(lambda: check_resolved(assembly.workdir, resolved))
    for name, network in networks.items():
        write_frozen(assembly.workdir, network, kept[name])
    if jax.process_index() == 0:
        if tokenizer is not None:
            keep_tokenizer(tokenizer, assembly.workdir)
        if not there:
            write_resolved(assembly.workdir, resolved)


def _pieces(assembly: Assembly) -> dict[str, Any]:
    model = getattr(assembly.task, "model", None)
    if model is None:
        return {}
    towers = {name: tower.tower for name, tower in assembly.frozen.towers.items()}
    guide = assembly.frozen.guide and assembly.frozen.guide.resolved
    return describe_pieces(model.space, assembly.config.get("conditions", {}), towers, guide)


def _origin(assembly: Assembly, name: str) -> Mapping[str, Any]:
    """Where a frozen network is from, as its section says or, of a locked tower, `start`; {} for a
    tower that stays as it was drawn."""
    own = where = name if name in ("codec", "guide") else "start"
    if name in assembly.frozen.towers:
        own, where = "tower", f"conditions.{name}.tower"
    section = assembly.reference(where) or {}
    if section.get("run"):
        return {k: section[k] for k in ("run", "step", "ema") if section.get(k) is not None}
    for field, reader in RELEASED.get(own, {}).items():
        if section.get(field):
            part = {"part": "text" if own == "tower" else name} if reader == "clip" else {}
            activation = section.get("activation")
            return {reader: section[field], **part} | (
                {} if activation is None else {"activation": activation}
            )
    return {}
