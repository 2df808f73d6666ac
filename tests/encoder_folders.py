"""Folders of a tiny T5 and a tiny BERT as transformers keeps them, tokenizer and all."""

from __future__ import annotations

from pathlib import Path

import jax
import numpy as np
import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors

from diffjax.interop.bert import save_bert
from diffjax.interop.parts import Part
from diffjax.interop.t5 import save_t5
from diffjax.models import build_model
from tests.random_variables import random_variables

PRINTED = """
a an the red green blue yellow orange purple cyan pink white black grey brown big small large circle
square triangle star cross ring diamond heart above below left right of to next on in background
"""
WORDS = PRINTED.split()
LETTERS = list("abcdefghijklmnopqrstuvwxyz,.")
SIZES = dict(width=16, depth=2, heads=2, hidden=24)


def t5_words() -> tokenizers.Tokenizer:
    """A Unigram with T5's special tokens, ends and spaces."""
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("\u2581", -3.0)]
    pieces += [(f"\u2581{word}", -2.0) for word in WORDS] + [(one, -8.0) for one in LETTERS]
    made = tokenizers.Tokenizer(models.Unigram(pieces, unk_id=2))
    made.normalizer = normalizers.NFKC()
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    made.decoder = decoders.Metaspace()
    made.post_processor = processors.TemplateProcessing(
        single="$A </s>", pair="$A </s> $B </s>", special_tokens=[("</s>", 1)]
    )
    made.add_special_tokens(["<pad>", "</s>", "<unk>"])
    return made


def bert_words() -> tokenizers.Tokenizer:
    """A WordPiece with BERT's special tokens, ends and pieces."""
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokens = [*special, *LETTERS, *(f"##{one}" for one in LETTERS), *WORDS[1:]]
    vocab = {token: i for i, token in enumerate(dict.fromkeys(tokens))}
    made = tokenizers.Tokenizer(models.WordPiece(vocab, unk_token="[UNK]"))
    made.normalizer = normalizers.BertNormalizer()
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.decoder = decoders.WordPiece()
    ends = [(name, vocab[name]) for name in ("[CLS]", "[SEP]")]
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B [SEP]", special_tokens=ends
    )
    made.add_special_tokens(special)
    return made


def write_encoder(folder: Path, kind: str, **changes) -> Path:
    """A folder of random weights of the `kind` "t5" or "bert", with its tokenizer."""
    words = t5_words() if kind == "t5" else bert_words()
    section = {"type": kind, "vocab": words.get_vocab_size() + 3, **SIZES, **changes}
    if kind == "bert":
        section = {"context": 80, **section}
    network = build_model(**section)
    pooled = {"pooled": True} if kind == "bert" else {}
    init = lambda key, ids: network.init(key, ids, **pooled)  # noqa: E731
    variables = random_variables(init, np.zeros((1, 4), np.int32))
    save = save_t5 if kind == "t5" else save_bert
    save(folder, Part(section, jax.tree.map(np.asarray, variables)))
    words.save(str(folder / "tokenizer.json"))
    return folder
