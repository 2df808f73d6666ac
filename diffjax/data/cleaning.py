"""Cleaning of captions before they are cut into tokens: as in OpenAI's CLIP, or in transformers.

A model must see the cleaning that it was trained with; the two differ on broken encodings, HTML
entities, curly quotes and full-width characters.
"""

from __future__ import annotations

import html
import re
from typing import Literal

import ftfy
from tokenizers import Regex, normalizers, pre_tokenizers

Style = Literal["openai", "hf"]

# Words of CLIP (Radford et al. 2021, `simple_tokenizer.py`). OpenAI match it in any case, which
# matters for letters that lower() leaves alone, such as the long s.
_WORDS = (
    r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
)


def clean_openai(text: str) -> str:
    """ftfy, HTML entities unescaped twice, white space collapsed, lower case."""
    if text.isascii() and text.isprintable() and "&" not in text:
        return " ".join(text.split()).lower()  # What the rest comes to, at a tenth of its time.
    text = html.unescape(html.unescape(ftfy.fix_text(text)))
    return re.sub(r"\s+", " ", text.strip()).strip().lower()


def normalizer(style: Style) -> normalizers.Normalizer | None:
    """The normalisation of a text by the tokenizers library: all of the cleaning of "hf", none of
    "openai"."""
    if style == "openai":
        return None
    return normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )


def words(style: Style) -> pre_tokenizers.PreTokenizer:
    """Cuts a clean text into words, each spelled in CLIP's alphabet of 256 bytes."""
    openai = style == "openai"
    pattern = f"(?i:{_WORDS})" if openai else _WORDS
    split = pre_tokenizers.Split(Regex(pattern), behavior="removed", invert=True)
    # transformers cuts each word a second time, by the pattern of GPT-2.
    spell = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=not openai)
    return pre_tokenizers.Sequence([split, spell])
