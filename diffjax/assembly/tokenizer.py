"""The tokenizer that a config names: loaded, or trained on the captions of the run's data."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from diffjax.choices import build
from diffjax.data.captions import captions_of
from diffjax.data.schema import Source
from diffjax.data.tokenizer import Tokenizer
from diffjax.data.tokenizer_files import load_tokenizer
from diffjax.data.tokenizer_training import train_tokenizer
from diffjax.runs.tokenizer import FOLDER

TOKENIZERS = {"load": load_tokenizer, "train": train_tokenizer}


def make_tokenizer(
    section: Mapping[str, Any] | None, source: Source, workdir: Path
) -> Tokenizer | None:
    """The tokenizer of a config's `tokenizer` section; None where there is none.

    `dict(type="load", path=...)` reads one; `dict(type="train", vocab_size=...)` trains one on the
    captions of `source`, or reads the one that the run has kept in its workdir.

    Raises:
      ValueError: an unknown key, an unreadable file, data without captions.
    """
    if not section:
        return None
    kept = workdir / FOLDER
    if section.get("type") == "train" and kept.is_dir():
        return load_tokenizer(kept)

    train = functools.partial(train_tokenizer, _captions(source))
    return build({**TOKENIZERS, "train": train}, "tokenizer", section)


def _captions(source: Source) -> Iterator[str]:
    found = False
    for _, caption in captions_of(source):
        found = True
        yield from [caption] if isinstance(caption, str) else caption
    if not found:
        raise ValueError(f"tokenizer: the data {source.info.name!r} have no captions")
