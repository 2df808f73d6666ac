"""SentencePiece models (Kudo & Richardson 2018) of T5's, `spiece.model`, as a `tokenizer.json`."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from diffjax.bounded import MB, read_bytes, shortened

FILE = "spiece.model"
# mT5's, of 250,000 pieces, takes 4 MB.
_MOST = 16 * MB
# Of sentencepiece_model.proto: the fields of a model, a piece, its training and its normalisation.
_PIECE, _TRAINING, _NORMALISATION = 1, 2, 3
_TEXT, _SCORE, _KIND = 1, 2, 3
_ALGORITHM, _UNKNOWN_ID, _END = 3, 40, 47
_CHARACTERS = 2
_UNIGRAM, _UNKNOWN, _CONTROL = 1, 2, 3


def tokenizer_json(file: Path, extra: int = 100) -> str:
    """The tokenizer.json of a Unigram model whose texts end with its end token.

    Args:
      file: the `spiece.model`.
      extra: how many sentinels `<extra_id_..>` follow the model's pieces, the last first.

    Raises:
      ValueError: a file that cannot be read, or a model of another algorithm or without an end.
    """
    try:
        vocab, kinds, training, characters = _model(read_bytes(file, _MOST))
    except (LookupError, TypeError, AttributeError, UnicodeDecodeError, struct.error) as error:
        raise ValueError(f"{file} is no SentencePiece model ({error})") from None
    if not all(math.isfinite(score) for _, score in vocab):
        raise ValueError(f"{file} is no SentencePiece model (a score is not finite)")
    if not vocab or training.get(_ALGORITHM, _UNIGRAM) != _UNIGRAM:
        raise ValueError(f"{file} is no Unigram model of SentencePiece, as T5's is")
    names = [piece for piece, _ in vocab]
    end = bytes(training.get(_END, b"</s>")).decode(errors="replace")
    if end not in names or _UNKNOWN not in kinds:
        raise ValueError(
            f"{file} lacks the piece {end!r}, which ends T5's texts, or an unknown one"
        )
    sentinels = [f"<extra_id_{i}>" for i in reversed(range(extra))]
    special = [p for p, kind in zip(names, kinds, strict=True) if kind in (_UNKNOWN, _CONTROL)]
    try:
        model = models.Unigram([*vocab, *((one, 0.0) for one in sentinels)], kinds.index(_UNKNOWN))
        made = _pipeline(model, characters, (end, names.index(end)))
        made.add_special_tokens([*special, *sentinels])
        return made.to_str()
    except Exception as error:  # The library raises no other.
        said = shortened(str(error), 200)
        raise ValueError(f"{file} is no SentencePiece model ({said})") from None


def _pipeline(model: models.Unigram, characters: bytes, end: tuple[str, int]) -> Any:
    """The model behind SentencePiece's map of characters and its spaces, before the end."""
    made: Any = Tokenizer(model)
    if characters:
        made.normalizer = normalizers.Precompiled(characters)
    spaces: dict[str, Any] = {"replacement": "\u2581", "prepend_scheme": "always"}
    made.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace(**spaces)]
    )
    made.decoder = decoders.Metaspace(**spaces)
    made.post_processor = processors.TemplateProcessing(
        single=["$A", end[0]], pair=["$A", end[0], "$B", end[0]], special_tokens=[end]
    )
    return made


def _model(data: bytes) -> tuple[list[tuple[str, float]], list[int], dict[int, Any], bytes]:
    """Pieces with their scores, their kinds, the training's fields, the map of characters."""
    vocab, kinds, training, characters = [], [], {}, b""
    for number, value in _fields(data):
        if number == _PIECE:
            piece = dict(_fields(value))
            vocab.append((piece[_TEXT].decode(), float(piece.get(_SCORE, 0.0))))
            kinds.append(piece.get(_KIND, 1))
        elif number == _TRAINING:
            training = dict(_fields(value))
        elif number == _NORMALISATION:
            characters = dict(_fields(value)).get(_CHARACTERS, b"")
    return vocab, kinds, training, characters


def _fields(data: bytes) -> Iterator[tuple[int, Any]]:
    """(number, value) of a message of Protocol Buffers: whole numbers, floats, bytes."""
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        number, wire = key >> 3, key & 7
        if wire == 0:
            value, at = _varint(data, at)
        elif wire == 2:
            size, at = _varint(data, at)
            value, at = data[at : at + size], at + size
        elif wire == 5:
            value, at = struct.unpack_from("<f", data, at)[0], at + 4
        elif wire == 1:
            value, at = struct.unpack_from("<d", data, at)[0], at + 8
        else:
            raise IndexError(f"a field of kind {wire}")
        if at > len(data):
            raise IndexError("it is cut short")
        yield number, value


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """A whole number, seven bits a byte, and where it ends."""
    value, shift = 0, 0
    while True:
        byte = data[at]
        value, at, shift = value | (byte & 127) << shift, at + 1, shift + 7
        if byte < 128:
            return value, at
        if shift > 63:
            raise IndexError("a number of too many bytes")
