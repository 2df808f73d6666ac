"""CLIP's byte-level BPE: captions to token ids and back (Radford et al. 2021, section 2.4)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import tokenizers
from tokenizers import models

from diffjax.choices import unknown
from diffjax.data.cleaning import Style, clean_openai, normalizer, words

SOT, EOT, SUFFIX = "<|startoftext|>", "<|endoftext|>", "</w>"
# The section of tokenizer_config.json that is ours.
OWN = "diffjax"


@cache
def byte_letters() -> dict[int, str]:
    """The printable character that spells each byte, in the order of CLIP's vocabulary."""
    plain = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1)]
    plain += range(ord("®"), ord("ÿ") + 1)
    others = [b for b in range(256) if b not in plain]
    return {**{b: chr(b) for b in plain}, **{b: chr(256 + i) for i, b in enumerate(others)}}


def alphabet() -> list[str]:
    """The first 512 tokens: every byte inside a word, then every byte at its end."""
    letters = list(byte_letters().values())
    return letters + [letter + SUFFIX for letter in letters]


class RefusedText(ValueError):
    """Text number `index` of those given cannot be encoded, for `reason`."""

    def __init__(self, index: int, reason: str):
        super().__init__(f"text {index} {reason}")
        self.index, self.reason = index, reason


def quoted(text: str) -> str:
    """A text as errors show it: its first 200 letters."""
    return repr(text) if len(text) < 200 else f"{text[:200]!r} ..."


def check_strings(texts: Sequence[str]) -> None:
    """Refuses what no tokenizer can read.

    Raises:
      ValueError: one text instead of several.
      RefusedText: one that is no string, or half of a character.
    """
    if isinstance(texts, str):
        raise ValueError(f"encode takes a sequence of texts, not one text: [{texts!r}]")
    for i, text in enumerate(texts):
        if not isinstance(text, str):
            raise RefusedText(i, f"is no string but {type(text).__name__}: {text!r}")
        if not text.isascii() and any("\ud800" <= letter <= "\udfff" for letter in text):
            raise RefusedText(i, f"holds half of a surrogate pair: {quoted(text)}")


