"""Tokenizers of T5 and BERT against transformers' and, of a spiece.model, SentencePiece's own."""

import io
from dataclasses import replace

import numpy as np
import pytest

from diffjax.data.tokenizer_fast import FastTokenizer, load_fast_tokenizer
from tests.data.captions import strange
from tests.encoder_folders import bert_words, t5_words

transformers = pytest.importorskip("transformers", reason="parity needs '.[parity]'")

pytestmark = pytest.mark.parity

TEXTS = [*strange(500), "a", "red " * 60]


@pytest.mark.parametrize("make", [t5_words, bert_words])
def test_a_saved_tokenizer_loads_in_transformers(make, tmp_path):
    ours = FastTokenizer(make().to_str(), 24, 0, "truncate", "allow")
    ours.save(tmp_path)
    theirs = transformers.PreTrainedTokenizerFast.from_pretrained(tmp_path)
    rows = theirs(TEXTS, padding="max_length", truncation=True, max_length=24)["input_ids"]
    np.testing.assert_array_equal(ours.encode(TEXTS), np.array(rows))


def test_ids_of_a_released_folder_are_theirs(tmp_path):
    """A folder that transformers' BERT tokenizer has written."""
    words = [w for w in bert_words().get_vocab() if w]
    theirs = transformers.BertTokenizer(vocab={w: i for i, w in enumerate(words)})
    theirs.save_pretrained(tmp_path)
    ours = load_fast_tokenizer(tmp_path, 24, overlong="truncate", empty="allow")
    rows = theirs(TEXTS, padding="max_length", truncation=True, max_length=24)["input_ids"]
    assert ours.pad == theirs.pad_token_id
    np.testing.assert_array_equal(ours.encode(TEXTS), np.array(rows))


def test_ids_of_a_spiece_model_are_those_of_sentencepiece(tmp_path):
    spm = pytest.importorskip("sentencepiece", reason="parity needs '.[parity]'")
    written = io.BytesIO()
    spm.SentencePieceTrainer.train(
        sentence_iterator=iter(strange(2000, seed=1)), model_writer=written, vocab_size=600,
        model_type="unigram", pad_id=0, eos_id=1, unk_id=2, bos_id=-1, hard_vocab_limit=False,
        minloglevel=2, num_threads=1,
    )  # fmt: skip
    (tmp_path / "spiece.model").write_bytes(written.getvalue())
    theirs = spm.SentencePieceProcessor(model_proto=written.getvalue())
    ours = load_fast_tokenizer(tmp_path, 300, 0, empty="allow")
    assert ours.vocab_size == theirs.vocab_size() + 100 > 400
    rows = ours.encode(TEXTS)
    for text, row in zip(TEXTS, rows, strict=True):
        ids = [*theirs.encode(text), 1]
        assert row.tolist() == ids + [0] * (300 - len(ids)), text
    assert len(np.unique(rows)) > 200
    cut = replace(ours, context=24, overlong="truncate")
    slow = transformers.T5Tokenizer.from_pretrained(tmp_path)
    padded = slow(TEXTS, padding="max_length", truncation=True, max_length=24)["input_ids"]
    np.testing.assert_array_equal(cut.encode(TEXTS), np.array(padded))
