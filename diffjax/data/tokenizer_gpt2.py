"""GPT-2's byte-level BPE as GLIDE reads texts: in lower case, without marks of begin and end."""

from __future__ import annotations

from pathlib import Path

import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers

from diffjax.bounded import MB, gunzip, parse_json, read_bytes, shortened
from diffjax.data.tokenizer_fast import FastTokenizer
from diffjax.ranges import Length

ENCODER, MERGES = "encoder.json", "vocab.bpe"
# Of the file, and of what it holds where it is compressed.
_MOST = 16 * MB
# Python's lower case of a Greek sigma depends on its place in the word; the library's does not.
_LAST_SIGMA = tokenizers.Regex(r"(?<=\p{L})Σ(?!\p{L})")


def load_gpt2_tokenizer(folder: Path | str, context: Length = 128) -> FastTokenizer:
    """The tokenizer of a folder with `encoder.json` and `vocab.bpe`, each perhaps under `.gz`, as
    openai/glide-text2im has them. Too long texts are cut, rows filled up with the last id, and the
    empty text is a row of it.

    Raises:
      ValueError: a file is missing, or is none of GPT-2's.
    """
    folder = Path(folder)
    file, content = _read(folder, ENCODER)
    vocab = parse_json(content, file)
    letters = pre_tokenizers.ByteLevel.alphabet()
    lacks = [letter for letter in letters if not isinstance(vocab.get(letter), int)]
    if lacks or sorted(vocab.values()) != list(range(len(vocab))):
        raise ValueError(
            f"{file} is no vocabulary of GPT-2's: every byte's letter and ids 0 .. {len(vocab) - 1}"
        )
    merges = _merges(*_read(folder, MERGES), vocab)
    backend = tokenizers.Tokenizer(models.BPE(vocab=vocab, merges=merges))
    lower = [normalizers.Replace(_LAST_SIGMA, "ς"), normalizers.Lowercase()]
    backend.normalizer = normalizers.Sequence(lower)  # type: ignore[assignment]
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)  # type: ignore
    backend.decoder = decoders.ByteLevel()  # type: ignore[assignment]
    return FastTokenizer(backend.to_str(), context, len(vocab) - 1, "truncate", "allow")


def _read(folder: Path, name: str) -> tuple[Path, bytes]:
    for file in (folder / name, folder / f"{name}.gz"):
        if file.is_file():
            content = read_bytes(file, _MOST)
            return file, gunzip(content, _MOST) if file.suffix == ".gz" else content
    raise ValueError(f"{folder} holds no {name} (or {name}.gz) of GLIDE's tokenizer: put it there")


def _merges(file: Path, content: bytes, vocab: dict[str, int]) -> list[tuple[str, str]]:
    """The pairs of a list of merges, its first line being a header."""
    found = []
    for line in content.decode("utf-8", errors="replace").split("\n")[1:]:
        pair = tuple(line.split())
        if line.strip() and (len(pair) != 2 or "".join(pair) not in vocab):
            raise ValueError(f"{file}: {shortened(line)} is no merge of two of the vocabulary")
        found += [pair] if line.strip() else []
    return found
