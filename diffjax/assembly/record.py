"""What a run needs to be opened again, written into its workdir: see `diffjax.runs`."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax

from diffjax.data.tokenizer import Tokenizer
from diffjax.launch import distributed
from diffjax.runs.frozen import describe_frozen, write_frozen
from diffjax.runs.resolved import Resolved, check_resolved, write_resolved
from diffjax.runs.tokenizer import keep_tokenizer
from diffjax.task import Params

Sections = Callable[[str], Mapping[str, Any] | None]
# Section -> its field that names released weights -> their reader, of `diffjax.runs.released`.
RELEASED = {
    "codec": {"model": "autoencoder"},
    "tower": {"clip": "clip", "model": "text_encoder"},
    "start": {"clip": "clip"},
}


def record_run(
    workdir: Path,
    resolved: Resolved,
    frozen: Mapping[str, Params],
    sections: Sections,
    tokenizer: Tokenizer | None,
) -> None:
    """Writes the tokenizer, `frozen/` and `resolved.json` of a run, or holds it against those that
    are there; every process calls this.

    Args:
      resolved: but for its frozen networks.
      frozen: name -> variables.
      sections: the config's, by name.

    Raises:
      ValueError: the run was built otherwise before.
    """
    networks = {k: describe_frozen(k, v, _origin(sections, k)) for k, v in frozen.items()}
    resolved = dataclasses.replace(resolved, frozen=networks)
    there = distributed.by_first(lambda: check_resolved(workdir, resolved))
    for name, network in networks.items():
        write_frozen(workdir, network, frozen[name])
    if jax.process_index() == 0:
        if tokenizer is not None:
            keep_tokenizer(tokenizer, workdir)
        if not there:
            write_resolved(workdir, resolved)


def _origin(sections: Sections, name: str) -> Mapping[str, Any]:
    """Where a frozen network is from, as its section says or, of a locked tower, `start`; {} for a
    tower that stays as it was drawn."""
    tower = f"conditions.{name}.tower"
    own, where = ("tower", tower) if sections(tower) else ("start", "start")
    if name in ("codec", "guide"):
        own = where = name
    section = sections(where) or {}
    if section.get("run"):
        return {k: section[k] for k in ("run", "step", "ema") if section.get(k) is not None}
    for field, reader in RELEASED.get(own, {}).items():
        if section.get(field):
            part = {"part": "text" if own == "tower" else name} if reader == "clip" else {}
            given = {k: section[k] for k in ("activation",) if section.get(k) is not None}
            return {reader: section[field], **part, **given}
    return {}