@dataclass(frozen=True, eq=False)
class Tokenizer:
    """Texts to rows `<|startoftext|> ... <|endoftext|> pad pad`, all of one length.

    Built by `load_tokenizer` and `train_tokenizer`. Two are equal exactly if they encode alike.

    Attributes:
      vocab: token -> id, with all of `alphabet()`, so that no text is unknown.
      merges: pairs of tokens, the most urgent first.
      style: of the cleaning, "openai" or "hf".
      context: L, ids in a row.
      pad: id after the end of a text; 0 for OpenAI's CLIP, `<|endoftext|>` for transformers'.
      overlong: "error", or "truncate": the first L - 1 ids, then `<|endoftext|>`.
      empty: "error", or "allow" texts that hold no word.
    """

    vocab: Mapping[str, int] = field(repr=False)
    merges: tuple[tuple[str, str], ...] = field(repr=False)
    style: Style
    context: int
    pad: int
    overlong: Literal["error", "truncate"] = "error"
    empty: Literal["error", "allow"] = "error"

    def __post_init__(self) -> None:
        choices = {"style": Style, "overlong": ("error", "truncate"), "empty": ("error", "allow")}
        for name, options in choices.items():
            options = options if isinstance(options, tuple) else get_args(options)
            if getattr(self, name) not in options:
                raise unknown(f"tokenizer {name}", getattr(self, name), options)
        missing = [t for t in (SOT, EOT, *alphabet()) if t not in self.vocab]
        if missing:
            raise ValueError(
                f"no vocabulary of a CLIP tokenizer: it lacks {len(missing)} tokens, "
                f"{missing[0]!r} among them"
            )
        if sorted(self.vocab.values()) != list(range(len(self.vocab))):
            raise ValueError(f"the ids of the vocabulary are not 0 .. {len(self.vocab) - 1}")
        if self.context < 3:
            raise ValueError(f"tokenizer context={self.context} has no room for a word: at least 3")
        if not 0 <= self.pad < len(self.vocab):
            raise ValueError(f"tokenizer pad={self.pad} lies outside 0 .. {len(self.vocab) - 1}")

    @property
    def vocab_size(self) -> int:
        """Ids lie in [0, vocab_size)."""
        return len(self.vocab)

    @property
    def sot(self) -> int:
        """Id of `<|startoftext|>`."""
        return self.vocab[SOT]

    @property
    def eot(self) -> int:
        """Id of `<|endoftext|>`."""
        return self.vocab[EOT]

    @property
    def null_ids(self) -> np.ndarray:
        """The row of the empty caption `[L] int32`, which unconditional guidance asks for."""
        row = np.full(self.context, self.pad, np.int32)
        row[:2] = self.sot, self.eot
        return row

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Ids of `texts`, `[N, L] int32`.

        A text that spells `<|endoftext|>` holds that token, as in CLIP (there unless a symbol
        stands right before it).

        Raises:
          RefusedText: one that is too long or empty, unless these are allowed; no string.
        """
        check_strings(texts)
        clean = [clean_openai(t) for t in texts] if self.style == "openai" else list(texts)
        encoded = self._backend.encode_batch(clean, add_special_tokens=False)
        rows = np.tile(self.null_ids, (len(texts), 1))
        for i, (text, encoding) in enumerate(zip(texts, encoded, strict=True)):
            ids = self._checked(i, text, encoding.ids)
            rows[i, 1 : 1 + len(ids)] = ids
            rows[i, 1 + len(ids)] = self.eot
        return rows

    def decode(self, ids: Any) -> Any:
        """The text of a row `[L] int`, or those of `[N, L]`, up to the end of each.

        Words come out lower case and apart: "a cube, red" as "a cube , red".

        Raises:
          ValueError: ids outside the vocabulary.
        """
        ids = np.asarray(ids)
        if ids.ndim == 2:
            return [self.decode(row) for row in ids]
        if ids.size and not 0 <= ids.min() <= ids.max() < self.vocab_size:
            raise ValueError(
                f"ids {ids.min()} .. {ids.max()} lie outside 0 .. {self.vocab_size - 1}"
            )
        row = ids.tolist()
        row = row[row[:1] == [self.sot] :]
        row = row[: row.index(self.eot)] if self.eot in row else row
        spelled = "".join(self._tokens[i] for i in row if i != self.sot).split(SUFFIX)
        letters = {letter: byte for byte, letter in byte_letters().items()}
        parts = [bytes(letters[c] for c in word).decode(errors="replace") for word in spelled]
        return " ".join(parts).strip()

    def allowing_empty(self) -> Tokenizer:
        """The same, for which an empty text is the empty caption."""
        return replace(self, empty="allow")

    @cached_property
    def fingerprint(self) -> str:
        """16 hex digits, equal for two tokenizers exactly if they encode alike."""
        facts = [sorted(self.vocab.items()), self.merges, self.choices]
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]

    @property
    def spelling(self) -> Any:
        """What gives a text its ids, however rows are cut and filled up."""
        return self.vocab, self.merges

    @property
    def choices(self) -> dict[str, Any]:
        """All but vocabulary and merges, as plain JSON."""
        names = ("style", "context", "pad", "overlong", "empty")
        return {name: getattr(self, name) for name in names}

    def save(self, folder: Path | str) -> None:
        """Writes what `load_tokenizer` and transformers' `CLIPTokenizer` read.

        transformers cleans and pads in its own way, so a row is the same there if the style is
        "hf"; of the style "openai" the ids of a clean text are.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        # A pad token is special to transformers wherever it occurs, in a text too.
        pad = self._tokens[self.pad] if self.style == "hf" else EOT
        config = {
            "tokenizer_class": "CLIPTokenizer",
            "model_max_length": self.context,
            "bos_token": SOT,
            "eos_token": EOT,
            "unk_token": EOT,
            "pad_token": pad,
            OWN: self.choices,
        }
        texts = {
            "vocab.json": json.dumps(dict(self.vocab), ensure_ascii=False),
            "merges.txt": "\n".join(["#version: 0.2", *(" ".join(m) for m in self.merges), ""]),
            "tokenizer_config.json": json.dumps(config, indent=2) + "\n",
        }
        for name, text in texts.items():
            (folder / name).write_text(text, encoding="utf-8")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Tokenizer) and self.fingerprint == other.fingerprint

    def __hash__(self) -> int:
        return hash(self.fingerprint)

    def _checked(self, i: int, text: str, ids: list[int]) -> list[int]:
        """The ids of text `i` without its ends, or the error it is."""
        if not ids and self.empty == "error":
            raise RefusedText(i, f"is empty: {quoted(text)}; give it words, or allow empty texts")
        if len(ids) + 2 > self.context and self.overlong == "error":
            raise RefusedText(
                i,
                f"has {len(ids) + 2} tokens, the context {self.context}; shorten it, or "
                f"truncate: {quoted(text)}",
            )
        return ids[: self.context - 2]

    @cached_property
    def _tokens(self) -> list[str]:
        return sorted(self.vocab, key=self.vocab.__getitem__)

    @cached_property
    def _backend(self) -> tokenizers.Tokenizer:
        model = models.BPE(
            vocab=dict(self.vocab), merges=list(self.merges), end_of_word_suffix=SUFFIX
        )
        backend = backend_of(model, self.style)
        special = {SOT, EOT} | ({self._tokens[self.pad]} if self.style == "hf" else set())
        backend.add_special_tokens(sorted(special))
        return backend


def backend_of(model: models.BPE, style: Style) -> tokenizers.Tokenizer:
    """`model` behind the words of `style`."""
    backend: Any = tokenizers.Tokenizer(model)
    if (change := normalizer(style)) is not None:
        backend.normalizer = change
    backend.pre_tokenizer = words(style)
    return backend
