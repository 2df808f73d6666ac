"""Tokenizers from files: OpenAI's list of merges, Hugging Face's folders, our own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from diffjax.bounded import MB, gunzip, parse_json, read_bytes, shortened
from diffjax.data.cleaning import Style
from diffjax.data.tokenizer import EOT, OWN, SOT, SUFFIX, Tokenizer, alphabet
from diffjax.ranges import Length, Whole

CONTEXT = 77  # of every released CLIP
# The merges of OpenAI's file that CLIP uses, its first line being a header.
_OPENAI_MERGES = slice(1, 49152 - 256 - 2 + 1)
# "model_max_length" of a tokenizer that has none is 1e30.
_NO_LENGTH = 10**6
# What `Tokenizer.save` adds to Hugging Face's settings.
_OWN = {"style", "context", "pad", "overlong", "empty"}
# The most that a list of merges can take; OpenAI's is 3 MB.
_MERGES = 16 * MB
# CLIP's tokenizer.json is 4 MB where it is indented.
_JSON = 8 * MB

Merges = tuple[tuple[str, str], ...]


def load_tokenizer(
    path: Path | str,
    style: Style | None = None,
    context: Length | None = None,
    pad: Whole | None = None,
    overlong: Any = None,
    empty: Any = None,
) -> Tokenizer:
    """A tokenizer from disk.

    Args:
      path: OpenAI's `bpe_simple_vocab_16e6.txt.gz`, a `tokenizer.json`, or a folder that holds
        `vocab.json` and `merges.txt`, or a `tokenizer.json`.
      style: of the cleaning; by default the one it was saved with, or else "openai" for OpenAI's
        file and "hf" for Hugging Face's.
      context, pad: by default those of the folder, or else 77 and the style's own.
      overlong, empty: see `Tokenizer`; by default as saved, or else errors.

    Raises:
      ValueError: no such file, or none of a CLIP tokenizer.
    """
    path = Path(path).expanduser()
    vocab, merges = _read(path)
    config = _config(path)
    own = config.get(OWN, {})
    if not isinstance(own, dict) or not own.keys() <= _OWN:
        raise ValueError(f"{path}: {OWN}={shortened(own)} must be a map of {sorted(_OWN)}")
    if style is not None and style != own.get("style"):
        own = {k: v for k, v in own.items() if k not in ("style", "pad")}
    usual = "openai" if path.suffix in (".gz", ".txt") else "hf"
    cleaning: Style = style or own.get("style") or usual
    length = config.get("model_max_length") or CONTEXT
    if not isinstance(length, int | float) or not length >= 1:
        raise ValueError(f"{path}: model_max_length={shortened(length)} is no length")
    length = CONTEXT if length > _NO_LENGTH else int(length)
    arguments = {"context": context, "pad": pad, "overlong": overlong, "empty": empty}
    chosen = {
        "context": length,
        "pad": style_pad(cleaning, vocab, config.get("pad_token")),
        **{k: v for k, v in own.items() if k != "style"},
        **{k: v for k, v in arguments.items() if v is not None},
    }
    return Tokenizer(vocab, merges, cleaning, **chosen)


def style_pad(style: Style, vocab: dict[str, int], named: Any = None) -> int:
    """The pad id of a style: 0 for "openai"; for "hf" the token `named`, or `<|endoftext|>`."""
    if style == "openai":
        return 0
    named = named.get("content") if isinstance(named, dict) else named
    named = named if isinstance(named, str) else None
    return vocab.get(named or EOT, vocab.get(EOT, 0))


def _read(path: Path) -> tuple[dict[str, int], Merges]:
    """Vocabulary and merges of whatever `path` is."""
    if not path.exists():
        raise ValueError(f"{path}: no such tokenizer; give a file of merges or a folder")
    if path.is_dir():
        vocab, merges, whole = (path / n for n in ("vocab.json", "merges.txt", "tokenizer.json"))
        if vocab.exists() and merges.exists():
            lines = _lines(merges)
            lines = lines[1:] if lines[0].startswith("#version") else lines
            return _ids(_json(vocab), vocab), _pairs(lines, merges)
        if whole.exists():
            return _whole(whole)
        raise ValueError(
            f"{path}: no tokenizer there (vocab.json and merges.txt, or tokenizer.json)"
        )
    if path.suffix == ".json":
        return _whole(path)
    return _openai(path)


def _openai(path: Path) -> tuple[dict[str, int], Merges]:
    """OpenAI's list: the vocabulary is the alphabet, what the merges make, and the two ends."""
    merges = _pairs(_lines(path)[_OPENAI_MERGES], path)
    tokens = [*alphabet(), *("".join(pair) for pair in merges), SOT, EOT]
    return {token: i for i, token in enumerate(tokens)}, merges


def _lines(path: Path) -> list[str]:
    """The tokenizer of a list of merges, compressed or not."""
    content = read_bytes(path, _MERGES)
    try:
        content = gunzip(content, _MERGES) if path.suffix == ".gz" else content
        return content.decode("utf-8").split("\n")
    except ValueError as error:
        raise ValueError(f"{path}: no readable list of merges ({error})") from None


def _ids(vocab: Any, path: Path) -> dict[str, int]:
    """A vocabulary, which gives each token its number."""
    if not isinstance(vocab, dict) or not all(type(i) is int for i in vocab.values()):
        raise ValueError(f"{path}: its vocabulary does not give each token a number")
    return vocab


def _whole(path: Path) -> tuple[dict[str, int], Merges]:
    """The model of a tokenizer.json; its pipeline is CLIP's, which `Tokenizer` has."""
    model = _json(path).get("model")
    model = model if isinstance(model, dict) else {}
    if model.get("type", "BPE") != "BPE" or model.get("end_of_word_suffix") != SUFFIX:
        raise ValueError(f"{path}: no CLIP tokenizer (a BPE whose words end in {SUFFIX!r})")
    lines = [_line(merge, path) for merge in _list(model.get("merges"), path)]
    return _ids(model.get("vocab"), path), _pairs(lines, path)


def _list(value: Any, path: Path) -> list[Any]:
    if not isinstance(value, list):
        raise ValueError(f"{path}: {shortened(value)} where a list of merges belongs")
    return value


def _line(merge: Any, path: Path) -> str:
    """A merge as a line: older files have it so, newer ones as two words."""
    if isinstance(merge, str):
        return merge
    if not all(isinstance(token, str) for token in _list(merge, path)):
        raise ValueError(f"{path}: {shortened(merge)} is no merge of two tokens")
    return " ".join(merge)


def _pairs(lines: list[str], path: Path) -> Merges:
    """A pair of tokens per line that is not empty."""
    pairs = [tuple(line.split()) for line in lines if line.strip()]
    wrong = [pair for pair in pairs if len(pair) != 2]
    if wrong:
        said = shortened(" ".join(wrong[0]))
        raise ValueError(f"{path}: {said} is no merge of two tokens")
    return tuple(pairs)  # type: ignore[return-value]


def _config(path: Path) -> dict[str, Any]:
    """Settings of a folder's tokenizer beside its vocabulary."""
    folder = path if path.is_dir() else path.parent
    found: dict[str, Any] = {}
    if path.is_dir() or path.suffix == ".json":
        for name in ("special_tokens_map.json", "tokenizer_config.json"):
            if (folder / name).exists():
                found |= _json(folder / name)
    return found


def _json(path: Path) -> dict[str, Any]:
    content = read_bytes(path, _JSON)
    try:
        return parse_json(content, "it")
    except ValueError as error:
        raise ValueError(f"{path}: no JSON ({error})") from None
