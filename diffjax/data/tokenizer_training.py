"""A byte pair encoding learnt from captions (Sennrich et al. 2016), in CLIP's format."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from tokenizers import models, trainers

from diffjax.data.cleaning import Style, clean_openai
from diffjax.data.tokenizer import EOT, SOT, SUFFIX, Tokenizer, alphabet, backend_of
from diffjax.data.tokenizer_files import CONTEXT, style_pad
from diffjax.ranges import Count, Length, Vocabulary, Whole


def train_tokenizer(
    captions: Iterable[str],
    vocab_size: Vocabulary,
    context: Length = CONTEXT,
    style: Style = "openai",
    min_count: Count = 2,
    pad: Whole | None = None,
    overlong: Any = "error",
    empty: Any = "error",
) -> Tokenizer:
    """A tokenizer of at most `vocab_size` tokens, the two ends being the last of them.

    The same captions, in any order, give the same tokenizer: of pairs that are equally frequent
    the one of the smaller ids is merged first.

    Args:
      captions: read once.
      vocab_size: at least 514, the bytes and the ends.
      min_count: pairs that are rarer are not merged; then the vocabulary is smaller than asked.
      context, style, pad, overlong, empty: see `Tokenizer`; `pad` by default the style's own.

    Raises:
      ValueError: a vocabulary too small for the bytes.
    """
    letters = alphabet()
    if vocab_size < len(letters) + 2:
        raise ValueError(
            f"tokenizer vocab_size={vocab_size} is too small: {len(letters)} tokens spell the "
            f"bytes and 2 are the ends, so at least {len(letters) + 2}"
        )
    # Letters named beforehand get fixed ids; ids settle ties, so nothing depends on hash order.
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size - 2,
        min_frequency=min_count,
        special_tokens=letters,  # type: ignore[arg-type]
        end_of_word_suffix=SUFFIX,
        show_progress=False,
    )
    backend = backend_of(models.BPE(end_of_word_suffix=SUFFIX), style)
    clean = map(clean_openai, captions) if style == "openai" else captions
    backend.train_from_iterator(clean, trainer)
    model = json.loads(backend.to_str())["model"]
    vocab = dict(sorted(model["vocab"].items(), key=lambda item: item[1]))
    merges = tuple((a, b) for a, b in model["merges"])
    for end in (SOT, EOT):
        vocab[end] = len(vocab)
    pad = style_pad(style, vocab) if pad is None else pad
    return Tokenizer(vocab, merges, style, context, pad, overlong, empty)
