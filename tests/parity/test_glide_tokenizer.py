"""GLIDE's tokenizer against byte-pair encoding written out, its rows against the code's."""

import json

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="parity needs PyTorch: pip install -e '.[parity]'")

from diffjax.data.tokenizer_fast import load_fast_tokenizer  # noqa: E402
from diffjax.data.tokenizer_gpt2 import load_gpt2_tokenizer  # noqa: E402
from tests.parity.glide_twin import encode  # noqa: E402
from tests.parity.glide_words import END, LETTERS, MERGES, VOCAB, write_words  # noqa: E402

pytestmark = pytest.mark.parity

TEXTS = [
    "The RED hat's there, they're 12!!",
    "  the  red \n\n the",
    "naïve café 北京 \U0001f600 #red_hat x12y",
    "ΟΔΟΣ ΣΟΣ. Σ İ",
    "<|endoftext|>",
    "",
    "red the " * 5,
]


@pytest.fixture
def folder(tmp_path):
    write_words(tmp_path)
    return tmp_path


def test_ids_are_equal(folder):
    words = load_gpt2_tokenizer(folder, context=64)
    for text, row in zip(TEXTS, words.encode(TEXTS), strict=True):
        ids = encode(text, VOCAB, MERGES, LETTERS)[:64]
        np.testing.assert_array_equal(row, ids + [END] * (64 - len(ids)))


def test_long_texts_are_cut_and_empty_ones_are_padding(folder):
    words = load_gpt2_tokenizer(folder, context=5)
    rows = words.encode(TEXTS)
    for text, row in zip(TEXTS, rows, strict=True):
        ids = encode(text, VOCAB, MERGES, LETTERS)
        np.testing.assert_array_equal(row[: len(ids)], ids[:5])
    np.testing.assert_array_equal(words.null_ids, [END] * 5)
    np.testing.assert_array_equal(rows[5], words.null_ids)
    assert END not in rows[4]  # No text spells the end.
    assert words.decode(load_gpt2_tokenizer(folder).encode(["The red"])) == ["the red"]


def test_it_is_kept_as_any_other(folder, tmp_path):
    words = load_gpt2_tokenizer(folder)
    words.save(tmp_path / "kept")
    assert load_fast_tokenizer(tmp_path / "kept") == words
    assert words.context == 128 and words.vocab_size == len(VOCAB)


def test_what_is_no_such_tokenizer_is_refused_in_a_line(folder):
    whole = (folder / "vocab.bpe").read_text()
    (folder / "vocab.bpe").write_text(whole + "q q\n")
    with pytest.raises(ValueError, match=r"vocab\.bpe: 'q q' is no merge"):
        load_gpt2_tokenizer(folder)
    (folder / "vocab.bpe").unlink()
    with pytest.raises(ValueError, match=r"holds no vocab\.bpe"):
        load_gpt2_tokenizer(folder)
    (folder / "vocab.bpe").write_text(whole)
    (folder / "encoder.json").write_text(json.dumps({"a": 0}))
    with pytest.raises(ValueError, match="is no vocabulary of GPT-2's"):
        load_gpt2_tokenizer(folder)
