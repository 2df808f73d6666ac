"""Resolved sections of a run, as it was built: `resolved.json`.

A config leaves to the data what they are to decide: channels, classes, the vocabulary.
`resolved.json` says what they have decided, so that the task and its networks are built again
without the data, without another run, and without any code of a config. It carries its own digest.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from diffjax.bounded import parse_json, read_bytes
from diffjax.choices import as_section, construct
from diffjax.ranges import Classes, Pixels, Whole
from diffjax.runs.config import flat, plain
from diffjax.train.writer import replace_file

FILE, FORMAT = "resolved.json", 1
# Names of 21,000 classes of ImageNet take 1 MB.
_MOST_BYTES = 16 * 2**20
_HOW = "restore {0} from a copy, or remove it: `python -m experiments.train` writes it anew"


@dataclass(frozen=True)
class FrozenNetwork:
    """The values of a network that a run keeps frozen, which no checkpoint holds.

    Attributes:
      fingerprint: of its variables, see `diffjax.fingerprints`.
      origin: where they are from, `run` (and `step`, `ema`), or the field of the config that names
        released weights.
      file: in the workdir; None for released weights that are too large to be kept twice.
    """

    fingerprint: str
    origin: Mapping[str, Any]
    file: str | None = None


@dataclass(frozen=True)
class Field:
    """An array of a batch: its shape without the batch axis, and its dtype."""

    shape: tuple[Whole, ...]
    dtype: str


def fields_of(batch_spec: Mapping[str, Any]) -> dict[str, Field]:
    """The arrays of a batch, of which `batch_spec` gives shape and dtype by name."""
    return {k: Field(tuple(s.shape[1:]), s.dtype.name) for k, s in batch_spec.items()}


@dataclass(frozen=True)
class Resolved:
    """Attributes:
    data: name of the data set.
    image_shape: of one `image` of a batch: (H, W, C), or a codec's moments where those are kept.
    num_classes: of the data.
    class_names: one per class, or empty.
    batch: name -> the array of a batch.
    model, task: sections, with what the data decided filled in.
    pieces: what `make_task` is given beside them, name -> section; see `diffjax.runs.pieces`.
    emas: names of the averages.
    tokenizer: fingerprint of the one in the workdir; None without one.
    frozen: name -> frozen network, by its name among the task's variables.
    """

    data: str
    image_shape: tuple[Pixels, ...]
    num_classes: Classes
    class_names: tuple[str, ...]
    batch: Mapping[str, Field]
    model: Mapping[str, Any]
    task: Mapping[str, Any]
    pieces: Mapping[str, Any] = field(default_factory=dict)
    emas: tuple[str, ...] = ()
    tokenizer: str | None = None
    frozen: Mapping[str, FrozenNetwork] = field(default_factory=dict)


def check_resolved(workdir: Path, resolved: Resolved) -> bool:
    """Whether the workdir has a `resolved.json`, with which `resolved` then agrees.

    Where frozen networks are from may differ, for runs may be moved; what they are may not.

    Raises:
      ValueError: the one that is there says otherwise; says where.
    """
    if not (workdir / FILE).exists():
        return False
    here, there = _compared(resolved), _compared(read_resolved(workdir))
    differ = [
        f"{k} was {there.get(k, 'absent')!r:.80}, is {here.get(k, 'absent')!r:.80}"
        for k in sorted({*here, *there})
        if here.get(k) != there.get(k)
    ]
    if differ:
        raise ValueError(
            f"{workdir} was built otherwise than this config and these data build it: "
            f"{'; '.join(differ[:8])}. Put back what has changed, or take another --workdir"
        )
    return True


def write_resolved(workdir: Path, resolved: Resolved) -> None:
    """Writes `resolved.json`, whole or not at all."""
    content = _plain(resolved)
    stamped = {"format": FORMAT, **content, "sha256": _digest(content)}
    replace_file(workdir / FILE, (json.dumps(stamped, indent=2) + "\n").encode())


def read_resolved(workdir: Path) -> Resolved:
    """The `resolved.json` of a run.

    Raises:
      ValueError: there is none, or it is damaged or of another format.
    """
    file = workdir / FILE
    if not file.exists():
        raise ValueError(
            f"{workdir} was trained before runs said how they were built (no {FILE}): "
            f"`python -m experiments.evaluate --run={workdir}` writes it, as does training that "
            "goes on"
        )
    content = parse_json(read_bytes(file, _MOST_BYTES), file)
    version, digest = content.pop("format", None), content.pop("sha256", None)
    if version != FORMAT:
        raise ValueError(f"{file} is of format {version!r:.40}; this version reads {FORMAT}")
    if digest != _digest(content):
        raise ValueError(f"{file} is not as it was written: {_HOW.format(FILE)}")
    try:
        return _resolved(content)
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from error


def _resolved(content: Mapping[str, Any]) -> Resolved:
    made = {
        "batch": lambda k, v: construct(Field, f"batch.{k}", v),
        "frozen": lambda k, v: construct(FrozenNetwork, f"frozen.{k}", v),
    }
    content = dict(content)
    for name, one in made.items():
        if name in content:
            parts = as_section(name, content[name])
            content[name] = {k: one(k, v) for k, v in parts.items()}
    for name in ("model", "task"):
        as_section(name, content.get(name, {}))
    return construct(Resolved, "the record", content)


def _plain(resolved: Resolved) -> dict[str, Any]:
    return plain(asdict(resolved))


def _digest(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _compared(resolved: Resolved) -> dict[str, Any]:
    content = _plain(resolved)
    for network in content["frozen"].values():
        del network["origin"], network["file"]
    return flat(content)
