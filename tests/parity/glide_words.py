"""A small vocabulary in the files of GLIDE's tokenizer."""

from __future__ import annotations

import gzip
import json

from diffjax.data.tokenizer import byte_letters

LETTERS = byte_letters()
SPACE = LETTERS[ord(" ")]
MERGES = [(SPACE, "t"), (SPACE, "a"), ("h", "e"), ("r", "e"), (f"{SPACE}t", "he"), ("re", "d"),
          (SPACE, "re"), (f"{SPACE}re", "d"), ("'", "s"), ("1", "2"), ("!", "!")]  # fmt: skip
TOKENS = [*LETTERS.values(), *("".join(pair) for pair in MERGES), "<|endoftext|>"]
VOCAB = {token: i for i, token in enumerate(TOKENS)}
END = len(VOCAB) - 1


def write_words(folder):
    """`encoder.json.gz` and `vocab.bpe`."""
    (folder / "encoder.json.gz").write_bytes(gzip.compress(json.dumps(VOCAB).encode()))
    lines = ["#version: 0.2", *(" ".join(pair) for pair in MERGES), ""]
    (folder / "vocab.bpe").write_text("\n".join(lines), encoding="utf-8")
