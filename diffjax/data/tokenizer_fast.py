"""Tokenizers that a `tokenizer.json` of Hugging Face's describes whole: T5's, BERT's."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import tokenizers

from diffjax.bounded import MB, parse_json, read_bytes, shortened
from diffjax.choices import unknown
from diffjax.data.sentencepiece import FILE as SPIECE
from diffjax.data.sentencepiece import tokenizer_json
from diffjax.data.tokenizer import OWN, RefusedText, check_strings, quoted
from diffjax.ranges import Length, Whole

FILE, CONFIG = "tokenizer.json", "tokenizer_config.json"
FILES = (FILE, CONFIG, SPIECE)
Refusal = Literal["error", "allow"]
LONGEST = 2**16
# mT5's, of 250,000 tokens, takes 16 MB.
_MOST = 32 * MB


@dataclass(frozen=True, eq=False)
class FastTokenizer:
    """Texts to rows of ids, the special tokens among them that the file asks for, then padding; all
    of one length. Two are equal exactly if they encode alike.

    Attributes:
      content: of the file, JSON.
      context: L, ids in a row.
      pad: id after the end of a text.
      overlong: "error", or "truncate": as many ids of the text as leave room for the special ones.
      empty: "error", or "allow" texts that hold no word.
    """

    content: str = field(repr=False)
    context: int
    pad: int
    overlong: Literal["error", "truncate"] = "error"
    empty: Refusal = "error"

    def __post_init__(self) -> None:
        for name, options in (("overlong", ("error", "truncate")), ("empty", get_args(Refusal))):
            if getattr(self, name) not in options:
                raise unknown(f"tokenizer {name}", getattr(self, name), options)
        if not len(self._ends) < self.context <= LONGEST:
            raise ValueError(
                f"tokenizer context={self.context} must be from {len(self._ends) + 1}, to have "
                f"room for a word, to {LONGEST:,}"
            )
        if not 0 <= self.pad < self.vocab_size:
            raise ValueError(f"tokenizer pad={self.pad} lies outside 0 .. {self.vocab_size - 1}")

    @cached_property
    def vocab_size(self) -> int:
        """Ids lie in [0, vocab_size)."""
        return max(self._backend.get_vocab(with_added_tokens=True).values(), default=0) + 1

    @property
    def eot(self) -> int:
        """Id that ends every text."""
        return self._ends[-1] if self._ends else self.pad

    @property
    def null_ids(self) -> np.ndarray:
        """The row of the empty caption `[L] int32`, which unconditional guidance asks for."""
        row = np.full(self.context, self.pad, np.int32)
        row[: len(self._ends)] = self._ends
        return row

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Ids of `texts`, `[N, L] int32`.

        Raises:
          RefusedText: one that is too long or empty, unless these are allowed; no string.
        """
        check_strings(texts)
        encoded = self._backend.encode_batch(list(texts))
        rows = np.full((len(texts), self.context), self.pad, np.int32)
        for i, (text, encoding) in enumerate(zip(texts, encoded, strict=True)):
            words = len(encoding.ids) - sum(encoding.special_tokens_mask)
            if self.empty == "error" and not (words and text.strip()):
                raise RefusedText(
                    i, f"is empty: {quoted(text)}; give it words, or allow empty texts"
                )
            if len(encoding.ids) > self.context:
                raise RefusedText(
                    i,
                    f"has {len(encoding.ids)} tokens, the context {self.context}; shorten it, or "
                    f"truncate: {quoted(text)}",
                )
            rows[i, : len(encoding.ids)] = encoding.ids
        return rows

    def decode(self, ids: Any) -> Any:
        """The text of a row `[L] int`, or those of `[N, L]`, without special tokens and padding.

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
        # GPT-2's padding is no special token: it then would be one within texts as well.
        return self._backend.decode(ids[ids != self.pad].tolist(), skip_special_tokens=True)

    def allowing_empty(self) -> FastTokenizer:
        """The same, for which an empty text is the empty caption."""
        return replace(self, empty="allow")

    @cached_property
    def fingerprint(self) -> str:
        """16 hex digits, equal for two tokenizers exactly if they encode alike."""
        facts = json.dumps([json.loads(self.content), self.choices], sort_keys=True)
        return hashlib.sha256(facts.encode()).hexdigest()[:16]

    @property
    def spelling(self) -> Any:
        """See `Tokenizer.spelling`."""
        return json.loads(self.content)

    @property
    def choices(self) -> dict[str, Any]:
        """All but the file's content, as plain JSON."""
        return {name: getattr(self, name) for name in ("context", "pad", "overlong", "empty")}

    def save(self, folder: Path | str) -> None:
        """Writes what `load_fast_tokenizer` and transformers' `AutoTokenizer` read."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        config = {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "model_max_length": self.context,
            "pad_token": self._backend.id_to_token(self.pad),
            OWN: self.choices,
        }
        (folder / FILE).write_text(self.content, encoding="utf-8")
        (folder / CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, FastTokenizer) and self.fingerprint == other.fingerprint

    def __hash__(self) -> int:
        return hash(self.fingerprint)

    @cached_property
    def _ends(self) -> list[int]:
        """The special tokens around every text."""
        return self._backend.encode("").ids

    @cached_property
    def _backend(self) -> tokenizers.Tokenizer:
        backend = tokenizers.Tokenizer.from_str(self.content)
        backend.no_padding()
        backend.no_truncation()
        if self.overlong == "truncate":
            backend.enable_truncation(self.context)
        return backend


def load_fast_tokenizer(
    path: Path | str, context: Length | None = None, pad: Whole | None = None, **choices: Any
) -> FastTokenizer:
    """The tokenizer of a `tokenizer.json`, or of a folder that holds one or T5's `spiece.model`.

    Args:
      context: by default as it was saved, or else the folder's `model_max_length`.
      pad: by default as it was saved, or else the folder's `pad_token`.
      choices: `overlong`, `empty`; by default as they were saved, or else errors.

    Raises:
      ValueError: no such file, or no tokenizer in it; no length; a pad token that is not `pad`.
    """
    path = Path(path)
    file = path / FILE if path.is_dir() else path
    config = _config(file.with_name(CONFIG))
    own = {**config.get(OWN, {}), **{k: v for k, v in choices.items() if v is not None}}
    content = _content(file, config)
    known = _checked(content, file)
    said = known.token_to_id(_pad_token(config) or "")
    if None not in (pad, said) and pad != said:
        raise ValueError(f"{path}: texts are padded with {said}, but the encoder expects {pad}")
    for name, value in (("context", context), ("pad", said if pad is None else pad)):
        if value is not None:
            own[name] = value
    length = config.get("model_max_length")
    if "context" not in own and isinstance(length, int) and 2 <= length <= LONGEST:
        own["context"] = length
    lacks = [name for name in ("context", "pad") if not isinstance(own.get(name), int)]
    if lacks:
        raise ValueError(f"{path} does not say the tokenizer's {lacks[0]}: give it")
    return FastTokenizer(content, **own)


def _content(file: Path, config: dict[str, Any]) -> str:
    """The content of a tokenizer.json, or what it would be of the SentencePiece model beside it."""
    pieces = file.with_name(SPIECE)
    if file.is_file():
        content = read_bytes(file, _MOST)
        parse_json(content, file)
        return content.decode()
    if file.name == FILE and pieces.is_file():
        extra = config.get("extra_ids", 100)
        if not isinstance(extra, int) or not 0 <= extra <= 10_000:
            raise ValueError(f"{file.with_name(CONFIG)}: extra_ids={shortened(extra)} is no number")
        return tokenizer_json(pieces, extra)
    raise ValueError(
        f"{file.parent} holds neither {file.name} nor T5's {SPIECE}, which say how texts become "
        "ids: AutoTokenizer.from_pretrained(...).save_pretrained(...) of transformers writes one"
    )


def _checked(content: str, file: Path) -> tokenizers.Tokenizer:
    try:
        return tokenizers.Tokenizer.from_str(content)
    except Exception as error:  # The library raises no other.
        said = shortened(str(error).split("\n")[0], 200)
        raise ValueError(f"{file}: no tokenizer of Hugging Face's ({said})") from None


def _config(file: Path) -> dict[str, Any]:
    """A folder's settings; {} where it has none."""
    if not file.is_file():
        return {}
    config = parse_json(read_bytes(file, MB), file)
    own = config.get(OWN, {})
    if not isinstance(own, dict) or not own.keys() <= {"context", "pad", "overlong", "empty"}:
        raise ValueError(f"{file}: {OWN}={shortened(own)} is no choice of this tokenizer")
    return config


def _pad_token(config: dict[str, Any]) -> str | None:
    """The name of the padding, which is a word or a map of its facts."""
    named = config.get("pad_token")
    named = named.get("content") if isinstance(named, dict) else named
    return named if isinstance(named, str) else None
